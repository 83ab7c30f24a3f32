"""Tests for `wattline.measure.window`: windows in every shape, and misuse that must never reach the user's program."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time

import pytest

import wattline
from wattline.measure import monitor as monitors
from wattline.measure import window as windows
from wattline.measure.devices.replay import Recording, ReplayMeter, VirtualClock
from wattline.measure.meter import CallableMeter, Meter, MeterError
from wattline.measure.monitor import Monitor
from wattline.measure.window import Window, begin, current, end, measure

from .drive import Driver, Replayed


@pytest.fixture
def monitor():
    """The monitor of the process."""
    made = Replayed()
    monitors.use(made)
    return made


def test_the_package_is_the_function(monitor):
    """``wattline.measure("step")`` opens a window although `wattline.measure` is a package."""
    with wattline.measure("step") as m:
        monitor.wait(0.1)
    assert m.settle().joules == pytest.approx(200.0 * m.seconds, rel=0.05)
    from wattline.measure.result import Measurement

    assert isinstance(m.result, Measurement)


def test_counts_give_joules_per_token(monitor):
    """What the caller counts divides the total."""
    with measure("step") as m:
        m.count(tokens=50).count(tokens=50, steps=1)
        monitor.wait(0.05)
    m.settle()
    assert m.each("tokens") == pytest.approx(m.joules / 100)
    assert m.to_dict()["energy_per_count_j"]["steps"] == pytest.approx(m.joules)
    with pytest.raises(wattline.InputError, match="samples"):
        m.each("samples")


def test_a_decorator_measures_each_call(monitor):
    """Bare, named and async functions are measured and return what they return."""

    @measure
    def bare(x: int) -> int:
        return x + 1

    @measure("named")
    def named() -> str:
        return current().name

    @measure("async")
    async def later() -> str:
        monitor.wait(0.01)
        return current().name

    assert bare(1) == 2
    assert named() == "named"
    assert asyncio.run(later()) == "async"
    assert later.last.seconds == pytest.approx(0.01)


def test_nested_windows_know_their_parent(monitor):
    """An inner window is named after, and uses no more than, the outer."""
    with measure("outer") as outer:
        monitor.wait(0.05)
        with measure("inner") as inner:
            monitor.wait(0.05)
    assert inner.result.parent == "outer"
    assert inner.settle().joules < outer.settle().joules


def test_async_tasks_do_not_mix(monitor):
    """Windows of tasks that overlap keep their own nesting and counts."""

    async def task(name: str, together: asyncio.Barrier) -> Window:
        async with measure(name) as m:
            await together.wait()
            current().count(steps=1)
            await together.wait()
        return m

    async def both() -> list[Window]:
        together = asyncio.Barrier(2)
        return await asyncio.gather(task("a", together), task("b", together))

    for window, name in zip(asyncio.run(both()), "ab", strict=True):
        assert (window.name, window.counts, window.result.parent, window.notes) == (name, {"steps": 1.0}, "", [])


def test_threads_measure_at_once():
    """Windows of many threads on one device are each right and never negative."""
    monitors.use(Monitor([ReplayMeter(200.0, update=0.002, limit=400.0)]))
    answers = []
    together = threading.Barrier(4)

    def work() -> None:
        for _ in range(20):
            with measure("thread") as m:
                together.wait()
            answers.append(m)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80
    for m in answers:
        part = m.result.parts[0]
        assert "reset" not in part.flags
        assert part.low <= 200.0 * part.seconds + 0.01
        assert part.high >= 200.0 * part.seconds - 0.01


def test_begin_and_end_in_a_loop(monitor):
    """`begin` and `end` measure the turns of a loop."""
    for _ in range(3):
        begin("turn")
        monitor.wait(0.01)
        assert end("turn").seconds == pytest.approx(0.01)
    assert current() is None


def test_a_window_begun_twice_is_closed_first(monitor):
    """A turn that forgot its end is closed where the next begins, and says so."""
    first = begin("turn")
    begin("turn")
    assert first.closed
    assert "never closed" in first.notes[0]
    end("turn")


def test_ending_what_is_not_open_says_so(monitor):
    """Misuse gives an answer with a note, not an exception."""
    assert "no window named 'never'" in end("never").result.notes[0]
    with measure("once") as m:
        pass
    m.end()
    assert any("without being open" in note for note in m.notes)


def test_windows_closed_out_of_order(monitor):
    """Closing the outer first is measured and noted; the inner still closes."""
    outer, inner = begin("outer"), begin("inner")
    end("outer")
    assert any("before windows opened inside" in note for note in outer.notes)
    end("inner")
    assert inner.closed
    assert current() is None


def test_the_user_s_exception_passes_through(monitor):
    """The window closes, notes the exception, and lets it go on."""
    with pytest.raises(KeyError), measure("broken") as m:
        raise KeyError("x")
    assert m.closed
    assert "KeyError" in m.notes[0]


def test_an_open_window_answers_so_far(monitor):
    """Asked while open, a window answers up to now and says that it is open."""
    with measure("long") as m:
        monitor.wait(0.1)
        early = m.result
        monitor.wait(0.05)
    assert early.seconds == pytest.approx(0.1)
    assert any("still open" in note for note in early.notes)
    assert m.settle().joules > (early.joules or 0.0)


def test_no_sensor_at_all():
    """With nothing to measure the answer is None and says what is missing."""
    with measure("bare", monitor=Monitor([])) as m:
        pass
    assert m.joules is None
    assert any("no sensor" in note for note in m.result.notes)
    assert m.to_dict()["total"]["energy_j"] is None


def test_a_meter_that_breaks_is_a_reason_not_an_exception():
    """Whatever a meter raises ends as a reason in the answer."""

    def broken() -> float:
        raise ZeroDivisionError("oh")

    class Worse(Meter):
        def read(self) -> float:
            raise RuntimeError("worse")

    with measure("x", monitor=Monitor([CallableMeter(broken, "a", "gpu"), Worse("b", "gpu")])) as m:
        pass
    reasons = [part.reason for part in m.result.parts]
    assert "ZeroDivisionError" in reasons[0]
    assert "worse" in reasons[1]
    assert {part.method for part in m.result.parts} == {"none"}


def test_a_search_that_breaks_is_noted():
    """A failing discovery is a note."""

    def search():
        raise OSError("no bus")

    with measure("x", monitor=Monitor(search)) as m:
        pass
    assert any("no bus" in note for note in m.result.notes)


def test_a_listener_that_breaks_is_noted(monitor):
    """A store or exporter that fails does not reach the program."""

    def listener(window: Window) -> None:
        raise OSError("disk full")

    windows.listeners.append(listener)
    try:
        with measure("x") as m:
            pass
    finally:
        windows.listeners.remove(listener)
    assert any("disk full" in note for note in m.notes)


def test_a_window_never_closed_is_said_at_exit():
    """A program that ends in an open window is told on stderr, and ends as it would have."""
    code = (
        "import wattline\n"
        "from wattline.measure.monitor import Monitor, use\n"
        "from wattline.measure.devices.replay import ReplayMeter\n"
        "use(Monitor([ReplayMeter(100.0)]))\n"
        "wattline.begin('open')\n"
        "print('done'); raise SystemExit(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "done\n")
    assert "'open' was never closed" in done.stderr


def test_an_idle_hour_is_not_a_gap():
    """Between windows nothing is sampled, and the pause is in no answer."""
    clock = VirtualClock()
    meter = ReplayMeter(Recording.constant(100.0), clock=clock, limit=200.0)
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    driver.window(2.0, settle=1.5)
    assert driver.monitor.poll() is None
    clock.advance(3600.0)
    driver._due = clock.now
    part = driver.window(2.0).result.parts[0]
    assert part.joules == pytest.approx(200.0, rel=0.01)
    assert part.flags == ()


def test_a_device_that_fails_for_a_while_comes_back():
    """Reads that fail in the middle cost nothing of a counter's energy."""
    clock = VirtualClock()
    meter = ReplayMeter(Recording.constant(100.0), clock=clock, limit=200.0)
    good = meter.read

    def read() -> float:
        if 3.0 < clock.now < 4.0:
            raise MeterError("busy")
        return good()

    meter.read = read  # type: ignore[method-assign]
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    part = driver.window(6.0).result.parts[0]
    assert part.joules == pytest.approx(600.0, rel=0.01)
    assert "busy" in part.reason


def test_a_window_costs_less_than_50_microseconds():
    """Begin and end add less than 50 us to the driver's own calls, for eight devices."""
    value = [0.0]

    def read() -> float:
        value[0] += 1e-5
        return value[0]

    meters = [CallableMeter(read, f"gpu-{i}", "gpu", limit=700.0, period=0.02) for i in range(8)]
    monitor = Monitor(meters, thread=False)
    monitor.prepare()

    def cost() -> float:
        ours, theirs = [], []
        for _ in range(400):
            start = time.thread_time()
            with Window("x", monitor):
                pass
            middle = time.thread_time()
            for meter in meters * 2:
                meter.read()
            ours.append(middle - start)
            theirs.append(time.thread_time() - middle)
            monitor.poll()
        return statistics.median(ours) - statistics.median(theirs)

    # Time of this thread on a processor, and the best of three: other programs on the machine add nothing.
    assert min(cost() for _ in range(3)) < 50e-6


def test_a_forked_child_starts_afresh(monitor):
    """A child after fork has neither the parent's thread nor its open windows, and can measure."""
    code = (
        "import os, wattline\n"
        "from wattline.measure.monitor import Monitor, use\n"
        "from wattline.measure.devices.replay import ReplayMeter\n"
        "use(Monitor([ReplayMeter(100.0)]))\n"
        "m = wattline.begin('parent')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    use(Monitor([ReplayMeter(50.0)]))\n"
        "    with wattline.measure('child') as c: pass\n"
        "    os._exit(0 if c.closed and not c.notes and c.result.parent == '' else 1)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "wattline.end('parent')\n"
        "raise SystemExit(code)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
