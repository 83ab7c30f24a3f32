"""Policies: what sets clocks, batches and replicas while requests come and go.

A policy is two methods. `start` sets the knobs of a pool before the first request; `look` may set them anew every
`interval` seconds, from what was seen since the last look. Between looks the compiled core follows the knobs alone:
a choice per step (thousands a second) must not leave it, so the per-step governor is a rule of the core with
parameters, while what acts over seconds (parking, starting, batch limits) may be any Python object.

    FixedClock          one clock, or one for steps with prompts and one for those without
    Governor            per step: the cheapest clock that the most urgent request's slack allows
    BatchSteering       the most running requests, moved so that tokens come just in time
    Parking             as many replicas awake as the load needs, around any other policy
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from ...core.errors import InputError
from .outcome import Limits
from .table import StepTable


@dataclass(frozen=True)
class Knobs:
    """What a policy sets for a pool; None leaves what the engine has: highest clock, no governor, all replicas.

    Attributes
    ----------
    prefill_clock, decode_clock : Hz of steps with prompts and without; the governor's highest where it governs.
    tpot, ttft : seconds that the governor of the core keeps. spend : share of the slack one step may use. credit :
        tokens' worth of slack that a request starts with; a short one may end late by as much. gather : how far a
        longer step makes up for its joules by the tokens it gathers, from 0 (least energy of the step) to 1 (least
        power); it goes with the share of a step's joules that its batch does not change.
    max_batch : most running requests of a replica. replicas : how many take requests.
    """

    prefill_clock: float | None = None
    decode_clock: float | None = None
    tpot: float | None = None
    ttft: float | None = None
    spend: float = 0.1
    credit: float = 0.0
    gather: float = 0.2
    max_batch: int | None = None
    replicas: int | None = None


@dataclass(frozen=True)
class PoolView:
    """A pool as policies see it: its steps, size and promises; `context`, `prompt`: mean tokens of the trace."""

    pool: int
    table: StepTable
    replicas: int
    max_batch: int
    role: str
    limits: Limits
    context: float
    prompt: float


@dataclass(frozen=True)
class View:
    """A pool at a look, and what happened in the `interval` s before `time`.

    awake : replicas that take requests; on : those that draw power, draining ones included. busy : seconds in steps,
    over all replicas.
    """

    time: float
    interval: float
    pool: PoolView
    awake: int
    on: int
    running: int
    queued: int
    arrived: int
    tokens: int
    steps: int
    busy: float


class Policy(Protocol):
    """**Required to implement**: `name`, `interval` (seconds between looks, None for none), `start` and `look`."""

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float | None: ...

    def start(self, pool: PoolView, /) -> Knobs:
        """Return the knobs of a pool before the first request."""
        ...

    def look(self, seen: View, /) -> Knobs | None:
        """Return the knobs from now on, None to leave them."""
        ...


@dataclass(frozen=True)
class FixedClock:
    """One clock (Hz) all along; with `prefill`, another for steps that carry prompts. The highest where None."""

    clock: float | None = None
    prefill: float | None = None
    interval: float | None = None

    @property
    def name(self) -> str:
        if self.clock is None and self.prefill is None:
            return "highest clock"
        decode = "highest" if self.clock is None else f"{self.clock / 1e6:.0f} MHz"
        if self.prefill is None or self.prefill == self.clock:
            return f"fixed {decode}"
        return f"prefill {self.prefill / 1e6:.0f} MHz, decode {decode}"

    def start(self, _: PoolView) -> Knobs:
        """Set the clock."""
        return Knobs(prefill_clock=self.prefill or self.clock, decode_clock=self.clock)

    def look(self, _: View) -> Knobs | None:
        """Leave it."""
        return None


@dataclass(frozen=True)
class Governor:
    """Per step, the clock of least energy over time^gather whose time the most urgent request can afford.

    `margin`: share of the promised latencies to aim at; `spend`, `credit`, `gather`: as in `Knobs`. Least power
    (gather = 1) runs slow until the slack is gone and must hurry after; 0.2 was chosen on two 8B scenarios.
    """

    margin: float = 0.9
    spend: float = 0.5
    credit: float = 10.0
    gather: float = 0.2
    interval: float | None = None
    name: str = "governor"

    def start(self, pool: PoolView) -> Knobs:
        """Hand the promises to the core."""
        limits = pool.limits
        if limits.tpot is None and limits.ttft is None:
            raise InputError("a governor needs a promise to keep; state serve.tpot or serve.ttft")
        return Knobs(
            tpot=None if limits.tpot is None else self.margin * limits.tpot,
            ttft=None if limits.ttft is None else self.margin * limits.ttft,
            spend=self.spend,
            credit=self.credit,
            gather=self.gather,
        )

    def look(self, _: View) -> Knobs | None:
        """Leave it: the core governs each step."""
        return None


@dataclass
class BatchSteering:
    """Moves the most running requests so that a step takes `margin` of the promised time per token.

    A larger batch shares the weights among more tokens; beyond the promise it is cut, at the clock given.
    """

    margin: float = 0.9
    clock: float | None = None
    interval: float | None = 5.0
    name: str = "batch steering"

    def start(self, pool: PoolView) -> Knobs:
        """Take the largest batch whose decode step keeps the promise."""
        return Knobs(self.clock, self.clock, max_batch=self._fitting(pool))

    def _fitting(self, pool: PoolView) -> int:
        if pool.limits.tpot is None:
            raise InputError("batch steering needs a promise to keep; state serve.tpot")
        return fitting(pool, self.margin * pool.limits.tpot, self.clock)

    def look(self, seen: View) -> Knobs | None:
        """Cut the batch where steps with their prompts came out longer than promised, let it grow where not."""
        if seen.steps == 0 or seen.pool.limits.tpot is None:
            return None
        long = (seen.busy / seen.steps) / (self.margin * seen.pool.limits.tpot)
        now = seen.running / max(seen.awake, 1)
        fitting = self._fitting(seen.pool)
        cap = fitting if long <= 1.0 else max(1, min(fitting, int(now / long)))
        return Knobs(self.clock, self.clock, max_batch=cap)


def fitting(pool: PoolView, seconds: float, clock: float | None = None) -> int:
    """Return the most running requests whose mean step, prompts that enter included, takes no longer than `seconds`."""
    level = None if clock is None else pool.table.level(clock)
    output = max(2.0 * (pool.context - pool.prompt), 1.0)

    def step(batch: int) -> float:
        # As many requests enter as end: batch / output of them in a step.
        entering = 0.0 if pool.role == "decode" else batch / output
        tokens = min(entering * pool.prompt, max(pool.table.replica.chunk - batch, 0.0))
        return pool.table.step(batch, pool.context, tokens, pool.prompt / 2.0, entering, level).time

    low, high = 1, pool.max_batch
    while low < high:
        middle = (low + high + 1) // 2
        if step(middle) <= seconds:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass
class Parking:
    """Keeps as many replicas awake as the load needs, and lets another policy set their clocks.

    The load is the slots that requests take, of `slots` a replica: where None, as many as keep two thirds of the
    promised time per token at the highest clock. `target` of them is aimed at. More replicas are woken at once; half
    of those too many are let go after `patience` looks.
    """

    inner: Policy
    target: float = 0.7
    slots: int | None = None
    least: int = 1
    patience: int = 3
    interval: float | None = 10.0
    _calm: int = 0

    @property
    def name(self) -> str:
        return f"parking, {self.inner.name}"

    def start(self, pool: PoolView) -> Knobs:
        """Start with what the other policy says, and with every replica that is on."""
        self._calm = 0
        return self._capped(self.inner.start(pool), pool)

    def _slots(self, pool: PoolView) -> int:
        if self.slots is not None or pool.limits.tpot is None:
            return min(self.slots or pool.max_batch, pool.max_batch)
        return fitting(pool, pool.limits.tpot / 1.5)

    def _capped(self, knobs: Knobs, pool: PoolView) -> Knobs:
        return replace(knobs, max_batch=min(knobs.max_batch or pool.max_batch, self._slots(pool)))

    def look(self, seen: View) -> Knobs | None:
        """Compare the load with what is awake."""
        knobs = self._capped(self.inner.look(seen) or self.inner.start(seen.pool), seen.pool)
        slots = self._slots(seen.pool)
        need = (seen.running + seen.queued) / (self.target * slots)
        if seen.queued > 0:
            need = max(need, seen.awake + math.ceil(seen.queued / slots))
        wanted = max(self.least, math.ceil(need))
        if wanted < seen.awake:
            self._calm += 1
            half = seen.awake - math.ceil((seen.awake - wanted) / 2)
            wanted = seen.awake if self._calm < self.patience else half
        if wanted != seen.awake:
            self._calm = 0
        return replace(knobs, replicas=wanted)
