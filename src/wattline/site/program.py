"""A linear or mixed-integer program as arrays, scaled, solved by HiGHS, and certified here.

    minimise  cost @ x      low <= x <= high,   least <= A x <= most,   some x whole

Rows and columns are added in blocks; the block's indices come back, so that answers and prices are read off
by the same indices. Signs: a row's price is what the objective gains when its bound is raised by one.

**Scaling.** A site holds watts from 1 to 1e10 and work from a quarter of an hour to a year, and the solver drops
entries below 1e-9 and forgives errors of 1e-9. So it never sees either: each column is counted in its own `unit`
(a piece of a curve, say), each row in its largest entry, and the costs in the dearest column.

**Certificate.** What the solver says of its own answer is not believed. Any prices `y` of the rows bound the
objective from below, whoever found them (weak duality):

    cost @ x  >=  sum of y_i * (least_i if y_i > 0 else most_i)  +  sum of min over its box of (cost - A' y)_j x_j

`Solution.bound` is that sum, worked out here from the program as it was stated. Of a mixed-integer program it is that
of the linear one, or the least of all branches of a search of our own where one is asked for (`proof`), or, where the
solver's tree proves more, `tree_bound`. Nothing stops by the clock: a search ends at its gap or after `nodes`, so the
same program gives the same answer on any machine at any load.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import GoalError, WattlineError
from . import proof

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Nodes of a branch-and-bound tree after which the best answer so far is taken, with its gap.
NODES: Final = 20_000

# The solver's tolerances, on scaled rows and columns.
_TOLERANCE: Final = 1e-9


class InfeasibleError(GoalError):
    """No values keep all rows; whoever built the program says what that means."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Values of the columns, prices of the rows, the objective, and what no answer beats.

    `bound` is proved by prices; `tree_bound` is the solver's own, which of a program with whole columns is the better
    one. `price` of a program with whole columns is that of the linear program in which they are held. `nodes`: of the
    tree searched; 0 where there is none.
    """

    x: Array
    price: Array
    objective: float
    bound: float
    tree_bound: float
    nodes: int = 0

    @property
    def gap(self) -> float:
        """Relative distance of the objective from the bound."""
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-300)


@dataclass(frozen=True, eq=False)
class _Arrays:
    """The program as flat arrays, scaled: column `j` counts in `unit[j]`, row `i` in `size[i]`, costs in `money`."""

    cost: Array
    low: Array
    high: Array
    least: Array
    most: Array
    start: Ints
    index: Ints
    value: Array
    whole: NDArray[np.bool_]
    unit: Array
    size: Array
    money: float

    @cached_property
    def column(self) -> Ints:
        """Column of every entry."""
        return np.repeat(np.arange(len(self.cost)), np.diff(self.start))

    def bound(self, price: Array, low: Array | None = None, high: Array | None = None, costs: bool = True) -> float:
        """Return what no answer goes below, by prices of the rows; -inf where a column has no end to run to.

        low, high : other ends of the columns. Without `costs` a bound above 0 says that there is no answer.
        """
        y = np.where((price > 0) & np.isinf(self.least) | (price < 0) & np.isinf(self.most), 0.0, price)
        rows = np.where(y > 0, self.least, np.where(y < 0, self.most, 0.0))
        left = (self.cost if costs else 0.0) - np.bincount(
            self.column, weights=self.value * y[self.index], minlength=len(self.cost)
        )
        ends = np.where(left > 0, self.low if low is None else low, self.high if high is None else high)
        # A column without an end and a price of nothing but rounding cannot prove anything against the answer.
        left = np.where(np.isinf(ends) & (np.abs(left) <= _TOLERANCE), 0.0, left)
        with np.errstate(invalid="ignore"):
            boxes = np.where(left == 0.0, 0.0, left * ends)
        return float(np.sum(y * rows) + np.sum(boxes))


@dataclass(eq=False)
class Program:
    """A program in the making."""

    columns: int = 0
    rows: int = 0
    _column: list[list[Array]] = field(default_factory=list)
    _whole: list[tuple[int, bool]] = field(default_factory=list)
    _row: list[tuple[Array, Array]] = field(default_factory=list)
    _entry: list[tuple[Ints, Ints, Array]] = field(default_factory=list)

    def variables(
        self, count: int, *, cost: ArrayLike = 0.0, low: ArrayLike = 0.0, high: ArrayLike = np.inf,
        whole: bool = False, unit: ArrayLike = 1.0,
    ) -> Ints:  # fmt: skip
        """Add columns and return their indices. `unit`: the amount that counts as one of each, > 0."""
        block = [np.array(np.broadcast_to(np.asarray(x, float), count)) for x in (cost, low, high, unit)]
        self._column.append(block)
        self._whole.append((count, whole))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def constraints(self, count: int, *, least: ArrayLike = -np.inf, most: ArrayLike = np.inf) -> Ints:
        """Add empty rows and return their indices."""
        block = [np.array(np.broadcast_to(np.asarray(x, float), count)) for x in (least, most)]
        self._row.append((block[0], block[1]))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def add(self, rows: ArrayLike, columns: ArrayLike, values: ArrayLike) -> None:
        """Put `values` at (rows, columns); the three are broadcast against one another. Repeated places add up."""
        r, c, v = np.broadcast_arrays(np.asarray(rows), np.asarray(columns), np.asarray(values, float))
        self._entry.append((r.ravel().astype(np.int64), c.ravel().astype(np.int64), v.ravel()))

    def change(self, columns: Ints, *, cost: ArrayLike | None = None, high: ArrayLike | None = None) -> None:
        """Give columns other costs or upper ends."""
        at = 0
        for block in self._column:
            mine = (columns >= at) & (columns < at + len(block[0]))
            for part, new in ((0, cost), (2, high)):
                if new is not None and mine.any():
                    block[part][columns[mine] - at] = np.broadcast_to(np.asarray(new, float), len(columns))[mine]
            at += len(block[0])

    @property
    def costs(self) -> Array:
        """(columns,) what one of each costs."""
        return np.concatenate([np.zeros(0), *(block[0] for block in self._column)])

    # ---- solving ----------------------------------------------------------------------------

    def minimise(self, *, gap: float = 1e-4, nodes: int = NODES, proved: bool = False) -> Solution:
        """Return the optimum; a mixed-integer one within `gap` (relative) or after `nodes`, with its bound.

        `proved` : where prices of the linear program leave more than `gap`, branches of our own go on (`proof`).

        Raises
        ------
        InfeasibleError : no values keep all rows.
        """
        if not self.rows or not self.columns:
            return self._free()
        a = self._scaled()
        relaxed, price = _linear(a, a.low, a.high)
        bound = a.bound(price)
        if not a.whole.any():
            return self._told(a, relaxed, price, bound, bound, 0)
        x, tree, count = _whole(a, gap, nodes)
        held = np.round(x * a.unit) / a.unit
        low, high = (np.where(a.whole, held, ends) for ends in (a.low, a.high))
        try:  # the others again, exactly, and prices beside them
            x, price = _linear(a, low, high)
        except InfeasibleError:  # whole only within the solver's tolerance
            price = np.zeros(self.rows)
        better = None
        if proved:
            bound, better = _proved(a, relaxed, bound, float(a.cost @ np.clip(x, a.low, a.high)), gap, nodes)
        if better is not None:
            held = np.round(better * a.unit) / a.unit
            low, high = (np.where(a.whole, held, ends) for ends in (a.low, a.high))
            with contextlib.suppress(InfeasibleError):
                x, price = _linear(a, low, high)
        return self._told(a, x, price, max(bound, -np.inf), max(tree, bound), count)

    def _told(self, a: _Arrays, x: Array, price: Array, bound: float, tree: float, nodes: int) -> Solution:
        """Return the answer in the program's own units."""
        x = np.clip(x, a.low, a.high)
        objective = float(a.cost @ x) * a.money
        return Solution(x * a.unit, price * a.money / a.size, objective, bound * a.money, tree * a.money, nodes)

    def _free(self) -> Solution:
        """Return the answer where nothing binds: every column at its cheaper bound."""
        cost, low, high = (np.concatenate([np.zeros(0), *(block[k] for block in self._column)]) for k in range(3))
        x = np.where(cost < 0, high, low)
        if not np.isfinite(x).all():
            raise WattlineError("the program is unbounded: a column without an upper bound earns more the larger it is")
        value = float(cost @ x)
        return Solution(x, np.zeros(self.rows), value, value, value)

    def _scaled(self) -> _Arrays:
        cost, low, high, unit = (np.concatenate([block[k] for block in self._column]) for k in range(4))
        least, most = (np.concatenate([block[k] for block in self._row]) for k in range(2))
        rows, columns, values = (np.concatenate([np.zeros(0), *(entry[k] for entry in self._entry)]) for k in range(3))
        whole = np.concatenate([np.full(count, flag) for count, flag in self._whole])
        unit = np.where(whole | ~(unit > 0), 1.0, unit)
        start, index, value = _columnwise(
            rows.astype(np.int64), columns.astype(np.int64), values, self.columns, self.rows
        )
        value = value * np.repeat(unit, np.diff(start))
        size = np.zeros(self.rows)
        np.maximum.at(size, index, np.abs(value))
        size = np.where(size > 0, size, 1.0)
        priced = cost * unit
        # What a column may cost in all; ones without an end by their unit.
        span = np.where(np.isfinite(high - low), np.minimum((high - low) / unit, 1.0), 1.0)
        money = float(np.max(np.abs(priced) * span, initial=0.0)) or 1.0
        out = _Arrays(
            priced / money, low / unit, high / unit, least / size, most / size,
            start, index, value / size[index], whole, unit, size, money,
        )  # fmt: skip
        finite = all(np.isfinite(x).all() for x in (out.cost, out.value, out.low))
        if not finite or np.isnan(out.least).any() or np.isnan(out.most).any() or np.isnan(out.high).any():
            raise WattlineError("the program holds numbers the solver cannot take: infinite, or not a number")
        return out


def _linear(a: _Arrays, low: Array, high: Array) -> tuple[Array, Array]:
    """Return values and row prices of the linear program; a second way is tried where the first gives up."""
    import highspy

    known = highspy.HighsModelStatus
    status = None
    for options in ({}, {"presolve": "off"}, {"solver": "ipm"}, {"simplex_scale_strategy": 0}):
        solver = _solver(a, low, high, highspy, options)
        solver.run()
        status = solver.getModelStatus()
        if status == known.kOptimal:
            found = solver.getSolution()
            return np.array(found.col_value), np.array(found.row_dual)
        if status == known.kInfeasible:
            raise InfeasibleError("the limits and the work required exclude one another")
    if status == known.kUnboundedOrInfeasible:
        raise InfeasibleError("the limits and the work required exclude one another")
    raise WattlineError(f"the solver stopped with {solver.modelStatusToString(status)} on a linear program")


def _proved(
    a: _Arrays, relaxed: Array, bound: float, value: float, gap: float, nodes: int
) -> tuple[float, Array | None]:
    """Return a bound by branches of our own where the linear one is further than `gap`, and a better answer met."""
    import highspy

    target = value - gap * abs(value)
    if not np.isfinite(bound) or bound >= target:
        return bound, None
    solver = _solver(a, a.low, a.high, highspy, {})
    whole = np.flatnonzero(a.whole)
    work = proof.WORK * min(1.0, nodes / 100)
    found, better = proof.prove(
        solver, whole, a.low, a.high, a.bound, least=value, target=target, start=(relaxed, bound), work=work
    )
    return max(bound, found), better


def _whole(a: _Arrays, gap: float, nodes: int) -> tuple[Array, float, int]:
    """Return values, the tree's own bound and its nodes of the mixed-integer program."""
    import highspy

    known = highspy.HighsModelStatus
    solver = _solver(a, a.low, a.high, highspy, {"mip_rel_gap": gap, "mip_max_nodes": nodes}, whole=True)
    with _quiet():
        solver.run()
    status, info = solver.getModelStatus(), solver.getInfo()
    if status in (known.kInfeasible, known.kUnboundedOrInfeasible):
        raise InfeasibleError("the limits and the work required exclude one another")
    if info.primal_solution_status != 2:
        raise WattlineError(
            f"no plan was found in {nodes:,} nodes ({solver.modelStatusToString(status)}); "
            "take longer periods, fewer jobs, or a wider gap"
        )
    return np.array(solver.getSolution().col_value), float(info.mip_dual_bound), int(info.mip_node_count)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what the tree search prints, told to be silent or not, to stderr: stdout belongs to the answer."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):  # no such files: nothing to protect
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _solver(a: _Arrays, low: Array, high: Array, highspy: Any, options: dict[str, Any], *, whole: bool = False) -> Any:
    """Return HiGHS with the program in it."""
    # The wrapper around this class greets on stdout, and stdout belongs to the answer.
    solver: Any = highspy._core._Highs()
    tolerances = {f"{side}_feasibility_tolerance": _TOLERANCE for side in ("primal", "dual", "mip")}
    for name, value in {
        "output_flag": False,
        "log_to_console": False,
        "threads": 1,
        "random_seed": 0,
        **tolerances,
        **options,
    }.items():
        solver.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(a.cost), len(a.least)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = a.cost, low, high
    lp.row_lower_, lp.row_upper_ = a.least, a.most
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = a.start, a.index, a.value
    if whole:
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if flag else kinds.kContinuous for flag in a.whole]
    if solver.passModel(lp) == highspy.HighsStatus.kError:
        raise WattlineError("the program holds numbers the solver cannot take: infinite, or not a number")
    return solver


def _columnwise(rows: Ints, columns: Ints, values: Array, width: int, height: int) -> tuple[Any, Any, Array]:
    """Return compressed columns; repeated places are summed."""
    key, place = np.unique(columns * height + rows, return_inverse=True)
    summed: Array = np.bincount(place, weights=values, minlength=len(key)).astype(float)
    start = np.searchsorted(key, np.arange(width + 1) * height)
    return start.astype(np.int64), (key % height).astype(np.int64), summed
