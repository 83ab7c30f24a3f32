"""Tests for `wattline.site.equipment`: bills and batteries against a program written apart, and hand sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from wattline import Frontier
from wattline.core.errors import InputError
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.site.curves import Job
from wattline.site.equipment import Equipment, Service, Source, Storage, Tariff
from wattline.site.horizon import Conditions, Horizon, Task

HOUR = 3600.0
TREE = PowerTree.read([{"name": "feed", "limit": 3e6}], overhead=Overhead(5e4, (0.1,)))


def job(watts: float = 1e6) -> Job:
    return Job("a", Frontier.of([1.0], [watts - 1e5], waiting_power=1e5), "feed", paused=1e5)


def horizon(price: list[float], equipment: Equipment, due: float, watts: float = 1e6) -> Horizon:
    edges = np.arange(len(price) + 1) * HOUR
    conditions = Conditions(edges, price=np.array(price) / 3.6e9, carbon=np.full(len(price), 1e-4))
    return Horizon(TREE, [Task(job(watts), due=due * HOUR)], conditions, equipment)


def always(n: int) -> np.ndarray:
    return np.ones(n, bool)


def test_a_demand_charge_flattens_what_prices_would_pile_up() -> None:
    """Two hours of work in four: at one price the peak alone decides, and the bill is worked out by hand."""
    tariff = Tariff("demand", 10e-3, always(4), np.zeros(4, int))
    plan = horizon([80] * 4, Equipment([tariff]), due=2).plan("cost")
    # 5e4 + 1.1 * (1e5 + half of 9e5) W in every hour.
    watts = 5e4 + 1.1 * (1e5 + 4.5e5)
    assert plan.grid == pytest.approx(np.full(4, watts))
    assert plan.bill["demand"] == pytest.approx(10e-3 * watts)
    assert plan.bill["energy"] == pytest.approx(80e-6 * watts * 4)
    assert plan.cost_usd == pytest.approx(sum(plan.bill.values()))
    assert plan.gap < 1e-9


def test_peaks_owed_already_cost_nothing_more() -> None:
    """A month's peak so far, and a ratchet on the past, are room to use."""
    for more in ({"so_far": 1.5e6}, {"ratchet": 0.5, "past": 3e6}):
        tariff = Tariff("demand", 10e-3, always(4), np.zeros(4, int), **more)
        plan = horizon([10, 10, 90, 90], Equipment([tariff]), due=2).plan("cost")
        assert plan.bill["demand"] == pytest.approx(10e-3 * 1.5e6)
        assert plan.grid[:2] == pytest.approx(np.full(2, 5e4 + 1.1e6))


@given(
    st.lists(st.floats(-40, 200), min_size=3, max_size=8), st.floats(0.2, 0.95), st.floats(0, 30), st.floats(0.6, 1.0),
    st.floats(0, 1.5e6), st.sampled_from([0.0, 5e5]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_bills_agree_with_a_program_written_apart(
    price: list[float], share: float, wear: float, trip: float, sun: float, sell: float
) -> None:
    """Energy, peak, battery, sun and sales: one job, scipy's program in MW and MWh, no code in common."""
    n = len(price)
    price = [max(p, 1.0) for p in price]  # below zero a battery needs whole columns; see below
    shape = sun * np.sin(np.linspace(0, np.pi, n)) ** 2
    equipment = Equipment(
        [Tariff("demand", 5e-3, always(n), np.zeros(n, int))], [Storage("b", 3.6e9, 4e5, trip, wear / 3.6e9)],
        [Source("sun", shape)], sell=sell, sell_price=np.full(n, 0.5 / 3.6e9),
    )  # fmt: skip
    plan = horizon(price, equipment, due=share * n).plan("cost")
    # x (share of the hour at work), buy, sell, charge, give, sun, held: MW and MWh; then the peak.
    cost = np.concatenate([np.zeros(n), price, np.full(n, -0.5), np.zeros(n), np.full(n, wear), np.zeros(2 * n), [5e3]])
    high = np.concatenate([
        np.ones(n), np.full(n, 3.0), np.full(n, sell / 1e6), np.full(2 * n, 0.4), shape / 1e6, np.ones(n), [9.0]
    ])  # fmt: skip
    eye, zero = np.eye(n), np.zeros((n, n))
    balance = np.hstack([-0.99 * eye, eye, -eye, -eye, eye, eye, zero, np.zeros((n, 1))])
    held = np.hstack(
        [zero, zero, zero, -np.sqrt(trip) * eye, eye / np.sqrt(trip), zero, eye - np.eye(n, k=-1), np.zeros((n, 1))]
    )
    work = np.concatenate([np.ones(n), np.zeros(6 * n + 1)])
    start = np.concatenate([[0.5], np.zeros(n - 1)])
    low = np.zeros(len(high))
    low[7 * n - 1] = 0.5
    peak = np.hstack([zero, eye, zero, zero, zero, zero, zero, -np.ones((n, 1))])
    found = linprog(
        cost, peak, np.zeros(n), np.vstack([balance, held, work]),
        np.concatenate([np.full(n, 0.05 + 0.11), start, [share * n]]), np.stack([low, high], 1),
    )  # fmt: skip
    assert found.status == 0
    assert plan.cost_usd == pytest.approx(found.fun, rel=1e-6, abs=1e-3)
    assert plan.gap < 1e-6


def test_a_battery_does_not_burn_energy_at_prices_below_zero() -> None:
    """It never charges and gives in the same hour, though its losses would be paid for."""
    battery = Storage("b", 3.6e9, 1e6, 0.8)
    plan = horizon([-50, -50, 100, 100], Equipment([], [battery]), due=2).plan("cost", gap=1e-9)
    held = np.append(0.5 * 3.6e9, plan.equipment["b held_j"])
    out = plan.equipment["b"]
    way = np.sqrt(0.8)
    assert np.diff(held) == pytest.approx(np.where(out < 0, -out * way, -out / way) * HOUR, abs=1.0)


def test_ramps_bind_between_neighbours() -> None:
    """No two hours differ by more than the ramp, and it costs something."""
    free = horizon([10, 90] * 4, Equipment(), due=4).plan("cost")
    slow = horizon([10, 90] * 4, Equipment(ramp=2e5 / HOUR), due=4).plan("cost")
    assert np.abs(np.diff(slow.grid)).max() <= 2e5 * (1 + 1e-9)
    assert slow.cost_usd > free.cost_usd


def test_a_reserve_is_held_by_what_can_be_given_up() -> None:
    """Paid per MW and hour: only running work that may stop counts, and calls keep work spare for them."""
    pays, everywhere = 100 / 3.6e9, always(6)
    service = Service("reserve", pays, 2e6, everywhere, calls=1, lasts=HOUR)
    plan = horizon([50] * 6, Equipment(services=[service]), due=3).plan("cost")
    ready = plan.equipment["reserve"]
    stoppable = 1.1 * (plan.power[0] - 1e5)
    assert (ready <= stoppable + 1e-3).all()
    # An hour's call at the most it holds ready: so much more than three hours are planned.
    assert plan.done["a"] >= 3 * HOUR + ready.max() / 1.1 / 9e5 * HOUR * (1 - 1e-6)
    assert plan.bill["reserve"] == pytest.approx(-pays * float(ready.sum()) * HOUR)


def test_one_meter_does_not_buy_and_sell_at_once() -> None:
    """Where power sells for more than it costs nothing is earned by the wire alone."""
    e = Equipment(sell=5e5, sell_price=np.full(2, 90 / 3.6e9))
    plan = horizon([10, 10], e, due=1).plan("cost", gap=1e-9)
    assert plan.cost_usd == pytest.approx(horizon([10, 10], Equipment(), due=1).plan("cost").cost_usd)


def test_storage_that_cannot_be_is_refused() -> None:
    """Each number is named."""
    with pytest.raises(InputError, match="energy and power must be > 0"):
        Storage("b", 0.0, 1.0)
    with pytest.raises(InputError, match="reserve <= start"):
        Storage("b", 1.0, 1.0, reserve=0.6)
