"""Which replicas serve a trace for the least joules per token within its latency promise.

    variant: chip x parallelism x precision --step tables--> curves --fluid (fluid.py)--> one row per setting
    setting: replicas x most running requests x clock
    rows of variants --one pool, prefill + decode pools, pools by prompt length--> candidates --pruned--> frontier

A row is what one pool does with the requests sent to it; a candidate is one pool or two. Latencies and joules here are
analytic; `wattline.serving_search` confirms the best of them by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CapacityError
from ..hardware.chip import lockable
from ..hardware.cluster import Cluster
from ..source.base import Array, Device, Source
from ..source.overhead import Overhead
from .engine import assemble
from .fluid import Curves, Settings, Traffic, flow, latency
from .step import Job, Load, Replica, clock_grid, work_of

Role = Literal["both", "prefill", "decode"]

# Numbers of replicas looked at from the fewest that carry the load, and how far beyond.
COUNTS, BEYOND = 10, 3.0
# Batches whose steps are worked out; in between, straight lines.
_NODES: Final = 40
# Most running requests looked at, besides what the memory holds.
BATCHES: Final = (8, 16, 32, 64, 128, 256)
# Figures of a row that a candidate may be better in.
FIGURES: Final = ("energy", "ttft", "tpot", "latency")
# Relative difference below which two rows are the same (a batch that never fills changes nothing).
_SAME: Final = 1e-4


def load_of(traffic: Traffic) -> Load:
    """Return the mean request of a trace; long requests run longer, so the cache holds more of them."""
    context = max(traffic.seen - traffic.prompt_mean, 1.0)
    return Load(prompt=traffic.prompt_mean, output=traffic.output_mean, context=context, cached=traffic.cached)


def capacity(replica: Replica, traffic: Traffic, device: Device, most: int) -> int:
    """Return the most running requests, at least one of which must be as long as the longest of the trace."""
    chip = device.chip
    held = min(replica.capacity(load_of(traffic), device), most, int(replica.chunk))
    longest = replica.capacity(Load(prompt=float(traffic.longest), output=1.0), device)
    if min(held, longest) < 1:
        raise CapacityError(
            f"{replica.parallel.devices} x {chip.name} hold no request of {traffic.longest:,} tokens beside "
            f"{replica.model.name}; use more devices per replica or a narrower precision"
        )
    return held


def curves_of(replica: Replica, traffic: Traffic, device: Device, source: Source, most: int) -> Curves:
    """Return what steps of up to `most` running requests take at the clocks of `clock_grid`.

    Steps with and without prompts keep the power limit apart, as they do in an engine: reading draws more.
    """
    load, chip, grid = load_of(traffic), device.chip, clock_grid(device)
    nodes = np.unique(np.round(np.geomspace(1, most, _NODES)))
    work = work_of([Job(replica, load, float(b)) for b in nodes], device, source, grid)
    c, waiting = replica.constants(device), chip["power.waiting"]
    sizes = np.concatenate([[1.0], np.arange(1.0, most + 1.0), [float(most)]])

    def kind(share: float) -> tuple[Array, Array]:
        mixed = replace(work, share=np.full_like(work.share, share))
        table = assemble(mixed, c, waiting, chip["power.limit"], grid, grid, replica.ahead(device))
        return table.time, replica.parallel.devices * table.energy

    def rows(values: Array) -> Array:
        return np.stack([np.interp(sizes, nodes, column) for column in values.T], axis=1)

    (alone, alone_j), (mixed, mixed_j) = kind(0.0), kind(1.0)
    prompts = replica.parallel.data * work.beats[1].prompts
    return Curves(
        step=rows(alone), fill=rows(np.maximum(mixed - alone, 0.0) / prompts), step_j=rows(alone_j),
        fill_j=rows(np.maximum(mixed_j - alone_j, 0.0) / prompts),
        waiting=replica.parallel.devices * c["energy.waiting"] * waiting, room=replica.chunk,
        outside=(c["first.request"], c["first.token"]),
    )  # fmt: skip


def counts(traffic: Traffic, curves: Curves, tpot: float | None, stated: Sequence[int] = ()) -> list[int]:
    """Return the numbers of replicas looked at: from the fewest that could carry the mean load, upwards."""
    if stated:
        return sorted(set(stated))
    sizes = np.arange(len(curves.step))[1:-1, None].astype(np.float64)
    mean = curves.step[1:-1] + curves.fill[1:-1] * sizes / traffic.output_mean
    able = mean <= (tpot or math.inf)
    rate = np.where(able, sizes / mean, 0.0).max() / traffic.output_mean
    if rate <= 0:
        rate = float((sizes / mean).max()) / traffic.output_mean
    first = max(1, math.ceil(traffic.rate / rate))
    last = max(math.ceil(BEYOND * first), first + 4)
    return sorted({round(x) for x in np.geomspace(first, last, COUNTS)})


@dataclass(frozen=True, eq=False)
class Rows:
    """Settings of one variant in one role and what they do: arrays (n,). Energies are the facility's, J of the trace.

    duration : s until the last request has left. first : median seconds to the first token.
    searched : settings looked at, of which these are left.
    """

    replicas: Array
    batch: Array
    clock: Array
    energy: Array
    ttft: Array
    tpot: Array
    latency: Array
    duration: Array
    searched: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, for a row of a sweep."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @staticmethod
    def read(found: Mapping[str, Any]) -> Rows:
        """Return `to_dict` undone."""
        read: dict[str, Any] = {name: np.array(v) if isinstance(v, list) else v for name, v in found.items()}
        return Rows(**read)

    def at(self, pick: NDArray[np.int64]) -> Rows:
        """Return some of them."""
        some: dict[str, Any] = {n: v[pick] if isinstance(v, np.ndarray) else v for n, v in vars(self).items()}
        return Rows(**some)

    def joined(self, other: Rows) -> Rows:
        """Return both."""
        both: dict[str, Any] = {
            n: np.concatenate([v, getattr(other, n)]) for n, v in vars(self).items() if isinstance(v, np.ndarray)
        }
        return Rows(**both, searched=self.searched + other.searched)


@dataclass(frozen=True)
class Question:
    """What is asked of one variant in one role, beside the traffic.

    replicas, batches : those looked at; found from the load and the memory where empty. most_chips : of one pool.
    """

    percentile: float = 99.0
    role: Role = "both"
    max_batch: int = 512
    replicas: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()
    tpot: float | None = None
    most_chips: int | None = None


def rows(
    replica: Replica, cluster: Cluster, traffic: Traffic, source: Source, asked: Question
) -> tuple[Rows, Rows]:  # fmt: skip
    """Return every setting of one variant that no other of it beats; and all at maximum clock and the fullest batch."""
    device, prefill = Device(cluster.chip, cluster.node), asked.role == "prefill"
    most = capacity(replica, traffic, device, asked.max_batch)
    curves = curves_of(replica, traffic, device, source, most)
    many = counts(traffic, curves, None if prefill else asked.tpot, asked.replicas)
    if asked.most_chips is not None:
        many = [r for r in many if r * replica.parallel.devices <= asked.most_chips]
        if not many:
            raise CapacityError(f"no pool of up to {asked.most_chips} chips carries the load")
    # Prompts leave a prefill pool as soon as they are read, so its batch never fills.
    sizes = sorted({min(b, most) for b in (asked.batches or (*BATCHES, most))})
    fullest = sizes[-1]
    levels = np.arange(len(clock_grid(device)))
    full, peak = _answer(_grid(many, [fullest], levels), curves, cluster, traffic, asked)
    every = full
    if not prefill:
        rest = _grid(many, sizes[:-1], levels)
        # A batch that would never have filled changes nothing.
        binds = rest.batch < np.tile(peak.reshape(len(many), 1, -1), (1, max(len(sizes) - 1, 0), 1)).ravel()
        if binds.any():
            some = Settings(rest.replicas[binds], rest.batch[binds], rest.level[binds])
            every = full.joined(_answer(some, curves, cluster, traffic, asked)[0])
        every = Rows(**{**vars(every), "searched": len(full.energy) + len(rest.batch)})
    figures = np.stack([getattr(every, name) for name in FIGURES], axis=1)
    top = full.at(np.flatnonzero(full.clock == full.clock.max()))
    return every.at(unbeaten(figures, every.replicas)), top


def _grid(replicas: Sequence[int], batches: Sequence[int], levels: NDArray[np.int64]) -> Settings:
    r, b, level = (x.ravel() for x in np.meshgrid(replicas, batches, levels, indexing="ij"))
    return Settings(r.astype(np.float64), b.astype(np.float64), level.astype(np.int64))


def _answer(
    settings: Settings, curves: Curves, cluster: Cluster, traffic: Traffic, asked: Question
) -> tuple[Rows, Array]:
    """Return what settings do, and the most requests each ever runs."""
    reads, decodes = asked.role != "decode", asked.role != "prefill"
    found = flow(traffic, curves, settings, reads=reads, decodes=decodes)
    taken = latency(traffic, curves, settings, found, reads=reads)
    ttft, tpot, whole = (np.percentile(x, asked.percentile, axis=1) for x in (taken.ttft, taken.tpot, taken.whole))
    energy = Overhead.of(cluster).total(found.energy, settings.replicas * found.duration)
    clock = lockable(cluster.chip, clock_grid(Device(cluster.chip, cluster.node)))[settings.level]
    if not decodes:
        tpot, whole = np.zeros_like(tpot), ttft
    out = Rows(
        settings.replicas, settings.batch, clock, energy, ttft, tpot, whole, found.duration, len(energy)
    )  # fmt: skip
    return out, found.running.max(axis=1).astype(np.float64)


def unbeaten(figures: Array, tie: Array | None = None) -> NDArray[np.int64]:
    """Return the rows of (n, figures) that no other beats in all; of equal ones the first by `tie`, then in order."""
    finite = np.flatnonzero(np.isfinite(figures).all(axis=1))
    if not finite.size:
        return finite
    ties = finite if tie is None else tie[finite]
    order = finite[np.lexsort((finite, ties, *figures[finite].T[::-1]))]
    kept: list[int] = []
    block = np.empty((len(order), figures.shape[1]))
    for i in order.tolist():
        mine = figures[i] * (1.0 + _SAME)
        if kept and (block[: len(kept)] <= mine).all(axis=1).any():
            continue
        block[len(kept)] = figures[i]
        kept.append(i)
    return np.sort(np.array(kept, dtype=np.int64))


# ---- candidates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One pool of a candidate: `variant` by its place among the searched ones, and its setting.

    chunk : most tokens of a step, as stated where None. prefill_clock : Hz of steps with prompts, `clock` where None.
    parked : whether replicas are started and stopped with the load.
    """

    variant: int
    role: Role
    replicas: int
    batch: int
    clock: float
    slice: str = "all"
    chunk: int | None = None
    prefill_clock: float | None = None
    parked: bool = False


@dataclass(frozen=True)
class Candidate:
    """One way to serve the whole trace, with its analytic figures: facility joules, seconds at the percentile.

    moved : whether its setting was found by simulation alone, so that the figures are those of a neighbour.
    """

    parts: tuple[Part, ...]
    energy: float
    ttft: float
    tpot: float
    latency: float
    duration: float
    moved: bool = False

    @property
    def power(self) -> float:
        """Average facility watts."""
        return self.energy / self.duration if self.duration > 0 else 0.0

    @property
    def figures(self) -> tuple[float, float, float, float]:
        return self.energy, self.ttft, self.tpot, self.latency


@dataclass(frozen=True)
class Promise:
    """What is promised: seconds at a percentile, None for nothing; `power`: most average facility watts."""

    ttft: float | None = None
    tpot: float | None = None
    percentile: float = 99.0
    power: float | None = None

    def meets(self, ttft: float, tpot: float, power: float) -> bool:
        """Whether figures keep it."""
        return not self.broken(ttft, tpot, power)

    def broken(self, ttft: float, tpot: float, power: float) -> dict[str, float]:
        """Return by what factor each bound is missed, of those that are."""
        over = {"ttft": (ttft, self.ttft), "tpot": (tpot, self.tpot), "power": (power, self.power)}
        return {n: value / limit for n, (value, limit) in over.items() if limit is not None and value > limit}


Found = Mapping[tuple[int, Role, str], Rows]


def candidates(found: Found, transfer: Mapping[tuple[int, int], float]) -> list[Candidate]:
    """Return every way to serve: in one pool, in a prefill and a decode pool, by prompt length.

    `transfer`: (prefill variant, decode variant) -> seconds to move a mean request's cache; pairs left out are none.
    """
    every = [
        Candidate((_part(v, role, part, rows, i),), *_row(rows, i))
        for (v, role, part), rows in found.items()
        if role == "both" and part == "all"
        for i in range(len(rows.energy))
    ]
    return every + _disaggregated(found, transfer) + _by_length(found)


def pruned(every: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats in all figures, cheapest first; of equal ones the simplest."""
    if not every:
        return []
    figures = np.array([c.figures for c in every])
    keep = unbeaten(figures, np.array([len(c.parts) for c in every], dtype=np.float64))
    return sorted((every[i] for i in keep), key=lambda c: c.figures)


def _part(variant: int, role: Role, part: str, rows: Rows, i: int) -> Part:
    return Part(variant, role, int(rows.replicas[i]), int(rows.batch[i]), float(rows.clock[i]), part)


def _row(rows: Rows, i: int) -> tuple[float, float, float, float, float]:
    r = rows
    return float(r.energy[i]), float(r.ttft[i]), float(r.tpot[i]), float(r.latency[i]), float(r.duration[i])


def _disaggregated(found: Found, transfer: Mapping[tuple[int, int], float]) -> list[Candidate]:
    """Pair pools that read prompts with pools that decode: the first sets the first token, the second the rest."""
    first, second = _pooled(found, "prefill", "all"), _pooled(found, "decode", "all")
    first = _best(first, lambda c: (c.energy, c.ttft))
    second = _best(second, lambda c: (c.energy, c.tpot))
    out = []
    for a in first:
        for b in second:
            moved = transfer.get((a.parts[0].variant, b.parts[0].variant))
            if moved is not None:
                whole = a.latency + moved + b.latency
                longest = max(a.duration, b.duration)
                out.append(Candidate(a.parts + b.parts, a.energy + b.energy, a.ttft, b.tpot, whole, longest))
    return out


def _by_length(found: Found) -> list[Candidate]:
    """Pair pools for short prompts with pools for long ones: each keeps the promise for its own requests."""
    short, long = _pooled(found, "both", "short"), _pooled(found, "both", "long")
    out = []
    for a in _best(short, lambda c: c.figures):
        for b in _best(long, lambda c: c.figures):
            worst = [max(x, y) for x, y in zip(a.figures[1:], b.figures[1:], strict=True)]
            longest = max(a.duration, b.duration)
            out.append(Candidate(a.parts + b.parts, a.energy + b.energy, worst[0], worst[1], worst[2], longest))
    return out


# Most pools of each half that are paired, shared out evenly among the variants, the cheapest of each first.
_PAIRED: Final = 120


def _pooled(found: Found, role: Role, part: str) -> list[Candidate]:
    return [
        Candidate((_part(v, role, part, rows, i),), *_row(rows, i))
        for (v, kind, mine), rows in found.items()
        if kind == role and mine == part
        for i in range(len(rows.energy))
    ]


def _best(every: list[Candidate], figures: Any) -> list[Candidate]:
    if not every:
        return []
    kinds: dict[int, list[Candidate]] = {}
    for c in every:
        kinds.setdefault(c.parts[0].variant, []).append(c)
    out: list[Candidate] = []
    for some in kinds.values():
        keep = unbeaten(np.array([figures(c) for c in some]))
        out += sorted((some[i] for i in keep), key=lambda c: c.energy)[: max(_PAIRED // len(kinds), 4)]
    return out


def frontier(every: Sequence[Candidate], figure: str, promise: Promise, tokens: int) -> list[tuple[float, Candidate]]:
    """Return (joules per token, candidate) along one latency: all else kept, none beaten, fastest first.

    The promise on the figure itself is left out, so that the frontier shows what more or less of it would cost.
    """
    free = Promise(
        None if figure == "ttft" else promise.ttft, None if figure == "tpot" else promise.tpot, promise.percentile
    )
    kept = sorted((c for c in every if free.meets(c.ttft, c.tpot, 0.0)), key=lambda c: (getattr(c, figure), c.energy))
    out: list[tuple[float, Candidate]] = []
    for c in kept:
        if not out or c.energy < out[-1][1].energy * (1.0 - 1e-12):
            out.append((c.energy / tokens, c))
    return out
