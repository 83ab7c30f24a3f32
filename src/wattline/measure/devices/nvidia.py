"""NVIDIA devices through NVML: the energy counter where there is one, else its power fields added up.

Volta and later count energy (``nvmlDeviceGetTotalEnergyConsumption``, mJ since the driver was loaded). What
power readings mean differs by chip: NVML's reference says that ``nvmlDeviceGetPowerUsage`` is a mean over
1 s on Ampere (but not GA100) and later, and instant before; field 185 is that mean and field 186 the instant
where the driver has them. An instant sensor may look for only a quarter of the time (25 ms in 100 ms on
A100 and H100: Yang, Adamek, Armour, "Part-time power measurements", arXiv 2312.02741, 2023), so an integral of
instants carries the other three quarters as doubt.

A process that sees an instance of MIG is given its share of the chip, see `mig`. One device that is sick is missing or
flagged by itself and takes no other with it.
"""

from __future__ import annotations

import os
from typing import Any, Final

from ..meter import Meter, MeterError, Missing, State
from . import mig
from .nvml import POWER_AVERAGE, POWER_INSTANT, ask, field, first, guarded, load, text, translate
from .visible import Chosen, choose

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
# The older call goes in CUDA 14 (nvml.h), so the newer is asked first.
REASONS: Final = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
_CAPABILITIES: Final = ("clock", "memory_clock", "temperature", "power_limit", "utilization", "throttle", "memory")
# What a power source is called in the file of sensors.
_KINDS: Final = {"energy": "nvidia:energy", "average": "nvidia:average", "instant": "nvidia:instant"}


class NvidiaMeter(Meter):
    """One NVIDIA device: J from its counter, or W from its power sensor."""

    def __init__(self, nvml: Any, handle: Any, source: str, uuid: str, name: str, **facts: Any) -> None:
        super().__init__(uuid, "gpu", name, capabilities=_CAPABILITIES, **facts)
        self._nvml, self._handle, self.source = nvml, handle, source
        self.kind = _KINDS.get(source, "nvidia:usage-average" if self.averaging else "nvidia:usage")
        self.method = "counter" if source == "energy" else "power-integral"
        self._energy = nvml.nvmlDeviceGetTotalEnergyConsumption
        self._error = nvml.NVMLError

    def read(self) -> float:
        try:
            if self.source == "energy":
                return float(self._energy(self._handle)) * 1e-3
            if self.source == "usage":
                return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) * 1e-3
            return field(self._nvml, self._handle, POWER_AVERAGE if self.source == "average" else POWER_INSTANT)
        except self._error as error:
            raise translate(self._nvml, error) from error

    def state(self) -> State:
        nvml, handle = self._nvml, self._handle
        clock = ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM)
        memory = ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM)
        limit = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
        use = ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
        heat = ask(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU)
        held = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
        reasons = first(nvml, REASONS, handle)
        return State(
            clock=None if clock is None else clock * 1e6,
            memory_clock=None if memory is None else memory * 1e6,
            temperature=None if heat is None else float(heat),
            power_limit=None if limit is None else limit * 1e-3,
            utilization=None if use is None else use.gpu / 100.0,
            memory_used=None if held is None else float(held.used),
            memory_total=None if held is None else float(held.total),
            throttle=tuple(why for bit, why in THROTTLE.items() if (reasons or 0) & bit),
            unknown=() if reasons is not None else ("throttle",),
            processes=_processes(nvml, handle),
        )


def find(library: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """Every NVIDIA device this process may use, in the order it sees them, and why any other is not there."""
    try:
        nvml = load(library)
        count = int(guarded(nvml, nvml.nvmlDeviceGetCount))
    except MeterError as error:
        return [], [Missing("nvidia", error.reason, error.fix)]
    missing: list[Missing] = []
    handles: dict[int, tuple[Any, str]] = {}
    for index in range(count):
        try:
            handle = guarded(nvml, lambda index=index: nvml.nvmlDeviceGetHandleByIndex(index))  # type: ignore[misc]
            handles[index] = handle, text(guarded(nvml, lambda handle=handle: nvml.nvmlDeviceGetUUID(handle)))  # type: ignore[misc]
        except MeterError as error:
            missing.append(Missing(f"nvidia:{index}", error.reason, error.fix))
    names = {index: text(ask(nvml, "nvmlDeviceGetName", handle) or "") for index, (handle, _) in handles.items()}
    chosen, left = choose(os.environ, {index: uuid for index, (_, uuid) in handles.items()}, names)
    missing += left
    meters: list[Meter] = []
    for pick in chosen:
        try:
            if pick.instance:
                meters.append(_instance(nvml, pick.instance))
            else:
                whole = _whole(nvml, *handles[pick.index], pick)
                meters += [whole, *_instances(nvml, handles[pick.index][0], whole)]
        except MeterError as error:
            missing.append(Missing(pick.instance or f"nvidia:{pick.index}", error.reason, error.fix))
        except Exception as error:  # one sick device must not hide the others
            missing.append(Missing(pick.instance or f"nvidia:{pick.index}", f"{type(error).__name__}: {error}"))
    return meters, missing


def _whole(nvml: Any, handle: Any, uuid: str, pick: Chosen) -> Meter:
    """The best sensor of one device."""
    facts: dict[str, Any] = {"limit": _limit(nvml, handle), "labels": _labels(nvml, handle, pick.index)}
    notes = [pick.note] if pick.note else []
    if mig.on(nvml, handle):
        notes.append("MIG is on: this is the whole chip, with every instance on it")
        facts["flags"] = ("shared",)
    return _sensor(nvml, handle, uuid, text(nvml.nvmlDeviceGetName(handle)), notes, facts)


def _instance(nvml: Any, uuid: str) -> Meter:
    """An instance of MIG: the chip's own sensor, of which it is given its share."""
    slice_ = guarded(nvml, lambda: mig.find(nvml, uuid))
    index = ask(nvml, "nvmlDeviceGetIndex", slice_.chip)
    facts: dict[str, Any] = {
        "limit": _limit(nvml, slice_.chip),
        "labels": {**_labels(nvml, slice_.chip, -1 if index is None else int(index)), "mig": uuid},
        "flags": ("shared",),
        "share": slice_.share,
        "element": f"mig:{uuid}",
    }
    name = f"{text(nvml.nvmlDeviceGetName(slice_.chip))} MIG {slice_.name}"
    return _sensor(nvml, slice_.chip, uuid, name, [slice_.reason], facts)


def _instances(nvml: Any, chip: Any, whole: Meter) -> list[Meter]:
    """The instances on a chip that is seen whole, each inside it; read beside windows, for there may be many."""
    found = []
    for uuid in mig.uuids(nvml, chip) if mig.on(nvml, chip) else ():
        meter = _instance(nvml, uuid)
        meter.slow, meter.fed_by = True, (whole.element,)
        found.append(meter)
    return found


def _sensor(nvml: Any, handle: Any, uuid: str, name: str, notes: list[str], facts: dict[str, Any]) -> Meter:
    """A meter through the energy counter; where that fails, through whatever power can be read."""
    try:
        guarded(nvml, lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)))
        return NvidiaMeter(nvml, handle, "energy", uuid, name, reason="; ".join(notes), **facts)
    except MeterError as error:
        if error.lost:
            raise
        why = "no energy counter" if "no such" in error.reason else f"the energy counter fails ({error.reason})"
    for source, number in (("average", POWER_AVERAGE), ("instant", POWER_INSTANT)):
        try:
            guarded(nvml, lambda number=number: field(nvml, handle, number))  # type: ignore[misc]
        except MeterError:
            continue
        if source == "average":
            reason = "; ".join([*notes, f"{why}; the driver's 1 s mean power is added up"])
            return NvidiaMeter(nvml, handle, source, uuid, name, averaging=1.0, reason=reason, **facts)
        break
    guarded(nvml, lambda: float(nvml.nvmlDeviceGetPowerUsage(handle)))
    if (ask(nvml, "nvmlDeviceGetArchitecture", handle) or 0) > ARCH_AMPERE:
        reason = "; ".join([*notes, f"{why}; 1 s mean power is added up"])
        return NvidiaMeter(nvml, handle, "usage", uuid, name, averaging=1.0, reason=reason, **facts)
    reason = "; ".join([*notes, f"{why}; instant power is added up, and what it does not look at is in the interval"])
    return NvidiaMeter(nvml, handle, "usage", uuid, name, observed=PART_TIME, reason=reason, **facts)


def _labels(nvml: Any, handle: Any, index: int) -> dict[str, str]:
    """What joins a device with other tools' figures: index, PCI address, minor number of its file, driver."""
    found = {"index": str(index)} if index >= 0 else {}
    pci = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        # NVML writes a domain of eight digits, sysfs and the kernel one of four.
        domain, _, rest = text(pci.busId).lower().partition(":")
        found["pci"] = f"{domain[-4:]}:{rest}"
    minor = ask(nvml, "nvmlDeviceGetMinorNumber", handle)
    if minor is not None:
        found["device"] = f"nvidia{minor}"
    driver = ask(nvml, "nvmlSystemGetDriverVersion")
    if driver is not None:
        found["driver"] = text(driver)
    mode = ask(nvml, "nvmlDeviceGetPersistenceMode", handle)
    if mode is not None:
        found["persistence"] = "on" if mode else "off"
    return found


def _processes(nvml: Any, handle: Any) -> tuple[int, ...]:
    """Processes that compute or draw on the device."""
    found: set[int] = set()
    for function in ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"):
        found |= {int(process.pid) for process in ask(nvml, function, handle) or ()}
    return tuple(sorted(found))


def _limit(nvml: Any, handle: Any) -> float | None:
    """The most the device may be set to draw, with room for excursions, W."""
    span = ask(nvml, "nvmlDeviceGetPowerManagementLimitConstraints", handle)
    most = span[1] if span is not None else ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    return None if most is None else float(most) * 1e-3 * EXCURSION
