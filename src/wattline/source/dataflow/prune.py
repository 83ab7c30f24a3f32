"""Dropping what is never better: an exact Pareto filter over many columns, within groups.

A row goes only if another row of its group is no worse in every column. The row with the least sum of a group is
never dominated; it removes what it dominates, the next takes its place, until all that is left has led once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .plan import Floats, Ints

# Two values closer than this, relative to the larger, are the same.
TOLERANCE = 1e-12


def undominated(values: Floats, group: Ints | None = None) -> NDArray[np.intp]:
    """Return indices of the rows of `values` (n, columns) that no other row of their `group` (n,) dominates.

    Of equal rows one is kept.

    >>> undominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]))
    array([0, 1])
    """
    n = len(values)
    if n <= 1:
        return np.arange(n)
    scale = values.max(axis=0)
    columns = np.ascontiguousarray((values[:, scale > 0] / scale[scale > 0]).T)
    total = columns.sum(axis=0)
    where = np.zeros(n, dtype=np.uint16) if group is None else _small(group)
    alive = np.argsort(where, kind="stable")
    columns, total, where = columns[:, alive], total[alive], where[alive]
    kept = []
    while alive.size:
        start = np.flatnonzero(np.r_[True, where[1:] != where[:-1]])
        length = np.diff(np.r_[start, alive.size])
        least = np.flatnonzero(total == np.repeat(np.minimum.reduceat(total, start), length))
        leaders = least[np.r_[True, where[least][1:] != where[least][:-1]]]
        kept.append(alive[leaders])
        better = np.zeros(alive.size, dtype=bool)
        for column in columns:
            better |= column < np.repeat(column[leaders] * (1 - TOLERANCE), length)
        better[leaders] = False
        alive, columns, total, where = alive[better], columns[:, better], total[better], where[better]
    return np.sort(np.concatenate(kept))


def _small(group: Ints) -> NDArray[np.unsignedinteger]:
    """Return group numbers in as few bytes as they need: short ones sort in linear time."""
    return group.astype(np.uint16 if group.max() < 2**16 else np.uint32)
