"""Any device the kernel shows under /sys/class/hwmon with joules or watts: GPUs, Grace, power meters, supplies.

``energyN_input`` is a counter in uJ, ``powerN_average`` and ``powerN_input`` are in uW (kernel document
hwmon/sysfs-interface). Only drivers whose scope is known are used; guessing what a rail feeds would be filling in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ..meter import Meter, MeterError, Missing, State
from ..result import Scope
from .files import NumberFile, number, word

ROOT: Final = Path("/sys/class/hwmon")
# Driver -> scope of its power, from the kernel's documents of each driver (Documentation/hwmon, gpu/amdgpu, gpu/i915).
DRIVERS: Final[dict[str, Scope]] = {
    "amdgpu": "gpu",
    "i915": "gpu",
    "xe": "gpu",
    "amd_energy": "cpu",
    "power_meter": "node",
    "acpi_power_meter": "node",
    "pmbus": "wall",
}
# What ``power1_oem_info`` of a meter on a Grace superchip says, the element it is and what feeds that (NVIDIA Grace
# Performance Tuning Guide, power and thermals): the module holds its Grace and its GPU, Grace its cores and its I/O.
_GRACE: Final = re.compile(r"^(Module|Grace|CPU|SysIO) Power Socket (\d+)", re.IGNORECASE)
_GRACE_SCOPES: Final[dict[str, Scope]] = {"module": "soc", "grace": "cpu", "cpu": "cpu", "sysio": "soc"}
_GRACE_FED: Final = {"grace": "module", "cpu": "grace", "sysio": "grace"}
# Labels of the channels of an Intel discrete GPU (kernel ABI sysfs-driver-intel-xe-hwmon): the card holds the package.
_CARD: Final = ("card", "pkg")


class HwmonMeter(Meter):
    """One channel of one hwmon device."""

    def __init__(self, path: Path, uuid: str, scope: Scope, **facts: Any) -> None:
        super().__init__(uuid, scope, **facts)
        self.method = "counter" if path.name.startswith("energy") else "power-integral"
        self.kind = f"hwmon:{uuid.partition(':')[0]}"
        self._file, self._folder = NumberFile(path), path.parent

    def read(self) -> float:
        return self._file.read() * 1e-6

    def state(self) -> State:
        heat, clock = number(self._folder / "temp1_input"), number(self._folder / "freq1_input")
        cap = number(self._folder / "power1_cap")
        return State(
            temperature=None if heat is None else heat * 1e-3,
            clock=clock,
            power_limit=None if cap is None else cap * 1e-6,
        )

    def close(self) -> None:
        self._file.close()


def find(root: Path = ROOT, host: str | None = None, leave: tuple[str, ...] = ()) -> tuple[list[Meter], list[Missing]]:
    """Every known device under `root` but those of the drivers in `leave`."""
    meters: list[Meter] = []
    missing: list[Missing] = []
    try:
        folders = sorted(root.iterdir())
    except OSError:
        return [], []
    for folder in folders:
        driver = word(folder / "name")
        if driver in leave or driver not in DRIVERS:
            continue
        for meter in _meters(folder, driver, host):
            try:
                meter.read()
            except MeterError as error:
                missing.append(Missing(meter.uuid, error.reason, error.fix))
            else:
                meters.append(meter)
    supplies = [meter for meter in meters if meter.scope == "wall"]
    lost = [m for m in missing if m.sensor.startswith("pmbus:")]
    if lost and supplies:
        # A node fed by several supplies is inside them only if all are read.
        why = f"{lost[0].sensor} beside it cannot be read, and one supply alone is not the machine"
        missing += [Missing(meter.uuid, why) for meter in supplies]
        meters = [meter for meter in meters if meter.scope != "wall"]
    return meters, missing


def _meters(folder: Path, driver: str, host: str | None) -> list[Meter]:
    """The meters of one hwmon device, not yet read."""
    device = folder / "device"
    base = word(device / "unique_id") or (device.resolve().name if device.exists() else folder.name)
    cap = number(folder / "power1_cap_max")
    facts: dict[str, Any] = {"host": host, "limit": cap * 1e-6 * 1.1 if cap else None}
    if driver in ("power_meter", "acpi_power_meter"):
        info = _GRACE.match(word(folder / "power1_oem_info"))
        if info:
            return _grace(folder, info[1].lower(), int(info[2]), facts)
    channels = sorted(folder.glob("energy*_input")) or _watts(folder)
    if driver == "amd_energy":  # cores are inside their socket
        channels = [c for c in channels if _label(c).startswith("Esocket")]
    found: list[Meter] = []
    for channel in channels:
        label = _label(channel)
        tail = f":{label or channel.name}" if len(channels) > 1 else ""
        uuid = f"{driver}:{base}{tail}"
        own = dict(facts)
        if driver == "amd_energy":
            own["element"] = f"package-{label.removeprefix('Esocket')}"
        elif driver == "amdgpu" and word(folder / "in1_label") == "vddnb":
            # A rail for a north bridge is had by processors with graphics: what is shown is the package's power.
            own["element"] = "package-0"
        elif driver == "xe" and label in _CARD:
            own["element"] = f"{driver}:{base}:{label}"
            own["fed_by"] = (f"{driver}:{base}:card",) if label == "pkg" else ()
        elif DRIVERS[driver] == "node":
            own["element"] = "node"
        why = "" if channel.name.startswith("energy") else "no energy counter; power is read and added up"
        found.append(HwmonMeter(channel, uuid, DRIVERS[driver], name=f"{driver} {base}{tail}", reason=why, **own))
    return found


def _watts(folder: Path) -> list[Path]:
    """The power channel of a device that counts no energy: its input's mean, else its instant."""
    return [path for kind in ("power1_average", "power1_input") if (path := folder / kind).exists()][:1]


def _label(channel: Path) -> str:
    return word(channel.with_name(re.sub(r"_(input|average)$", "_label", channel.name)))


def _grace(folder: Path, kind: str, socket: int, facts: dict[str, Any]) -> list[Meter]:
    """One meter of a Grace superchip; a Grace without a GPU has no module meter, and its Grace hangs on the node."""
    feeder = _GRACE_FED.get(kind)
    return [
        HwmonMeter(
            channel, f"{kind}:{socket}", _GRACE_SCOPES[kind], name=f"{kind} power, socket {socket}",
            element=f"{kind}:{socket}", fed_by=(f"{feeder}:{socket}",) if feeder else (),
            reason="no energy counter; power is read and added up", **facts,
        )
        for channel in _watts(folder)
    ]  # fmt: skip
