"""Settings the exact rounding does not cover: one choice for many computations, or time lost in changing clock.

Both are searched with the longest path as judge; the exact bound of the freest choice says how far they are from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError
from ..frontier.graph import Dag, GraphFrontier
from ..frontier.pruning import prune
from .profile import Floats, Ints, Options
from .schedule import Graph

GRANULARITIES = ("microbatch", "instruction", "stage")
VISITS = 300_000_000  # nodes visited by one search of shared choices, about: a second or two
WINDOW = 8  # candidates looked at beyond the present one
RATES = np.r_[np.geomspace(1.0, 1e-2, 8), 0.0, 0.0, 0.0]  # of the dearest second
HALVINGS = 10  # of the deadline's tightening


@dataclass(frozen=True)
class Network:
    """A schedule's graph and the settings of its kinds, laid out flat for the kernels; settings count over kinds."""

    kind: Ints
    order: Ints
    back: tuple[Ints, Ints]
    ahead: tuple[Ints, Ints]
    row: Ints
    following: Ints
    rows: Ints
    ends: Ints
    device: Ints
    first: Ints
    time: Floats
    energy: Floats
    enter: Ints
    leave: Ints
    clocks: Floats
    uniform: NDArray[np.bool_]
    top: Ints
    latency: float

    @staticmethod
    def of(graph: Graph, dag: Dag, options: Sequence[Options], transfer: int, latency: float) -> Network:
        """`transfer`: the first kind that is a transfer, which no device runs."""
        n = len(graph.kind)
        busy = np.flatnonzero(dag.nodes < transfer)
        rows = busy[np.argsort(graph.device[busy], kind="stable")]
        ends = np.searchsorted(graph.device[rows], np.arange(graph.devices), side="right")
        same = graph.device[rows[1:]] == graph.device[rows[:-1]]
        row, following = np.full(n, -1), np.full(n, -1)
        row[rows[1:][same]], following[rows[:-1][same]] = rows[:-1][same], rows[1:][same]
        clocks, code = np.unique(
            np.concatenate([o.first for o in options] + [o.last for o in options]), return_inverse=True
        )
        size = len(code) // 2
        first = np.r_[0, np.cumsum([len(o.time) for o in options])].astype(np.int64)
        return Network(
            dag.nodes, dag.order, _grouped(n, dag.edges[:, ::-1]), _grouped(n, dag.edges), row, following, rows,
            ends.astype(np.int64), graph.device, first, np.concatenate([o.time for o in options]),
            np.concatenate([o.energy for o in options]), code[:size].astype(np.int64), code[size:].astype(np.int64),
            clocks,
            np.concatenate([o.uniform for o in options]), first[:-1] + [o.top for o in options], latency,
        )  # fmt: skip

    def starts(self, pick: Ints) -> tuple[Floats, float]:
        """Return (n,) starts in seconds and when the last node ends."""
        from . import _choices as _search

        start = np.zeros(len(self.kind))
        end = _search.reach(
            self.order, *self.back, self.row, pick, self.time, self.enter, self.leave, self.latency, start
        )
        return start, float(end)

    def at_maximum(self) -> Ints:
        """Return every computation's setting at maximum clocks."""
        return self.top[self.kind]

    def fastest(self) -> Ints:
        """Return every computation's fastest setting."""
        quick = [int(a + np.argmin(self.time[a:b])) for a, b in zip(self.first[:-1], self.first[1:], strict=True)]
        return np.array(quick)[self.kind]

    def spent(self, pick: Ints) -> float:
        """Return joules above waiting."""
        return float(self.energy[pick].sum())

    def switches(self, pick: Ints) -> int:
        """Return how often a device changes clock between two computations."""
        later = np.flatnonzero(self.row >= 0)
        return int((self.leave[pick[self.row[later]]] != self.enter[pick[later]]).sum())

    # ---- changing clock takes time ----------------------------------------------------------

    def settle(self, frontier: GraphFrontier, seeds: Sequence[Ints], deadline: float) -> Ints:
        """Return the best plan found that meets `deadline` with every change of clock taking its time.

        Starts from the exact optimum's prices at tighter and tighter deadlines, from `seeds` and from maximum clocks;
        each is slowed down where there is time left.
        """
        limit = deadline * (1 + 1e-12)
        found = [p for p in (*seeds, self.at_maximum(), self.fastest()) if self.starts(p)[1] <= limit]
        low, high = float(frontier.time[0]), min(deadline, float(frontier.time[-1]))
        good, bad = low, high
        at = high
        for _ in range(HALVINGS):
            pick = self._priced(frontier, at)
            if self.starts(pick)[1] <= limit:
                found.append(pick)
                good = at
            else:
                bad = at
            if bad - good <= 1e-6 * high:
                break
            at = 0.5 * (good + bad)
        if not found:
            raise GoalError(
                f"no plan found that ends by {deadline:.6g} s when changing clock takes {self.latency:.3g} s"
            )
        relaxed = [self.relax(p.copy(), limit) for p in _distinct(found)]
        return min(relaxed, key=self.spent)

    def _priced(self, frontier: GraphFrontier, time: float) -> Ints:
        from . import _choices as _search

        price = frontier.schedule(time).price
        pick: Ints = _search.steady(
            self.rows, self.ends, self.kind, price, self.latency, self.first, self.time, self.energy, self.enter,
            self.leave, len(self.clocks),
        )  # fmt: skip
        idle = np.setdiff1d(np.arange(len(self.kind)), self.rows)  # transfers
        pick[idle] = self.first[self.kind[idle]]
        return pick

    def relax(self, pick: Ints, deadline: float) -> Ints:
        """Slow computations down, changed in place, where there is time left; the best savings first."""
        from . import _choices as _search

        backward = self.order[::-1].copy()
        dearest = self._dearest()
        for turn, rate in enumerate(RATES * dearest):
            rest, begun = np.zeros(len(self.kind)), np.zeros(len(self.kind))
            ahead = self.order, *self.back, self.row
            behind = backward, *self.ahead, self.following
            if turn % 2:
                _search.reach(*behind, pick, self.time, self.leave, self.enter, self.latency, rest)
                _search.slow(
                    *ahead, *self.ahead, self.following, self.kind, rest, deadline, rate, self.latency, pick,
                    self.first, self.time, self.energy, self.enter, self.leave,
                )  # fmt: skip
            else:
                _search.reach(*ahead, pick, self.time, self.enter, self.leave, self.latency, begun)
                _search.slow(
                    *behind, *self.back, self.row, self.kind, begun, deadline, rate, self.latency, pick,
                    self.first, self.time, self.energy, self.leave, self.enter,
                )  # fmt: skip
        return pick

    def _dearest(self) -> float:
        steep = [0.0]
        for a, b in zip(self.first[:-1], self.first[1:], strict=True):
            t, e = self.time[a:b], self.energy[a:b]
            longer = t > t.min()
            if longer.any():
                steep.append(float(((e[np.argmin(t)] - e[longer]) / (t[longer] - t.min())).max()))
        return max(steep)

    # ---- one choice for many computations ---------------------------------------------------

    def shared(self, granularity: str, deadline: float) -> Ints:
        """Return the best plan found with one setting per (stage, instruction), or one clock per stage.

        Raises GoalError where no such plan meets `deadline`.
        """
        from . import _choices as _search

        group, of = self._by_instruction() if granularity == "instruction" else self._by_stage()
        uses = np.bincount(self.kind, minlength=len(group)).astype(float)
        cost, work = self._candidates(group, of, uses)
        budget = max(200, VISITS // len(self.kind))
        fixed = group, cost, work, self.kind, self.order, *self.back, self.row, self.time, self.enter, self.leave
        best, least = None, np.inf
        for begin in self._beginnings(group, of, cost):
            if self.starts(of[self.kind, begin[group[self.kind]]])[1] > deadline * (1 + 1e-12):
                continue
            for way in (0, 1, 2):
                choice = begin.copy()
                joules = _search.together(choice, of, *fixed, self.latency, deadline * (1 + 1e-12), way, WINDOW, budget)
                if joules < least:
                    best, least = choice, joules
        if best is None:
            raise GoalError(f"no plan with one choice per {granularity} ends by {deadline:.6g} s")
        found: Ints = of[self.kind, best[group[self.kind]]]
        return found

    def _candidates(self, group: Ints, of: Ints, uses: Floats) -> tuple[Floats, Floats]:
        """Return (groups, candidates) joules and seconds; infinite where a candidate is missing."""
        shape = int(group.max()) + 1, of.shape[1]
        cost, work = np.zeros(shape), np.zeros(shape)
        for k, g in enumerate(group.tolist()):
            there = of[k] >= 0
            cost[g] += np.where(there, uses[k] * self.energy[of[k]], np.inf)
            work[g] += np.where(there, uses[k] * self.time[of[k]], np.inf)
        # Candidates in order of time; a missing one stands last.
        for g in range(shape[0]):
            order = np.argsort(work[g], kind="stable")
            cost[g], work[g] = cost[g][order], work[g][order]
            for k in np.flatnonzero(group == g).tolist():
                of[k] = of[k][order]
        return cost, work

    def _beginnings(self, group: Ints, of: Ints, cost: Floats) -> list[Ints]:
        """Return where to start from: the fastest candidates, and maximum clocks where that is a candidate."""
        quick = np.zeros(len(cost), np.int64)
        top = quick.copy()
        for g in range(len(cost)):
            mine = np.flatnonzero(group == g)
            same = np.flatnonzero((of[mine] == self.top[mine, None]).all(axis=0))
            top[g] = same[0] if len(same) else 0
        return _distinct([quick, top])

    def _by_instruction(self) -> tuple[Ints, Ints]:
        sizes = np.diff(self.first)
        of = np.full((len(sizes), sizes.max()), -1)
        for k, size in enumerate(sizes):
            rows = self.first[k] + np.arange(size)
            if not self.latency:  # what another beats in both can serve only to spare a change of clock
                rows = rows[np.union1d(prune(self.time[rows], self.energy[rows]), [self.top[k] - self.first[k]])]
            of[k, : len(rows)] = rows
        return np.arange(len(sizes)), of

    def _by_stage(self) -> tuple[Ints, Ints]:
        """One clock per device: each of its kinds runs at its fastest, or its most frugal, setting of that clock."""
        kinds = len(self.first) - 1
        group = np.zeros(kinds, np.int64)
        group[self.kind] = self.device
        runs = np.isin(np.arange(kinds), self.kind[self.rows])
        group[~runs] = group.max() + 1 + np.arange((~runs).sum())  # transfers stay by themselves
        of = np.full((kinds, 2 * len(self.clocks)), -1)
        for k in range(kinds):
            rows = np.arange(self.first[k], self.first[k + 1])
            if not runs[k]:
                of[k, 0] = rows[0]
                continue
            for c in range(len(self.clocks)):
                at = rows[self.uniform[rows] & (self.enter[rows] == c)]
                if len(at):
                    of[k, 2 * c], of[k, 2 * c + 1] = at[np.argmin(self.time[at])], at[np.argmin(self.energy[at])]
        return group, of


def _grouped(count: int, edges: Ints) -> tuple[Ints, Ints]:
    """Group the second ends of edges (m, 2) by the first: pointer (count + 1,) and ends (m,)."""
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    return np.searchsorted(edges[:, 0], np.arange(count + 1)), np.ascontiguousarray(edges[:, 1])


def _distinct(picks: Sequence[Ints]) -> list[Ints]:
    return list({p.tobytes(): p for p in picks}.values())
