"""A recurring job played from what was measured of it, one recurrence after another, under any tuner.

Each run draws one of the measured trainings of its batch size. It is stopped before the epoch that would
carry it past the tuner's bound (within the first, where even that is too dear), or at the job's most
epochs; a recurrence is tried again until a run reaches the target, and all of it counts. The first epoch at
a new batch size is split evenly over the power limits to find the best one, as in Zeus (NSDI 2023, 4.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from .jobs import Array, Job
from .recurring import Outcome, Tuner

# Runs of one recurrence after which the target is taken to be out of reach.
_TRIES = 20


@dataclass(frozen=True)
class Played:
    """What n recurrences took.

    Attributes
    ----------
    row : (n,) index of the batch size that reached the target.
    time, energy, cost : (n,) s, J, J of each recurrence, runs that failed included.
    runs : runs in all.
    """

    row: Array
    time: Array
    energy: Array
    cost: Array
    runs: int


def play(job: Job, tuner: Tuner, recurrences: int, *, eta: float, seed: int) -> Played:
    """Play `recurrences` of `job` under `tuner`; the same seed gives the same answer."""
    if recurrences < 1:
        raise InputError(f"recurrences must be 1 or more, got {recurrences}")
    random = np.random.default_rng(seed)
    replay = _Replay(job, eta)
    rows, sums, runs = [], np.zeros((recurrences, 2)), 0
    for turn in range(recurrences):
        for attempt in range(_TRIES):
            trial = tuner.ask(retry=attempt > 0)
            time, energy, outcome = replay.run(trial.row, trial.bound, random)
            sums[turn] += time, energy
            runs += 1
            tuner.tell(outcome)
            if outcome.reached:
                rows.append(trial.row)
                break
        else:
            raise InputError(f"job {job.name}: recurrence {turn + 1} did not reach the target in {_TRIES} runs")
    cost = sums @ [(1 - eta) * job.max_power, eta]
    return Played(np.array(rows), sums[:, 0], sums[:, 1], cost, runs)


class _Replay:
    """The job's measurements, and which batch sizes have had their power limits tried."""

    def __init__(self, job: Job, eta: float) -> None:
        self.job, self.cost = job, job.epoch_cost(eta)
        self.tried: set[int] = set()

    def run(self, row: int, bound: float, random: np.random.Generator) -> tuple[float, float, Outcome]:
        """Train once; return s, J, and what the tuner learns."""
        job = self.job
        column = int(np.argmin(self.cost[row]))
        needs = float(random.choice(job.epochs[row]))
        most = min(job.max_epochs, bound / self.cost[row, column])
        epochs = min(needs, math.floor(most) or most)  # a run whose first epoch is too dear ends within it
        time, energy = epochs * job.epoch_time[row, column], epochs * job.epoch_energy[row, column]
        if row not in self.tried:
            self.tried.add(row)
            time += job.epoch_time[row].mean() - job.epoch_time[row, column]
            energy += job.epoch_energy[row].mean() - job.epoch_energy[row, column]
        return float(time), float(energy), Outcome(row, needs <= most, float(epochs * self.cost[row, column]))
