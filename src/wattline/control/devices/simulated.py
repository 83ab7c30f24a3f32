"""A GPU that obeys its knobs: the double for tests, examples and tuners, with its energy counter and the truth.

    power(f) = idle + switching * (f / f_max) * (V(f) / V(f_max))^2        V flat below a knee, then a straight line
    seconds of one unit of work = compute * f_max / f + memory * m_max / m

A power limit lowers f until the power fits, as the firmware of a device does. The knobs may live in a file, so that
a device outlives the process that set it, which is what a test of a killed process needs.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from ...measure.meter import Meter, MeterError, State
from ..leases.actuator import Actuator, ControlError, Knob, Range

Clock = Callable[[], float]
Fault = Literal["", "permission", "lost", "clamp"]

# Steps of a clock, Hz; NVIDIA devices list their clocks every 15 MHz.
STEP: Final = 15e6
_CLOCKS: Final = tuple(210e6 + STEP * k for k in range(119))  # 210 to 1980 MHz, as of an H100 SXM
_MEMORY: Final = (1.593e9, 2.619e9)
_KNOBS: Final[tuple[Knob, ...]] = ("power_limit", "clock", "memory_clock")


class SimulatedGpu(Actuator):
    """A device of invented constants (those of a large accelerator, rounded) that obeys its knobs.

    idle, switching : W. knee : share of the highest clock below which the voltage no longer falls.
    found : the power limit that an administrator left in force, W.
    latency : seconds that a write takes. clock : seconds; a virtual one lets a test run in no time.
    state : a file for the knobs, shared by every process that names it.
    """

    def __init__(
        self,
        uuid: str = "SIM-0",
        name: str = "Simulated GPU",
        *,
        idle: float = 100.0,
        switching: float = 600.0,
        knee: float = 0.5,
        low: float = 200.0,
        high: float = 700.0,
        found: float = 700.0,
        latency: float = 0.0,
        clock: Clock = time.monotonic,
        state: Path | None = None,
    ) -> None:
        super().__init__(uuid, name, latency=latency)
        self.quick = latency == 0.0
        self.idle, self.switching, self.knee = idle, switching, knee
        self.fault: Fault = ""
        self._clock = clock
        self._lock = threading.RLock()
        self._ranges: dict[Knob, Range] = {
            "power_limit": Range(low=low, high=high, step=1e-3),
            "clock": Range(low=_CLOCKS[0], high=_CLOCKS[-1], choices=_CLOCKS, step=1e6),
            "memory_clock": Range(low=_MEMORY[0], high=_MEMORY[-1], choices=_MEMORY, step=1e6),
        }
        self._knobs = _Kept(state, {"power_limit": found, "clock": None, "memory_clock": None})
        self._joules, self._since, self._busy = 0.0, clock(), False
        self.writes = 0

    # ---- the knobs ----

    def knobs(self) -> Mapping[Knob, Range]:
        return self._ranges

    def read(self, knob: Knob) -> float | None:
        self._gate()
        return self._knobs[knob]

    def write(self, knob: Knob, value: float | None) -> None:
        self._gate()
        if self.fault == "permission":
            raise ControlError("permission", f"no permission to set {knob} of {self.uuid}", "run as root")
        if self.latency:
            time.sleep(self.latency)
        if self.fault == "clamp" and knob == "power_limit" and value is not None:
            value = max(value, 0.5 * self.range(knob).high)
        with self._lock:
            self._settle()
            self._knobs[knob] = value
            self.writes += 1

    def _gate(self) -> None:
        if self.fault == "lost":
            raise ControlError("lost", f"the device {self.uuid} is lost", "reset it, or restart the machine")

    # ---- the truth ----

    def speed(self, setting: Mapping[Knob, float | None] | None = None) -> float:
        """The core clock in Hz at which the device runs under a setting (the one in force where None)."""
        limit, clock, _ = self._in_force(setting)
        fits = [f for f in _CLOCKS if f <= clock + 1.0 and self.power(f) <= limit + 1e-9]
        return fits[-1] if fits else _CLOCKS[0]

    def power(self, clock: float) -> float:
        """Watts when busy at a core clock."""
        top = _CLOCKS[-1]
        volts = max(self.knee, clock / top)
        return self.idle + self.switching * clock / top * volts * volts

    def seconds(self, compute: float, memory: float = 0.0, setting: Mapping[Knob, float | None] | None = None) -> float:
        """How long work takes that needs `compute` + `memory` s at the highest clocks."""
        return compute * _CLOCKS[-1] / self.speed(setting) + memory * _MEMORY[-1] / self._in_force(setting)[2]

    def joules(self, compute: float, memory: float = 0.0, setting: Mapping[Knob, float | None] | None = None) -> float:
        """What that work takes."""
        return self.seconds(compute, memory, setting) * self.power(self.speed(setting))

    def _in_force(self, setting: Mapping[Knob, float | None] | None) -> tuple[float, float, float]:
        held: dict[Knob, float | None] = {knob: self._knobs[knob] for knob in _KNOBS} | dict(setting or {})
        limit, clock, memory = (held[k] for k in _KNOBS)
        return (
            self._ranges["power_limit"].high if limit is None else limit,
            _CLOCKS[-1] if clock is None else clock,
            _MEMORY[-1] if memory is None else memory,
        )

    # ---- work and the counter ----

    @property
    def watts(self) -> float:
        """Watts now."""
        return self.power(self.speed()) if self._busy else self.idle

    def work(self, compute: float, memory: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> float:
        """Do work under the settings in force and return the seconds; `sleep` is how time passes."""
        span = self.seconds(compute, memory)
        self.busy(True)
        try:
            sleep(span)
        finally:
            self.busy(False)
        return span

    def busy(self, on: bool) -> None:
        """Begin or end work; what runs in another process than the device says so with this."""
        with self._lock:
            self._settle()
            self._busy = on

    def energy(self) -> float:
        """J drawn since the device was made."""
        with self._lock:
            self._settle()
            return self._joules

    def _settle(self) -> None:
        now = self._clock()
        self._joules += self.watts * max(0.0, now - self._since)
        self._since = now

    def meter(self, quantum: float = 1e-3) -> Meter:
        """Its energy counter, for a `Monitor`; J in steps of `quantum`."""
        return _Counter(self, quantum)


class _Counter(Meter):
    """The energy counter of a simulated device."""

    def __init__(self, gpu: SimulatedGpu, quantum: float) -> None:
        super().__init__(gpu.uuid, "gpu", gpu.name, limit=gpu.range("power_limit").high, period=1e-3)
        self._gpu, self._quantum = gpu, quantum

    def read(self) -> float:
        if self._gpu.fault == "lost":
            raise MeterError("the device is lost", lost=True)
        return int(self._gpu.energy() / self._quantum) * self._quantum

    def state(self) -> State:
        gpu = self._gpu
        if gpu.fault == "lost":
            return State()
        heat = 30.0 + 0.07 * gpu.watts
        return State(clock=gpu.speed(), power_limit=gpu._knobs["power_limit"], temperature=heat)


class _Kept:
    """The values of the knobs, in memory or in a file mapped into it; NaN in the file is None."""

    def __init__(self, path: Path | None, first: Mapping[Knob, float | None]) -> None:
        self._memory: dict[Knob, float | None] = dict(first)
        self._map: mmap.mmap | None = None
        if path is None:
            return
        if not path.exists():
            path.write_bytes(b"".join(struct.pack("d", float("nan") if v is None else v) for v in first.values()))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * len(_KNOBS))

    def __getitem__(self, knob: Knob) -> float | None:
        if self._map is None:
            return self._memory[knob]
        value: float = struct.unpack_from("d", self._map, 8 * _KNOBS.index(knob))[0]
        return None if value != value else value

    def __setitem__(self, knob: Knob, value: float | None) -> None:
        if self._map is None:
            self._memory[knob] = value
        else:
            struct.pack_into("d", self._map, 8 * _KNOBS.index(knob), float("nan") if value is None else value)


def main() -> None:
    """Stand-in for a program: ``python -m wattline.control.devices.simulated COMPUTE MEMORY``, in s."""
    import os
    import sys

    state = os.environ.get("WATTLINE_SIMULATED", "")
    gpu = SimulatedGpu(state=Path(state) if state else None)
    compute, memory = (float(word) for word in (*sys.argv[1:], "0", "0")[:2])
    time.sleep(gpu.seconds(compute, memory))


if __name__ == "__main__":
    main()
