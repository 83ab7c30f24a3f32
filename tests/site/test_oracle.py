"""Tests of plans over time against a program written apart (`oracle`), from 1 W to 10 GW and an hour to a year.

The large run is `python bench/site_fuzz.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wattline import Frontier
from wattline.core.errors import WattlineError
from wattline.hardware.power_tree import PowerTree
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task

from . import oracle


@pytest.mark.parametrize("seed", range(60))
def test_the_plan_is_the_optimum_of_an_independent_program(seed: int) -> None:
    """Cost to 1e-6, a bound that holds and closes, limits kept, and nothing refused that can be done."""
    drawn = oracle.draw(np.random.default_rng([7, seed]))
    found = oracle.solve(drawn)
    assert found is not None
    plan = drawn.horizon().plan("cost")
    assert plan.objective == pytest.approx(found[0], rel=1e-6)
    assert plan.gap < 1e-6
    assert plan.bound <= found[0] * (1 + 1e-6)  # whose solver forgives 1e-7
    assert (plan.flows <= plan.limits * (1 + 1e-9)).all()


@pytest.mark.parametrize("seed", range(12))
def test_plans_with_paid_pauses_are_the_optimum_too(seed: int) -> None:
    """The same with pauses that cost: the mixed-integer optimum, and a bound by prices that lies below it."""
    drawn = oracle.draw(np.random.default_rng([8, seed]), paid=True, periods=8)
    found = oracle.solve(drawn)
    plan = drawn.horizon().plan("cost", gap=1e-8)
    assert found is not None
    assert plan.objective == pytest.approx(found[0], rel=1e-6)
    assert plan.bound <= found[0] * (1 + 1e-6)  # whose solver forgives 1e-7


@pytest.mark.parametrize("seed", range(40))
def test_work_over_several_parts_that_was_just_reached_is_reached_again(seed: int) -> None:
    """Jobs over several parts: the least power for all the work there is never refuses it, and is proved."""
    drawn = oracle.draw(np.random.default_rng([9, seed]), spread=1.0, periods=1)
    horizon = drawn.horizon()
    jobs = [replace(task.job, weight=float(task.job.frontier.time[0])) for task in horizon.tasks]
    fleet = Fleet(horizon.trees[0], jobs)
    most = fleet.most_work()
    again = fleet.least_power(most.value)
    assert again.value >= most.value * (1 - 1e-9)
    assert again.gap < 1e-6
    assert (again.headroom >= -1e-9 * again.tree.row_limit).all()
    whole = fleet.most_work("discrete")
    assert fleet.least_power(whole.value, "discrete").value >= whole.value * (1 - 1e-9)


@pytest.mark.parametrize("watts", [1.0, 1.4e6, 14e6, 42e6, 1e10])
@pytest.mark.parametrize("step", [300.0, 3600.0])
def test_a_week_is_planned_alike_at_every_size(watts: float, step: float) -> None:
    """84 hours due in a week: scaled by the job's power, the answer is one and the same."""
    count = round(7 * 86400 / step)
    hours = np.arange(count) * step / 3600
    speed = np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    power = watts * (0.3 + 0.7 * speed**2)
    frontier = Frontier.of(1 / speed, (power - 0.1 * watts) / speed, waiting_power=0.1 * watts)
    job = Job("big", frontier, "feed", paused=0.1 * watts)
    tree = PowerTree.read([{"name": "feed", "limit": 0.9 * watts}])
    price = (80 + 30 * np.sin(hours / 24 * 2 * np.pi)) / 3.6e9
    conditions = Conditions(np.arange(count + 1) * step, price=price)
    plan = Horizon(tree, [Task(job, due=84 * 3600.0)], conditions).plan("cost")
    assert plan.gap < 1e-9
    # The best cost of the hourly problem by sorting: pieces of the curve in order of price over slope.
    assert plan.cost_usd == pytest.approx(_sorted(watts, power, speed, price, step), rel=1e-9)


def _sorted(watts: float, power: np.ndarray, speed: np.ndarray, price: np.ndarray, step: float) -> float:
    """Return the least cost of one job by filling pieces in order of price per unit of work."""
    w, r = np.append(0.1 * watts, power[::-1]), np.append(0.0, speed[::-1])
    keep = [0]
    while keep[-1] < len(w) - 1:  # upper envelope from the pause
        at = keep[-1]
        slope = (r[at + 1 :] - r[at]) / (w[at + 1 :] - w[at])
        keep.append(at + 1 + int(np.flatnonzero(slope == slope.max())[-1]))
    w, r = w[keep], r[keep]
    wide, slope = np.minimum(np.diff(w), np.maximum(0.9 * watts - w[:-1], 0.0)), np.diff(r) / np.diff(w)
    per = (price[:, None] / slope).ravel()
    work = (wide * slope * step)[None, :].repeat(len(price), 0).ravel()
    order = np.argsort(per)
    before = np.concatenate([[0.0], np.cumsum(work[order])[:-1]])
    taken = np.clip(84 * 3600.0 - before, 0.0, work[order])
    return float(per[order] @ taken + price.sum() * step * w[0])


def test_no_site_of_a_size_is_refused_or_aborts() -> None:
    """Every kind of request answers with a plan or one sentence."""
    for seed in range(30):
        horizon = oracle.draw(np.random.default_rng([10, seed])).horizon()
        for goal in ("energy", "cost", "work"):
            try:
                plan = horizon.plan(goal)
            except WattlineError as error:  # pragma: no cover - none is expected
                pytest.fail(f"{seed} {goal}: {error}")
            assert plan.gap < 1e-6
