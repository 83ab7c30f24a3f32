"""Kernels of the fleet planner: envelopes of work against power, and filling a tree of limits.

Jobs come as rows of flat tables: kind k owns points `first[k] : first[k + 1]`, fastest first. Vertices of
job j stand at `begin[j] : begin[j] + count[j]`, least power first. Watts of the tree are counted at the
feed, so that a job takes the same number of watts from every constraint above it.
"""

from __future__ import annotations

import numpy as np

from ..core.kernels import Source
from ..frontier._flow import Floats, Ints

kernel = Source("allocate.c")


@kernel
def envelope(
    first: Ints, rate: Floats, energy: Floats, waiting: Floats, kind: Ints, minimum: Floats, maximum: Floats,
    paused: Floats, discrete: bool, begin: Ints, power: Floats, work: Floats, point: Ints, count: Ints,
    least: Floats,
) -> None:  # fmt: skip
    """Write each job's concave envelope of work rate against power, and its least power.

    `paused` is NaN for a job that may not pause. In the discrete reading, points below the minimum are left out; in
    the hull reading the least power may lie between two vertices.
    """
    for j in range(len(kind)):
        k, o, m = kind[j], begin[j], 0
        if paused[j] == paused[j] and not (discrete and minimum[j] > 0.0):
            power[o], work[o], point[o], m = paused[j], 0.0, -1, 1
        for i in range(first[k + 1] - 1, first[k] - 1, -1):
            if discrete and rate[i] < minimum[j] * (1.0 - 1e-12):
                continue
            # Faster than the work arrives: the rest of the time is spent waiting.
            r = min(rate[i], maximum[j])
            p = waiting[k] + energy[i] * r
            if m > 0 and r <= work[o + m - 1]:
                if r == work[o + m - 1] and p < power[o + m - 1]:
                    m -= 1
                else:
                    continue
            while m > 0 and p <= power[o + m - 1]:
                m -= 1
            while m > 1 and (work[o + m - 1] - work[o + m - 2]) * (p - power[o + m - 2]) <= (r - work[o + m - 2]) * (
                power[o + m - 1] - power[o + m - 2]
            ):
                m -= 1
            power[o + m], work[o + m], point[o + m] = p, r, i - first[k]
            m += 1
        count[j] = m
        least[j] = power[o]
        if minimum[j] > work[o]:
            b = 1
            while b < m - 1 and work[o + b] < minimum[j]:
                b += 1
            share = min(1.0, (minimum[j] - work[o + b - 1]) / (work[o + b] - work[o + b - 1]))
            least[j] = power[o + b - 1] + share * (power[o + b] - power[o + b - 1])


@kernel
def fill(
    job: Ints, row: Ints, width: Floats, slope: Floats, above: Ints, room: Floats, given: Floats, target: float,
    tight: Floats,
) -> float:  # fmt: skip
    """Give power to pieces in their order, each as much as every constraint above it allows, until `target` is earned.

    Greedy is exact here: nested limits make a polymatroid, and the pieces of a concave curve come in order. `row` is
    the constraint each piece hangs on; `given` receives watts per job; `tight` (NaN at first), per constraint, the
    slope at which it became tight. Returns the slope of the last piece that was given power, 0 where none was.
    """
    earned, last = 0.0, 0.0
    for s in range(len(row)):
        if earned >= target:
            break
        x = width[s]
        r = row[s]
        while r >= 0 and x > 0.0:
            x = min(x, room[r])
            r = above[r]
        r = row[s]
        if x <= 0.0:
            while r >= 0:
                if room[r] <= 0.0 and tight[r] != tight[r]:
                    tight[r] = slope[s]
                r = above[r]
            continue
        if earned + x * slope[s] > target:
            x = (target - earned) / slope[s]
            earned = target
        else:
            earned += x * slope[s]
        given[job[s]] += x
        last = float(slope[s])
        while r >= 0:
            room[r] -= x
            if room[r] <= 0.0 and tight[r] != tight[r]:
                tight[r] = slope[s]
                if above[r] < 0:
                    return last  # the feed is full
            r = above[r]
    return last


@kernel
def settle(
    given: Floats, gain: Floats, weight: Floats, row: Ints, paid: Floats, begin: Ints, count: Ints,
    vertex_power: Floats, vertex_work: Floats, least: Floats,
    power: Floats, work: Floats, low: Ints, high: Ints, share: Floats,
) -> float:  # fmt: skip
    """Write each job's average power, work, the two vertices it lies between and the share of time at the upper.

    Returns what the prices `paid` under each constraint prove beyond what constraints are worth: the most that
    each job can earn by its work, less what its power costs, above its least power.
    """
    proved = 0.0
    for j in range(len(begin)):
        o, m = begin[j], count[j]
        p = min(least[j] + given[j] / gain[j], vertex_power[o + m - 1])
        k = 0
        while k < m - 1 and vertex_power[o + k + 1] <= p:
            k += 1
        low[j] = high[j] = o + k
        share[j] = 0.0
        if k < m - 1 and p > vertex_power[o + k]:
            high[j] = o + k + 1
            share[j] = (p - vertex_power[o + k]) / (vertex_power[o + k + 1] - vertex_power[o + k])
        power[j] = p
        work[j] = (1.0 - share[j]) * vertex_work[low[j]] + share[j] * vertex_work[high[j]]
        cost = paid[row[j]] * gain[j]
        first = 0
        while first < m - 1 and vertex_power[o + first + 1] <= least[j]:
            first += 1
        start = vertex_work[o + first]
        if first < m - 1 and least[j] > vertex_power[o + first]:
            step = (vertex_work[o + first + 1] - start) / (vertex_power[o + first + 1] - vertex_power[o + first])
            start += step * (least[j] - vertex_power[o + first])
        best = 0.0
        for i in range(first + 1, m):
            best = max(best, weight[j] * (vertex_work[o + i] - start) - cost * (vertex_power[o + i] - least[j]))
        proved += best
    return proved


@kernel
def pay(tight: Floats, above: Ints, price: Floats, paid: Floats) -> None:
    """Write each nested constraint's price, and what is paid under it in all, from the slopes at which they got tight.

    Who hangs under several pays the dearest slope among them: each adds what it is dearer than those above.
    """
    for r in range(len(tight)):
        most, a = 0.0, above[r]
        while a >= 0:
            if tight[a] > most:
                most = tight[a]
            a = above[a]
        price[r] = max(0.0, tight[r] - most) if tight[r] == tight[r] else 0.0
        paid[r] = most + price[r]


@kernel
def round_down(
    begin: Ints, vertex_power: Floats, vertex_work: Floats, vertex_point: Ints, low: Ints, gain: Floats, row: Ints,
    above: Ints, room: Floats, power: Floats, work: Floats, point: Ints, taken: Ints,
) -> None:  # fmt: skip
    """Put every job on the vertex below its average power, and give back what that frees."""
    for j in range(len(begin)):
        back = (power[j] - vertex_power[low[j]]) * gain[j]
        power[j], work[j], point[j] = vertex_power[low[j]], vertex_work[low[j]], vertex_point[low[j]]
        taken[j] = low[j] - begin[j]
        if back > 0.0:
            r = row[j]
            while r >= 0:
                room[r] += back
                r = above[r]


@kernel
def may_move(
    jobs: Ints, first: Ints, rate: Floats, energy: Floats, waiting: Floats, kind: Ints, maximum: Floats, gain: Floats,
    row: Ints, above: Ints, room: Floats, power: Floats, work: Floats, worth: Floats,
) -> None:  # fmt: skip
    """Write the work per watt of the best faster point that fits for each of `jobs`, 0 where none does."""
    for n in range(len(jobs)):
        j = jobs[n]
        free = np.inf
        r = row[j]
        while r >= 0 and free > 0.0:
            free = min(free, room[r])
            r = above[r]
        worth[n] = 0.0
        if free <= 0.0:
            continue
        k = kind[j]
        for i in range(first[k + 1] - 1, first[k] - 1, -1):
            new = min(rate[i], maximum[j])
            if new > work[j]:
                step = (waiting[k] + energy[i] * new - power[j]) * gain[j]
                if step <= free:
                    worth[n] = max(worth[n], (new - work[j]) / max(step, 1e-300))


@kernel
def dot(a: Floats, b: Floats) -> float:
    """Return the sum of products, on one thread."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel
def top_up(
    order: Ints, first: Ints, rate: Floats, energy: Floats, waiting: Floats, kind: Ints, maximum: Floats, gain: Floats,
    weight: Floats, row: Ints, above: Ints, room: Floats, power: Floats, work: Floats, point: Ints, wanted: float,
) -> float:  # fmt: skip
    """Move each job in `order` to the faster point that fits and does most per watt, off the envelope too.

    Stops once `wanted` is earned; returns what was.
    """
    earned = 0.0
    for j in order:
        if earned >= wanted:
            break
        free = np.inf
        r = row[j]
        while r >= 0:
            free = min(free, room[r])
            r = above[r]
        k, best, most = kind[j], -1, 0.0
        for i in range(first[k + 1] - 1, first[k] - 1, -1):
            new = min(rate[i], maximum[j])
            if new > work[j]:
                step = (waiting[k] + energy[i] * new - power[j]) * gain[j]
                if step <= free and (new - work[j]) / max(step, 1e-300) > most:
                    best, most = i, (new - work[j]) / max(step, 1e-300)
        if best < 0:
            continue
        new = min(rate[best], maximum[j])
        p = waiting[k] + energy[best] * new
        r = row[j]
        while r >= 0:
            room[r] -= (p - power[j]) * gain[j]
            r = above[r]
        earned += weight[j] * (new - work[j])
        power[j], work[j], point[j] = p, new, best - first[k]
    return earned


@kernel
def step_back(
    job: Ints, begin: Ints, vertex_power: Floats, vertex_work: Floats, vertex_point: Ints, weight: Floats,
    gain: Floats, row: Ints, above: Ints, room: Floats, taken: Ints, power: Floats, work: Floats, point: Ints,
    surplus: float,
) -> float:  # fmt: skip
    """Take back the dearest pieces, last given first, as long as what was earned stays at or above the target."""
    for s in range(len(job) - 1, -1, -1):
        j = job[s]
        if taken[j] == 0:
            continue
        v = begin[j] + taken[j] - 1
        lost = weight[j] * (work[j] - vertex_work[v])
        if lost > surplus or lost <= 0.0:
            continue
        r, back = row[j], (power[j] - vertex_power[v]) * gain[j]
        while r >= 0:
            room[r] += back
            r = above[r]
        surplus -= lost
        taken[j] -= 1
        power[j], work[j], point[j] = vertex_power[v], vertex_work[v], vertex_point[v]
    return surplus
