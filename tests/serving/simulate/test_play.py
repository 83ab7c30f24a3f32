"""Tests for `wattline.serving.simulate.play`: conservation, closed forms, and what fleets do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import CapacityError, InputError
from wattline.serving.simulate.outcome import Run
from wattline.serving.simulate.parking import Parking
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock
from wattline.serving.simulate.pool import Fleet, Link, Pool
from wattline.serving.step import Load, step
from wattline.source.roofline.source import Roofline
from wattline.workload.arrivals import Lengths, synthetic
from wattline.workload.traffic import Requests

from .fleets import table, tiny, trace

CHAT = synthetic(12.0, 600, prompt=Lengths(700, 1.0), output=Lengths(150, 1.0), seed=3)


def pool(**more: object) -> Pool:
    return Pool(table=table(), max_batch=256, **more)  # type: ignore[arg-type]


def conserved(run: Run) -> None:
    """Requests, idling, starting and transfers sum to the integral of power and to the components."""
    assert run.integral_j == pytest.approx(run.energy_j, rel=1e-9)
    assert sum(run.breakdown_j.values()) == pytest.approx(run.energy_j, rel=1e-9)
    assert run.request_j.sum() + run.idle_j + run.cold_j == pytest.approx(run.energy_j, rel=1e-12)


# ------------------------------------------------------------------ conservation
@given(
    rate=st.sampled_from([2.0, 20.0, 80.0]), replicas=st.integers(1, 4), clock=st.sampled_from([None, 1.1e9]),
    seed=st.integers(0, 99), parked=st.booleans(), blocks=st.sampled_from([None, 400]),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_energy_is_conserved(
    rate: float, replicas: int, clock: float | None, seed: int, parked: bool, blocks: int | None
) -> None:
    """Whatever the load, the policy and the cache, no joule is lost or counted twice."""
    requests = synthetic(rate, 150, prompt=Lengths(500, 1.0, 2000), output=Lengths(80, 1.0, 600), seed=seed)
    policy = Parking(FixedClock(clock), slots=16, interval=2.0, hold=4.0) if parked else FixedClock(clock)
    made = pool(replicas=replicas, blocks=blocks, start_time=3.0, start_power=300.0, off_power=10.0)
    conserved(simulate(requests, Fleet((made,)), policy))


def test_the_waiting_of_a_fleet_is_counted() -> None:
    """Replicas that get nothing still draw: twice the replicas, more joules for the same tokens."""
    few, many = (simulate(CHAT, Fleet((pool(replicas=n),), "pack")) for n in (2, 4))
    assert many.energy_j > few.energy_j
    assert many.idle_j - few.idle_j == pytest.approx(2 * table().waiting * many.duration, rel=0.1)


def test_same_arguments_same_bytes() -> None:
    """Two runs are equal to the last bit."""
    one, two = (simulate(CHAT, Fleet((pool(replicas=2),)), seed=5) for _ in range(2))
    for a, b in zip(one.columns().values(), two.columns().values(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert one.to_dict() == two.to_dict()


# ------------------------------------------------------------------ closed forms
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waits_of_fixed_work_are_those_of_m_d_1(load: float) -> None:
    """One request at a time, all alike, Poisson arrivals: the mean wait is rho S / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    made = Pool(table=table(), max_batch=1)
    one = simulate(Requests(np.zeros(1), np.array([300]), np.array([1])), Fleet((made,)))
    service = float(one.end[0] - one.begun[0])
    requests = synthetic(load / service, 40_000, prompt=Lengths(300), output=Lengths(1), seed=11)
    run = simulate(requests, Fleet((made,)))
    waits = run.begun - run.arrival
    assert waits.mean() == pytest.approx(load * service / (2 * (1 - load)), rel=0.06)
    assert run.busy_s / run.duration == pytest.approx(load, rel=0.03)


def test_littles_law() -> None:
    """Mean tokens between them: running requests are the rate times the time each runs."""
    requests = synthetic(15.0, 4000, prompt=Lengths(400), output=Lengths(200), seed=2)
    run = simulate(requests, Fleet((pool(),)))
    running = (run.end - run.first).sum() / run.duration
    # Counted apart: each decode step of `b` requests lasts t, so tokens x gap is the same integral.
    centres = 10.0 ** ((np.arange(len(run.gaps)) + 0.5) / 400 - 5.0)
    assert (run.gaps * centres).sum() / run.duration == pytest.approx(running, rel=0.003)


@pytest.mark.parametrize("batch", [8, 64, 200])
def test_the_steady_state_is_the_planners(batch: int) -> None:
    """A replica kept at a batch makes the planner's mean step: throughput and joules per token to 4 %."""
    prompt, output = 500, 300
    count = 12 * batch
    requests = Requests(np.zeros(count), np.full(count, prompt), np.random.default_rng(1).integers(150, 451, count))
    made = replace(pool(), max_batch=batch)
    run = simulate(requests, Fleet((made,)))
    load = Load(prompt=prompt, output=output, context=output / 2 * (1 + (301**2 / 12) / output**2))
    plan = step(made.table.replica, load, batch, made.table.device, Roofline(), made.table.clocks[-1:])
    # The first and last tenth, where the batch fills and drains, are left out.
    order = np.sort(run.end)
    a, z = order[count // 8], order[count - count // 4]
    tokens = run.output[(run.end > a) & (run.end <= z)].sum()
    bins = slice(int(a / run.bin), int(z / run.bin))
    watts = run.power[bins].sum(axis=1).mean()
    assert tokens / (z - a) == pytest.approx(plan.throughput[0], rel=0.05)
    assert watts / (tokens / (z - a)) == pytest.approx(plan.energy_per_token[0], rel=0.05)


# ------------------------------------------------------------------ what fleets do
def test_disaggregated_serving_moves_caches() -> None:
    """Prompts on one pool, tokens on another, caches over a link that takes time and joules."""
    link = Link(bandwidth=50e9, latency=1e-4, energy=4e-11)
    split = Fleet((pool(role="prefill"), pool(role="decode")), link=link)
    run = simulate(CHAT, split)
    conserved(run)
    more = run.output > 1
    size = 2 * 32 * 8 * 128 * 2 * run.prompt[more]  # Llama-3.1-8B: K and V, layers, heads, width, bf16
    assert run.transfer_j[more] == pytest.approx(link.energy * size)
    assert (run.transfer_j[~more] == 0).all()
    assert (run.end[more] - run.first[more] > size / link.bandwidth).all()
    assert set(run.replica[more]) == {1}
    together = simulate(CHAT, Fleet((pool(replicas=2),)))
    assert run.itl(99) < 0.7 * together.itl(99)  # no prompt delays a token


def test_a_decode_pool_may_be_of_another_kind() -> None:
    """Pools of different tables run side by side, with components of both."""
    other = Pool(table=table("llama-3.1-8b", max_batch=64, tensor=2), max_batch=64, role="decode")
    run = simulate(CHAT, Fleet((pool(role="prefill"), other), link=Link(50e9)))
    conserved(run)
    assert run.parts_j["link.nvlink"] > 0


def test_small_requests_go_to_small_replicas() -> None:
    """A pool that takes short requests only leaves the long ones to the other."""
    fleet = Fleet((pool(longest=500), pool()))
    run = simulate(CHAT, fleet)
    assert (run.replica[CHAT.prompt + CHAT.output > 500] == 1).all()
    assert (run.replica == 0).any()


def test_speculation_saves_steps() -> None:
    """Four tokens verified per step, most accepted: fewer steps, the same tokens."""
    plain = simulate(CHAT, Fleet((Pool(table=tiny(), max_batch=8),)))
    fast = simulate(CHAT, Fleet((Pool(table=tiny(3), max_batch=8, accepted=0.8),)))
    assert fast.tokens == plain.tokens
    assert fast.steps < 0.7 * plain.steps
    conserved(fast)


def test_parking_starts_and_stops_replicas() -> None:
    """With a quiet half and a busy half, replicas are parked in the one and started for the other."""
    quiet = synthetic(0.5, 60, prompt=Lengths(500), output=Lengths(100), seed=1)
    busy = synthetic(30.0, 3000, prompt=Lengths(500), output=Lengths(100), seed=2)
    requests = Requests(
        np.concatenate([quiet.arrival, busy.arrival + quiet.arrival[-1] + 1.0]),
        np.concatenate([quiet.prompt, busy.prompt]),
        np.concatenate([quiet.output, busy.output]),
    )
    made = pool(replicas=4, on=1, start_time=5.0, start_power=400.0)
    run = simulate(requests, Fleet((made,)), Parking(FixedClock(), slots=16, interval=5.0, hold=10.0))
    always = simulate(requests, Fleet((pool(replicas=4),)))
    conserved(run)
    assert run.cold_j >= 5.0 * 400.0 * 0.99
    assert 1.0 < run.awake_s / run.duration < 3.9
    assert run.energy_j < always.energy_j
    assert len(set(run.replica[: len(quiet)].tolist())) == 1


def test_prefix_affinity_beats_round_robin_on_shared_prompts() -> None:
    """Requests with a system prompt in common find it where their like went before."""
    requests = synthetic(20.0, 400, prompt=Lengths(900), output=Lengths(60), prefix=800, prefixes=40, seed=4)
    made = Pool(table=table(), replicas=4, max_batch=64, blocks=3000)
    near, far = (simulate(requests, Fleet((made,), route)) for route in ("prefix", "round_robin"))
    assert near.cached.sum() > 1.2 * far.cached.sum()
    assert near.prefill_j.sum() < far.prefill_j.sum()


# ------------------------------------------------------------------ refusals
def test_a_request_that_no_cache_holds() -> None:
    """The message names the request, its tokens, what fits, and what to change."""
    made = Pool(table=tiny(), max_batch=8, blocks=10)
    with pytest.raises(
        CapacityError, match=r"request 2 has 150 prompt and 30 output tokens, and the KV cache .* 160 tokens"
    ):
        simulate(trace([(0.0, 10, 5), (1.0, 150, 30)]), Fleet((made,)))


def test_a_request_longer_than_the_context() -> None:
    """A prompt longer than the context is refused before anything runs."""
    made = Pool(table=tiny(), max_batch=8, longest=128)
    with pytest.raises(CapacityError, match=r"request 1 has 150 prompt .* the context holds 128"):
        simulate(trace([(0.0, 150, 30)]), Fleet((made,)))


def test_fleets_that_make_no_sense() -> None:
    """Half of a split, a split without a link, a step too small for its batch."""
    with pytest.raises(InputError, match=r"prefill and decode pools with a link"):
        Fleet((pool(role="prefill"),), link=Link(1e9))
    with pytest.raises(InputError, match=r"no link"):
        Fleet((pool(role="prefill"), pool(role="decode")))
    with pytest.raises(InputError, match=r"room for 1 x max_batch"):
        Fleet((Pool(table=tiny(), max_batch=65),))
    with pytest.raises(InputError, match=r"route must be one of"):
        Fleet((pool(),), "nearest")  # type: ignore[arg-type]
