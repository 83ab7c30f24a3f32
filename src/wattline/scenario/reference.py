"""Every key a file may have, as plain rows: for `wattline schema`, JSON and the reference pages of the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..core.errors import InputError, nearest
from ..core.units import show
from ..hardware.facts import KINDS, keys
from ..hardware.stated import rules
from . import schema, schema_design, schema_fleet

# Kind of file -> what it is, in the order in which the kinds are listed.
FILES: Final[Mapping[str, str]] = {
    "scenario": "One training job or serving replica",
    "fleet": "Many jobs on one site ([[job]])",
    "design": "A study of chip designs ([design])",
    "hardware": "The facts of a chip, node, rack or site sheet",
    "architecture": "A chip described part by part",
}

_FORMS: Final[Mapping[str, str]] = {
    "text": "text", "whole": "whole number", "flag": "true or false", "": "number or %", "list": "list",
    "texts": "list of names", "wholes": "list of whole numbers", "names": "name or list of names",
    "pairs": "list of pairs", "demand": "quantity in request/s or token/s", "temperature": "temperature",
    "instant": "time",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One key: the kind of file it stands in, its dotted path, its form with the unit, its default, and a sentence.

    `default` is empty where a key has none, and "required" where the file must state it.
    """

    file: str
    key: str
    value: str
    default: str
    meaning: str


def rows(what: str | None = None) -> list[Row]:
    """Return the rows of a kind of file, of a section, or of one key; all of them where `what` is None.

    Raises `InputError`, naming the nearest kind, section or key, where nothing is called `what`.
    """
    every = list(_all())
    if what is None:
        return every
    if what in FILES:
        return [row for row in every if row.file == what]
    wanted = what.strip().strip("[]")
    found = [row for row in every if row.key == wanted or row.key.startswith(f"{wanted}.")]
    if not found:
        known = dict.fromkeys([*FILES, *(row.key.partition(".")[0] for row in every), *(row.key for row in every)])
        raise InputError(f"no key, section or kind of file is called {what!r}; {nearest(wanted, list(known))}")
    return found


def sections() -> list[tuple[str, str, str]]:
    """Return each kind of file with what it is and the names of its sections."""
    every = list(_all())
    return [
        (file, text, ", ".join(dict.fromkeys(row.key.partition(".")[0] for row in every if row.file == file)))
        for file, text in FILES.items()
    ]


def _all() -> Iterator[Row]:
    for key in schema.KEYS.values():
        yield _scenario("scenario", key, key.path)
    for key in schema_fleet.KEYS.values():
        yield _scenario("fleet", key, key.path)
    for key in schema_design.KEYS.values():
        yield _scenario("design", key, f"design.{key.path}" if key.section == "work" else key.path)
    for kind in KINDS:
        for fact in keys(kind).values():
            yield Row("hardware", f"{kind}.{fact.name}", _quantity(fact.unit), _needed(fact.required), fact.description)
    for rule in rules().values():
        form = f"{rule.form} in {rule.unit}" if rule.unit else rule.form
        yield Row("architecture", rule.name, form, _needed(rule.required), rule.description)


def _scenario(file: str, key: schema.Key, path: str) -> Row:
    return Row(file, path, _form(key), _default(key), key.text)


def _default(key: schema.Key) -> str:
    if key.default is None:
        return ""
    if key.kind == "temperature":
        return f"{key.default - 273.15:g} degC"
    if isinstance(key.default, float) and _form(key).startswith("quantity"):
        return show(key.default, key.kind) if key.default else "0"
    return str(key.default).lower() if key.kind == "flag" else str(key.default)


def _form(key: schema.Key) -> str:
    if key.choices:
        return ", ".join(key.choices)
    if key.kind.startswith("series "):
        return f"quantity in {key.kind.partition(' ')[2]}, or a CSV file"
    return _FORMS.get(key.kind, f"quantity in {key.kind}")


def _quantity(unit: str) -> str:
    return f"quantity in {unit}" if unit else "number or %"


def _needed(required: bool) -> str:
    return "required" if required else ""
