"""Tests for `wattline.measure.live`: power now, with its bounds."""

from __future__ import annotations

import random

import pytest

from wattline.measure.devices.replay import Recording, ReplayMeter, VirtualClock
from wattline.measure.live import power
from wattline.measure.monitor import Monitor
from wattline.measure.track import Track

from .drive import Driver


@pytest.mark.parametrize("period", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("interval", [0.001, 0.01, 0.1, 0.3, 1.0])
def test_constant_power_is_shown_within_2_percent(period, interval):
    """300 W are 300 W at sampling of 1 ms to 1 s, looked at unevenly, on counters of 1 to 100 ms; bounds hold it."""
    rng, clock = random.Random(1), VirtualClock()
    meter = ReplayMeter(300.0, clock=clock, update=period, phase=rng.random() * period, limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False, interval=interval)
    driver = Driver(monitor, clock, seed=1)
    with monitor.watch():
        for _ in range(15):
            driver.run(0.4 * rng.uniform(0.5, 1.5))
            row = monitor.live()[0]
            if row.span is not None and row.span > 0.95:
                assert row.watts == pytest.approx(300.0, rel=0.02)
                assert row.low - 0.01 <= 300.0 <= row.high + 0.01
    assert row.watts is not None


@pytest.mark.parametrize("period", [0.02, 0.1])
def test_bounds_hold_where_reads_are_few_and_uneven(period):
    """Without anyone chasing updates the figure may be off, and its bounds say so."""
    rng, clock = random.Random(2), VirtualClock()
    meter = ReplayMeter(300.0, clock=clock, update=period, limit=700.0)
    track = Track(meter)
    for _ in range(60):
        clock.advance(rng.uniform(0.1, 0.6))
        track.add(clock.now, clock.now + 1e-5, meter.read())
        found = power(track)
        if found is not None:
            assert found.low - 0.01 <= 300.0 <= found.high + 0.01


def test_power_follows_a_step():
    """A second after a change the figure is the new power."""
    clock = VirtualClock()
    meter = ReplayMeter(Recording([0, 3, 3.001, 30], [100, 100, 500, 500]), clock=clock, update=0.02, limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False)
    driver = Driver(monitor, clock)
    with monitor.watch():
        driver.run(2.9)
        assert monitor.live()[0].watts == pytest.approx(100.0, rel=0.02)
        driver.run(2.2)
        assert monitor.live()[0].watts == pytest.approx(500.0, rel=0.03)


def test_a_counter_that_stands_still_tends_to_nothing():
    """A device that stops counting is not shown with the power that it had."""
    clock = VirtualClock()
    meter = ReplayMeter(Recording([0, 3, 3.001, 60], [300, 300, 0, 0]), clock=clock, update=0.02, limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False)
    driver = Driver(monitor, clock)
    with monitor.watch():
        driver.run(12.0)
        row = monitor.live()[0]
    assert row.low == pytest.approx(0.0, abs=60.0)
    assert row.watts < 60.0


def test_a_power_sensor_has_bounds_too():
    """Readings of watts are a mean over a second; the first reading alone is bounded by what the device can draw."""
    clock = VirtualClock()
    meter = ReplayMeter(300.0, clock=clock, update=0.02, method="power-integral", limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False)
    monitor.prepare()
    row = monitor.live()[0]
    assert (row.low, row.high) == (0.0, 700.0)
    driver = Driver(monitor, clock)
    with monitor.watch():
        driver.run(2.0)
        row = monitor.live()[0]
    assert row.low - 0.01 <= 300.0 <= row.high + 0.01
    assert row.watts == pytest.approx(300.0, rel=1e-4)
