"""A linear or mixed-integer program as arrays, solved by HiGHS.

    minimise  cost @ x      low <= x <= high,   least <= A x <= most,   some x whole

Rows and columns are added in blocks; the block's indices come back, so that answers and prices are read off
by the same indices. Signs: a row's price is what the objective gains when its bound is raised by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import GoalError, WattlineError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class InfeasibleError(GoalError):
    """No values keep all rows; whoever built the program says what that means."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Values of the columns, prices of the rows (linear programs only), the objective, and what no answer beats."""

    x: Array
    price: Array
    objective: float
    bound: float

    @property
    def gap(self) -> float:
        """Relative distance of the objective from the bound."""
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-12)


@dataclass(eq=False)
class Program:
    """A program in the making."""

    columns: int = 0
    rows: int = 0
    _column: list[tuple[Array, Array, Array, bool]] = field(default_factory=list)
    _row: list[tuple[Array, Array]] = field(default_factory=list)
    _entry: list[tuple[Ints, Ints, Array]] = field(default_factory=list)

    def variables(
        self, count: int, *, cost: ArrayLike = 0.0, low: ArrayLike = 0.0, high: ArrayLike = np.inf, whole: bool = False
    ) -> Ints:
        """Add columns and return their indices."""
        block = [np.array(np.broadcast_to(np.asarray(x, float), count)) for x in (cost, low, high)]
        self._column.append((block[0], block[1], block[2], whole))
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

    def minimise(self, *, gap: float = 1e-4, seconds: float = 60.0) -> Solution:
        """Return the optimum; a mixed-integer one within `gap` (relative) or after `seconds`, with its bound.

        Raises
        ------
        InfeasibleError : no values keep all rows.
        """
        import highspy

        if not self.rows or not self.columns:
            return self._free()
        # The wrapper around this class greets on stdout, and stdout belongs to the answer.
        solver: Any = highspy._core._Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
        solver.setOptionValue("dual_feasibility_tolerance", 1e-9)
        solver.setOptionValue("mip_rel_gap", gap)
        solver.setOptionValue("time_limit", seconds)
        if solver.passModel(self._model(highspy)) == highspy.HighsStatus.kError:
            raise WattlineError("the program holds numbers the solver cannot take: infinite, or not a number")
        solver.run()
        status, info = solver.getModelStatus(), solver.getInfo()
        known = highspy.HighsModelStatus
        if status in (known.kInfeasible, known.kUnboundedOrInfeasible):
            raise InfeasibleError("the limits and the work required exclude one another")
        whole = any(block[3] for block in self._column)
        if status != known.kOptimal and not (status == known.kTimeLimit and info.primal_solution_status == 2):
            raise WattlineError(f"the solver stopped with {solver.modelStatusToString(status)}; allow it more time")
        found = solver.getSolution()
        objective = float(info.objective_function_value)
        return Solution(
            np.array(found.col_value),
            np.zeros(self.rows) if whole else np.array(found.row_dual),
            objective,
            float(info.mip_dual_bound) if whole else objective,
        )

    def _free(self) -> Solution:
        """Return the answer where nothing binds: every column at its cheaper bound."""
        cost, low, high = (np.concatenate([np.zeros(0), *(block[k] for block in self._column)]) for k in range(3))
        x = np.where(cost < 0, high, low)
        if not np.isfinite(x).all():
            raise WattlineError("the program is unbounded: a column without an upper bound earns more the larger it is")
        return Solution(x, np.zeros(self.rows), float(cost @ x), float(cost @ x))

    def _model(self, highspy: Any) -> Any:
        lp = highspy.HighsLp()
        cost, low, high = (np.concatenate([block[k] for block in self._column]) for k in range(3))
        rows, columns, values = (np.concatenate([np.zeros(0), *(entry[k] for entry in self._entry)]) for k in range(3))
        start, index, value = _columnwise(
            rows.astype(np.int64), columns.astype(np.int64), values, self.columns, self.rows
        )
        lp.num_col_, lp.num_row_ = self.columns, self.rows
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, low, high
        lp.row_lower_, lp.row_upper_ = (np.concatenate([block[k] for block in self._row]) for k in range(2))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = start, index, value
        if any(block[3] for block in self._column):
            kinds = highspy.HighsVarType
            lp.integrality_ = [
                kinds.kInteger if block[3] else kinds.kContinuous for block in self._column for _ in block[0]
            ]
        return lp


def _columnwise(rows: Ints, columns: Ints, values: Array, width: int, height: int) -> tuple[Any, Any, Array]:
    """Return compressed columns; repeated places are summed."""
    key, place = np.unique(columns * height + rows, return_inverse=True)
    summed: Array = np.bincount(place, weights=values, minlength=len(key)).astype(float)
    start = np.searchsorted(key, np.arange(width + 1) * height)
    return start.astype(np.int64), (key % height).astype(np.int64), summed
