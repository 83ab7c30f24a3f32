"""The exact, complete time-energy frontier of a DAG of frontiers, on their convex hulls.

The price of a second is the flow value of one minimum-cost flow; as it grows the completion time falls, and every
change of the critical cut is a breakpoint (Kelley 1961, Fulkerson 1961). No time quantum, no curve fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattline.core.errors import GoalError, InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hull = tuple[ArrayLike, ArrayLike]

TIME_BITS = 56  # the longest path at the slowest settings takes about 2**56 ticks: rounding is 1e-14 of it at most
PRICE_BITS = 60  # the sum of the steepest slopes of all nodes takes about 2**60 ticks
CHECKPOINT_BYTES = 1 << 27  # memory for solver states kept to answer `schedule` without solving again
INFINITE = 1 << 61  # the price of what cannot be had
FOREVER = 1 << 62  # more than any price in ticks
CHECKPOINTS = 32  # at most; a schedule then costs about 1/32 of the solve


@dataclass(frozen=True)
class Dag:
    """Computations and their precedences.

    Parameters
    ----------
    nodes : (n,) integers
        Class of each node: its place in the list of hulls or option tables.
    edges : (m, 2) integers
        `(a, b)`: node b starts when node a has ended, or later.
    """

    nodes: Ints
    edges: Ints
    order: Ints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from wattline.frontier import _flow

        nodes = _integers("nodes", self.nodes, 1)
        edges = _integers("edges", self.edges, 2) if np.size(self.edges) else np.zeros((0, 2), np.int64)
        if len(nodes) == 0:
            raise InputError("a graph needs at least one node, but nodes is empty")
        if edges.shape[1] != 2:
            raise InputError(f"edges must be pairs (from, to), but their shape is {edges.shape}")
        if nodes.min() < 0:
            raise InputError(f"classes must be 0 or more, but node {nodes.argmin()} has {nodes.min()}")
        outside = np.flatnonzero(((edges < 0) | (edges >= len(nodes))).any(axis=1))
        if len(outside):
            a, b = edges[outside[0]]
            raise InputError(f"edge {outside[0]} ({a}, {b}) must join nodes 0 to {len(nodes) - 1}")
        if len(edges):
            edges = np.unique(edges, axis=0)
        order, done = _flow.topological_order(len(nodes), edges)
        if done < len(nodes):
            cycle = _cycle(edges, order[:done], len(nodes))
            shown = " -> ".join(str(v) for v in cycle[:8]) + (" -> ..." if len(cycle) > 8 else "")
            raise InputError(f"precedences must not form a cycle, but node {cycle[0]} is on one: {shown}")
        for name, value in (("nodes", nodes), ("edges", edges), ("order", order)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)


class Schedule(NamedTuple):
    """One optimum: when every node may start, must end and how long it takes, (n,) seconds each.

    `price` (n,) is what one second less would cost at each node, in watts: 0 where there is time to spare.
    `energy` is the sum over nodes, in joules above waiting.
    """

    start: Floats
    end: Floats
    duration: Floats
    price: Floats
    energy: float


@dataclass(frozen=True)
class GraphFrontier:
    """Every breakpoint of the least energy above waiting against completion time; straight lines between them.

    Attributes
    ----------
    time, energy : (n,) arrays
        Completion times in seconds, ascending; energies above waiting in joules, descending.
    price : (n,) array
        Watts saved per second of delay on the way from the point before to this one, descending; the first is infinite.
    waiting_power : float
        Watts drawn by all devices together while they wait.
    solve_s : float
        Seconds that the solve took.
    method : str
        "direct", or "affine" when extended from fewer repetitions (see `solve_family`).
    """

    time: Floats
    energy: Floats
    price: Floats
    waiting_power: float
    solve_s: float
    method: str
    _schedule: Callable[[float], Schedule] = field(repr=False, compare=False)

    def energy_at(self, time: float) -> float:
        """Least energy above waiting, joules, to complete by `time` seconds.

        Beyond the slowest breakpoint the work completes there and waits.
        """
        self._check(time)
        return float(np.interp(time, self.time, self.energy))

    def total(self, time: float) -> float:
        """Least total energy in joules, waiting included, over an iteration of `time` seconds."""
        return self.energy_at(time) + self.waiting_power * time

    def schedule(self, time: float) -> Schedule:
        """One exact optimum at a completion time in seconds, between breakpoints too."""
        self._check(time)
        return self._schedule(float(min(max(time, self.time[0]), self.time[-1])))

    def durations(self, time: float) -> Floats:
        """Duration of every node, (n,) seconds, in one exact optimum at a completion time in seconds."""
        return self.schedule(time).duration

    def _check(self, time: float) -> None:
        fastest = self.time[0]
        if not time >= fastest * (1 - 1e-12):
            raise GoalError(f"completion in {time:.6g} s cannot be met: the fastest possible is {fastest:.9g} s")


def solve(dag: Dag, hulls: Sequence[Hull], waiting_power: float, start_price: float | None = None) -> GraphFrontier:
    """Return the complete frontier of `dag` when node i follows hull `dag.nodes[i]`.

    Parameters
    ----------
    dag : Dag
    hulls : sequence of (time, energy)
        Convex hull per class: seconds ascending, joules above waiting descending.
    waiting_power : float
        Watts drawn by all devices together while they wait; the frontier starts at the time of least total energy,
        because nothing slower is worth choosing.
    start_price : float, optional
        Watts; start where slowing down saves this much instead. 0 gives every time up to the slowest, for a pipeline
        that is held up by another.
    """
    if not (np.isfinite(waiting_power) and waiting_power >= 0):
        raise InputError(f"waiting_power must be finite and at least 0 W, but got {waiting_power}")
    start_price = waiting_power if start_price is None else start_price
    began = perf_counter()
    network = Network(dag, hulls)
    state = 8 * (len(network.slowest.time) + len(network.slowest.flow))
    count = int(np.clip(CHECKPOINT_BYTES // state, 2, CHECKPOINTS)) & ~1
    _, done, price, kept = network.advance(network.slowest, network.price(start_price), keep=count)
    schedule = _Solved(network, kept)
    time, energy, watts = network.curve(done, price, schedule.at(int(done[0])).energy)
    return GraphFrontier(time, energy, watts, waiting_power, perf_counter() - began, "direct", schedule)


class State(NamedTuple):
    """A solver state that is optimal for a price: times of events and flows of arcs, in ticks."""

    time: Ints
    flow: Ints
    price: int


class Network:
    """The scaled network of a DAG.

    `scale` is another one of the same hulls, whose ticks are taken, so that states can be compared and moved.
    """

    def __init__(self, dag: Dag, hulls: Sequence[Hull], scale: Network | None = None) -> None:
        from wattline.frontier import _flow

        self.dag = dag
        self.hulls: list[tuple[Floats, Floats]] = scale.hulls if scale else _checked(hulls, dag)
        tail, head, kind, events, source, target = _flow.contract(dag.nodes, dag.edges)
        pointer, arc, other, place = _flow.incidence(events, tail, head)
        order, _ = _flow.topological_order(events, np.stack((tail, head), axis=1))
        slowest = np.array([0.0] + [t[-1] for t, _ in self.hulls])[kind]
        early = _flow.earliest(order, pointer, arc, tail, head, slowest)
        # Events are renumbered by time: what is close in time is close in memory.
        rank = np.empty(events, np.int64)
        rank[order] = np.arange(events)
        number = np.empty(events, np.int64)
        number[np.lexsort((rank, early))] = np.arange(events)
        tail, head = number[tail], number[head]
        source, target = int(number[source]), int(number[target])
        pointer, arc, other, place = _flow.incidence(events, tail, head)

        steepest = np.array([np.max(-np.diff(e) / np.diff(t), initial=0.0) for t, e in self.hulls])
        self.tick: float = scale.tick if scale else _unit(early.max(), TIME_BITS)
        self.watt: float = scale.watt if scale else _unit(steepest[dag.nodes].sum(), PRICE_BITS)
        first, length, flow_at = self._levels()
        self.arrays = _flow.Arcs(
            tail.astype(np.uint32), head.astype(np.uint32), first[kind], first[kind + 1] - 1,
            pointer, arc, other, place, length, flow_at, source, target,
        )  # fmt: skip
        self.ends = source, target
        self.grain = events  # ticks that times or prices may be apart by the rounding of a path or a cut
        time = _flow.earliest(np.arange(events), pointer, arc, tail, head, length[first[kind]])
        self.slowest = State(time, np.zeros(len(tail), np.int64), 0)

    def _levels(self) -> tuple[Ints, Ints, Ints]:
        """Level tables of every class, in ticks; class 0 is the bare precedence."""
        lengths, flows = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
        used = set(np.unique(self.dag.nodes).tolist())
        for c, (t, e) in enumerate(self.hulls):
            if c not in used:  # its numbers may not fit the scale; one level keeps the place
                t, e = np.zeros(1), np.zeros(1)
            ticks = np.rint(t / self.tick).astype(np.int64)
            slope = np.rint(-np.diff(e) / np.diff(t) / self.watt).astype(np.int64)
            slope = np.minimum.accumulate(slope)  # rounding may undo convexity by a tick
            flow = np.r_[slope, 0][::-1]
            # A level between equal flows (collinear vertices, or flat to a rounding) serves none.
            useful = np.r_[flow[1:] > flow[:-1], True]
            lengths.append(ticks[::-1][useful])
            flows.append(flow[useful])
        first = np.r_[0, np.cumsum([len(x) for x in lengths])].astype(np.int64)
        return first, np.concatenate(lengths), np.concatenate(flows)

    def price(self, watts: float) -> int:
        """Return a price in ticks."""
        return int(min(watts / self.watt, 2.0**61))

    def completion(self, time: Ints) -> int:
        """Return when the last event happens, ticks after the first."""
        return int(time[self.ends[1]] - time[self.ends[0]])

    def fastest(self) -> Ints:
        """Return the times of events, ticks, when every node is as fast as it can be."""
        from wattline.frontier import _flow

        a = self.arrays
        return _flow.earliest(np.arange(self.grain), a.pointer, a.arc, a.tail, a.head, a.length[a.last])

    def advance(
        self, state: State, record_from: int = 0, stop: int = -1, ceiling: int = FOREVER, keep: int = 0
    ) -> tuple[State, Ints, Ints, list[State]]:
        """Raise the price to `ceiling`, or until the completion is `stop`.

        Returns the state reached, completions and prices of the breakpoints on the way, and up to `keep` states passed.
        """
        from wattline.frontier import _flow

        time, flow = state.time.copy(), state.flow.copy()
        times, flows = np.empty((keep, len(time)), np.int64), np.empty((keep, len(flow)), np.int64)
        prices = np.empty(keep, np.int64)
        done, price, kept = _flow.advance(
            self.arrays, time, flow, state.price, record_from, stop, ceiling, times, flows, prices
        )
        passed = [State(times[k], flows[k], int(prices[k])) for k in range(kept)]
        return State(time, flow, ceiling), done, price, passed

    def read(self, time: Ints, flow: Ints) -> Schedule:
        """Return the schedule of a state."""
        event = time - time[self.ends[0]]
        n = len(self.dag.nodes)
        start = event[self.arrays.tail[:n]] * self.tick
        end = event[self.arrays.head[:n]] * self.tick
        duration: Floats = np.empty(n)
        energy = 0.0
        for c, (t, e) in enumerate(self.hulls):
            mine = self.dag.nodes == c
            duration[mine] = np.clip((end - start)[mine], t[0], t[-1])
            energy += float(np.interp(duration[mine], t, e).sum())
        return Schedule(start, end, duration, np.multiply(flow[:n], self.watt), energy)

    def curve(self, done: Ints, price: Ints, energy: float) -> tuple[Floats, Floats, Floats]:
        """Return times, energies and prices, times ascending, from breakpoints in ticks and the first one's energy."""
        fall = np.diff(done).astype(float) * self.tick
        joules = energy + np.r_[0.0, np.cumsum(-fall * (price[:-1] * self.watt))]
        # Times or prices that differ by the rounding of a path or a cut are one: 0.1 + 0.2 is not 0.3.
        apart = np.r_[-np.diff(done) > self.grain, True]
        done, joules, price = done[apart], joules[apart], price[apart]
        apart = np.r_[True, np.diff(price) > self.grain]
        watts = np.r_[price[apart][:-1] * self.watt, np.inf]
        seconds = np.multiply(done[apart], self.tick, dtype=float)
        return seconds[::-1].copy(), joules[apart][::-1].copy(), watts[::-1].copy()


class _Solved:
    """Schedules of a network from the states kept along its frontier."""

    def __init__(self, network: Network, kept: list[State]) -> None:
        self.network, self.kept = network, kept

    def __call__(self, time: float) -> Schedule:
        return self.at(int(np.rint(time / self.network.tick)))

    def at(self, done: int) -> Schedule:
        """Return the optimum at a completion in ticks, from the last state kept before it."""
        network = self.network
        done = min(done, network.completion(self.kept[0].time))
        last = max((s for s in self.kept if network.completion(s.time) >= done), key=lambda s: s.price)
        state, *_ = network.advance(last, FOREVER, done)
        return network.read(state.time, state.flow)


def _unit(largest: float, bits: int) -> float:
    """Return the power of two that counts `largest` with about 2**bits; 1 for nothing."""
    return float(2.0 ** (np.ceil(np.log2(largest)) - bits)) if largest > 0 else 1.0


def _integers(name: str, value: ArrayLike, dimensions: int) -> Ints:
    array = np.asarray(value)
    if array.ndim != dimensions or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{name} must be integers of {dimensions} dimension(s), but got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def _cycle(edges: Ints, done: Ints, count: int) -> list[int]:
    """One cycle among the nodes that no topological order reaches, as a list of nodes in order."""
    left = np.ones(count, bool)
    left[done] = False
    inside = edges[left[edges[:, 0]] & left[edges[:, 1]]]
    before = dict(zip(inside[:, 1].tolist(), inside[:, 0].tolist(), strict=True))
    node = next(iter(before))
    walk: list[int] = []
    seen: dict[int, int] = {}
    while node not in seen:
        seen[node] = len(walk)
        walk.append(node)
        node = before[node]
    return walk[seen[node] :][::-1]


def _checked(hulls: Sequence[Hull], dag: Dag) -> list[tuple[Floats, Floats]]:
    if dag.nodes.max() >= len(hulls):
        raise InputError(
            f"every class needs a hull, but node {dag.nodes.argmax()} has class {dag.nodes.max()} "
            f"and hulls are given for 0 to {len(hulls) - 1}"
        )
    checked = []
    for c, hull in enumerate(hulls):
        time, energy = (np.atleast_1d(np.asarray(x, dtype=float)) for x in hull)
        if time.ndim != 1 or time.shape != energy.shape or len(time) == 0:
            raise InputError(f"a hull is two equally long rows, but class {c} has {time.shape} and {energy.shape}")
        if not (np.isfinite(time).all() and np.isfinite(energy).all() and time[0] >= 0):
            raise InputError(f"a hull needs finite energies and finite times of 0 s or more, but class {c} has others")
        if (np.diff(time) <= 0).any() or (np.diff(energy) >= 0).any():
            raise InputError(f"a hull's times must rise and its energies fall, but those of class {c} do not")
        slope = np.diff(energy) / np.diff(time)
        if (np.diff(slope) < -1e-9 * np.abs(slope[1:])).any():
            raise InputError(f"a hull must be convex, but class {c} is not; take the lower convex hull first")
        checked.append((time, energy))
    return checked
