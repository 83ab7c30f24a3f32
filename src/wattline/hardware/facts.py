"""A sheet of facts: every number of a piece of hardware with its unit, source and uncertainty.

A sheet is read from TOML where each leaf is ``key = ["value with unit", "source"]`` (optionally a
third entry, the relative uncertainty, e.g. ``"10 %"``). The keys a kind of sheet may have, their
units and what they mean stand in ``data/keys.csv``; code, messages and docs read that one file.
Values inside are SI.
"""

from __future__ import annotations

import csv
import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError, nearest
from ..units import parse, show

KINDS = ("chip", "node", "rack", "site")


@dataclass(frozen=True, slots=True)
class Fact:
    """One number: SI `value`, its `unit`, where it comes from, and its relative uncertainty."""

    value: float
    unit: str
    source: str
    uncertainty: float = 0.0

    def __str__(self) -> str:
        return show(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Key:
    """What one key of a sheet means: its SI unit, its bounds and a sentence."""

    name: str
    unit: str
    low: float
    high: float
    required: bool
    description: str


@functools.cache
def keys(kind: str) -> Mapping[str, Key]:
    """Return the keys a sheet of `kind` may have, by dotted name, from ``data/keys.csv``."""
    if kind not in KINDS:
        raise InputError(f"hardware kind {kind!r} is not known; {nearest(kind, KINDS)}")
    text = (resources.files("wattline.hardware") / "data" / "keys.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["key"]: Key(
            row["key"],
            row["unit"],
            float(row["low"] or "-inf"),
            float(row["high"] or "inf"),
            row["required"] == "yes",
            row["description"],
        )
        for row in rows
        if row["kind"] == kind
    }


@dataclass(frozen=True)
class Sheet:
    """The facts of one chip, node, rack or site, by dotted key. Immutable; `with_` makes variants.

    >>> from wattline.hardware.catalog import chip
    >>> chip("h100-sxm")["memory.hbm.bandwidth"]
    3350000000000.0
    """

    kind: str
    name: str
    title: str
    facts: Mapping[str, Fact]
    tags: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> float:
        try:
            return self.facts[key].value
        except KeyError:
            raise InputError(f"{self.kind} {self.name} states no {key}; {nearest(key, self.facts)}") from None

    def __contains__(self, key: object) -> bool:
        return key in self.facts

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def get(self, key: str, default: float) -> float:
        """Return the SI value of `key`, or `default` where the sheet does not state it."""
        fact = self.facts.get(key)
        return default if fact is None else fact.value

    def with_(self, changes: Mapping[str, str | float], source: str = "set by hand") -> Sheet:
        """Return a copy with some facts replaced: text with a unit, or a float in SI."""
        facts = dict(self.facts)
        for key, value in changes.items():
            facts[key] = _fact(self.kind, self.name, key, value, source)
        return replace(self, facts=facts)


def _fact(kind: str, name: str, key: str, value: object, source: str, spread: object = 0.0) -> Fact:
    known = keys(kind)
    where = f"{kind} {name}: {key}"
    if key not in known:
        raise InputError(f"{where} is not a known key; {nearest(key, known)}")
    rule = known[key]
    number = float(value) if isinstance(value, float) else parse(value, rule.unit, key=where)  # type: ignore[arg-type]
    if not rule.low <= number <= rule.high:
        raise InputError(
            f"{where} must lie between {show(rule.low, rule.unit)} and {show(rule.high, rule.unit)}, "
            f"got {show(number, rule.unit)}"
        )
    return Fact(number, rule.unit, source, parse(spread, "", key=where) if spread else 0.0)  # type: ignore[arg-type]


def sheet(kind: str, data: Mapping[str, Any], *, base: Sheet | None = None) -> Sheet:
    """Build a sheet of `kind` from parsed TOML; `base` supplies what `data` leaves out."""
    tags = {k: str(v) for k, v in data.items() if isinstance(v, (str, bool, int)) and k != "name"}
    name = str(data.get("name", base.name if base else "unnamed"))
    facts = dict(base.facts) if base else {}
    for key, leaf in _leaves(data, ""):
        value, source, spread = _leaf(kind, name, key, leaf)
        facts[key] = _fact(kind, name, key, value, source, spread)
    missing = [k for k, rule in keys(kind).items() if rule.required and k not in facts]
    if missing:
        raise InputError(f"{kind} {name} must state {', '.join(missing)}, and does not")
    return Sheet(kind, name, tags.pop("title", base.title if base else name), facts, tags)


def load(kind: str, path: Path, *, base: Sheet | None = None) -> Sheet:
    """Read a sheet of `kind` from a TOML file."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    return sheet(kind, data, base=base)


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif prefix or isinstance(value, list):
            yield prefix + key, value


def _leaf(kind: str, name: str, key: str, leaf: object) -> tuple[object, str, object]:
    """Take apart ``[value, source]`` or ``[value, source, uncertainty]``."""
    if isinstance(leaf, list) and len(leaf) in (2, 3) and isinstance(leaf[1], str) and leaf[1]:
        return leaf[0], leaf[1], leaf[2] if len(leaf) == 3 else 0.0
    raise InputError(
        f'{kind} {name}: {key} must be ["value with unit", "source"], got {leaf!r}; '
        "a number without a source is not taken"
    )
