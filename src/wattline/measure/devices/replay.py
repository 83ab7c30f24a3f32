"""A device played from a function or a recording, with a counter that steps as real ones do.

It ships with the package so that every example, test and plan runs without hardware. The truth is known:
`energy(a, b)` integrates the same power that the counter and the power sensor show through their windows.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ...core.errors import InputError
from ..meter import Clock, Meter, MeterError, State
from ..result import Method, Scope

# Piece of the table that integrates a function of power, s.
_GRID: Final = 1e-3


class VirtualClock:
    """A clock that only moves when told to: ``clock.advance(0.1)``; calling it reads it."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds` >= 0."""
        if not seconds >= 0:
            raise InputError(f"a clock only moves forward, got {seconds} s")
        self.now += seconds


class Recording:
    """Power as a function of time: straight lines between (s, W) samples, repeated from the end.

    >>> Recording([0.0, 2.0], [100.0, 300.0]).energy(0.0, 2.0)
    400.0
    """

    def __init__(self, seconds: Sequence[float], watts: Sequence[float]) -> None:
        if len(seconds) != len(watts) or len(seconds) < 2:
            raise InputError(f"a recording needs two or more (s, W) samples, got {len(seconds)} and {len(watts)}")
        if any(not b > a for a, b in itertools.pairwise(seconds)):
            raise InputError("the times of a recording must increase")
        if any(not (math.isfinite(w) and w >= 0) for w in watts):
            raise InputError("the watts of a recording must be finite and >= 0")
        self.seconds = [float(s) - float(seconds[0]) for s in seconds]
        self.watts = [float(w) for w in watts]
        self._sum = [0.0]
        for i in range(1, len(self.seconds)):
            step = self.seconds[i] - self.seconds[i - 1]
            self._sum.append(self._sum[-1] + step * (self.watts[i] + self.watts[i - 1]) / 2)

    @classmethod
    def constant(cls, watts: float) -> Recording:
        """The same power for ever."""
        return cls([0.0, 1.0], [watts, watts])

    @classmethod
    def of(cls, power: Callable[[float], float], seconds: float, grid: float = _GRID) -> Recording:
        """A function of time in s giving W, sampled every `grid` s over `seconds`."""
        steps = max(1, round(seconds / grid))
        times = [seconds * i / steps for i in range(steps + 1)]
        return cls(times, [power(t) for t in times])

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        """A CSV with two columns, seconds and watts; a header line is skipped."""
        rows = []
        for line in Path(path).read_text().splitlines():
            cells = line.split(",")
            try:
                rows.append((float(cells[0]), float(cells[1])))
            except (ValueError, IndexError):
                if rows:
                    raise InputError(f"{path}: expected 'seconds,watts', got {line!r}") from None
        return cls([r[0] for r in rows], [r[1] for r in rows])

    def power(self, t: float) -> float:
        """W at an instant."""
        t %= self.seconds[-1]
        i = min(bisect.bisect_right(self.seconds, t), len(self.seconds) - 1)
        share = (t - self.seconds[i - 1]) / (self.seconds[i] - self.seconds[i - 1])
        return self.watts[i - 1] + share * (self.watts[i] - self.watts[i - 1])

    def energy(self, start: float, stop: float) -> float:
        """J between two instants, exact."""
        return self._until(stop) - self._until(start)

    def _until(self, t: float) -> float:
        rounds, t = divmod(t, self.seconds[-1])
        i = min(bisect.bisect_right(self.seconds, t), len(self.seconds) - 1)
        step = t - self.seconds[i - 1]
        slope = (self.watts[i] - self.watts[i - 1]) / (self.seconds[i] - self.seconds[i - 1])
        return rounds * self._sum[-1] + self._sum[i - 1] + step * (self.watts[i - 1] + slope * step / 2)


class ReplayMeter(Meter):
    """A meter that shows a recording through a counter or a power sensor.

    recording : the true power; `energy(a, b)` gives the true J between two instants of `clock`.
    update : s between updates of what is shown; phase : s by which its updates are shifted;
        jitter : share of `update` by which each gap between two updates differs, drawn with `seed`.
    lag : s by which what is shown is late; duty : share of each update's time that is looked at, at its end.
    method : "counter" shows J with a resolution of `quantum`, smoothed over `averaging` s; "power-integral" shows
        the mean W over the last `averaging` s (the instant if 0).
    reset_at : an instant at which the counter goes back to 0; lost_at : one from which reading fails.
    """

    kind = "replay"

    def __init__(
        self,
        recording: Recording | float,
        uuid: str = "replay-0",
        scope: Scope = "gpu",
        name: str = "Replayed device",
        *,
        clock: Clock = time.perf_counter,
        update: float = 0.02,
        phase: float = 0.0,
        jitter: float = 0.0,
        lag: float = 0.0,
        duty: float = 1.0,
        seed: int = 0,
        method: Method = "counter",
        quantum: float = 1e-3,
        host: str | None = None,
        limit: float | None = None,
        wrap: float | None = None,
        averaging: float = 0.0,
        observed: float = 1.0,
        within: Sequence[str] = (),
        period: float | None = None,
        reset_at: float | None = None,
        lost_at: float | None = None,
        state: State | None = None,
    ) -> None:
        super().__init__(
            uuid,
            scope,
            name,
            host=host,
            period=period,
            limit=limit,
            wrap=wrap,
            averaging=averaging,
            observed=observed,
            within=within,
        )
        self.method = method
        self.recording = recording if isinstance(recording, Recording) else Recording.constant(recording)
        self.update, self.phase, self.quantum = update, phase, quantum
        self.lag, self.duty, self.smooth = lag, duty, averaging
        self._updates = _Updates(update, phase, jitter, seed)
        self.reset_at, self.lost_at = reset_at, lost_at
        self._clock, self._start = clock, clock()
        self._state = state or State()

    def energy(self, start: float, stop: float) -> float:
        """True J between two instants of the clock."""
        return self.recording.energy(start - self._start, stop - self._start)

    def read(self) -> float:
        now = self._clock()
        if self.lost_at is not None and now >= self.lost_at:
            raise MeterError("the device is lost", lost=True)
        number, update = self._updates.at(now - self._start)
        tick = update - self.lag
        if self.method != "counter":
            span = self.smooth or (self.duty * self.update if self.duty < 1.0 else 1e-4)
            return self._rounded(max(0.0, self.recording.energy(tick - span, tick) / span))
        since = 0.0
        if self.reset_at is not None and tick >= self.reset_at - self._start:
            since = self.reset_at - self._start
        # The counter of a real device did not begin with this process.
        joules = 1000.0 * (since == 0.0) + self._counted(number, tick) - self._until(since)
        if self.wrap:
            joules %= self.wrap
        return self._rounded(joules)

    def _counted(self, number: int, tick: float) -> float:
        """J shown at an update: all of them, the mean of a span, or what was looked at stretched to the whole."""
        if self.duty < 1.0:
            return self._updates.looked(number, self.recording, self.lag, self.duty)
        if not self.smooth:
            return self._until(tick)
        steps = 32
        return math.fsum(self._until(tick - self.smooth * (k + 0.5) / steps) for k in range(steps)) / steps

    def _until(self, t: float) -> float:
        return self.recording.energy(0.0, t)

    def _rounded(self, value: float) -> float:
        return math.floor(value / self.quantum) * self.quantum

    def state(self) -> State:
        return self._state


class _Updates:
    """The instants at which a sensor updates, s; with jitter they are drawn one after the other."""

    def __init__(self, period: float, phase: float, jitter: float, seed: int) -> None:
        self._period, self._phase, self._jitter = period, phase, jitter
        self._random = random.Random(seed)
        self._times = [phase - period, phase]
        self._sums = [0.0, 0.0]

    def at(self, t: float) -> tuple[int, float]:
        """The number of the last update not after `t`, and its instant."""
        if not self._jitter:
            number = math.floor((t - self._phase) / self._period)
            return number, number * self._period + self._phase
        while self._times[-1] <= t:
            self._times.append(self._times[-1] + self._period * (1 + self._jitter * self._random.uniform(-1.0, 1.0)))
        number = bisect.bisect_right(self._times, t) - 1
        return number, self._times[number]

    def looked(self, number: int, recording: Recording, lag: float, duty: float) -> float:
        """J up to an update by a counter that looks only at the last `duty` of the time between two updates."""
        while len(self._sums) <= number + 1:
            k = len(self._sums) - 1
            stop = self._instant(k)
            gap = stop - self._instant(k - 1)
            self._sums.append(self._sums[-1] + recording.energy(stop - lag - duty * gap, stop - lag) / duty)
        return self._sums[max(number, 0) + 1]

    def _instant(self, number: int) -> float:
        if self._jitter:
            return self._times[number]
        return number * self._period + self._phase
