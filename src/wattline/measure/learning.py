"""`wattline doctor --probe`: a load that is known, every sensor watched beside it, and what was learnt kept for later.

Sensors that rise and fall with the load give their lag and the span they look at; the others still give their period
and its jitter. What is learnt comes before what is shipped, on this machine and for this name of device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ..core.errors import InputError
from ..core.units import show
from .loads import CpuLoad, TorchLoad
from .meter import Clock, Meter, this_host
from .probe import SECONDS, Learnt, Load, learn, watch
from .sensor import Row, keep, known, learnt_file

LOADS: Final = ("auto", "cpu", "gpu", "none")


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """One sensor and what was learnt of it."""

    sensor: str
    scope: str
    kind: str
    learnt: Learnt

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        s = self.learnt.sensor
        return {
            "sensor": self.sensor,
            "scope": self.scope,
            "kind": self.kind,
            "period_s": s.period,
            "jitter": s.jitter,
            "lag_s": list(s.lag),
            "averaging_s": s.averaging,
            "duty": list(s.duty),
            "explained": self.learnt.explained,
            "swing_w": self.learnt.swing,
            "notes": list(self.learnt.notes),
        }


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe learnt, of every sensor, and where it is kept."""

    load: str
    seconds: float
    path: str
    sensors: tuple[Probed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "load": self.load,
            "duration_s": self.seconds,
            "kept_in": self.path,
            "sensors": [probed.to_dict() for probed in self.sensors],
        }

    def __rich__(self) -> Any:
        from rich.text import Text

        text = Text(f"{show(self.seconds, 's')} beside {self.load}\n")
        for probed in self.sensors:
            s = probed.learnt.sensor
            facts = [f"updates every {show(s.period, 's', 3)} ± {s.jitter:.0%}"] if s.period else []
            if probed.learnt.explained and not probed.learnt.notes:
                facts.append(f"late by {span(s.lag, 's')}")
                facts.append(f"mean of {show(s.averaging, 's', 2)}" if s.averaging else "no averaging seen")
                facts.append("looks all the time" if s.duty[0] >= 1 else f"looks {s.duty[0]:.0%} to {s.duty[1]:.0%}")
            text.append(f"{probed.sensor}", "bold").append("".join(f", {fact}" for fact in facts) + "\n")
            for note in probed.learnt.notes:
                text.append(f"        {note}\n", "yellow")
        text.append(f"kept in {self.path}" if self.path else "nothing was kept", "dim")
        return text


def span(bounds: tuple[float, float], unit: str) -> str:
    """Two bounds as one phrase, such as ``0 s to 2 ms``."""
    low, high = bounds
    return show(low, unit, 3) if low == high else f"{show(low, unit, 3)} to {show(high, unit, 3)}"


def load_of(kind: str, meters: Sequence[Meter]) -> Load | None:
    """The load that is asked for; "auto" takes the GPU's where a GPU is measured and torch is there, else the CPU's.

    Raises
    ------
    InputError : no such kind. MissingExtraError : a load on a GPU was asked for, and there is no torch or no GPU.
    """
    if kind not in LOADS:
        raise InputError(f"--load must be one of {', '.join(LOADS)}, got {kind!r}")
    if kind == "none":
        return None
    if kind == "gpu":
        return TorchLoad()
    if kind == "auto" and any(meter.scope == "gpu" for meter in meters):
        try:
            return TorchLoad()
        except Exception:  # a processor's load still teaches the processor's sensors, and the notes name the rest
            return CpuLoad()
    return CpuLoad()


def probe(
    meters: Sequence[Meter],
    load: Load | None,
    *,
    seconds: float = SECONDS,
    seed: int = 0,
    path: Path | None = None,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Probe:
    """Learn every quick meter's sensor beside a load and keep it in `path`; `learnt_file()` if None.

    Raises
    ------
    InputError : `seconds` is not above 5, or the file cannot be read or written.
    """
    if not seconds >= 5:
        raise InputError(f"a probe must take 5 s or more, got {show(seconds, 's')}; 60 s is plenty")
    place = learnt_file() if path is None else path
    quick = [meter for meter in meters if not meter.slow]
    try:
        seen, pulsed = watch(quick, load, seconds=seconds, seed=seed, clock=clock, sleep=sleep)
    finally:
        if load is not None:
            load.close()
    name = load.name if load is not None else "no load"
    day = time.strftime("%Y-%m-%d", time.gmtime())
    found = []
    for meter, shown in zip(quick, seen, strict=True):
        driver = meter.labels.get("driver", "")
        source = f"learnt {day} on {this_host()}, {name}" + (f", driver {driver}" if driver else "")
        start = known(meter.kind, meter.name) or meter.sensor
        got = learn(shown, pulsed, counter=meter.method == "counter", start=start, source=source)
        found.append(Probed(sensor=meter.name, scope=meter.scope, kind=meter.kind, learnt=got))
    rows: dict[tuple[str, str], Row] = {}
    for probed in found:
        if probed.kind and probed.learnt.sensor.source.startswith("learnt"):
            rows.setdefault((probed.kind, probed.sensor), _row(probed))
    if rows:
        try:
            keep(list(rows.values()), place)
        except OSError as error:
            raise InputError(f"{place} could not be written: {error.strerror}; set WATTLINE_SENSORS") from None
    return Probe(load=name, seconds=seconds, path=os.fspath(place) if rows else "", sensors=tuple(found))


def _row(probed: Probed) -> Row:
    facts = msgspec.structs.asdict(probed.learnt.sensor)
    return Row(kind=probed.kind, name=_escape(probed.sensor), **facts)


def _escape(name: str) -> str:
    """A name as a shell pattern that fits only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
