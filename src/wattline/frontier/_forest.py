"""A kernel that moves many events of a graph at once, exactly along trees of them.

Events are the points between computations. With the rest held, the best times of events that form a tree, on a grid
around the present ones, follow from one pass up the tree and one down it. Each round draws another tree among events
near in time, another grid and other present times (anywhere between earliest and latest); now and then prices are
disturbed, and what came of that is kept where it is no worse. After "very large neighbourhood search" (Ahuja et al.,
Discrete Applied Mathematics 123, 2002).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..core.kernels import Source
from ._flow import Floats, Ints, contract, incidence, topological_order

HALF = 64  # points of the grid to each side
GRID = (1 / 200, 1 / 2)  # its step, of the middle distance between settings
CYCLE = 3  # rounds after a disturbance before it is judged
HEAT = 0.02  # of a node's joules: what a disturbance may cost at first

kernel = Source("forest.c")


@kernel
def sway(
    tail: Ints,
    head: Ints,
    kind: Ints,
    pointer: Ints,
    arc: Ints,
    first: Ints,
    time: Floats,
    energy: Floats,
    deadline: float,
    steps: Floats,
    half: int,
    cycle: int,
    rounds: int,
    heat: float,
    random: np.random.Generator,
    pick: Ints,
) -> None:
    """Improve `pick` (arcs,), one option per arc, in place; it meets `deadline` (seconds) before and after.

    Events are numbered in topological order, the source first and the target last; `arc[pointer[v]:pointer[v + 1]]`
    are those at event v. Options of class c are rows `first[c]:first[c + 1]` of `time` (ascending) and `energy`
    (descending). A grid has `half` points of one of `steps` (seconds) to each side. Every `cycle` rounds prices are
    disturbed; up to `heat` joules more, less towards the end, are put up with after that.
    """  # fmt: skip
    n = len(pointer) - 1
    now, held = pick.copy(), pick.copy()
    spent = kept = lowest = _sum(energy, pick)
    near, start, stop = 1e-13 * deadline, 1, 1
    for turn in range(rounds):
        noise = 0.0
        if turn % cycle == 0:
            worse = heat * (1.0 - turn / rounds) * random.random()
            if spent > kept + worse:
                spent, now = kept, held.copy()
            kept, held = spent, now.copy()
            width = 12 + int(random.random() * random.random() * min(n, 128))
            start = int(random.random() * (n + width)) - width
            stop = min(n - 1, start + width)
            start = min(max(1, start), stop)
            noise = random.random()
        weight = np.ones(len(tail))
        if noise > 0.0:
            weight = np.array([1.0 + noise * (random.random() - 0.5) for _ in tail])
        step = float(steps[int(random.random() * len(steps))])
        lean = min(1.0, max(0.0, 2.0 * random.random() - 0.5))
        early, late = _earliest(tail, head, pointer, arc, time, now), np.zeros(n)
        for v in reversed(range(n)):
            out = [a for a in arc[pointer[v] : pointer[v + 1]] if tail[a] == v]
            late[v] = min([deadline, *(late[head[a]] - time[now[a]] for a in out)])
        tau = early + lean * (late - early)
        order, parent = _grown(tail, head, pointer, arc, start, stop, random)
        _shift(tail, head, kind, pointer, arc, first, time, energy, weight, tau, step, half, order, parent)
        trial = now.copy()
        for a in range(len(tail)):
            room = tau[head[a]] - tau[tail[a]] + near
            here, end = first[kind[a]], first[kind[a] + 1]
            trial[a] = max(here, here + np.searchsorted(time[here:end], room, side="right") - 1)
        change = _sum(energy, trial)
        if (change <= spent or noise > 0.0) and _earliest(tail, head, pointer, arc, time, trial)[-1] <= deadline:
            spent, now = change, trial
            if spent < lowest:
                lowest, pick[:] = spent, trial


def _sum(energy: Floats, pick: Ints) -> float:
    """Return the sum in order, as C makes it."""
    total = 0.0
    for joules in energy[pick].tolist():
        total += joules
    return total


def _earliest(tail: Ints, head: Ints, pointer: Ints, arc: Ints, time: Floats, pick: Ints) -> Floats:
    """Return when each event may happen at the earliest, (events,) seconds."""
    early = np.zeros(len(pointer) - 1)
    for v in range(len(early)):
        into = [a for a in arc[pointer[v] : pointer[v + 1]] if head[a] == v]
        early[v] = max([0.0, *(early[tail[a]] + time[pick[a]] for a in into)])
    return early


def _grown(
    tail: Ints, head: Ints, pointer: Ints, arc: Ints, start: int, stop: int, random: np.random.Generator
) -> tuple[list[int], dict[int, int]]:
    """Return events `start` to `stop` that form trees, each after its parent, and the arc to that (-1 for none)."""
    mixed = list(range(start, stop))
    for i in range(len(mixed) - 1, 0, -1):
        j = int(random.random() * (i + 1))
        mixed[i], mixed[j] = mixed[j], mixed[i]
    beside = {v: [(int(a), int(tail[a] + head[a] - v)) for a in arc[pointer[v] : pointer[v + 1]]] for v in mixed}
    tree: dict[int, set[int]] = {}
    for v in mixed:
        roots = [id(tree[u]) for _, u in beside[v] if u in tree]
        if len(set(roots)) < len(roots):
            continue
        joined = {v}.union(*(tree[u] for _, u in beside[v] if u in tree))
        for u in joined:
            tree[u] = joined
    order: list[int] = []
    parent: dict[int, int] = {}
    for v in mixed:
        if v not in tree or v in parent:
            continue
        parent[v], waiting = -1, [v]
        while waiting:
            u = waiting.pop()
            order.append(u)
            for a, w in beside[u]:
                if w in tree and w not in parent:
                    parent[w] = a
                    waiting.append(w)
    return order, parent


def _shift(
    tail: Ints, head: Ints, kind: Ints, pointer: Ints, arc: Ints, first: Ints, time: Floats, energy: Floats,
    weight: Floats, tau: Floats, step: float, half: int, order: list[int], parent: dict[int, int],
) -> None:  # fmt: skip
    """Move the events in `order` to where they cost least together; `tau` (events,) is changed in place."""
    size, grid = 2 * half + 1, np.arange(2 * half + 1)
    cost: dict[int, Floats] = {}
    best: dict[int, Floats] = {}
    at: dict[int, int] = {}

    def options(a: int, reach: int) -> list[tuple[int, float]]:
        """Return spare grid steps and weighted joules of the options of arc `a`, slowest first."""
        out = []
        for o in range(first[kind[a] + 1] - 1, first[kind[a]] - 1, -1):
            spare = np.floor((tau[head[a]] - tau[tail[a]] - time[o]) / step + 1e-8)
            if spare >= -reach:
                out.append((int(min(spare, reach)), energy[o] * weight[a]))
            if spare >= reach:
                break
        return out

    for v in reversed(order):
        cost[v] = np.zeros(size)
        for a in arc[pointer[v] : pointer[v + 1]].tolist():
            if a == parent[v]:
                continue
            u, found = int(tail[a] + head[a] - v), np.full(size, np.inf)
            for spare, joules in options(a, 2 * half if u in parent else half):
                there = grid - spare if tail[a] == v else grid + spare
                if u not in parent:
                    possible = there <= half if tail[a] == v else there >= half
                    found[possible] = np.minimum(found[possible], joules)
                else:
                    possible = there < size if tail[a] == v else there >= 0
                    reached = best[u][np.clip(there[possible], 0, size - 1)]
                    found[possible] = np.minimum(found[possible], joules + reached)
            cost[v] += found
        if parent[v] >= 0:
            low = np.minimum.accumulate
            best[v] = low(cost[v]) if tail[parent[v]] == v else low(cost[v][::-1])[::-1]
    for v in order:
        a = parent[v]
        if a < 0:
            near = np.lexsort((grid, np.abs(grid - half)))  # the nearest of the best, the earlier of two
            at[v] = int(near[np.argmin(cost[v][near])])
            continue
        out, above, dearest, k = tail[a] == v, at[int(tail[a] + head[a] - v)], np.inf, half
        for spare, joules in options(a, 2 * half):
            j = above + spare if out else above - spare
            if (j < 0) if out else (j >= size):
                continue
            j = min(max(j, 0), size - 1)
            if joules + best[v][j] < dearest:
                dearest, k = joules + best[v][j], j
        while cost[v][k] != best[v][k] and (k > 0 if out else k < size - 1):
            k += -1 if out else 1
        at[v] = k
    for v in order:
        tau[v] += (at[v] - half) * step


class Events:
    """The graph of events of a Dag, numbered by when they happen in a schedule, and the options of its arcs.

    `spans` (n, 2) are starts and ends of the nodes in that schedule, seconds; options as in `sway`, by class.
    """

    def __init__(self, classes: Ints, edges: Ints, spans: Floats, first: Ints, time: Floats, energy: Floats) -> None:
        tail, head, kind, count, self.source, self.target = contract(classes, edges)
        order, _ = topological_order(count, np.stack((tail, head), axis=1))
        rank = np.empty(count, np.int64)
        rank[order] = np.arange(count)
        at, lasts = np.zeros(count), np.r_[spans[:, 1] - spans[:, 0], np.zeros(len(tail) - len(classes))]
        for a in np.argsort(rank[tail], kind="stable"):
            at[head[a]] = max(at[head[a]], at[tail[a]] + lasts[a])
        number = np.empty(count, np.int64)
        number[np.lexsort((rank, at))] = np.arange(count)
        self.tail, self.head, self.kind = number[tail], number[head], kind
        pointer, arc, *_ = incidence(count, self.tail, self.head)
        self.pointer, self.arc = pointer, arc.astype(np.int64)
        # Class 0 is the bare precedence, which takes nothing.
        self.first, self.time, self.energy = np.r_[0, first + 1], np.r_[0.0, time], np.r_[0.0, energy]
        apart = np.concatenate([np.diff(time[a:b]) for a, b in pairwise(first)])
        self.middle = float(np.median(apart)) if len(apart) else 0.0

    def improve(self, pick: Ints, deadline: float, rounds: int, random: np.random.Generator) -> Ints:
        """Return options of the nodes, rows of the table, no dearer than `pick`, by `rounds` moves."""
        if not self.middle or rounds < 1:
            return pick
        found = np.zeros(len(self.tail), np.int64)
        found[: len(pick)] = pick + 1
        heat = HEAT * float(np.median(self.energy[found[: len(pick)]])) if len(pick) else 0.0
        sway(
            self.tail, self.head, self.kind, self.pointer, self.arc, self.first, self.time, self.energy, deadline,
            np.geomspace(GRID[0] * self.middle, GRID[1] * self.middle, 16), HALF, CYCLE, rounds, max(heat, 0.0), random,
            found,
        )  # fmt: skip
        return found[: len(pick)] - 1
