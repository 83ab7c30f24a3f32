"""Plans that a device can run, from the exact frontier: one setting per node, or two with one switch inside.

Every plan carries its certificate: its energy, the exact bound at its deadline, and the gap between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattline.core.errors import InputError
from wattline.frontier.graph import Dag, GraphFrontier, Hull

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHARES = (1.0, 0.9, 1.1)  # factors on the exact prices: three plans to start from, in each direction of time
RATES = np.r_[np.geomspace(1.0, 1e-2, 12), 0.0, 0.0]  # of the dearest second: spare time goes to the best savings first
ROUNDS = 4  # of trading and spending spare time
NEGLIGIBLE = 1e-9  # of a node's duration: not worth a switch
SHAKES = 2_000_000  # about how many nodes to visit while shaking the best plan: some 0.2 s
LARGE = 4096  # nodes from which the exact prices alone are a start: a long schedule has room for every correction
MOVES = 4000  # rounds in which many nodes move at once, each over some tens of them: some 0.2 s
MOST_MOVED = 1024  # nodes up to which that is done: there, each choice weighs, and few corrections are at hand
TRIALS = 400_000  # about how many trades to look at in a round


@dataclass(frozen=True)
class DiscretePlan:
    """One option per node. Energies are joules above waiting.

    Attributes
    ----------
    option : (n,) integers
        Row of the option table of the node's class.
    start, duration : (n,) arrays
        Seconds.
    time : float
        Completion time in seconds, at most the deadline.
    energy, bound : float
        Of this plan, and the least that any plan by the deadline could need.
    gap : float
        (energy - bound) / (bound + waiting power * deadline): the excess relative to the total.
    """

    option: Ints
    start: Floats
    duration: Floats
    time: float
    energy: float
    bound: float
    gap: float


@dataclass(frozen=True)
class SwitchPlan:
    """At most two adjacent hull settings per node, the faster one first, with one switch inside. It meets the bound.

    Attributes
    ----------
    fast, slow : (n,) integers
        Vertices of the hull of the node's class; equal where no switch is needed.
    share : (n,) array
        Part of the node's work, 0 to 1, done at `fast`.
    start, duration : (n,) arrays
        Seconds.
    time : float
        Completion time in seconds, at most the deadline.
    energy, bound, gap
        As in `DiscretePlan`; the gap is 0 up to rounding. Switching itself is taken to cost nothing.
    """

    fast: Ints
    slow: Ints
    share: Floats
    start: Floats
    duration: Floats
    time: float
    energy: float
    bound: float
    gap: float


def _gap(energy: float, bound: float, frontier: GraphFrontier, deadline: float) -> float:
    total = abs(bound + frontier.waiting_power * deadline)
    return (energy - bound) / total if total > 0 else 0.0 if energy <= bound else float("inf")


class _Tables:
    """Option tables without dominated rows, laid end to end; `row` leads back to the caller's rows."""

    def __init__(self, options: Sequence[Hull]) -> None:
        times, energies, rows = [], [], []
        for c, table in enumerate(options):
            t, e = (np.atleast_1d(np.asarray(x, dtype=float)) for x in table)
            if t.ndim != 1 or t.shape != e.shape or len(t) == 0 or not (np.isfinite(t).all() and np.isfinite(e).all()):
                raise InputError(f"options must be two equally long rows of finite numbers, but class {c} has others")
            order = np.lexsort((e, t))
            least = np.minimum.accumulate(e[order])
            order = order[np.r_[True, least[1:] < least[:-1]]]
            times.append(t[order])
            energies.append(e[order])
            rows.append(order)
        self.first = np.r_[0, np.cumsum([len(x) for x in times])].astype(np.int64)
        self.time, self.energy, self.row = np.concatenate(times), np.concatenate(energies), np.concatenate(rows)


def round_discrete(
    dag: Dag, frontier: GraphFrontier, options: Sequence[Hull], deadline: float, rounds: int = 0
) -> DiscretePlan:
    """Pick one option per node so that the longest path meets `deadline` (seconds), at as little energy as found.

    `options` is (time, energy) per class, all measured settings, of which the frontier's hulls are the lower convex
    hulls; rows beaten in both are never picked. A deadline beyond the slowest breakpoint is met there. The exact
    optimum is rounded in several ways, what time is left is spent where it saves most, pairs of nodes trade time, and
    the best plan is moved `rounds` times, many nodes at once (`MOVES` is plenty).
    """
    from wattline.frontier import _rounding
    from wattline.frontier._forest import Events

    tables = _Tables(options)
    first, time, energy = tables.first, tables.time, tables.energy
    deadline = min(deadline, float(frontier.time[-1]))
    exact = frontier.schedule(deadline)
    slack = 1e-12 * deadline  # rounding of sums of times, not time to spend
    n = len(dag.nodes)
    rank = np.empty(n, np.int64)
    rank[dag.order] = np.arange(n)
    order = np.lexsort((rank, exact.start))  # topological too, and neighbours in time are neighbours in memory
    rank[order] = np.arange(n)
    edges, node, price = rank[dag.edges], dag.nodes[order], exact.price[order]
    ahead = np.arange(n)
    before = _rounding.neighbours(n, edges[:, ::-1].copy())
    after = _rounding.neighbours(n, edges)
    forward = ahead, *before, node
    backward = ahead[::-1].copy(), *after, node
    rates = RATES * max(price.max(), 1e-300)
    steps = int(np.clip(TRIALS // (6 * n), 2, 64))
    ends = exact.end[order], deadline - exact.start[order]

    def spend(pick: Ints) -> None:
        for turn, rate in enumerate(rates):
            one, other = (forward, backward) if turn % 2 else (backward, forward)
            rest = _rounding.longest(*other[:3], pick, time)
            _rounding.reclaim(*one, rest, deadline + slack, np.full(n, rate), pick, first, time, energy)

    def improve(pick: Ints) -> Ints:
        for _ in range(ROUNDS):
            reach = _rounding.longest(*forward[:3], pick, time)
            rest = _rounding.longest(*backward[:3], pick, time)
            saved = _rounding.trade(
                *before, *after, node, reach, rest, deadline + slack, steps, pick, first, time, energy
            )
            spend(pick)
            if saved == 0.0:
                break
        return pick

    starts: dict[bytes, Ints] = {}
    for direction, end in zip((forward, backward), ends, strict=True):
        for share in SHARES if n < LARGE else SHARES[:1]:
            pick = _rounding.diffuse(*direction, end + slack, price * share, first, time, energy)
            spend(pick)
            starts.setdefault(pick.tobytes(), pick)
    with ThreadPoolExecutor(2) as pool:  # the kernels release the interpreter lock
        best = min(pool.map(improve, starts.values()), key=lambda pick: float(energy[pick].sum()))
    _rounding.shake(
        ahead, *before, ahead[::-1].copy(), *after, node, deadline + slack,
        price, int(np.clip(n // 8, 2, 64)), min(SHAKES // n, 20 * n), np.random.default_rng(0),
        best, first, time, energy,
    )  # fmt: skip
    if n <= MOST_MOVED and rounds:
        spans = np.stack((exact.start, exact.end), axis=1)
        events = Events(dag.nodes, dag.edges, spans, first, time, energy)
        best = events.improve(best[rank], deadline + slack, rounds, np.random.default_rng(0))[order]
    least = float(energy[best].sum())
    start = _rounding.longest(*forward[:3], best, time)
    bound = frontier.energy_at(deadline)
    return DiscretePlan(
        tables.row[best][rank],
        start[rank],
        time[best][rank],
        float((start + time[best]).max()),
        least,
        bound,
        _gap(least, bound, frontier, deadline),
    )


def round_switch_once(dag: Dag, frontier: GraphFrontier, hulls: Sequence[Hull], deadline: float) -> SwitchPlan:
    """Realise the exact optimum at `deadline` (seconds) by one switch of setting inside each node that needs it."""
    deadline = min(deadline, float(frontier.time[-1]))
    exact = frontier.schedule(deadline)
    fast, slow = np.zeros(len(dag.nodes), np.int64), np.zeros(len(dag.nodes), np.int64)
    share = np.ones(len(dag.nodes))
    energy = 0.0
    for c, hull in enumerate(hulls):
        t, e = (np.atleast_1d(np.asarray(x, dtype=float)) for x in hull)
        mine = np.flatnonzero(dag.nodes == c)
        duration = exact.duration[mine]
        fast[mine] = np.clip(np.searchsorted(t, duration, side="right") - 1, 0, len(t) - 1)
        slow[mine] = np.minimum(fast[mine] + 1, len(t) - 1)
        near = np.abs(t[slow[mine]] - duration) <= NEGLIGIBLE * duration
        fast[mine] = np.where(near, slow[mine], fast[mine])
        near |= np.abs(t[fast[mine]] - duration) <= NEGLIGIBLE * duration
        slow[mine] = np.where(near, fast[mine], slow[mine])
        width = t[slow[mine]] - t[fast[mine]]
        share[mine] = np.where(near, 1.0, (t[slow[mine]] - duration) / np.where(near, 1.0, width))
        energy += float((share[mine] * e[fast[mine]] + (1 - share[mine]) * e[slow[mine]]).sum())
    bound = frontier.energy_at(deadline)
    gap = _gap(energy, bound, frontier, deadline)
    finish = float((exact.start + exact.duration).max())
    return SwitchPlan(fast, slow, share, exact.start, exact.duration, finish, energy, bound, gap)
