# ruff: noqa: ARG002 - the framework calls these methods with these arguments
"""Energy in Keras: ``model.fit(..., callbacks=[WattlineCallback()])``.

Figures join the logs of each epoch, and so its `History`.
"""

from __future__ import annotations

from typing import Any

from ...measure.monitor import Monitor
from .steps import Log, Steps, need

_Base: Any = need("keras", "keras").callbacks.Callback


class WattlineCallback(_Base):  # type: ignore[misc]
    """Measures the fit; `steps.measurement` is the answer when it has ended.

    batch : what a batch holds, such as ``{"samples": 32}``, to report J per each. Put this callback before others
    that write the logs of an epoch.
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

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the windows."""
        self.steps.begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the step."""
        self.steps.count(self.steps.step + 1, **self.batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the figures of the epoch to its logs."""
        found = self.steps.report()
        if logs is not None:
            logs.update(found)

    def on_train_end(self, logs: Any = None) -> None:
        """Close the windows."""
        self.steps.end()
