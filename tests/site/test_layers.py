"""Tests for `wattline.site.layers`: the cheapest way down, checked against every mixture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from wattline import Frontier
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import PowerTree
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.layers import LAYERS, Measure, Standing, by_layer, price_curve, shares


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    measures = tuple(
        Measure(
            draw(st.sampled_from(LAYERS)), *(np.array([draw(st.floats(1, 100)) for _ in range(2)]) for _ in range(2))
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    return Standing("j", draw(st.floats(20, 100)), draw(st.floats(20, 100)), measures, draw(st.floats(0.1, 2)), 1.25)


@given(st.lists(standings(), min_size=1, max_size=3), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_no_mixture_of_measures_is_cheaper(jobs: list[Standing], share: float) -> None:
    """At every depth the curve is the linear program over shares of time of every point of every job."""
    curve = price_curve(jobs)
    prices = [step.price for step in curve.steps]
    assert prices == sorted(prices)
    target = share * curve.power[-1]
    cost, given_, owner = [], [], []
    for j, job in enumerate(jobs):
        points = [(0.0, 0.0)] + [
            ((job.power - p) * job.gain, (job.work - r) * job.weight)
            for m in job.measures for p, r in zip(m.power, m.work, strict=True) if p < job.power * (1 - 1e-9)
        ]  # fmt: skip
        given_ += [d for d, _ in points]
        cost += [lost for _, lost in points]
        owner += [j] * len(points)
    one = np.array([[o == j for o in owner] for j in range(len(jobs))], float)
    found = linprog(cost, A_eq=np.vstack([one, given_]), b_eq=[1.0] * len(jobs) + [target], method="highs")
    assert found.status == 0
    assert curve.at(target) == pytest.approx(found.fun, rel=1e-6, abs=1e-6)
    steps = curve.give(target)
    assert sum(s.power for s in steps) == pytest.approx(target, abs=1e-9)
    assert sum(s.lost for s in steps) == pytest.approx(curve.at(target), rel=1e-9, abs=1e-9)


@given(st.lists(standings(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_all_layers_together_are_never_dearer_than_one(jobs: list[Standing]) -> None:
    """What one layer can give up, all of them give up at no more loss."""
    together = price_curve(jobs)
    for alone in by_layer(jobs).values():
        for watts in np.linspace(0, alone.power[-1], 5):
            assert together.at(min(watts, together.power[-1])) <= alone.at(watts) + 1e-6


def test_clocks_alone_give_what_a_lower_limit_takes() -> None:
    """The loss along the curve is the loss of the fleet's own plan under a lower feed limit."""
    f = Frontier.of([1.0, 1.2, 1.5, 2.0], [600, 480, 420, 400.0], waiting_power=100.0)
    g = Frontier.of([1.0, 1.3, 2.0], [500, 450, 440.0], waiting_power=100.0)
    fleet = Fleet(PowerTree.read([{"name": "feed", "limit": 1300.0}]), [Job("a", f, "feed", 2.0), Job("b", g, "feed")])
    now = fleet.most_work()
    curve = price_curve(
        [
            Standing(j.name, p, w, (Measure.of("clock", j.frontier),), j.weight)
            for j, p, w in zip(fleet.jobs, now.power, now.work, strict=True)
        ]
    )
    for less in (50.0, 200.0, 400.0):
        lower = fleet.with_limit("feed", 1300.0 - less).most_work()
        assert curve.at(less) == pytest.approx(now.value - lower.value)
    assert curve.steps[0].price == pytest.approx(now.price[0])


def test_layers_come_in_the_order_of_their_price() -> None:
    """A precision that gains work comes first, then clocks, then shed load; a paused job costs what it cannot make up."""
    job = Standing(
        "a", 1000.0, 10.0,
        (
            Measure("precision", np.array([900.0]), np.array([11.0]), "fp8"),
            Measure("clock", np.array([700.0]), np.array([9.0])),
            Measure("load", np.array([400.0]), np.array([4.0])),
        ),
    )  # fmt: skip
    late = Standing("b", 500.0, 5.0, (Measure.later(5.0, 100.0, 3600.0, slack=7200.0, resume=360.0),))
    curve = price_curve([job, late])
    assert [(s.job, s.layer) for s in curve.steps] == [
        ("a", "precision"),
        ("b", "time-shift"),
        ("a", "clock"),
        ("a", "load"),
    ]
    assert curve.steps[0].price < 0
    assert curve.steps[1].lost == pytest.approx(0.5)
    by = shares(curve.give(600.0))
    assert list(by) == ["precision", "time-shift", "clock"]
    assert by["clock"][0] == pytest.approx(100.0)
    assert set(by_layer([job, late])) == {"precision", "clock", "load", "time-shift"}


def test_work_put_off_beyond_the_slack_is_lost() -> None:
    """With an hour's pause and half an hour of slack, half the work is gone."""
    assert Measure.later(8.0, 1.0, 3600.0, slack=1800.0).work[0] == pytest.approx(4.0)


def test_more_than_all_measures_give_is_refused() -> None:
    """The message says what they give."""
    curve = price_curve([Standing("a", 100.0, 1.0, (Measure("clock", np.array([60.0]), np.array([0.8])),))])
    with pytest.raises(GoalError, match="all measures together give 40 W"):
        curve.at(50.0)
    with pytest.raises(InputError, match="did you mean 'clock'"):
        Measure("clok", np.ones(1), np.ones(1))


def test_steps_of_one_job_come_in_order() -> None:
    """A job's own steps rise in price, so that each can be taken after the one before."""
    rng = np.random.default_rng(3)
    jobs = [
        Standing(f"j{k}", 100.0, 10.0, (Measure("clock", rng.uniform(10, 99, 6), rng.uniform(0, 9, 6)),))
        for k in range(5)
    ]
    curve = price_curve(jobs)
    for name in {s.job for s in curve.steps}:
        own = [s.price for s in curve.steps if s.job == name]
        assert all(a <= b for a, b in itertools.pairwise(own))
