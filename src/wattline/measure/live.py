"""Power now: joules over seconds, with bounds, the same for a display, an exporter and a stored sample.

The span is one second. Where the ends of a second are not known well enough, because a slow counter is read seldom,
it is as much longer as the figure needs, up to what the track remembers.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from .track import UNKNOWN_PERIOD, Tick, Track

# Seconds that power is a mean over, and the half-width, as a share, from which on a longer span is tried.
SECONDS: Final = 1.0
WIDE: Final = 0.02
# How far back the last update may be, s, for one that is placed better.
RECENT: Final = 0.8
# A counter that has not moved for this many periods is seen to draw less than it did, s at least.
QUIET_PERIODS: Final = 3
QUIET_SECONDS: Final = 0.5


class Power(NamedTuple):
    """Watts over the last `seconds`, and the bounds that the readings leave."""

    watts: float
    low: float
    high: float
    seconds: float


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A device now, for a display: W with bounds, J since the monitor began, and what `State` holds.

    watts, low, high : mean power over the last `span` s and the least and the most that it can have been.
    """

    host: str
    uuid: str
    scope: str
    name: str
    method: str
    watts: float | None
    joules: float | None
    low: float | None = None
    high: float | None = None
    span: float | None = None
    clock: float | None = None
    memory_clock: float | None = None
    temperature: float | None = None
    power_limit: float | None = None
    utilization: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    throttle: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()
    error: str = ""
    within: tuple[str, ...] = ()
    labels: dict[str, str] = {}

    @property
    def key(self) -> str:
        """``host/uuid/scope``."""
        return f"{self.host}/{self.uuid}/{self.scope}"


def power(track: Track) -> Power | None:
    """Power of a track now; None where it has not two readings, or cannot be read."""
    track.drain()
    found = _read(track)
    least, own, most = track.meter.share
    if found is None or least == most:
        return found
    return Power(own * found.watts, least * found.low, most * found.high, found.seconds)


def _read(track: Track) -> Power | None:
    """Power of what the sensor reads."""
    if track.last is None or track.error:
        return None
    # Of the updates of the last moments the one that is placed best.
    late = [t for t in track.past if track.last.hi - t.hi < RECENT and t.lo > -math.inf]
    last = min([*late, track.last], key=lambda t: (round(t.hi - t.lo, 3), -t.hi))
    best: Power | None = None
    # The beginning of the very first update was not seen, so it is used only where there is no other.
    past = [tick for tick in track.past if tick is not last and tick.lo > -math.inf]
    past = past or [tick for tick in track.past if tick is not last]
    for first in reversed(past):
        if _instant(track, last) - _instant(track, first) < SECONDS:
            continue
        found = _between(track, first, last)
        if best is None or _width(found) < _width(best):
            best = found
        if _width(best) <= WIDE:
            return best
    if best is None and past:
        # Less than a second is known yet: the best of what there is.
        best = min((_between(track, first, last) for first in past), key=_width)
    if best is None and track.meter.method != "counter" and track.watts is not None:
        best = Power(track.watts, 0.0, max(track.most(), track.watts), 0.0)
    return best


def _instant(track: Track, tick: Tick) -> float:
    """Where an update most likely lies in what is known of it: near its end, while the period is not known."""
    if track.period is not None or track.meter.method != "counter":
        return track.known(tick).middle
    return tick.hi - min(UNKNOWN_PERIOD, tick.hi - tick.lo) / 2


def _between(track: Track, first: Tick, last: Tick) -> Power:
    """Mean power between two ticks, and on to now where a counter has long stood still."""
    a = track.known(first)
    joules, up, down = last.joules - a.joules, last.up - a.up, last.down - a.down
    shortest, longest = max(0.0, last.lo - a.hi), last.hi - a.lo
    middle = _instant(track, last) - _instant(track, first)
    more = track.seen - track.last.hi if track.last is not None else 0.0
    quiet = more > max(QUIET_SECONDS, QUIET_PERIODS * (track.period or 0.0))
    if quiet and track.meter.method == "counter":
        # What it used since its last step is less than a step.
        up += joules / max(1, track.changed)
        shortest, middle, longest = shortest + more, middle + more, longest + more
    if middle <= 0:
        return Power(0.0, 0.0, math.inf, 0.0)
    most = max(track.most(), track.peak)
    noise = 2.0 * math.sqrt(max(0.0, last.random - a.random))
    high = (joules + up + noise) / shortest if shortest > 0 else math.inf
    watts = joules / middle
    low = max(0.0, joules - down - noise) / longest
    return Power(watts, min(low, watts), max(watts, min(high, most or high)), middle)


def _width(power: Power) -> float:
    """Half-width as a share of the figure."""
    return (power.high - power.low) / 2 / power.watts if power.watts > 0 else power.high - power.low


def live(track: Track) -> Live:
    """A track as a display shows it."""
    track.drain()
    meter, state = track.meter, track.state
    found = power(track)
    return Live(
        host=meter.host,
        uuid=meter.uuid,
        scope=meter.scope,
        name=meter.name,
        method="estimated" if meter.share[0] != meter.share[2] else meter.method,
        watts=None if found is None else found.watts,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        span=None if found is None else found.seconds,
        joules=meter.share[1] * track.last.joules if track.last else None,
        clock=state.clock,
        memory_clock=state.memory_clock,
        temperature=state.temperature,
        power_limit=state.power_limit,
        utilization=state.utilization,
        memory_used=state.memory_used,
        memory_total=state.memory_total,
        throttle=state.throttle,
        unknown=state.unknown,
        processes=state.processes,
        error=track.error,
        within=meter.within,
        labels=dict(meter.labels),
    )
