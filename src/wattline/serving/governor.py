"""The governor of serving clocks, pure: what a server says of itself goes in, a notch of the clock comes out.

    simulator (simulate/policies.py)  --Seen-->  Controller.look  --Told-->  clock of the simulated pool
    live server (control/loops)       --Seen-->  Controller.look  --Told-->  clock of the leased devices

Both drive this one class. Between two looks the clock stands. What decides:

    base      the lowest clock, learnt: each late request raises it, requests in time lower it by so much that it rests
              where `use` of the late ones allowed are late. That is adaptive conformal inference (Gibbs and
              Candes, NeurIPS 2021): in the long run so for any arrivals, where the highest clock can
    reaction  up at once, a notch or two, where tokens or first tokens come slower than promised on average, or
              who waits must expect to be late; down by one notch after `patience` looks
    budget    late requests of the last `window` s over those allowed; where it is used up, the top until it recovers

A notch too low costs someone's promise, a notch too high some joules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import msgspec

from ..core.errors import InputError

Move = Literal["up", "top", "down", "stay", "idle", "blind"]

# Late requests are judged among at least so many as would have this many late ones allowed.
_SAMPLE: Final = 2.0
# How far one late request raises the base, of the range of clocks, and where it begins. A hundredth follows a day's
# load at a few requests a second; three times as much and a third of it saved as much within a tenth.
_STEP, _BEGIN = 0.01, 0.5
# Means over these shares of the promised time per token and to the first token are answered, by at most this jump.
_TOKEN, _FIRST, _JUMP = 1.1, 0.8, 1.15
# Below this share of that the clock may go down.
_CALM: Final = 0.85
# First tokens are few and their times scatter: their mean is over about so many seconds.
_LATELY: Final = 5.0
# Late ones over those allowed at which the budget is used up, and has recovered.
_FULL, _REST = 1.0, 0.8


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised: s to the first token and between tokens, each None where nothing is, for a percentile of them.

    use : the share of the allowed late ones that is aimed at.
    """

    ttft: float | None = None
    tpot: float | None = None
    percentile: float = 99.0
    use: float = 0.7

    def __post_init__(self) -> None:
        if self.ttft is None and self.tpot is None:
            raise InputError("a governor needs a promise to keep; state ttft, tpot or both")
        for name in ("ttft", "tpot"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be a finite number of seconds > 0, got {value}")
        if not 0 < self.percentile < 100:
            raise InputError(f"percentile lies between 0 and 100, got {self.percentile}")
        if not 0 < self.use < 1:
            raise InputError(f"use, the share of the late ones allowed, lies between 0 and 1, got {self.use}")

    @property
    def allowed(self) -> float:
        """The share of requests that may be late."""
        return 1.0 - self.percentile / 100.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a server did in the `seconds` since the last look.

    firsts, first_late, first_mean : first tokens, those later than promised, their mean s.
    done, done_late : requests that ended (tokens, where a server counts no requests), those slower than promised.
    gaps, gap_mean : times between tokens and their mean s. running, waiting : requests now; NaN where not said.
    """

    seconds: float
    running: float
    waiting: float
    firsts: float = 0.0
    first_late: float = 0.0
    first_mean: float = math.nan
    done: float = 0.0
    done_late: float = 0.0
    gaps: float = 0.0
    gap_mean: float = math.nan


@dataclass(frozen=True)
class Told:
    """One look: what it did and why; `strain`: late ones over those allowed, lately."""

    move: Move
    clock: float
    strain: float
    why: str


class Budget:
    """Late requests against those allowed: how many lately, and a `share` that late ones raise and others lower.

    share : from 0 (as cheap as can be) to 1 (as safe). window : s that late ones are remembered for.
    """

    def __init__(self, promise: Promise, window: float, share: float = _BEGIN) -> None:
        self.share, self.window = share, window
        self.allowed, self.use = promise.allowed, promise.use
        self.counted = self.late = 0.0

    def count(self, seconds: float, counted: float, late: float) -> None:
        """Take in what ended in some seconds."""
        keep = math.exp(-seconds / self.window)
        self.counted, self.late = keep * self.counted + counted, keep * self.late + late
        moved = self.share + _STEP * (late - self.use * self.allowed * counted)
        self.share = min(max(moved, 0.0), 1.0)

    @property
    def strain(self) -> float:
        """Late ones over those allowed, among at least so many as would have two of them allowed."""
        return self.late / (self.allowed * max(self.counted, _SAMPLE / self.allowed))


class Controller:
    """Chooses among `clocks` (Hz, ascending) so that a promise is kept at the lowest of them that does.

    patience : looks after which the clock may go down once more. window : s over which late requests are budgeted.
    """

    def __init__(self, promise: Promise, clocks: Sequence[float], *, patience: int = 2, window: float = 3600.0) -> None:
        if len(clocks) < 2 or any(b <= a for a, b in pairwise(clocks)):
            raise InputError(f"a governor chooses among 2 clocks or more, ascending, got {list(clocks)}")
        if patience < 1 or not window > 0:
            raise InputError(f"patience is at least 1 look and the window longer than 0 s, got {patience}, {window}")
        self.promise, self.clocks = promise, tuple(float(c) for c in clocks)
        self.patience, self.window = patience, window
        self.first = None if promise.ttft is None else Budget(promise, window)
        self.between = None if promise.tpot is None else Budget(promise, window)
        self.budgets = [budget for budget in (self.first, self.between) if budget]
        self.at = len(self.clocks) - 1
        self._calm = 0
        self._spent = False
        self._firsts = self._waited = 0.0  # first tokens of the last seconds, and the s they took

    @property
    def clock(self) -> float:
        """Hz now."""
        return self.clocks[self.at]

    def rise(self) -> None:
        """Go to the top: what happens is not known."""
        self.at, self._calm = len(self.clocks) - 1, 0

    def look(self, seen: Seen) -> Told:
        """Take in what happened since the last look and choose the clock until the next."""
        if self.first:
            self.first.count(seen.seconds, seen.firsts, seen.first_late)
        if self.between:
            self.between.count(seen.seconds, seen.done, seen.done_late)
        strain = max(budget.strain for budget in self.budgets)
        keep = math.exp(-seen.seconds / _LATELY)
        self._firsts, self._waited = keep * self._firsts, keep * self._waited
        if seen.firsts:
            self._firsts += seen.firsts
            self._waited += seen.firsts * seen.first_mean
        move, why = self._decide(seen, strain)
        return Told(move, self.clock, strain, why)

    # ---- how ----

    def _decide(self, seen: Seen, strain: float) -> tuple[Move, str]:
        top = len(self.clocks) - 1
        self._spent = strain > (_REST if self._spent else _FULL)
        if self._spent:
            return self._up(top, f"{100 * strain:.0f} % of the late ones allowed")
        if not seen.firsts and not seen.gaps and not seen.waiting > 0:
            return ("idle", "nothing to serve") if seen.running == 0 else ("stay", "no token came")
        (pressure, why), base = self._pressure(seen), self._base()
        if pressure > 1.0:
            need = self.clock * min(pressure, _JUMP)
            return self._up(max(base, next((k for k, clock in enumerate(self.clocks) if clock >= need), top)), why)
        if self.at < base:
            return self._up(base, "late ones lately")
        if pressure > _CALM or self.at == base:
            self._calm = 0
            return "stay", "within the promise"
        self._calm += 1
        if self._calm < self.patience or pressure * self.clock / self.clocks[self.at - 1] > 1.0:
            return "stay", "calm"
        self._calm = 0
        self.at -= 1
        return "down", "calm"

    def _base(self) -> int:
        """The lowest notch for now: equal parts of the share are equal ratios of clocks."""
        share = max(budget.share for budget in self.budgets)
        least = self.clocks[0] * (self.clocks[-1] / self.clocks[0]) ** share
        return next(k for k, clock in enumerate(self.clocks) if clock >= 0.999 * least)

    def _up(self, at: int, why: str) -> tuple[Move, str]:
        self._calm = 0
        top = len(self.clocks) - 1
        if at <= self.at:
            return "stay", why
        self.at = at
        return ("top" if at == top else "up"), why

    def _pressure(self, seen: Seen) -> tuple[float, str]:
        """How far the latency that presses most is over what its mean may be, and what to call it."""
        ttft, tpot = self.promise.ttft, self.promise.tpot
        found = [(0.0, "calm")]
        if tpot is not None and seen.gaps:
            found.append((seen.gap_mean / (_TOKEN * tpot), "tokens come slowly"))
        if ttft is not None and self._firsts > 0:
            found.append((self._waited / self._firsts / (_FIRST * ttft), "first tokens come slowly"))
        if seen.waiting > 0 and ttft is not None:
            # Whoever came last waits for all before; where no first token came, for a look or more each.
            found.append((seen.waiting * seen.seconds / max(seen.firsts, 1.0) / ttft, "requests wait"))
        elif ttft is None and seen.waiting > max(1.0, 0.1 * seen.running):
            found.append((math.inf, "requests wait"))
        return max(found)
