"""Tests for `wattline.serving.own_factors` and `wattline.serving.factors`: an engine fitted to a few runs of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.scenario.calibrate_serving import calibrate_serving
from wattline.scenario.scenario import default_source
from wattline.serving import closed_loop
from wattline.serving.bench_files import Bench
from wattline.serving.factors import FACTORS, read, scaled
from wattline.serving.own_factors import Run, fit, runs_of, write

STATED = {"hw": "h100", "tp": "1", "framework": "vllm"}
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def made(factors: dict[str, float], noise: float = 0.0, model: str = MODEL) -> list[Run]:
    """Return runs as a server would give them whose constants are the shipped ones times `factors`."""
    random = np.random.default_rng(3)
    blank = [Bench("run.json", "test", model, 1000.0, 250.0, float(c), 0.01, 0.1, 100.0) for c in (2, 8, 32, 96)]
    runs = runs_of(blank, STATED)
    out = []
    for run in runs:
        c = scaled(run.row.replica.constants(run.row.device), factors)
        tpot, ttft, rate = closed_loop.targets_of([run.row], closed_loop.works([run.row], default_source()), c)[0]
        shake = np.exp(noise * random.standard_normal(3))
        bench = replace(run.bench, tpot=tpot * shake[0], ttft=ttft * shake[1], output_rate=rate * shake[2])
        out.append(replace(run, bench=bench))
    return out


def test_a_slow_host_is_told_from_runs() -> None:
    """Runs of a server whose host is twice as slow give back that factor, and its spread holds it."""
    truth = {"host": 2.0, "request": 2.5}
    found = fit(made(truth, noise=0.01), default_source())
    for name, value in truth.items():
        factor, spread = found.factors[name]
        assert abs(np.log(factor / value)) < 2.5 * spread
        assert spread < FACTORS[name][0]
    assert found.factors["host"][0] > 1.5
    assert found.after["median_tpot"] < 0.03 < found.before["median_tpot"]
    assert found.left_out["median_tpot"] < found.before["median_tpot"]


def test_runs_as_shipped_change_nothing() -> None:
    """Runs that the shipped constants meet leave every factor at 1; a dense model has none for experts."""
    found = fit(made({}), default_source())
    assert "experts" not in found.factors
    assert all(abs(value - 1.0) < 1e-3 for value, _ in found.factors.values())


def test_one_run_is_enough_and_says_little() -> None:
    """A single run moves factors less surely than four, and leaves nothing to leave out."""
    runs = made({"host": 2.0}, noise=0.01)
    one, four = fit(runs[:1], default_source()), fit(runs, default_source())
    assert one.left_out == {}
    assert one.factors["host"][1] > four.factors["host"][1]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The file that serve.factors names holds the factors; what is wrong in one is a sentence."""
    runs = made({"host": 1.5})
    found = fit(runs, default_source())
    path = tmp_path / "mine.toml"
    path.write_text(write(found, runs), "utf-8")
    assert dict(read(path)) == pytest.approx({n: v for n, (v, _) in found.factors.items()}, abs=1e-4)
    for text, message in (
        ("a = 1", r"has no \[factors\]"), ("[factors]\nhots = 1.0", "did you mean 'host'"),
        ("[factors]\nhost = -1", "between 0.01 and 100"), ("[factors", "cannot be read"),
    ):  # fmt: skip
        path.write_text(text, "utf-8")
        with pytest.raises(InputError, match=message):
            read(path)


def test_files_in_and_a_scenario_out(tmp_path: Path) -> None:
    """From result files to a plan: the plan with slow factors takes longer a token; a file nobody knows is skipped."""
    from wattline.scenario.scenario import load, solve

    slow: dict[str, Any] = {
        "backend": "vllm", "model_id": MODEL, "max_concurrency": 16, "completed": 160, "total_input_tokens": 160_000,
        "total_output_tokens": 40_000, "output_throughput": 600.0, "median_ttft_ms": 300.0, "median_tpot_ms": 25.0,
    }  # fmt: skip
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps(slow), "utf-8")
    files[1].write_text("{}", "utf-8")
    told = calibrate_serving(files, {"hw": "h100"})
    assert told["rows"] == 1
    assert "not a result that is known" in told["skipped"][0]
    (tmp_path / "mine.toml").write_text(told["file"], "utf-8")
    text = '[model]\nname = "llama-3.1-8b"\n[hardware]\nchip = "h100"\nchips_per_node = 1\n[serve]\nprompt = 1000\noutput = 250\nmax_batch = 16\n'
    (tmp_path / "plain.toml").write_text(text, "utf-8")
    (tmp_path / "own.toml").write_text(text + 'factors = "mine.toml"\n', "utf-8")
    plain, own = (solve(load(tmp_path / name)) for name in ("plain.toml", "own.toml"))
    assert own.baseline.time_s > 1.3 * plain.baseline.time_s


def test_what_a_file_does_not_say_is_asked_for() -> None:
    """A chip or a model that neither the file nor an option names is asked for by its option; too many runs too."""
    bench = Bench("run.json", "test", MODEL, 1000.0, 250.0, 8.0, 0.01, 0.1, 100.0)
    with pytest.raises(InputError, match="--chip"):
        runs_of([bench], {})
    with pytest.raises(InputError, match="--model"):
        runs_of([replace(bench, model="")], STATED)
    with pytest.raises(InputError, match="three to ten"):
        runs_of([bench] * 51, STATED)
    with pytest.raises(InputError, match=r"run\.json: "):
        runs_of([replace(bench, model="nobody/knows-this")], STATED)
