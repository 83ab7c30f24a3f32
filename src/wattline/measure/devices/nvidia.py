"""NVIDIA devices through NVML: the energy counter where there is one, else its power fields added up.

Volta and later count energy (``nvmlDeviceGetTotalEnergyConsumption``, mJ since the driver was loaded). What
power readings mean differs by chip: NVML's reference says that ``nvmlDeviceGetPowerUsage`` is a mean over
1 s on Ampere (but not GA100) and later, and instant before; field 185 is that mean and field 186 the instant
where the driver has them. An instant sensor may look for only a quarter of the time (25 ms in 100 ms on
A100 and H100: Yang, Adamek, Armour, "Part-time power measurements", arXiv 2312.02741, 2023), so an integral of
instants carries the other three quarters as doubt.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from typing import Any, Final

from ..meter import Meter, MeterError, Missing, State

# NVML field ids (nvml.h): NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT.
POWER_AVERAGE: Final = 185
POWER_INSTANT: Final = 186
# NVML_DEVICE_ARCH_*: Ampere is 7 and holds GA100, Ada 8, Hopper 9.
ARCH_AMPERE: Final = 7
# The share of time that an instant sensor looks, where nothing better is known (see above).
PART_TIME: Final = 0.25
# Power goes above the limit for a moment before the limiter acts; bounds allow for it.
EXCURSION: Final = 1.1

# nvmlClocksEventReasons (nvml.h); idleness and settings of the user are not throttling.
THROTTLE: Final = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock",
}
_CAPABILITIES: Final = ("clock", "memory_clock", "temperature", "power_limit", "utilization", "throttle")


class NvidiaMeter(Meter):
    """One NVIDIA device: J from its counter, or W from its power sensor."""

    def __init__(self, nvml: Any, handle: Any, source: str, uuid: str, name: str, **facts: Any) -> None:
        super().__init__(uuid, "gpu", name, capabilities=_CAPABILITIES, **facts)
        self._nvml, self._handle, self.source = nvml, handle, source
        self.method = "counter" if source == "energy" else "power-integral"
        self._energy = nvml.nvmlDeviceGetTotalEnergyConsumption
        self._error = nvml.NVMLError

    def read(self) -> float:
        try:
            if self.source == "energy":
                return float(self._energy(self._handle)) * 1e-3
            if self.source == "usage":
                return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) * 1e-3
            return _field(self._nvml, self._handle, POWER_AVERAGE if self.source == "average" else POWER_INSTANT)
        except self._error as error:
            raise translate(self._nvml, error) from error

    def state(self) -> State:
        nvml, handle = self._nvml, self._handle

        def ask(function: str, *args: Any) -> Any:
            try:
                return getattr(nvml, function)(handle, *args)
            except (nvml.NVMLError, AttributeError):
                return None

        clock = ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        memory = ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        limit = ask("nvmlDeviceGetEnforcedPowerLimit")
        use = ask("nvmlDeviceGetUtilizationRates")
        heat = ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return State(
            clock=None if clock is None else clock * 1e6,
            memory_clock=None if memory is None else memory * 1e6,
            temperature=None if heat is None else float(heat),
            power_limit=None if limit is None else limit * 1e-3,
            utilization=None if use is None else use.gpu / 100.0,
            throttle=tuple(why for bit, why in THROTTLE.items() if (reasons or 0) & bit),
        )


def load(library: str | None = None) -> Any:
    """The NVML client, initialised; `library` (or WATTLINE_NVML) is a path instead of the system's library."""
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        raise MeterError("the NVML client is not installed", fix="pip install nvidia-ml-py") from None
    path = library or os.environ.get("WATTLINE_NVML")
    if path and pynvml.nvmlLib is None:
        try:
            pynvml.nvmlLib = ctypes.CDLL(path)
        except OSError as error:
            raise MeterError(f"{path} could not be loaded: {error}") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise translate(pynvml, error) from error
    return pynvml


def find(library: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """Every NVIDIA device this process may use, and why any other is not there."""
    try:
        nvml = load(library)
    except MeterError as error:
        return [], [Missing("nvidia", error.reason, error.fix)]
    meters: list[Meter] = []
    missing: list[Missing] = []
    try:
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        return [], [Missing("nvidia", translate(nvml, error).reason)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            if visible is not None and not _chosen(visible, index, uuid):
                missing.append(Missing(f"nvidia:{index}", f"left out by CUDA_VISIBLE_DEVICES={visible}"))
                continue
            meters.append(_meter(nvml, handle, uuid))
        except nvml.NVMLError as error:
            why = translate(nvml, error)
            missing.append(Missing(f"nvidia:{index}", why.reason, why.fix))
        except MeterError as error:
            missing.append(Missing(f"nvidia:{index}", error.reason, error.fix))
    return meters, missing


def _meter(nvml: Any, handle: Any, uuid: str) -> Meter:
    """The best sensor of one device."""
    name = _text(nvml.nvmlDeviceGetName(handle))
    facts: dict[str, Any] = {"limit": _limit(nvml, handle)}
    if _mig(nvml, handle):
        facts["reason"] = "MIG is on: this is the whole chip; the energy of one instance cannot be told from it"
        facts["flags"] = ("shared",)
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return NvidiaMeter(nvml, handle, "energy", uuid, name, **facts)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
    note = facts.pop("reason", "")
    for source, probe in (("average", POWER_AVERAGE), ("instant", POWER_INSTANT)):
        try:
            _field(nvml, handle, probe)
        except (nvml.NVMLError, MeterError, AttributeError):
            continue
        if source == "average":
            why = "no energy counter; the driver's 1 s mean power is added up"
            return NvidiaMeter(nvml, handle, source, uuid, name, averaging=1.0, reason=_and(note, why), **facts)
        break
    nvml.nvmlDeviceGetPowerUsage(handle)
    if _architecture(nvml, handle) > ARCH_AMPERE:
        why = "no energy counter; 1 s mean power is added up"
        return NvidiaMeter(nvml, handle, "usage", uuid, name, averaging=1.0, reason=_and(note, why), **facts)
    why = "no energy counter; instant power is added up, and what it does not look at is in the interval"
    return NvidiaMeter(nvml, handle, "usage", uuid, name, observed=PART_TIME, reason=_and(note, why), **facts)


def translate(nvml: Any, error: Any) -> MeterError:
    """An NVML error as one sentence, and what would fix it."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return MeterError("libnvidia-ml.so.1 was not found: no NVIDIA driver on this machine")
    if code == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return MeterError("the NVIDIA driver is not loaded", fix="sudo modprobe nvidia")
    if code == nvml.NVML_ERROR_GPU_IS_LOST:
        return MeterError("the device is lost", fix="sudo nvidia-smi --gpu-reset, or restart the machine", lost=True)
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return MeterError("no permission to read the device", fix="add the user to the group that owns /dev/nvidia*")
    if code == nvml.NVML_ERROR_NOT_SUPPORTED:
        return MeterError("the device has no such sensor")
    return MeterError(f"NVML: {error}")


def _field(nvml: Any, handle: Any, field: int) -> float:
    """A power field in W."""
    value = nvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    if value.nvmlReturn != 0:
        raise MeterError(f"field {field} is not available (NVML code {value.nvmlReturn})")
    return float(value.value.uiVal) * 1e-3


def _limit(nvml: Any, handle: Any) -> float | None:
    """The most the device may be set to draw, with room for excursions, W."""
    try:
        return float(nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1]) * 1e-3 * EXCURSION
    except nvml.NVMLError:
        pass
    try:
        return float(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)) * 1e-3 * EXCURSION
    except nvml.NVMLError:
        return None


def _mig(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0] == 1)
    except nvml.NVMLError:
        return False


def _architecture(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetArchitecture(handle))
    except nvml.NVMLError:
        return 0


def _chosen(visible: str, index: int, uuid: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES names this device; as CUDA does, it stops at the first invalid entry."""
    for entry in visible.split(","):
        entry = entry.strip()
        if entry.startswith("MIG-"):
            return True  # an instance of some chip; the whole chip is measured, and says so
        if entry == str(index) or (entry.startswith("GPU-") and uuid.startswith(entry)):
            return True
        if not entry or entry == "-1":
            return False
    return False


def _and(*sentences: str) -> str:
    return "; ".join(s for s in sentences if s)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
