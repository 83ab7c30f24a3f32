"""Learning how a sensor behaves from a load that is known: pulses of random length, and what the sensor shows of them.

    load       __|~~~~|__|~|______|~~|___      C(t): s that it was on until t
    counter    (shown now - shown before) / gap = idle + swing * share of [t - lag - look, t - lag] that it was on
    power       shown                           = idle + swing * the same

The lag and the span looked at are those whose straight line through (share, shown) leaves least; every pair that
leaves hardly more is what has to be reckoned with. The period and its jitter come from the sensor's own gaps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from .meter import Clock, Meter, MeterError
from .sensor import JITTER, Sensor
from .track import FEWEST_GAPS, MARGIN

Array = NDArray[np.float64]

SECONDS: Final = 60.0
STEP: Final = 0.001
# Pulses last between these, s, as often short as long on a scale of ratios.
SHORTEST, LONGEST = 0.03, 1.5
# The lags and the means that are looked for, s: means of 1 s are common, and a lag above half a second is none of ours.
MOST_LAG: Final = 0.5
MEANS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0)
DUTIES: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# A fit that leaves this much more than the best is as good: three more constants on some 200 updates, at 99 %.
AS_GOOD: Final = 1.08
SURE: Final = 0.5
# Within a period shorter than this many steps of reading nothing can be told.
FINEST: Final = 10
# More updates than this tell no more, and take long.
ENOUGH: Final = 1500
# A load that explains less than this share of what a sensor shows has taught nothing of its lag.
EXPLAINED: Final = 0.7


class Load(Protocol):
    """Something that draws power when told to."""

    name: str

    def on(self) -> None: ...
    def off(self) -> None: ...
    def close(self) -> None: ...


class Seen(msgspec.Struct, kw_only=True):
    """What one meter showed: for each update, the reading before it, the first after it (s), and the value (J or W)."""

    before: list[float] = msgspec.field(default_factory=list)
    after: list[float] = msgspec.field(default_factory=list)
    value: list[float] = msgspec.field(default_factory=list)
    error: str = ""


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe found: the sensor, the share of its showing that the load explains, and W of idle and swing."""

    sensor: Sensor
    explained: float = 0.0
    idle: float = 0.0
    swing: float = 0.0
    notes: tuple[str, ...] = ()


def pulses(seconds: float, seed: int = 0) -> list[tuple[float, float]]:
    """(on, off) instants from 0 on, s, drawn with a seed."""
    rng, now, found = random.Random(seed), 0.0, list[tuple[float, float]]()
    while now < seconds:
        off, on = (SHORTEST * (LONGEST / SHORTEST) ** rng.random() for _ in range(2))
        found.append((now + off, min(seconds, now + off + on)))
        now += off + on
    return [(a, b) for a, b in found if b > a]


def watch(
    meters: Sequence[Meter],
    load: Load | None,
    *,
    seconds: float = SECONDS,
    seed: int = 0,
    clock: Clock,
    sleep: Callable[[float], None],
) -> tuple[list[Seen], list[tuple[float, float]]]:
    """Read every meter each millisecond while the load pulses; returns what they showed and when the load was on."""
    begun = clock()
    plan = [(begun + at, what) for a, b in pulses(seconds, seed) for at, what in ((a, True), (b, False))]
    seen = [Seen() for _ in meters]
    raw: list[float | None] = [None] * len(meters)
    same = [begun] * len(meters)
    done: list[tuple[float, float]] = []
    turned = begun
    while (now := clock()) < begun + seconds:
        while load is not None and plan and plan[0][0] <= now:
            _, on = plan.pop(0)
            (load.on if on else load.off)()
            after = clock()
            if on:
                turned = after
            else:
                done.append((turned, after))
        for k, meter in enumerate(meters):
            before = clock()
            try:
                value = meter.read()
            except MeterError as error:
                seen[k].error = error.reason
                continue
            if value != raw[k]:
                if raw[k] is not None:
                    seen[k].before.append(same[k])
                    seen[k].after.append(clock())
                    seen[k].value.append(value)
                raw[k] = value
            same[k] = before
        sleep(STEP)
    if load is not None:
        load.off()
    return seen, done


def learn(seen: Seen, pulsed: Sequence[tuple[float, float]], *, counter: bool, start: Sensor, source: str) -> Learnt:
    """The sensor from what it showed; what cannot be told stays as in `start`, and the notes say so."""
    if len(seen.after) < 2 * FEWEST_GAPS:
        why = seen.error or f"it updated {len(seen.after)} times, too seldom to learn from"
        return Learnt(sensor=start, notes=(why,))
    period, jitter = _gaps(seen)
    found = msgspec.structs.replace(_plain(start), period=period, jitter=jitter, source=source)
    if not pulsed:
        return Learnt(sensor=found, notes=("no load was known: the lag and the span looked at are not learnt",))
    fit = _Fit(seen, pulsed, counter, period)
    best, good = fit.search()
    if best.explained < EXPLAINED:
        note = f"the load explains {best.explained:.0%} of what it shows: its lag and the span looked at are not learnt"
        return Learnt(sensor=found, explained=best.explained, idle=best.idle, swing=best.swing, notes=(note,))
    lags = [lag for lag, _, _ in good]
    if not counter:
        # An update shows the mean of a span; if that is shorter than the period, the rest is not looked at.
        looked = [min(1.0, span / period) for _, span, _ in good]
        duty = (1.0, 1.0) if best.span >= 0.9 * period else (min(looked), max(looked))
    else:
        duties = [duty for _, _, duty in good]
        # A part-time counter leaves far less than a full-time one would; where it does not, it may be either.
        sure = best.left < SURE * fit.line(best.lag, 0.0, 1.0).left
        duty = (min(duties), max(duties) if sure else 1.0)
    averaging = best.span
    if period < FINEST * STEP:
        duty, averaging = start.duty, averaging if averaging > period else 0.0
    return Learnt(
        sensor=msgspec.structs.replace(found, lag=(min(lags), max(lags)), duty=duty, averaging=averaging),
        explained=best.explained,
        idle=best.idle,
        swing=best.swing,
    )


def _plain(sensor: Sensor) -> Sensor:
    """A row of the file as a plain sensor."""
    return Sensor(**{name: getattr(sensor, name) for name in Sensor.__struct_fields__})


def _gaps(seen: Seen) -> tuple[float, float]:
    """(period, jitter): updates that show the same value twice make a double gap, which is left out."""
    lo, hi = np.array(seen.before), np.array(seen.after)
    gaps, width = np.diff((lo + hi) / 2), (hi - lo)[1:] / 2 + (hi - lo)[:-1] / 2
    single = gaps <= 1.6 * np.percentile(gaps, 10)
    period = float(np.median(gaps[single]))
    off = float(np.max(np.abs(gaps[single] - period) - width[single], initial=0.0))
    return period, float(np.clip(MARGIN * off / period, JITTER, 0.9))


class _Best(msgspec.Struct, frozen=True):
    left: float
    lag: float
    span: float
    duty: float
    idle: float
    swing: float
    explained: float


class _Fit:
    """Straight lines of what was shown on the share of time that the load was on, over lags and spans."""

    def __init__(self, seen: Seen, pulsed: Sequence[tuple[float, float]], counter: bool, period: float) -> None:
        self.counter, self.period = counter, period
        self.at = (np.array(seen.before) + np.array(seen.after)) / 2
        value = np.array(seen.value)
        if counter:
            self.gap = np.diff(self.at)
            self.shown = np.diff(value) / self.gap
            self.at = self.at[1:]
            # A read that was held up long tells little; a counter's step over many periods tells nothing.
            keep = (self.gap < 1.6 * np.median(self.gap)) & (self.shown >= 0)
            self.at, self.gap, self.shown = self.at[keep], self.gap[keep], self.shown[keep]
        else:
            self.gap, self.shown = np.full(len(value), period), value
        thin = slice(None, None, max(1, len(self.at) // ENOUGH))
        self.at, self.gap, self.shown = self.at[thin], self.gap[thin], self.shown[thin]
        edges = np.array(pulsed).ravel()
        self._edges = edges
        self._on = np.concatenate(([0.0], np.cumsum(np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0))))

        self._grid = np.arange(edges[0] - STEP, edges[-1] + STEP, STEP / 2)
        held = self.on(self._grid)
        self._areas = np.concatenate(([0.0], np.cumsum((held[1:] + held[:-1]) / 2 * np.diff(self._grid))))

    def on(self, t: Array) -> Array:
        """Seconds that the load was on until each instant."""
        return np.asarray(np.interp(t, self._edges, self._on))

    def share(self, lag: float, span: float, duty: float) -> Array:
        """The share of time that the load was on, as an update at each instant would show it."""
        t = self.at - lag
        if not self.counter:
            looked: Array | float = max(span, 1e-4)
        else:
            looked = duty * self.gap
        if not self.counter or duty < 1.0 or span == 0.0:
            return np.asarray((self.on(t) - self.on(t - looked)) / looked)
        mean = (self._area(t) - self._area(t - span)) / span
        before = (self._area(t - self.gap) - self._area(t - self.gap - span)) / span
        return np.asarray((mean - before) / self.gap)

    def _area(self, t: Array) -> Array:
        """The integral of `on` until each instant, s^2."""
        late = np.maximum(t - self._grid[-1], 0.0)
        return np.asarray(np.interp(t, self._grid, self._areas) + late * self._on[-1])

    def line(self, lag: float, span: float, duty: float) -> _Best:
        """The straight line at one lag and span, and what it leaves."""
        x, y = self.share(lag, span, duty), self.shown
        dx, dy = x - x.mean(), y - y.mean()
        xx, xy, yy = float(dx @ dx), float(dx @ dy), float(dy @ dy)
        swing = xy / xx if xx > 0 else 0.0
        left = max(yy - swing * xy, 0.0)
        explained = 1.0 - left / yy if yy > 0 and swing > 0 else 0.0
        return _Best(left, lag, span, duty, float(y.mean() - swing * x.mean()), swing, explained)

    def search(self) -> tuple[_Best, list[tuple[float, float, float]]]:
        """The best line, and every (lag, span, duty) that is as good."""
        shapes = [(span, 1.0) for span in MEANS]
        if self.period < FINEST * STEP:
            shapes = shapes[:1] if self.counter else shapes
        elif self.counter:
            shapes += [(0.0, duty) for duty in DUTIES]
        else:
            shapes += [(duty * self.period, 1.0) for duty in (*DUTIES, 1.0)]
        tried = [self.line(lag, *shape) for shape in shapes for lag in np.arange(0.0, MOST_LAG, 0.01)]
        best = min(tried, key=lambda b: b.left)
        fine: list[_Best] = []
        for _ in range(2):
            around = [self._around(best, scale) for scale in (1.0, 0.3, 0.1)]
            fine += [line for lines in around for line in lines]
            best = min([best, *fine], key=lambda b: b.left)
        floor = max(best.left, 1e-4 * float(np.var(self.shown)) * len(self.shown))
        good = [b for b in [*tried, *fine, best] if b.left <= AS_GOOD * floor]
        # An update lies anywhere between two readings, so no lag is known better than that.
        blur = STEP
        return best, [(max(0.0, b.lag + off), b.span, b.duty) for b in good for off in (-blur, blur)]

    def _around(self, best: _Best, scale: float) -> list[_Best]:
        lags = best.lag + scale * np.linspace(-0.01, 0.01, 11)
        if self.counter and best.duty < 1.0:
            shapes = [(0.0, d) for d in np.clip(best.duty + scale * np.linspace(-0.1, 0.1, 9), 0.02, 1.0)]
        else:
            shapes = [(s, 1.0) for s in np.maximum(best.span * (1 + scale * np.linspace(-0.3, 0.3, 9)), 0.0)]
        return [self.line(max(0.0, float(lag)), float(s), float(d)) for lag in lags for s, d in shapes]
