"""Compiled kernels of the graph frontier: a parametric minimum-cost flow over events.

The network is activity-on-arc. A node is an *event*; an arc is a computation (or a bare precedence) from the event that
starts it to the event that ends it. The flow on a computation is the price, in watts, that it gets for one second less.
Its length is the duration it answers with: the higher the flow, the shorter, one *level* per hull vertex. All numbers
are scaled integers, so ties are ties and nothing drifts, however many breakpoints are crossed.

Level tables: class c owns `first[c] : first[c + 1]` of `length` (descending) and `flow_at` (ascending, first 0);
level k serves flows between `flow_at[k]` and `flow_at[k + 1]`, the last one without limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compiled import compiled

Ints = NDArray[Any]
Floats = NDArray[np.float64]
Network = tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints, Any, Any]

INFINITE = np.int64(1) << np.int64(61)  # twice this still fits, and potentials stay below 2**57


@compiled
def topological_order(count: int, edges: Ints) -> tuple[Ints, int]:
    """Order `count` nodes so that every edge (m, 2) points forward.

    Returns the order and how many nodes it holds; fewer than `count` means that the rest hang on a cycle.
    """
    pointer = np.zeros(count + 2, np.int64)
    waits = np.zeros(count, np.int64)
    for k in range(len(edges)):
        pointer[edges[k, 0] + 2] += 1
        waits[edges[k, 1]] += 1
    for v in range(count):
        pointer[v + 2] += pointer[v + 1]
    after = np.empty(len(edges), np.int64)
    for k in range(len(edges)):
        after[pointer[edges[k, 0] + 1]] = edges[k, 1]
        pointer[edges[k, 0] + 1] += 1
    order = np.empty(count, np.int64)
    done = 0
    for v in range(count):
        if waits[v] == 0:
            order[done] = v
            done += 1
    turn = 0
    while turn < done:
        v = order[turn]
        turn += 1
        for k in range(pointer[v], pointer[v + 1]):
            w = after[k]
            waits[w] -= 1
            if waits[w] == 0:
                order[done] = w
                done += 1
    return order, done


@compiled
def _root(parent: Ints, v: int) -> int:
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@compiled
def contract(classes: Ints, edges: Ints) -> tuple[Ints, Ints, Ints, int, int, int]:
    """Turn n computations and their precedences into the arcs of an activity-on-arc network.

    A start with one predecessor is that predecessor's end, and an end with one successor is that successor's start:
    moving one onto the other never hurts, because a computation may always wait inside its arc. Sources start at the
    event `source`, sinks end at `target`.

    Returns tail, head, class (computations first, in order; then precedences, of class 0), events, source, target.
    """
    n = len(classes)
    before = np.zeros(n, np.int64)
    after = np.zeros(n, np.int64)
    for k in range(len(edges)):
        after[edges[k, 0]] += 1
        before[edges[k, 1]] += 1
    parent = np.arange(2 * n + 2)
    for k in range(len(edges)):
        if after[edges[k, 0]] == 1 or before[edges[k, 1]] == 1:
            parent[_root(parent, 2 * edges[k, 0] + 1)] = _root(parent, 2 * edges[k, 1])
    for i in range(n):
        if before[i] == 0:
            parent[_root(parent, 2 * i)] = _root(parent, 2 * n)
        if after[i] == 0:
            parent[_root(parent, 2 * i + 1)] = _root(parent, 2 * n + 1)
    name = np.full(2 * n + 2, -1)
    events = 0
    for v in range(2 * n + 2):
        r = _root(parent, v)
        if name[r] < 0:
            name[r] = events
            events += 1
    tail = np.empty(n + len(edges), np.int64)
    head = np.empty(n + len(edges), np.int64)
    kind = np.zeros(n + len(edges), np.int64)
    for i in range(n):
        tail[i] = name[_root(parent, 2 * i)]
        head[i] = name[_root(parent, 2 * i + 1)]
        kind[i] = classes[i] + 1
    arcs = n
    for k in range(len(edges)):
        u = name[_root(parent, 2 * edges[k, 0] + 1)]
        v = name[_root(parent, 2 * edges[k, 1])]
        if u != v:
            tail[arcs] = u
            head[arcs] = v
            arcs += 1
    source = name[_root(parent, 2 * n)]
    target = name[_root(parent, 2 * n + 1)]
    return tail[:arcs], head[:arcs], kind[:arcs], events, source, target


@compiled
def earliest(order: Ints, pointer: Ints, arc: Ints, tail: Ints, head: Ints, length: Ints) -> Ints:
    """Earliest time of every event when arc a takes `length[a]`; `order` is a topological order of the events."""
    time = np.zeros(len(order), length.dtype)
    for v in order:
        for k in range(pointer[v], pointer[v + 1]):
            a = arc[k]
            if tail[a] == v and time[v] + length[a] > time[head[a]]:
                time[head[a]] = time[v] + length[a]
    return time


@compiled
def incidence(events: int, tail: Ints, head: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """List the arcs at every event, at both ends.

    Returns pointer (events + 1,), arc (2m,), other end (2m,), and the two places (m, 2) of each arc: at its tail, at
    its head. All unsigned: indexing then skips the test for negative indices, a third of the time of a sweep.
    """
    pointer = np.zeros(events + 2, np.int64)
    for a in range(len(tail)):
        pointer[tail[a] + 2] += 1
        pointer[head[a] + 2] += 1
    for v in range(events):
        pointer[v + 2] += pointer[v + 1]
    arc = np.empty(2 * len(tail), np.uint32)
    other = np.empty(2 * len(tail), np.uint32)
    place = np.empty((len(tail), 2), np.uint32)
    for a in range(len(tail)):
        k = pointer[tail[a] + 1]
        pointer[tail[a] + 1] += 1
        arc[k] = a
        other[k] = head[a]
        place[a, 0] = k
        k = pointer[head[a] + 1]
        pointer[head[a] + 1] += 1
        arc[k] = a
        other[k] = tail[a]
        place[a, 1] = k
    return pointer[:-1].astype(np.uint64), arc, other, place


@compiled
def _push(keys: Ints, values: Ints, size: int, key: int, value: int) -> None:
    i = size
    while i > 0:
        above = (i - 1) // 2
        if keys[above] <= key:
            break
        keys[i] = keys[above]
        values[i] = values[above]
        i = above
    keys[i] = key
    values[i] = value


@compiled
def _pop(keys: Ints, values: Ints, size: int) -> None:
    """Remove the least key of a heap of `size`; read it before the call."""
    key = keys[size - 1]
    value = values[size - 1]
    size -= 1
    i = 0
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[i] = keys[below]
        values[i] = values[below]
        i = below
    keys[i] = key
    values[i] = value


@compiled
def _price(a: int, k: int, flow: int, place: Ints, bound: Ints, length: Ints, flow_at: Ints, first: int) -> None:
    """Refresh both bounds of arc `a` after a change of flow; `k` is its level for more flow.

    Slack of the residual arc that leaves v at place y is `time[other[y]] - time[v] - bound[y]`.
    """
    bound[place[a, 0]] = length[k]
    if flow > flow_at[k]:
        bound[place[a, 1]] = -length[k]
    elif k > first:
        bound[place[a, 1]] = -length[k - 1]
    else:
        bound[place[a, 1]] = -2 * INFINITE


@compiled
def advance(
    network: Network,
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

    `network` is (tail, head, first level, last level, pointer, arc, other, place, length, flow_at, source, target).
    `time` (events,) and `flow` (arcs,) are the state, changed in place: optimal for `price` on entry, and for the
    price reached on return, so that the next call may go on from there. Whenever
    `keep_times` (checkpoints, events) is full, every second checkpoint is dropped and the spacing doubled.

    Returns completions (descending) and prices of the breakpoints at prices >= `record_from` (the price reached before
    the completion falls further; the last is INFINITE if nothing stopped it), and the checkpoints kept.
    """
    tail, head, first, last, pointer, arc, other, place, length, flow_at, source, target = network
    events = len(time)
    arcs = len(tail)
    level = np.empty(arcs, np.int32)
    bound = np.empty(2 * arcs, np.int64)
    for a in range(arcs):
        k = first[a]
        while k < last[a] and flow_at[k + 1] <= flow[a]:
            k += 1
        level[a] = k
        _price(a, k, flow[a], place, bound, length, flow_at, first[a])
    rank = np.full(events, events, np.int32)  # place in the queue; `events` while not settled
    cause = np.empty(events + 1, np.int32)  # place of the event that led to the one at a place, or a later place
    walked = np.zeros(events, np.int32)  # the last sweep that walked back through it
    shift = np.empty(events, np.int64)
    queue = np.empty(events + 1, np.uint32)
    turn = np.empty(events, np.uint64)
    path = np.empty(events, np.uint32)
    one = np.uint64(1)
    keys = np.empty(2 * arcs + 1, np.int64)
    values = np.empty(2 * arcs + 1, np.uint32)
    completions = np.empty(1024, np.int64)
    prices = np.empty(1024, np.int64)
    completion = time[target] - time[source]
    points = 0
    rank[source] = 0
    queue[0] = source
    settled = one
    front = np.uint64(0)
    sweeps = 0
    kept = 0
    spacing = 1
    while True:
        if len(keep_prices) > 0 and sweeps % spacing == 0:
            if kept == len(keep_prices):
                for i in range(kept // 2):
                    keep_times[i] = keep_times[2 * i]
                    keep_flows[i] = keep_flows[2 * i]
                    keep_prices[i] = keep_prices[2 * i]
                kept //= 2
                spacing *= 2
            if sweeps % spacing == 0:
                keep_times[kept] = time
                keep_flows[kept] = flow
                keep_prices[kept] = price
                kept += 1
        sweeps += 1
        # Settle events by distance from the source: the slack that the completion must lose before a path reaches
        # them. Events at one distance are one level. Within a level there is no branch to mispredict: most time is
        # spent here, and it halves it.
        start = np.uint64(0)
        waiting = 0
        step: Any = np.int64(0)
        while True:
            while front < settled:
                u = queue[front]
                now = time[u]
                for y in range(pointer[u], pointer[u + one]):
                    w = other[y]
                    before = rank[w]
                    hit = (now + bound[y] == time[w]) & (before == events)
                    queue[settled] = w
                    cause[settled] = front
                    rank[w] = settled if hit else before
                    settled += np.uint64(hit)
                front += one
            if rank[target] < events:
                break
            for i in range(start, settled):
                u = queue[i]
                for y in range(pointer[u], pointer[u + one]):
                    w = other[y]
                    if rank[w] == events:
                        d = step + time[w] - time[u] - bound[y]
                        if d < INFINITE:
                            _push(keys, values, waiting, d, w)
                            waiting += 1
                shift[i] = step
            start = settled
            while rank[values[0]] < events:
                _pop(keys, values, waiting)
                waiting -= 1
            step = keys[0]
            rank[values[0]] = settled
            cause[settled] = settled - one
            queue[settled] = values[0]
            settled += one
            _pop(keys, values, waiting)
            waiting -= 1
        rank[target] = events  # after all others
        turn[target] = pointer[target]
        if step > 0 and price >= record_from:
            if points + 1 >= len(prices):
                completions = np.concatenate((completions, np.empty_like(completions)))
                prices = np.concatenate((prices, np.empty_like(prices)))
            completions[points] = completion
            prices[points] = price
            points += 1
        # Everything beyond the settled events happens earlier by the step, or these happen later: the same.
        stopped = completion - step <= stop
        if stopped:
            step = completion - stop
        for i in range(start):
            time[queue[i]] += max(step - shift[i], 0)
        completion -= step
        if stopped:
            return completions[:points], prices[:points], kept
        # Fill every path without slack that follows the settled order.
        v = np.uint64(target)
        depth = 0
        while True:
            if v == source:
                most: Any = INFINITE
                cut = 0
                for i in range(depth):
                    y = path[i]
                    a = arc[y]
                    k = level[a]
                    if place[a, 1] == y:
                        room = flow_at[k + 1] - flow[a] if k < last[a] else INFINITE
                    elif flow[a] > flow_at[k]:
                        room = flow[a] - flow_at[k]
                    else:
                        room = flow_at[k] - flow_at[k - 1]
                    if room < most:
                        most = room
                        cut = i
                if most >= INFINITE:
                    completions[points] = completion
                    prices[points] = INFINITE
                    return completions[: points + 1], prices[: points + 1], kept
                most = min(most, ceiling - price)
                price += most
                for i in range(depth):
                    y = path[i]
                    a = arc[y]
                    k = level[a]
                    if place[a, 1] == y:
                        flow[a] += most
                        if k < last[a] and flow[a] == flow_at[k + 1]:
                            k += 1
                    else:
                        if flow[a] == flow_at[k]:
                            k -= 1
                        flow[a] -= most
                    level[a] = k
                    _price(a, k, flow[a], place, bound, length, flow_at, first[a])
                    # Did this close the arc by which its far end was settled? Then the sweep is void from there on.
                    u = other[y]
                    if place[a, 1] == y:
                        w = head[a]
                        closed = bound[place[a, 0]] != time[w] - time[u]
                    else:
                        w = tail[a]
                        closed = bound[place[a, 1]] != time[w] - time[u]
                    by_this = w == target or cause[rank[w]] == rank[u] or cause[rank[w]] == rank[w] - 1
                    if closed and by_this and rank[u] < front:
                        front = np.uint64(rank[u])
                if price >= ceiling:
                    return completions[:points], prices[:points], kept
                depth = cut
                y = path[cut]
                v = np.uint64(head[arc[y]] if place[arc[y], 1] == y else tail[arc[y]])
            found = False
            y = turn[v]
            while y < pointer[v + one]:
                u = other[y]
                if rank[u] < rank[v]:
                    a = arc[y]
                    back = place[a, 0] if place[a, 1] == y else place[a, 1]
                    if time[v] - time[u] == bound[back]:
                        found = True
                        break
                y += one
            turn[v] = y
            if found:
                path[depth] = y
                depth += 1
                v = np.uint64(other[y])
                if walked[v] != sweeps:
                    walked[v] = sweeps
                    turn[v] = pointer[v]
            elif v == target:
                break
            else:
                depth -= 1
                y = path[depth]
                v = np.uint64(head[arc[y]] if place[arc[y], 1] == y else tail[arc[y]])
                turn[v] += one
        # What was settled before the first void place stands; the next sweep goes on from there.
        keep = front + one
        while keep < settled and cause[keep] < front:
            keep += one
        for i in range(keep, settled):
            rank[queue[i]] = events
        settled = keep


@compiled
def _admit(network: Network, time: Ints, flow: Ints) -> None:
    """Move events later until no arc is shorter than it can be, and every flow to what its duration admits."""
    tail, head, first, last, pointer, arc, _, place, length, flow_at, _, _ = network
    one = np.uint64(1)
    for v in range(len(time)):  # events are numbered in topological order
        for y in range(pointer[np.uint64(v)], pointer[np.uint64(v) + one]):
            a = arc[y]
            if place[a, 0] == y:
                time[head[a]] = max(time[head[a]], time[v] + length[last[a]])
    for a in range(len(tail)):
        duration = time[head[a]] - time[tail[a]]
        k = first[a]
        while length[k] > duration:
            k += 1
        most: Any = flow_at[k]
        if length[k] == duration:
            most = flow_at[k + 1] if k < last[a] else INFINITE
        flow[a] = min(max(flow[a], flow_at[k]), most)


@compiled
def _excess(network: Network, flow: Ints, price: int) -> Ints:
    """Return what enters every event without leaving it, (events,), when `price` flows from source to target."""
    tail, head, _, _, pointer, _, _, _, _, _, source, target = network
    excess = np.zeros(len(pointer) - 1, np.int64)
    excess[source] += price
    excess[target] -= price
    for a in range(len(tail)):
        excess[tail[a]] -= flow[a]
        excess[head[a]] += flow[a]
    return excess


@compiled
def imbalance(network: Network, time: Ints, flow: Ints, price: int) -> float:
    """Return how much flow a guess leaves where it does not belong; 0 if it is optimal. It is made complementary."""
    _admit(network, time, flow)
    total = 0.0
    for x in _excess(network, flow, price):
        total += abs(float(x))
    return total


@compiled
def balance(network: Network, time: Ints, flow: Ints, price: int, limit: int) -> int:
    """Turn any guess of times and flows into a state that is optimal for `price`, in place.

    The guess is first made complementary: no arc too short, every flow admitted by its duration. What then enters an
    event without leaving it goes to the nearest events that lack flow, by shortest residual paths, which keeps it so.
    A good guess makes all of them short. Returns how many events it visited, -1 if that came to exceed
    `limit`: then the guess was too bad to be worth it, and the state is of no use.
    """
    tail, head, first, last, pointer, arc, other, place, length, flow_at, _, _ = network
    events = len(time)
    arcs = len(tail)
    one = np.uint64(1)
    _admit(network, time, flow)
    level = np.empty(arcs, np.int32)
    bound = np.empty(2 * arcs, np.int64)
    excess = _excess(network, flow, price)
    for a in range(arcs):
        k = first[a]
        while k < last[a] and flow_at[k + 1] <= flow[a]:
            k += 1
        level[a] = k
        _price(a, k, flow[a], place, bound, length, flow_at, first[a])
    distance = np.full(events, INFINITE)
    settled = np.zeros(events, np.bool_)
    cause = np.zeros(events, np.uint32)
    touched = np.empty(events, np.uint32)
    keys = np.empty(2 * arcs + 1, np.int64)
    values = np.empty(2 * arcs + 1, np.uint32)
    visited = 0
    for begin in range(events):
        while excess[begin] > 0:
            distance[begin] = 0
            touched[0] = begin
            seen = 1
            keys[0] = 0
            values[0] = begin
            waiting = 1
            u = np.uint64(begin)
            step: Any = np.int64(0)
            while True:
                if waiting == 0 or visited > limit:
                    return -1
                visited += 1
                step = keys[0]
                u = np.uint64(values[0])
                _pop(keys, values, waiting)
                waiting -= 1
                if settled[u]:
                    continue
                if excess[u] < 0:
                    break
                settled[u] = True
                for y in range(pointer[u], pointer[u + one]):
                    w = other[y]
                    d = step + time[w] - time[u] - bound[y]
                    if d < distance[w]:
                        if distance[w] == INFINITE:
                            touched[seen] = w
                            seen += 1
                        distance[w] = d
                        cause[w] = y
                        _push(keys, values, waiting, d, w)
                        waiting += 1
            end = u
            most: Any = min(excess[begin], -excess[end])
            while u != begin:
                y = cause[u]
                a = arc[y]
                k = level[a]
                if place[a, 0] == y:
                    room = flow_at[k + 1] - flow[a] if k < last[a] else INFINITE
                    u = np.uint64(tail[a])
                else:
                    room = flow[a] - flow_at[k] if flow[a] > flow_at[k] else flow_at[k] - flow_at[k - 1]
                    u = np.uint64(head[a])
                most = min(most, room)
            u = end
            while u != begin:
                y = cause[u]
                a = arc[y]
                k = level[a]
                if place[a, 0] == y:
                    flow[a] += most
                    if k < last[a] and flow[a] == flow_at[k + 1]:
                        k += 1
                    u = np.uint64(tail[a])
                else:
                    if flow[a] == flow_at[k]:
                        k -= 1
                    flow[a] -= most
                    u = np.uint64(head[a])
                level[a] = k
                _price(a, k, flow[a], place, bound, length, flow_at, first[a])
            excess[begin] -= most
            excess[end] += most
            for i in range(seen):
                w = touched[i]
                if settled[w]:
                    time[w] += step - distance[w]
                    settled[w] = False
                distance[w] = INFINITE
    return visited
