"""Tests for `wattline.scenario.design_space`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline import GoalError
from wattline.scenario.design_space import LEAST, Designs, choose, mixed, undominated

ROWS = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40).map(
    lambda rows: np.array(rows, dtype=np.float64)
)


def plain(costs: np.ndarray) -> set[tuple[float, ...]]:
    """Return the points that no other beats, by comparing all pairs."""
    points = {tuple(row) for row in costs.tolist()}
    return {p for p in points if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)}


@given(ROWS)
def test_the_frontier_is_that_of_all_pairs(costs):
    """Each point that none beats is kept once, and no other."""
    kept = [tuple(row) for row in costs[undominated(costs)].tolist()]
    assert len(kept) == len(set(kept))
    assert set(kept) == plain(costs)


@given(ROWS, st.randoms())
def test_the_frontier_does_not_depend_on_the_order(costs, random):
    """Designs in another order leave the same points."""
    order = list(range(len(costs)))
    random.shuffle(order)
    assert set(map(tuple, costs[undominated(costs)].tolist())) == set(
        map(tuple, costs[order][undominated(costs[order])].tolist())
    )


@given(ROWS, ROWS)
def test_more_choices_never_worsen_the_frontier(some, more):
    """Every point of the smaller frontier is matched or beaten by one of the larger."""
    both = np.concatenate([some, more])
    large = both[undominated(both)]
    for row in some[undominated(some)]:
        assert np.any(np.all(large <= row, axis=1))


def designs(costs: np.ndarray) -> Designs:
    n = len(costs)
    made = Designs(np.arange(n)[:, None], costs[:, 0], costs[:, 1], costs[:, 2], ({},) * n)
    return replace(made, owned={"cost": made.area + made.energy, "carbon": made.area * made.energy})


@given(ROWS, st.sampled_from(LEAST), st.integers(0, 6))
def test_the_chosen_design_has_least_of_what_was_asked(costs, least, slow):
    """Among those fast enough none has less, and none of equal worth beats it."""
    every = designs(costs + 1)
    fast = every.time <= 1 + slow
    if not fast.any():
        with pytest.raises(GoalError, match=r"design.max_slowdown = .* cannot be met"):
            choose(every, least, slow)
        return
    i = choose(every, least, slow)
    value = {
        "energy": every.energy, "time": every.time, "edp": every.energy * every.time, "area": every.area, **every.owned,
    }[least]  # fmt: skip
    assert fast[i]
    assert value[i] == value[fast].min()
    same = fast & (value == value[i])
    assert not np.any(
        np.all(every.costs[same] <= every.costs[i], axis=1) & np.any(every.costs[same] < every.costs[i], axis=1)
    )


@given(ROWS, st.integers(0, 5), st.integers(0, 5))
def test_a_looser_limit_never_worsens_the_choice(costs, slow, more):
    """With more time allowed the chosen design has no more energy."""
    every = designs(costs + 1)
    try:
        tight = choose(every, "energy", slow)
    except GoalError:
        return
    assert every.energy[choose(every, "energy", slow + more)] <= every.energy[tight]


def test_a_mix_of_unchanged_works_is_one():
    """Ratios of equal figures mean nothing but one, whatever the weights."""
    energy = np.array([3e12, 0.4])
    assert mixed(np.array([5.0, 1.0]), energy, energy) == 1.0


def test_a_mix_counts_each_work_by_its_weight():
    """Three quarters of the energy halved and one quarter doubled make 0.875 of today."""
    assert mixed(np.array([3.0, 1.0]), np.array([1.0, 4.0]), np.array([2.0, 2.0])) == pytest.approx(0.875)
