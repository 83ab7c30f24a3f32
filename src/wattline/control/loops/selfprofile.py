"""A profile from a job's own first iterations: one clock an iteration, time and joules of each of its computations.

    Recorder.start(key) ... Recorder.stop()    around every computation, with what an energy counter and a clock read
    Recorder.rows(stage)                       a profile's rows: stage, instruction, frequency, time, energy

A counter that ticks every few tens of milliseconds is read at both ends of computations of about as long: single
readings are off by a tick, their sum over an iteration's microbatches is not.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Final

from ...core.errors import InputError
from ..daemon.client import Held
from ..leases.actuator import ControlError

TRIES: Final = 3  # changes of clock that are timed


class Recorder:
    """Seconds and joules by clock and instruction, and what the device takes while it waits between them.

    joules : reads an energy counter of the device, J. clock : s. sync : waits until the device has done what it was
    given, such as ``torch.cuda.synchronize``.
    """

    def __init__(
        self,
        joules: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        sync: Callable[[], object] = lambda: None,
    ) -> None:
        self._joules, self._clock, self._sync = joules, clock, sync
        self.at = 0.0  # Hz in force
        self._sums: dict[tuple[float, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._open: tuple[str, float, float] | None = None
        self._left: tuple[float, float] | None = None
        self._waited = [0.0, 0.0]

    def fresh(self) -> Recorder:
        """Return one that has measured nothing yet."""
        return Recorder(self._joules, clock=self._clock, sync=self._sync)

    def start(self, instruction: str) -> None:
        """A computation begins."""
        self._sync()
        now = self._clock(), self._joules()
        if self._left is not None:
            self._waited[0] += now[0] - self._left[0]
            self._waited[1] += now[1] - self._left[1]
        self._open, self._left = (instruction, *now), None

    def stop(self) -> None:
        """It has ended."""
        if self._open is None:
            return
        self._sync()
        what, began, joules = self._open
        now = self._clock(), self._joules()
        sums = self._sums[self.at, what]
        for i, value in enumerate((now[0] - began, now[1] - joules, 1.0)):
            sums[i] += value
        self._open, self._left = None, now

    def turn(self) -> None:
        """An iteration ends: what comes before the next one is no waiting."""
        self.stop()
        self._left = None

    @property
    def waiting_power(self) -> float | None:
        """W while the device waited between computations; None where that was under a tenth of a second."""
        seconds, joules = self._waited
        return joules / seconds if seconds > 0.1 else None

    def rows(self, stage: int) -> list[dict[str, Any]]:
        """Return the profile's rows of this stage: MHz, mean seconds and joules of a computation."""
        return [
            {"stage": stage, "instruction": what, "frequency": hertz / 1e6, "time": s / n, "energy": e / n}
            for (hertz, what), (s, e, n) in sorted(self._sums.items())
        ]


def switch_latency(held: Held, *, clock: Callable[[], float] = time.monotonic) -> float:
    """Return how long a change of clock takes on a leased device, in seconds: the median of a few, each verified.

    The clock is left free. Where the device cannot be read back, what its lease says.
    """
    values = clocks(held, 2)
    taken = []
    try:
        for k in range(2 * TRIES):
            began = clock()
            held.set(clock=values[k % 2])
            taken.append(clock() - began)
        held.set(verify=False, clock=None)
    except ControlError:
        return held.latency
    return max(statistics.median(taken), held.latency if not taken else 0.0)


def clocks(held: Held, count: int) -> list[float]:
    """Return `count` clocks of a device, evenly spread over the upper two thirds of its range, the highest first."""
    range_ = held.ranges.get("clock")
    if range_ is None:
        raise ControlError("plan", f"{held.device} has no clock that can be set")
    choices = range_.choices or tuple(range_.low + (range_.high - range_.low) * k / 63 for k in range(64))
    upper = [c for c in choices if c >= range_.low + (range_.high - range_.low) / 3]
    return sorted({upper[round(k * (len(upper) - 1) / max(1, count - 1))] for k in range(count)}, reverse=True)


def phases(
    rows: Sequence[Mapping[str, Any]], repeats: Mapping[str, int], max_slowdown: float
) -> tuple[dict[str, float], float]:
    """Return the clock (Hz) of each phase that takes least energy, and the share of energy it saves.

    rows : a profile of one device, all phases at the same clocks. repeats : how often each runs in an iteration.
    Every combination is looked at; the iteration takes at most 1 + `max_slowdown` times that at the highest clock.
    """
    if not max_slowdown >= 0:
        raise InputError(f"max_slowdown must be at least 0, got {max_slowdown}")
    table: dict[str, dict[float, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        n = repeats[row["instruction"]]
        table[row["instruction"]][row["frequency"] * 1e6] = n * row["time"], n * row["energy"]
    names = list(table)
    top = {name: max(table[name]) for name in names}
    whole = [sum(table[n][top[n]][i] for n in names) for i in (0, 1)]
    limit = (1.0 + max_slowdown) * whole[0] * (1 + 1e-9)
    best, least = dict(top), whole[1]
    for some in product(*(table[n] for n in names)):
        seconds, joules = (sum(table[n][c][i] for n, c in zip(names, some, strict=True)) for i in (0, 1))
        if seconds <= limit and joules < least:
            best, least = dict(zip(names, some, strict=True)), joules
    return best, 1.0 - least / whole[1] if whole[1] > 0 else 0.0
