"""Tests for `wattline.serving.simulate._core`: in C and in Python the same bits, and the same rules told by others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core import kernels
from wattline.serving.simulate.outcome import Limits, Run
from wattline.serving.simulate.parking import Parking
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock, Governor, Policy
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.workload.traffic import Requests

from . import plain
from .fleets import tiny, trace

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.003, 0.02, 0.1]), st.integers(1, 150), st.integers(1, 30)),
    min_size=1,
    max_size=20,
)


def both(
    requests: Requests, *, batch: int, blocks: int, replicas: int, route: str, clock: float | None = None,
    draft: int = 0, accepted: float = 0.6, seed: int = 0,
) -> tuple[Run, list[plain.Job], list[plain.Replica]]:  # fmt: skip
    """Serve a trace both ways."""
    table = tiny(draft)
    pool = Pool(table=table, replicas=replicas, max_batch=batch, blocks=blocks, accepted=accepted)
    run = simulate(requests, Fleet((pool,), route), FixedClock(clock), seed=seed)
    level = math.inf if clock is None else table.level(clock)
    rules = plain.Settings(
        table, batch, blocks, page=requests.page, mixed=level, alone=level, accepted=accepted, seed=seed,
    )  # fmt: skip
    return run, *plain.serve(requests, rules, replicas, route)


def agree(run: Run, jobs: list[plain.Job], fleet: list[plain.Replica]) -> None:
    """Counts are equal, times and joules to rounding."""
    assert run.steps == sum(r.steps for r in fleet)
    assert run.replica.tolist() == [j.replica for j in jobs]
    assert run.preempted.tolist() == [j.preempted for j in jobs]
    assert run.cached.tolist() == [j.cached for j in jobs]
    for mine, theirs in (
        (run.begun, "begun"), (run.first, "first"), (run.end, "end"), (run.prefill_j, "prefill_j"), (run.decode_j, "decode_j")
    ):  # fmt: skip
        np.testing.assert_allclose(mine, [getattr(j, theirs) for j in jobs], rtol=1e-9, atol=1e-12)


@given(
    rows=ROWS, batch=st.integers(1, 8), room=st.integers(0, 30), replicas=st.integers(1, 3),
    route=st.sampled_from(["round_robin", "least_loaded", "prefix", "pack"]),
    clock=st.sampled_from([None, 0.9e9, 1.41e9]), prefix=st.sampled_from([0, 16, 32]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_core_is_the_plain_engine(
    rows: list[tuple[float, int, int]],
    batch: int,
    room: int,
    replicas: int,
    route: str,
    clock: float | None,
    prefix: int,
) -> None:
    """Whatever comes, whoever is preempted: the same steps, the same times, the same joules."""
    requests = trace(rows, prefix)
    blocks = max(-(-(p + o + 1) // 16) for _, p, o in rows) + room
    agree(*both(requests, batch=batch, blocks=blocks, replicas=replicas, route=route, clock=clock))


@given(rows=ROWS, accepted=st.floats(0.0, 1.0), seed=st.integers(0, 2**31), room=st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_speculation_is_the_plain_one(
    rows: list[tuple[float, int, int]], accepted: float, seed: int, room: int
) -> None:
    """Draft tokens hold or not by the same hash."""
    blocks = max(-(-(p + o + 4) // 16) for _, p, o in rows) + room
    requests = trace(rows)
    agree(*both(requests, batch=8, blocks=blocks, replicas=2, route="pack", draft=3, accepted=accepted, seed=seed))


@given(
    rows=ROWS, batch=st.integers(1, 8), room=st.integers(0, 30), route=st.sampled_from(["round_robin", "pack", "prefix"]),
    policy=st.sampled_from([FixedClock(1.2e9), Governor(interval=0.05, switching=0.01), Parking(FixedClock(), interval=0.05, hold=0.1)]),
    limits=st.sampled_from([Limits(0.5, 0.05), Limits(0.05, 0.01)]), draft=st.sampled_from([0, 3]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_c_and_python_give_the_same_bits(
    rows: list[tuple[float, int, int]], batch: int, room: int, route: str, policy: Policy, limits: Limits, draft: int
) -> None:
    """Whatever comes, under every policy: not one bit of one figure differs."""
    blocks = max(-(-(p + o + 4) // 16) for _, p, o in rows) + room
    pool = Pool(
        table=tiny(draft), replicas=3, max_batch=batch, blocks=blocks, accepted=0.6, start_time=0.03, start_power=99.0
    )
    compiled = simulate(trace(rows, 16), Fleet((pool,), route), policy, limits=limits, seed=3)
    with kernels.plain():
        plainly = simulate(trace(rows, 16), Fleet((pool,), route), policy, limits=limits, seed=3)
    for name, value in vars(compiled).items():
        assert np.array_equal(value, getattr(plainly, name)), name


def test_preemption_happens_in_what_is_compared() -> None:
    """The comparison above covers preemption and recomputation: this trace has both."""
    run, jobs, fleet = both(trace([(0.0, 100, 30)] * 6), batch=6, blocks=24, replicas=1, route="least_loaded")
    agree(run, jobs, fleet)
    assert run.preempted.sum() > 0
    assert run.recomputed_j > 0


def test_prefixes_are_found_in_what_is_compared() -> None:
    """A second request with the same prefix computes only the rest, unless its pages were taken since."""
    rows = [(0.0, 100, 3), (1.0, 100, 3), (1.0, 100, 3)]
    run, *_ = both(trace(rows, 16), batch=2, blocks=40, replicas=1, route="prefix")
    assert run.cached.tolist() == [0, 96, 96]
    assert run.prefill_j[1] < 0.6 * run.prefill_j[0]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_draft_tokens_hold_as_often_as_told(chance: float) -> None:
    """The mean of the hash is the acceptance rate."""
    from wattline.serving.simulate import _core

    drawn = [_core.accepted(7, i, 3, 1, chance) for i in range(4000)]
    assert np.mean(drawn) == pytest.approx(chance, abs=0.03)
