"""The mean step of an engine that batches continuously, and what a token costs in it.

    requests finish and new ones enter --> some steps carry prompts, the others only decode
    mean step = (1 - share) * decode step + share * mixed step

In the steady state of `batch` running requests with `output` tokens each, batch / output requests
end and enter per step, so each output token carries prompt / output tokens of prefill.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CapacityError, InputError
from ..hardware.chip import clocks as lockable
from ..source.base import Array, Device, Points, Source
from ..workload.infer import AS_STORED, Precision, expected_share, step_operators
from ..workload.memory import max_batch
from ..workload.model import Model
from ..workload.operator import Attention, Gemm, Operator
from ..workload.parallel import Parallel
from .engine import (
    Beat,
    Constants,
    Inquiry,
    Parts,
    Piece,
    Table,
    assemble,
    busiest,
    constants,
    largest,
    rows_from,
    spread,
    sums,
)
from .factors import scaled
from .profile import VLLM, Engine, Profile, as_run, profile, scheme

# Clocks at which a step is worked out before the power limit is applied; in between, straight lines.
_GRID: Final = 12


# What takes as much longer as processes share a core.
_HOST: Final = (
    "host.step", "host.team", "host.sequence", "host.prompt", "host.visual", "host.launch", "first.request",
    "first.token",
)  # fmt: skip

# Variance of the popularity of experts relative to its mean. Of 0, 1/4, 1/2 and 1, a half and 1 do equally
# well on H100 rows of model families left out (ML.ENERGY leaderboard v3), and better than uniform routing.
TASTE: Final = 0.5


@functools.cache
def _favourite(experts: int) -> float:
    """Return the popularity of the most popular of `experts` over their mean: the quantile 1 - 1/experts of a gamma
    law of mean 1 and variance `TASTE`, as Wilson and Hilferty have it (PNAS 1931)."""
    z = NormalDist().inv_cdf(1.0 - 1.0 / max(experts, 2))
    return float((1.0 - TASTE / 9.0 + z * math.sqrt(TASTE) / 3.0) ** 3)


# ------------------------------------------------------------------ what is asked
@dataclass(frozen=True, kw_only=True)
class Load:
    """What the requests are like, mean over requests.

    Attributes
    ----------
    prompt, output : tokens in and out of a request.
    context : tokens that a running request has generated so far; half the output where None. Longer
        than that where lengths vary, for long requests run longer.
    visual : tokens of images or video frames in the prompt, besides `prompt`.
    patches : patches the vision encoder reads for them, in `frames` pictures that attend apart.
    cached : share of the prompt tokens that the prefix cache already holds, in [0, 1).
    """

    prompt: float
    output: float
    context: float | None = None
    visual: float = 0.0
    patches: float = 0.0
    frames: float = 1.0
    cached: float = 0.0

    def __post_init__(self) -> None:
        if self.prompt < 0 or self.output < 1 or self.visual < 0 or self.patches < 0 or self.entering < 1:
            raise InputError(
                f"a request has a prompt and at least 1 output token, got prompt = {self.prompt:g}, "
                f"visual = {self.visual:g}, output = {self.output:g}"
            )

    @property
    def entering(self) -> float:
        """Prompt tokens, visual ones included."""
        return self.prompt + self.visual

    @property
    def fresh(self) -> float:
        """Prompt tokens to be computed."""
        return max(self.entering * (1.0 - self.cached), 1.0)

    @property
    def seen(self) -> float:
        """Mean tokens in the cache of a running request, the new one included."""
        generated = self.output / 2.0 if self.context is None else self.context
        return self.entering + generated + 1.0


@dataclass(frozen=True, kw_only=True)
class Replica:
    """What serves them: a model laid over devices, and how its engine is set.

    Attributes
    ----------
    chunk : most tokens of a step.
    asynchronous : whether the host prepares a step while the device runs the one before.
    memory : share of the device memory that the engine may fill.
    graph : largest decode batch whose kernels are launched as one captured graph, 0 where none is; what the
        engine captures where None.
    engine : what runs it, see `profile.Engine`.
    patches : patches that the vision encoder reads per prompt token, in pictures of `picture` patches.
    adapters : rank of low-rank adapters (LoRA) and how many take turns among the requests; (0, 0) for none.
    overhead : seconds that a request waits outside the engine's steps until its first token is seen (HTTP,
        tokeniser, first flush); the engine's own where None.
    factors : what this engine on this host takes over the shipped constants, see `factors.FACTORS`.
    neighbours : replicas on the same host, this one included; as many as fit the node where None.
    cores : processor cores a device has for its engine; enough where None.
    balanced : whether data-parallel groups wait to read prompts together, so that none is the busiest.
    """

    model: Model
    parallel: Parallel
    precision: Precision = AS_STORED
    chunk: float = 8192.0
    asynchronous: bool = True
    memory: float = 0.9
    graph: float | None = None
    neighbours: float | None = None
    engine: Engine = VLLM
    overhead: float | None = None
    balanced: bool = False
    cores: float | None = None
    factors: tuple[tuple[str, float], ...] = ()
    patches: float = 0.0
    picture: float = 1.0
    adapters: tuple[int, int] = (0, 0)

    def profile(self, device: Device) -> Profile:
        """Return what the engine does with the model on this device."""
        return profile(self.engine, self.model, device.chip.tags.get("architecture", ""))

    def captured(self, device: Device) -> float:
        """Return the largest decode batch that is launched as one graph."""
        return self.profile(device).graph if self.graph is None else self.graph

    def ahead(self, device: Device) -> bool:
        """Return whether the host works while the device does: where the engine can, unless switched off."""
        return self.asynchronous and self.profile(device).asynchronous

    def constants(self, device: Device) -> Constants:
        """Return the fitted constants of this engine on this chip; what one request waits for besides, where stated."""
        found = constants(device.chip.tags.get("architecture", ""), factors=self.profile(device).factors)
        found = scaled(found, dict(self.factors)) if self.factors else found
        stages = self.parallel.pipeline
        if stages > 1:  # the host prepares a step of every microbatch in a round
            found = {**found, "host.step": stages * found["host.step"], "host.team": stages * found["host.team"]}
        found = self.launched(found, device)
        found = {n: v * self.crowding if n in _HOST else v for n, v in found.items()} if self.crowding > 1.0 else found
        return found if self.overhead is None else {**found, "first.request": self.overhead, "first.token": 0.0}

    @property
    def crowding(self) -> float:
        """How many processes share a core: an engine has one a device and two more (vLLM, Optimization and tuning: at
        least 2 + N cores for N devices)."""
        devices = self.parallel.devices
        return 1.0 if self.cores is None else max(1.0, (devices + 2.0) / (self.cores * devices))

    def launched(self, c: Constants, device: Device) -> Constants:
        """Return constants less what the engine hides of a kernel's launch behind the one before."""
        hidden = self.profile(device).hidden
        return {**c, "gap.kernel": c["gap.kernel"] - hidden * device.chip["overhead.launch"]} if hidden else c

    def skew(self, tokens: float) -> float:
        """Return the load of the busiest expert over the mean of those touched, when a step has `tokens`."""
        model = self.model
        if not model.moe or tokens <= 0:
            return 1.0
        active = model.experts * expected_share(model.experts, model.top_k, tokens, TASTE)
        most = min(_favourite(model.experts) * tokens * model.top_k / model.experts, tokens)
        return max(1.0, most * active / (tokens * model.top_k))

    def piece(self, operators: tuple[Operator, ...], late: tuple[Operator, ...], chip: str) -> Piece:
        """Return a step's operators as this engine's kernels run them on a chip of architecture `chip`."""
        return Piece(operators, late, chip, self.engine.name, scheme(self.model))

    def hosted(self, device: Device) -> float:
        """Return how many replicas share a host."""
        if self.neighbours is not None:
            return max(self.neighbours, 1.0)
        return max(device.node["chips"] / self.parallel.devices, 1.0)

    @property
    def groups(self) -> int:
        """Parts that the running requests are dealt to: data-parallel groups, microbatches of a pipeline."""
        return self.parallel.data * self.parallel.pipeline

    def capacity(self, load: Load, device: Device) -> int:
        """Return the most requests that run together within the device memory."""
        return max_batch(
            self.model, self.parallel, device.chip["memory.hbm.capacity"], load.seen,
            precision=self.precision.weights, kv=self.precision.kv, step_tokens=self.chunk, usable=self.memory,
        )  # fmt: skip


# ------------------------------------------------------------------ what is answered
@dataclass(frozen=True)
class Step:
    """The mean step of a replica at each clock.

    Attributes
    ----------
    batch : running requests. devices : chips of the replica.
    points : the mean step, of one device. decode : a step without prompts.
    median : (n,) median seconds between tokens of a request.
    host : host seconds per decode step. mixed : share of steps that carry prompts.
    """

    batch: float
    devices: int
    points: Points
    decode: Points
    median: Array
    host: float
    mixed: float

    @property
    def time(self) -> Array:
        """(n,) seconds of the mean step, which is also the mean time between tokens."""
        return self.points.time

    @property
    def energy_per_token(self) -> Array:
        """(n,) joules of all devices per output token, prefill included."""
        return self.devices * self.points.energy / self.batch

    @property
    def throughput(self) -> Array:
        """(n,) output tokens per second of the replica."""
        return self.batch / self.points.time

    @property
    def power(self) -> Array:
        """(n,) average watts of one device."""
        return self.points.power


# ------------------------------------------------------------------ how steps come
@dataclass(frozen=True)
class Rhythm:
    """How prompts spread over steps: `share` of steps carry `prompts` requests of `tokens` tokens in all.

    `median`: prompt tokens in the median step.
    """

    share: float
    prompts: float
    tokens: float
    median: float


def rhythm(load: Load, batch: float, chunk: float) -> Rhythm:
    """Return how often prompts come: requests enter as others end, a Poisson number per step."""
    rate = batch / load.output
    room = max(chunk - batch, 1.0)
    share = -np.expm1(-rate)
    tokens = min(rate * load.fresh / share, room)
    share = min(rate * load.fresh / tokens, 1.0)
    tokens = rate * load.fresh / share
    # Median of a compound Poisson sum of exponential prompts: within 0.04 of 1 - ln 2 / rate of its mean.
    middle = max(rate - np.log(2.0), 0.0) * load.fresh if share < 1.0 else tokens
    return Rhythm(float(share), rate / share, float(tokens), float(min(middle, tokens)))


def chunks(load: Load, tokens: float, chunk: float) -> tuple[tuple[float, float, float], ...]:
    """Return `tokens` of prompts as (new, context, how many) entries of at most `chunk` tokens each."""
    if tokens <= 0:
        return ()
    whole = load.fresh
    if whole <= chunk:
        return ((whole, load.entering, tokens / whole),)
    return ((chunk, (whole + chunk + load.entering - load.fresh) / 2.0, tokens / chunk),)


# A vision encoder as most models have it: 27 layers, 1152 wide, 4304 inside, 16 heads (SigLIP-SO400M,
# arXiv 2303.15343; Qwen3-VL and Gemma 3 use its sizes).
_VISION: Final = (27.0, 1152.0, 4304.0, 16.0)


def vision_operators(patches: float, images: float, tensor: int, precision: str = "bf16") -> tuple[Operator, ...]:
    """Return the vision encoder's work on one device for `patches` in all, spread over `images`."""
    if patches <= 0:
        return ()
    layers, hidden, inner, heads = _VISION

    def gemm(name: str, n: float, k: float) -> Gemm:
        return Gemm(name=name, precision=precision, repeat=layers, m=patches, n=n, k=k)

    each = patches / images
    return (
        gemm("vision_qkv", 3 * hidden / tensor, hidden),
        Attention(
            name="vision_attention", precision=precision, repeat=layers, batch=images, query=each, context=each,
            heads=heads / tensor, kv_heads=heads / tensor, head_dim=hidden / heads, value_dim=hidden / heads,
            causal=False,
        ),
        gemm("vision_out", hidden, hidden / tensor),
        gemm("vision_up", inner / tensor, hidden),
        gemm("vision_down", hidden, inner / tensor),
    )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One configuration to be worked out."""

    replica: Replica
    load: Load
    batch: float


def work_of(jobs: Sequence[Job], device: Device, source: Source, grid: Array) -> Parts:
    """Return what configurations on one device need to be assembled; the source is asked once."""
    beats, inquiry = _counted(tuple(jobs), device.chip.tags.get("architecture", ""))
    both = sums(inquiry, device, source, grid)
    loose = [job.batch / job.replica.groups > job.replica.captured(device) for job in jobs]
    first = [_beat(job, device, 0.0, 0.0, alone) for job, alone in zip(jobs, loose, strict=True)]
    second = [_beat(job, device, x.prompts, x.tokens, True) for job, x in zip(jobs, beats, strict=True)]
    return Parts(
        decode=rows_from(both, slice(0, len(jobs))),
        mixed=rows_from(both, slice(len(jobs), None)),
        beats=(_beats(first), _beats(second)),
        share=np.array([[beat.share] for beat in beats]),
        median=np.array([[beat.median / beat.tokens if beat.tokens > 0 else 0.0] for beat in beats]),
    )


@functools.lru_cache(maxsize=64)  # what-ifs of the device ask for the same work again and again
def _counted(jobs: tuple[Job, ...], chip: str) -> tuple[list[Rhythm], Inquiry]:
    """Return how prompts come in each configuration, and what to ask of its steps: all plain ones, then all mixed."""
    beats = [rhythm(job.load, job.batch, job.replica.chunk) for job in jobs]
    plain = [_piece(job, 0.0, chip) for job in jobs]
    mixed = [_piece(job, beat.tokens * _crowded(job, beat), chip) for job, beat in zip(jobs, beats, strict=True)]
    return beats, Inquiry.of([*plain, *mixed])


def _crowded(job: Job, beat: Rhythm) -> float:
    """Return the prompt tokens of the busiest data-parallel group over the mean: all wait for it, padded to its size.

    Prompts fall on groups as they come: of a Poisson number each the busiest has so many deviations more.
    """
    groups = job.replica.groups
    if groups == 1 or job.replica.balanced:
        return 1.0
    mean = beat.prompts / groups
    return float(max(1.0, mean + largest(groups) * np.sqrt(mean)) / mean)


def _piece(job: Job, tokens: float, chip: str) -> Piece:
    mine = _operators(job, tokens, chip)
    expert = job.replica.parallel.expert
    return job.replica.piece(mine, tuple(busiest(o, expert) for o in mine) if expert > 1 else mine, chip)


def _operators(job: Job, tokens: float, chip: str) -> tuple[Operator, ...]:
    replica, load = job.replica, job.load
    entries = chunks(load, tokens, replica.chunk)
    plain = round_operators(replica, entries, job.batch, load.seen, TASTE)
    requests = tokens / load.fresh / replica.groups
    tensor, precision = replica.parallel.tensor, replica.precision.activation
    plain = as_run(plain, profile(replica.engine, replica.model, chip))
    return plain + vision_operators(load.patches * requests, max(requests, 1.0) * load.frames, tensor, precision)


def round_operators(
    replica: Replica, entries: Sequence[Sequence[float]], batch: float, context: float, taste: float = 0.0
) -> tuple[Operator, ...]:
    """Return what one device does while every running request gets a token.

    In a pipeline the requests are dealt to as many microbatches as there are stages, one at work in each: a round is
    every stage's work on a microbatch, one after the other, with a hop between them. A microbatch of less than one
    request is priced as one.
    """
    stages = replica.parallel.pipeline
    some = [(e[0], e[1], (e[2] if len(e) > 2 else 1.0) / stages) for e in entries]
    running = max(batch / stages, min(batch, 1.0))
    skew = replica.skew(running + sum(new * times for new, _, times in some)) if taste > 0.0 else 1.0
    one = step_operators(
        replica.model, replica.parallel, some, running, context, replica.precision, taste=taste, skew=skew
    )
    more = lora_operators(replica, entries, batch)
    return (one if stages == 1 else tuple(replace(o, repeat=stages * o.repeat) for o in one)) + more


def lora_operators(replica: Replica, entries: Sequence[Sequence[float]], batch: float) -> tuple[Operator, ...]:
    """Return what low-rank adapters add on one device: two thin products beside each matrix of attention and the
    feed-forward part, one pair per adapter that the step's requests use (grouped as in Punica, arXiv 2310.18547, and
    S-LoRA, arXiv 2311.03285; adapters as in arXiv 2106.09685), split over the tensor ranks as vLLM does.
    """
    rank, many = replica.adapters
    model, p = replica.model, replica.parallel
    groups = replica.groups
    tokens = (sum(e[0] * (e[2] if len(e) > 2 else 1.0) for e in entries) + batch) / groups
    if not rank or tokens <= 0:
        return ()
    requests = max(min(tokens, (batch + sum(e[2] if len(e) > 2 else 1.0 for e in entries)) / groups), 1.0)
    used = many * (1.0 - (1.0 - 1.0 / many) ** requests)  # distinct ones among so many requests
    out: list[Operator] = []
    for layer, count in model.groups:
        for matrix in model.at(layer).matrices(layer, p.tensor):
            if matrix.part not in ("attention", "dense", "shared"):
                continue
            for name, k, n in (("lora_down", matrix.k, rank), ("lora_up", rank, matrix.n)):
                out.append(
                    Gemm(
                        name=name,
                        precision=replica.precision.activation,
                        repeat=float(count),
                        batch=used,
                        m=tokens / used,
                        n=float(n),
                        k=float(k),
                    )
                )
    return tuple(out)


def unevenness(replica: Replica) -> float:
    """Return the layers of the fullest stage over the mean: all others wait for it."""
    stages, layers = replica.parallel.pipeline, replica.model.layers
    return stages * math.ceil(layers / stages) / layers


def _beat(job: Job, device: Device, prompts: float, tokens: float, loose: bool) -> tuple[float, ...]:
    """Return the fields of a `Beat` in order."""
    groups = job.replica.groups
    logits = 4.0 * job.replica.model.vocab * (job.batch + prompts) / device.chip["memory.hbm.bandwidth"]
    visual = job.load.visual * tokens / job.load.fresh
    crowd = largest(job.replica.parallel.expert)
    rough, wide = float(_untuned(job.replica, job.batch + tokens)), float(_wide(job.replica))
    ranks = job.replica.parallel.devices
    team = largest(ranks) / largest(_BOARD)
    pressed = float(ranks == 1) * (job.replica.hosted(device) - 1.0) / _FULL
    mine = job.batch / groups, prompts / groups, visual, float(loose), logits / groups
    return *mine, crowd, pressed, rough, wide, team


def _jumps(replica: Replica) -> tuple[float, ...]:
    """Return the batches a step's time jumps between."""
    edge = replica.model.experts / replica.parallel.expert
    return (edge, edge + 1.0) if _untuned(replica, edge + 1.0) else ()


def _untuned(replica: Replica, tokens: float) -> bool:
    """Whether grouped products run with tiles of 64 rows that nobody tuned.

    vLLM ships tuned tiles for the expert counts of whole models and some shares of them. Without, it follows a
    rule: small tiles up to as many tokens as a rank has experts, tiles of 64 rows above
    (vllm/model_executor/layers/fused_moe/fused_moe.py, get_default_config). Measured steps jump there
    wherever experts are spread over ranks.
    """
    ranks = replica.parallel.expert
    return ranks > 1 and _wide(replica) and tokens > replica.model.experts / ranks


def _wide(replica: Replica) -> bool:
    """Whether experts are stored in 16 bits: engines run those with Triton, narrower ones with a vendor's kernels."""
    stored = replica.precision.weights or replica.model.weights.of("experts")
    return replica.model.moe and stored in ("bf16", "fp16")


# Devices to a board, and neighbours of a one-device replica on a full host.
_BOARD: Final = 8
_FULL: Final = _BOARD - 1.0


def _beats(rows: Sequence[tuple[float, ...]]) -> Beat:
    return Beat(*(np.array(column)[:, None] for column in zip(*rows, strict=True)))


def clock_grid(device: Device) -> Array:
    """Return the clocks (Hz) at which steps are worked out."""
    return np.linspace(device.chip["clock.min"], device.chip["clock.max"], _GRID)


def step(
    replica: Replica,
    load: Load,
    batch: float,
    device: Device,
    source: Source,
    clocks: Array | None = None,
    *,
    settings: Constants | None = None,
) -> Step:
    """Return the mean step of `replica` with `batch` running requests, at each clock (Hz).

    `clocks`: all the chip's lockable ones where None. Where the step draws more than the chip's power
    limit it runs slower. `settings` replaces the fitted constants.

    Raises
    ------
    CapacityError : `batch` requests do not fit in the device memory.
    """
    return steps(replica, load, [batch], device, source, clocks, settings=settings)[0]


def steps(
    replica: Replica,
    load: Load,
    batches: Sequence[float],
    device: Device,
    source: Source,
    clocks: Array | None = None,
    *,
    settings: Constants | None = None,
) -> list[Step]:
    """Return `step` of many batches; the source is asked once."""
    _check_fits(replica, load, batches, device)
    asked = lockable(device.chip) if clocks is None else np.asarray(clocks, dtype=np.float64)
    kind = device.chip.tags.get("architecture", "")
    c = replica.constants(device) if settings is None else settings
    table, share = _assembled(replica, load, batches, device, source, asked, c)
    sample = replace(
        source.points(_alone(replica, load, max(batches)), device, asked[-1:]),
        clock=asked,
        waiting_power=c["energy.waiting"] * device.chip["power.waiting"],
        uncertainty=spread(kind, "energy_per_token_j"),
        time_uncertainty=spread(kind, "throughput_tok_s"),
    )
    sample = replace(sample, source=f"{sample.source}; engine steps: serving/data/serving.toml")

    def points(row: int, time: Array, parts: Mapping[str, Array]) -> Points:
        return replace(sample, time=time[row], parts={n: j[row] for n, j in parts.items()})

    return [
        Step(
            batch=float(batch),
            devices=replica.parallel.devices,
            points=points(row, table.time, table.parts),
            decode=points(row, table.decode, table.decode_parts),
            median=table.median[row],
            host=float(table.host[row, 0]),
            mixed=float(share[row]),
        )
        for row, batch in enumerate(batches)
    ]


@functools.lru_cache(maxsize=64)
def _alone(replica: Replica, load: Load, batch: float) -> tuple[Operator, ...]:
    return round_operators(replica, (), batch, load.seen)


def _check_fits(replica: Replica, load: Load, batches: Sequence[float], device: Device) -> None:
    if not batches or min(batches) <= 0:
        raise InputError(f"a step needs running requests, got batch = {min(batches, default=0):g}")
    fits = replica.capacity(load, device)
    if max(batches) > fits:
        raise CapacityError(
            f"{max(batches):g} requests of {load.seen:.0f} tokens do not fit on {replica.parallel.devices} x "
            f"{device.chip.name} beside {replica.model.name}; at most {fits} do"
        )


def _assembled(
    replica: Replica, load: Load, batches: Sequence[float], device: Device, source: Source, asked: Array, c: Constants
) -> tuple[Table, Array]:
    grid, chip = clock_grid(device), device.chip
    work = work_of([Job(replica, load, float(batch)) for batch in batches], device, source, grid)
    table = assemble(work, c, chip["power.waiting"], chip["power.limit"], grid, asked, replica.ahead(device))
    return table, work.share[:, 0]


# Batches worked out exactly by `step_table`; in between, straight lines.
_NODES: Final = 48


def step_table(
    replica: Replica,
    load: Load,
    batches: Array,
    device: Device,
    source: Source,
    clocks: Array | None = None,
    *,
    settings: Constants | None = None,
) -> Table:
    """Return mean steps of many batches at many clocks as arrays (batches, clocks), for searches.

    Up to 48 batches are exact. Of more, 48 spaced evenly in their logarithm are, and the others lie on
    straight lines between them, which miss the steps of tile quantisation: up to three percent.
    """
    every = np.asarray(batches, dtype=np.float64)
    _check_fits(replica, load, every.tolist(), device)
    asked = lockable(device.chip) if clocks is None else np.asarray(clocks, dtype=np.float64)
    c = replica.constants(device) if settings is None else settings
    nodes = np.unique(every)
    if nodes.size > _NODES:
        low, high = float(nodes[0]), float(nodes[-1])
        nodes = np.unique([*np.geomspace(low, high, _NODES), *np.clip(_jumps(replica), low, high)])
    table, _ = _assembled(replica, load, nodes.tolist(), device, source, asked, c)
    if nodes.size == 1:
        return _between(table, np.zeros(every.size, dtype=np.int64), np.zeros((every.size, 1)))
    left = np.clip(np.searchsorted(nodes, every, side="right") - 1, 0, nodes.size - 2)
    return _between(table, left, ((every - nodes[left]) / (nodes[left + 1] - nodes[left]))[:, None])


def _between(table: Table, low: NDArray[np.int64], part: Array) -> Table:
    high = np.minimum(low + 1, len(table.time) - 1)

    def line(values: Array) -> Array:
        return np.asarray(values[low] + part * (values[high] - values[low]))

    return Table(
        time=line(table.time),
        decode=line(table.decode),
        median=line(table.median),
        parts={n: line(j) for n, j in table.parts.items()},
        decode_parts={n: line(j) for n, j in table.decode_parts.items()},
        host=line(table.host),
    )


def beats_of(jobs: Sequence[Job], device: Device, prompts: float, tokens: Array, loose: NDArray[np.bool_]) -> Beat:
    """Return what else makes up steps that carry `prompts` new prompts, of n tokens: for simulators, which know."""
    every = zip(jobs, tokens.tolist(), loose.tolist(), strict=True)
    return _beats([_beat(job, device, prompts, fresh, alone) for job, fresh, alone in every])
