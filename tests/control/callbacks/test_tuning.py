"""Tests for `wattline.control.callbacks.tuning`: what the callbacks of all frameworks do, without a framework."""

from __future__ import annotations

import sys
import types

import pytest

from wattline.control.callbacks.tuning import Trained
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases import local
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.tune import Rule
from wattline.measure.devices.replay import VirtualClock
from wattline.measure.monitor import Monitor


@pytest.fixture
def rig(tmp_path):
    """(device, a step on it, how to tune it)."""
    clock = VirtualClock(5.0)
    gpu = SimulatedGpu(found=600.0, clock=clock)
    monitor = Monitor([gpu.meter()], clock=clock, thread=False)
    local.use(Keeper([gpu], tmp_path / "state", clock=clock))

    def step() -> None:
        gpu.work(0.05, 0.05, sleep=clock.advance)
        monitor.poll()

    yield gpu, step, {"max_slowdown": 0.1, "monitor": monitor, "rule": Rule(seconds=0.3)}
    local.use(None)


def test_a_training_is_tuned_from_begin_to_end(rig):
    """Devices are leased between begin and end, the report has looks, and what was found is back."""
    gpu, step, how = rig
    tuned = Trained(**how)
    tuned.begin(400)
    for _ in range(400):
        step()
        tuned.step()
    assert gpu.read("power_limit") < 600.0
    tuned.end()
    tuned.end()
    assert gpu.read("power_limit") == 600.0
    assert tuned.report is not None
    assert tuned.report.best is not None
    assert tuned.report.best < 600.0
    assert tuned.report.seconds < 1.1 * tuned.report.highest[0] * 1.001
    assert tuned.notes == []


def test_a_training_that_cannot_be_tuned_goes_on(rig):
    """Someone else holds the device: a note and no tuning, or an error where that was asked for."""
    gpu, step, how = rig
    with local.lease("0"):
        tuned = Trained(**how)
        tuned.begin(None)
        step()
        tuned.step()
        tuned.end()
        assert "not tuned" in tuned.notes[0]
        assert tuned.report is None
        with pytest.raises(ControlError, match="is held by"):
            Trained(**how, strict=True).begin(10)
    assert gpu.writes == 0


def test_one_process_of_a_machine_tunes(rig, monkeypatch):
    """Local rank 0 sets the devices; the others leave them alone."""
    gpu, step, how = rig
    monkeypatch.setenv("LOCAL_RANK", "1")
    tuned = Trained(**how)
    tuned.begin(100)
    step()
    tuned.step()
    assert gpu.writes == 0
    assert tuned.report is None


def test_the_hooks_of_the_trainer_are_wired(rig, monkeypatch):
    """What the Hugging Face trainer calls begins, counts and ends the tuning, with a stand-in for the framework."""
    gpu, step, how = rig
    fake = types.ModuleType("transformers")
    fake.TrainerCallback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.huggingface", raising=False)
    from wattline.control.callbacks.huggingface import TuningCallback

    callback, state = TuningCallback(**how), types.SimpleNamespace(max_steps=200, global_step=0)
    callback.on_train_begin(None, state, None)
    for _ in range(200):
        step()
        callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)
    assert callback.tuned.report is not None
    assert callback.tuned.report.looks > 5
    assert gpu.read("power_limit") == 600.0
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.huggingface", raising=False)


def test_the_hooks_of_lightning_are_wired(rig, monkeypatch):
    """Batches that are only accumulated are no step; a fit that fails gives the devices back."""
    gpu, step, how = rig
    fake, parent = types.ModuleType("lightning.pytorch"), types.ModuleType("lightning")
    fake.Callback = object  # type: ignore[attr-defined]
    parent.pytorch = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", parent)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", fake)
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.lightning", raising=False)
    from wattline.control.callbacks.lightning import TuningCallback

    callback = TuningCallback(**how)
    trainer = types.SimpleNamespace(estimated_stepping_batches=float("inf"), global_step=0)
    callback.on_train_start(trainer, None)
    for k in range(200):
        step()
        trainer.global_step = k // 2
        callback.on_train_batch_end(trainer, None, None, None, k)
    assert callback.tuned._tuning is not None
    callback.on_exception(trainer, None, ValueError())
    assert gpu.read("power_limit") == 600.0
    assert callback.tuned.report is not None
    assert callback.tuned.report.looks > 5
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.lightning", raising=False)
