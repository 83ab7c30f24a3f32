"""What every callback does: one window for the training, one per stretch of steps, and figures to log.

A step is often shorter than its sensor's update, so figures are of the stretch since the last log and carry
its interval: ``energy/step_j`` is the mean of the steps in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ...measure.monitor import Monitor
from ...measure.result import Measurement
from ...measure.window import Window

Log = Callable[[Mapping[str, float], int], None]


class Steps:
    """Windows of one training. Nothing here raises; what goes wrong is in `notes`.

    name : of the windows, ``name`` for the whole and ``name/steps`` for each stretch.
    log : a function of figures and the step they are of, such as one of `loggers`.
    """

    def __init__(self, name: str = "train", *, monitor: Monitor | None = None, log: Log | None = None) -> None:
        self.name = name
        self.log = log
        self.notes: list[str] = []
        self.step = 0
        self.measurement: Measurement | None = None
        self._monitor = monitor
        self._whole: Window | None = None
        self._stretch: Window | None = None

    def begin(self) -> None:
        """The training begins."""
        self.measurement = None
        self._whole = Window(self.name, self._monitor).begin()
        self._stretch = Window(f"{self.name}/steps", self._monitor).begin()

    def count(self, step: int, **what: float) -> None:
        """A step has ended: `step` is its number, `what` else was done in it (tokens, samples)."""
        done = max(0, step - self.step)
        self.step = step
        for window in (self._whole, self._stretch):
            if window is not None and done:
                window.count(steps=done, **what)

    def report(self) -> dict[str, float]:
        """Figures of the stretch since the last report, which ends here; empty without a sensor or a step."""
        if self._stretch is None:
            return {}
        window = self._stretch.end()
        # The end of a stretch is only known after the sensor's next update, which is milliseconds away.
        answer = window.settle(timeout=0.2)
        self._stretch = Window(f"{self.name}/steps", self._monitor).begin()
        found = figures(answer)
        if found and self._whole is not None and (total := self._whole.joules) is not None:
            found["energy/total_j"] = total
        self._send(found)
        return found

    def end(self) -> Measurement | None:
        """The training ends; its answer as a whole."""
        if self._stretch is not None:
            self._stretch.end()
            self._stretch = None
        if self._whole is not None:
            self.measurement = self._whole.end().settle(timeout=1.0)
            self._whole = None
            if self.measurement.joules is not None:
                self._send({"energy/total_j": self.measurement.joules})
        return self.measurement

    def _send(self, found: Mapping[str, float]) -> None:
        if found and self.log is not None:
            try:
                self.log(found, self.step)
            except Exception as error:  # a tracker that is away must not end the training
                note = f"figures could not be logged: {type(error).__name__}: {error}"
                if note not in self.notes:
                    self.notes.append(note)


def figures(answer: Measurement) -> dict[str, float]:
    """An answer as numbers to log: W, J with its bounds, and J per thing counted; empty without a figure."""
    total = answer.total
    if total.joules is None or answer.seconds <= 0:
        return {}
    found = {
        "energy/energy_j": total.joules,
        "energy/low_j": total.low if total.low is not None else total.joules,
        "energy/high_j": total.high if total.high is not None else total.joules,
        "energy/power_w": total.joules / answer.seconds,
    }
    for what, number in answer.counts.items():
        if number > 0:
            found[f"energy/{what.removesuffix('s')}_j"] = total.joules / number
    with contextlib.suppress(KeyError, ZeroDivisionError):
        found["energy/tokens_per_j"] = answer.counts["tokens"] / total.joules
    return found


def need(module: str, package: str) -> Any:
    """A framework's module, or an error that names what to install."""
    from importlib import import_module

    from ...core.errors import MissingExtraError

    try:
        return import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"this callback needs {package}; pip install {package}") from None
