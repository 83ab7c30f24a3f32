"""What is known of how a sensor shows power: when it updates, how late, over what it averages, and when it looks.

    true power   __|~~~|____|~|_____
    looked at      [=]       [=]          duty: the share of time that the sensor looks at all
    shown             ^         ^         an update every `period`, give or take `jitter`, `lag` s late

Facts are shipped in ``data/sensors.toml``, each with its source, and those learnt on a machine by
``wattline doctor --probe`` are kept in a file of the same form, which comes first. What is not known is a range
that has to be reckoned with: it widens intervals, and answers name it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

from ..core.errors import InputError

# The share by which one update of a sensor may come early or late where nothing better is known.
JITTER: Final = 0.03


class Sensor(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of sensor behaves. Two numbers are the least and the most to reckon with.

    Attributes
    ----------
    period : s between updates; None asks for a probe.
    jitter : share of the period by which one gap between updates may differ from it.
    lag : s from the power to its showing, beside averaging; least and most.
    averaging : s over which what is shown is a mean, ending `lag` before the update.
    duty : share of the time that the sensor looks at; least and most. Equal numbers below 1 are known blindness.
    quantum : J or W between two values that can be shown.
    source : where this is known from; "" where it is only assumed.
    """

    period: float | None = None
    jitter: float = JITTER
    lag: tuple[float, float] = (0.0, 0.0)
    averaging: float = 0.0
    duty: tuple[float, float] = (1.0, 1.0)
    quantum: float = 0.0
    source: str = ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of what is only known as a range."""
        found = [name for name, (low, high) in (("lag", self.lag), ("duty", self.duty)) if high > low + 1e-9]
        return tuple(found)


class Row(Sensor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the file: a `Sensor` and the sensors that it is about, as shell patterns."""

    kind: str
    name: str = "*"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sensor: list[Row] = []


def learnt_file() -> Path:
    """Where learnt models are kept: WATTLINE_SENSORS, else beside the user's other data."""
    given = os.environ.get("WATTLINE_SENSORS", "")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "wattline" / "sensors.toml"


def read(path: Path) -> list[Row]:
    """The rows of a file; one that is not there has none.

    Raises
    ------
    InputError : the file is not of this form; the sentence names it.
    """
    try:
        return _decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}") from None


def _decode(data: bytes, name: str) -> list[Row]:
    try:
        return msgspec.toml.decode(data, type=_File).sensor
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name} must hold [[sensor]] tables as `wattline doctor --probe` writes them: {error}"
        ) from None


@functools.cache
def shipped() -> tuple[Row, ...]:
    """The rows that come with the package."""
    file = Path(__file__).with_name("data") / "sensors.toml"
    return tuple(_decode(file.read_bytes(), file.name))


def known(kind: str, name: str, learnt: list[Row] | None = None) -> Sensor | None:
    """What is known of a sensor: learnt here first, then shipped; None where there is nothing."""
    if not kind:
        return None
    for row in [*(learnt or ()), *shipped()]:
        if fnmatchcase(kind, row.kind) and fnmatchcase(name, row.name):
            found: Sensor = row
            return found
    return None


def keep(rows: list[Row], path: Path) -> None:
    """Add learnt rows to a file, in place of older ones of the same sensors; written whole or not at all."""
    fresh = {(row.kind, row.name) for row in rows}
    every = [*rows, *(row for row in read(path) if (row.kind, row.name) not in fresh)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text("\n".join(_table(row) for row in every), encoding="utf-8")
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def _table(row: Row) -> str:
    """A row as a TOML table; its strings, numbers and lists are written as JSON writes them."""
    facts = {key: value for key, value in msgspec.to_builtins(row).items() if value is not None}
    return "[[sensor]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
