"""Tests for `wattline.measure.devices.nvidia`: the real client against a simulated library whose truth is known."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from wattline.measure.devices import nvidia
from wattline.measure.monitor import Monitor

from ..drive import Driver

WAVES = {
    "constant": {"wave": "constant", "hi": 300},
    "locked": {"wave": "square", "period": 0.1, "duty": 0.25},
    "square": {"wave": "square", "period": 0.13, "duty": 0.25},
    "ramp": {"wave": "ramp", "period": 5.0},
    "bursts": {"wave": "bursts", "period": 1.7, "duty": 0.03, "hi": 650, "lo": 90},
    "noise": {"wave": "noise"},
}


@pytest.mark.parametrize(("wave", "period"), list(itertools.product(WAVES, (0.02, 0.1))))
def test_truth_is_inside_the_interval(fake_nvml, wave, period):
    """Over random windows of 30 ms to 10 s the 95 % interval holds the truth; from 2 s on the error is below 2 %."""
    clock = fake_nvml(counter=period, phase=0.037, **WAVES[wave])
    meters, missing = nvidia.find()
    assert len(meters) == 1
    assert not missing
    driver = Driver(Monitor(meters, clock=clock, thread=False), clock, seed=1)
    driver.window(2.0)  # the first window probes the period
    assert driver.monitor.tracks[0].period == pytest.approx(period, rel=0.03)
    rng = random.Random(wave)
    inside, errors, count = 0, [], 90
    for _ in range(count):
        driver.run(rng.random() * 0.2)
        seconds = math.exp(rng.uniform(math.log(0.03), math.log(10.0)))
        start = clock.now
        part = driver.window(seconds).result.parts[0]
        true = clock.energy(start, start + seconds)
        assert part.low is not None
        inside += part.low - 0.002 <= true <= part.high + 0.002
        if seconds < 20 * period * 0.95:
            assert "insufficient_resolution" in part.flags
        if seconds >= 2.0:
            errors.append(abs(part.joules - true) / true)
    assert inside >= 0.93 * count
    assert sum(errors) / len(errors) < 0.01
    assert sorted(errors)[int(0.95 * len(errors)) - 1] < 0.02


def test_unsettled_windows_are_honest_too(fake_nvml):
    """Asked for at once, before the sensor shows the end, the interval is wider and still holds the truth."""
    clock = fake_nvml(counter=0.1)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    driver.window(2.0)
    inside = 0
    for k in range(100):
        start, seconds = clock.now, 0.03 * 1.06**k
        window = driver.window(seconds, settle=0.0)
        part = window.result.parts[0]
        true = clock.energy(start, start + seconds)
        inside += part.low - 0.002 <= true <= part.high + 0.002
        driver.run(0.13)
    assert inside >= 93


def test_a_window_without_an_update_has_no_figure(fake_nvml):
    """A window in which the counter did not move gives bounds and a flag, never a filled-in number."""
    clock = fake_nvml(counter=0.5)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    driver.window(3.0, settle=0.0)
    clock.now = math.ceil(clock.now * 2) / 2 + 0.1
    driver.monitor.sample()
    part = driver.window(0.05, settle=0.0).result.parts[0]
    assert part.joules is None
    assert "insufficient_resolution" in part.flags
    assert part.low == 0.0
    assert part.high > 0


def test_a_lost_device_keeps_what_was_seen(fake_nvml):
    """A device that falls off the bus in a window is named; the others go on."""
    clock = fake_nvml(devices=2, fault="lost", at=104.0, counter=0.02)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    start = clock.now
    result = driver.window(6.0).result
    lost, whole = result.parts
    assert "lost" in lost.flags
    assert "lost" in lost.reason
    assert lost.joules == pytest.approx(clock.energy(start, 104.0), rel=0.02)
    assert lost.high > clock.energy(start, start + 6.0)
    assert whole.joules == pytest.approx(clock.energy(start, start + 6.0, 1), rel=0.02)


def test_a_reset_is_a_gap(fake_nvml):
    """A counter that starts again is a gap whose bound holds the truth, not negative joules."""
    clock = fake_nvml(fault="reset", at=103.0, counter=0.02)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    start = clock.now
    part = driver.window(6.0).result.parts[0]
    assert "reset" in part.flags
    assert part.joules > 0
    assert part.low <= clock.energy(start, start + 6.0) <= part.high


def test_a_stuck_counter_is_said(fake_nvml):
    """A counter that stops moving is flagged."""
    clock = fake_nvml(fault="stuck", at=103.0, counter=0.02)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    assert "stuck" in driver.window(8.0).result.parts[0].flags


def test_permission_is_said_with_its_fix(fake_nvml):
    """A device that may not be read is missing with a reason and a command; the next one is used."""
    fake_nvml(devices=2, fault="permission")
    meters, missing = nvidia.find()
    assert [m.uuid[-2:] for m in meters] == ["01"]
    assert "permission" in missing[0].reason
    assert missing[0].fix


def test_without_a_counter_mean_power_is_added_up(fake_nvml):
    """The 1 s mean of the driver stands in for a missing counter, and says so."""
    clock = fake_nvml(fault="nocounter", wave="ramp", period=5.0)
    meters, _ = nvidia.find()
    assert meters[0].method == "power-integral"
    driver = Driver(Monitor(meters, clock=clock, thread=False), clock)
    driver.run(2.0)
    start = clock.now
    part = driver.window(20.0, settle=2.0).result.parts[0]
    true = clock.energy(start, start + 20.0)
    assert part.low <= true <= part.high
    assert part.joules == pytest.approx(true, rel=0.03)
    assert "no energy counter" in part.reason or "no energy counter" in meters[0].reason


def test_a_part_time_sensor_carries_what_it_does_not_see(fake_nvml):
    """A locked load hides from an instant sensor; the interval still holds it."""
    clock = fake_nvml(fault="nofields", wave="square", period=0.1, duty=0.25)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    start = clock.now
    part = driver.window(20.0).result.parts[0]
    true = clock.energy(start, start + 20.0)
    assert part.joules < 0.5 * true
    assert part.low <= true <= part.high


def test_mig_says_what_cannot_be_told(fake_nvml):
    """With MIG on the figure is the whole chip's and is marked as shared."""
    clock = fake_nvml(mig=1, counter=0.02)
    driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock)
    part = driver.window(2.0).result.parts[0]
    assert "shared" in part.flags
    assert "MIG" in part.reason


def test_visible_devices_are_respected(fake_nvml, monkeypatch):
    """Devices that the job may not use are left out, by index or UUID, and named."""
    fake_nvml(devices=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-00000000-0000-0000-0000-000000000002,0")
    meters, missing = nvidia.find()
    assert [m.uuid[-1] for m in meters] == ["2", "0"]  # as the program counts them
    assert "CUDA_VISIBLE_DEVICES" in missing[0].reason


def test_state_is_in_si(fake_nvml):
    """Clocks are in Hz, the limit in W, and throttling has a name."""
    fake_nvml()
    state = nvidia.find()[0][0].state()
    assert (state.clock, state.memory_clock, state.power_limit) == (1.5e9, 2.619e9, 700.0)
    assert state.throttle == ("power cap",)


def test_a_slow_driver_does_not_break_a_window(fake_nvml):
    """Calls of 20 ms make a window wider, not wrong."""
    fake = fake_nvml(fault="slow", slow=0.02, counter=0.05)
    meters = nvidia.find()[0]
    monitor = Monitor(meters)
    from wattline.measure.window import Window

    with Window("slow", monitor) as window:
        for _ in range(6):  # updates of the counter, each seen by a slow call
            fake.now += 0.05
            meters[0].read()
    part = window.settle().parts[0]
    monitor.stop()
    assert part.low is not None
    assert part.low >= 0


def test_a_command_is_measured_through_the_system_loader(fake_library, tmp_path):
    """`run` in a fresh process finds the library by its name, measures, and passes the exit code on."""
    config, answer = tmp_path / "cfg", tmp_path / "answer.json"
    config.write_text("devices=2\ncounter=0.02\nwave=constant\nhi=300\n")
    code = "import sys; from wattline.show.cli.measure import run_command; sys.exit(run_command(sys.argv[2:], sys.argv[1]))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(Path(fake_library).parent), "FAKENVML": str(config)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", code, str(answer), "sh", "-c", "sleep 0.6; echo out; exit 7"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "out\n")
    data = json.loads(answer.read_text())
    assert data["exit_code"] == 7
    assert data["total"]["scopes"] == ["gpu"]
    true = 2 * 300 * data["duration_s"]
    assert data["total"]["low_j"] <= true <= data["total"]["high_j"]
    assert data["total"]["energy_j"] == pytest.approx(true, rel=0.05)


def test_an_instance_of_mig_is_given_its_share(fake_nvml, monkeypatch):
    """A process that sees one instance counts its slices of one chip, not eight chips, and says how."""
    clock = fake_nvml(devices=8, mig=1, migs="3,2,2", wave="constant", hi=350, counter=0.02)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3-0")
    meters, missing = nvidia.find()
    assert [meter.uuid for meter in meters] == ["MIG-3-0"]
    assert len(missing) == 8
    driver = Driver(Monitor(meters, clock=clock, thread=False), clock)
    driver.window(2.0)
    part = driver.window(4.0).result.parts[0]
    assert part.method == "estimated"
    assert part.joules == pytest.approx(350.0 * 4.0 * 3 / 7, rel=0.02)
    assert part.low == 0.0
    assert part.high >= 350.0 * 4.0
    assert "3 of the 7 compute slices" in part.reason
    live = Monitor(meters, clock=clock, thread=False)
    with live.watch():
        driver = Driver(live, clock)
        driver.run(3.0)
        assert live.live()[0].watts == pytest.approx(150.0, rel=0.03)


def test_the_only_instance_has_the_whole_chip(fake_nvml, monkeypatch):
    """Nobody shares it, so it is a counter like any other; an instance that is not there is a reason."""
    fake_nvml(devices=1, mig=1, migs="7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0-0,MIG-0-5")
    meters, missing = nvidia.find()
    assert [meter.share for meter in meters] == [(1.0, 1.0, 1.0)]
    assert "MIG-0-5" in [m.sensor for m in missing]


@pytest.mark.parametrize("code", [2, 4, 13, 15, 999])
def test_one_sick_device_takes_no_other_with_it(fake_nvml, code):
    """Whatever a device answers when it is looked for, the others are measured and it is missing with a reason."""
    fake_nvml(devices=4, sick=2, code=code)
    meters, missing = nvidia.find()
    assert [meter.uuid[-1] for meter in meters] == ["0", "1", "3"]
    assert [m.sensor for m in missing] == ["nvidia:2"]
    assert missing[0].reason


@pytest.mark.parametrize("code", [4, 13, 15, 999])
def test_a_device_that_was_sick_is_read_again(fake_nvml, code):
    """Its windows have gaps while it is sick, the others are whole, and afterwards all have figures."""
    clock = fake_nvml(
        devices=2, sick=0, code=code, sickat=103.0, sickuntil=105.0, wave="constant", hi=300, counter=0.02
    )
    monitor = Monitor(nvidia.find()[0], clock=clock, thread=False)
    driver = Driver(monitor, clock)
    driver.window(2.0)
    both = driver.window(4.0).result.parts  # 102.3 to 106.3
    assert both[1].joules == pytest.approx(1200.0, rel=0.02)
    assert set(both[0].flags) & {"gap", "lost"}
    driver.run(8.0)
    parts = driver.window(2.0).result.parts
    assert [part.joules for part in parts] == pytest.approx([600.0, 600.0], rel=0.02)
    assert not set(parts[0].flags) & {"gap", "lost"}


def test_power_is_used_where_the_counter_fails(fake_nvml):
    """A device whose counter answers with an error and whose power does not is measured by its power."""
    clock = fake_nvml(devices=2, sick=0, code=999, sickwhat="energy", wave="constant", hi=300)
    meters, missing = nvidia.find()
    assert not missing
    assert [meter.method for meter in meters] == ["power-integral", "counter"]
    assert "unknown error" in meters[0].reason
    driver = Driver(Monitor(meters, clock=clock, thread=False), clock)
    driver.window(2.0)
    assert driver.window(3.0).result.parts[0].joules == pytest.approx(900.0, rel=0.02)


@pytest.mark.parametrize(("reasons", "throttle", "unknown"), [
    ("event", ("power cap",), ()), ("throttle", ("power cap",), ()), ("none", (), ("throttle",)),
])  # fmt: skip
def test_reasons_of_clocks_are_asked_by_the_newer_name_first(fake_nvml, reasons, throttle, unknown):
    """Either name answers; a driver that has neither leaves it unknown, which is not the same as not throttled."""
    fake_nvml(reasons=reasons)
    state = nvidia.find()[0][0].state()
    assert state.throttle == throttle
    assert state.unknown == unknown


def test_places_are_told_to_be_unsure_on_mixed_machines(fake_nvml, monkeypatch):
    """CUDA counts by speed, NVML by address: on a machine of two kinds the answer says so, unless the order is set."""
    fake_nvml(devices=2, names="NVIDIA A100,NVIDIA T4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "by speed" in nvidia.find()[0][0].reason
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert nvidia.find()[0][0].reason == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,9,1")
    assert len(nvidia.find()[0]) == 1  # CUDA stops at the first that is none


def test_labels_join_with_other_tools(fake_nvml):
    """PCI address as the kernel writes it, minor number, index, driver and persistence mode."""
    fake_nvml(devices=2, persistence=0)
    assert nvidia.find()[0][1].labels == {
        "index": "1", "pci": "0000:02:00.0", "device": "nvidia1", "driver": "999.0", "persistence": "off",
    }  # fmt: skip
