"""Tests for `wattline.scenario.verify_serving` and `wattline verify`: a benchmark of one's own beside the prediction."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from wattline.core.errors import InputError, ScenarioError
from wattline.scenario import scenario
from wattline.scenario.verify_serving import verify
from wattline.show.cli import main as cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-8b-serving.toml"
RUN: dict[str, Any] = {
    "date": "20260101-000000", "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 320,
    "max_concurrency": 32, "completed": 320, "total_input_tokens": 320_000, "total_output_tokens": 80_000,
    "request_throughput": 10.0, "output_throughput": 2500.0, "median_ttft_ms": 80.0, "median_tpot_ms": 12.5,
}  # fmt: skip


def written(folder: Path, name: str = "run.json", **changes: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps({**RUN, **changes}), "utf-8")
    return path


def predicted(folder: Path) -> dict[str, Any]:
    """The run that the scenario predicts, as vllm bench would write it."""
    (run,) = verify(scenario.load(EXAMPLE), [written(folder, "any.json")]).runs
    tpot, ttft, rate = (figure.predicted for figure in run.figures)
    return {"median_tpot_ms": 1e3 * tpot, "median_ttft_ms": 1e3 * ttft, "output_throughput": rate}


def test_a_run_as_predicted_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure inside its interval: exit code 0, and no calibration is offered."""
    run = written(tmp_path, **predicted(tmp_path))
    assert cli.main(["verify", str(run), str(EXAMPLE)]) == 0
    said = capsys.readouterr().out
    assert said.count("inside") == 3
    assert "calibrate" not in said


def test_figures_outside_are_named_and_the_calibration_is_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that takes thrice the time: outside, exit code 1; the command that is printed runs and mends it."""
    slow = {name: value * (1 / 3 if "throughput" in name else 3) for name, value in predicted(tmp_path).items()}
    runs = [str(written(tmp_path, f"{k}.json", **slow, max_concurrency=32)) for k in range(3)]
    assert cli.main(["verify", *runs, str(EXAMPLE), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["agrees"] is False
    assert {"time per token", "output tokens/s and chip"} <= set(told["runs"][0]["outside"])
    words = shlex.split(told["calibrate"])
    factors = tmp_path / "factors.toml"
    assert words[0] == "wattline"
    assert cli.main([*words[1:-1], str(factors)]) == 0
    capsys.readouterr()
    mended = verify(scenario.load(EXAMPLE).with_({"serve.factors": str(factors)}), [Path(runs[0])])
    before, after = told["runs"][0]["median_tpot"], mended.runs[0].figures[0]
    assert after.measured is not None
    assert abs(after.predicted / after.measured - 1) < 0.5 * abs(before["predicted"] / before["measured"] - 1)


def test_the_prediction_is_at_the_stated_clock(tmp_path: Path) -> None:
    """A lower clock makes slower tokens, and what was assumed says which clock it was."""
    run = written(tmp_path)
    fast, slow = (verify(scenario.load(EXAMPLE).with_(changes), [run]) for changes in ({}, {"serve.clock": "800 MHz"}))
    assert slow.runs[0].figures[0].predicted > 1.05 * fast.runs[0].figures[0].predicted
    assert "the highest clock" in fast.assumptions[0]
    assert "serve.clock" in slow.assumptions[0]


def test_another_server_than_the_scenarios_is_said(tmp_path: Path) -> None:
    """The file's own chip, parallelism, engine and model are held against the scenario's."""
    other = {"tensor_parallel_size": 4, "gpu": "h200", "backend": "sglang", "model_id": "Qwen/Qwen3-8B"}
    (run,) = verify(scenario.load(EXAMPLE), [written(tmp_path, **other)]).runs
    assert run.notes[:4] == (
        "the file says tp = 4, the scenario 1", "the file says framework = sglang, the scenario vllm",
        "the file says hw = h200, the scenario h100-sxm", "the file says model Qwen/Qwen3-8B, the scenario llama-3.1-8b",
    )  # fmt: skip


def test_a_file_without_a_first_token_has_one_figure_less(tmp_path: Path) -> None:
    """What a file does not say is no miss."""
    perf = {
        "inter_token_latency": {"unit": "ms", "avg": 13.0}, "output_token_throughput": {"unit": "t/s", "avg": 2500.0},
        "output_sequence_length": {"avg": 250.0}, "input_config": {"loadgen": {"concurrency": 32}},
    }  # fmt: skip
    path = tmp_path / "perf.json"
    path.write_text(json.dumps(perf), "utf-8")
    (run,) = verify(scenario.load(EXAMPLE), [path]).runs
    assert run.figures[1].inside is None


def test_what_cannot_be_verified_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No scenario, no result, training, pools apart: one sentence each, exit code 2."""
    run = written(tmp_path)
    with pytest.raises(ScenarioError, match="leave the key out"):
        verify(scenario.load(EXAMPLE).with_({"serve.prefill_replicas": 1}), [run])
    with pytest.raises(ScenarioError, match=r"the scenario has none"):
        verify(scenario.load(EXAMPLE.with_name("llama-70b-training.toml")), [run])
    with pytest.raises(InputError, match="no file"):
        verify(scenario.load(EXAMPLE), [])
    for words in ([str(run)], [str(EXAMPLE)], []):
        assert cli.main(["verify", *words]) == 2
        assert "one scenario and at least one result" in capsys.readouterr().err
