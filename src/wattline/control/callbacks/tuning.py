"""What every tuning callback does: leases of this machine's devices, their tuning, and both ended with the training.

One process of a machine tunes the devices of all of its processes, alike. A training that cannot be tuned is not
stopped for it: the reason is in `notes`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...measure.monitor import Monitor
from ..daemon.client import Held
from ..leases.actuator import ControlError, Knob
from ..loops.tune import Report, Rule, Tuning, leases
from ..loops.tuner import Objective


class Trained:
    """The tuning of a training whose framework says when a step has ended; `report` is what was found.

    max_slowdown, eta, knob, rule : as in `wattline.tune`. devices : those of all processes of this machine. held :
    leases to use instead, which stay the caller's. strict : a device that cannot be leased is an error.
    """

    def __init__(
        self,
        *,
        max_slowdown: float | None = None,
        eta: float | None = None,
        devices: Sequence[str] = ("0",),
        knob: Knob = "power_limit",
        rule: Rule | None = None,
        monitor: Monitor | None = None,
        held: Sequence[Held] | None = None,
        strict: bool = False,
    ) -> None:
        if max_slowdown is None and eta is None:
            max_slowdown = 0.0
        self.objective = Objective(max_slowdown=max_slowdown, eta=eta)
        self.devices, self.knob, self.rule, self.strict = tuple(devices), knob, rule, strict
        self.notes: list[str] = []
        self.report: Report | None = None
        self._monitor, self._given = monitor, held
        self._held: list[Held] = []
        self._tuning: Tuning | None = None

    def begin(self, steps: int | None) -> None:
        """The training begins; `steps` in all, None or below 1 where not known."""
        self.end()
        if int(os.environ.get("LOCAL_RANK", "0") or 0) != 0:
            return
        total = steps if steps is not None and steps > 0 else None
        how: dict[str, Any] = {"knob": self.knob, "rule": self.rule, "total": total, "monitor": self._monitor}
        try:
            self._held = leases(self.devices) if self._given is None else []
            self._tuning = Tuning(self._given or self._held, self.objective, **how).begin()
        except ControlError as error:
            self._give_back()
            if self.strict:
                raise
            self.notes.append(f"the training is not tuned: {error}")
        except BaseException:
            self._give_back()
            raise

    def step(self) -> None:
        """A step has ended."""
        if self._tuning is not None:
            self._tuning.step()

    def end(self) -> None:
        """The training is over, however; devices are put back as they were found. Ending twice does nothing."""
        if self._tuning is not None:
            self.report = self._tuning.end()
            self.notes += self.report.notes
            self._tuning = None
        self._give_back()

    def _give_back(self) -> None:
        for each in self._held:
            self.notes += each.close()
        self._held = []
