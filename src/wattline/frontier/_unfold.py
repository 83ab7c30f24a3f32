"""A solver state of a repeating graph, carried over to the same graph with more repetitions.

In the steady state every repetition does what the one before did, one period later. So a state for more repetitions is
guessed by cutting the short schedule in its middle and inserting copies of the repetition before the cut. The guess
need not be right: the balance that follows makes an optimum of it, and a good guess makes that quick.
"""

from __future__ import annotations

import numpy as np

from . import _flow
from .graph import Ints, Network, State

CUTS = 0.5, 0.45, 0.4, 0.55, 0.6, 0.35, 0.65, 0.3, 0.7
EFFORT = 30  # visits per event; solving anew takes thousands


class Rows:
    """The nodes of a graph by class, each class in the order of its starts; and its edges by class and offset."""

    def __init__(self, network: Network) -> None:
        self.network = network
        nodes, edges = network.dag.nodes, network.dag.edges
        tail, head = (x.astype(np.int64) for x in (network.arrays.tail, network.arrays.head))
        n = len(nodes)
        self.count: Ints = np.bincount(nodes, minlength=len(network.hulls))
        self.first = np.r_[0, np.cumsum(self.count)]
        self.sorted = np.lexsort((np.arange(n), tail[:n], nodes))
        self.place = np.empty(n, np.int64)
        self.place[self.sorted] = np.arange(n) - np.repeat(self.first[:-1], self.count)
        self.edges = edges[head[edges[:, 0]] != tail[edges[:, 1]]]  # those that are arcs, in the order of the arcs
        key = edge_key(n, *self.edges.T)
        self.edge_order = np.argsort(key)
        self.edge_keys = key[self.edge_order]

    def node(self, kind: Ints, place: Ints) -> Ints:
        """Return the node of each class and place; the nearest there is beyond the ends."""
        node: Ints = self.sorted[self.first[kind] + np.clip(place, 0, self.count[kind] - 1)]
        return node

    def edge_flow(self, flow: Ints, tail: Ints, head: Ints) -> tuple[Ints, Ints]:
        """Return the flow of each edge (tail, head), and whether there is one."""
        if len(self.edge_keys) == 0:
            return np.zeros(len(tail), np.int64), np.zeros(len(tail), bool)
        key = edge_key(len(self.place), tail, head)
        k = np.minimum(np.searchsorted(self.edge_keys, key), len(self.edge_keys) - 1)
        return flow[len(self.place) + self.edge_order[k]], self.edge_keys[k] == key


def edge_key(nodes: int, tail: Ints, head: Ints) -> Ints:
    """Return one number per edge."""
    return tail * nodes + head


def guess(state: State, short: Rows, long: Rows, further: int, period: int, cut: float) -> State:
    """Return a guess of the optimum of the long graph at the state's price, from the short graph's.

    Parameters
    ----------
    state : State
        Optimal for the short graph.
    short, long : Rows
        Two members of a family that differ by `further` repetitions.
    period : int
        Ticks that one more repetition takes at this price.
    cut : float
        Where copies are inserted, as a share of the time from the first start to the last.
    """
    a, b = short.network, long.network
    kind = b.dag.nodes
    n = len(a.dag.nodes)
    start, end = state.time[a.arrays.tail[:n]], state.time[a.arrays.head[:n]]
    early = start < start.min() + cut * (start.max() - start.min())
    before = np.bincount(a.dag.nodes[early], minlength=len(short.count))
    extra = np.maximum(long.count - short.count, 0)
    each = np.maximum(extra // further, 1)
    place = long.place
    inserted = place - before[kind]
    copy = np.clip(inserted // each[kind] + 1, 0, further)
    source = np.where(inserted < 0, place, before[kind] - each[kind] + inserted % each[kind])
    part = short.node(kind, np.where(inserted >= extra[kind], place - extra[kind], source))
    time = np.zeros(len(b.slowest.time), np.int64)
    time[b.arrays.head[: len(kind)]] = end[part] + copy * period
    time[b.arrays.tail[: len(kind)]] = start[part] + copy * period
    time[b.ends[0]] = state.time[a.ends[0]]
    time[b.ends[1]] = state.time[a.ends[1]] + further * period
    # The edge into the node that plays the head's part, from as many places before it; else the same at the tail.
    tail, head = long.edges.T
    offset = place[head] - place[tail]
    one, found = short.edge_flow(state.flow, short.node(kind[tail], short.place[part[head]] - offset), part[head])
    two, other = short.edge_flow(state.flow, part[tail], short.node(kind[head], short.place[part[tail]] + offset))
    flow = np.r_[state.flow[part], np.where(found, one, np.where(other, two, 0))]
    return State(time, flow, state.price)


def best_cut(state: State, short: Rows, next_one: Rows, period: int) -> float:
    """Return the cut where one copy, tried on the graph with one more repetition, fits best."""
    best, least = CUTS[0], np.inf
    for cut in CUTS:
        trial = guess(state, short, next_one, 1, period, cut)
        misfit = _flow.imbalance(next_one.network.arrays, trial.time, trial.flow, trial.price)
        if misfit < least:
            best, least = cut, misfit
        if misfit == 0:  # the state repeats: with any number of copies it is an optimum
            break
    return best


def settle(found: State, network: Network, patience: int = 1) -> State | None:
    """Make a guess optimal in place and return it; None if that takes more than `patience` times EFFORT."""
    work = _flow.balance(network.arrays, found.time, found.flow, found.price, patience * EFFORT * network.grain)
    return found if work >= 0 else None
