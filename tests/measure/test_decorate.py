"""Tests for `wattline.measure.decorate`, `start`, `select` and `door`: what can be measured, when and of which devices."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from wattline.measure import monitor as monitors
from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.monitor import Monitor
from wattline.measure.window import Window, current, measure

from .drive import Driver


@pytest.fixture
def clock():
    """An invented clock and, as the monitor of the process, a replayed device of 200 W on it."""
    made = VirtualClock()
    monitors.use(Monitor([ReplayMeter(200.0, clock=made, update=0.002, limit=400.0)], clock=made, thread=False))
    return made


def test_a_generator_s_window_lasts_from_its_first_step_to_its_last(clock):
    """Nothing is open before the first step or after the last; values sent, returned and raised pass through."""

    @measure("steps")
    def steps(n: int):
        total = 0
        for k in range(n):
            clock.advance(1.0)
            total += (yield k) or 0
        return total

    running = steps(3)
    assert not hasattr(steps, "last")
    assert next(running) == 0
    assert not steps.last.closed
    assert current() is None  # it is no parent of what is opened between its steps
    assert running.send(10) == 1
    assert running.send(5) == 2
    with pytest.raises(StopIteration) as stop:
        running.send(1)
    assert stop.value.value == 16
    assert steps.last.closed
    assert steps.last.seconds == pytest.approx(3.0)
    left = steps(3)
    next(left)
    left.close()
    assert steps.last.closed


def test_a_generator_that_raises_says_so(clock):
    """The error passes and the window has ended."""

    @measure("bad")
    def bad():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(bad())
    assert "KeyError" in bad.last.notes[0]
    assert bad.last.closed


def test_an_async_generator_is_a_window(clock):
    """As a generator is."""

    @measure("stream")
    async def stream():
        for k in range(3):
            clock.advance(0.5)
            yield k

    async def whole() -> list[int]:
        return [k async for k in stream()]

    assert asyncio.run(whole()) == [0, 1, 2]
    assert stream.last.seconds == pytest.approx(1.5)


def test_a_class_stays_itself_and_its_methods_are_windows(clock):
    """Public methods are measured under the class's name; the class is still one, with its statics."""

    @measure
    class Model:
        def step(self) -> str:
            clock.advance(2.0)
            return current().name

        @staticmethod
        def helper() -> str:
            return current().name

        def _own(self) -> object:
            return current()

    assert isinstance(Model(), Model)
    assert Model().step().endswith("Model.step")
    assert Model.helper().endswith("Model.helper")
    assert Model()._own() is None
    assert Model.step.last.seconds == pytest.approx(2.0)


def test_a_monitor_that_fails_at_the_end_leaves_no_window_open():
    """The window is closed and off the stack, and its answer says what happened."""

    class Broken(Monitor):
        def close(self):
            raise RuntimeError("no")

    window = Window("x", Broken([]))
    with window:
        pass
    assert window.closed
    assert current() is None
    assert any("RuntimeError: no" in note for note in window.result.notes)


def test_only_the_devices_asked_for_are_in_the_answer():
    """By place, UUID, beginning, key or scope; one that is not here is a note and never an exception."""
    clock = VirtualClock()
    meters = [ReplayMeter(100.0, f"GPU-{c}{c}", clock=clock, host="h", limit=700.0) for c in "ab"]
    meters.append(ReplayMeter(50.0, "package-0", "cpu", clock=clock, host="h", limit=700.0))
    monitor = Monitor(meters, clock=clock, thread=False)
    driver = Driver(monitor, clock)

    def keys(*devices: str | int) -> list[str]:
        with measure("x", monitor=monitor, devices=devices) as window:
            driver.run(1.0)
        return [part.uuid for part in window.result.parts]

    assert keys(1) == ["GPU-bb"]
    assert keys("GPU-b", "cpu") == ["GPU-bb", "package-0"]
    assert keys("h/GPU-aa/gpu", "0") == ["GPU-aa"]
    with measure("x", monitor=monitor, devices=["GPU-c", 7]) as window:
        pass
    assert window.result.joules is None
    assert sum("is measured here" in note for note in window.result.notes) == 2


def test_a_window_that_began_before_the_sensors_is_reckoned_back():
    """The time before the first reading is taken at the power after it, flagged, and bounded."""
    clock = VirtualClock()
    meter = ReplayMeter(300.0, clock=clock, update=0.02, limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False)
    window = Window("early")
    window._begun, window._id = clock.now, -2
    from wattline.measure.window import _open

    _open[-2] = window
    clock.advance(0.4)
    driver = Driver(monitor, clock)
    window.take_up(monitor)
    driver.run(2.0)
    window.end()
    driver.run(0.3)
    part = window.result.parts[0]
    assert "late" in part.flags
    assert part.joules == pytest.approx(300.0 * 2.4, rel=0.03)
    assert part.low <= 720.0 <= part.high
    assert "after the window began" in part.reason


def test_the_first_window_of_a_process_opens_before_sensors_are_found():
    """`begin` returns while the search still runs; `end` waits for it, and `prepare` does it before."""
    program = """
import sys, threading
import wattline
import wattline.measure.find as find
from wattline.measure.meter import CallableMeter
go = threading.Event()
def slowly(*_):
    go.wait()
    return [CallableMeter(lambda: 1.0, "strip", "wall", method="power-integral")], []
find.find = slowly
window = wattline.begin("first")
print("begun", window._monitor)
go.set()
print("ended", [part.scope for part in wattline.end().result.parts])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["begun None", "ended ['wall']"]


def test_beginning_costs_few_imports():
    """Opening the first window imports nothing heavy into the program's own thread."""
    program = """
import sys
import wattline.measure.start as start
start.behind = lambda window: None
before = set(sys.modules)
import wattline
wattline.begin("x")
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "msgspec", "rich", "pynvml", "psutil", "urllib.request", "wattline.measure.monitor"}
