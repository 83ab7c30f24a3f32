"""Tests for `wattline.hardware.voltage`: curves, energy and leakage over voltage, settings of several domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.architecture import Architecture, Domain
from wattline.hardware.architectures import architecture
from wattline.hardware.technology import polynomial
from wattline.hardware.voltage import clock_at, leakage, settings, settled, standing, swing, volts

# Energy of one operation (pJ) over supply (V), measured on 7 nm silicon: Sinangil et al., JSSC 56 (2021), figure 13b.
SILICON = {0.65: 5.109375, 0.70: 5.875, 0.75: 6.796875, 0.80: 7.8125, 0.85: 9.03125, 0.90: 10.25, 0.95: 11.75,
           1.00: 13.125}  # fmt: skip


def domain(**changes: object) -> Domain:
    given = {
        "name": "core", "kind": "core", "clock": (0.5e9, 1e9, 1.5e9), "voltage": (0.7, 0.7, 0.9),
        "reference_clock": 1.5e9, "reference_voltage": 0.9, "leakage": 20.0, "clock_tree": 30.0,
    }  # fmt: skip
    return Domain(**(given | changes))  # type: ignore[arg-type]


def from_one_anchor(curve: tuple[float, float, float], anchor: float) -> float:
    """Return the mean absolute relative error over the other measured voltages."""
    part = domain(clock=(1e9,), voltage=(anchor,), reference_voltage=anchor, energy_curve=curve)
    return float(
        np.mean([abs(SILICON[anchor] * float(swing(part, v)) / e - 1) for v, e in SILICON.items() if v != anchor])
    )


def test_energy_over_voltage_is_that_of_7_nm_silicon() -> None:
    """From the one anchor at the nominal 0.8 V the technology's polynomial is 1.7 % off on average, V^2 3.3 %."""
    assert from_one_anchor(polynomial("7nm"), 0.8) < 0.02
    assert 0.03 < from_one_anchor((1.0, 0.0, 0.0), 0.8) < 0.035
    assert all(from_one_anchor(polynomial("7nm"), v) < 0.03 for v in SILICON if v >= 0.7)


@given(st.floats(0.5e9, 1.5e9))
def test_the_highest_clock_at_a_voltage_needs_that_voltage(clock: float) -> None:
    """`clock_at` undoes `volts` where the curve rises and gives the knee on its flat part."""
    part = domain()
    v = float(volts(part, clock))
    assert clock_at(part, v) >= clock - 1
    assert float(volts(part, clock_at(part, v))) == pytest.approx(v)
    with pytest.raises(InputError, match=r"needs 0\.7 V"):
        clock_at(part, 0.6)


@given(st.floats(0.4, 1.2), st.floats(0.4, 1.2), st.floats(280, 400))
def test_leakage_rises_with_voltage_and_temperature(low: float, high: float, temperature: float) -> None:
    """At the reference it is what is stated; near it, it goes with V^3; 28 K double it."""
    part = domain(leakage_voltage=0.45)
    assert float(leakage(part, 0.9)) == pytest.approx(20)
    low, high = sorted((low, high))
    assert leakage(part, low) <= leakage(part, high)
    assert float(leakage(part, 0.9, 338 + 27.7)) == pytest.approx(40, rel=1e-2)
    assert leakage(part, 0.9, temperature) < leakage(part, 0.9, temperature + 1)
    assert float(leakage(part, 0.909)) == pytest.approx(20 * 1.01**3, rel=1e-3)


def test_gating_saves_while_there_is_nothing_to_do() -> None:
    """A domain gated to 80 % that works half the time draws 60 % of its standing power."""
    assert float(standing(domain(gated=0.8), 1.5e9, 0.5)) == pytest.approx(0.6 * 50)
    assert float(standing(domain(), 1.5e9, 0.5)) == pytest.approx(50)
    assert float(standing(domain(), 1e9)) < 50


def chip(*domains: Domain) -> Architecture:
    from dataclasses import replace

    return replace(architecture("a100-like"), domains=domains, constant_power=80.0)


def test_settings_cross_what_moves_alone() -> None:
    """Two domains that move alone give all pairs; one regulator for both gives one list; a fixed one adds none."""
    core, hbm = domain(), domain(name="hbm", kind="memory", clock=(1e9, 1.6e9), voltage=(1.1, 1.2))
    assert len(list(settings(chip(core, hbm)))) == 6
    tied = domain(name="sram", follows="core", clock=(1e9, 2e9), voltage=(0.8, 1.0))
    together = list(settings(chip(core, tied), {"core": [0.5e9, 1.5e9]}))
    assert together == [{"core": 0.5e9, "sram": 1e9}, {"core": 1.5e9, "sram": 2e9}]
    with pytest.raises(InputError, match="has no domain 'cor'; did you mean 'core'"):
        list(settings(chip(core), {"cor": [1e9]}))


def test_leakage_and_temperature_settle() -> None:
    """The fixed point holds: T = ambient + R P with the leakage of that T; a runaway is refused."""
    part = domain()
    power, temperature = settled(chip(part), 200.0, {}, 300.0, 0.1)
    assert temperature == pytest.approx(300 + 0.1 * power)
    assert power == pytest.approx(280 + 30 + float(leakage(part, 0.9, temperature)), rel=1e-6)
    with pytest.raises(InputError, match="does not settle"):
        settled(chip(domain(leakage=200.0)), 200.0, {}, 300.0, 1.0)
