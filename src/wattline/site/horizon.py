"""When to do the work: jobs over hours or days of changing prices, carbon, limits and weather.

Time is cut into periods; in each, a job runs at an average power on its concave curve (`curves`), which two
settings realise by taking turns within the period. What links the periods is the work due by a deadline and,
where pausing is not free, the checkpoint and restart that a pause costs:

    minimise  sum over periods of  weight(t) * feed power(t) * dt      (energy, carbon or cost)
    with      work done between release and deadline >= work due
              every inflow of the tree within its limit, in every period

A linear program; with paid pauses a mixed-integer one (on or off in each period), both solved by HiGHS. A
resumed job draws power and does nothing useful for `resume` seconds, counted at its fastest rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError
from ..core.units import show
from ..hardware.power_tree import TOLERANCE, PowerTree
from .allocate import Fleet
from .curves import Curves, Job, Points
from .program import Program, Solution
from .timeline import moment

Array = NDArray[np.float64]
Goal = Literal["energy", "carbon", "cost", "work"]

# Work left undone is dearer than any way to do it, by this factor.
_DEAR: Final = 1e3


@dataclass(frozen=True, eq=False)
class Task:
    """A job and what is due of it.

    Attributes
    ----------
    due : units of work between `release` and `deadline` (s on the horizon's clock); 0 asks for none.
    resume : seconds of lost work at every start after a pause (checkpoint written, restored, warmed up); pausing is
        free where 0. It may pause only where `job.paused` says what it draws then.
    running : True if it was running before the horizon began, so that going on costs no start.
    """

    job: Job
    due: float = 0.0
    release: float = -np.inf
    deadline: float = np.inf
    resume: float = 0.0
    running: bool = True

    def __post_init__(self) -> None:
        if not (self.due >= 0 and self.resume >= 0 and self.deadline > self.release):
            raise InputError(
                f"job {self.job.name}: work due and resume must be >= 0 and its deadline after its release, got "
                f"{self.due}, {self.resume} s, {self.deadline} s and {self.release} s"
            )


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the grid and the weather allow, period by period.

    Attributes
    ----------
    edges : (n + 1,) seconds. price, carbon : (n,) USD/J and g/J, None where not given.
    limits : part of the tree -> (n,) W that take the place of its own limit.
    outdoor : (n,) K, None where the site's overhead does not depend on it.
    filled : (n,) True where a period rests on values that were filled in.
    """

    edges: Array
    price: Array | None = None
    carbon: Array | None = None
    limits: dict[str, Array] = field(default_factory=dict)
    outdoor: Array | None = None
    filled: NDArray[np.bool_] | None = None

    @property
    def dt(self) -> Array:
        """(n,) s of each period."""
        return np.diff(self.edges)

    def weight(self, goal: Goal) -> Array:
        """Return what a joule costs in each period under a goal."""
        if goal in ("energy", "work"):
            return np.ones(len(self.dt))
        series = self.carbon if goal == "carbon" else self.price
        if series is None:
            name = "carbon" if goal == "carbon" else "price"
            raise InputError(f"least {goal} needs grid.{name}, and none is given")
        return series

    def part(self, start: int, stop: int) -> Conditions:
        """Return some of the periods."""
        cut = slice(start, stop)
        return Conditions(
            self.edges[start : stop + 1],
            None if self.price is None else self.price[cut],
            None if self.carbon is None else self.carbon[cut],
            {name: values[cut] for name, values in self.limits.items()},
            None if self.outdoor is None else self.outdoor[cut],
            None if self.filled is None else self.filled[cut],
        )


@dataclass(frozen=True, eq=False)
class HorizonPlan:
    """What every task does in every period.

    Attributes
    ----------
    power, work : (tasks, n) W at the job's place and units of work done in the period. on : (tasks, n).
    flows : (n, rows) W through every constraint. price : (n, rows) objective per watt and period more; 0 with pauses
        that cost, where there are no prices.
    objective, bound : of the goal; energy_j, carbon_g, cost_usd : totals at the feed, None where no rate is given.
    short : task -> units of work left undone, empty where all is done.
    """

    tree: PowerTree
    names: tuple[str, ...]
    edges: Array
    power: Array
    work: Array
    on: NDArray[np.bool_]
    flows: Array
    limits: Array
    price: Array
    objective: float
    bound: float
    energy_j: float
    carbon_g: float | None
    cost_usd: float | None
    short: dict[str, float] = field(default_factory=dict)

    @property
    def feed(self) -> Array:
        """(n,) W at the feed."""
        return self.flows[:, self.tree.root]

    @property
    def gap(self) -> float:
        """Relative distance from what no plan can beat."""
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-12)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(tasks,) times each was resumed."""
        return np.asarray((np.diff(self.on.astype(int), axis=1) > 0).sum(axis=1))


class Horizon:
    """Tasks on a power tree over a span of time."""

    def __init__(self, tree: PowerTree, tasks: Sequence[Task], conditions: Conditions) -> None:
        if not tasks:
            raise InputError("a plan over time needs at least one job")
        self.tree, self.tasks, self.conditions = tree, tuple(tasks), conditions
        # A pause that costs something is a decision of its own, not a point of the curve.
        self.paid = np.array([t.resume > 0 and t.job.paused is not None for t in tasks])
        jobs = [replace(t.job, paused=None) if paid else t.job for t, paid in zip(tasks, self.paid, strict=True)]
        self.points = Points.of(jobs)
        self.curves = Curves.of(self.points, discrete=False)
        self.fleet = Fleet(replace(tree, limit=np.full(len(tree), np.inf), groups=()), jobs)
        may = np.array([t.job.paused is not None for t in tasks])
        begins, ends = conditions.edges[:-1], conditions.edges[1:]
        self.open = np.array([(begins >= t.release - 1e-6) & (ends <= t.deadline + 1e-6) for t in tasks])
        # One that may not pause keeps serving before and after what is due.
        self.runs = self.open | ~may[:, None]
        self.rest = np.where(may, [t.job.paused or 0.0 for t in tasks], self.curves.least)

    @cached_property
    def trees(self) -> list[PowerTree]:
        """The tree of each period; periods alike share one."""
        known: dict[tuple[float, ...], PowerTree] = {}
        c, out = self.conditions, []
        for t in range(len(c.dt)):
            key = (*(float(v[t]) for v in c.limits.values()), *(() if c.outdoor is None else (float(c.outdoor[t]),)))
            if key not in known:
                limit = self.tree.limit.copy()
                for name, values in c.limits.items():
                    limit[self.tree.index(name)] = values[t]
                tree = self.tree.with_limits(limit)
                known[key] = tree if c.outdoor is None else tree.with_outdoor(float(c.outdoor[t]))
            out.append(known[key])
        return out

    @cached_property
    def response(self) -> list[tuple[Array, Array]]:
        """Per period: (rows,) W with no job at all, and (tasks, rows) W through every constraint per watt of a task."""
        unit = np.stack([self.fleet.load(one) for one in np.eye(len(self.tasks))])
        known: dict[int, tuple[Array, Array]] = {}
        for tree in self.trees:
            if id(tree) not in known:
                none = tree.row_flows(np.zeros(len(tree)))
                known[id(tree)] = (none, tree.row_flows(unit) - none)
        return [known[id(tree)] for tree in self.trees]

    def plan(self, goal: Goal = "energy", *, gap: float = 1e-4, seconds: float = 60.0) -> HorizonPlan:
        """Return the plan of least energy, carbon or cost with all work done, or of most weighted work.

        Raises
        ------
        GoalError : the work due does not fit; the message names the jobs that fall short and the limits that bind.
        """
        plan = self.elastic(goal, gap=gap, seconds=seconds)
        if plan.short:
            raise GoalError(self._falls_short(plan))
        return plan

    def elastic(self, goal: Goal, *, gap: float = 1e-4, seconds: float = 60.0) -> HorizonPlan:
        """Return the same, leaving work undone only where it cannot be done; see `short`."""
        self._check_least()
        built = _Built(self, goal)
        return built.read(built.program.minimise(gap=gap, seconds=seconds))

    def soonest(self) -> HorizonPlan:
        """Return what happens without looking ahead: in each period as much weighted work as the limits allow."""
        self._check_least()
        n = len(self.conditions.dt)
        left = np.array([t.due if t.due > 0 else np.inf for t in self.tasks])
        power, work = np.zeros((len(self.tasks), n)), np.zeros((len(self.tasks), n))
        for t, dt in enumerate(self.conditions.dt):
            jobs = []
            for j, task in enumerate(self.tasks):
                if left[j] <= 0 or not self.open[j, t]:  # nothing more is asked of it: as little as it may do
                    jobs.append(replace(task.job, weight=0.0))
                    continue
                slowest = 0.0 if task.job.paused is not None else 1 / task.job.frontier.time[-1]
                rate = max(float(left[j] / dt), task.job.minimum, slowest)
                jobs.append(replace(task.job, maximum=min(task.job.maximum, rate)))
            now = Fleet(self.trees[t], jobs).most_work()
            power[:, t], work[:, t] = now.power, now.work * dt
            left -= np.where(self.open[:, t], work[:, t], 0.0)
            left = np.maximum(left, 0.0)
        return self.made(power, work, work > 1e-9 * self.points.fastest[:, None] * self.conditions.dt, "energy")

    def made(
        self, power: Array, work: Array, on: NDArray[np.bool_], goal: Goal,
        price: Array | None = None, bound: float | None = None,
    ) -> HorizonPlan:  # fmt: skip
        """Return the plan of given powers and work, with its totals."""
        c = self.conditions
        flows = np.stack([none + power[:, t] @ per for t, (none, per) in enumerate(self.response)])
        joules = flows[:, self.tree.root] * c.dt
        value = float(self.points.weight @ work.sum(axis=1))
        objective = value if goal == "work" else float(c.weight(goal) @ joules)
        done = (work * self.open).sum(axis=1)
        return HorizonPlan(
            tree=self.tree,
            names=tuple(t.job.name for t in self.tasks),
            edges=c.edges,
            power=power,
            work=work,
            on=on,
            flows=flows,
            limits=np.stack([tree.row_limit for tree in self.trees]),
            price=np.zeros_like(flows) if price is None else price,
            objective=objective,
            bound=objective if bound is None else bound,
            energy_j=float(joules.sum()),
            carbon_g=None if c.carbon is None else float(c.carbon @ joules),
            cost_usd=None if c.price is None else float(c.price @ joules),
            short={
                t.job.name: float(t.due - d)
                for t, d in zip(self.tasks, done, strict=True)
                if d < t.due * (1 - 1e-6)
            },
        )  # fmt: skip

    def _check_least(self) -> None:
        """Refuse periods whose limits cannot carry what must run, naming limit, period and watts."""
        least = np.minimum(self.rest, self.curves.least)
        for t, tree in enumerate(self.trees):
            left = tree.headroom(self.fleet.load(least))
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


class _Built:
    """The program of a horizon, and how its answer is read."""

    def __init__(self, horizon: Horizon, goal: Goal) -> None:
        self.h, self.goal = horizon, goal
        self.program = Program()
        c, curves = horizon.conditions, horizon.curves
        self.n, self.tasks = len(c.dt), len(horizon.tasks)
        self.at_feed = np.stack([per[:, horizon.tree.root] for _, per in horizon.response], axis=1)  # (tasks, n)
        self.cost = c.weight(goal) * c.dt * self.at_feed
        self.job, self.width, self.slope = curves.segments()
        low, high, share = curves.at(np.arange(self.tasks), curves.least)
        self.least_work = (1 - share) * curves.work[low] + share * curves.work[high]
        self._pieces()
        self._pauses()
        self._limits()
        self._due()

    def _price(self, watts: Array, work: Array, job: NDArray[np.int64]) -> Array:
        """Return the objective of `watts` and `work` a second of jobs, (k, n)."""
        if self.goal == "work":
            return -self.h.points.weight[job, None] * work[:, None] * self.h.conditions.dt
        return np.asarray(self.cost[job] * watts[:, None])

    def _pieces(self) -> None:
        """Watts of every piece of every curve in every period."""
        runs = self.h.runs[self.job]
        cost = self._price(np.ones(len(self.job)), self.slope, self.job)
        self.x = self.program.variables(runs.size, cost=cost.ravel(), high=(self.width[:, None] * runs).ravel())
        self.x = self.x.reshape(len(self.job), self.n)

    def _pauses(self) -> None:
        """Whether a job with paid pauses is on; its pieces only then, and each start loses work."""
        h = self.h
        self.paid = np.flatnonzero(h.paid)
        extra = (h.curves.least - h.rest)[self.paid]
        cost = self._price(extra, self.least_work[self.paid], self.paid)
        size = (len(self.paid), self.n)
        self.on = self.program.variables(
            len(self.paid) * self.n, cost=cost.ravel(), high=h.runs[self.paid].astype(float).ravel(), whole=True
        ).reshape(size) if len(self.paid) else np.zeros(size, np.int64)  # fmt: skip
        self.lost = np.array([h.tasks[j].resume * h.points.fastest[j] for j in self.paid])
        again = h.points.weight[self.paid] * self.lost if self.goal == "work" else np.zeros(len(self.paid))
        self.start = self.program.variables(
            len(self.paid) * self.n, cost=np.repeat(again, self.n), high=1.0
        ).reshape(size)  # fmt: skip
        for k, j in enumerate(self.paid):
            mine = np.flatnonzero(self.job == j)
            rows = self.program.constraints(len(mine) * self.n, most=0.0).reshape(len(mine), self.n)
            self.program.add(rows, self.x[mine], 1.0)
            self.program.add(rows, self.on[k][None, :], -self.width[mine][:, None])
            before = np.zeros(self.n)
            before[0] = float(h.tasks[j].running)
            rows = self.program.constraints(self.n, least=-before)
            self.program.add(rows, self.start[k], 1.0)
            self.program.add(rows, self.on[k], -1.0)
            self.program.add(rows[1:], self.on[k][:-1], 1.0)

    def _limits(self) -> None:
        """Every constraint of the tree that could bind, in every period."""
        h = self.h
        floor = np.where(h.paid, h.rest, h.curves.least)
        top = h.curves.power[h.curves.begin + h.curves.count - 1]
        self.limit_rows: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []
        for t, (tree, (none, per)) in enumerate(zip(h.trees, h.response, strict=True)):
            base = np.where(h.runs[:, t], floor, np.minimum(floor, h.rest))
            room = tree.row_limit - none - base @ per
            might = np.flatnonzero(np.maximum(top - base, 0.0) @ per > room)
            rows = self.program.constraints(len(might), most=np.maximum(room[might], 0.0))
            self.limit_rows.append((t, might, rows))
            share = per[self.job][:, might]
            self.program.add(rows[None, :], self.x[:, t][:, None], share)
            if len(self.paid):
                extra = (h.curves.least - h.rest)[self.paid]
                self.program.add(rows[None, :], self.on[:, t][:, None], per[self.paid][:, might] * extra[:, None])

    def _due(self) -> None:
        """Work done while the job is open, and what is left undone at a price beyond every other."""
        h, dt = self.h, self.h.conditions.dt
        owing = [j for j, task in enumerate(h.tasks) if task.due > 1e-9 * h.points.fastest[j] * dt.sum()]
        dear = _DEAR * max(float(np.abs(self.cost).max()), 1e-300) * float(h.curves.power.max())
        for j in owing:
            done = 0.0 if h.paid[j] else float(self.least_work[j] * (dt * h.open[j]).sum())
            # In shares of what is due, so that rows of all jobs are alike in size.
            row = self.program.constraints(1, least=1.0 - done / h.tasks[j].due)[0]
            self.program.add(row, self.program.variables(1, cost=dear * self.n, high=1.0), 1.0)
            mine = np.flatnonzero(self.job == j)
            use = dt * h.open[j] / h.tasks[j].due
            self.program.add(row, self.x[mine], self.slope[mine][:, None] * use)
            if h.paid[j]:
                k = int(np.flatnonzero(self.paid == j)[0])
                self.program.add(row, self.on[k], self.least_work[j] * use)
                self.program.add(row, self.start[k], -self.lost[k] * h.open[j] / h.tasks[j].due)

    def read(self, solved: Solution) -> HorizonPlan:
        """Return the plan of a solution."""
        h, dt, curves = self.h, self.h.conditions.dt, self.h.curves
        x = solved.x[self.x]
        given = np.zeros((self.tasks, self.n))
        np.add.at(given, self.job, x)
        on = h.runs.copy()
        starts = np.zeros((self.tasks, self.n))
        if len(self.paid):
            on[self.paid] = solved.x[self.on] > 0.5
            before = np.array([float(h.tasks[j].running) for j in self.paid])[:, None]
            starts[self.paid] = np.maximum(0.0, np.diff(on[self.paid].astype(float), axis=1, prepend=before))
        power = np.where(on, curves.least[:, None] + given, h.rest[:, None])
        top = curves.power[curves.begin + curves.count - 1]
        power = np.where(on, np.minimum(power, np.maximum(top, h.rest)[:, None]), power)
        power = self._within(power, on)
        every = np.repeat(np.arange(self.tasks), self.n)
        low, high, share = curves.at(every, power.ravel())
        rate = ((1 - share) * curves.work[low] + share * curves.work[high]).reshape(power.shape)
        lost = np.zeros(self.tasks)
        lost[self.paid] = self.lost
        work = np.where(on, rate * dt, 0.0) - starts * lost[:, None]
        ran = (work > 1e-9 * h.points.fastest[:, None] * dt) & on
        ran[self.paid] = on[self.paid]
        price = np.zeros((self.n, len(self.h.tree.row_names)))
        for t, which, rows in self.limit_rows:
            price[t, which] = np.maximum(0.0, -solved.price[rows])
        plan = h.made(power, work, ran, self.goal, price)
        slip = solved.objective - solved.bound
        return replace(plan, bound=plan.objective + slip if self.goal == "work" else plan.objective - slip)

    def _within(self, power: Array, on: NDArray[np.bool_]) -> Array:
        """Shrink what lies above the least by the solver's tolerance, so that no limit is exceeded."""
        h = self.h
        floor = np.where(on, h.curves.least[:, None], h.rest[:, None])
        out = power.copy()
        for t, (tree, (none, per)) in enumerate(zip(h.trees, h.response, strict=True)):
            base = none + floor[:, t] @ per
            over = none + power[:, t] @ per - tree.row_limit
            bad = np.flatnonzero((over > 0) & (over + tree.row_limit > base))
            if bad.size:
                factor = 1.0 - float(np.max(over[bad] / (over + tree.row_limit - base)[bad]))
                out[:, t] = floor[:, t] + max(0.0, factor) * (power[:, t] - floor[:, t])
        return out
