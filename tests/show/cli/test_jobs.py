"""Tests for `wattline jobs`: recurring jobs on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wattline.show.cli.main import main

from ...training.test_jobs import EPOCHS, POWER

JOB = ["--gpu", "g", "--dataset", "d", "--network", "n", "--optimizer", "sgd", "--target", "0.6", "--batch", "16"]


@pytest.fixture
def traces(tmp_path: Path) -> list[str]:
    """The two traces as files."""
    for name, text in (("epochs.csv", EPOCHS), ("power.csv", POWER)):
        (tmp_path / name).write_text(text)
    return [str(tmp_path / "epochs.csv"), str(tmp_path / "power.csv")]


def test_the_frontier_and_the_best_choice_are_told(traces: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Time rises and energy falls over batch sizes and limits; the best choice costs least."""
    assert main(["jobs", "frontier", *traces, *JOB, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    energies = [row["energy_j"] for row in told["frontier"]]
    assert energies == sorted(energies, reverse=True)
    assert told["best"]["cost_j"] <= told["now"]["cost_j"]
    assert main(["jobs", "frontier", *traces, *JOB]) == 0
    assert "least cost at eta = 0.5: batch size" in capsys.readouterr().out


def test_the_next_run_follows_from_the_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that never ran starts as its owner does; after a run another size is looked at, with a bound."""
    runs = tmp_path / "runs.csv"
    typed = ["jobs", "next", str(runs), "--batches", "32,64,128", "--start", "64", "--json"]
    assert main(typed) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 64
    runs.write_text("batch_size,reached,cost_j\n64,true,5000\n")
    assert main(typed) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["looks"]
    assert told["stop_at_cost_j"] == pytest.approx(10000, rel=0.01)
    assert main([*typed[:-3], "--start", "48"]) == 2
    assert "48 is not among 32, 64, 128" in capsys.readouterr().err


def test_a_play_counts_every_run(traces: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What was saved, exploring counted, is told against the owner's batch size."""
    assert main(["jobs", "play", *traces, *JOB, "--recurrences", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] >= 20
    assert told["saving_energy"] <= told["oracle_saving_energy"] + 0.05
