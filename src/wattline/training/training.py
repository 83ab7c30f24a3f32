"""Training: the frontiers of every stage's computations become the frontier of the whole job.

    operators of one microbatch --source--> points per (chunk, instruction), one per clock
      --schedule--> graph of an iteration --exact solve--> frontier of the pipeline
      + gradient exchange and optimizer --x iterations, hosts, network, cooling--> the job's frontier

The goal picks a point; the point unrolls into a clock per stage, instruction and microbatch. What is
reported is that realised plan, with its gap to the exact bound beside it.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import ScenarioError
from ..core.provenance import Provenance
from ..frontier.algebra import Frontier, total
from ..frontier.answer import NO_RATES, Answer, Goal, Outcome, Rates
from ..frontier.goal import Choice, choose
from ..frontier.graph import Dag, GraphFrontier, solve
from ..frontier.path import longest_path, start_times
from ..frontier.periodic import solve_family
from ..frontier.rounding import round_discrete
from ..hardware.chip import clocks as chip_clocks
from ..hardware.cluster import Cluster
from ..source.base import STANDING, Array, Device, Points, Source, tables
from ..source.overhead import Overhead
from ..workload.fits import check_training
from ..workload.memory import LOGIT
from ..workload.operator import Collective, GroupedGemm, Operator
from ..workload.train import HIDDEN_GRADIENTS, stage_operators
from .apply import commands, one_clock, one_limit
from .elasticity import Followed, Weighed, of_mfu, weigh
from .iteration import steady_iteration
from .job import TrainingJob
from .schedule import BACKWARD, FORWARD, Graph, graph, schedule

_PER_ITERATION = ("gradients", "optimizer", "parameters")


@dataclass(frozen=True)
class Work:
    """An iteration counted out: the graph, the operators of each of its kinds, and the step after it.

    `kinds`: kind of the graph -> index into `operators`; `steps`: stage -> index into `operators`;
    `pause`: seconds in which every device waits at the end; `launch`: seconds of the host per kernel launch.
    """

    graph: Graph
    dag: Dag
    operators: tuple[tuple[Operator, ...], ...]
    kinds: tuple[int, ...]
    steps: tuple[int, ...]
    pause: float = 0.0
    launch: float = 0.0


def count_work(job: TrainingJob) -> Work:
    """Return the operators of every stage and instruction of one iteration, equal ones once."""
    parallel = job.parallel
    nodes = graph(schedule(job.schedule, parallel.pipeline, job.microbatches, parallel.virtual))
    index: dict[tuple[Operator, ...], int] = {}

    def entry(stage: int, instructions: Sequence[str], share: float = 1.0) -> int:
        operators = tuple(op for what in instructions for op in _operators(job, stage, what))
        if share != 1.0:
            operators = tuple(replace(op, repeat=op.repeat * share) for op in operators)
        return index.setdefault(operators, len(index))

    # A stage's work is spread evenly over its model chunks.
    kinds = tuple(entry(chunk % parallel.pipeline, (what,), 1.0 / parallel.virtual) for chunk, what in nodes.kinds)
    steps = tuple(entry(stage, _PER_ITERATION) for stage in range(parallel.pipeline))
    dag = Dag(nodes.kind, nodes.edges)
    return Work(nodes, dag, tuple(index), kinds, steps, job.host_time + job.checkpoint_time, job.launch_time)


def _operators(job: TrainingJob, stage: int, instruction: str) -> tuple[Operator, ...]:
    found = stage_operators(
        job.model, job.parallel, job.sequence, job.microbatch, job.precision, job.recompute, stage, instruction,
        flash=job.flash, dropout=job.dropout, fused_linear=job.fused_linear, overlap=job.overlap,
        paired=job.schedule == "dualpipe", attention=job.attention, eager=job.eager,
        optimizer=job.updates, adapter=job.adapter, frozen=job.frozen,
    )  # fmt: skip
    if job.forwards > 1 and instruction == FORWARD:
        return tuple(replace(op, repeat=job.forwards * op.repeat) for op in found)
    return found


@dataclass(frozen=True)
class Costs:
    """Time and energy of every distinct piece of work at every clock. `bare`: no knobs, for sketches."""

    points: tuple[Points, ...]
    bare: bool = False

    @functools.cached_property
    def frontiers(self) -> tuple[Frontier, ...]:
        """The best choices of each."""
        return tuple(p.frontier(bare=self.bare) for p in self.points)

    @staticmethod
    def of(work: Work, device: Device, source: Source, clocks: Array | None = None) -> Costs:
        return Costs(Costs.points_of(work, device, source, clocks))

    @staticmethod
    def points_of(work: Work, device: Device, source: Source, clocks: Array | None) -> tuple[Points, ...]:
        points = _beside(source, work.operators, device, clocks)
        if work.launch:
            points = [_fed(p, work.launch * launches(ops)) for p, ops in zip(points, work.operators, strict=True)]
        steps = set(work.steps)
        return tuple(_paused(p, work.pause) if entry in steps else p for entry, p in enumerate(points))

    def stretched(self, factor: float) -> Costs:
        if factor == 1.0:
            return self
        return replace(self, points=tuple(p.stretched(factor) for p in self.points))

    @property
    def waiting_power(self) -> float:
        return self.points[0].waiting_power


def _beside(
    source: Source, pieces: Sequence[tuple[Operator, ...]], device: Device, clocks: Array | None
) -> Sequence[Points]:
    """Return tables of pieces whose collectives issued ahead run beside the rest, as long as that lasts."""
    ahead = [tuple(op for op in piece if isinstance(op, Collective) and op.ahead) for piece in pieces]
    if not any(ahead):
        return tables(source, pieces, device, clocks)
    rest = [tuple(op for op in piece if op not in some) for piece, some in zip(pieces, ahead, strict=True)]
    sent = [tuple(replace(op, overlap=0.0) for op in some) for some in ahead if some]
    taken = COMMUNICATION_UNITS / max(device.chip["compute.units"], 2 * COMMUNICATION_UNITS)
    found = list(tables(source, [*rest, *sent], device, clocks))
    beside = iter(found[len(pieces) :])
    return [
        _joined(main, next(beside), max(op.overlap for op in some), taken) if some else main
        for main, some in zip(found[: len(pieces)], ahead, strict=True)
    ]


def _joined(main: Points, sent: Points, share: float, taken: float) -> Points:
    """Return computation with communication beside it, of which at most `share` can hide.

    While they run side by side, communication holds the share `taken` of the compute units.
    """
    shown = np.maximum((1.0 - share) * sent.time, sent.time - main.time)
    shown = shown + taken * (sent.time - shown)
    time = main.time + shown
    # What hides draws no waiting power of its own: its device is at work.
    parts = {name: np.asarray(joules) for name, joules in main.parts.items()}
    for name, joules in sent.parts.items():
        kept = joules * np.where(sent.time > 0, shown / np.where(sent.time > 0, sent.time, 1.0), 0.0)
        parts[name] = parts.get(name, np.zeros_like(time)) + (kept if name in STANDING else joules)
    weight = main.time / np.where(time > 0, time, 1.0)
    error = float(np.max(weight * main.time_uncertainty + (1.0 - weight) * sent.time_uncertainty))
    return replace(
        main, time=time, parts=parts, time_uncertainty=error, extrapolated=main.extrapolated or sent.extrapolated
    )


# Compute units that collectives beside computation hold: 20 of the 132 of an H800 in DeepSeek-V3's training
# (arXiv 2412.19437, section 3.2.2); NCCL takes up to 24 or 32 channels of one unit each on NVSwitch.
COMMUNICATION_UNITS = 20.0


def launches(operators: Sequence[Operator]) -> float:
    """Return kernels that the host launches: a product over experts is one for each expert held."""
    return sum(op.repeat * (op.local_experts if isinstance(op, GroupedGemm) else op.launches) for op in operators)


def _fed(points: Points, seconds: float) -> Points:
    """Return work that lasts at least as long as the host takes to launch it."""
    idle = np.maximum(seconds - points.time, 0.0)
    waiting = points.parts.get("waiting", np.zeros_like(points.time)) + points.waiting_power * idle
    return replace(points, time=points.time + idle, parts={**points.parts, "waiting": waiting})


def _paused(points: Points, seconds: float) -> Points:
    """Return work followed by a wait."""
    if not seconds:
        return points
    waiting = points.parts.get("waiting", np.zeros_like(points.time)) + points.waiting_power * seconds
    return replace(points, time=points.time + seconds, parts={**points.parts, "waiting": waiting})


@dataclass(frozen=True)
class Settings:
    """A realised plan: for each node of the graph and each stage's step, which clock (index)."""

    nodes: np.ndarray[Any, np.dtype[np.int64]]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Iteration:
    """One iteration run under given settings: seconds, joules of all chips, joules by component."""

    time: float
    energy: float
    parts: Mapping[str, float]


def run(work: Work, points: Sequence[Points], settings: Settings, groups: int) -> Iteration:
    """Return the iteration that `settings` give: the longest path, then the slowest stage's step.

    `groups`: devices that do the same as each pipeline device (tensor x context x data).
    """
    kinds = np.asarray(work.kinds)[work.graph.kind]
    duration, busy = np.empty(len(kinds)), 0.0
    parts: dict[str, float] = defaultdict(float)
    for entry in np.unique(kinds):
        mine = kinds == entry
        chosen = settings.nodes[mine]
        p = points[int(entry)]
        duration[mine] = p.time[chosen]
        busy += float(p.time[chosen].sum())
        uses = np.bincount(chosen, minlength=len(p.time))
        for name, joules in p.parts.items():
            parts[name] += float(uses @ joules)
    step = 0.0
    for entry, at in zip(work.steps, settings.steps, strict=True):
        p = points[entry]
        step, busy = max(step, float(p.time[at])), busy + float(p.time[at])
        for name, joules in p.parts.items():
            parts[name] += float(joules[at])
    time = longest_path(work.dag, duration) + step
    parts["waiting"] += points[0].waiting_power * (work.graph.devices * time - busy)
    parts = {name: groups * joules for name, joules in parts.items()}
    return Iteration(time, sum(parts.values()), parts)


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
    work = _counted(job)
    device = Device(cluster.chip, cluster.node)
    costs = Costs.of(work, device, source, _clocks(cluster, _PLAN_CLOCKS))
    over = Overhead.of(cluster)
    groups = cluster.devices // job.parallel.pipeline
    top = int(np.argmax(costs.points[0].clock))
    fastest = Settings(np.full(len(work.graph.kind), top), (top,) * len(work.steps))
    stretch = _stretch(job, cluster, run(work, costs.points, fastest, groups).time)
    costs = costs.stretched(stretch)
    baseline = run(work, costs.points, fastest, groups)

    limited = power_limit is not None or goal.kind == "power"
    pipeline = _pipeline(job, work, costs, over, groups, limited=limited)
    whole = total([_as_frontier(pipeline), _steps(work, costs).hull()])
    scale = job.iterations / job.goodput
    time = whole.time * scale
    energy = over.total(groups * (whole.energy + whole.waiting_power * whole.time), whole.time) * scale
    base_time = baseline.time * scale
    choice = choose(time, energy, base_time, goal, rates, power_limit)
    settings, bound = _realise(work, costs, pipeline, whole, choice.time / scale)
    chosen = run(work, costs.points, settings, groups)
    # Beyond least energy only a power limit asks for more time.
    useful = slice(None) if limited else slice(int(np.argmin(energy)) + 1)
    outcomes = [_outcome(i, job, cluster, over, rates) for i in (chosen, baseline)]
    bound_energy = over.total(groups * bound[1], bound[0]) * scale
    spread = _spread(work, costs, settings)
    return Answer(
        kind="training",
        title=title or f"{job.model.name} on {cluster.devices} x {cluster.chip.name}",
        work="the whole job",
        time_s=time[useful],
        energy_j=energy[useful],
        power_w=energy[useful] / time[useful],
        chosen=replace(outcomes[0], knobs=_knobs(work, costs, settings)),
        baseline=replace(outcomes[1], knobs=({"scope": "all", "clock_hz": float(costs.points[0].clock[top])},)),
        goal=choice.text,
        elasticity=_elasticity(job, work, cluster, source, costs, pipeline, whole, choice, stretch) if detail else {},
        provenance=_weakest(costs.points),
        sources=tuple(sorted({p.source for p in costs.points if p.source})),
        uncertainty=over.uncertainty(spread[0], chosen.energy, chosen.time),
        time_uncertainty=spread[1],
        assumptions=(*assumptions, *_notes(job, work, costs, stretch), f"memory: {memory.text}"),
        facts={**_facts(job, cluster), "memory": memory.text},
        certificate={
            "bound_j": bound_energy,
            "gap": outcomes[0].energy_j / bound_energy - 1.0,
            "breakpoints": float(len(pipeline.time)),
            "solve_s": pipeline.solve_s,
        },
        timeline=_timeline(work, costs, settings) if detail else (),
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


@dataclass(frozen=True)
class Sketch:
    """Seconds and facility joules of a job: the chosen point and maximum clocks."""

    time: float
    energy: float
    base_time: float
    base_energy: float


def sketch_training(
    job: TrainingJob,
    cluster: Cluster,
    source: Source,
    goal: Goal,
    rates: Rates = NO_RATES,
    power_limit: float | None = None,
) -> Sketch | None:
    """Return the job's chosen point and baseline by the steady state alone.

    For sweeps: milliseconds instead of the graph's exact solve, and no knobs. None where the schedule
    has no steady form. See `steady` for what it leaves out.
    """
    work = _counted(job)
    stages = _stage_pairs(work)
    if stages is None:
        return None
    clocks = _clocks(cluster, _SKETCH_CLOCKS)
    costs = Costs(Costs.points_of(work, Device(cluster.chip, cluster.node), source, clocks), bare=True)
    costs = costs.stretched(_stretch(job, cluster, _at_maximum(work, costs, stages, job)[0]))
    over, groups, scale = Overhead.of(cluster), cluster.devices // job.parallel.pipeline, job.iterations / job.goodput
    base_time, base_energy = _at_maximum(work, costs, stages, job)
    hulls = [f.hull() for f in costs.frontiers]
    turns = job.microbatches * job.parallel.virtual  # each stage takes every microbatch once per model chunk
    whole = steady_iteration([(hulls[f], hulls[b], n) for (f, b), n in stages.items()], turns)
    whole = whole + _steps(work, costs).hull()
    time = whole.time * scale
    energy = over.total(groups * (whole.energy + whole.waiting_power * whole.time), whole.time) * scale
    choice = choose(time, energy, base_time * scale, goal, rates, power_limit)
    point = whole.by(max(choice.time / scale, float(whole.time[0])))
    chosen = over.total(groups * point.total, point.time) * scale
    base = over.total(groups * base_energy, base_time) * scale
    return Sketch(point.time * scale, chosen, base_time * scale, base)


# Clocks looked at, evenly spread: with 32 of a chip's 110 the plan of the shipped examples costs about
# 0.01 % more energy than with all of them (bench/plan.py prints it), far within what is known of any chip.
_PLAN_CLOCKS = 32
_SKETCH_CLOCKS = 16


def _clocks(cluster: Cluster, most: int) -> Array:
    """Return at most about `most` of the chip's clocks, the highest always among them."""
    every = chip_clocks(cluster.chip)
    return every[:: -max(1, round(len(every) / most))][::-1]


_counted = functools.lru_cache(maxsize=64)(count_work)


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


def _stretch(job: TrainingJob, cluster: Cluster, modelled: float) -> float:
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


def _steps(work: Work, costs: Costs) -> Frontier:
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


# ---- telling it ----------------------------------------------------------------------------------


def _outcome(i: Iteration, job: TrainingJob, cluster: Cluster, over: Overhead, rates: Rates) -> Outcome:
    scale = job.iterations / job.goodput
    time, parts = i.time * scale, over.breakdown(i.parts, i.time)
    energy = sum(parts.values()) * scale
    figures = {
        "chip_energy_j": i.energy * scale,
        "chip_power_w": i.energy / (i.time * cluster.devices),
        **training_figures(job, cluster, time, energy),
        **rates.figures(energy),
    }
    return Outcome(time, energy, energy / time, {k: v * scale for k, v in parts.items()}, figures=figures)


def training_figures(job: TrainingJob, cluster: Cluster, time: float, energy: float) -> dict[str, float]:
    """Return what a job's seconds and joules come to per iteration, per token and against the chips' peak."""
    peak = cluster.devices * cluster.chip[f"compute.rate.{job.precision}"]
    return {
        "iteration_s": time * job.goodput / job.iterations,
        "iteration_energy_j": energy * job.goodput / job.iterations,
        "tokens_per_s": job.tokens / time,
        "energy_per_token_j": energy / job.tokens,
        "host_s": job.host_time,
        "checkpoint_s": job.checkpoint_time,
        "mfu": job.useful_flops * job.iterations / (time * job.goodput * peak),
    }


def _knobs(work: Work, costs: Costs, settings: Settings) -> tuple[Mapping[str, Any], ...]:
    """Return one knob per (chunk, instruction, clock), with the microbatches it holds for."""
    clock = costs.points[0].clock
    out: list[Mapping[str, Any]] = []
    for k, (chunk, what) in enumerate(work.graph.kinds):
        mine = work.graph.kind == k
        device = int(work.graph.device[mine][0])
        for at in np.unique(settings.nodes[mine])[::-1]:
            batches = np.sort(work.graph.microbatch[mine & (settings.nodes == at)])
            out.append({
                "stage": device, "chunk": chunk, "instruction": what, "clock_hz": float(clock[at]),
                "microbatches": batches.tolist(),
            })  # fmt: skip
    for stage, at in enumerate(settings.steps):
        out.append({"stage": stage, "instruction": "step", "clock_hz": float(clock[at])})
    return tuple(out)


def _timeline(work: Work, costs: Costs, settings: Settings) -> tuple[Mapping[str, Any], ...]:
    """Return who runs when, at what clock."""
    kinds = np.asarray(work.kinds)[work.graph.kind]
    duration = np.array([p.time for p in costs.points])[kinds, settings.nodes]
    start = start_times(work.dag, duration)
    clock = costs.points[0].clock[settings.nodes]
    names = [work.graph.kinds[k][1] for k in work.graph.kind]
    rows = zip(work.graph.device, work.graph.microbatch, names, start, duration, clock, strict=True)
    return tuple(
        {
            "stage": int(d),
            "microbatch": int(m),
            "instruction": n,
            "start_s": float(s),
            "time_s": float(t),
            "clock_hz": float(c),
        }
        for d, m, n, s, t, c in rows
    )


def _weakest(points: Sequence[Points]) -> str:
    return Provenance.weakest(p.provenance for p in points)


def _spread(work: Work, costs: Costs, settings: Settings) -> tuple[float, float]:
    """Return the relative uncertainty of chip energy and of time; errors of one source do not average out."""
    kinds = np.asarray(work.kinds)[work.graph.kind]
    energy = np.array([p.energy for p in costs.points])[kinds, settings.nodes]
    time = np.array([p.time for p in costs.points])[kinds, settings.nodes]
    u_energy = np.array([p.uncertainty for p in costs.points])[kinds]
    u_time = np.array([p.time_uncertainty for p in costs.points])[kinds]
    return float(energy @ u_energy / energy.sum()), float(time @ u_time / time.sum())


# Share by which the slowest stage may exceed the mean before another split of the layers is worth a word.
UNEVEN = 0.03


def _split(job: TrainingJob, work: Work, costs: Costs) -> list[str]:
    """Say where stages are uneven and which layers per stage would even them, before clocks save on the waits.

    The first and the last stage hold the embedding and the head beside their layers; a layer's time is that of the
    stages between, or of the least loaded one.
    """
    stages, model = job.parallel.pipeline, job.model
    if stages < 3 or job.parallel.virtual > 1 or len(set(model.pattern)) > 1 or job.schedule not in ("1f1b", "gpipe"):
        return []
    top = int(np.argmax(costs.points[0].clock))
    busy = np.zeros(stages)
    for (chunk, _), entry in zip(work.graph.kinds, work.kinds, strict=True):
        busy[chunk % stages] += float(costs.points[entry].time[top])
    layers = np.array(job.parallel.counts(model.layers), dtype=float)
    each = float(np.median(busy[1:-1] / layers[1:-1]))
    beside = np.maximum(busy - each * layers, 0.0)
    if not each > 0 or busy.max() < (1 + UNEVEN) * busy.mean():
        return []
    counts = np.ones(stages)
    for _ in range(model.layers - stages):  # each layer to the stage that is done first with it
        counts[int(np.argmin((counts + 1) * each + beside))] += 1
    better = float((counts * each + beside).max())
    if better > busy.max() * (1 - UNEVEN / 2):
        return []
    text = ",".join(f"{n:.0f}" for n in counts)
    longer, shorter = 100 * (busy.max() / busy.mean() - 1), 100 * (1 - better / busy.max())
    return [
        f"stages are uneven: the slowest takes {longer:.0f} % longer than the mean; "
        f'train.stages = "{text}" would shorten it by about {shorter:.0f} %, before any clock is set'
    ]


def _notes(job: TrainingJob, work: Work, costs: Costs, stretch: float) -> tuple[str, ...]:
    out = []
    if job.overlap is None:
        said = "all but the first layer's weights are gathered, and gradients reduced, beside computation"
        usual = f"{100 * HIDDEN_GRADIENTS:.0f} % of the gradients' exchange hides behind the backward pass"
        out.append(f"train.overlap: {said if job.parallel.zero == 3 else usual}")
    out += _split(job, work, costs)
    if stretch > 1:
        out.append(
            f"train.mfu = {job.mfu:.3g} is an input: every step takes {stretch:.2f} times as long as modelled, "
            "for the same switched energy, with the chips' clocks running"
        )
    if job.goodput < 1:
        out.append(f"train.goodput = {job.goodput:.3g}: lost work is done again at the same power")
    if any(p.extrapolated for p in costs.points):
        out.append("extrapolated: some operator shapes lie outside the range the source was fitted on")
    return tuple(out)


def _facts(job: TrainingJob, cluster: Cluster) -> dict[str, str]:
    p = job.parallel
    return {
        "model": job.model.name,
        "chips": f"{cluster.devices} x {cluster.chip.title}",
        "node": cluster.node.title,
        "parallelism": f"tensor {p.tensor} x pipeline {p.pipeline} x data {p.data} x context {p.context}, "
        f"expert {p.expert}",
        "schedule": f"{job.schedule}, {job.microbatches} microbatches of {job.microbatch} x {job.sequence} tokens",
        "iterations": f"{job.iterations:,.0f}",
    }


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
