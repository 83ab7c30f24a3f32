"""What a joule costs, as a function of time: grams of CO2 equivalent, or money, per joule.

A `Series` is a list of steps, each valid from its time to the next; outside of them it has no value and
says so, because the carbon of an unknown hour is not known. One weighted mean does all the work:

    g/J |     ____                    energy used in each step
        | ___|    |____        x      times the value of that step   =  grams
        |--------------- t
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ...core.units import parse, show

# Units a series may be in, all per joule inside.
UNITS: Final = ("g/J", "USD/J", "EUR/J")


@dataclass(frozen=True, slots=True)
class Series:
    """Steps of a value per joule: ``values[i]`` holds from ``edges[i]`` to ``edges[i + 1]``.

    edges : seconds since 1970, increasing, one more than there are values. values : in `unit`.
    unit : "g/J", "USD/J" or "EUR/J". source : where the numbers come from.
    kind : "average" or "marginal" emissions, or "price": two kinds are never mixed.
    estimated : steps that their source marks as an estimate or forecast.

    >>> day = Series((0.0, 3600.0, 7200.0), (1e-4, 2e-4), "g/J", "example")
    >>> day.mean(1800.0, 5400.0)
    0.00015
    """

    edges: tuple[float, ...]
    values: tuple[float, ...]
    unit: str
    source: str
    kind: str = "average"
    estimated: tuple[bool, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError(f"a series must be in {', '.join(UNITS)}, got {self.unit!r}")
        if len(self.edges) != len(self.values) + 1 or not self.values:
            raise InputError(f"a series needs one edge more than values, got {len(self.edges)} and {len(self.values)}")
        if any(not b > a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise InputError("the times of a series must increase")
        # Prices can be negative; emissions per joule cannot.
        if any(not math.isfinite(v) or (v < 0 and self.unit == "g/J") for v in self.values):
            raise InputError("the values of a series must be finite, and carbon must be >= 0")
        if self.estimated and len(self.estimated) != len(self.values):
            raise InputError("`estimated` must have one entry per value")

    @property
    def start(self) -> float:
        """The first instant that has a value, s since 1970."""
        return self.edges[0]

    @property
    def stop(self) -> float:
        """The instant after the last that has a value, s since 1970."""
        return self.edges[-1]

    def at(self, time: float) -> float:
        """The value at an instant; an error outside of the series."""
        self._within(time, time)
        return self.values[min(bisect.bisect_right(self.edges, time) - 1, len(self.values) - 1)]

    def mean(self, start: float, stop: float) -> float:
        """The mean over a span of time, each instant alike; at an instant if the span is empty."""
        if stop <= start:
            return self.at(start)
        return math.fsum(length * value for length, value in self._steps(start, stop)) / (stop - start)

    def cost(self, times: Sequence[float], joules: Sequence[float]) -> float:
        """The cost of energy, in g, USD or EUR.

        times : edges in seconds since 1970. joules : the energy used between each two, spread evenly within.
        """
        if len(times) != len(joules) + 1:
            raise InputError(f"`times` must have one entry more than `joules`, got {len(times)} and {len(joules)}")
        spans = zip(times, times[1:], joules, strict=False)
        return math.fsum(energy * self.mean(start, stop) for start, stop, energy in spans if energy)

    def _within(self, start: float, stop: float) -> None:
        if not (math.isfinite(start) and math.isfinite(stop)) or start < self.start or stop > self.stop:
            raise InputError(
                f"the series {self.source!r} covers {_iso(self.start)} to {_iso(self.stop)} and says nothing of "
                f"{_iso(start)} to {_iso(stop)}; give one that covers it"
            )

    def _steps(self, start: float, stop: float) -> Iterable[tuple[float, float]]:
        self._within(start, stop)
        i = bisect.bisect_right(self.edges, start) - 1
        while i < len(self.values) and self.edges[i] < stop:
            yield min(stop, self.edges[i + 1]) - max(start, self.edges[i]), self.values[i]
            i += 1

    def then(self, other: Series) -> Series:
        """This series and one that begins where it ends, such as the next page of an answer."""
        if (other.unit, other.kind) != (self.unit, self.kind):
            raise InputError(f"a series of {self.kind} {self.unit} cannot go on as {other.kind} {other.unit}")
        if other.start != self.stop:
            raise InputError(f"the next part must begin at {_iso(self.stop)}, got {_iso(other.start)}")
        flags = (self.estimated or (False,) * len(self.values)) + (other.estimated or (False,) * len(other.values))
        return Series(
            self.edges + other.edges[1:],
            self.values + other.values,
            self.unit,
            self.source,
            self.kind,
            flags if any(flags) else (),
        )

    def __str__(self) -> str:
        mean = show(self.mean(self.start, self.stop), self.unit)
        return f"{self.kind}, {mean} on average from {_iso(self.start)} to {_iso(self.stop)} ({self.source})"


def steps(rows: Iterable[tuple[float, float, float, bool]], unit: str, source: str, kind: str) -> Series:
    """A series out of (start, stop, value, estimated) rows in any order; a hole between two is an error."""
    ordered = sorted(rows)
    if not ordered:
        raise InputError(f"{source} gave no values for this time")
    for before, after in pairwise(ordered):
        if abs(after[0] - before[1]) > 1e-6:
            raise InputError(f"{source}: a hole or overlap between {_iso(before[1])} and {_iso(after[0])}")
    flags = tuple(row[3] for row in ordered)
    return Series(
        (*(row[0] for row in ordered), ordered[-1][1]),
        tuple(row[2] for row in ordered),
        unit,
        source,
        kind,
        flags if any(flags) else (),
    )


def read(path: str | Path, *, kind: str = "") -> Series:
    """A series from a CSV file: a column ``time`` and one named by its unit, such as ``g/kWh`` or ``USD/MWh``.

    Times are ISO 8601 with an offset (2026-01-01T00:00Z) or seconds since 1970; the last row ends the series
    and has no value, or, if it has one, lasts as long as the row before it.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}") from None
    if not table or len(table[0]) < 2 or table[0][0].strip() != "time":
        raise InputError(f"{path}: the first line must be 'time,UNIT', such as 'time,g/kWh'")
    shown = table[0][1].strip()
    unit = next((u for u in UNITS if _factor(shown, u) is not None), None)
    if unit is None:
        raise InputError(f"{path}: the second column must be named by a unit such as g/kWh or USD/MWh, got {shown!r}")
    factor = _factor(shown, unit) or 1.0
    times: list[float] = []
    values: list[float] = []
    for number, row in enumerate(table[1:], 2):
        if len(values) < len(times):
            raise InputError(f"{path}, row {number - 1}: a value is missing; only the last row may have none")
        try:
            times.append(instant(row[0]))
            if len(row) > 1 and row[1].strip():
                values.append(float(row[1]) * factor)
        except ValueError:
            raise InputError(f"{path}, row {number}: expected a time and a number, got {','.join(row)!r}") from None
    if len(times) < 2:
        raise InputError(f"{path}: a series needs two rows or more, so that the length of a step is known")
    if len(values) == len(times):
        times.append(2 * times[-1] - times[-2])
    return Series(tuple(times), tuple(values), unit, str(path), kind or ("average" if unit == "g/J" else "price"))


def constant(value: str, start: float, stop: float, source: str = "given by the caller") -> Series:
    """One value for a span of time: ``constant("400 g/kWh", start, stop)``."""
    for unit in UNITS:
        try:
            number = parse(value, unit)
        except InputError:
            continue
        return Series((start, stop), (number,), unit, source, "average" if unit == "g/J" else "price")
    raise InputError(f"{value!r} is not an amount per energy, such as '400 g/kWh' or '80 USD/MWh'")


def instant(value: Any) -> float:
    """Seconds since 1970 of an ISO 8601 time with an offset, or of a number of seconds."""
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise InputError(f"the time {text!r} has no offset; write it as {text}Z or {text}+01:00") from None
        return moment.timestamp()
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


def _factor(shown: str, unit: str) -> float | None:
    try:
        return parse(f"1 {shown}", unit)
    except InputError:
        return None


def _iso(time: float) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(time)
