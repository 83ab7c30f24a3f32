"""A sheet of facts: every number of a piece of hardware with its unit, source and uncertainty.

A sheet is read from TOML where each leaf is ``key = ["value with unit", "source"]`` (optionally a
third entry, the relative uncertainty, e.g. ``"10 %"``). The keys a kind of sheet may have, their
units and what they mean stand in ``data/keys.csv``; code, messages and docs read that one file.
Values inside are SI.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from ..core.errors import InputError, nearest
from ..core.toml_text import read_toml
from ..core.units import parse, show

KINDS: Final = ("chip", "node", "rack", "site")

# Plain text a sheet may hold beside its facts: what it is called, and what it goes with.
TAGS: Final = ("name", "title", "aliases", "base", "node", "architecture", "note")

# Prefix of a chip's keys that name an entry of its architecture.
INSIDE: Final = "architecture."

# Tags a variant takes from its base; the others name one sheet only.
_INHERITED: Final = ("node", "architecture")

# Pairs of keys of which the first may not exceed the second.
_ORDER: Final = {
    "chip": (
        ("clock.min", "clock.max"),
        ("clock.min", "voltage.knee"),
        ("voltage.knee", "clock.max"),
        ("voltage.min", "voltage.max"),
        ("power.limit_min", "power.limit"),
        ("power.idle", "power.limit"),
        ("power.waiting", "power.limit"),
    ),
    "node": (("host.idle", "host.power"),),
    "rack": (("overhead.power", "power.limit"),),
}  # fmt: skip


@runtime_checkable
class Parts(Protocol):
    """A chip description behind a sheet: what changes in it gives another sheet."""

    def with_(self, changes: Mapping[str, object]) -> Parts: ...
    def scaled(self, key: str, factor: float) -> Parts: ...
    def sheet(self) -> Sheet: ...


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

    `parts`: the architecture the facts were worked out from, where there is one; its entries are replaced under
    ``architecture.`` and the facts follow. `origin`: the sheet that a variant was made from; what was learned from
    measurements of it is no function of the facts replaced since.

    >>> from wattline.hardware.catalog import chip
    >>> chip("h100-sxm")["memory.hbm.bandwidth"]
    3350000000000.0
    """

    kind: str
    name: str
    title: str
    facts: Mapping[str, Fact]
    tags: Mapping[str, str] = field(default_factory=dict)
    parts: Parts | None = field(default=None, repr=False)
    origin: Sheet | None = field(default=None, repr=False, compare=False)

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
        """Return a copy with some facts replaced: text with a unit, or a float in SI.

        The new facts carry `source` and no uncertainty: what is set by hand is taken as given.
        """
        deep = {k.removeprefix(INSIDE): v for k, v in changes.items() if k.startswith(INSIDE)}
        if deep:
            return self._rebuilt(deep).with_({k: v for k, v in changes.items() if not k.startswith(INSIDE)}, source)
        facts = dict(self.facts)
        for key, value in changes.items():
            facts[key] = _fact(self.kind, self.name, key, value, source)
        _check_order(self.kind, self.name, facts)
        return replace(self, facts=facts, origin=self.origin or self)

    def _rebuilt(self, changes: Mapping[str, object]) -> Sheet:
        """Return the sheet of the architecture with entries replaced."""
        if self.parts is None:
            raise InputError(
                f"{self.kind} {self.name} is a sheet of facts without parts, so {INSIDE}{next(iter(changes))} cannot "
                "be set; name a chip description, e.g. a100-like (wattline catalog architectures)"
            )
        return replace(self.parts.with_(changes).sheet(), origin=self.origin or self)

    def scaled(self, key: str, factor: float) -> Sheet:
        """Return a copy with one fact multiplied, bounds unchecked: for derivatives."""
        if key.startswith(INSIDE) and self.parts is not None:
            scaled = self.parts.scaled(key.removeprefix(INSIDE), factor).sheet()
            return replace(scaled, origin=self.origin or self)
        fact = self.facts[key]
        facts = {**self.facts, key: replace(fact, value=fact.value * factor)}
        return replace(self, facts=facts, origin=self.origin or self)


def load(kind: str, path: Path, *, base: Sheet | None = None) -> Sheet:
    """Read a sheet of `kind` from a TOML file; one without a name is called as its file is."""
    data = {"name": path.stem, **read_toml(path)}
    try:
        return sheet(kind, data, base=base)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


def sheet(kind: str, data: Mapping[str, Any], *, base: Sheet | None = None) -> Sheet:
    """Build a sheet of `kind` from parsed TOML; `base` supplies what `data` leaves out."""
    name = str(data.get("name", base.name if base else "unnamed"))
    tags = _tags(kind, name, data)
    title = tags.pop("title", base.title if base else name)
    if base:
        tags = {k: base.tags[k] for k in _INHERITED if k in base.tags} | tags
    facts = dict(base.facts) if base else {}
    for key, leaf in _leaves(data, ""):
        facts[key] = _leaf(kind, name, key, leaf)
    missing = [k for k, rule in keys(kind).items() if rule.required and k not in facts]
    if missing:
        raise InputError(f"{kind} {name} must state {', '.join(missing)}, and does not")
    _check_order(kind, name, facts)
    return Sheet(kind, name, title, facts, tags)


def _tags(kind: str, name: str, data: Mapping[str, Any]) -> dict[str, str]:
    """Return the plain text entries of a sheet other than its name."""
    tags = {}
    for key, value in data.items():
        if isinstance(value, (list, Mapping)) or key in keys(kind):
            continue
        if key not in TAGS:
            raise InputError(f"{kind} {name}: {key} is not a known key; {nearest(key, [*TAGS, *keys(kind)])}")
        if not isinstance(value, str):
            raise InputError(f"{kind} {name}: {key} must be text, got {value!r}")
        if key != "name":
            tags[key] = value
    return tags


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    """Yield every (dotted key, leaf) but the tags, which stand at the top."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif prefix or key not in TAGS or isinstance(value, list):
            yield prefix + key, value


def _leaf(kind: str, name: str, key: str, leaf: object) -> Fact:
    """Turn ``[value, source]`` or ``[value, source, uncertainty]`` into a fact."""
    rule, where = _rule(kind, name, key), f"{kind} {name}: {key}"
    if not (isinstance(leaf, list) and len(leaf) in (2, 3)):
        raise InputError(f'{where} must be ["value with unit", "source"], got {leaf!r}')
    if not (isinstance(leaf[1], str) and leaf[1].strip()):
        raise InputError(f"{where} has no source, got {leaf!r}; say where the number comes from")
    number = parse(leaf[0], rule.unit, key=where)
    spread = parse(leaf[2], "", key=f"{where} uncertainty") if len(leaf) == 3 else 0.0
    if spread < 0:
        raise InputError(f"{where} uncertainty must be 0 or more, got {leaf[2]!r}")
    return _fact(kind, name, key, number, leaf[1], spread)


def _rule(kind: str, name: str, key: str) -> Key:
    known = keys(kind)
    if key not in known:
        raise InputError(f"{kind} {name}: {key} is not a known key; {nearest(key, known)}")
    return known[key]


def _fact(kind: str, name: str, key: str, value: str | float, source: str, spread: float = 0.0) -> Fact:
    """Make one fact; a float is in SI already, text is read with its unit, and both are bounded."""
    rule, where = _rule(kind, name, key), f"{kind} {name}: {key}"
    number = value if isinstance(value, float) else parse(value, rule.unit, key=where)
    if not rule.low <= number <= rule.high:
        raise InputError(
            f"{where} must lie between {show(rule.low, rule.unit)} and "
            f"{show(rule.high, rule.unit)}, got {show(number, rule.unit)}"
        )
    return Fact(float(number), rule.unit, source, spread)


def _check_order(kind: str, name: str, facts: Mapping[str, Fact]) -> None:
    """Refuse a pair of facts that contradict each other, like a lowest clock above the highest."""
    for low, high in _ORDER.get(kind, ()):
        if low in facts and high in facts and facts[low].value > facts[high].value:
            raise InputError(f"{kind} {name}: {low} must not exceed {high}, got {facts[low]} and {facts[high]}")
