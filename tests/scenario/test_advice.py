"""Tests for `wattline.scenario.advice`: plain questions are answered, or refused with advice that works when followed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from wattline.core.errors import LayoutError
from wattline.scenario import scenario as scenarios
from wattline.scenario.advice import fitting, stated_hint, words

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from questions import ENDS, follow, question


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_plain_questions_end_in_an_answer_or_a_reason(seed):
    """Each is answered, at once or after the advice of its errors is followed, or told that nothing so small can."""
    draw = random.Random(seed)
    ends = [follow(question(draw), detail=False) for _ in range(12)]
    assert [end for end in ends if end[0] not in ENDS] == []


def asked(**serve):
    return scenarios.parse(
        {"model": {"name": "llama-3.1-70b"}, "hardware": {"chip": "h100", "chips_per_node": 1}, "serve": serve}
    )


def test_advice_names_the_hardware_that_it_needs():
    """A model that one chip does not hold is told the layout and the chips for it, which then give an answer."""
    with pytest.raises(LayoutError, match=r"try serve\.tensor = \d and hardware\.chips_per_node = \d") as caught:
        scenarios.solve(asked(prompt=1000, output=100), detail=False)
    changes = stated_hint(str(caught.value))
    assert scenarios.solve(asked(prompt=1000, output=100).with_(changes), detail=False).chosen.energy_j > 0


def test_the_smallest_change_is_named():
    """Two chips are asked for where two hold the model, not sixteen."""
    found = fitting(asked(prompt=1000, output=100))
    assert found["serve.tensor"] == found["hardware.chips_per_node"] <= 4
    assert words({"serve.tensor": 2, "serve.precision": "fp8"}) == 'serve.tensor = 2 and serve.precision = "fp8"'


def test_a_side_figure_does_not_withhold_the_answer():
    """Prompts that fill the memory to the last token are planned, though one percent longer ones would not fit."""
    scenario = scenarios.parse(
        {
            "model": {"name": "qwen3-8b"},
            "hardware": {"chip": "l4", "chips_per_node": 1},
            "serve": {"prompt": 20_000, "output": 300, "rate": "0.02 rps"},
        }
    )
    answer = scenarios.solve(scenario, simulated=False)
    assert "serve.prompt" in answer.elasticity


def test_a_request_of_one_token_has_its_side_figures_or_none():
    """One percent less than one output token is no request; the answer stands without that figure."""
    scenario = scenarios.parse(
        {
            "model": {"name": "qwen3-8b"},
            "hardware": {"chip": "l4", "chips_per_node": 1},
            "serve": {"prompt": 4000, "output": 1, "rate": "0.6 rps"},
        }
    )
    assert scenarios.solve(scenario, simulated=False).chosen.energy_j > 0
