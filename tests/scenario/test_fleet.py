"""Tests for `wattline.scenario.fleet` and `fleet_work`: jobs of every kind become frontiers, and the answer holds together."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import GoalError, InputError, ScenarioError
from wattline.scenario import fleet
from wattline.scenario import scenario as scenarios
from wattline.scenario.fleet_file import tree_of
from wattline.scenario.fleet_work import work_of
from wattline.show import report
from wattline.show.cli import main as cli

EXAMPLES = Path(__file__).parents[2] / "examples"

FEED = {"limit": "45 kW", "part": [{"name": "row", "count": 2, "limit": "30 kW", "loss": "5 %"}]}

SMALL = {
    "site": {"pue": 1.2, "feed": FEED},
    "job": [
        {
            "name": "train", "speeds": [1.0, 0.8, 0.5], "powers": ["20 kW", "13 kW", "8 kW"], "chips": 16, "idle": "4 kW",
            "at": "row-*", "pause": True, "due": "5 h", "resume": "10 min",
            "option": [{"layer": "precision", "name": "fp8", "speeds": [1.0], "powers": ["13 kW"]}],
        },
        {"name": "serve", "speeds": [1.0, 0.5], "powers": ["12 kW", "8 kW"], "chips": 8, "at": "row-*", "together": False,
         "count": 2, "minimum": "100 %"},
    ],
    "grid": {"carbon": "400 g/kWh", "price": "80 USD/MWh"},
    "goal": {"give_up": "5 kW"},
}  # fmt: skip


def small(**sections: dict) -> dict:
    data = copy.deepcopy(SMALL)
    for name, body in sections.items():
        data[name].update(body)
    return data


def solved(**sections: dict):
    return fleet.solve(fleet.parse_fleet(small(**sections)))


def test_the_answer_adds_up() -> None:
    """Jobs' powers through losses and PUE are the feed's; work is chips at full speed; limits hold."""
    a = solved()
    told = a.to_dict()
    assert [j["name"] for j in told["jobs"]] == ["train", "serve@row-1", "serve@row-2"]
    drawn = sum(j["power_w"] for j in told["jobs"])
    assert told["feed_w"] == pytest.approx(drawn * 1.05 * 1.2)
    assert told["feed_w"] == pytest.approx(45e3)
    assert told["full_speed"]["work"] == 32
    assert told["work"] == pytest.approx(sum(j["work"] for j in told["jobs"]))
    assert told["parts"][0]["price_per_w"] > 0
    assert told["whole_settings"]["work"] <= told["work"] <= told["bound"] * (1 + 1e-9)
    assert told["cost_usd_per_h"] == pytest.approx(80 * 0.045)
    assert json.loads(json.dumps(told)) == told


def test_an_option_that_costs_nothing_is_in_use_before_the_way_down_begins() -> None:
    """8-bit arithmetic does the same work at less power than full clocks: the plan has it, and from there it gets dear."""
    a = solved()
    train = next(job for job in a.jobs if job.name == "train")
    assert any(setting.get("option") == "fp8" for _, setting in train.settings)
    assert a.ladder.steps[0].price > 0
    assert sum(row["power_w"] for row in a.by_layer()) == pytest.approx(5e3)


def test_least_power_for_a_share_of_the_work() -> None:
    """goal.work asks for a share of full speed."""
    a = solved(goal={"work": "90 %"})
    assert a.plan.value == pytest.approx(0.9 * 32)
    assert a.goal == "least power for 90 % of the work at full speed"


def test_a_plan_over_time_follows_the_events() -> None:
    """A curtailment of one row lowers that row's limit in those hours and no others."""
    a = solved(
        grid={"lasts": "8 h", "forecast_error": "10 %", "event": [{"part": "row-1", "start": "2 h", "lasts": "1 h", "limit": "15 kW"}]},
        goal={"least_cost": True},
    )  # fmt: skip
    row = a.tree.index("row-1")
    assert a.horizon.limits[:, row].tolist() == [30e3, 30e3, 15e3, *[30e3] * 5]
    told = a.to_dict()["horizon"]
    assert told["plan"]["short"] == {}
    assert told["plan"]["cost_usd"] <= told["followed"]["cost_usd"] * (1 + 1e-3)
    assert told["plan"]["cost_usd"] <= told["soonest"]["cost_usd"] * (1 + 1e-6)
    done = sum(told["jobs"][0]["work"])
    assert done == pytest.approx(5 * 3600, rel=1e-6)


def test_series_come_from_files_and_gaps_are_marked(tmp_path: Path) -> None:
    """A gap is refused; filled when asked, the periods that rest on it are marked and the answer says so."""
    (tmp_path / "c.csv").write_text("time,g/kWh\n0,300\n3600,\n7200,500\n10800,100\n14400,\n")
    data = small(grid={"carbon": "c.csv", "lasts": "4 h"}, goal={"least_carbon": True})
    data["job"][0]["due"] = "1 h"
    with pytest.raises(InputError, match="1 gap"):
        fleet.solve(fleet.parse_fleet(data, folder=tmp_path))
    data["grid"]["fill"] = "line"
    a = fleet.solve(fleet.parse_fleet(data, folder=tmp_path))
    assert a.series["filled"] == [False, True, False, False]
    assert any("1 of 4 periods rest on filled gaps" in text for text in a.assumptions)
    assert np.argmax(a.horizon.power[0]) == 3


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"goal": {"least_carbon": True}}, ScenarioError, "is over time"),
        ({"goal": {"most_work": True, "work": "90 %"}}, ScenarioError, "takes one of these"),
        ({"grid": {"lasts": "4 h", "event": [{"start": "1 h", "lasts": "1 h"}]}}, ScenarioError, "needs limit"),
        ({"grid": {"lasts": "4 h"}}, GoalError, r"train \(.* undone\)"),
        ({"site": {"feed": {**FEED, "limit": "35 kW"}}}, GoalError, "minimum service.* feed"),
        ({"site": {"feed": {**FEED, "limit": "4 kW"}}}, InputError, "with everything idle"),
    ],
)
def test_what_cannot_be_planned_says_why(change: dict, error: type[Exception], words: str) -> None:
    """Goals without time, events without a limit, work that does not fit, limits below service and idle power."""
    with pytest.raises(error, match=words):
        solved(**change)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"scenario": "x.toml"}, "either scenario = a file, or speeds"),
        ({"powers": ["1 kW"]}, "as many powers"),
        ({"option": [{"speeds": [1.0], "powers": ["1 kW"]}]}, "needs a layer"),
        ({"option": [{"layer": "batch", "set": {"a.b": 1}}]}, "given by speeds too"),
        ({"name": "serve"}, "two jobs are called 'serve'"),
    ],
)
def test_jobs_that_cannot_be_say_which(row: dict, words: str) -> None:
    """The job is named."""
    data = small()
    data["job"][0].update(row)
    with pytest.raises(ScenarioError, match=words):
        fleet.solve(fleet.parse_fleet(data))


def test_a_replica_becomes_shares_of_its_traffic() -> None:
    """At full traffic the replica draws what its own scenario's plan says; less traffic draws less; packing keeps all."""
    row = {"name": "chat", "scenario": "llama-8b-serving.toml"}
    data = fleet.parse_fleet({"job": [row]}, folder=EXAMPLES)
    work = work_of(data, {**row, "option": []})
    own = scenarios.solve(scenarios.load(EXAMPLES / "llama-8b-serving.toml").with_({"site.pue": 1.0}), detail=False)
    assert work.serving
    assert work.frontier.time[0] == 1.0
    assert work.frontier.average_power[0] == pytest.approx(own.chosen.average_power_w)
    assert work.settings[0]["clock_hz"] == own.chosen.knobs[0]["clock_hz"]
    assert (np.diff(work.frontier.average_power) < 0).all()
    packed = next(m for m in work.measures if m.layer == "placement")
    assert packed.work.tolist() == [1.0] * len(packed.work)
    with pytest.raises(ScenarioError, match=r"job chat.*needs traffic"):
        work_of(data, {**row, "scenario": "deepseek-v3-serving.toml", "option": []})
    with pytest.raises(GoalError, match=r"job chat: .*serve\.rate"):
        work_of(data, {**row, "set": {"serve.rate": "900 req/s"}, "option": []})


def test_other_scenarios_say_they_are_not_for_fleets() -> None:
    """A command that takes one job points to the one that takes many."""
    with pytest.raises(ScenarioError, match="is a fleet scenario"):
        scenarios.load(EXAMPLES / "curtailment.toml")


def test_the_tree_of_an_example_has_its_redundancy() -> None:
    """Three UPS carry what four do: each is used to three quarters."""
    tree = tree_of(fleet.load(EXAMPLES / "site-20mw.toml"))
    ups = [tree.index(f"ups-{k}") for k in range(1, 5)]
    assert tree.capacity[ups] == pytest.approx(0.75 * tree.limit[ups])


# ---- told ------------------------------------------------------------------------------------------


def test_the_command_tells_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables on stdout, JSON alone with --json, a page that loads nothing, charts and CSV as files."""
    path, page = str(EXAMPLES / "carbon-week.toml"), tmp_path / "r.html"
    change = ["--set", "grid.lasts=2 d", "--set", "job.pretrain.due=20 h", "--set", "job.evaluations.due=10 h"]
    files = ["--html", str(page), "--charts", str(tmp_path / "c"), "--csv", str(tmp_path / "j.csv")]
    assert cli.main(["plan", path, *change, *files]) == 0
    out = capsys.readouterr().out
    for words in (
        "What every job gets",
        "Limits, the dearest first",
        "The cheapest way to give up 500 kW",
        "Planned ahead",
        "As soon as possible",
    ):
        assert words in out
    text = page.read_text("utf-8")
    for words in ('id="chart-tree"', 'id="chart-prices"', 'id="chart-hours"', "carbon-week.csv", "grid.lasts=2 d"):
        assert words in text
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [
        f"{name}.{kind}" for name in ("hours", "prices", "tree") for kind in ("png", "svg")
    ]
    assert (tmp_path / "j.csv").read_text().startswith("job,at,share,speed")
    assert cli.main(["plan", path, *change, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "fleet"


def test_failures_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 where the goal cannot be met, 2 for bad input."""
    path = str(EXAMPLES / "carbon-week.toml")
    assert cli.main(["plan", path, "--set", "site.feed.limit=1 MW"]) in (1, 2)
    assert cli.main(["plan", path, "--set", "site.feed.limt=1 MW"]) == 2
    errors = capsys.readouterr().err
    assert "did you mean 'limit'" in errors
    assert "Traceback" not in errors


def test_charts_hold_without_limits_or_time() -> None:
    """Only what the answer has is drawn."""
    data = small()
    del data["site"]["feed"]["limit"]
    del data["site"]["feed"]["part"][0]["limit"]
    names = report.fleet_charts.charts(fleet.solve(fleet.parse_fleet(data)))
    assert set(names) == {"prices"}


def shifting(**more: object) -> fleet.FleetScenario:
    """Two rows, a job that may pause and is due in part, and a service."""
    return fleet.parse_fleet(
        {
            "site": {"feed": {"limit": "2 MW", "part": [{"name": "row", "count": 2, "standing": "5 kW", "limit": "1.2 MW"}]}},
            "job": [
                {"name": "train", "speeds": [1, 0.8], "powers": ["1 MW", "750 kW"], "idle": "50 kW", "at": "row-1",
                 "pause": True, "due": "10 h",
                 "option": [{"layer": "precision", "name": "8-bit", "speeds": [1, 0.8], "powers": ["900 kW", "700 kW"]}]},
                {"name": "chat", "speeds": [1], "powers": ["900 kW"], "idle": "400 kW", "at": "row-2", "minimum": 1},
            ],
            "grid": {"price": "80 USD/MWh", "lasts": "24 h", **more}, "goal": {"least_cost": True},
        }
    )  # fmt: skip


def test_options_are_used_by_the_plan_and_over_time() -> None:
    """An 8-bit option that draws less does the work, now and in every hour, and is named."""
    answer = fleet.solve(shifting())
    assert {s.get("option") for job in answer.jobs if job.name == "train" for _, s in job.settings} == {"8-bit"}
    assert answer.horizon is not None
    assert answer.horizon.power[0].max() <= 0.9e6 * (1 + 1e-9)


def test_a_due_amount_is_a_ceiling_too() -> None:
    """With prices below zero ten hours of work are ten, and both ways to spend the day do the same."""
    answer = fleet.solve(shifting(price="-20 USD/MWh"))
    assert answer.horizon is not None
    assert answer.soonest is not None
    assert answer.horizon.done["train"] == pytest.approx(36000.0, rel=1e-9)
    assert answer.soonest.done["train"] == pytest.approx(36000.0, rel=1e-9)
    assert answer.horizon.objective <= answer.soonest.objective + 1e-6


def test_a_part_without_power_is_accepted_and_told() -> None:
    """Maintenance of a row: what hangs on it is off and draws nothing, and the answer says so."""
    answer = fleet.solve(shifting(event=[{"part": "row-2", "start": "2 h", "lasts": "3 h", "limit": "0 W"}]))
    assert answer.horizon is not None
    chat = answer.horizon.power[answer.horizon.names.index("chat")]
    assert (chat[2:5] == 0).all()
    assert (np.delete(chat, [2, 3, 4]) > 8e5).all()
    assert any("chat is off for 3 h" in line for line in answer.assumptions)
    told = answer.to_dict()["horizon"]
    assert told["pue"] == pytest.approx(answer.horizon.feed / answer.horizon.power.sum(axis=0))
