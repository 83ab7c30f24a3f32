"""Tests for `wattline.training.play`: a recurring job played from its traces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.training.jobs import Job, oracle
from wattline.training.play import play
from wattline.training.recurring import Outcome, Trial, ValueTuner

JOB = Job(
    "toy", (16, 32), np.array([100.0, 200.0]), np.array([[10.0, 8.0], [6.0, 5.0]]), np.array([[90.0, 150.0], [95.0, 160.0]]),
    (np.array([4.0]), np.array([5.0, np.inf])), 8.0, 0,
)  # fmt: skip


@dataclass
class Scripted:
    """A tuner that runs what it is told and keeps what it hears."""

    trials: list[Trial]
    heard: list[Outcome] = field(default_factory=list)

    def ask(self, *, retry: bool = False) -> Trial:
        return self.trials[len(self.heard)]

    def tell(self, outcome: Outcome) -> None:
        self.heard.append(outcome)


def test_the_first_run_pays_for_trying_every_limit():
    """Its first epoch is the mean over limits; later runs and the tuner see the best limit alone."""
    tuner = Scripted([Trial(0)] * 2)
    played = play(JOB, tuner, 2, eta=1.0, seed=0)
    assert played.energy.tolist() == [3 * 900 + (900 + 1200) / 2, 4 * 900]
    assert played.time.tolist() == [3 * 10 + 9, 40]
    assert [o.cost for o in tuner.heard] == [3600, 3600]


def test_a_run_is_stopped_before_the_epoch_that_passes_its_bound():
    """At 900 J an epoch a bound of 2,000 J leaves two, and the recurrence is tried again."""
    tuner = Scripted([Trial(0, 2000.0), Trial(0)])
    played = play(JOB, tuner, 1, eta=1.0, seed=0)
    assert [(o.reached, o.cost) for o in tuner.heard] == [(False, 1800.0), (True, 3600.0)]
    assert played.runs == 2
    assert played.energy[0] == pytest.approx(1800 + 150 + 3600)


def test_a_run_whose_first_epoch_is_too_dear_costs_its_bound():
    """It ends within that epoch."""
    tuner = Scripted([Trial(0, 450.0), Trial(0)])
    play(JOB, tuner, 1, eta=1.0, seed=0)
    assert tuner.heard[0] == Outcome(0, False, 450.0)


def test_a_job_that_never_arrives_is_given_up_with_words():
    """Twenty runs of one recurrence are enough."""
    never = Job("never", (16,), np.array([100.0]), np.ones((1, 1)), np.ones((1, 1)), (np.array([np.inf]),), 5.0, 0)
    with pytest.raises(InputError, match="did not reach the target in 20 runs"):
        play(never, Scripted([Trial(0)] * 30), 1, eta=1.0, seed=0)


def test_the_same_seed_gives_the_same_answer():
    """Twice played, twice the same."""
    first, second = (play(JOB, ValueTuner(JOB.batches, 0), 30, eta=0.5, seed=7) for _ in range(2))
    assert np.array_equal(first.energy, second.energy)
    assert np.array_equal(first.row, second.row)


def test_in_the_long_run_it_costs_little_more_than_the_oracle():
    """A valley of six batch sizes with a fifth of noise: within 4 % over 200 recurrences, exploring counted."""
    random = np.random.default_rng(1)
    batches = (8, 16, 32, 64, 128, 256)
    time = 100 * np.array([3.0, 2.0, 1.4, 1.1, 1.0, 1.0])[:, None] * np.array([1.2, 1.0])
    power = np.broadcast_to([120.0, 200.0], time.shape)
    epochs = tuple(np.round(m * np.exp(0.15 * random.standard_normal(12)) + 1) for m in (18, 18, 19, 22, 38, 80))
    job = Job("valley", batches, np.array([150.0, 250.0]), time, power, epochs, 200.0, 5)
    costs = [play(job, ValueTuner(batches, 5), 200, eta=0.5, seed=s).cost.mean() for s in range(5)]
    assert np.mean(costs) < 1.04 * oracle(job, 0.5).cost
