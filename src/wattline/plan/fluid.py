"""A replica's requests as a fluid: in each bin of a trace some arrive, are read, run and leave; many settings at once.

    arrivals of a bin --wait for room--> prompts read beside decode steps --> running requests --> leave

In a bin of `dt` seconds with `n` running requests, `x` prompts are read and `s` steps are made,

    s D(n) + x F(n) = dt,      dn = x - n s / output,      x <= what waits, what a step's tokens and the batch allow

with D, F the seconds of a step and of a prompt in it. Bursts longer than a bin are followed as they come; what is
shorter (the step under way, prompts met in it, how many a short answer meets) is drawn for a sample of requests.
Fractional requests are a mixture of the whole numbers beside them: least-loaded routing spreads no worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..source.base import Array
from ..workload.traffic import Requests

Ints = NDArray[np.int64]

# Bins of a trace, the shortest of them (s), and requests whose latency is worked out.
BINS, SHORTEST, SAMPLE = 1500, 0.25, 800

# ---- what arrives --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Traffic:
    """A trace in bins, and a sample of its requests.

    Attributes
    ----------
    bin : s. arrive, work : (K,) requests of each bin, and their prompt tokens over the mean.
    at, share, output : (S,) bin, prompt tokens over the mean, and output tokens of the sampled requests.
    other : (S,) prompts as a step under way is likely to hold them: longer ones more often.
    draws : (3, S) in (0, 1): which kind of step is met, how far in, and luck with others' prompts.
    square : mean squared prompt over the squared mean. seen : mean tokens in the cache of a running request.
    """

    bin: float
    arrive: Array
    work: Array
    at: Ints
    share: Array
    output: Array
    other: Array
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
        order = np.sort(prompt)
        heavy = np.searchsorted(np.cumsum(order), (np.arange(len(pick)) + 0.5) / len(pick) * order.sum())
        random = np.random.default_rng(0)
        spread = (np.arange(len(pick)) + 0.5) / len(pick)
        repeated = requests.page * (len(requests.pages) - len(np.unique(requests.pages))) if requests.page else 0
        return Traffic(
            bin=width, arrive=np.bincount(at, minlength=count).astype(np.float64),
            work=np.bincount(at, share, minlength=count).astype(np.float64),
            at=at[pick], share=share[pick], output=output[pick],
            other=random.permutation(order[heavy] / prompt.mean()),
            draws=np.stack([random.permutation(spread) for _ in range(3)]), prompt_mean=float(prompt.mean()),
            output_mean=float(output.mean()), square=float((share**2).mean()),
            seen=float((output * (prompt + output / 2.0)).sum() / output.sum()),
            longest=int((requests.prompt + requests.output).max()), rate=len(prompt) / span, span=span,
            tokens=int(requests.output.sum()), requests=len(prompt), cached=min(repeated / float(prompt.sum()), 0.99),
        )  # fmt: skip


# ---- what serves it ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curves:
    """Seconds and joules (all devices) of a replica by running requests (rows 0 to B) and clock (columns).

    step, step_j : a step without prompts; row 0 is that of one request. fill, fill_j : what a mean prompt adds.
    waiting : W of a replica with nothing to do. room : tokens of a step.
    """

    step: Array
    fill: Array
    step_j: Array
    fill_j: Array
    waiting: float
    room: float


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
    running: Array
    entering: Array
    pace: Array
    queued: Array


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

    To the first token: the queue, the rest of the step under way (which may hold other prompts, the longer the
    likelier), then the steps of its own prompt. Per token: the mean pace over its life, and its own luck with prompts
    met, a compound Poisson sum (as a gamma variable of the same mean and variance; Wilson and Hilferty, 1931).
    """
    from . import _fluid

    k, level = traffic.at, settings.level[:, None]
    running = found.running[:, k].astype(np.float64)
    rate = found.entering[:, k] / traffic.bin  # prompts/s that a replica takes in
    step = _read(curves.step, running, level)
    fill = _read(curves.fill, running, level) if reads else np.zeros_like(step)
    chance, part, luck = traffic.draws
    held = step + fill * traffic.other
    mixed = np.minimum(rate * (step + fill), 1.0)
    some = np.minimum(running, 1.0)
    rest = np.where(chance < mixed, part * held, part * step * some)
    whole_steps = np.ceil(traffic.share * traffic.prompt_mean / curves.room) - 1.0
    own = step * (1.0 + np.maximum(whole_steps, 0.0)) + fill * traffic.share
    beside = fill * rate * np.where(chance < mixed, held, step * some)
    wait = np.empty_like(step)
    _fluid.waits(found.queued, found.entering, k, traffic.bin, wait)
    ttft = wait + rest + own + beside if reads else np.zeros_like(step)
    after = np.maximum(traffic.output - 1.0, 1.0)
    tpot, met = np.empty_like(step), np.empty_like(step)
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


def _normal(shares: Array) -> Array:
    from statistics import NormalDist

    return np.array([NormalDist().inv_cdf(x) for x in shares.tolist()])


def _read(values: Array, rows: Array, level: Ints) -> Array:
    """Return a curve at fractional requests (n, S), at least 1, of each setting's level (n, 1)."""
    at = np.maximum(rows, 1.0)
    low = np.minimum(at.astype(np.int64), len(values) - 2)
    below = values[low, level]
    return np.asarray(below + (at - low) * (values[low + 1, level] - below))
