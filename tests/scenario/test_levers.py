"""Tests for `wattline.scenario.levers`: changes that the owner of a plan can make, tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wattline.scenario import scenario
from wattline.scenario.levers import levers, with_levers
from wattline.scenario.whatif import sketches
from wattline.show.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["llama-8b-serving", "llama-8b-fsdp", "llama-8b-qlora"])
def test_each_lever_was_tried_and_saves_what_it_says(name: str) -> None:
    """The change set by hand gives the same figures; all save, most first, and none is of the work's own size."""
    stated = scenario.load(EXAMPLES / f"{name}.toml")
    found = levers(stated)
    assert found
    assert [f["energy"] for f in found] == sorted(f["energy"] for f in found)
    base, *rows = sketches(stated, [{}, *(f["change"] for f in found)])
    for lever, row in zip(found, rows, strict=True):  # sketches of training are corrected by an exact solve each
        assert lever["energy"] == pytest.approx(row["energy_j"] / base["energy_j"] - 1, abs=0.03)
        assert lever["energy"] < 0
        assert not {"serve.output", "serve.prompt", "train.tokens"} & set(lever["change"])


def test_what_is_already_taken_is_not_told() -> None:
    """A plan in fp8 is not advised to use fp8."""
    stated = scenario.load(EXAMPLES / "llama-8b-fsdp.toml").with_({"train.precision": "fp8", "train.recompute": "none"})
    assert not any("fp8" in f["words"] or "recomputation" in f["words"] for f in levers(stated))


def test_a_failing_lever_ends_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while trying leaves the answer as it was."""
    from wattline.core.errors import ScenarioError

    def broken(*_: object) -> None:
        raise ScenarioError("no")

    stated = scenario.load(EXAMPLES / "llama-8b-fsdp.toml")
    answer = scenario.solve(stated, detail=False)
    monkeypatch.setattr("wattline.scenario.levers._rows", broken)
    assert with_levers(answer, stated) is answer


def test_the_plan_prints_levers_apart_from_silicon(capsys: pytest.CaptureFixture[str]) -> None:
    """What the owner can change has its own heading and what to set; JSON has the key `levers`."""
    path = str(EXAMPLES / "llama-8b-qlora.toml")
    assert main(["plan", path]) == 0
    text = capsys.readouterr().out
    assert "What you can change" in text
    assert "train.recompute=none" in text
    assert main(["plan", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["levers"]
    assert {"change", "words", "energy", "time"} <= found[0].keys()
