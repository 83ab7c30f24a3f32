"""Numbers over time for a plan: prices, carbon, power limits and temperatures, one value a step.

A CSV holds a column ``time`` (ISO 8601 with an offset, or seconds) and columns named by their unit: ``g/kWh``,
``USD/MWh``, ``MW``, ``degC``. Each row holds until the next. A missing value or a step longer than the others
is a gap, and a gap is refused, because the carbon of an unknown hour is not known; it is filled only when
asked, and what was filled is marked.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnitError
from ..core.units import parse, show
from ..measure.carbon.series import instant

Array = NDArray[np.float64]
Fill = Literal["hold", "line"]

UNITS: Final = ("g/J", "USD/J", "W", "K", "fraction")
ZERO_CELSIUS: Final = 273.15


@dataclass(frozen=True, eq=False)
class Steps:
    """Values that hold from one edge to the next.

    Attributes
    ----------
    edges : (n + 1,) seconds, increasing. values : (n,) in `unit`, one of `UNITS`.
    filled : (n,) True where the value was not given but filled in.
    """

    edges: Array
    values: Array
    unit: str
    source: str
    filled: NDArray[np.bool_]

    def on(self, edges: Array) -> Array:
        """Return the mean of every period between `edges`; outside of what is known is an error."""
        if edges[0] < self.edges[0] - 1e-6 or edges[-1] > self.edges[-1] + 1e-6:
            raise InputError(
                f"{self.source} holds from {moment(self.edges[0])} to {moment(self.edges[-1])}, and the plan needs "
                f"{moment(edges[0])} to {moment(edges[-1])}"
            )
        area = np.concatenate([[0.0], np.cumsum(self.values * np.diff(self.edges))])
        return np.asarray(np.diff(np.interp(edges, self.edges, area)) / np.diff(edges))

    def marked(self, edges: Array) -> NDArray[np.bool_]:
        """Return which periods rest on filled values."""
        share = Steps(self.edges, self.filled.astype(float), self.unit, self.source, self.filled)
        return share.on(edges) > 1e-12


def constant(value: float, unit: str, edges: Array, source: str) -> Steps:
    """Return one value for all time between the first and last edge."""
    return Steps(np.array([edges[0], edges[-1]]), np.array([value]), unit, source, np.zeros(1, bool))


def read(path: Path, unit: str, fill: Fill | None = None) -> Steps:
    """Return the column of `path` whose unit is of the kind of `unit`.

    `fill`: "hold" keeps the last value through a gap, "line" draws a straight line; None refuses gaps.
    """
    head, rows = _table(path)
    column, factor, offset = _column(path, head, unit)
    times, values = [], []
    for number, row in enumerate(rows, 2):
        text = row[column].strip() if len(row) > column else ""
        try:
            times.append(instant(row[0]))
            values.append(float(text) * factor + offset if text else np.nan)
        except (ValueError, InputError):
            raise InputError(
                f"{path}, row {number}: expected a time with an offset and a number, got {','.join(row)!r}"
            ) from None
    if len(times) < 2:
        raise InputError(f"{path}: a series needs two rows or more, so that the length of a step is known")
    at, known = np.array(times), np.array(values)
    step = np.diff(at)
    if (step <= 0).any():
        raise InputError(f"{path}: times must rise, but row {int(np.argmin(step)) + 3} does not")
    return _whole(at, known, float(np.median(step)), unit, str(path), fill)


def _whole(at: Array, values: Array, step: float, unit: str, source: str, fill: Fill | None) -> Steps:
    """Return the steps on an even grid where rows are missing, gaps refused or filled."""
    count = np.maximum(1, np.round(np.append(np.diff(at), step) / step)).astype(int)
    first = np.concatenate([[0], np.cumsum(count)])[:-1]
    whole = np.full(int(count.sum()), np.nan)
    whole[first] = values
    inner = np.concatenate([np.arange(c) for c in count])
    edges = np.append(np.repeat(at, count) + inner * step, at[-1] + step)
    gap = np.isnan(whole)
    # The last row may only end the series.
    if gap[-1] and np.isnan(values[-1]):
        whole, gap, edges = whole[:-1], gap[:-1], edges[:-1]
    if gap.any() and fill is None:
        starts = np.flatnonzero(gap & ~np.append(False, gap[:-1]))
        k = int(starts[0])
        long = int(np.argmin(np.append(gap[k:], False)))
        span = show(float(edges[k + long] - edges[k]), "s")
        raise InputError(
            f"{source} has {len(starts)} gap{'s' if len(starts) > 1 else ''} in {unit}, the first of {span} from "
            f'{moment(float(edges[k]))}; give the values, or ask for fill = "hold" or "line"'
        )
    if gap.any():
        if gap[0] or (~gap).sum() == 0:
            raise InputError(f"{source} begins with a gap in {unit}, and there is nothing to fill it from")
        place = np.arange(len(whole))
        if fill == "line":
            whole[gap] = np.interp(place[gap], place[~gap], whole[~gap])
        else:
            whole = whole[np.maximum.accumulate(np.where(gap, 0, place))]
    return Steps(edges, whole, unit, source, gap)


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}") from None
    if not table or len(table[0]) < 2 or table[0][0].strip() != "time":
        raise InputError(f"{path}: the first line must be 'time,UNIT,...', such as 'time,g/kWh,USD/MWh'")
    return [name.strip() for name in table[0]], table[1:]


def _column(path: Path, head: list[str], unit: str) -> tuple[int, float, float]:
    """Return the column of a unit, its factor and offset to SI."""
    for place, name in enumerate(head[1:], 1):
        if unit == "K" and name in ("degC", "°C"):
            return place, 1.0, ZERO_CELSIUS
        try:
            return place, parse(f"1 {name}", unit), 0.0
        except UnitError:
            continue
    raise InputError(f"{path}: no column is in {unit} or a multiple of it; its columns are {', '.join(head)}")


def temperature(text: object, key: str) -> float:
    """Read a temperature such as "25 degC" or "298 K" and return kelvin.

    >>> temperature("25 degC", "outdoor")
    298.15
    """
    for name in ("degC", "°C"):
        if isinstance(text, str) and text.strip().endswith(name):
            try:
                return float(text.strip()[: -len(name)]) + ZERO_CELSIUS
            except ValueError:
                break
    try:
        return parse(text, "K", key=key)
    except UnitError:
        raise UnitError(f'{key}: {text!r} is not a temperature, e.g. "25 degC" or "298 K"') from None


def moment(seconds: float) -> str:
    """Write an instant: a date where it is one, hours from the start where it is small."""
    if abs(seconds) < 1e8:
        return f"{seconds / 3600:g} h"
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
