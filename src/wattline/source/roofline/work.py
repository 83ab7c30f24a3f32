"""Work as seconds and joules per resource, before a clock is chosen.

A shape model turns operators into `Work`: how long each resource alone would be busy at the
reference clock, and the energy each would switch. What depends on the clock is decided here and
only here: compute and on-chip traffic slow down with it, main memory and links do not.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from .silicon import Silicon

# Bisection steps of the throttle: the clock range halves each time, so 14 leave under 0.2 MHz.
_STEPS = 14


@dataclass(frozen=True)
class Work:
    """Operators of one precision, as arrays that broadcast to (operators, pieces of work).

    Evaluating one operator slot of many configurations the arrays are (n,); evaluating many
    operators of one piece they are (operators, 1).

    core, l2, ramp : seconds at the reference clock in the arithmetic, on the chip's last cache
        level, and in filling and draining the machine; they scale with 1/clock.
    dram, link, fixed : seconds whatever the clock.
    e_core, e_l2 : joules switched at the reference voltage. e_dram, e_link, e_far : joules (e_far: in the fabric).
    lit : share of the compute units at work; clock distribution, and leakage beyond that of the
        waiting chip, are paid for those alone.
    slow, warm : factors on time and on switched energy, from the learned residual.
    repeat : how many times over.
    net, hints : which learned correction applies, and the logarithms of the shape it reads.
    stored : format of the weights, or of attention's cache.
    outside : whether each shape lies outside the range that correction was fitted on.
    """

    precision: str
    core: Array
    l2: Array
    dram: Array
    ramp: Array
    fixed: Array
    e_core: Array
    e_l2: Array
    e_dram: Array
    link: Array
    e_link: Array
    e_far: Array
    lit: Array
    slow: Array
    warm: Array
    repeat: Array
    link_name: str = "nvlink"
    net: str = ""
    stored: str = ""
    hints: tuple[Array, ...] = ()
    outside: NDArray[np.bool_] | bool = False

    def column(self, values: Array | NDArray[np.bool_] | float) -> Array:
        """Return values of one piece of work as (..., operators, 1), before which chips may be stacked."""
        count = max(np.shape(a)[-2] if np.ndim(a) > 1 else 1 for a in (self.core, self.dram, self.link, self.fixed))
        array = np.asarray(values, dtype=np.float64)
        return np.broadcast_to(array, np.broadcast_shapes(array.shape, (count, 1)))


_WORDS = ("precision", "link_name", "net", "stored", "hints", "outside")
_TIMES = ("core", "l2", "dram", "link", "ramp", "fixed")
_ARRAYS = [f.name for f in fields(Work) if f.name not in _WORDS]


_ONES = ("lit", "slow", "warm", "repeat")


def work(
    precision: str, *, link_name: str = "nvlink", net: str = "", stored: str = "", hints: tuple[Array, ...] = (),
    **arrays: Array | float,
) -> Work:  # fmt: skip
    """Build a `Work`, zero where an array is not given (one for lit, slow, warm and repeat)."""
    zero, one = np.zeros(()), np.ones(())
    given = {k: np.asarray(v, dtype=np.float64) for k, v in arrays.items()}
    full: dict[str, Any] = {n: given.get(n, one if n in _ONES else zero) for n in _ARRAYS}
    return Work(precision=precision, link_name=link_name, net=net, stored=stored, hints=hints, **full)


def joined(arrays: Sequence[NDArray[Any]], axis: int) -> NDArray[Any]:
    """Concatenate along a last axis, counted from the end; axes before it are broadcast."""
    lead = np.broadcast_shapes(*[a.shape[: a.ndim + axis] for a in arrays])
    return np.concatenate([np.broadcast_to(a, lead + a.shape[a.ndim + axis :]) for a in arrays], axis=axis)


@dataclass(frozen=True)
class Stack:
    """Works stacked for evaluation: times as (operators, n) arrays, energies summed by component."""

    core: Array
    l2: Array
    dram: Array
    link: Array
    ramp: Array
    fixed: Array
    lit: Array
    switched: Mapping[str, Array]  # (n,) J at the reference voltage, scale with V^2
    steady: Mapping[str, Array]  # (n,) J whatever the voltage

    @classmethod
    def of(cls, works: Sequence[Work], n: int = 1) -> Stack:
        """Stack `works` for `n` pieces of work (more where their arrays say so)."""
        grids = [np.broadcast_shapes((1, n), *[getattr(w, x).shape for x in _ARRAYS]) for w in works]
        n = max(g[1] for g in grids)
        total = sum(g[0] for g in grids)
        times = {x: np.empty((total, n)) for x in _TIMES}
        lit = np.empty((total, n))
        switched: dict[str, Array] = {}
        steady: dict[str, Array] = {}
        row = 0
        for w, (count, _) in zip(works, grids, strict=True):
            here = slice(row, row + count)
            row += count
            slow = w.repeat * w.slow
            for x in _TIMES:
                times[x][here] = getattr(w, x) * slow
            lit[here] = w.lit
            warm = w.repeat * w.warm
            shape = (count, n)
            _add(switched, f"compute.{w.precision}", warm * w.e_core, shape)
            _add(switched, "memory.l2", warm * w.e_l2, shape)
            _add(steady, "memory.hbm", warm * w.e_dram, shape)
            if np.any(w.e_link):
                _add(steady, f"link.{w.link_name}", warm * w.e_link, shape)
            if np.any(w.e_far):
                _add(steady, "link.fabric", warm * w.e_far, shape)
        return cls(**times, lit=lit, switched=switched, steady=steady)

    def time(self, clock: Array, chip: Silicon) -> tuple[Array, Array]:
        """Return (n,) seconds of each piece at its `clock`, and those with its units lit."""
        p = chip.shape["overlap.exponent"]
        s = chip.clock_ref / clock
        busy = soft_max(p, self.core * s, self.l2 * s, self.dram, self.link)
        busy += self.ramp * s
        return (busy + self.fixed).sum(axis=0), (busy * self.lit).sum(axis=0)

    def at(self, pick: NDArray[np.bool_]) -> Stack:
        """Return the pieces chosen by the mask `pick`."""
        times = {x: getattr(self, x)[:, pick] for x in (*_TIMES, "lit")}
        switched = {k: v[pick] for k, v in self.switched.items()}
        return Stack(**times, switched=switched, steady={k: v[pick] for k, v in self.steady.items()})


@dataclass(frozen=True)
class Cost:
    """What n pieces of work cost: seconds, joules by component, and the clock they really ran at."""

    time: Array
    parts: Mapping[str, Array]
    clock: Array

    @property
    def energy(self) -> Array:
        """(n,) joules, waiting included."""
        return np.asarray(np.sum([*self.parts.values()], axis=0))

    @property
    def power(self) -> Array:
        """(n,) average watts."""
        return self.energy / self.time


def soft_max(p: float, *seconds: Array) -> Array:
    """Return (sum t^p)^(1/p): the longest of several overlapped times, a little more where two tie."""
    top = functools.reduce(np.maximum, seconds)
    safe = np.where(top > 0, top, 1.0)
    total = sum((t / safe) ** p for t in seconds)
    return np.asarray(np.where(top > 0, safe * total ** (1.0 / p), 0.0))


def cost(
    works: Sequence[Work], chip: Silicon, clock: Array | float | None = None, limit: Array | float | None = None
) -> Cost:
    """Return time and energy of pieces of work, each the same operators with other shapes.

    `works`: arrays (n,) over the pieces, or (operators, n). `clock` (Hz) and `limit` (W):
    scalars or (n,); the chip's highest clock and its power limit where None. The average power of a
    piece decides whether it throttles: a chip regulates over tens of milliseconds, longer than most
    kernels. It then runs at the highest clock that fits, or at its lowest.
    """
    asked = np.atleast_1d(np.asarray(chip.clock_max if clock is None else clock, dtype=np.float64))
    most = np.atleast_1d(np.asarray(chip.limit if limit is None else limit, dtype=np.float64))
    stack = Stack.of(works, max(asked.size, most.size))
    n = stack.core.shape[1]
    asked = np.clip(np.broadcast_to(asked, n), chip.clock_min, chip.clock_max)
    run = _throttle(stack, chip, asked, np.broadcast_to(most, n))
    time, parts = _bill(stack, chip, run)
    return Cost(time, parts, run)


def _add(table: dict[str, Array], name: str, joules: Array, shape: tuple[int, int]) -> None:
    total = np.broadcast_to(joules, shape).sum(axis=0)
    table[name] = table[name] + total if name in table else total


def _watts(stack: Stack, chip: Silicon, clock: Array) -> Array:
    leakage, tree = chip.standing(clock)
    switched = sum(stack.switched.values()) * chip.swing(clock)
    moved = switched + sum(stack.steady.values())
    time, lit = stack.time(clock, chip)
    return np.asarray(chip.waiting + (moved + (leakage + tree) * lit) / np.where(time > 0, time, 1.0))


def _throttle(stack: Stack, chip: Silicon, asked: Array, limit: Array) -> Array:
    """Return the highest clock up to `asked` at which average power stays within `limit`."""
    hot = _watts(stack, chip, asked) > limit
    if not hot.any():
        return asked
    part, most = stack.at(hot), limit[hot]
    low, high = np.full(most.shape, chip.clock_min), asked[hot]
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        over = _watts(part, chip, middle) > most
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    run = asked.copy()
    run[hot] = low
    return run


def _bill(stack: Stack, chip: Silicon, clock: Array) -> tuple[Array, dict[str, Array]]:
    time, lit = stack.time(clock, chip)
    square = chip.swing(clock)
    leakage, tree = chip.standing(clock)
    parts = {name: joules * square for name, joules in stack.switched.items()}
    parts |= dict(stack.steady)
    parts |= {"leakage": leakage * lit, "clock_tree": tree * lit, "waiting": chip.waiting * time}
    return time, parts
