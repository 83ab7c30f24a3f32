"""What a serving engine says of itself: Prometheus text from its /metrics, and what happened between two readings.

    what            vLLM                          SGLang                     TensorRT-LLM
    first tokens    time_to_first_token           time_to_first_token        time_to_first_token
    between tokens  inter_token_latency           inter_token_latency        -
    per request     request_time_per_output_token -                          time_per_output_token
    running         num_requests_running          num_running_reqs           num_requests_running
    waiting         num_requests_waiting          num_queue_reqs             num_requests_waiting

The first three are histograms in seconds (..._seconds); names begin with vllm:, sglang: and trtllm_. Sources: vLLM
v1/metrics/loggers.py (time_per_output_token_seconds between tokens in older versions); SGLang
docs/references/production_metrics, with --enable-metrics; TensorRT-LLM tensorrt_llm/metrics/collector.py, served at
/prometheus/metrics, with other prefixes behind Dynamo and in older versions. Series of several models or engines behind
one address are added up; what an engine does not say is NaN (running, waiting) or empty.
"""

from __future__ import annotations

import math
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ...core.errors import InputError

Kind = Literal["ttft", "itl"]

# The first name that is there counts.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "ttft": (
        "vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds",
        "trtllm_time_to_first_token_seconds", "trtllm:time_to_first_token_seconds", "time_to_first_token_seconds",
    ),
    "itl": (
        "vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds",
        "sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds",
    ),
    "request": (
        "vllm:request_time_per_output_token_seconds",
        "trtllm_time_per_output_token_seconds", "trtllm:time_per_output_token_seconds", "time_per_output_token_seconds",
    ),
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "trtllm_num_requests_running"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "trtllm_num_requests_waiting"),
}  # fmt: skip
# The most that is read of an answer; a page of vLLM has some hundred kilobytes.
_MOST: Final = 1 << 24
_LINE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_EDGE: Final = re.compile(r'(?:^|,)\s*le="([^"]*)"')


class MetricsError(Exception):
    """Metrics that could not be read, in one sentence."""


class Histogram(msgspec.Struct, frozen=True):
    """Counts up to and including each edge (s, ascending, the last infinite), their number and sum."""

    edges: tuple[float, ...] = (math.inf,)
    counts: tuple[float, ...] = (0.0,)
    sum: float = 0.0

    @property
    def count(self) -> float:
        return self.counts[-1]

    @property
    def mean(self) -> float:
        """NaN where nothing was counted."""
        return self.sum / self.count if self.count > 0 else math.nan

    def since(self, before: Histogram) -> Histogram:
        """What was counted after `before`; all of it where the server has begun anew since."""
        if before.edges != self.edges or any(a < b for a, b in zip(self.counts, before.counts, strict=True)):
            return self
        return Histogram(
            self.edges,
            tuple(a - b for a, b in zip(self.counts, before.counts, strict=True)),
            max(0.0, self.sum - before.sum),
        )

    def above(self, limit: float) -> float:
        """The share above `limit` s; within a bucket, counts are spread evenly. 0 where none was counted."""
        if self.count <= 0:
            return 0.0
        low = below = 0.0
        for edge, upto in zip(self.edges, self.counts, strict=True):
            if limit < edge:
                if math.isfinite(edge):
                    below += (upto - below) * (limit - low) / (edge - low)
                return 1.0 - below / self.count
            low, below = edge, upto
        return 0.0

    def quantile(self, share: float) -> float:
        """The s below which `share` of the counts lie, evenly within a bucket; the last finite edge at most."""
        if self.count <= 0:
            return math.nan
        low = below = 0.0
        for edge, upto in zip(self.edges, self.counts, strict=True):
            if upto >= share * self.count and upto > below:
                return low if math.isinf(edge) else low + (edge - low) * (share * self.count - below) / (upto - below)
            low, below = (edge if math.isfinite(edge) else low), upto
        return low


class Reading(msgspec.Struct, frozen=True):
    """One look at a server's metrics: s to first tokens, between tokens, and per token of finished requests.

    running, waiting : requests.
    """

    ttft: Histogram
    itl: Histogram
    running: float
    waiting: float
    request: Histogram = Histogram()

    def since(self, before: Reading) -> Reading:
        """The same with what was counted after `before`."""
        ttft, itl = self.ttft.since(before.ttft), self.itl.since(before.itl)
        return Reading(ttft, itl, self.running, self.waiting, self.request.since(before.request))


def parse(text: str, names: Mapping[str, tuple[str, ...]] = NAMES) -> Reading:
    """A page of metrics; one that has neither of the latencies is refused.

    >>> parse('vllm:inter_token_latency_seconds_bucket{le="+Inf"} 3.0').itl.count
    3.0
    """
    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    wanted = {name for each in names.values() for name in each}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name, labels, number = found.groups()
        try:
            value = float(number)
        except ValueError:
            continue
        base, _, suffix = name.rpartition("_")
        if suffix == "bucket" and base in wanted and labels and (edge := _EDGE.search(labels)):
            row = buckets.setdefault(base, {})
            at = float(edge.group(1))
            row[at] = row.get(at, 0.0) + value
        elif name in wanted or (suffix == "sum" and base in wanted):
            values[name] = values.get(name, 0.0) + value

    def first(kind: str, known: Mapping[str, object]) -> str | None:
        return next((name for name in names[kind] if name in known), None)

    def histogram(kind: str) -> Histogram | None:
        name = first(kind, buckets) if kind in names else None
        if name is None:
            return None
        edges = tuple(sorted(buckets[name]))
        return Histogram(edges, tuple(buckets[name][e] for e in edges), values.get(f"{name}_sum", 0.0))

    ttft, itl, request = histogram("ttft"), histogram("itl"), histogram("request")
    if ttft is None and itl is None and request is None:
        raise MetricsError(f"the page has none of {', '.join(names['ttft'] + names['itl'] + names['request'])}")
    running, waiting = (values.get(first(kind, values) or "", math.nan) for kind in ("running", "waiting"))
    return Reading(ttft or Histogram(), itl or Histogram(), running, waiting, request or Histogram())


class Scraper:
    """Reads the metrics at an address. url : http(s), such as http://127.0.0.1:8000/metrics. timeout : s."""

    def __init__(self, url: str, *, timeout: float = 2.0, names: Mapping[str, tuple[str, ...]] = NAMES) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(
                f"metrics are read from an http address, such as http://127.0.0.1:8000/metrics, got {url!r}"
            )
        self.url, self.timeout, self.names = url, timeout, names

    def read(self) -> Reading:
        """One look; what goes wrong is a `MetricsError`."""
        try:
            with urllib.request.urlopen(self.url, timeout=self.timeout) as answer:
                text = answer.read(_MOST + 1)
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise MetricsError(f"{self.url} did not answer ({error})") from None
        except Exception as error:  # http.client has exceptions of its own
            raise MetricsError(f"{self.url} answered what is no HTTP ({type(error).__name__}: {error})") from None
        if len(text) > _MOST:
            raise MetricsError(f"{self.url} answered more than {_MOST} bytes")
        return parse(text.decode("utf-8", "replace"), self.names)
