"""Many pieces of work at many clocks in one go: distinct operators once, then a matrix of repeats.

A training plan asks for the forward and backward of every stage, a serving plan for every batch; most
of their operators recur. Each distinct operator is evaluated once at every clock, giving a table of
busy seconds (operators, clocks); a piece of work is a row of repeats, and its time a product of the two.
The physics is that of `work.cost`, which the tests hold this against.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..workload.operator import Operator
from .base import Array, Points
from .silicon import Silicon
from .uncertain import describe, spread_per_operator
from .work import Work, soft_max

Pieces = tuple[tuple[Operator, ...], ...]
# Bisection steps of the throttle, as in `work`: under 0.2 MHz of a chip's range is left.
_STEPS = 14


@dataclass(frozen=True)
class Layout:
    """Pieces taken apart: distinct operators in groups that evaluate as arrays, and who repeats which how often.

    `repeat` is (pieces, operators), the operators in the order of the groups.
    """

    groups: tuple[tuple[Operator, ...], ...]
    repeat: Array


@functools.lru_cache(maxsize=256)
def layout(pieces: Pieces, signature: Callable[[Operator], object]) -> Layout:
    """Find the distinct operators of all pieces. Sweeps over hardware ask for the same pieces again and again."""
    groups: dict[object, dict[Operator, int]] = defaultdict(dict)
    rows: list[list[tuple[object, int, float]]] = []
    for piece in pieces:
        row = []
        for operator in piece:
            one = operator if operator.repeat == 1.0 else replace(operator, repeat=1.0)
            key = signature(one)
            row.append((key, groups[key].setdefault(one, len(groups[key])), operator.repeat))
        rows.append(row)
    start = dict(zip(groups, np.cumsum([0, *(len(g) for g in groups.values())]), strict=False))
    repeat = np.zeros((len(pieces), sum(len(g) for g in groups.values())))
    for at, row in enumerate(rows):
        for key, place, times in row:
            repeat[at, start[key] + place] += times
    return Layout(tuple(tuple(g) for g in groups.values()), repeat)


def tables(repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array) -> list[Points]:
    """Return the points of each piece at each clock (Hz); `works` (operators, 1) in the order of `repeat`'s columns."""
    table = _Table.of(works, chip)
    time, lit = table.times(repeat, clocks)
    switched = {n: repeat @ v for n, v in table.switched.items()}
    steady = {n: repeat @ v for n, v in table.steady.items()}
    moved = sum(switched.values(), np.zeros(len(repeat))), sum(steady.values(), np.zeros(len(repeat)))
    run = np.broadcast_to(clocks, time.shape)
    hot = _watts(chip, time, lit, moved, run) > chip.limit
    if hot.any():
        run, time, lit = run.copy(), time.copy(), lit.copy()
        pick = hot.any(axis=1)
        top = np.where(hot, clocks, 0.0).max(axis=1)[pick]
        held = table.throttle(repeat[pick], (moved[0][pick], moved[1][pick]), top)
        at = table.diagonal(repeat[pick], held)
        for array, values in ((run, held), (time, at[0]), (lit, at[1])):
            array[pick] = np.where(hot[pick], values[:, None], array[pick])
    return _points(repeat, works, chip, clocks, _Run(run, time, lit), switched, steady)


@dataclass(frozen=True)
class _Run:
    """What really happens at each (piece, clock asked): the clock held, seconds, and seconds with units lit."""

    clock: Array
    time: Array
    lit: Array


def _points(
    repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array, run: _Run, switched: dict[str, Array],
    steady: dict[str, Array],
) -> list[Points]:  # fmt: skip
    square = chip.swing(run.clock)
    leakage, tree = chip.standing(run.clock)
    leakage, tree, waiting = leakage * run.lit, tree * run.lit, chip.waiting * run.time
    known, source = describe(chip)
    spread, outside = spread_per_operator(chip, works)
    weight = repeat * np.concatenate([_alone(w, chip) for w in works]) if works else repeat
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
    error = weight @ spread
    out = []
    for i in range(len(repeat)):
        parts = {n: v[i] * square[i] for n, v in switched.items() if v[i]}
        parts |= {n: np.full(clocks.size, v[i]) for n, v in steady.items() if v[i]}
        parts |= {"leakage": leakage[i], "clock_tree": tree[i], "waiting": waiting[i]}
        out.append(
            Points(
                clocks, run.time[i], parts, chip.waiting, "calibrated" if known else "modelled", source,
                float(error[i, 1]), float(error[i, 0]), bool((outside & (repeat[i] > 0)).any()),
            )
        )  # fmt: skip
    return out


def _alone(work: Work, chip: Silicon) -> Array:
    """Seconds of each operator at the highest clock, the weight of its error."""
    s = chip.clock_ref / chip.clock_max
    busy = soft_max(chip.shape["overlap.exponent"], work.core * s, work.l2 * s, work.dram, work.link)
    time = (busy + work.ramp * s + work.fixed) * work.slow
    return np.broadcast_to(time, (_count(work), 1))[:, 0]


def _count(work: Work) -> int:
    return max(
        int(np.shape(getattr(work, n))[0]) for n in ("core", "dram", "link", "fixed") if np.ndim(getattr(work, n))
    )


def _watts(chip: Silicon, time: Array, lit: Array, moved: tuple[Array, Array], clock: Array) -> Array:
    leakage, tree = chip.standing(clock)
    extra = () if np.ndim(time) == 1 else (slice(None), None)
    joules = moved[0][extra] * chip.swing(clock) + moved[1][extra] + (leakage + tree) * lit
    return np.asarray(chip.waiting + joules / np.where(time > 0, time, 1.0))


@dataclass(frozen=True)
class _Table:
    """Distinct operators as columns: seconds (u, 1), joules by component (u,)."""

    chip: Silicon
    core: Array
    l2: Array
    dram: Array
    link: Array
    ramp: Array
    fixed: Array
    lit: Array
    switched: dict[str, Array]
    steady: dict[str, Array]

    @staticmethod
    def of(works: Sequence[Work], chip: Silicon) -> _Table:
        counts = [_count(w) for w in works]
        total, row = sum(counts), 0
        names = ("core", "l2", "dram", "link", "ramp", "fixed")
        times = {n: np.empty((total, 1)) for n in names}
        lit = np.empty((total, 1))
        switched: dict[str, Array] = {}
        steady: dict[str, Array] = {}
        for w, count in zip(works, counts, strict=True):
            here = slice(row, row + count)
            row += count
            for n in names:
                times[n][here] = getattr(w, n) * w.slow
            lit[here] = w.lit
            for table, name, joules in (
                (switched, f"compute.{w.precision}", w.warm * w.e_core),
                (switched, "memory.l2", w.warm * w.e_l2),
                (steady, "memory.hbm", w.warm * w.e_dram),
                (steady, f"link.{w.link_name}", w.warm * w.e_link),
            ):
                if np.any(joules):
                    table.setdefault(name, np.zeros(total))[here] = np.broadcast_to(joules, (count, 1))[:, 0]
        return _Table(chip, **times, lit=lit, switched=switched, steady=steady)

    def busy(self, clock: Array) -> Array:
        """(u, n) seconds of each operator at each clock, launches left out."""
        s = self.chip.clock_ref / clock
        out = soft_max(self.chip.shape["overlap.exponent"], self.core * s, self.l2 * s, self.dram, self.link)
        return out + self.ramp * s

    def times(self, repeat: Array, clock: Array) -> tuple[Array, Array]:
        """Return (pieces, n) seconds, and seconds with units lit, at each clock."""
        busy = self.busy(clock)
        return repeat @ (busy + self.fixed), repeat @ (busy * self.lit)

    def diagonal(self, repeat: Array, clock: Array) -> tuple[Array, Array]:
        """As `times`, piece i at clock i only: (pieces,)."""
        busy = self.busy(clock)
        rows = repeat.T
        return np.sum(rows * (busy + self.fixed), axis=0), np.sum(rows * busy * self.lit, axis=0)

    def throttle(self, repeat: Array, moved: tuple[Array, Array], top: Array) -> Array:
        """Return the highest clock up to `top` at which each piece keeps the power limit, or the lowest there is."""
        low, high = np.full(top.shape, self.chip.clock_min), top
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            time, lit = self.diagonal(repeat, middle)
            over: NDArray[np.bool_] = _watts(self.chip, time, lit, moved, middle) > self.chip.limit
            low, high = np.where(over, low, middle), np.where(over, middle, high)
        return low
