"""Prices: seconds and joules of one step at a clock level, from the tables of `table.py`.

`core/kernels/serving_price.h` says the same in C.
"""

from __future__ import annotations

import math

from ._state import Floats, Prices

# Rows of cells, and the weights that they are summed with.
Rows = list[int]
Weights = list[float]


def interval(nodes: Floats, first: int, count: int, x: float) -> int:
    """Return the interval that holds x, the first or last one beyond the ends."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if nodes[first + middle] <= x:
            low = middle
        else:
            high = middle
    return low


def layers_at(p: Prices, tokens: float) -> tuple[int, float]:
    """Return the row of layers, as `table.tokens_at` does."""
    if tokens < p.each:
        i = int(tokens)
        return i, tokens - i
    if tokens < p.fine:
        tile = math.ceil(tokens / p.tile) - 1
        return p.each + 1 + 2 * (tile - p.each // p.tile), (tokens - tile * p.tile - 1.0) / (p.tile - 1.0)
    block = int(tokens / p.coarse)
    last = p.each + 2 * (p.fine - p.each) // p.tile
    return last + block - p.fine // p.coarse, tokens / p.coarse - block


def corners(
    p: Prices, pool: int, batch: float, context: float, prompt: float, reach: float, prompts: float, late: float
) -> tuple[Rows, Weights]:
    """Return the rows and weights whose sum is the step.

    Layers 0-1, head 2-3, decode attention 4-7, prefill attention 8-11.
    `late`: factor on prompt tokens, over 1 for the group that others wait for.
    """
    verified = p.scalar[pool, 5]
    i, part = layers_at(p, batch * verified + late * prompt)
    row = [p.start[pool, 0] + i, p.start[pool, 0] + i + 1]
    weight = [1.0 - part, part]
    x = batch * verified + prompts
    i = min(int(x), p.start[pool, 2] - p.start[pool, 1] - 2)
    row += [p.start[pool, 1] + i, p.start[pool, 1] + i + 1]
    weight += [1.0 - (x - i), x - i]
    plane(p, pool, 2, 0, 1, batch, context, row, weight)
    if prompt > 0:
        plane(p, pool, 3, 2, 3, late * prompt, reach, row, weight)
    return row, weight


def plane(p: Prices, pool: int, piece: int, one: int, two: int, x: float, y: float, row: Rows, weight: Weights) -> None:
    """Add the four corners around (x, y) of a grid."""
    f, n = p.axis[pool, one, 0], p.axis[pool, one, 1]
    g, m = p.axis[pool, two, 0], p.axis[pool, two, 1]
    i, j = interval(p.nodes, f, n, x), interval(p.nodes, g, m, y)
    u = (x - p.nodes[f + i]) / (p.nodes[f + i + 1] - p.nodes[f + i])
    v = (y - p.nodes[g + j]) / (p.nodes[g + j + 1] - p.nodes[g + j])
    base = p.start[pool, piece] + i * m + j
    row += [base, base + 1, base + m, base + m + 1]
    weight += [(1.0 - u) * (1.0 - v), (1.0 - u) * v, u * (1.0 - v), u * v]


def summed(p: Prices, row: Rows, weight: Weights, first: int, last: int, level: int, column: int) -> float:
    """Return the weighted sum of one column of some corners."""
    total = 0.0
    for k in range(first, last):
        total += weight[k] * p.cells[row[k], level, column]
    return total


def overlap(busy: float, host: float, exponent: float) -> float:
    """Return the longer of two overlapped times as `engine.longer` does; their sum where they take turns."""
    if exponent <= 0.0:
        return busy + host
    top = max(busy, host)
    longer: float = top * ((busy / top) ** exponent + (host / top) ** exponent) ** (1.0 / exponent)
    return longer


def at_level(
    p: Prices, row: Rows, weight: Weights, late_row: Rows, late: Weights, n: int, host: float, pool: int, level: int
) -> tuple[float, float]:
    """Return seconds and moved joules of a step at one level, power limit aside."""
    busy = summed(p, late_row, late, 0, n, level, 0)
    return overlap(busy, host, p.scalar[pool, 0]), summed(p, row, weight, 0, n, level, 1)


def limited(
    p: Prices, row: Rows, weight: Weights, late_row: Rows, late: Weights, n: int, host: float, pool: int, asked: float
) -> float:
    """Return the highest level up to `asked` at which power keeps the limit, as `table._within` does."""
    limit, waiting = p.scalar[pool, 2], p.scalar[pool, 1]
    top = p.cells.shape[1] - 1
    high = min(math.ceil(asked), top)
    above = 0.0
    while high >= 0:
        time, joules = at_level(p, row, weight, late_row, late, n, host, pool, high)
        power = joules / time + waiting
        if high == 0 or power <= limit:
            if above == 0.0:
                return asked
            part: float = (limit - power) / (above - power) if above > power else 0.0
            level: float = min(asked, high + min(max(part, 0.0), 1.0))
            return level
        above = power
        high -= 1
    return 0.0
