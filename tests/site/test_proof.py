"""Tests for `wattline.site.proof`: bounds by branches are below every answer, above the linear program's, and repeatable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.site import program as programs
from wattline.site.program import InfeasibleError, Program


def knapsack(seed: int, items: int = 8) -> tuple[Program, float]:
    """Choose items of two budgets: a program of whole columns, and its best answer by trying all."""
    rng = np.random.default_rng(seed)
    worth, size = rng.uniform(1, 9, items), rng.uniform(1, 9, (2, items))
    room = size.sum(axis=1) * rng.uniform(0.3, 0.6)
    p = Program()
    x = p.variables(items, cost=-worth, high=1.0, whole=True)
    rows = p.constraints(2, most=room)
    p.add(rows[:, None], x[None, :], size)
    best = min(-float(worth @ c) for c in itertools.product((0, 1), repeat=items) if (size @ c <= room).all())
    return p, best


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_branches_prove_the_optimum(seed):
    """With a gap of nearly nothing the bound of our own meets the best of all choices, and never passes it."""
    p, best = knapsack(seed)
    found = p.minimise(gap=1e-9, proved=True)
    assert found.objective == pytest.approx(best, rel=1e-9)
    assert found.bound <= best * (1 - 1e-9) + 1e-9
    assert found.bound == pytest.approx(best, rel=1e-6)


def test_a_proof_that_is_cut_short_still_holds(monkeypatch):
    """After a few pivots it is worse, never wrong; twice the same."""
    p, best = knapsack(5, items=12)
    bounds = []
    for work in (0.0, 6e4, 4e5, 1e8):
        monkeypatch.setattr(programs.proof, "WORK", work)
        bounds.append(p.minimise(gap=1e-9, proved=True).bound)
        assert p.minimise(gap=1e-9, proved=True).bound == bounds[-1]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1] <= best + 1e-9


def test_nothing_whole_fits_is_refused():
    """Two whole columns that sum to a half."""
    p = Program()
    x = p.variables(2, high=1.0, whole=True)
    row = p.constraints(1, least=0.5, most=0.5)
    p.add(row, x, 1.0)
    with pytest.raises(InfeasibleError):
        p.minimise()
