"""Kernels of price decomposition: how jobs answer prices over time, and how their work is fitted into limits.

Prices are per joule at a *place*, which is where jobs draw from in the same shares; all pieces of job j stand at
`begin[j] : begin[j + 1]`, best first, `width` in W and `slope` in work per J. A job works in periods
`first[j] : last[j]` of `dt` seconds. `due` is NaN where nothing is: then what its work is worth is given.
"""

from __future__ import annotations

import math

from ..core.kernels import Source
from ..frontier._flow import Floats, Ints

kernel = Source("decompose.c")


def _part(x: float) -> float:
    return min(max(x, 0.0), 1.0)


def _done_at(
    worth: float, width: Floats, slope: Floats, price: Floats, dt: Floats, first: int, last: int, smooth: float
) -> tuple[float, float]:
    """Return the work done when work is worth so much, and its growth with that."""
    work, grown = 0.0, 0.0
    for k in range(len(width)):
        total, bend, at = 0.0, 0.0, worth * slope[k]
        for t in range(first, last):
            x = 0.5 + (at - price[t]) / smooth
            total += _part(x) * dt[t]
            bend += dt[t] if 0.0 < x < 1.0 else 0.0
        work += slope[k] * width[k] * total
        grown += slope[k] * slope[k] * width[k] * bend / smooth
    return work, grown


def _worth_of(
    mu: float, due: float, width: Floats, slope: Floats, price: Floats, dt: Floats, first: int, last: int,
    smooth: float,
) -> float:  # fmt: skip
    """Return what work must be worth so that what is due is done: Newton's steps, halving where they leave."""
    low, high = -math.inf, math.inf
    for _ in range(60):
        done, growth = _done_at(mu, width, slope, price, dt, first, last, smooth)
        miss = done - due
        if abs(miss) <= 1e-12 * due:
            break
        if miss > 0.0:
            high = mu
        else:
            low = mu
        step = smooth / slope[0]
        after = mu - miss / growth if growth > 0.0 else (mu - step if miss > 0.0 else mu + step)
        if not low < after < high:
            if low > -math.inf and high < math.inf:
                after = 0.5 * (low + high)
            elif miss > 0.0:
                after = mu - 2.0 * abs(mu) - step
            else:
                after = mu + 2.0 * abs(mu) + step
        if after == mu or abs(after) > 1e9:
            break
        mu = float(after)
    return mu


@kernel
def respond(
    begin: Ints, width: Floats, slope: Floats, place: Ints, first: Ints, last: Ints, due: Floats, worth: Floats,
    price: Floats, dt: Floats, smooth: float, start: int, stop: int, load: Floats, bend: Floats, value: Floats,
    bound: Floats, given: Floats,
) -> None:  # fmt: skip
    """Answer prices for jobs `start : stop`: add their watts to `load`, and how these fall with the price to `bend`.

    A piece is taken in part where its price is within half of `smooth` of what its work is worth. `value` receives
    each job's least cost with that smoothing, `bound` without it, both proved by `worth`, found so that what is
    due is done. `given` (jobs, periods), or without rows, receives watts.
    """
    for j in range(start, stop):
        mine = slice(begin[j], begin[j + 1])
        w, s, p = width[mine], slope[mine], price[place[j]]
        a, z = first[j], last[j]
        owing = due[j] == due[j]
        if owing:
            worth[j] = _worth_of(float(worth[j]), float(due[j]), w, s, p, dt, a, z, smooth)
        mu = worth[j]
        soft = mu * due[j] if owing else 0.0
        hard = soft
        for k in range(len(w)):
            at = mu * s[k]
            for t in range(a, z):
                less = p[t] - at
                u, joules = _part(0.5 - less / smooth), dt[t] * w[k]
                if u > 0.0:
                    soft += joules * (less * u + 0.5 * smooth * (u * u - u))
                    load[place[j], t] += u * w[k]
                    if u < 1.0:
                        bend[place[j], t] += w[k] / smooth
                    if len(given):
                        given[j, t] += u * w[k]
                if less < 0.0:
                    hard += joules * less
        value[j], bound[j] = soft, hard


def _fits(row: Ints, per: Floats, scale: Floats, room: Floats, start: int, stop: int, t: int) -> float:
    x = math.inf
    for e in range(start, stop):
        each = per[e] * scale[row[e], t]
        if each > 0.0:
            x = min(x, max(room[row[e], t], 0.0) / each)
    return x


def _take(row: Ints, per: Floats, scale: Floats, room: Floats, start: int, stop: int, t: int, watts: float) -> None:
    for e in range(start, stop):
        room[row[e], t] -= watts * per[e] * scale[row[e], t]


@kernel
def settle(
    begin: Ints, width: Floats, slope: Floats, place: Ints, first: Ints, last: Ints, due: Floats, price: Floats,
    dt: Floats, above: Ints, row: Ints, per: Floats, scale: Floats, room: Floats, order: Ints, given: Floats,
    gained: Floats, short_: Floats,
) -> None:  # fmt: skip
    """Fit watts wanted into `room` (rows, periods), job by job in `order`, and put what is lacking where it is cheap.

    A watt at place p takes ``per[e] * scale[row[e], t]`` of row ``row[e]``, e in ``above[p] : above[p + 1]``. `given`
    is what is wanted and becomes what is taken, `gained` receives units of work a second, `short_` what is left undone.
    """
    for j in order:
        o, pieces = begin[j], begin[j + 1] - begin[j]
        start, stop = above[place[j]], above[place[j] + 1]
        p, done = price[place[j]], 0.0
        below = [0.0]
        for k in range(pieces):
            below.append(below[-1] + width[o + k])
        for t in range(first[j], last[j]):
            x = given[j, t]
            if x > 0.0:
                x = min(x, _fits(row, per, scale, room, start, stop, t))
                _take(row, per, scale, room, start, stop, t, x)
            given[j, t] = left = x
            rate, k = 0.0, 0
            while k < pieces and left > 0.0:
                some = min(left, width[o + k])
                rate += some * slope[o + k]
                left -= some
                k += 1
            gained[j, t] = rate
            done += rate * dt[t]
        short_[j] = 0.0
        if due[j] != due[j]:
            continue
        lack = due[j] - done
        if lack > 1e-9 * due[j]:
            offers = sorted(
                (p[t] / slope[o + k], t, k) for t in range(first[j], last[j]) for k in range(pieces) if p[t] < math.inf
            )
            for _, t, k in offers:
                if lack <= 0.0:
                    break
                x = below[k] + width[o + k] - max(given[j, t], below[k])
                if x <= 0.0 or given[j, t] < below[k] * (1.0 - 1e-12):
                    continue
                x = min(x, lack / (slope[o + k] * dt[t]))
                x = min(x, _fits(row, per, scale, room, start, stop, t))
                if x <= 0.0:
                    continue
                _take(row, per, scale, room, start, stop, t, x)
                given[j, t] += x
                gained[j, t] += x * slope[o + k]
                lack -= x * slope[o + k] * dt[t]
            short_[j] = max(lack, 0.0)
        elif lack < 0.0:
            _give_back(-lack, j, o, pieces, below, width, slope, first, last, due, p, dt, start, stop, row, per, scale,
                       room, given, gained)  # fmt: skip


def _give_back(
    over: float, j: int, o: int, pieces: int, below: list[float], width: Floats, slope: Floats, first: Ints,
    last: Ints, due: Floats, p: Floats, dt: Floats, start: int, stop: int, row: Ints, per: Floats, scale: Floats,
    room: Floats, given: Floats, gained: Floats,
) -> None:  # fmt: skip
    """Give back work beyond what is due: the dearest first, of each period its last piece."""
    while over > 1e-9 * due[j]:
        worst, at, piece = -math.inf, -1, 0
        for t in range(first[j], last[j]):
            if given[j, t] <= 0.0:
                continue
            k = 0
            while k < pieces - 1 and below[k] + width[o + k] < given[j, t]:
                k += 1
            if p[t] / slope[o + k] > worst:
                worst, at, piece = p[t] / slope[o + k], t, k
        if at < 0:
            break
        x = min(given[j, at] - below[piece], over / (slope[o + piece] * dt[at]))
        if x <= 0.0:
            break
        _take(row, per, scale, room, start, stop, at, -x)
        given[j, at] -= x
        gained[j, at] -= x * slope[o + piece]
        over -= x * slope[o + piece] * dt[at]
