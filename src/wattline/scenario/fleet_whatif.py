"""A fleet or a placement answered with other values, one point or a whole grid, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..core.errors import WattlineError
from . import fleet, fleet_place, fleet_space
from .sweep import sweep

Row = dict[str, Any]


def rows(
    path: Path, points: Sequence[Mapping[str, Any]], *, engine: str = "local", jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:  # fmt: skip
    """Return one row per point, the unchanged scenario first; what has no answer says why under "error"."""
    every = cast("Any", [{}, *points])
    return sweep(cast("Any", path), every, engine=engine, jobs=jobs, progress=progress, evaluate=cast("Any", row))


def row(path: Path, changes: Mapping[str, Any]) -> Row:
    """Return what a scenario answers with some values changed."""
    told = {key: str(value) for key, value in changes.items()}
    try:
        stated = fleet.load(path, told)
        if stated.pools:
            best = fleet_place.solve(stated).best
            return {**told, "feed_w": best.power, "gap": best.gap, "nodes_asleep": sum(best.asleep.values())}
        if stated.regions:
            found = fleet_space.solve(stated)
            return {**told, **fleet_space.totals(found.plan), "currency": found.currency}
        answer = fleet.solve(stated)
    except WattlineError as error:
        return {**told, "error": str(error)}
    plan, over = answer.plan, answer.horizon
    out: Row = {
        **told,
        "feed_w": plan.feed,
        "work": plan.value,
        "work_share": plan.value / answer.full_work if answer.full_work else 0.0,
        "binding": ", ".join(name for name, _ in plan.binding()[:3]),
    }
    if answer.more is not None:
        out["more"] = answer.more["more"]
    if over is not None:
        out |= {
            "energy_j": over.energy_j, "carbon_g": over.carbon_g, "cost": over.cost_usd, "currency": answer.currency,
            "peak_w": float(over.grid.max()), "work_done_s": sum(over.done.values()), "gap": over.gap,
        }  # fmt: skip
    return out
