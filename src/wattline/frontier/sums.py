"""Points of composed frontiers, as arrays: sums by slope and by pairs, and where a barrier stands on each side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..core.arrays import Array, Index
from .origin import Reading
from .pruning import prune

# Above this many pairs a discrete sum first drops pairs that a realisable point surely beats.
FILTER_PAIRS = 20_000
_BUCKETS = 1 << 16
# Rows of pairs looked at together: 64 x 1,000 doubles stay in a core's cache.
_ROWS = 64


class Points(Protocol):
    """A frontier as far as sums are concerned: (n,) seconds rising, joules falling, and what lies between."""

    @property
    def time(self) -> Array: ...

    @property
    def energy(self) -> Array: ...

    @property
    def reading(self) -> Reading: ...


def hull_sum(times: Sequence[Array], energies: Sequence[Array]) -> tuple[Array, Array, Index, Index]:
    """Merge convex hulls by slope, from the slowest vertices towards the fastest.

    times, energies : of each hull, fastest first. Returns times and energies of the sum, fastest first; whose segment
    each step from slow to fast is; and which of those steps are vertices.
    """
    sizes = np.array([len(t) for t in times])
    owner = np.repeat(np.arange(len(times)), sizes)[:-1]
    time, energy = np.concatenate(times), np.concatenate(energies)
    inner = np.ones(time.size - 1, bool)
    inner[np.cumsum(sizes)[:-1] - 1] = False  # the step from one child's slowest to the next one's fastest
    dt, de, owner = np.diff(time)[inner], -np.diff(energy)[inner], owner[inner]
    # The price of a second rises from slow to fast along each child, so one sort interleaves them all.
    # Listed from slow to fast, segments of equal price and one child keep their order.
    dt, de, owner = dt[::-1], de[::-1], owner[::-1]
    price = de / dt
    same = owner[1:] == owner[:-1]
    # Rounding may have cost a child an ulp of its convexity; taken out of order, its segments would not be its own.
    while (fallen := np.flatnonzero(same & (price[1:] < price[:-1]))).size:
        price[fallen + 1] = price[fallen]
    order = np.argsort(price, kind="stable")
    slowest = np.cumsum(sizes) - 1
    fastest = slowest - sizes + 1
    # The fast end is known exactly; a time that rounds below it could not be met (nor be below 0 s).
    first, most = time[fastest].sum(), energy[fastest].sum()
    time = np.cumsum(np.append(time[slowest].sum(), -dt[order]))
    energy = np.cumsum(np.append(energy[slowest].sum(), de[order]))
    time, energy = np.maximum(time, first), np.minimum(energy, most)
    time[-1], energy[-1] = first, most
    # Equal prices from different children are one straight edge, whose inner vertices say nothing.
    price = price[order]
    vertex = np.ones(time.size, bool)
    vertex[1:-1] = price[1:] > price[:-1]
    steps = np.flatnonzero(vertex)[::-1]
    # A segment lost to rounding must not leave two points at one time or of one energy.
    if not ((np.diff(time[steps]) > 0).all() and (np.diff(energy[steps]) < 0).all()):
        steps = steps[prune(time[steps], energy[steps])]
    return time[steps], energy[steps], owner[order], steps


def pairs(a: Points, b: Points) -> tuple[Index, Index]:
    """Return index pairs that may lie on the sum's frontier.

    All of them when few; otherwise those not surely beaten. Every k-th row and column of pairs gives
    realisable points; their running minimum over small time buckets is a bar, and a pair above the
    bar of an earlier bucket is beaten. The bar only ever keeps too many, so the result stays exact.
    """
    if len(a.time) * len(b.time) <= FILTER_PAIRS:
        grid = np.indices((len(a.time), len(b.time)))
        return grid[0].ravel(), grid[1].ravel()
    # Not the difference of the sums: beside a long `a` all of a short `b` would round away.
    scale = (_BUCKETS - 2) / (float(a.time[-1] - a.time[0]) + float(b.time[-1] - b.time[0]))
    ta, tb = (a.time - a.time[0]) * scale, (b.time - b.time[0]) * scale
    bar = np.full(_BUCKETS, np.inf)
    for rows, columns in ((_every(len(a.time)), slice(None)), (slice(None), _every(len(b.time)))):
        bucket = np.add.outer(ta[rows], tb[columns]).astype(np.int32).ravel()
        np.minimum.at(bar, bucket, np.add.outer(a.energy[rows], b.energy[columns]).ravel())
    np.minimum.accumulate(bar, out=bar)
    # Two buckets earlier: one because the bar's own bucket may lie later, one for rounding.
    bar = np.concatenate([[np.inf, np.inf], bar[:-2]])
    left, right = [], []
    for first in range(0, len(a.time), _ROWS):
        rows = slice(first, first + _ROWS)
        bucket = np.add.outer(ta[rows], tb).astype(np.int32)
        ok = np.flatnonzero(np.add.outer(a.energy[rows], b.energy) <= bar[bucket])
        left.append(ok // len(b.time) + first)
        right.append(ok % len(b.time))
    return np.concatenate(left), np.concatenate(right)


def _every(size: int) -> slice:
    return slice(None, None, max(1, size // 64))


def positions(f: Points, times: Array) -> Array:
    """Return the position on `f` of its best choice by each time (fractional in the hull reading)."""
    low = np.searchsorted(f.time, times, side="right") - 1
    at = low.astype(float)
    if f.reading == "hull" and len(f.time) > 1:
        inner = low < len(f.time) - 1
        k = low[inner]
        at[inner] += (times[inner] - f.time[k]) / (f.time[k + 1] - f.time[k])
    return at


def energies(f: Points, positions: Array) -> Array:
    """Return the joules at positions on `f`."""
    low = positions.astype(np.int64)
    share = positions - low
    high = np.minimum(low + 1, len(f.time) - 1)
    return np.asarray(f.energy[low] + share * (f.energy[high] - f.energy[low]))
