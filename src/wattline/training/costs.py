"""An iteration counted out, and what each distinct piece of it costs at every clock.

Collectives that are issued ahead run beside the computation of their instruction; an instruction lasts at least as long
as the host takes to launch it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..frontier.algebra import Frontier
from ..frontier.graph import Dag
from ..frontier.path import longest_path
from ..source.base import STANDING, Array, Device, Points, Source, tables
from ..workload.operator import Collective, GroupedGemm, Operator
from ..workload.train import stage_operators
from .instructions import FORWARD
from .job import TrainingJob
from .schedule import Graph, graph, schedule

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
    rows = schedule(job.schedule, parallel.pipeline, job.microbatches, parallel.virtual)
    nodes = graph(rows)
    index: dict[tuple[Operator, ...], int] = {}

    def entry(stage: int, instructions: Sequence[str], share: float = 1.0) -> int:
        operators = tuple(op for what in instructions for op in _operators(job, stage, what))
        if share != 1.0:
            operators = tuple(replace(op, repeat=op.repeat * share) for op in operators)
        return index.setdefault(operators, len(index))

    def chunk_entry(chunk: int, what: str) -> int:
        stage, share = rows.part(chunk)
        return entry(stage, (what,), share)

    # A stage's work is spread evenly over its model chunks.
    kinds = tuple(chunk_entry(chunk, what) for chunk, what in nodes.kinds)
    steps = tuple(entry(stage, _PER_ITERATION) for stage in range(parallel.pipeline))
    dag = Dag(nodes.kind, nodes.edges)
    return Work(nodes, dag, tuple(index), kinds, steps, job.host_time + job.checkpoint_time, job.launch_time)


def _operators(job: TrainingJob, stage: int, instruction: str) -> tuple[Operator, ...]:
    found = stage_operators(
        job.model, job.parallel, job.sequence, job.microbatch, job.precision, job.recompute, stage, instruction,
        flash=job.flash, dropout=job.dropout, fused_linear=job.fused_linear, overlap=job.overlap,
        paired=job.schedule in ("dualpipe", "dualpipe-v"), attention=job.attention, eager=job.eager,
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
