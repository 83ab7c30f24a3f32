"""Tests for `wattline.site.decompose`: plans by prices are the linear program's, within what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core.errors import GoalError
from wattline.core.kernels import plain
from wattline.hardware.power_tree import PowerTree
from wattline.site import decompose
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task

from . import oracle

HOUR = 3600.0


def many(jobs: int, hours: int, seed: int = 0) -> Horizon:
    """Racks under rows under a feed, all too small for everyone at once; windows and works of many lengths."""
    rng = np.random.default_rng(seed)
    watts = rng.uniform(600, 1400, jobs)
    tree = PowerTree.read([
        {"name": "feed", "limit": 0.5 * watts.sum()},
        *({"name": f"row-{k}", "on": "feed", "loss": 0.03, "limit": 0.6 * watts.sum() / 3} for k in range(3)),
    ])  # fmt: skip
    speed = np.array([1.0, 0.85, 0.7])
    tasks = []
    for j, w in enumerate(watts):
        power = w * (0.3 + 0.7 * speed**2.3)
        frontier = Frontier.of(1 / speed, (power - 0.1 * w) / speed, waiting_power=0.1 * w)
        begin = int(rng.integers(0, hours // 2)) * HOUR * (j % 2)
        due = rng.uniform(0.1, 0.5) * (hours * HOUR - begin)
        tasks.append(Task(Job(f"j{j}", frontier, f"row-{j % 3}", paused=0.05 * w), due, begin))
    price = (60 + 40 * np.sin(np.arange(hours) / 4) + rng.uniform(0, 9, hours)) / 3.6e9
    return Horizon(tree, tasks, Conditions(np.arange(hours + 1) * HOUR, price=price, carbon=price[::-1] * 3e6))


@pytest.mark.parametrize("goal", ["cost", "carbon", "energy"])
def test_many_jobs_equal_the_linear_program(goal):
    """A hundred jobs over a day and a half: within 1e-4 of the optimum, and no bound above it."""
    horizon = many(100, 36)
    exact, found = horizon.plan(goal), decompose.plan(horizon, goal, 1e-4)
    assert not found.short
    assert (found.flows <= found.limits * (1 + 1e-9)).all()
    assert exact.objective * (1 - 1e-9) <= found.objective <= exact.objective * (1 + 1e-4)
    assert found.bound <= exact.objective * (1 + 1e-9)
    assert found.gap <= 1e-4


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_sites_at_random_equal_the_linear_program(seed):
    """From 1 W to 10 GW, spread jobs included: what it says of its gap is true, and its plan keeps every limit."""
    horizon = oracle.draw(np.random.default_rng([11, seed])).horizon()
    try:
        exact = horizon.plan("cost")
    except GoalError:
        return
    found = decompose.plan(horizon, "cost", 1e-4)
    assert (found.flows <= found.limits * (1 + 1e-9)).all()
    assert found.bound <= exact.objective * (1 + 1e-7)
    if not found.short:
        assert exact.objective * (1 - 1e-6) <= found.objective <= exact.objective * (1 + found.gap + 1e-7)


def test_most_work_is_found_too():
    """Jobs with nothing due share what limits leave by the value of their work."""
    base = many(60, 12)
    tasks = [Task(task.job, 0.0) if j % 3 else task for j, task in enumerate(base.tasks)]
    horizon = Horizon(base.tree, tasks, base.conditions)
    exact, found = horizon.plan("work"), decompose.plan(horizon, "work", 1e-4)
    assert exact.objective * (1 - 2e-4) <= found.objective <= exact.objective * (1 + 1e-9)
    assert found.bound >= exact.objective * (1 - 1e-9)


def test_c_and_python_answer_alike():
    """The kernels in Python give the plan that C gives, to the bit."""
    horizon = many(12, 10, seed=4)
    compiled = decompose.plan(horizon, "cost", 1e-3)
    with plain():
        written = decompose.plan(horizon, "cost", 1e-3)
    assert (compiled.power == written.power).all()
    assert compiled.bound == written.bound


def test_large_plans_are_made_by_prices(monkeypatch):
    """`Horizon.plan` takes this road from a number of columns on, and refuses what cannot be done by name."""
    monkeypatch.setattr(decompose, "LARGE", 100)
    horizon = many(30, 12)
    assert decompose.applies(horizon, "cost")
    assert 0 < horizon.plan("cost").gap <= 1e-4
    hard = [Task(task.job, 12 * HOUR) for task in horizon.tasks]
    with pytest.raises(GoalError, match="cannot be done by its deadline"):
        Horizon(horizon.tree, hard, horizon.conditions).plan("cost")
