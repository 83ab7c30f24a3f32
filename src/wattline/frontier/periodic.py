"""The frontier of a schedule that repeats, from a few repetitions where that is exact.

Once a pipeline has filled, each further microbatch adds the same time and the same energy at the same price of a
second: the frontier is affine in the number of repetitions, and its breakpoints stay at the same prices. How many
repetitions that takes depends on the price: with 1F1B two per stage up to about nine times the waiting power, three
and a half at the fastest. So two short graphs, one repetition apart, climb the prices side by side for as long as their
breakpoints agree; then both go on as longer graphs, from the state reached, unfolded. States of the whole graph,
unfolded in the same way and proved optimal on the whole graph, guard the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from wattline.core.errors import InputError
from wattline.frontier.graph import (
    FOREVER,
    INFINITE,
    Dag,
    Floats,
    GraphFrontier,
    Hull,
    Ints,
    Network,
    Schedule,
    State,
    solve,
)

AGREEMENT = 1e-9  # relative, of prices, times and energies with their prediction
STRIDE = 1.15  # prices of one stretch: the work lost when the short graphs turn out to be too short
FEW = 50  # breakpoints: after a stretch with fewer the next one is longer
GROWTH = 4, 3  # of short graphs that turn out to be too short
PATIENCE = 30  # with the guards, before the whole graph is solved instead
WORTH = 1.5, 3  # times `base`: as many repetitions or fewer are solved directly; with a small graph
SMALL = 4096  # nodes; on fewer carrying states over costs more than it saves


def solve_family(
    make_dag: Callable[[int], Dag],
    count: int,
    hulls: Sequence[Hull],
    waiting_power: float,
    start_price: float | None = None,
    base: int = 8,
) -> GraphFrontier:
    """Return the frontier of `make_dag(count)`, extended from fewer repetitions where that is exact.

    The result's `method` says whether it was: "affine" or "direct". A prediction that the whole graph contradicts is
    dropped for longer short graphs, and in the end for the whole graph.

    Parameters
    ----------
    make_dag : function
        The graph for a number of repetitions. More repetitions add nodes of some classes, the same number each.
    count : int
        Repetitions wanted.
    hulls, waiting_power, start_price
        As in `solve`.
    base : int
        Repetitions to begin with; two per pipeline stage are usually enough up to the last tenth of the prices.
    """
    if count < 1 or base < 1:
        raise InputError(f"count and base must be at least 1, but got count={count}, base={base}")
    began = perf_counter()
    whole: Network | None = None
    dag = make_dag(count)
    while count > WORTH[len(dag.nodes) <= SMALL] * base:
        whole = whole or Network(dag, hulls)
        climb = _Climb(make_dag, count, hulls, whole, base)
        climb.reach(whole.price(waiting_power if start_price is None else start_price))
        if not climb.stretches:  # as fast as it gets below the first price asked about: one point
            break
        if climb.is_proved():
            time, energy, price = climb.curve()
            schedule = _Unfolded(climb)
            return GraphFrontier(time, energy, price, waiting_power, perf_counter() - began, "affine", schedule)
        base = climb.members[0].repetitions + 1
    frontier = solve(dag, hulls, waiting_power, start_price)
    return replace(frontier, solve_s=perf_counter() - began)


class _Member:
    """One graph of the family, on the scale of the whole one."""

    def __init__(self, repetitions: int, network: Network) -> None:
        from wattline.frontier._unfold import Rows

        self.repetitions, self.network = repetitions, network
        self.rows = Rows(network)


@dataclass(frozen=True)
class _Stretch:
    """Breakpoints between two prices on two short graphs, or on the whole graph alone."""

    members: tuple[_Member, ...]
    states: tuple[State, ...]  # where it begins
    done: tuple[Ints, ...]  # completions of the breakpoints, ticks, descending; and where it ends
    price: Ints  # of the breakpoints
    ends: bool  # nothing is faster

    def completions(self, count: int) -> Ints:
        """Return completions with `count` repetitions, ticks: of the breakpoints, and where the stretch ends."""
        one, two = self.done[0], self.done[-1]
        return one + (count - self.members[0].repetitions) * (two - one)

    def start(self, count: int) -> int:
        """Return the completion with `count` repetitions where the stretch begins, ticks."""
        done = [m.network.completion(s.time) for m, s in zip(self.members, self.states, strict=True)]
        return done[0] + (count - self.members[0].repetitions) * (done[-1] - done[0])

    def energy(self, count: int) -> float:
        """Return the energy with `count` repetitions where the stretch begins, joules."""
        joules = [m.network.read(s.time, s.flow).energy for m, s in zip(self.members, self.states, strict=True)]
        return joules[0] + (count - self.members[0].repetitions) * (joules[-1] - joules[0])

    @cached_property
    def _cut(self) -> float:
        from wattline.frontier._unfold import best_cut

        one, two = self.members
        return best_cut(self.states[0], one.rows, two.rows, self.start(two.repetitions) - self.start(one.repetitions))

    def carried(self, member: _Member, patience: int = 1) -> State | None:
        """Return the optimum of another member where the stretch begins; None if that takes too long."""
        from wattline.frontier._unfold import guess, settle

        one, two = self.members
        period = self.start(two.repetitions) - self.start(one.repetitions)
        further = member.repetitions - one.repetitions
        found = guess(self.states[0], one.rows, member.rows, further, period, self._cut)
        return settle(found, member.network, patience)

    def foretells(self, member: _Member, state: State) -> bool:
        """Tell whether an optimum of another member has the completion and energy predicted for it."""
        late = member.network.completion(state.time) - self.start(member.repetitions)
        energy = member.network.read(state.time, state.flow).energy
        alike = np.isclose(energy, self.energy(member.repetitions), rtol=AGREEMENT, atol=0)
        return abs(late) <= member.network.grain and bool(alike)


class _Climb:
    """Two short graphs climbing the prices side by side, growing where they turn out to be too short."""

    def __init__(
        self, make_dag: Callable[[int], Dag], count: int, hulls: Sequence[Hull], whole: Network, base: int
    ) -> None:
        self.make_dag, self.hulls = make_dag, hulls
        self.whole = _Member(count, whole)
        self.members = self._pair(base)
        self.stretches: list[_Stretch] = []

    def _pair(self, repetitions: int) -> tuple[_Member, ...]:
        if 4 * repetitions >= 3 * self.whole.repetitions:
            return (self.whole,)
        return tuple(
            _Member(k, Network(self.make_dag(k), self.hulls, self.whole.network))
            for k in (repetitions, repetitions + 1)
        )

    def reach(self, begin: int) -> None:
        """Climb from price 0 to the fastest completion, keeping what is beyond the price `begin`."""
        states = tuple(m.network.slowest for m in self.members)
        ceiling = begin or FOREVER >> 22
        with ThreadPoolExecutor(2) as pool:  # the kernels release the interpreter lock
            while True:
                reached = list(pool.map(lambda m, s, c=ceiling: m.network.advance(s, ceiling=c), self.members, states))
                stretch = self._stretch(states, reached)
                if stretch is None:
                    states = self._grow(states)
                    ceiling = int(states[0].price * STRIDE) or begin or FOREVER >> 22
                    continue
                if states[0].price >= begin:
                    self.stretches.append(stretch)
                if stretch.ends:
                    return
                states = tuple(state for state, *_ in reached)
                ceiling = int(ceiling * STRIDE ** (1 if len(stretch.price) >= FEW else 3))

    def _grow(self, states: tuple[State, ...]) -> tuple[State, ...]:
        """Take longer graphs; return their states at the last price from which the short ones can be carried over."""
        here = _Stretch(self.members, states, (), np.zeros(0, np.int64), False)
        self.members = self._pair(self.members[0].repetitions * GROWTH[0] // GROWTH[1] + 1)
        while here.states[0].price > 0:
            carried = [s for s in map(here.carried, self.members) if s is not None]
            if len(carried) == len(self.members) and all(map(here.foretells, self.members, carried)):
                return tuple(carried)
            if not self.stretches:
                break
            here = self.stretches.pop()
        return tuple(m.network.slowest for m in self.members)

    def _stretch(
        self, states: tuple[State, ...], reached: list[tuple[State, Ints, Ints, list[State]]]
    ) -> _Stretch | None:
        """Return the stretch climbed, None if the members do not agree on its breakpoints."""
        dones, prices, ends = [], [], []
        for member, (state, done, price, _) in zip(self.members, reached, strict=True):
            last = len(price) > 0 and price[-1] >= INFINITE
            if last:
                price = price[:-1]
            else:
                done = np.r_[done, member.network.completion(state.time)]
            # What falls by the rounding of a path is no breakpoint.
            apart = -np.diff(done) > self.whole.network.grain
            dones.append(done[np.r_[apart, True]])
            prices.append(price[apart])
            ends.append(last)
        if len(prices) > 1:
            if ends[0] != ends[1] or len(prices[0]) != len(prices[1]):
                return None
            if not np.allclose(prices[0], prices[1], rtol=AGREEMENT, atol=0):
                return None
        return _Stretch(self.members, states, tuple(dones), prices[0], ends[0])

    def is_proved(self) -> bool:
        """Tell whether optima of the whole graph are as predicted: the fastest, and one late on each pair of graphs."""
        network = self.whole.network
        if abs(network.completion(network.fastest()) - self.stretches[-1].completions(self.whole.repetitions)[-1]) > (
            network.grain
        ):
            return False
        for length in sorted({s.members[0].repetitions for s in self.stretches if len(s.members) > 1}):
            mine = [s for s in self.stretches if s.members[0].repetitions == length]
            tries = ((s, patience) for patience in (1, PATIENCE) for s in reversed(mine))
            for stretch, patience in tries:
                state = stretch.carried(self.whole, patience)
                if state is not None:
                    if not stretch.foretells(self.whole, state):
                        return False
                    break
            else:
                return False
        return True

    def curve(self) -> tuple[Floats, Floats, Floats]:
        """Return times, energies and prices of the whole graph's breakpoints, times ascending."""
        count = self.whole.repetitions
        done = np.concatenate(
            [s.completions(count)[:-1] for s in self.stretches] + [self.stretches[-1].completions(count)[-1:]]
        )
        price = np.concatenate([s.price for s in self.stretches] + [[INFINITE]])
        return self.whole.network.curve(done, price, self.stretches[0].energy(count))


class _Unfolded:
    """Exact schedules of the whole graph: a short one's, unfolded."""

    def __init__(self, climb: _Climb) -> None:
        self.whole, self.stretches = climb.whole, climb.stretches

    def __call__(self, time: float) -> Schedule:
        network, count = self.whole.network, self.whole.repetitions
        starts = np.array([s.start(count) for s in self.stretches])
        done = min(int(np.rint(time / network.tick)), int(starts[0]))
        state = self._before(done, int(np.flatnonzero(starts >= done)[-1]))
        state, *_ = network.advance(state, FOREVER, done)
        return network.read(state.time, state.flow)

    def _before(self, done: int, k: int) -> State:
        """Return an optimum of the whole graph that completes at `done`, in stretch k, or somewhat later."""
        stretch = self.stretches[k]
        if len(stretch.members) == 1:
            return stretch.states[0]
        # Short of the price at which the completion falls past the wanted one, it is that of the breakpoint.
        completions = stretch.completions(self.whole.repetitions)
        i = int(np.flatnonzero(completions >= done)[-1])
        below = int(stretch.price[i - 1]) if i > 0 else stretch.states[0].price
        above = int(stretch.price[i]) if i < len(stretch.price) else below
        middle = (below + above) // 2
        pairs = zip(stretch.members, stretch.states, strict=True)
        here = replace(stretch, states=tuple(m.network.advance(s, ceiling=middle)[0] for m, s in pairs))
        found = here.carried(self.whole)
        while found is None and k >= 0:
            found = self.stretches[k].carried(self.whole)
            k -= 1
        return self.whole.network.slowest if found is None else found
