"""Tests for `wattline.site.program`: programs in, values, prices and bounds out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, milp

from wattline.site.program import InfeasibleError, Program


def knapsack(whole: bool) -> tuple[Program, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    worth, size = rng.uniform(1, 9, 12), rng.uniform(1, 9, (2, 12))
    program = Program()
    x = program.variables(12, cost=-worth, high=1.0, whole=whole)
    rows = program.constraints(2, most=20.0)
    program.add(rows[:, None], x[None, :], size / 2)
    program.add(rows[:, None], x[None, :], size / 2)  # repeated places add up
    return program, worth, size


def test_a_linear_program_and_its_prices() -> None:
    """Objective and duals as scipy's, and a raised bound gains what its price says."""
    program, worth, size = knapsack(whole=False)
    found = program.minimise()
    other = linprog(-worth, size, [20.0, 20.0], bounds=(0, 1))
    assert found.objective == pytest.approx(other.fun)
    assert found.price == pytest.approx(other.ineqlin.marginals)
    assert found.gap < 1e-12


def test_a_whole_program_and_its_bound() -> None:
    """The integer optimum as scipy's; no answer beats the bound."""
    program, worth, size = knapsack(whole=True)
    found = program.minimise(gap=1e-9)
    other = milp(-worth, integrality=np.ones(12), bounds=(0, 1), constraints=(size, -np.inf, 20.0))
    assert found.objective == pytest.approx(other.fun)
    assert found.bound <= found.tree_bound <= found.objective + 1e-9
    assert set(np.round(found.x, 6)) <= {0.0, 1.0}


def test_rows_that_exclude_one_another_are_said_to() -> None:
    """No values, no answer."""
    program = Program()
    x = program.variables(1, high=1.0)
    program.add(program.constraints(1, least=2.0)[0], x, 1.0)
    with pytest.raises(InfeasibleError, match="exclude one another"):
        program.minimise()


def test_the_solver_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches stdout, which belongs to the answer."""
    knapsack(whole=True)[0].minimise()
    Program().minimise()
    assert capfd.readouterr() == ("", "")
