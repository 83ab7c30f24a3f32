"""The frontier of a schedule that repeats, from a few repetitions when that is exact.

Once a pipeline has filled, each further microbatch adds the same time and the same energy at the same price of a
second: the whole frontier is affine in the number of repetitions, and its breakpoints stay at the same prices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from time import perf_counter

import numpy as np

from wattline.errors import InputError
from wattline.frontier.graph import Dag, GraphFrontier, Hull, Ints, Schedule, solve

AGREEMENT = 1e-9  # relative, of the guard's times and energies with their prediction


def solve_family(
    make_dag: Callable[[int], Dag],
    count: int,
    hulls: Sequence[Hull],
    waiting_power: float,
    start_price: float | None = None,
    base: int = 8,
    fold: Callable[[int], Ints] | None = None,
) -> GraphFrontier:
    """Return the frontier of `make_dag(count)`, extended from fewer repetitions where that is proved cheaper.

    Solves k and k + 1 repetitions and predicts a third as a guard; if the guard disagrees, k grows by half, and once
    all this would cost more than solving `count` repetitions, that is done instead. The result's `method` says which:
    "affine" or "direct". A schedule of an affine frontier solves the full graph when first asked for.

    Parameters
    ----------
    make_dag : function
        The graph for a number of repetitions.
    count : int
        Repetitions wanted.
    hulls, waiting_power, start_price
        As in `solve`.
    base : int
        Repetitions to try first; four per pipeline stage are usually enough.
    fold : function, optional
        For a number of repetitions k, which node of `make_dag(k)` plays the part of each node of `make_dag(count)`.
        With it a schedule of an affine frontier is unfolded from the small one at the same price of a second: a good
        plan to round, though not an exact optimum.
    """
    if count < 1 or base < 1:
        raise InputError(f"count and base must be at least 1, but got count={count}, base={base}")
    began = perf_counter()
    spent = 0
    k = base

    def part(dag: Dag) -> GraphFrontier:
        return solve(dag, hulls, waiting_power, start_price)

    while True:
        guard = k + 2 + k // 8
        if spent + 2 * k + 1 + guard >= count:
            return replace(part(make_dag(count)), solve_s=perf_counter() - began)
        dags = make_dag(k), make_dag(k + 1)
        with ThreadPoolExecutor(2) as pool:  # the kernels release the interpreter lock
            one, two = pool.map(part, dags)
        spent += 2 * k + 1
        if _alike(one, two):
            third = part(make_dag(guard))
            spent += guard
            predicted = _extended(one, two, guard - k)
            if _alike(predicted, third) and all(
                np.allclose(a, b, rtol=AGREEMENT, atol=AGREEMENT * np.abs(b).max())
                for a, b in ((predicted.time, third.time), (predicted.energy, third.energy))
            ):
                break
        k += max(k // 2, 1)

    @cache
    def whole() -> GraphFrontier:
        return part(make_dag(count))

    def schedule(time: float) -> Schedule:
        return whole().schedule(time)

    extended = _extended(one, two, count - k)
    if fold is not None:
        schedule = _Unfolded(make_dag(count), one, extended, fold(k), hulls)
    return replace(extended, solve_s=perf_counter() - began, _schedule=schedule)


@dataclass(frozen=True)
class _Unfolded:
    """Schedules of a long graph from those of a short one that differs in the number of repetitions alone."""

    dag: Dag
    short: GraphFrontier
    long: GraphFrontier
    part: Ints  # node of the short graph that plays the part of each node of the long one
    hulls: Sequence[Hull]

    def __call__(self, time: float) -> Schedule:
        from .path import end_times, start_times

        # Breakpoints correspond one to one; between two of them the same share of the way is the same price.
        at = np.interp(time, self.long.time, np.arange(len(self.long.time)))
        small = self.short.schedule(float(np.interp(at, np.arange(len(self.short.time)), self.short.time)))
        duration = small.duration[self.part]
        energy = sum(
            float(np.interp(duration[self.dag.nodes == c], t, e).sum()) for c, (t, e) in enumerate(self.hulls)
        )
        start = start_times(self.dag, duration)
        return Schedule(start, end_times(self.dag, duration, time), duration, small.price[self.part], energy)


def _alike(one: GraphFrontier, two: GraphFrontier) -> bool:
    return len(one.price) == len(two.price) and np.allclose(one.price[1:], two.price[1:], rtol=AGREEMENT, atol=0)


def _extended(one: GraphFrontier, two: GraphFrontier, further: int) -> GraphFrontier:
    """Continue the line through two frontiers that are one repetition apart to `further` repetitions from the first."""
    return replace(
        one,
        time=one.time + further * (two.time - one.time),
        energy=one.energy + further * (two.energy - one.energy),
        method="affine",
    )
