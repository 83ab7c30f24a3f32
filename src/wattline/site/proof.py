"""A bound of our own for programs with whole columns: branches, each proved by the prices of its linear program.

The least of all leaves' bounds is one of the whole program, since every answer lies in some leaf. A leaf's bound is
worked out by weak duality from its prices, whatever the solver says of itself; a leaf that the solver calls empty is
dropped only where a ray of prices proves that nothing lies in it. The best leaf is branched next, on the column
whose halves have raised bounds most so far (pseudo-costs), until the gap is reached or a number of pivots is spent:
the same on any machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Pivots times rows after which a proof ends; some ten seconds of one core.
WORK: Final = 1e8
_WHOLE: Final = 1e-6
# What asking the solver costs by itself, in the same measure.
_LEAST: Final = 2e4


@dataclass(order=True)
class _Leaf:
    """Values of its linear program, and the ends that differ from the program's own: column -> (low, high)."""

    bound: float
    number: int
    ends: dict[int, tuple[float, float]] = field(compare=False)
    x: Array = field(compare=False)


def prove(
    solver: Any, whole: Ints, low: Array, high: Array, bound: Callable[[Array, Array, Array, bool], float],
    *, least: float, target: float, start: tuple[Array, float], work: float = WORK,
) -> tuple[float, Array | None]:  # fmt: skip
    """Return what no answer goes below, at most `target`, and a better answer than `least` where one is met.

    solver : HiGHS with the linear program. whole : columns that are whole, counted one by one. bound : of prices, ends
    and whether costs count (not for a ray). start : values and bound of the program without branches.
    """
    import highspy

    every = np.arange(len(low), dtype=np.int32)
    rows = max(1, int(solver.getNumRow()))
    gain, seen = np.ones((2, len(low))), np.ones((2, len(low)))
    heap = [_Leaf(start[1], 0, {}, start[0])]
    spent, number, better = 0.0, 0, None
    while heap and heap[0].bound < target and spent < work:
        leaf = heapq.heappop(heap)
        at = leaf.x[whole]
        down, up = at - np.floor(at + _WHOLE), np.ceil(at - _WHOLE) - at
        open_ = np.minimum(down, up) > _WHOLE
        if not open_.any():  # whole already: nothing below its value is to be found in it
            heapq.heappush(heap, leaf)
            break
        score = np.maximum(gain[0, whole] * down, 1e-12) * np.maximum(gain[1, whole] * up, 1e-12)
        pick = int(np.argmax(np.where(open_, score, -1.0)))
        j, value = int(whole[pick]), float(at[pick])
        for side in (0, 1):
            a, z = leaf.ends.get(j, (float(low[j]), float(high[j])))
            ends = {**leaf.ends, j: (a, float(np.floor(value))) if side == 0 else (float(np.ceil(value)), z)}
            lows, highs = low.copy(), high.copy()
            for column, (one, other) in ends.items():
                lows[column], highs[column] = one, other
            solver.changeColsBounds(len(every), every, lows, highs)
            solver.run()
            info, status = solver.getInfo(), solver.getModelStatus()
            spent += max(_LEAST, rows * int(info.simplex_iteration_count))
            number += 1
            if status == highspy.HighsModelStatus.kInfeasible and _empty(solver, bound, lows, highs):
                continue
            if status != highspy.HighsModelStatus.kOptimal:
                heapq.heappush(heap, _Leaf(leaf.bound, number, ends, leaf.x))
                spent = work  # a solver that gives up is not asked again
                break
            found = solver.getSolution()
            x = np.array(found.col_value)
            proved = max(leaf.bound, bound(np.array(found.row_dual), lows, highs, True))
            step = max(value - np.floor(value) if side == 0 else np.ceil(value) - value, 1e-6)
            rise = max(proved - leaf.bound, 0.0) / max(abs(least), 1e-300) / step
            gain[side, j] = (gain[side, j] * seen[side, j] + 1e4 * rise) / (seen[side, j] + 1)
            seen[side, j] += 1
            cost = float(info.objective_function_value)
            if cost < least and float(np.abs(x[whole] - np.round(x[whole])).max(initial=0.0)) < _WHOLE:
                least, better = cost, x
            if proved < target:
                heapq.heappush(heap, _Leaf(proved, number, ends, x))
        else:
            continue
        break
    return min(heap[0].bound if heap else target, target), better


def _empty(solver: Any, bound: Callable[[Array, Array, Array, bool], float], low: Array, high: Array) -> bool:
    """Whether a ray of prices proves that no values keep all rows: without costs, their bound is above 0."""
    result = solver.getDualRay()
    ray = np.array(result[-1]) if len(result) > 2 and result[1] else None
    if ray is None or not np.isfinite(ray).all():
        return False
    return max(bound(ray, low, high, False), bound(-ray, low, high, False)) > 0
