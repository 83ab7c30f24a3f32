"""Learning the batch size of a recurring job while it recurs: look only where looking is expected to pay.

Each recurrence trains once to the target. Its first epoch at a new batch size tries every power limit, so
one run tells the best limit there (as Zeus' just-in-time profiling); what stays unknown is how many epochs
another batch size needs. Log cost over log2 batch size is modelled as a Gaussian process through the runs so
far, which says for each batch size what it will cost and how sure that is. Then

    gain  = recurrences to come x E[saving per run, if it is better]     (expected improvement)
    price = E[what this one run costs above the best known], a stopped run included

and the batch size of the largest gain - price is run, or the best known where none is positive. So looking
ends by itself, near ties are looked at again only while that is cheap, and no rule depends on which side of
the owner's batch size is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .jobs import Array

# What is believed before the first run, of log cost over octaves of batch size. Halving or doubling the
# batch size moves the cost of a training by some tens of percent (McCandlish et al., arXiv 1812.06162, and
# Shallue et al., JMLR 20, 2019: epochs stay flat up to a critical batch size, then grow in proportion). The widths
# are estimates, chosen while looking at the cases of docs/jobs.md, which says how much hangs on them.
_SLOPE: Final = 0.2  # standard deviation of the trend, per octave
_BEND: Final = 0.35  # of the departure from it
_REACH: Final = 2.0  # octaves over which the departure is alike
_OWN: Final = 0.12  # of what is one batch size's alone: tiles that fit, data that do not
# Relative spread of the epochs that repeated runs need, before any repeat was seen, and how many repeats
# that belief is worth: an estimate. About 14 % is quoted for deep learning jobs by You et al. (NSDI 2023; from
# memory, not looked up again).
_NOISE: Final = 0.1
_NOISE_WEIGHT: Final = 4.0
# A run is stopped once it has cost this many times what the best known does: what is lost by stopping is then
# as much again as starting anew costs, the ski-rental rule (Karlin et al., Algorithmica 3, 1988); so does Zeus.
_BOUND: Final = 2.0
# A run that never got there costs at least this much more than it had when it was given up.
_GIVEN_UP: Final = 1.3
# Recurrences looked ahead where nobody says how many will come: as many as came, and at least these.
_AHEAD: Final = 24
# How many runs of one batch size are weighed together: one alone may not tell, and several still pay.
_SEVERAL: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class Trial:
    """What to run next: the batch size of index `row`, to be stopped once it has cost `bound` (J)."""

    row: int
    bound: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """What a run came to: whether it reached the target, and its cost (J) until then or until it was stopped.

    The cost is that of all its epochs at the best power limit, what trying the others took left out.
    """

    row: int
    reached: bool
    cost: float


class Tuner(Protocol):
    """**Required to implement**: `ask`, what to run next; `tell`, what came of it. One call each, in turn."""

    def ask(self, *, retry: bool = False) -> Trial:
        """Return what to run; `retry` where the last run of this recurrence did not reach the target."""
        ...

    def tell(self, outcome: Outcome) -> None:
        """Learn from a run."""
        ...


@dataclass
class ValueTuner:
    """The tuner of this module's first paragraph.

    Parameters
    ----------
    batches : (b,) batch sizes, ascending.
    start : index of the owner's batch size, which is known to reach the target.
    recurrences : how many there will be in all; None where nobody knows.
    """

    batches: tuple[int, ...]
    start: int
    recurrences: int | None = None
    _seen: dict[int, list[float]] = field(default_factory=dict)  # row -> costs of runs that reached the target
    _failed: dict[int, float] = field(default_factory=dict)  # row -> what a run cost until it was given up
    _runs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start < len(self.batches):
            raise InputError(f"start must be an index of the {len(self.batches)} batch sizes, got {self.start}")
        if any(b <= a for a, b in zip(self.batches, self.batches[1:], strict=False)) or self.batches[0] <= 0:
            raise InputError(f"batch sizes must be positive and rise, got {list(self.batches)}")

    @property
    def best(self) -> int:
        """Index of the batch size known to cost least."""
        if not self._seen:
            return self.start
        mean, _ = self._belief()
        return min(self._seen, key=lambda row: mean[row])

    def ask(self, *, retry: bool = False) -> Trial:
        """Return what to run: the owner's choice first, and what is known to arrive after a failure."""
        if not self._seen:
            return Trial(self.start)
        best = self.best
        if retry:
            return Trial(best)
        mean, spread = self._belief()
        known = math.exp(mean[best])
        bound = _BOUND * known
        price = _price(mean, spread, known, bound)
        price[best] = 0.0
        several = np.array(_SEVERAL)[:, None]
        learnt = known * _learnt(mean, spread, self._noise() / np.sqrt(several), best)
        worth = (np.maximum(self._ahead() - several, 0) * learnt - several * price).max(axis=0)
        worth[[*self._failed, *self._far()]] = -math.inf
        row = int(np.argmax(worth))
        return Trial(best) if row == best or worth[row] <= 0 else Trial(row, bound)

    def tell(self, outcome: Outcome) -> None:
        """Learn from a run; a batch size that failed is not tried again."""
        self._runs += outcome.reached
        if outcome.reached:
            self._seen.setdefault(outcome.row, []).append(math.log(outcome.cost))
        elif outcome.row not in self._seen:
            self._failed[outcome.row] = math.log(outcome.cost * _GIVEN_UP)

    def _far(self) -> list[int]:
        """Return the batch sizes more than one step outside those tried: cost may rise steeply out there."""
        tried = [*self._seen, *self._failed]
        low, high = min(tried) - 1, max(tried) + 1
        return [row for row in range(len(self.batches)) if not low <= row <= high]

    def _ahead(self) -> int:
        if self.recurrences is not None:
            return max(0, self.recurrences - self._runs)
        return max(_AHEAD, self._runs)

    def _noise(self) -> float:
        """Return the standard deviation of log cost between repeats, pooled over batch sizes."""
        squares, count = _NOISE_WEIGHT * _NOISE**2, _NOISE_WEIGHT
        for costs in self._seen.values():
            squares += float(np.sum((np.array(costs) - np.mean(costs)) ** 2))
            count += len(costs) - 1
        return math.sqrt(squares / count)

    def _belief(self) -> tuple[Array, Array]:
        """Return mean and standard deviation (b,) of the log of the mean cost of every batch size."""
        x = np.log2(np.array(self.batches, dtype=float))
        x -= x[self.start]
        rows = [*self._seen, *self._failed]
        y = np.array([*(float(np.mean(c)) for c in self._seen.values()), *self._failed.values()])
        repeats = np.array([*(len(c) for c in self._seen.values()), *(1 for _ in self._failed)])
        level = y[rows.index(self.start)]
        near = x[rows]
        noise = np.diag(self._noise() ** 2 / repeats)
        solve = np.linalg.solve(_kernel(near, near) + noise, np.column_stack([y - level, _kernel(near, x)]))
        cross = _kernel(x, near)
        mean = level + cross @ solve[:, 0]
        variance = np.diag(_kernel(x, x)) - np.sum(cross.T * solve[:, 1:], axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))


def _kernel(a: Array, b: Array) -> Array:
    """Return the covariance of log cost: a level of its own, a trend, and smooth departures from it."""
    apart = (a[:, None] - b[None, :]) / _REACH
    trend: NDArray[np.float64] = _SLOPE**2 * a[:, None] * b[None, :]
    return np.asarray(_NOISE**2 + trend + _BEND**2 * np.exp(-0.5 * apart**2) + _OWN**2 * (apart == 0))


def _learnt(mean: Array, spread: Array, noise: Array, best: int) -> Array:
    """Return by how much (of the best known cost) a batch size is expected to lower it once seen, (m, b).

    `noise`: (m, 1) standard deviation of the mean of as many runs.
    """
    moves = spread**2 / np.sqrt(spread**2 + noise**2)
    others = np.full(len(mean), mean[best])
    others[best] = np.min(np.delete(mean, best), initial=math.inf)
    z = -np.abs(mean - others) / moves
    return np.asarray(moves * (z * _cdf(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)))


def _price(mean: Array, spread: Array, known: float, bound: float) -> Array:
    """Return what looking costs above running the best known; a run stopped at `bound` is wholly lost."""
    z = (math.log(bound) - mean) / spread
    arrives = np.exp(mean + spread**2 / 2) * _cdf(z - spread) - known * _cdf(z)
    return np.asarray(arrives + bound * (1 - _cdf(z)))


def _cdf(z: Array) -> Array:
    """Return the normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z.ravel()]).reshape(z.shape)
