"""Tests for `wattline.frontier.goal`: a goal picks one point of a convex frontier."""

import numpy as np
import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.frontier.answer import Goal, Rates
from wattline.frontier.goal import choose

TIME = np.array([10.0, 12.0, 16.0])
ENERGY = np.array([100.0, 80.0, 70.0])


def pick(kind: str, value: float = 0.0, **more: object):
    rates = Rates(price=2.0, carbon=0.5)
    return choose(TIME, ENERGY, 10.0, Goal(kind, value), rates, **more)


def test_a_slowdown_is_counted_from_the_baseline() -> None:
    """Ten percent of a baseline of 10 s allows 11 s, where a second saves 10 J."""
    c = pick("max_slowdown", 0.1)
    assert c.time == pytest.approx(11.0)
    assert c.price == pytest.approx(10.0)


def test_nothing_is_gained_beyond_least_energy() -> None:
    """A generous deadline is not used up, and there a second is worth nothing."""
    c = pick("deadline", 100.0)
    assert c.time == 16.0
    assert c.price == 0.0


@pytest.mark.parametrize(
    ("kind", "value", "time"),
    [
        ("energy", 90.0, 11.0),
        ("cost", 180.0, 11.0),
        ("carbon", 45.0, 11.0),
        ("power", 10.0, 10.0),
        ("least_energy", 0.0, 16.0),
    ],
)
def test_limits_are_met_exactly_on_the_line_between_points(kind: str, value: float, time: float) -> None:
    """Energy 90 J lies halfway between two vertices; cost and carbon are energy at a rate."""
    assert pick(kind, value).time == pytest.approx(time)


def test_a_power_limit_between_points_solves_for_its_time() -> None:
    """At 8 W the time t solves 100 - 10 (t - 10) = 8 t."""
    c = pick("power", 8.0)
    assert c.time == pytest.approx(200 / 18)
    assert np.interp(c.time, TIME, ENERGY) / c.time == pytest.approx(8.0)


def test_goals_out_of_reach_say_what_is_possible() -> None:
    """A goal that nothing meets raises GoalError with the nearest possible value."""
    with pytest.raises(GoalError, match="the fastest plan takes 10 s"):
        pick("deadline", 9.0)
    with pytest.raises(GoalError, match="the least possible is 70 J"):
        pick("energy", 60.0)
    with pytest.raises(GoalError, match=r"site.power_limit = 6 W"):
        pick("max_slowdown", 0.0, power_limit=6.0)


def test_a_goal_needs_the_rate_it_is_stated_in() -> None:
    """Cost without a price, and carbon without an intensity, are refused rather than invented."""
    with pytest.raises(ScenarioError, match=r"needs site.price"):
        choose(TIME, ENERGY, 10.0, Goal("cost", 1.0), Rates())
    with pytest.raises(ScenarioError, match=r"needs site.carbon"):
        choose(TIME, ENERGY, 10.0, Goal("carbon", 1.0), Rates())
