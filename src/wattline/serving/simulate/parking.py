"""Parking: replicas switched off while the load does not need them, and woken before it does."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from ..governor import Budget, Promise, Seen
from .policies import Knobs, Policy, PoolView, View, fitting, promise_of

# Late requests over those allowed, above which twice as many replicas as needed are awake.
_SPENT: Final = 0.7
_LEAST: Final = 0.15  # of the slots aimed at, whatever came late
_WINDOW: Final = 3600.0  # s


class _Need:
    """What a pool needed lately, and how full its replicas may be."""

    def __init__(self, promise: Promise | None) -> None:
        self._budgets = [Budget(promise, _WINDOW, share=0.0) for _ in range(2)] if promise else []
        self._peaks: deque[tuple[float, float]] = deque()
        self._changed, self._awake = 0.0, -1

    @property
    def part(self) -> float:
        """The share of its slots that a replica takes: all of them, fewer after late requests."""
        return 1.0 - (1.0 - _LEAST) * max((budget.share for budget in self._budgets), default=0.0)

    @property
    def strain(self) -> float:
        return max((budget.strain for budget in self._budgets), default=0.0)

    def count(self, seen: Seen) -> None:
        told = (seen.firsts, seen.first_late), (seen.done, seen.done_late)
        for budget, (counted, late) in zip(self._budgets, told, strict=False):
            budget.count(seen.seconds, counted, late)

    def most(self, time: float, need: float, span: float) -> float:
        """The most that was needed in the last `span` s: the head of a queue that falls."""
        while self._peaks and self._peaks[-1][1] <= need:
            self._peaks.pop()
        self._peaks.append((time, need))
        while self._peaks[0][0] < time - span:
            self._peaks.popleft()
        return self._peaks[0][1]

    def settled(self, seen: View, hold: float) -> bool:
        """Whether as many replicas as now have been awake for a while: a start, and a minute where `hold` has one."""
        if seen.awake != self._awake:
            self._awake, self._changed = seen.awake, seen.time
        return seen.time - self._changed >= min(60.0, hold) + seen.pool.start_time


@dataclass
class Parking:
    """Keeps as many replicas awake as the load needs, and lets another policy set their clocks.

    The load is the slots that requests take, of `slots` a replica: where None, as many as keep two thirds of the
    promised time per token at the highest clock. A replica takes fewer after requests came late and more again after
    those in time, as the governor moves its base; `target` of them is aimed at. More replicas are woken at once; they
    are let go by halves where the most that was needed in the last `hold` s (at least five times what a start takes)
    was fewer. interval : s between looks, as the other policy has it, else five.
    """

    inner: Policy
    target: float = 0.7
    slots: int | None = None
    least: int = 1
    hold: float = 300.0
    interval: float | None = None
    _watch: dict[tuple[str, int], _Need] = field(default_factory=dict)
    _fitting: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"parking, {self.inner.name}"

    def __post_init__(self) -> None:
        self.interval = self.interval or self.inner.interval or 5.0

    def start(self, pool: PoolView) -> Knobs:
        """Start with what the other policy says, and with every replica that is on."""
        self._fitting.pop((pool.role, pool.pool), None)
        self._watch[pool.role, pool.pool] = _Need(promise_of(pool.limits, pool.role))
        return self._capped(self.inner.start(pool), pool)

    def _slots(self, pool: PoolView) -> int:
        """The most requests that a replica may run now."""
        key = pool.role, pool.pool
        if key not in self._fitting:
            free = self.slots is not None or pool.limits.tpot is None
            self._fitting[key] = (
                self.slots or pool.max_batch if free else fitting(pool, (pool.limits.tpot or 0.0) / 1.5)
            )
        return max(1, math.ceil(min(self._fitting[key], pool.max_batch) * self._watch[key].part))

    def _capped(self, knobs: Knobs, pool: PoolView) -> Knobs:
        return replace(knobs, max_batch=min(knobs.max_batch or pool.max_batch, self._slots(pool)))

    def look(self, seen: View) -> Knobs | None:
        """Compare the load with what is awake."""
        watch = self._watch[seen.pool.role, seen.pool.pool]
        watch.count(seen.served)
        knobs = self._capped(self.inner.look(seen) or self.inner.start(seen.pool), seen.pool)
        slots = self._slots(seen.pool)
        need = (seen.running + seen.queued) / (self.target * slots)
        # One or two of a replica wait for the step under way; more than that for room, whatever its slots say.
        if seen.queued > max(2 * seen.awake, 0.1 * seen.running):
            need = max(need, seen.awake + math.ceil(seen.queued / slots))
        held = watch.most(seen.time, need, max(self.hold, 5.0 * seen.pool.start_time))
        wanted = max(self.least, math.ceil(2.0 * held if watch.strain > _SPENT else held))
        if wanted < seen.awake:
            # Who is let go leaves its load to the others: what they need then is waited for.
            wanted = seen.awake - math.ceil((seen.awake - wanted) / 2) if watch.settled(seen, self.hold) else seen.awake
        return replace(knobs, replicas=wanted)
