"""Tests for `wattline.site.footprint`: carbon and water by hand, and PUE that changes by the hour."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.core.errors import ScenarioError
from wattline.scenario import fleet

JOB = {
    "name": "train", "speeds": [1], "powers": ["100 kW"], "chips": 100, "pause": True, "idle": "0 W", "due": "2 h",
    "embodied": "438.3 tCO2e", "life": "5 y",
}  # fmt: skip
GRID = {
    "lasts": "4 h", "carbon": "400 g/kWh", "carbon_market": "20 g/kWh", "carbon_marginal": "700 g/kWh",
    "water": "2 L/kWh", "price": "80 USD/MWh",
}  # fmt: skip


def answer(site=None, goal="least_carbon", **grid):
    data = {"job": [JOB], "site": {"wue": "0.5 L/kWh", **(site or {})}, "grid": {**GRID, **grid}, "goal": {goal: True}}
    return fleet.solve(fleet.parse_fleet(data))


def test_every_line_is_the_sum_by_hand():
    """Two hours of 100 kW at PUE 1.5: 300 kWh bought, 200 kWh of the job, 4 of 43,830 hours of its life."""
    found = {x.key: x for x in answer(pue=1.5).footprint}
    embodied = 438.3e6 * 4 / 43830
    assert {key: x.value for key, x in found.items()} == pytest.approx(
        {
            "carbon_location_g": 300 * 400, "carbon_market_g": 300 * 20, "carbon_marginal_g": 300 * 700,
            "carbon_embodied_g": embodied, "water_site_l": 100, "water_plants_l": 600,
            "sci_g_per_chip_h": (300 * 400 + embodied) / 200,
        }
    )  # fmt: skip
    assert "400 g/kWh" in found["carbon_location_g"].how
    assert "no contracts" in found["sci_g_per_chip_h"].how


def test_what_is_not_given_has_no_line():
    """Nothing is invented: without a market's figure, embodied carbon or water there are no such lines."""
    plain = {"job": [{k: v for k, v in JOB.items() if k != "embodied"}], "grid": {"carbon": "1 g/kWh"}}
    told = fleet.solve(fleet.parse_fleet(plain))
    assert [x.key for x in told.footprint] == ["carbon_location_g"]
    assert told.to_dict()["footprint"][0]["value"] == pytest.approx(100)
    assert fleet.solve(fleet.parse_fleet({"job": [JOB]})).footprint[0].key == "carbon_embodied_g"


def test_pue_by_the_hour_moves_work(tmp_path):
    """At one price the work goes to the hours of least PUE, and the bill is theirs."""
    path = tmp_path / "pue.csv"
    path.write_text("time,fraction\n" + "".join(f"{3600 * t},{p}\n" for t, p in enumerate([1.6, 1.1, 1.5, 1.2, 1.2])))
    told = answer(goal="least_cost", pue=str(path))
    assert told.horizon.power[0] == pytest.approx([0, 1e5, 0, 1e5], abs=1)
    assert told.horizon.cost_usd == pytest.approx((110 + 120) * 0.08)
    assert np.nanmax(told.horizon.pue) == pytest.approx(1.2)


def test_two_statements_of_cooling_are_refused():
    """PUE by the hour stands in place of one PUE and of cooling by temperature, and is 1 at the least."""
    with pytest.raises(ScenarioError, match="stands in place of"):
        answer({"pue": 1.2}, pue=1.3)
    with pytest.raises(ScenarioError, match="1 or more"):
        answer(pue=0.9)
