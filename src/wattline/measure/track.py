"""From readings to an energy curve: every counter steps, and between its steps only bounds are known.

    J |                    C2 .----        a tick is the step itself: its height is exact, its instant is
      |            C1 .-------'            known to lie in (lo, hi], between the last reading of the old
      |    C0 .-------'  ^ edge            value and the first of the new
      |  -----'

A power sensor makes ticks too: each reading adds a trapezoid, with its own doubt in `up` and `down`. What a sensor
keeps from us is in its `Sensor`; what the curve says of an instant is worked out in `curve`, and of now in `live`.
"""

from __future__ import annotations

import itertools
import math
import statistics
import threading
from collections import deque
from typing import Final, NamedTuple

from .meter import NOTHING, Meter, State
from .sensor import JITTER

# A step larger than this many times what the limit allows is not energy, it is a fault.
IMPLAUSIBLE: Final = 3.0
# Where a device states no limit, it is taken to draw at most this many times the most seen so far.
HEADROOM: Final = 1.5
# A counter that does not move for this many periods, and this many seconds at least, is stuck.
STUCK_PERIODS: Final = 20
STUCK_SECONDS: Final = 1.0
# The longest period to reckon with before it is known, s (100 ms is the slowest counter known to us).
UNKNOWN_PERIOD: Final = 0.1
# Gaps that a jitter is learnt from, and by how much more than their spread it is taken to be: the most of eight
# even draws falls short of the true most by 1/9 on average, and by a quarter one time in ten.
FEWEST_GAPS: Final = 8
MARGIN: Final = 1.3
# Power before the first reading is taken to be that of so many s after it.
LATE_SECONDS: Final = 0.5
# What the past is kept for: power over the last seconds, in so many pieces at most, s.
PAST_SECONDS: Final = 6.0
PAST_STEP: Final = 0.05


class Tick(NamedTuple):
    """A point of the energy curve: `joules` since the track began, reached in (lo, hi] seconds.

    up, down : J that the truth may lie above or below, added up so far (gaps, unobserved time).
    random : J^2, the variance added up so far from errors that do not add in line.
    """

    lo: float
    hi: float
    joules: float
    up: float = 0.0
    down: float = 0.0
    random: float = 0.0

    @property
    def middle(self) -> float:
        """The instant in the middle of what is known of it, s."""
        return (self.lo + self.hi) / 2


class Edge:
    """One end of a window on one track: its instant and the ticks around it, the last one past `until`."""

    __slots__ = ("done", "epoch", "late", "ticks", "time", "until")

    def __init__(self, time: float) -> None:
        self.time = time
        self.until = time
        self.ticks: list[Tick] = []
        self.done = False
        self.late = False
        self.epoch = -1


class Event(NamedTuple):
    """Something that happened to a sensor: a flag, when, and a sentence."""

    time: float
    flag: str
    text: str


class Track:
    """The energy curve of one meter, built reading by reading; readings may come from several threads.

    Readings and edges go into `inbox`, which costs next to nothing at the ends of a window, and are worked
    into the curve by `drain`, in the sampler's thread or when an answer is asked for.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.sensor = meter.sensor
        self.period = meter.period
        self.jitter = self.sensor.jitter
        self.peak = 0.0
        self.watts: float | None = None
        self.step = 0.0  # s between readings, lately
        self.lost = ""
        self.retry = 0.0  # a lost device is not read before this
        self.error = ""
        self.fix = ""
        self.state: State = NOTHING
        self.throttled: dict[str, float] = {}
        self.events: deque[Event] = deque(maxlen=256)
        self.last: Tick | None = None
        self.past: deque[Tick] = deque()
        self.changed = 0
        self.epoch = 0
        self.inbox: deque[tuple[float, float, float] | Edge] = deque()
        self._recent: deque[Tick] = deque(maxlen=64)
        self._pending: list[Edge] = []
        self._lock = threading.Lock()
        self._raw: float | None = None
        self._same = 0.0  # when the present raw value was last read
        self.seen = 0.0  # when anything was last read
        self._until = 0.0  # no reading that began before this may be added
        self._failed = False

    # ---- readings in ----

    def add(self, before: float, after: float, value: float) -> None:
        """Take a reading made between two instants of the clock."""
        self.inbox.append((before, after, value))

    def edge(self, time: float) -> Edge:
        """Mark an end of a window at this instant, after a reading was added."""
        edge = Edge(time)
        self.inbox.append(edge)
        return edge

    def drain(self) -> None:
        """Work what came in into the curve."""
        inbox = self.inbox
        if not inbox:
            return
        with self._lock:
            while inbox:
                item = inbox.popleft()
                if isinstance(item, Edge):
                    self._mark(item)
                else:
                    self._take(*item)

    def _mark(self, edge: Edge) -> None:
        """Begin to follow an edge: from the last tick that is known to lie before it."""
        edge.epoch = self.epoch
        edge.until = edge.time + self.lags()[1]
        if self._recent:
            begun = [i for i, tick in enumerate(self._recent) if tick.hi <= edge.time]
            edge.ticks = list(itertools.islice(self._recent, begun[-1] if begun else 0, None))
            if self.known(edge.ticks[0]).lo > edge.time:
                # Nothing was read before this edge: what it draws is reckoned from what comes after.
                edge.late = True
                edge.until = edge.ticks[0].hi + LATE_SECONDS
            edge.done = edge.ticks[-1].middle > edge.until
        if not edge.done:
            self._pending.append(edge)

    def _take(self, before: float, after: float, value: float) -> None:
        """One reading; one that overlaps a reading of another thread is left out, as their order is not known."""
        if before < self._until:
            return
        self._until = self.seen = after
        self.error = self.fix = self.lost = ""
        if self.meter.method == "counter":
            self._count(before, after, value)
        else:
            self._integrate(before, after, value)
        self._failed = False

    def fail(self, now: float, reason: str, *, lost: bool = False, fix: str = "") -> None:
        """Note a reading that failed; the curve goes on at the next that works."""
        self.drain()
        with self._lock:
            if self.error != reason:
                self.events.append(Event(now, "lost" if lost else "gap", reason))
            self.error, self.fix = reason, fix
            self._failed = True
            if lost:
                self.lost = reason

    def rest(self) -> None:
        """Forget the past after a pause in which nothing was open, so that it is not taken for a gap."""
        self.drain()
        with self._lock:
            self._raw, self.last, self.watts = None, None, None
            self._pending.clear()
            self._recent.clear()
            self.past.clear()
            self.epoch += 1

    def settled(self, edge: Edge) -> bool:
        """Whether nothing more can be learnt about this edge."""
        self.drain()
        return edge.done or bool(self.lost) or edge.epoch != self.epoch

    @property
    def waiting(self) -> bool:
        """Whether an edge waits for the next tick."""
        self.drain()
        return bool(self._pending)

    @property
    def raw(self) -> float | None:
        """What was last read."""
        return self._raw

    def most(self) -> float:
        """The most power to reckon with, W."""
        return self.meter.limit if self.meter.limit else HEADROOM * self.peak

    def lags(self) -> tuple[float, float]:
        """The least and the most s by which the curve runs behind the truth.

        A mean over a span shows the middle of it, and what is held until the next update is half a period old.
        """
        late = self.sensor.averaging / 2
        if self.meter.method != "counter":
            late += (self.period or 0.0) / 2
        return self.sensor.lag[0] + late, self.sensor.lag[1] + late

    def learn(self, gaps: list[tuple[float, float]]) -> None:
        """Take the period and the jitter from (s between two updates, s to which that is known)."""
        period = statistics.median(gap for gap, _ in gaps)
        if self.period is None:
            self.period = period
        if len(gaps) >= FEWEST_GAPS and not self.sensor.source.startswith("learnt"):
            off = max(abs(gap - period) - width for gap, width in gaps)
            self.jitter = min(0.9, max(self.jitter, JITTER, MARGIN * off / period))

    def _count(self, before: float, after: float, value: float) -> None:
        raw, last = self._raw, self.last
        if raw is None or last is None:
            self._raw, self._same = value, before
            # Its update came before we looked, at most one period ago.
            self._tick(Tick(-math.inf, after, 0.0))
            return
        self.step += 0.2 * (before - self._same - self.step) if self.step else before - self._same
        if value == raw:
            self._same = before
            return
        step = value - raw
        elapsed = after - self.known(last).lo
        up = 0.0
        if step < 0:
            step, up = self._backwards(step, value, elapsed, after)
        elif self.meter.limit and step > IMPLAUSIBLE * self.meter.limit * (elapsed + (self.period or 0.1)) + 1.0:
            text = f"the counter jumped by {step:.4g} J in {elapsed:.3g} s, more than {self.meter.limit:.4g} W allows"
            self.events.append(Event(after, "implausible", text))
            up, step = self.meter.limit * elapsed, 0.0
        lo, hi = self._place(self._same, after, last)
        self._raw, self._same = value, before
        self.changed += 1
        down, random = 0.0, 0.0
        least, known = self.sensor.duty
        span = (lo + hi) / 2 - self.known(last).middle
        if known < 1.0 and span > 0:
            # What is known not to be looked at may have been anything the device can do.
            up += (1.0 - known) * max(0.0, self.most() * span - step)
            down += (1.0 - known) * step
        if least < known and span > 0 and self.watts is not None:
            # What may not have been looked at is taken to have differed as neighbouring updates do.
            random = 0.5 * ((known - least) * (step - self.watts * span)) ** 2
        self._tick(Tick(lo, hi, last.joules + step, last.up + up, last.down + down, last.random + random))

    def _place(self, same: float, after: float, last: Tick) -> tuple[float, float]:
        """Where in (same, after] an update lies: at most one period before `after`, whole periods after the last."""
        if self.period is None:
            return same, after
        short, long = self.period * (1 - self.jitter), self.period * (1 + self.jitter)
        lo, hi = min(max(same, after - 1.02 * long), after), after
        if last.lo == -math.inf:
            return lo, hi
        # Of the numbers of periods that fit, the least and the most; far away from the last tick they all fit.
        least = max(1, math.ceil((lo - last.hi) / long - 1e-9))
        most = math.floor((hi - last.lo) / short + 1e-9)
        near, far = max(lo, last.lo + least * short), min(hi, last.hi + most * long)
        return (near, far) if least <= most and near < far else (lo, hi)

    def _backwards(self, step: float, value: float, elapsed: float, now: float) -> tuple[float, float]:
        """A counter that went back: a wrap if that is plausible, else a reset, whose energy is unknown."""
        if self.meter.wrap:
            wrapped = step + self.meter.wrap
            allowed = self.most() * (elapsed + 1.0) * IMPLAUSIBLE if self.most() else 0.25 * self.meter.wrap
            if 0 <= wrapped <= min(allowed, self.meter.wrap):
                return wrapped, 0.0
        self.events.append(Event(now, "reset", "the counter went back; what was used meanwhile is not known"))
        return 0.0, max(self.most() * elapsed, value if value <= self.most() * elapsed else 0.0)

    def _integrate(self, before: float, after: float, watts: float) -> None:
        meter, last = self.meter, self.last
        now = (before + after) / 2
        blur = max(after - before, 1e-6)
        if not 0 <= watts < 1e9 or (meter.limit and watts > IMPLAUSIBLE * meter.limit):
            self.events.append(Event(after, "implausible", f"a reading of {watts:.4g} W was left out"))
            return
        if self._raw is None or last is None:
            self._raw = self.watts = watts
            self.peak = max(self.peak, watts)
            self._tick(Tick(now - blur, now, 0.0))
            return
        if watts != self._raw:
            self.changed += 1
        span = now - last.hi
        if span <= 0:
            return
        self.step += 0.2 * (span - self.step) if self.step else span
        area = (watts + self._raw) / 2 * span
        # The variance of a mean of two independent readings, each standing for its half of the span.
        random = 0.5 * ((watts - self._raw) * span) ** 2
        blind = 1.0 - self.sensor.duty[1]
        self.peak = max(self.peak, watts)
        up = blind * max(0.0, self.most() * span - area)
        down = blind * area
        if self._failed and span > 1.0:
            text = f"no reading for {span:.3g} s"
            self.events.append(Event(after, "gap", text))
            up, down = max(0.0, self.most() * span - area), area
        self._raw = self.watts = watts
        self._tick(Tick(now - blur, now, last.joules + area, last.up + up, last.down + down, last.random + random))

    def _tick(self, tick: Tick) -> None:
        last = self.last
        if last is not None and self.meter.method == "counter":
            span = tick.middle - last.middle
            if 0 < span < math.inf:
                rate = (tick.joules - last.joules) / span
                # Ticks close together give a poor rate; the peak bounds what is not seen, so it may be generous.
                if span > 2 * ((tick.hi - tick.lo) + (last.hi - last.lo)) or self.peak == 0.0:
                    self.peak = max(self.peak, rate)
                self.watts = rate
        self.last = tick
        self._recent.append(tick)
        apart = tick.hi - self.past[-1].hi if self.past else PAST_STEP
        if apart < PAST_STEP and tick.hi - tick.lo < self.past[-1].hi - self.past[-1].lo:
            self.past.pop()  # of ticks close together the one that is placed best
            apart = PAST_STEP
        if apart >= PAST_STEP:
            self.past.append(tick)
            while tick.hi - self.past[0].hi > PAST_SECONDS:
                self.past.popleft()
        if self._pending:
            for edge in self._pending:
                edge.ticks.append(tick)
                edge.done = tick.middle > edge.until
            self._pending = [edge for edge in self._pending if not edge.done]

    def observe(self, now: float, state: State) -> None:
        """Keep what the device says of its clocks and temperature."""
        self.state = state
        for why in state.throttle:
            self.throttled[why] = now

    def due(self, now: float) -> float:
        """Seconds until the next update can come, after one that is known well; 0 where it may come any time."""
        last, period = self.last, self.period
        if last is None or not period or last.hi - last.lo > period / 4:
            return 0.0
        count = max(1, math.floor((now - last.middle) / period) + 1)
        doubt = (last.hi - last.lo) / 2 + count * self.jitter * period
        # A little early, for a sleep may end late; the next one is short.
        return 0.9 * max(0.0, last.middle + count * period - doubt - now)

    def stuck(self, now: float) -> bool:
        """Whether a counter has not moved for far longer than its period."""
        if self.meter.method != "counter" or self.last is None or self.error:
            return False
        return now - self.last.hi > max(STUCK_SECONDS, STUCK_PERIODS * (self.period or 0.0))

    def known(self, tick: Tick) -> Tick:
        """A first tick, whose beginning was not seen, placed within one period."""
        if tick.lo > -math.inf:
            return tick
        return tick._replace(lo=tick.hi - (self.period or UNKNOWN_PERIOD) * (1 + self.jitter))
