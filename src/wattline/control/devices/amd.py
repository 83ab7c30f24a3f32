"""Knobs of AMD GPUs: the power cap and, where levels are listed, the highest core and memory clock, through sysfs.

The amdgpu driver's files (kernel document gpu/amdgpu/thermal): hwmon ``power1_cap`` in uW with its ``_min`` and
``_max``; ``pp_dpm_sclk`` and ``pp_dpm_mclk`` list clock levels and take the numbers of those allowed, once
``power_dpm_force_performance_level`` is "manual". Which levels are allowed cannot be read back. Where ROCm's amdsmi
is installed the cap goes through it (amdsmi reference, ``amdsmi_set_power_cap``, uW); clocks are the same files.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...measure.devices import hwmon
from ...measure.devices.files import number, word
from ...measure.meter import Missing
from ..leases.actuator import Actuator, ControlError, Knob, Range
from .files import read_number, read_text, write_text

_LEVEL: Final = re.compile(r"^\s*([0-9]+):\s*([0-9.]+)\s*Mhz", re.IGNORECASE | re.MULTILINE)
_TABLES: Final[dict[Knob, str]] = {"clock": "pp_dpm_sclk", "memory_clock": "pp_dpm_mclk"}
_MODE: Final = "power_dpm_force_performance_level"


class AmdActuator(Actuator):
    """One AMD device by its files; `cap` replaces the file of the power cap where amdsmi is used."""

    def __init__(self, folder: Path, uuid: str, cap: _Cap | None = None) -> None:
        super().__init__(uuid, f"AMD GPU {uuid}")
        self._device = folder / "device"
        self._cap = cap or _FileCap(folder, uuid)
        self._ranges: dict[Knob, Range] | None = None
        self._levels: dict[Knob, list[tuple[int, float]]] = {}
        self._locks: dict[Knob, float] = {}

    def knobs(self) -> Mapping[Knob, Range]:
        if self._ranges is None:
            self._ranges = {}
            bounds = self._cap.bounds()
            if bounds is not None:
                # The driver keeps whole watts.
                self._ranges["power_limit"] = Range(low=bounds[0], high=bounds[1], step=0.5)
            for knob, name in _TABLES.items():
                found = _LEVEL.findall(word(self._device / name))
                self._levels[knob] = [(int(level), float(mhz) * 1e6) for level, mhz in found]
                if clocks := tuple(sorted({hz for _, hz in self._levels[knob]})):
                    self._ranges[knob] = Range(
                        low=clocks[0], high=clocks[-1], choices=clocks, step=0.5e6, readable=False
                    )
        return self._ranges

    def read(self, knob: Knob) -> float | None:
        self.range(knob)
        if knob == "power_limit":
            return self._cap.read()
        mode = read_text(self._device / _MODE, self.uuid)
        if mode == "auto":
            self._locks.clear()
            return None
        if knob not in self._locks and not self._locks:
            raise ControlError(
                "conflict",
                f"the clocks of {self.uuid} are already forced ({_MODE} is {mode!r}), and how cannot be read",
                f"set {_MODE} to auto first",
            )
        return self._locks.get(knob)

    def write(self, knob: Knob, value: float | None) -> None:
        self.range(knob)
        if knob == "power_limit":
            self._cap.write(self.range(knob).high if value is None else value)
            return
        if value is None:
            self._locks.pop(knob, None)
            if not self._locks:
                write_text(self._device / _MODE, "auto", self.uuid)
                return
            value = self.range(knob).high
        else:
            self._locks[knob] = value
        write_text(self._device / _MODE, "manual", self.uuid)
        allowed = [str(level) for level, hz in self._levels[knob] if hz <= value + 0.5e6]
        write_text(self._device / _TABLES[knob], " ".join(allowed), self.uuid)


class _Cap:
    """Where the power cap is kept, W."""

    def bounds(self) -> tuple[float, float] | None:
        raise NotImplementedError

    def read(self) -> float:
        raise NotImplementedError

    def write(self, watts: float) -> None:
        raise NotImplementedError


class _FileCap(_Cap):
    """The cap in hwmon's files."""

    def __init__(self, folder: Path, uuid: str) -> None:
        self._folder, self._uuid = folder, uuid

    def bounds(self) -> tuple[float, float] | None:
        low, high = number(self._folder / "power1_cap_min"), number(self._folder / "power1_cap_max")
        return None if high is None else ((low or 0.0) * 1e-6, high * 1e-6)

    def read(self) -> float:
        return read_number(self._folder / "power1_cap", self._uuid) * 1e-6

    def write(self, watts: float) -> None:
        write_text(self._folder / "power1_cap", str(round(watts * 1e6)), self._uuid)


class _SmiCap(_Cap):
    """The cap through amdsmi."""

    def __init__(self, smi: Any, handle: Any, uuid: str) -> None:
        self._smi, self._handle, self._uuid = smi, handle, uuid

    def bounds(self) -> tuple[float, float] | None:
        found = self._ask()
        return float(found["min_power_cap"]) * 1e-6, float(found["max_power_cap"]) * 1e-6

    def read(self) -> float:
        return float(self._ask()["power_cap"]) * 1e-6

    def write(self, watts: float) -> None:
        try:
            self._smi.amdsmi_set_power_cap(self._handle, 0, round(watts * 1e6))
        except Exception as error:
            raise self._translate(error) from error

    def _ask(self) -> Any:
        try:
            return self._smi.amdsmi_get_power_cap_info(self._handle)
        except Exception as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> ControlError:
        text = f"{type(error).__name__}: {error}"
        if "NO_PERM" in text or "PERM" in text.upper():
            return ControlError("permission", f"no permission to set {self._uuid}", "ask `wattline daemon`")
        return ControlError("device", f"{self._uuid}: amdsmi: {text}")


def find(root: Path = hwmon.ROOT, smi: Any = None) -> tuple[list[Actuator], list[Missing]]:
    """AMD devices that have a knob; `smi` is the amdsmi module, imported if not given."""
    missing: list[Missing] = []
    caps = _smi_caps(smi, missing)
    found: list[Actuator] = []
    try:
        folders = sorted(root.iterdir())
    except OSError:
        return [], missing
    for folder in folders:
        if word(folder / "name") != "amdgpu":
            continue
        device = folder / "device"
        base = word(device / "unique_id") or (device.resolve().name if device.exists() else folder.name)
        actuator = AmdActuator(folder, f"amdgpu:{base}", caps.get(base.removeprefix("0x").lower()))
        if actuator.knobs():
            found.append(actuator)
        else:
            missing.append(Missing(actuator.uuid, "the driver shows neither a power cap nor clock levels"))
    return found, missing


def _smi_caps(smi: Any, missing: list[Missing]) -> dict[str, _Cap]:
    """Caps by the device's unique id in hexadecimal."""
    try:
        smi = smi or importlib.import_module("amdsmi")
    except (ImportError, KeyError, OSError):
        return {}
    caps: dict[str, _Cap] = {}
    try:
        smi.amdsmi_init()
        for handle in smi.amdsmi_get_processor_handles():
            serial = str(smi.amdsmi_get_gpu_asic_info(handle)["asic_serial"]).removeprefix("0x").lower()
            caps[serial] = _SmiCap(smi, handle, f"amdgpu:{serial}")
    except Exception as error:
        missing.append(Missing("amdsmi", f"failed: {error}"))
    return caps
