"""Tests for `wattline.measure.carbon`: series, the table of countries, and clients with recorded answers."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.measure.carbon.clients import (
    ElectricityMaps,
    FetchError,
    UKCarbonIntensity,
    WattTime,
    fetch,
    plugin,
)
from wattline.measure.carbon.countries import countries, country
from wattline.measure.carbon.series import Series, constant, instant, read

KWH = 3.6e6


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# ---- series ----


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1e-3)), min_size=1, max_size=8),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_mean_is_the_integral_over_the_span(steps: list[tuple[float, float]], cuts: tuple[float, float]) -> None:
    """The mean of any span is that of a sum over fine slices, and the whole is the sum of its parts."""
    edges = [0.0]
    for length, _ in steps:
        edges.append(edges[-1] + length)
    series = Series(tuple(edges), tuple(value for _, value in steps), "g/J", "test")
    a, b = sorted(cut * edges[-1] for cut in cuts)
    brute = sum(
        v * max(0.0, min(b, e2) - max(a, e1)) for v, e1, e2 in zip(series.values, edges, edges[1:], strict=False)
    )
    if b > a:
        assert series.mean(a, b) * (b - a) == pytest.approx(brute, abs=1e-12)
    whole = series.cost([0.0, edges[-1]], [1.0])
    assert whole == pytest.approx(series.mean(0.0, edges[-1]))


def test_energy_meets_the_hour_it_was_used_in() -> None:
    """1 kWh in a clean hour and 2 kWh in a dirty one cost what those hours cost."""
    series = Series((0.0, 3600.0, 7200.0), (100 / KWH, 400 / KWH), "g/J", "test")
    assert series.cost([0.0, 3600.0, 7200.0], [KWH, 2 * KWH]) == pytest.approx(900.0)


def test_a_series_says_nothing_beyond_its_ends() -> None:
    """Outside of it, and at no number, there is an error that names what it covers."""
    series = constant("400 g/kWh", 0.0, 3600.0)
    assert series.at(3600.0) == pytest.approx(400 / KWH)
    for start, stop in ((-1.0, 10.0), (10.0, 3601.0), (float("nan"), 1.0)):
        with pytest.raises(InputError, match="covers 1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z"):
            series.mean(start, stop)


def test_a_series_that_makes_no_sense_is_refused() -> None:
    """Times that go back, carbon below nothing, and units of something else; prices may be negative."""
    with pytest.raises(InputError, match="increase"):
        Series((0.0, 0.0), (1.0,), "g/J", "t")
    with pytest.raises(InputError, match=">= 0"):
        Series((0.0, 1.0), (-1.0,), "g/J", "t")
    with pytest.raises(InputError, match="got 'W'"):
        Series((0.0, 1.0), (1.0,), "W", "t")
    with pytest.raises(InputError, match="not an amount per energy"):
        constant("5 W", 0.0, 1.0)
    assert constant("-10 EUR/MWh", 0.0, 1.0).values[0] < 0


def test_a_file_is_read_with_its_unit_and_offsets(tmp_path: Path) -> None:
    """Times with offsets, the unit in the header, and the last row as the end."""
    path = tmp_path / "c.csv"
    path.write_text("time,g/kWh\n2026-01-01T00:00Z,100\n2026-01-01T02:00+01:00,300\n2026-01-01T02:00Z,\n")
    series = read(path)
    assert series.edges == tuple(at(f"2026-01-01T0{h}:00+00:00") for h in range(3))
    assert series.mean(series.start, series.stop) == pytest.approx(200 / KWH)
    path.write_text("time,USD/MWh\n0,50\n3600,70\n")
    price = read(path)
    assert (price.unit, price.kind, price.stop) == ("USD/J", "price", 7200.0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "first line"),
        ("time,W\n0,1\n1,\n", "named by a unit"),
        ("time,g/kWh\n0,1\n", "two rows"),
        ("time,g/kWh\n2026-01-01T00:00,1\n", "no offset"),
        ("time,g/kWh\n0,1\n1,x\n", "row 3"),
        ("time,g/kWh\n0,\n1,2\n2,3\n", "a value is missing"),
        ("time,g/kWh\n1,1\n0,2\n", "increase"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, match: str) -> None:
    """Each fault is said with what was expected."""
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read(path)


def test_parts_join_only_where_they_meet() -> None:
    """The next part begins where the last ends, of the same unit and kind."""
    one, two = constant("1 g/kWh", 0.0, 1.0), constant("2 g/kWh", 1.0, 2.0)
    assert one.then(two).edges == (0.0, 1.0, 2.0)
    with pytest.raises(InputError, match="must begin at"):
        two.then(one)
    with pytest.raises(InputError, match="cannot go on"):
        one.then(constant("1 USD/MWh", 1.0, 2.0))


def test_a_time_without_an_offset_is_refused() -> None:
    """An hour is only an hour with its zone."""
    assert instant("12") == 12.0
    with pytest.raises(InputError, match="no offset"):
        instant("2026-01-01T00:00")


# ---- countries ----


def test_every_country_has_a_year_a_source_and_a_value_that_can_be() -> None:
    """Codes are unique, and no grid is cleaner than wind (~10 g/kWh) or dirtier than lignite (~1300)."""
    rows = countries().values()
    assert len({row.code for row in rows}) == len({row.code2 for row in rows}) == len(rows) > 80
    for row in rows:
        assert (len(row.code), len(row.code2)) == (3, 2)
        assert 2023 <= row.year <= 2024
        assert "Ember" in row.source
        assert 10 < row.intensity * KWH < 1300


def test_a_country_is_found_by_name_or_code() -> None:
    """Germany is DE, DEU and germany; Atlantis is unknown, and a near name is proposed."""
    assert country("de") == country("DEU") == country(" germany ")
    assert country("France").series(0.0, 1.0).at(0.5) * KWH == pytest.approx(44.18)
    assert country("France").series(0.0, 1.0).estimated == (True,)
    with pytest.raises(InputError, match="did you mean 'Sweden'"):
        country("Sweeden")


# ---- clients ----


def answers(recorded: dict[str, object], asked: list[tuple[str, dict[str, str]]]):
    def reply(address: str, headers) -> object:
        asked.append((address, dict(headers)))
        for part, answer in recorded.items():
            if part in address:
                return json.loads(json.dumps(answer))
        raise AssertionError(address)

    return reply


def test_electricity_maps_gives_hourly_averages() -> None:
    """Hours of the documented answer become steps; estimates stay marked; the token goes in the header."""
    recorded = {
        "zone": "DE",
        "data": [
            {"zone": "DE", "carbonIntensity": 302, "datetime": "2026-01-01T01:00:00.000Z", "isEstimated": True},
            {"zone": "DE", "carbonIntensity": 100, "datetime": "2026-01-01T00:00:00.000Z", "isEstimated": False},
        ],
    }
    asked: list = []
    client = ElectricityMaps("DE", "key", fetch=answers({"past-range": recorded}, asked))
    series = client.series(at("2026-01-01T00:10:00+00:00"), at("2026-01-01T01:50:00+00:00"))
    assert [round(v * KWH) for v in series.values] == [100, 302]
    assert series.estimated == (False, True)
    assert series.kind == "average"
    address, headers = asked[0]
    assert "zone=DE&start=2026-01-01T00%3A00Z&end=2026-01-01T02%3A00Z" in address
    assert headers == {"auth-token": "key"}


def test_watttime_gives_marginal_rates() -> None:
    """Pounds per MWh become grams per joule, marked as marginal, after a login."""
    recorded = {
        "data": [
            {"point_time": "2026-01-01T00:00:00+00:00", "value": 1000.0},
            {"point_time": "2026-01-01T00:05:00+00:00", "value": 500.0},
        ],
        "meta": {"data_point_period_seconds": 300, "region": "CAISO_NORTH", "units": "lbs_co2_per_mwh"},
    }
    asked: list = []
    reply = answers({"/login": {"token": "t"}, "/v3/historical": recorded}, asked)
    series = WattTime("CAISO_NORTH", "me", "pw", fetch=reply).series(
        at("2026-01-01T00:00+00:00"), at("2026-01-01T00:10+00:00")
    )
    assert series.kind == "marginal"
    assert series.values[0] * KWH == pytest.approx(453.59237)
    assert asked[0][1] == {"Authorization": "Basic bWU6cHc="}
    assert asked[1][1] == {"Authorization": "Bearer t"}
    recorded["meta"]["units"] = "kg"  # type: ignore[index]
    with pytest.raises(FetchError, match="'kg'"):
        WattTime("X", "me", "pw", fetch=answers({"/login": {"token": "t"}, "/v3": recorded}, [])).series(0.0, 300.0)


def test_the_uk_service_marks_forecasts() -> None:
    """The actual value is taken where there is one, and the half hour before the first is left out."""
    recorded = {
        "data": [
            {
                "from": f"2026-01-01T{a}Z",
                "to": f"2026-01-01T{b}Z",
                "intensity": {"forecast": 266, "actual": actual, "index": "moderate"},
            }
            for a, b, actual in (("11:30", "12:00", 1), ("12:00", "12:30", 263), ("12:30", "13:00", None))
        ]
    }
    asked: list = []
    client = UKCarbonIntensity(fetch=answers({"/intensity/": recorded}, asked))
    series = client.series(at("2026-01-01T12:00+00:00"), at("2026-01-01T13:00+00:00"))
    assert [round(v * KWH) for v in series.values] == [263, 266]
    assert series.estimated == (False, True)
    assert asked[0][0].endswith("/intensity/2026-01-01T12%3A00Z/2026-01-01T13%3A00Z")


def test_a_long_span_is_asked_for_in_pieces() -> None:
    """Thirty days are three requests of at most fourteen days, joined."""
    asked: list = []

    def reply(address: str, headers) -> object:
        asked.append(address)
        start, stop = (at(part.replace("%3A", ":")) for part in address.split("/")[-2:])
        halves = [start + 1800 * i for i in range(round((stop - start) / 1800))]
        iso = [datetime.fromtimestamp(h).astimezone().isoformat() for h in [*halves, stop]]
        return {"data": [{"from": a, "to": b, "intensity": {"actual": 1}} for a, b in pairwise(iso)]}

    start = at("2026-01-01T00:00+00:00")
    series = UKCarbonIntensity(fetch=reply).series(start, start + 30 * 86400)
    assert len(asked) == 3
    assert (series.start, series.stop) == (start, start + 30 * 86400)


@pytest.mark.parametrize("answer", [{}, [], {"data": None}, {"data": [{"nothing": 1}]}, "text"])
def test_an_answer_that_is_not_as_documented_is_an_error(answer: object) -> None:
    """What came is shown, and nothing is made of it."""
    with pytest.raises(FetchError, match="without 'data' rows"):
        ElectricityMaps("DE", "k", fetch=lambda *_: answer).series(0.0, 3600.0)


def test_holes_and_nothing_are_errors() -> None:
    """A missing hour is not filled in, and no hours at all are said to be none."""
    rows = [{"datetime": f"2026-01-01T0{h}:00Z", "carbonIntensity": 1} for h in (0, 2)]
    with pytest.raises(InputError, match="a hole"):
        ElectricityMaps("DE", "k", fetch=lambda *_: {"data": rows}).series(0.0, 3600.0)
    with pytest.raises(InputError, match="no values"):
        ElectricityMaps("DE", "k", fetch=lambda *_: {"data": []}).series(0.0, 3600.0)


def test_only_https_is_fetched() -> None:
    """A key is never sent in the clear."""
    with pytest.raises(InputError, match="https"):
        fetch("http://example.org", {})


def test_services_are_found_by_name() -> None:
    """The three that ship are there, and an unknown one names what is."""
    assert plugin("uk") is UKCarbonIntensity
    with pytest.raises(InputError, match="watttime"):
        plugin("watttim")
