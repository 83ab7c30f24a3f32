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
    closed,
    confirm,
    lowest,
    measured,
    search,
)
from wattline.serving.simulate.odds import kept_odds, late_shares
from wattline.serving.simulate.outcome import Limits
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.workload.traffic import Requests

from .fleets import tiny


def test_odds_are_those_of_another_run() -> None:
    """Of runs whose stretches are late by chance, as many keep the promise as eight others said, within a tenth."""
    random = np.random.default_rng(1)
    late = random.gamma(0.5, 0.016, (200, 20))  # bursts: most stretches without a late request, some with many
    true = float((late.mean(axis=1) <= 0.01).mean())
    said = [kept_odds(late[8 * k : 8 * k + 8].reshape(1, -1), 0.01) for k in range(25)]
    assert np.mean(said) == pytest.approx(true, abs=0.1)
    assert 0.1 < true < 0.9


@given(seed=st.integers(0, 99), more=st.floats(0.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_fewer_late_requests_never_lower_the_odds(seed: int, more: float) -> None:
    """A looser limit makes some of the late requests timely, and the chance rises or stays."""
    random = np.random.default_rng(seed)
    tight = random.gamma(0.3, 0.02, (2, 160))
    loose = tight * (random.random((2, 160)) < more)
    assert kept_odds(loose, 0.01) >= kept_odds(tight, 0.01)


def test_odds_of_a_trace_come_from_its_stretches() -> None:
    """Few late requests all over are safe, many are not, and as many as are allowed are about even."""

    def odds(late: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
        return kept_odds(late_shares(late)[None], 0.01)

    late = np.zeros(2000, bool)
    assert odds(late) == 1.0
    late[::50] = True
    assert odds(late) == 0.0
    assert 0.1 < odds(np.random.default_rng(0).random(20_000) < 0.01) < 0.9


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


def _trial(setting: Setting, ttft: list[float], joules: float, limit: float = math.inf) -> Trial:
    """Runs of 20 stretches that are all late where the first token is."""
    times = np.array(ttft)
    late = np.stack([np.repeat(times > limit, 20), np.zeros(20 * len(ttft))]).astype(np.float64)
    return Trial(setting, times, 0.1 * times, times, joules, 1.0, 0.0, 1.0, 1.0, 1.0, 100, 1.0, 4, {}, late)


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


@given(
    knee=st.floats(0.6e9, 1.6e9), busy=st.floats(0.1, 0.9), limits=st.lists(st.floats(0.2, 3.0), min_size=3, max_size=3),
    chunk=st.sampled_from([1, 2, 4]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_a_looser_promise_never_costs_more(knee: float, busy: float, limits: list[float], chunk: int) -> None:
    """Halving finds the cheapest setting within each limit, so energy falls as limits are let go."""
    choice = Choice(np.arange(0.4e9, 2e9, 15e6), (6, 8), (1, 2, 4))

    def play(s: Setting, limit: float) -> Trial:
        load = busy * (0.9e9 / s.clock) * (1 + 0.1 * abs(math.log2(s.chunk / chunk))) * (1.1 if s.cap < 8 else 1.0)
        ttft = 0.2 * 1e9 / s.clock / max(1 - load, 1e-3)
        return _trial(s, [ttft] * 3, 1 + (s.clock / knee - 1) ** 2 + 0.05 * abs(math.log2(s.chunk / chunk)), limit)

    joules = []
    for limit in sorted(limits):
        wanted = Wanted(Limits(ttft=limit), lambda t: t.chip_j)
        found, seen = lowest(choice, lambda s, limit=limit: play(s, limit), wanted)  # type: ignore[misc]
        assert len(seen) < 80
        every = [
            play(Setting(float(c), b, k), limit)
            for c, b, k in itertools.product(choice.clocks, choice.caps, choice.chunks)
        ]
        fit = [t.chip_j for t in every if wanted.rank(t)[0] == 0.0]
        assert (found is None) == (not fit)
        joules.append(math.inf if found is None else found.chip_j)
        if found is not None:
            assert found.chip_j <= 1.001 * min(fit)
    assert joules == sorted(joules, reverse=True)


def test_confirming_raises_the_clock_until_the_promise_is_safe() -> None:
    """A setting that was lucky on the requests of the search is not what is printed."""
    choice = Choice(np.arange(0.4e9, 2e9, 15e6), (8,), (1,))
    luck = np.array([0.9, 1.0, 1.05, 1.1, 0.95, 1.0, 1.02, 0.98])

    def play(s: Setting) -> Trial:
        return _trial(s, list(luck * 1e9 / s.clock), s.clock, 1.0)

    wanted = Wanted(Limits(ttft=1.0), lambda t: t.chip_j)
    found = confirm(choice, play(Setting(1.0e9, 8, 1)), play, wanted)
    assert found.odds(wanted.limits) >= TRUST
    assert found.setting.clock == pytest.approx(1.1e9, abs=15e6)  # the slowest at which none of the runs is late


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
