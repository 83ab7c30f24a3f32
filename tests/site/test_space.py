"""Tests for `wattline.site.space`: where and when agree with every path tried, and moves cost what they are said to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import PowerTree
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task
from wattline.site.space import Region, Roaming, plan

HOUR = 3600.0
ONE = Frontier.of([1.0], [900.0], waiting_power=100.0)
CURVED = Frontier.of([1.0, 1.25, 2.0], [900, 700, 640.0], waiting_power=100.0)


def region(name: str, prices, limit: float = 1e9, factor: float = 1.0, fixed: float = 0.0) -> Region:
    n = len(prices)
    return Region(name, np.full(n, limit), np.full(n, factor), np.array(prices) / 3.6e6, None, fixed)


def job(name: str = "a", due: float = 2.0, frontier: Frontier = ONE, paused: float = 0.0) -> Task:
    return Task(Job(name, frontier, "feed", paused=paused), due * HOUR)


@given(
    st.lists(st.integers(1, 30), min_size=4, max_size=5), st.data(), st.integers(1, 3), st.integers(0, 20),
    st.sampled_from([None, "x", "y"]),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_where_and_when_agree_with_every_path(first, data, due, money, home) -> None:
    """One job of one setting at two sites: the plan is the best of all paths and all hours worked on them."""
    second = data.draw(st.lists(st.integers(1, 30), min_size=len(first), max_size=len(first)))
    n, both = len(first), np.array([first, second], float)
    best = np.inf
    for path in itertools.product((0, 1), repeat=n):
        start = path[0] if home is None else ("x", "y").index(home)
        moves = sum(a != b for a, b in itertools.pairwise((start, *path)))
        hours = sorted(both[list(path), range(n)])
        # 10 W at rest where it is, 990 W more while it works.
        best = min(best, 0.99 * sum(hours[:due]) + 0.01 * sum(hours) + money * moves)
    found = plan(
        [region("x", first), region("y", second)], [Roaming(job(due=due, paused=10.0), home=home, money=float(money))],
        np.arange(n + 1) * HOUR, gap=1e-9,
    )  # fmt: skip
    assert found.objective == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert found.gap < 1e-6
    assert found.work.sum() == pytest.approx(due * HOUR)


def test_one_site_is_the_plan_over_time() -> None:
    """Without anywhere else to go it is what `Horizon` plans, limits, PUE and fixed power included."""
    prices = [5, 1, 4, 2, 9, 3]
    tasks = [job("a", 3, CURVED), job("b", 2, CURVED, paused=50.0)]
    found = plan([region("x", prices, 1900.0, 1.2, 60.0)], [Roaming(t) for t in tasks], np.arange(7) * HOUR)
    tree = PowerTree.read([{"name": "feed", "limit": 1840.0 / 1.2, "loss": 0.0}])
    conditions = Conditions(np.arange(7) * HOUR, price=np.array(prices) / 3.6e6)
    alone = Horizon(tree, tasks, conditions).plan("cost")
    assert found.cost == pytest.approx(1.2 * alone.cost_usd + 60 * sum(prices) / 1e3, rel=1e-6)


def test_a_move_takes_work_money_and_joules() -> None:
    """Cheap hours elsewhere are worth a move, and its work is made up, its money and joules are billed."""
    far, near = [1, 1, 1, 1], [50, 50, 50, 50]
    roaming = Roaming(job(due=2), home="near", work=0.5 * HOUR, money=7.0, energy=3.6e6)
    found = plan([region("near", near), region("far", far)], [roaming], np.arange(5) * HOUR)
    assert found.moves == {"a": [(0, "near", "far")]}
    assert found.work.sum() == pytest.approx(2 * HOUR)
    assert found.cost == pytest.approx(2.5 * 1 + 7 + 1)
    assert plan([region("near", near), region("far", far)], [Roaming(job(), home="near", money=200.0)],
                np.arange(5) * HOUR).moves == {"a": []}  # fmt: skip


def test_limits_divide_jobs_among_sites() -> None:
    """Two jobs at a site for one: one goes to the dearer site, as far as it must."""
    found = plan(
        [region("x", [1, 1], 1000.0), region("y", [9, 9], 1000.0)], [Roaming(job("a")), Roaming(job("b"))],
        np.arange(3) * HOUR,
    )  # fmt: skip
    assert found.grid == pytest.approx(np.full((2, 2), 1000.0))
    with pytest.raises(GoalError, match="does not fit the sites' limits"):
        plan([region("x", [1, 1], 1000.0)], [Roaming(job("a")), Roaming(job("b"))], np.arange(3) * HOUR)
    with pytest.raises(GoalError, match="too slow for their deadlines: a"):
        plan([region("x", [1, 1])], [Roaming(job("a", due=3))], np.arange(3) * HOUR)
    with pytest.raises(InputError, match="no site is called 'z'"):
        plan([region("x", [1, 1])], [Roaming(job("a"), home="z")], np.arange(3) * HOUR)


def test_paid_to_draw_power_a_job_still_runs_its_curve() -> None:
    """At a negative price the same work takes no more watts than its settings draw."""
    found = plan([region("x", [-5, -5])], [Roaming(job(due=1, frontier=CURVED))], np.arange(3) * HOUR)
    speed, watts = 1 / CURVED.time[::-1], CURVED.average_power[::-1]
    rate = found.work[0] / HOUR
    most = np.interp(rate, np.append(0, speed), np.append(0, watts))
    assert found.work.sum() == pytest.approx(HOUR)
    assert (found.power[0, 0] <= np.maximum(most, rate * watts[-1] / speed[-1]) * (1 + 1e-6)).all()
