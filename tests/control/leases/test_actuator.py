"""Tests every kind of actuator by one suite of what an actuator must keep, and each over its simulated tree."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.control.devices import amd, nvidia, rapl
from wattline.control.devices.find import find
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import (
    UNITS,
    Actuator,
    ControlError,
    Range,
    describe,
    pick,
    setting_of,
)
from wattline.control.leases.keeper import Keeper
from wattline.core.errors import InputError

LEVELS = "0: 500Mhz\n1: 900Mhz\n2: 1700Mhz *\n"


def write(root: Path, **files: object) -> Path:
    """A folder of small files; ``__`` in a name stands for ``/``."""
    for name, value in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def amd_tree(root: Path, **more: object) -> Path:
    """One AMD device."""
    write(
        root / "hwmon1", name="amdgpu", power1_cap=300_000_000, power1_cap_min=100_000_000,
        power1_cap_max=550_000_000, device__unique_id="0xAB12", device__pp_dpm_sclk=LEVELS,
        device__power_dpm_force_performance_level="auto", **more,
    )  # fmt: skip
    return root


def rapl_tree(root: Path) -> Path:
    """Two packages, one of them seen twice, and its cores."""
    for zone, label in (("intel-rapl:0", "package-0"), ("intel-rapl-mmio:0", "package-0"), ("intel-rapl:0:0", "core")):
        write(root / zone, name=label, constraint_0_power_limit_uw=200_000_000, constraint_0_max_power_uw=225_000_000)
    return root


class FakeSmi(SimpleNamespace):
    """A stand-in for AMD's module: one device."""

    def __init__(self) -> None:
        self.cap = 300_000_000

    def amdsmi_init(self):
        pass

    def amdsmi_get_processor_handles(self):
        return ["h"]

    def amdsmi_get_gpu_asic_info(self, handle):
        return {"asic_serial": "0xab12"}

    def amdsmi_get_power_cap_info(self, handle):
        return {"power_cap": self.cap, "min_power_cap": 100_000_000, "max_power_cap": 550_000_000}

    def amdsmi_set_power_cap(self, handle, sensor, cap):
        self.cap = cap


MAKERS = {
    "simulated": lambda root: SimulatedGpu(found=500.0),
    "amd": lambda root: amd.find(amd_tree(root))[0][0],
    "amdsmi": lambda root: amd.find(amd_tree(root), smi=FakeSmi())[0][0],
    "rapl": lambda root: rapl.find(rapl_tree(root))[0][0],
}


def keeps_the_contract(actuator: Actuator) -> None:
    """What every actuator must keep."""
    assert actuator.uuid
    assert actuator.name
    for knob, range_ in actuator.knobs().items():
        assert 0 < range_.low <= range_.high
        assert list(range_.choices) == sorted(range_.choices)
        found = actuator.read(knob)
        assert found is None or UNITS[knob]
        ceiling = actuator.ceiling(knob)
        assert ceiling <= range_.high + range_.step
        wanted = range_.nearest((range_.low + range_.high) / 2)
        actuator.write(knob, wanted)
        assert actuator.observe(knob, wanted) == pytest.approx(wanted, abs=range_.step)
        assert actuator.read(knob) == pytest.approx(wanted, abs=range_.step)
        actuator.write(knob, found)
        assert actuator.read(knob) == (found if found is None else pytest.approx(found, abs=range_.step))
    with pytest.raises(ControlError, match="no knob is called"):
        actuator.range("power_limits")  # type: ignore[arg-type]
    actuator.close()
    actuator.close()


@pytest.mark.parametrize("kind", MAKERS)
def test_every_actuator_keeps_the_contract(kind, tmp_path):
    """Ranges, reading, writing and putting back are the same for every kind of device."""
    keeps_the_contract(MAKERS[kind](tmp_path))


def test_the_nvidia_actuator_keeps_the_contract(fake_nvml):
    """So does the real NVML client on the simulated library."""
    fake_nvml(devices=2, found=450)
    found, missing = nvidia.find()
    assert not missing
    assert len(found) == 2
    for actuator in found:
        keeps_the_contract(actuator)
        assert set(actuator.knobs()) == {"power_limit", "clock", "memory_clock"}


def test_what_another_limiter_enforces_is_the_ceiling(fake_nvml, tmp_path):
    """Nothing is set above the least limit in force, though the management limit is higher; that one comes back."""
    fake_nvml(found=600, enforced=400)
    actuator = nvidia.find()[0][0]
    assert (actuator.read("power_limit"), actuator.ceiling("power_limit")) == (600.0, 400.0)
    with Keeper([actuator], tmp_path).take("0") as lease:
        with pytest.raises(ControlError, match="above 400 W"):
            lease.set(power_limit=450.0)
        lease.set(power_limit=350.0)
    assert actuator.read("power_limit") == 600.0


def test_a_device_without_permission_is_listed(fake_nvml):
    """A device that may not be opened is missing with its reason; the others are there."""
    fake_nvml(devices=2, fault="permission")
    found, missing = nvidia.find()
    assert [a.uuid[-2:] for a in found] == ["01"]
    assert "permission" in missing[0].reason


def test_forced_clocks_of_amd_are_left_alone(tmp_path):
    """Where someone has forced the clocks already, how cannot be read, so they are not taken over."""
    amd_tree(tmp_path / "hw")
    mode = tmp_path / "hw/hwmon1/device/power_dpm_force_performance_level"
    mode.write_text("high\n")
    keeper = Keeper(amd.find(tmp_path / "hw")[0], tmp_path / "state")
    with keeper.take("0") as lease, pytest.raises(ControlError, match="already forced") as caught:
        lease.set(clock=900e6)
    assert caught.value.code == "conflict"
    assert mode.read_text() == "high\n"


def test_amd_clocks_allow_the_levels_up_to_the_one_asked(tmp_path):
    """A clock is a set of levels; afterwards the driver chooses again."""
    amd_tree(tmp_path / "hw")
    device = tmp_path / "hw/hwmon1/device"
    keeper = Keeper(amd.find(tmp_path / "hw")[0], tmp_path / "state")
    with keeper.take("amdgpu") as lease:
        lease.set(clock=900e6)
        assert (device / "pp_dpm_sclk").read_text() == "0 1"
        assert (device / "power_dpm_force_performance_level").read_text() == "manual"
    assert (device / "power_dpm_force_performance_level").read_text() == "auto"


def test_a_sysfs_device_that_goes_is_lost(tmp_path):
    """A file that disappears is a lost device, and the lease says so."""
    hw = rapl_tree(tmp_path / "hw")
    keeper = Keeper(rapl.find(hw)[0], tmp_path / "state")
    lease = keeper.take("package-0", power_limit=150.0)
    (hw / "intel-rapl:0/constraint_0_power_limit_uw").unlink()
    with pytest.raises(ControlError) as caught:
        lease.set(power_limit=160.0)
    assert caught.value.code == "lost"
    assert lease.over


def test_a_limit_that_reads_zero_is_not_offered(tmp_path):
    """A limit that could not be put back is not touched."""
    write(tmp_path / "intel-rapl:0", name="package-0", constraint_0_power_limit_uw=0)
    found, missing = rapl.find(tmp_path)
    assert not found
    assert "cannot be put back" in missing[0].reason


def test_everything_is_found_behind_one_call(fake_nvml, tmp_path):
    """One call finds every vendor's devices."""
    fake_nvml()
    amd_tree(tmp_path / "class/hwmon")
    rapl_tree(tmp_path / "class/powercap")
    found, _ = find(tmp_path)
    assert [type(a).__module__.rsplit(".")[-1] for a in found] == ["nvidia", "amd", "rapl"]
    assert pick(found, "1").uuid == "amdgpu:0xAB12"
    assert pick(found, "GPU-").uuid.startswith("GPU-")
    with pytest.raises(ControlError, match="did you mean 'package-0'"):
        pick(found, "package-1")


RANGES = st.builds(
    lambda low, span, choices: Range(low=low, high=low + span, choices=choices, step=1e-3 * span),
    st.floats(1.0, 1e3),
    st.floats(1.0, 1e3),
    st.just(()),
)


@given(RANGES, st.floats(allow_nan=True, allow_infinity=True), st.floats(0.0, 1.5))
def test_nothing_outside_a_range_passes(range_, value, share):
    """Whatever is asked, what comes out lies in the range and below the limit, or is refused."""
    most = range_.low + share * (range_.high - range_.low)
    try:
        taken = range_.check("power_limit", value, most)
    except ControlError:
        assert not (range_.low <= value <= min(most, range_.high))
    else:
        assert range_.low <= taken <= range_.high
        assert taken <= most + range_.step
        assert abs(taken - value) <= range_.step


def test_a_clock_between_two_is_refused_with_the_nearest():
    """A clock that the device does not have is named with the one it has."""
    range_ = SimulatedGpu().range("clock")
    assert range_.check("clock", 1.2e9 + 1e3) == 1.2e9
    with pytest.raises(ControlError, match=r"no clock 1\.207 GHz; the nearest is 1\.2 GHz"):
        range_.check("clock", 1.207e9)


@given(st.integers(2, 200))
def test_a_spread_is_settable(count):
    """Evenly spread settings are ones that the device has, the highest among them, none twice."""
    range_ = SimulatedGpu().range("clock")
    found = range_.spread(count)
    assert set(found) <= set(range_.choices)
    assert found[-1] == range_.high
    assert len(found) == len(set(found)) == min(count, len(range_.choices)) or count > 60


def test_words():
    """A setting reads as a person would say it, and a wrong name is answered with the right one."""
    assert describe({"clock": 1.2e9, "power_limit": None}) == "clock 1.2 GHz, power limit free"
    with pytest.raises(InputError, match="did you mean 'power_limit'"):
        setting_of(powerlimit=1.0)


@given(st.floats(200, 700), st.sampled_from(SimulatedGpu().range("clock").choices))
def test_the_simulated_device_keeps_its_limit(limit, clock):
    """A limit holds the power down by the clock, a lock holds the clock; both together, whichever is lower."""
    gpu = SimulatedGpu()
    speed = gpu.speed({"power_limit": limit, "clock": clock})
    assert speed <= clock
    assert gpu.power(speed) <= limit or speed == gpu.range("clock").low
    assert gpu.seconds(1.0, 0.0, {"clock": clock}) >= 1.0 - 1e-12


def test_the_simulated_counter_is_the_truth():
    """What its counter counts is power times time under the settings in force."""
    now = [0.0]

    def sleep(span: float) -> None:
        now[0] += span

    gpu = SimulatedGpu(clock=lambda: now[0])
    gpu.write("clock", 1.2e9)
    expected = gpu.joules(2.0, 1.0)
    before = gpu.energy()
    span = gpu.work(2.0, 1.0, sleep)
    assert span == pytest.approx(2.0 * 1980 / 1200 + 1.0)
    assert gpu.energy() - before == pytest.approx(expected)
    sleep(1.0)
    assert gpu.energy() - before - expected == pytest.approx(100.0)
    assert math.isclose(gpu.meter().read(), gpu.energy(), abs_tol=2e-3)
