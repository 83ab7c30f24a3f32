# ruff: noqa: ARG002 - the framework calls these methods with these arguments
"""Energy in the Hugging Face `Trainer`: ``Trainer(..., callbacks=[WattlineCallback(), TuningCallback(eta=0.7)])``.

Figures join the trainer's own log entries (``energy/step_j``, ``energy/power_w``, ...) and so reach its history.
Where a tracker reads the entries before this callback does, give it ``log=`` one of `loggers`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...core.errors import InputError
from ...measure.monitor import Monitor
from .recurring import Recurring
from .recurring import control as ask_to_stop
from .steps import Log, Steps, need
from .tuning import Trained

_Base: Any = need("transformers", "transformers").TrainerCallback


class WattlineCallback(_Base):  # type: ignore[misc]
    """Measures the training; `steps.measurement` is the answer when it has ended.

    sequence : tokens of one sample, if every sample has as many, to report J per token.
    """

    def __init__(
        self,
        name: str = "train",
        *,
        sequence: int | None = None,
        monitor: Monitor | None = None,
        log: Log | None = None,
    ) -> None:
        self.steps = Steps(name, monitor=monitor, log=log)
        self.sequence = sequence

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the windows; on resuming, steps done before are not counted."""
        self.steps.step = int(state.global_step)
        self.steps.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step, its samples on this machine, and its tokens where their number is known."""
        # The joules are of this machine's devices, so what is counted is the work of its processes.
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))
        samples = args.train_batch_size * args.gradient_accumulation_steps * processes
        counts = {"samples": float(samples)}
        if self.sequence:
            counts["tokens"] = float(samples * self.sequence)
        self.steps.count(int(state.global_step), **counts)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Add the figures to a training entry; the entry of an evaluation or of the end has none."""
        if logs is None or "loss" not in logs:
            return
        found = self.steps.report()
        if isinstance(logs, dict):
            logs.update(found)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(found)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the windows."""
        self.steps.end()


class TuningCallback(_Base):  # type: ignore[misc]
    """Tunes the power limit or clock of the devices that train; `tuned.report` says what was found.

    Takes what `tuning.Trained` takes: ``TuningCallback(max_slowdown=0.02, devices=["0", "1"])``.
    """

    def __init__(self, **how: Any) -> None:
        self.tuned = Trained(**how)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Lease the devices."""
        self.tuned.begin(int(state.max_steps) - int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step."""
        self.tuned.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give the devices back as they were found; after an error this is done when the program ends."""
        self.tuned.end()


class RecurringCallback(_Base):  # type: ignore[misc]
    """A recurring job's batch size and power limit; takes what `recurring.Recurring` takes.

    ``hook = RecurringCallback("runs.csv", batches=(32, 64, 128), start=64, reached=..., power=400.0)``; then
    ``TrainingArguments(per_device_train_batch_size=hook.batch // devices, ...)``, ``Trainer(..., callbacks=[hook])``.
    """

    def __init__(self, history: str, **how: Any) -> None:
        self.job = Recurring(history, **how)
        self.batch = self.job.batch

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the run; one whose batch size is another teaches nothing and is refused."""
        devices = int(os.environ.get("WORLD_SIZE", args.world_size))
        runs = args.train_batch_size * args.gradient_accumulation_steps * devices
        if runs != self.batch:
            raise InputError(
                f"this run of the job is to train with batch size {self.batch}, and the arguments give {runs}; set "
                f"per_device_train_batch_size x gradient_accumulation_steps x devices to {self.batch}"
            )
        self.job.begin(int(state.max_steps) - int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step; stop a run that has cost as much as it may."""
        self.job.step()
        ask_to_stop(self.job, control)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float] | None = None, **_: Any
    ) -> None:
        """Stop where the target is reached."""
        self.job.evaluated(metrics or {})
        ask_to_stop(self.job, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the run's row."""
        self.job.end()
