"""Any device the kernel shows under /sys/class/hwmon with joules or watts: Intel and AMD GPUs, ACPI power meters.

``energyN_input`` is a counter in uJ, ``powerN_average`` and ``powerN_input`` are in uW (kernel document
hwmon/sysfs-interface). Only drivers whose scope is known are used; guessing what a rail feeds would be filling in.
"""

from __future__ import annotations

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
}


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
        scope = DRIVERS[driver]
        channels = (
            sorted(folder.glob("energy*_input"))
            or [path for kind in ("power1_average", "power1_input") if (path := folder / kind).exists()][:1]
        )
        device = folder / "device"
        base = word(device / "unique_id") or (device.resolve().name if device.exists() else folder.name)
        cap = number(folder / "power1_cap_max")
        for channel in channels:
            tail = (
                ""
                if len(channels) == 1
                else ":" + (word(folder / channel.name.replace("input", "label")) or channel.name)
            )
            if driver == "amd_energy" and not tail.startswith(":Esocket"):
                continue  # cores are inside their socket
            meter = HwmonMeter(
                channel,
                f"{driver}:{base}{tail}",
                scope,
                name=f"{driver} {base}{tail}",
                host=host,
                limit=cap * 1e-6 * 1.1 if cap else None,
                reason="" if channel.name.startswith("energy") else "no energy counter; power is read and added up",
            )
            try:
                meter.read()
            except MeterError as error:
                missing.append(Missing(meter.uuid, error.reason, error.fix))
            else:
                meters.append(meter)
    return meters, missing
