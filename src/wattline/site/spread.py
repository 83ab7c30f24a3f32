"""Jobs that draw from several parts of the tree at once: a training run over many racks.

Their power goes to its parts in fixed shares, so limits no longer nest from a job's point of view and filling
in order is not exact any more. The problem is still linear in the pieces of every job, and HiGHS solves it;
its dual values are the prices. Whole settings are rounded down and raised where there is room.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from ..core.errors import GoalError
from .curves import Array, Curves, Ints
from .fleet_plan import FleetPlan, Planned, Reading
from .program import InfeasibleError, Program


def plan_spread(fleet: Planned, reading: Reading, target: float) -> FleetPlan:
    """Return the plan of most work, or with a finite `target` of least power for that much work."""
    return _Spread(fleet, reading).plan(target)


class _Spread:
    """The linear program of one reading of a fleet whose jobs may draw from several parts."""

    def __init__(self, fleet: Planned, reading: Reading) -> None:
        self.fleet, self.reading = fleet, reading
        self.curves = Curves.of(fleet.points, discrete=reading == "discrete")
        self.weight = fleet.points.weight
        self.reach = Reach(fleet)
        self.least = fleet.tree.row_flows(fleet.load(self.curves.least))
        self.room = fleet._room(self.least) / fleet.tree.row_ratio
        self.base = float(self.weight @ _state(self.curves, self.curves.least)[3])
        self.job, self.width, slope = self.curves.segments()
        self.value = slope * self.weight[self.job]
        self.at_feed = self.reach.factor(self.job, fleet.tree.root)

    def plan(self, target: float) -> FleetPlan:
        """Return the plan of most work, or of least power for `target`."""
        if not math.isfinite(target):
            power, price, bound = self._solve(target)
            plan = self._made(power, price, self.base + -bound, "most work")
        else:
            plan = self._least_power(target)
        if self.reading == "hull":
            return plan
        whole = _Whole(self, plan).raised(target)
        if not math.isfinite(target) or whole.value >= target - self.fleet.points.slip:
            return whole
        # Stuck below what is asked for: from the most that whole settings do, back down to it.
        power, price, _ = self._solve(math.inf)
        most = _Whole(self, self._made(power, price, math.nan, "most work"))
        whole = most.raised(math.inf)
        if whole.value < target - self.fleet.points.slip:
            raise GoalError(
                f"the required work of {target:.6g} a second is only reached by dividing a job's time between "
                f"settings; whole settings reach {whole.value:.6g}; ask for that, or for the hull reading"
            )
        return replace(most.lowered(target), goal="least power", bound=plan.bound, price=plan.price)

    def _least_power(self, target: float) -> FleetPlan:
        """Return the plan of least power; work that was just reached is reached again, to the last unit."""
        try:
            power, price, bound = self._solve(target)
        except InfeasibleError:  # by rounding, perhaps: what is asked for less this is proved for more
            return self._just(target)
        plan = self._made(power, price, float(self.least[self.fleet.tree.root]) + bound, "least power")
        return plan if plan.value >= target else self._raised(plan, target)

    def _just(self, target: float) -> FleetPlan:
        """Return the plan where the target is all there is, or refuse it by name of the limits that bind."""
        slip = self.fleet.points.slip
        power, price, _ = self._solve(math.inf)
        most = self._made(power, price, math.nan, "most work")
        if most.value < target - slip:
            raise GoalError(self.fleet._too_little(most, target))
        just = min(target, most.value)
        for less in (1e-13 * just, 1e-11 * just, 2 * slip):
            try:
                power, price, bound = self._solve(just - less)
            except InfeasibleError:
                continue
            below = self._made(power, price, float(self.least[self.fleet.tree.root]) + bound, "least power")
            return below if below.value >= just else self._raised(below, just)
        return replace(most, goal="least power", bound=most.feed)

    def _raised(self, plan: FleetPlan, target: float) -> FleetPlan:
        """Return a plan raised to `target` by what the solver's tolerance left undone."""
        slip = self.fleet.points.slip
        power, price = plan.power, plan.price
        # What the solver's tolerance left is made up on the way to the plan of most work; both keep every limit.
        most_power, most_price, _ = self._solve(math.inf)
        most = self._made(most_power, most_price, math.nan, "most work")
        if most.value < target - slip:
            raise GoalError(self.fleet._too_little(most, target))
        share = min(1.0, (target - plan.value) / max(most.value - plan.value, 1e-300))
        mixed = power + share * (most.power - power)
        return self._made(mixed, price, plan.bound, "least power")

    def _solve(self, target: float) -> tuple[Array, Array, float]:
        """Return the jobs' power within every limit, prices per constraint, and the program's bound."""
        program = Program()
        cost = self.at_feed if math.isfinite(target) else -self.value
        columns = program.variables(len(self.job), cost=cost, high=self.width, unit=self.width)
        limits = program.constraints(len(self.room), most=self.room)
        for rows, which, watts in self.reach.entries(self.job):
            program.add(limits[rows], columns[which], watts)
        if math.isfinite(target):
            done = program.constraints(1, least=target - self.base)
            program.add(done[0], columns, self.value)
        solved = program.minimise()
        power = self.curves.least + np.bincount(self.job, weights=solved.x[columns], minlength=len(self.weight))
        power = np.minimum(power, self.curves.power[self.curves.begin + self.curves.count - 1])
        power = _within(self.fleet, power, self.curves.least)
        price = np.maximum(0.0, -solved.price[: len(self.room)])
        return power, price, solved.bound

    def _made(self, power: Array, price: Array, bound: float, goal: Literal["most work", "least power"]) -> FleetPlan:
        low, high, share, work = _state(self.curves, power)
        point = self.curves.point
        return FleetPlan(
            tree=self.fleet.tree, names=self.fleet.names, reading=self.reading, goal=goal, power=power, work=work,
            low=point[low], high=point[high], share=share, load=self.fleet.load(power), price=price,
            value=float(self.weight @ work), bound=bound,
        )  # fmt: skip


class Reach:
    """Which constraints each job draws from, and the watts through each per watt of the job."""

    def __init__(self, fleet: Planned) -> None:
        tree = fleet.tree
        self._rows: list[Ints] = []
        self._watts: list[Array] = []
        spread = {j: (parts, shares) for j, parts, shares in fleet.spread}
        for j, place in enumerate(fleet.place):
            parts, shares = spread.get(j, (np.array([place]), np.ones(1)))
            watts: dict[int, float] = {}
            for part, share in zip(parts, shares, strict=True):
                r = int(part)
                while r >= 0:
                    watts[r] = watts.get(r, 0.0) + float(share * tree.up[part] / tree.row_ratio[r])
                    r = int(tree.row_parent[r])
            first = len(tree.row_names) - len(tree.contingencies)
            for row, c in enumerate(tree.contingencies, first):
                if c.part in watts or c.lost in watts:
                    watts[row] = watts.get(c.part, 0.0) + c.share * watts.get(c.lost, 0.0)
            self._rows.append(np.array(list(watts), np.int64))
            self._watts.append(np.array(list(watts.values())))

    def of(self, job: int) -> tuple[Ints, Array]:
        """Return the constraints above a job and the watts through each per watt of its own."""
        return self._rows[job], self._watts[job]

    def factor(self, job: Ints, row: int) -> Array:
        """Return the watts through one constraint per watt of each of `job`."""
        each = np.array([w[r == row].sum() for r, w in zip(self._rows, self._watts, strict=True)])
        return each[job]

    def entries(self, job: Ints) -> list[tuple[Ints, Ints, Array]]:
        """Return (constraints, columns, watts per watt) of columns that belong to `job`."""
        counts = np.array([len(r) for r in self._rows])[job]
        columns = np.repeat(np.arange(len(job)), counts)
        rows = np.concatenate([self._rows[j] for j in job]) if len(job) else np.zeros(0, np.int64)
        watts = np.concatenate([self._watts[j] for j in job]) if len(job) else np.zeros(0)
        return [(rows, columns, watts)]


def _state(curves: Curves, power: Array) -> tuple[Ints, Ints, Array, Array]:
    low, high, share = curves.at(np.arange(len(power)), power)
    return low, high, share, (1 - share) * curves.work[low] + share * curves.work[high]


def _within(fleet: Planned, power: Array, least: Array) -> Array:
    """Shrink what lies above the least by the solver's tolerance, so that no limit is exceeded."""
    floor = fleet.tree.row_flows(fleet.load(least))
    over = fleet.tree.row_flows(fleet.load(power)) - fleet.tree.row_limit
    bad = np.flatnonzero(over > 0)
    if not bad.size:
        return power
    factor = 1.0 - float(np.max(over[bad] / (fleet.tree.row_limit[bad] + over[bad] - floor[bad])))
    return least + max(0.0, factor) * (power - least)


class _Whole:
    """One setting per job beside a plan that divides time: the vertex below, then moves of one job at a time."""

    def __init__(self, stated: _Spread, plan: FleetPlan) -> None:
        self.stated, self.plan, self.fleet = stated, plan, stated.fleet
        curves = stated.curves
        low = curves.at(np.arange(len(plan.power)), plan.power)[0]
        self.power, self.work, self.point = curves.power[low].copy(), curves.work[low].copy(), curves.point[low].copy()
        self.left = self.fleet.tree.headroom(self.fleet.load(self.power))

    def _settings(self, j: int) -> tuple[Array, Array, Ints]:
        """Return (W, units/s, point) of every setting of a job that meets its minimum."""
        points = self.fleet.points
        first, last = (int(points.first[points.kind[j] + k]) for k in (0, 1))
        rate = np.minimum(points.rate[first:last], points.maximum[j])
        watts = points.waiting[points.kind[j]] + points.energy[first:last] * rate
        index = np.arange(last - first)
        if not np.isnan(points.paused[j]):
            rate, watts, index = np.append(rate, 0.0), np.append(watts, points.paused[j]), np.append(index, -1)
        keep = rate >= points.minimum[j] * (1 - 1e-12)
        return watts[keep], rate[keep], index[keep]

    def _move(self, j: int, watts: float, rate: float, index: int) -> None:
        rows, per = self.stated.reach.of(j)
        self.left[rows] -= per * (watts - self.power[j])
        self.power[j], self.work[j], self.point[j] = watts, rate, index

    def raised(self, target: float) -> FleetPlan:
        """Return the plan after the moves up that do most per watt, until the target or no room is left."""
        weight = self.stated.weight
        while weight @ self.work < target:
            best, gain = None, 0.0
            for j in range(len(self.power)):
                rows, per = self.stated.reach.of(j)
                watts, rate, index = self._settings(j)
                step = watts - self.power[j]
                fits = (rate > self.work[j]) & (step <= float(np.min(self.left[rows] / per)))
                each = np.where(fits, weight[j] * (rate - self.work[j]) / np.maximum(step, 1e-300), 0.0)
                if each.size and each.max() > gain:
                    i = int(each.argmax())
                    best, gain = (j, float(watts[i]), float(rate[i]), int(index[i])), float(each[i])
            if best is None:
                break
            self._move(*best)
        return self._made()

    def lowered(self, target: float) -> FleetPlan:
        """Return the plan after the moves down that save most per unit lost, while the target holds."""
        weight = self.stated.weight
        while True:
            best, gain, spare = None, 0.0, float(weight @ self.work) - target
            for j in range(len(self.power)):
                watts, rate, index = self._settings(j)
                saved, lost = self.power[j] - watts, weight[j] * (self.work[j] - rate)
                fits = (saved > 0) & (lost >= 0) & (lost <= spare)
                each = np.where(fits, saved / np.maximum(lost, 1e-300), 0.0)
                if each.size and each.max() > gain:
                    i = int(each.argmax())
                    best, gain = (j, float(watts[i]), float(rate[i]), int(index[i])), float(each[i])
            if best is None:
                return self._made()
            self._move(*best)

    def _made(self) -> FleetPlan:
        return replace(
            self.plan, power=self.power.copy(), work=self.work.copy(), low=self.point.copy(), high=self.point.copy(),
            share=np.zeros(len(self.power)), load=self.fleet.load(self.power),
            value=float(self.stated.weight @ self.work),
        )  # fmt: skip
