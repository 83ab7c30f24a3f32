"""Tests for `wattline.site.horizon` and `receding`: work put where hours are cheap, limits kept in each."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, HorizonPlan, Task
from wattline.site.receding import Forecast, follow

HOUR = 3600.0
CURVED = Frontier.of([1.0, 1.2, 1.5, 2.0], [600, 560, 530, 520.0], waiting_power=100.0)
ONE = Frontier.of([1.0], [900.0], waiting_power=100.0)
FEED = PowerTree.read([{"name": "feed", "limit": 1500.0}], overhead=Overhead(50.0, (0.1,)))


def hours(*carbon: float, **more) -> Conditions:
    return Conditions(np.arange(len(carbon) + 1) * HOUR, carbon=np.array(carbon), **more)


def keeps(plan: HorizonPlan, h: Horizon) -> None:
    """Check limits and conservation of power at every part of the tree in every period, and work due."""
    assert (plan.flows <= plan.limits * (1 + 1e-9) + 1e-9).all()
    for t, tree in enumerate(h.trees):
        assert plan.flows[t] == pytest.approx(tree.row_flows(h.fleet.load(plan.power[:, t])))
    done = (plan.work * h.open).sum(axis=1)
    assert (done >= np.where(h.owing, [task.due for task in h.tasks], 0.0) * (1 - 1e-6)).all()
    assert plan.energy_j == pytest.approx(float(plan.feed @ h.conditions.dt))


def test_work_goes_to_the_cleanest_hours() -> None:
    """One setting, three hours due of six: the three of least carbon, and no others."""
    h = Horizon(FEED, [Task(Job("a", ONE, "feed", paused=0.0), due=3 * HOUR)], hours(5, 1, 4, 2, 9, 3))
    plan = h.plan("carbon")
    keeps(plan, h)
    assert plan.power[0] == pytest.approx([0, 1000, 0, 1000, 0, 1000], abs=1e-4)
    assert plan.carbon_g == pytest.approx((50 * 24 + 1100 * 6) * HOUR)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=6), st.integers(1, 3), st.sampled_from([0.0, 600.0, 1800.0]))
@settings(max_examples=30, deadline=None)
def test_paid_pauses_agree_with_every_pattern(carbon: list[int], due: int, resume: float) -> None:
    """On or off in every hour: the mixed-integer plan is the best of all patterns."""
    task = Task(Job("a", ONE, "feed", paused=10.0), due=due * HOUR, resume=resume, running=False)
    h = Horizon(FEED, [task], hours(*carbon))
    best = math.inf
    for pattern in itertools.product((0, 1), repeat=len(carbon)):
        starts = sum(1 for a, b in itertools.pairwise((0, *pattern)) if b > a)
        if sum(pattern) * HOUR - starts * resume >= due * HOUR - 1e-6:
            watts = np.where(pattern, 1000.0, 10.0) * 1.1 + 50.0
            best = min(best, float(np.array(carbon) @ watts) * HOUR)
    if resume == 0:  # then it may also run for part of an hour, and only fewer joules are to be had
        assert h.plan("carbon").objective <= best * (1 + 1e-9)
    elif math.isinf(best):
        with pytest.raises(GoalError, match="cannot be done"):
            h.plan("carbon")
    else:
        plan = h.plan("carbon", gap=1e-9)
        keeps(plan, h)
        assert plan.objective == pytest.approx(best, rel=1e-6)
        assert plan.bound <= best * (1 + 1e-6)


@st.composite
def horizons(draw: st.DrawFn) -> Horizon:
    n = draw(st.integers(1, 5))
    watts = [draw(st.floats(900, 2500)) for _ in range(n)]
    rack = draw(st.floats(600, 1500))
    tree = PowerTree.read(
        [{"name": "feed", "limit": 3e3, "loss": 0.05}, {"name": "rack", "on": "feed", "limit": rack}],
        overhead=Overhead(20.0, (0.1, 0.3), (280.0, 300.0)), outdoor=280.0,
    )  # fmt: skip
    conditions = hours(
        *(draw(st.floats(0, 9)) for _ in range(n)),
        limits={"feed": np.array(watts)}, outdoor=np.array([draw(st.floats(275, 305)) for _ in range(n)]),
    )  # fmt: skip
    tasks = []
    for k in range(draw(st.integers(1, 3))):
        may = draw(st.booleans())
        job = Job(f"t{k}", CURVED, draw(st.sampled_from(["feed", "rack"])), draw(st.sampled_from([1.0, 2.0])),
                  paused=draw(st.sampled_from([0.0, 80.0])) if may else None)  # fmt: skip
        tasks.append(
            Task(job, draw(st.floats(0, 0.4 * n)) * HOUR, resume=draw(st.sampled_from([0.0, 900.0])) if may else 0.0)
        )
    return Horizon(tree, tasks, conditions)


@given(horizons(), st.sampled_from(["energy", "carbon", "work"]))
@settings(max_examples=60, deadline=None)
def test_no_plan_exceeds_a_limit_in_any_period(h: Horizon, goal: str) -> None:
    """Whatever the limits and the weather do: flows add up, limits hold, and what is short is said."""
    try:
        plan = h.elastic(goal)
    except GoalError:
        return
    assert (plan.flows <= plan.limits * (1 + 1e-9) + 1e-9).all()
    for t, tree in enumerate(h.trees):
        assert plan.flows[t] == pytest.approx(tree.row_flows(h.fleet.load(plan.power[:, t])))
    if not plan.short:
        keeps(plan, h)
    soon = h.soonest()
    assert (soon.flows <= soon.limits * (1 + 1e-9) + 1e-9).all()
    # Part of an hour at full speed is open to it, not to a job that pays for its pauses.
    if not plan.short and not soon.short and goal != "work" and not h.paid.any():
        assert plan.objective <= (soon.energy_j if goal == "energy" else soon.carbon_g) * (1 + 1e-6)


def test_level_conditions_ask_for_what_one_instant_asks_for() -> None:
    """With nothing changing, least energy over six hours is six hours of the fleet's least power."""
    jobs = [Job("a", CURVED, "feed", paused=0.0), Job("b", CURVED, "feed", minimum=0.5)]
    h = Horizon(FEED, [Task(jobs[0], due=0.6 * 6 * HOUR), Task(jobs[1], due=0.8 * 6 * HOUR)], hours(*[1] * 6))
    plan = h.plan("energy")
    fleet = Fleet(FEED, [Job("a", CURVED, "feed", minimum=0.6, paused=0.0), Job("b", CURVED, "feed", minimum=0.8)])
    assert plan.energy_j == pytest.approx(fleet.least_power(0.0).feed * 6 * HOUR, rel=1e-6)


def test_most_work_over_time_is_most_work_at_each_instant() -> None:
    """Without dues there is nothing to shift."""
    tree = FEED
    jobs = [Job("a", CURVED, "feed", 2.0, paused=0.0), Job("b", CURVED, "feed")]
    watts = np.array([1200.0, 700.0, 900.0])
    h = Horizon(tree, [Task(j) for j in jobs], hours(1, 1, 1, limits={"feed": watts}))
    expected = sum(Fleet(tree.with_limit("feed", w), jobs).most_work().value for w in watts) * HOUR
    assert h.plan("work").objective == pytest.approx(expected, rel=1e-6)
    assert h.soonest().work.sum(axis=1) @ [2.0, 1.0] == pytest.approx(expected, rel=1e-6)


def test_work_that_does_not_fit_names_jobs_and_limits() -> None:
    """Who falls short, by how much, and which limit binds in how many periods."""
    h = Horizon(
        FEED,
        [Task(Job("big", ONE, "feed", paused=0.0), due=4 * HOUR)],
        hours(1, 1, limits={"feed": np.array([1150.0, 600.0])}),
    )
    with pytest.raises(GoalError, match=r"deadline: big \(\d+.* undone\); limits that bind: feed in 2 of 2 periods"):
        h.plan("energy")


def test_minimum_service_in_a_curtailed_hour_names_the_hour() -> None:
    """A limit below what must run is refused with limit, hour and watts."""
    h = Horizon(FEED, [Task(Job("s", ONE, "feed"))], hours(1, 1, limits={"feed": np.array([1500.0, 600.0])}))
    with pytest.raises(GoalError, match=r"at 1 h: feed may take 600 W and is short of 550 W"):
        h.plan("energy")


def test_least_carbon_needs_carbon() -> None:
    """Nothing is invented for a goal whose series is not given."""
    h = Horizon(FEED, [Task(Job("s", ONE, "feed"))], hours(1, 1))
    with pytest.raises(InputError, match=r"needs grid\.price"):
        h.plan("cost")


def test_deadlines_and_releases_bound_when_work_counts() -> None:
    """Work due by the second hour is not done in the cheap third; nor before it is released."""
    early = Task(Job("a", ONE, "feed", paused=0.0), due=1 * HOUR, deadline=2 * HOUR)
    late = Task(Job("b", ONE, "feed", paused=0.0), due=1 * HOUR, release=2 * HOUR)
    roomy = FEED.with_limit("feed", 1e4)
    plan = Horizon(roomy, [early, late], hours(3, 2, 1, 4)).plan("carbon")
    assert plan.power == pytest.approx(np.array([[0, 1000, 0, 0], [0, 0, 1000, 0]]), abs=1e-3)


def test_following_a_perfect_forecast_is_planning_ahead() -> None:
    """With no error, planning again at every hour pays what the plan said."""
    h = Horizon(FEED, [Task(Job("a", CURVED, "feed", paused=20.0), due=3 * HOUR)], hours(5, 1, 4, 2, 9, 3))
    ahead = h.plan("carbon")
    did = follow(h, "carbon", Forecast(0.0))
    assert did.carbon_g == pytest.approx(ahead.carbon_g, rel=1e-5)
    assert not did.short


def test_a_wrong_forecast_costs_something_and_work_is_still_done() -> None:
    """A 30 % error costs more than knowing, less than not looking, and no deadline is missed."""
    carbon = 300 + 200 * np.sin(np.arange(24) / 24 * 4 * np.pi)
    h = Horizon(FEED, [Task(Job("a", CURVED, "feed", paused=20.0), due=10 * HOUR, resume=300.0)], hours(*carbon))
    known, wrong, soon = h.plan("carbon"), follow(h, "carbon", Forecast(0.3, seed=3)), h.soonest()
    keeps(wrong, h)
    assert known.carbon_g <= wrong.carbon_g * (1 + 1e-3)
    assert wrong.carbon_g < soon.carbon_g


def test_the_error_of_a_forecast_grows_with_the_lead() -> None:
    """The present is known; far ahead the relative error is as stated."""
    truth = hours(*[1.0] * 60)
    draws = np.log([Forecast(0.2, 0.8, seed)(truth, 0).carbon for seed in range(400)])
    assert (draws[:, 0] == 0).all()
    assert np.std(draws[:, 1]) == pytest.approx(0.2 * math.sqrt(1 - 0.64), rel=0.15)
    assert np.std(draws[:, 40]) == pytest.approx(0.2, rel=0.15)
