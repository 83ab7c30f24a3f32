"""Following a forecast that is wrong: plan ahead, do the first period, look again.

At every period the controller knows the present and forecasts the rest (`Forecast`), plans all periods to the
end, keeps only the first, and carries what was done into the next plan. What it paid is counted with the
conditions that came true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .horizon import Conditions, Goal, Horizon, HorizonPlan

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """A forecast whose relative error grows with the lead: log-normal, correlated from period to period.

    Attributes
    ----------
    error : relative standard deviation far ahead. memory : correlation of the error of two neighbouring periods; with
        it the error `k` periods ahead is ``error * sqrt(1 - memory ** (2 k))``. limits : forecast power limits with
        error too; curtailments are usually announced, so not by default.
    """

    error: float
    memory: float = 0.9
    seed: int = 0
    limits: bool = False

    def __call__(self, truth: Conditions, now: int) -> Conditions:
        """Return what is expected at period `now` for the periods from it to the end; the first is known."""
        ahead = truth.part(now, len(truth.dt))
        draw = np.random.default_rng([self.seed, now])

        def wrong(values: Array | None) -> Array | None:
            return None if values is None else values * np.exp(self._errors(draw, len(values)))

        limits = ahead.limits
        if self.limits:
            limits = {name: values * np.exp(self._errors(draw, len(values))) for name, values in limits.items()}
        return replace(ahead, price=wrong(ahead.price), carbon=wrong(ahead.carbon), limits=limits)

    def _errors(self, draw: np.random.Generator, count: int) -> Array:
        """Return log errors, 0 for the present, of a mean-reverting walk."""
        out = np.zeros(count)
        kick = self.error * np.sqrt(1 - self.memory**2)
        for k in range(1, count):
            out[k] = self.memory * out[k - 1] + kick * draw.standard_normal()
        return out


def follow(
    horizon: Horizon, goal: Goal, forecast: Callable[[Conditions, int], Conditions], *, gap: float = 1e-3
) -> HorizonPlan:
    """Return what planning again at every period does when `horizon`'s conditions come true.

    Work that the forecast led astray shows in the plan's `short`.
    """
    n, truth = len(horizon.conditions.dt), horizon.conditions
    power, work = (np.zeros((len(horizon.tasks), n)) for _ in range(2))
    on = np.zeros((len(horizon.tasks), n), bool)
    tasks = list(horizon.tasks)
    for now in range(n):
        ahead = Horizon(horizon.tree, tasks, forecast(truth, now)).elastic(goal, gap=gap)
        power[:, now], work[:, now], on[:, now] = ahead.power[:, 0], ahead.work[:, 0], ahead.on[:, 0]
        done = np.where(horizon.open[:, now], work[:, now], 0.0)
        tasks = [
            replace(task, due=max(0.0, task.due - d), running=bool(running))
            for task, d, running in zip(tasks, done, on[:, now], strict=True)
        ]
        # What is done to the last unit asks for no more.
        tasks = [replace(t, due=0.0) if t.due < 1e-9 * o.due else t for t, o in zip(tasks, horizon.tasks, strict=True)]
    return horizon.made(power, work, on, goal)
