"""Tests for `wattline.site.allocate`: power where it buys most, against brute force and linear programs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core import kernels
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import Overhead, PowerTree, uniform
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.fleet_plan import FleetPlan

from .fleets import brute, fleets, linear_program

FAST = Frontier.of([1.0, 2.0, 4.0], [300.0, 200.0, 160.0], waiting_power=50.0)
TWO = PowerTree.read([{"name": "feed", "limit": 1e3}, {"name": "rack", "on": "feed", "limit": 350.0}])


def keeps(plan: FleetPlan, fleet: Fleet) -> None:
    """Check limits, conservation, minima, and that settings make the stated power and work."""
    tree = fleet.tree
    assert (plan.headroom >= -1e-9 * tree.row_limit - 1e-9).all()
    assert plan.flows == pytest.approx(tree.row_flows(fleet.load(plan.power)))
    assert (plan.work >= fleet.points.minimum * (1 - 1e-9)).all()
    for j, job in enumerate(fleet.jobs):
        power, work = [], []
        for k in (plan.low[j], plan.high[j]):
            rate = 0.0 if k < 0 else min(1 / job.frontier.time[k], job.maximum)
            work.append(rate)
            power.append(job.paused if k < 0 else job.frontier.waiting_power + job.frontier.energy[k] * rate)
        share = plan.share[j]
        assert plan.power[j] == pytest.approx((1 - share) * power[0] + share * power[1])
        assert plan.work[j] == pytest.approx((1 - share) * work[0] + share * work[1])


@given(fleets())
@settings(max_examples=150, deadline=None)
def test_the_convex_plan_is_the_optimum_of_the_linear_program(fleet: Fleet) -> None:
    """Value, limits and the proof by prices agree with HiGHS on every drawn fleet."""
    plan = fleet.most_work()
    keeps(plan, fleet)
    best, _ = linear_program(fleet)
    assert plan.value == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert plan.bound == pytest.approx(plan.value, rel=1e-9, abs=1e-9)


@given(fleets(), st.floats(0.05, 1.0))
@settings(max_examples=80, deadline=None)
def test_least_power_for_required_work_is_the_linear_programs(fleet: Fleet, share: float) -> None:
    """The same order of pieces, stopped when the work is done, draws least at the feed."""
    target = share * fleet.most_work().value
    plan = fleet.least_power(target)
    keeps(plan, fleet)
    assert plan.value >= target - 2 * fleet.points.slip
    least, _ = linear_program(fleet, target)
    assert plan.feed == pytest.approx(least, rel=1e-6, abs=1e-6)
    assert plan.bound == pytest.approx(plan.feed, rel=1e-6, abs=1e-6)


@given(fleets(jobs=4))
@settings(max_examples=80, deadline=None)
def test_whole_settings_lie_between_brute_force_and_the_bound(fleet: Fleet) -> None:
    """A discrete plan keeps every limit, never beats the best combination, and its bound is never below that."""
    plan = fleet.most_work("discrete")
    keeps(plan, fleet)
    best = brute(fleet)
    assert (plan.low == plan.high).all()
    assert plan.value <= best + 1e-9
    assert plan.bound >= best * (1 - 1e-9)
    assert plan.gap >= -1e-9


@given(fleets(jobs=4), st.floats(0.1, 0.95))
@settings(max_examples=60, deadline=None)
def test_whole_settings_for_required_work(fleet: Fleet, share: float) -> None:
    """Required work is reached, at no less power than the best combination and the bound."""
    target = share * fleet.most_work("discrete").value
    plan = fleet.least_power(target, "discrete")
    keeps(plan, fleet)
    assert plan.value >= target - 2 * fleet.points.slip
    best = brute(fleet, target)
    assert plan.feed >= best * (1 - 1e-9)
    assert plan.bound <= best * (1 + 1e-9)


def test_whole_settings_cost_little_where_jobs_are_many() -> None:
    """Two hundred jobs under ten racks: within 1 % of the bound."""
    rng = np.random.default_rng(1)
    tree = uniform([("feed", 1, 60e3), ("rack", 10, 9e3)])
    jobs = [
        Job(f"j{j}", Frontier.of(np.cumsum(rng.uniform(0.5, 1, 6)), np.sort(rng.uniform(50, 900, 6))[::-1]),
            f"rack-{j % 10}", rng.uniform(0.5, 2), paused=20.0)
        for j in range(200)
    ]  # fmt: skip
    plan = Fleet(tree, jobs).most_work("discrete")
    assert 0 <= plan.gap < 0.01


def test_prices_are_the_duals_of_a_larger_program() -> None:
    """With no ties, the price of every constraint is the dual HiGHS finds, in value per watt there."""
    rng = np.random.default_rng(4)
    tree = uniform(
        [("feed", 1, 1e9), ("row", 4, 1e9), ("rack", 5, 1e9)], loss={"row": 0.05}, overhead=Overhead(1e3, (0.1,))
    )
    jobs = [
        Job(f"j{j}", Frontier.of(np.cumsum(rng.uniform(0.5, 1, 8)), np.sort(rng.uniform(50, 900, 8))[::-1], waiting_power=40),
            f"rack-{j // 10 % 4}.{j // 40}", rng.uniform(0.2, 3), paused=30.0)
        for j in range(200)
    ]  # fmt: skip
    free = Fleet(tree.with_limits(np.full(len(tree), np.inf)), jobs).most_work().flows
    fleet = Fleet(tree.with_limits(free * rng.uniform(0.6, 1.1, len(free))), jobs)
    plan = fleet.most_work()
    best, prices = linear_program(fleet)
    assert plan.value == pytest.approx(best, rel=1e-9)
    assert len(plan.binding()) > 3
    assert plan.price == pytest.approx(prices, rel=1e-6, abs=1e-12)


def test_a_price_is_what_one_watt_less_costs() -> None:
    """Finite differences of the plan's value at every limit that binds."""
    jobs = [Job("a", FAST, "rack"), Job("b", FAST, "rack", 2.0), Job("c", FAST, "feed", 0.5)]
    fleet = Fleet(TWO, jobs)
    plan = fleet.most_work()
    assert plan.binding()
    for name, price in plan.binding():
        limit = float(fleet.tree.limit[fleet.tree.index(name)])
        less = fleet.with_limit(name, limit - 1e-3).most_work().value
        assert (plan.value - less) / 1e-3 == pytest.approx(price, rel=1e-6)


def test_a_price_of_least_power_is_in_watts_at_the_feed() -> None:
    """Where work is required, a tighter rack costs what doing its work elsewhere takes more."""
    jobs = [Job("a", FAST, "rack"), Job("b", FAST, "rack", 2.0), Job("c", FAST, "feed", 0.5)]
    fleet = Fleet(TWO.with_limit("rack", 300.0), jobs)
    plan = fleet.least_power(0.97 * fleet.most_work().value)
    assert [name for name, _ in plan.binding()] == ["rack"]
    tighter = fleet.with_limit("rack", 300.0 - 1e-3).least_power(0.97 * fleet.most_work().value)
    assert (tighter.feed - plan.feed) / 1e-3 == pytest.approx(plan.price[1], rel=1e-4)


@given(fleets(), st.floats(0.3, 1.2))
@settings(max_examples=60, deadline=None)
def test_planning_again_after_a_change_is_planning_anew(fleet: Fleet, factor: float) -> None:
    """A fleet with one limit changed answers like one made from scratch."""
    v = len(fleet.tree) - 1
    limit = factor * float(fleet.tree.limit[v])
    tree = fleet.tree.with_limit(fleet.tree.names[v], limit)
    fleet.most_work()
    try:
        anew = Fleet(PowerTree.of(tree.names, tree.parent, tree.limit, loss=tree.loss, groups=tree.groups), fleet.jobs)
        expected = anew.most_work().value
    except (GoalError, InputError) as error:
        with pytest.raises(type(error)):
            fleet.with_limit(fleet.tree.names[v], limit).most_work()
        return
    assert fleet.with_limit(fleet.tree.names[v], limit).most_work().value == pytest.approx(expected)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_mixing_shares_of_time_reaches_what_mixing_shares_of_work_reaches(data: st.DataObject) -> None:
    """The envelope in (power, rate) is the projective image of the frontier's hull in (time, energy)."""
    n = data.draw(st.integers(2, 6))
    time = np.cumsum([data.draw(st.floats(0.1, 2)) for _ in range(n)])
    energy = np.cumsum([data.draw(st.floats(0.1, 50)) for _ in range(n)])[::-1]
    frontier = Frontier.of(time, energy, waiting_power=7.0)
    hull = frontier.hull()
    curves = Fleet(PowerTree.read([{"name": "f"}]), [Job("j", frontier, "f")]).read("hull").curves
    t = data.draw(st.floats(0, 1)) * (hull.time[-1] - hull.time[0]) + hull.time[0]
    power = np.array([hull.total(t) / t])
    low, high, share = curves.at(np.array([0]), power)
    work = (1 - share) * curves.work[low] + share * curves.work[high]
    assert work[0] == pytest.approx(1 / t, rel=1e-9)


def test_work_that_arrives_slower_than_a_setting_leaves_it_idle() -> None:
    """Half the rate at the fastest setting: half its energy a second above waiting, and slower ones cost less."""
    one = Job("serve", FAST, "feed", minimum=0.5, maximum=0.5)
    plan = Fleet(PowerTree.read([{"name": "feed"}]), [one]).most_work("discrete")
    assert plan.work[0] == 0.5
    assert plan.power[0] == pytest.approx(50 + 200 * 0.5)
    assert plan.low[0] == 1


def test_hot_weather_leaves_less_for_work() -> None:
    """The same feed buys less at a higher outdoor temperature, by the overhead it must carry."""
    hot = Overhead(10.0, (0.1, 0.5), (283.15, 313.15))
    tree = PowerTree.read([{"name": "feed", "limit": 300.0}], overhead=hot, outdoor=283.15)
    fleet = Fleet(tree, [Job("a", FAST, "feed")])
    cool = fleet.most_work()
    warm = fleet.on(tree.with_outdoor(313.15)).most_work()
    assert cool.power[0] == pytest.approx(290 / 1.1)
    assert warm.power[0] == pytest.approx(290 / 1.5)
    assert warm.value < cool.value


def test_minimum_service_that_does_not_fit_names_the_limits() -> None:
    """Every limit in the way is named with what is needed, allowed and short."""
    jobs = [Job(f"j{k}", FAST, "rack", minimum=0.5) for k in range(3)]
    with pytest.raises(GoalError, match=r"does not fit under rack \(450 W needed, 350 W allowed, short of 100 W\)"):
        Fleet(TWO, jobs).most_work()


def test_a_minimum_beyond_the_fastest_setting_names_the_job() -> None:
    """No limit is to blame where the frontier itself is too slow."""
    with pytest.raises(GoalError, match="minimum service of job quick"):
        Fleet(TWO, [Job("quick", FAST, "rack", minimum=1.5)])


def test_limits_below_idle_power_are_bad_input() -> None:
    """Equipment that draws more than a limit with nothing done is refused when the fleet is made."""
    with pytest.raises(InputError, match="rack may take 350 W but draws 400 W with everything idle, 50 W too much"):
        Fleet(TWO, [Job(f"j{k}", FAST, "rack") for k in range(8)])


def test_required_work_beyond_reach_names_what_binds() -> None:
    """The limits that stop the work are said."""
    fleet = Fleet(TWO, [Job("a", FAST, "rack"), Job("b", FAST, "rack")])
    with pytest.raises(GoalError, match="limits of rack bind"):
        fleet.least_power(1.9)
    with pytest.raises(GoalError, match="every job runs at its fastest"):
        Fleet(PowerTree.read([{"name": "f"}]), [Job("a", FAST, "f")]).least_power(1.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": -1.0}, "weight"),
        ({"minimum": 2.0, "maximum": 1.0}, "minimum <= maximum"),
        ({"paused": math.nan}, "paused"),
        ({"at": {"rack": 0.5}}, "sum to 1"),
        ({"frontier": Frontier.of([0.0], [1.0])}, "more than 0 s"),
    ],
)
def test_jobs_that_cannot_be_are_refused(change: dict, words: str) -> None:
    """Each message says the job and the rule."""
    with pytest.raises(InputError, match=words):
        Job(**{"name": "j", "frontier": FAST, "at": "rack", **change})


def test_an_unknown_place_says_the_nearest() -> None:
    """A job at no part of the tree is refused by name."""
    with pytest.raises(InputError, match="did you mean 'rack'"):
        Fleet(TWO, [Job("a", FAST, "rakc")])


# ---- jobs over several parts of the tree -----------------------------------------------------------


@given(fleets(jobs=4), st.data())
@settings(max_examples=60, deadline=None)
def test_a_job_over_one_part_is_a_job_at_that_part(fleet: Fleet, data: st.DataObject) -> None:
    """Stated as shares {part: 1}, every job has the same plan by the linear program as by filling in order."""
    apart = Fleet(fleet.tree, [replace(job, at={job.at: 1.0}) for job in fleet.jobs])
    one, other = fleet.most_work(), apart.most_work()
    keeps_spread(other, apart)
    assert other.value == pytest.approx(one.value, rel=1e-6, abs=1e-6)
    whole = apart.most_work("discrete")
    keeps_spread(whole, apart)
    assert whole.value <= brute(fleet) + 1e-6
    target = 0.7 * one.value
    assert apart.least_power(target).feed == pytest.approx(fleet.least_power(target).feed, rel=1e-6, abs=1e-5)


def keeps_spread(plan: FleetPlan, fleet: Fleet) -> None:
    """Check limits and minima."""
    assert (plan.headroom >= -1e-9 * fleet.tree.row_limit - 1e-9).all()
    assert (plan.work >= fleet.points.minimum * (1 - 1e-9)).all()


def test_a_job_over_two_racks_is_held_back_by_the_tighter_one() -> None:
    """Its power goes to both in equal shares, so one rack's limit bounds all of it, and has the price."""
    rows = [{"name": "feed"}, {"name": "a", "on": "feed", "limit": 120.0}, {"name": "b", "on": "feed", "limit": 500.0}]
    fleet = Fleet(PowerTree.read(rows), [Job("wide", FAST, {"a": 0.5, "b": 0.5}), Job("b-only", FAST, "b")])
    plan = fleet.most_work()
    assert plan.power[0] == pytest.approx(240)
    assert plan.flows[1:] == pytest.approx([120, 120 + plan.power[1]])
    assert [name for name, _ in plan.binding()] == ["a"]
    assert fleet.most_work("discrete").low[0] == 1


@given(fleets(), st.sampled_from(["hull", "discrete"]), st.floats(0.1, 0.95))
@settings(max_examples=60, deadline=None)
def test_c_is_python(fleet: Fleet, reading: Literal["hull", "discrete"], share: float) -> None:
    """Plans of C are those of the same code in Python, to the last bit."""

    def plans() -> list[FleetPlan]:
        same = Fleet(fleet.tree, fleet.jobs)
        best = same.most_work(reading)
        return [best, same.least_power(share * best.value, reading)]

    found = plans()
    with kernels.plain():
        for one, other in zip(found, plans(), strict=True):
            for name in ("power", "work", "low", "high", "share", "price", "value", "bound"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
