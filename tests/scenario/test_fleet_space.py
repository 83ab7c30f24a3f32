"""Tests for `wattline.scenario.fleet_space`: a scenario of several sites, its files, keys and refusals."""

from __future__ import annotations

import json

import pytest

from wattline.core.errors import WattlineError
from wattline.scenario import fleet, fleet_emit, fleet_space, simulate_site
from wattline.scenario.fleet_whatif import row
from wattline.show.cli.main import main

TEXT = """
[[region]]
name = "north"
price = "prices.csv"
pue = 1.1

[[region]]
name = "south"
price = "50 EUR/MWh"
pue = 1.3
limit = "40 kW"

[[job]]
name = "train"
speeds = [1, 0.8]
powers = ["20 kW", "14 kW"]
pause = true
idle = "0 W"
due = "2 h"
home = "south"
move = "30 min"
move_cost = "0.2 EUR"

[grid]
lasts = "4 h"

[goal]
least_cost = true
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "prices.csv").write_text("time,EUR/MWh\n0,90\n3600,20\n7200,20\n10800,20\n14400,90\n")
    out = tmp_path / "sites.toml"
    out.write_text(TEXT)
    return out


def test_cheap_hours_elsewhere_are_moved_to(path):
    """Two and a half hours of speeds 1 and 0.8 at 22 and 15.4 kW and 20 EUR/MWh, and 20 cents of moving."""
    answer = fleet_space.solve(fleet.load(path))
    assert answer.currency == "EUR"
    assert [(a, b) for _, a, b in answer.plan.moves["train"]] == [("south", "north")]
    # 2.5 h of work in three hours: half of the time at each speed costs least, 0.5 + 2.5 hours' energy.
    watts = 22 * (2.5 - 3 * 0.8) / 0.2 + 15.4 * (3 - (2.5 - 3 * 0.8) / 0.2)
    assert answer.plan.cost == pytest.approx(watts * 0.02 + 0.2, rel=1e-4)
    assert answer.stay.cost == pytest.approx(2.5 * 14 * 1.3 * 0.05, rel=1e-4)
    told = answer.to_dict()
    assert told["jobs"][0]["moves"][0]["to"] == "north"
    assert told["plan"]["gap"] < 1e-4
    assert row(path, {"region.south.price": "5 EUR/MWh"})["moves"] == 0


def test_the_command_prints_and_writes_it(path, tmp_path, capsys):
    """Text, JSON, page and table of moves."""
    main(["plan", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["kind"] == "regions"
    page = tmp_path / "page.html"
    main(["plan", str(path), "--html", str(page), "--csv", str(tmp_path / "moves.csv")])
    assert "between 2 sites" in capsys.readouterr().out
    assert "Staying at home" in page.read_text()
    assert "train,south,north" in (tmp_path / "moves.csv").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"goal.most_work": "true"}, "goal.least_cost, goal.least_carbon or goal.least_energy"),
        ({"goal.least_carbon": "true"}, "least carbon needs carbon of site north"),
        ({"site.feed.limit": "1 MW"}, "one feed with its own limit and PUE"),
        ({"region.south.pue": "0.5"}, "must be 1 or more"),
        ({"job.train.resume": "1 min"}, "pauses are free"),
        ({"job.train.home": "west"}, "no site is called 'west'"),
        ({"grid.price": "50 USD/MWh"}, "one currency"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(path, change, said):
    """Keys of one site, goals without rates, sites that are not there."""
    with pytest.raises(WattlineError, match=said):
        fleet_space.solve(fleet.load(path, change))


def test_other_commands_say_that_they_take_one_site(path):
    """What is played, emitted or asked of one site refuses several."""
    stated = fleet.load(path)
    for asked in (simulate_site.site_of, fleet.solve, lambda s: fleet_emit.text(s, "slurm")):
        with pytest.raises(WattlineError, match="region"):
            asked(stated)
