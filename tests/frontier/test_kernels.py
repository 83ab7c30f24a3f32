"""Tests for the kernels of `wattline.frontier`: C gives what the plain Python gives, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core import kernels
from wattline.frontier import _flow
from wattline.frontier.graph import Dag, solve
from wattline.frontier.path import start_times
from wattline.frontier.periodic import solve_family
from wattline.frontier.rounding import round_discrete


def random_graph(seed: int, n: int, kinds: int = 4) -> tuple[Dag, list[tuple[np.ndarray, np.ndarray]]]:
    """A random graph, and convex hulls of its classes."""
    random = np.random.default_rng(seed)
    edges = [(a, b) for a in range(n) for b in range(a + 1, n) if random.random() < 3.0 / n]
    hulls = []
    for _ in range(kinds):
        m = int(random.integers(1, 6))
        time, slope = np.cumsum(random.uniform(0.2, 1.0, m)), np.sort(random.uniform(0.1, 3.0, m))[::-1]
        energy = 10.0 - np.r_[0.0, np.cumsum(np.diff(time) * slope[1:])]
        hulls.append((time, energy))
    return Dag(random.integers(0, kinds, n), np.array(edges, np.int64).reshape(-1, 2)), hulls


def everything(seed: int, n: int) -> list[np.ndarray]:
    """Curve, schedules, plans and starts of a random graph."""
    dag, hulls = random_graph(seed, n)
    found = solve(dag, hulls, 1.0, start_price=0.0)
    answer = [dag.order, found.time, found.energy, found.price]
    for share in (0.0, 0.4):
        deadline = found.time[0] + share * (found.time[-1] - found.time[0])
        schedule = found.schedule(deadline)
        plan = round_discrete(dag, found, hulls, deadline, rounds=30)
        answer += [schedule.start, schedule.duration, schedule.price, plan.option, plan.start, np.array(plan.energy)]
        answer.append(start_times(dag, schedule.duration))
    return answer


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14))
def test_c_is_python(seed: int, n: int) -> None:
    """Frontiers, schedules and rounded plans are the same, ties and random shaking included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wattline.frontier.rounding.SHAKES", 200)
        patch.setattr("wattline.frontier.rounding.TRIALS", 2000)
        fast = everything(seed, n)
        with kernels.plain():
            plain = everything(seed, n)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def one_after_another(count: int) -> Dag:
    """Two devices that alternate over `count` items."""
    edges = [(2 * i, 2 * i + 1) for i in range(count)] + [(i, i + 2) for i in range(2 * count - 2)]
    return Dag(np.arange(2 * count) % 2, np.array(edges))


def test_families_are_the_same() -> None:
    """What is carried over to longer graphs, cut and balanced, is the same."""
    _, hulls = random_graph(5, 4)

    def answer() -> list[np.ndarray]:
        found = solve_family(one_after_another, 60, hulls[:2], 0.5)
        schedule = found.schedule(0.5 * (found.time[0] + found.time[-1]))
        assert found.method == "affine"
        return [found.time, found.energy, found.price, schedule.start, schedule.price]

    fast = answer()
    with kernels.plain():
        for one, other in zip(fast, answer(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_climb_that_pauses_ends_where_one_that_does_not(monkeypatch) -> None:
    """Room for three breakpoints a call gives the curve that room for all gives, in C and in Python."""
    dag, hulls = random_graph(3, 40)
    whole = solve(dag, hulls, 1.0, start_price=0.0)
    monkeypatch.setattr(_flow, "BREAKPOINTS", 3)
    parts = solve(dag, hulls, 1.0, start_price=0.0)
    with kernels.plain():
        plain = solve(dag, hulls, 1.0, start_price=0.0)
    assert len(whole.time) > 6
    for found in (parts, plain):
        np.testing.assert_array_equal(found.time, whole.time)
        np.testing.assert_array_equal(found.price, whole.price)
