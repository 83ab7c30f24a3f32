"""What one percent less of any hardware constant would save: d ln E / d ln parameter.

The caller says how to evaluate a changed cluster; this walks every constant of chip and node that
can move the energy, one at a time, by one percent. The source answers for all changed devices at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ..core.errors import WattlineError
from ..hardware.cluster import Cluster
from ..hardware.facts import Sheet
from .base import Device, Source
from .foreseen import Listener, foresee

STEP: Final = 0.01
# Counts, limits of what can be set, facts that decide what fits rather than what it costs, and conventions.
_FIXED: Final = (
    "clock.",
    "voltage.reference",
    "compute.units",
    "area.",
    "memory.hbm.capacity",
    "memory.l2.capacity",
    "power.limit_min",
)
_FIXED_NODE: Final = ("chips", "nic.count", "nvlink.domain", "host.idle")


def hardware(cluster: Cluster, source: Source, change: Callable[[Cluster, Source], float]) -> dict[str, float]:
    """Return parameter -> elasticity for the constants of chip and node, the large ones first.

    `change(cluster, source)` returns the relative change of energy under a changed cluster.
    """
    moved = _changes(cluster, source, change, _names(cluster), 1.0 + STEP)
    return _sorted({key: value / STEP for key, value in moved.items()})


def saving(cluster: Cluster, source: Source, change: Callable[[Cluster, Source], float]) -> dict[str, float]:
    """Return the same with each constant changed in the direction that saves.

    For work with a deadline: what is changed for the worse may not end in time, which `change` tells by infinity.
    """
    more = _changes(cluster, source, change, _names(cluster), 1.0 + STEP)
    worse = [key for key, value in more.items() if value > 0]
    less = _changes(cluster, source, change, worse, 1.0 - STEP) if worse else {}
    # Where neither saves the constant stands at its best: a first-order change of nothing.
    return _sorted({key: (min(value, 0.0) - min(less.get(key, 0.0), 0.0)) / STEP for key, value in more.items()})


def _names(cluster: Cluster) -> list[str]:
    sheets = (cluster.chip, cluster.node)
    return [f"{sheet.kind}.{key}" for sheet in sheets for key in sheet if _moves(sheet, key)]


def _changes(
    cluster: Cluster, source: Source, change: Callable[[Cluster, Source], float], names: Sequence[str], factor: float
) -> dict[str, float]:
    """Return name -> relative change of energy when that constant is `factor` times as large.

    A change that cannot be answered (a fact out of its bounds, work that no longer fits) is left out: what one percent
    would do is no reason to withhold the answer it stands beside.
    """
    changed = {}
    for name in names:
        kind, _, key = name.partition(".")
        with suppress(WattlineError):
            if kind == cluster.chip.kind:
                changed[name] = replace(cluster, chip=cluster.chip.scaled(key, factor))
            else:
                changed[name] = replace(cluster, node=cluster.node.scaled(key, factor))
    listener = Listener(source, Device(cluster.chip, cluster.node))
    change(cluster, listener)
    sources = foresee(source, listener.questions, [Device(c.chip, c.node) for c in changed.values()])
    out = {}
    for (key, c), mine in zip(changed.items(), sources, strict=True):
        with suppress(WattlineError):
            out[key] = change(c, mine)
    return out


def _sorted(values: dict[str, float]) -> dict[str, float]:
    used = {name: value for name, value in values.items() if abs(value) > 1e-9}
    return dict(sorted(used.items(), key=lambda item: -abs(item[1])))


def _moves(sheet: Sheet, key: str) -> bool:
    fixed = _FIXED if sheet.kind == "chip" else _FIXED_NODE
    return sheet[key] != 0 and not key.startswith(fixed)
