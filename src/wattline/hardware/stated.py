"""What a chip description states: every number with its unit, source, uncertainty and place, by dotted key.

A description is read from TOML where each number is ``key = ["value with unit", "source"]`` (optionally a
third entry, the relative uncertainty), a curve is ``[["0.7 V", "0.9 V"], "source"]``, and a choice of
structure (what a level holds, what a fan-out shares) is plain text, ``true`` or a list of names. The keys,
their units and bounds stand in ``data/architecture-keys.csv``; code, messages and docs read that one file.
Values inside are SI.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

from ..core.errors import InputError, UnitError, nearest
from ..core.units import parse, show
from .lines import nearest_line

TAGS: Final = ("name", "title", "aliases", "base", "node", "family", "server", "note", "checked")
BY_HAND: Final = "set by hand"

Value = float | bool | str | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stated:
    """One entry: SI `value`, its `unit` ("B/cycle" where stated per cycle), where it comes from, and where it stands.

    `place` is "file, line n" or who set it, for messages.
    """

    value: Value
    unit: str
    source: str
    uncertainty: float = 0.0
    place: str = ""

    def __str__(self) -> str:
        if isinstance(self.value, tuple):
            return ", ".join(show(v, self.unit) if isinstance(v, float) else v for v in self.value)
        return show(self.value, self.unit) if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one key means: form, SI unit, bounds and a sentence; ``*`` in `name` is a name of the file's own."""

    name: str
    form: str
    unit: str
    low: float
    high: float
    required: bool
    description: str


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Return the keys a description may have, by name with ``*``, from ``data/architecture-keys.csv``."""
    text = (resources.files("wattline.hardware") / "data" / "architecture-keys.csv").read_text("utf-8")
    return {
        row["key"]: Rule(
            row["key"],
            row["form"],
            row["unit"],
            float(row["low"] or "-inf"),
            float(row["high"] or "inf"),
            row["required"] == "yes",
            row["description"],
        )
        for row in csv.DictReader(text.splitlines())
    }


@functools.cache
def rule(key: str) -> Rule:
    """Return the rule of a dotted key, or raise InputError naming the nearest."""
    group, _, rest = key.partition(".")
    known = rules()
    for name in (key, f"{group}.*.{rest.partition('.')[2]}", f"{group}.{rest.partition('.')[0]}.*"):
        if name in known and (name == key or _one_name(name, key)):
            return known[name]
    offered = [name.replace("*", part) for name, part in _candidates(key)]
    raise InputError(f"{key} is not a known key; {nearest(key, offered)}")


def _one_name(name: str, key: str) -> bool:
    """Say whether `key` fills each ``*`` of `name` with exactly one part."""
    return name.count(".") == key.count(".")


def _candidates(key: str) -> Iterator[tuple[str, str]]:
    """Yield (rule, what to put for its star) for messages about an unknown key."""
    parts = key.split(".")
    for name in rules():
        star = name.split(".").index("*") if "*" in name else 0
        yield name, parts[star] if "*" in name and len(parts) > star else "NAME"


def read(data: Mapping[str, Any], file: str, found: Mapping[str, int]) -> dict[str, Stated]:
    """Return every entry of parsed TOML; `found` gives the lines of the file (`lines.lines`)."""
    entries: dict[str, Stated] = {}
    for key, leaf in _leaves(data, ""):
        place = f"{file}, line {nearest_line(dict(found), key)}"
        try:
            entries[key] = _entry(key, leaf, place)
        except InputError as error:
            raise type(error)(f"{place}: {error}") from None
    return entries


def changed(entries: Mapping[str, Stated], changes: Mapping[str, object]) -> dict[str, Stated]:
    """Return the entries with some replaced: text with a unit, or SI numbers; these carry no uncertainty."""
    out = dict(entries)
    for key, value in changes.items():
        if key in TAGS:
            raise InputError(f"{key} is text beside the facts and cannot be replaced here")
        form = rule(key)
        if isinstance(value, Stated):
            out[key] = value
        elif form.form in ("number", "numbers"):
            number, unit = _value(key, form, value)
            out[key] = Stated(number, unit, BY_HAND, 0.0, BY_HAND)
        else:
            out[key] = Stated(_choice(key, form, value), "", BY_HAND, 0.0, BY_HAND)
    return out


def scaled(entries: Mapping[str, Stated], key: str, factor: float) -> dict[str, Stated]:
    """Return the entries with one number (or curve) multiplied, bounds unchecked: for derivatives."""
    if key not in entries:
        raise InputError(f"{key} is not stated; {nearest(key, entries)}")
    entry = entries[key]
    if isinstance(entry.value, float) and not isinstance(entry.value, bool):
        return {**entries, key: replace(entry, value=entry.value * factor)}
    if isinstance(entry.value, tuple) and all(isinstance(v, float) for v in entry.value):
        return {**entries, key: replace(entry, value=tuple(float(v) * factor for v in entry.value))}
    raise InputError(f"{key} is {entry.value!r}, which has no multiple; name a number")


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif prefix or key not in TAGS:
            yield prefix + key, value


def _entry(key: str, leaf: object, place: str) -> Stated:
    form = rule(key)
    if form.form not in ("number", "numbers"):
        return Stated(_choice(key, form, leaf), "", "", 0.0, place)
    example = '[["value with unit", ...], "source"]' if form.form == "numbers" else '["value with unit", "source"]'
    if not (isinstance(leaf, list) and len(leaf) in (2, 3)):
        raise InputError(f"{key} must be {example}, got {leaf!r}")
    if not (isinstance(leaf[1], str) and leaf[1].strip()):
        raise InputError(f"{key} has no source, got {leaf!r}; say where the number comes from")
    spread = parse(leaf[2], "", key=f"{key} uncertainty") if len(leaf) == 3 else 0.0
    if spread < 0:
        raise InputError(f"{key} uncertainty must be 0 or more, got {leaf[2]!r}")
    value, unit = _value(key, form, leaf[0])
    return Stated(value, unit, leaf[1], spread, place)


def _value(key: str, form: Rule, value: object) -> tuple[float | tuple[float, ...], str]:
    """Read one number or a list of them; returns its unit, which is per cycle where the text says so."""
    if form.form == "number":
        return _number(key, form, value)
    if not isinstance(value, (list, tuple)) or not value:
        raise InputError(f"{key} must be a list of values with units, got {value!r}")
    return tuple(_number(key, form, v)[0] for v in value), form.unit


def _number(key: str, form: Rule, value: object) -> tuple[float, str]:
    unit = form.unit
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not unit:
        number = float(value)
    elif isinstance(value, float):
        number = value  # in SI already
    elif unit == "B/s" and isinstance(value, str) and value.rstrip().endswith("/cycle"):
        number, unit = parse(value.rstrip().removesuffix("/cycle"), "B", key=key), "B/cycle"
    elif isinstance(value, int) and unit:
        raise UnitError(f'{key}: {value!r} has no unit; write it with one, e.g. "{value} {unit}"')
    else:
        number = parse(value, unit, key=key)
    if unit == form.unit and not form.low <= number <= form.high:
        raise InputError(
            f"{key} must lie between {show(form.low, unit)} and {show(form.high, unit)}, got {show(number, unit)}"
        )
    return float(number), unit


def _choice(key: str, form: Rule, value: object) -> Value:
    if form.form == "flag":
        if isinstance(value, bool):
            return value
        raise InputError(f"{key} must be true or false, got {value!r}")
    if form.form == "word":
        if isinstance(value, str) and value:
            return value
        raise InputError(f"{key} must be a name, got {value!r}")
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise InputError(f'{key} must be a list of names like ["a", "c"], got {value!r}')
