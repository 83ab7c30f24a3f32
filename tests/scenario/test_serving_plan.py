"""Tests for serving plans: what is printed, played again on requests nobody has seen, keeps what it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.frontier.answer import Answer
from wattline.hardware.chip import clocks
from wattline.scenario import scenario as sc
from wattline.scenario import serving_plan
from wattline.scenario import simulate_serving as simulation

from ..once import solved
from .serving_draws import draw, played

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE = sc.load(EXAMPLES / "llama-8b-serving.toml")
# What was solved is kept in the process; see tests/once.py.
pytestmark = pytest.mark.xdist_group("shipped")


@pytest.fixture(scope="module")
def answer() -> Answer:
    return solved(BASE)


@pytest.mark.parametrize("name", ["llama-8b-serving", "llama-8b-simulated", "deepseek-v3-serving"])
def test_an_examples_promise_holds_on_unseen_requests(name: str) -> None:
    """The printed clock, cap and chunk, simulated with a seed of its own: the promise is kept."""
    stated = sc.load(EXAMPLES / f"{name}.toml")
    found = solved(stated)
    for seed in (11, 12):
        assert played(stated, found, seed, 6000).run.kept, (name, seed, found.chosen.knobs)


@pytest.mark.parametrize("number", range(3))
def test_a_random_scenarios_promise_holds_or_is_refused(number: int) -> None:
    """Two hundred such scenarios are run by bench/promise.py; here three."""
    stated = draw(number)
    try:
        found = solved(stated)
    except GoalError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "cannot be met" in said or "carries at most" in said
        return
    run = played(stated, found, 77, 2000).run
    assert run.kept or found.chosen.figures["promise_probability"] < 0.99, (stated.text, found.chosen.knobs)


def test_simulating_what_was_printed_gives_what_was_printed(answer: Answer) -> None:
    """Latencies, batch and energy of the plan are those of a run of the same settings."""
    found = played(BASE, answer, 5, 4000)
    run, figures = found.run, answer.chosen.figures
    assert np.percentile(run.tpot, 99) == pytest.approx(figures["tpot_s"], rel=0.1)
    assert np.percentile(run.ttft, 99) == pytest.approx(figures["ttft_s"], rel=0.3)
    assert found.facility_j / run.tokens == pytest.approx(answer.chosen.energy_j, rel=0.05)


def test_power_that_no_clock_draws_is_told_as_such_and_not_as_a_rate_to_lower() -> None:
    """A lower rate would not help, so the least power is named instead of the latencies found on the way."""
    with pytest.raises(GoalError, match=r"site.power_limit = 100 W cannot be met; the least power is \d+ W$"):
        solved(BASE.with_({"site.power_limit": "100 W"}))


def test_a_plan_is_not_dearer_than_maximum_clocks_that_are_as_sure() -> None:
    """With nothing to trade for energy, maximum clocks as they are come out, or a setting that is surer."""
    found = solved(BASE.with_({"goal.max_slowdown": "0 %"}))
    sure = found.chosen.figures["promise_probability"] - found.baseline.figures["promise_probability"]
    assert found.chosen.energy_j <= found.baseline.energy_j * (1 + 1e-9) or sure > 0


def test_settings_are_real_ones(answer: Answer) -> None:
    """The clock is one the chip can be locked to, and the cap lies above what was ever seen running."""
    (knob,) = answer.chosen.knobs
    steps = clocks(sc.cluster_of(BASE).chip)
    assert np.abs(steps - knob["clock_hz"]).min() < 1.0
    assert answer.chosen.figures["batch"] < 0.75 * knob["max_batch"]
    assert knob["max_step_tokens"] in (1024, 2048, 4096, 8192)


def test_it_saves_and_says_how_sure_it_is(answer: Answer) -> None:
    """Less energy than maximum clocks, margins and goodput of the promise, and the spread of lengths it assumed."""
    figures = answer.chosen.figures
    assert answer.savings["energy"] > 0.05
    assert figures["promise_probability"] >= 0.99
    assert 0 < figures["ttft_margin"] < 1
    assert figures["goodput_requests_per_s"] == pytest.approx(8.0, rel=0.05)
    assert "serve.output_variation = 0.8 (that of serve.task = chat)" in answer.assumptions
    assert "8 of 8 runs" in answer.facts["promise"]


def test_without_a_promise_none_is_kept() -> None:
    """No limit, no odds."""
    free = sc.parse({
        "model": {"name": "llama-3.1-8b"}, "hardware": {"chip": "h100-sxm", "chips_per_node": 1},
        "serve": {"concurrency": 16, "prompt": 200, "output": 50},
    })  # fmt: skip
    found = solved(free)
    assert "promise_probability" not in found.chosen.figures
    assert "promise" not in found.facts
    assert found.chosen.knobs[0]["max_batch"] == 16
    assert simulation.run(free.with_({"serve.count": 200})).to_dict()["promise_kept"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serve.tpot": "1 ms"}, r"serve.tpot = 1 ms cannot be met: the best is .* simulated"),
        ({"serve.ttft": "30 ms"}, r"serve.ttft = 30 ms cannot be met: the best is .* simulated"),
    ],
)
def test_a_promise_out_of_reach_names_the_nearest(changes: dict[str, Any], said: str) -> None:
    """By simulation, not by the mean step."""
    with pytest.raises(GoalError, match=said):
        solved(BASE.with_(changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"serve.clock": "3 GHz"},
            r"serve.clock must be a clock that h100-sxm .* 345 MHz to 1.98 GHz, .* try 1.98 GHz",
        ),
        ({"serve.clock": "1 MHz"}, r"try 345 MHz"),
        ({"serve.concurrency": 8}, "closed loop"),
    ],
)
def test_settings_that_are_none_are_refused(changes: dict[str, Any], said: str) -> None:
    """Clocks outside the range, loads that are both open and closed."""
    with pytest.raises(ScenarioError, match=said):
        simulation.run(BASE.with_({"serve.count": 50, **changes}))


def test_a_load_too_high_is_told_with_one_that_is_kept() -> None:
    """The rate that the message names does keep the promise."""
    busy = BASE.with_({"serve.rate": "16 req/s", "serve.ttft": "250 ms"})
    with pytest.raises(GoalError, match=r"lower serve.rate to [\d.]+ req/s, which keeps it") as told:
        solved(busy)
    rate = re.search(r"serve.rate to ([\d.]+)", str(told.value))
    assert rate
    run = simulation.run(busy.with_({"serve.rate": f"{rate[1]} req/s", "serve.count": 3000})).run
    assert run.violations["any"] <= 0.03 * len(run.arrival)


def test_a_looser_promise_never_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along limits on the first token and on those after it, energy falls or stays."""
    monkeypatch.setattr(serving_plan, "CONFIRMED", (4, 8_000, 300, 400))
    stated = sc.load(EXAMPLES / "llama-8b-serving.toml").with_({"serve.chunk": 2048})
    for key, limits in (("serve.ttft", (400, 1500)), ("serve.tpot", (25, 50))):
        base = stated.with_({"serve.ttft": "2 s"}) if key == "serve.tpot" else stated
        joules = [sc.solve(base.with_({key: f"{limit} ms"})).chosen.energy_j for limit in limits]
        assert joules == sorted(joules, reverse=True), key


def test_many_replicas_are_planned_as_quickly_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 256 replicas eight are played with their share of the load, and the whole fleet's figures are told."""
    played: list[int] = []
    one = serving_plan._Plan.one

    def counted(self: Any, setting: Any, requests: Any) -> Any:
        played.append(sum(pool.replicas for pool in self.fleet.pools))
        return one(self, setting, requests)

    monkeypatch.setattr(serving_plan._Plan, "one", counted)
    stated = sc.load(EXAMPLES / "llama-8b-serving.toml").with_({"serve.chunk": 2048, "serve.clock": "1.5 GHz"})
    many = sc.solve(stated.with_({"serve.replicas": 256, "serve.rate": "1024 req/s"}))
    assert set(played) == {8}
    assert many.chosen.figures["requests_per_s"] == pytest.approx(1024, rel=0.05)
    assert many.facts["chips"].startswith("256 x")
    assert any("256 replicas are played as 8" in said for said in many.assumptions)


def test_a_clock_between_two_steps_becomes_the_nearest_and_says_so() -> None:
    """As drivers set it; told among the assumptions."""
    found = simulation.run(BASE.with_({"serve.count": 50, "serve.clock": "1.6 GHz"}))
    assert found.run.policy == "fixed 1605 MHz"
    assert any("1.6 GHz is set as 1.605 GHz" in text for text in found.assumptions)


def test_a_stated_clock_and_chunk_are_kept() -> None:
    """What the user sets is not chosen."""
    found = solved(BASE.with_({"serve.clock": "1.5 GHz", "serve.chunk": 2048}))
    assert found.chosen.knobs[0]["clock_hz"] == 1.5e9
    assert found.chosen.knobs[0]["max_step_tokens"] == 2048


def test_without_a_promise_the_queue_still_ends() -> None:
    """Nothing promised, an offered rate: the cheapest clock that lets a queue grow without end is not chosen."""
    answer = sc.solve(
        sc.parse(
            {
                "model": {"name": "qwen3-8b"},
                "hardware": {"chip": "rtx-4090", "chips_per_node": 2},
                "serve": {"tensor": 2, "prompt": 2000, "output": 300, "rate": "0.5 req/s"},
            }
        )
    )
    assert answer.chosen.figures["ttft_s"] <= 12 * answer.baseline.figures["ttft_s"]
    assert any("no latency is promised" in text for text in answer.assumptions)
