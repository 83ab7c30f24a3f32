"""Tests for wattline.serving.fluid: requests as a fluid, held against closed forms and against its own plain code."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core import kernels
from wattline.serving import _fluid
from wattline.serving.fluid import Curves, Settings, Traffic, flow, latency
from wattline.workload.traffic import Requests

STEP, EACH, FILL = 0.01, 1e-4, 0.02


def curves(most: int = 64, clocks: int = 2) -> Curves:
    """A step of 10 ms and 0.1 ms a request; the second clock is twice as fast for four times the power."""
    size = np.maximum(np.arange(most + 2.0), 1.0)[:, None]
    speed = 2.0 ** np.arange(clocks)
    seconds, fill = (STEP + EACH * size) / speed, np.full((most + 2, 1), FILL) / speed
    power = 100.0 * speed**2
    return Curves(seconds, fill, seconds * power, fill * power, waiting=30.0, room=8192.0)


def even(rate: float = 20.0, count: int = 2000, prompt: int = 500, output: int = 50) -> Requests:
    return Requests(np.arange(count) / rate, np.full(count, prompt), np.full(count, output))


def one(replicas: float = 1.0, batch: float = 64.0, level: int = 0) -> Settings:
    return Settings(np.array([replicas]), np.array([batch]), np.array([level]))


def test_running_requests_follow_littles_law() -> None:
    """Evenly arriving requests: as many run as arrive in the time one takes, and prompts take their share of it."""
    traffic = Traffic.of(even())
    found = flow(traffic, curves(), one())
    n, pace = float(found.running[0, 200]), float(found.pace[0, 200])
    assert n == pytest.approx(20.0 * 50 * pace, rel=1e-3)
    assert pace == pytest.approx((STEP + EACH * n) / (1.0 - 20.0 * FILL), rel=1e-3)


def test_energy_is_that_of_steps_prompts_and_waiting() -> None:
    """One request at a time: its steps, its prompt with the step that reads it, and waiting for the rest."""
    requests = even(rate=0.1, count=50)
    traffic = Traffic.of(requests)
    found = flow(traffic, curves(), one())
    alone = STEP + EACH
    busy = 50 * (50 * alone + alone + FILL)
    assert found.energy[0] == pytest.approx(100.0 * busy + 30.0 * (found.duration[0] - busy), rel=0.01)


def test_every_request_enters_and_leaves() -> None:
    """What enters all replicas is the trace, whatever the queue."""
    traffic = Traffic.of(even(rate=60.0))
    for batch in (2.0, 8.0, 64.0):
        found = flow(traffic, curves(), one(3.0, batch))
        left = float(found.queued[0, -1])
        assert 3.0 * (float(found.entering[0].sum()) + left) == pytest.approx(2000.0, rel=1e-4)
        assert float(found.running.max()) <= batch * (1 + 1e-6)


def test_a_queue_makes_requests_wait_as_long_as_it_takes() -> None:
    """Twice as many as can be read: the last request waits as long again as the trace lasts."""
    rate = 2.0 / FILL
    traffic = Traffic.of(even(rate=rate, count=3000, output=1))
    settings_ = one()
    only = curves()
    found = flow(traffic, only, settings_, decodes=False)
    taken = latency(traffic, only, settings_, found)
    assert taken.ttft[0, -1] == pytest.approx(3000 / rate, rel=0.1)


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("decodes", [True, False])
def test_c_is_python(reads: bool, decodes: bool) -> None:
    """Flow and latencies of C are those of the same code in Python, to the last bit."""
    if not (reads or decodes):
        return
    traffic = Traffic.of(even(rate=40.0, count=400))
    what = Settings(np.array([1.0, 2.0, 1.0]), np.array([8.0, 64.0, 4.0]), np.array([0, 1, 1]))
    c = curves()

    def everything() -> list[np.ndarray]:
        found = flow(traffic, c, what, reads=reads, decodes=decodes)
        taken = latency(traffic, c, what, found, reads=reads)
        behind = np.zeros((len(traffic.arrival), 2))
        _fluid.behind(traffic.arrival, traffic.prompts, np.array([0.1, 0.4]), 3, behind)
        return [*vars(found).values(), *vars(taken).values(), behind]

    fast = everything()
    with kernels.plain():
        for one_, other in zip(fast, everything(), strict=True):
            np.testing.assert_array_equal(one_, other)


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.floats(0.0, 0.5), min_size=5, max_size=80),
    lengths=st.tuples(st.integers(1, 4000), st.integers(1, 200)),
    seed=st.integers(0, 9),
)
def test_more_replicas_and_faster_clocks_are_never_slower(
    gaps: list[float], lengths: tuple[int, int], seed: int
) -> None:
    """Neither the mean pace nor the mean time to the first token grows with replicas or with the clock."""
    random = np.random.default_rng(seed)
    n = len(gaps)
    prompt, output = (random.integers(1, most + 1, n) for most in lengths)
    traffic = Traffic.of(Requests(np.cumsum(gaps) - gaps[0], prompt, output))
    what = Settings(np.array([1.0, 2.0, 4.0, 1.0]), np.full(4, 64.0), np.array([0, 0, 0, 1]))
    found = flow(traffic, curves(), what)
    assert np.isfinite(found.energy).all()
    taken = latency(traffic, curves(), what, found)
    for values in (taken.ttft, taken.whole):
        mean = values.mean(axis=1)
        slack = 1e-6 + 0.02 * mean[0]
        assert mean[1] <= mean[0] + slack
        assert mean[2] <= mean[1] + slack
        assert mean[3] <= mean[0] + slack


def test_single_tokens_have_no_time_per_token() -> None:
    """A request of one output token has its first token alone."""
    traffic = Traffic.of(even(output=1))
    found = flow(traffic, curves(), one())
    taken = latency(traffic, curves(), one(), found)
    assert (taken.tpot == 0.0).all()
    np.testing.assert_allclose(taken.whole, taken.ttft)
    assert math.isfinite(float(taken.ttft.max()))
