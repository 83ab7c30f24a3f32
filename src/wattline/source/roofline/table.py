"""Many pieces of work at many clocks in one go: distinct operators once, then a matrix of repeats.

A training plan asks for the forward and backward of every stage, a serving plan for every batch; most
of their operators recur. Each distinct operator is evaluated once at every clock, giving a table of
busy seconds (operators, clocks); a piece of work is a row of repeats, and its time a product of the two.
The physics is that of `work.cost`, which the tests hold this against.

Chips that differ in some constants may be stacked (`stack`): arrays then have an axis of chips before
the others wherever the chips differ, and one evaluation answers for all of them.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...workload.operator import Operator
from ..base import Array, PointsTable
from .silicon import Silicon
from .uncertain import describe, spread_per_operator
from .work import Work, joined, soft_max

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


def tables(repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array) -> PointsTable:
    """Return the points of each piece at each clock (Hz); `works` (operators, 1) in the order of `repeat`'s columns."""
    return _tables(repeat, works, chip, clocks).of(0)


def stacks(repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array, count: int) -> list[PointsTable]:
    """Return `tables` of `count` chips stacked into one, see `stack`; `works` may be (count, operators, 1)."""
    found = _tables(repeat, works, chip, clocks)
    return [found.of(k) for k in range(count)]


def _tables(repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array) -> _Stacked:
    table = _Table.of(works, chip)
    time, lit = table.times(repeat, clocks)
    switched = {n: repeat @ v for n, v in table.switched.items()}
    steady = {n: repeat @ v for n, v in table.steady.items()}
    none = np.zeros((len(repeat), 1))
    moved = sum(switched.values(), none), sum(steady.values(), none)
    run = np.broadcast_to(clocks, time.shape)
    hot = _watts(chip, time, lit, moved, run) > chip.limit
    if hot.any():
        run, time, lit = (np.broadcast_to(x, hot.shape).copy() for x in (run, time, lit))
        pick = hot.any(axis=(*range(hot.ndim - 2), hot.ndim - 1))
        top = np.where(hot, clocks, chip.clock_min).max(axis=-1)[..., None, pick]
        held = table.throttle(repeat[pick], tuple(np.swapaxes(j[..., pick, :], -1, -2) for j in moved), top)
        at = table.diagonal(repeat[pick], held)
        for array, values in zip((run, time, lit), (held, *at), strict=True):
            slow = np.swapaxes(values, -1, -2)
            array[..., pick, :] = np.where(hot[..., pick, :], slow, array[..., pick, :])
    return _told(repeat, works, chip, clocks, _Run(run, time, lit), switched, steady)


@dataclass(frozen=True)
class _Run:
    """What really happens at each (..., piece, clock asked): the clock held, seconds, and seconds with units lit."""

    clock: Array
    time: Array
    lit: Array


@dataclass(frozen=True)
class _Stacked:
    """A `PointsTable` whose arrays may have an axis of chips before the others, where the chips differ."""

    table: PointsTable

    def of(self, index: int) -> PointsTable:
        """Return the table of one chip."""
        t = self.table

        def one(values: Any, axes: int) -> Any:
            return values[index] if np.ndim(values) > axes else values

        return PointsTable(
            t.clock,
            one(t.time, 2),
            {name: one(joules, 2) for name, joules in t.parts.items()},
            float(np.ravel(t.waiting_power)[index if np.size(t.waiting_power) > 1 else 0]),
            t.provenance,
            t.source,
            one(t.uncertainty, 1),
            one(t.time_uncertainty, 1),
            one(t.extrapolated, 1),
        )


def _told(
    repeat: Array, works: Sequence[Work], chip: Silicon, clocks: Array, run: _Run, switched: dict[str, Array],
    steady: dict[str, Array],
) -> _Stacked:  # fmt: skip
    square = chip.swing(run.clock)
    leakage, tree = chip.standing(run.clock)
    shape = run.time.shape
    parts = {n: v * square for n, v in switched.items()}
    parts |= {n: np.broadcast_to(v, np.broadcast_shapes(v.shape, shape)) for n, v in steady.items()}
    parts |= {"leakage": leakage * run.lit, "clock_tree": tree * run.lit, "waiting": chip.waiting * run.time}
    known, source = describe(chip)
    error: Array = np.zeros((len(repeat), 2))
    outside: Array = np.zeros((len(repeat), 1))
    if works:
        spread, beyond = spread_per_operator(chip, works)
        weight = joined([w.column(_alone(w, chip)) for w in works], -2)
        error = (repeat @ (weight * spread)) / np.maximum(repeat @ weight, 1e-30)
        outside = np.asarray((repeat > 0) @ beyond[..., None].astype(np.float64))
    return _Stacked(
        PointsTable(
            clocks, run.time, parts, chip.waiting, "calibrated" if known else "modelled", source,
            error[..., 1], error[..., 0], outside[..., 0] > 0,
        )
    )  # fmt: skip


def _alone(work: Work, chip: Silicon) -> Array:
    """Seconds of each operator at the highest clock, the weight of its error."""
    s = chip.clock_ref / chip.clock_max
    busy = soft_max(chip.shape["overlap.exponent"], work.core * s, work.l2 * s, work.dram, work.link)
    return np.asarray((busy + work.ramp * s + work.fixed) * work.slow)


def _watts(chip: Silicon, time: Array, lit: Array, moved: tuple[Array, ...], clock: Array) -> Array:
    leakage, tree = chip.standing(clock)
    joules = moved[0] * chip.swing(clock) + moved[1] + (leakage + tree) * lit
    return np.asarray(chip.waiting + joules / np.where(time > 0, time, 1.0))


@dataclass(frozen=True)
class _Table:
    """Distinct operators as columns (..., u, 1): seconds, and joules by component."""

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
        names = ("core", "l2", "dram", "link", "ramp", "fixed")
        if not works:
            nothing = np.zeros((0, 1))
            return _Table(chip, **dict.fromkeys((*names, "lit"), nothing), switched={}, steady={})
        times = {n: joined([w.column(getattr(w, n) * w.slow) for w in works], -2) for n in names}
        lit = joined([w.column(w.lit) for w in works], -2)
        switched: dict[str, dict[int, Array]] = defaultdict(dict)
        steady: dict[str, dict[int, Array]] = defaultdict(dict)
        for at, w in enumerate(works):
            for table, name, joules in (
                (switched, f"compute.{w.precision}", w.warm * w.e_core),
                (switched, "memory.l2", w.warm * w.e_l2),
                (steady, "memory.hbm", w.warm * w.e_dram),
                (steady, f"link.{w.link_name}", w.warm * w.e_link),
                (steady, "link.fabric", w.warm * w.e_far),
            ):
                if np.any(joules):
                    table[name][at] = w.column(joules)
        blank = [w.column(0.0) for w in works]

        def filled(table: dict[str, dict[int, Array]]) -> dict[str, Array]:
            return {n: joined([some.get(i, blank[i]) for i in range(len(works))], -2) for n, some in table.items()}

        return _Table(chip, **times, lit=lit, switched=filled(switched), steady=filled(steady))

    def busy(self, clock: Array) -> Array:
        """(..., u, n) seconds of each operator at each clock, launches left out."""
        s = self.chip.clock_ref / clock
        out = soft_max(self.chip.shape["overlap.exponent"], self.core * s, self.l2 * s, self.dram, self.link)
        return out + self.ramp * s

    def times(self, repeat: Array, clock: Array) -> tuple[Array, Array]:
        """Return (..., pieces, n) seconds, and seconds with units lit, at each clock."""
        busy = self.busy(clock)
        return repeat @ (busy + self.fixed), repeat @ (busy * self.lit)

    def diagonal(self, repeat: Array, clock: Array) -> tuple[Array, Array]:
        """As `times`, piece i at clock i only: (..., 1, pieces)."""
        busy = self.busy(clock)
        rows = repeat.T
        return (
            np.sum(rows * (busy + self.fixed), axis=-2, keepdims=True),
            np.sum(rows * busy * self.lit, axis=-2, keepdims=True),
        )

    def throttle(self, repeat: Array, moved: tuple[Array, ...], top: Array) -> Array:
        """Return the highest clock up to `top` (..., 1, pieces) at which each piece keeps the power limit."""
        low, high = np.full(top.shape, self.chip.clock_min), top
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            time, lit = self.diagonal(repeat, middle)
            over: NDArray[np.bool_] = _watts(self.chip, time, lit, moved, middle) > self.chip.limit
            low, high = np.where(over, low, middle), np.where(over, middle, high)
        return low
