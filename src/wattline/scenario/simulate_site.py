"""A fleet scenario played: its jobs as nodes, its tree, events and physics put together, under every controller."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ScenarioError
from ..core.units import show
from ..frontier.algebra import Frontier
from ..hardware.power_tree import PowerTree
from ..site import traces
from ..site.simulate.breaker import CURVES
from ..site.simulate.controllers import controller
from ..site.simulate.model import Crew, Limit, Physics, Site
from ..site.simulate.play import play
from ..site.simulate.site_outcome import SiteRun
from . import scenario as scenarios
from . import schema_fleet
from .fleet_bill import zone_of
from .fleet_file import FleetScenario, SeriesFile, beside, steps_of, tree_of
from .fleet_work import Placed, placed
from .sweep import sweep

Array = NDArray[np.float64]

# Who plays where a scenario does not say.
USUAL: Final = ("uncapped", "uniform", "proportional", "prices")

# Nodes times steps, over all runs, below which this process plays alone: some 30 s of one core.
_LARGE: Final = 1e9


@dataclass(frozen=True, eq=False)
class SiteSimulation:
    """Runs of one site, by controller and seed; `notice`: what was assumed."""

    title: str
    site: Site
    lasts: float
    runs: tuple[SiteRun, ...]
    assumptions: tuple[str, ...]

    def by_controller(self) -> dict[str, list[SiteRun]]:
        """Return the runs of each controller, in the order they were asked for."""
        out: dict[str, list[SiteRun]] = {}
        for run in self.runs:
            out.setdefault(run.controller, []).append(run)
        return out

    def summary(self) -> list[dict[str, Any]]:
        """Return one row a controller: means over its runs, and the worst of peaks, violations and trips."""
        return [
            {
                "controller": name,
                "runs": len(runs),
                "work": _mean([float(r.done.sum()) for r in runs]),
                "work_share": _mean([r.share for r in runs]),
                "lost": {why: _mean([r.lost_by()[why] for r in runs]) for why in runs[0].lost_by()},
                "energy_j": _mean([r.energy for r in runs]),
                "peak_w": max(r.peak for r in runs),
                "over_s": max(r.over_s for r in runs),
                "over_runs": sum(r.over_s > 0 for r in runs),
                "trips": max(int(r.trips.sum()) for r in runs),
            }
            for name, runs in self.by_controller().items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable keys."""
        return {
            "kind": "simulated site",
            "title": self.title,
            "nodes": len(self.site.place),
            "parts": len(self.site.tree),
            "lasts_s": self.lasts,
            "controllers": self.summary(),
            "runs": [{**run.to_dict(), "power": power_over_time(run)} for run in self.runs],
            "assumptions": list(self.assumptions),
        }


def power_over_time(run: SiteRun) -> dict[str, Any]:
    """Return the history of a run by name, SI; no limit is None."""
    h = run.history
    return {
        "bin_s": run.bin,
        "feed_w": h[:, 0].tolist(),
        "peak_w": h[:, 1].tolist(),
        "limit_w": [x if math.isfinite(x) else None for x in h[:, 2].tolist()],
        "work_per_s": h[:, 3].tolist(),
        "site_overhead_w": h[:, 5].tolist(),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def run(
    scenario: FleetScenario, *, controllers: Sequence[str] = (), engine: str = "local", jobs: int | None = None
) -> SiteSimulation:
    """Play a fleet scenario under every controller and seed.

    Parameters
    ----------
    controllers : names; those of the scenario, or the usual four, where none. engine, jobs : as of `sweep.sweep`.
    """
    names = tuple(controllers) or tuple(scenario.simulate.get("controllers", USUAL))
    for name in names:
        controller(name)
    if len(set(names)) < len(names):
        raise ScenarioError(f"each controller is played once, got {', '.join(names)}")
    site, lasts = site_of(scenario), float(_get(scenario, "lasts"))
    first, count = int(_get(scenario, "seed")), int(_get(scenario, "runs"))
    points = [{"controller": name, "seed": first + k} for name in names for k in range(count)]
    what = (site, lasts, float(_get(scenario, "interval")))
    if engine == "local" and len(points) * len(site.place) * lasts / site.physics.step < _LARGE:
        jobs = jobs or 1
    rows = sweep(cast("Any", what), points, engine=engine, jobs=jobs, evaluate=cast("Any", play_one))
    runs = tuple(cast("SiteRun", row["run"]) for row in rows)
    return SiteSimulation(scenario.name, site, lasts, runs, _assumptions(scenario, site))


def play_one(what: tuple[Site, float, float], point: Mapping[str, Any]) -> dict[str, Any]:
    """Play one point of a study: a controller by name, and a seed."""
    site, lasts, interval = what
    made = controller(point["controller"])
    if math.isfinite(made.interval) and made.name != "thresholds":
        made.interval = interval
    return {"run": play(site, made, lasts=lasts, seed=point["seed"])}


def _get(scenario: FleetScenario, name: str) -> Any:
    return scenario.simulate.get(name, schema_fleet.KEYS[f"simulate.{name}"].default)


# ---- the site --------------------------------------------------------------------------------------


def site_of(scenario: FleetScenario) -> Site:
    """Return the site of a fleet scenario: every copy of a job as nodes at its parts."""
    if scenario.regions:
        raise ScenarioError("one site is simulated at a time; give a scenario without [[region]]")
    if scenario.pools:
        raise ScenarioError("a scenario with [[pool]] leaves open where jobs run; simulate one that states job.at")
    tree = tree_of(scenario).nesting()
    crews = tuple(crew_of(scenario, p) for p in placed(scenario, tree))
    return Site(tree, crews, physics_of(scenario), limits_of(scenario, tree))


def crew_of(scenario: FleetScenario, p: Placed) -> Crew:
    """Return a placed job as equal nodes."""
    row, job = p.row, p.job
    nodes = _nodes(scenario, p)
    every = 1 / (p.copies * nodes)
    one = p.work.frontier
    frontier = Frontier.of(one.time, one.energy / nodes, waiting_power=one.waiting_power / nodes)
    where = [job.at] if isinstance(job.at, str) else list(job.at)
    split = np.array_split(np.arange(p.copies * nodes), len(where))
    lasts = (row.get("loud_lasts"), row.get("quiet_lasts"))
    if (lasts[0] is None) != (lasts[1] is None):
        raise ScenarioError(f"job {job.name}: loud_lasts and quiet_lasts are due together")
    if ("every" in row) != ("stay" in row):
        raise ScenarioError(f"job {job.name}: every and stay are due together")
    tasks = _traced(scenario, p, nodes) if "trace" in row else None
    # Jobs of several parts share what arrives.
    share = p.copies / row.get("count", p.copies)
    return Crew(
        job.name, frontier, [(at, len(some)) for at, some in zip(where, split, strict=True) if len(some)],
        weight=job.weight * every, gangs=p.copies if nodes > 1 else 0, minimum=job.minimum,
        paused=None if job.paused is None else job.paused * every, load=row.get("load", 1.0),
        swing=row.get("swing", 0.0), arrivals=share / row["every"] if "every" in row else 0.0,
        stay=row.get("stay", 0.0), tasks=tasks, quiet=row.get("quiet", 1.0),
        lasts=None if lasts[0] is None else cast("tuple[float, float]", lasts),
    )  # fmt: skip


# Tasks of a trace, one a node, beyond which nobody waits for the simulator.
_TASKS: Final = 5_000_000


def _traced(scenario: FleetScenario, p: Placed, nodes: int) -> tuple[Array, Array]:
    """Return when each task of a trace comes (s from its first) and how long it is: one on every node that a job fills.

    Nodes of one job of a trace do not wait for one another; jobs queue in order of submission.
    """
    row, name = p.row, p.job.name
    if "every" in row or nodes > 1:
        raise ScenarioError(
            f"job {name}: trace takes the place of every and stay, on nodes that work alone (nodes = 1)"
        )
    if p.copies != row.get("count", p.copies):
        raise ScenarioError(f"job {name}: a trace is played at one part; give job.at one name")
    path = beside(scenario, row["trace"])
    found = traces.read(row.get("trace_form", "swf"), path, zone=zone_of(scenario))
    first = found.jobs[0].submit
    count = np.array([max(1, math.ceil(job.chips / max(1, p.work.chips) - 1e-9)) for job in found.jobs])
    if count.sum() > _TASKS:
        raise ScenarioError(
            f"job {name}: {path.name} holds {count.sum():,} tasks of one node; play {_TASKS:,} or fewer"
        )
    at = np.array([job.submit - first for job in found.jobs])
    lasts = np.array([max(job.lasts, 1e-6) for job in found.jobs])
    return np.repeat(at, count), np.repeat(lasts, count)


def _nodes(scenario: FleetScenario, p: Placed) -> int:
    """Return how many nodes one copy runs on."""
    if "nodes" in p.row or "scenario" not in p.row or p.work.serving:
        return int(p.row.get("nodes", 1))
    stated = scenarios.load(beside(scenario, p.row["scenario"])).with_(p.row.get("set", {}))
    return scenarios.cluster_of(stated).nodes


def physics_of(scenario: FleetScenario) -> Physics:
    """Return what nodes and the site do, from [simulate]."""
    same = (
        "step", "actuation", "repair", "restart", "rework", "slowed", "pace", "margin", "reclose", "cooling", "warming",
        "rise", "supply", "room", "hottest",
    )  # fmt: skip
    never = {name: math.inf if (x := _get(scenario, name)) is None else float(x) for name in ("failing", "slowing")}
    curve = CURVES[_get(scenario, "breaker")].times(_get(scenario, "breaker_time"))
    return Physics(**{name: float(_get(scenario, name)) for name in same}, **never, breaker=curve)


def limits_of(scenario: FleetScenario, tree: PowerTree) -> tuple[Limit, ...]:
    """Return limits over time: the grid's series, and every event from its announcement on."""
    grid, lasts = scenario.grid, float(_get(scenario, "lasts"))
    out: list[Limit] = []
    stated = grid.get("limit")
    if isinstance(stated, SeriesFile):
        series = steps_of(scenario, stated, "W", 0.0, 0.0)
        start, step = grid.get("start", float(series.edges[0])), grid.get("step", 3600.0)
        edges = start + np.arange(math.ceil(lasts / step - 1e-9) + 1) * step
        for at, watts in zip(edges - start, series.on(edges).tolist(), strict=False):
            out.append(Limit(tree.root, watts, float(at), float(at + step), float(at - 60.0)))
    elif stated is not None:
        out.append(Limit(tree.root, float(stated), 0.0, math.inf, 0.0))
    for event in grid["event"]:
        for name in ("start", "lasts", "limit"):
            if name not in event:
                raise ScenarioError(f"every [[grid.event]] needs {name}")
        row, start = tree.index(event.get("part", tree.names[tree.root])), event["start"]
        out.append(Limit(row, event["limit"], start, start + event["lasts"], start - event.get("notice", 60.0)))
    return tuple(out)


def _curve_of(scenario: FleetScenario) -> str:
    name = _get(scenario, "breaker")
    if not CURVES[name].table:
        return f"{name} curve of IEC 60255-151"
    return f"the latest times that {name} allows"


def _assumptions(scenario: FleetScenario, site: Site) -> tuple[str, ...]:
    y = site.physics
    out = [
        "work counts seconds at full speed of a node times its weight in chips",
        f"breakers: {_curve_of(scenario)} on every limited part, "
        f"{show(y.breaker.time(1.2), 's')} at 120 % of {y.margin:g} x the limit",
        f"cooling follows the load with {show(y.cooling, 's')}; a decision is in force after {show(y.actuation, 's')}",
        "the outdoor temperature stays as it is at the start",
    ]
    if not math.isfinite(y.failing):
        out.append("no node fails (simulate.failing is not given)")
    return tuple(out)
