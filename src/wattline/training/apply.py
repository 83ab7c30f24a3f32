"""What to type to run a training plan: the launcher's flags, one clock for all or one power limit, and the undo.

A plan may name a thousand microbatches; nobody sets those by hand (`wattline.control` follows them). Beside it stand
two plans that anybody can apply, each with what it saves: every chip at one clock, or under one power limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..hardware.cluster import Cluster
from ..source.base import Points
from ..workload.catalog import hub_id
from .job import TrainingJob

# Limits looked at, as shares of the chip's highest, as nvidia-smi takes them in whole watts.
LIMITS: Final = np.arange(0.5, 1.0, 0.025)


@dataclass(frozen=True)
class Simple:
    """One setting for all chips: `value` Hz or W; seconds and facility joules of the whole job."""

    kind: str
    value: float
    time: float
    energy: float


def one_clock(points: Sequence[Points], price: Callable[[Sequence[int]], tuple[float, float]], by: float) -> Simple:
    """Return the single clock of least energy by a time. `price`: a row of each table -> (s, facility J)."""
    clock = points[0].clock
    told = [(*price([at] * len(points)), float(clock[at])) for at in range(len(clock))]
    in_time = [t for t in told if t[0] <= by * (1 + 1e-9)] or [min(told)]
    time, energy, value = min(in_time, key=lambda t: t[1])
    return Simple("clock", value, time, energy)


def one_limit(
    points: Sequence[Points], price: Callable[[Sequence[int]], tuple[float, float]], by: float, most: float
) -> Simple | None:
    """Return the single power limit of least energy by a time: each piece then runs at the highest clock within it."""
    told = []
    for watts in (np.floor(most * share) for share in LIMITS):
        rows = [_within(p, float(watts)) for p in points]
        told.append((*price(rows), float(watts)))
    in_time = [t for t in told if t[0] <= by * (1 + 1e-9)]
    if not in_time:
        return None
    time, energy, value = min(in_time, key=lambda t: t[1])
    return Simple("limit", value, time, energy)


def _within(points: Points, watts: float) -> int:
    power = points.energy / points.time if points.time.all() else np.zeros_like(points.time)
    cool = np.flatnonzero(power <= watts)
    return int(cool[np.argmin(points.time[cool])]) if cool.size else int(np.argmin(power))


def commands(
    job: TrainingJob, cluster: Cluster, simple: Sequence[Simple], baseline: tuple[float, float]
) -> tuple[str, ...]:
    """Return lines to type, comments among them."""
    out = [*_launch(job, cluster)]
    vendor = cluster.chip.name
    amd = vendor.startswith("mi")
    for s in simple:
        saved, slower = 1.0 - s.energy / baseline[1], s.time / baseline[0] - 1.0
        if saved < 5e-4:
            continue
        what = f"{s.value / 1e6:.0f} MHz for all" if s.kind == "clock" else f"{s.value:.0f} W for all"
        out.append(f"# {what}: {100 * saved:.1f} % less energy, {100 * max(slower, 0.0):.1f} % slower")
        if amd:
            out.append(
                f"rocm-smi --setsrange {cluster.chip['clock.min'] / 1e6:.0f} {s.value / 1e6:.0f}  # undo: rocm-smi -r"
                if s.kind == "clock"
                else f"rocm-smi --setpoweroverdrive {s.value:.0f}  # undo: rocm-smi --resetpoweroverdrive"
            )
        elif s.kind == "clock":
            out.append(f"sudo nvidia-smi -lgc {s.value / 1e6:.0f}  # undo: sudo nvidia-smi -rgc")
        else:
            out.append(
                f"sudo nvidia-smi -pl {s.value:.0f}  # undo: sudo nvidia-smi -pl {cluster.chip['power.limit']:.0f}"
            )
    return tuple(out)


def _launch(job: TrainingJob, cluster: Cluster) -> list[str]:
    """Return the launcher with the layout's flags.

    Megatron-LM where the model is split, torchtitan where it is sharded, TRL for adapters and preferences.
    """
    each = min(cluster.chips_per_node, cluster.devices)
    nodes = -(-cluster.devices // each)
    start = f"torchrun --nproc-per-node {each}" + (
        f" --nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint $HOST:29500" if nodes > 1 else ""
    )
    if job.adapter is not None or job.method != "sft":
        return [f"trl {job.method} --num_processes {cluster.devices} --num_machines {nodes} {_trl(job)}"]
    p = job.parallel
    if p.zero == 3 and p.pipeline == 1:
        return [f"{start} -m torchtitan.train {_titan(job)}"]
    return [f"{start} pretrain_gpt.py {_megatron(job)}"]


def _megatron(job: TrainingJob) -> str:
    p = job.parallel
    flags = [
        f"--tensor-model-parallel-size {p.tensor}", f"--pipeline-model-parallel-size {p.pipeline}",
        f"--micro-batch-size {job.microbatch}", f"--global-batch-size {job.global_batch}",
        f"--seq-length {job.sequence}", f"--{job.precision if job.precision in ('bf16', 'fp16') else 'bf16'}",
    ]  # fmt: skip
    if job.precision == "fp8":
        flags.append("--fp8-format hybrid")
    if p.virtual > 1:
        flags.append(f"--num-virtual-stages-per-pipeline-rank {p.virtual}")
    if p.context > 1:
        flags.append(f"--context-parallel-size {p.context}")
    if p.expert > 1:
        flags.append(f"--expert-model-parallel-size {p.expert}")
    if p.sequence:
        flags.append("--sequence-parallel")
    if p.zero:
        flags.append("--use-distributed-optimizer")
    if job.overlap != 0.0:
        flags.append("--overlap-grad-reduce" + (" --overlap-param-gather" if p.zero else ""))
    if job.recompute == "selective":
        flags.append("--recompute-granularity selective")
    elif job.recompute == "full":
        flags.append("--recompute-granularity full --recompute-method uniform --recompute-num-layers 1")
    if job.flash:
        flags.append("--use-flash-attn")
    return " ".join(flags)


def _titan(job: TrainingJob) -> str:
    p = job.parallel
    flags = [
        f"--parallelism.data_parallel_shard_degree {p.data}", f"--parallelism.tensor_parallel_degree {p.tensor}",
        f"--parallelism.context_parallel_degree {p.context}", f"--training.local_batch_size {job.microbatch}",
        f"--training.global_batch_size {job.global_batch}", f"--training.seq_len {job.sequence}",
        f"--training.steps {max(1, round(job.iterations))}",
    ]  # fmt: skip
    mode = {"none": "none", "full": "full"}.get(job.recompute, "selective")
    flags.append(f"--activation_checkpoint.mode {mode}")
    if mode == "selective":
        flags.append("--activation_checkpoint.selective_ac_option op")
    if not job.eager:
        flags.append("--compile.enable")
    if job.precision == "fp8":
        flags.append("--model.converters float8")
    return " ".join(flags)


def _trl(job: TrainingJob) -> str:
    flags = [
        f"--model_name_or_path {hub_id(job.model.name, talking=False)}",
        f"--per_device_train_batch_size {job.microbatch}", f"--gradient_accumulation_steps {job.microbatches}",
        f"--max_length {job.sequence}", f"--{'fp16' if job.precision == 'fp16' else 'bf16'}",
    ]  # fmt: skip
    if job.adapter is not None:
        flags.append(f"--use_peft --lora_r {job.adapter.rank} --lora_target_modules all-linear")
        if job.adapter.base == "nf4":
            flags.append("--load_in_4bit")
    if job.recompute == "full":
        flags.append("--gradient_checkpointing")
    if job.optimizer.moments < 3:
        flags.append("--optim adamw_bnb_8bit")
    return " ".join(flags)
