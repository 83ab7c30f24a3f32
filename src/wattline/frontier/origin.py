"""Where the points of a frontier come from, and how they unroll into the choices that realise them.

Each operation of the algebra leaves behind what it was made of: its children, and for each of its points the
positions on them. Unrolling walks down from a point to the leaves. In the hull reading a position lies between two
points, and the leaves share the work accordingly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from ..core.arrays import Array, Index

Reading = Literal["discrete", "hull"]
Knobs = Mapping[str, Any]


class Composed(Protocol):
    """What an origin asks of the frontiers it was made from: how many points, and where those came from."""

    @property
    def _origin(self) -> Origin: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One leaf's part of a plan: its knobs, for `share` of its work (1 unless two points are mixed)."""

    knobs: Knobs
    share: float
    time: float
    energy: float
    leaf: Leaf = field(repr=False)
    index: int


@dataclass(frozen=True, eq=False)
class Leaf:
    """Where composition ends: points of one piece of work as a source gave them, unpruned order."""

    time: Array
    energy: Array
    keep: Index
    knobs: Sequence[Knobs]
    waiting_power: float
    parts: Mapping[str, Array]
    provenance: str
    source: str
    uncertainty: float

    def choices(self, position: float, share: float) -> Iterator[Choice]:
        """Yield the point at `position` of the pruned frontier, or the two it mixes, for `share` of the work."""
        for index, part in _ends(position):
            k = int(self.keep[index])
            knobs = self.knobs[k] if self.knobs else {"point": k}
            part *= share
            yield Choice(knobs, part, part * float(self.time[k]), part * float(self.energy[k]), self, k)


@dataclass(frozen=True, eq=False)
class Nothing:
    """Origin of ZERO and NEVER."""

    def uses(self, _position: float) -> list[Use]:
        return []


@dataclass(frozen=True, eq=False)
class Compose:
    """Origin of sums and barriers: `picks` (n, k) positions of each of the k children."""

    children: tuple[Composed, ...]
    picks: Array

    def uses(self, position: float) -> list[Use]:
        low = int(position)
        share = position - low
        if not share:
            return [(child, float(at), 1.0) for child, at in zip(self.children, self.picks[low], strict=True)]
        return [
            use
            for child, at, to in zip(self.children, self.picks[low], self.picks[low + 1], strict=True)
            for use in _between(child, float(at), float(to), share)
        ]


@dataclass(frozen=True, eq=False)
class HullSum:
    """Origin of a sum of many hulls, from slow to fast: `mover` says which child takes each segment,
    `steps` (n,) how many segments have been taken at each point.
    """

    children: tuple[Composed, ...]
    mover: Index
    steps: Index

    def uses(self, position: float) -> list[Use]:
        low = int(position)
        share = position - low
        size = len(self.children)
        # Steps count from the slowest vertex; a child's own points count from the fastest.
        last = np.array([len(child) - 1 for child in self.children])
        at = last - np.bincount(self.mover[: self.steps[low]], minlength=size)
        if not share:
            return [(child, float(k), 1.0) for child, k in zip(self.children, at, strict=True)]
        to = at + np.bincount(self.mover[self.steps[low + 1] : self.steps[low]], minlength=size)
        return [
            use
            for child, k, j in zip(self.children, at, to, strict=True)
            for use in _between(child, float(k), float(j), share)
        ]


@dataclass(frozen=True, eq=False)
class Either:
    """Origin of `|`: which child each point comes from, and its position there."""

    children: tuple[Composed, ...]
    which: Index
    picks: Array

    def uses(self, position: float) -> list[Use]:
        return [(self.children[int(self.which[k])], float(self.picks[k]), part) for k, part in _ends(position)]


@dataclass(frozen=True, eq=False)
class Repeat:
    """Origin of `n * a`: the same choice n times."""

    child: Composed
    count: int

    def uses(self, position: float) -> list[Use]:
        return [(self.child, position, 1.0)] * self.count


@dataclass(frozen=True, eq=False)
class Subset:
    """Origin of thinning, of a hull and of totals: points of another frontier."""

    child: Composed
    picks: Index

    def uses(self, position: float) -> list[Use]:
        return [(self.child, float(self.picks[k]), part) for k, part in _ends(position)]


def _ends(position: float) -> list[tuple[int, float]]:
    """Return the point at `position`, or the two it mixes, each with its share."""
    low = int(position)
    share = position - low
    return [(low, 1.0 - share), (low + 1, share)] if share else [(low, 1.0)]


def _between(child: Composed, at: float, to: float, share: float) -> list[Use]:
    """Return the uses of `child` that lie `share` of the way from position `at` to `to`.

    Along one segment a position is as good as a mixture. Across a vertex it is not, because segments
    differ in length: there the two ends are mixed. (Rounding can hide such a vertex.)
    """
    if math.ceil(max(at, to)) <= math.floor(min(at, to)) + 1:
        return [(child, at + share * (to - at), 1.0)]
    return [(child, at, 1.0 - share), (child, to, share)]


def unroll(frontier: Composed, position: float, *, weigh: bool = False) -> Iterator[Choice]:
    """Yield the choice of every leaf, in order. A stack, since a long sum nests deeper than Python may.

    With `weigh`, what `n * a` repeats comes once with n times the share: enough for a sum over all
    leaves, and it costs the same for a million steps as for one.
    """
    stack: list[Use] = [(frontier, position, 1.0)]
    while stack:
        child, at, share = stack.pop()
        origin = child._origin
        if isinstance(origin, Leaf):
            yield from origin.choices(at, share)
        elif weigh and isinstance(origin, Repeat):
            stack.append((origin.child, at, share * origin.count))
        else:
            stack += [(f, where, share * part) for f, where, part in reversed(origin.uses(at))]


Origin = Leaf | Nothing | Compose | HullSum | Either | Repeat | Subset
# A child, the position on it, and the share of the work done there.
Use = tuple[Composed, float, float]
