"""One loop cut again and again: how many pieces there are at each depth, exactly, remainders included.

A dimension of size D cut by steps of t is floor(D / t) pieces of t and, where t does not divide D, one of
D mod t; each piece is cut again by the next part of the path. A fan-out shares a piece as evenly as whole units
allow, a unit being what the fan-outs further in take at once. At any depth only a few distinct sizes exist, so a
dimension of n mappings is two arrays (n, sizes): how large, and how many. Three ways to pass a part:

    split    every piece is cut: all children count (`deal` for a fan-out)
    first    only the first, largest child counts: copies that work side by side, or a loop that is reused
    single   only pieces that are not really cut count: those with one child
"""

from __future__ import annotations

import numpy as np

from .plan import Floats, Ints

Pieces = tuple[Floats, Floats]


def whole(size: int, count: int) -> Pieces:
    """Return the uncut dimension of `count` mappings."""
    return np.full((count, 1), float(size)), np.ones((count, 1))


def split(pieces: Pieces, step: Floats) -> Pieces:
    """Cut every piece by `step` (n,)."""
    sizes, counts = pieces
    t = step[:, None]
    full = np.floor(sizes / t)
    rest = sizes - full * t
    number = np.sum(full * counts, axis=1, keepdims=True)
    if not rest.any():
        return t, number
    return np.concatenate([t, rest], axis=1), np.concatenate([number, np.where(rest > 0, counts, 0.0)], axis=1)


def deal(pieces: Pieces, copies: Floats, unit: Floats) -> Pieces:
    """Share every piece among `copies` (n,), whole units (n,) in turn; the last unit may be a remainder."""
    _, counts = pieces
    least, more, short = _rounds(pieces, copies, unit)
    s, u, even = copies[:, None], unit[:, None], more == 0
    last = np.where(even, least, least + 1) * u - short
    made = [
        (last, counts),
        ((least + 1) * u, np.where(even, 0.0, more - 1) * counts),
        (least * u, np.where(even, s - 1, np.where(least > 0, s - more, 0.0)) * counts),
    ]
    keep = [made[0], *((size, number) for size, number in made[1:] if np.any(number))]
    return np.concatenate([size for size, _ in keep], axis=1), np.concatenate([number for _, number in keep], axis=1)


def most(pieces: Pieces, copies: Floats, unit: Floats) -> Pieces:
    """Keep the largest share of every piece."""
    least, more, short = _rounds(pieces, copies, unit)
    u = unit[:, None]
    uneven = np.where(more == 1, (least + 1) * u - short, (least + 1) * u)
    even = least * u - np.where(copies[:, None] == 1, short, 0.0)
    return np.where(more == 0, even, uneven), pieces[1]


def _rounds(pieces: Pieces, copies: Floats, unit: Floats) -> tuple[Floats, Floats, Floats]:
    """Return whole rounds of units, units left over, and what the last unit lacks."""
    s, u = copies[:, None], unit[:, None]
    units = np.ceil(pieces[0] / u)
    least = np.floor(units / s)
    return least, units - least * s, units * u - pieces[0]


def first(pieces: Pieces, step: Floats) -> Pieces:
    """Keep the first child of every piece."""
    return np.minimum(pieces[0], step[:, None]), pieces[1]


def single(pieces: Pieces, step: Floats) -> Pieces:
    """Keep only pieces that `step` leaves whole."""
    return pieces[0], np.where(pieces[0] <= step[:, None], pieces[1], 0.0)


class Tree:
    """Pieces of one dimension of n mappings along the whole path, each way of passing it worked out once.

    `steps` (n, parts): sizes handed inwards. `copies` (n, parts): copies that share a piece, 0 for levels.
    `unit` (n, parts): what the fan-outs further in, and the granule, take at once.
    """

    def __init__(self, size: int, steps: Ints, copies: Ints, unit: Ints) -> None:
        self.steps, self.copies, self.unit = (a.astype(np.float64) for a in (steps, copies, unit))
        self.level = np.logical_not(np.any(copies, axis=0))
        self._known: dict[str, Pieces] = {"": whole(size, len(steps))}

    def _at(self, ways: str) -> Pieces:
        if ways not in self._known:
            before, p, way = self._at(ways[:-1]), len(ways) - 1, ways[-1]
            if self.level[p]:
                found = {"a": split, "f": first, "s": single}[way](before, self.steps[:, p])
            else:
                found = {"a": deal, "f": most}[way](before, self.copies[:, p], self.unit[:, p])
            self._known[ways] = found
        return self._known[ways]

    def count(self, ways: str) -> Floats:
        """(n,) pieces after passing parts 0, 1, ... as `ways` says: "a" all, "f" the first, "s" single ones."""
        return np.asarray(self._at(ways)[1].sum(axis=1))

    def volume(self, ways: str) -> Floats:
        """(n,) total size of those pieces."""
        sizes, counts = self._at(ways)
        return np.asarray((sizes * counts).sum(axis=1))
