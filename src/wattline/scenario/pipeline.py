"""One profile in, one answer out: what `wattline pipeline` asks of a plan, and how it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.units import parse, show
from ..frontier.answer import Answer, Outcome
from ..hardware import catalog
from ..training.pipeline import LADDER_NODES, PipelineJob, PipelinePlan, Realized, gaps, plan_pipeline
from ..training.profile import Profile, read
from ..training.schedule import Schedule
from ..training.torch_order import read_order

POINTS = 25  # deadlines at which a plan is realised
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """Everything that is asked, as typed: quantities with their units, None where left out."""

    profile: Path
    stages: int
    microbatches: int
    schedule: str = "1f1b"
    virtual: int = 1
    waiting_power: str | None = None
    chip: str | None = None
    static_power: str = "0 W"
    replicas: int = 1
    max_slowdown: str | None = None
    deadline: str | None = None
    straggler: str | None = None
    power_cap: str | None = None
    transfer_time: str = "0 s"
    switch_latency: str | None = None
    granularity: str = "microbatch"
    compare: bool = False
    regress: bool = False
    switch_once: bool = False
    split_backward: str | None = None
    fixed: bool = False
    points: int = POINTS
    order: Path | None = None

    def job(self) -> tuple[PipelineJob, list[str]]:
        """Return the job, its profile read, and what was assumed on the way."""
        waiting, notes = self._waiting()
        latency, told = self._latency()
        profile = read(self.profile, repeats=self.regress, fixed=self.fixed)
        job = PipelineJob(
            profile, self.stages, self.microbatches, self.schedule, self.virtual, waiting,
            parse(self.static_power, "W", key="--static-power"), self.replicas, self._links(),
            latency, self.granularity,
            None if self.split_backward is None else parse(self.split_backward, "", key="--split-backward"),
            self._order(),
        )  # fmt: skip
        return job, notes + told

    def _order(self) -> Schedule | None:
        """Return the schedule of --order, which must be of the stages and microbatches that were stated."""
        if self.order is None:
            return None
        found = read_order(self.order)
        if (found.devices, found.microbatches) != (self.stages, self.microbatches):
            raise InputError(
                f"{self.order} is of {found.devices} ranks and {found.microbatches} microbatches; state --stages "
                f"{found.devices} --microbatches {found.microbatches}, got {self.stages} and {self.microbatches}"
            )
        return found

    def _latency(self) -> tuple[float, list[str]]:
        """Return how long a change of clock takes, in seconds: as stated, else the chip's; and what was assumed."""
        if self.switch_latency is not None:
            return parse(self.switch_latency, "s", key="--switch-latency"), []
        sheet = None if self.chip is None else catalog.chip(self.chip)
        if sheet is None or "clock.switch" not in sheet:
            usual = catalog.chip("a100-sxm-80gb")
            there = f"{show(usual['clock.switch'], 's', 3)} ({usual.facts['clock.switch'].source})"
            return 0.0, [
                f"a change of clock is taken to cost no time; on {usual.name} it takes {there}: name yours with "
                "--chip, or measure it and pass --switch-latency"
            ]
        seconds, source = sheet["clock.switch"], sheet.facts["clock.switch"].source
        return seconds, [f"a change of clock takes {show(seconds, 's', 3)} on {sheet.name} ({source})"]

    def _waiting(self) -> tuple[float, list[str]]:
        if self.waiting_power is not None:
            return parse(self.waiting_power, "W", key="--waiting-power"), []
        if self.chip is None:
            raise InputError(
                "the waiting power is not known, the watts a device draws while it waits for another: measure it and "
                'pass --waiting-power "75 W", or name a chip of the catalog with --chip to assume its figure'
            )
        sheet = catalog.chip(self.chip)
        watts = sheet["power.waiting"]
        source = sheet.facts["power.waiting"].source
        return watts, [f"waiting power assumed from {sheet.name}: {show(watts, 'W', 4)} ({source})"]

    def _links(self) -> float | tuple[float, ...]:
        times = tuple(parse(t.strip(), "s", key="--transfer-time") for t in self.transfer_time.split(","))
        return times if len(times) > 1 else times[0]

    def seconds(self, name: str) -> float | None:
        """Return a limit on time in seconds, None where it was left out."""
        text = getattr(self, name)
        return None if text is None else parse(text, "s", key=f"--{name}")


@dataclass(frozen=True)
class Found:
    """The plan, what was chosen, and the whole answer as plain values under stable keys."""

    plan: PipelinePlan
    chosen: Realized
    goal: str
    values: Mapping[str, Any]
    answer: Answer
    rows: list[dict[str, Any]]


def warm() -> float:
    """Compile the solver, or load it compiled from disk; return how long that took in seconds."""
    from ..frontier.graph import Dag, solve
    from ..frontier.rounding import round_discrete

    began = perf_counter()
    dag = Dag(np.array([0, 0]), np.array([[0, 1]]))
    table = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    round_discrete(dag, solve(dag, [table], 0.0), [table], 3.0)
    return perf_counter() - began


def run(request: Request, tell: Tell = lambda _: None) -> Found:
    """Answer a request; `tell(1)` is called `steps(request)` times."""
    limits = [n for n in ("max_slowdown", "deadline", "straggler") if getattr(request, n) is not None]
    if len(limits) > 1:
        options = " and ".join("--" + n.replace("_", "-") for n in limits)
        raise InputError(f"{options} both limit the time; give one")
    if request.points < 1:
        raise InputError(f"--points must be at least 1, got {request.points}")
    compile_s = warm()
    job, notes = request.job()
    raw = plan_pipeline(job)
    tell(1)
    plan, aside = _regressed(raw) if request.regress else (raw, 0)
    chosen, goal = _chosen(plan, request)
    tell(1)
    realized = raw.realized(request.points, tell)
    values = _values(raw, request, realized, compile_s)
    # Of large graphs, where each takes a while, only those asked for.
    small = len(raw.dag.nodes) <= LADDER_NODES and raw.job.granularity == "microbatch"
    values["slowdowns"] = [{"slowdown": slow, **_told(p)} for slow, p in (raw.ladder() if small else ())]
    values["chosen"] = _told(chosen)
    values["savings"] = _savings(chosen, plan.baseline)
    values["goal"] = goal
    values["assumptions"] = notes + raw.assumptions()
    values["warnings"] = raw.warnings()
    values |= _further(plan, raw, request, chosen, aside)
    if request.compare:
        values["granularities"] = _compared(plan, chosen.deadline)
    rows = plan.rows(chosen)
    if request.switch_once:
        values["switch_once"], rows = _switched(plan, chosen.deadline)
    answer = _answer(plan, chosen, goal, values)
    return Found(plan, chosen, goal, values, answer, rows)


def steps(request: Request) -> int:
    """Return how much there is to do, for a bar."""
    return 2 + request.points


def _regressed(raw: PipelinePlan) -> tuple[PipelinePlan, int]:
    smooth, aside = raw.job.profile.regressed(raw.job.waiting_power)
    return plan_pipeline(replace(raw.job, profile=smooth)), aside


def _chosen(plan: PipelinePlan, request: Request) -> tuple[Realized, str]:
    """Return the plan for what was asked, and that in words."""
    slack = None if request.max_slowdown is None else parse(request.max_slowdown, "", key="--max-slowdown")
    if slack is not None and slack < 0:
        raise InputError(f"--max-slowdown must be at least 0 %, got {request.max_slowdown}")
    deadline, straggler = request.seconds("deadline"), request.seconds("straggler")
    if straggler is not None:
        plan.at(straggler)  # refuses what is none
        limit, goal = straggler, f"least energy beside a straggler of {show(straggler, 's', 4)}"
    elif deadline is not None:
        limit, goal = deadline, f"least energy by {show(deadline, 's', 4)}"
    else:
        limit, goal = (
            plan.deadline(max_slowdown=slack),
            f"least energy at no more than {100 * (slack or 0):.3g} % slowdown",
        )
    if request.power_cap is None:
        return plan.realize(limit, waits=straggler is not None), goal
    cap = parse(request.power_cap, "W", key="--power-cap")
    goal += f", within {show(cap, 'W', 4)} on average"
    if limits_time(request):
        found = plan.realize(limit, waits=straggler is not None)
        if found.average_power <= cap:
            return found, goal
        return plan.within(cap, limit), goal
    return plan.within(cap), f"fastest within {show(cap, 'W', 4)} on average"


def limits_time(request: Request) -> bool:
    """Return whether a limit on time was given."""
    return any(v is not None for v in (request.max_slowdown, request.deadline, request.straggler))


# ---- telling it ----------------------------------------------------------------------------------


def _told(plan: Realized) -> dict[str, Any]:
    return {
        "time_s": plan.time, "energy_j": plan.energy, "gap_to_bound": plan.gap, "deadline_s": plan.deadline,
        "bound_j": plan.bound, "average_power_w": plan.average_power, "clock_switches": plan.switches,
        "granularity": plan.granularity,
    }  # fmt: skip


def _savings(plan: Realized, baseline: Realized) -> dict[str, float]:
    return {"energy": 1.0 - plan.energy / baseline.energy, "time": 1.0 - plan.time / baseline.time}


def _values(plan: PipelinePlan, request: Request, realized: list[Realized], compile_s: float) -> dict[str, Any]:
    job, frontier = plan.job, plan.frontier
    found = gaps(realized)
    return {
        "frontier": [
            {"time_s": t, "energy_j": e} for t, e in zip(plan.time.tolist(), plan.energy.tolist(), strict=True)
        ],
        "realized": [_told(p) for p in realized],
        "solve_s": frontier.solve_s,
        "exact": True,
        "compile_s": compile_s,
        "method": frontier.method,
        "breakpoints": len(plan.time),
        "gap": {"mean": found["mean"], "max": found["max"]},
        "baseline": {"time_s": plan.baseline.time, "energy_j": plan.baseline.energy,
                     "average_power_w": plan.baseline.average_power, "knobs": "maximum clocks"},
        "profile": request.profile.name,
        "schedule": job.order.name if job.order else job.schedule,
        "stages": job.stages,
        "microbatches": job.microbatches,
        "virtual": job.virtual,
        "replicas": job.replicas,
        "devices": job.devices,
        "computations": len(plan.network.rows),
        "waiting_power_w": job.waiting_power,
        "static_power_w": job.static_power,
        "switch_latency_s": job.switch_latency,
        "mapping": list(job.mapping),
    }  # fmt: skip


def _further(plan: PipelinePlan, raw: PipelinePlan, request: Request, chosen: Realized, aside: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    straggler = request.seconds("straggler")
    if straggler is not None:
        began = perf_counter()
        found = plan.at(straggler)
        out["straggler"] = {
            "time_s": found.time, "finish_s": found.finish, "energy_j": found.energy,
            "baseline_energy_j": found.baseline,
            "savings": {"energy": found.saving}, "price_w": found.price, "answer_s": perf_counter() - began,
            "scope": "one pipeline",
        }  # fmt: skip
    if request.regress:
        above = _as_measured(plan, raw, chosen)
        points = zip(plan.time.tolist(), plan.energy.tolist(), strict=True)
        out["regressed"] = {
            "frontier": [{"time_s": t, "energy_j": e} for t, e in points],
            "samples_set_aside": aside,
            "uncertainty": _spread(plan.job.profile),
            "bound_j": plan.bound(chosen.deadline),
            "bound_raw_j": raw.bound(chosen.deadline),
            "chosen_as_measured_j": above,
        }
    return out


def _as_measured(plan: PipelinePlan, raw: PipelinePlan, chosen: Realized) -> float | None:
    """Return the chosen plan's total at the measured means; None where settings do not match one to one."""
    if not np.array_equal(plan.network.time, raw.network.time):
        return None
    return raw.total(raw.network.spent(chosen.pick), chosen.time)


def _spread(profile: Profile) -> float:
    """Return the relative standard deviation of fitted energies, root mean square; 0 where nothing tells it."""
    values = [t.spread for parts in profile.tables.values() for t in parts]
    known = np.array([v for v in values if not math.isnan(v)])
    return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0


def _compared(plan: PipelinePlan, deadline: float) -> dict[str, Any]:
    found = plan.granularities(deadline)
    return {name: {**_told(p), "savings": _savings(p, plan.baseline)} for name, p in found.items()}


def _switched(plan: PipelinePlan, deadline: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if any(len(knobs) > 1 for o in plan.options for knobs in o.knobs):
        raise InputError("--switch-once needs a profile without partitions: leave it out, or plan per partition")
    found = plan.switch_once(max(deadline, float(plan.time[0])))
    values = {
        "time_s": found.time, "energy_j": plan.total(found.energy, found.time), "gap_to_bound": found.gap,
        "switches_inside": int(((found.fast != found.slow) & (found.share < 1)).sum()),
    }  # fmt: skip
    return values, plan.switch_rows(found)


def head(found: Found) -> dict[str, Any]:
    """Return what stands beside the rows of a plan's file."""
    keys = ("profile", "schedule", "stages", "microbatches", "virtual", "replicas", "waiting_power_w", "goal", "chosen")
    return {key: found.values[key] for key in keys}


def tables(found: Found) -> list[tuple[list[str], list[list[str]]]]:
    """Return the further tables of an answer, heads and rows: realised plans, straggler, granularities, regression."""
    values, out = found.values, []
    base = values["baseline"]["energy_j"]

    def row(name: str, p: Mapping[str, Any]) -> list[str]:
        saved = f"{100 * (1 - p['energy_j'] / base):.2f} %"
        gap = f"{100 * max(p['gap_to_bound'], 0.0):.3f} %"
        return [name, show(p["time_s"], "s", 4), show(p["energy_j"], "J", 4), saved, gap]

    heads = ["time", "energy", "saved", "above the bound"]
    points = values["realized"]
    shown = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, min(len(points), 7)).round().astype(int))]
    begin = values["baseline"]["time_s"]
    out.append((["realised plans", *heads], [row(f"{100 * (p['time_s'] / begin - 1):+.2f} %", p) for p in shown]))
    if "granularities" in values:
        rows = [row(name, p) for name, p in values["granularities"].items()]
        out.append((["one clock per", *heads], rows))
    if "switch_once" in values:
        out.append((["realisation", *heads], [row("one switch inside", values["switch_once"])]))
    if "straggler" in values:
        s = values["straggler"]
        cells = [show(s["finish_s"], "s", 4), show(s["energy_j"], "J", 4), f"{100 * s['savings']['energy']:.2f} %"]
        out.append((["beside the straggler, one pipeline", "ends", "energy", "saved"], [["least energy", *cells]]))
    if "regressed" in values:
        r = values["regressed"]
        spread = f"± {100 * r['uncertainty']:.2g} %"
        rows = [
            ["raw hull", show(r["bound_raw_j"], "J", 5), ""],
            ["regression", show(r["bound_j"], "J", 5), spread],
        ]
        out.append((["bound at the deadline", "energy", "one standard deviation"], rows))
    return out


def _answer(plan: PipelinePlan, chosen: Realized, goal: str, values: Mapping[str, Any]) -> Answer:
    """Return the plan as an answer, so that it is told and drawn like any other."""
    job = plan.job
    spread = _spread(job.profile) or _spread(job.profile.regressed(job.waiting_power)[0])
    return Answer(
        kind="training",
        title=f"one iteration of {job.profile.name} ({job.stages} stages x {job.microbatches} microbatches)",
        work="one iteration",
        time_s=plan.time,
        energy_j=plan.energy,
        power_w=plan.energy / plan.time,
        chosen=replace(_outcome(plan, chosen), knobs=_knobs(plan, chosen)),
        baseline=_outcome(plan, plan.baseline),
        goal=goal,
        elasticity={},
        provenance="measured",
        sources=(job.profile.name,),
        uncertainty=spread,
        time_uncertainty=0.0,
        assumptions=tuple(values["assumptions"]) + tuple(values["warnings"]),
        facts=_facts(plan),
        certificate={"gap": chosen.gap, "bound_j": chosen.bound},
        timeline=tuple(plan.rows(chosen)),
    )


def _outcome(plan: PipelinePlan, p: Realized) -> Outcome:
    figures = {"clock_switches": float(p.switches)}
    return Outcome(p.time, p.energy, p.average_power, plan.breakdown(p), figures=figures)


def _knobs(plan: PipelinePlan, chosen: Realized) -> tuple[Mapping[str, Any], ...]:
    """Return one knob per stage, instruction and setting, with the microbatches it holds for."""
    grouped: dict[tuple[Any, ...], list[int]] = {}
    for row in plan.rows(chosen):
        key = tuple((k, v) for k, v in row.items() if k not in ("start_s", "time_s", "microbatch"))
        grouped.setdefault(key, []).append(row["microbatch"])
    return tuple({**dict(key), "microbatches": sorted(batches)} for key, batches in grouped.items())


def _facts(plan: PipelinePlan) -> dict[str, str]:
    job = plan.job
    facts = {
        "schedule": f"{job.schedule}, {job.stages} stages x {job.microbatches} microbatches"
        + (f", {job.virtual} chunks per stage" if job.virtual > 1 else ""),
        "devices": f"{job.stages}" + (f" x {job.replicas} replicas" if job.replicas > 1 else ""),
        "scope": "the profiled devices" + (" and static power" if job.static_power else "") + ", waiting included",
        "waiting power": f"{show(job.waiting_power, 'W', 4)} per device",
        "frontier": f"{len(plan.time):,} breakpoints in {show(plan.frontier.solve_s, 's')}, {plan.frontier.method}",
    }
    if job.static_power:
        facts["static power"] = f"{show(job.static_power, 'W', 4)} per device"
    return facts


__all__ = ["Found", "Request", "run", "steps", "warm"]
