"""Knobs of NVIDIA devices through NVML: power limits, locked clocks, and what Blackwell adds.

NVML's reference ("Device commands"): limits are in mW and setting them needs root; drivers round a limit down to their
own steps, 1 W on most boards and 5 W on some, and the limit in force is what is read back. Locked clocks (Volta and
later) are a range in MHz; here they cap, from the lowest clock up, so that an idle device still rests. NVML has no call
that reads a lock, so a lock is taken to be what was last set here, unless the device is seen to run faster than that.
The enforced limit is the least of all limiters; nothing is set above it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ...measure.devices.nvml import ask, load, text
from ...measure.meter import MeterError, Missing
from ..leases.actuator import Actuator, ControlError, Knob, Range
from . import blackwell

# A clock reading may sit one step of the clock table (15 MHz) from the lock.
CLOCK_STEP: Final = 15e6
# Limits read back to half a watt are the same; a driver may round down by up to its coarsest step known to us.
LIMIT_STEP: Final = 0.5
LIMIT_ROUNDING: Final = 5.0
# How long a lower clock may take to be seen: looked for every 2 ms, given up after 50 ms.
SEEN_STEP, SEEN_SECONDS = 0.002, 0.05
# Setting a clock takes some ten milliseconds on data-centre devices (Perseus, arXiv 2312.06902, section 5, gives
# 10 to 20 ms for A100), so a plan that switches must not switch faster.
LATENCY: Final = 0.02
_SET: Final[dict[str, str]] = {"clock": "Gpu", "memory_clock": "Memory"}


class NvidiaActuator(Actuator):
    """One NVIDIA device."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, name: str, driver: Driver | None = None) -> None:
        super().__init__(uuid, name, latency=LATENCY)
        self._nvml, self._handle, self._driver = nvml, handle, driver
        self._ranges: dict[Knob, Range] | None = None
        self._locks: dict[Knob, float] = {}
        if ask(nvml, "nvmlDeviceGetPersistenceMode", handle) == 0:
            self.notes = (
                "persistence mode is off: the driver forgets limits and locks when its last client leaves; "
                "sudo nvidia-smi -pm 1",
            )

    def knobs(self) -> Mapping[Knob, Range]:
        if self._ranges is None:
            self._ranges = self._find_ranges()
        return self._ranges

    def read(self, knob: Knob) -> float | None:
        self.range(knob)
        if knob == "power_limit":
            return float(self._call("nvmlDeviceGetPowerManagementLimit")) * 1e-3
        if knob not in _SET:
            return blackwell.read(self._nvml, self._handle, knob, self._call)
        lock = self._locks.get(knob)
        now = self._running(knob)
        return now if lock is not None and now > lock + CLOCK_STEP else lock

    def write(self, knob: Knob, value: float | None) -> None:
        self.range(knob)
        if knob == "power_limit":
            if value is None:
                raise ControlError("unsupported", "a power limit is always in force and cannot be let go")
            self._call("nvmlDeviceSetPowerManagementLimit", round(value * 1e3))
        elif knob not in _SET:
            blackwell.write(self._nvml, knob, value, self._call, self._raw)
        else:
            self._lock(knob, value)

    def _lock(self, knob: Knob, value: float | None) -> None:
        """Cap a clock: from the lowest up to `value`, for a lock at one clock would keep an idle device awake."""
        kind = _SET[knob]
        try:
            if value is None:
                self._call(f"nvmlDeviceReset{kind}LockedClocks")
                self._locks.pop(knob, None)
                return
            lowest = round(self.range(knob).low * 1e-6)
            self._call(f"nvmlDeviceSet{kind}LockedClocks", lowest, round(value * 1e-6))
            self._locks[knob] = value
        except ControlError as error:
            if error.code == "unsupported" and self._ranges is not None:
                # Some devices list memory clocks and refuse to lock them; from now on the knob is not offered.
                self._ranges.pop(knob, None)
                raise ControlError(
                    "unsupported", f"{self.uuid} lists its {knob.replace('_', ' ')}s and refuses to lock them"
                ) from error
            raise

    def observe(self, knob: Knob, asked: float | None) -> float | None:
        """A limit is read back; of a clock, that the device does not run faster than the lock (slower may be heat)."""
        if knob not in _SET:
            return self.read(knob)
        if asked is None:
            return None
        until = time.monotonic() + SEEN_SECONDS
        while (now := self._running(knob)) > asked + CLOCK_STEP:
            if time.monotonic() > until:
                return now
            time.sleep(SEEN_STEP)
        return asked

    def ceiling(self, knob: Knob) -> float:
        if knob != "power_limit":
            return super().ceiling(knob)
        set_, enforced = self.read(knob), float(self._call("nvmlDeviceGetEnforcedPowerLimit")) * 1e-3
        return enforced if set_ is None else min(set_, enforced)

    def close(self) -> None:
        """Let go of the driver; the last device of a search shuts it down, so that it can be reset."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.leave()

    def _running(self, knob: Knob) -> float:
        kind = self._nvml.NVML_CLOCK_SM if knob == "clock" else self._nvml.NVML_CLOCK_MEM
        return float(self._call("nvmlDeviceGetClockInfo", kind)) * 1e6

    def _find_ranges(self) -> dict[Knob, Range]:
        """What this device has; a knob that it does not support is left out."""
        found: dict[Knob, Range] = {}
        try:
            low, high = self._call("nvmlDeviceGetPowerManagementLimitConstraints")
            self._call("nvmlDeviceGetPowerManagementLimit")
            found["power_limit"] = Range(low=low * 1e-3, high=high * 1e-3, step=LIMIT_STEP, rounding=LIMIT_ROUNDING)
        except ControlError as error:
            _unless_unsupported(error)
        found |= blackwell.ranges(self._nvml, self._handle)
        try:
            memory = sorted(self._call("nvmlDeviceGetSupportedMemoryClocks"))
            core = sorted(self._call("nvmlDeviceGetSupportedGraphicsClocks", memory[-1])) if memory else []
        except ControlError as error:
            _unless_unsupported(error)
            return found
        # With one clock in the table there is nothing to lock.
        for knob, mhz in (("clock", core), ("memory_clock", memory if len(memory) > 1 else [])):
            if mhz:
                values = tuple(m * 1e6 for m in mhz)
                found[knob] = Range(low=values[0], high=values[-1], choices=values, step=1e6, readable=False)  # type: ignore[index]
        return found

    def _raw(self, function: str, *arguments: Any) -> None:
        """A call of the library itself."""
        nvml = self._nvml
        try:
            nvml._nvmlCheckReturn(nvml._nvmlGetFunctionPointer(function)(self._handle, *arguments))
        except nvml.NVMLError as error:
            raise translate(nvml, error, self.uuid) from error

    def _call(self, function: str, *arguments: Any) -> Any:
        if self._driver is not None and self._driver.over:
            raise ControlError("lost", f"the driver of {self.uuid} was let go of")
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise translate(self._nvml, error, self.uuid) from error


class Driver:
    """One use of the library by all the devices of a search: shut down when the last of them is closed."""

    def __init__(self, nvml: Any) -> None:
        self._nvml, self._users, self.over = nvml, 0, False

    def join(self) -> Driver:
        """One more device."""
        self._users += 1
        return self

    def leave(self) -> None:
        """One device fewer."""
        self._users -= 1
        if self._users <= 0 and not self.over:
            self.over = True
            ask(self._nvml, "nvmlShutdown")


def find(library: str | None = None) -> tuple[list[Actuator], list[Missing]]:
    """Every NVIDIA device of this machine; constructing them sets nothing.

    CUDA_VISIBLE_DEVICES plays no part: a daemon serves the whole machine.
    """
    try:
        nvml = load(library)
        driver = Driver(nvml)
        found: list[Actuator] = []
        missing: list[Missing] = []
        for index in range(int(nvml.nvmlDeviceGetCount())):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid, name = text(nvml.nvmlDeviceGetUUID(handle)), text(nvml.nvmlDeviceGetName(handle))
                found.append(NvidiaActuator(nvml, handle, uuid, name, driver.join()))
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
