"""Requests made up: arrivals of a named process, lengths of a named spread, prefixes in common; one seed, one trace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .traffic import Requests

Floats = NDArray[np.float64]
Process = Literal["poisson", "gamma", "diurnal", "uniform"]
PROCESSES: Final = ("poisson", "gamma", "diurnal", "uniform")

DAY: Final = 86400.0
# Tokens of a prefix page of made-up requests: a block of vLLM's cache.
PAGE: Final = 16

# Coefficients of variation of prompt and output lengths by task. Sources: chat, the Azure LLM inference trace of 2023
# (conversation, 19,366 requests: 0.96 and 0.77); code and reasoning, outputs of the ML.ENERGY leaderboard v3 (fill in
# the middle and GPQA, medians over models: 1.5 and 0.7); summarise, the 50th and 90th percentiles of arXiv
# summarisation in Sarathi-Serve (OSDI 2024, table 2) as log-normals (0.50 and 0.48).
SPREADS: Final[Mapping[str, tuple[float, float]]] = {
    "chat": (1.0, 0.8), "code": (1.0, 1.5), "reasoning": (1.0, 0.7), "summarise": (0.5, 0.5),
}  # fmt: skip
# Spreads that no source states: prompts of these tasks are taken to vary as those of chat.
ASSUMED: Final = frozenset({("code", "prompt"), ("reasoning", "prompt")})
# A made-up length is at most this many times its mean: what no trace above goes beyond.
LONGEST: Final = 12


@dataclass(frozen=True)
class Lengths:
    """Token counts of a mean and a coefficient of variation: log-normal, as traces have them; all alike where it is 0.

    `most` cuts the tail, where given.
    """

    mean: float
    variation: float = 0.0
    most: int | None = None

    def __post_init__(self) -> None:
        if not (self.mean >= 1 and math.isfinite(self.mean) and 0 <= self.variation < math.inf):
            raise InputError(
                f"lengths need a mean of at least 1 token and a variation of at least 0, "
                f"got mean = {self.mean:g}, variation = {self.variation:g}"
            )

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` lengths."""
        if self.variation == 0:
            return np.full(count, max(round(self.mean), 1), np.int64)
        spread = math.sqrt(math.log1p(self.variation**2))
        drawn = random.lognormal(math.log(self.mean) - spread**2 / 2.0, spread, count)
        return np.clip(np.round(drawn), 1, self.most or np.iinfo(np.int64).max // 2).astype(np.int64)


def synthetic(
    rate: float,
    count: int,
    *,
    prompt: Lengths,
    output: Lengths,
    arrivals: Process = "poisson",
    variation: float = 2.0,
    swing: float = 0.6,
    period: float = DAY,
    prefix: int = 0,
    prefixes: int = 1,
    seed: int = 0,
) -> Requests:
    """Return `count` requests at `rate` per second on average.

    Parameters
    ----------
    arrivals : "poisson"; "gamma", whose gaps have the coefficient of `variation` (1 is Poisson, more is bursty);
        "diurnal", Poisson at rate * (1 - swing cos(2 pi t / period)), the quiet hour first; "uniform", evenly.
    prefix, prefixes : tokens at the start of every prompt that are one of so many texts (system prompts).
    """
    if not (rate > 0 and math.isfinite(rate)) or count < 1:
        raise InputError(f"made-up requests need a rate above 0 and at least 1 request, got rate = {rate:g}, {count=}")
    if arrivals not in PROCESSES:
        raise InputError(f"arrivals are one of {', '.join(PROCESSES)}, got {arrivals!r}")
    if not (variation > 0 and 0 <= swing <= 1 and period > 0 and prefix >= 0 and prefixes >= 1):
        raise InputError(
            f"arrivals need variation > 0, swing in [0, 1], period > 0, prefix >= 0 and prefixes >= 1, "
            f"got {variation=}, {swing=}, {period=}, {prefix=}, {prefixes=}"
        )
    random = np.random.default_rng(seed)
    times = _times(rate, count, arrivals, variation, swing, period, random)
    prompts, outputs = prompt.draw(count, random), output.draw(count, random)
    if not prefix:
        return Requests(times - times[0], prompts, outputs)
    length = np.minimum(prefix // PAGE, prompts // PAGE)
    group = random.integers(0, prefixes, count)
    first = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    inside = np.arange(first[-1]) - np.repeat(first[:-1], length)
    pages = np.repeat(group, length) * (prefix // PAGE) + inside
    return Requests(times - times[0], prompts, outputs, PAGE, first, pages.astype(np.int64))


def timed(
    requests: Requests, rate: float, *, arrivals: Process = "poisson", variation: float = 2.0, swing: float = 0.6,
    period: float = DAY, seed: int = 0,
) -> Requests:  # fmt: skip
    """Return requests without arrivals with those of a process, in the file's order; parameters as of `synthetic`."""
    times = _times(rate, len(requests), arrivals, variation, swing, period, np.random.default_rng(seed))
    return replace(requests, arrival=times - times[0], timed=True)


def sessions(
    rate: float, count: int, *, prompt: Lengths, output: Lengths, turns: float, think: float, pace: float,
    longest: int = 1 << 40, seed: int = 0,
) -> Requests:  # fmt: skip
    """Return `count` requests of conversations: each turn's prompt is all that was said before and something new.

    Parameters
    ----------
    rate : requests/s in all. prompt, output : new tokens of a turn, and of its answer. turns : mean turns of a session
        (geometric). think : mean seconds between an answer and the next turn (exponential). pace : seconds per token at
        which answers are taken to come; a turn does not wait for the simulated answer before it.
    longest : tokens that a turn and its answer may have; a session ends before it grows longer.
    """
    if not (rate > 0 and math.isfinite(rate)) or count < 1 or turns < 1 or think < 0 or pace < 0:
        raise InputError(
            f"sessions need a rate above 0, at least 1 request, at least 1 turn and times of at least 0, "
            f"got {rate=}, {count=}, {turns=}, {think=}, {pace=}"
        )
    random = np.random.default_rng(seed)
    rows: list[tuple[float, int, int, int, int]] = []  # arrival, prompt, output, first page, pages
    start, page = 0.0, 0
    # Sessions under way at the start are those that began before: as long again as a session lasts.
    span = turns * (think + pace * output.mean)
    begin = -3.0 * span
    start = begin
    end = count / rate
    while start < end:
        start += float(random.exponential(turns / rate))
        many = int(random.geometric(1.0 / turns))
        fresh, answers = prompt.draw(many, random), output.draw(many, random)
        at, said = start, 0
        for new, answer in zip(fresh.tolist(), answers.tolist(), strict=True):
            if said + new + answer > longest:
                break
            rows.append((at, said + new, answer, page, (said + new + answer) // PAGE))
            said += new + answer
            at += pace * answer + float(random.exponential(think)) if think > 0 else pace * answer
        page += said // PAGE + 1
    rows = sorted(row for row in rows if row[0] >= 0.0)[:count]
    if not rows:
        raise InputError(f"no session of {turns:g} turns fits {longest:,} tokens; shorten serve.prompt or serve.output")
    arrival, prompts, outputs, begins, lengths = (np.array(column) for column in zip(*rows, strict=True))
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inside = np.arange(first[-1]) - np.repeat(first[:-1], lengths)
    pages = (np.repeat(begins, lengths) + inside).astype(np.int64)
    _, pages = np.unique(pages, return_inverse=True)
    return Requests(arrival - arrival[0], prompts, outputs, PAGE, first, pages.astype(np.int64))


def _times(
    rate: float, count: int, arrivals: str, variation: float, swing: float, period: float, random: np.random.Generator
) -> Floats:
    if arrivals == "uniform":
        return np.arange(count) / rate
    if arrivals == "gamma":
        shape = variation**-2.0
        return np.cumsum(random.gamma(shape, 1.0 / (rate * shape), count))
    unit = np.cumsum(random.exponential(1.0, count))
    if arrivals == "poisson" or swing == 0:
        return np.asarray(unit / rate)
    # A Poisson process of varying rate is one of rate 1 read off against the expected count so far.
    span = (unit[-1] / rate + period) * 1.01
    grid = np.linspace(0.0, span, max(int(span / period * 2000), 4001))
    expected = rate * (grid - swing * period / (2.0 * math.pi) * np.sin(2.0 * math.pi * grid / period))
    return np.interp(unit, expected, grid)
