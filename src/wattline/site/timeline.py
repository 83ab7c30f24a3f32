"""Numbers over time for a plan: prices, carbon, power limits and temperatures, one value a step.

A CSV holds a column ``time`` (ISO 8601 with an offset, or seconds) and columns named by their unit: ``g/kWh``,
``USD/MWh``, ``MW``, ``degC``. Each row holds until the next. A missing value or a step longer than the others
is a gap, and a gap is refused, because the carbon of an unknown hour is not known; it is filled only when
asked, and what was filled is marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnitError
from ..core.units import parse, show
from ..measure.carbon import files
from ..measure.carbon.files import ZERO_CELSIUS

Array = NDArray[np.float64]
Fill = Literal["hold", "line"]

UNITS: Final = ("g/J", "USD/J", "W", "K", "fraction")


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


def read(
    path: Path, unit: str, fill: Fill | None = None, *, column: str | None = None, given: str | None = None,
    zone: str | None = None,
) -> Steps:  # fmt: skip
    """Return the column of `path` whose unit is of the kind of `unit`; the forms of `measure.carbon.files` are known.

    `fill`: "hold" keeps the last value through a gap, "line" draws a straight line; None refuses gaps. `column`,
    `given` (its unit) and `zone` say what a file leaves open.
    """
    found = files.read(path, unit, column=column, unit=given, zone=zone)
    return _whole(found.time, found.value, unit, str(path), fill)


def _steps_of(at: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return (n,) the length of a step at each row, and how many steps lie between it and the next row.

    A file may go from hours to quarters of an hour: a step is as long as the shorter of its neighbours, unless one of
    them is as long as itself; a longer one holds a gap.
    """
    step = np.append(np.diff(at), 0.0)
    step[-1] = step[-2]
    before, after = np.append(step[1], step[:-1]), np.append(step[1:], step[-1])
    if len(step) == 2:
        before = after = step
    near = np.maximum(before, after)
    usual = np.where(step <= 1.5 * near, step, near)
    count = np.maximum(1, np.round(step / usual)).astype(np.int64)
    count[-1] = 1
    return step / count, count


def _whole(at: Array, values: Array, unit: str, source: str, fill: Fill | None) -> Steps:
    """Return the steps with rows put in where some are missing, gaps refused or filled."""
    length, count = _steps_of(at)
    first = np.concatenate([[0], np.cumsum(count)])[:-1]
    whole = np.full(int(count.sum()), np.nan)
    whole[first] = values
    inner = np.concatenate([np.arange(c) for c in count])
    edges = np.append(np.repeat(at, count) + inner * np.repeat(length, count), at[-1] + length[-1])
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
