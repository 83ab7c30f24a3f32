"""Exact access counts of mappings: words read and written at every level, and steps of the arithmetic.

Between a level that keeps an operand and the next one further in, words move when a tile changes. A tile of `a`
stays where it is while only the n loop advances, provided no m or k loop inside that n loop has more than one
turn; so for every tile, what counts is the innermost of its own loops that really turns, and the reused loops
outside it. `trees` supplies the numbers exactly, remainders included; `tests` runs the loops and counts.

    down    words delivered to the inner level, over all copies; `up` (results) likewise
    sent    the same as the outer level sees them: shared by the copies of a fan-out that multicasts, added up by
            one that reduces

Partial sums go out `up` times; all but the first visit of each result also came in. A copy whose sums start at
zero needs no read of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ...hardware.architecture import OPERANDS, Compute, Fanout, Level
from .einsum import RELEVANT, REUSED
from .plan import ORDERS, Floats, Ints, Mappings, array_of
from .trees import Tree


@dataclass(frozen=True)
class Counts:
    """What n mappings move, over the whole batch.

    Attributes
    ----------
    read, write : (n, parts, 3) words of a, b, c read from and written to each level, all instances together.
    final : (n, parts, 2) words of c among those written, and among those read, that are finished results.
    carried : (n, parts, 3) words that arrive at or leave the copies of each fan-out.
    used : (n, parts) instances of each level (copies of each fan-out) that take part.
    steps : (n,) issues of the arithmetic one after another.
    tiles : (n,) tiles of the innermost level outside all copies of the arithmetic, one after another.
    """

    read: Floats
    write: Floats
    final: Floats
    carried: Floats
    used: Floats
    steps: Floats
    tiles: Floats

    def take(self, pick: NDArray[np.intp]) -> Counts:
        """Return the rows chosen."""
        return Counts(*(getattr(self, f.name)[pick] for f in fields(self)))


class _Counter:
    def __init__(self, maps: Mappings) -> None:
        self.maps = maps
        self.path = maps.architecture.path
        n = len(maps)
        copies, units = maps.copies(), maps.units()
        self.trees = [
            Tree(size, maps.inner[:, :, d], copies[:, :, d], units[:, :, d]) for d, size in enumerate(maps.einsum.size)
        ]
        self.is_level = [isinstance(p, Level) for p in self.path]
        shape = (n, len(self.path), 3)
        self.read, self.write, self.carried = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.final = np.zeros((n, len(self.path), 2))

    # -- tiles that change ---------------------------------------------------------------------------

    def visits(self, operand: str, end: int, merged: frozenset[int], orders: Ints) -> Floats:
        """(n,) words of `operand` in tiles handed in by parts before `end`, each time one changes.

        `merged`: fan-outs whose copies share words that do not depend on the reused loop (multicast, reduction).
        `orders`: (parts,) loop order of each level, one for all mappings at hand.
        """
        reused = REUSED[operand]
        one, two = RELEVANT[operand]
        turns = [(p, d) for p in range(end) if self.is_level[p] for d in ORDERS[orders[p]]]
        total: Floats = np.zeros(len(self.maps))
        before: Floats = np.zeros(len(self.maps))
        last = {one: -1, two: -1}
        # Tiles dealt one by one go to another copy each time, so nothing stays across them.
        dealt = self.dealt(end)
        covered = dealt
        for p, d in [(-1, one), *turns]:
            if d == reused:
                covered = max(p, dealt)
                continue
            if p >= 0:
                last[d] = p
            now = self._still(one, last[one], end) * self._still(two, last[two], end)
            gain = now - before
            before = now
            if np.any(gain):
                total += gain * self._copies(reused, covered, end, merged)
        return total

    def dealt(self, end: int) -> int:
        """Return the last part before `end` that deals tiles, or -1."""
        return max((p for p in range(end) if getattr(self.path[p], "dealt", False)), default=-1)

    def _still(self, d: int, level: int, end: int) -> Floats:
        """(n,) size of `d` in pieces whose loops inside `level` have one turn each."""
        ways = "".join("a" if not self.is_level[p] or p <= level else "s" for p in range(end))
        return self.trees[d].volume(ways)

    def _copies(self, d: int, level: int, end: int, merged: frozenset[int]) -> Floats:
        """(n,) pieces of the reused loop: its turns down to `level`, and the copies that hold their own."""
        ways = "".join(
            ("a" if p <= level else "f") if self.is_level[p] else ("f" if p in merged else "a") for p in range(end)
        )
        return self.trees[d].count(ways)

    # -- streams between levels ----------------------------------------------------------------------

    def stream(self, x: int, inner: int, outer: int, orders: Ints, batch: float) -> None:
        """Count what moves of operand `x` between level `outer` and `inner` (len(path): the arithmetic)."""
        operand = OPERANDS[x]
        arithmetic = inner == len(self.path)
        latched = arithmetic and operand in self.compute.latched
        fans = [p for p in range(outer + 1, inner) if not self.is_level[p]]
        key = operand if operand != "c" else "reduce"
        merged = frozenset(p for p in fans if _merges(self.path[p], key))
        every = self._each(operand, inner, merged, orders, latched, arithmetic) * batch
        alone = self._each(operand, inner, frozenset(), orders, latched, arithmetic) * batch
        for p in fans:
            inside = frozenset(q for q in merged if q > p)
            self.carried[:, p, x] += self._each(operand, inner, inside, orders, latched, arithmetic) * batch
        if operand != "c":
            self.read[:, outer, x] += every
            if not arithmetic:
                self.write[:, inner, x] += alone
            return
        distinct = self.maps.einsum.words("c")
        back = every - distinct
        self.write[:, outer, x] += every
        self.read[:, outer, x] += back
        self.final[:, outer, 0] += distinct
        for p in fans:
            self.carried[:, p, x] += back
        if not arithmetic:
            self.read[:, inner, x] += alone
            self.write[:, inner, x] += back
            # Sums that start at zero are not read before the first addition.
            self.read[:, inner, x] -= alone - every
            # Sums that leave a copy to be added to others' are not finished.
            self.final[:, inner, 1] += np.where(alone == every, distinct, 0.0)

    def _each(
        self, operand: str, end: int, merged: frozenset[int], orders: Ints, latched: bool, arithmetic: bool
    ) -> Floats:
        """(n,) words moved: tiles that change, or, into arithmetic that keeps nothing, one set per issue."""
        if not arithmetic or latched:
            return self.visits(operand, end, merged, orders)
        one, two = RELEVANT[operand]
        ways = "".join("f" if p in merged else "a" for p in range(end))
        return self._still(one, end, end) * self._still(two, end, end) * self.trees[REUSED[operand]].count(ways)

    @property
    def compute(self) -> Compute:
        return self.maps.architecture.compute

    # -- time ----------------------------------------------------------------------------------------

    def turns(self, end: int) -> Floats:
        """(n,) tiles that one copy goes through, one after another, down to parts before `end`."""
        batch = self.maps.batch.astype(np.float64)
        shared = np.prod(batch, axis=1)
        rounds = np.ceil(self.maps.einsum.batch / shared)
        dealt = self.dealt(end)
        ways = "".join("a" if self.is_level[p] else "f" for p in range(end))
        steps = [t.count(ways) for t in self.trees]
        if dealt < 0:
            return np.asarray(np.prod(steps, axis=0) * rounds)
        part = self.path[dealt]
        assert isinstance(part, Fanout)
        queue = [t.count(ways[: dealt + 1]) for t in self.trees]
        inside = self._full(dealt, end)
        number = queue[0] * queue[1] * (self.maps.einsum.batch if "batch" in part.dims else 1.0)
        waves = np.ceil(number / part.size)
        rounds = np.ones(len(self.maps)) if "batch" in part.dims else rounds
        return np.asarray(waves * queue[2] * rounds * np.prod(inside, axis=0))

    def _full(self, dealt: int, end: int) -> list[Floats]:
        """Turns inside a full tile handed out by part `dealt`."""
        ways = "f" * (dealt + 1) + "".join("a" if self.is_level[p] else "f" for p in range(dealt + 1, end))
        return [t.count(ways) for t in self.trees]

    def used(self) -> Floats:
        """(n, parts) instances of each part that take part."""
        n = len(self.maps)
        out = np.ones((n, len(self.path)))
        running: Floats = np.ones(n)
        for p, part in enumerate(self.path):
            if isinstance(part, Fanout):
                if part.dealt:
                    queue = [t.count("".join("a" if self.is_level[q] else "f" for q in range(p))) for t in self.trees]
                    number = queue[0] * queue[1] * (self.maps.einsum.batch if "batch" in part.dims else 1.0)
                    running = running * np.minimum(number, part.size)
                else:
                    for tree in self.trees:
                        running = running * tree.count("f" * p + "a")
                    running = running * self.maps.batch[:, p]
            out[:, p] = running
        return out


def _merges(part: Level | Fanout, key: str) -> bool:
    if not isinstance(part, Fanout):
        return False
    return part.reduce if key == "reduce" else key in part.multicast


def count(maps: Mappings) -> Counts:
    """Return the exact counts of `maps`, mappings of like orders and bypasses taken together."""
    n, parts = maps.order.shape
    shape = (n, parts, 3)
    read, write, carried = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    final, used = np.zeros((n, parts, 2)), np.zeros((n, parts))
    steps, tiles = np.zeros(n), np.zeros(n)
    label = np.concatenate([maps.order, maps.keep.reshape(n, -1)], axis=1)
    _, groups = np.unique(label, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    for g in range(int(groups.max()) + 1 if n else 0):
        pick = np.flatnonzero(groups == g)
        one = _Counter(maps.take(pick))
        _streams(one)
        read[pick], write[pick], carried[pick] = one.read, one.write, one.carried
        final[pick], used[pick] = one.final, one.used()
        steps[pick] = one.turns(parts)
        tiles[pick] = one.turns(array_of(one.path) if any(not level for level in one.is_level) else 1)
    return Counts(read, write, final, carried, used, steps, tiles)


def _streams(one: _Counter) -> None:
    maps = one.maps
    orders = maps.order[0]
    batch = float(maps.einsum.batch)
    for x in range(3):
        holders = [p for p in range(len(one.path)) if maps.keep[0, p, x]]
        for outer, inner in zip(holders, [*holders[1:], len(one.path)], strict=True):
            one.stream(x, inner, outer, orders, batch)
