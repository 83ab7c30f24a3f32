"""The carbon intensity of electricity by country and year, each row with its source.

A yearly mean hides the hours, so it is marked with its year and is never used unless a country is named.
A country that is not in the table has no value here: give a series or a number instead.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from ...core.errors import InputError, nearest
from ...core.units import parse
from .series import Series


@dataclass(frozen=True, slots=True)
class Country:
    """One row: mean `intensity` in g/J of the electricity generated in a `year`, its `kind` and `source`."""

    code: str
    code2: str
    name: str
    year: int
    intensity: float
    kind: str
    source: str

    def series(self, start: float, stop: float) -> Series:
        """The yearly mean for a span of time (seconds since 1970), marked as an estimate throughout."""
        return Series(
            (start, stop), (self.intensity,), "g/J", f"{self.name} {self.year}: {self.source}", "average", (True,)
        )


@functools.cache
def countries() -> Mapping[str, Country]:
    """Every country of the table by its three-letter code (ISO 3166-1)."""
    text = (resources.files(__package__) / "countries.csv").read_text("utf-8")
    rows = {}
    for row in csv.DictReader(text.splitlines()):
        intensity = parse(f"{row['intensity']} {row['unit']}", "g/J")
        rows[row["code"]] = Country(
            row["code"], row["code2"], row["country"], int(row["year"]), intensity, row["kind"], row["source"]
        )
    return rows


def country(name: str) -> Country:
    """A country by its name or its two- or three-letter code, in any case; an error names the nearest."""
    wanted = name.strip().casefold()
    for row in countries().values():
        if wanted in (row.code.casefold(), row.code2.casefold(), row.name.casefold()):
            return row
    names = [row.name for row in countries().values()]
    raise InputError(f"no carbon intensity is known for {name!r}; {nearest(name, names)}")
