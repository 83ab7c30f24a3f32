"""Work measured at each setting of a knob, as a frontier: what `wattline profile` keeps in the store, read back.

    store: a run tagged `profile` -> trials (setting, seconds, joules) -> convex regression -> Frontier, "measured"

Trials are kept one by one as they end, so what is read is whatever has been measured so far. The frontier comes from
all settings at once (`frontier.fit`): the lowest of noisy points would be the luckiest, not the best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from ...core.errors import InputError, nearest
from ...core.units import show
from ...frontier.algebra import Frontier
from ...frontier.fit import Fitted, fit
from ...measure.store.database import Store
from ..base import Array, Points

# The tag of a run that is a profile, and what its tags hold.
TAG: Final = "profile"
KEYS: Final = ("profile", "knob", "values", "devices", "names", "work", "waiting_power_w", "seed")
# How a setting is called among a plan's knobs.
KNOBS: Final = {"clock": "clock_hz", "power_limit": "power_limit_w", "memory_clock": "memory_clock_hz"}
WINDOW: Final = "trial"


@dataclass(frozen=True)
class Trial:
    """One execution of the work at one setting.

    value : W or Hz. seconds, joules : what it took; low, high : J, the meter's interval where known.
    start : seconds since 1970. temperature : degrees Celsius before it, None where the device does not say.
    """

    value: float
    seconds: float
    joules: float
    low: float | None = None
    high: float | None = None
    start: float = 0.0
    temperature: float | None = None
    notes: tuple[str, ...] = ()

    def window(self) -> dict[str, Any]:
        """The row of the store."""
        return {
            "name": WINDOW,
            "start_unix_s": self.start,
            "duration_s": self.seconds,
            "total": {"energy_j": self.joules, "low_j": self.low, "high_j": self.high},
            "trial": {"value": self.value, "temperature_c": self.temperature, "notes": list(self.notes)},
        }


@dataclass(frozen=True)
class Measured:
    """A profile: one piece of work on one or more devices, each set alike.

    knob : what was set. waiting_power : W of all its devices while they wait. work : the command, or what it is called.
    done : whether every setting is known as well as was asked for.
    """

    run: str
    name: str
    knob: str
    values: tuple[float, ...]
    devices: tuple[str, ...]
    names: tuple[str, ...]
    work: tuple[str, ...]
    waiting_power: float
    trials: tuple[Trial, ...]
    done: bool = False
    waiting_from: str = "given"

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken to be so, one sentence each."""
        found = []
        if self.waiting_from == "idle":
            watts = show(self.waiting_power, "W")
            found.append(f"devices draw {watts} while they wait for others, as measured while nothing ran")
        if not self.done:
            found.append("the profile is not finished, so some settings have few trials or none")
        return tuple(found)

    @property
    def source(self) -> str:
        """Where the numbers come from, in words."""
        many = f"{len(self.devices)} x " if len(self.devices) > 1 else ""
        kinds = ", ".join(dict.fromkeys(self.names))
        part = "" if self.done else ", not finished"
        return f"profile {self.name}: {len(self.trials)} trials on {many}{kinds} (run {self.run}{part})"

    @cached_property
    def fitted(self) -> Fitted:
        """What the trials say about each setting, in order of first appearance."""
        time = np.array([t.seconds for t in self.trials])
        spent = np.array([t.joules for t in self.trials])
        return fit(
            time,
            spent - self.waiting_power * time,
            knobs=[self.setting(t.value) for t in self.trials],
            waiting_power=self.waiting_power,
            provenance="measured",
            source=self.source,
        )

    @property
    def frontier(self) -> Frontier:
        """The frontier of one execution; each point knows its setting."""
        return self.fitted.frontier

    def setting(self, value: float) -> dict[str, Any]:
        """What to set, as a plan says it."""
        return {"label": self.name, KNOBS[self.knob]: value}

    def at(self, value: float) -> tuple[float, float]:
        """Seconds and total joules of a setting that was measured, fitted."""
        for k, knobs in enumerate(self.fitted.knobs):
            if knobs[KNOBS[self.knob]] == value:
                time = float(self.fitted.time[k])
                return time, float(self.fitted.fitted[k]) + self.waiting_power * time
        raise InputError(
            f"profile {self.name} has no trial at {value}; it has {sorted({t.value for t in self.trials})}"
        )

    def points(self) -> Points:
        """Every clock that was measured, ascending, in the form a `Source` answers in."""
        if self.knob != "clock":
            raise InputError(f"profile {self.name} is over {self.knob}; points are over core clocks")
        clock: Array = np.array(sorted({t.value for t in self.trials}))
        time, energy = np.array([self.at(float(c)) for c in clock]).T
        waiting = self.waiting_power * time
        return Points(
            clock=clock,
            time=time,
            parts={"work": energy - waiting, "waiting": waiting},
            waiting_power=self.waiting_power,
            provenance="measured",
            source=self.source,
            uncertainty=float(np.nan_to_num(self.fitted.uncertainty)),
        )


def read(store: Store, name: str = "last") -> Measured:
    """A profile by its name (the latest of that name), its run's id, or "last"."""
    rows = [row for row in store.runs() if TAG in row["tags"]]
    for row in rows:
        if name in ("last", row["name"], row["run"]):
            return _held(store, row)
    known = list(dict.fromkeys(row["name"] for row in rows))
    hint = nearest(name, known) if known else "`wattline profile` makes one"
    raise InputError(f"no profile {name!r} is in {store.url}; {hint}")


def of_key(store: Store, key: str) -> Measured | None:
    """The latest profile of exactly this work, devices, knob and settings, finished or not; None if there is none."""
    for row in store.runs():
        if row["tags"].get(TAG) == key:
            return _measured(store, row)
    return None


def _held(store: Store, row: Mapping[str, Any]) -> Measured:
    found = _measured(store, row)
    if not found.trials:
        raise InputError(f"profile {found.name} (run {found.run}) holds no trial yet; let `wattline profile` run")
    return found


def _measured(store: Store, row: Mapping[str, Any]) -> Measured:
    tags = row["tags"]
    if missing := [key for key in KEYS if key not in tags]:
        raise InputError(f"run {row['run']} is a profile without {', '.join(missing)}; profile the work again")
    windows = [w for w in store.windows(row["run"]) if w["name"] == WINDOW]
    return Measured(
        run=row["run"],
        name=row["name"],
        knob=tags["knob"],
        values=tuple(tags["values"]),
        devices=tuple(tags["devices"]),
        names=tuple(tags["names"]),
        work=tuple(tags["work"]),
        waiting_power=float(tags["waiting_power_w"]),
        trials=tuple(_trial(w) for w in windows),
        waiting_from=tags.get("waiting_power_from", "given"),
        done=row["end_unix_s"] is not None and row["exit_code"] == 0,
    )


def _trial(row: Mapping[str, Any]) -> Trial:
    more = row["measurement"]["trial"]
    return Trial(
        value=float(more["value"]),
        seconds=float(row["duration_s"]),
        joules=float(row["energy_j"]),
        low=row["low_j"],
        high=row["high_j"],
        start=float(row["start_unix_s"]),
        temperature=more["temperature_c"],
        notes=tuple(more["notes"]),
    )
