"""Files of grid data as people have them: carbon, prices, power and weather over time, in many forms.

A form is known by its header. What is read is always a time, a value in SI and the length of a step; what a file
leaves open (a zone for clock times without offset, which of two columns) is asked for and never guessed.

| form | time | value |
| --- | --- | --- |
| own | `time`, ISO 8601 with offset or seconds | columns named by their unit: g/kWh, USD/MWh, MW, degC |
| Electricity Maps portal | `Datetime (UTC)` | `Carbon intensity gCO2eq/kWh (Life cycle)`, `(LCA)` in older files |
| Electricity Maps research, CarbonScaler, carbon casting | `datetime` or `timestamp` in UTC | `carbon_intensity_avg` |
| WattTime | `timestamp` or `point_time` | `MOER`, `value`, lb/MWh |
| UK Carbon Intensity | `from` or `datetime` in UTC | `actual`, else `forecast`, g/kWh |
| ENTSO-E transparency | `MTU (CET/CEST)`, spans of clock time | `Day-ahead Price [EUR/MWh]` |
| CAISO OASIS | `INTERVALSTARTTIME_GMT` | `MW` of the rows whose `LMP_TYPE` is LMP, USD/MWh |
| NREL Cambium | `timestamp_local` or `timestamp` under rows of description | `srmer_co2e`, kg/MWh |
| vessim | `time` in seconds or clock time | a column per place: name it |
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, UnitError, nearest
from ...core.units import parse

ZERO_CELSIUS: Final = 273.15

# Names of time columns, the surest first.
_TIMES: Final = (
    "intervalstarttime_gmt", "datetime (utc)", "utc time", "point_time", "from", "datetime", "timestamp", "time", "mtu",
    "date", "timestamp_local", "oootime",
)  # fmt: skip

# Forms whose clock times without offset are in UTC by their documentation.
_IN_UTC: Final = ("datetime (utc)", "utc time", "intervalstarttime_gmt", "from", "point_time")

# Value columns of known forms: name (lower case, as it begins) -> unit, what it is of.
_VALUES: Final = (
    ("carbon intensity gco2eq/kwh (life cycle)", "g/kWh"),
    ("carbon intensity gco2eq/kwh (lca)", "g/kWh"),
    ("carbon_intensity_avg", "g/kWh"),
    ("carbon_intensity", "g/kWh"),
    ("moer", "lb/MWh"),
    ("actual", "g/kWh"),
    ("srmer_co2e", "kg/MWh"),
    ("aer_load_co2e", "kg/MWh"),
    ("day-ahead price", ""),
)


@dataclass(frozen=True, eq=False)
class Column:
    """One column over time: (n,) seconds since 1970 at which each value begins, (n,) values in SI (NaN: missing).

    `currency`: of a price, else empty. `name`: of the column.
    """

    time: NDArray[np.float64]
    value: NDArray[np.float64]
    name: str
    currency: str = ""


def read(
    path: Path, want: str, *, column: str | None = None, unit: str | None = None, zone: str | None = None
) -> Column:
    """Return a column of a file in `want` ("g/J", "USD/J", "W", "K" or "fraction").

    column : its name where the header does not say which. unit : of its values, such as "lb/MWh". zone : of clock times
    without offset, such as "Europe/Berlin".
    """
    head, rows = _table(path)
    names = [_plain(name) for name in head]
    when = _time_column(names)
    if "lmp_type" in names:
        kind = names.index("lmp_type")
        rows = [(number, row) for number, row in rows if len(row) > kind and row[kind] == "LMP"]
    at, scale = _value_column(path, head, names, when, want, column, unit)
    clock = _Clock(path, names[when], zone)
    times, values = [], []
    for number, row in rows:
        if len(row) <= when or not row[when].strip():
            continue
        text = row[at].strip() if len(row) > at else ""
        try:
            value = math.nan if text.lower() in ("", "-", "n/e", "nan", "null", "n/a") else scale(float(text))
        except ValueError:
            raise InputError(f"{path}, row {number}: expected a number in {head[at]!r}, got {text!r}") from None
        times.append(clock.read(row[when], number))
        values.append(value)
    if len(times) < 2:
        raise InputError(f"{path}: a series needs two rows or more, so that the length of a step is known")
    time, numbers = np.array(times), np.array(values)
    if "lmp_type" in names or (np.diff(time) < 0).all():  # these come in any order, or newest first
        order = np.argsort(time, kind="stable")
        time, numbers = time[order], numbers[order]
    _rising(path, time, rows)
    found = re.search(r"[\[(]([A-Z]{3})/", head[at]) or re.match(r"([A-Z]{3})/", head[at])
    return Column(time, numbers, head[at], found.group(1) if found and want == "USD/J" else "")


def _rising(path: Path, time: NDArray[np.float64], rows: Sequence[tuple[int, list[str]]]) -> None:
    step = np.diff(time)
    if (step <= 0).any():
        number = rows[int(np.argmin(step)) + 1][0]
        same = bool((step == 0).any())
        more = "; several places in one file? keep the rows of one of them" if same else ""
        raise InputError(f"{path}: times must rise, but row {number} does not{more}")


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the numbered rows below it; rows of description before the header are passed over."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}") from None
    first = next((line for line in text.splitlines() if line and not line.startswith("#")), "")
    split = max(",;\t", key=first.count)
    table = [
        (number, row) for number, row in enumerate(csv.reader(text.splitlines(), delimiter=split), 1)
        if row and not row[0].startswith("#")
    ]  # fmt: skip
    for k, (_, row) in enumerate(table[:12]):
        if len(row) > 1 and any(_known_time(_plain(name)) for name in row):
            return [name.strip() for name in row], table[k + 1 :]
    raise InputError(
        f"{path}: the first line must be 'time,UNIT,...', such as 'time,g/kWh,USD/MWh', or the header of a known form "
        "(Electricity Maps, WattTime, UK Carbon Intensity, ENTSO-E, CAISO OASIS, NREL Cambium)"
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace("₂", "2").replace("[", "(").replace("]", ")")


def _known_time(name: str) -> bool:
    return name in _TIMES or name.startswith(("mtu (", "time ("))


def _time_column(names: Sequence[str]) -> int:
    def rank(k: int) -> int:
        return _TIMES.index(names[k]) if names[k] in _TIMES else len(_TIMES)

    return min((k for k, name in enumerate(names) if _known_time(name)), key=rank)


class _Clock:
    """Reads the times of one column: seconds, milliseconds, ISO 8601, or spans of clock time in a zone."""

    def __init__(self, path: Path, name: str, zone: str | None) -> None:
        self.path, self.before = path, -math.inf
        self.zone: tzinfo | None = None
        if zone is not None:
            try:
                self.zone = ZoneInfo(zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise InputError(f"{path}: {zone!r} is no time zone; give one such as Europe/Berlin or UTC") from None
        elif "cet" in name:
            self.zone = ZoneInfo("Europe/Brussels")
        elif name in _IN_UTC or "utc" in name or "gmt" in name:
            self.zone = UTC

    def read(self, text: str, number: int) -> float:
        """Return seconds since 1970; an hour that a clock shows twice is told by the order of the rows."""
        text = text.strip()
        try:
            seconds = float(text)
        except ValueError:
            seconds = self._moment(text, number)
        else:
            if not math.isfinite(seconds):
                raise InputError(f"{self.path}, row {number}: expected a time, got {text!r}")
            # Seconds beyond the year 5000 are milliseconds, or microseconds.
            seconds /= 1e6 if abs(seconds) >= 1e14 else 1e3 if abs(seconds) >= 1e11 else 1.0
        self.before = seconds
        return seconds

    def _moment(self, text: str, number: int) -> float:
        begin = re.split(r"\s+-\s+", text)[0]
        begin = re.sub(r"\s*\((?:CET|CEST|UTC)\)$", "", begin)
        found = re.fullmatch(r"(\d{1,2})[./](\d{1,2})[./](\d{4})[ T](\d{1,2}:\d{2}(?::\d{2})?)", begin)
        try:
            if found:  # day first, as ENTSO-E writes it
                day, month, year, clock = found.groups()
                begin = f"{year}-{int(month):02}-{int(day):02}T{clock.zfill(5) if len(clock) < 6 else clock.zfill(8)}"
            moment = datetime.fromisoformat(begin)
        except ValueError:
            raise InputError(
                f"{self.path}, row {number}: expected a time with an offset and a number, got {text!r}"
            ) from None
        if moment.tzinfo is not None:
            return moment.timestamp()
        if self.zone is None:
            raise InputError(
                f"{self.path}, row {number}: the time {text!r} has no offset; give zone, e.g. "
                '{ file = "...", zone = "Europe/Berlin" }, or write it with an offset'
            )
        seconds = moment.replace(tzinfo=self.zone).timestamp()
        if seconds <= self.before:  # the clock was put back: the same hour again
            again = moment.replace(tzinfo=self.zone, fold=1).timestamp()
            return again if again > self.before else seconds
        return seconds


class _Scale:
    """From a column's unit to SI."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        self.factor, self.offset = factor, offset

    def __call__(self, value: float) -> float:
        return value * self.factor + self.offset


def _scale(text: str, want: str) -> _Scale | None:
    """Return the scale of a unit, None where it is not of the kind wanted."""
    if want == "fraction":
        return _Scale(0.01) if text == "%" else _Scale(1.0) if text in ("fraction", "1", "") else None
    if want == "K" and text in ("degC", "°C", "C"):
        return _Scale(1.0, ZERO_CELSIUS)
    plain = re.sub(
        r"^(k|m)?g\s*CO2?₂?-?(eq?|e)?/", lambda m: f"{m.group(1) or ''}g/", text.replace("₂", "2"), flags=re.I
    )
    plain = re.sub(r"^lbs?(_co2)?(_per_|/)mwh$", "lb/MWh", plain, flags=re.I)
    plain = re.sub(r"^[A-Z]{3}/", "USD/", plain) if want == "USD/J" else plain
    try:
        return _Scale(parse(f"1 {plain}", want))
    except UnitError:
        return None


def _value_column(
    path: Path, head: Sequence[str], names: Sequence[str], when: int, want: str, column: str | None, unit: str | None
) -> tuple[int, _Scale]:
    """Return the column and its scale: the one named, the one of a known form, or the one whose name is a unit."""
    others = [k for k in range(len(head)) if k != when]
    stated = None if unit is None else _scale(unit, want)
    if unit is not None and stated is None:
        raise InputError(f"{path}: unit {unit!r} is not one of {want}")
    if column is not None:
        if _plain(column) not in names:
            raise InputError(f"{path}: no column is called {column!r}; {nearest(column, [head[k] for k in others])}")
        at = names.index(_plain(column))
        scale = stated or _scale(_unit_in(head[at]), want) or _scale(_known(names[at]), want)
        if scale is None and want == "fraction":
            scale = _Scale(1.0)
        if scale is None:
            raise InputError(f'{path}: the unit of column {head[at]!r} is not known; give unit, such as unit = "g/kWh"')
        return at, scale
    for known, _ in _VALUES:
        for k in others:
            if names[k].startswith(known):
                scale = stated or _scale(_unit_in(head[k]), want) or _scale(_known(names[k]), want)
                if scale is not None:
                    return k, scale
    if "lmp_type" in names and want == "USD/J":
        return names.index("mw"), stated or _Scale(parse("1 USD/MWh", "USD/J"))
    if "point_time" in names and "value" in names and want == "g/J":
        return names.index("value"), stated or _Scale(parse("1 lb/MWh", "g/J"))
    for k in others:
        scale = _scale(head[k], want) or _scale(_unit_in(head[k]) or "?", want)
        if scale is not None:
            return k, stated or scale
    if stated is not None and len(others) == 1:
        return others[0], stated
    raise InputError(
        f"{path}: no column is in {want} or a multiple of it; its columns are {', '.join(head)}; name one with "
        '{ file = "...", column = "...", unit = "..." }'
    )


def _unit_in(name: str) -> str:
    """Return the unit that a column's name holds: in brackets, or the word with a stroke."""
    for found in re.findall(r"[\[(]([^\])]*)[\])]", name):
        if "/" in found or found in ("MW", "kW", "W", "°C", "degC", "%"):
            return str(found).strip()
    word = next((w for w in name.split() if "/" in w), "")
    return word.strip("()[]")


def _known(name: str) -> str:
    return next((unit for known, unit in _VALUES if name.startswith(known)), "?")


def kinds() -> Mapping[str, str]:
    """Return the value columns that are known by name, and their units."""
    return dict(_VALUES)
