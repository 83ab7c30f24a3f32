"""Tests for `wattline.control.devices.nvidia` and `blackwell`: each call with the driver's own semantics, simulated."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from wattline.control.devices import nvidia
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper

from ..measure.conftest import fake_library, fake_nvml  # noqa: F401 - fixtures


def keeper(tmp_path: Path) -> Keeper:
    """Over the devices of the simulated library."""
    return Keeper(nvidia.find()[0], tmp_path)


def test_a_clock_cap_lets_an_idle_device_rest(fake_nvml, fake_library, tmp_path):  # noqa: F811
    """The lock is a range from the lowest clock: the cap holds and the idle clock is as it was."""
    fake_nvml()
    idle = ctypes.CDLL(str(fake_library)).fake_idle_clock
    idle.restype = ctypes.c_double
    with keeper(tmp_path).take("0", clock=1.2e9) as lease:
        assert lease.read()["clock"] == 1.2e9
        assert idle(0) == 210.0


@pytest.mark.parametrize(("step", "asked", "got"), [(1, 303.7, 303.0), (5, 303.0, 300.0), (0, 303.0, 303.0)])
def test_a_limit_is_rounded_to_what_the_driver_takes(fake_nvml, tmp_path, step, asked, got):  # noqa: F811
    """The limit in force is told, never above what was asked, and what was found is put back."""
    fake_nvml(step=step, found=450)
    keep = keeper(tmp_path)
    with keep.take("0") as lease:
        assert lease.set(power_limit=asked) == {"power_limit": pytest.approx(got)}
        lease.check()
        assert lease.read()["power_limit"] == pytest.approx(got)
    assert nvidia.find()[0][0].read("power_limit") == 450.0


def test_a_limit_that_is_clamped_upwards_is_still_refused(fake_nvml, tmp_path):  # noqa: F811
    """Rounding is down and small; a driver that takes another value is told as before."""
    fake_nvml(clamp=350)
    with keeper(tmp_path).take("0") as lease, pytest.raises(ControlError) as caught:
        lease.set(power_limit=300.0)
    assert caught.value.code == "clamped"


def test_memory_locks_that_do_not_work_are_no_longer_offered(fake_nvml, tmp_path):  # noqa: F811
    """A device that lists memory clocks and refuses to lock them says so once, and everything else goes on."""
    fake_nvml(memlock=0)
    with keeper(tmp_path).take("0") as lease:
        assert "memory_clock" in lease.ranges
        with pytest.raises(ControlError, match="refuses to lock") as caught:
            lease.set(memory_clock=1.593e9)
        assert caught.value.code == "unsupported"
        assert "memory_clock" not in lease.ranges
        lease.set(power_limit=300.0)


def test_the_module_of_a_superchip_has_its_own_limit(fake_nvml, tmp_path):  # noqa: F811
    """Where the driver has the module's power scope it is a knob of its own, within its own range, put back as found."""
    fake_nvml(module=900)
    keep = keeper(tmp_path)
    with keep.take("0", module_power_limit=700.0, power_limit=500.0) as lease:
        assert lease.read()["module_power_limit"] == 700.0
        assert lease.read()["power_limit"] == 500.0
        with pytest.raises(ControlError, match="300 W to"):
            lease.set(module_power_limit=200.0)
    assert nvidia.find()[0][0].knobs().keys() >= {"module_power_limit"}
    assert "module_power_limit" not in _without(fake_nvml)


def _without(fake_nvml):  # noqa: F811
    fake_nvml()
    return nvidia.find()[0][0].knobs()


def test_workload_profiles_and_smoothing_are_knobs_where_the_driver_has_them(fake_nvml, tmp_path):  # noqa: F811
    """A profile is one of those listed; None asks for none; smoothing is on or off; both are put back."""
    fake_nvml(profiles="2,6,7", smoothing=0)
    keep = keeper(tmp_path)
    with keep.take("0", power_profile=7.0) as lease:
        assert lease.ranges["power_profile"].choices == (2.0, 6.0, 7.0)
        lease.set(power_profile=6.0, power_smoothing=1.0)
        assert lease.read()["power_profile"] == 6.0
        assert lease.read()["power_smoothing"] == 1.0
        with pytest.raises(ControlError, match="no power profile 3"):
            lease.set(power_profile=3.0)
    actuator = keep.actuators[lease.device]
    assert actuator.read("power_profile") is None
    assert actuator.read("power_smoothing") == 0.0


def test_an_older_driver_has_none_of_them(fake_nvml):  # noqa: F811
    """What the driver lacks is not offered."""
    fake_nvml()
    assert set(nvidia.find()[0][0].knobs()) == {"power_limit", "clock", "memory_clock"}


def test_persistence_mode_is_told(fake_nvml):  # noqa: F811
    """Without it a driver forgets settings by itself, and the device says so."""
    fake_nvml(persistence=0)
    assert "persistence mode is off" in nvidia.find()[0][0].notes[0]
    fake_nvml(persistence=1)
    assert nvidia.find()[0][0].notes == ()


def test_closing_every_device_lets_go_of_the_driver(fake_nvml, tmp_path):  # noqa: F811
    """A drained keeper holds no handle: the library is shut down, and a new search works."""
    fake_nvml(devices=2, found=450)
    keep = keeper(tmp_path)
    lease = keep.take("0", power_limit=300.0)
    actuator = keep.actuators[lease.device]
    assert keep.drain() == []
    assert lease.over
    assert actuator._driver is None
    assert keep.resume(nvidia.find()[0]) == []
    with keep.take("0", power_limit=300.0) as again:
        assert again.read()["power_limit"] == 300.0
