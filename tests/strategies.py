"""Hypothesis strategies for frontiers and for whole expressions of them.

`exact_*` draw multiples of 1/4, whose sums are exact in floating point, so that laws hold with ``==``;
`rough_*` draw any floats, for laws that hold within rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from wattline import NEVER, ZERO, Choice, Frontier

QUARTERS = st.integers(0, 80).map(lambda k: k / 4)
WATTS = st.sampled_from([0.0, 1.0, 2.5, 70.0])


def _points(draw: st.DrawFn, values: st.SearchStrategy[float], most: int) -> tuple[list[float], list[float]]:
    pairs = draw(st.lists(st.tuples(values, values), min_size=1, max_size=most))
    return [t for t, _ in pairs], [e for _, e in pairs]


@st.composite
def exact_points(draw: st.DrawFn, most: int = 8) -> tuple[list[float], list[float]]:
    """Draw raw points (s, J), ties and dominated ones included."""
    return _points(draw, QUARTERS, most)


@st.composite
def exact_frontiers(draw: st.DrawFn, waiting_power: float | None = 1.0, most: int = 8, edge: bool = False) -> Frontier:
    """Draw a discrete frontier of dyadic values; with `edge`, ZERO and NEVER too."""
    if edge:
        special = draw(st.sampled_from([None, None, None, None, ZERO, NEVER]))
        if special is not None:
            return special
    time, energy = _points(draw, QUARTERS, most)
    watts = draw(WATTS) if waiting_power is None else waiting_power
    return Frontier.of(time, energy, waiting_power=watts, source=draw(st.sampled_from("xyz")), uncertainty=0.1)


@st.composite
def rough_frontiers(draw: st.DrawFn, waiting_power: float | None = 1.0, most: int = 8) -> Frontier:
    """Draw a discrete frontier of floats across twelve decades."""
    time, energy = _points(draw, st.floats(-6, 6).map(lambda x: 10.0**x), most)
    watts = draw(WATTS) if waiting_power is None else waiting_power
    return Frontier.of(time, energy, waiting_power=watts)


@st.composite
def convex_frontiers(draw: st.DrawFn, waiting_power: float | None = 1.0, most: int = 6, spread: float = 3) -> Frontier:
    """Draw a hull of floats, its time steps and prices spread over `spread` decades each way."""
    step = st.floats(-spread, spread).map(lambda x: 10.0**x)
    dt = draw(st.lists(step, max_size=most - 1))
    price = sorted(draw(st.lists(step, min_size=len(dt), max_size=len(dt))), reverse=True)
    time = np.cumsum([draw(QUARTERS), *dt])
    saved = np.append(0.0, np.cumsum(np.multiply(price, dt)))
    energy = draw(QUARTERS) + saved[-1] - saved
    watts = draw(WATTS) if waiting_power is None else waiting_power
    return Frontier.of(time, energy, waiting_power=watts).hull()


@dataclass(frozen=True)
class Tree:
    """An expression of frontiers beside its frontier, so that a plan can be replayed on it."""

    kind: str  # "leaf", "+", "&", "|", "n", "thin", "hull"
    frontier: Frontier
    children: tuple[Tree, ...] = ()
    count: int = 1

    def leaves(self) -> list[Tree]:
        """Return the leaves in order."""
        return [self] if self.kind == "leaf" else [leaf for child in self.children for leaf in child.leaves()]

    def replay(self, plan: tuple[Choice, ...]) -> tuple[float, float]:
        """Return (seconds, joules above waiting) of running `plan` leaf by leaf on this expression."""
        time: Counter[int] = Counter()
        for c in plan:
            time[id(c.leaf)] += c.time
        return self._seconds(time, 1), math.fsum(c.energy for c in plan)

    def _seconds(self, time: Counter[int], repeats: int) -> float:
        if self.kind == "leaf":
            return time[id(self.frontier._origin)] / repeats
        parts = [child._seconds(time, repeats * self.count) for child in self.children]
        if self.kind == "&":
            return max(parts)
        return self.count * math.fsum(parts)  # of `|` what is not chosen has taken no time


@st.composite
def trees(draw: st.DrawFn, hull: bool, kinds: str = "+&|n", depth: int = 3) -> Tree:
    """Draw an expression nesting the operators of `kinds`; every node waits at a power that lets it compose."""
    return _tree(draw, hull, kinds, depth, 1.0)


def _tree(draw: st.DrawFn, hull: bool, kinds: str, depth: int, watts: float) -> Tree:
    kind = draw(st.sampled_from(["leaf", *kinds])) if depth else "leaf"
    if kind == "leaf":
        leaf = draw(exact_frontiers(watts, most=5))
        node = Tree("leaf", leaf)
        return Tree("hull", leaf.hull(), (node,)) if hull else node
    # `&` adds the waiting powers of its sides.
    split = watts / 2 if kind == "&" else watts
    left = _tree(draw, hull, kinds, depth - 1, split)
    if kind == "n":
        n = draw(st.integers(1, 3))
        return Tree("n", n * left.frontier, (left,), n)
    if kind == "t":
        return Tree("thin", left.frontier.thin(3), (left,))
    right = _tree(draw, hull, kinds, depth - 1, split)
    f, g = left.frontier, right.frontier
    both = f + g if kind == "+" else f & g if kind == "&" else f | g
    return Tree(kind, both, (left, right))


def same(a: Frontier, b: Frontier) -> None:
    """Assert that two frontiers have equal points, to the last bit."""
    np.testing.assert_array_equal(a.time, b.time)
    np.testing.assert_array_equal(a.energy, b.energy)
    assert a.waiting_power == b.waiting_power


def close(a: Frontier, b: Frontier, rel: float = 1e-9) -> None:
    """Assert that two frontiers offer the same energy at every deadline, within rounding.

    Joules are compared as a curve; deadlines move by `rel` of the longest, since on a steep edge a
    rounded second is worth many joules.
    """
    assert bool(len(a)) == bool(len(b))
    if not len(a):
        return
    assert math.isclose(a.waiting_power, b.waiting_power, rel_tol=rel, abs_tol=rel)
    slip = rel * max(a.time[-1], b.time[-1])
    joules = rel * max(np.abs(a.energy).max(), np.abs(b.energy).max())
    for f, g in ((a, b), (b, a)):
        for t in [*f.time, *(0.5 * (f.time[1:] + f.time[:-1]))]:
            assert g.by(t + slip).energy <= f.by(t).energy + joules
