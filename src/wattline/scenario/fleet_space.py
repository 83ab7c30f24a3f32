"""A fleet scenario with [[region]]: where and when its jobs do what is due, beside staying at home."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import GoalError, ScenarioError
from ..hardware.power_tree import PowerTree
from ..site.program import NODES
from ..site.space import Region, Roaming, SpacePlan, plan
from ..site.tasks import Array, Goal, Task
from .fleet_file import FleetScenario, SeriesFile, steps_of
from .fleet_work import placed

_GOALS: Mapping[str, Goal] = {"least_energy": "energy", "least_carbon": "carbon", "least_cost": "cost"}


@dataclass(frozen=True, eq=False)
class SpaceAnswer:
    """The plan over sites, and the same with every job at home (None where a job has none, or that does not fit)."""

    title: str
    goal: str
    plan: SpacePlan
    stay: SpacePlan | None
    stay_refused: str
    currency: str
    sources: tuple[str, ...]
    assumptions: tuple[str, ...]

    kind = "regions"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        p = self.plan
        return {
            "kind": self.kind,
            "title": self.title,
            "goal": self.goal,
            "currency": self.currency,
            "time_s": p.edges.tolist(),
            "regions": [
                {
                    "name": name, "grid_w": p.grid[r].tolist(),
                    "jobs": {job: p.power[r, j].tolist() for j, job in enumerate(p.jobs)},
                }
                for r, name in enumerate(p.regions)
            ],
            "jobs": [
                {
                    "name": job, "work": p.work[j].tolist(),
                    "moves": [{"time_s": float(p.edges[t]), "from": a, "to": b} for t, a, b in p.moves[job]],
                }
                for j, job in enumerate(p.jobs)
            ],
            "plan": totals(p),
            "stay": None if self.stay is None else totals(self.stay),
            "stay_refused": self.stay_refused or None,
            "provenance": {"sources": list(self.sources)},
            "assumptions": list(self.assumptions),
        }  # fmt: skip


def totals(p: SpacePlan) -> dict[str, Any]:
    """Return the totals of a plan over sites."""
    return {
        "energy_j": p.energy, "carbon_g": p.carbon, "cost": p.cost, "moves": sum(len(m) for m in p.moves.values()),
        "gap": p.gap, "nodes": p.nodes,
    }  # fmt: skip


def solve(scenario: FleetScenario) -> SpaceAnswer:
    """Return the answer of a scenario with regions."""
    goal = next((k for k, v in scenario.goal.items() if k in _GOALS and v is not False), None)
    if goal is None:
        raise ScenarioError("several sites are planned for goal.least_cost, goal.least_carbon or goal.least_energy")
    if "lasts" not in scenario.grid:
        raise ScenarioError("several sites are planned over time; give [grid] lasts")
    if scenario.feed["part"] or "limit" in scenario.feed or any(scenario.bill.values()):
        raise ScenarioError(
            "with [[region]] each site is one feed with its own limit and PUE; leave out [site.feed], tariffs, storage "
            "sources and services, or plan each site with a scenario of its own"
        )
    edges = _edges(scenario)
    regions = [_region(scenario, row, edges) for row in scenario.regions]
    if len({r.name for r in regions}) != len(regions):
        raise ScenarioError("every [[region]] needs a name of its own")
    tree = PowerTree.read([{"name": "feed"}])
    some = placed(scenario, tree)
    start = float(edges[0])
    roaming = []
    for p in some:
        row = p.row
        task = Task(
            p.job, row.get("due", 0.0), start + row.get("release", 0.0), start + row.get("deadline", math.inf),
            row.get("resume", 0.0), dwell=row.get("dwell", 0.0),
        )  # fmt: skip
        roaming.append(
            Roaming(
                task, tuple(row.get("regions", ())), row.get("home"), row.get("move", 0.0), row.get("move_cost", 0.0),
                row.get("move_energy", 0.0),
            )
        )  # fmt: skip
    how = {"gap": scenario.grid.get("gap", 1e-4), "nodes": scenario.grid.get("nodes", NODES)}
    found = plan(regions, roaming, edges, _GOALS[goal], **how)
    stay, refused = None, ""
    if all(r.home is not None for r in roaming):
        at_home = [Roaming(r.task, (r.home or "",), r.home) for r in roaming]
        try:
            stay = plan(regions, at_home, edges, _GOALS[goal], **how)
        except GoalError as error:
            refused = str(error)
    free = [r.task.job.name for r in roaming if not r.paid and len(r.regions or regions) > 1]
    said = ["a job that waits or is paused draws its least power where it is"]
    if free:
        said.append(f"moving costs nothing (no job.move, move_cost or move_energy): {', '.join(free)}")
    return SpaceAnswer(
        scenario.name, f"least {_GOALS[goal]} with all that is due done", found, stay, refused, scenario.currency,
        tuple(dict.fromkeys(p.work.source for p in some)), tuple(said),
    )  # fmt: skip


def _edges(scenario: FleetScenario) -> Array:
    grid = scenario.grid
    step = grid.get("step", 3600.0)
    files = [v for row in scenario.regions for v in row.values() if isinstance(v, SeriesFile) and v.path is not None]
    start = grid.get("start")
    if start is None:
        start = 0.0
        for row in scenario.regions[:1]:
            for name, unit in _SERIES.items():
                if isinstance(row.get(name), SeriesFile) and row[name] in files:
                    start = float(steps_of(scenario, row[name], unit, 0.0, 0.0).edges[0])
                    break
    count = max(1, round(grid["lasts"] / step))
    return np.asarray(float(start) + np.arange(count + 1) * step, float)


_SERIES = {"price": "USD/J", "carbon": "g/J", "limit": "W", "pue": "fraction"}


def _region(scenario: FleetScenario, row: Mapping[str, Any], edges: Array) -> Region:
    if "name" not in row:
        raise ScenarioError("every [[region]] needs a name")

    def series(name: str, default: float | None) -> Array | None:
        value = row.get(name, scenario.grid.get(name) if name in ("price", "carbon") else None)
        if isinstance(value, SeriesFile):
            return steps_of(scenario, value, _SERIES[name], float(edges[0]), float(edges[-1])).on(edges)
        value = default if value is None else value
        return None if value is None else np.full(len(edges) - 1, float(value))

    pue, limit = series("pue", 1.0), series("limit", math.inf)
    assert pue is not None
    assert limit is not None
    if (pue < 1).any():
        raise ScenarioError(f"pue of [[region]] {row['name']} must be 1 or more, got {pue.min():.4g}")
    return Region(row["name"], limit, pue, series("price", None), series("carbon", None), row.get("overhead", 0.0))
