"""Tests for the callbacks against the real frameworks, each with a tiny random model; skipped where one is missing.

Install them with ``pip install torch transformers accelerate lightning keras``. Nothing is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wattline.measure.devices.replay import ReplayMeter
from wattline.measure.monitor import Monitor

# The frameworks warn of their own matters.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def monitor():
    made = Monitor([ReplayMeter(200.0, period=0.02, limit=300.0)])
    yield made
    made.stop()


def test_hugging_face_trainer_logs_energy(tmp_path: Path, monitor: Monitor) -> None:
    """The trainer's own history has J per step and per token, and the answer counts every step and sample."""
    torch = pytest.importorskip("torch", reason="no torch here")
    transformers = pytest.importorskip("transformers", reason="no transformers here")
    pytest.importorskip("accelerate", reason="no accelerate here")
    from wattline.control.callbacks.huggingface import WattlineCallback

    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config)
    tokens = torch.randint(0, 64, (32, 24))
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=8,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_steps=4,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    callback = WattlineCallback(sequence=24, monitor=monitor)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "energy/energy_j" in entry]
    assert [entry["step"] for entry in history] == [4, 8]
    for entry in history:
        assert entry["energy/step_j"] == pytest.approx(entry["energy/energy_j"] / 4)
        assert entry["energy/token_j"] == pytest.approx(entry["energy/energy_j"] / (4 * 4 * 24))
        assert entry["energy/power_w"] == pytest.approx(200.0, rel=0.5)
    answer = callback.steps.measurement
    assert answer is not None
    assert answer.counts == {"steps": 8.0, "samples": 32.0, "tokens": 32.0 * 24}
    assert answer.total.low <= 200.0 * answer.seconds <= answer.total.high


def test_lightning_logs_energy(tmp_path: Path, monitor: Monitor) -> None:
    """Every logger of the trainer gets the figures, and the answer counts every step."""
    torch = pytest.importorskip("torch", reason="no torch here")
    pl = pytest.importorskip("lightning.pytorch", reason="no lightning here")
    from lightning.pytorch.loggers import CSVLogger

    from wattline.control.callbacks.lightning import WattlineCallback

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 1)

        def training_step(self, batch, _index):
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 8)), batch_size=4)
    callback = WattlineCallback(batch={"samples": 4}, monitor=monitor)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[callback],
        logger=CSVLogger(str(tmp_path)),
        log_every_n_steps=4,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Model(), data)
    trainer.logger.save()
    written = next(tmp_path.rglob("metrics.csv")).read_text()
    assert "energy/step_j" in written.splitlines()[0]
    assert len(written.splitlines()) == 3
    assert callback.steps.measurement is not None
    assert callback.steps.measurement.counts == {"steps": 8.0, "samples": 32.0}


@pytest.fixture
def tuned(tmp_path: Path):
    """A simulated device with its meter, and how to tune it in few steps."""
    from wattline.control.devices.simulated import SimulatedGpu
    from wattline.control.leases import local
    from wattline.control.leases.keeper import Keeper
    from wattline.control.loops.tune import Rule

    gpu = SimulatedGpu(found=600.0)
    gpu.busy(True)
    made = Monitor([gpu.meter()])
    local.use(Keeper([gpu], tmp_path / "state"))
    yield gpu, {"eta": 1.0, "monitor": made, "rule": Rule(seconds=0.005, steps=1, settle=0)}
    local.use(None)
    made.stop()


def test_hugging_face_trainer_is_tuned(tmp_path: Path, tuned) -> None:
    """The devices are leased while the trainer trains, looks are counted, and what was found is back afterwards."""
    torch = pytest.importorskip("torch", reason="no torch here")
    transformers = pytest.importorskip("transformers", reason="no transformers here")
    pytest.importorskip("accelerate", reason="no accelerate here")
    from wattline.control.callbacks.huggingface import TuningCallback

    gpu, how = tuned
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 64, (32, 24))]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=30, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    callback, model = TuningCallback(**how), transformers.LlamaForCausalLM(config)
    transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback]).train()
    report = callback.tuned.report
    assert report is not None
    assert report.looks >= 2
    assert callback.tuned.notes == []
    assert gpu.writes >= 2
    assert gpu.read("power_limit") == 600.0


def test_lightning_is_tuned_and_lets_go_after_an_error(tmp_path: Path, tuned) -> None:
    """The same in Lightning, and a fit that fails puts back what was found too."""
    torch = pytest.importorskip("torch", reason="no torch here")
    pl = pytest.importorskip("lightning.pytorch", reason="no lightning here")
    from wattline.control.callbacks.lightning import TuningCallback

    gpu, how = tuned

    class Model(pl.LightningModule):
        def __init__(self, fail: bool) -> None:
            super().__init__()
            self.layer, self.fail = torch.nn.Linear(8, 1), fail

        def training_step(self, batch, index):
            if self.fail and index == 20:
                assert gpu.writes > 0
                raise ValueError("on purpose")
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(120, 8)), batch_size=4)
    for fail in (False, True):
        callback = TuningCallback(**how)
        trainer = pl.Trainer(
            max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu", enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=str(tmp_path),
        )  # fmt: skip
        if fail:
            with pytest.raises(ValueError, match="on purpose"):
                trainer.fit(Model(fail), data)
        else:
            trainer.fit(Model(fail), data)
        assert callback.tuned.report is not None
        assert callback.tuned.report.looks >= 2
        assert gpu.read("power_limit") == 600.0


def test_keras_logs_energy(monkeypatch: pytest.MonkeyPatch, monitor: Monitor) -> None:
    """The history of a fit has the energy of each epoch."""
    pytest.importorskip("torch", reason="no torch here")
    if "KERAS_BACKEND" not in os.environ:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="no keras here")
    import numpy as np

    from wattline.control.callbacks.keras import WattlineCallback

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = WattlineCallback(batch={"samples": 8}, monitor=monitor)
    fit = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert len(fit.history["energy/step_j"]) == 2
    assert callback.steps.measurement is not None
    assert callback.steps.measurement.counts == {"steps": 8.0, "samples": 64.0}
