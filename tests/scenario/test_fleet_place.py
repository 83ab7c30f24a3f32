"""Tests for `wattline.scenario.fleet_place`: jobs planned on every chip they may run on, and put where they draw least."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.scenario import fleet_place
from wattline.scenario.fleet_file import parse_fleet
from wattline.show.cli import main as cli

EXAMPLES = Path(__file__).parents[2] / "examples"
NEW = {"name": "new", "chip": "h100-sxm", "nodes": 4, "asleep": "150 W"}
CHAT = {"name": "chat", "scenario": "llama-8b-serving.toml", "demand": "200 req/s"}


def solved(**change: object) -> fleet_place.PlacementAnswer:
    data = {"pool": [NEW], "job": [CHAT], **change}
    return fleet_place.solve(parse_fleet(data, folder=EXAMPLES))


def test_a_node_runs_as_many_copies_as_fit() -> None:
    """Eight one-chip replicas to a node of eight; demand is met, and what is left over sleeps."""
    told = solved().to_dict()
    assert {p["copies"] for p in told["placed"]} == {8}
    assert told["work"][0]["per_s"] >= 200 * (1 - 1e-6)
    assert told["pools"][0]["asleep"] >= 1


def test_tokens_of_training_are_demand_too() -> None:
    """A training run takes its nodes as one gang; it is counted in tokens."""
    train = {"name": "t", "scenario": "llama-70b-training.toml", "demand": "20000 tokens/s"}
    found = solved(job=[train], pool=[{**NEW, "nodes": 9}])
    told = found.to_dict()
    assert [p["gangs"] for p in told["placed"]] == [1]
    assert found.gang("t", "new") == 8
    assert (told["pools"][0]["idle"], told["pools"][0]["asleep"]) == (0, 1)
    assert told["work"][0]["unit"] == "token"


def test_pools_a_job_does_not_fit_on_are_told() -> None:
    """A chip too small for the model is left out with the reason; with no other pool the goal cannot be met."""
    small = {"name": "small", "chip": "l4", "nodes": 4}
    big = {"name": "big", "scenario": "llama-8b-serving.toml", "set": {"model.name": "llama-3.1-70b", "serve.tensor": 8, "hardware.chips_per_node": 8}, "demand": "1 req/s"}  # fmt: skip
    with pytest.raises((GoalError, ScenarioError)):
        solved(job=[big], pool=[small])
    tight = {**CHAT, "set": {"serve.tpot": "8 ms"}, "demand": "20 req/s"}
    found = solved(job=[tight], pool=[NEW, small])
    assert found.refused["chat", "small"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"job": [{**CHAT, "pools": ["nwe"]}]}, "did you mean 'new'"),
        ({"job": [{"name": "x", "scenario": "llama-8b-serving.toml"}]}, "scenario and demand"),
        ({"pool": [{"name": "p", "chip": "h100-sxm"}]}, "needs nodes"),
        ({"job": [{**CHAT, "demand": "3 W"}]}, "2000 req/s"),
        ({"job": [{"name": "t", "scenario": "llama-70b-training.toml", "demand": "3 req/s"}]}, "tokens/s"),
    ],
)
def test_what_cannot_be_is_said(change: dict, words: str) -> None:
    """Unknown pools, missing keys, demands in the wrong unit."""
    with pytest.raises(ScenarioError, match=words):
        solved(**change)


def test_the_command_tells_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, JSON, a page with its chart, CSV."""
    path, page, csv = str(EXAMPLES / "placement.toml"), tmp_path / "p.html", tmp_path / "p.csv"
    assert cli.main(["plan", path, "--html", str(page), "--csv", str(csv)]) == 0
    assert "Never slowed down" in capsys.readouterr().out
    assert 'id="chart-nodes"' in page.read_text("utf-8")
    assert csv.read_text().startswith("Job,Pool,Gangs")
    assert cli.main(["plan", path, "--set", "job.chat.demand=100 req/s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "placement"
    assert cli.main(["plan", path, "--set", "job.chat.demand=90000 req/s"]) == 1
    assert "all nodes it may run on do" in capsys.readouterr().err
