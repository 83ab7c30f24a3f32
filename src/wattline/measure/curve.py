"""Energy at an instant, from the ticks around it: the estimate is a straight line, the bounds are the ticks themselves.

The bounds are tightened by the most power the device can draw, and by one tick to its neighbour where the period is
known. A curve that runs `lag` s behind the truth is read so much later.
"""

from __future__ import annotations

from typing import NamedTuple

from .track import Edge, Tick, Track


class Bound(NamedTuple):
    """Energy at an instant: the estimate and hard bounds, J, with the doubt added up so far."""

    joules: float
    low: float
    high: float
    up: float
    down: float
    random: float
    extrapolated: bool
    tick: Tick


def at(track: Track, edge: Edge, lag: float) -> Bound | None:
    """Energy at an edge of a curve that is `lag` s late, J since the track began; None without a reading."""
    track.drain()
    ticks = edge.ticks
    if not ticks:
        return None
    t = edge.time + lag
    place = next((i for i, tick in enumerate(ticks) if i and tick.middle > t), len(ticks))
    first = track.known(ticks[place - 1])
    then = ticks[place] if place < len(ticks) else None
    counter = track.meter.method == "counter"
    if then is not None and track.period and counter:
        first, then = _sharpen(first, then, track.period, track.jitter)
    most = track.most()
    middle = first.middle
    low = first.joules - most * max(0.0, first.hi - t)
    high = first.joules + most * max(0.0, t - first.lo)
    if then is None:
        ahead = max(0.0, t - middle)
        rate = 0.0 if track.lost or track.error else (track.watts or 0.0)
        joules = min(first.joules + rate * ahead, high) if most else first.joules + rate * ahead
        return Bound(joules, low, max(high, joules), first.up, first.down, first.random, True, first)
    share = min(1.0, max(0.0, (t - middle) / (then.middle - middle))) if then.middle > middle else 1.0
    joules = first.joules + share * (then.joules - first.joules)
    if edge.late and t < middle and ticks[-1].middle > middle:
        # Before the first reading: back along the mean power of what came after it.
        rate = (ticks[-1].joules - first.joules) / (ticks[-1].middle - middle)
        joules = max(low, first.joules - rate * (middle - t))
    low = max(low, then.joules - most * max(0.0, then.hi - t) - (then.up - first.up))
    high = min(high, then.joules + most * max(0.0, t - then.lo) + (then.up - first.up))
    # With no stated limit the headroom can be wrong; never let the bounds cut off the line itself.
    low, high = min(low, joules), max(high, joules)
    smear = _smear(track, max(most, track.peak))
    return Bound(
        joules,
        low - smear,
        high + smear,
        first.up + share * (then.up - first.up),
        first.down + share * (then.down - first.down),
        first.random + share * (then.random - first.random),
        False,
        first,
    )


def _smear(track: Track, most: float) -> float:
    """J by which a mean over a span, read with its middle, can differ from the curve at one instant.

    The mean of a curve over a span w differs from its middle most where power is nothing and then all: by w/8 of
    it. A held reading may be up to half a period older or younger than the half that is reckoned with.
    """
    held = (track.period or 0.0) / 2 if track.meter.method != "counter" else 0.0
    return (track.sensor.averaging / 8 + held) * most


def _sharpen(first: Tick, then: Tick, period: float, jitter: float) -> tuple[Tick, Tick]:
    """Narrow two neighbouring ticks by each other: whole periods apart, give or take the jitter of each."""
    widths = (first.hi - first.lo) + (then.hi - then.lo)
    apart = then.middle - first.middle
    steps = round(apart / period)
    if not 1 <= steps <= 3 or widths > 1.5 * period or jitter > 0.1:
        return first, then
    near, far = steps * period * (1 - jitter), steps * period * (1 + jitter)
    a, b = max(first.lo, then.lo - far), min(first.hi, then.hi - near)
    c, d = max(then.lo, first.lo + near), min(then.hi, first.hi + far)
    if a >= b or c >= d:
        return first, then
    return first._replace(lo=a, hi=b), then._replace(lo=c, hi=d)
