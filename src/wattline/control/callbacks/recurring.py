"""A job that recurs, from inside its training: the batch size to run with, its power limit, and what the run taught.

    job = Recurring("runs.csv", batches=(32, 64, 128), start=64, reached=lambda m: m["eval_accuracy"] >= 0.84)
    job.batch                     # train with this batch size
    job.begin(steps) ... job.step() ... job.evaluated(metrics) ... job.end()

The file gains a row for every run. While a run lasts, its power limit is tuned for the same weight `eta` between energy
and time; a run that has cost more than it may teach is to be stopped (`over`).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...measure.monitor import Monitor
from ...measure.window import Window
from ...training.history import COLUMNS, cost, learnt
from .tuning import Trained


class Recurring:
    """One run of a recurring job.

    Parameters
    ----------
    history : CSV of the runs so far, made where it is not there.
    batches, start : batch sizes (of an optimizer step) to choose from, and the owner's own.
    reached : whether metrics of an evaluation are those that the job is run for.
    eta : 1 weighs energy alone, 0 time alone. power : highest power limit of all devices together, W.
    recurrences : how often the job will run in all; None where nobody knows.
    tuned : tunes the power limit meanwhile; None for no tuning. monitor, clock : for tests.
    """

    def __init__(
        self,
        history: str | Path,
        *,
        batches: Sequence[int],
        start: int,
        reached: Callable[[Mapping[str, float]], bool],
        power: float,
        eta: float = 0.5,
        recurrences: int | None = None,
        tuned: Trained | None = None,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (power > 0 and math.isfinite(power)):
            raise InputError(f"power must be the watts of all devices at their highest limits, got {power}")
        self.path, self.eta, self.power, self._reached = Path(history), eta, power, reached
        self.tuner, self.trial = learnt(self._rows(), batches, start, recurrences, source=str(self.path))
        cost(0.0, 0.0, eta, power)  # refuses an eta that is none
        self.tuned, self._monitor, self._clock = tuned, monitor, clock
        self._window: Window | None = None
        self._began = 0.0
        self.notes: list[str] = []
        self.done = False

    @property
    def batch(self) -> int:
        """The batch size of this run."""
        return self.tuner.batches[self.trial.row]

    @property
    def over(self) -> bool:
        """Whether this run has cost as much as it may."""
        return self._window is not None and (self._spent() or (0.0,))[0] > self.trial.bound

    def begin(self, steps: int | None = None) -> None:
        """The training begins; `steps` in all, None where not known."""
        self.done, self._began = False, self._clock()
        self._window = Window("recurring", self._monitor).begin()
        if self.tuned is not None:
            self.tuned.begin(steps)

    def step(self) -> None:
        """A step has ended."""
        if self.tuned is not None:
            self.tuned.step()

    def evaluated(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the target is reached; the run may end then."""
        try:
            self.done = self.done or bool(self._reached(metrics))
        except KeyError as error:
            note = f"the evaluation has no {error.args[0]}: whether the target is reached is not known"
            if note not in self.notes:
                self.notes.append(note)
        return self.done

    def end(self) -> None:
        """The training is over: its row is written. Ending twice does nothing."""
        if self._window is None:
            return
        spent = self._spent(last=True)
        self._window = None
        if self.tuned is not None:
            self.tuned.end()
            self.notes += self.tuned.notes
        if spent is None:
            self.notes.append("no sensor gave energy: the run is not written, and nothing was learnt")
            return
        joules, seconds, energy = spent
        new = not self.path.exists()
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            out = csv.writer(stream, lineterminator="\n")
            if new:
                out.writerow(COLUMNS)
            out.writerow([self.batch, str(self.done).lower(), joules, seconds, energy])

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def _spent(self, *, last: bool = False) -> tuple[float, float, float] | None:
        """Return cost (J), seconds and joules so far; None without a sensor."""
        assert self._window is not None
        seconds = self._clock() - self._began
        energy = self._window.end().settle(timeout=1.0).joules if last else self._window.joules
        return None if energy is None else (cost(energy, seconds, self.eta, self.power), seconds, energy)


def control(job: Recurring, ask: Any) -> None:
    """Ask a framework's control object to stop where the run reached its target or has cost as much as it may."""
    if job.done or job.over:
        ask.should_training_stop = True
