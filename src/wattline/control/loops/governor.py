"""A live serving governor: the `Controller` of serving/governor.py, fed by a server's metrics, setting leased devices.

    metrics --scrape--> Reading --seen--> Controller.look --> clock of the leases
    no metrics                                            --> the device's own clocks, until they are back

The simulator drives the same class (serving/simulate/policies.py), so what it says of a governor holds for this one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import msgspec

from ...core.errors import InputError
from ...core.units import show
from ...serving.governor import Controller, Move, Promise, Seen
from ..daemon.client import Held
from ..leases.actuator import ControlError
from .scrape import MetricsError, Reading, Scraper


def seen(now: Reading, before: Reading, promise: Promise, seconds: float) -> Seen:
    """What happened between two readings, as the controller takes it.

    Where a server does not count times per request, the share of late tokens stands for that of late requests (which
    is stricter: a request is late by its mean). Where it does not count those between tokens, requests do.
    """
    new = now.since(before)
    asked = len(new.request.edges) > 1
    each, gaps = (new.request if asked else new.itl), (new.itl if len(new.itl.edges) > 1 else new.request)
    done = each.count if asked else min(each.count, max(new.ttft.count, 1.0))
    return Seen(
        seconds=seconds, running=now.running, waiting=now.waiting,
        firsts=new.ttft.count, first_mean=new.ttft.mean,
        first_late=0.0 if promise.ttft is None else new.ttft.above(promise.ttft) * new.ttft.count,
        done=done, done_late=0.0 if promise.tpot is None else each.above(promise.tpot) * done,
        gaps=gaps.count, gap_mean=gaps.mean,
    )  # fmt: skip


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
    `notches` of them from `floor` (share of the highest) where None. interval : s between looks. patience : calm looks
    before a notch down. blind : looks without metrics before the device's own clocks are given back to it.
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
        interval: float = 1.0,
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
        if not 0 < interval < math.inf:
            raise InputError(f"the interval between looks must be finite and > 0 s, got {interval}")
        self.held, self.promise, self.read = tuple(held), promise, read
        self.clocks = self._notches(clocks, notches, floor)
        self.interval, self.patience, self.blind = interval, patience, blind
        self.controller = Controller(promise, self.clocks, patience=patience)
        self.notes: list[str] = []
        self.looks = 0
        self._in_force: float | None = None
        self._before: Reading | None = None
        self._missed = 0

    def look(self) -> Look:
        """Read the metrics once, and set the clock they ask for."""
        self.looks += 1
        try:
            now = self.read()
        except MetricsError as error:
            return self._no_metrics(str(error))
        if self._missed:
            self._missed, self._before = 0, None
        before, self._before = self._before, now
        if before is None:  # what was counted before this governor began says nothing of its clocks
            self._set(self.controller.clock)
            return Look("stay", self._in_force, 0.0, now.running, now.waiting, "first look")
        told = self.controller.look(seen(now, before, self.promise, self.interval))
        self._set(told.clock)
        return Look(told.move, self._in_force, told.strain, now.running, now.waiting, told.why)

    def close(self) -> None:
        """Let the clocks free; the leases are their owner's to close."""
        self._set(None)

    # ---- how ----

    def _no_metrics(self, why: str) -> Look:
        self._missed += 1
        if self._missed == self.blind:
            self.notes.append(f"the devices run at their own clocks: {why}")
        if self._missed >= self.blind:
            self.controller.rise()
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
    tell: Callable[[Look], None] = lambda _look: None,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look once each interval of the governor until `stop` says so; the clocks are freed however it ends."""
    try:
        while not stop():
            tell(governor.look())
            sleep(governor.interval)
    finally:
        if not any(held.over for held in governor.held):
            governor.close()


def told(look: Look) -> str:
    """A look as a line for a person."""
    clock = "own clocks" if look.clock is None else show(look.clock, "Hz", 4)
    if look.move == "blind":
        return f"{clock}: {look.why}"
    known = [f"{n:.0f} {name}" for n, name in ((look.running, "running"), (look.waiting, "waiting")) if n == n]
    return f"{clock} ({look.move}: {'; '.join([look.why, ', '.join(known)] if known else [look.why])})"


__all__ = ["Governor", "Look", "Promise", "Scraper", "govern", "seen", "told"]
