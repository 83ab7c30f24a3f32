"""Tests for `wattline.hardware.chip`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware import catalog
from wattline.hardware.chip import clocks, energy, rate, runs_in, swing, voltage

CHIPS = catalog.names("chip")


@pytest.mark.parametrize("name", CHIPS)
def test_clocks_ascend_to_the_highest(name: str) -> None:
    """Lockable clocks are evenly spaced, within bounds, and end at clock.max."""
    chip = catalog.chip(name)
    f = clocks(chip)
    assert f[-1] == chip["clock.max"]
    assert chip["clock.min"] <= f[0] < chip["clock.min"] + chip["clock.step"]
    assert np.allclose(np.diff(f), chip["clock.step"])


def test_known_numbers_of_clocks() -> None:
    """An A100 lists 81 clocks from 210 to 1410 MHz; a TPU's one clock cannot be set."""
    assert len(clocks(catalog.chip("a100"))) == 81
    assert clocks(catalog.chip("tpu-v5e")).tolist() == [1.5e9]


def test_a_chip_without_a_step_is_taken_to_have_15_mhz() -> None:
    """The default spacing is that of NVIDIA's data-centre GPUs."""
    h100 = catalog.chip("h100")
    facts = {k: v for k, v in h100.facts.items() if k != "clock.step"}
    assert np.array_equal(clocks(type(h100)("chip", "x", "x", facts)), clocks(h100))


@pytest.mark.parametrize("name", CHIPS)
def test_voltage_is_flat_then_rises(name: str) -> None:
    """The curve starts at voltage.min, never falls, is flat to the knee and ends at voltage.max."""
    chip = catalog.chip(name)
    f = np.linspace(chip["clock.min"], chip["clock.max"], 101)
    v = voltage(chip, f)
    assert np.all(np.diff(v) >= 0)
    assert v[0] == chip["voltage.min"]
    assert voltage(chip, chip["voltage.knee"]) == chip["voltage.min"]
    if chip["voltage.knee"] < chip["clock.max"]:
        assert v[-1] == pytest.approx(chip["voltage.max"])


@given(st.floats(1e8, 4e9))
def test_voltage_stays_within_its_bounds(clock: float) -> None:
    """Outside the clock range the voltage is held, not extrapolated."""
    chip = catalog.chip("h100")
    assert chip["voltage.min"] <= voltage(chip, clock) <= chip["voltage.max"]


def test_the_source_uses_the_same_curve() -> None:
    """The power model's voltage curve is this one, point by point."""
    from wattline.source.roofline.voltage import voltage as other

    for name in CHIPS:
        chip = catalog.chip(name)
        f = np.linspace(1e8, 3e9, 301)
        low, high, knee = chip["voltage.min"], chip["voltage.max"], chip["voltage.knee"]
        assert np.allclose(voltage(chip, f), other(f, low, high, knee, chip["clock.max"]))


@pytest.mark.parametrize("name", CHIPS)
def test_rates_and_energies_stand_at_the_reference_clock(name: str) -> None:
    """At clock.reference both are as stated; rate goes with the clock, energy with voltage squared."""
    chip, precision = catalog.chip(name), "fp32"
    ref = chip["clock.reference"]
    assert rate(chip, precision, ref) == chip["compute.rate.fp32"]
    assert energy(chip, precision, ref) == chip["compute.energy.fp32"]
    assert rate(chip, precision, ref / 2) == pytest.approx(chip["compute.rate.fp32"] / 2)
    assert energy(chip, precision, ref / 2) == pytest.approx(chip["compute.energy.fp32"] * swing(chip, ref / 2))
    assert swing(chip, chip["clock.min"]) <= 1.0


@pytest.mark.parametrize(
    ("name", "precision", "used"),
    [
        ("b200", "fp4", "fp4"),
        ("h100", "fp4", "fp8"),
        ("a100", "fp4", "bf16"),
        ("a100", "fp8", "bf16"),
        ("a100", "int4", "int8"),
        ("v100", "fp8", "fp16"),
        ("v100", "int8", "fp16"),
        ("v100", "bf16", "fp32"),
        ("v100", "tf32", "fp32"),
        ("tpu-v5e", "fp16", "fp32"),
    ],
)
def test_a_missing_precision_runs_in_a_wider_one(name: str, precision: str, used: str) -> None:
    """A chip computes a type it lacks in the next that holds every value of it exactly."""
    chip = catalog.chip(name)
    assert runs_in(chip, precision) == used
    assert rate(chip, precision, 1e9) == rate(chip, used, 1e9)


@pytest.mark.parametrize(
    ("name", "precision", "words"),
    [
        ("l4", "fp64", "states no compute.rate.fp64; it has fp8"),
        ("h100", "fp128", "precision 'fp128' is not known"),
    ],
)
def test_nothing_narrower_stands_in(name: str, precision: str, words: str) -> None:
    """A precision that nothing on the chip can hold raises and lists what there is."""
    with pytest.raises(InputError, match=words):
        runs_in(catalog.chip(name), precision)


@pytest.mark.parametrize("name", CHIPS)
def test_a_full_load_is_near_the_power_limit(name: str) -> None:
    """Standing power and a 16-bit peak come to between 50 % and 220 % of the power limit.

    A wide band on purpose: it catches a slip of a factor of ten in an energy, not a fit.
    """
    chip = catalog.chip(name)
    used = "bf16" if "compute.rate.bf16" in chip else "fp16"
    busy = chip[f"compute.rate.{used}"] * chip[f"compute.energy.{used}"]
    standing = chip["power.waiting"] + chip["power.leakage"] + chip["power.clock_tree"]
    assert 0.5 < (standing + busy) / chip["power.limit"] < 2.2
