"""Which sizes a tile may have, and how a fan-out may share work: the space that is searched.

Sizes are whole numbers of units, a unit being what the fan-outs further in take at once. Perfect sizes divide the
number of units; imperfect ones are the ceilings of units / j, the smallest that need j turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...hardware.architecture import Fanout
from .einsum import DIMS
from .plan import Ints


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes
    ----------
    imperfect : also try sizes that do not divide, in levels outside the innermost fan-outs.
    turns : the most turns of an imperfect loop.
    step : sizes closer than this factor to the next larger one kept are left out; 1 keeps all.
    splits : fan-outs up to this size are also shared among several loops in every way their factors allow; larger
        ones among two, by powers of two.
    idle : also leave most copies of a fan-out larger than `splits` idle, by quarters, where its copies read each for
        themselves: several times the search for joules that seldom change.
    wide : keep mappings that are best for some energies of the single parts, not only of whole domains.
    """

    imperfect: bool = True
    turns: int = 16
    step: float = 1.0
    splits: int = 16
    idle: bool = False
    wide: bool = False


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    low = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*low, *(number // d for d in low)})


def sizes(bound: int, unit: int, space: Space, imperfect: bool) -> Ints:
    """Return candidate tile sizes of a loop of `bound`, in steps of `unit`, ascending.

    A loop with few divisors (a prime, say) is padded to powers of two as well, whatever `imperfect` says.
    """
    units = -(-bound // unit)
    found = set(divisors(units))
    if len(found) < 0.5 * np.log2(units + 1) or imperfect:
        found |= {2**i for i in range(int(np.log2(units)) + 1)}
    if imperfect:
        found |= {-(-units // j) for j in range(1, space.turns + 1)}
    return np.array(_thinned(sorted({min(f * unit, bound) for f in found}), space.step), dtype=np.int64)


def _thinned(values: list[int], step: float) -> list[int]:
    """Return values, the largest and the smallest among them, each at least `step` times below the next.

    >>> _thinned([1, 2, 3, 4, 6, 12], 2.0)
    [1, 3, 6, 12]
    """
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if value * step <= kept[-1]:
            kept.append(value)
    if kept[-1] != values[0]:
        kept.append(values[0])
    return kept[::-1]


def shares(part: Fanout, remaining: tuple[int, int, int], batch: int, space: Space) -> list[tuple[int, int, int, int]]:
    """Return ways to use the copies of a fan-out: (m, n, k, batch) pieces side by side.

    `remaining`: turns left of each loop at this place, which bound the pieces. Small fan-outs are shared in every way
    there is, idle copies included: a word that goes to each copy by itself costs less with fewer of them.
    """
    bounds = [*(r if d in part.dims else 1 for d, r in zip(DIMS, remaining, strict=True)), 1]
    bounds[3] = batch if "batch" in part.dims else 1
    if part.dealt:
        return [(1, 1, 1, 1)]
    found: set[tuple[int, int, int, int]] = {(1, 1, 1, 1)}
    if part.size <= space.splits:
        return sorted(found | set(_products_within(part.size, bounds)))
    loops = [i for i, b in enumerate(bounds) if b > 1]
    shifts = range(0, int(np.log2(part.size)) + 1, 2) if space.idle and not _shared(part) else (0,)
    for combination in (way for i in shifts for way in _factorings(part.size >> i, loops, space)):
        found.add((*(min(c, b) for c, b in zip(combination, bounds, strict=True)),))  # type: ignore[arg-type]
    return sorted(found) if len(shifts) > 1 else _busy(found)


def _busy(found: set[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return the ways that use more than half of what the fullest one uses."""
    most = max(int(np.prod(f)) for f in found)
    return sorted(f for f in found if 2 * int(np.prod(f)) > most)


def _shared(part: Fanout) -> bool:
    """Whether every operand that several copies use is read, or summed, once for all of them."""
    again = {"n": "a" in part.multicast, "m": "b" in part.multicast, "k": part.reduce}
    return all(again.get(d, True) for d in part.dims)


def _products_within(size: int, bounds: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield every (m, n, k, batch) of at most `size` copies, each number within its bound."""
    for m in range(1, min(size, bounds[0]) + 1):
        for n in range(1, min(size // m, bounds[1]) + 1):
            for k in range(1, min(size // (m * n), bounds[2]) + 1):
                for b in range(1, min(size // (m * n * k), bounds[3]) + 1):
                    yield m, n, k, b


def _factorings(size: int, loops: list[int], space: Space) -> list[tuple[int, int, int, int]]:
    """Return ways to share `size` copies among `loops`."""
    out: list[tuple[int, int, int, int]] = []
    for pick in range(1, (len(loops) if size <= space.splits else min(2, len(loops))) + 1):
        for chosen in itertools.combinations(loops, pick):
            for factors in _products(size, pick, size <= space.splits):
                way = [1, 1, 1, 1]
                for loop, factor in zip(chosen, factors, strict=True):
                    way[loop] = factor
                out.append((way[0], way[1], way[2], way[3]))
    return out


def _products(size: int, count: int, every: bool) -> list[tuple[int, ...]]:
    if count == 1:
        return [(size,)]
    first = divisors(size) if every else [2**i for i in range(1, int(np.log2(size)))]
    return [(f, *rest) for f in first if 1 < f < size for rest in _products(size // f, count - 1, every)]
