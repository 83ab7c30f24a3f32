"""Tests for `wattline.control.loops.tuner` and its belief: little looking, close to the best there is, awake to drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.control.loops.landscape import SLOPES, Look, believe
from wattline.control.loops.tuner import Objective, Tuner
from wattline.core.errors import InputError

LIMITS = tuple(100.0 + 25.0 * k for k in range(9))
STEPS = 40


class World:
    """A device whose power falls with its limit and whose time rises below a knee; looks at it are noisy."""

    def __init__(self, seed: int = 0, *, knee: float = 230.0, noise: float = 0.02, values=LIMITS) -> None:
        self.random = np.random.default_rng(seed)
        self.values, self.knee, self.noise, self.scale = values, knee, noise, 1.0

    def time(self, limit: float) -> float:
        bound = max(0.0, math.log(self.knee / limit))
        return 0.1 * self.scale * math.exp(0.4 * bound + 0.8 * bound**2)

    def joules(self, limit: float) -> float:
        return self.time(limit) * min(limit, self.knee + 15.0)

    def look(self, tuner: Tuner) -> None:
        at = tuner.ask()
        slow, hot = np.exp(self.random.normal(0.0, self.noise, 2))
        tuner.tell(at, seconds=STEPS * self.time(at) * slow, joules=STEPS * self.joules(at) * slow * hot, steps=STEPS)

    def costs(self, objective: Objective) -> dict[float, float]:
        t = np.array([self.time(v) for v in self.values])
        e = np.array([self.joules(v) for v in self.values])
        if objective.max_slowdown is not None:
            e = np.where(t <= t[-1] * (1 + objective.max_slowdown) * 1.002, e, np.inf)
            return dict(zip(self.values, e.tolist(), strict=True))
        return dict(zip(self.values, objective.cost(t, e / t).tolist(), strict=True))


def play(world: World, objective: Objective, steps: int = 4000, seed: int = 0) -> Tuner:
    tuner = Tuner(world.values, objective, steps=steps, seed=seed)
    while tuner.done < steps:
        world.look(tuner)
    return tuner


@pytest.mark.parametrize("objective", [Objective(eta=1.0), Objective(eta=0.5), Objective(max_slowdown=0.05)])
def test_it_ends_close_to_the_best(objective):
    """Whatever is wanted, the setting it ends at costs at most 2 % more than the best there is, for each of 5 seeds."""
    for seed in range(5):
        world = World(seed)
        costs = world.costs(objective)
        assert costs[play(world, objective, seed=seed).best] <= 1.02 * min(costs.values())


def test_it_looks_at_fewer_settings_than_there_are():
    """What is tried tells of its neighbours: of 41 settings less than half are ever run, and looking costs little."""
    world, spent = World(1, values=tuple(100.0 + 5.0 * k for k in range(41))), 0.0
    tuner = Tuner(world.values, Objective(eta=1.0), steps=4000)
    costs = world.costs(tuner.objective)
    while tuner.done < 4000:
        spent += STEPS * costs[tuner.ask()]
        world.look(tuner)
    assert len(tuner.tried) <= 20
    assert spent <= 1.03 * 4000 * min(costs.values())
    assert costs[tuner.best] <= 1.02 * min(costs.values())


def test_a_short_job_is_left_alone():
    """Where few steps are left, looking cannot pay: everything runs as it would untuned."""
    world, tuner = World(0), Tuner(LIMITS, Objective(eta=1.0), steps=2 * STEPS)
    for _ in range(2):
        assert tuner.ask() == LIMITS[-1]
        world.look(tuner)


def test_looking_costs_less_than_it_saves():
    """All looks counted, the loop takes less than untuned, and little more than had the best been known."""
    for seed in range(5):
        world, spent = World(seed), 0.0
        costs = world.costs(Objective(eta=1.0))
        tuner = Tuner(LIMITS, Objective(eta=1.0), steps=4000, seed=seed)
        while tuner.done < 4000:
            spent += STEPS * costs[tuner.ask()]
            world.look(tuner)
        assert spent < 4000 * costs[LIMITS[-1]]
        assert spent < 1.04 * 4000 * min(costs.values())


def test_it_is_calm_without_drift_and_wakes_with_it():
    """Noise alone begins no era; work that becomes another kind does, and the new best is found."""
    world = World(3)
    tuner = play(world, Objective(eta=1.0), 8000)
    assert tuner.era == 0
    before = tuner.best
    world.scale, world.knee, tuner.steps = 1.3, 150.0, 16000
    while tuner.done < 16000:
        world.look(tuner)
    assert tuner.era >= 1
    costs = world.costs(tuner.objective)
    assert costs[tuner.best] <= 1.03 * min(costs.values())
    assert tuner.best < before


def test_one_odd_look_is_not_a_drift():
    """A checkpoint within a look makes it slow once; that begins no era and moves the choice nowhere."""
    world = World(4)
    tuner = play(world, Objective(eta=1.0), 4000)
    tuner.steps, best = 8000, tuner.best
    while tuner.ask() != best:
        world.look(tuner)
    tuner.tell(best, seconds=STEPS * world.time(best) * 3, joules=STEPS * world.joules(best) * 2, steps=STEPS)
    for _ in range(20):
        world.look(tuner)
    assert tuner.era == 0


def test_same_answers_same_questions():
    """Nothing but what was told and the seed decides."""
    asked = []
    for _ in range(2):
        world, tuner, row = World(5), Tuner(LIMITS, Objective(eta=0.7), seed=2), []
        for _ in range(30):
            row.append(tuner.ask())
            world.look(tuner)
        asked.append(row)
    assert asked[0] == asked[1]


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(1.0, 1e10), min_size=1, max_size=8, unique=True),
    told=st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e9)), min_size=1, max_size=6),
    eta=st.floats(0.0, 1.0),
)
def test_any_looks_are_taken(values, told, eta):
    """Whatever a look says, the next setting is one of those given, and the best is one that was tried."""
    tuner = Tuner(values, Objective(eta=eta))
    for seconds, joules in told:
        tuner.tell(tuner.ask(), seconds=seconds, joules=joules)
        assert tuner.ask() in values
        assert tuner.best in tuner.tried
    assert all(math.isfinite(x) for x in tuner.believed(tuner.best))


def test_beliefs_cover_the_truth():
    """At settings never tried, the middle 95 % of the belief holds the truth about as often as it says."""
    x, inside, count = np.log(np.array(LIMITS) / LIMITS[-1]), 0, 0
    for seed in range(20):
        world = World(seed, noise=0.01)
        looks = []
        for place in (8, 8, 3, 5):
            slow, hot = np.exp(world.random.normal(0, 0.01, 2))
            at = LIMITS[place]
            power = world.joules(at) / world.time(at)
            looks.append(Look(place, math.log(world.time(at) * slow), math.log(power * hot), 0))
        normal = tuple(world.random.standard_normal((200, len(LIMITS))) for _ in range(2))
        belief = believe(x, looks, SLOPES["power_limit"], normal)  # type: ignore[arg-type]
        low, high = np.quantile(belief.time, [0.025, 0.975], axis=0)
        for place in (2, 4, 6, 7):
            inside += low[place] <= world.time(LIMITS[place]) <= high[place]
            count += 1
    assert inside / count >= 0.85


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Objective(), "say what is wanted"),
        (lambda: Objective(eta=0.5, max_slowdown=0.1), "say what is wanted"),
        (lambda: Objective(eta=1.5), "between 0"),
        (lambda: Objective(max_slowdown=-0.1), "share >= 0"),
        (lambda: Tuner([], Objective(eta=1.0)), "at least one"),
        (lambda: Tuner([100.0, float("nan")], Objective(eta=1.0)), "finite and > 0"),
        (lambda: Tuner([100.0], Objective(eta=1.0), knob="fan"), "knob must be one of"),
        (lambda: Tuner([100.0], Objective(eta=1.0)).tell(90.0, seconds=1, joules=1), "a setting that was asked for"),
        (lambda: Tuner([100.0], Objective(eta=1.0)).tell(100.0, seconds=0, joules=1), "finite seconds and joules"),
        (lambda: Tuner([100.0], Objective(eta=1.0)).believed(100.0), "nothing is known"),
    ],
)
def test_what_cannot_be_used_is_refused(make, words):
    """Bad input is one sentence that says the rule."""
    with pytest.raises(InputError, match=words):
        make()
