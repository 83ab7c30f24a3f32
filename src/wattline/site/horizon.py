"""When to do the work: jobs over hours or days of changing prices, carbon, limits and weather.

Time is cut into periods; in each, a job runs at an average power on its concave curve (`curves`), which two
settings realise by taking turns within the period. What links the periods is the work due by a deadline and,
where pausing is not free, the checkpoint and restart that a pause costs:

    minimise  sum over periods of  weight(t) * grid power(t) * dt      (energy, carbon or cost)
    with      work done between release and deadline = work due
              every inflow of the tree within its limit, in every period

A linear program; with paid pauses a mixed-integer one (on or off in each period). `horizon_program` states it,
`program` scales and certifies it: the `gap` of a plan is its distance from a bound that is worked out from prices,
not what the solver says of itself. A resumed job draws power and does nothing useful for `resume` seconds, counted
at its fastest rate.

A limit of 0 W is a part without power (maintenance, an outage): what hangs on it is off and draws nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError
from ..core.units import show
from ..hardware.power_tree import TOLERANCE, Overhead, PowerTree
from . import decompose
from .allocate import Fleet
from .curves import Curves, Job, Points
from .equipment import Equipment
from .equipment_program import settle
from .fleet_plan import FleetPlan
from .horizon_plan import HorizonPlan
from .horizon_program import Stated
from .program import NODES, InfeasibleError
from .tasks import Array, Conditions, Goal, Task
from .timeline import moment

__all__ = ["Conditions", "Goal", "Horizon", "HorizonPlan", "Task"]

# Most entries of what each place does to each constraint in each period that are held at once.
_DENSE = 20_000_000


class Horizon:
    """Tasks on a power tree over a span of time."""

    def __init__(
        self, tree: PowerTree, tasks: Sequence[Task], conditions: Conditions, equipment: Equipment | None = None
    ) -> None:
        if not tasks:
            raise InputError("a plan over time needs at least one job")
        self.tree, self.tasks, self.conditions = tree, tuple(tasks), conditions
        self.equipment = equipment or Equipment()
        # A pause that costs something is a decision of its own, not a point of the curve.
        self.paid = np.array([task.paid for task in tasks])
        jobs = [replace(t.job, paused=None) if paid else t.job for t, paid in zip(tasks, self.paid, strict=True)]
        self.points = Points.of(jobs)
        self.curves = Curves.of(self.points, discrete=False)
        self.fleet = Fleet(replace(tree, limit=np.full(len(tree), np.inf), groups=()), jobs)
        may = np.array([t.job.paused is not None for t in tasks])
        begins, ends = conditions.edges[:-1], conditions.edges[1:]
        self.open = np.array([(begins >= t.release - 1e-6) & (ends <= t.deadline + 1e-6) for t in tasks]) & ~self.off
        # One that may not pause keeps serving before and after what is due.
        self.runs = (self.open | ~may[:, None]) & ~self.off
        # Less than a millionth of a millionth of what it could do in all is nothing due.
        span = float(conditions.dt.sum())
        self.owing = np.array([t.due > 1e-12 * f * span for t, f in zip(tasks, self.points.fastest, strict=True)])
        paused = np.where(may, [t.job.paused or 0.0 for t in tasks], self.curves.least)
        rest = np.broadcast_to(paused[:, None], self.off.shape)
        self.rest = np.where(self.off, 0.0, rest) if self.off.any() else rest

    # ---- the tree, period by period -------------------------------------------------------

    @cached_property
    def dark(self) -> NDArray[np.bool_]:
        """(n, parts) True where a part has no power, because its limit or one above it is 0."""
        out = np.tile(self.tree.limit == 0, (len(self.conditions.dt), 1))
        for name, values in self.conditions.limits.items():
            out[:, self.tree.index(name)] = values == 0
        for part in np.argsort(self.tree.level, kind="stable"):
            if self.tree.parent[part] >= 0:
                out[:, part] |= out[:, self.tree.parent[part]]
        return out

    @cached_property
    def off(self) -> NDArray[np.bool_]:
        """(tasks, n) True where a job draws from a part without power."""
        place, loads = self.places
        return np.stack([self.dark[:, some > 0].any(axis=1) for some in loads])[place]

    @cached_property
    def trees(self) -> list[PowerTree]:
        """The tree of each period; periods alike share one."""
        known: dict[tuple[float, ...], PowerTree] = {}
        c, out = self.conditions, []
        for t in range(len(c.dt)):
            weather = [float(series[t]) for series in (c.outdoor, c.pue) if series is not None]
            key = (*(float(v[t]) for v in c.limits.values()), *weather)
            if key not in known:
                limit = self.tree.limit.copy()
                for name, values in c.limits.items():
                    limit[self.tree.index(name)] = values[t]
                tree = self.tree.with_limits(limit)
                if self.dark[t].any():
                    tree = replace(tree, standing=np.where(self.dark[t], 0.0, tree.standing))
                    if self.dark[t, self.tree.root]:
                        tree = replace(tree, overhead=replace(tree.overhead, fixed=0.0))
                if c.pue is not None:
                    tree = replace(tree, overhead=Overhead(tree.overhead.fixed, (float(c.pue[t]) - 1.0,)))
                known[key] = tree if c.outdoor is None or c.pue is not None else tree.with_outdoor(float(c.outdoor[t]))
            out.append(known[key])
        return out

    @cached_property
    def places(self) -> tuple[NDArray[np.int64], Array]:
        """(tasks,) the place of each job, and (places, parts) W at every part per watt there; jobs alike share one."""
        known: dict[tuple[tuple[str, float], ...], int] = {}
        place = np.empty(len(self.tasks), np.int64)
        for j, task in enumerate(self.tasks):
            at = ((task.job.at, 1.0),) if isinstance(task.job.at, str) else tuple(task.job.at.items())
            place[j] = known.setdefault(at, len(known))
        loads = np.zeros((len(known), len(self.tree)))
        for at, k in known.items():
            for name, share in at:
                loads[k, self.tree.index(name)] += share
        return place, loads

    def by_place(self, power: Array) -> Array:
        """Return (places, n) W of (tasks, n) W of the jobs."""
        place, loads = self.places
        columns = [np.bincount(place, weights=column, minlength=len(loads)) for column in power.T]
        return np.stack(columns, axis=1)

    @cached_property
    def response(self) -> list[tuple[Array, Array]]:
        """Per period: (rows,) W with no job at all, and (places, rows) W through every constraint per watt of one."""
        known: dict[int, tuple[Array, Array]] = {}
        for tree in self.trees:
            if id(tree) not in known:
                none = tree.row_flows(np.zeros(len(tree)))
                known[id(tree)] = (none, tree.row_per_watt(self.places[1]))
        return [known[id(tree)] for tree in self.trees]

    # ---- planning ---------------------------------------------------------------------------

    def plan(self, goal: Goal = "energy", *, gap: float = 1e-4, nodes: int = NODES) -> HorizonPlan:
        """Return the plan of least energy, carbon or cost with all work done, or of most weighted work.

        Raises
        ------
        GoalError : the work due does not fit; the message names the jobs that fall short and the limits that bind.
        """
        plan = self.elastic(goal, gap=gap, nodes=nodes)
        if not plan.short:
            return plan
        # Before a job is called too slow, simply doing it as soon as possible must fail too.
        greedy = self.soonest(goal)
        if greedy.short or self.paid.any() or self.equipment:
            raise GoalError(self._falls_short(plan))
        return replace(greedy, bound=plan.bound)

    def elastic(self, goal: Goal, *, gap: float = 1e-4, nodes: int = NODES) -> HorizonPlan:
        """Return the same, leaving work undone only where it cannot be done; see `short`."""
        self._check_least()
        if decompose.applies(self, goal):
            return decompose.plan(self, goal, gap)
        try:
            return Stated(self, goal).solve(gap=gap, nodes=nodes)
        except InfeasibleError:
            raise GoalError(self._excluded()) from None

    def _excluded(self) -> str:
        """Return what rules one another out where even undone work would not help."""
        e = self.equipment
        named = [
            f"the feed's limit of {show(float(self.tree.limit[self.tree.root]), 'W', 4)}",
            *(f"what {s.name} must deliver" for s in e.sources if s.takes),
            *(["the ramp"] if np.isfinite(e.ramp) else []),
            *(["the dwell of jobs"] if any(t.dwell > 0 for t in self.tasks) else []),
        ]
        return (
            f"no plan keeps {', '.join(named)} and what must run in every period together; raise the limit or the "
            "ramp, allow more to be sold, lower a minimum, or let jobs pause"
        )

    def soonest(self, goal: Goal = "work") -> HorizonPlan:
        """Return what happens without looking ahead: in each period as much of what is due as the limits allow.

        Of jobs with nothing due as much as a plan for `goal` does: for least energy, carbon or cost the least they may.
        """
        self._check_least()
        n = len(self.conditions.dt)
        left = np.array(
            [
                t.due if owing else (np.inf if goal == "work" else 0.0)
                for t, owing in zip(self.tasks, self.owing, strict=True)
            ]
        )
        power, work = np.zeros((len(self.tasks), n)), np.zeros((len(self.tasks), n))
        running = np.array([t.running for t in self.tasks])
        for t, dt in enumerate(self.conditions.dt):
            live = np.flatnonzero(~self.off[:, t])
            if not live.size:
                running[:] = False
                continue
            now = self._now(live, t, left / dt)
            power[live, t], work[live, t] = now.power, now.work * dt
            # A job that pays for its pauses pays when it goes on: after a pause, or for one within the period.
            on = np.zeros(len(self.tasks), bool)
            on[live] = work[live, t] > 0
            broken = np.zeros(len(self.tasks), bool)
            broken[live] = (now.low < 0) & on[live]
            again = self.paid & on & (~running | broken)
            lost = np.where(again, [task.resume for task in self.tasks], 0.0) * self.points.fastest
            work[:, t] = np.maximum(work[:, t] - lost, 0.0)
            running = on
            left = np.maximum(left - np.where(self.open[:, t], work[:, t], 0.0), 0.0)
        plan = self.made(power, work, work > 1e-9 * self.points.fastest[:, None] * self.conditions.dt, goal)
        if not self.equipment:
            return plan
        # Sources are used as they come; nothing is stored or held ready by who does not plan.
        e, none = self.equipment, np.zeros(n)
        idle = [none] * len(e.storages)
        return settle(self, goal, plan, idle, [0.0] * len(idle), [s.most for s in e.sources], [none] * len(e.services))

    def _now(self, live: NDArray[np.int64], t: int, rate: Array) -> FleetPlan:
        """Return the plan of most work in one period; who pays for pauses runs through it where that fits."""
        jobs = [self._asked(int(j), t, float(rate[j])) for j in live]
        if self.paid[live].any():
            through = [
                replace(job, paused=None) if self.paid[j] and job.weight > 0 else job
                for j, job in zip(live, jobs, strict=True)
            ]
            with contextlib.suppress(GoalError, InputError):
                return Fleet(self.trees[t], through).most_work()
        return Fleet(self.trees[t], jobs).most_work()

    def _asked(self, j: int, t: int, rate: float) -> Job:
        """Return a job as it stands in one period: what is left of it at most, or as little as it may do."""
        task = self.tasks[j]
        if rate <= 0 or not self.open[j, t]:
            return replace(task.job, weight=0.0)
        free = task.job.paused is not None and not self.paid[j]
        slowest = 0.0 if free else 1 / float(task.job.frontier.time[-1])
        rate = max(rate, task.job.minimum, slowest)
        return replace(task.job, maximum=min(task.job.maximum, rate))

    def made(
        self, power: Array, work: Array, on: NDArray[np.bool_], goal: Goal,
        price: Array | None = None, bound: float | None = None,
    ) -> HorizonPlan:  # fmt: skip
        """Return the plan of given powers and work, with its totals."""
        c = self.conditions
        flows = self.flows(power)
        joules = flows[:, self.tree.root] * c.dt
        value = float(self.points.weight @ work.sum(axis=1))
        objective = value if goal == "work" else float(c.weight(goal) @ joules)
        done = work.sum(axis=1, where=self.open)
        return HorizonPlan(
            tree=self.tree,
            names=tuple(t.job.name for t in self.tasks),
            edges=c.edges,
            power=power,
            work=work,
            on=on,
            flows=flows,
            grid=flows[:, self.tree.root],
            limits=np.stack([tree.row_limit for tree in self.trees]),
            price=np.zeros_like(flows) if price is None else price,
            objective=objective,
            bound=objective if bound is None else bound,
            energy_j=float(joules.sum()),
            carbon_g=None if c.carbon is None else float(c.carbon @ joules),
            cost_usd=None if c.price is None else float(c.price @ joules),
            done={t.job.name: float(d) for t, d in zip(self.tasks, done, strict=True)},
            short={
                t.job.name: float(t.due - d)
                for t, d, owing in zip(self.tasks, done, self.owing, strict=True)
                if owing and d < t.due * (1 - 1e-6)
            },
            off=self.off if self.off.any() else None,
        )  # fmt: skip

    def flows(self, power: Array) -> Array:
        """Return (n, rows) W through every constraint for (tasks, n) W of the jobs."""
        watts, loads = self.by_place(power), self.places[1]
        if loads.size * len({id(tree) for tree in self.trees}) > _DENSE:
            return np.stack([tree.row_flows(watts[:, t] @ loads) for t, tree in enumerate(self.trees)])
        return np.stack([none + watts[:, t] @ per for t, (none, per) in enumerate(self.response)])

    def _check_least(self) -> None:
        """Refuse periods whose limits cannot carry what must run, naming limit, period and watts."""
        least = np.minimum(self.rest, np.where(self.off, 0.0, self.curves.least[:, None]))
        flows = self.flows(least)
        for t, tree in enumerate(self.trees):
            left = tree.row_limit - flows[t]
            if self.equipment:  # what storage and sources may cover is decided with all else
                left[self.tree.root] = 0.0
            over = np.flatnonzero(left < -TOLERANCE * tree.row_limit)
            if over.size:
                worst = int(over[np.argmin(left[over])])
                raise GoalError(
                    f"the minimum service does not fit at {moment(float(self.conditions.edges[t]))}: "
                    f"{tree.row_names[worst]} may take {show(float(tree.row_limit[worst]), 'W', 4)} and is short of "
                    f"{show(float(-left[worst]), 'W', 4)}; raise the limit then, lower a minimum, or let jobs pause"
                )

    def _falls_short(self, plan: HorizonPlan) -> str:
        due = {t.job.name: t.due for t in self.tasks}
        jobs = ", ".join(f"{name} ({100 * left / due[name]:.3g} % undone)" for name, left in [*plan.short.items()][:5])
        tight = (plan.limits - plan.flows <= 1e-6 * plan.limits).sum(axis=0)
        rows = [
            f"{self.tree.row_names[r]} in {tight[r]} of {len(plan.edges) - 1} periods"
            for r in np.argsort(-tight)[:5]
            if tight[r]
        ]
        why = f"limits that bind: {', '.join(rows)}" if rows else "its fastest setting is too slow for its deadline"
        return f"the work due cannot be done by its deadline: {jobs}; {why}; allow more time or power, or ask for less"
