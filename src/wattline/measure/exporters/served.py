"""Energy per request of a server of language models, shared out by what it says of itself: always an estimate.

A server such as vLLM counts tokens and requests; a meter counts joules; no one measures a request. Between two
scrapes the energy is shared over the tokens served, and a request gets the share of its tokens:

    scrape --- interval: J measured, tokens counted --- scrape --- ...
                 |            |
    request  [prompt|generation . . . . . . . . ]       its tokens in the interval / all tokens in it

Every joule goes somewhere: to a request, to ``others`` (tokens of requests not told to us) or to ``idle``
(nothing was running), and the three add up to what was measured. How much more a token to be generated costs
than one of a prompt is not in the counters; the answer is given under several weights and its bounds hold them all.
"""

from __future__ import annotations

import contextvars
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from ...core.errors import InputError, WattlineError
from ..monitor import Monitor, default
from ..window import Window

# vLLM's names (docs.vllm.ai, "Production metrics"). Other servers under the OpenAI protocol give other ones.
VLLM: Final = {
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "requests": "vllm:request_success_total",
    "running": "vllm:num_requests_running",
}
# How many times what a prompt's token costs a generated one may cost. At least as much: it does the same work. At
# most: a lone decode reads every weight (2 B) for the 2 FLOP that a batched prompt spends on it, so the ratio of a
# chip's FLOP/s to its B/s; 989 TFLOP/s over 3.35 TB/s (NVIDIA H100 SXM datasheet, bf16 dense). The figure is taken
# at their geometric mean, for no counter says more.
MOST: Final = 989e12 / 3.35e12
WEIGHTS: Final = (1.0, math.sqrt(MOST), MOST)

_LINE: Final = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s+(\S+)(?:\s+-?[0-9]+)?\s*'
)


class ServerError(WattlineError):
    """A server whose metrics cannot be read."""


class Scrape(msgspec.Struct, frozen=True, kw_only=True):
    """What a server had counted at an instant (seconds since 1970), and how many requests were running."""

    time: float
    prompt_tokens: float
    generation_tokens: float
    requests: float
    running: float


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """What was served and used between two scrapes; `low` and `high` bound the joules where that is known."""

    start: float
    stop: float
    joules: float
    low: float | None = None
    high: float | None = None
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    requests: float = 0.0
    running: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing was served and nothing was running."""
        return self.prompt_tokens + self.generation_tokens <= 0 and self.running <= 0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its client saw it, seconds since 1970; `first` is when its first token came."""

    id: str
    start: float
    stop: float
    prompt_tokens: float
    generation_tokens: float
    first: float | None = None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Joules given to one request, or to all others or idleness, and bounds under every weight of `WEIGHTS`."""

    id: str
    joules: float
    low: float
    high: float


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How the joules of a server were shared out. `joules` is their sum, as measured; all else is an estimate."""

    joules: float
    requests: tuple[Share, ...]
    others: Share
    idle: Share
    prompt_tokens: float
    generation_tokens: float
    finished: float
    estimated: bool = True
    notes: tuple[str, ...] = ()

    @property
    def per_request(self) -> float | None:
        """Mean J of a request that finished, idleness left out; None if none did."""
        return None if self.finished <= 0 else (self.joules - self.idle.joules) / self.finished

    @property
    def per_generated_token(self) -> float | None:
        """J for each token given out, its share of the prompts in it and idleness left out."""
        return None if self.generation_tokens <= 0 else (self.joules - self.idle.joules) / self.generation_tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""

        def row(share: Share) -> dict[str, Any]:
            return {"id": share.id, "energy_j": share.joules, "low_j": share.low, "high_j": share.high}

        return {
            "energy_j": self.joules,
            "estimated": self.estimated,
            "requests": [row(share) for share in self.requests],
            "others": row(self.others),
            "idle": row(self.idle),
            "prompt_tokens": self.prompt_tokens,
            "generation_tokens": self.generation_tokens,
            "finished_requests": self.finished,
            "energy_per_request_j": self.per_request,
            "energy_per_generated_token_j": self.per_generated_token,
            "notes": list(self.notes),
        }


def parse(text: str) -> dict[str, float]:
    """Metrics in Prometheus's text format, summed over their labels; a line that is none is an error.

    >>> parse('a_total{engine="0"} 2\\na_total{engine="1"} 3\\n')
    {'a_total': 5.0}
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError
            value = float(match[3])
        except ValueError:
            raise InputError(f"expected a metric in Prometheus's text format, got {line[:80]!r}") from None
        found[match[1]] = found.get(match[1], 0.0) + value
    return found


def scrape(text: str, at: float, names: Mapping[str, str] = VLLM) -> Scrape:
    """What a server's metrics say at an instant; one that is missing is an error naming it."""
    found = parse(text)
    if lacking := [name for name in names.values() if name not in found]:
        raise InputError(f"the server gives no {', '.join(lacking)}; are its metrics on, and is it vLLM?")
    return Scrape(time=at, **{key: found[name] for key, name in names.items()})


def between(
    before: Scrape, after: Scrape, joules: float, low: float | None = None, high: float | None = None
) -> Interval:
    """What was served between two scrapes; counters that went back, after a restart, count from nothing."""
    counted = {
        key: now - then if now >= then else now
        for key in ("prompt_tokens", "generation_tokens", "requests")
        for then, now in [(getattr(before, key), getattr(after, key))]
    }
    running = max(before.running, after.running)
    return Interval(start=before.time, stop=after.time, joules=joules, low=low, high=high, running=running, **counted)


def attribute(intervals: Sequence[Interval], requests: Iterable[Request] = ()) -> Served:
    """Share the joules of intervals over requests; the total is conserved under every weight."""
    every = list(requests)
    if any(not (i.stop > i.start and i.joules >= 0) for i in intervals):
        raise InputError("an interval must end after it starts and have joules >= 0")
    answers = [_shared(intervals, every, weight) for weight in WEIGHTS]
    middle = answers[len(WEIGHTS) // 2]
    down, up = _relative(intervals)

    def share(name: str, index: int) -> Share:
        under = [answer[index] for answer in answers]
        return Share(id=name, joules=middle[index], low=min(under) * down, high=max(under) * up)

    total = math.fsum(i.joules for i in intervals)
    notes = [
        f"shared out by tokens, not measured; bounds hold generated tokens that cost 1 to {MOST:.0f} times a prompt's"
    ]
    if any(i.low is None or i.high is None for i in intervals):
        notes.append("the error of the meter is not in the bounds, for it is not known")
    if any(i.running > 0 and i.prompt_tokens + i.generation_tokens <= 0 for i in intervals):
        notes.append("intervals in which requests ran without a token finished are shared by time, as others")
    return Served(
        joules=total,
        requests=tuple(share(request.id, k) for k, request in enumerate(every)),
        others=share("others", len(every)),
        idle=share("idle", len(every) + 1),
        prompt_tokens=math.fsum(i.prompt_tokens for i in intervals),
        generation_tokens=math.fsum(i.generation_tokens for i in intervals),
        finished=math.fsum(i.requests for i in intervals),
        notes=tuple(notes),
    )


def _shared(intervals: Sequence[Interval], requests: list[Request], weight: float) -> list[float]:
    """J of each request, then of others, then idle, if a generated token costs `weight` times a prompt's."""
    given = [0.0] * (len(requests) + 2)
    for i in intervals:
        if i.idle:
            given[-1] += i.joules
            continue
        shares = [_tokens(request, i, weight) for request in requests]
        served = i.prompt_tokens + weight * i.generation_tokens
        # The server counts a prompt at one instant and its client sees it over a while, so in a short interval the
        # clients' tokens can exceed the server's; then no one else is left.
        everything = max(served, math.fsum(shares))
        if everything <= 0:
            given[-2] += i.joules
            continue
        for k, part in enumerate(shares):
            given[k] += i.joules * part / everything
        given[-2] += i.joules * max(0.0, everything - math.fsum(shares)) / everything
    return given


def _tokens(request: Request, interval: Interval, weight: float) -> float:
    """Weighted tokens of a request within an interval: prompt until the first token, generation after it."""
    first = request.first if request.first is not None else request.start
    prompt = _overlap(request.start, first, interval) * request.prompt_tokens
    return prompt + weight * _overlap(first, request.stop, interval) * request.generation_tokens


def _overlap(start: float, stop: float, interval: Interval) -> float:
    """Share of [start, stop] that lies in the interval; an instant lies in the one that it begins or is within."""
    if stop <= start:
        return float(interval.start <= start < interval.stop)
    return max(0.0, min(stop, interval.stop) - max(start, interval.start)) / (stop - start)


def _relative(intervals: Sequence[Interval]) -> tuple[float, float]:
    """How far the meter may be off, as factors of a share: the worst interval's."""
    down, up = 1.0, 1.0
    for i in intervals:
        if i.joules > 0 and i.low is not None and i.high is not None:
            down, up = min(down, i.low / i.joules), max(up, i.high / i.joules)
    return down, up


class Poller:
    """Scrapes a server and measures beside it; call `poll` every few seconds, then `served`.

    Nothing is asked of the server before `poll`. `fetch` is a function of an address that returns text.
    """

    def __init__(
        self, address: str, monitor: Monitor | None = None, *, fetch: Callable[[str], str] | None = None
    ) -> None:
        self.address = address if address.rstrip("/").endswith("/metrics") else address.rstrip("/") + "/metrics"
        self.intervals: list[Interval] = []
        self._fetch = fetch or get
        self._given = monitor
        self._last: Scrape | None = None
        self._window: Window | None = None

    def poll(self) -> Interval | None:
        """Scrape once; the interval since the last scrape, or None the first time or when there is no figure."""
        monitor = self._given if self._given is not None else default()
        now = scrape(self._fetch(self.address), time.time())
        window, self._window = self._window, Window("served", monitor)
        # In a context of its own, so that it is no parent of the program's windows.
        contextvars.copy_context().run(self._window.begin)
        before, self._last = self._last, now
        if window is None or before is None:
            return None
        total = window.end().settle(timeout=0.3).total
        if total.joules is None or not now.time > before.time:
            return None
        self.intervals.append(between(before, now, total.joules, total.low, total.high))
        return self.intervals[-1]

    def served(self, requests: Iterable[Request] = ()) -> Served:
        """What was polled so far, shared out."""
        return attribute(self.intervals, requests)

    def close(self) -> None:
        """End the window that is open."""
        if self._window is not None:
            self._window.end()
            self._window = None


def get(address: str) -> str:
    """The text at an address, over HTTP."""
    if not address.startswith(("http://", "https://")):
        raise InputError(f"a server's address begins with http:// or https://, got {address!r}")
    try:
        with urlopen(address, timeout=5.0) as answer:
            text: str = answer.read().decode("utf-8")
            return text
    except (URLError, OSError, ValueError) as error:
        raise ServerError(f"{address} did not answer: {error}") from None
