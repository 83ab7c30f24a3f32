"""Tests for `wattline.measure.store.recorder`: windows and samples of a program reach the store, and the program never notices."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wattline.measure.devices.replay import ReplayMeter
from wattline.measure.monitor import Monitor
from wattline.measure.store.database import Store
from wattline.measure.store.recorder import Recorder, record
from wattline.measure.window import current, listeners, measure
from wattline.show.cli import store as cli_store

from ...waiting import until, updated


@pytest.fixture
def monitor():
    made = Monitor([ReplayMeter(200.0, "g", limit=300.0, period=0.02)])
    yield made
    made.stop()


def test_a_run_is_kept_with_its_windows_and_samples(tmp_path: Path, monitor: Monitor) -> None:
    """The store has the run's energy, each window with its counts, and samples that rise."""
    with record("train", tmp_path / "runs.db", monitor=monitor, interval=0.1) as kept:
        assert current() is None
        for _ in range(3):
            with measure("step", monitor=monitor) as m:
                updated(monitor)
                m.count(tokens=10)
    assert kept.reason == ""
    store = Store(tmp_path / "runs.db")
    row = store.run("last")
    assert (row["name"], row["state"]) == ("train", "done")
    assert row["low_j"] <= 200.0 * row["measurement"]["duration_s"] <= row["high_j"]
    windows = store.windows(row["run"])
    assert [w["name"] for w in windows] == ["step"] * 3
    assert all(w["counts"] == {"tokens": 10.0} for w in windows)
    joules = [s["energy_j"] for s in store.samples(row["run"])]
    assert joules == sorted(joules)
    assert joules[-1] > joules[0]
    assert store.devices(row["run"])[0]["method"] == "counter"
    assert not listeners


def test_a_sample_is_committed_as_soon_as_it_is_taken(tmp_path: Path, monitor: Monitor) -> None:
    """The store's own clock does not add to the second that a killed program may lose."""
    kept = Recorder("r", tmp_path / "runs.db", monitor=monitor)
    kept._writer.seconds = 3600.0
    kept.start()
    store = Store(tmp_path / "runs.db")
    assert until(lambda: store.exists and store.runs() and list(store.samples(kept.run)))
    kept.close()


def test_a_program_that_fails_is_kept_as_failed(tmp_path: Path, monitor: Monitor) -> None:
    """An exception passes through, and the run says that it failed."""
    with pytest.raises(ZeroDivisionError), record("r", tmp_path / "runs.db", monitor=monitor):
        _ = 1 / 0
    assert Store(tmp_path / "runs.db").run("last")["state"] == "failed"


def test_a_store_that_cannot_be_used_is_a_reason_and_no_more(tmp_path: Path, monitor: Monitor) -> None:
    """The program runs to its end, and the reason names the place."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    kept = Recorder("r", blocked / "runs.db", monitor=monitor).start()
    with measure("step", monitor=monitor):
        pass
    assert str(blocked) in kept.close()
    assert kept.close() == kept.reason


def test_no_sensor_is_no_fault(tmp_path: Path) -> None:
    """A machine without sensors keeps a run without figures, and says so in it."""
    with record("r", tmp_path / "runs.db", monitor=Monitor([])) as kept, measure("w", monitor=Monitor([])):
        pass
    row = Store(tmp_path / "runs.db").run(kept.run)
    assert row["energy_j"] is None
    assert any("no sensor" in note for note in row["measurement"]["notes"])


def test_a_command_is_run_and_kept(tmp_path: Path, monitor: Monitor, capfd: pytest.CaptureFixture[str]) -> None:
    """Its exit code and output are its own, and the run has its energy, its windows and its code."""
    path = str(tmp_path / "runs.db")
    code = cli_store.run_kept([sys.executable, "-c", "print('mine'); exit(3)"], store=path, monitor=monitor)
    assert code == 3
    shown = capfd.readouterr()
    assert shown.out == "mine\n"
    row = Store(path).run("last")
    assert f"kept as {row['run']}" in shown.err
    assert (row["state"], row["exit_code"]) == ("failed", 3)
    assert row["energy_j"] > 0
    assert len(Store(path).windows(row["run"])) == 1
