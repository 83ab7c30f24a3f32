"""What a plan over time is made of: jobs with what is due of them, and what the grid and the weather allow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .curves import Job

Array = NDArray[np.float64]
Goal = Literal["energy", "carbon", "cost", "work"]


@dataclass(frozen=True, eq=False)
class Task:
    """A job and what is due of it.

    Attributes
    ----------
    due : units of work between `release` and `deadline` (s on the horizon's clock), no less and no more; 0 asks for
        none and bounds none.
    resume : seconds of lost work at every start after a pause (checkpoint written, restored, warmed up); pausing is
        free where 0. It may pause only where `job.paused` says what it draws then.
    running : True if it was running before the horizon began, so that going on costs no start.
    dwell : s it stays on once started, and off once paused; only where pauses are paid for.
    """

    job: Job
    due: float = 0.0
    release: float = -np.inf
    deadline: float = np.inf
    resume: float = 0.0
    running: bool = True
    dwell: float = 0.0

    def __post_init__(self) -> None:
        if not (self.due >= 0 and self.resume >= 0 and self.dwell >= 0 and self.deadline > self.release):
            raise InputError(
                f"job {self.job.name}: work due, resume and dwell must be >= 0 and its deadline after its release, got "
                f"{self.due}, {self.resume} s, {self.dwell} s, {self.deadline} s and {self.release} s"
            )
        if not np.isfinite([self.due, self.resume, self.dwell]).all():
            raise InputError(f"job {self.job.name}: work due, resume and dwell must be finite")

    @property
    def paid(self) -> bool:
        """Whether its pauses are decisions that cost something."""
        return (self.resume > 0 or self.dwell > 0) and self.job.paused is not None


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the grid and the weather allow, period by period.

    Attributes
    ----------
    edges : (n + 1,) seconds. price, carbon : (n,) money/J and g/J, None where not given.
    limits : part of the tree -> (n,) W that take the place of its own limit.
    outdoor : (n,) K, None where the site's overhead does not depend on it. pue : (n,) in place of the tree's overhead.
    market, marginal : (n,) g/J by other countings than `carbon`, told beside it and never a goal.
    filled : (n,) True where a period rests on values that were filled in.
    """

    edges: Array
    price: Array | None = None
    carbon: Array | None = None
    limits: dict[str, Array] = field(default_factory=dict)
    outdoor: Array | None = None
    pue: Array | None = None
    market: Array | None = None
    marginal: Array | None = None
    filled: NDArray[np.bool_] | None = None

    @property
    def dt(self) -> Array:
        """(n,) s of each period."""
        return np.diff(self.edges)

    def weight(self, goal: Goal) -> Array:
        """Return what a joule costs in each period under a goal."""
        if goal in ("energy", "work"):
            return np.ones(len(self.dt))
        series = self.carbon if goal == "carbon" else self.price
        if series is None:
            name = "carbon" if goal == "carbon" else "price"
            raise InputError(f"least {goal} needs grid.{name}, and none is given")
        return series

    def part(self, start: int, stop: int) -> Conditions:
        """Return some of the periods."""
        cut = slice(start, stop)
        return replace(
            self,
            edges=self.edges[start : stop + 1],
            price=None if self.price is None else self.price[cut],
            carbon=None if self.carbon is None else self.carbon[cut],
            limits={name: values[cut] for name, values in self.limits.items()},
            **{
                name: None if (series := getattr(self, name)) is None else series[cut]
                for name in ("outdoor", "pue", "market", "marginal", "filled")
            },
        )
