"""Tests for wattline.serving.candidates: what is unbeaten, and frontiers of candidates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.serving.candidates import Candidate, Part, Promise, frontier, pruned, unbeaten

FIGURES = st.lists(st.tuples(*[st.integers(1, 6).map(float)] * 3), min_size=1, max_size=30)


@given(rows=FIGURES)
def test_unbeaten_rows_are_those_no_other_beats(rows: list[tuple[float, ...]]) -> None:
    """Kept rows do not beat one another, and every other row is beaten or matched by one kept."""
    figures = np.array(rows)
    keep = unbeaten(figures)
    for i in keep:
        others = figures[keep[keep != i]]
        assert not (others <= figures[i]).all(axis=1).any()
    for row in figures:
        assert (figures[keep] <= row * (1 + 1e-4)).all(axis=1).any()


def test_rows_without_an_answer_are_left_out() -> None:
    """A setting that never serves the trace has no finite energy, and is no candidate."""
    assert unbeaten(np.array([[np.inf, 1.0], [2.0, 2.0]])).tolist() == [1]
    assert unbeaten(np.array([[np.inf, 1.0]])).tolist() == []


def candidate(energy: float, ttft: float, tpot: float, pools: int = 1) -> Candidate:
    part = Part(0, "both", 1, 8, 1e9)
    return Candidate((part,) * pools, energy, ttft, tpot, ttft + tpot, 10.0)


@given(rows=FIGURES)
def test_a_frontier_never_costs_more_with_more_time(rows: list[tuple[float, ...]]) -> None:
    """Along a frontier latency rises and energy falls, every other promise is kept, and no kept candidate is better."""
    every = pruned([candidate(*row) for row in rows])
    promise = Promise(tpot=4.0)
    points = frontier(every, "ttft", promise, tokens=2)
    times = [c.ttft for _, c in points]
    joules = [e for e, _ in points]
    assert times == sorted(times)
    assert joules == sorted(joules, reverse=True)
    assert all(c.tpot <= 4.0 for _, c in points)
    for c in every:
        if c.tpot <= 4.0:
            assert any(p.ttft <= c.ttft and p.energy <= c.energy for _, p in points)


def test_equal_candidates_leave_the_one_of_fewer_pools() -> None:
    """Of two that do the same, the simpler fleet stays."""
    kept = pruned([candidate(1.0, 1.0, 1.0, pools=2), candidate(1.0, 1.0, 1.0)])
    assert [len(c.parts) for c in kept] == [1]


def test_a_broken_promise_says_by_how_much() -> None:
    """Each bound that is missed, as a factor; none where all hold."""
    promise = Promise(ttft=0.5, tpot=0.05, power=1000.0)
    assert promise.broken(0.6, 0.05, 2000.0) == pytest.approx({"ttft": 1.2, "power": 2.0})
    assert promise.meets(0.5, 0.05, 1000.0)
