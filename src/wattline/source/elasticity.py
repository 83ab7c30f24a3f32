"""What one percent less of any hardware constant would save: d ln E / d ln parameter.

The caller says how to evaluate a changed cluster; this walks every constant of chip and node that
can move the energy, one at a time, by one percent. The source answers for all changed devices at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

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
    changed = {}
    for sheet in (cluster.chip, cluster.node):
        for key in sheet:
            if _moves(sheet, key):
                dearer = sheet.scaled(key, 1.0 + STEP)
                moved = replace(cluster, chip=dearer) if sheet is cluster.chip else replace(cluster, node=dearer)
                changed[f"{sheet.kind}.{key}"] = moved
    listener = Listener(source, Device(cluster.chip, cluster.node))
    change(cluster, listener)
    sources = foresee(source, listener.questions, [Device(c.chip, c.node) for c in changed.values()])
    out = {key: change(c, mine) / STEP for (key, c), mine in zip(changed.items(), sources, strict=True)}
    used = {name: value for name, value in out.items() if abs(value) > 1e-9}
    return dict(sorted(used.items(), key=lambda item: -abs(item[1])))


def _moves(sheet: Sheet, key: str) -> bool:
    fixed = _FIXED if sheet.kind == "chip" else _FIXED_NODE
    return sheet[key] != 0 and not key.startswith(fixed)
