"""Tests for `wattline.training.recurring`: learning the batch size while a job recurs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.training import history
from wattline.training.recurring import Outcome, ValueTuner, _learnt

BATCHES = (16, 32, 64, 128, 256)


def learn(tuner: ValueTuner, costs: dict[int, float], runs: int, noise: float = 0.0, seed: int = 0) -> list[int]:
    """Run the tuner against known mean costs (inf: never arrives) and return what it ran."""
    random, ran = np.random.default_rng(seed), []
    for _ in range(runs):
        trial = tuner.ask()
        cost = costs[trial.row] * math.exp(noise * random.standard_normal())
        reached = cost <= trial.bound
        tuner.tell(Outcome(trial.row, reached, min(cost, trial.bound, 1e6)))
        ran.append(trial.row)
    return ran


def test_the_owners_choice_comes_first_and_without_a_bound():
    """Nothing is known before it, so nothing may stop it."""
    trial = ValueTuner(BATCHES, 2).ask()
    assert (trial.row, trial.bound) == (2, math.inf)


def test_looking_goes_one_step_beyond_what_was_tried():
    """Cost may rise steeply far out: the second run is a neighbour of the first."""
    tuner = ValueTuner(BATCHES, 2)
    tuner.tell(Outcome(2, True, 100.0))
    assert abs(tuner.ask().row - 2) == 1


@pytest.mark.parametrize("best", range(5))
@pytest.mark.parametrize("start", range(5))
def test_it_walks_to_the_cheapest_and_stays(start: int, best: int):
    """On a valley of any place it ends at the bottom, from any start."""
    costs = {row: 100 * 1.3 ** abs(row - best) for row in range(5)}
    ran = learn(ValueTuner(BATCHES, start), costs, 60)
    assert ran[-20:].count(best) >= 16


def test_near_ties_are_told_apart_under_noise():
    """Ten percent apart with a tenth of noise: the better one wins in the long run."""
    costs = {0: 150.0, 1: 110.0, 2: 100.0, 3: 130.0, 4: 190.0}
    wins = 0
    for seed in range(10):
        tuner = ValueTuner(BATCHES, 1)
        learn(tuner, costs, 120, noise=0.1, seed=seed)
        wins += tuner.best == 2
    assert wins >= 9


def test_a_batch_size_that_failed_is_never_run_again():
    """One that does not arrive costs its bound once."""
    costs = {0: math.inf, 1: 100.0, 2: 110.0, 3: math.inf, 4: math.inf}
    ran = learn(ValueTuner(BATCHES, 1), costs, 60)
    assert max(ran.count(0), ran.count(3), ran.count(4)) <= 1


def test_after_a_failure_what_is_known_to_arrive_is_run():
    """A retry takes no risk."""
    tuner = ValueTuner(BATCHES, 2)
    tuner.tell(Outcome(2, True, 100.0))
    tuner.tell(Outcome(1, False, 200.0))
    trial = tuner.ask(retry=True)
    assert (trial.row, trial.bound) == (2, math.inf)


def test_the_last_recurrence_is_not_spent_on_looking():
    """With nothing to come, nothing is worth learning."""
    tuner = ValueTuner(BATCHES, 2, recurrences=2)
    tuner.tell(Outcome(2, True, 100.0))
    assert tuner.ask().row == 2


@given(st.floats(-1, 1), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_what_is_learnt_agrees_with_drawing_it(gap: float, spread: float, noise: float):
    """The closed form of the gain equals its average over drawn observations."""
    mean, known = np.array([0.0, gap]), 1e-9
    closed = float(_learnt(mean, np.array([known, spread]), np.array([[noise]]), 0)[0, 1])
    grid = np.linspace(-8, 8, 20_001)
    weight = np.exp(-0.5 * grid**2)
    moved = gap + spread**2 / math.sqrt(spread**2 + noise**2) * grid
    drawn = float(np.sum(weight * (min(0.0, gap) - np.minimum(0.0, moved))) / np.sum(weight))
    assert closed == pytest.approx(drawn, abs=1e-5)


@pytest.mark.parametrize(
    ("batches", "start", "words"), [((16, 16), 0, "must be positive and rise"), ((16,), 1, "start must be an index")]
)
def test_nonsense_is_refused(batches: tuple[int, ...], start: int, words: str):
    """Batch sizes rise, and the owner's is one of them."""
    with pytest.raises(InputError, match=words):
        ValueTuner(batches, start)


@pytest.mark.parametrize(("eta", "expected"), [(1.0, 6000.0), (0.0, 2500.0 * 40.0), (0.25, 0.25 * 6000.0 + 0.75 * 1e5)])
def test_a_run_costs_its_energy_and_its_time_at_the_most_power(eta: float, expected: float) -> None:
    """Zeus's cost (NSDI 2023, equation 2): eta E + (1 - eta) P T, of 6 kJ in 40 s under limits of 2.5 kW at most."""
    assert history.cost(6000.0, 40.0, eta, 2500.0) == pytest.approx(expected)
