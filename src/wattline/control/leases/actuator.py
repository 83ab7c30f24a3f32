"""An actuator is one device's knobs: what can be set, what is in force, and how to set it.

    range.check(value)  ->  write(knob, value)  ->  observe(knob)  is compared with what was asked
                                 |
               value None lets the device choose again: no lock

An implementer writes `knobs`, `read` and `write`; the rest is given. Nothing here decides who may set what, remembers
what was found or puts it back: that is the work of `keeper`, the same for every kind of device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from ...core.errors import InputError, WattlineError, nearest
from ...core.units import show

Knob = Literal["power_limit", "clock", "memory_clock", "module_power_limit", "power_profile", "power_smoothing"]
Setting = Mapping[Knob, float | None]

# A profile of workloads is a number of NVML's, smoothing is 0 or 1; both are without a unit.
KNOBS: Final[tuple[Knob, ...]] = (
    "power_limit",
    "clock",
    "memory_clock",
    "module_power_limit",
    "power_profile",
    "power_smoothing",
)
UNITS: Final[dict[Knob, str]] = {
    "power_limit": "W",
    "clock": "Hz",
    "memory_clock": "Hz",
    "module_power_limit": "W",
    "power_profile": "",
    "power_smoothing": "",
}


def say(knob: Knob, value: float) -> str:
    """A value of a knob for a person.

    >>> say("power_limit", 250.0), say("power_profile", 6.0)
    ('250 W', '6')
    """
    return show(value, UNITS[knob], 4) if UNITS[knob] else f"{value:g}"


# Why a change was refused or failed, as a program reads it; the same words go over the daemon's socket.
Code = Literal[
    "range",  # outside what the device can do, or above the administrator's limit
    "unsupported",  # the device has no such knob
    "denied",  # the policy does not allow it
    "permission",  # the driver does not allow it to this process
    "lost",  # the device is gone
    "clamped",  # the device took another value than it was asked for
    "conflict",  # another tool changed the same knob
    "busy",  # someone else holds the device
    "stale",  # the lease is over
    "budget",  # the shared power budget has too little left
    "rate",  # too many changes in too short a time
    "journal",  # what was found could not be recorded, so nothing may be changed
    "unknown",  # no such device or lease
    "malformed",  # a message that is none
    "version",  # a message of another version of the protocol
    "device",  # the driver failed in another way
    "plan",  # a plan made for other devices, or for another schedule
    "closed",  # the daemon cannot be reached, or is going away
]


class ControlError(WattlineError):
    """A change that was refused or failed: `code` for a program, the reason for a person."""

    def __init__(self, code: Code, reason: str, fix: str = "") -> None:
        super().__init__(f"{reason}; {fix}" if fix else reason)
        self.code: Code = code
        self.reason = reason
        self.fix = fix


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """What a knob can be set to, in SI.

    Attributes
    ----------
    low, high : the least and the most the device takes.
    choices : the only values it takes, ascending; any between `low` and `high` where empty.
    step : how far from what was asked it may settle without having clamped it.
    readable : whether the device tells what is set; a clock lock of NVIDIA is set blindly.
    rounding : how far below what was asked the driver may settle by rounding to its own steps.
    """

    low: float
    high: float
    choices: tuple[float, ...] = ()
    step: float = 0.0
    readable: bool = True
    rounding: float = 0.0

    def rounds(self, asked: float | None, got: float | None) -> bool:
        """Whether `got` is what was asked, rounded down to the driver's own steps."""
        if asked is None or got is None:
            return False
        return 0 <= asked - got <= self.rounding * (1 + 1e-9)

    def check(self, knob: Knob, value: float, most: float = math.inf) -> float:
        """The value as the device takes it; one outside the range, or above `most`, is refused with the reason."""
        word = knob.replace("_", " ")
        if not math.isfinite(value):
            raise ControlError("range", f"{word} must be a finite number, got {value}")
        if not self.low - self.step <= value <= self.high + self.step:
            span = f"{say(knob, self.low)} to {say(knob, self.high)}"
            raise ControlError("range", f"{word} must lie in {span}, the device's range, got {say(knob, value)}")
        if value > most + self.step:
            raise ControlError(
                "range",
                f"{word} {say(knob, value)} is above {say(knob, most)}, the limit that was found in force",
            )
        if not self.choices:
            return min(max(value, self.low), self.high)
        close = self.nearest(value)
        if abs(close - value) > self.step:
            raise ControlError(
                "range", f"the device has no {word} {say(knob, value)}; the nearest is {say(knob, close)}"
            )
        return close

    def nearest(self, value: float) -> float:
        """The settable value closest to `value`; of two as close, the lower."""
        if self.choices:
            return min(self.choices, key=lambda c: (abs(c - value), c))
        return min(max(value, self.low), self.high)

    def spread(self, count: int, low: float | None = None) -> tuple[float, ...]:
        """`count` settable values evenly from `low` (the range's own where None) to `high`, ascending, each once."""
        start = self.low if low is None else max(low, self.low)
        step = (self.high - start) / max(1, count - 1)
        return tuple(sorted({self.nearest(self.high - step * k) for k in range(count)}))


class Actuator:
    """One device whose knobs can be set; subclasses implement `knobs`, `read` and `write`.

    **Units.** W and Hz, SI.
    **Errors.** Only `ControlError`; with code "permission", "lost", "unsupported" or "device".
    **Effects.** Constructing and reading change nothing. `write` changes one knob and nothing else.
    **Threads.** One call at a time for each device; different devices may be called from different threads.

    Attributes
    ----------
    uuid : the device, the same for as long as it exists; name : its kind, for a person and for plans.
    scope : "gpu" or "cpu", as in `measure`.
    latency : seconds from a write until it is in force, as far as is known; a caller may skip what is shorter.
    quick : a write takes microseconds, so it may be done in an event loop.
    notes : what a person should know before setting it, such as that the driver forgets settings by itself.
    """

    quick: bool = False

    def __init__(self, uuid: str, name: str = "", *, scope: str = "gpu", latency: float = 0.0) -> None:
        self.uuid = uuid
        self.name = name or uuid
        self.scope = scope
        self.latency = latency
        self.notes: tuple[str, ...] = ()

    # ---- required to implement ----

    def knobs(self) -> Mapping[Knob, Range]:
        """What can be set on this device, and to what."""
        raise NotImplementedError

    def read(self, knob: Knob) -> float | None:
        """What a knob is set to; None where nothing is set, or where the device does not tell."""
        raise NotImplementedError

    def write(self, knob: Knob, value: float | None) -> None:
        """Set a knob; None lets the device choose again."""
        raise NotImplementedError

    # ---- given ----

    def observe(self, knob: Knob, asked: float | None) -> float | None:
        """What is in force after asking for `asked`; by default what is read."""
        return self.read(knob) if self.range(knob).readable else asked

    def ceiling(self, knob: Knob) -> float:
        """The most that may be set now: a power limit that was found is the administrator's, and never exceeded."""
        if knob in ("power_limit", "module_power_limit"):
            found = self.read(knob)
            if found is not None:
                return found
        return self.range(knob).high

    def range(self, knob: Knob) -> Range:
        """The range of a knob; one that the device does not have is refused."""
        known = self.knobs()
        if knob not in known:
            if knob not in KNOBS:
                raise ControlError("unsupported", f"no knob is called {knob!r}; {nearest(knob, KNOBS)}")
            has = ", ".join(known) or "none"
            raise ControlError("unsupported", f"{self.name} ({self.uuid}) has no knob {knob}; it has {has}")
        return known[knob]

    def close(self) -> None:
        """Let go of files and handles; changes nothing on the device."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uuid!r})"


def same(a: float | None, b: float | None, step: float) -> bool:
    """Whether two values of a knob are one, up to the device's step."""
    if a is None or b is None:
        return a is b
    return abs(a - b) <= step * (1 + 1e-9) + 1e-9 * max(abs(a), abs(b))


def pick(actuators: Iterable[Actuator], device: str) -> Actuator:
    """The device of this UUID, or the only one whose UUID begins so, or the one at this place ("0")."""
    every = list(actuators)
    exact = [a for a in every if a.uuid == device]
    if exact:
        return exact[0]
    if device.isdecimal() and int(device) < len(every):
        return every[int(device)]
    begun = [a for a in every if device and a.uuid.startswith(device)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        names = ", ".join(a.uuid for a in begun)
        raise ControlError("unknown", f"more than one device begins with {device!r}: {names}")
    if not every:
        raise ControlError("unknown", "no device with knobs was found; `wattline doctor` says what is here")
    raise ControlError("unknown", f"no device is called {device!r}; {nearest(device, [a.uuid for a in every])}")


def describe(setting: Setting) -> str:
    """A setting for a person.

    >>> describe({"power_limit": 250.0, "clock": None})
    'power limit 250 W, clock free'
    """
    return ", ".join(
        f"{knob.replace('_', ' ')} {'free' if value is None else say(knob, value)}" for knob, value in setting.items()
    )


def setting_of(**knobs: float | None) -> dict[Knob, float | None]:
    """Check the names of keyword arguments; an unknown one is refused with the nearest."""
    for name in knobs:
        if name not in KNOBS:
            raise InputError(f"no knob is called {name!r}; {nearest(name, KNOBS)}")
    return {knob: knobs[knob] for knob in KNOBS if knob in knobs}
