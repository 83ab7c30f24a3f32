"""Which points of a set are worth keeping: those no other beats, those on the hull, or a few evenly spaced."""

from __future__ import annotations

import bisect

import numpy as np

from ..core.arrays import Array, Index


def prune(time: Array, energy: Array) -> Index:
    """Return the indices of the points that no other beats, by time; of equals the first stays."""
    order = np.lexsort((energy, time))
    e = energy[order]
    best = np.minimum.accumulate(e)
    keep = np.ones(e.size, bool)
    keep[1:] = e[1:] < best[:-1]
    return np.asarray(order[keep], dtype=np.int64)


def hull_index(time: Array, energy: Array) -> Index:
    """Return the indices of the vertices of the lower convex hull of pruned points."""
    stack: list[int] = []
    t, e = time.tolist(), energy.tolist()
    for i in range(len(t)):
        while len(stack) >= 2:
            a, b = stack[-2], stack[-1]
            if (e[b] - e[a]) * (t[i] - t[a]) < (e[i] - e[a]) * (t[b] - t[a]):
                break
            stack.pop()
        stack.append(i)
    return np.asarray(stack, dtype=np.int64)


def spaced(rising: Array, points: int) -> Index:
    """Choose `points` indices of a rising array, first and last included, with the least largest step."""

    values = rising.tolist()
    end = len(values) - 1

    def walk(step: float) -> list[int]:
        kept = [0]
        while kept[-1] < end and len(kept) <= points:
            reach = bisect.bisect_right(values, values[kept[-1]] + step)
            kept.append(min(max(reach, kept[-1] + 1), end))
        return kept

    low, high = 0.0, values[-1] - values[0]
    for _ in range(60):
        middle = 0.5 * (low + high)
        if len(walk(middle)) <= points:
            high = middle
        else:
            low = middle
    return np.asarray(walk(high), dtype=np.int64)
