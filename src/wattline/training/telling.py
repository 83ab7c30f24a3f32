"""A realised training plan told: figures, clocks of every stage, the timeline, how sure, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.provenance import Provenance
from ..frontier.answer import Outcome, Rates
from ..frontier.path import start_times
from ..hardware.cluster import Cluster
from ..source.base import Points
from ..source.overhead import Overhead
from ..workload.train import HIDDEN_GRADIENTS
from .costs import Costs, Iteration, Settings, Work
from .job import TrainingJob


def outcome(i: Iteration, job: TrainingJob, cluster: Cluster, over: Overhead, rates: Rates) -> Outcome:
    """Return an iteration as the whole job's outcome: facility joules by component, and figures."""
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


def knobs(work: Work, costs: Costs, settings: Settings) -> tuple[Mapping[str, Any], ...]:
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


def timeline(work: Work, costs: Costs, settings: Settings) -> tuple[Mapping[str, Any], ...]:
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


def weakest(points: Sequence[Points]) -> str:
    """Return the provenance of the weakest table."""
    return Provenance.weakest(p.provenance for p in points)


# Of models with experts, whose dispatch, balance and host work no term here holds: the spread of published runs.
EXPERTS = 0.4  # training/data/training.toml, spread.experts


def spread(job: TrainingJob, work: Work, costs: Costs, settings: Settings) -> tuple[float, float]:
    """Return the relative uncertainty of chip energy and of time; errors of one source do not average out."""
    kinds = np.asarray(work.kinds)[work.graph.kind]
    energy = np.array([p.energy for p in costs.points])[kinds, settings.nodes]
    time = np.array([p.time for p in costs.points])[kinds, settings.nodes]
    u_energy = np.array([p.uncertainty for p in costs.points])[kinds]
    u_time = np.array([p.time_uncertainty for p in costs.points])[kinds]
    of_time = float(time @ u_time / time.sum())
    if job.model.moe:
        of_time = max(of_time, EXPERTS)
    return float(energy @ u_energy / energy.sum()), of_time


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


def notes(job: TrainingJob, work: Work, costs: Costs, stretch: float) -> tuple[str, ...]:
    """Return what the plan rests on, one sentence each."""
    out = []
    if job.overlap is None:
        said = "all but the first layer's weights are gathered, and gradients reduced, beside computation"
        usual = f"{100 * HIDDEN_GRADIENTS:.0f} % of the gradient exchange is hidden behind the backward pass"
        out.append(f"train.overlap: {said if job.parallel.zero == 3 else usual}")
    out += _split(job, work, costs)
    if stretch > 1:
        out.append(
            f"train.mfu = {job.mfu:.3g} is an input: every step takes {stretch:.2f} times as long as modelled, "
            "for the same switched energy, with the chips' clocks running"
        )
    if job.goodput < 1:
        out.append(f"train.goodput = {job.goodput:.3g}: lost work is done again at the same power")
    if job.model.moe:
        out.append(
            f"experts: published runs of such models spread by {100 * EXPERTS:.0f} % around predictions, some twice as "
            "slow where hosts feed many small kernels; the time may be off by as much"
        )
    if any(p.extrapolated for p in costs.points):
        out.append("extrapolated: some operator shapes lie outside the range the source was fitted on")
    return tuple(out)


def facts(job: TrainingJob, cluster: Cluster) -> dict[str, str]:
    """Return what was planned, in words."""
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
