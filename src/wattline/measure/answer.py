"""From two edges on a track to a `Part`: joules, the 95 % interval and the flags."""

from __future__ import annotations

import math
from typing import Final

from .curve import Bound, at
from .result import FEWEST_PERIODS, Part
from .track import Edge, Track

# Two errors, each anywhere within its own bounds: 95 % of their sums lie within 2 (1 - sqrt(0.05)) / 2 of the
# sum of the bounds (the sum of two uniform variables is triangular), so within 0.776 of it.
TWO_UNIFORM: Final = 1.0 - math.sqrt(0.05)
# 95 % of a normal variable.
NORMAL: Final = 1.96
# How many lags of a range are tried; between them the curve is as good as straight.
LAGS: Final = 9
# Energy counters of devices are themselves wrong by a few per cent of what they add; stated apart, in the
# documentation, because no reading here can show it.


def part(track: Track, start: Edge, stop: Edge, throttle: tuple[str, ...] = ()) -> Part:
    """Energy of one track between two edges, with everything that lowers its worth said in words."""
    track.drain()
    meter, state = track.meter, track.state
    seconds = max(0.0, stop.time - start.time)
    flags: list[str] = list(meter.flags)
    reasons: list[str] = [meter.reason] if meter.reason else []
    joules = low = high = None
    method = meter.method
    for event in list(track.events):
        if start.time <= event.time <= stop.time + (track.period or 0.0):
            flags.append(event.flag)
            reasons.append(event.text)
    late = sum(track.lags()) / 2
    first, last = at(track, start, late), at(track, stop, late)
    if method == "none":
        pass
    elif first is None or last is None or start.epoch != stop.epoch:
        method = "none"
        reasons.append(track.error or track.lost or "the sensor gave no reading in this window")
    else:
        joules, low, high = _between(track, start, stop, first, last)
        least, own, most = meter.share
        if most != least:
            # Scope and sensor differ: what was read is shared out by a rule that `reason` names.
            joules, low, high, method = own * joules, least * low, most * high, "estimated"
        period = track.period or (seconds if meter.method == "counter" else 0.0)
        if seconds < FEWEST_PERIODS * period:
            flags.append("insufficient_resolution")
        if last.extrapolated:
            flags.append("extrapolated")
            if last.tick == first.tick:
                # Nothing was counted inside the window yet: bounds, but no figure.
                joules = None
                flags.append("insufficient_resolution")
                reasons.append("the sensor did not update within the window")
        if start.late:
            flags.append("late")
            behind = track.known(start.ticks[0]).middle - start.time
            reasons.append(f"the sensors were found {behind:.2g} s after the window began")
        if track.stuck(stop.time) and joules is not None:
            flags.append("stuck")
            reasons.append(f"the counter has not moved for {stop.time - track.last.hi:.3g} s" if track.last else "")
        if (track.lost or track.error) and not stop.done:
            flags.append("lost" if track.lost else "gap")
            reasons.append(track.lost or track.error)
    return Part(
        host=meter.host,
        uuid=meter.uuid,
        scope=meter.scope,
        name=meter.name,
        method=method,
        joules=joules,
        low=low,
        high=high,
        seconds=seconds,
        period=track.period,
        flags=tuple(dict.fromkeys(flags)),
        reason="; ".join(dict.fromkeys(reason for reason in reasons if reason)),
        within=meter.within,
        clock=state.clock,
        memory_clock=state.memory_clock,
        temperature=state.temperature,
        power_limit=state.power_limit,
        utilization=state.utilization,
        throttle=throttle,
        unknown=track.sensor.unknown if joules is not None else (),
    )


def _between(track: Track, start: Edge, stop: Edge, first: Bound, last: Bound) -> tuple[float, float, float]:
    """(joules, low, high) between two edges, over every lag that the sensor may have."""
    least, most = track.lags()
    joules, low, high = _difference(track, start, stop, first, last)
    if most > least:
        for k in range(LAGS):
            lag = least + (most - least) * k / (LAGS - 1)
            a, b = at(track, start, lag), at(track, stop, lag)
            if a is not None and b is not None:
                _, under, over = _difference(track, start, stop, a, b)
                low, high = min(low, under), max(high, over)
    return joules, low, high


def _difference(track: Track, start: Edge, stop: Edge, a: Bound, b: Bound) -> tuple[float, float, float]:
    """(joules, low, high) between two edges at one lag."""
    seconds = max(0.0, stop.time - start.time)
    joules = max(0.0, b.joules - a.joules)
    down = _join(b.joules - b.low, a.high - a.joules)
    up = _join(b.high - b.joules, a.joules - a.low)
    if seconds < FEWEST_PERIODS * (track.period or seconds):
        # Too few updates for errors to even out: the bounds themselves.
        down = b.joules - b.low + a.high - a.joules
        up = b.high - b.joules + a.joules - a.low
    noise = NORMAL * math.sqrt(max(0.0, b.random - a.random))
    most = track.most()
    seldom = _seldom(track)
    unseen_down, unseen_up = seldom * joules / seconds if seconds > 0 else 0.0, seldom * most
    low = joules - math.hypot(down, noise, unseen_down) - (b.down - a.down)
    high = joules + math.hypot(up, noise, unseen_up) + (b.up - a.up)
    if track.meter.limit and most * seconds >= joules:
        high = min(high, most * seconds)
    return joules, max(0.0, low), max(high, joules)


def _seldom(track: Track) -> float:
    """Seconds that a power sensor read at random instants may have missed of what it shows, 95 times in 100.

    Of a state that no reading has met in n, up to 3/n of the time may have been spent in it (the rule of three:
    0.95 = 1 - (1 - 3/n)^n). A mean over a span that reaches back to the reading before misses nothing.
    """
    if track.meter.method == "counter" or track.sensor.averaging >= track.step:
        return 0.0
    if track.period is not None and track.step <= 1.5 * track.period:
        return 0.0
    return 3.0 * track.step


def _join(one: float, other: float) -> float:
    """A 95 % bound of the sum of two errors from their hard bounds."""
    one, other = max(0.0, one), max(0.0, other)
    if one == 0.0 or other == 0.0:
        return one + other
    # For unequal bounds the exact quantile of a trapezoid lies between these two; take the larger.
    return max(TWO_UNIFORM * (one + other), 0.95 * max(one, other))
