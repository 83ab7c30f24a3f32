"""Tests for `wattline.serving.simulate._core`: in C and in Python the same bits, and the same rules told by others."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core import kernels
from wattline.serving.simulate.outcome import Limits, Run
from wattline.serving.simulate.parking import Parking
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock, Governor, Policy
from wattline.serving.simulate.pool import SCHEDULERS, Fleet, Pool
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
    draft: int = 0, accepted: float = 0.6, seed: int = 0, scheduler: str = "vllm",
    patience: float = math.inf, offload: float = 0.0,
) -> tuple[Run, list[plain.Job], list[plain.Replica]]:  # fmt: skip
    """Serve a trace both ways."""
    table = tiny(draft)
    requests = replace(requests, patience=patience)
    pool = Pool(
        table=table,
        replicas=replicas,
        max_batch=batch,
        blocks=blocks,
        accepted=accepted,
        scheduler=scheduler,
        offload=offload,
    )
    run = simulate(requests, Fleet((pool,), route), FixedClock(clock), seed=seed)
    level = math.inf if clock is None else table.level(clock)
    rules = plain.Settings(
        table, batch, blocks, page=requests.page, mixed=level, alone=level, accepted=accepted, seed=seed,
        scheduler=scheduler, patience=patience, offload=offload,
    )  # fmt: skip
    return run, *plain.serve(requests, rules, replicas, route)


def agree(run: Run, jobs: list[plain.Job], fleet: list[plain.Replica]) -> None:
    """Counts are equal, times and joules to rounding."""
    assert run.steps == sum(r.steps for r in fleet)
    assert run.left.tolist() == [j.gone for j in jobs]
    served = ~run.left
    assert run.replica[served].tolist() == [j.replica for j in jobs if not j.gone]
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
    scheduler=st.sampled_from(SCHEDULERS), patience=st.sampled_from([math.inf, math.inf, 0.02, 0.2]),
    classes=st.integers(1, 3), offload=st.sampled_from([0.0, 0.0, 1e-5]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_the_core_is_the_plain_engine(
    rows: list[tuple[float, int, int]],
    batch: int,
    room: int,
    replicas: int,
    route: str,
    clock: float | None,
    prefix: int,
    scheduler: str,
    patience: float,
    classes: int,
    offload: float,
) -> None:
    """Whatever comes, whoever is preempted: the same steps, the same times, the same joules."""
    requests = trace(rows, prefix)
    requests = replace(requests, urgency=(requests.prompt * 7 % classes).astype(np.int64))
    blocks = max(-(-(p + o + 1) // 16) for _, p, o in rows) + room
    how = {
        "offload": offload,
        "patience": patience,
        "replicas": replicas,
        "route": route,
        "clock": clock,
        "scheduler": scheduler,
    }
    agree(*both(requests, batch=batch, blocks=blocks, **how))  # type: ignore[arg-type]


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
    scheduler=st.sampled_from(SCHEDULERS),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_c_and_python_give_the_same_bits(
    rows: list[tuple[float, int, int]],
    batch: int,
    room: int,
    route: str,
    policy: Policy,
    limits: Limits,
    draft: int,
    scheduler: str,
) -> None:
    """Whatever comes, under every policy: not one bit of one figure differs."""
    blocks = max(-(-(p + o + 4) // 16) for _, p, o in rows) + room
    pool = Pool(
        table=tiny(draft), replicas=3, max_batch=batch, blocks=blocks, accepted=0.6, start_time=0.03, start_power=99.0,
        scheduler=scheduler, offload=3e-6,
    )  # fmt: skip
    requests = trace(rows, 16)
    requests = replace(requests, urgency=(requests.prompt * 7 % 3).astype(np.int64), patience=0.5)
    compiled = simulate(requests, Fleet((pool,), route), policy, limits=limits, seed=3)
    with kernels.plain():
        plainly = simulate(requests, Fleet((pool,), route), policy, limits=limits, seed=3)
    for name, value in vars(compiled).items():
        assert np.array_equal(value, getattr(plainly, name)), name


def test_preemption_happens_in_what_is_compared() -> None:
    """The comparison above covers preemption and recomputation: this trace has both."""
    run, jobs, fleet = both(trace([(0.0, 100, 30)] * 6), batch=6, blocks=24, replicas=1, route="least_loaded")
    agree(run, jobs, fleet)
    assert run.preempted.sum() > 0
    assert run.recomputed_j > 0


@given(rows=ROWS, batch=st.integers(1, 8), room=st.integers(0, 30), scheduler=st.sampled_from(SCHEDULERS))
@settings(max_examples=40, deadline=None)
def test_every_scheduler_keeps_the_laws(
    rows: list[tuple[float, int, int]], batch: int, room: int, scheduler: str
) -> None:
    """No request is lost, none overtakes another, joules add up, and what is never to be evicted never is."""
    blocks = max(-(-(p + o + 1) // 16) for _, p, o in rows) + room
    pool = Pool(table=tiny(), max_batch=batch, blocks=blocks, scheduler=scheduler)
    run = simulate(trace(rows), Fleet((pool,)), FixedClock())
    assert (run.end >= run.first).all()
    assert (run.first > run.arrival).all()
    assert (np.diff(run.begun) >= 0).all()  # first come, first served
    assert run.energy_j == pytest.approx(run.integral_j, rel=1e-9)
    assert run.energy_j == pytest.approx(sum(run.parts_j.values()) + run.idle_j, rel=1e-9)
    after = run.gaps.sum()  # every token but the first of a request follows another
    assert after == sum(o - 1 for _, _, o in rows)
    if scheduler == "no-evict":
        assert run.preempted.sum() == 0


@given(rows=ROWS, batch=st.integers(1, 3), patience=st.sampled_from([0.01, 0.1, math.inf]))
@settings(max_examples=30, deadline=None)
def test_classes_are_served_in_order_and_who_gives_up_costs_nothing(
    rows: list[tuple[float, int, int]], batch: int, patience: float
) -> None:
    """Within a class first come, first served; of those that wait together the urgent begin first; who left drew
    nothing and counts as late."""
    requests = trace(rows)
    requests = replace(requests, urgency=(np.arange(len(requests)) % 2).astype(np.int64), patience=patience)
    pool = Pool(table=tiny(), max_batch=batch, blocks=200)
    run = simulate(requests, Fleet((pool,)), FixedClock(), limits=Limits(ttft=1e9))
    served = ~run.left
    for one in (0, 1):
        begun = run.begun[served & (requests.urgency == one)]
        assert (np.diff(begun) >= 0).all()
    urgent, other = (np.flatnonzero(served & (requests.urgency == k)) for k in (0, 1))
    for i in urgent:
        waiting = other[run.arrival[other] < run.begun[other]]
        assert not ((run.arrival[i] <= run.begun[waiting]) & (run.begun[waiting] < run.begun[i])).any()
    assert (run.prefill_j[run.left] == 0).all()
    assert run.violations["ttft"] == run.left.sum()
    assert (run.begun[served] - run.arrival[served] <= patience + 1e-12).all()
    assert run.energy_j == pytest.approx(run.integral_j, rel=1e-9)


def test_prompts_that_do_not_fit_together_do_not_thrash() -> None:
    """Of five prompts of which two fit, vLLM lets in two at a time; admission by the first chunk alone thrashes."""
    rows = [(0.0, 1300, 100)] * 5

    def preempted(scheduler: str) -> int:
        pool = Pool(table=tiny(), max_batch=8, blocks=200, scheduler=scheduler)
        return int(simulate(trace(rows), Fleet((pool,)), FixedClock()).preempted.sum())

    assert preempted("max-utilization") > 5
    assert [preempted(s) for s in ("vllm", "sglang", "no-evict")] == [0, 0, 0]


def test_a_cache_kept_on_the_host_is_not_computed_again() -> None:
    """The same preemptions, no recomputation, and the time of the moves."""
    rows = [(0.0, 100, 30)] * 6
    again, kept, slow = (
        simulate(trace(rows), Fleet((Pool(table=tiny(), max_batch=6, blocks=24, offload=x),)))
        for x in (0.0, 1e-7, 1e-4)
    )
    assert again.preempted.sum() > 0
    assert kept.recomputed_j < again.recomputed_j
    assert kept.end.max() < again.end.max() < slow.end.max()


def test_sglang_reads_prompts_first() -> None:
    """A prompt that comes while others decode is read in steps of its own: sooner answered, the others held up."""
    rows = [(0.0, 16, 30)] * 6 + [(0.05, 150, 2)]

    def run(scheduler: str) -> Run:
        return simulate(trace(rows), Fleet((Pool(table=tiny(), max_batch=8, blocks=400, scheduler=scheduler),)))

    mixed, apart = run("vllm"), run("sglang")
    assert apart.ttft[-1] < mixed.ttft[-1]
    assert apart.steps > mixed.steps


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
