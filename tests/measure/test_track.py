"""Tests for `wattline.measure.track` and `answer`: energy between readings, over generated powers and faults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.measure.devices.replay import Recording, ReplayMeter, VirtualClock
from wattline.measure.monitor import Monitor

from .drive import Driver

powers = st.lists(st.floats(0.0, 500.0), min_size=2, max_size=30)


def recording(watts: list[float], step: float) -> Recording:
    """Power by straight lines between values `step` s apart."""
    return Recording([i * step for i in range(len(watts))], watts)


@settings(max_examples=60)
@given(powers, st.floats(0.01, 0.5), st.sampled_from([0.001, 0.02, 0.1]), st.floats(0.0, 1.0), st.floats(0.03, 5.0))
def test_any_power_is_held_by_its_bounds(watts, step, update, phase, seconds):
    """Whatever the power does below the limit, a window's interval holds it; joules are never negative."""
    clock = VirtualClock()
    meter = ReplayMeter(recording(watts, step), clock=clock, update=update, phase=phase * update, limit=500.0)
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    driver.run(1.2)
    driver.window(2.0)
    start = clock.now
    part = driver.window(seconds).result.parts[0]
    true = meter.energy(start, start + seconds)
    if part.low is None:
        assert "the sensor gave no reading" in part.reason
        return
    if part.joules is not None:
        assert part.low <= part.joules <= part.high
    assert part.low >= 0.0
    # The interval is meant for 95 in 100; a tenth of it more holds all.
    slack = 0.12 * (part.high - part.low) + 0.02
    assert part.low - slack <= true <= part.high + slack


@settings(max_examples=30)
@given(powers, st.floats(200.0, 2000.0))
def test_a_wrap_costs_nothing(watts, wrap):
    """A counter that wraps gives the same joules as one that does not."""
    answers = []
    for limit in (wrap, None):
        clock = VirtualClock()
        meter = ReplayMeter(
            recording(watts, 0.2), clock=clock, update=0.01, limit=500.0, wrap=limit, period=0.01, quantum=1e-6
        )
        driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
        part = driver.window(10.0).result.parts[0]
        assert "reset" not in part.flags
        answers.append(part.joules)
    assert answers[0] == pytest.approx(answers[1], abs=1e-3)


@settings(max_examples=30)
@given(powers, st.floats(0.5, 4.0))
def test_a_reset_is_never_negative(watts, when):
    """A counter that starts again is flagged, and the bounds hold the truth."""
    clock = VirtualClock()
    meter = ReplayMeter(recording(watts, 0.2), clock=clock, update=0.01, limit=500.0, period=0.01, reset_at=when)
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    start = clock.now
    part = driver.window(5.0).result.parts[0]
    assert part.joules >= 0.0
    assert "reset" in part.flags
    slack = 0.12 * (part.high - part.low) + 0.02
    assert part.low - slack <= meter.energy(start, start + 5.0) <= part.high + slack


def test_a_jump_beyond_the_limit_is_left_out():
    """A counter that leaps by what no device can draw is flagged, and its leap is not energy."""
    clock = VirtualClock()
    meter = ReplayMeter(Recording.constant(100.0), clock=clock, update=0.01, limit=200.0, period=0.01)
    true = meter.read
    meter.read = lambda: true() + (1e9 if clock.now > 2.0 else 0.0)  # type: ignore[method-assign]
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    part = driver.window(5.0).result.parts[0]
    assert "implausible" in part.flags
    assert part.low <= 500.0 <= part.high
    assert part.high < 600.0


def test_power_readings_are_added_up():
    """A ramp read as watts ten times a second integrates to its area, inside its interval."""
    clock = VirtualClock()
    meter = ReplayMeter(
        Recording([0.0, 10.0], [100.0, 300.0]), clock=clock, update=0.01, method="power-integral", limit=300.0
    )
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    driver.run(1.0)
    start = clock.now
    part = driver.window(6.0).result.parts[0]
    true = meter.energy(start, start + 6.0)
    assert part.method == "power-integral"
    assert part.joules == pytest.approx(true, rel=0.01)
    assert part.low <= true <= part.high


def test_a_window_under_20_periods_is_flagged():
    """Nineteen updates are too few, twenty-one are enough."""
    for periods, flagged in ((19, True), (21, False)):
        clock = VirtualClock()
        meter = ReplayMeter(100.0, clock=clock, update=0.1, period=0.1, limit=200.0)
        driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
        part = driver.window(periods * 0.1).result.parts[0]
        assert ("insufficient_resolution" in part.flags) == flagged
