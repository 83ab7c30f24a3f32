"""A fleet's power goes where it buys the most work: jobs on their frontiers, under a tree of limits.

    maximise  sum of weight_j * work_j(p_j)      with every inflow of the tree within its limit

Each work_j is concave and made of straight pieces (`curves`), and limits nest, so the pieces taken in order
of work per watt, each as far as every limit above it allows, are an exact optimum; no iteration is needed.
The piece at which a limit became tight is the price of power there, and prices prove the optimum: by them
every plan is bounded, and the bound is reported beside the plan.

Two readings, as on a frontier: `hull` lets a job divide its time between two settings (average power is what
is limited, so the settings must alternate faster than a breaker or a bill looks); `discrete` gives each job
one setting for good, keeps to every limit at every instant, and says how far it is from the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from ..core.errors import GoalError, InputError
from ..core.units import show
from ..hardware.power_tree import TOLERANCE, PowerTree
from .curves import Array, Curves, Ints, Job, Points
from .fleet_plan import FleetPlan, Reading
from .spread import plan_spread

# Most jobs moved up at once when settings are made whole; there is seldom room for more.
_BEST: Final = 4096


class Fleet:
    """Jobs on a power tree, as arrays made once; every plan and every change of a limit reuses them."""

    def __init__(self, tree: PowerTree, jobs: Sequence[Job]) -> None:
        if not jobs:
            raise InputError("a fleet needs at least one job")
        self.tree = tree
        self.jobs = tuple(jobs)
        self.names = tuple(job.name for job in jobs)
        self.points = Points.of(self.jobs)
        self._readings: dict[bool, _Reading] = {}
        self.check_idle()

    # ---- where jobs draw power --------------------------------------------------------------

    @cached_property
    def place(self) -> Ints:
        """(jobs,) the part of the tree each job draws from; -1 where it draws from several."""
        one = self.tree._place
        out = np.array([one.get(job.at, -2) if isinstance(job.at, str) else -1 for job in self.jobs], np.int64)
        for j in np.flatnonzero(out == -2)[:1]:
            self.tree.index(str(self.jobs[j].at))  # raises, naming the nearest part
        return out

    @cached_property
    def spread(self) -> list[tuple[int, Ints, Array]]:
        """Jobs that draw from several parts: (job, parts, shares)."""
        out = []
        for j in np.flatnonzero(self.place < 0):
            at = self.jobs[j].at
            assert not isinstance(at, str)
            parts = np.array([self.tree.index(name) for name in at], np.int64)
            out.append((int(j), parts, np.array(list(at.values()), float)))
        return out

    def load(self, power: Array) -> Array:
        """Return the load at every part of the tree for the jobs' powers."""
        single = self.place >= 0
        out: Array = np.bincount(self.place[single], weights=power[single], minlength=len(self.tree)).astype(float)
        for j, parts, shares in self.spread:
            np.add.at(out, parts, shares * power[j])
        return out

    # ---- changing ---------------------------------------------------------------------------

    def with_limit(self, name: str, limit: float) -> Fleet:
        """Return the fleet with one limit of the tree changed; all else is shared."""
        return self.on(self.tree.with_limit(name, limit))

    def on(self, tree: PowerTree) -> Fleet:
        """Return the fleet on a tree of the same shape: other limits, another outdoor temperature."""
        if tree.names != self.tree.names:
            raise InputError("the other power tree must have the same parts in the same order")
        out = object.__new__(Fleet)
        out.__dict__.update(self.__dict__)
        out.tree = tree
        if tree.up is not self.tree.up:  # gains differ, not only limits
            out._readings = {}
            out.__dict__.pop("_idle", None)
        out.check_idle()
        return out

    # ---- planning ---------------------------------------------------------------------------

    def most_work(self, reading: Reading = "hull") -> FleetPlan:
        """Return the plan of most weighted work within every limit and minimum.

        Raises
        ------
        GoalError : the minimum service does not fit; the message names the limits in its way.
        """
        return self._plan(reading, math.inf)

    def least_power(self, work: float, reading: Reading = "hull") -> FleetPlan:
        """Return the plan that draws least at the feed and does at least `work` of weighted work a second.

        At one site and instant energy, carbon and cost are proportional: this is the least of each.
        """
        if not work >= 0:
            raise InputError(f"required work must be 0 or more, got {work}")
        return self._plan(reading, work)

    def _plan(self, reading: Reading, target: float) -> FleetPlan:
        if reading not in ("hull", "discrete"):
            raise InputError(f"a reading is 'hull' or 'discrete', got {reading!r}")
        if self.spread or self.tree.contingencies:
            return plan_spread(self, reading, target)
        held = self.read(reading)
        room = self._room(held.least)
        filled, left, low = held.fill(room, target)
        if math.isfinite(target) and filled.value < target - self.points.slip:
            raise GoalError(self._too_little(self._plan(reading, math.inf), target))
        return held.whole(filled, left, low, target) if reading == "discrete" else filled

    def read(self, reading: Reading) -> _Reading:
        """Return the envelopes of one reading, their pieces in order; made on first use."""
        key = reading == "discrete"
        if key not in self._readings:
            self._readings[key] = _Reading(self, reading)
        held = self._readings[key]
        return held if held.fleet is self else held.of(self)

    def _room(self, least: Array) -> Array:
        """Return the watts at the feed left under each constraint once `least` flows there; refuse if negative."""
        left = self.tree.row_limit - least
        over = np.flatnonzero(left < -TOLERANCE * self.tree.row_limit)
        if over.size:
            raise GoalError(self._too_tight(left, over))
        return np.maximum(left, 0.0) * self.tree.row_ratio

    @cached_property
    def _idle(self) -> Array:
        """(rows,) W with nothing done; limits do not change it."""
        return self.tree.row_flows(self.load(self.points.idle))

    # ---- messages ---------------------------------------------------------------------------

    def check_idle(self) -> None:
        """Refuse limits below what the jobs' equipment draws while nothing is done."""
        self.tree.check_flows(self._idle)

    def _too_tight(self, left: Array, over: Ints) -> str:
        names, limits = self.tree.row_names, self.tree.row_limit
        shown = "; ".join(
            f"{names[r]} ({show(float(limits[r] - left[r]), 'W', 4)} needed, {show(float(limits[r]), 'W', 4)} allowed, "
            f"short of {show(float(-left[r]), 'W', 4)})"
            for r in over[np.argsort(left[over])][:5]
        )
        more = f" and {over.size - 5} more" if over.size > 5 else ""
        return (
            f"the minimum service of the jobs does not fit under {shown}{more}; "
            "raise these limits, lower a minimum, or let jobs pause"
        )

    def _too_little(self, filled: FleetPlan, target: float) -> str:
        tight = ", ".join(name for name, _ in filled.binding()[:5])
        why = f"the limits of {tight} bind" if tight else "every job runs at its fastest"
        return f"the required work of {target:.6g} a second cannot be done: {why} at {filled.value:.6g}"


class _Reading:
    """One reading of a fleet: envelopes, and their pieces sorted by work per watt at the feed."""

    def __init__(self, fleet: Fleet, reading: Reading) -> None:
        self.fleet = fleet
        self.reading: Reading = reading
        self.curves = Curves.of(fleet.points, discrete=reading == "discrete")
        self.least = fleet.tree.row_flows(fleet.load(self.curves.least))
        job, width, slope = self.curves.segments()
        self.gain = fleet.tree.up[fleet.place]
        slope = slope * fleet.points.weight[job] / self.gain[job]
        worth = np.flatnonzero(slope > 0)
        order = worth[np.argsort(-slope[worth], kind="stable")]
        self.job, self.slope = job[order], slope[order]
        self.width = width[order] * self.gain[self.job]
        self.row = fleet.place[self.job]

    def of(self, fleet: Fleet) -> _Reading:
        """Return the same for a fleet that differs in limits only."""
        out = object.__new__(_Reading)
        out.__dict__.update(self.__dict__)
        out.fleet = fleet
        return out

    def fill(self, room: Array, target: float) -> tuple[FleetPlan, Array, Ints]:
        """Return the exact optimum of the convex problem, the room it leaves and the vertex below each job."""
        from . import _allocate as _fleet

        fleet, curves, n = self.fleet, self.curves, len(self.fleet.jobs)
        above, left = fleet.tree.row_parent, room.copy()
        given, tight = np.zeros(n), np.full(len(room), np.nan)
        last = _fleet.fill(self.job, self.row, self.width, self.slope, above, left, given, target - self.base, tight)
        price, paid = np.empty(len(room)), np.empty(len(room))
        least = math.isfinite(target)
        if least:  # in watts at the feed: what a limit keeps from being done here is done at the margin, `last`
            tight = tight / last - 1.0 if last > 0 else tight * 0.0
        _fleet.pay(tight, above, price, paid)
        if least:
            paid = last * (1.0 + paid)
        power, work, share = np.empty(n), np.empty(n), np.empty(n)
        low, high = np.empty(n, np.int64), np.empty(n, np.int64)
        proved = _fleet.settle(
            given, self.gain, fleet.points.weight, fleet.place, paid, curves.begin, curves.count,
            curves.power, curves.work, curves.least, power, work, low, high, share,
        )  # fmt: skip
        plan = self._made(
            power, work, curves.point[low], curves.point[high], share, price * fleet.tree.row_ratio, target
        )
        dear = price > 0
        worth = float(room[dear] @ price[dear])
        bound = self.base + worth + proved
        if least:
            owed = (target - self.base - proved) / last if last > 0 else 0.0
            bound = float(self.least[fleet.tree.root]) + owed - worth
        return replace(plan, bound=bound), left, low

    def whole(self, relaxed: FleetPlan, room: Array, low: Ints, target: float) -> FleetPlan:
        """Return a plan of one setting per job beside the convex one: rounded down, then up where there is room."""
        from . import _allocate as _fleet

        fleet, curves, points, n = self.fleet, self.curves, self.fleet.points, len(self.fleet.jobs)
        rows = (fleet.place, fleet.tree.row_parent, room)
        power, work, point, taken = (
            relaxed.power.copy(),
            relaxed.work.copy(),
            np.empty(n, np.int64),
            np.empty(n, np.int64),
        )
        vertices = (curves.power, curves.work, curves.point)
        _fleet.round_down(curves.begin, *vertices, low, self.gain, *rows, power, work, point, taken)
        tables = (points.first, points.rate, points.energy, points.waiting, points.kind, points.maximum, self.gain)
        order, missing = np.arange(n), target - _fleet.dot(points.weight, work)
        while order.size and missing > 0:
            worth = np.empty(order.size)
            _fleet.may_move(order, *tables, *rows, power, work, worth)
            worth *= points.weight[order]
            # Only who can move now may move later: room only shrinks.
            order, worth = order[worth > 0], worth[worth > 0]
            best = np.argpartition(-worth, _BEST)[:_BEST] if order.size > _BEST else np.arange(order.size)
            best = best[np.argsort(-worth[best], kind="stable")]
            missing -= _fleet.top_up(order[best], *tables, points.weight, *rows, power, work, point, missing)
        if math.isfinite(target):
            surplus = _fleet.dot(points.weight, work) - target
            if surplus < -points.slip:
                raise GoalError(self._no_whole(target + surplus, target))
            _fleet.step_back(
                self.job, curves.begin, *vertices, points.weight, self.gain, *rows, taken, power, work, point, surplus
            )  # fmt: skip
        plan = self._made(power, work, point, point, np.zeros(n), relaxed.price, target)
        return replace(plan, bound=relaxed.bound)

    def _no_whole(self, value: float, target: float) -> str:
        return (
            f"the required work of {target:.6g} a second is only reached by dividing a job's time between settings; "
            f"whole settings reach {value:.6g}; ask for that, or for the hull reading"
        )

    def _made(
        self, power: Array, work: Array, low: Ints, high: Ints, share: Array, price: Array, target: float
    ) -> FleetPlan:
        from . import _allocate as _fleet

        fleet = self.fleet
        return FleetPlan(
            tree=fleet.tree,
            names=fleet.names,
            reading=self.reading,
            goal="least power" if math.isfinite(target) else "most work",
            power=power,
            work=work,
            low=low,
            high=high,
            share=share,
            load=fleet.load(power),
            price=price,
            value=_fleet.dot(fleet.points.weight, work),
            bound=math.nan,
        )

    @cached_property
    def base(self) -> float:
        """Value of everybody's least power."""
        curves = self.curves
        low, high, share = curves.at(np.arange(len(curves.least)), curves.least)
        return float(self.fleet.points.weight @ ((1 - share) * curves.work[low] + share * curves.work[high]))
