"""A serving governor: keeps a latency promise at the lowest clock that does, from what the server says of itself.

    metrics --scrape--> share of tokens and first tokens later than promised, requests waiting
       too many late, or a queue        -> up, to the top where it is bad
       few late, for some looks         -> one notch down; where that was too low before, later the next time
       nothing to serve                 -> as it is
       no metrics                       -> the device's own clocks, until they are back

Down is slow and up is quick: a notch too low costs someone's promise, a notch too high some joules.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from ...core.errors import InputError
from ...core.units import show
from ..daemon.client import Held
from ..leases.actuator import ControlError
from .scrape import MetricsError, Reading, Scraper

Move = Literal["up", "top", "down", "stay", "idle", "blind"]

# Tokens that a look must have seen to be believed; fewer are added to the next look's.
_ENOUGH: Final = 50
# The share of the promised time that the mean token may take. Late requests are judged among at least so many as would
# have this many late ones allowed.
_NEAR, _SAMPLE = 0.9, 2.0
# Looks after which a notch that was too low may be tried again, at first and at most.
_AGAIN, _LATEST = 8, 512


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised: s to the first token and between tokens, each None where nothing is, for a percentile of them.

    margin : the share of the allowed late ones above which the clock goes up; below `calm` of it, it may go down.
    """

    ttft: float | None = None
    tpot: float | None = None
    percentile: float = 99.0
    margin: float = 0.8
    calm: float = 0.3

    def __post_init__(self) -> None:
        if self.ttft is None and self.tpot is None:
            raise InputError("a governor needs a promise to keep: give ttft, tpot or both")
        for name in ("ttft", "tpot"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be a finite number of seconds > 0, got {value}")
        if not 0 < self.percentile < 100:
            raise InputError(f"percentile lies between 0 and 100, got {self.percentile}")
        if not 0 < self.calm < self.margin <= 1:
            raise InputError(f"0 < calm < margin <= 1 must hold, got {self.calm} and {self.margin}")

    def strain(self, seen: Reading, lately: Reading | None = None) -> float:
        """The share of late ones, of first tokens or of requests, over the share allowed; 1 breaks the promise.

        `lately` : since the clock was last changed. Requests are few, so theirs are counted over that time, and late
        ones among few as if among enough. Where a server does not count them, tokens take their place.
        """
        allowed = 1.0 - self.percentile / 100.0
        late = [0.0]
        if self.ttft is not None:
            late.append(seen.ttft.above(self.ttft))
        if self.tpot is not None:
            if lately is not None and len(lately.request.edges) > 1:
                requests = lately.request
                late.append(requests.above(self.tpot) * requests.count / max(requests.count, _SAMPLE / allowed))
            else:
                late.append(seen.itl.above(self.tpot))
        return max(late) / allowed

    def close(self, seen: Reading) -> bool:
        """Whether the mean token takes nearly as long as promised, whatever its scatter."""
        return self.tpot is not None and seen.itl.count > 0 and seen.itl.mean > _NEAR * self.tpot


class Look(msgspec.Struct, frozen=True):
    """One look of a governor: what it did, the clock (Hz, None is the device's own) and why."""

    move: Move
    clock: float | None
    strain: float
    running: float
    waiting: float
    why: str = ""


class Governor:
    """Sets the clock of leased devices so that a server keeps its promise.

    held : leases, all set alike. read : what the server says now; a `Scraper`'s. clocks : notches to choose from, Hz;
    `notches` of them from `floor` (share of the highest) where None. patience : calm looks before a notch down.
    blind : looks without metrics before the device's own clocks are given back to it.
    """

    def __init__(
        self,
        held: Sequence[Held],
        promise: Promise,
        read: Callable[[], Reading],
        *,
        clocks: Sequence[float] | None = None,
        notches: int = 12,
        floor: float = 0.4,
        patience: int = 2,
        blind: int = 2,
    ) -> None:
        if not held:
            raise InputError("a governor needs a lease of each device of the server, got none")
        if notches < 2 or not 0 < floor < 1 or patience < 1 or blind < 1:
            raise InputError(
                "a governor has at least 2 notches, a floor between 0 and 1, patience and blind of at least 1, got "
                f"{notches}, {floor}, {patience} and {blind}"
            )
        self.held, self.promise, self.read = tuple(held), promise, read
        self.clocks = self._notches(clocks, notches, floor)
        self.patience, self.blind = patience, blind
        self.at = len(self.clocks) - 1
        self.notes: list[str] = []
        self.looks = 0
        self._in_force: float | None = None
        self._before: Reading | None = None
        self._moved: Reading | None = None
        self._calm = self._missed = 0
        self._wait = [0] * len(self.clocks)  # the look before which a notch is not tried again
        self._penalty = [_AGAIN] * len(self.clocks)

    def look(self) -> Look:
        """Read the metrics once, and set the clock they ask for."""
        self.looks += 1
        try:
            now = self.read()
        except MetricsError as error:
            return self._no_metrics(str(error))
        if self._missed:
            self._missed, self._before, self._moved = 0, None, None
        before, self._before = self._before, now
        if before is None:  # what was counted before this governor began says nothing of its clocks
            self._set(self.clocks[self.at])
            return Look("stay", self._in_force, 0.0, now.running, now.waiting, "first look")
        seen = now.since(before)
        counted = max(seen.itl.count, 0.0) + seen.ttft.count
        queued = now.waiting > max(1.0, 0.1 * now.running)
        if counted < _ENOUGH and not queued:
            if now.running or now.waiting:
                self._before = before  # too few to believe; they are added to the next look's
                return Look("stay", self._in_force, 0.0, now.running, now.waiting, "too few tokens to tell")
            return Look("idle", self._in_force, 0.0, now.running, now.waiting, "nothing to serve")
        strain = self.promise.strain(seen, now.since(self._moved or before))
        move, why = self._decide(strain, queued, self.promise.close(seen))
        if move in ("up", "top", "down"):
            self._moved = now
        self._set(self.clocks[self.at])
        return Look(move, self._in_force, strain, now.running, now.waiting, why)

    def close(self) -> None:
        """Let the clocks free; the leases are their owner's to close."""
        self._set(None)

    # ---- how ----

    def _decide(self, strain: float, queued: bool, close: bool) -> tuple[Move, str]:
        """The notch from now on."""
        top = len(self.clocks) - 1
        promise = self.promise
        if queued or strain > promise.margin or close:
            self._calm = 0
            if self.at < top:
                # This notch is too low for the work as it is; it is tried again, later each time that it fails.
                self._wait[self.at] = self.looks + self._penalty[self.at]
                self._penalty[self.at] = min(2 * self._penalty[self.at], _LATEST)
            why = "requests wait" if queued else f"{100 * strain:.0f} % of the late ones allowed"
            if queued or strain > 2.0:
                self.at = top
                return "top", why
            self.at = min(top, self.at + 1)
            return "up", why
        if strain > promise.calm:
            self._calm = 0
            return "stay", "within the promise"
        self._calm += 1
        below = self.at - 1
        if self._calm < self.patience or below < 0 or self.looks < self._wait[below]:
            return "stay", "calm"
        self._calm = 0
        self._penalty[self.at] = max(_AGAIN, self._penalty[self.at] // 2)  # it has held
        self.at = below
        return "down", "calm"

    def _no_metrics(self, why: str) -> Look:
        self._missed += 1
        if self._missed == self.blind:
            self.notes.append(f"the devices run at their own clocks: {why}")
        if self._missed >= self.blind:
            self.at = len(self.clocks) - 1
            self._calm = 0
            self._set(None)
        return Look("blind", self._in_force, math.nan, math.nan, math.nan, why)

    def _set(self, clock: float | None) -> None:
        if clock == self._in_force:
            for held in self.held:
                held.beat()
            return
        for held in self.held:
            held.set(verify=False, clock=clock)
        self._in_force = clock

    def _notches(self, clocks: Sequence[float] | None, count: int, floor: float) -> tuple[float, ...]:
        ranges = []
        for held in self.held:
            if "clock" not in held.ranges:
                has = ", ".join(held.ranges) or "none"
                raise ControlError("unsupported", f"{held.device} has no clock to govern; it has {has}")
            ranges.append(held.ranges["clock"])
        if clocks is None:
            high = min(r.high for r in ranges)
            found = ranges[0].spread(count, floor * high)
            made = tuple(c for c in found if c <= high)
        else:
            made = tuple(sorted({float(c) for c in clocks}))
            if len(made) < 2:
                raise InputError(f"a governor chooses among 2 clocks or more, got {list(clocks)}")
        for range_ in ranges:
            for clock in made:
                range_.check("clock", clock)
        return made


def govern(
    governor: Governor,
    *,
    interval: float = 2.0,
    tell: Callable[[Look], None] = lambda _look: None,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look every `interval` s until `stop` says so; the clocks are freed however it ends."""
    if not 0 < interval < math.inf:
        raise InputError(f"the interval between looks must be finite and > 0 s, got {interval}")
    try:
        while not stop():
            tell(governor.look())
            sleep(interval)
    finally:
        if not any(held.over for held in governor.held):
            governor.close()


def told(look: Look) -> str:
    """A look as a line for a person."""
    clock = "own clocks" if look.clock is None else show(look.clock, "Hz", 4)
    if look.move == "blind":
        return f"{clock}: {look.why}"
    return f"{clock} ({look.move}: {look.why}; {look.running:.0f} running, {look.waiting:.0f} waiting)"


__all__ = ["Governor", "Look", "Promise", "Scraper", "govern", "told"]
