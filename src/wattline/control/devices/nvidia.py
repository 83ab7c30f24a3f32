"""Knobs of NVIDIA devices through NVML: power management limit, locked core clocks, locked memory clocks.

NVML's reference ("Device commands"): limits are in mW and setting them needs root; locked clocks (Volta and later)
are in MHz and NVML has no call that reads the lock, so a lock is taken to be what was last set here, unless the
device is seen to run faster than that. The enforced limit is the least of all limiters; nothing is set above it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ...measure.devices.nvml import load
from ...measure.devices.nvml import text as _text
from ...measure.meter import MeterError, Missing
from ..leases.actuator import Actuator, ControlError, Knob, Range

# A clock reading may sit one step of the clock table (15 MHz) from the lock.
CLOCK_STEP: Final = 15e6
# The driver keeps limits in whole watts on some boards.
LIMIT_STEP: Final = 0.5
# How long a lower clock may take to be seen: looked for every 2 ms, given up after 50 ms.
SEEN_STEP, SEEN_SECONDS = 0.002, 0.05
# Setting a clock takes some ten milliseconds on data-centre devices (Perseus, arXiv 2312.06902, section 5, gives
# 10 to 20 ms for A100), so a plan that switches must not switch faster.
LATENCY: Final = 0.02
_SET: Final[dict[str, str]] = {"clock": "Gpu", "memory_clock": "Memory"}


class NvidiaActuator(Actuator):
    """One NVIDIA device."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, name: str) -> None:
        super().__init__(uuid, name, latency=LATENCY)
        self._nvml, self._handle = nvml, handle
        self._ranges: dict[Knob, Range] | None = None
        self._locks: dict[Knob, float] = {}

    def knobs(self) -> Mapping[Knob, Range]:
        if self._ranges is None:
            self._ranges = self._find_ranges()
        return self._ranges

    def read(self, knob: Knob) -> float | None:
        self.range(knob)
        if knob == "power_limit":
            return float(self._call("nvmlDeviceGetPowerManagementLimit")) * 1e-3
        lock = self._locks.get(knob)
        now = self._running(knob)
        return now if lock is not None and now > lock + CLOCK_STEP else lock

    def write(self, knob: Knob, value: float | None) -> None:
        self.range(knob)
        if knob == "power_limit":
            if value is None:
                raise ControlError("unsupported", "a power limit is always in force and cannot be let go")
            self._call("nvmlDeviceSetPowerManagementLimit", round(value * 1e3))
            return
        kind = _SET[knob]
        if value is None:
            self._call(f"nvmlDeviceReset{kind}LockedClocks")
            self._locks.pop(knob, None)
            return
        mhz = round(value * 1e-6)
        self._call(f"nvmlDeviceSet{kind}LockedClocks", mhz, mhz)
        self._locks[knob] = value

    def observe(self, knob: Knob, asked: float | None) -> float | None:
        """A limit is read back; of a clock, that the device does not run faster than the lock (slower may be heat)."""
        if knob == "power_limit" or asked is None:
            return self.read(knob) if knob == "power_limit" else None
        until = time.monotonic() + SEEN_SECONDS
        while (now := self._running(knob)) > asked + CLOCK_STEP:
            if time.monotonic() > until:
                return now
            time.sleep(SEEN_STEP)
        return asked

    def ceiling(self, knob: Knob) -> float:
        if knob != "power_limit":
            return self.range(knob).high
        set_, enforced = self.read(knob), float(self._call("nvmlDeviceGetEnforcedPowerLimit")) * 1e-3
        return enforced if set_ is None else min(set_, enforced)

    def _running(self, knob: Knob) -> float:
        kind = self._nvml.NVML_CLOCK_SM if knob == "clock" else self._nvml.NVML_CLOCK_MEM
        return float(self._call("nvmlDeviceGetClockInfo", kind)) * 1e6

    def _find_ranges(self) -> dict[Knob, Range]:
        """What this device has; a knob that it does not support is left out."""
        found: dict[Knob, Range] = {}
        try:
            low, high = self._call("nvmlDeviceGetPowerManagementLimitConstraints")
            self._call("nvmlDeviceGetPowerManagementLimit")
            found["power_limit"] = Range(low=low * 1e-3, high=high * 1e-3, step=LIMIT_STEP)
        except ControlError as error:
            _unless_unsupported(error)
        try:
            memory = sorted(self._call("nvmlDeviceGetSupportedMemoryClocks"))
            core = sorted(self._call("nvmlDeviceGetSupportedGraphicsClocks", memory[-1])) if memory else []
        except ControlError as error:
            _unless_unsupported(error)
            return found
        for knob, mhz in (("clock", core), ("memory_clock", memory)):
            if mhz:
                values = tuple(m * 1e6 for m in mhz)
                found[knob] = Range(low=values[0], high=values[-1], choices=values, step=1e6, readable=False)  # type: ignore[index]
        return found

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise translate(self._nvml, error, self.uuid) from error


def find(library: str | None = None) -> tuple[list[Actuator], list[Missing]]:
    """Every NVIDIA device of this machine; constructing them sets nothing.

    CUDA_VISIBLE_DEVICES plays no part: a daemon serves the whole machine.
    """
    try:
        nvml = load(library)
        found: list[Actuator] = []
        missing: list[Missing] = []
        for index in range(int(nvml.nvmlDeviceGetCount())):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
                found.append(NvidiaActuator(nvml, handle, uuid, name))
            except nvml.NVMLError as error:
                why = translate(nvml, error, f"nvidia:{index}")
                missing.append(Missing(f"nvidia:{index}", why.reason, why.fix))
        return found, missing
    except MeterError as error:
        return [], [Missing("nvidia", error.reason, error.fix)]


def translate(nvml: Any, error: Any, device: str) -> ControlError:
    """An NVML error as one sentence, and what would mend it."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return ControlError("permission", f"no permission to set {device}", "ask `wattline daemon`, or run as root")
    if code == nvml.NVML_ERROR_GPU_IS_LOST:
        return ControlError("lost", f"the device {device} is lost", "sudo nvidia-smi --gpu-reset, or restart")
    if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
        return ControlError("unsupported", f"{device} does not support this")
    if code == nvml.NVML_ERROR_INVALID_ARGUMENT:
        return ControlError("range", f"{device} does not take this value")
    return ControlError("device", f"{device}: NVML: {error}")


def _unless_unsupported(error: ControlError) -> None:
    if error.code != "unsupported":
        raise error
