"""AMD GPUs: the energy accumulator through amdsmi where that is installed, else the kernel's hwmon files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..meter import Meter, MeterError, Missing, State
from . import hwmon


class AmdMeter(Meter):
    """One AMD device through amdsmi: J from its accumulator."""

    kind = "amdsmi"

    def __init__(self, smi: Any, handle: Any, uuid: str, **facts: Any) -> None:
        super().__init__(uuid, "gpu", f"AMD GPU {uuid}", capabilities=("temperature", "clock"), **facts)
        self._smi, self._handle = smi, handle

    def read(self) -> float:
        try:
            count = self._smi.amdsmi_get_energy_count(self._handle)
            ticks = count.get("energy_accumulator", count.get("power"))
            # counter_resolution is microjoules per tick (amdsmi reference, amdsmi_get_energy_count).
            return float(ticks) * float(count["counter_resolution"]) * 1e-6
        except Exception as error:
            raise MeterError(f"amdsmi: {error}") from error

    def state(self) -> State:
        try:
            kind, edge = self._smi.AmdSmiTemperatureType.HOTSPOT, self._smi.AmdSmiTemperatureMetric.CURRENT
            return State(temperature=float(self._smi.amdsmi_get_temp_metric(self._handle, kind, edge)))
        except Exception:
            return State()


def find(root: Path = hwmon.ROOT, host: str | None = None, smi: Any = None) -> tuple[list[Meter], list[Missing]]:
    """AMD devices; `smi` is the amdsmi module, imported if not given."""
    drivers_left = tuple(name for name in hwmon.DRIVERS if name != "amdgpu")
    through_files = hwmon.find(root, host, leave=drivers_left)
    if smi is None:
        try:
            smi = importlib.import_module("amdsmi")
        except (ImportError, KeyError, OSError):
            meters, missing = through_files
            if meters:
                fix = "install ROCm's amdsmi to use the device's own energy accumulator"
                missing.append(Missing("amdsmi", "not installed; power is read from hwmon instead", fix))
            return meters, missing
    try:
        smi.amdsmi_init()
        meters = []
        for handle in smi.amdsmi_get_processor_handles():
            meter = AmdMeter(smi, handle, str(smi.amdsmi_get_gpu_device_uuid(handle)), host=host)
            meter.read()
            meters.append(meter)
        return list(meters), []
    except Exception as error:
        found, missing = through_files
        return found, [*missing, Missing("amdsmi", f"failed: {error}")]
