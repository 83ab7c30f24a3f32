"""Tests for `wattline.measure.exporters.served`: joules of a server shared over its requests, none made and none lost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.measure.exporters import served as served_module
from wattline.measure.exporters.served import (
    Interval,
    Poller,
    Request,
    Scrape,
    attribute,
    between,
    parse,
    scrape,
)

from ..drive import Replayed

# As vLLM writes them, two engines, shortened to the metrics that matter and two that do not.
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a \\"{quoted}\\" name"} 1.5e+03
vllm:generation_tokens_total{engine="0",model_name="m"} 300.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 1.0
vllm:e2e_request_latency_seconds_bucket{le="+Inf",model_name="m"} 5.0
vllm:kv_cache_usage_perc NaN 1700000000000
"""


def test_metrics_of_a_server_are_read() -> None:
    """Labels are summed over, and comments, buckets and timestamps do no harm."""
    found = scrape(VLLM, 10.0)
    assert found == Scrape(time=10.0, prompt_tokens=1500.0, generation_tokens=300.0, requests=5.0, running=3.0)
    from prometheus_client import parser as prometheus

    other = {s.name: 0.0 for f in prometheus.text_string_to_metric_families(VLLM) for s in f.samples}
    assert set(parse(VLLM)) == set(other)


def test_a_server_that_says_too_little_is_an_error() -> None:
    """The missing metrics are named, and text that is no metrics is refused."""
    with pytest.raises(InputError, match="vllm:generation_tokens_total"):
        scrape("vllm:prompt_tokens_total 1\n", 0.0)
    with pytest.raises(InputError, match="<html>"):
        parse("<html>")


def test_a_server_that_restarts_counts_from_nothing() -> None:
    """Counters that went back are taken as begun anew."""
    before = Scrape(time=0.0, prompt_tokens=100.0, generation_tokens=50.0, requests=5.0, running=1.0)
    after = Scrape(time=1.0, prompt_tokens=30.0, generation_tokens=60.0, requests=1.0, running=0.0)
    interval = between(before, after, 10.0)
    assert (interval.prompt_tokens, interval.generation_tokens, interval.requests) == (30.0, 10.0, 1.0)
    assert not interval.idle


def test_energy_goes_with_the_tokens() -> None:
    """Of two requests alike, one with twice the tokens gets twice the joules; idleness is no one's."""
    intervals = [
        Interval(start=0.0, stop=10.0, joules=300.0, generation_tokens=300.0, requests=2.0, running=2.0),
        Interval(start=10.0, stop=20.0, joules=50.0),
    ]
    requests = [
        Request(id="a", start=0.0, stop=10.0, prompt_tokens=0, generation_tokens=100),
        Request(id="b", start=0.0, stop=10.0, prompt_tokens=0, generation_tokens=200),
    ]
    served = attribute(intervals, requests)
    assert [share.joules for share in served.requests] == pytest.approx([100.0, 200.0])
    assert (served.idle.joules, served.others.joules) == (50.0, pytest.approx(0.0))
    assert served.per_request == 150.0
    assert served.per_generated_token == 1.0
    assert served.estimated
    assert served.to_dict()["estimated"] is True


def test_bounds_hold_cheap_and_dear_generation() -> None:
    """A prompt and a generation that compete have wide bounds: how they compare is not known."""
    interval = Interval(start=0.0, stop=10.0, joules=100.0, prompt_tokens=1000.0, generation_tokens=100.0, running=2.0)
    reader = Request(id="reader", start=0.0, stop=10.0, first=10.0, prompt_tokens=1000, generation_tokens=0)
    writer = Request(id="writer", start=0.0, stop=10.0, first=0.0, prompt_tokens=0, generation_tokens=100)
    served = attribute([interval], [reader, writer])
    assert served.requests[0].high == pytest.approx(100.0 * 1000 / 1100)
    assert served.requests[1].low == pytest.approx(100.0 * 100 / 1100)
    assert served.requests[1].high > 90.0


requests = st.builds(
    lambda i, a, n, f, p, g: Request(
        id=str(i), start=a, stop=a + n, first=a + n * f, prompt_tokens=p, generation_tokens=g
    ),
    st.integers(0, 99),
    st.floats(-5, 25),
    st.floats(0, 20),
    st.floats(0, 1),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)
intervals = st.lists(
    st.tuples(st.floats(0.1, 10), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.integers(0, 3)),
    min_size=1,
    max_size=6,
)


@given(rows=intervals, every=st.lists(requests, max_size=6))
def test_every_joule_goes_somewhere(rows: list, every: list[Request]) -> None:
    """Requests, others and idleness add up to what was measured, and every figure lies within its bounds."""
    at, made = 0.0, []
    for seconds, joules, prompt, generated, running in rows:
        made.append(
            Interval(
                start=at,
                stop=at + seconds,
                joules=joules,
                prompt_tokens=prompt,
                generation_tokens=generated,
                running=running,
            )
        )
        at += seconds
    served = attribute(made, every)
    shares = [*served.requests, served.others, served.idle]
    assert math.isclose(math.fsum(s.joules for s in shares), served.joules, rel_tol=1e-9, abs_tol=1e-6)
    for share in shares:
        assert -1e-9 <= share.low <= share.joules + 1e-6
        assert share.joules <= share.high + 1e-6


def test_a_poller_measures_between_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy and tokens of the same span meet; the first poll has nothing to compare with."""
    counts = iter((0, 100, 300))

    def fetch(address: str) -> str:
        assert address == "http://server:8000/metrics"
        n = next(counts)
        return f"vllm:prompt_tokens_total {n}\nvllm:generation_tokens_total {n}\nvllm:request_success_total {n / 100}\nvllm:num_requests_running 1\n"

    monitor = Replayed()
    monkeypatch.setattr(served_module.time, "time", monitor.now)
    poller = Poller("http://server:8000", monitor, fetch=fetch)
    assert poller.poll() is None
    for _ in range(2):
        monitor.wait(0.3)
        interval = poller.poll()
        assert interval is not None
        assert interval.low <= 200.0 * (interval.stop - interval.start) <= interval.high
    poller.close()
    monitor.stop()
    served = poller.served()
    assert served.generation_tokens == 300
    assert served.others.joules == pytest.approx(served.joules)
