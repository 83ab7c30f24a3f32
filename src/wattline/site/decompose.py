"""Plans of very many jobs over time, by prices: each job answers alone, and prices move until the limits are kept.

    minimise  sum of rate(t) * watts at the feed       with every inflow within its limit, all that is due done
    prices    what a joule through each limit costs in each period; a job then sees one price a period, and its
              best answer is a threshold: every piece of its curve whose joule costs less than its work is worth

A linear program of a hundred thousand jobs and a week of hours has some fifty million columns; its dual has a price for
each limit and hour, and no job ever meets another. To have one answer where prices leave many, a piece is taken in
part where its price is within `smooth` of its worth (a quadratic term); the dual then has a gradient, the overload
of every limit, and is climbed by projected L-BFGS. The smoothing is narrowed until the gap is reached.

**Certificate.** Prices bound every plan from below whatever found them (weak duality, `respond`'s `bound`); the plan is
what jobs do at those prices, fitted under every limit (`settle`). `gap` is the distance of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import _decompose as kernels
from .horizon_plan import HorizonPlan, Span
from .tasks import Array, Goal

Ints = NDArray[np.int64]

# Columns (pieces of jobs times periods) from which on a plan is made by prices.
LARGE: Final = 1_000_000
# Jobs are answered in this many parts on as many threads as there are processors; sums do not depend on how many.
_PARTS: Final = 8
# Smoothing widths, of the spread of prices, one after another, and climbs with each.
_WIDTHS: Final = (0.3, 0.03, 0.01, 0.003, 0.001, 0.0003)
_CLIMBS: Final = 25
_MEMORY: Final = 8
# Shares of all limits kept back while prices are sought.
_MARGINS: Final = (0.0, 1e-4, 1e-3)


def applies(horizon: Span, goal: Goal) -> bool:
    """Return whether a plan is made by prices: many columns, free pauses, no equipment, no earning by drawing power."""
    count = int((horizon.curves.count - 1).sum()) * len(horizon.conditions.dt)
    plain = not horizon.paid.any() and not horizon.equipment and (goal == "work" or _rate(horizon, goal).min() >= 0)
    # What a loss in a group across parts asks for changes with its members' limits; the linear program follows that.
    plain = plain and not (horizon.tree.contingencies and horizon.conditions.limits)
    return count > LARGE and plain


def _rate(horizon: Span, goal: Goal) -> Array:
    """Return what a joule at the feed costs in each period."""
    return np.zeros(len(horizon.conditions.dt)) if goal == "work" else horizon.conditions.weight(goal)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Limits that may bind: a watt at place p takes ``per[e] * scale[row[e], t]`` of row ``row[e]``, e of p.

    above : (places + 1,) where the entries of each place begin. index : (rows,) among the tree's. room : (rows, n) W.
    """

    above: Ints
    row: Ints
    per: Array
    scale: Array
    room: Array
    index: Ints

    @property
    def place(self) -> Ints:
        """(entries,) whose each is."""
        return np.repeat(np.arange(len(self.above) - 1), np.diff(self.above))

    def prices(self, price: Array) -> Array:
        """Return (places, n) what the prices (rows, n) of limits add to a joule at each place."""
        each = self.per[:, None] * (self.scale * price)[self.row]
        out = np.zeros((len(self.above) - 1, price.shape[1]))
        some = np.flatnonzero(np.diff(self.above) > 0)
        if len(some):
            out[some] = np.add.reduceat(each, self.above[some], axis=0)
        return out

    def flows(self, load: Array, power: int = 1) -> Array:
        """Return (rows, n) the W through each limit for (places, n) W; with `power` 2 its square's response."""
        order = np.argsort(self.row, kind="stable")
        rows, begin = np.unique(self.row[order], return_index=True)
        out = np.zeros_like(self.room)
        if len(rows):
            each = (self.per[order] ** power)[:, None] * load[self.place[order]]
            out[rows] = np.add.reduceat(each, begin, axis=0)
        return np.asarray(out * self.scale**power)


class Decomposed:
    """A horizon under a goal, in units of its own: prices of about 1, works of a job in joules at its best piece."""

    def __init__(self, horizon: Span, goal: Goal) -> None:
        h = self.h = horizon
        self.goal, self.dt, self.margin = goal, h.conditions.dt, 0.0
        self.n, self.tasks = len(self.dt), len(h.tasks)
        self.place, self.loads = h.places
        job, self.width, slope = h.curves.segments()
        self.begin = np.searchsorted(job, np.arange(self.tasks + 1)).astype(np.int64)
        best = np.zeros(self.tasks)
        np.maximum.at(best, job, slope)
        self.best = np.where(best > 0, best, 1.0)
        self.slope = slope / self.best[job]
        self.job = job
        self._due()
        self._rows()
        self._prices()

    def base(self, t: int) -> Array:
        """Return (tasks,) W before anything is decided in a period."""
        return np.where(self.h.runs[:, t], self.h.curves.least, self.h.rest[:, t])

    def _due(self) -> None:
        """Work still due beyond what is done anyway, as far as a job can do it at all, and when it may be done."""
        h = self.h
        may = np.where(h.owing[:, None], h.open, h.runs)
        free = np.zeros(self.tasks, bool) if self.goal != "work" else ~h.owing
        low, high, share = h.curves.at(np.arange(self.tasks), h.curves.least)
        least = (1 - share) * h.curves.work[low] + share * h.curves.work[high]
        self.least_work = least
        done = least * ((h.open & h.runs) @ self.dt)
        stated = np.array([task.due for task in h.tasks])
        most = np.bincount(self.job, weights=self.slope * self.width, minlength=self.tasks) * (may @ self.dt)
        due = np.clip((stated - done) / self.best, 0.0, most)
        works = (h.owing & (due > 0)) | free
        self.due = np.where(works & ~free, due, np.nan)
        self.first = np.where(works, may.argmax(axis=1), 0).astype(np.int64)
        self.last = np.where(works & may.any(axis=1), self.n - may[:, ::-1].argmax(axis=1), self.first).astype(np.int64)

    def _rows(self) -> None:
        """Find which limits may bind, and what a watt at each place takes of them."""
        h = self.h
        tree = h.trees[0]
        rows, values, counts = [], [], []
        for some in np.array_split(self.loads, max(1, len(self.loads) // 64)):
            per = tree.row_per_watt(some)
            at, which = np.nonzero(per)
            rows.append(which)
            values.append(per[at, which])
            counts.append(np.bincount(at, minlength=len(some)))
        row, per_watt = np.concatenate(rows), np.concatenate(values)
        above = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        top = h.curves.power[h.curves.begin + h.curves.count - 1]
        works = self.last > self.first
        low, high = np.zeros((2, len(self.loads), self.n))
        for t in range(self.n):
            base = self.base(t)
            most = np.where(works & (self.first <= t) & (t < self.last), np.maximum(top, base), base)
            low[:, t] = np.bincount(self.place, weights=base, minlength=len(self.loads))
            high[:, t] = np.bincount(self.place, weights=most, minlength=len(self.loads))
        lowest = []
        at_root = np.array([one.factor[one.root] for one in h.trees])
        scale_root = at_root / at_root[0]
        room, might = [], []
        for t, one in enumerate(h.trees):
            limit, flows = one.row_limit, one.row_flows(low[:, t] @ self.loads)
            lowest.append(flows[one.root])
            room.append(limit - flows)
            might.append(one.row_flows(high[:, t] @ self.loads) > limit)
        self.lowest = np.array(lowest)
        held = np.flatnonzero(np.any(might, axis=0))
        scale = np.ones((len(tree.row_names), self.n))
        scale[tree.root] = scale_root
        new = np.full(len(tree.row_names), -1)
        new[held] = np.arange(len(held))
        keep = new[row] >= 0
        entry = np.concatenate([[0], np.cumsum(keep)])[above]
        self.rows = _Rows(
            entry.astype(np.int64), new[row[keep]].astype(np.int64), per_watt[keep], scale[held],
            np.ascontiguousarray(np.maximum(np.stack(room, axis=1)[held], 0.0)), held,
        )  # fmt: skip
        root = np.zeros(len(self.loads))
        at = np.repeat(np.arange(len(self.loads)), np.diff(above))
        root[at[row == tree.root]] = per_watt[row == tree.root]
        self.at_feed = root[:, None] * scale_root

    def _prices(self) -> None:
        """Own prices of power at each place; infinite where it has none. Their mean is the unit of prices."""
        own = _rate(self.h, self.goal) * self.at_feed
        worth = np.array([task.job.weight for task in self.h.tasks]) * self.best
        self.money = float(np.abs(worth).mean() if self.goal == "work" else np.abs(own).mean()) or 1.0
        dark = self.loads @ self.h.dark.T > 0
        self.own = np.where(dark, np.inf, own / self.money)
        self.worth = (
            np.where(np.isnan(self.due), worth / self.money, 1.0) if self.goal == "work" else np.ones(self.tasks)
        )

    # ---- climbing -----------------------------------------------------------------------------

    def respond(self, price: Array, smooth: float, given: Array | None = None) -> tuple[float, float, Array, Array]:
        """Return the dual with and without smoothing, and (rows, n) its gradient and minus its curvature.

        `price` (rows, n) of the limits. `given` (tasks, n) receives watts where it is there.
        """
        seen = np.ascontiguousarray(self.own + self.rows.prices(price))
        value, bound = np.zeros(self.tasks), np.zeros(self.tasks)
        out = np.zeros((0, self.n)) if given is None else given
        cut = np.linspace(0, self.tasks, _PARTS + 1).astype(np.int64)
        loads, bends = np.zeros((2, _PARTS, *self.own.shape))

        def part(k: int) -> None:
            kernels.respond(
                self.begin, self.width, self.slope, self.place, self.first, self.last, self.due, self.worth, seen,
                self.dt, smooth, int(cut[k]), int(cut[k + 1]), loads[k], bends[k], value, bound, out,
            )  # fmt: skip

        with ThreadPoolExecutor() as pool:
            list(pool.map(part, range(_PARTS)))
        paid = float(np.sum(price * self.rows.room * self.dt))
        kept = 1 - self.margin
        over = (self.rows.flows(loads.sum(axis=0)) - kept * self.rows.room) * self.dt
        bend = self.rows.flows(bends.sum(axis=0), 2) * self.dt
        return float(value.sum()) - kept * paid, float(bound.sum()) - paid, over, bend

    # ---- planning -----------------------------------------------------------------------------

    def solve(self, gap: float) -> Answer:
        """Return watts and prices whose cost is within `gap` of what prices prove, or as near as it comes."""
        price = np.zeros(self.rows.room.shape)
        finite = self.own[np.isfinite(self.own)]
        spread = float(finite.std()) or float(np.abs(finite).mean()) or 1.0
        if self.goal == "work":
            spread = float(self.worth.std()) or float(self.worth.mean()) or 1.0
        best, found = -np.inf, None
        # Where work was left that did not fit job by job, again with a little of every limit kept back.
        for margin, width in ((m, w) for m in _MARGINS for w in _WIDTHS):
            if found is not None and not found.left.any() and margin > self.margin:
                break
            smooth, self.margin = width * spread, margin
            price, bound = _climb(lambda x, smooth=smooth: self.respond(x, smooth), price, _CLIMBS)  # type: ignore[misc]
            best = max(best, bound)
            if width > 0.05:
                continue
            answer = self._fitted(price, smooth)
            if found is None or (answer.left.sum(), answer.cost) < (found.left.sum(), found.cost):
                found = answer
            if not found.left.any() and found.cost - best <= gap * (abs(found.cost) + abs(self.constant)):
                break
        assert found is not None
        return replace(found, bound=best)

    @cached_property
    def constant(self) -> float:
        """What costs nothing more to decide, in the units of prices."""
        if self.goal == "work":
            return 0.0
        return float((_rate(self.h, self.goal) * self.dt) @ self.lowest) / self.money

    def _fitted(self, price: Array, smooth: float) -> Answer:
        """Return what jobs do at prices, fitted under every limit; what does not fit is left undone."""
        given, gained = np.zeros((self.tasks, self.n)), np.zeros((self.tasks, self.n))
        left, room = np.zeros(self.tasks), self.rows.room.copy()
        over = self.respond(price, smooth, given)[2]
        # Where a limit is exceeded everyone there gives the same share of it up, not who comes last.
        used = over / self.dt + (1 - self.margin) * room
        share = np.divide(room, used, out=np.ones_like(room), where=used > room)
        kept = np.ones(self.own.shape)
        np.minimum.at(kept, self.rows.place, share[self.rows.row])
        for k in range(len(kept)):
            if (kept[k] < 1).any():
                given[self.place == k] *= kept[k]
        seen = np.ascontiguousarray(self.own + self.rows.prices(price))
        # The shortest windows first: who has more hours finds another one.
        order = np.argsort(self.last - self.first, kind="stable").astype(np.int64)
        kernels.settle(
            self.begin, self.width, self.slope, self.place, self.first, self.last, self.due, seen, self.dt,
            self.rows.above, self.rows.row, self.rows.per, self.rows.scale, room, order, given, gained, left,
        )  # fmt: skip
        left = np.where(left > 1e-7 * np.nan_to_num(self.due), left, 0.0)
        if self.goal == "work":
            cost = -float(np.sum((self.worth * np.isnan(self.due)) @ (gained @ self.dt)))
        else:
            watts = np.stack([np.bincount(self.place, c, minlength=len(self.loads)) for c in given.T], axis=1)
            cost = float(np.sum(np.where(watts > 0, self.own * watts, 0.0) * self.dt))
        return Answer(given, gained, price, cost, -np.inf, left)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was decided: (tasks, n) W above the least and joules at the best piece a second, prices (rows, n), its cost.

    `bound`: what no plan costs less than, in the same units. `left`: (tasks,) of the work, undone.
    """

    given: Array
    gained: Array
    price: Array
    cost: float
    bound: float
    left: Array


def plan(horizon: Span, goal: Goal, gap: float) -> HorizonPlan:
    """Return the plan of a horizon to which this `applies`; its `gap` says how near the bound it came."""
    d = Decomposed(horizon, goal)
    found = d.solve(gap)
    power, work, on = found.given, found.gained, np.zeros(found.given.shape, bool)
    for t in range(d.n):  # period by period: a copy of all would be a tenth of a gigabyte each
        power[:, t] += d.base(t)
        work[:, t] = d.dt[t] * (work[:, t] * d.best + np.where(horizon.runs[:, t], d.least_work, 0.0))
        on[:, t] = horizon.runs[:, t] & (work[:, t] > 1e-9 * horizon.points.fastest * d.dt[t])
    price = np.zeros((d.n, len(horizon.tree.row_names)))
    price[:, d.rows.index] = found.price.T * d.money
    made = horizon.made(power, work, on, goal, price)
    least = found.bound - found.cost
    bound = made.objective - least * d.money if goal == "work" else made.objective + least * d.money
    return replace(made, bound=bound)


def _climb(dual: Callable[[Array], tuple[float, float, Array, Array]], x: Array, turns: int) -> tuple[Array, float]:
    """Climb a concave dual over prices of 0 or more by projected L-BFGS; return the prices and the best bound met."""
    value, bound, slope, bend = dual(x)
    best = bound
    pairs: list[tuple[Array, Array]] = []
    for _ in range(turns):
        free = (x > 0) | (slope > 0)
        scale = np.maximum(bend, 0.05 * float(bend[bend > 0].mean()) if (bend > 0).any() else 1.0)
        step = _two_loops(np.where(free, slope, 0.0), pairs, scale, free)
        if float(np.sum(step * slope)) <= 0:
            pairs, step = [], np.where(free, slope / scale, 0.0)
        size = 1.0
        for _ in range(12):
            tried = np.maximum(x + size * step, 0.0)
            told = dual(tried)
            best = max(best, told[1])
            if told[0] >= value + 1e-4 * float(np.sum(slope * (tried - x))):
                break
            size *= 0.4
        else:
            break
        moved, turned = tried - x, slope - told[2]
        if float(np.sum(moved * turned)) > 1e-12 * float(np.sum(moved**2)):
            pairs = [*pairs[1 - _MEMORY :], (moved, turned)]
        gain = told[0] - value
        x, (value, bound, slope, bend) = tried, told
        if gain <= 1e-7 * abs(value):
            break
    return x, best


def _two_loops(slope: Array, pairs: list[tuple[Array, Array]], scale: Array, free: NDArray[np.bool_]) -> Array:
    """Return L-BFGS's direction of ascent among the free prices (Nocedal and Wright, algorithm 7.4)."""
    q, kept = slope.copy(), []
    for moved, turned in reversed(pairs):
        s, y = np.where(free, moved, 0.0), np.where(free, turned, 0.0)
        product = float(np.sum(s * y))
        if product <= 0:
            continue
        a = float(np.sum(s * q)) / product
        q -= a * y
        kept.append((a, s, y, product))
    out = q / scale
    for a, s, y, product in reversed(kept):
        out += (a - float(np.sum(y * out)) / product) * s
    return np.where(free, out, 0.0)
