"""Kernels of the graph frontier: a parametric minimum-cost flow over events.

The network is activity-on-arc. A node is an *event*; an arc is a computation (or a bare precedence) from the event that
starts it to the event that ends it. The flow on a computation is the price, in watts, that it gets for one second less.
Its length is the duration it answers with: the higher the flow, the shorter, one *level* per hull vertex. All numbers
are scaled integers, so ties are ties and nothing drifts, however many breakpoints are crossed.

Level tables: class c owns `first[c] : first[c + 1]` of `length` (descending) and `flow_at` (ascending, first 0);
level k serves flows between `flow_at[k]` and `flow_at[k + 1]`, the last one without limit.

Functions without a mark make arrays and hand them to the kernels. Kernels in Python walk over lists: exact
integers without limit, and three times as fast as single items of arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.kernels import Source
from ._heap import pop, push

kernel = Source("flow.c")

Ints = NDArray[Any]
Floats = NDArray[np.float64]

INFINITE = 1 << 61  # twice this still fits 64 bits, and potentials stay below 2**57
BREAKPOINTS = 1 << 16  # that one call of the kernel has room for


class Arcs(NamedTuple):
    """A network: m arcs between events, and the tables of levels. What is looked up most is 32 bits wide."""

    tail: Ints  # (m,) event, uint32
    head: Ints
    first: Ints  # (m,) level
    last: Ints
    pointer: Ints  # (events + 1,) first place of every event
    arc: Ints  # (2m,) arc at every place, uint32
    other: Ints  # (2m,) event at its other end, uint32
    place: Ints  # (m, 2) place of each arc at its tail and at its head, uint32
    length: Ints  # ticks, by level
    flow_at: Ints
    source: int
    target: int


def topological_order(count: int, edges: Ints) -> tuple[Ints, int]:
    """Order `count` nodes so that every edge (m, 2) points forward.

    Returns the order and how many nodes it holds; fewer than `count` means that the rest hang on a cycle.
    """
    order = np.zeros(count, np.int64)
    return order, int(_sorted(count, edges, order))


@kernel
def _sorted(count: int, edges: Ints, order: Ints) -> int:
    pairs = edges.tolist()
    after: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for a, b in pairs:
        after[a].append(b)
        waits[b] += 1
    found = [v for v in range(count) if waits[v] == 0]
    for v in found:  # grows as it goes
        for w in after[v]:
            waits[w] -= 1
            if waits[w] == 0:
                found.append(w)
    order[: len(found)] = found
    return len(found)


def _root(parent: list[int], v: int) -> int:
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


def contract(classes: Ints, edges: Ints) -> tuple[Ints, Ints, Ints, int, int, int]:
    """Turn n computations and their precedences into the arcs of an activity-on-arc network.

    A start with one predecessor is that predecessor's end, and an end with one successor is that successor's start:
    moving one onto the other never hurts, because a computation may always wait inside its arc. Sources start at the
    event `source`, sinks end at `target`.

    Returns tail, head, class (computations first, in order; then precedences, of class 0), events, source, target.
    """
    tail, head, kind = (np.zeros(len(classes) + len(edges), np.int64) for _ in range(3))
    ends = np.zeros(3, np.int64)
    arcs = _contract(classes, edges, tail, head, kind, ends)
    events, source, target = ends.tolist()
    return tail[:arcs], head[:arcs], kind[:arcs], events, source, target


@kernel
def _contract(classes: Ints, edges: Ints, tail: Ints, head: Ints, kind: Ints, ends: Ints) -> int:
    n = len(classes)
    pairs = edges.tolist()
    before, after = [0] * n, [0] * n
    for a, b in pairs:
        after[a] += 1
        before[b] += 1
    parent = list(range(2 * n + 2))
    for a, b in pairs:
        if after[a] == 1 or before[b] == 1:
            start = _root(parent, 2 * b)
            parent[_root(parent, 2 * a + 1)] = start
    for i in range(n):
        if before[i] == 0:
            source = _root(parent, 2 * n)
            parent[_root(parent, 2 * i)] = source
        if after[i] == 0:
            target = _root(parent, 2 * n + 1)
            parent[_root(parent, 2 * i + 1)] = target
    name: dict[int, int] = {}
    for v in range(2 * n + 2):
        name.setdefault(_root(parent, v), len(name))
    for i in range(n):
        tail[i] = name[_root(parent, 2 * i)]
        head[i] = name[_root(parent, 2 * i + 1)]
    kind[:n] = classes + 1
    arcs = n
    for a, b in pairs:
        u, v = name[_root(parent, 2 * a + 1)], name[_root(parent, 2 * b)]
        if u != v:
            tail[arcs], head[arcs] = u, v
            arcs += 1
    ends[:] = len(name), name[_root(parent, 2 * n)], name[_root(parent, 2 * n + 1)]
    return arcs


def earliest(order: Ints, pointer: Ints, arc: Ints, tail: Ints, head: Ints, length: Ints) -> Ints:
    """Earliest time of every event when arc a takes `length[a]`; `order` is a topological order of the events."""
    time = np.zeros(len(order), length.dtype)
    walk = _earliest_seconds if length.dtype == np.float64 else _earliest_ticks
    walk(order, pointer, arc, tail.astype(np.uint32, copy=False), head.astype(np.uint32, copy=False), length, time)
    return time


def _walk(order: Ints, pointer: Ints, arc: Ints, tail: Ints, head: Ints, length: Ints, time: Ints) -> None:
    first, arcs, tails, heads, lengths = (x.tolist() for x in (pointer, arc, tail, head, length))
    found = time.tolist()
    for v in order.tolist():
        for a in arcs[first[v] : first[v + 1]]:
            if tails[a] == v and found[v] + lengths[a] > found[heads[a]]:
                found[heads[a]] = found[v] + lengths[a]
    time[:] = found


@kernel
def _earliest_ticks(order: Ints, pointer: Ints, arc: Ints, tail: Ints, head: Ints, length: Ints, time: Ints) -> None:
    _walk(order, pointer, arc, tail, head, length, time)


@kernel
def _earliest_seconds(
    order: Ints, pointer: Ints, arc: Ints, tail: Ints, head: Ints, length: Floats, time: Floats
) -> None:
    _walk(order, pointer, arc, tail, head, length, time)


def incidence(events: int, tail: Ints, head: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """List the arcs at every event, at both ends.

    Returns pointer (events + 1,), arc (2m,), other end (2m,), and the two places (m, 2) of each arc: at its tail, at
    its head.
    """
    m = len(tail)
    pointer = np.zeros(events + 2, np.int64)
    arc, other, place = np.empty(2 * m, np.uint32), np.empty(2 * m, np.uint32), np.empty((m, 2), np.uint32)
    _incidence(events, tail.astype(np.uint32), head.astype(np.uint32), pointer, arc, other, place)
    return pointer[:-1].copy(), arc, other, place


@kernel
def _incidence(events: int, tail: Ints, head: Ints, pointer: Ints, arc: Ints, other: Ints, place: Ints) -> None:
    ends = np.stack((tail, head), axis=1).ravel()
    order = np.argsort(ends, kind="stable")
    counts = np.cumsum(np.bincount(ends, minlength=events))
    pointer[:] = np.concatenate(([0], counts, counts[-1:]))[: len(pointer)]
    arc[:] = order // 2
    other[:] = np.stack((head, tail), axis=1).ravel()[order]
    place.reshape(-1)[order] = np.arange(len(order))


class _Levels:
    """Flows on the arcs of a network as lists, the level of each, and the bound that it sets at both its places.

    Slack of the residual arc that leaves v at place y is `time[other[y]] - time[v] - bound[y]`.
    """

    def __init__(self, network: Arcs, flow: Ints) -> None:
        self.tail, self.head, self.first, self.last = (x.tolist() for x in network[:4])
        self.pointer, self.arc, self.other = (x.tolist() for x in network[4:7])
        self.place, self.length, self.flow_at = (x.tolist() for x in network[7:10])
        self.flow: list[int] = flow.tolist()
        self.level = list(self.first)
        self.bound = [0] * len(self.arc)
        for a, amount in enumerate(self.flow):
            while self.level[a] < self.last[a] and self.flow_at[self.level[a] + 1] <= amount:
                self.level[a] += 1
            self.price(a)

    def price(self, a: int) -> None:
        """Refresh both bounds of an arc after a change of flow or level."""
        k, (ahead, back) = self.level[a], self.place[a]
        self.bound[ahead] = self.length[k]
        if self.flow[a] > self.flow_at[k]:
            self.bound[back] = -self.length[k]
        elif k > self.first[a]:
            self.bound[back] = -self.length[k - 1]
        else:
            self.bound[back] = -2 * INFINITE

    def opposite(self, y: int) -> int:
        """Return the arc's other place."""
        ahead, back = self.place[self.arc[y]]
        return int(back if y == ahead else ahead)

    def room(self, y: int) -> int:
        """Return how much the residual arc at place y takes until its length changes."""
        a = self.arc[y]
        k, amount = self.level[a], self.flow[a]
        if self.place[a][0] == y:
            return int(self.flow_at[k + 1] - amount) if k < self.last[a] else INFINITE
        return int(amount - self.flow_at[k] if amount > self.flow_at[k] else self.flow_at[k] - self.flow_at[k - 1])

    def send(self, y: int, amount: int) -> None:
        """Send flow along the residual arc at place y, at most its room."""
        a = self.arc[y]
        k = self.level[a]
        if self.place[a][0] == y:
            self.flow[a] += amount
            if k < self.last[a] and self.flow[a] == self.flow_at[k + 1]:
                self.level[a] = k + 1
        else:
            if self.flow[a] == self.flow_at[k]:
                self.level[a] = k - 1
            self.flow[a] -= amount
        self.price(a)


def advance(
    network: Arcs,
    time: Ints,
    flow: Ints,
    price: int,
    record_from: int,
    stop: int,
    ceiling: int,
    keep_times: Ints,
    keep_flows: Ints,
    keep_prices: Ints,
) -> tuple[Ints, Ints, int]:
    """Raise the price of a second from `price` to `ceiling`, until the last event happens at `stop` or cannot sooner.

    Primal-dual: one sweep from the source over residual arcs, nearest first, finds by how much the completion can fall
    before a path with no slack opens; then every such path is filled, walking back from the target along events that
    were settled earlier (each has a predecessor, so the walk hardly ever meets a dead end). The completion is the time
    from source to target: to let it fall, what is near the source is moved later, and the rest stays untouched. A
    sweep goes on from the one before, at the first event whose way from the source was filled up.

    `time` (events,) and `flow` (arcs,) are the state, changed in place: optimal for `price` on entry, and for the
    price reached on return, so that the next call may go on from there. Whenever
    `keep_times` (checkpoints, events) is full, every second checkpoint is dropped and the spacing doubled.

    Returns completions (descending) and prices of the breakpoints at prices >= `record_from` (the price reached before
    the completion falls further; the last is INFINITE if nothing stopped it), and the checkpoints kept.
    """
    found: list[tuple[Ints, Ints]] = []
    progress = np.array([price, 0, 0, 1, 0])  # price, checkpoints kept, sweeps, their spacing, whether it ended
    while not progress[4]:
        completions, prices = np.empty(BREAKPOINTS, np.int64), np.empty(BREAKPOINTS, np.int64)
        points = climb(
            network, time, flow, record_from, stop, ceiling, keep_times, keep_flows, keep_prices, completions, prices,
            progress,
        )  # fmt: skip
        found.append((completions[:points].copy(), prices[:points].copy()))
    done, price_at = (np.concatenate(x) for x in zip(*found, strict=True))
    return done, price_at, int(progress[1])


@kernel
def climb(
    network: Arcs, time: Ints, flow: Ints, record_from: int, stop: int, ceiling: int, keep_times: Ints,
    keep_flows: Ints, keep_prices: Ints, completions: Ints, prices: Ints, progress: Ints,
) -> int:  # fmt: skip
    """Advance, as above, until it ends or `completions` and `prices` are full; return how many breakpoints there are.

    `progress` says where it is: the next call with it goes on.
    """
    events, source, target = len(time), int(network.source), int(network.target)
    at: list[int] = time.tolist()
    arcs = _Levels(network, flow)
    pointer, other, bound = arcs.pointer, arcs.other, arcs.bound
    rank = [events] * events  # place in the queue; `events` while not settled
    cause = [0] * (events + 1)  # place of the event that led to the one at a place, or a later place
    walked = [0] * events  # the last sweep that walked back through it
    shift, queue, turn = [0] * events, [0] * (events + 1), [0] * events
    keys, values = [0] * (len(other) + 1), [0] * (len(other) + 1)
    price, kept, sweeps, spacing, _ = progress.tolist()
    completion = at[target] - at[source]
    points = sweep = front = 0
    settled, ended = 1, True
    rank[source] = 0
    queue[0] = source
    while True:
        if len(keep_prices) > 0 and sweeps % spacing == 0:
            if kept == len(keep_prices):
                for kept_at in (keep_times, keep_flows, keep_prices):
                    kept_at[: kept // 2] = kept_at[: kept // 2 * 2 : 2].copy()
                kept //= 2
                spacing *= 2
            if sweeps % spacing == 0:
                keep_times[kept], keep_flows[kept], keep_prices[kept] = at, arcs.flow, price
                kept += 1
        sweeps += 1
        sweep += 1
        # Settle events by distance from the source: the slack that the completion must lose before a path reaches
        # them. Events at one distance are one level.
        start = waiting = step = 0
        while True:
            while front < settled:
                u = queue[front]
                for y in range(pointer[u], pointer[u + 1]):
                    w = other[y]
                    if rank[w] == events and at[u] + bound[y] == at[w]:
                        queue[settled], cause[settled], rank[w] = w, front, settled
                        settled += 1
                front += 1
            if rank[target] < events:
                break
            for i in range(start, settled):
                u = queue[i]
                for y in range(pointer[u], pointer[u + 1]):
                    w = other[y]
                    if rank[w] == events:
                        d = step + at[w] - at[u] - bound[y]
                        if d < INFINITE:
                            push(keys, values, waiting, d, w)
                            waiting += 1
                shift[i] = step
            start = settled
            while rank[values[0]] < events:
                pop(keys, values, waiting)
                waiting -= 1
            step = keys[0]
            rank[values[0]] = settled
            cause[settled] = settled - 1
            queue[settled] = values[0]
            settled += 1
            pop(keys, values, waiting)
            waiting -= 1
        rank[target] = events  # after all others
        turn[target] = pointer[target]
        if step > 0 and price >= record_from:
            if points + 1 >= len(prices):
                ended = False
                break
            completions[points], prices[points] = completion, price
            points += 1
        # Everything beyond the settled events happens earlier by the step, or these happen later: the same.
        stopped = completion - step <= stop
        if stopped:
            step = completion - stop
        for i in range(start):
            at[queue[i]] += max(step - shift[i], 0)
        completion -= step
        if stopped:
            break
        price, front, most = _fill(arcs, at, rank, cause, walked, turn, sweep, source, target, front, price, ceiling)
        if most >= INFINITE:
            completions[points], prices[points] = completion, INFINITE
            points += 1
            break
        if price >= ceiling:
            break
        # What was settled before the first void place stands; the next sweep goes on from there.
        keep = front + 1
        while keep < settled and cause[keep] < front:
            keep += 1
        for i in range(keep, settled):
            rank[queue[i]] = events
        settled = keep
    time[:], flow[:] = at, arcs.flow
    progress[:] = price, kept, sweeps, spacing, ended
    return points


def _fill(
    arcs: _Levels, at: list[int], rank: list[int], cause: list[int], walked: list[int], turn: list[int], sweep: int,
    source: int, target: int, front: int, price: int, ceiling: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Fill every path without slack that follows the settled order, up to a price of `ceiling`.

    Returns the price reached, the first place in the queue that is void now, and INFINITE if a path takes any flow
    (else less).
    """
    pointer, other, bound, head, tail = arcs.pointer, arcs.other, arcs.bound, arcs.head, arcs.tail
    path: list[int] = []
    v = target
    while True:
        if v == source:
            rooms = [arcs.room(arcs.opposite(y)) for y in path]
            most = min(rooms, default=INFINITE)
            if most >= INFINITE:
                return price, front, INFINITE
            cut = rooms.index(most)
            most = min(most, ceiling - price)
            price += most
            for y in path:
                back = arcs.opposite(y)
                arcs.send(back, most)
                # Did this close the arc by which its far end was settled? Then the sweep is void from there on.
                a, u = arcs.arc[y], other[y]
                w = head[a] if arcs.place[a][1] == y else tail[a]
                closed = bound[back] != at[w] - at[u]
                by_this = w == target or cause[rank[w]] == rank[u] or cause[rank[w]] == rank[w] - 1
                if closed and by_this and rank[u] < front:
                    front = rank[u]
            if price >= ceiling:
                return price, front, most
            v = other[arcs.opposite(path[cut])]
            del path[cut:]
        y = turn[v]
        while y < pointer[v + 1]:
            u = other[y]
            if rank[u] < rank[v] and at[v] - at[u] == bound[arcs.opposite(y)]:
                break
            y += 1
        turn[v] = y
        if y < pointer[v + 1]:
            path.append(y)
            v = other[y]
            if walked[v] != sweep:
                walked[v] = sweep
                turn[v] = pointer[v]
        elif v == target:
            return price, front, 0
        else:
            v = other[arcs.opposite(path.pop())]
            turn[v] += 1


def _admit(network: Arcs, time: Ints, flow: Ints) -> None:
    """Move events later until no arc is shorter than it can be, and every flow to what its duration admits."""
    tail, head, first, last, pointer, arc = (x.tolist() for x in network[:6])
    length, flow_at = network.length.tolist(), network.flow_at.tolist()
    at, amount = time.tolist(), flow.tolist()
    for v in range(len(at)):  # events are numbered in topological order
        for a in arc[pointer[v] : pointer[v + 1]]:
            if tail[a] == v:
                at[head[a]] = max(at[head[a]], at[v] + length[last[a]])
    for a in range(len(tail)):
        duration = at[head[a]] - at[tail[a]]
        k = first[a]
        while length[k] > duration:
            k += 1
        most = flow_at[k]
        if length[k] == duration:
            most = flow_at[k + 1] if k < last[a] else INFINITE
        amount[a] = min(max(amount[a], flow_at[k]), most)
    time[:], flow[:] = at, amount


def _excess(network: Arcs, flow: Ints, price: int) -> list[int]:
    """Return what enters every event without leaving it, when `price` flows from source to target."""
    excess = [0] * (len(network.pointer) - 1)
    excess[network.source] += price
    excess[network.target] -= price
    for u, v, amount in zip(network.tail.tolist(), network.head.tolist(), flow.tolist(), strict=True):
        excess[u] -= amount
        excess[v] += amount
    return excess


@kernel
def imbalance(network: Arcs, time: Ints, flow: Ints, price: int) -> float:
    """Return how much flow a guess leaves where it does not belong; 0 if it is optimal. It is made complementary."""
    _admit(network, time, flow)
    total = 0.0
    for x in _excess(network, flow, price):
        total += abs(float(x))
    return total


@kernel
def balance(network: Arcs, time: Ints, flow: Ints, price: int, limit: int) -> int:
    """Turn any guess of times and flows into a state that is optimal for `price`, in place.

    The guess is first made complementary: no arc too short, every flow admitted by its duration. What then enters an
    event without leaving it goes to the nearest events that lack flow, by shortest residual paths, which keeps it so.
    A good guess makes all of them short. Returns how many events it visited, -1 if that came to exceed
    `limit`: then the guess was too bad to be worth it, and the state is of no use.
    """
    _admit(network, time, flow)
    excess = _excess(network, flow, price)
    at: list[int] = time.tolist()
    arcs = _Levels(network, flow)
    pointer, other, bound = arcs.pointer, arcs.other, arcs.bound
    distance, settled, cause = [INFINITE] * len(at), [False] * len(at), [0] * len(at)
    keys, values = [0] * (len(other) + 1), [0] * (len(other) + 1)
    visited = 0
    for begin in range(len(at)):
        while excess[begin] > 0:
            distance[begin] = keys[0] = 0
            values[0] = begin
            touched, waiting = [begin], 1
            while True:
                if waiting == 0 or visited > limit:
                    return -1
                visited += 1
                step, u = keys[0], values[0]
                pop(keys, values, waiting)
                waiting -= 1
                if settled[u]:
                    continue
                if excess[u] < 0:
                    break
                settled[u] = True
                for y in range(pointer[u], pointer[u + 1]):
                    w = other[y]
                    d = step + at[w] - at[u] - bound[y]
                    if d < distance[w]:
                        if distance[w] == INFINITE:
                            touched.append(w)
                        distance[w], cause[w] = d, y
                        push(keys, values, waiting, d, w)
                        waiting += 1
            end, path = u, []
            while u != begin:
                path.append(cause[u])
                u = other[arcs.opposite(cause[u])]
            most = min(excess[begin], -excess[end], *(arcs.room(y) for y in path))
            for y in path:
                arcs.send(y, most)
            excess[begin] -= most
            excess[end] += most
            for w in touched:
                if settled[w]:
                    at[w] += step - distance[w]
                    settled[w] = False
                distance[w] = INFINITE
    time[:], flow[:] = at, arcs.flow
    return visited
