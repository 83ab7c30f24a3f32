"""The program of a plan over time: shares of pieces of curves, pauses, limits and work due; and its answer read.

Columns are watts on a piece of a job's curve in a period, counted in that piece; rows are inflows, counted in
what they allow, and work due, counted in what one piece does in one period. Where work cannot all be done, the
program is solved twice more: for the least share left undone, then for the goal with no more undone than that. So
no price of undone work has to be invented, and none drowns the prices that matter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .equipment_program import Fitted
from .horizon_plan import HorizonPlan, Span
from .program import InfeasibleError, Program, Solution
from .tasks import Array, Goal

Ints = NDArray[np.int64]


class Stated:
    """The program of a horizon under a goal."""

    def __init__(self, horizon: Span, goal: Goal) -> None:
        self.h, self.goal = horizon, goal
        self.program = Program()
        c, curves = horizon.conditions, horizon.curves
        self.n, self.tasks = len(c.dt), len(horizon.tasks)
        self.place = horizon.places[0]
        self.at_feed = np.stack([per[:, horizon.tree.root] for _, per in horizon.response], axis=1)[self.place]
        self.rate = c.weight(goal)
        # With equipment what is bought has a price, not what is used.
        self.cost = (0.0 if horizon.equipment else self.rate * c.dt) * self.at_feed
        self.job, self.width, self.slope = curves.segments()
        low, high, share = curves.at(np.arange(self.tasks), curves.least)
        self.least_work = (1 - share) * curves.work[low] + share * curves.work[high]
        # W of each job in each period before anything is decided.
        floor = np.where(horizon.paid[:, None], horizon.rest, curves.least[:, None])
        self.base = np.where(horizon.runs, floor, horizon.rest)
        self.base_work = np.where(horizon.runs & ~horizon.paid[:, None], self.least_work[:, None], 0.0) * c.dt
        self._pieces()
        self._pauses()
        self.fitted = self._equipment() if horizon.equipment else None
        self._limits()
        self._due()
        if self.fitted is not None and horizon.equipment.services:
            self._services(self.fitted)

    def solve(self, *, gap: float, nodes: int) -> HorizonPlan:
        """Return the plan; work is left undone only where it cannot be done."""
        own = self.program.costs
        try:
            return self._read(self.program.minimise(gap=gap, nodes=nodes, proved=True))
        except InfeasibleError:
            if not self.undone.size:
                raise
        every = np.arange(self.program.columns)
        self.program.change(every, cost=0.0)
        self.program.change(self.undone, cost=1 / self.owed, high=self.owed)
        least = self.program.minimise(gap=gap, nodes=nodes).x[self.undone]
        self.program.change(every, cost=own)
        self.program.change(self.undone, high=np.minimum(self.owed, least * (1 + 1e-7) + 1e-8 * self.owed))
        return self._read(self.program.minimise(gap=gap, nodes=nodes))

    # ---- stating ----------------------------------------------------------------------------

    def _price(self, watts: Array, work: Array, job: Ints, period: Ints) -> Array:
        """Return the objective of `watts` and `work` a second of jobs in periods."""
        if self.goal == "work":
            return -self.h.points.weight[job] * work * self.h.conditions.dt[period]
        return np.asarray(self.cost[job, period] * watts)

    def _pieces(self) -> None:
        """Watts of every piece of every curve in every period in which its job may do more than it must."""
        h = self.h
        owing = h.owing
        may = np.where(owing[:, None], h.open, h.runs)
        self.piece, self.when = np.nonzero(may[self.job])
        cost = self._price(np.ones(len(self.piece)), self.slope[self.piece], self.job[self.piece], self.when)
        wide = self.width[self.piece]
        self.x = self.program.variables(len(self.piece), cost=cost, high=wide, unit=wide)
        # Where a joule earns something a curve's last pieces are not to be had without its first.
        follows = np.flatnonzero(np.diff(self.job) == 0)
        place = np.full((len(self.job), self.n), -1, np.int64)
        place[self.piece, self.when] = self.x
        earning = np.flatnonzero(self.rate < 0) if self.goal != "work" else np.zeros(0, np.int64)
        first, then = place[follows][:, earning].ravel(), place[follows + 1][:, earning].ravel()
        held = first >= 0
        share = np.repeat(np.stack([self.width[follows], self.width[follows + 1]], 1), len(earning), axis=0)[held]
        rows = self.program.constraints(int(held.sum()), most=0.0)
        self.program.add(rows, then[held], 1 / share[:, 1])
        self.program.add(rows, first[held], -1 / share[:, 0])
        self.burnt = np.zeros(self.n, bool)
        self.burnt[earning] = True

    def _pauses(self) -> None:
        """Whether a job with paid pauses is on; its pieces only then, and each start loses work."""
        h, p = self.h, self.program
        self.paid = np.flatnonzero(h.paid)
        size = (len(self.paid), self.n)
        job, period = (index.ravel() for index in np.indices(size))
        job = self.paid[job] if len(self.paid) else job
        extra = h.curves.least[job] - h.rest[job, period]
        cost = self._price(extra, self.least_work[job], job, period)
        may = h.runs[self.paid].astype(float).ravel()
        self.on = p.variables(job.size, cost=cost, high=may, whole=True).reshape(size)
        self.lost = np.array([h.tasks[j].resume * h.points.fastest[j] for j in self.paid])
        again = h.points.weight[self.paid] * self.lost if self.goal == "work" else np.zeros(len(self.paid))
        self.start = p.variables(job.size, cost=np.repeat(again, self.n), high=1.0).reshape(size)
        for k, j in enumerate(self.paid):
            mine = np.flatnonzero(self.job[self.piece] == j)
            rows = p.constraints(len(mine), most=0.0)
            p.add(rows, self.x[mine], 1.0)
            p.add(rows, self.on[k][self.when[mine]], -self.width[self.piece[mine]])
            before = np.zeros(self.n)
            before[0] = float(h.tasks[j].running)
            rows = p.constraints(self.n, least=-before)
            p.add(rows, self.start[k], 1.0)
            p.add(rows, self.on[k], -1.0)
            p.add(rows[1:], self.on[k][:-1], 1.0)
            if h.tasks[j].dwell > 0:
                self._dwell(k, int(j))

    def _dwell(self, k: int, j: int) -> None:
        """Once started a job stays on, and once paused off, for its dwell (Rajan and Takriti 2005, turn on and off)."""
        h, p, edges = self.h, self.program, self.h.conditions.edges
        # Started within the dwell: it is on. Started within the dwell to come: it is off now.
        first = np.searchsorted(edges, edges[1:] - h.tasks[j].dwell - 1e-6)
        rows, off = p.constraints(self.n, most=0.0), p.constraints(self.n, most=1.0)
        for t in range(self.n):
            recent = self.start[k][min(int(first[t]), t) : t + 1]
            p.add(rows[t], recent, 1.0)
            p.add(rows[t], self.on[k][t], -1.0)
            since = int(first[t]) - 1
            p.add(off[t], recent, 1.0)
            if since >= 0:
                p.add(off[t], self.on[k][since], 1.0)

    def _equipment(self) -> Fitted:
        """The balance at the feed, with what each piece and each job that is on uses there."""
        h, root = self.h, self.h.tree.root
        need = h.flows(self.base)[:, root]
        top = np.maximum(h.curves.power[h.curves.begin + h.curves.count - 1][:, None], self.base)
        most = h.flows(np.where(h.runs, top, self.base))[:, root]
        fitted = Fitted(h, h.equipment, self.goal, self.program, need, most)
        job = self.job[self.piece]
        self.program.add(fitted.balance[self.when], self.x, -self.at_feed[job, self.when])
        for k, j in enumerate(self.paid):
            extra = (h.curves.least[j] - h.rest[j]) * self.at_feed[j]
            self.program.add(fitted.balance, self.on[k], -extra)
        return fitted

    def _services(self, fitted: Fitted) -> None:
        """What jobs above their least may give up at once, and the work that calls would cost them."""
        row = np.full(self.tasks, -1, np.int64)
        row[np.flatnonzero(self.h.owing)] = self.due_rows
        slope = np.zeros(self.tasks)
        np.maximum.at(slope, self.job, self.slope)
        job = self.job[self.piece]
        feed = np.maximum(self.at_feed.min(axis=1), 1e-300)
        fitted.spare(job, self.x, self.when, self.at_feed[job, self.when], row, slope / feed)

    def _limits(self) -> None:
        """Every constraint of the tree that could bind, in every period."""
        h = self.h
        top = np.maximum(h.curves.power[h.curves.begin + h.curves.count - 1][:, None], self.base)
        base, grown = h.by_place(self.base), h.by_place((top - self.base) * h.runs)
        owning = [np.flatnonzero(self.when == t) for t in range(self.n)] if self.n < 64 else _groups(self.when, self.n)
        self.limit_rows: list[tuple[int, Ints, Ints]] = []
        for t, (tree, (none, per)) in enumerate(zip(h.trees, h.response, strict=True)):
            room = tree.row_limit - none - base[:, t] @ per
            might = np.flatnonzero(grown[:, t] @ per > room)
            if self.fitted is not None:  # the feed's limit is one on what is bought
                might = might[might != h.tree.root]
            if not might.size:
                continue
            rows = self.program.constraints(len(might), most=np.maximum(room[might], 0.0))
            self.limit_rows.append((t, might, rows))
            mine = owning[t]
            self.program.add(
                rows[None, :], self.x[mine][:, None], per[self.place[self.job[self.piece[mine]]]][:, might]
            )
            if len(self.paid):
                extra = (h.curves.least - h.rest[:, t])[self.paid]
                self.program.add(
                    rows[None, :], self.on[:, t][:, None], per[self.place[self.paid]][:, might] * extra[:, None]
                )

    def _due(self) -> None:
        """Work done while the job is open is what is due: no less, and no more than it must do anyway."""
        h, dt = self.h, self.h.conditions.dt
        done = (self.base_work * h.open).sum(axis=1)
        owing = np.flatnonzero(h.owing)
        self.owed = np.array([h.tasks[j].due for j in owing])
        unit, most, entries = np.ones(len(owing)), np.zeros(len(owing)), []
        for i, j in enumerate(owing):
            due = h.tasks[j].due
            mine = np.flatnonzero(self.job[self.piece] == j)
            gain = self.slope[self.piece[mine]] * dt[self.when[mine]] * h.open[j, self.when[mine]]
            unit[i] = float(np.max(gain * self.width[self.piece[mine]], initial=0.0)) or due
            most[i] = max(due - done[j], 0.0)
            entries.append((i, self.x[mine], gain))
            if h.paid[j]:
                k = int(np.flatnonzero(self.paid == j)[0])
                each = self.least_work[j] * dt * h.open[j]
                # It is on for whole periods: the last of them may do a little more than is due, for nothing.
                worth = h.points.weight[j] if self.goal == "work" else 0.0
                more = self.program.variables(1, cost=worth, high=float(each.max(initial=0.0)))
                entries.append((i, more, np.array([-1.0])))
                unit[i] = max(unit[i], float(each.max(initial=0.0)))
                entries += [(i, self.on[k], each), (i, self.start[k], -self.lost[k] * h.open[j])]
        self.due_rows = self.program.constraints(len(owing), least=self.owed - done[owing], most=most)
        for i, columns, values in entries:
            self.program.add(self.due_rows[i], columns, values)
        self.undone = self.program.variables(len(owing), high=0.0, unit=unit)
        self.program.add(self.due_rows, self.undone, 1.0)

    # ---- reading ----------------------------------------------------------------------------

    def _constant(self) -> float:
        """Return the objective of what was not decided."""
        if self.fitted is not None and self.goal != "work":
            return 0.0
        if self.goal == "work":
            return float(self.h.points.weight @ self.base_work.sum(axis=1))
        flows = self.h.flows(self.base)[:, self.h.tree.root]
        return float((self.rate * self.h.conditions.dt) @ flows)

    def _read(self, solved: Solution) -> HorizonPlan:
        """Return the plan of a solution."""
        h, dt, curves = self.h, self.h.conditions.dt, self.h.curves
        given, gained = np.zeros((self.tasks, self.n)), np.zeros((self.tasks, self.n))
        job = self.job[self.piece]
        np.add.at(given, (job, self.when), solved.x[self.x])
        np.add.at(gained, (job, self.when), solved.x[self.x] * self.slope[self.piece])
        given = np.where(self.burnt, given, self._in_order(gained))
        on = h.runs.copy()
        starts, lost = np.zeros((self.tasks, self.n)), np.zeros(self.tasks)
        if len(self.paid):
            on[self.paid] = solved.x[self.on] > 0.5
            before = np.array([float(h.tasks[j].running) for j in self.paid])[:, None]
            starts[self.paid] = np.maximum(0.0, np.diff(on[self.paid].astype(float), axis=1, prepend=before))
            lost[self.paid] = self.lost
        floor = np.where(on, curves.least[:, None], h.rest)
        top = np.maximum(curves.power[curves.begin + curves.count - 1][:, None], floor)
        wanted = np.where(on, np.minimum(floor + given, top), floor)
        power = self._within(wanted, floor)
        every = np.repeat(np.arange(self.tasks), self.n)
        low, high, share = curves.at(every, power.ravel())
        rate = ((1 - share) * curves.work[low] + share * curves.work[high]).reshape(power.shape)
        kept = np.divide(power - floor, wanted - floor, out=np.ones_like(power), where=wanted > floor)
        burnt = self.least_work[:, None] + kept * gained
        work = np.where(on, np.where(self.burnt, np.minimum(burnt, rate), rate) * dt, 0.0) - starts * lost[:, None]
        ran = (work > 1e-9 * h.points.fastest[:, None] * dt) & on
        ran[self.paid] = on[self.paid]
        price = np.zeros((self.n, len(h.tree.row_names)))
        for t, which, rows in self.limit_rows:
            price[t, which] = np.maximum(0.0, -solved.price[rows])
        bound = self._constant() + (-solved.bound if self.goal == "work" else solved.bound)
        more = solved.tree_bound - solved.bound
        tree = bound - more if self.goal == "work" else bound + more
        plan = replace(h.made(power, work, ran, self.goal, price, bound), nodes=solved.nodes, tree_bound=tree)
        return plan if self.fitted is None else self.fitted.read(plan, solved)

    def _in_order(self, gained: Array) -> Array:
        """Return the fewest watts (tasks, n) that gain so many units a second: a curve's pieces from its first on.

        Where power costs nothing the solver may as well leave out a good piece and take a poor one.
        """
        out, left = np.zeros_like(gained), gained.copy()
        first = np.searchsorted(self.job, self.job)
        rank = np.arange(len(self.job)) - first
        for k in range(int(rank.max(initial=-1)) + 1):
            mine = np.flatnonzero(rank == k)
            job, wide, slope = self.job[mine], self.width[mine][:, None], self.slope[mine][:, None]
            wanted = np.divide(left[job], slope, out=np.zeros((len(mine), self.n)), where=slope > 0)
            taken = np.clip(wanted, 0.0, wide)
            out[job] += taken
            left[job] -= taken * slope
        return out

    def _within(self, power: Array, floor: Array) -> Array:
        """Shrink what lies above the least by the solver's tolerance, so that no limit is exceeded."""
        h = self.h
        out = power.copy()
        flows, least = h.flows(power), h.flows(floor)
        for t, tree in enumerate(h.trees):
            over = flows[t] - tree.row_limit
            if self.fitted is not None:
                over[h.tree.root] = 0.0
            bad = np.flatnonzero((over > 0) & (flows[t] > least[t]))
            if bad.size:
                factor = 1.0 - float(np.max(over[bad] / (flows[t] - least[t])[bad]))
                out[:, t] = floor[:, t] + max(0.0, factor) * (power[:, t] - floor[:, t])
        return out


def _groups(when: Ints, n: int) -> list[Ints]:
    """Return the places of each value of `when`."""
    order = np.argsort(when, kind="stable")
    cut = np.searchsorted(when[order], np.arange(1, n))
    return np.split(order, cut)
