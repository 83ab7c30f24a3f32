"""Tests for `wattline.serving.governor`: the one controller that the simulator plays and `wattline govern` ships."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.serving.governor import Controller, Promise, Seen

CLOCKS = [0.8e9, 0.95e9, 1.1e9, 1.25e9, 1.4e9, 1.55e9, 1.7e9, 1.85e9, 1.98e9]
CALM = Seen(seconds=1.0, running=8.0, waiting=0.0, firsts=5.0, first_mean=0.05, done=5.0, gaps=400.0, gap_mean=0.01)


def controller(**promise: float) -> Controller:
    return Controller(Promise(**{"ttft": 1.0, "tpot": 0.05, **promise}), CLOCKS)


def calm(made: Controller, looks: int, seen: Seen = CALM) -> None:
    for _ in range(looks):
        made.look(seen)


def test_it_begins_at_the_top_and_comes_down_a_notch_at_a_time() -> None:
    """Patience looks a notch, and not below the base, which comes down as requests are in time."""
    made = controller()
    moves = [made.look(CALM).move for _ in range(6)]
    assert moves == ["stay", "down"] * 3
    calm(made, 200)
    assert made.clock == pytest.approx(1.25e9)  # half of the range, nearly
    calm(made, 10_000)
    assert made.clock == CLOCKS[0]


def test_slow_tokens_raise_the_clock_at_once_by_a_little() -> None:
    """Means over the promise are answered in the same look, by fifteen percent, not by all there is."""
    made = controller()
    calm(made, 10_000)
    told = made.look(replace(CALM, gap_mean=0.5))
    assert (told.move, told.clock, told.why) == ("up", 0.95e9, "tokens come slowly")
    told = made.look(replace(CALM, waiting=50.0))
    assert (told.move, told.why) == ("up", "requests wait")


def test_a_used_up_budget_goes_to_the_top_until_it_has_recovered() -> None:
    """Late ones as many as allowed: the top, and no way down while they are remembered."""
    made = controller()
    calm(made, 10_000)
    told = made.look(replace(CALM, firsts=600.0, first_late=500.0))
    assert (told.move, told.clock) == ("top", CLOCKS[-1])
    assert told.strain > 1.0
    assert {made.look(CALM).move for _ in range(50)} == {"stay"}
    assert made.clock == CLOCKS[-1]


def test_nothing_to_serve_changes_nothing() -> None:
    """An idle server leaves the clock; one that runs and says no token too."""
    made = controller()
    calm(made, 40)
    before = made.clock
    idle = Seen(seconds=1.0, running=0.0, waiting=0.0)
    assert made.look(idle).move == "idle"
    assert made.look(replace(idle, running=3.0)).move == "stay"
    assert made.clock == before


@given(
    hard=st.floats(0.0, 1.0), rate=st.sampled_from([2.0, 20.0]), percentile=st.sampled_from([95.0, 99.0]),
    seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=8, deadline=None)
def test_in_the_long_run_as_many_are_late_as_aimed_at(hard: float, rate: float, percentile: float, seed: int) -> None:
    """Whatever clock a load needs, requests turn out late no more often than allowed, and the clock is no higher than
    it must be: where lateness falls with the clock, late ones come near the share aimed at, or the clock to its lowest.
    """
    random = np.random.default_rng(seed)
    made = Controller(Promise(ttft=1.0, percentile=percentile), CLOCKS)
    needed = CLOCKS[0] + hard * 0.8 * (CLOCKS[-1] - CLOCKS[0])
    count = late = 0
    looks = int(30_000 / rate)
    for _ in range(looks):
        n = random.poisson(rate)
        x = random.binomial(n, min(1.0, 0.003 * 10.0 ** ((needed - made.clock) / 0.2e9)))
        count, late = count + n, late + x
        made.look(replace(CALM, firsts=float(n), first_late=float(x)))
    allowed = made.promise.allowed
    assert late <= 1.15 * allowed * count
    assert late >= 0.3 * allowed * count or made.clock <= max(1.15 * needed, 1.2 * CLOCKS[0])


def test_what_makes_no_governor_is_refused() -> None:
    """No promise, no choice of clocks, no patience."""
    for how, words in (
        ({}, "a promise to keep"), ({"tpot": -1.0}, "finite number of seconds"),
        ({"tpot": 1.0, "percentile": 100.0}, "between 0 and 100"), ({"tpot": 1.0, "use": 1.0}, "lies between 0 and 1"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Promise(**how)
    for clocks, more, words in (
        ([1e9], {}, "2 clocks or more"), ([2e9, 1e9], {}, "ascending"), (CLOCKS, {"patience": 0}, "at least 1 look"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Controller(Promise(ttft=1.0), clocks, **more)
