"""The synchronous jobs of a fleet as waves at the feed: their plan's power, their iterations, and what stays level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError, ScenarioError
from ..core.units import show
from ..site.allocate import Fleet
from ..site.tasks import Array
from ..site.transient import STEP, Wave
from .fleet import solve
from .fleet_file import FleetScenario, tree_of
from .fleet_work import placed


@dataclass(frozen=True, eq=False)
class Swings:
    """Waves at the feed, of all copies of a job each, how many copies there are, and W that do not swing."""

    waves: tuple[tuple[str, Wave, int], ...]
    level: float

    @property
    def period(self) -> float:
        """Seconds of the longest iteration."""
        return max(wave.period for _, wave, _ in self.waves)

    def power(self, lasts: float, *, spread: bool) -> Array:
        """Return the W of the site, every `STEP`: iterations all begin at once, or spread over their period."""
        time = np.asarray(np.arange(round(lasts / STEP)) * STEP, float)
        out = np.full(len(time), self.level)
        for number, (_, wave, copies) in enumerate(self.waves):
            each = min(copies, 64) if spread else 1
            for k in range(each):
                # Jobs among one another as well: by the golden ratio, which no two periods share.
                shift = (k / each + number * 0.618034) % 1 if spread else 0.0
                out += wave.power(time, shift * wave.period) / each
        return out


def swings_of(scenario: FleetScenario) -> Swings:
    """Return the waves of the jobs that state `compute` and `exchange`, around the power that the plan gives them."""
    tree = tree_of(scenario)
    answer = solve(scenario)
    given = {j.name: j.power_w for j in answer.jobs}
    some = [p for p in placed(scenario, tree) if p.job.name in given]
    fleet = Fleet(tree, [p.job for p in some])
    waves, mean = [], 0.0
    for j, p in enumerate(some):
        row, name = p.row, p.job.name
        if ("compute" in row) != ("exchange" in row):
            raise ScenarioError(f"job {name}: compute and exchange are the phases of one iteration; give both or none")
        if "compute" not in row:
            continue
        if "trough" not in row:
            raise ScenarioError(f"job {name}: give trough, the power of one copy while it exchanges")
        unit = np.zeros(len(some))
        unit[j] = 1.0
        up = float(tree.row_per_watt(fleet.load(unit))[tree.root])
        watts, low = given[name], row["trough"] * p.copies
        compute, exchange = row["compute"], row["exchange"]
        peak = (watts * (compute + exchange) - low * exchange) / compute
        if peak < low:
            raise ScenarioError(
                f"job {name}: the plan gives it {show(watts, 'W')} on average, less than its trough of {show(low, 'W')}"
            )
        written = row.get("written", row["trough"]) * p.copies
        every = row.get("checkpoint_every", math.inf)
        wave = Wave(
            peak * up, low * up, compute, exchange, every=every, writes=row.get("checkpoint", 0.0), written=written * up
        )
        waves.append((name, wave, p.copies))
        mean += watts * up
    if not waves:
        raise InputError("no job of the scenario states compute, exchange and trough; there is no wave to look at")
    return Swings(tuple(waves), max(0.0, answer.plan.feed - mean))
