"""Tests for `wattline.measure.devices.estimated`: estimates only where asked, flagged, and in no total unless asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.measure import contain
from wattline.measure.devices import estimated
from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.doctor import hints
from wattline.measure.meter import MeterError
from wattline.measure.monitor import Monitor

from ..drive import Driver


def machine(root: Path, name: str = "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", threads: int = 8) -> Path:
    """A /proc of so many threads and 32 GB."""
    lines = "".join(f"processor : {k}\nmodel name : {name}\nflags : fpu hypervisor\n" for k in range(threads))
    (root / "cpuinfo").write_text(lines)
    (root / "meminfo").write_text("MemTotal:       31250000 kB\n")
    busy(root, 0, 0)
    return root


def busy(root: Path, user: float, idle: float) -> None:
    (root / "stat").write_text(f"cpu  {user:.0f} 0 0 {idle:.0f} 0 0 0 999 0 0\n")


def driven(root: Path, clock: VirtualClock, meters: list, load: float) -> None:
    """Have /proc/stat go on at a load, 100 ticks a second for each of 8 threads."""
    for meter in meters:
        read = meter.read

        def reading(read=read) -> float:
            busy(root, 800 * load * clock.now, 800 * (1 - load) * clock.now)
            return read()

        meter.read = reading


@pytest.mark.parametrize(("load", "watts"), [(0.0, 8 * 0.64), (0.5, 8 * (0.64 + 3.97) / 2), (1.0, 8 * 3.97)])
def test_processors_are_estimated_from_their_load(tmp_path, load, watts):
    """Idle, half and full give the published watts; the interval holds the spread of servers; memory is beside it."""
    clock = VirtualClock()
    meters, missing = estimated.find("total", machine(tmp_path), "h")
    assert not missing
    driven(tmp_path, clock, meters, load)
    driver = Driver(Monitor(meters, clock=clock, thread=False), clock)
    driver.window(2.0)
    cpu, dram = driver.window(10.0).result.parts
    assert (cpu.method, dram.method) == ("estimated", "estimated")
    assert cpu.joules == pytest.approx(10.0 * watts, rel=0.03)
    assert cpu.low <= 0.65 * cpu.joules
    assert cpu.high >= 1.55 * cpu.joules
    assert dram.joules == pytest.approx(10.0 * 32.0 * 0.392, rel=0.01)
    assert "Cascade Lake" in cpu.reason


def test_a_processor_that_is_not_known_has_a_wider_interval(tmp_path):
    """Its estimate is the mean of all, and the interval holds every one of them, idle and full."""
    known, unknown = (
        estimated.find("parts", machine(tmp_path, name), "h")[0][0]
        for name in ("AMD EPYC 7763 64-Core", "Mystery 9000")
    )
    assert "EPYC 3rd" in known.reason
    assert unknown.share[0] < known.share[0]
    assert unknown.share[2] > known.share[2]
    for idle, full in ((0.45, 1.87), (1.90, 6.01)):
        assert unknown.share[0] * unknown.idle / 8 <= idle <= unknown.share[2] * unknown.idle / 8
        assert unknown.share[0] * unknown.full / 8 <= full <= unknown.share[2] * unknown.full / 8


def test_an_estimate_is_in_no_total_unless_asked_for(tmp_path):
    """As a part it stands beside what is measured; in the total only where that was asked for."""
    for mode, expected in (("parts", 1000.0), ("total", None)):
        clock = VirtualClock()
        meters, _ = estimated.find(mode, machine(tmp_path), "h")
        gpu = ReplayMeter(100.0, "g", clock=clock, host="h", limit=700.0)
        every = [gpu, *meters]
        contain.link(every)
        driver = Driver(Monitor(every, clock=clock, thread=False), clock)
        driver.window(2.0)
        answer = driver.window(10.0).result
        assert len(answer.parts) == 3
        if expected is not None:
            assert answer.joules == pytest.approx(expected, rel=0.01)
            assert answer.total.scopes == ("gpu",)
        else:
            assert answer.joules > 1100.0


def test_nothing_is_estimated_unless_asked(tmp_path):
    """By default there is none; another word is refused; a /proc that tells nothing is missing."""
    assert estimated.find("", machine(tmp_path)) == ([], [])
    with pytest.raises(InputError, match="parts or total"):
        estimated.find("yes", tmp_path)
    (tmp_path / "empty").mkdir()
    assert estimated.find("parts", tmp_path / "empty")[1][0].sensor == "estimate"
    with pytest.raises(MeterError):
        estimated.ticks(tmp_path / "empty" / "stat")


def test_doctor_says_what_would_work(tmp_path):
    """On a virtual machine in a container: bare metal, a mount, a controller, a plug-in, an estimate."""
    machine(tmp_path)
    (tmp_path / ".dockerenv").write_text("")
    told = "\n".join(hints(tmp_path, tmp_path))
    for word in ("bare-metal", "/sys/class/powercap", "redfish", "wattline.meters", "--estimate parts"):
        assert word in told
