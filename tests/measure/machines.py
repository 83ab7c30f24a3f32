"""Sysfs trees of real machines, as their kernels lay them out, whose counters rise by known watts under an invented clock.

Each is a set of sensors with the true power behind it, and what the whole machine's sensors should add up to. Layouts
follow the kernel's documents (powercap, hwmon, amdgpu, xe), NVIDIA's of Grace and of Jetson; numbers are invented.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from wattline.measure.devices.replay import VirtualClock


class Counter(NamedTuple):
    """A file of microjoules that rises by so many watts; `mirror` names the file whose register it shows."""

    path: str
    watts: float
    start: float = 1e9
    mirror: str = ""


class Machine(NamedTuple):
    """Files that stay as they are, counters that rise, the total in W and the scopes it is made of."""

    files: dict[str, str]
    counters: tuple[Counter, ...]
    total: float
    scopes: tuple[str, ...]


def _zones(*zones: tuple[str, str, float]) -> tuple[dict[str, str], tuple[Counter, ...]]:
    """Powercap zones: (folder, label, W)."""
    files: dict[str, str] = {}
    counters = []
    for k, (folder, label, watts) in enumerate(zones):
        root = f"class/powercap/{folder}"
        files |= {f"{root}/name": label, f"{root}/max_energy_range_uj": "262143328850"}
        counters.append(Counter(f"{root}/energy_uj", watts, 1e9 * (k + 1)))
    return files, tuple(counters)


def _rails(*rails: tuple[str, float]) -> dict[str, str]:
    """INA3221 channels: (label, W) at 5 V, three to a chip."""
    files: dict[str, str] = {}
    for k, (label, watts) in enumerate(rails):
        root = f"bus/i2c/drivers/ina3221/1-004{k // 3}/hwmon/hwmon{k // 3}"
        n = k % 3 + 1
        files |= {
            f"{root}/in{n}_label": label,
            f"{root}/in{n}_input": "5000",
            f"{root}/curr{n}_input": f"{watts * 200:g}",
        }
    return files


def _meter(number: int, **files: str) -> dict[str, str]:
    return {f"class/hwmon/hwmon{number}/{name}": text for name, text in files.items()}


def _watts(value: float) -> str:
    return f"{value * 1e6:.0f}"


def machines() -> dict[str, Machine]:
    """Every machine by name."""
    found: dict[str, Machine] = {}

    files, counters = _zones(
        ("intel-rapl:0", "package-0", 120.0), ("intel-rapl:0:0", "dram", 20.0),
        ("intel-rapl:1", "package-1", 110.0), ("intel-rapl:1:0", "dram", 18.0),
    )  # fmt: skip
    found["server with two Xeons"] = Machine(files, counters, 268.0, ("cpu", "dram"))

    files, counters = _zones(
        ("intel-rapl:0", "package-0", 25.0), ("intel-rapl:0:0", "core", 15.0), ("intel-rapl:0:1", "uncore", 4.0),
        ("intel-rapl:1", "psys", 40.0),
    )  # fmt: skip
    mmio, _ = _zones(("intel-rapl-mmio:0", "package-0", 25.0))
    mirror = Counter("class/powercap/intel-rapl-mmio:0/energy_uj", 25.0, 4e9)
    found["laptop with psys and a mirror in memory"] = Machine({**files, **mmio}, (*counters, mirror), 40.0, ("soc",))

    files, counters = _zones(("intel-rapl:0", "package-0-die-0", 67.5), ("intel-rapl:1", "package-0-die-1", 67.5))
    twin = counters[1]._replace(mirror=counters[0].path, start=7.7e9)
    found["processor whose second die shows the first's register"] = Machine(files, (counters[0], twin), 67.5, ("cpu",))

    files, counters = _zones(("intel-rapl:0", "package-0-die-0", 67.5), ("intel-rapl:1", "package-0-die-1", 66.0))
    found["processor with two dies of its own"] = Machine(files, counters, 133.5, ("cpu",))

    files, counters = _zones(("intel-rapl:0", "package-0", 45.0), ("intel-rapl:0:0", "core", 30.0))
    card = _meter(3, name="xe", energy1_label="card", energy2_label="pkg", power1_cap_max=_watts(190.0))
    found["workstation with an Intel Arc card (xe)"] = Machine(
        {**files, **card},
        (
            *counters,
            Counter("class/hwmon/hwmon3/energy1_input", 150.0),
            Counter("class/hwmon/hwmon3/energy2_input", 119.0),
        ),
        195.0,
        ("gpu", "cpu"),
    )

    grace = {
        **_meter(0, name="power_meter", power1_oem_info="Module Power Socket 0", power1_average=_watts(600.0)),
        **_meter(1, name="power_meter", power1_oem_info="Grace Power Socket 0", power1_average=_watts(180.0)),
        **_meter(2, name="power_meter", power1_oem_info="CPU Power Socket 0", power1_average=_watts(120.0)),
        **_meter(3, name="power_meter", power1_oem_info="SysIO Power Socket 0", power1_average=_watts(30.0)),
    }
    found["GH200 superchip"] = Machine(grace, (), 600.0, ("soc",))

    pair: dict[str, str] = {}
    for socket in (0, 1):
        for k, (kind, watts) in enumerate((("Grace", 250.0), ("CPU", 190.0), ("SysIO", 25.0))):
            pair |= _meter(
                3 * socket + k, name="power_meter", power1_oem_info=f"{kind} Power Socket {socket}",
                power1_average=_watts(watts),
            )  # fmt: skip
    found["Grace superchip of two sockets, no GPU"] = Machine(pair, (), 500.0, ("cpu",))

    rails = _rails(("GPU", 8.0), ("CPU", 5.0), ("SOC", 3.0), ("CV", 1.0), ("VDDRQ", 2.0), ("SYS5V", 4.0))
    found["Jetson AGX Xavier"] = Machine(rails, (), 23.0, ("gpu", "cpu", "dram", "soc"))

    rails = _rails(
        ("VDD_GPU_SOC", 12.0), ("VDD_CPU_CV", 6.0), ("VIN_SYS_5V0", 7.0), ("NC", 0.0), ("VDDQ_VDD2_1V8AO", 3.0)
    )
    found["Jetson AGX Orin"] = Machine(rails, (), 25.0, ("cpu", "soc"))

    rails = _rails(("VDD_IN", 14.0), ("VDD_CPU_GPU_CV", 6.0), ("VDD_SOC", 3.0))
    found["Jetson Orin Nano"] = Machine(rails, (), 14.0, ("node",))

    files, counters = _zones(("intel-rapl:0", "package-0", 22.0), ("intel-rapl:0:0", "core", 9.0))
    apu = _meter(
        2, name="amdgpu", power1_average=_watts(22.5), power1_label="PPT", in0_label="vddgfx", in1_label="vddnb"
    )
    found["laptop with a Ryzen processor that has graphics"] = Machine({**files, **apu}, counters, 22.0, ("cpu",))

    files, counters = _zones(("intel-rapl:0", "package-0", 200.0))
    server = {
        **_meter(0, name="amdgpu", power1_average=_watts(500.0), device__x="", power1_cap_max=_watts(560.0)),
        **_meter(1, name="amdgpu", power1_average=_watts(480.0), power1_cap_max=_watts(560.0)),
        **_meter(2, name="acpi_power_meter", power1_average=_watts(1300.0)),
        **_meter(3, name="pmbus", power1_input=_watts(700.0)),
        **_meter(4, name="pmbus", power1_input=_watts(690.0)),
    }
    server = {name: text for name, text in server.items() if "device__x" not in name}
    found["EPYC with two MI250X, an ACPI meter and two supplies"] = Machine(
        {**files, **server}, counters, 1390.0, ("wall",)
    )
    return found


class Tree:
    """A machine's files under a folder, kept up to an invented clock by `at`."""

    def __init__(self, machine: Machine, root: Path) -> None:
        self.machine, self.root, self.clock = machine, root, VirtualClock()
        self._at = -1.0
        for name, text in machine.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        self.at(0.0)

    def at(self, now: float) -> None:
        """Write every counter as it stands at an instant: whole milliseconds, with noise of its own power."""
        if now == self._at:
            return
        self._at, self.clock.now = now, max(self.clock.now, now)
        shown: dict[str, float] = {}
        for k, counter in enumerate(self.machine.counters):
            steps = int(now * 1e3)
            # Power is never quite steady: a few per cent that differ from counter to counter.
            wobble = 0.02 * counter.watts * 1e3 * ((steps * (7 + 3 * k)) % 97)
            shown[counter.path] = counter.watts * 1e3 * steps + wobble
            rise = shown[counter.mirror] if counter.mirror else shown[counter.path]
            path = self.root / counter.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{(counter.start + rise) % 262143328850:.0f}\n")


def driven(tree: Tree, meters: list[Any]) -> None:
    """Have every read of these meters bring the files up to the clock first."""
    for meter in meters:
        read = meter.read

        def reading(read: Any = read) -> float:
            tree.at(tree.clock.now)
            value: float = read()
            return value

        meter.read = reading
