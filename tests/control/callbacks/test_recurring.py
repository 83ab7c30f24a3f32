"""Tests for `wattline.control.callbacks.recurring` and the Trainer's hook: a recurring job from inside its training."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import pytest

from wattline.control.callbacks.recurring import Recurring
from wattline.control.devices.simulated import SimulatedGpu
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock
from wattline.measure.monitor import Monitor

EPOCHS = {32: 9, 64: 9, 128: 10, 256: 16}  # what the job really needs
STEP = {32: 0.09, 64: 0.06, 128: 0.04, 256: 0.035}  # s of work of an epoch


class Rig:
    """A device that trains on virtual time."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, VirtualClock(5.0)
        self.gpu = SimulatedGpu(found=600.0, clock=self.clock)
        self.monitor = Monitor([self.gpu.meter()], clock=self.clock, thread=False)

    def job(self) -> Recurring:
        return Recurring(
            self.path, batches=tuple(EPOCHS), start=32, reached=lambda m: m["accuracy"] >= 1.0, power=600.0,
            monitor=self.monitor, clock=self.clock,
        )  # fmt: skip

    def epoch(self, batch: int) -> None:
        for _ in range(10):
            self.gpu.work(STEP[batch], STEP[batch], sleep=self.clock.advance)
            self.monitor.poll()


def test_a_job_that_recurs_settles_on_its_best_batch_size(tmp_path: Path) -> None:
    """Each run learns from the file of those before it; after a dozen the owner's batch size is left behind."""
    rig = Rig(tmp_path / "runs.csv")
    for _ in range(14):
        job = rig.job()
        job.begin()
        for epoch in range(1, 21):
            rig.epoch(job.batch)
            if job.evaluated({"accuracy": epoch / EPOCHS[job.batch]}) or job.over:
                break
        job.end()
        job.end()
    rows = list(csv.DictReader(rig.path.read_text().splitlines()))
    assert len(rows) == 14
    assert rows[0]["batch_size"] == "32"
    assert rows[0]["reached"] == "true"
    assert float(rows[0]["cost_j"]) == pytest.approx(
        0.5 * float(rows[0]["energy_j"]) + 0.5 * 600.0 * float(rows[0]["time_s"])
    )
    assert rig.job().tuner.batches[rig.job().tuner.best] in (128, 256)


def test_what_cannot_be_told_is_a_note_and_what_cannot_be_used_an_error(tmp_path: Path) -> None:
    """A metric that is missing is noted; a history of another job is refused with its line."""
    rig = Rig(tmp_path / "runs.csv")
    job = rig.job()
    assert not job.evaluated({"loss": 1.0})
    assert "no accuracy" in job.notes[0]
    rig.path.write_text("batch_size,reached,cost_j\n48,true,10\n")
    with pytest.raises(InputError, match="line 2: batch size 48 is not among"):
        rig.job()


def test_the_trainers_hook_stops_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with another batch size is refused; at the target the trainer is asked to stop, and the row is written."""
    fake = types.ModuleType("transformers")
    fake.TrainerCallback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.huggingface", raising=False)
    from wattline.control.callbacks.huggingface import RecurringCallback

    rig = Rig(tmp_path / "runs.csv")
    hook = RecurringCallback(
        str(rig.path), batches=(32, 64), start=32, reached=lambda m: m["eval_accuracy"] > 0.8, power=600.0,
        monitor=rig.monitor, clock=rig.clock,
    )  # fmt: skip
    state = types.SimpleNamespace(max_steps=100, global_step=0)
    control = types.SimpleNamespace(should_training_stop=False)
    other = types.SimpleNamespace(train_batch_size=8, gradient_accumulation_steps=1, world_size=1)
    with pytest.raises(InputError, match="is to train with batch size 32, and the arguments give 8"):
        hook.on_train_begin(other, state, control)
    args = types.SimpleNamespace(train_batch_size=8, gradient_accumulation_steps=4, world_size=1)
    hook.on_train_begin(args, state, control)
    rig.epoch(32)
    hook.on_step_end(args, state, control)
    hook.on_evaluate(args, state, control, metrics={"eval_accuracy": 0.5})
    assert not control.should_training_stop
    hook.on_evaluate(args, state, control, metrics={"eval_accuracy": 0.9})
    assert control.should_training_stop
    hook.on_train_end(args, state, control)
    assert rig.path.read_text().count("\n") == 2
    monkeypatch.delitem(sys.modules, "wattline.control.callbacks.huggingface", raising=False)
