"""Tests for `wattline.scenario.fleet_bill`: tariffs, storage and sources as a file states them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from wattline.core.errors import ScenarioError, UnitError
from wattline.scenario import fleet
from wattline.scenario.fleet_bill import within
from wattline.scenario.fleet_file import hours_of_day, money


def stated(**more: object) -> fleet.FleetScenario:
    """A day of one job that may pause and has eight hours due."""
    grid = {"price": "80 EUR/MWh", "lasts": "24 h", "start": "2026-07-01T00:00+02:00", "zone": "Europe/Berlin"}
    job = {
        "name": "train", "speeds": [1], "powers": ["1 MW"], "idle": "100 kW", "pause": True, "due": "8 h",
    }  # fmt: skip
    return fleet.parse_fleet({"job": [job], "grid": grid, "goal": {"least_cost": True}, **more})


def test_tariffs_price_hours_by_the_clock_of_the_place() -> None:
    """Dear from four to nine in Berlin: no work then, and a peak that is spread over the other hours."""
    dear = {"name": "evening", "energy": "400 EUR/MWh", "hours": "16:00-21:00", "days": "weekdays"}
    peak = {"name": "peak", "demand": "15 EUR/kW", "prorate": True}
    answer = fleet.solve(stated(tariff=[dear, peak]))
    assert answer.horizon is not None
    power = answer.horizon.power[0]
    assert power[16:21] == pytest.approx(np.full(5, 1e5))
    assert power.max() == pytest.approx(1e5 + 9e5 * 8 / 19)
    assert answer.horizon.bill["peak"] == pytest.approx(15e-3 * power.max() / 30)
    assert answer.horizon.cost_usd < answer.soonest.cost_usd
    assert "EUR" in answer.currency


def test_storage_sources_and_services_come_from_the_file() -> None:
    """All four kinds in one scenario, with a bill that adds up and series in the answer."""
    answer = fleet.solve(
        stated(
            tariff=[{"name": "peak", "demand": "5 EUR/kW"}],
            storage=[{"name": "ups", "energy": "1 MWh", "power": "500 kW", "reserve": "20 %", "wear": "20 EUR/MWh"}],
            source=[{"name": "contract", "power": "200 kW", "cost": "40 EUR/MWh", "carbon": "20 g/kWh"}],
            service=[{"name": "reserve", "pays": "15 EUR/MWh", "most": "300 kW", "calls": 1}],
        )
    )
    told = answer.to_dict()["horizon"]
    assert set(told["equipment"]) == {"ups", "ups held_j", "contract", "reserve"}
    assert sum(told["plan"]["bill"].values()) == pytest.approx(told["plan"]["cost_usd"])
    assert min(told["equipment"]["ups held_j"]) >= 0.2 * 3.6e9 * (1 - 1e-9)
    assert told["plan"]["gap"] < 1e-6


def test_money_of_any_currency_and_only_one_of_them() -> None:
    """Codes are kept; two currencies in one scenario are refused, as nothing says what one is worth in the other."""
    assert money("70 EUR/MWh", "USD/J", "k") == (pytest.approx(70 / 3.6e9), "EUR")
    assert money("15 SEK/kW", "USD/W", "k") == (pytest.approx(0.015), "SEK")
    with pytest.raises(UnitError, match="not a price in EUR/J"):
        money("70 EUR", "USD/J", "k")
    with pytest.raises(ScenarioError, match=r"one currency, got EUR and USD"):
        stated(tariff=[{"name": "a", "demand": "5 USD/kW"}])


def test_hours_of_the_day_may_pass_midnight() -> None:
    """16:00-21:00 and 22:00-06:00 are read; what is no time is refused."""
    assert hours_of_day("16:00-21:00", "k") == (57600.0, 75600.0)
    assert hours_of_day("22:00-06:00", "k") == (79200.0, 108000.0)
    with pytest.raises(ScenarioError, match="hours of the day"):
        hours_of_day("4pm", "k")


@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "Europe/London", "America/Los_Angeles", "America/New_York", "America/Sao_Paulo",
     "Asia/Kolkata", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland"],
)  # fmt: skip
def test_a_day_is_as_long_as_its_clock_says(zone: str) -> None:
    """Over a year in ten zones, daylight saving included, an hour of every day is 365 hours, seen from anywhere."""
    begin = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).timestamp()
    edges = begin + np.arange(365 * 24 + 1) * 3600.0
    assert within({"hours": (57600.0, 61200.0)}, edges, ZoneInfo(zone)).sum() == pytest.approx(365)
    weekend = within({"days": "weekends"}, edges, ZoneInfo(zone)).sum()
    assert weekend == pytest.approx(104 * 24, abs=1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"storage": [{"name": "b", "power": "1 MW"}]}, "needs energy"),
        ({"source": [{"name": "b"}]}, "needs power"),
        ({"service": [{"name": "b", "most": "1 MW"}]}, "needs pays"),
        ({"tariff": [{"name": "t", "demand": "5 EUR/kW"}] * 2}, "two rows"),
        ({"storage": [{"name": "b", "energy": "1 MW"}]}, "storage.energy"),
    ],
)
def test_rows_that_lack_something_are_refused(more: dict, words: str) -> None:
    """Each with its key."""
    with pytest.raises((ScenarioError, UnitError), match=words):
        fleet.solve(stated(**more))


def test_series_are_taken_from_files_as_they_are(tmp_path: Path) -> None:
    """A solar profile of vessim's and a marginal rate in lb/MWh, by column, unit and zone; and a service by its name."""
    rows = "".join(f"2026-06-30 22:{5 * k:02d}:00,{400 + k}\n" for k in range(12))
    rows += "".join(f"2026-06-30 23:{5 * k:02d}:00,{300 + k}\n" for k in range(12))
    (tmp_path / "moer.csv").write_text("oootime,Caiso_North\n" + rows)
    grid = {
        "carbon": {"file": "moer.csv", "column": "Caiso_North", "unit": "lb/MWh", "zone": "UTC"}, "lasts": "2 h",
        "step": "30 min",
    }  # fmt: skip
    job = {"name": "a", "speeds": [1], "powers": ["1 MW"], "idle": "0 W", "pause": True, "due": "30 min"}
    stated = fleet.parse_fleet({"job": [job], "grid": grid, "goal": {"least_carbon": True}}, folder=tmp_path)
    answer = fleet.solve(stated)
    assert answer.horizon is not None
    assert answer.horizon.power[0] == pytest.approx([0, 0, 1e6, 0], abs=1e-3)
    with pytest.raises(ScenarioError, match="unknown key 'colum'"):
        fleet.parse_fleet({"job": [job], "grid": {"carbon": {"file": "a.csv", "colum": "x"}}})


def test_a_grid_service_is_asked_through_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """electricity-maps:DE reaches the client with the key of the environment and the plan's span."""
    from wattline.measure.carbon import clients

    asked: list[str] = []

    def fetch(address: str, headers: object) -> object:
        asked.append(address)
        rows = [{"datetime": f"2026-07-01T{h:02d}:00:00Z", "carbonIntensity": 100 + h} for h in range(4)]
        return {"data": rows}

    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", "secret")
    monkeypatch.setattr(clients.ElectricityMaps.__init__, "__kwdefaults__", {"fetch": fetch})
    grid = {"carbon": "electricity-maps:DE", "start": "2026-07-01T00:00Z", "lasts": "3 h"}
    job = {"name": "a", "speeds": [1], "powers": ["1 MW"], "idle": "0 W", "pause": True, "due": "1 h"}
    answer = fleet.solve(fleet.parse_fleet({"job": [job], "grid": grid, "goal": {"least_carbon": True}}))
    assert answer.horizon is not None
    assert answer.horizon.power[0] == pytest.approx([1e6, 0, 0], abs=1e-3)
    assert "zone=DE" in asked[0]
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN")
    with pytest.raises(ScenarioError, match="needs ELECTRICITYMAPS_TOKEN in the environment"):
        fleet.solve(fleet.parse_fleet({"job": [job], "grid": grid, "goal": {"least_carbon": True}}))
