"""Tests for `wattline.scenario.post_training`: rollouts and updates composed on one waist."""

import numpy as np
import pytest

from wattline.core.errors import ScenarioError
from wattline.frontier.answer import Answer
from wattline.scenario import scenario as sc

GRPO = {
    "model": {"name": "llama-3.2-1b"},
    "hardware": {"chip": "h100-sxm"},
    "train": {
        "method": "grpo", "steps": 100, "prompts": 32, "group": 8, "answer": 512, "zero": 3, "microbatch": 4,
        "recompute": "operator",
    },
    "goal": {"max_slowdown": "5 %"},
}  # fmt: skip


def plan(**changes: object) -> Answer:
    train = {k: v for k, v in {**GRPO["train"], **changes}.items() if v is not None}
    return sc.solve(sc.parse({**GRPO, "train": train}), detail=False)


def test_a_step_is_rollouts_then_weights_then_an_update() -> None:
    """On the same chips in turn times and energies add up, and the plan keeps its promise."""
    a = plan()
    f = a.chosen.figures
    assert f["iteration_s"] == pytest.approx(f["rollout_s"] + f["weights_s"] + f["update_s"])
    assert a.chosen.time_s == pytest.approx(100 * f["iteration_s"])
    assert sum(a.chosen.breakdown_j.values()) == pytest.approx(a.chosen.energy_j)
    assert a.chosen.time_s <= 1.05 * a.baseline.time_s * (1 + 1e-6)
    assert a.savings["energy"] > 0.02
    # What is realised lies on or above the composed frontier.
    assert a.chosen.energy_j >= np.interp(a.chosen.time_s, a.time_s, a.energy_j) * (1 - 1e-3)


def test_apart_the_slower_half_decides() -> None:
    """With nodes that only generate a step lasts as long as the slower half, and the other waits for it."""
    a = plan(rollout_nodes=1)
    f = a.chosen.figures
    assert f["iteration_s"] == pytest.approx(max(f["rollout_s"] + f["weights_s"], f["update_s"]))
    assert a.baseline.time_s < plan().baseline.time_s
    assert "asynchronous: answers are generated with the weights of the step before" in a.assumptions


def test_a_step_waits_for_its_longest_answer() -> None:
    """A longer tail lengthens rollouts, by the time its tokens take one after the other."""
    short, long = plan(longest=512), plan(longest=8192)
    assert long.baseline.figures["rollout_s"] > 1.5 * short.baseline.figures["rollout_s"]
    assert long.baseline.figures["update_s"] == pytest.approx(short.baseline.figures["update_s"])


def test_twice_the_steps_take_twice_of_everything() -> None:
    """Nothing but its length depends on the number of steps."""
    one, two = plan(), plan(steps=200)
    assert two.chosen.time_s == pytest.approx(2 * one.chosen.time_s)
    assert two.chosen.energy_j == pytest.approx(2 * one.chosen.energy_j)


def test_what_is_missing_or_does_not_go_together_is_said() -> None:
    """GRPO needs its steps, prompts and answers, and says itself how many tokens it trains on."""
    with pytest.raises(ScenarioError, match=r"train\.answer must be given where train\.method is grpo"):
        plan(answer=None)
    with pytest.raises(ScenarioError, match=r"train\.tokens does not go with train\.method = grpo"):
        plan(tokens="1B")
    with pytest.raises(ScenarioError, match=r"train\.rollout_tensor = 3 does not divide the 8 chips"):
        plan(rollout_tensor=3)
