"""How an engine spends a step: device time by kind of operator, beside the host's, within the power limit.

    operators --source, each kind apart--> busy seconds and moved joules at each clock
    device = sum of kinds x how an engine runs them + gaps       host = step + requests + prompts + launches
    step = the longer of the two where they overlap; standing power is paid all along

Constants are few, global or per architecture, and live in ``data/serving.toml`` with unit, meaning
and source. Arrays are (n configurations, clocks), so many configurations are assembled at once.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..hardware.facts import Fact
from ..source.base import Array, Device, Source, tables
from ..workload.operator import Attention, Collective, Gemm, GroupedGemm, Operator
from . import kernels
from .profile import padded

# Kinds of operator that an engine may run slower or faster than alone.
KINDS: Final = (
    "gemm", "narrow_gemm", "grouped_gemm", "padded_gemm", "attention_decode", "attention_latent", "attention_prefill",
    "elementwise", "collective",
)  # fmt: skip

# What a step has a number of, each with its own seconds: kernels, collectives among them, scans of prompts. And the
# seconds that kernel tables say products take besides: narrow ones, whose operands are scaled first, and those of
# experts, whose rows are sorted, scaled and summed.
COUNTS: Final = ("kernel", "meeting", "scaled", "sorted", "scan")


# Components that time decides while the device is busy, not the work done.
_STANDING: Final = ("clock_tree", "leakage")

Constants = Mapping[str, float]
Index = NDArray[np.int64]


# What a constant is where no file states it: nothing added, nothing scaled.
NEUTRAL: Final[Constants] = {
    **{f"{what}.{kind}": 1.0 for what in ("time", "energy") for kind in KINDS},
    **{f"energy.{group}": 1.0 for group in ("compute", "fp8", "memory", "standing", "waiting")},
    **{f"host.{what}": 0.0 for what in ("step", "sequence", "crowd", "team", "prompt", "visual", "launch")},
    **{f"gap.{what}": 0.0 for what in ("step", "logits", "burn", *COUNTS)},
    "host.exponent": 3.0,
    "expert.imbalance": 0.0,
    "expert.untuned": 1.0,
    "expert.wide": 1.0,
    "limit.share": 1.0,
    "ends.time": 1.0,
    "first.request": 0.0,
    "first.token": 0.0,
    "first.prefill": 1.0,
}


@functools.cache
def settings(name: str = "serving") -> Mapping[str, Any]:
    """Return ``data/NAME.toml``: "serving" or "diffusion"."""
    return tomllib.loads((resources.files(__package__) / "data" / f"{name}.toml").read_text("utf-8"))


@functools.cache
def constants(architecture: str = "", name: str = "serving", factors: str = "") -> Constants:
    """Return fitted constants: the common ones, then those of `architecture`, times the `factors` of an engine.

    An architecture's own host is that of the benchmark its rows came from; an engine with factors on the host's
    seconds has them over the common ones.
    """
    table = settings(name)
    own = engine_factors(factors) if name == "serving" else {}
    merged = dict(NEUTRAL)
    for part in ("common", architecture):
        for group, entries in table.get(part, {}).items():
            if part != "common" and group == "host" and "host" in own:
                continue
            merged |= {f"{group}.{key}": float(entry[0]) for key, entry in entries.items()}
    return scaled(merged, own)


@functools.cache
def engine_factors(name: str) -> Constants:
    """Return what an engine's constants are over those of vLLM 0.11, from ``data/engine_factors.toml``."""
    table = settings("engine_factors")
    return {key: float(entry[0]) for part in ("common", name) for key, entry in table.get(part, {}).items()}


# What each factor of an engine multiplies.
SCALED: Final[Mapping[str, tuple[str, ...]]] = {
    "host": ("host.step", "host.team", "host.sequence", "host.prompt", "gap.step"),
    "sampler": ("gap.logits",),
    "experts": ("time.grouped_gemm", "time.padded_gemm"),
    "gaps": ("gap.kernel", "gap.meeting", "gap.scaled", "gap.sorted"),
    "elementwise": ("time.elementwise",),
}


def scaled(c: Constants, factors: Constants) -> Constants:
    """Return constants times an engine's factors, and what they state of their own: overlap and the first token."""
    out = dict(c)
    for key, factor in factors.items():
        for name in SCALED.get(key, ()):
            out[name] *= factor
        if key == "overlap":
            out["host.exponent"] = factor
        if key.startswith("first_"):
            out[key.replace("_", ".", 1)] = factor
    return out


def spread(architecture: str, target: str, name: str = "serving") -> float:
    """Return the relative standard deviation of a target on models left out of the fit."""
    table = settings(name)["residual"]
    return float(table.get(architecture, table["other"])[target][2])


@dataclass(frozen=True)
class Sums:
    """Steps at each clock of a grid, unlimited by power: arrays (n steps, clocks).

    busy : kind -> seconds. joules : (kind, component) -> joules, the awake floor left out.
    counts : (n, 1) of each of `COUNTS`.
    """

    busy: Mapping[str, Array]
    joules: Mapping[tuple[str, str], Array]
    counts: Mapping[str, Array]

    @property
    def launches(self) -> Array:
        """(n, 1) kernels."""
        return self.counts["kernel"]


@dataclass(frozen=True)
class Piece:
    """Operators of one step, and of the same step on the device that the others wait for.

    `late` sets the time, `operators` the energy. `chip`, `engine`, `scheme` say whose kernels they run on, see
    `kernels.of`.
    """

    operators: tuple[Operator, ...]
    late: tuple[Operator, ...]
    chip: str = ""
    engine: str = ""
    scheme: str = "none"

    def kernels(self, o: Operator) -> tuple[float, float]:
        """Return slope and seconds besides of an operator; an engine that is not stated runs the source's kernels."""
        return kernels.of(self.chip, self.engine, o, self.scheme) if self.engine else (1.0, 0.0)


@dataclass(frozen=True)
class Inquiry:
    """What a source is asked about n steps: operators of each kind apart, equal ones once.

    rows : kind -> (steps that have it, the answer that is theirs, that of the device waited for).
    slopes : kind -> seconds over those the source states, of each of these steps. counts : (n, 1) as in `Sums`.
    """

    asked: tuple[tuple[Operator, ...], ...]
    rows: Mapping[str, tuple[Index, Index, Index]]
    slopes: Mapping[str, Array]
    counts: Mapping[str, Array]

    @staticmethod
    def of(pieces: Sequence[Piece]) -> Inquiry:
        """Take steps apart."""
        asked: dict[tuple[Operator, ...], int] = {}
        rows: dict[str, list[tuple[int, int, int]]] = {}
        slopes: dict[str, list[float]] = {}
        for row, piece in enumerate(pieces):
            mine, late = _by_kind(piece.operators), _by_kind(piece.late)
            for kind, some in mine.items():
                place = asked.setdefault(some, len(asked))
                last = asked.setdefault(late.get(kind, some), len(asked))
                rows.setdefault(kind, []).append((row, place, last))
                slopes.setdefault(kind, []).append(piece.kernels(some[0])[0])  # one format a kind and model
        columns = {kind: np.array(some, dtype=np.int64).T for kind, some in rows.items()}
        return Inquiry(
            tuple(asked),
            {kind: (at[0], at[1], at[2]) for kind, at in columns.items()},
            {kind: np.array(some)[:, None] for kind, some in slopes.items()},
            _counts(pieces),
        )


def _counts(pieces: Sequence[Piece]) -> dict[str, Array]:
    out = {name: np.zeros((len(pieces), 1)) for name in COUNTS}
    for row, piece in enumerate(pieces):
        for o in piece.operators:
            out["kernel"][row] += o.launches * o.repeat
            if name := _counted(o):
                each = piece.kernels(o)[1] if name in ("scaled", "sorted") else 1.0
                out[name][row] += each * o.launches * o.repeat
    return out


def _counted(o: Operator) -> str:
    """Return as what of `COUNTS` an operator counts besides as a kernel."""
    if isinstance(o, Collective):
        return "meeting"
    if isinstance(o, GroupedGemm):
        return "sorted"
    if isinstance(o, Gemm):
        return "scan" if o.name == "scan_state" else "scaled" if _narrow(o) else ""
    return "scan" if o.name == "scan" else ""


def _narrow(o: Operator) -> bool:
    """Whether an operator is a dense product of weights in fewer than 16 bits."""
    return isinstance(o, Gemm) and o.b not in ("bf16", "fp16", "fp32", "tf32")


def sums(inquiry: Inquiry, device: Device, source: Source, grid: Array) -> Sums:
    """Ask the source for each kind of operator of each step apart, with the power limit out of the way."""
    # Bounds unchecked: in a derivative a chip of one clock may have its lowest voltage above its highest.
    lifted = Fact(1e5, "W", "lifted: the step as a whole keeps it")
    free = replace(device, chip=replace(device.chip, facts={**device.chip.facts, "power.limit": lifted}))
    found = tables(source, inquiry.asked, free, grid)
    shape = len(inquiry.counts["kernel"]), grid.size
    busy = {kind: np.zeros(shape) for kind in KINDS}
    joules: dict[tuple[str, str], Array] = {}
    for kind, (steps, place, last) in inquiry.rows.items():
        slope = inquiry.slopes[kind]
        busy[kind][steps] = slope * found.time[last]
        for name, values in found.parts.items():
            mine = values[place]
            if name != "waiting" and (name in _STANDING or mine.any()):
                joules[kind, name] = np.zeros(shape)
                joules[kind, name][steps] = slope * mine if name in _STANDING else mine
    return Sums(busy, joules, inquiry.counts)


def rows_from(work: Sums, at: slice) -> Sums:
    """Return some of the steps."""
    busy = {kind: seconds[at] for kind, seconds in work.busy.items()}
    joules = {key: j[at] for key, j in work.joules.items()}
    return Sums(busy, joules, {name: count[at] for name, count in work.counts.items()})


def slowed(work: Sums, kind: str, factor: float) -> Sums:
    """Return the steps with one kind of operator taking `factor` times as long; joules that time decides follow."""
    joules = {key: factor * j if key[0] == kind and key[1] in _STANDING else j for key, j in work.joules.items()}
    return replace(work, busy={**work.busy, kind: factor * work.busy[kind]}, joules=joules)


def _by_kind(operators: Sequence[Operator]) -> dict[str, tuple[Operator, ...]]:
    groups: dict[str, list[Operator]] = {}
    for operator in operators:
        groups.setdefault(kind_of(operator), []).append(operator)
    return {kind: tuple(some) for kind, some in groups.items()}


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


@functools.lru_cache(maxsize=256)
def largest(ranks: int) -> float:
    """Return by how many standard deviations the busiest of `ranks` is expected above the mean."""
    return float(np.interp(np.log2(ranks), *_LARGEST))


# Expected largest of 2^i standard normal draws, i = 0 to 6 (Tippett, Biometrika 1925; order statistics).
_LARGEST: Final = ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.344))


def kind_of(operator: Operator) -> str:
    """Return which of `KINDS` an operator belongs to."""
    if isinstance(operator, Attention):
        if operator.phase != "decode":
            return "attention_prefill"
        return "attention_latent" if operator.shared_kv else "attention_decode"
    return "padded_gemm" if padded(operator) else "narrow_gemm" if _narrow(operator) else operator.kind


@dataclass(frozen=True)
class Beat:
    """What else makes up a step: (n, 1) running requests, new prompts, visual tokens among them, and 1
    where its kernels are launched one by one; seconds to read its logits (fp32) once; standard
    deviations by which the busiest expert rank lies above the mean; how full of one-device replicas the
    host is, 0 to 1; 1 where grouped products run with tiles that nobody tuned, or on experts stored in
    16 bits; and 1 where a process of its own drives each rank."""

    batch: Array
    prompts: Array
    visual: Array
    loose: Array
    logits: Array
    crowd: Array
    pressed: Array
    untuned: Array = field(default_factory=lambda: np.zeros((1, 1)))
    wide: Array = field(default_factory=lambda: np.zeros((1, 1)))
    team: Array = field(default_factory=lambda: np.zeros((1, 1)))


def host_time(work: Sums, beat: Beat, c: Constants) -> Array:
    """Return (n, 1) host seconds of a step."""
    return np.asarray(
        c["host.step"]
        + c["host.team"] * beat.team
        + c["host.crowd"] * beat.pressed
        + c["host.sequence"] * beat.batch
        + c["host.prompt"] * beat.prompts
        + c["host.visual"] * beat.visual
        + c["host.launch"] * work.launches * beat.loose
    )


def run(work: Sums, beat: Beat, c: Constants, waiting: float, asynchronous: bool) -> tuple[Array, dict[str, Array]]:
    """Return (n, clocks) seconds of a step and its joules by component."""
    busy = np.sum([c[f"time.{kind}"] * work.busy[kind] for kind in KINDS], axis=0)
    slow = (1.0 + (c["expert.untuned"] - 1.0) * beat.untuned) * (1.0 + (c["expert.wide"] - 1.0) * beat.wide)
    waste = slow * (1.0 + c["expert.imbalance"] * beat.crowd) - 1.0
    busy = busy + waste * c["time.grouped_gemm"] * work.busy["grouped_gemm"]
    drawn = _standing(work) * c["energy.standing"] * c["gap.burn"]
    gaps = c["gap.step"] + c["gap.logits"] * beat.logits
    gaps = gaps + sum(c[f"gap.{name}"] * work.counts[name] for name in COUNTS)
    busy = busy + gaps
    host = host_time(work, beat, c)
    time = longer(busy, host, c["host.exponent"]) if asynchronous else busy + host
    parts: dict[str, Array] = {}
    for (kind, name), joules in work.joules.items():
        parts[name] = parts.get(name, np.zeros_like(time)) + _factor(kind, name, c) * joules
    if c["gap.burn"]:
        parts["clock_tree"] = parts.get("clock_tree", np.zeros_like(time)) + drawn * gaps
    parts["waiting"] = c["energy.waiting"] * waiting * time
    return time, parts


def _standing(work: Sums) -> Array:
    """Return (n, clocks) watts that leakage and clocks draw while kernels run, in the mean."""
    joules = sum((j for (_, name), j in work.joules.items() if name in _STANDING), np.zeros(1))
    seconds = np.sum([*work.busy.values()], axis=0)
    return np.asarray(joules / np.where(seconds > 0, seconds, np.inf))


def _factor(kind: str, name: str, c: Constants) -> float:
    """Return what an engine makes of a component's joules: standing ones last as long as the kind is busy."""
    if name in _STANDING:
        return c["energy.standing"] * c[f"time.{kind}"]
    narrow = c["energy.fp8"] if name in ("compute.fp8", "compute.fp4") else 1.0
    return narrow * c[f"energy.{kind}"] * c["energy.compute" if name.startswith("compute") else "energy.memory"]


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
        return np.asarray(np.sum([*self.parts.values()], axis=0))


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
    median, read = t0 + work.median * (t1 - t0), _reader(grid, at)
    return Table(
        read(time), read(t0), read(median),
        {n: read(j) for n, j in parts.items()}, {n: read(j) for n, j in e0.items()},
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


def _reader(grid: Array, at: Array) -> Callable[[Array], Array]:
    """Return a function that reads (n, m) values at clocks `at` from (n, clocks) on the `grid`, on straight lines."""
    low = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, grid.size - 2)
    step = grid[low + 1] - grid[low]
    part = np.where(step > 0, at - grid[low], 0.0) / np.where(step > 0, step, 1.0)  # a chip may have one clock only
    row = np.arange(len(at))[:, None]

    def read(values: Array) -> Array:
        left = values[row, low]
        return np.asarray(left + part * (values[row, low + 1] - left))

    return read
