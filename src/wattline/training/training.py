"""Training: the frontiers of every stage's computations become the frontier of the whole job.

    operators of one microbatch --source--> points per (chunk, instruction), one per clock
      --schedule--> graph of an iteration --exact solve--> frontier of the pipeline
      + gradient exchange and optimizer --x iterations, hosts, network, cooling--> the job's frontier

The goal picks a point; the point unrolls into a clock per stage, instruction and microbatch. What is
reported is that realised plan, with its gap to the exact bound beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import ScenarioError
from ..frontier.algebra import Frontier, total
from ..frontier.answer import NO_RATES, Answer, Goal, Rates
from ..frontier.goal import Choice, choose
from ..frontier.graph import Dag, GraphFrontier, solve
from ..frontier.periodic import solve_family
from ..frontier.rounding import round_discrete
from ..hardware.chip import clocks as chip_clocks
from ..hardware.cluster import Cluster
from ..source.base import Array, Device, Points, Source
from ..source.overhead import Overhead
from ..workload.fits import check_training
from ..workload.memory import LOGIT
from .apply import commands, one_clock, one_limit
from .costs import Costs, Settings, Work, count_work, run
from .elasticity import Followed, Weighed, of_mfu, weigh
from .job import TrainingJob
from .schedule import graph, schedule
from .switching import switching, unhurried
from .telling import facts, knobs, notes, outcome, spread, timeline, weakest


def plan_training(
    job: TrainingJob,
    cluster: Cluster,
    source: Source,
    goal: Goal,
    rates: Rates = NO_RATES,
    *,
    power_limit: float | None = None,
    detail: bool = True,
    title: str = "",
    assumptions: tuple[str, ...] = (),
) -> Answer:
    """Return the plan of a training job under a goal. Energies are the facility's, times wall time."""
    memory = check_training(
        job.model, job.parallel, job.sequence, job.microbatch, job.microbatches, cluster.chip["memory.hbm.capacity"],
        recompute=job.recompute, flash=job.flash, schedule=job.schedule, dropout=job.dropout, optimizer=job.updates,
        usable=job.memory, sure=True, precision=job.precision, adapter=job.adapter, frozen=job.frozen, logit=LOGIT,
        chunks=job.loss_chunks,
    )  # fmt: skip
    work = counted(job)
    device = Device(cluster.chip, cluster.node)
    costs = Costs.of(work, device, source, clocks_of(cluster, _PLAN_CLOCKS))
    over = Overhead.of(cluster)
    groups = cluster.devices // job.parallel.pipeline
    top = int(np.argmax(costs.points[0].clock))
    fastest = Settings(np.full(len(work.graph.kind), top), (top,) * len(work.steps))
    stretch = stretched_by(job, cluster, run(work, costs.points, fastest, groups).time)
    costs = costs.stretched(stretch)
    baseline = run(work, costs.points, fastest, groups)

    limited = power_limit is not None or goal.kind == "power"
    pipeline = _pipeline(job, work, costs, over, groups, limited=limited)
    whole = total([_as_frontier(pipeline), steps_of(work, costs).hull()])
    scale = job.iterations / job.goodput
    time = whole.time * scale
    energy = over.total(groups * (whole.energy + whole.waiting_power * whole.time), whole.time) * scale
    base_time = baseline.time * scale
    choice = choose(time, energy, base_time, goal, rates, power_limit)
    settings, bound = _realise(work, costs, pipeline, whole, choice.time / scale)
    chosen = run(work, costs.points, settings, groups)
    # Beyond least energy only a power limit asks for more time.
    useful = slice(None) if limited else slice(int(np.argmin(energy)) + 1)
    outcomes = [outcome(i, job, cluster, over, rates) for i in (chosen, baseline)]
    bound_energy = over.total(groups * bound[1], bound[0]) * scale
    unsure = spread(job, work, costs, settings)
    latency = cluster.chip.get("clock.switch", 0.0) if detail else 0.0
    held = run(work, costs.points, unhurried(work, costs, settings, latency), groups)
    return Answer(
        kind="training",
        title=title or f"{job.model.name} on {cluster.devices} x {cluster.chip.name}",
        work="the whole job",
        time_s=time[useful],
        energy_j=energy[useful],
        power_w=energy[useful] / time[useful],
        chosen=replace(outcomes[0], knobs=knobs(work, costs, settings)),
        baseline=replace(outcomes[1], knobs=({"scope": "all", "clock_hz": float(costs.points[0].clock[top])},)),
        goal=choice.text,
        elasticity=_elasticity(job, work, cluster, source, costs, pipeline, whole, choice, stretch) if detail else {},
        provenance=weakest(costs.points),
        sources=tuple(sorted({p.source for p in costs.points if p.source})),
        uncertainty=over.uncertainty(unsure[0], chosen.energy, chosen.time),
        time_uncertainty=unsure[1],
        assumptions=(
            *assumptions,
            *notes(job, work, costs, stretch),
            *switching(cluster.chip, latency, [i.energy for i in (baseline, chosen, held)], held.time / baseline.time),
            f"memory: {memory.text}",
        ),
        facts={**facts(job, cluster), "memory": memory.text},
        certificate={
            "bound_j": bound_energy,
            "gap": outcomes[0].energy_j / bound_energy - 1.0,
            "breakpoints": float(len(pipeline.time)),
            "solve_s": pipeline.solve_s,
        },
        timeline=timeline(work, costs, settings) if detail else (),
        apply=_apply(job, work, cluster, costs, choice.time, scale) if detail else (),
    )


def _apply(
    job: TrainingJob, work: Work, cluster: Cluster, costs: Costs, by: float, scale: float
) -> tuple[str, ...]:  # fmt: skip
    """Return what to type: the launcher, and the best single clock and power limit within the goal's time."""
    kinds = np.asarray(work.kinds)[work.graph.kind]
    over, groups, cache = (
        Overhead.of(cluster),
        cluster.devices // job.parallel.pipeline,
        dict[tuple[int, ...], tuple[float, float]](),
    )

    def price(rows: Sequence[int]) -> tuple[float, float]:
        key = tuple(rows)
        if key not in cache:
            settings = Settings(np.asarray(rows)[kinds], tuple(rows[e] for e in work.steps))
            found = run(work, costs.points, settings, groups)
            cache[key] = found.time * scale, over.total(found.energy, found.time) * scale
        return cache[key]

    baseline = price([int(np.argmax(costs.points[0].clock))] * len(costs.points))
    clock = one_clock(costs.points, price, max(by, baseline[0]))
    limit = one_limit(costs.points, price, max(by, baseline[0]), cluster.chip["power.limit"])
    return commands(job, cluster, [s for s in (clock, limit) if s is not None], baseline)


# Clocks looked at, evenly spread: with 32 of a chip's 110 the plan of the shipped examples costs about
# 0.01 % more energy than with all of them (bench/plan.py prints it), far within what is known of any chip.
_PLAN_CLOCKS = 32


def clocks_of(cluster: Cluster, most: int) -> Array:
    """Return at most about `most` of the chip's clocks, the highest always among them."""
    every = chip_clocks(cluster.chip)
    return every[:: -max(1, round(len(every) / most))][::-1]


counted = functools.lru_cache(maxsize=64)(count_work)


def stretched_by(job: TrainingJob, cluster: Cluster, modelled: float) -> float:
    """Return by how much a stated MFU stretches the modelled step (seconds, at maximum clocks)."""
    if job.mfu is None:
        return 1.0
    peak = cluster.chip[f"compute.rate.{job.precision}"] * cluster.devices
    stated = job.useful_flops / (job.mfu * peak)
    if stated < modelled:
        raise ScenarioError(
            f"train.mfu = {job.mfu:.3g} is more than the model of the step reaches at maximum clocks, "
            f"{job.useful_flops / (modelled * peak):.3g}; leave train.mfu out or state less"
        )
    return stated / modelled


def _pipeline(
    job: TrainingJob, work: Work, costs: Costs, over: Overhead, groups: int, *, limited: bool
) -> GraphFrontier:
    hulls = [(h.time, h.energy) for h in (costs.frontiers[entry].hull() for entry in work.kinds)]
    waiting = costs.waiting_power * work.graph.devices
    # Slower than least facility energy is of no use, unless a power limit asks for it. A second
    # costs the waiting chips and, per group, its share of everything that stands around them.
    price = 0.0 if limited else waiting + over.standing / groups
    stages, virtual, count = job.parallel.pipeline, job.parallel.virtual, job.microbatches

    def make(microbatches: int) -> Dag:
        if microbatches == count:
            return work.dag
        g = graph(schedule(job.schedule, stages, microbatches, virtual))
        return Dag(g.kind, g.edges)

    if job.schedule not in ("1f1b", "zb-h1"):  # the others do not repeat, or take only some numbers of microbatches
        return solve(work.dag, hulls, waiting, start_price=price)
    return solve_family(make, count, hulls, waiting, price, base=2 * stages)


def _as_frontier(g: GraphFrontier) -> Frontier:
    """Wrap the solved graph as one piece of work of the waist."""
    return Frontier.of(
        g.time, g.energy, waiting_power=g.waiting_power, knobs=[{"graph": i} for i in range(len(g.time))]
    ).hull()


def steps_of(work: Work, costs: Costs) -> Frontier:
    """Every stage's gradient exchange and optimizer side by side: all wait for the slowest."""
    out: Frontier = total([])
    for entry in sorted(set(work.steps)):
        out = out & costs.frontiers[entry].copies(work.steps.count(entry))
    return out


def _realise(
    work: Work, costs: Costs, pipeline: GraphFrontier, whole: Frontier, time: float
) -> tuple[Settings, tuple[float, float]]:
    """Round the exact optimum at `time` to one clock per computation; return it and the bound's (time, joules)."""
    point = whole.by(max(time, float(whole.time[0])))
    in_graph = sum(c.time for c in point.plan if "graph" in c.knobs)
    slack = point.time - in_graph
    steps = tuple(_by(costs.frontiers[entry], slack) for entry in work.steps)
    used = max(float(costs.points[e].time[i]) for e, i in zip(work.steps, steps, strict=True))
    options = [(costs.frontiers[e].time, costs.frontiers[e].energy) for e in work.kinds]
    plan = round_discrete(work.dag, pipeline, options, in_graph + max(0.0, slack - used))
    origin = [costs.frontiers[e].indices for e in work.kinds]
    nodes = np.array([origin[k][o] for k, o in zip(work.graph.kind, plan.option, strict=True)])
    return Settings(nodes, steps), (point.time, point.total)


def _by(frontier: Frontier, deadline: float) -> int:
    """Return the clock index of the best single setting by a deadline, or of the fastest."""
    return frontier.by(max(deadline, float(frontier.time[0]))).plan[0].index


# ---- elasticities --------------------------------------------------------------------------------


def _elasticity(
    job: TrainingJob, work: Work, cluster: Cluster, source: Source, costs: Costs, pipeline: GraphFrontier,
    whole: Frontier, choice: Choice, stretch: float,
) -> dict[str, float]:  # fmt: skip
    """Return d ln E / d ln parameter for the same deadline (`elasticity`)."""
    clocks, scale = costs.points[0].clock, job.iterations / job.goodput
    nodes = np.asarray(work.kinds)[work.graph.kind]
    deadline = choice.time / scale
    followed = Followed.near(
        work.dag, nodes, np.asarray(work.steps), work.graph.devices, pipeline, whole, costs.frontiers, deadline
    )

    def ask(changed: Cluster, answers: Source) -> list[Points]:
        points = Costs.points_of(work, Device(changed.chip, changed.node), answers, clocks)
        return [p.stretched(stretch) for p in points]

    weighed = Weighed(followed, ask, cluster.devices // job.parallel.pipeline, deadline)
    out = weigh(weighed, cluster, source)
    if job.mfu is not None:
        out["train.mfu"] = of_mfu(weighed, cluster, costs.points)
    return out
