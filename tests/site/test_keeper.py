"""Tests for `wattline.site.keeper` and waves of a scenario's jobs: limits are kept whatever comes, and what that costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import InputError, ScenarioError
from wattline.scenario.fleet_file import parse_fleet
from wattline.scenario.fleet_transient import swings_of
from wattline.show.cli import main as cli
from wattline.site.keeper import kept
from wattline.site.transient import STEP, Wave, seen, staggered

JOB = {
    "name": "train", "speeds": [1], "powers": ["10 MW"], "count": 2, "compute": "1.5 s", "exchange": "500 ms",
    "trough": "4 MW",
}  # fmt: skip


@given(
    st.floats(3, 9), st.floats(0, 0.9), st.floats(0.1, 8), st.floats(0.05, 5), st.floats(0.005, 0.3),
    st.floats(0.01, 1.0), st.sampled_from([0.0, 3.0, 100.0]), st.booleans(),
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_limits_hold_for_every_wave(size, low, compute, exchange, band, ramp, battery, pauses) -> None:
    """Ramps over a second and swings in the band stay within their limits; what is used adds up."""
    peak = 10**size
    wave = Wave(peak, low * peak, compute, exchange, every=20.0 if pauses else math.inf, writes=4.0)
    power = staggered(wave, 1, 45.0, spread=False)
    most = peak if battery else 0.0
    out = kept(power, ramp=ramp * peak, band=band * peak, energy=battery * peak, most=most)
    told = seen(out.power)
    assert told.ramps[1] <= ramp * peak * (1 + 1e-9)
    assert told.band <= band * peak * (1 + 1e-6)
    stored = 0.0 if out.held is None else out.held[-1] - battery * peak / 2
    balance = (out.power - power).sum() * STEP - (out.added - out.lost) * power.sum() * STEP
    assert balance == pytest.approx(stored, abs=1e-6 * peak * 45)


def test_a_level_load_costs_nothing() -> None:
    """Nothing swings, nothing is lost or burnt; a battery stays half full."""
    out = kept(np.full(5000, 3e6), band=1e5, energy=1e8, most=1e6)
    assert (out.lost, out.added) == (0.0, 0.0)
    assert out.held is not None
    assert out.held[-1] == pytest.approx(5e7)
    with pytest.raises(InputError, match="state one > 0"):
        kept(np.ones(10))


def test_a_looser_limit_never_costs_more() -> None:
    """Work lost and energy burnt fall as the limits rise."""
    power = staggered(Wave(10e6, 4e6, 1.5, 0.5), 1, 30.0, spread=False)
    spent = [kept(power, band=band).added for band in (1e5, 4e5, 1.6e6, 6.4e6)]
    assert spent == sorted(spent, reverse=True)


def test_a_scenarios_jobs_swing_around_their_plan() -> None:
    """The mean is the plan's power at the feed, PUE and level loads included; the trough is what is stated."""
    scenario = parse_fleet({"site": {"pue": 1.2}, "job": [JOB, {"name": "serve", "speeds": [1], "powers": ["2 MW"]}]})
    swings = swings_of(scenario)
    power = swings.power(40.0, spread=False)
    assert power.mean() == pytest.approx(1.2 * 22e6, rel=1e-3)
    assert power.min() == pytest.approx(1.2 * (2 * 4e6 + 2e6))
    assert seen(swings.power(40.0, spread=True)[4000:]).band < 0.7 * seen(power).band
    with pytest.raises(ScenarioError, match="give trough"):
        swings_of(parse_fleet({"job": [{k: v for k, v in JOB.items() if k != "trough"}]}))
    with pytest.raises(InputError, match="no wave to look at"):
        swings_of(parse_fleet({"job": [{"name": "serve", "speeds": [1], "powers": ["2 MW"]}]}))


def test_the_command_keeps_a_scenarios_limits(tmp_path, capsys) -> None:
    """Broken by the jobs alone, kept by the controller."""
    path = tmp_path / "site.toml"
    path.write_text(
        '[[job]]\nname = "train"\nspeeds = [1]\npowers = ["10 MW"]\ncompute = "1.5 s"\nexchange = "500 ms"\n'
        'trough = "4 MW"\n'
    )
    words = ["fleet", "transient", "--scenario", str(path), "--most-band", "200 kW", "--lasts", "30 s"]
    assert cli.main(words) == 1
    assert cli.main([*words, "--keep"]) == 0
    assert "with the controller" in capsys.readouterr().out
    assert cli.main([*words, "--peak", "1 MW"]) == 2
    assert cli.main(["fleet", "transient", "--peak", "1 MW"]) == 2
