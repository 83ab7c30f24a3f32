"""Tests for `wattline.scenario.simulate_site` and `wattline simulate` of a fleet: a scenario file becomes a site that is played."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from wattline.core.errors import InputError, ScenarioError
from wattline.scenario import fleet
from wattline.scenario import simulate_site as site_simulation
from wattline.scenario.fleet_file import SeriesFile, parse_fleet
from wattline.show.cli import main as cli

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "site-simulated.toml"
SHORT = ("--set", "simulate.lasts=60 s")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert cli.main(["simulate", str(EXAMPLE), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_example_is_played_as_stands_beside_it() -> None:
    """Work, energy, peak, violations and trips of every controller are those of the expected file."""
    found = site_simulation.run(fleet.load(EXAMPLE))
    stated = json.loads(EXAMPLE.with_suffix(".expected.json").read_text("utf-8"))["simulated"]
    assert len(stated) == 4
    for row, expected in zip(found.summary(), stated, strict=True):
        assert {k: row[k] for k in ("controller", "over_s", "trips")} == {
            k: expected[k] for k in ("controller", "over_s", "trips")
        }
        for key in ("work", "work_share", "energy_j", "peak_w"):
            assert row[key] == pytest.approx(expected[key], rel=1e-6), (row["controller"], key)


def test_prices_do_most_within_every_limit() -> None:
    """Through the curtailment: above no limit for a second, no breaker, and more work than either cap; uncapped goes dark."""
    rows = {row["controller"]: row for row in site_simulation.run(fleet.load(EXAMPLE)).summary()}
    assert rows["uncapped"]["trips"] == 1
    for name in ("uniform", "proportional", "prices"):
        assert (rows[name]["over_s"], rows[name]["trips"]) == (0, 0)
    assert rows["prices"]["work"] > 1.01 * max(rows[name]["work"] for name in ("uniform", "proportional"))


def test_json_has_every_run_and_its_power(capsys: pytest.CaptureFixture[str]) -> None:
    """One row a controller, one run a controller and seed, with power over time under SI names."""
    found = told(capsys, *SHORT, "--set", "simulate.runs=2", "--controller", "prices", "--controller", "uniform")
    assert [row["controller"] for row in found["controllers"]] == ["prices", "uniform"]
    assert [(run["controller"], run["seed"]) for run in found["runs"]] == [
        ("prices", 1),
        ("prices", 2),
        ("uniform", 1),
        ("uniform", 2),
    ]
    power = found["runs"][0]["power"]
    assert len(power["feed_w"]) == 60
    assert power["limit_w"] == [205e3] * 60
    assert sum(power["feed_w"]) == pytest.approx(found["runs"][0]["energy_j"], rel=1e-9)
    assert found["runs"][0]["energy_j"] != found["runs"][1]["energy_j"]


def test_a_page_and_tables_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page holds both charts, every job and the command that makes it; the terminal says the same in tables."""
    path = tmp_path / "site.html"
    assert cli.main(["simulate", str(EXAMPLE), *SHORT, "--html", str(path)]) == 0
    said = capsys.readouterr().out
    for words in ("32 nodes of", "prices", "lost", "tasks", "IEC 60255-151"):
        assert words in said
    page = path.read_text("utf-8")
    for words in ("Power over time", "Work lost", "Job by job", "wattline simulate", "simulate.lasts"):
        assert words in page


def test_no_controller_within_the_limits_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Where all that were played broke a limit, the exit code says so."""
    assert cli.main(["simulate", str(EXAMPLE), "--json", "--controller", "uncapped"]) == 1
    assert json.loads(capsys.readouterr().out)["controllers"][0]["over_s"] > 0


def test_what_belongs_to_the_other_kind_of_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Controllers are for fleets, policies for services; both are said in a sentence."""
    assert cli.main(["simulate", str(EXAMPLE), "--policies"]) == 2
    assert "serving scenarios" in capsys.readouterr().err
    assert cli.main(["simulate", str(EXAMPLES / "llama-8b-simulated.toml"), "--controller", "prices"]) == 2
    assert "fleet scenarios" in capsys.readouterr().err
    assert cli.main(["simulate", str(EXAMPLE), "--controller", "price"]) == 2
    assert "prices" in capsys.readouterr().err
    assert cli.main(["simulate", str(EXAMPLE), "--controller", "prices", "--controller", "prices"]) == 2
    assert "played once" in capsys.readouterr().err
    assert cli.main(["simulate", str(EXAMPLES / "placement.toml")]) == 2
    assert "job.at" in capsys.readouterr().err


# ---- from scenario to site -------------------------------------------------------------------------


def stated(job: dict, **simulate: object) -> fleet.FleetScenario:
    base = {"name": "a", "speeds": [1, 0.5], "powers": ["1 kW", "600 W"], "idle": "200 W", "at": "row-*"}
    parts = [{"name": "row", "count": 2, "limit": "9 kW"}]
    feed = {"limit": "20 kW", "part": parts}
    return parse_fleet({"site": {"feed": feed}, "job": [{**base, **job}], "simulate": simulate})


def test_copies_become_nodes_at_their_parts() -> None:
    """Copies alone become one crew a part; one job over parts becomes gangs whose nodes are spread over them."""
    alone = site_simulation.site_of(stated({"count": 5, "together": False, "every": "10 s", "stay": "20 s"}))
    assert [crew.count for crew in alone.crews] == [3, 2]
    assert [crew.arrivals for crew in alone.crews] == pytest.approx([0.06, 0.04])
    assert (alone.gang == -1).all()
    assert alone.top.tolist() == [1000.0] * 5
    gang = site_simulation.site_of(stated({"nodes": 4, "count": 2, "together": True}))
    assert gang.gang.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [gang.tree.names[p] for p in gang.place] == ["row-1"] * 4 + ["row-2"] * 4
    assert gang.top.tolist() == pytest.approx([250.0] * 8)
    assert sum(crew.weight * crew.count for crew in gang.crews) == pytest.approx(2.0)


def test_a_training_scenario_brings_its_nodes() -> None:
    """A [train] scenario's copy runs on the nodes of its cluster, and goes at one pace."""
    job = {"scenario": str(EXAMPLES / "llama-70b-training.toml"), "at": "row-1"}
    feed = {"limit": "20 MW", "part": [{"name": "row", "count": 2}]}
    site = site_simulation.site_of(parse_fleet({"site": {"feed": feed}, "job": [{"name": "run", **job}]}))
    assert (site.crews[0].count, site.crews[0].gangs) == (8, 1)
    assert 8 * site.top[0] > 40e3


def test_events_and_series_become_limits(tmp_path: Path) -> None:
    """An event is announced `notice` before its start; a constant limit holds always; a file's values each for a period."""
    base = stated({}, lasts="2 h")
    event = {"start": 600.0, "lasts": 60.0, "limit": 5e3, "part": "row-2", "notice": 5.0}
    limits = site_simulation.limits_of(
        fleet.FleetScenario(**{**base.__dict__, "grid": {"event": [event], "limit": 8e3}}),
        site_simulation.tree_of(base),
    )
    assert [(one.row, one.watts, one.start, one.end, one.told) for one in limits] == [
        (0, 8e3, 0.0, math.inf, 0.0), (2, 5e3, 600.0, 660.0, 595.0)
    ]  # fmt: skip
    path = tmp_path / "limit.csv"
    path.write_text("time,MW\n2024-01-01T00:00Z,0.01\n2024-01-01T01:00Z,0.008\n2024-01-01T02:00Z,0.01\n")
    grid = {"event": [], "limit": SeriesFile(path)}
    limits = site_simulation.limits_of(
        fleet.FleetScenario(**{**base.__dict__, "grid": grid}), site_simulation.tree_of(base)
    )
    assert [(one.watts, one.start, one.end) for one in limits[:2]] == [(10e3, 0.0, 3600.0), (8e3, 3600.0, 7200.0)]
    short = fleet.FleetScenario(**{**base.__dict__, "grid": {"event": [{"start": 1.0, "lasts": 1.0}]}})
    tree = site_simulation.tree_of(base)
    with pytest.raises(ScenarioError, match="needs limit"):
        site_simulation.limits_of(short, tree)


def test_keys_of_the_simulation_are_checked() -> None:
    """Unknown keys name the nearest; halves of a pair are refused; a quantity is read in its unit."""
    with pytest.raises(ScenarioError, match="did you mean 'failing'"):
        stated({}, failin="1 h")
    with pytest.raises(ScenarioError, match="due together"):
        site_simulation.site_of(stated({"loud_lasts": "1 s"}))
    with pytest.raises(ScenarioError, match="every and stay"):
        site_simulation.site_of(stated({"every": "1 s"}))
    with pytest.raises(InputError, match="not known"):
        site_simulation.run(stated({}), engine="cloud")
    y = site_simulation.physics_of(stated({}, failing="2 h", breaker="very-inverse", breaker_time=2, supply="20 degC"))
    assert (y.failing, y.slowing, y.supply) == (7200.0, math.inf, 293.15)
    assert y.breaker.time(2.0) == 27.0


def test_ray_gives_the_same_runs() -> None:
    """The engine only says where runs are played."""
    scenario = fleet.load(EXAMPLE, {"simulate.lasts": "30 s", "simulate.runs": "2"})
    local, ray = (
        site_simulation.run(scenario, controllers=("prices",), engine=engine, jobs=1) for engine in ("local", "ray")
    )
    assert [run.to_dict() for run in local.runs] == [run.to_dict() for run in ray.runs]


def test_a_trace_of_jobs_is_played_under_caps(tmp_path) -> None:
    """Jobs of a cluster's record come as they were submitted; a cap keeps the site within its limit, at some work."""
    rows = [f"{k} {60 * k} 0 600 {1 + k % 3} -1 -1 1 1 -1 1 1 1 1 1 -1 -1 -1" for k in range(1, 13)]
    (tmp_path / "day.swf").write_text("\n".join(rows) + "\n")
    job = {
        "name": "cluster", "speeds": [1, 0.6], "powers": ["700 W", "400 W"], "idle": "80 W", "count": 8,
        "trace": "day.swf",
    }  # fmt: skip
    data = {"site": {"feed": {"limit": "4 kW"}}, "job": [job], "simulate": {"lasts": "1 h", "breaker": "iec-60898-c"}}
    found = site_simulation.run(parse_fleet(data, folder=tmp_path), controllers=["uncapped", "prices"]).by_controller()
    free, kept = found["uncapped"][0], found["prices"][0]
    assert free.tasks_done[0] == 24
    assert free.over_s > 0 == kept.over_s
    assert kept.peak <= 4e3 * (1 + 1e-9)
    with pytest.raises(ScenarioError, match="takes the place of every and stay"):
        site_simulation.run(parse_fleet({**data, "job": [{**job, "every": "1 s", "stay": "1 s"}]}, folder=tmp_path))
