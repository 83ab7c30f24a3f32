"""Policies: what sets clocks, batches and replicas while requests come and go.

A policy is two methods. `start` sets the knobs of a pool before the first request; `look` may set them anew every
`interval` seconds, from what was seen since the last look. Between looks the compiled core follows the knobs alone:
a choice per step (thousands a second) must not leave it, while what acts over seconds (clocks, parking, starting,
batch limits) may be any Python object.

    FixedClock          one clock, or one for steps with prompts and one for those without
    Governor            the lowest clock that keeps the promise, as `wattline govern` finds it (serving/governor.py)
    BatchSteering       the most running requests, moved so that tokens come just in time
    Parking             as many replicas awake as the load needs, around any other policy (parking.py)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ...core.errors import InputError
from ..governor import Controller, Promise, Seen
from .outcome import Limits
from .table import StepTable


@dataclass(frozen=True)
class Knobs:
    """What a policy sets for a pool; None leaves what the engine has: highest clock, all replicas.

    Attributes
    ----------
    prefill_clock, decode_clock : Hz of steps with prompts and without.
    max_batch : most running requests of a replica. replicas : how many take requests.
    delay : s until clocks and batch are in force, shorter than the interval between looks.
    """

    prefill_clock: float | None = None
    decode_clock: float | None = None
    max_batch: int | None = None
    replicas: int | None = None
    delay: float = 0.0


@dataclass(frozen=True)
class PoolView:
    """A pool as policies see it: its steps, size and promises; `context`, `prompt`: mean tokens of the trace;
    `start_time`: s."""

    pool: int
    table: StepTable
    replicas: int
    max_batch: int
    role: str
    limits: Limits
    context: float
    prompt: float
    start_time: float = 0.0


@dataclass(frozen=True)
class View:
    """A pool at a look, and what happened in the `interval` s before `time`.

    served : the same as a server's metrics say it, for a governor. awake : replicas that take requests; on : those that
    draw power, draining ones included. busy : seconds in steps, over all replicas.
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
    served: Seen


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


@dataclass
class Governor:
    """The lowest clock that keeps the promise, chosen by the `Controller` of `wattline govern`, once a second.

    floor : share of the highest clock below which it does not go; `wattline govern --floor`. switching : s from a look
    to the new clock in force: reading the metrics, the driver's call and the device itself, of which the last takes
    some milliseconds on A100 and up to some hundred on GH200 (Velicka et al., arXiv 2502.20075).
    """

    floor: float = 0.4
    patience: int = 2
    window: float = 3600.0
    switching: float = 0.1
    interval: float | None = 1.0
    name: str = "governor"
    _driven: dict[tuple[str, int], Controller] = field(default_factory=dict)

    def start(self, pool: PoolView) -> Knobs:
        """Begin at the highest clock, with what the pool promises: prompts their first token, decoding the others."""
        limits = pool.limits
        if limits.tpot is None and limits.ttft is None:
            raise InputError("a governor needs a promise to keep; state serve.tpot or serve.ttft")
        levels = [float(c) for c in pool.table.clocks]
        lowest = max(self.floor * levels[-1], levels[0])
        clocks = [lowest, *(c for c in levels if c > 1.02 * lowest)]
        promise = promise_of(limits, pool.role, pool.table.outside[0] + pool.table.outside[1] * pool.prompt)
        if promise is not None and len(clocks) > 1:
            self._driven[pool.role, pool.pool] = Controller(promise, clocks, patience=self.patience, window=self.window)
        return Knobs(clocks[-1], clocks[-1])

    def look(self, seen: View) -> Knobs | None:
        """Let the controller choose."""
        controller = self._driven.get((seen.pool.role, seen.pool.pool))
        if controller is None:
            return None
        told = controller.look(seen.served)
        return Knobs(told.clock, told.clock, delay=self.switching)


def promise_of(limits: Limits, role: str, outside: float = 0.0) -> Promise | None:
    """Return what a pool of a role is to keep; None where nothing of it is promised. `outside`: seconds of a first
    token's that pass outside of the engine's steps."""
    ttft = None if role == "decode" or limits.ttft is None else max(limits.ttft - outside, 1e-3)
    tpot = None if role == "prefill" else limits.tpot
    return None if ttft is None and tpot is None else Promise(ttft=ttft, tpot=tpot, percentile=limits.percentile)


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
