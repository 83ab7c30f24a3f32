"""A training job in milliseconds, by its steady state: its frontier, one point, and where an iteration's time goes.

For sweeps and searches; no exact solve of the graph, and no knobs. See `iteration` for what the steady state leaves
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..frontier.algebra import Frontier
from ..frontier.answer import NO_RATES, Array, Goal, Rates
from ..frontier.goal import choose
from ..frontier.path import longest_path
from ..hardware.cluster import Cluster
from ..source.base import Device, Source
from ..source.overhead import Overhead
from ..workload.operator import Collective
from .costs import Costs, Work
from .instructions import BACKWARD, FORWARD
from .iteration import steady_iteration
from .job import TrainingJob
from .training import clocks_of, counted, steps_of, stretched_by

CLOCKS = 16  # of the chip's, about


@dataclass(frozen=True)
class Sketch:
    """Seconds and facility joules of a job: the chosen point and maximum clocks."""

    time: float
    energy: float
    base_time: float
    base_energy: float


@dataclass(frozen=True)
class Outline:
    """The frontier of a whole job: (n,) seconds ascending and facility joules; and both at maximum clocks."""

    time: Array
    energy: Array
    base_time: float
    base_energy: float


@dataclass(frozen=True)
class _Steady:
    work: Work
    costs: Costs
    stages: Counter[tuple[int, int]]
    whole: Frontier
    base: tuple[float, float]


def _steady(job: TrainingJob, cluster: Cluster, source: Source) -> _Steady | None:
    # The pieces of an iteration do not depend on how many microbatches it has; the graph of few is soon made.
    few = job.parallel.data * job.microbatch * min(job.microbatches, job.parallel.pipeline)
    work = counted(replace(job, global_batch=few) if job.schedule in ("1f1b", "gpipe", "interleaved") else job)
    stages = _stage_pairs(work)
    if stages is None:
        return None
    clocks = clocks_of(cluster, CLOCKS)
    costs = Costs(Costs.points_of(work, Device(cluster.chip, cluster.node), source, clocks), bare=True)
    costs = costs.stretched(stretched_by(job, cluster, _at_maximum(work, costs, stages, job)[0]))
    hulls = [f.hull() for f in costs.frontiers]
    turns = job.microbatches * job.parallel.virtual  # each stage takes every microbatch once per model chunk
    whole = steady_iteration([(hulls[f], hulls[b], n) for (f, b), n in stages.items()], turns)
    whole = whole + steps_of(work, costs).hull()
    return _Steady(work, costs, stages, whole, _at_maximum(work, costs, stages, job))


def sketch_training(
    job: TrainingJob,
    cluster: Cluster,
    source: Source,
    goal: Goal,
    rates: Rates = NO_RATES,
    power_limit: float | None = None,
) -> Sketch | None:
    """Return the job's chosen point and baseline; None where the schedule has no steady form."""
    found = _steady(job, cluster, source)
    if found is None:
        return None
    whole, (base_time, base_energy) = found.whole, found.base
    over, groups, scale = Overhead.of(cluster), cluster.devices // job.parallel.pipeline, job.iterations / job.goodput
    time = whole.time * scale
    energy = over.total(groups * (whole.energy + whole.waiting_power * whole.time), whole.time) * scale
    choice = choose(time, energy, base_time * scale, goal, rates, power_limit)
    point = whole.by(max(choice.time / scale, float(whole.time[0])))
    chosen = over.total(groups * point.total, point.time) * scale
    base = over.total(groups * base_energy, base_time) * scale
    return Sketch(point.time * scale, chosen, base_time * scale, base)


def outline(job: TrainingJob, cluster: Cluster, source: Source) -> Outline | None:
    """Return the job's frontier up to least energy; None where the schedule has no steady form."""
    found = _steady(job, cluster, source)
    if found is None:
        return None
    over, groups, scale = Overhead.of(cluster), cluster.devices // job.parallel.pipeline, job.iterations / job.goodput
    whole, (base_time, base_energy) = found.whole, found.base
    energy = over.total(groups * (whole.energy + whole.waiting_power * whole.time), whole.time) * scale
    useful = slice(int(energy.argmin()) + 1)
    base = over.total(groups * base_energy, base_time) * scale
    return Outline(whole.time[useful] * scale, energy[useful], base_time * scale, base)


def ledger(job: TrainingJob, cluster: Cluster, source: Source) -> Mapping[str, float]:
    """Return where an iteration's time goes at maximum clocks, seconds by cause; they sum to the whole.

    computation, recomputation (what full or selective recomputation adds to no recomputation), communication (what
    collectives add that nothing hides), bubble (a pipeline that fills and drains, and stages that wait for the
    slowest), step (gradients' exchange and optimizer).
    """
    top = clocks_of(cluster, 1)

    def parts(j: TrainingJob, *, bare: bool) -> tuple[float, float, float]:
        """Return seconds of a device's computations on average, of the rest of the iteration, and of its step."""
        work = counted(j)
        if bare:
            local = [tuple(op for op in ops if not isinstance(op, Collective)) for ops in work.operators]
            work = replace(work, operators=tuple(local))
        costs = Costs(Costs.points_of(work, Device(cluster.chip, cluster.node), source, top), bare=True)
        kinds = np.asarray(work.kinds)[work.graph.kind]
        duration = np.array([float(p.time[-1]) for p in costs.points])
        busy = float(duration[kinds].sum()) / work.graph.devices
        return busy, longest_path(work.dag, duration[kinds]) - busy, max(float(duration[e]) for e in work.steps)

    busy, bubble, step = parts(job, bare=False)
    plain, _, _ = parts(job, bare=True)
    light, _, _ = parts(replace(job, recompute="none"), bare=True)
    return {
        "computation": light, "recomputation": max(plain - light, 0.0), "communication": busy - plain,
        "bubble": bubble, "step": step,
    }  # fmt: skip


def _stage_pairs(work: Work) -> Counter[tuple[int, int]] | None:
    """Return (forward, backward) operators of the stages with how many are alike; None where backward is split.

    Of interleaved stages those of one model chunk: all chunks of a stage are alike.
    """
    entry, devices = dict(zip(work.graph.kinds, work.kinds, strict=True)), work.graph.devices
    if {what for _, what in entry} != {FORWARD, BACKWARD}:
        return None
    pairs = [(entry[chunk, FORWARD], entry[chunk, BACKWARD]) for chunk in range(len(entry) // 2)]
    if any(pair != pairs[chunk % devices] for chunk, pair in enumerate(pairs)):
        return None
    return Counter(pairs[:devices])


def _at_maximum(work: Work, costs: Costs, stages: Counter[tuple[int, int]], job: TrainingJob) -> tuple[float, float]:
    """Return seconds and joules of one pipeline's iteration at maximum clocks, by the steady state."""
    time = [float(p.time[-1]) for p in costs.points]
    energy = [float(p.energy[-1]) - p.waiting_power * t for p, t in zip(costs.points, time, strict=True)]
    cycles = [(time[f] + time[b], n) for (f, b), n in stages.items()]
    turns = job.microbatches * job.parallel.virtual
    seconds = sum(t * n for t, n in cycles) + (turns - 1) * max(t for t, _ in cycles)
    seconds += max(time[e] for e in work.steps)
    joules = turns * sum((energy[f] + energy[b]) * n for (f, b), n in stages.items())
    joules += sum(energy[e] for e in work.steps)
    return seconds, joules + costs.waiting_power * work.graph.devices * seconds
