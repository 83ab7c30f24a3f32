"""Tests for `wattline.control.callbacks.steps` and `loggers`: figures of stretches of steps, with no framework at all."""

from __future__ import annotations

import sys

import pytest

from wattline.control.callbacks import loggers
from wattline.control.callbacks.steps import Steps, need
from wattline.core.errors import MissingExtraError
from wattline.measure import window as windows
from wattline.measure.monitor import Monitor
from wattline.measure.window import measure

from ...measure.drive import Replayed


@pytest.fixture
def monitor():
    return Replayed()


def test_figures_are_of_the_stretch_and_totals_of_the_whole(monitor: Replayed) -> None:
    """J per step and per token since the last report, with bounds that hold the truth, and J in all."""
    logged: list = []
    steps = Steps(monitor=monitor, log=lambda found, step: logged.append((step, dict(found))))
    steps.begin()
    for number in range(1, 5):
        monitor.wait(0.1)
        steps.count(number, tokens=50.0)
        if number % 2 == 0:
            steps.report()
    answer = steps.end()
    assert [step for step, _ in logged] == [2, 4, 4]
    first, second = logged[0][1], logged[1][1]
    assert first["energy/power_w"] == pytest.approx(200.0, rel=0.15)
    assert first["energy/step_j"] == pytest.approx(first["energy/energy_j"] / 2)
    assert first["energy/tokens_per_j"] == pytest.approx(100 / first["energy/energy_j"])
    assert first["energy/low_j"] <= first["energy/energy_j"] <= first["energy/high_j"]
    assert second["energy/total_j"] > second["energy/energy_j"]
    assert answer is not None
    assert answer.counts == {"steps": 4.0, "tokens": 200.0}
    assert answer.name == "train"


def test_without_a_sensor_there_is_nothing_to_log() -> None:
    """No figure is made up, and the answer says why."""
    steps = Steps(monitor=Monitor([]), log=lambda *_: pytest.fail("logged"))
    assert steps.report() == {}
    steps.begin()
    steps.count(1)
    assert steps.report() == {}
    answer = steps.end()
    assert answer is not None
    assert any("no sensor" in note for note in answer.notes)


def test_a_tracker_that_fails_ends_no_training(monitor: Replayed) -> None:
    """The failure is noted once, and the figures are still returned."""

    def fail(*_: object) -> None:
        raise ConnectionError("away")

    steps = Steps(monitor=monitor, log=fail)
    steps.begin()
    for number in (1, 2):
        monitor.wait(0.05)
        steps.count(number)
        assert steps.report()
    steps.end()
    assert steps.notes == ["figures could not be logged: ConnectionError: away"]


def test_loggers_speak_their_trackers_tongue() -> None:
    """MLflow gets a step; W&B, which drops steps already passed, gets it as a figure."""
    calls: list = []

    class Tracker:
        def log_metrics(self, found: dict, step: int) -> None:
            calls.append((found, step))

        def log(self, found: dict) -> None:
            calls.append(found)

    loggers.mlflow(Tracker())({"energy/step_j": 1.0}, 3)
    loggers.wandb(Tracker())({"energy/step_j": 1.0}, 3)
    assert calls == [({"energy/step_j": 1.0}, 3), {"energy/step_j": 1.0, "energy/step": 3}]


def test_every_window_can_be_followed(monitor: Replayed) -> None:
    """Windows are logged under their name and number, and nothing is left listening."""
    calls: list = []
    with loggers.follow(lambda found, step: calls.append((step, sorted(found)))) as flush:
        for _ in range(2):
            with measure("epoch", monitor=monitor) as m:
                monitor.wait(0.1)
                m.count(steps=2)
        monitor.wait(0.05)
        flush()
    assert [step for step, _ in calls] == [1, 2]
    assert calls[0][1] == ["epoch/energy_j", "epoch/high_j", "epoch/low_j", "epoch/power_w", "epoch/step_j"]
    assert not windows.listeners


def test_a_framework_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install; a fault inside a framework that is there is passed on."""
    with pytest.raises(MissingExtraError, match="pip install nothing"):
        need("nothing_of_this_name", "nothing")
    for name in ("huggingface", "lightning", "keras"):
        monkeypatch.delitem(sys.modules, f"wattline.control.callbacks.{name}", raising=False)
    for framework in ("transformers", "lightning", "lightning.pytorch", "pytorch_lightning", "keras"):
        monkeypatch.setitem(sys.modules, framework, None)
    import importlib

    for name in ("huggingface", "lightning", "keras"):
        with pytest.raises(MissingExtraError, match=f"pip install {'transformers' if name == 'huggingface' else name}"):
            importlib.import_module(f"wattline.control.callbacks.{name}")
