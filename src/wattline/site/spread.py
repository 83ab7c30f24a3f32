"""Jobs that draw from several parts of the tree at once: a training run over many racks.

Their power goes to its parts in fixed shares, so limits no longer nest from a job's point of view and filling
in order is not exact any more. The problem is still linear in the pieces of every job, and HiGHS solves it;
its dual values are the prices. Whole settings are rounded down and raised where there is room.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from ..core.errors import GoalError
from .curves import Array, Curves, Ints
from .fleet_plan import FleetPlan, Planned, Reading
from .program import Program

# Relative error that the solver may leave in the work required.
_SOLVER: Final = 1e-8


def plan_spread(fleet: Planned, reading: Reading, target: float) -> FleetPlan:
    """Return the plan of most work, or with a finite `target` of least power for that much work."""
    curves = Curves.of(fleet.points, discrete=reading == "discrete")
    weight = fleet.points.weight
    reach = Reach(fleet)
    least = fleet.tree.row_flows(fleet.load(curves.least))
    room = fleet._room(least) / fleet.tree.row_ratio
    base = float(weight @ _state(curves, curves.least)[3])
    job, width, slope = curves.segments()
    value = slope * weight[job]

    program = Program()
    at_feed = reach.factor(job, fleet.tree.root)
    columns = program.variables(len(job), cost=at_feed if math.isfinite(target) else -value, high=width)
    limits = program.constraints(len(room), most=room)
    for entries in reach.entries(job):
        program.add(limits[entries[0]], columns[entries[1]], entries[2])
    if math.isfinite(target):
        most = max(float(value @ width), 1e-300)
        done = program.constraints(1, least=min((target - base) / most, 1.0))
        program.add(done[0], columns, value / most)
    solved = program.minimise()
    power = curves.least + np.bincount(job, weights=solved.x, minlength=len(weight))
    power = _within(fleet, np.minimum(power, curves.power[curves.begin + curves.count - 1]), curves.least)
    low, high, share, work = _state(curves, power)
    price = np.maximum(0.0, -solved.price[: len(room)])
    plan = FleetPlan(
        tree=fleet.tree, names=fleet.names, reading=reading,
        goal="least power" if math.isfinite(target) else "most work",
        power=power, work=work, low=curves.point[low], high=curves.point[high], share=share,
        load=fleet.load(power), price=price, value=float(weight @ work), bound=base - solved.objective,
    )  # fmt: skip
    if math.isfinite(target):
        if plan.value < target - _SOLVER * float(weight @ fleet.points.fastest):
            raise GoalError(fleet._too_little(plan, target))
        plan = replace(plan, bound=float(least[fleet.tree.root]) + solved.objective)
    return _whole(fleet, reach, curves, plan, low, target) if reading == "discrete" else plan


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
    factor = 1.0 - float(np.max(over[bad] / (fleet.tree.row_limit + over - floor)[bad]))
    return least + max(0.0, factor) * (power - least)


def _whole(fleet: Planned, reach: Reach, curves: Curves, plan: FleetPlan, low: Ints, target: float) -> FleetPlan:
    """Return one setting per job: the vertex below, then better ones while they fit and are wanted."""
    points, weight = fleet.points, fleet.points.weight
    power, work, point = curves.power[low], curves.work[low], curves.point[low]
    left = fleet.tree.headroom(fleet.load(power))
    while weight @ work < target:
        best, gain = None, 0.0
        for j in range(len(power)):
            rows, watts = reach.of(j)
            free = float(np.min(left[rows] / watts))
            span = slice(points.first[points.kind[j]], points.first[points.kind[j] + 1])
            rate = np.minimum(points.rate[span], points.maximum[j])
            drawn = points.waiting[points.kind[j]] + points.energy[span] * rate
            step = drawn - power[j]
            fits = (rate > work[j]) & (step <= free)
            each = np.where(fits, weight[j] * (rate - work[j]) / np.maximum(step, 1e-300), 0.0)
            if each.size and each.max() > gain:
                i = int(each.argmax())
                best, gain = (j, i, float(drawn[i]), float(rate[i])), float(each[i])
        if best is None:
            break
        j, i, drawn_, rate_ = best
        rows, watts = reach.of(j)
        left[rows] -= watts * (drawn_ - power[j])
        power[j], work[j], point[j] = drawn_, rate_, i
    value = float(weight @ work)
    if math.isfinite(target) and value < target - fleet.points.slip:
        raise GoalError(
            f"the required work of {target:.6g} a second is only reached by dividing a job's time between settings; "
            f"whole settings reach {value:.6g}; ask for that, or for the hull reading"
        )
    return replace(
        plan, power=power, work=work, low=point, high=point, share=np.zeros(len(power)), load=fleet.load(power),
        value=value,
    )  # fmt: skip
