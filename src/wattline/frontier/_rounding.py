"""Kernels that choose one discrete option per node of a DAG so that its longest path meets a deadline."""

from __future__ import annotations

import numpy as np

from ..core.kernels import Source
from ._flow import Floats, Ints
from ._heap import pop, push

kernel = Source("rounding.c")


def neighbours(count: int, edges: Ints) -> tuple[Ints, Ints]:
    """Group the second ends of edges (m, 2) by the first: pointer (count + 1,) and ends (m,)."""
    pointer, ends = np.zeros(count + 2, np.int64), np.empty(len(edges), np.int64)
    _neighbours(count, edges, pointer, ends)
    return pointer[:-1].copy(), ends


@kernel
def _neighbours(count: int, edges: Ints, pointer: Ints, ends: Ints) -> None:
    for k in range(len(edges)):
        pointer[edges[k, 0] + 2] += 1
    for v in range(count):
        pointer[v + 2] += pointer[v + 1]
    for k in range(len(edges)):
        ends[pointer[edges[k, 0] + 1]] = edges[k, 1]
        pointer[edges[k, 0] + 1] += 1


def longest(order: Ints, pointer: Ints, before: Ints, pick: Ints, time: Floats) -> Floats:
    """Longest path, seconds, that ends just before each node; `order` puts every node after those in `before`."""
    reach = np.zeros(len(order))
    _longest(order, pointer, before, pick, time, reach)
    return reach


@kernel
def _longest(order: Ints, pointer: Ints, before: Ints, pick: Ints, time: Floats, reach: Floats) -> None:
    at, ends, taken = pointer.tolist(), before.tolist(), time[pick].tolist()
    found = [0.0] * len(at)
    for v in order.tolist():
        latest = 0.0
        for u in ends[at[v] : at[v + 1]]:
            if found[u] + taken[u] > latest:
                latest = found[u] + taken[u]
        found[v] = latest
    reach[:] = found[: len(reach)]


def diffuse(
    order: Ints,
    pointer: Ints,
    before: Ints,
    node: Ints,
    end: Floats,
    price: Floats,
    first: Ints,
    time: Floats,
    energy: Floats,
) -> Ints:
    """Pick, in `order`, the option of least `energy + price * time` that ends by `end`, starting as early as it can.

    What rounding one node down leaves over is thus spent by those that follow it. Options of class c are rows
    `first[c] : first[c + 1]` of `time` (ascending) and `energy` (descending). Returns the row picked per node.
    """
    pick = np.empty(len(order), np.int64)
    _diffuse(order, pointer, before, node, end, price, first, time, energy, pick)
    return pick


@kernel
def _diffuse(
    order: Ints, pointer: Ints, before: Ints, node: Ints, end: Floats, price: Floats, first: Ints, time: Floats,
    energy: Floats, pick: Ints,
) -> None:  # fmt: skip
    reach = np.zeros(len(order))
    for v in order:
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            latest = max(latest, reach[before[k]])
        best = first[node[v]]
        cost = energy[best] + price[v] * time[best]
        for o in range(best + 1, first[node[v] + 1]):
            if latest + time[o] > end[v]:
                break
            c = energy[o] + price[v] * time[o]
            if c <= cost + 1e-9 * abs(cost):
                best, cost = o, c
        pick[v] = best
        reach[v] = latest + time[best]


@kernel
def reclaim(
    order: Ints,
    pointer: Ints,
    before: Ints,
    node: Ints,
    after: Floats,
    deadline: float,
    rates: Floats,
    pick: Ints,
    first: Ints,
    time: Floats,
    energy: Floats,
) -> None:
    """Slow nodes down, in `order`, where that saves at least `rates` (n,) watts and delays nothing beyond `deadline`.

    `after` is the longest path from each node's end, with the picks as they are; `pick` is changed in place.
    """
    at, ends, kind, start_of = pointer.tolist(), before.tolist(), node.tolist(), first.tolist()
    taken, spent, rest, least = time.tolist(), energy.tolist(), after.tolist(), rates.tolist()
    picked, reach = pick.tolist(), [0.0] * len(order)
    for v in order.tolist():
        latest = 0.0
        for u in ends[at[v] : at[v + 1]]:
            if reach[u] > latest:
                latest = reach[u]
        now = best = picked[v]
        for o in range(now + 1, start_of[kind[v] + 1]):
            if latest + taken[o] + rest[v] > deadline:
                break
            if spent[now] - spent[o] >= least[v] * (taken[o] - taken[now]):
                best = o
        picked[v] = best
        reach[v] = latest + taken[best]
    pick[:] = picked


@kernel
def shake(
    ahead: Ints,
    before: Ints,
    sources: Ints,
    behind: Ints,
    after: Ints,
    targets: Ints,
    node: Ints,
    deadline: float,
    prices: Floats,
    width: int,
    rounds: int,
    random: np.random.Generator,
    pick: Ints,
    first: Ints,
    time: Floats,
    energy: Floats,
) -> None:
    """Hasten a few nodes that are near in time, spend the time won elsewhere, keep what is no worse; `rounds` times.

    Nodes are numbered in time; `ahead` and `behind` are that order and its reverse. At most `width` nodes are hastened
    at a time. `pick` is changed in place and always meets `deadline`.
    """  # fmt: skip
    n = len(node)
    trial = pick.copy()
    rates = np.empty(n)
    for _ in range(rounds):
        trial[:] = pick
        start = int(random.random() * n)
        for v in range(start, min(n, start + 1 + int(random.random() * width))):
            if trial[v] > first[node[v]] and random.random() < 0.4:
                trial[v] -= 1
        eager = random.random()
        for turn in range(3):
            for v in range(n):
                rates[v] = prices[v] * eager * random.random() if turn < 2 else 0.0
            eager *= 0.3
            if (turn + start) % 2 == 0:
                rest = longest(behind, after, targets, trial, time)
                reclaim(ahead, before, sources, node, rest, deadline, rates, trial, first, time, energy)
            else:
                rest = longest(ahead, before, sources, trial, time)
                reclaim(behind, after, targets, node, rest, deadline, rates, trial, first, time, energy)
        change = 0.0
        for v in range(n):
            change += energy[trial[v]] - energy[pick[v]]
        if change <= 0.0:
            pick[:] = trial


def _spread(
    changed: Ints,
    sign: int,
    pointer: Ints,
    sources: Ints,
    onward: Ints,
    targets: Ints,
    last: int,
    deadline: float,
    pick: Ints,
    time: Floats,
    reach: Floats,
    other: Floats,
    keys: Ints,
    waits: Ints,
    log: Ints,
    was: Floats,
) -> tuple[int, bool]:
    """Update `reach` after the picks of the `changed` nodes did; nodes are numbered in topological order.

    With `sign` 1, `reach` is the longest path before each node and `other` the one after it; with -1 the roles and all
    directions are swapped. Stops at the first node beyond `last` through which a path misses the deadline: `other` is
    up to date there. Returns how many values of `reach` were changed (nodes in `log`, former values in `was`), and
    whether the deadline is met.
    """  # fmt: skip
    waiting = 0
    logged = 0
    fits = True
    for v in changed:
        for k in range(onward[v], onward[v + 1]):
            w = targets[k]
            if waits[w] == 0:
                waits[w] = 1
                push(keys, keys, waiting, sign * w, sign * w)
                waiting += 1
    while waiting > 0:
        v = sign * keys[0]
        pop(keys, keys, waiting)
        waiting -= 1
        waits[v] = 0
        if not fits:
            continue
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            u = sources[k]
            latest = max(latest, reach[u] + time[pick[u]])
        if latest == reach[v]:
            continue
        log[logged] = v
        was[logged] = reach[v]
        logged += 1
        reach[v] = latest
        rest = other[v] if sign * v > sign * last else 0.0
        fits = latest + time[pick[v]] + rest <= deadline
        for k in range(onward[v], onward[v + 1]):
            w = targets[k]
            if waits[w] == 0:
                waits[w] = 1
                push(keys, keys, waiting, sign * w, sign * w)
                waiting += 1
    return logged, fits


@kernel
def _blocked(
    sign: int, i: int, walk: Ints, pointer: Ints, ends: Ints, pick: Ints, time: Floats, reach: Floats, most: float
) -> bool:
    """Tell whether a path beside node i takes longer than `most` seconds however fast the last node of `walk` is.

    `walk` leads from i along `ends`: predecessors with sign 1, successors with -1. Paths that leave it on the way
    and avoid its last node are looked at; finding one is proof, finding none says nothing.
    """
    last = walk[len(walk) - 1]
    tail = 0.0
    v = i
    for k in range(len(walk)):
        for y in range(pointer[v], pointer[v + 1]):
            w = ends[y]
            if w == walk[k] or tail + time[pick[w]] + reach[w] <= most:
                continue
            # Follow the path that makes `reach[w]`; past `last` in the order it cannot meet it any more.
            u = w
            while sign * u > sign * last:
                onward = -1
                longest = -1.0
                for x in range(pointer[u], pointer[u + 1]):
                    z = ends[x]
                    if reach[z] + time[pick[z]] > longest:
                        onward = z
                        longest = reach[z] + time[pick[z]]
                if onward < 0:
                    return True
                u = onward
            if u != last:
                return True
        v = walk[k]
        tail += time[pick[v]]
    return False


@kernel
def trade(
    pointer: Ints,
    sources: Ints,
    onward: Ints,
    targets: Ints,
    node: Ints,
    reach: Floats,
    after: Floats,
    deadline: float,
    steps: int,
    pick: Ints,
    first: Ints,
    time: Floats,
    energy: Floats,
) -> float:
    """Slow one node and hasten another on a tight path through it, wherever that saves energy and meets `deadline`.

    Nodes are numbered in topological order; `sources` precede, `targets` follow. `reach` and `after` are the longest
    paths before and after each node. Partners are looked for up to `steps` nodes away. `pick`, `reach` and `after` are
    changed in place. Returns the joules saved.
    """  # fmt: skip
    n = len(node)
    keys = np.empty(n + 1, np.int64)
    waits = np.zeros(n, np.int8)
    log = np.empty(n, np.int64)
    was = np.empty(n)
    near = 1e-9 * deadline
    partners = np.empty(2 * steps, np.int64)
    changed = np.empty(2, np.int64)
    saved = 0.0
    for i in range(n):
        found = 0
        v = i
        for _ in range(steps):
            tight = -1
            for k in range(onward[v], onward[v + 1]):
                w = targets[k]
                if reach[w] <= reach[v] + time[pick[v]] + near and (tight < 0 or after[w] > after[tight]):
                    tight = w
            if tight < 0:
                break
            v = tight
            partners[found] = v
            found += 1
        after_i = found  # partners up to here follow i, the others precede it
        v = i
        for _ in range(steps):
            tight = -1
            for k in range(pointer[v], pointer[v + 1]):
                w = sources[k]
                if reach[v] <= reach[w] + time[pick[w]] + near and (tight < 0 or reach[w] > reach[tight]):
                    tight = w
            if tight < 0:
                break
            v = tight
            partners[found] = v
            found += 1
        for slower in range(1, 4):
            up = pick[i] + slower
            if up >= first[node[i] + 1]:
                break
            gain = energy[pick[i]] - energy[up]
            lack = reach[i] + time[up] + after[i] - deadline
            done = False
            for q in range(found):
                j = partners[q]
                old_i, old_j = pick[i], pick[j]
                down = old_j - 1
                while down >= first[node[j]] and time[old_j] - time[down] < lack:
                    down -= 1
                if down < first[node[j]] or energy[down] - energy[old_j] >= gain * (1 - 1e-9):
                    continue
                if q < after_i:
                    most = deadline - time[up] - reach[i] + near
                    walk = partners[: q + 1]
                    if _blocked(-1, i, walk, onward, targets, pick, time, after, most):
                        continue
                else:
                    most = deadline - time[up] - after[i] + near
                    walk = partners[after_i : q + 1]
                    if _blocked(1, i, walk, pointer, sources, pick, time, reach, most):
                        continue
                pick[i], pick[j] = up, down
                changed[0], changed[1] = min(i, j), max(i, j)
                last = changed[1]
                fits = reach[changed[0]] + time[pick[changed[0]]] <= deadline
                logged, met = _spread(
                    changed, 1, pointer, sources, onward, targets, last, deadline, pick, time, reach, after, keys,
                    waits, log, was,
                )  # fmt: skip
                fits = fits and met and reach[last] + time[pick[last]] + after[last] <= deadline
                if fits:
                    _spread(
                        changed, -1, onward, targets, pointer, sources, 0, np.inf, pick, time, after, reach, keys,
                        waits, log, was,
                    )  # fmt: skip
                    saved += gain - (energy[down] - energy[old_j])
                    done = True
                    break
                for k in range(logged):
                    reach[log[k]] = was[k]
                pick[i], pick[j] = old_i, old_j
            if done:
                break
    return saved
