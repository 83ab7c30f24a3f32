# ruff: noqa: ARG002 - the framework calls these methods with these arguments
"""Energy in Lightning: ``Trainer(callbacks=[WattlineCallback(), TuningCallback(eta=0.7)])``.

Figures go to the trainer's loggers every ``log_every_n_steps`` steps, as its own metrics do.
"""

from __future__ import annotations

from typing import Any

from ...core.errors import MissingExtraError
from ...measure.monitor import Monitor
from .steps import Log, Steps, need
from .tuning import Trained

try:
    _Base: Any = need("lightning.pytorch", "lightning").Callback
except MissingExtraError:
    _Base = need("pytorch_lightning", "lightning").Callback


class WattlineCallback(_Base):  # type: ignore[misc]
    """Measures the fit; `steps.measurement` is the answer when it has ended.

    batch : what a batch holds, such as ``{"samples": 32, "tokens": 32 * 1024}``, to report J per each.
    """

    def __init__(
        self,
        name: str = "train",
        *,
        batch: dict[str, float] | None = None,
        monitor: Monitor | None = None,
        log: Log | None = None,
    ) -> None:
        super().__init__()
        self.steps = Steps(name, monitor=monitor, log=log)
        self.batch = dict(batch or {})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the windows; on resuming, steps done before are not counted."""
        self.steps.step = int(trainer.global_step)
        self.steps.begin()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step, and log every so many."""
        before = self.steps.step
        # The joules are of this machine's devices, so what is counted is the work of its processes.
        batches = trainer.accumulate_grad_batches * trainer.world_size // trainer.num_nodes
        whole = {what: number * batches for what, number in self.batch.items()}
        self.steps.count(int(trainer.global_step), **whole)
        every = max(1, int(trainer.log_every_n_steps))
        if self.steps.step // every > before // every:
            found = self.steps.report()
            for logger in trainer.loggers:
                logger.log_metrics(found, step=self.steps.step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the windows."""
        self.steps.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the windows of a fit that failed."""
        self.steps.end()


class TuningCallback(_Base):  # type: ignore[misc]
    """Tunes the power limit or clock of the devices that train; `tuned.report` says what was found.

    Takes what `tuning.Trained` takes: ``TuningCallback(max_slowdown=0.02, devices=["0", "1"])``.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.tuned = Trained(**how)
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lease the devices."""
        steps = trainer.estimated_stepping_batches
        self._step = int(trainer.global_step)
        self.tuned.begin(int(steps) - self._step if steps != float("inf") else None)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step; batches that are only accumulated are no step."""
        if int(trainer.global_step) != self._step:
            self._step = int(trainer.global_step)
            self.tuned.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the devices back as they were found."""
        self.tuned.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The same for a fit that failed."""
        self.tuned.end()
