"""What a chip costs to make: against published parts lists, closed forms and draws, and the laws of yield."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.hardware.manufacture import carbon_per_cm2, die_yield, dies_per_wafer, made, wafer_price

CHIP = architecture("h100-like")


def test_the_h100_comes_out_near_its_published_parts_list() -> None:
    """Prices were taken from the B200's parts; an H100 is told at 3,320 USD, of which memory 1,350 and logic 300."""
    found = made(CHIP)
    assert found.total_usd == pytest.approx(3320, rel=0.10)
    assert found.usd["memory"] == pytest.approx(1350, rel=0.10)
    assert found.usd["logic"] == pytest.approx(300, rel=0.25)


def test_a_b200_of_two_dies_comes_out_near_its_published_parts_list() -> None:
    """Two dies of 800 mm2 and 192 GB: 6,400 USD, of which logic 720 to 1,200 (Epoch AI). Memory, package and the rest are
    priced from this list, so only the logic is evidence; the sum checks that the parts are put together right."""
    twice = CHIP.with_({"making.dies": 2, "area.die": "1600 mm2", "level.hbm.capacity": "192 GB", "making.stacks": 8})
    found = made(twice)
    assert found.total_usd == pytest.approx(6400, rel=0.15)
    assert 500 < found.usd["logic"] < 1200


def test_carbon_of_logic_is_that_of_act_by_hand() -> None:
    """5 nm: 2.75 kWh at Taiwan's 509 g, 327.5 g of gases, 500 g of materials a cm2."""
    assert carbon_per_cm2("5nm", 509 / 3.6e6) == pytest.approx(2.75 * 509 + 327.5 + 500)


def test_an_h100_carries_about_what_its_maker_publishes() -> None:
    """1,312 kg for eight, a fifth of it heat sinks: 131 kg beside them. Memory is taken from that publication; the rest,
    some 41 kg of integrated circuits, is not."""
    assert made(CHIP).total_carbon_g == pytest.approx(131e3, rel=0.15)


def test_yield_with_spares_agrees_with_drawn_defects() -> None:
    """A gamma-drawn rate, Poisson defects, each on the rest or on one of the copies."""
    rng = np.random.default_rng(3)
    mean, repeated, copies, spares, shape = 8.14 * 0.1, 0.6, 20, 2, 3.0
    rate = rng.gamma(shape, 1 / shape, 40_000) * mean
    rest = rng.poisson(rate * (1 - repeated)) == 0
    bad = (rng.poisson(rate[:, None] * repeated / copies, (len(rate), copies)) > 0).sum(axis=1)
    drawn = float(np.mean(rest & (bad <= spares)))
    found = die_yield(814e-6, defects=0.1, clustering=shape, repeated=repeated, copies=copies, spares=spares)
    assert found == pytest.approx(drawn, abs=4 * math.sqrt(drawn * (1 - drawn) / len(rate)))


def test_yield_without_spares_meets_the_closed_form() -> None:
    """The quadrature with spares, none of them of any size, is the negative binomial."""
    summed = die_yield(8e-4, defects=0.2, clustering=2.5, repeated=1e-12, copies=10, spares=1)
    assert summed == pytest.approx((1 + 8 * 0.2 / 2.5) ** -2.5, rel=2e-3)


@given(area=st.floats(2e-6, 8e-4), defects=st.floats(0.01, 1.0), spares=st.integers(0, 8), part=st.floats(0.0, 0.9))
def test_a_smaller_die_a_spare_and_fewer_defects_never_yield_less(
    area: float, defects: float, spares: int, part: float
) -> None:
    """Yield falls with area and defects, and a further spare never lowers it."""
    base = {"clustering": 3.0, "repeated": part, "copies": 64 + spares}
    found = die_yield(area, defects=defects, spares=spares, **base)
    assert 0 < found <= 1
    assert die_yield(area / 2, defects=defects, spares=spares, **base) >= found - 1e-9
    assert die_yield(area, defects=defects / 2, spares=spares, **base) >= found - 1e-9
    assert die_yield(area, defects=defects, spares=spares + 1, **base) >= found - 2e-3


@given(area=st.floats(2e-6, 1.5e-3))
def test_dies_never_take_more_than_the_wafer(area: float) -> None:
    """Whole dies lie inside the disc; a smaller die gives more of them."""
    count = dies_per_wafer(area)
    assert 0 <= count * area <= math.pi * 0.15**2
    assert dies_per_wafer(area * 0.9) >= count


@pytest.mark.parametrize(
    "key", ["making.wafer_price", "making.memory_price", "making.package_price", "making.other_price"]
)
def test_every_price_acts_and_a_lower_one_never_costs(key: str) -> None:
    """Each stated price moves the total its own way."""
    unit = " USD/GB" if "memory" in key else " USD"
    totals = [made(CHIP.with_({key: f"{value}{unit}"})).total_usd for value in (5, 10, 20)]
    assert totals[0] < totals[1] < totals[2]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("making.defects", (0.4, 0.2, 0.05)),
        ("making.yield", (0.3, 0.6, 0.9)),
        ("making.package_yield", (0.6, 0.8, 1.0)),
        ("making.spares", (0, 2, 12)),
        ("making.dies", (1, 2, 4)),
    ],
)
def test_whatever_makes_more_of_them_good_lowers_the_price(key: str, values: tuple[float, ...]) -> None:
    """Fewer defects, a better yield, spares and smaller dies: less, in money and in the carbon of the logic."""
    found = [made(CHIP.with_({key: value})) for value in values]
    assert all(b.total_usd < a.total_usd for a, b in pairwise(found))
    assert all(b.carbon_g["logic"] <= a.carbon_g["logic"] for a, b in pairwise(found))


def test_refusals_say_what_to_state() -> None:
    """No area, a node outside the tables, a die larger than a wafer."""
    with pytest.raises(InputError, match=r"state area\.die"):
        made(replace(CHIP, area=0.0))
    with pytest.raises(InputError, match="2nm lies outside the published wafer prices, 3nm to 90nm"):
        wafer_price("2nm")
    with pytest.raises(InputError, match=r"state making\.dies"):
        made(replace(CHIP, area=0.08))
