"""Tests for choosing settings by simulation: the odds, closed loops by Little's law, the search beside exhaustion."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.serving.simulate.choose import (
    TRUST,
    Choice,
    Setting,
    Trial,
    Wanted,
    block_odds,
    closed,
    confirm,
    measured,
    search,
)
from wattline.serving.simulate.odds import likely, student
from wattline.serving.simulate.outcome import Limits
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.workload.traffic import Requests

from .fleets import tiny


@pytest.mark.parametrize(
    ("t", "freedom", "chance"),
    [(6.314, 1, 0.95), (2.920, 2, 0.95), (2.353, 3, 0.95), (1.895, 7, 0.95), (2.998, 7, 0.99), (1.812, 10, 0.95)],
)
def test_students_t_is_the_tabled_one(t: float, freedom: int, chance: float) -> None:
    """Upper quantiles as printed tables have them, and the symmetry of the distribution."""
    assert student(t, freedom) == pytest.approx(chance, abs=1e-4)
    assert student(-t, freedom) == pytest.approx(1.0 - chance, abs=1e-4)


def test_odds_are_those_of_one_more_draw() -> None:
    """Where eight normal margins say that a ninth lies above itself with a chance of x, it does in x of such cases."""
    draws = np.random.default_rng(1).normal(0.2, 0.1, (4000, 9))
    said = np.array([likely(row[:8] - row[8]) for row in draws])
    for chance in (0.05, 0.5, 0.95, 0.99):
        assert (said < chance).mean() == pytest.approx(chance, abs=0.02)


def test_odds_of_a_trace_come_from_its_blocks() -> None:
    """Few late requests all over are safe, many are not, and as many as are allowed are about even."""
    late = np.zeros(2000, bool)
    assert block_odds(late, 0.01) == 1.0
    late[::50] = True
    assert block_odds(late, 0.01) == 0.0
    late = np.random.default_rng(0).random(20_000) < 0.01
    assert 0.1 < block_odds(late, 0.01) < 0.9


@given(clients=st.integers(1, 8), output=st.integers(2, 30), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_closed_loop_obeys_littles_law(clients: int, output: int, seed: int) -> None:
    """Throughput times mean latency is the number of clients, in the stretch where all of them are at work."""
    random = np.random.default_rng(seed)
    count = 60 * clients
    requests = Requests(np.zeros(count), random.integers(5, 60, count), random.integers(1, 2 * output, count))
    pool = Pool(table=tiny(), max_batch=clients, blocks=400)
    run = closed(simulate(requests, Fleet((pool,)), FixedClock()), clients)
    times = np.concatenate([run.arrival, run.end])
    moves = np.concatenate([np.ones(count), -np.ones(count)])
    order = np.argsort(times, kind="stable")
    waiting, at = np.cumsum(moves[order]), times[order]
    inner = (at > at[-1] * 0.2) & (at < np.sort(run.arrival)[-1])
    assert (run.arrival <= run.begun + 1e-12).all()
    held = np.average(waiting[:-1][inner[:-1]], weights=np.diff(at)[inner[:-1]]) if inner.sum() > 2 else clients
    assert held == pytest.approx(clients, rel=0.02)


def _trial(setting: Setting, ttft: list[float], joules: float) -> Trial:
    times = np.array(ttft)
    return Trial(setting, times, 0.1 * times, times, joules, 1.0, 0.0, 1.0, 1.0, 1.0, 100, 1.0, 4, {})


@given(
    knee=st.floats(0.6e9, 1.6e9), busy=st.floats(0.1, 0.9), limit=st.floats(0.3, 3.0), chunk=st.sampled_from([1, 2, 4]),
    cap=st.integers(2, 8),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_the_search_is_as_good_as_trying_everything(
    knee: float, busy: float, limit: float, chunk: int, cap: int
) -> None:
    """On queues with a valley of energy: within 2 % of the best of all settings, or as near the promise as any."""
    choice = Choice(np.arange(0.4e9, 2e9, 15e6), list(range(2, 9, 2)), (1, 2, 4))

    def play(s: Setting) -> Trial:
        load = busy * (0.9e9 / s.clock) * (1 + 0.1 * abs(math.log2(s.chunk / chunk))) * (1 + 0.4 * max(cap - s.cap, 0))
        ttft = 0.2 * 1e9 / s.clock / max(1 - load, 1e-3)
        return _trial(s, [ttft] * 3, 1 + (s.clock / knee - 1) ** 2 + 0.05 * abs(math.log2(s.chunk / chunk)))

    wanted = Wanted(Limits(ttft=limit), lambda t: t.chip_j)
    every = [
        play(Setting(float(c), b, k)) for c, b, k in itertools.product(choice.clocks, choice.caps, choice.chunks)
    ]  # fmt: skip
    best = min(wanted.rank(t) for t in every)
    found, seen = search(choice, [Setting(2e9, 8, 4)], play, wanted)
    got = wanted.rank(found)
    assert got[0] <= best[0] * 1.02 + 1e-9
    assert best[0] > 0 or got[1] <= 1.02 * best[1]
    assert len(seen) < len(every) / 8


def test_confirming_raises_the_clock_until_the_promise_is_safe() -> None:
    """A setting that was lucky on the requests of the search is not what is printed."""
    choice = Choice(np.arange(0.4e9, 2e9, 15e6), (8,), (1,))
    luck = np.array([0.9, 1.0, 1.05, 1.1, 0.95, 1.0, 1.02, 0.98])

    def play(s: Setting) -> Trial:
        return _trial(s, list(luck * 1e9 / s.clock), s.clock)

    wanted = Wanted(Limits(ttft=1.0), lambda t: t.chip_j)
    found = confirm(choice, play(Setting(1.0e9, 8, 1)), play, wanted)
    assert found.odds(wanted.limits) >= TRUST
    assert 1.15e9 < found.setting.clock < 1.45e9


def test_energy_of_an_open_loop_is_that_while_requests_come() -> None:
    """Neither filling nor draining counts: twice as long a run of the same load costs the same per token."""
    random = np.random.default_rng(3)

    def trial(count: int) -> Trial:
        arrival = np.cumsum(random.exponential(0.02, count))
        requests = Requests(arrival, np.full(count, 30), np.full(count, 20))
        pool = Pool(table=tiny(), max_batch=8, blocks=400)
        runs = [simulate(requests, Fleet((pool,)), FixedClock()) for _ in range(2)]
        return measured(Setting(1e9, 8, 64), runs, Limits(), 1)

    short, long = trial(1500), trial(6000)
    assert short.chip_j == pytest.approx(long.chip_j, rel=0.03)
    assert long.rate == pytest.approx(50.0, rel=0.05)
    assert sum(long.breakdown.values()) == pytest.approx(long.chip_j)
