"""One loop cut again and again: how many pieces there are at each depth, exactly, remainders included.

A dimension of size D cut by steps of t is floor(D / t) pieces of t and, where t does not divide D, one of
D mod t; each piece is cut again by the next part of the path. At any depth only a few distinct sizes exist, so a
dimension of n mappings is two arrays (n, sizes): how large, and how many. Three ways to pass a part:

    split    every piece is cut: all children count
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


def first(pieces: Pieces, step: Floats) -> Pieces:
    """Keep the first child of every piece."""
    return np.minimum(pieces[0], step[:, None]), pieces[1]


def single(pieces: Pieces, step: Floats) -> Pieces:
    """Keep only pieces that `step` leaves whole."""
    return pieces[0], np.where(pieces[0] <= step[:, None], pieces[1], 0.0)


class Tree:
    """Pieces of one dimension of n mappings along the whole path, each way of passing it worked out once."""

    def __init__(self, size: int, steps: Ints) -> None:
        self.steps = steps.astype(np.float64)  # (n, parts)
        self._known: dict[str, Pieces] = {"": whole(size, len(steps))}

    def _at(self, ways: str) -> Pieces:
        if ways not in self._known:
            before, step = self._at(ways[:-1]), self.steps[:, len(ways) - 1]
            self._known[ways] = {"a": split, "f": first, "s": single}[ways[-1]](before, step)
        return self._known[ways]

    def count(self, ways: str) -> Floats:
        """(n,) pieces after passing parts 0, 1, ... as `ways` says: "a" split, "f" first, "s" single."""
        return np.asarray(self._at(ways)[1].sum(axis=1))

    def volume(self, ways: str) -> Floats:
        """(n,) total size of those pieces."""
        sizes, counts = self._at(ways)
        return np.asarray((sizes * counts).sum(axis=1))
