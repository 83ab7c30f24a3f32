"""Tests for the kernels of `wattline.frontier.rounding`: shortcuts against the obvious way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.frontier import _rounding
from wattline.frontier.graph import solve
from wattline.frontier.rounding import round_discrete

from .test_kernels import random_graph


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 14), st.floats(0.15, 0.7))
def test_a_blocked_trade_could_not_have_met_the_deadline(seed: int, n: int, density: float) -> None:
    """What the shortcut refuses has a path that is too long even if the hastened node took no time at all."""
    random = np.random.default_rng(seed)
    edges = np.array([(a, b) for a in range(n) for b in range(a + 1, n) if random.random() < density], np.int64)
    edges = edges.reshape(-1, 2)
    time, pick, order = random.uniform(0.5, 2.0, n), np.arange(n), np.arange(n)
    forward = _rounding.neighbours(n, edges[:, ::-1].copy())
    backward = _rounding.neighbours(n, edges)
    for sign, (pointer, ends), along in ((1, forward, order), (-1, backward, order[::-1].copy())):
        reach = _rounding.longest(along, pointer, ends, pick, time)
        for i in range(n):
            walk = []
            v = i
            while len(near := ends[pointer[v] : pointer[v + 1]]):
                v = int(random.choice(near))
                walk.append(v)
                most = reach[i] - random.uniform(0.0, 0.5)
                if _rounding._blocked(sign, i, np.array(walk), pointer, ends, pick, time, reach, most):
                    free = np.where(order == v, 0.0, time)
                    assert _rounding.longest(along, pointer, ends, pick, free)[i] > most


def test_a_parallel_path_blocks_and_a_chain_does_not() -> None:
    """Hastening one of two parallel nodes cannot make a third start earlier; hastening the only one can."""
    time, pick = np.array([1.0, 1.0, 1.0]), np.arange(3)
    for edges, blocked in (([[0, 2], [1, 2]], True), ([[0, 1], [1, 2]], False)):
        pointer, ends = _rounding.neighbours(3, np.array(edges)[:, ::-1].copy())
        reach = _rounding.longest(np.arange(3), pointer, ends, pick, time)
        assert _rounding._blocked(1, 2, np.array([1]), pointer, ends, pick, time, reach, 0.5) is blocked


@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.floats(0.0, 1.0))
def test_moving_many_nodes_keeps_the_deadline_and_costs_no_more(seed: int, n: int, share: float) -> None:
    """Moves never end later than the deadline, never below the exact bound, and never above the plan they began with."""
    dag, hulls = random_graph(seed, n)
    exact = solve(dag, hulls, 1.0, start_price=0.0)
    deadline = exact.time[0] + share * (exact.time[-1] - exact.time[0])
    before, after = (round_discrete(dag, exact, hulls, deadline, rounds) for rounds in (0, 60))
    assert after.energy <= before.energy * (1 + 1e-12)
    assert after.time <= deadline * (1 + 1e-9)
    assert after.energy >= after.bound * (1 - 1e-9)
