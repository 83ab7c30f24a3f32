"""Kernels that choose settings by the longest path, with a delay at each change of clock on a device.

A graph comes as `order` (topological), `pointer`/`before` (what each node waits for), and `row`: the node that its
device ran just before, or -1. Changing clock takes `latency` between that node's end and this one's start; it is
hidden where the device waits for others anyway. Settings are rows of flat tables: kind k owns `first[k] : first[k+1]`.
"""

from __future__ import annotations

import numpy as np

from ..core.kernels import Source
from ..frontier._flow import Floats, Ints

kernel = Source("choices.c")


@kernel
def reach(
    order: Ints, pointer: Ints, before: Ints, row: Ints, pick: Ints,
    time: Floats, enter: Ints, leave: Ints, latency: float, start: Floats,
) -> float:  # fmt: skip
    """Write the earliest start of every node into `start`; return when the last one ends."""
    finish = 0.0
    for v in order:
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            u = before[k]
            end = start[u] + time[pick[u]]
            if end > latest:
                latest = end
        if latency > 0.0 and row[v] >= 0 and leave[pick[row[v]]] != enter[pick[v]]:
            latest = max(latest, start[row[v]] + time[pick[row[v]]] + latency)
        start[v] = latest
        finish = max(finish, latest + time[pick[v]])
    return finish


@kernel
def slow(
    order: Ints, pointer: Ints, before: Ints, row: Ints, onward: Ints, after: Ints, following: Ints, kind: Ints,
    rest: Floats, deadline: float, rate: float, latency: float, pick: Ints, first: Ints,
    time: Floats, energy: Floats, enter: Ints, leave: Ints,
) -> int:  # fmt: skip
    """Change settings, in `order`, where that saves energy and meets `deadline`; at least `rate` watts if it is slower.

    `rest` is the longest path from each node's end with the picks as they are. Returns how many changed.
    """
    start = np.zeros(len(order))
    changed = 0
    for v in order:
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            u = before[k]
            latest = max(latest, start[u] + time[pick[u]])
        p, q, now = row[v], following[v], pick[v]
        tail = 0.0
        for k in range(onward[v], onward[v + 1]):
            w = after[k]
            tail = max(tail, time[pick[w]] + rest[w])
        best, most = now, 0.0
        for o in range(first[kind[v]], first[kind[v] + 1]):
            gain = energy[now] - energy[o]
            if gain <= most or gain < rate * (time[o] - time[now]):
                continue
            begin = latest
            if latency > 0.0 and p >= 0 and leave[pick[p]] != enter[o]:
                begin = max(begin, start[p] + time[pick[p]] + latency)
            end = begin + time[o]
            if end + tail > deadline:
                continue
            if (
                latency > 0.0
                and q >= 0
                and leave[o] != enter[pick[q]]
                and end + latency + time[pick[q]] + rest[q] > deadline
            ):
                continue
            best, most = o, gain
        if best != now:
            changed += 1
            pick[v] = best
        begin = latest
        if latency > 0.0 and p >= 0 and leave[pick[p]] != enter[pick[v]]:
            begin = max(begin, start[p] + time[pick[p]] + latency)
        start[v] = begin
    return changed


def steady(
    rows: Ints, ends: Ints, kind: Ints, price: Floats, latency: float, first: Ints,
    time: Floats, energy: Floats, enter: Ints, leave: Ints, clocks: int,
) -> Ints:  # fmt: skip
    """Pick settings of least energy + price * time per device, a change of clock priced too: dynamic programming.

    `rows` lists every device's nodes in order, one device after the other; `ends` where each device's nodes end.
    """
    come = np.zeros((len(rows), int(np.diff(first).max(initial=0))), np.int64)
    pick = np.zeros(len(kind), np.int64)
    _steady(rows, ends, kind, price, latency, first, time, energy, enter, leave, clocks, come, pick)
    return pick


@kernel
def _steady(
    rows: Ints, ends: Ints, kind: Ints, price: Floats, latency: float, first: Ints, time: Floats, energy: Floats,
    enter: Ints, leave: Ints, clocks: int, come: Ints, pick: Ints,
) -> None:  # fmt: skip
    most = come.shape[1]
    begin = 0
    for stop in ends:
        cost = np.zeros(most)
        held = np.full(clocks, np.inf)
        by = np.zeros(clocks, np.int64)
        for i in range(begin, stop):
            v = rows[i]
            cheapest, which = np.inf, 0
            if i > begin:
                held[:] = np.inf
                f = first[kind[rows[i - 1]]]
                for o in range(f, first[kind[rows[i - 1]] + 1]):
                    c = cost[o - f]
                    if c < cheapest:
                        cheapest, which = c, o
                    if c < held[leave[o]]:
                        held[leave[o]], by[leave[o]] = c, o
            fresh = np.zeros(most)
            f = first[kind[v]]
            for o in range(f, first[kind[v] + 1]):
                c = energy[o] + price[v] * time[o]
                if i > begin:
                    stay, change = held[enter[o]], cheapest + latency * price[v]
                    come[i, o - f] = by[enter[o]] if stay <= change else which
                    c += min(stay, change)
                fresh[o - f] = c
            cost = fresh
        if stop > begin:
            v = rows[stop - 1]
            f = first[kind[v]]
            o = f + np.argmin(cost[: first[kind[v] + 1] - f])
            for i in range(stop - 1, begin - 1, -1):
                pick[rows[i]] = o
                o = come[i, o - first[kind[rows[i]]]]
        begin = stop


def _finish(
    choice: Ints, of: Ints, group: Ints, kind: Ints, pick: Ints, order: Ints, pointer: Ints, before: Ints, row: Ints,
    time: Floats, enter: Ints, leave: Ints, latency: float, start: Floats,
) -> float:  # fmt: skip
    for v in range(len(kind)):
        pick[v] = of[kind[v], choice[group[kind[v]]]]
    return reach(order, pointer, before, row, pick, time, enter, leave, latency, start)


@kernel
def together(
    choice: Ints, of: Ints, group: Ints, cost: Floats, work: Floats, kind: Ints, order: Ints, pointer: Ints,
    before: Ints, row: Ints, time: Floats, enter: Ints, leave: Ints, latency: float, deadline: float,
    way: int, window: int, budget: int,
) -> float:  # fmt: skip
    """Slow whole groups of computations down, the best saving first, then trade between pairs of groups.

    Candidate c of group g costs `cost[g, c]` joules and `work[g, c]` seconds of the device, ascending; infinite where
    there is none. `of[k, c]` is the setting of kind k then. `choice` meets `deadline` on entry and is changed in place.
    `way`: 0 weighs savings by the delay of the last node, 1 by seconds of work, 2 not at all. At most `budget` longest
    paths are computed. Returns joules.
    """
    groups, most = cost.shape
    pick = np.zeros(len(kind), np.int64)
    start = np.zeros(len(kind))
    spent = 0
    now = _finish(choice, of, group, kind, pick, order, pointer, before, row, time, enter, leave, latency, start)
    while spent < budget:
        best, at, score = -1, -1, 0.0
        for g in range(groups):
            c0 = choice[g]
            for c in range(c0 + 1, min(c0 + 1 + window, most)):
                gain = cost[g, c0] - cost[g, c]
                if not gain > 0.0:
                    continue
                choice[g] = c
                end = _finish(
                    choice, of, group, kind, pick, order, pointer, before, row, time, enter, leave, latency, start
                )
                spent += 1
                choice[g] = c0
                if end > deadline:
                    continue
                weight = 1.0
                if way == 0:
                    weight = max(end - now, 0.0) + 1e-3 * (work[g, c] - work[g, c0]) + 1e-300
                elif way == 1:
                    weight = work[g, c] - work[g, c0] + 1e-300
                if gain / weight > score:
                    best, at, score = g, c, gain / weight
        if best >= 0:
            choice[best] = at
            now = _finish(
                choice, of, group, kind, pick, order, pointer, before, row, time, enter, leave, latency, start
            )
            continue
        traded = False
        for g in range(groups):
            c0 = choice[g]
            for c in range(c0 + 1, min(c0 + 1 + window, most)):
                gain = cost[g, c0] - cost[g, c]
                if not gain > 0.0 or traded or spent >= budget:
                    continue
                for h in range(groups):
                    if h == g or traded:
                        continue
                    d0 = choice[h]
                    for d in range(d0 - 1, max(d0 - 1 - window, -1), -1):
                        if not cost[h, d] - cost[h, d0] < gain * (1.0 - 1e-9):
                            continue
                        choice[g], choice[h] = c, d
                        end = _finish(
                            choice,
                            of,
                            group,
                            kind,
                            pick,
                            order,
                            pointer,
                            before,
                            row,
                            time,
                            enter,
                            leave,
                            latency,
                            start,
                        )
                        spent += 1
                        if end <= deadline:
                            traded, now = True, end
                            break
                        choice[g], choice[h] = c0, d0
        if not traded:
            break
    total = 0.0
    for g in range(groups):
        total += cost[g, choice[g]]
    return total
