"""What a plan with a clock for each computation keeps of its saving where changing clock takes time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.units import show
from ..hardware.facts import Sheet
from .costs import Costs, Settings, Work
from .joining import joined

WORTH = 0.0005  # of the energy at maximum clocks: less is not worth a word


def unhurried(work: Work, costs: Costs, settings: Settings, latency: float) -> Settings:
    """Return settings without the changes that a device has no time for, none slower than before.

    A device's row is its computations in order, then its step; a run at one clock shorter than `latency` (s) joins a
    faster neighbour.
    """
    clock = costs.points[0].clock
    rank = {float(hertz): i for i, hertz in enumerate(clock)}
    kinds = np.asarray(work.kinds)[work.graph.kind]
    nodes, steps = settings.nodes.copy(), list(settings.steps)
    for device in range(work.graph.devices):
        row = np.flatnonzero(work.graph.device == device)
        seconds = [float(costs.points[kinds[v]].time[nodes[v]]) for v in row]
        seconds.append(float(costs.points[work.steps[device]].time[steps[device]]))
        made = joined([*clock[nodes[row]].tolist(), float(clock[steps[device]])], seconds, latency)
        nodes[row] = [rank[hertz] for hertz in made[:-1]]
        steps[device] = rank[made[-1]]
    return Settings(nodes, tuple(steps))


def switching(chip: Sheet, latency: float, energies: Sequence[float], slower: float) -> list[str]:
    """Say what changes of clock leave of the plan's saving.

    `energies`: joules of an iteration at maximum clocks, as planned, and as planned with changes joined that `latency`
    (s) leaves no time for; `slower`: how long the last takes, against maximum clocks.
    """
    if not latency:
        return []
    base, planned, held = energies
    if (held - planned) < WORTH * base:
        return []
    keeps, saves = max(100 * (1 - held / base), 0.0), 100 * (1 - planned / base)
    return [
        f"clock.switch: a change of clock takes {show(latency, 's', 3)} on {chip.name} "
        f"({chip.facts['clock.switch'].source}), longer than some computations last; a runtime that leaves those "
        f"changes out keeps {keeps:.1f} of the {saves:.1f} % that the chips save, {100 * (slower - 1):+.1f} % in time"
    ]
