"""From readings to energy at an instant: every counter steps, and between its steps only bounds are known.

    J |                    C2 .----        a tick is the step itself: its height is exact, its instant is
      |            C1 .-------'            known to lie in (lo, hi], between the last reading of the old
      |    C0 .-------'  ^ edge            value and the first of the new
      |  -----'

The energy at a window's edge lies between the ticks around it. The estimate is the straight line between
them; the bounds are the ticks themselves, tightened by the most power the device can draw. A power
sensor makes ticks too: each reading adds a trapezoid, with its own doubt in `up` and `down`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final, NamedTuple

from .meter import NOTHING, Meter, State

# A step larger than this many times what the limit allows is not energy, it is a fault.
IMPLAUSIBLE: Final = 3.0
# Where a device states no limit, it is taken to draw at most this many times the most seen so far.
HEADROOM: Final = 1.5
# A counter that does not move for this many periods, and this many seconds at least, is stuck.
STUCK_PERIODS: Final = 20
STUCK_SECONDS: Final = 1.0
# The share by which one update of a counter may come early or late.
JITTER: Final = 0.03
# The longest period to reckon with before it is known, s (100 ms is the slowest counter known to us).
UNKNOWN_PERIOD: Final = 0.1


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


class Edge:
    """One end of a window on one track: its instant and the ticks around it."""

    __slots__ = ("after", "before", "epoch", "time")

    def __init__(self, time: float) -> None:
        self.time = time
        self.before: Tick | None = None
        self.after: Tick | None = None
        self.epoch = -1


class Event(NamedTuple):
    """Something that happened to a sensor: a flag, when, and a sentence."""

    time: float
    flag: str
    text: str


class Bound(NamedTuple):
    """Energy at an instant: the estimate and hard bounds, J, with the doubt added up so far."""

    joules: float
    low: float
    high: float
    up: float
    down: float
    random: float
    extrapolated: bool


class Track:
    """The energy curve of one meter, built reading by reading; readings may come from several threads.

    Readings and edges go into `inbox`, which costs next to nothing at the ends of a window, and are worked
    into the curve by `drain`, in the sampler's thread or when an answer is asked for.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.period = meter.period
        self.peak = 0.0
        self.watts: float | None = None
        self.lost = ""
        self.error = ""
        self.fix = ""
        self.state: State = NOTHING
        self.throttled: dict[str, float] = {}
        self.events: deque[Event] = deque(maxlen=256)
        self.last: Tick | None = None
        self.changed = 0
        self.epoch = 0
        self.inbox: deque[tuple[float, float, float] | Edge] = deque()
        self._pending: list[Edge] = []
        self._lock = threading.Lock()
        self._raw: float | None = None
        self._same = 0.0  # when the present raw value was last read
        self._until = 0.0  # no reading that began before this may be added
        self._failed = False
        self._periods: list[float] = []
        self._was: Tick | None = None

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
                    item.before, item.epoch = self.last, self.epoch
                    self._pending.append(item)
                else:
                    self._take(*item)

    def _take(self, before: float, after: float, value: float) -> None:
        """One reading; one that overlaps a reading of another thread is left out, as their order is not known."""
        if before < self._until:
            return
        self._until = after
        self.error = ""
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
            self._raw, self.last, self.watts, self._was = None, None, None, None
            self._pending.clear()
            self.epoch += 1

    def settled(self, edge: Edge) -> bool:
        """Whether nothing more can be learnt about this edge."""
        self.drain()
        return edge.after is not None or bool(self.lost) or edge.epoch != self.epoch

    @property
    def waiting(self) -> bool:
        """Whether an edge waits for the next tick."""
        self.drain()
        return bool(self._pending)

    def most(self) -> float:
        """The most power to reckon with, W."""
        return self.meter.limit if self.meter.limit else HEADROOM * self.peak

    def _count(self, before: float, after: float, value: float) -> None:
        raw, last = self._raw, self.last
        if raw is None or last is None:
            self._raw, self._same = value, before
            # Its update came before we looked, at most one period ago.
            self._tick(Tick(-math.inf, after, 0.0))
            return
        if value == raw:
            self._same = before
            return
        step = value - raw
        elapsed = after - self._known(last).lo
        up = 0.0
        if step < 0:
            step, up = self._backwards(step, value, elapsed, after)
        elif self.meter.limit and step > IMPLAUSIBLE * self.meter.limit * (elapsed + (self.period or 0.1)) + 1.0:
            text = f"the counter jumped by {step:.4g} J in {elapsed:.3g} s, more than {self.meter.limit:.4g} W allows"
            self.events.append(Event(after, "implausible", text))
            up, step = self.meter.limit * elapsed, 0.0
        lo = self._same if self.period is None else max(self._same, after - self.period * 1.05)
        self._raw, self._same = value, before
        self.changed += 1
        self._tick(Tick(min(lo, after), after, last.joules + step, last.up + up, last.down, last.random))

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
        now = (before + after) / 2 - meter.averaging / 2
        # Where a reading holds since the last update, its instant is known to that much.
        blur = max(after - before, 1e-6)
        if not 0 <= watts < 1e9 or (meter.limit and watts > IMPLAUSIBLE * meter.limit):
            self.events.append(Event(after, "implausible", f"a reading of {watts:.4g} W was left out"))
            return
        if self._raw is None or last is None:
            self._raw = watts
            self.peak = max(self.peak, watts)
            self._tick(Tick(now - blur, now, 0.0))
            return
        if watts != self._raw:
            self.changed += 1
        span = now - last.hi
        if span <= 0:
            return
        area = (watts + self._raw) / 2 * span
        random = (abs(watts - self._raw) / 2 * span) ** 2
        blind = 1.0 - meter.observed
        self.peak = max(self.peak, watts)
        up = blind * max(0.0, self.most() * span - area)
        down = blind * area
        if self._failed and span > 1.0:
            text = f"no reading for {span:.3g} s"
            self.events.append(Event(after, "gap", text))
            up, down = max(0.0, self.most() * span - area), area
        self._raw = watts
        self._tick(
            Tick(now - blur, now, last.joules + area, last.up + up, last.down + down, last.random + random), watts
        )

    def _tick(self, tick: Tick, watts: float | None = None) -> None:
        last = self.last
        if last is not None and self.meter.method == "counter":
            span = (tick.lo + tick.hi - last.lo - last.hi) / 2
            if 0 < span < math.inf:
                rate = (tick.joules - last.joules) / span
                # Ticks close together give a poor rate; the peak bounds what is not seen, so it may be generous.
                if span > 2 * ((tick.hi - tick.lo) + (last.hi - last.lo)) or self.peak == 0.0:
                    self.peak = max(self.peak, rate)
                self.watts = rate
        elif watts is not None:
            self.watts = watts
        self.last = tick
        if self._pending:
            for edge in self._pending:
                if edge.before is None:
                    edge.before = tick
                else:
                    edge.after = tick
            self._pending = [edge for edge in self._pending if edge.after is None]

    def observe(self, now: float, state: State) -> None:
        """Keep what the device says of its clocks and temperature."""
        self.state = state
        for why in state.throttle:
            self.throttled[why] = now

    def stuck(self, now: float) -> bool:
        """Whether a counter has not moved for far longer than its period."""
        if self.meter.method != "counter" or self.last is None or self.error:
            return False
        return now - self.last.hi > max(STUCK_SECONDS, STUCK_PERIODS * (self.period or 0.0))

    # ---- energy out ----

    def _known(self, tick: Tick) -> Tick:
        """A first tick, whose beginning was not seen, placed within one period."""
        return tick if tick.lo > -math.inf else tick._replace(lo=tick.hi - (self.period or UNKNOWN_PERIOD))

    @staticmethod
    def _sharpen(first: Tick, then: Tick, period: float) -> tuple[Tick, Tick]:
        """Narrow two neighbouring ticks by each other: whole periods apart, give or take JITTER."""
        widths = (first.hi - first.lo) + (then.hi - then.lo)
        apart = (then.lo + then.hi - first.lo - first.hi) / 2
        steps = round(apart / period)
        if not 1 <= steps <= 3 or widths > 1.5 * period:
            return first, then
        near, far = steps * period * (1 - JITTER), steps * period * (1 + JITTER)
        a, b = max(first.lo, then.lo - far), min(first.hi, then.hi - near)
        c, d = max(then.lo, first.lo + near), min(then.hi, first.hi + far)
        if a >= b or c >= d:
            return first, then
        return first._replace(lo=a, hi=b), then._replace(lo=c, hi=d)

    def at(self, edge: Edge) -> Bound | None:
        """Energy at an edge, J since the track began; None when the meter has no reading yet."""
        self.drain()
        if edge.before is None:
            return None
        first, then, t = self._known(edge.before), edge.after, edge.time
        if then is not None and self.period and self.meter.method == "counter":
            first, then = self._sharpen(first, then, self.period)
        most = self.most()
        middle = (first.lo + first.hi) / 2
        low = first.joules - most * max(0.0, first.hi - t)
        high = first.joules + most * max(0.0, t - first.lo)
        if then is None:
            ahead = max(0.0, t - middle)
            rate = 0.0 if self.lost or self.error else (self.watts or 0.0)
            joules = min(first.joules + rate * ahead, high) if most else first.joules + rate * ahead
            return Bound(joules, low, max(high, joules), first.up, first.down, first.random, True)
        end = (then.lo + then.hi) / 2
        share = min(1.0, max(0.0, (t - middle) / (end - middle))) if end > middle else 1.0
        gained = then.joules - first.joules
        joules = first.joules + share * gained
        low = max(low, then.joules - most * max(0.0, then.hi - t) - (then.up - first.up))
        high = min(high, then.joules + most * max(0.0, t - then.lo) + (then.up - first.up))
        # With no stated limit the headroom can be wrong; never let the bounds cut off the line itself.
        low, high = min(low, joules), max(high, joules)
        if self.meter.averaging or self.meter.method == "power-integral":
            smear = (self.meter.averaging / 4 + (self.period or 0.0) / 2) * max(most, self.peak)
            low, high = min(low, joules - smear), max(high, joules + smear)
        return Bound(
            joules,
            low,
            high,
            first.up + share * (then.up - first.up),
            first.down + share * (then.down - first.down),
            first.random + share * (then.random - first.random),
            False,
        )
