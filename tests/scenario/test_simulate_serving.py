"""Tests for `wattline.scenario.simulate_serving` and `wattline simulate`: a scenario played against its requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import ScenarioError
from wattline.scenario import scenario
from wattline.scenario import simulate_serving as simulation
from wattline.show.cli import main as cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-8b-simulated.toml"
SMALL = {"serve.count": 150}


def small(**changes: object) -> scenario.Scenario:
    named = {f"serve.{key}": value for key, value in changes.items()}
    return scenario.load(EXAMPLE).with_({**SMALL, **named})


def simulated(*words: str) -> list[str]:
    return ["simulate", str(EXAMPLE), "--set", "serve.count=150", *words]


def test_the_example_keeps_its_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints what came of it and exits 0."""
    assert cli.main(simulated()) == 0
    said = capsys.readouterr().out
    for words in ("energy per output token", "promise", "kept", "governor", "tokens a replica"):
        assert words in said


def test_a_promise_that_is_not_kept_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A tighter promise than the chips can keep is said, and told by the exit code."""
    assert cli.main(simulated("--set", "serve.tpot=2 ms", "--json")) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["promise_kept"] is False
    assert told["violations"]["tpot"] > 100


def test_json_page_and_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All outputs at once, with policies: joules by phase sum up, the page loads nothing, one row per request."""
    from pyarrow import parquet

    html, rows = tmp_path / "a.html", tmp_path / "a.parquet"
    assert cli.main(simulated("--policies", "--json", "--html", str(html), "--parquet", str(rows))) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["phases_j"].values()) == pytest.approx(told["energy_j"])
    assert told["energy_check"]["relative_difference"] < 1e-9
    assert told["facility_energy_j"] > told["energy_j"]
    assert len(told["policies"]["rows"]) > 12
    page = html.read_text("utf-8")
    assert "promise kept" in page
    assert "Content-Security-Policy" in page
    table = parquet.read_table(rows)
    assert table.num_rows == 150
    assert sum(table["energy_j"].to_pylist()) == pytest.approx(
        sum(told["phases_j"][name] for name in ("prefill", "decode", "transfer"))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "fixed", "clock": "1.2 GHz", "prefill_clock": "1.6 GHz"},
        {"policy": "batch"},
        {"policy": "parking-governor", "start_time": "5 s"},
        {"policy": "fixed", "prefill_replicas": 1},
        {"policy": "fixed", "draft_tokens": 3, "draft_acceptance": "80 %", "max_batch": 64},
        {"policy": "fixed", "route": "prefix", "prefix": 256, "prefixes": 4},
        {"arrivals": "diurnal", "swing": "30 %"},
    ],
)
def test_every_way_to_serve(changes: dict[str, object]) -> None:
    """Each kind of policy, fleet and traffic runs from a scenario and conserves energy."""
    found = simulation.run(small(**changes))
    assert found.run.integral_j == pytest.approx(found.run.energy_j, rel=1e-9)
    assert found.run.tokens > 0


def test_a_trace_is_cut_and_scaled(tmp_path: Path) -> None:
    """start, duration, count and rate apply to a trace in this order."""
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},100,10\n" for i in range(100)))
    stated = small(requests=str(trace), start="10 s", duration="50 s", count=20, rate="4 req/s")
    made = simulation.requests_of(stated)
    assert len(made) == 20
    assert made.arrival[-1] == pytest.approx(19 / 4)


def test_pictures_and_adapters_cost_time_and_joules() -> None:
    """A picture within the same prompt adds its encoder; an adapter its products; both before the first token."""
    base = scenario.load(EXAMPLE).with_({"serve.count": 60, "serve.policy": "fixed", "serve.chunk": 2048})
    plain, seen, tuned = (
        simulation.run(base.with_(changes)).run
        for changes in ({}, {"serve.images": 1, "serve.image_tokens": 500}, {"serve.lora_rank": 64, "serve.loras": 8})
    )
    assert (seen.prompt == plain.prompt).all()
    for other in (seen, tuned):
        assert np.median(other.ttft) > np.median(plain.ttft)
        assert other.prefill_j.sum() > plain.prefill_j.sum()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serve.policy": "hope"}, "serve.policy = 'hope' is not known"),
        ({"serve.clock": "1 GHz"}, "chooses the clocks itself"),
        ({"serve.context": 64}, "beyond the 64 tokens of a sequence that serve.context states"),
        ({"serve.prompt": 140_000}, "try serve.prompt = 130,816"),
        ({"chip.power.limit": "900 W"}, "200 W to 700 W, got 900 W; try 700 W"),
        ({"chip.power.limit": "150 W"}, "try 200 W"),
        ({"serve.memory": "20 %"}, "the KV cache of a replica holds"),
        ({"serve.chunk": 256}, "a step room for 1 x max_batch"),
        ({"serve.policy": "governor", "serve.tensor": 2}, "= 2 devices, but there are 1"),
        ({"serve.memory": "12 %"}, "llama-3.1-8b does not fit"),
    ],
)
def test_what_cannot_be_simulated(changes: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear sentence, exit code 2."""
    sets = [w for key, value in changes.items() for w in ("--set", f"{key}={value}")]
    assert cli.main(simulated(*sets)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_training_is_not_simulated() -> None:
    """A [train] scenario is pointed to its own command."""
    with pytest.raises(ScenarioError, match=r"needs a \[serve\] section; `wattline plan` answers"):
        simulation.run(scenario.load(EXAMPLE.parent / "llama-70b-training.toml"))


def test_no_requests_at_all() -> None:
    """Neither a trace nor a rate: said which keys would give one."""
    stated = scenario.parse(
        {
            "model": {"name": "llama-3.1-8b"},
            "hardware": {"chip": "h100-sxm", "chips_per_node": 1},
            "serve": {"replicas": 2},
        }
    )
    with pytest.raises(ScenarioError, match=r"state serve.requests = .* or serve.rate"):
        simulation.run(stated)
