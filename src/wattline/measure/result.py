"""What a window answers: one `Part` per device and scope, and a `Total` that says what it holds.

Every joule carries an interval meant to hold the truth 95 times in 100, the method it came by, and
the flags that lower one's trust in it. A part without a figure says why. Nothing is filled in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from ..core.errors import InputError

Scope = Literal["gpu", "cpu", "dram", "soc", "node", "wall"]
Method = Literal["counter", "power-integral", "estimated", "none"]
SCOPES: Final[tuple[Scope, ...]] = ("gpu", "cpu", "dram", "soc", "node", "wall")

# A window shorter than this many updates of its sensor is too short to trust without its interval.
FEWEST_PERIODS: Final = 20


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one scope of one device over one window.

    Attributes
    ----------
    host, uuid, scope : together the key of the part; the same key twice is the same device.
    joules : best estimate, J; None when there is no figure, and then `reason` says why.
    low, high : the 95 % interval, J.
    method : "counter" (the device adds joules), "power-integral" (watts read and added up here),
        "estimated" (a model), "none".
    period : seconds between updates of the sensor as probed; None if not known yet.
    flags : "insufficient_resolution", "gap", "reset", "extrapolated", "implausible", "stuck", "lost", "shared",
        "late" (sensors were found after the window began), "mirror", "model" (an estimate that is in no total).
    within : keys of the parts that contain this one, so that nothing is added twice.
    clock, memory_clock : Hz; temperature : degrees Celsius; power_limit : W; utilization : 0 to 1,
        as last seen in the window.
    throttle : reasons why the clock was held down at any sample of the window.
    unknown : facts of the sensor that are only known as a range, which is in the interval: "lag", "duty".
    """

    host: str
    uuid: str
    scope: Scope
    name: str = ""
    method: Method = "none"
    joules: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float = 0.0
    period: float | None = None
    flags: tuple[str, ...] = ()
    reason: str = ""
    within: tuple[str, ...] = ()
    clock: float | None = None
    memory_clock: float | None = None
    temperature: float | None = None
    power_limit: float | None = None
    utilization: float | None = None
    throttle: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``host/uuid/scope``, the identity of what was measured."""
        return f"{self.host}/{self.uuid}/{self.scope}"

    @property
    def watts(self) -> float | None:
        """Mean power over the window, W."""
        return None if self.joules is None or self.seconds <= 0 else self.joules / self.seconds

    @property
    def uncertainty(self) -> float | None:
        """The larger distance from `joules` to the ends of its interval, J."""
        if self.joules is None or self.low is None or self.high is None:
            return None
        return max(self.joules - self.low, self.high - self.joules)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        return {
            "host": self.host,
            "uuid": self.uuid,
            "scope": self.scope,
            "name": self.name,
            "method": self.method,
            "reason": self.reason,
            "energy_j": self.joules,
            "low_j": self.low,
            "high_j": self.high,
            "average_power_w": self.watts,
            "duration_s": self.seconds,
            "period_s": self.period,
            "flags": list(self.flags),
            "within": list(self.within),
            "clock_hz": self.clock,
            "memory_clock_hz": self.memory_clock,
            "temperature_c": self.temperature,
            "power_limit_w": self.power_limit,
            "utilization": self.utilization,
            "throttle": list(self.throttle),
            "unknown": list(self.unknown),
        }


class Factor(msgspec.Struct, frozen=True):
    """A named multiplier and who gave it, such as ``Factor("pue", 1.2, "site contract")``."""

    name: str
    value: float
    source: str = "given by the caller"


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of parts that do not overlap.

    `holds` are the keys added, `inside` the keys measured but contained in one of those, and
    `missing` the keys that had no figure and are in no other. `joules` is None when nothing was added.
    """

    joules: float | None = None
    low: float | None = None
    high: float | None = None
    holds: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes added, in the order of `SCOPES`."""
        held = {key.rsplit("/", 1)[1] for key in self.holds}
        return tuple(scope for scope in SCOPES if scope in held)

    @property
    def uncertainty(self) -> float | None:
        """The larger distance from `joules` to the ends of its interval, J."""
        if self.joules is None or self.low is None or self.high is None:
            return None
        return max(self.joules - self.low, self.high - self.joules)

    def times(self, *factors: Factor) -> Total:
        """The same sum with explicit multipliers, each kept by name."""
        low = high = joules = None
        for factor in factors:
            if not (math.isfinite(factor.value) and factor.value >= 0):
                raise InputError(f"a factor must be a finite number >= 0, got {factor.name}={factor.value}")
        product = math.prod(factor.value for factor in factors)
        if self.joules is not None and self.low is not None and self.high is not None:
            joules, low, high = self.joules * product, self.low * product, self.high * product
        return msgspec.structs.replace(self, joules=joules, low=low, high=high, factors=self.factors + factors)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        return {
            "energy_j": self.joules,
            "low_j": self.low,
            "high_j": self.high,
            "scopes": list(self.scopes),
            "holds": list(self.holds),
            "inside": list(self.inside),
            "missing": list(self.missing),
            "factors": [{"name": f.name, "value": f.value, "source": f.source} for f in self.factors],
        }


def add(parts: Iterable[Part]) -> Total:
    """Add parts without counting anything twice: the outermost that has a sound figure stands for what it holds.

    A container too coarse for the window (``insufficient_resolution``) gives way to its contents when
    those have figures. Doubts of different devices add in line: devices of one job rise and fall together, so their
    errors are not independent.
    """
    every = [part for part in parts if "model" not in part.flags]
    by_key = {part.key: part for part in every}
    children: dict[str, list[str]] = {}
    for part in every:
        for outer in part.within:
            if outer in by_key and outer != part.key:
                children.setdefault(outer, []).append(part.key)
    held: set[str] = set()
    inside: set[str] = set()

    def below(key: str) -> set[str]:
        found: set[str] = set()
        stack = list(children.get(key, ()))
        while stack:
            child = stack.pop()
            if child not in found:
                found.add(child)
                stack.extend(children.get(child, ()))
        return found

    def sound(part: Part) -> bool:
        return part.joules is not None and "insufficient_resolution" not in part.flags

    # Outermost first: who contains more keys is further out.
    for part in sorted(every, key=lambda p: (-len(below(p.key)), p.key)):
        if part.key in inside:
            continue
        contents = [by_key[key] for key in below(part.key)]
        if part.joules is None:
            continue
        if not sound(part) and any(sound(inner) for inner in contents):
            continue
        held.add(part.key)
        inside |= below(part.key)
    # A container passed over for its contents must not appear as missing; one without a figure does.
    missing = [p.key for p in every if p.joules is None and p.key not in inside and not (below(p.key) & held)]
    chosen = [by_key[key] for key in sorted(held)]
    if not chosen:
        return Total(missing=tuple(sorted(missing)))
    joules = math.fsum(part.joules or 0.0 for part in chosen)
    down = math.fsum(_gap(part, part.low) for part in chosen)
    up = math.fsum(_gap(part, part.high) for part in chosen)
    return Total(
        joules=joules,
        low=max(0.0, joules - down),
        high=joules + up,
        holds=tuple(part.key for part in chosen),
        inside=tuple(sorted(key for key in inside if by_key[key].joules is not None)),
        missing=tuple(sorted(missing)),
    )


def _gap(part: Part, bound: float | None) -> float:
    """Distance in J from a part's figure to one end of its interval."""
    if part.joules is None or bound is None:
        return 0.0
    return abs(bound - part.joules)


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer of one window: its parts, their total, and what the caller counted in it.

    `start` is seconds since 1970; `seconds` the length of the window; `counts` what was done in it
    (``{"tokens": 4096, "steps": 1}``); `notes` what went wrong or is not known, in plain sentences.
    """

    name: str
    start: float = 0.0
    seconds: float = 0.0
    host: str = ""
    process: int = 0
    parent: str = ""
    parts: tuple[Part, ...] = ()
    counts: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()

    @property
    def total(self) -> Total:
        """The sum of all parts that do not overlap, times the named factors if any were given."""
        plain = add(self.parts)
        return plain.times(*self.factors) if self.factors else plain

    @property
    def joules(self) -> float | None:
        """The total, J; None when no sensor gave a figure."""
        return self.total.joules

    def scope(self, scope: Scope) -> Total:
        """The sum over one scope only, never times a factor."""
        return add(part for part in self.parts if part.scope == scope)

    @property
    def flags(self) -> tuple[str, ...]:
        """Every flag raised by a part that is in the total."""
        held = set(self.total.holds)
        return tuple(sorted({flag for part in self.parts if part.key in held for flag in part.flags}))

    def each(self, count: str) -> float | None:
        """Joules per one of what was counted: ``m.each("tokens")``."""
        if count not in self.counts:
            raise InputError(f"nothing was counted as {count!r}; call count({count}=...) in the window")
        joules, number = self.joules, self.counts[count]
        return None if joules is None or number <= 0 else joules / number

    def times(self, *factors: Factor, **named: float) -> Measurement:
        """The same answer with explicit multipliers, such as ``times(pue=1.2)``."""
        extra = factors + tuple(Factor(name, value) for name, value in named.items())
        self.total.times(*extra)
        return msgspec.structs.replace(self, factors=self.factors + extra)

    def carbon(self, intensity: float) -> float | None:
        """Grams of CO2 equivalent of the total, at `intensity` in g/J; there is no default: no location, no carbon."""
        if not (math.isfinite(intensity) and intensity >= 0):
            raise InputError(f"carbon intensity must be a finite number >= 0 in g/J, got {intensity}")
        joules = self.joules
        return None if joules is None else joules * intensity

    def to_dict(self) -> dict[str, Any]:
        """Plain data with stable keys and SI units in their names; keys are only ever added."""
        total = self.total
        return {
            "name": self.name,
            "start_unix_s": self.start,
            "duration_s": self.seconds,
            "host": self.host,
            "process": self.process,
            "parent": self.parent,
            "total": total.to_dict(),
            "parts": [part.to_dict() for part in self.parts],
            "counts": dict(self.counts),
            "energy_per_count_j": {name: self.each(name) for name in self.counts},
            "flags": list(self.flags),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_dict`."""
        return cls(
            name=data["name"],
            start=data["start_unix_s"],
            seconds=data["duration_s"],
            host=data["host"],
            process=data["process"],
            parent=data["parent"],
            parts=tuple(_part(row) for row in data["parts"]),
            counts=dict(data["counts"]),
            notes=tuple(data["notes"]),
            factors=tuple(Factor(f["name"], f["value"], f["source"]) for f in data["total"]["factors"]),
        )

    def __rich__(self) -> Any:
        """The summary a person reads; see `summary.table`."""
        from .summary import table

        return table(self)


def _part(row: Mapping[str, Any]) -> Part:
    return Part(
        host=row["host"],
        uuid=row["uuid"],
        scope=row["scope"],
        name=row["name"],
        method=row["method"],
        reason=row["reason"],
        joules=row["energy_j"],
        low=row["low_j"],
        high=row["high_j"],
        seconds=row["duration_s"],
        period=row["period_s"],
        flags=tuple(row["flags"]),
        within=tuple(row["within"]),
        clock=row["clock_hz"],
        memory_clock=row["memory_clock_hz"],
        temperature=row["temperature_c"],
        power_limit=row["power_limit_w"],
        utilization=row["utilization"],
        throttle=tuple(row["throttle"]),
    )
