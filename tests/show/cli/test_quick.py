"""Tests for `wattline.show.cli.quick` and `wattline.scenario.quick`: questions in one line."""

from __future__ import annotations

import io
import json
import tomllib

import pytest

from wattline.core.errors import GoalError, LayoutError, ScenarioError
from wattline.scenario import quick
from wattline.scenario.scenario import solve
from wattline.show.cli import main as cli_main
from wattline.show.cli.quick import EXAMPLES, _percentile, _precision

LOAD = {"prompt": 1000, "output": 300}


def test_a_model_a_chip_and_how_many_are_a_question():
    """The layout that takes least energy per token is found among those that use every chip."""
    scenario = quick.serving("qwen3-8b", "rtx-4090", 2, LOAD)
    assert scenario["serve.tensor"] * (scenario.get("serve.replicas") or 1) == 2
    assert solve(scenario, simulated=False, detail=False).chosen.energy_j > 0


def test_an_instance_brings_its_chips():
    """A cloud instance says which chip and how many."""
    scenario = quick.serving("llama-3.1-70b", "p5.48xlarge", None, {**LOAD, "tpot": "25 ms"})
    assert scenario["serve.tensor"] * (scenario.get("serve.replicas") or 1) == 8


@pytest.mark.parametrize("count", [0, -1])
def test_no_chips_are_not_taken_for_one(count):
    """A count below one is refused, for serving as for training, and not read as left out."""
    with pytest.raises(ScenarioError, match=rf"at least 1, got {count}; try -n 1"):
        quick.serving("llama-3.1-8b", "h100", count, {})
    with pytest.raises(ScenarioError, match=rf"at least 1, got {count}; try -n 1"):
        quick.training("llama-3.1-8b", "h100", count, {"tokens": "1B"})


def test_what_does_not_fit_is_told_how_many_chips_would_do():
    """The error names a count that gives an answer."""
    with pytest.raises(LayoutError, match=r"does not fit on 1 x h100; try -n 2$"):
        quick.serving("llama-3.1-70b", "h100", 1, LOAD)
    assert quick.serving("llama-3.1-70b", "h100", 2, LOAD)["serve.tensor"] == 2


def test_a_promise_out_of_reach_is_told_as_such():
    """Where layouts fit but are too slow, the limit is named, not the memory."""
    with pytest.raises(GoalError, match=r"serve\.tpot = 100 µs cannot be met.*try serve\.tpot = "):
        quick.serving("qwen3-8b", "h100", 2, {**LOAD, "tpot": "100 us"})


def test_an_encoder_is_planned_as_one_pass_a_text():
    """An embedding model writes no tokens; asked for some it says what it does instead."""
    scenario = quick.serving("BAAI/bge-m3", "l4", 1, LOAD)
    assert scenario["serve.output"] == 1
    with pytest.raises(ScenarioError, match=r"is an encoder: .*try serve\.output = 1"):
        solve(scenario.with_({"serve.output": 20}), detail=False)


def test_training_finds_a_layout():
    """A job that does not fit as it stands is laid out so that it does."""
    scenario = quick.training("llama-3.1-70b", "h100", 64, {"tokens": "1B", "global_batch": 512})
    assert scenario["train.tensor"] * scenario["train.pipeline"] > 1


def test_a_scenario_is_written_as_it_can_be_read():
    """The file has the stated keys, each with what it means, and reads back the same."""
    scenario = quick.serving("qwen3-8b", "l4", 1, {**LOAD, "rate": "0.1 rps"})
    text = quick.text(scenario)
    assert tomllib.loads(text)["serve"]["rate"] == "0.1 rps"
    assert "# Mean prompt tokens of a request" in text


def test_init_asks_and_writes(tmp_path, monkeypatch, capsys):
    """Answers typed, or defaults where nothing is, become a scenario; an existing file is left alone."""
    monkeypatch.setattr("sys.stdin", io.StringIO("serve\nqwen3-8b\nl4\n1\n\n\n\n0.1\n"))
    path = tmp_path / "mine.toml"
    assert cli_main.main(["init", str(path)]) == 0
    assert tomllib.loads(path.read_text("utf-8"))["hardware"]["chip"] == "l4"
    assert cli_main.main(["init", str(path)]) == 2
    assert "exists; name another file" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "read"), [("w4a16", "fp4"), ("INT4", "fp4"), ("fp8", "fp8"), (None, None)])
def test_words_of_the_field_for_precisions(typed, read):
    """Schemes are known by the names that people write."""
    assert _precision(typed) == read


def test_a_percentile_is_written_as_people_do():
    """p99 is 99."""
    assert _percentile("p99") == _percentile("P99") == "99"


def test_examples_are_commands_that_exist(capsys):
    """Every example names a command and a model or chip that is known."""
    assert cli_main.main(["examples", "--json"]) == 0
    assert [row["command"] for row in json.loads(capsys.readouterr().out)] == [command for _, command in EXAMPLES]
