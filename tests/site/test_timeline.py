"""Tests for `wattline.site.timeline`: series with their units, and gaps that are never filled unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError, UnitError
from wattline.site.timeline import constant, read, temperature

EDGES = np.arange(5) * 3600.0


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.csv"
    path.write_text(text)
    return path


def test_columns_are_found_by_their_unit(tmp_path: Path) -> None:
    """One file holds carbon, price, a limit and the weather; each is read in SI."""
    path = write(tmp_path, "time,g/kWh,USD/MWh,MW,degC\n0,360,36,2,20\n3600,720,72,3,25\n7200,,,,\n")
    edges = np.array([0.0, 3600, 7200])
    assert read(path, "g/J").on(edges) == pytest.approx([1e-4, 2e-4])
    assert read(path, "USD/J").on(edges) == pytest.approx([1e-8, 2e-8])
    assert read(path, "W").on(edges) == pytest.approx([2e6, 3e6])
    assert read(path, "K").on(edges) == pytest.approx([293.15, 298.15])
    assert read(path, "g/J").on(np.array([1800.0, 5400.0])) == pytest.approx([1.5e-4])


@pytest.mark.parametrize("rows", ["0,1\n3600,\n7200,3\n10800,4\n14400,", "0,1\n7200,3\n10800,4\n14400,"])
def test_gaps_are_refused_and_filled_only_when_asked(tmp_path: Path, rows: str) -> None:
    """A missing value and a missing row are both gaps; what is filled is marked."""
    path = write(tmp_path, "time,g/J\n" + rows)
    with pytest.raises(InputError, match=r'1 gap in g/J, the first of .* from 1 h; .*fill = "hold" or "line"'):
        read(path, "g/J")
    assert read(path, "g/J", "hold").on(EDGES) == pytest.approx([1, 1, 3, 4])
    line = read(path, "g/J", "line")
    assert line.on(EDGES) == pytest.approx([1, 2, 3, 4])
    assert line.marked(EDGES).tolist() == [False, True, False, False]


def test_a_series_that_ends_too_soon_is_said(tmp_path: Path) -> None:
    """The plan's span and the series' are both named."""
    path = write(tmp_path, "time,g/J\n2026-01-01T00:00Z,1\n2026-01-01T01:00Z,2\n")
    with pytest.raises(InputError, match="holds from 2026-01-01T00:00:00Z to 2026-01-01T02:00:00Z"):
        read(path, "g/J").on(np.array([1767225600.0, 1767225600 + 3 * 3600]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("when,g/J\n0,1\n", "first line"),
        ("time,W\n0,1\n60,1\n", "no column is in g/J"),
        ("time,g/J\n0,1\n", "two rows"),
        ("time,g/J\n60,1\n0,1\n120,1\n", "must rise"),
        ("time,g/J\n0,x\n60,1\n", "row 2"),
        ("time,g/J\n2026-01-01T00:00,1\n60,1\n", "row 2.*offset"),
        ("time,g/J\n0,\n60,1\n120,1\n", "gap"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """Each with the row and what is wrong."""
    with pytest.raises(InputError, match=words):
        read(write(tmp_path, text), "g/J")


def test_one_value_holds_always() -> None:
    """A constant is a series of one step."""
    assert constant(3.0, "W", EDGES, "given").on(EDGES).tolist() == [3.0] * 4


def test_temperatures_have_units() -> None:
    """Degrees Celsius and kelvin are read, bare numbers are not."""
    assert temperature("25 degC", "outdoor") == pytest.approx(298.15)
    assert temperature("300 K", "outdoor") == 300.0
    for bad in (25, "warm", "x degC"):
        with pytest.raises(UnitError, match="outdoor"):
            temperature(bad, "outdoor")


def test_a_file_may_go_from_hours_to_quarters_of_an_hour(tmp_path: Path) -> None:
    """Markets did in 2025: both kinds of step are steps, and a missing row is still a gap."""
    rows = [f"{3600 * k},{k}" for k in range(4)] + [f"{14400 + 900 * k},{k}" for k in range(8)] + ["21600,"]
    mixed = read(write(tmp_path, "time,g/J\n" + "\n".join(rows)), "g/J")
    assert np.diff(mixed.edges) == pytest.approx([3600] * 4 + [900] * 8)
    del rows[7]
    with pytest.raises(InputError, match="1 gap in g/J, the first of 15 min"):
        read(write(tmp_path, "time,g/J\n" + "\n".join(rows)), "g/J")
