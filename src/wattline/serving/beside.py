"""Predictions beside measurements: relative errors by target and by group, and intervals.

Rows are any configurations with an id and groups; targets are named columns of positive numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, WattlineError
from ..source.base import Array, Device
from .conformal import factors
from .engine import settings
from .step import Job, Load, Replica

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


class Labelled(Protocol):
    """A row as far as errors are concerned."""

    @property
    def id(self) -> Any: ...

    @property
    def groups(self) -> Mapping[str, str]: ...

    @property
    def architecture(self) -> str: ...

    @property
    def traits(self) -> Mapping[str, float | str]: ...


# ------------------------------------------------------------------ rows
@dataclass(frozen=True)
class Measured:
    """One measured configuration. `groups`: by what its error is reported."""

    id: Any
    replica: Replica
    load: Load
    batch: float
    device: Device
    groups: Mapping[str, str]

    @property
    def architecture(self) -> str:
        """Architecture of the chip, "" where its sheet does not say."""
        return self.device.chip.tags.get("architecture", "")

    @property
    def job(self) -> Job:
        """What `work_of` takes."""
        return Job(self.replica, self.load, self.batch)


Found = TypeVar("Found")


def each(
    table: Columns, make: Callable[[Mapping[str, Any], int], Found], *, what: str, needed: Sequence[str],
    optional: Iterable[str],
) -> tuple[list[Found | None], list[str]]:  # fmt: skip
    """Return each row as `make` reads it, None where it cannot be read, and for each the reason, "" where none.

    A row that cannot be read costs no other. Raises InputError where a column of `needed` is missing for all.
    """
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError(
            f"{what} rows lack column {missing[0]!r}; needed: {', '.join(needed)}; "
            f"read where given: {', '.join(optional)}"
        )
    rows: list[Found | None] = []
    reasons = []
    for i in range(len(table[needed[0]])):
        try:
            rows.append(make({name: column[i] for name, column in table.items()}, i))
            reasons.append("")
        except WattlineError as error:
            rows.append(None)
            reasons.append(str(error))
    return rows, reasons


# ------------------------------------------------------------------ cells
def number(cells: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value: Any = cells.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if np.isnan(number) and default is not None:
        return default
    if not np.isfinite(number) or number < 0:
        raise InputError(f"column {name} must hold numbers of at least 0, got {value!r}")
    return number


def whole(cells: Mapping[str, Any], name: str, default: float | None = None) -> int:
    value = number(cells, name, default)
    if value != int(value) or value < 1:
        raise InputError(f"column {name} must hold whole numbers of at least 1, got {cells.get(name)!r}")
    return int(value)


# ------------------------------------------------------------------ errors
def metrics(predicted: Array, measured: Array) -> dict[str, float]:
    """Return relative errors of predictions: mean, median and 90th percentile of the size, and the median bias."""
    error = predicted / measured - 1.0
    size = np.abs(error)
    return {
        "mape": float(size.mean()),
        "median_ape": float(np.median(size)),
        "p90_ape": float(np.quantile(size, 0.9)),
        "bias": float(np.median(error)),
    }


def compare(
    rows: Sequence[Labelled], guess: Mapping[str, Array], measured: Columns, constants: str = "serving"
) -> dict[str, Any]:
    """Return rows, metrics by target, groups and predictions with 90 % intervals, those of the file `constants`."""
    found = _measured(guess, measured, len(rows))
    beyond = [extrapolated(row, constants) for row in rows]
    inside = {name: bounds(rows, name, values, constants) for name, values in guess.items()}
    return {
        "rows": len(rows),
        "metrics": {n: _told(guess[n], inside[n], v, np.isfinite(v)) for n, v in found.items()},
        "groups": _groups(rows, guess, found, inside),
        "predictions": [
            {"row_id": _plain(row.id), "extrapolated": bool(beyond[i])}
            | ({"beyond": beyond[i]} if beyond[i] else {})
            | {n: float(values[i]) for n, values in guess.items()}
            | {f"{n}_interval": [float(low[i]), float(high[i])] for n, (low, high) in inside.items()}
            for i, row in enumerate(rows)
        ],
    }


def bounds(rows: Sequence[Labelled], name: str, guess: Array, constants: str = "serving") -> tuple[Array, Array]:
    """Return what nine in ten measurements of models never seen lie between."""
    table = settings(constants)["interval"]
    ends = np.array([factors(table, row.traits, row.architecture, name) for row in rows], dtype=np.float64)
    wide = np.array([WIDER if extrapolated(row, constants) else 1.0 for row in rows])[:, None]
    ends = ends.reshape(len(rows), 2) ** wide
    return guess * ends[:, 0], guess * ends[:, 1]


# Power of the factors of an interval for a row unlike any fitted one: half as wide again, a judgement.
WIDER: Final = 1.5


def extrapolated(row: Labelled, constants: str = "serving") -> list[str]:
    """Return by which traits a row lies outside what the file `constants` was fitted to; none if inside."""
    known = settings(constants).get("reach", {})
    return [name for name, value in row.traits.items() if name in known and not _within(value, known[name])]


def _within(value: float | str, known: Sequence[Any]) -> bool:
    return value in known if isinstance(value, str) else known[0] <= value <= known[1]


def reach(rows: Sequence[Labelled]) -> dict[str, list[Any]]:
    """Return what traits rows cover: [least, largest] of numbers, every word of words."""
    out: dict[str, list[Any]] = {}
    for name in dict.fromkeys(n for row in rows for n in row.traits):
        values = [row.traits[name] for row in rows if name in row.traits]
        words = sorted({v for v in values if isinstance(v, str)})
        numbers = [v for v in values if not isinstance(v, str)]
        out[name] = words or [min(numbers), max(numbers)]
    return out


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _told(guess: Array, inside: tuple[Array, Array], measured: Array, mine: NDArray[np.bool_]) -> dict[str, float]:
    """Return the errors of some rows and the share of them that intervals hold; nothing where none was measured."""
    mine = mine & np.isfinite(measured)
    if not mine.any():
        return {}
    low, high = inside
    held = {"coverage_90": _coverage((low[mine], high[mine]), measured[mine])}
    return metrics(guess[mine], measured[mine]) | held


def _coverage(inside: tuple[Array, Array], measured: Array) -> float:
    return float(np.mean((inside[0] <= measured) & (measured <= inside[1])))


def _measured(targets: Mapping[str, Array], table: Columns, count: int) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in targets:
        if name not in table:
            continue
        values = np.array([_cell(value) for value in table[name]])
        if len(values) != count or np.isinf(values).any() or not (values[np.isfinite(values)] > 0).all():
            raise InputError(f"column {name} must hold a positive number in each of the {count} rows, or nothing")
        if not np.isfinite(values).any():
            continue
        found[name] = values
    return found


def _cell(value: Any) -> float:
    """Return a number, NaN for an empty cell."""
    return float("nan") if str(value).strip() in ("", "None") else float(value)


def _groups(
    rows: Sequence[Labelled], guess: Mapping[str, Array], found: Mapping[str, Array],
    inside: Mapping[str, tuple[Array, Array]],
) -> dict[str, Any]:  # fmt: skip
    out: dict[str, Any] = {}
    for by in rows[0].groups if rows else ():
        labels = np.array([row.groups[by] for row in rows])
        out[by] = {}
        for label in dict.fromkeys(labels.tolist()):
            mine = labels == label
            each = {name: _told(guess[name], inside[name], values, mine) for name, values in found.items()}
            out[by][label] = {"rows": int(mine.sum()), "metrics": {n: told for n, told in each.items() if told}}
    return out
