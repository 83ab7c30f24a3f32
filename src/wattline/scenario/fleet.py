"""A fleet scenario answered: what every job gets now, what power is worth where, the way down, and the hours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from ..core.errors import GoalError, ScenarioError
from ..core.units import show
from ..frontier.answer import Rates
from ..hardware.power_tree import PowerTree
from ..site.allocate import Fleet
from ..site.answer import FleetAnswer, JobOutcome
from ..site.fleet_plan import FleetPlan
from ..site.horizon import Conditions, Goal, Horizon, Task
from ..site.layers import Measure, Standing, by_layer, price_curve
from ..site.moves import Event
from ..site.program import NODES
from ..site.receding import Forecast, follow
from ..site.timeline import Steps, constant
from . import fleet_footprint
from .fleet_bill import equipment_of, priced
from .fleet_file import FleetScenario, SeriesFile, is_fleet, load, parse_fleet, steps_of, tree_of
from .fleet_more import more_of
from .fleet_unused import unused
from .fleet_work import Placed, Work, placed

__all__ = ["FleetScenario", "conditions_of", "is_fleet", "load", "parse_fleet", "solve"]


# Most periods of a plan: a year of quarters of an hour is 35,040.
_PERIODS: Final = 100_000


# ---- answering -------------------------------------------------------------------------------------


def solve(scenario: FleetScenario) -> FleetAnswer:
    """Return the answer: the plan of one instant, the cheapest way down from it, and the plan over time."""
    if scenario.regions:
        raise ScenarioError("several sites ([[region]]) are planned by wattline plan FILE, and by nothing else yet")
    tree = tree_of(scenario)
    known: dict[str, Work] = {}
    more = None
    if "more" in scenario.goal:
        scenario, more = more_of(scenario, tree, known)
    jobs, notes = _powered(placed(scenario, tree, known), tree)
    fleet = Fleet(tree, [p.job for p in jobs])
    full_work = float(fleet.points.weight @ fleet.points.fastest)
    top = np.array([float(p.job.frontier.average_power[0]) for p in jobs])
    goal, text, target = _goal(scenario, full_work)
    plan = fleet.most_work() if target is None else fleet.least_power(target)
    whole = _whole(fleet, target)
    standing = _standing(scenario, fleet, jobs, plan)
    ladder = price_curve(standing)
    answer = FleetAnswer(
        title=scenario.name,
        goal=text,
        plan=plan,
        whole=whole,
        jobs=tuple(_outcome(p, plan, j) for j, p in enumerate(jobs)),
        full_work=full_work,
        full_power=float(tree.flows(fleet.load(top))[tree.root]),
        rates=_rates(scenario),
        ladder=ladder,
        alone=by_layer(standing),
        give_up=scenario.goal.get("give_up", 1e6),
        sources=tuple(dict.fromkeys(p.work.source for p in jobs)),
        # Jobs share their models' errors, so these add up.
        uncertainty=float(plan.power @ [p.work.uncertainty for p in jobs] / max(plan.power.sum(), 1e-300)),
        currency=scenario.currency,
        more=None if more is None else asdict(more),
        assumptions=(*_assumptions(scenario, jobs, _event_length(scenario)), *notes, *unused(scenario)),
    )
    answer = replace(answer, footprint=fleet_footprint.now(scenario, answer, jobs))
    # More copies are a question about limits now; who asks it may have no hour of the week in which they fit.
    return answer if "lasts" not in scenario.grid or more else _over_time(scenario, answer, tree, jobs, goal)


def _whole(fleet: Fleet, target: float | None) -> FleetPlan | None:
    """Return the plan of one setting a job; None where whole settings do not reach the work asked for."""
    if target is None:
        return fleet.most_work("discrete")
    try:
        return fleet.least_power(target, "discrete")
    except GoalError:
        return None


def _powered(jobs: Sequence[Placed], tree: PowerTree) -> tuple[list[Placed], list[str]]:
    """Return the jobs whose parts have power, and a line for each that is off."""
    on, notes = [], []
    for p in jobs:
        at = [p.job.at] if isinstance(p.job.at, str) else list(p.job.at)
        dead = [name for name in at if tree.dark[tree.index(name)]]
        if dead:
            notes.append(f"{p.job.name} is off: {', '.join(dead)} has no power (a limit of 0 W)")
        else:
            on.append(p)
    if not on:
        raise GoalError(f"no job has power: {'; '.join(notes)}; raise a limit above 0 W")
    return on, notes


# Keys of [goal] that say more about a goal, and are none.
_BESIDE: Final = ("give_up", "more", "loss")


def _goal(scenario: FleetScenario, full_work: float) -> tuple[Goal, str, float | None]:
    stated = {k: v for k, v in scenario.goal.items() if k not in _BESIDE and v is not False}
    if len(stated) > 1:
        raise ScenarioError(f"[goal] of a fleet takes one of these, got {', '.join(stated)}")
    kind = next(iter(stated), "most_work")
    if kind == "most_work":
        return "work", "most work within every limit", None
    if kind == "work":
        return (
            "energy",
            f"least power for {100 * stated[kind]:.4g} % of the work at full speed",
            stated[kind] * full_work,
        )
    if "lasts" not in scenario.grid:
        raise ScenarioError(f"goal.{kind} is over time; give [grid] lasts, or ask for goal.work, a share of the work")
    what: Goal = {"least_energy": "energy", "least_carbon": "carbon", "least_cost": "cost"}[kind]  # type: ignore[assignment]
    return what, f"least {what} with all that is due done", None


def _standing(scenario: FleetScenario, fleet: Fleet, jobs: Sequence[Placed], plan: FleetPlan) -> list[Standing]:
    """Return where every job stands and its ways down, all copies together."""
    lasts = _event_length(scenario)
    out = []
    for j, p in enumerate(jobs):
        unit = Fleet(fleet.tree, [p.job])
        gain = float(fleet.tree.row_per_watt(unit.load(np.ones(1)))[fleet.tree.root])
        measures = [replace(m, power=m.power * p.copies) for m in p.work.measures]
        if p.job.minimum > 0:  # what must be done is not on offer
            measures = [_served_only(m, p.job.minimum) for m in measures]
        if p.job.paused is not None:
            measures.append(_pausing(p, float(plan.work[j]), lasts, scenario.grid.get("lasts")))
        measures = [m for m in measures if m.power.size]
        out.append(
            Standing(p.job.name, float(plan.power[j]), float(plan.work[j]), tuple(measures), p.job.weight, gain)
        )  # fmt: skip
    return out


def _event_length(scenario: FleetScenario) -> float:
    """Return how long power is given up: as long as the first event, or an hour."""
    return float(next((e["lasts"] for e in scenario.grid["event"] if "lasts" in e), 3600.0))


def _served_only(m: Measure, least: float) -> Measure:
    keep = m.work >= least * (1 - 1e-9)
    return replace(m, power=m.power[keep], work=m.work[keep])


def _pausing(p: Placed, work: float, lasts: float, ends: float | None) -> Measure:
    """Return the pause of a job: put off as far as its deadline, or the plan's end, leaves slack; else lost."""
    paused = float(p.job.paused or 0.0)
    if p.job.minimum > 0:
        return Measure("load", np.zeros(0), np.zeros(0))
    deadline = p.row.get("deadline", ends)
    if "due" in p.row and deadline is not None:
        slack = max(0.0, deadline - p.row.get("release", 0.0) - p.row["due"])
        return Measure.later(work, paused, lasts, slack, p.row.get("resume", 0.0))
    return Measure("load", np.array([paused]), np.zeros(1), "paused", along="load")


def _outcome(p: Placed, plan: FleetPlan, j: int) -> JobOutcome:
    """Return what one job gets; powers of its settings are of all its copies."""

    def setting(k: int) -> Mapping[str, Any]:
        if k < 0:
            return {"paused": True, "power_w": float(p.job.paused or 0.0)}
        return {**p.work.settings[k], "power_w": float(p.job.frontier.average_power[k])}

    share, low, high = float(plan.share[j]), int(plan.low[j]), int(plan.high[j])
    mixed = [(1 - share, setting(low)), (share, setting(high))] if low != high else [(1.0, setting(low))]
    at = p.job.at if isinstance(p.job.at, str) else ", ".join(p.job.at)
    speed = float(plan.work[j])
    return JobOutcome(
        p.job.name, at, float(plan.power[j]), speed, p.job.weight * speed, tuple(m for m in mixed if m[0] > 1e-9)
    )


def _rates(scenario: FleetScenario) -> Rates:
    price, carbon = scenario.grid.get("price"), scenario.grid.get("carbon")
    return Rates(None if isinstance(price, SeriesFile) else price, None if isinstance(carbon, SeriesFile) else carbon)


def _assumptions(scenario: FleetScenario, jobs: Sequence[Placed], lasts: float) -> tuple[str, ...]:
    out = ["work counts chips at full speed times the job's weight"]
    out += [
        f"a paused or idle copy of {p.job.name.partition('@')[0]} draws {show(p.work.idle, 'W')} "
        "(from chip and node facts)"
        for p in jobs
        if "idle" not in p.row and "scenario" in p.row
    ]
    if any(p.job.paused is not None and "due" in p.row for p in jobs):
        how = "as the first event" if scenario.grid["event"] else "no event is stated"
        out.append(f"work put off on the way down waits for {show(lasts, 's')} ({how})")
    if "pue" not in scenario.feed and "cooling" not in scenario.feed and "pue" not in scenario.grid:
        out.append("site.pue = 1.0 (default): nothing for cooling")
    return tuple(dict.fromkeys(out))


# ---- over time -------------------------------------------------------------------------------------


def _over_time(
    scenario: FleetScenario, answer: FleetAnswer, tree: PowerTree, jobs: Sequence[Placed], goal: Goal
) -> FleetAnswer:
    conditions = priced(scenario, conditions_of(scenario, tree))
    equipment = equipment_of(scenario, conditions)
    start = float(conditions.edges[0])
    tasks = [
        Task(
            p.job, p.row.get("due", 0.0), start + p.row.get("release", 0.0), start + p.row.get("deadline", math.inf),
            p.row.get("resume", 0.0), dwell=p.row.get("dwell", 0.0),
        )
        for p in jobs
    ]  # fmt: skip
    horizon = Horizon(tree, tasks, conditions, equipment)
    # A peak binds all hours together, and a search over pauses closes slowly.
    gap = scenario.grid.get("gap", 1e-4)
    plan = horizon.plan(goal, gap=gap, nodes=scenario.grid.get("nodes", 100 if equipment.tariffs else NODES))
    error = scenario.grid.get("forecast_error")
    if error is not None and equipment:
        raise ScenarioError(
            "grid.forecast_error is played without tariffs, storage, sources and services; leave one of them out"
        )
    series = {
        "price_usd_per_j": conditions.price, "carbon_g_per_j": conditions.carbon, "outdoor_k": conditions.outdoor,
        "filled": conditions.filled,
    }  # fmt: skip
    notes = list(answer.assumptions)
    if plan.off is not None:
        for j, name in enumerate(plan.names):
            if plan.off[j].any():
                hours = show(float(conditions.dt[plan.off[j]].sum()), "s")
                notes.append(f"{name} is off for {hours}: a part it draws from has no power then (a limit of 0 W)")
    if conditions.filled is not None and conditions.filled.any():
        how = scenario.grid["fill"]
        notes.append(
            f"{int(conditions.filled.sum())} of {len(conditions.dt)} periods rest on filled gaps (fill = {how!r})"
        )
    return replace(
        answer,
        footprint=fleet_footprint.over_time(scenario, plan, conditions, equipment, jobs),
        horizon=plan,
        soonest=horizon.soonest(goal),
        followed=None if error is None else follow(horizon, goal, Forecast(error)),
        events=tuple(_events(scenario, tree, start)),
        zone=scenario.grid.get("zone", "UTC"),
        series={k: v.tolist() for k, v in series.items() if v is not None},
        assumptions=tuple(notes),
    )


def _events(scenario: FleetScenario, tree: PowerTree, start: float) -> list[Event]:
    """Return the stated curtailments on the plan's clock."""
    root = tree.names[tree.root]
    return [
        Event(e.get("part", root), start + e["start"], start + e["start"] + e["lasts"], e["limit"])
        for e in scenario.grid["event"]
    ]


def conditions_of(scenario: FleetScenario, tree: PowerTree) -> Conditions:
    """Return price, carbon, limits and weather of every period."""
    grid = scenario.grid
    units = {
        "price": "USD/J", "carbon": "g/J", "limit": "W", "outdoor": "K", "pue": "fraction", "carbon_market": "g/J",
        "carbon_marginal": "g/J",
    }  # fmt: skip
    stated = {name: grid[name] for name in units if isinstance(grid.get(name), SeriesFile)}
    # Services are asked for the span of the plan, so files come first: they may say when it begins.
    files: dict[str, Steps] = {}
    begin = grid.get("start", 0.0)
    for name, where in sorted(stated.items(), key=lambda item: item[1].service is not None):
        files[name] = steps_of(scenario, where, units[name], begin, begin + grid["lasts"])
        begin = grid.get("start", float(next(iter(files.values())).edges[0]))
    start = begin
    count = max(1, round(grid["lasts"] / grid.get("step", 3600.0)))
    if count > _PERIODS:
        raise ScenarioError(
            f"grid.lasts over grid.step is {count:,} periods and a plan takes {_PERIODS:,}; take longer steps"
        )
    edges = start + np.arange(count + 1) * grid.get("step", 3600.0)

    def series(name: str) -> Steps | None:
        if name in files:
            return files[name]
        return None if name not in grid else constant(grid[name], units[name], edges, "the scenario")

    known = {name: found for name in units if (found := series(name)) is not None}
    values = {name: found.on(edges) for name, found in known.items()}
    marked = np.zeros(count, bool)
    for found in known.values():
        marked |= found.marked(edges)
    root = tree.names[tree.root]
    limits = {} if "limit" not in values else {root: np.minimum(values["limit"], tree.limit[tree.root])}
    for event in grid["event"]:
        part = event.get("part", root)
        usual = limits.get(part, np.full(count, tree.limit[tree.index(part)]))
        for name in ("start", "lasts", "limit"):
            if name not in event:
                raise ScenarioError(f"every [[grid.event]] needs {name}")
        begins = start + event["start"]
        during = (edges[:-1] < begins + event["lasts"] - 1e-6) & (edges[1:] > begins + 1e-6)
        limits[part] = np.where(during, np.minimum(usual, event["limit"]), usual)
    outdoor = values.get("outdoor") if tree.overhead.outdoor else None
    return Conditions(
        edges, values.get("price"), values.get("carbon"), limits, outdoor, values.get("pue"),
        values.get("carbon_market"), values.get("carbon_marginal"), marked,
    )  # fmt: skip
