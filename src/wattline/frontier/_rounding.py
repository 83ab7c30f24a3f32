"""Compiled kernels that choose one discrete option per node of a DAG so that its longest path meets a deadline."""

from __future__ import annotations

import numpy as np

from wattline.frontier._flow import Floats, Ints, compiled


@compiled
def neighbours(count: int, edges: Ints) -> tuple[Ints, Ints]:
    """Group the second ends of edges (m, 2) by the first: pointer (count + 1,) and ends (m,)."""
    pointer = np.zeros(count + 2, np.int64)
    for k in range(len(edges)):
        pointer[edges[k, 0] + 2] += 1
    for v in range(count):
        pointer[v + 2] += pointer[v + 1]
    ends = np.empty(len(edges), np.int64)
    for k in range(len(edges)):
        ends[pointer[edges[k, 0] + 1]] = edges[k, 1]
        pointer[edges[k, 0] + 1] += 1
    return pointer[:-1].copy(), ends


@compiled
def longest(order: Ints, pointer: Ints, before: Ints, node: Ints, pick: Ints, time: Floats) -> Floats:
    """Longest path, seconds, that ends just before each node; `order` puts every node after those in `before`."""
    reach = np.zeros(len(order))
    for v in order:
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            u = before[k]
            latest = max(latest, reach[u] + time[pick[u]])
        reach[v] = latest
    return reach


@compiled
def diffuse(
    order: Ints, pointer: Ints, before: Ints, node: Ints, end: Floats, price: Floats, first: Ints, time: Floats, energy: Floats
) -> Ints:
    """Pick, in `order`, the option of least `energy + price * time` that ends by `end`, starting as early as it can.

    What rounding one node down leaves over is thus spent by those that follow it. Options of class c are rows
    `first[c] : first[c + 1]` of `time` (ascending) and `energy` (descending). Returns the row picked per node.
    """
    reach = np.zeros(len(order))
    pick = np.empty(len(order), np.int64)
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
    return pick


@compiled
def reclaim(
    order: Ints,
    pointer: Ints,
    before: Ints,
    node: Ints,
    after: Floats,
    deadline: float,
    rate: float,
    pick: Ints,
    first: Ints,
    time: Floats,
    energy: Floats,
) -> None:
    """Slow nodes down, in `order`, where that saves at least `rate` watts and delays nothing beyond `deadline`.

    `after` is the longest path from each node's end, with the picks as they are; `pick` is changed in place.
    """
    reach = np.zeros(len(order))
    for v in order:
        latest = 0.0
        for k in range(pointer[v], pointer[v + 1]):
            latest = max(latest, reach[before[k]])
        now = pick[v]
        best = now
        for o in range(now + 1, first[node[v] + 1]):
            if latest + time[o] + after[v] > deadline:
                break
            if energy[now] - energy[o] >= rate * (time[o] - time[now]):
                best = o
        pick[v] = best
        reach[v] = latest + time[best]
