"""A replica's requests as a fluid: in each bin of a trace some arrive, are read, run and leave; many settings at once.

    arrivals of a bin --wait for room--> prompts read beside decode steps --> running requests --> leave

In a bin of `dt` seconds with `n` running requests, `x` prompts are read and `s` steps are made,

    s D(n) + x F(n) = dt,      dn = x - n s / output,      x <= what waits, what a step's tokens and the batch allow

with D, F the seconds of a step and of a prompt in it. Bursts longer than a bin are followed as they come; what is
shorter (the step under way, prompts met in it, how many a short answer meets) is drawn for a sample of requests.
Fractional requests are a mixture of the whole numbers beside them: least-loaded routing spreads no worse.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..source.base import Array
from ..workload.traffic import Requests

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

# Bins of a trace, the shortest of them (s), and requests whose latency is worked out.
BINS, SHORTEST, SAMPLE = 1500, 0.25, 800
# Seconds of a mean prompt for which unread ones are followed exactly, request by request; in between, straight lines.
FILLS: Final = np.geomspace(1e-4, 10.0, 26)

# ---- what arrives --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Traffic:
    """A trace in bins, and a sample of its requests.

    Attributes
    ----------
    bin : s. arrive, work : (K,) requests of each bin, and their prompt tokens over the mean.
    at, share, output : (S,) bin, prompt tokens over the mean, and output tokens of the sampled requests.
    arrival, prompts : (n,) s of every request, and its prompt over the mean. pick : (S,) which were sampled.
    draws : (2, S) in (0, 1): how far in the step under way is, and luck with others' prompts.
    square : mean squared prompt over the squared mean. seen : mean tokens in the cache of a running request.
    """

    bin: float
    arrive: Array
    work: Array
    at: Ints
    share: Array
    output: Array
    arrival: Array
    prompts: Array
    pick: Ints
    draws: Array
    prompt_mean: float
    output_mean: float
    square: float
    seen: float
    longest: int
    rate: float
    span: float
    tokens: int
    requests: int
    cached: float

    @staticmethod
    def of(requests: Requests) -> Traffic:
        """Count a trace."""
        prompt, output = requests.prompt.astype(np.float64), requests.output.astype(np.float64)
        span = max(float(requests.arrival[-1]), SHORTEST)
        count = max(1, min(BINS, math.ceil(span / SHORTEST)))
        width = span / count
        at = np.minimum((requests.arrival / width).astype(np.int64), count - 1)
        share = prompt / prompt.mean()
        pick = np.unique(np.linspace(0, len(prompt) - 1, min(SAMPLE, len(prompt))).round().astype(np.int64))
        random = np.random.default_rng(0)
        spread = (np.arange(len(pick)) + 0.5) / len(pick)
        repeated = requests.page * (len(requests.pages) - len(np.unique(requests.pages))) if requests.page else 0
        return Traffic(
            bin=width, arrive=np.bincount(at, minlength=count).astype(np.float64),
            work=np.bincount(at, share, minlength=count).astype(np.float64),
            at=at[pick], share=share[pick], output=output[pick],
            arrival=np.ascontiguousarray(requests.arrival), prompts=share, pick=pick,
            draws=np.stack([random.permutation(spread) for _ in range(2)]), prompt_mean=float(prompt.mean()),
            output_mean=float(output.mean()), square=float((share**2).mean()),
            seen=float((output * (prompt + output / 2.0)).sum() / output.sum()),
            longest=int((requests.prompt + requests.output).max()), rate=len(prompt) / span, span=span,
            tokens=int(requests.output.sum()), requests=len(prompt), cached=min(repeated / float(prompt.sum()), 0.99),
        )  # fmt: skip


@functools.lru_cache(maxsize=256)  # by identity: traffic does not change
def _unread(traffic: Traffic, replicas: int) -> Array:
    """Return (S, FILLS) seconds of prompts unread at a sampled request's replica as it arrives."""
    from . import _fluid

    out = np.zeros((len(traffic.arrival), len(FILLS)))
    _fluid.behind(traffic.arrival, traffic.prompts, FILLS, replicas, out)
    return out[traffic.pick]


# ---- what serves it ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curves:
    """Seconds and joules (all devices) of a replica by running requests (rows 0 to B) and clock (columns).

    step, step_j : a step without prompts; row 0 is that of one request. fill, fill_j : what a mean prompt adds.
    waiting : W of a replica with nothing to do. room : tokens of a step. outside : seconds a request waits outside of
    steps until its first token is seen, and the same per prompt token.
    """

    step: Array
    fill: Array
    step_j: Array
    fill_j: Array
    waiting: float
    room: float
    outside: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Settings:
    """n settings: replicas, most running requests, clock level."""

    replicas: Array
    batch: Array
    level: Ints


@dataclass(frozen=True, eq=False)
class Flow:
    """What settings do with a trace: (n,) joules of all replicas, seconds until the last request has left, and

    arrays (n, bins): running requests and prompts entering per replica, seconds per token, and
    requests queueing at the end of the bin.
    """

    energy: Array
    duration: Array
    running: Singles
    entering: Singles
    pace: Singles
    queued: Singles


def flow(traffic: Traffic, curves: Curves, settings: Settings, *, reads: bool = True, decodes: bool = True) -> Flow:
    """Let the trace flow. `reads`, `decodes`: whether replicas read prompts and generate tokens, or one of the two."""
    n, bins = len(settings.replicas), len(traffic.arrive)
    series: list[Any] = [np.zeros((n, bins), np.float32) for _ in range(4)]
    energy, duration = np.zeros(n), np.zeros(n)
    from . import _fluid  # compiled: brought in when a search runs

    _fluid.walk(
        traffic.arrive, traffic.work, traffic.bin, traffic.output_mean, settings.replicas, settings.batch,
        settings.level, curves.step, curves.fill if reads else np.zeros_like(curves.fill), curves.step_j,
        curves.fill_j if reads else np.zeros_like(curves.fill), curves.waiting,
        curves.room / traffic.prompt_mean, reads, decodes, energy, duration, *series,
    )  # fmt: skip
    return Flow(energy, duration, *series)


# ---- latency -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Latency:
    """(n, S) seconds of the sampled requests: to the first token, per token after it, and to the last."""

    ttft: Array
    tpot: Array
    whole: Array


def latency(traffic: Traffic, curves: Curves, settings: Settings, found: Flow, *, reads: bool = True) -> Latency:
    """Return how long sampled requests take.

    To the first token: the queue, or the prompts still unread; the rest of the step under way; then the steps of its
    own prompt, and of those that came since. Per token: the mean pace over its life, and its own luck with prompts
    met, a compound Poisson sum (as a gamma variable of the same mean and variance; Wilson and Hilferty, 1931).
    """
    from . import _fluid

    k, level = traffic.at, settings.level[:, None]
    running = found.running[:, k].astype(np.float64)
    rate = found.entering[:, k] / traffic.bin  # prompts/s that a replica takes in
    step = _read(curves.step, running, level)
    fill = _read(curves.fill, running, level) if reads else np.zeros_like(step)
    part, luck = traffic.draws
    # What is unread ahead, what came since, and one's own. A prompt read alone takes the whole step it is read in.
    ahead = _ahead(traffic, settings.replicas, fill + step * np.maximum(1.0 - rate * fill, 0.0))
    rest = part * step * np.minimum(running, 1.0)
    more = np.maximum(np.ceil(traffic.share * traffic.prompt_mean / curves.room) - 1.0, 0.0)
    own = step * (1.0 + more) + fill * traffic.share
    beside = fill * np.minimum(rate * (ahead + rest), curves.room / traffic.prompt_mean)
    wait = np.empty(step.shape)
    _fluid.waits(found.queued, found.entering, k, traffic.bin, wait)
    # The queue of the fluid is of the same prompts where it is for want of time, so the longer of the two counts.
    outside = curves.outside[0] + curves.outside[1] * traffic.prompt_mean * traffic.share
    ttft = np.maximum(wait, ahead) + rest + own + beside + outside if reads else np.zeros_like(step)
    after = np.maximum(traffic.output - 1.0, 1.0)
    tpot, met = np.empty(step.shape), np.empty(step.shape)
    _fluid.lives(found.pace, found.entering, k, after, traffic.bin, tpot, met)
    if reads:
        met = np.maximum(met, 1e-9)
        # The bins already hold how the fleet's arrivals vary over a life longer than one; replicas differ by the rest.
        known = np.clip(1.0 - traffic.bin / (after * tpot), 0.0, 1.0) / settings.replicas[:, None]
        ninth = traffic.square * np.maximum(1.0 - known, 1e-3) / (9.0 * met)
        normal = _normal(luck)
        drawn = met * np.maximum(1.0 - ninth + normal * np.sqrt(ninth), 0.0) ** 3
        tpot = np.maximum(tpot + fill * (drawn - met) / after, step)
    else:
        tpot = tpot + wait / after  # who waits for room to decode already has a first token
    several = traffic.output > 1
    return Latency(ttft, tpot * several, ttft + (traffic.output - 1.0) * tpot)


def _ahead(traffic: Traffic, replicas: Array, fill: Array) -> Array:
    """Return seconds of unread prompts (n, S) where a mean one takes `fill` (n, S).

    Least-loaded routing lies between replicas taken in turn and one queue before all; each is followed exactly.
    """
    turn = _lines(traffic, replicas, fill)
    shared = _lines(traffic, np.ones_like(replicas), fill / replicas[:, None])
    return (turn + shared) / 2.0


def _lines(traffic: Traffic, replicas: Array, fill: Array) -> Array:
    """Return seconds unread at each of `replicas` taken in turn, on straight lines between `FILLS`."""
    place = np.interp(np.log(np.maximum(fill, FILLS[0])), np.log(FILLS), np.arange(len(FILLS)))
    low = np.minimum(place.astype(np.int64), len(FILLS) - 2)
    sample = np.arange(fill.shape[1])
    out = np.empty_like(fill)
    for count in np.unique(replicas):
        mine = replicas == count
        table, a = _unread(traffic, int(count)), low[mine]
        out[mine] = table[sample, a] + (place[mine] - a) * (table[sample, a + 1] - table[sample, a])
    return out


def _normal(shares: Array) -> Array:
    from statistics import NormalDist

    return np.array([NormalDist().inv_cdf(x) for x in shares.tolist()])


def _read(values: Array, rows: Array, level: Ints) -> Array:
    """Return a curve at fractional requests (n, S), at least 1, of each setting's level (n, 1)."""
    at = np.maximum(rows, 1.0)
    low = np.minimum(at.astype(np.int64), len(values) - 2)
    below = values[low, level]
    return np.asarray(below + (at - low) * (values[low + 1, level] - below))
