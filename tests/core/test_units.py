"""Tests for `wattline.core.units`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import UnitError
from wattline.core.units import parse, show

UNITS = ["W", "J", "s", "Hz", "B", "B/s", "FLOP", "FLOP/s", "J/B", "J/FLOP", "V", "g", "m2", "K"]
UNITS += ["g/J", "USD/J", "USD", "token", "token/s", "request", "request/s", ""]


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("250 W", "W", 250.0),
        ("1.2 GWh", "J", 4.32e12),
        ("30 d", "s", 2592000.0),
        ("989 TFLOP/s", "FLOP/s", 9.89e14),
        ("1978.9 TOP/s", "FLOP/s", 1.9789e15),
        ("2 pJ/bit", "J/B", 1.6e-11),
        ("400 Gbps", "B/s", 5e10),
        ("80 GiB", "B", 85899345920.0),
        ("80 USD/MWh", "USD/J", 80 / 3.6e9),
        ("400 g/kWh", "g/J", 400 / 3.6e6),
        ("820 lb/MWh", "g/J", 820 * 453.59237 / 3.6e9),
        ("2 %", "", 0.02),
        ("15T", "token", 1.5e13),
        ("2 M", "request", 2e6),
        ("3 req/s", "request/s", 3.0),
        ("5 /s", "Hz", 5.0),
        ("5 1/s", "Hz", 5.0),
        ("10 Wh/h", "W", 10.0),
        ("1,500 W", "W", 1500.0),
        ("1_500.5 W", "W", 1500.5),
        ("1e3W", "W", 1000.0),
        (".5 W", "W", 0.5),
        ("814 mm2", "m2", 8.14e-4),
        ("500 ms", "s", 0.5),
        ("5 μs", "s", 5e-6),
        ("5 µs", "s", 5e-6),
        (3, "", 3.0),
        (7.0, "token", 7.0),
    ],
)
def test_text_with_a_unit_is_read_in_si(text: object, unit: str, value: float) -> None:
    """Each way of writing a quantity that people use gives its SI value."""
    assert parse(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        ("250", "W", "has no unit"),
        (250, "W", "has no unit"),
        (250.0, "token/s", "has no unit"),
        ("250 J", "W", 'expected W, e.g. "250 W"'),
        ("80 USD", "USD/J", 'expected USD/J, e.g. "80 USD/MWh"'),
        ("1e400", "token", "^chip.power.limit: inf is not a finite number"),
        ("5 %", "W", "expected W"),
        ("5 W", "", "expected a plain number"),
        ("250 Wat", "W", "not known"),
        ("nan W", "W", "not a number"),
        ("1e999 W", "W", "not a finite number"),
        (math.nan, "", "not a finite number"),
        (math.inf, "", "not a finite number"),
        (10**400, "", "out of range"),
        (True, "", "expected a quantity"),
        (None, "W", "expected a quantity"),
        (["5 W"], "W", "expected a quantity"),
        ("", "W", "not a number"),
        ("W", "W", "not a number"),
        ("1,5 W", "W", "decimal point"),
        ("1,23,456 W", "W", "decimal point"),
        ("5 W/", "W", "ends in '/'"),
        ("5 J/s/s", "W", "more than one '/'"),
    ],
)
def test_what_is_not_a_quantity_is_refused(text: object, unit: str, words: str) -> None:
    """Law: a bare number, a wrong dimension and a number that is none raise, naming the key."""
    with pytest.raises(UnitError, match=words) as caught:
        parse(text, unit, key="chip.power.limit")
    assert str(caught.value).startswith("chip.power.limit: ")


@given(st.floats(1e-14, 1e20), st.sampled_from([1.0, -1.0]), st.sampled_from(UNITS))
def test_what_is_shown_reads_back(size: float, sign: float, unit: str) -> None:
    """What `show` writes, `parse` reads, within the digits shown."""
    value = sign * size
    assert parse(show(value, unit, digits=6), unit) == pytest.approx(value, rel=1e-5)


@given(st.floats(1e-11, 1e17), st.sampled_from(["W", "J", "s", "B/s", "Hz"]))
def test_at_most_three_digits_stand_before_the_point(value: float, unit: str) -> None:
    """A prefix is chosen so that 1 to 999 stands before the point (days and exa have none)."""
    number, written = show(value, unit).split(" ")
    if written[0] not in "Ed":
        assert 0.1 <= float(number.replace(",", "")) < 1000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "W", "0 W"),
        (999.6, "W", "1 kW"),
        (0.0009999, "s", "1 ms"),
        (3.6e6, "J", "1 kWh"),
        (8.14e-4, "m2", "814 mm2"),
        (400 / 3.6e6, "g/J", "400 g/kWh"),
        (80 / 3.6e9, "USD/J", "80 USD/MWh"),
        (2.5e6, "g", "2.5 t"),
        (math.inf, "W", "inf W"),
        (-1500.0, "W", "-1.5 kW"),
        (300.0, "K", "300 K"),
        (7_143_596.0, "USD", "7,140,000 USD"),
    ],
)
def test_special_values_are_shown_plainly(value: float, unit: str, text: str) -> None:
    """Zero, the edges of a prefix, areas, prices and infinity read as a person would write them."""
    assert show(value, unit) == text
