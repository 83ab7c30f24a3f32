"""The mean step of an engine that batches continuously, and what a token costs in it.

    requests finish and new ones enter --> some steps carry prompts, the others only decode
    step = device time (operators, by kind) beside host time (scheduler, sampling, detokenise)
    mean step = (1 - share) * decode step + share * mixed step

In the steady state of `batch` running requests with `output` tokens each, batch / output requests
end and enter per step, so each output token carries prompt / output tokens of prefill.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Final

import numpy as np

from ..errors import CapacityError, InputError, nearest
from ..hardware.chip import clocks as lockable
from ..source.base import Array, Device, Points, Source
from ..workload.infer import AS_STORED, Precision, step_operators
from ..workload.memory import max_batch
from ..workload.model import Model
from ..workload.operator import Attention, Collective, Gemm, GroupedGemm, Operator
from ..workload.parallel import Parallel

# Kinds of operator that an engine may run slower or faster than alone.
KINDS: Final = ("gemm", "grouped_gemm", "attention_decode", "attention_prefill", "elementwise", "collective")
_GROUPS: Final = ("compute", "memory", "standing", "waiting")

# Clocks at which a step is worked out before the power limit is applied; in between, straight lines.
_GRID: Final = 12


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
    patches : patches the vision encoder reads for them.
    cached : share of the prompt tokens that the prefix cache already holds, in [0, 1).
    """

    prompt: float
    output: float
    context: float | None = None
    visual: float = 0.0
    patches: float = 0.0
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

    `chunk`: most tokens of a step. `asynchronous`: the host prepares a step while the device runs the
    one before. `memory`: share of the device memory that the engine may fill.
    """

    model: Model
    parallel: Parallel
    precision: Precision = AS_STORED
    chunk: float = 8192.0
    asynchronous: bool = True
    memory: float = 0.9

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


# ------------------------------------------------------------------ constants
Constants = Mapping[str, float]


@functools.cache
def constants(architecture: str = "") -> Constants:
    """Return the constants of ``data/serving.toml``: the common ones, then those of `architecture`."""
    table = tomllib.loads((resources.files("wattline.plan") / "data" / "serving.toml").read_text("utf-8"))
    merged: dict[str, float] = {}
    for name in ("common", architecture):
        for group, entries in table.get(name, {}).items():
            merged |= {f"{group}.{key}": float(entry[0]) for key, entry in entries.items()}
    return merged


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


# ------------------------------------------------------------------ what a step costs on the device
@dataclass(frozen=True)
class Sums:
    """A step's work at each clock of a grid, unlimited by power: arrays (n steps, clocks).

    busy : kind -> seconds. tree : kind -> joules of clock distribution. moved : component -> joules.
    standing : watts of leakage while awake. launches, meetings : (n, 1) kernels, and collectives among them.
    """

    busy: Mapping[str, Array]
    tree: Mapping[str, Array]
    moved: Mapping[str, Mapping[str, Array]]
    standing: Array
    launches: Array
    meetings: Array


def sums(operators: Sequence[Operator], device: Device, source: Source, grid: Array, ranks: int = 1) -> Sums:
    """Ask the source for each kind of operator apart, with the power limit out of the way.

    `ranks` expert ranks wait for the busiest of them: it sets the time, their mean the energy.
    """
    free = replace(device, chip=device.chip.with_({"power.limit": "100 kW"}, "lifted: the step as a whole keeps it"))
    busy, tree, moved = {}, {}, {}
    standing = np.zeros((1, grid.size))
    for kind in KINDS:
        mine = [o for o in operators if kind_of(o) == kind]
        if not mine:
            busy[kind] = tree[kind] = np.zeros((1, grid.size))
            moved[kind] = {}
            continue
        points = source.points(mine, free, grid)
        late = [busiest(o, ranks) for o in mine] if kind == "grouped_gemm" and ranks > 1 else mine
        busy[kind] = (points if late is mine else source.points(late, free, grid)).time[None]
        tree[kind] = points.parts.get("clock_tree", np.zeros(grid.size))[None]
        standing = (points.parts.get("leakage", np.zeros(grid.size)) / points.time)[None]
        apart = ("clock_tree", "leakage", "waiting")
        moved[kind] = {name: joules[None] for name, joules in points.parts.items() if name not in apart}
    launches = sum(o.launches * o.repeat for o in operators)
    meetings = sum(o.launches * o.repeat for o in operators if isinstance(o, Collective))
    return Sums(busy, tree, moved, standing, np.array([[launches]]), np.array([[meetings]]))


def busiest(operator: Operator, ranks: int) -> Operator:
    """Return the grouped product of the busiest of `ranks` ranks, in the mean over layers.

    Experts touched on a rank are a binomial number; the expected largest of `ranks` draws lies
    `_LARGEST` standard deviations above the mean.
    """
    if not isinstance(operator, GroupedGemm):
        return operator
    local = operator.local_experts
    spread = np.sqrt(operator.active * (1.0 - operator.active / local))
    return replace(operator, active=float(min(operator.active + largest(ranks) * spread, local)))


def largest(ranks: int) -> float:
    """Return by how many standard deviations the busiest of `ranks` is expected above the mean."""
    return float(np.interp(np.log2(ranks), *_LARGEST))


# Expected largest of 2^i standard normal draws, i = 0 to 6 (Tippett, Biometrika 1925; order statistics).
_LARGEST: Final = ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.344))


def kind_of(operator: Operator) -> str:
    """Return which of `KINDS` an operator belongs to."""
    if isinstance(operator, Attention):
        return "attention_decode" if operator.phase == "decode" else "attention_prefill"
    return operator.kind


@dataclass(frozen=True)
class Beat:
    """What else makes up a step: (n, 1) running requests, new prompts, visual tokens among them, and 1
    where its kernels are launched one by one; seconds to read its logits (fp32) once; standard
    deviations by which the busiest expert rank lies above the mean."""

    batch: Array
    prompts: Array
    visual: Array
    loose: Array
    logits: Array
    crowd: Array


def host_time(work: Sums, beat: Beat, c: Constants) -> Array:
    """Return (n, 1) host seconds of a step."""
    return np.asarray(
        c["host.step"]
        + c["host.sequence"] * beat.batch
        + c["host.prompt"] * beat.prompts
        + c["host.visual"] * beat.visual
        + c["host.launch"] * work.launches * beat.loose
    )


def run(work: Sums, beat: Beat, c: Constants, waiting: float, asynchronous: bool) -> tuple[Array, dict[str, Array]]:
    """Return (n, clocks) seconds of a step and its joules by component."""
    busy = sum((c[f"time.{kind}"] * work.busy[kind] for kind in KINDS), np.zeros_like(work.standing))
    busy = busy + c["expert.imbalance"] * beat.crowd * c["time.grouped_gemm"] * work.busy["grouped_gemm"]
    busy = busy + c["gap.step"] + c["gap.logits"] * beat.logits
    busy = busy + c["gap.kernel"] * work.launches + c["gap.meeting"] * work.meetings
    host = host_time(work, beat, c)
    time = longer(busy, host, c["host.exponent"]) if asynchronous else busy + host
    parts: dict[str, Array] = {}
    for kind in KINDS:
        for name, joules in work.moved[kind].items():
            group = "compute" if name.startswith("compute") else "memory"
            parts[name] = parts.get(name, 0.0) + c[f"energy.{group}"] * c.get(f"energy.{kind}", 1.0) * joules
    parts["leakage"] = c["energy.standing"] * work.standing * time
    parts["clock_tree"] = c["energy.standing"] * sum(c[f"time.{kind}"] * work.tree[kind] for kind in KINDS)
    parts["waiting"] = c["energy.waiting"] * waiting * time
    return time, parts


def longer(one: Array, two: Array, exponent: float) -> Array:
    """Return the longer of two overlapped times, a little more where they tie."""
    top = np.maximum(one, two)
    return np.asarray(top * ((one / top) ** exponent + (two / top) ** exponent) ** (1.0 / exponent))


# ------------------------------------------------------------------ the mean step
@dataclass(frozen=True)
class Table:
    """Mean steps of n configurations at m clocks: arrays (n, m), parts by component (J of one device)."""

    time: Array
    decode: Array
    median: Array
    parts: Mapping[str, Array]
    decode_parts: Mapping[str, Array]
    host: Array

    @property
    def energy(self) -> Array:
        """(n, m) joules of one device in the mean step."""
        return np.sum([*self.parts.values()], axis=0)


@dataclass(frozen=True)
class Parts:
    """What `assemble` needs of n configurations: sums of decode, mixed and median steps, and their beats."""

    decode: Sums
    mixed: Sums
    beats: tuple[Beat, Beat]
    share: Array
    median: Array  # (n, 1) median step as a weight between decode (0) and mixed (1) step


def assemble(
    work: Parts, c: Constants, waiting: float, limit: float, grid: Array, asked: Array, asynchronous: bool = True
) -> Table:
    """Return mean steps at the `asked` clocks, or lower ones where the power limit holds them back."""
    t0, e0 = run(work.decode, work.beats[0], c, waiting, asynchronous)
    t1, e1 = run(work.mixed, work.beats[1], c, waiting, asynchronous)
    f = work.share
    time = (1 - f) * t0 + f * t1
    zero = np.zeros_like(t0)
    parts = {n: (1 - f) * e0.get(n, zero) + f * e1.get(n, zero) for n in {**e0, **e1}}
    at = _limited(np.sum([*parts.values()], axis=0) / time, c["limit.share"] * limit, grid, asked)
    median = t0 + work.median * (t1 - t0)
    return Table(
        _read(time, grid, at), _read(t0, grid, at), _read(median, grid, at),
        {n: _read(j, grid, at) for n, j in parts.items()}, {n: _read(j, grid, at) for n, j in e0.items()},
        host_time(work.decode, work.beats[0], c),
    )  # fmt: skip


def _limited(power: Array, limit: float, grid: Array, asked: Array) -> Array:
    """Return (n, m) clocks really run: the highest up to `asked` at which power keeps the limit."""
    rising = np.maximum.accumulate(power, axis=1)
    over = rising > limit
    first = np.where(over.any(axis=1), over.argmax(axis=1), grid.size)
    low = np.clip(first - 1, 0, grid.size - 1)
    high = np.clip(first, 0, grid.size - 1)
    row = np.arange(len(power))
    span = rising[row, high] - rising[row, low]
    part = np.where(span > 0, (limit - rising[row, low]) / np.where(span > 0, span, 1.0), 0.0)
    top = grid[low] + np.clip(part, 0.0, 1.0) * (grid[high] - grid[low])
    return np.asarray(np.minimum(asked[None, :], top[:, None]))


def _read(values: Array, grid: Array, at: Array) -> Array:
    """Return (n, m) values at clocks `at` from (n, clocks) values on the `grid`, on straight lines."""
    low = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, grid.size - 2)
    part = (at - grid[low]) / (grid[low + 1] - grid[low])
    left = np.take_along_axis(values, low, axis=1)
    return np.asarray(left + part * (np.take_along_axis(values, low + 1, axis=1) - left))


def work_of(replica: Replica, load: Load, batch: float, device: Device, source: Source, grid: Array, graph: float) -> Parts:
    """Return what one configuration needs to be assembled. `graph`: largest batch with a captured graph."""
    if batch <= 0:
        raise InputError(f"a step needs at least some running requests, got batch = {batch:g}")
    beat = rhythm(load, batch, replica.chunk)
    model, parallel, precision = replica.model, replica.parallel, replica.precision
    entries = chunks(load, beat.tokens, replica.chunk)
    decode = step_operators(model, parallel, (), batch, load.seen, precision)
    mixed = step_operators(model, parallel, entries, batch, load.seen, precision)
    patches = load.patches * beat.tokens / load.fresh
    mixed += vision_operators(patches, max(beat.prompts, 1.0), parallel.tensor, precision.activation)
    one = np.ones((1, 1))
    visual = load.visual * beat.tokens / load.fresh
    logits = 4.0 * model.vocab / device.chip["memory.hbm.bandwidth"] / parallel.data
    crowd = largest(parallel.expert) * one
    free = Beat(batch * one, 0.0 * one, 0.0 * one, (batch > graph) * one, logits * batch * one, crowd)
    full = Beat(batch * one, beat.prompts * one, visual * one, one, logits * (batch + beat.prompts) * one, crowd)
    median = beat.median / beat.tokens if beat.tokens > 0 else 0.0
    return Parts(
        sums(decode, device, source, grid, parallel.expert), sums(mixed, device, source, grid, parallel.expert),
        (free, full), beat.share * one,
        median * one,
    )  # fmt: skip


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
    fits = replica.capacity(load, device)
    if batch > fits:
        raise CapacityError(
            f"{batch:g} requests of {load.seen:.0f} tokens do not fit on {replica.parallel.devices} x "
            f"{device.chip.name} beside {replica.model.name}; at most {fits} do"
        )
    c = constants(device.chip.tags.get("architecture", "")) if settings is None else settings
    asked = lockable(device.chip) if clocks is None else np.asarray(clocks, dtype=np.float64)
    grid = np.linspace(device.chip["clock.min"], device.chip["clock.max"], _GRID)
    sample = source.points(step_operators(replica.model, replica.parallel, (), batch, load.seen), device, grid[-1:])
    work = work_of(replica, load, batch, device, source, grid, c["graph.limit"])
    waiting = device.chip["power.waiting"]
    table = assemble(work, c, waiting, device.chip["power.limit"], grid, asked, replica.asynchronous)
    floor = c["energy.waiting"] * waiting

    def points(time: Array, parts: Mapping[str, Array]) -> Points:
        return replace(
            sample, clock=asked, time=time[0], parts={n: j[0] for n, j in parts.items()}, waiting_power=floor,
        )  # fmt: skip

    return Step(
        batch=batch,
        devices=replica.parallel.devices,
        points=points(table.time, table.parts),
        decode=points(table.decode, table.decode_parts),
        median=table.median[0],
        host=float(table.host[0, 0]),
        mixed=float(work.share[0, 0]),
    )
