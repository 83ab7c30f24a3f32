"""Tests for `wattline.measure.carbon.files`: each form by the header its source writes, and what none may guess."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.measure.carbon.files import read

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
G, USD = 1 / 3.6e6, 1 / 3.6e9  # g/kWh and USD/MWh in SI
LB = 0.45359237 * 1000 / 3.6e9  # lb/MWh in g/J

FORMS = {
    "electricity maps": (
        "g/J",
        "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),Carbon intensity gCO₂eq/kWh (Life cycle),"
        "Carbon-free energy percentage (CFE%),Data source,Data estimated\n"
        "2024-01-01 00:00:00,Germany,Germany,DE,250.1,300,60,ENTSOE,false\n2024-01-01 01:00:00,Germany,Germany,DE,240,290,61,ENTSOE,false\n",
        [300 * G, 290 * G],
    ),
    "electricity maps, older": (
        "g/J",
        "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),Carbon Intensity gCO₂eq/kWh (LCA)\n"
        "2024-01-01 00:00:00,Germany,Germany,DE,250,300\n2024-01-01 01:00:00,Germany,Germany,DE,240,290\n",
        [300 * G, 290 * G],
    ),
    "carbonscaler": (
        "g/J",
        "zone_name,datetime,timestamp,carbon_intensity_avg\nCA-ON,2024-01-01 00:00:00+00:00,1704067200,30.5\n"
        "CA-ON,2024-01-01 01:00:00+00:00,1704070800,31.5\n",
        [30.5 * G, 31.5 * G],
    ),
    "watttime": (
        "g/J",
        "timestamp,MOER,MOER version,frequency\n2024-01-01T00:00:00+00:00,900,3.2,300\n2024-01-01T00:05:00+00:00,910,3.2,300\n",
        [900 * LB, 910 * LB],
    ),
    "watttime, v3": ("g/J", "point_time,value\n2024-01-01T00:00:00+00:00,900\n2024-01-01T00:05:00+00:00,910\n", [900 * LB, 910 * LB]),
    "uk": (
        "g/J",
        "datetime,forecast,actual,index\n2024-01-01T00:00Z,100,95,low\n2024-01-01T00:30Z,101,97,low\n",
        [95 * G, 97 * G],
    ),
    "entso-e": (
        "USD/J",
        'MTU (CET/CEST),"Day-ahead Price [EUR/MWh]",Currency\n01.01.2024 01:00 - 01.01.2024 02:00,45.5,EUR\n'
        "01.01.2024 02:00 - 01.01.2024 03:00,-3.2,EUR\n",
        [45.5 * USD, -3.2 * USD],
    ),
    "entso-e, new": (
        "USD/J",
        'MTU (UTC),Area,Sequence,"Day-ahead Price (EUR/MWh)"\n01/01/2024 00:00:00 - 01/01/2024 01:00:00,BZN|DE-LU,,45.5\n'
        "01/01/2024 01:00:00 - 01/01/2024 02:00:00,BZN|DE-LU,,-3.2\n",
        [45.5 * USD, -3.2 * USD],
    ),
    "caiso": (
        "USD/J",
        "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,NODE,LMP_TYPE,MW\n"
        "2024-01-01T01:00:00-00:00,2024-01-01T02:00:00-00:00,2023-12-31,18,TH_SP15,LMP,52\n"
        "2024-01-01T00:00:00-00:00,2024-01-01T01:00:00-00:00,2023-12-31,17,TH_SP15,LMP,50\n"
        "2024-01-01T00:00:00-00:00,2024-01-01T01:00:00-00:00,2023-12-31,17,TH_SP15,MCC,1\n",
        [50 * USD, 52 * USD],
    ),
    "nrel cambium": (
        "g/J",
        "project,Cambium22\nscenario,MidCase\nr,p10\nt,2024\n,,,kg/MWh\ntimestamp,timestamp_local,generation,srmer_co2e\n"
        "2024-01-01T00:00:00+00:00,2023-12-31 19:00:00,100,400\n2024-01-01T01:00:00+00:00,2023-12-31 20:00:00,100,410\n",
        [400 * G, 410 * G],
    ),
    "vessim, milliseconds": ("fraction", "time,Berlin,Lagos\n1704067200000,0.5,0.1\n1704067500000,0.6,0.2\n", [0.5, 0.6]),
}  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.csv"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_known_by_its_header(form: str, tmp_path: Path) -> None:
    """Times begin with the year 2024 in UTC, values are in SI, newest-first and mixed rows are put in order."""
    want, text, values = FORMS[form]
    found = read(write(tmp_path, text), want, column="Berlin" if "vessim" in form else None)
    assert found.time[0] == NEW_YEAR
    assert found.value == pytest.approx(values, rel=1e-6)
    assert found.currency == ("EUR" if "entso" in form else "")


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlin", "Europe/London", "Europe/Lisbon", "America/New_York", "America/Los_Angeles", "America/Santiago",
     "Australia/Sydney", "Pacific/Auckland", "Africa/Casablanca", "Asia/Tokyo"],
)  # fmt: skip
def test_a_year_of_clock_times_is_even_in_every_zone(zone: str, tmp_path: Path) -> None:
    """Written as clocks show them, with an hour twice and one missing, a year of hours comes back hour by hour."""
    begin = datetime(2024, 1, 1, 12, tzinfo=UTC)
    moments = [begin + timedelta(hours=k) for k in range(366 * 24)]
    rows = "".join(f"{m.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S},{k}\n" for k, m in enumerate(moments))
    found = read(write(tmp_path, "time,g/kWh\n" + rows), "g/J", zone=zone)
    assert found.time == pytest.approx(begin.timestamp() + 3600.0 * np.arange(len(moments)))


@pytest.mark.parametrize("unit", ["g/kWh", "gCO2eq/kWh", "gCO₂eq/kWh", "gCO2e/kWh", "kgCO2/MWh", "kg CO2/MWh"])
def test_units_of_carbon_are_read_as_people_write_them(unit: str, tmp_path: Path) -> None:
    """All of these are one unit."""
    found = read(write(tmp_path, f"time,{unit}\n0,360\n3600,720\n"), "g/J")
    assert found.value == pytest.approx([1e-4, 2e-4])


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("time,g/kWh\n2024-01-01 00:00,1\n2024-01-01 01:00,1\n", {}, "has no offset; give zone"),
        ("time,a,b\n0,1,2\n60,1,2\n", {}, "no column is in g/J"),
        ("time,a,b\n0,1,2\n60,1,2\n", {"column": "a"}, "unit of column 'a' is not known"),
        ("time,apple,b\n0,1,2\n60,1,2\n", {"column": "appl"}, "did you mean 'apple'"),
        ("time,a\n0,1\n60,1\n", {"unit": "W"}, "unit 'W' is not one of g/J"),
        ("time,g/kWh\n0,1\n60,1\n", {"zone": "Mars/Base"}, "no time zone"),
        ("time,g/kWh\n0,1\n60,one\n", {}, "row 3: expected a number in 'g/kWh', got 'one'"),
        ("time,g/kWh\n0,1\n0,2\n60,1\n", {}, "several places in one file"),
        ("a,b\n1,2\n", {}, "first line must be"),
    ],
)
def test_what_a_file_leaves_open_is_asked_for(text: str, more: dict, words: str, tmp_path: Path) -> None:
    """No zone, no unit and no column is guessed."""
    with pytest.raises(InputError, match=words):
        read(write(tmp_path, text), "g/J", **more)


def test_a_named_column_with_its_unit(tmp_path: Path) -> None:
    """{ file, column, unit } reads any table."""
    path = write(tmp_path, "oootime,Caiso_North\n2023-06-08 00:00:00,425.0\n2023-06-08 00:05:00,432.0\n")
    found = read(path, "g/J", column="Caiso_North", unit="lb/MWh", zone="UTC")
    assert found.value == pytest.approx([425 * LB, 432 * LB], rel=1e-6)
