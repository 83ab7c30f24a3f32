"""A meter is one sensor of one scope of one device: it reads joules or watts, and says what it is.

An implementer writes `read`, and fills in what it knows of the facts below; the rest is given. Reading must be
cheap (it happens at both ends of every window) and may raise only `MeterError`. The clock, wraps,
resets, plausibility and intervals are the work of `track`, the same for every meter.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from ..core.errors import WattlineError
from .result import Method, Scope
from .sensor import Sensor

Clock = Callable[[], float]


class MeterError(WattlineError):
    """A sensor that cannot be read: why, how to fix it, and whether the device is gone for good."""

    def __init__(self, reason: str, *, fix: str = "", lost: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.lost = lost


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a device does beside drawing power; None where it does not say.

    clock, memory_clock : Hz; temperature : degrees Celsius; power_limit : W; utilization : 0 to 1;
    memory_used, memory_total : B. throttle : reasons why the clock is held down now.
    unknown : what the device should say and does not, such as "throttle". processes : ids of those that use it.
    """

    clock: float | None = None
    memory_clock: float | None = None
    temperature: float | None = None
    power_limit: float | None = None
    utilization: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    throttle: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()


class Missing(msgspec.Struct, frozen=True):
    """A sensor that is not there or cannot be used: its name, why, and the command that would fix it."""

    sensor: str
    reason: str
    fix: str = ""


NOTHING: Final = State()


class Meter:
    """One sensor; subclasses implement `read`.

    **Identity.** `host`, `uuid` and `scope` are the key: two meters with one key are the same device.
    **Thread safety.** `read` and `state` may be called from several threads at once.
    **Units.** `read` gives J when `method` is "counter", W when it is "power-integral".

    Attributes
    ----------
    period : seconds between updates where the vendor states it; None asks for a probe.
    limit : W that the device cannot exceed for long, to bound what is not seen; None if unknown.
    wrap : J at which the counter starts again from 0; None if it does not.
    observed : share of time that a power sensor looks at; the rest is bounded, not guessed.
    averaging : seconds over which a power reading is a mean, ending at the reading.
    within : keys of meters that contain this one, where they are known from the start; `contain.link` adds the others.
    element : what is measured, such as "package-0"; two meters at one element of a host measure the same.
    fed_by : the elements that feed it; those of scope "node" and then "wall" where nothing is said.
    capabilities : names of what `state` can fill in, for a person.
    flags : flags that every answer of this meter carries, such as "shared".
    slow : reading takes milliseconds or more, so it is never done at the ends of a window.
    sensor : how the sensor behaves, where more is known than the period, `observed` and `averaging`.
    share : least, estimated and most share of what is read that this scope is given; 1 where it is all its own.
    labels : what else tells this device from others, such as its PCI address, for exporters.
    """

    method: Method = "counter"
    # What `sensor.known` finds facts by; "" for a meter that brings its own.
    kind: str = ""

    def __init__(
        self,
        uuid: str,
        scope: Scope,
        name: str = "",
        *,
        host: str | None = None,
        period: float | None = None,
        limit: float | None = None,
        wrap: float | None = None,
        observed: float = 1.0,
        averaging: float = 0.0,
        within: Iterable[str] = (),
        reason: str = "",
        capabilities: Iterable[str] = (),
        flags: Iterable[str] = (),
        slow: bool = False,
        sensor: Sensor | None = None,
        labels: Mapping[str, str] | None = None,
        element: str = "",
        fed_by: Iterable[str] = (),
        share: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        self.host = host if host is not None else this_host()
        self.uuid = uuid
        self.scope: Scope = scope
        self.name = name or uuid
        self.period = period
        self.limit = limit
        self.wrap = wrap
        self.observed = observed
        self.averaging = averaging
        self.within = tuple(within)
        self.reason = reason
        self.capabilities = frozenset(capabilities)
        self.flags = tuple(flags)
        self.slow = slow
        self.labels = dict(labels or {})
        self.element = element or self.key
        self.fed_by = tuple(fed_by)
        self.share = share
        self.behaves(sensor or Sensor(period=period, duty=(observed, observed), averaging=averaging))

    def behaves(self, sensor: Sensor) -> None:
        """Take what is known of the sensor; a period that the meter stated itself is kept."""
        self.sensor = sensor
        self.period = self.period if sensor.period is None else sensor.period
        self.observed, self.averaging = sensor.duty[1], sensor.averaging

    @property
    def key(self) -> str:
        """``host/uuid/scope``."""
        return f"{self.host}/{self.uuid}/{self.scope}"

    def read(self) -> float:
        """Joules counted so far, or watts now."""
        raise NotImplementedError

    def state(self) -> State:
        """Clocks, temperature and the like; never raises for what the device does not say."""
        return NOTHING

    def close(self) -> None:
        """Let go of files and handles; reading after that is an error."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key}, {self.method})"


class CallableMeter(Meter):
    """A meter out of any function of no arguments that gives J (counter) or W (power-integral).

    The small plug-in for a rack's power strip or a wall meter:

    >>> meter = CallableMeter(lambda: 230.0, "strip-3", "wall", method="power-integral")
    >>> meter.read()
    230.0
    """

    def __init__(
        self, function: Callable[[], float], uuid: str, scope: Scope, *, method: Method = "counter", **facts: object
    ) -> None:
        super().__init__(uuid, scope, **facts)  # type: ignore[arg-type]
        self.method = method
        self._function = function

    def read(self) -> float:
        try:
            return float(self._function())
        except MeterError:
            raise
        except Exception as error:
            raise MeterError(f"{type(error).__name__}: {error}") from error


@functools.cache
def this_host() -> str:
    """The name that keys devices of this machine; WATTLINE_HOST in a container, whose own name says nothing."""
    return os.environ.get("WATTLINE_HOST") or socket.gethostname() or "localhost"
