"""Tests for `wattline.scenario.configure`: the layout of a training job searched with its clocks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wattline.core.errors import CapacityError, GoalError, InputError, ScenarioError
from wattline.scenario.configure import configure, evaluate, layouts, words
from wattline.scenario.scenario import parse, solve
from wattline.show.cli.main import main


def job(**train: Any) -> Any:
    stated = {"tokens": "1B", "global_batch": 16, "sequence": 2048} | train
    place = {"chip": "h100-sxm", "chips_per_node": 4, "nodes": 1}
    return parse(
        {"model": {"name": "llama-3.2-1b"}, "hardware": place, "train": stated, "goal": {"max_slowdown": "12 %"}},
        name="t",
    )


def test_no_layout_tried_by_hand_beats_the_one_that_wins() -> None:
    """Planned exactly one by one within the same time, every other layout takes at least as much energy."""
    asked = job(recompute="none", zero=1, virtual=1)
    found = configure(asked, jobs=1)
    by = found.answer.chosen.time_s
    bare = parse({**_sections(asked), "goal": {"deadline": f"{by * 1.001!r} s"}}, name="t")
    tried = 0
    for layout in layouts(asked):
        try:
            other = solve(bare.with_(layout), detail=False).chosen
        except GoalError:
            continue
        tried += 1
        assert other.energy_j >= found.answer.chosen.energy_j * (1 - 2e-3), words({**layout, "train.recompute": "none"})
    assert tried >= 2


def _sections(scenario: Any) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for key, value in scenario.text.items():
        section, _, name = key.partition(".")
        out.setdefault(section, {})[name] = value
    return out


def test_the_front_falls_and_the_reason_is_in_words() -> None:
    """Later points take less energy; each rival is named, with where the time of a step goes."""
    found = configure(job(zero=1), jobs=1)
    times, energies = ([row[key] for row in found.front] for key in ("time_s", "energy_j"))
    assert times == sorted(times)
    assert energies == sorted(energies, reverse=True)
    assert found.why
    for said in found.why:
        assert " energy than " in said
        assert "at maximum clocks its step is" in said
    assert found.looked >= found.fitting > 1


def test_what_is_stated_stays() -> None:
    """A stated tensor degree, microbatch and recomputation are those of every layout."""
    for layout in layouts(job(tensor=2, microbatch=1)):
        assert layout["train.tensor"] == 2
        assert layout["train.microbatch"] == 1
    row = evaluate(job(recompute="full"), layouts(job(recompute="full"))[0])
    assert row["train.recompute"] == "full"


def test_what_cannot_be_searched_is_refused() -> None:
    """A model that fits nowhere, and a layout that is stated, are said in one sentence."""
    big = parse(
        {"model": {"name": "llama-3.1-405b"}, "hardware": {"chip": "t4", "chips_per_node": 1, "nodes": 1},
         "train": {"tokens": "1B", "global_batch": 1, "precision": "fp16"}}, name="t",
    )  # fmt: skip
    with pytest.raises(CapacityError, match=r"none of .* layouts fits on 1 chips"):
        configure(big, jobs=1)
    with pytest.raises(InputError, match="precision 'fp3' is not known"):
        configure(job(), precisions=("fp3",), jobs=1)
    with pytest.raises(ScenarioError, match="no layout can be planned; of the first"):
        configure(job(), precisions=("fp4",), jobs=1)
    with pytest.raises(ScenarioError, match=r"train\.stages states a layout"):
        configure(job(stages="8,8", pipeline=2), jobs=1)


def test_the_command_prints_the_front_and_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """`wattline train --search` tells the front and why, and as JSON the plan with the search beside it."""
    typed = ["train", "llama-3.2-1b", "-n", "2", "--tokens", "1B", "--batch", "8", "--tensor", "1", "--search"]
    assert main([*typed, "--jobs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["search"]["layout"]["train.tensor"] == 1
    assert told["chosen"]["energy_j"] > 0
    assert main([*typed[:-1], "--precisions", "bf16"]) == 2
    assert "add --search" in capsys.readouterr().err
