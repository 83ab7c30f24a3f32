"""Settings chosen by simulation: the clock, most running requests and tokens of a step that keep a promise cheapest.

    search: few requests, the same for every setting--> best --fresh requests, more of them--> confirmed

Every setting is tried on the same made-up requests (common random numbers), so two settings differ by what they
are and not by luck. The best of the search was partly lucky, so what is told of it comes from requests that the
search never saw: runs with other seeds. How late requests lie in them says how likely another run keeps the promise;
where that is too little the clock is raised until it is enough.

Neither the requests nor what orders settings depends on how tight a promise is, and the slowest clock that keeps it
is found by halving; so a looser promise leaves more settings to choose from and never costs more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...source.base import Array
from .odds import kept_odds, late_shares
from .outcome import Limits, Run

Mask = NDArray[np.bool_]

# A confirmed setting keeps its promise in another run with at least this chance, where any setting does.
TRUST: Final = 0.99
# Room that the search leaves below each limit, for the luck of the few requests it looks at.
ROOM: Final = 0.02
# Share of the late requests allowed that the search lets be late: about where `TRUST` is met by runs of its length.
FEW: Final = 0.6
# Share of the arrivals after which an open loop counts as filled.
WARM: Final = 0.2
# Steps of the clock in the pattern search: from about a seventh of a usual range of 110 down; energy is flat below.
STRIDES: Final = (16, 4, 1)


@dataclass(frozen=True, order=True)
class Setting:
    """What is set: clock (Hz), most running requests of a replica, most tokens of a step."""

    clock: float
    cap: int
    chunk: int


@dataclass(frozen=True)
class Trial:
    """One setting over some runs, each a fair sample of the load.

    Attributes
    ----------
    ttft, tpot, latency : (runs,) seconds at the percentile. chip_j, seconds : per output token, of the chips and awake.
    late : share of `requests` that missed a limit. goodput : requests/s within the limits. rate : requests/s.
    tokens_per_s : output tokens. running, peak : requests in service, mean and most of one replica.
    breakdown : component -> chip joules per output token. shares : (2, stretches) of requests late for the first token
        and for those after it, in stretches of every run.
    """

    setting: Setting
    ttft: Array
    tpot: Array
    latency: Array
    chip_j: float
    seconds: float
    late: float
    goodput: float
    rate: float
    tokens_per_s: float
    requests: int
    running: float
    peak: int
    breakdown: dict[str, float] = field(repr=False)
    shares: Array = field(default_factory=lambda: np.zeros((2, 1)), repr=False)

    def ratio(self, limits: Limits) -> Array:
        """(runs,) the largest latency over its limit; 0 where nothing is promised."""
        out = np.zeros(len(self.ttft))
        for values, limit in ((self.ttft, limits.ttft), (self.tpot, limits.tpot)):
            if limit is not None:
                out = np.maximum(out, values / limit)
        return np.asarray(out)

    def odds(self, limits: Limits) -> float:
        """Chance that another such run keeps the promise."""
        return kept_odds(self.shares, 1.0 - limits.percentile / 100.0)

    def few(self, limits: Limits) -> bool:
        """Whether so few requests are late that many more runs would most likely be `sure`."""
        return bool((self.shares.mean(axis=1) <= FEW * (1.0 - limits.percentile / 100.0) + 1e-12).all())

    def sure(self, limits: Limits) -> bool:
        """Whether another such run keeps the promise with the chance of `TRUST`."""
        return self.odds(limits) >= TRUST


def measured(setting: Setting, runs: Sequence[Run], limits: Limits, replicas: int, edge: int = 0) -> Trial:
    """Put runs of one setting together.

    `edge`: requests let in first and last, which are left out (closed loops). Energy is of the steady state: of a
    closed loop that of the requests left, of an open one what is drawn from `WARM` of the arrivals to the last one.
    """
    inner = [_inner(run, edge) for run in runs]
    pairs = list(zip(runs, inner, strict=True))
    steady = [_between_ends(run, mask) if edge else _while_arriving(run, len(runs) > 1) for run, mask in pairs]
    joules, spans, tokens, count = (float(sum(column)) for column in zip(*steady, strict=True))
    whole = sum(run.energy_j for run in runs)
    parts: dict[str, float] = {}
    for run in runs:
        for name, value in run.breakdown_j.items():
            parts[name] = parts.get(name, 0.0) + value * joules / whole / tokens
    missed = [_missed(run, limits)[:, mask] for run, mask in pairs]
    late = np.concatenate([some.any(axis=0) for some in missed])
    ttft, tpot, latency = (
        np.array([_high(getattr(run, name)[mask], limits.percentile) for run, mask in pairs])
        for name in ("ttft", "tpot", "latency")
    )
    rate, share = count / spans, float(late.mean())
    return Trial(
        setting=setting, ttft=ttft, tpot=tpot, latency=latency, chip_j=joules / tokens,
        seconds=replicas * spans / tokens, late=share, goodput=(1.0 - share) * rate, rate=rate,
        tokens_per_s=tokens / spans, requests=len(late),
        running=float(np.mean([(run.end - run.begun).sum() / run.arrival[-1] for run in runs])) / replicas
        if not edge
        else float(setting.cap),
        peak=max(_peak(run) for run in runs), breakdown=parts,
        shares=np.stack([np.concatenate([late_shares(some[k]) for some in missed]) for k in range(2)]),
    )  # fmt: skip


def _between_ends(run: Run, mask: Mask) -> tuple[float, float, float, float]:
    """Return joules, seconds, tokens and requests of a closed loop, all of whose power goes to requests."""
    return (
        float(run.request_j[mask].sum()), float(np.ptp(run.end[mask])), float(run.output[mask].sum()), float(mask.sum())
    )  # fmt: skip


def _while_arriving(run: Run, warms: bool) -> tuple[float, float, float, float]:
    """Return the same of an open loop while requests come: without filling, where `warms`, and without draining."""
    last = float(run.arrival[-1])
    first = WARM * last if warms else 0.0
    bins = len(run.power)
    a, z = min(int(first / run.bin), bins - 1), max(min(int(last / run.bin), bins), 1)
    if z <= a or last <= 0.0:  # all at once
        return run.energy_j, run.duration, float(run.tokens), float(len(run.output))
    came = (run.arrival >= a * run.bin) & (run.arrival < z * run.bin)
    return (
        float(run.power[a:z].sum()) * run.bin, (z - a) * run.bin, float(run.output[came].sum()), float(came.sum())
    )  # fmt: skip


def closed(run: Run, concurrency: int) -> Run:
    """Return a run of requests that all waited as clients see it: each comes when one of `concurrency` before it ended.

    A replica that lets in at most so many and whose queue never empties does what it would do for so many clients,
    each of whom sends the next request when the last one is answered; only waiting in the queue is not theirs.
    """
    arrival = run.arrival.copy()
    for r in np.unique(run.replica):
        mine = np.flatnonzero(run.replica == r)
        mine = mine[np.argsort(run.begun[mine], kind="stable")]
        later = mine[concurrency:]
        arrival[later] = np.minimum(np.sort(run.end[mine])[: len(later)], run.begun[later])
    return replace(run, arrival=arrival, filling=concurrency * run.replicas)


def _inner(run: Run, edge: int) -> Mask:
    mask = np.ones(len(run.arrival), bool)
    if edge:
        order = np.argsort(run.begun, kind="stable")
        mask[order[:edge]] = False
        mask[order[len(order) - edge :]] = False
    return mask


def _missed(run: Run, limits: Limits) -> Mask:
    """(2, n) whether a request missed the limit on its first token, and on those after it."""
    out = np.zeros((2, len(run.arrival)), bool)
    for row, values, limit in ((0, run.ttft, limits.ttft), (1, run.tpot, limits.tpot)):
        if limit is not None:
            out[row] = values > limit
    out[0] |= run.left
    return out


def _high(values: Array, percentile: float) -> float:
    """Return the least value that no more than the allowed share of requests exceeds."""
    k = max(len(values) - 1 - math.floor((1.0 - percentile / 100.0) * len(values) + 1e-9), 0)
    return float(np.partition(values, k)[k])


def _peak(run: Run) -> int:
    """Return the most requests that one replica ran at once."""
    most = 0
    for r in np.unique(run.replica):
        mine = run.replica == r
        times = np.concatenate([run.begun[mine], run.end[mine]])
        moves = np.concatenate([np.ones(mine.sum(), np.int64), -np.ones(mine.sum(), np.int64)])
        most = max(most, int(np.cumsum(moves[np.lexsort((moves, times))]).max()))
    return most


# ---- the search ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes
    ----------
    limits : the promise. score : facility joules per token of a trial, or what else is to be least.
    allowed : further conditions on a trial (power, slowdown) as how far it is over them: at most 1 where it is within.
    """

    limits: Limits
    score: Callable[[Trial], float]
    allowed: Callable[[Trial], float] = lambda _: 0.0

    def rank(self, trial: Trial, room: float = ROOM) -> tuple[float, float]:
        """Return what orders trials: first by how far they miss, then by the score."""
        over = max(float(np.mean(trial.ratio(self.limits))) / (1.0 - room), self.allowed(trial))
        return (over, 0.0) if over > 1.0 else (0.0, self.score(trial))


@dataclass(frozen=True)
class Choice:
    """The settings one may choose: clocks (Hz, ascending), most running requests, tokens of a step."""

    clocks: Array
    caps: Sequence[int]
    chunks: Sequence[int]

    def at(self, place: tuple[int, int, int]) -> Setting:
        """Return the setting at a place."""
        return Setting(float(self.clocks[place[0]]), self.caps[place[1]], self.chunks[place[2]])

    def moves(self, place: tuple[int, int, int], stride: int) -> list[tuple[int, int, int]]:
        """Return the places beside one: `stride` clocks away, the next cap or chunk, and caps and clocks together."""
        c, b, k = place
        slower, faster = max(c - stride, 0), min(c + stride, len(self.clocks) - 1)
        out = [(slower, b, k), (faster, b, k)]
        many = len(self.caps) > 16
        # Only clocks, and caps where they are many, have finer steps left; the rest is settled with the first strides.
        if stride >= STRIDES[1] or many:
            for jump in dict.fromkeys((max(stride // 4, 1), 1)) if many else (1,):
                less, more = max(b - jump, 0), min(b + jump, len(self.caps) - 1)
                out += [(c, less, k), (c, more, k), (slower, less, k), (faster, more, k)]
        if stride >= STRIDES[1]:
            out += [(c, b, k + d) for d in (-1, 1) if 0 <= k + d < len(self.chunks)]
        return [p for p in dict.fromkeys(out) if p != place]


def search(
    choice: Choice, starts: Sequence[Setting], play: Callable[[Setting], Trial], wanted: Wanted
) -> tuple[Trial, dict[Setting, Trial]]:
    """Return the best trial found and every trial made: a pattern search from each start, with shrinking strides."""
    seen: dict[Setting, Trial] = {}

    def tried(place: tuple[int, int, int]) -> Trial:
        setting = choice.at(place)
        if setting not in seen:
            seen[setting] = play(setting)
        return seen[setting]

    places = [_nearest(choice, start) for start in starts]
    best = min(places, key=lambda p: wanted.rank(tried(p)))
    for stride in STRIDES:
        moved = True
        while moved:
            moved = False
            for place in choice.moves(best, stride):
                if wanted.rank(tried(place)) < wanted.rank(tried(best)):
                    best, moved = place, True
                    break
    return tried(best), seen


def _nearest(choice: Choice, start: Setting) -> tuple[int, int, int]:
    return (
        int(np.argmin(np.abs(choice.clocks - start.clock))),
        int(np.argmin(np.abs(np.array(choice.caps) - start.cap))),
        int(np.argmin(np.abs(np.array(choice.chunks) - start.chunk))),
    )


def lowest(
    choice: Choice, play: Callable[[Setting], Trial], wanted: Wanted, known: Mapping[Setting, Trial] | None = None
) -> tuple[Trial | None, dict[Setting, Trial]]:
    """Return the cheapest trial that should keep the promise and every trial made; None where none should.

    For each number of tokens of a step with the open cap, then for lower caps with the best of those: the slowest
    clock that should, found by halving, and from there on the bottom of the valley of energy. What is dearer already
    at a clock that is too slow is dropped.
    """
    seen: dict[Setting, Trial] = dict(known or {})
    top = len(choice.clocks) - 1

    def tried(place: tuple[int, int, int]) -> Trial:
        setting = choice.at(place)
        if setting not in seen:
            seen[setting] = play(setting)
        return seen[setting]

    def able(place: tuple[int, int, int]) -> bool:
        trial = tried(place)
        return wanted.rank(trial)[0] == 0.0 and trial.few(wanted.limits)

    def score(place: tuple[int, int, int]) -> float:
        return wanted.score(tried(place))

    best: tuple[int, int, int] | None = None

    def look(b: int, k: int) -> bool:
        """Take the best clock of a cap and a chunk if it beats what is known; return whether it did."""
        nonlocal best
        low, high = -1, top if best is None else min(best[0] + STRIDES[1], top)
        if not able((high, b, k)):
            low, high = high, top
            if low == top or not able((top, b, k)):
                return False
        while high - low > 1:
            middle = (low + high) // 2
            if able((middle, b, k)):
                high = middle
            else:
                low = middle
                if best is not None and score(best) <= score((low, b, k)) < score((high, b, k)):
                    return False
        floor = high
        for stride in STRIDES:
            for step in (stride, -stride):
                while floor <= high + step <= top and score((high + step, b, k)) < score((high, b, k)):
                    high += step
        if best is not None and score((high, b, k)) >= score(best):
            return False
        best = high, b, k
        return True

    for k in reversed(range(len(choice.chunks))):
        look(len(choice.caps) - 1, k)
    if best is not None:
        for b in reversed(range(len(choice.caps) - 1)):
            if not look(b, best[2]):
                break
    return (None if best is None else tried(best)), seen


def confirm(choice: Choice, best: Trial, play: Callable[[Setting], Trial], wanted: Wanted) -> Trial:
    """Return the best setting on fresh requests, its clock raised until another run keeps the promise with `TRUST`.

    The clock goes up by twice as many steps each time and then back by halves, to the slowest that is sure.
    """
    at, top = _nearest(choice, best.setting), len(choice.clocks) - 1
    tried: list[Trial] = []

    def sure(clock: int) -> bool:
        tried.append(play(choice.at((clock, *at[1:]))))
        return tried[-1].sure(wanted.limits)

    low, high = at[0], at[0]
    while not sure(high):
        if high == top:
            break
        low, high = high, min(high + 2 * (high - low) + 2, top)
    else:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if sure(middle) else (middle, high)
    able = [t for t in tried if t.sure(wanted.limits) and wanted.allowed(t) <= 1.0]
    if able:
        return min(able, key=lambda t: t.setting.clock)
    return max(tried, key=lambda t: t.odds(wanted.limits))


def capped(trial: Trial, limit: int) -> Setting:
    """Return the setting with its open cap written as what was seen at most and a quarter more, which never binds."""
    cap = min(8 * math.ceil(1.25 * trial.peak / 8.0), limit, trial.setting.cap)
    return replace(trial.setting, cap=max(cap, trial.peak))


def fair_count(output: float, running: float, steps: int, least: int, most: int) -> int:
    """Return how many requests take the time of `steps` small steps when `running` of them share each.

    A step of 30 requests takes the simulator about twice as long as one of a single request.
    """
    return int(min(max(steps / (1.0 + running / 30.0) * max(running, 1.0) / max(output, 1.0), least), most))
