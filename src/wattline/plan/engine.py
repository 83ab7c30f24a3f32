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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any, Final

import numpy as np

from ..source.base import Array, Device, Source
from ..workload.operator import Attention, Collective, GroupedGemm, Operator

# Kinds of operator that an engine may run slower or faster than alone.
KINDS: Final = ("gemm", "grouped_gemm", "attention_decode", "attention_prefill", "elementwise", "collective")

# Parts of an energy that time decides, not the work done.
_APART: Final = ("clock_tree", "leakage", "waiting")

Constants = Mapping[str, float]


@functools.cache
def settings() -> Mapping[str, Any]:
    """Return ``data/serving.toml``."""
    return tomllib.loads((resources.files("wattline.plan") / "data" / "serving.toml").read_text("utf-8"))


@functools.cache
def constants(architecture: str = "") -> Constants:
    """Return the constants of ``data/serving.toml``: the common ones, then those of `architecture`."""
    table = settings()
    merged: dict[str, float] = {}
    for name in ("common", architecture):
        for group, entries in table.get(name, {}).items():
            merged |= {f"{group}.{key}": float(entry[0]) for key, entry in entries.items()}
    return merged


def spread(architecture: str, target: str) -> float:
    """Return the relative standard deviation of a target on models left out of the fit."""
    table = settings()["residual"]
    return float(table.get(architecture, table["other"])[target][2])


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


def sums(operators: Sequence[Operator], late: Sequence[Operator], device: Device, source: Source, grid: Array) -> Sums:
    """Ask the source for each kind of operator apart, with the power limit out of the way.

    `late`: the same step on the device that the others wait for. It sets the time, `operators` the energy.
    """
    free = replace(device, chip=device.chip.with_({"power.limit": "100 kW"}, "lifted: the step as a whole keeps it"))
    zero = np.zeros((1, grid.size))
    busy, tree, standing = {}, {}, zero
    moved: dict[str, Mapping[str, Array]] = {}
    for kind in KINDS:
        mine = [o for o in operators if kind_of(o) == kind]
        last = [o for o in late if kind_of(o) == kind]
        busy[kind], tree[kind], moved[kind] = zero, zero, {}
        if not mine:
            continue
        points = source.points(mine, free, grid)
        busy[kind] = (points if last == mine else source.points(last, free, grid)).time[None]
        tree[kind] = points.parts.get("clock_tree", zero[0])[None]
        standing = (points.parts.get("leakage", zero[0]) / points.time)[None]
        moved[kind] = {name: joules[None] for name, joules in points.parts.items() if name not in _APART}
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
    deviations by which the busiest expert rank lies above the mean; replicas that share the host."""

    batch: Array
    prompts: Array
    visual: Array
    loose: Array
    logits: Array
    crowd: Array
    shared: Array


def host_time(work: Sums, beat: Beat, c: Constants) -> Array:
    """Return (n, 1) host seconds of a step."""
    return np.asarray(
        c["host.step"]
        + c["host.sequence"] * beat.batch * beat.shared ** c["host.sharing"]
        + c["host.prompt"] * beat.prompts
        + c["host.visual"] * beat.visual
        + c["host.launch"] * work.launches * beat.loose
    )


def run(work: Sums, beat: Beat, c: Constants, waiting: float, asynchronous: bool) -> tuple[Array, dict[str, Array]]:
    """Return (n, clocks) seconds of a step and its joules by component."""
    busy = np.sum([c[f"time.{kind}"] * work.busy[kind] for kind in KINDS], axis=0)
    busy = busy + c["expert.imbalance"] * beat.crowd * c["time.grouped_gemm"] * work.busy["grouped_gemm"]
    busy = busy + c["gap.step"] + c["gap.logits"] * beat.logits
    busy = busy + c["gap.kernel"] * work.launches + c["gap.meeting"] * work.meetings
    host = host_time(work, beat, c)
    time = longer(busy, host, c["host.exponent"]) if asynchronous else busy + host
    parts: dict[str, Array] = {}
    for kind in KINDS:
        for name, joules in work.moved[kind].items():
            group = "compute" if name.startswith("compute") else "memory"
            factor = c[f"energy.{group}"] * c[f"energy.{kind}"]
            parts[name] = parts.get(name, np.zeros_like(joules)) + factor * joules
    parts["leakage"] = c["energy.standing"] * work.standing * time
    tree = np.sum([c[f"time.{kind}"] * work.tree[kind] for kind in KINDS], axis=0)
    parts["clock_tree"] = c["energy.standing"] * tree
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


def stack(works: Sequence[Parts]) -> Parts:
    """Return several configurations as one: arrays joined along the first axis."""
    if len(works) == 1:
        return works[0]
    return Parts(
        _sums([w.decode for w in works]),
        _sums([w.mixed for w in works]),
        (_rows([w.beats[0] for w in works]), _rows([w.beats[1] for w in works])),
        np.concatenate([w.share for w in works]),
        np.concatenate([w.median for w in works]),
    )


def _rows(beats: Sequence[Beat]) -> Beat:
    return Beat(**{f.name: np.concatenate([getattr(b, f.name) for b in beats]) for f in fields(Beat)})


def _sums(all_: Sequence[Sums]) -> Sums:
    def joined(tables: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        names = dict.fromkeys(name for table in tables for name in table)
        return {
            n: np.concatenate([t.get(n, np.zeros_like(s.standing)) for t, s in zip(tables, all_, strict=True)])
            for n in names
        }

    return Sums(
        busy=joined([s.busy for s in all_]),
        tree=joined([s.tree for s in all_]),
        moved={kind: joined([s.moved[kind] for s in all_]) for kind in KINDS},
        standing=np.concatenate([s.standing for s in all_]),
        launches=np.concatenate([s.launches for s in all_]),
        meetings=np.concatenate([s.meetings for s in all_]),
    )
