"""Tests for `wattline.site.transient`: closed forms of waves, and levers that give what they cost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.show.cli import main as cli
from wattline.site.transient import STEP, Wave, buffered, ride_through, seen, smoothed, staggered

WAVE = Wave(peak=10e6, trough=4e6, compute=1.5, exchange=0.5)


@pytest.mark.parametrize(("hertz", "inside"), [(0.05, False), (0.5, True), (7.0, True), (50.0, False)])
def test_a_sine_has_the_power_and_ramp_of_its_closed_form(hertz: float, inside: bool) -> None:
    """A sin(2 pi f t): A / sqrt(2) in the band or nothing, and 2 pi f A as its steepest ramp."""
    time = np.arange(60_000) * STEP
    told = seen(5e6 + 1e6 * np.sin(2 * np.pi * hertz * time))
    assert told.band == pytest.approx(1e6 / np.sqrt(2) if inside else 0.0, rel=1e-3, abs=2e4)
    assert told.ramps[0] == pytest.approx(2 * 1e6 * np.sin(np.pi * hertz * 0.01) / 0.01, rel=1e-2)
    assert told.mean == pytest.approx(5e6, rel=1e-3)
    if inside:
        assert told.loudest == pytest.approx(hertz, abs=0.02)


def test_a_square_wave_has_the_harmonics_of_fourier() -> None:
    """Duty d: the n-th line is 2 A sin(pi n d) / (pi n); the first ten lie below 20 Hz."""
    told = seen(staggered(WAVE, 1, 60.0, spread=False))
    lines = 2 * 6e6 * np.abs(np.sin(np.pi * np.arange(1, 41) * 0.75)) / (np.pi * np.arange(1, 41))
    assert told.band == pytest.approx(np.sqrt((lines**2).sum() / 2), rel=2e-2)
    assert told.swing == pytest.approx(0.6)
    assert told.ramps[0] == pytest.approx(6e6 / 0.01, rel=1e-6)
    assert told.loudest == pytest.approx(0.5)


def test_staggered_jobs_swing_less_and_draw_the_same() -> None:
    """Four jobs at quarters of a period: one of them exchanges at any time, and the wave is flat but for its edges."""
    together, apart = (staggered(WAVE, 4, 40.0, spread=spread) for spread in (False, True))
    assert apart[4000:].mean() == pytest.approx(together[4000:].mean(), rel=1e-3)
    assert seen(apart[4000:]).band < 0.02 * seen(together[4000:]).band


@given(st.floats(0, 10e6), st.floats(1e6, 1e8), st.floats(1e6, 1e8))
@settings(max_examples=25, deadline=None)
def test_smoothing_keeps_floor_and_ramps_and_counts_what_they_cost(floor: float, up: float, down: float) -> None:
    """Every change is within its ramp; work lost and energy added are the areas between the waves."""
    power = staggered(WAVE, 1, 6.0, spread=False)
    calm = smoothed(power, floor=floor, up=up, down=down)
    change = np.diff(calm.power)
    assert change.max(initial=0) <= up * STEP * (1 + 1e-9)
    assert change.min(initial=0) >= -down * STEP * (1 + 1e-9)
    assert calm.power.min() >= min(floor, power[0]) * (1 - 1e-9)
    assert calm.power.sum() - power.sum() == pytest.approx((calm.added - calm.lost) * power.sum(), rel=1e-6, abs=1.0)


def test_a_battery_conserves_energy_and_calms_the_band() -> None:
    """What it gives is what leaves it; a battery too small for the swing leaves the rest to the grid."""
    power = staggered(WAVE, 1, 60.0, spread=False)
    calm = buffered(power, energy=50e6, most=8e6)
    assert calm.held is not None
    given_ = -np.diff(np.append(25e6, calm.held)) / STEP
    assert power - given_ == pytest.approx(calm.power, abs=1.0)
    assert calm.held.min() >= 0
    assert calm.held.max() <= 50e6
    assert seen(calm.power).band < 0.05 * seen(power).band
    small = buffered(power, energy=50e6, most=1e6)
    assert 0.3 * seen(power).band < seen(small.power).band < seen(power).band


def test_checkpoints_ride_through_and_bad_waves() -> None:
    """A checkpoint drops the whole job; ride-through is charge over load; a peak below its trough is refused."""
    wave = Wave(10e6, 4e6, 1.5, 0.5, every=10.0, writes=2.0, written=2e6)
    power = staggered(wave, 1, 30.0, spread=False)
    assert power[: round(9.9 / STEP)].min() == pytest.approx(4e6)
    assert power[round(11 / STEP)] == pytest.approx(2e6)
    assert ride_through(10e6, 3e9, 12e6) == pytest.approx(300.0)
    assert ride_through(10e6, 3e9, 5e6) == 0.0
    with pytest.raises(InputError, match="peak >= trough"):
        Wave(1.0, 2.0, 1.0, 1.0)


def test_the_command_says_which_limit_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """Lever by lever, with exit code 1 while a limit of the grid is broken and 0 once a battery keeps it."""
    words = [
        "fleet", "transient", "--peak", "10 MW", "--trough", "4 MW", "--compute", "1.5 s", "--exchange", "500 ms",
        "--most-band", "300 kW", "--lasts", "60 s",
    ]  # fmt: skip
    assert cli.main(words) == 1
    assert "between 0.1 and 20 Hz is more than 300 kW" in capsys.readouterr().out
    assert cli.main([*words, "--battery", "20 kWh", "--battery-power", "8 MW", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == ["the jobs alone", "with the battery"]
    assert cli.main([*words, "--battery", "20 kWh"]) == 2
