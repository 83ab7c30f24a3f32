"""Where and when to do the work: jobs over hours at several sites with prices, carbon, limits and PUE of their own.

    minimise  sum over sites and periods of  weight(site, t) * grid power(site, t) * dt  +  what moves cost
    with      each job at one site at a time (running or paused there), its work due by its deadline
              each site within its limit in every period

A move costs work (checkpoint, copying, warm-up: seconds at full speed), money and joules at where it goes; all three
are stated. A mixed-integer program where some move costs something, a linear one where none does: then a job may be in
two places in one period, an hour divided between them. `program` scales and certifies it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError, nearest
from ..core.units import show
from .curves import Curves, Points
from .program import NODES, InfeasibleError, Program, Solution
from .tasks import Array, Goal, Task

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Region:
    """One site: (n,) money/J and g/J (None where not given), W it may take, and W at its feed per W of its jobs."""

    name: str
    limit: Array
    factor: Array
    price: Array | None = None
    carbon: Array | None = None
    fixed: float = 0.0

    def weight(self, goal: Goal) -> Array:
        """Return what a joule costs in each period under a goal."""
        if goal in ("energy", "work"):
            return np.ones(len(self.limit))
        series = self.carbon if goal == "carbon" else self.price
        if series is None:
            raise InputError(f"least {goal} needs {'carbon' if goal == 'carbon' else 'price'} of site {self.name}")
        return series


@dataclass(frozen=True)
class Roaming:
    """A job that may move.

    regions : sites it may be at; all where empty. home : where it is before the plan begins; anywhere, for nothing,
    where None. work, money, energy : what each move costs: s at full speed lost, money, and J at where it goes.
    """

    task: Task
    regions: tuple[str, ...] = ()
    home: str | None = None
    work: float = 0.0
    money: float = 0.0
    energy: float = 0.0

    def __post_init__(self) -> None:
        if not (
            min(self.work, self.money, self.energy) >= 0 and np.isfinite([self.work, self.money, self.energy]).all()
        ):
            raise InputError(f"job {self.task.job.name}: what a move costs must be finite and 0 or more")
        if self.task.resume or self.task.dwell:
            raise InputError(
                f"job {self.task.job.name}: over several sites pauses are free; leave out job.resume and job.dwell"
            )

    @property
    def paid(self) -> bool:
        """Whether a move costs anything."""
        return self.work > 0 or self.money > 0 or self.energy > 0


@dataclass(frozen=True, eq=False)
class SpacePlan:
    """What every job does where.

    Attributes
    ----------
    power : (regions, jobs, n) W of the jobs. work : (jobs, n) units. there : (regions, jobs, n) share of the period.
    grid : (regions, n) W at each feed. moves : job -> (period, from, to), in order. cost, carbon : of all, None where
    some site gives no rate. objective, bound, tree_bound : of the goal; nodes of the search.
    """

    regions: tuple[str, ...]
    jobs: tuple[str, ...]
    edges: Array
    power: Array
    work: Array
    there: Array
    grid: Array
    moves: dict[str, list[tuple[int, str, str]]]
    energy: float
    cost: float | None
    carbon: float | None
    objective: float
    bound: float
    tree_bound: float
    nodes: int = 0
    short: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Relative distance from what no plan can beat, by prices or by the search, whichever proves more."""
        best = max(self.bound, self.tree_bound)
        return max(0.0, self.objective - best) / max(abs(self.objective), abs(best), 1e-300)


def plan(
    regions: Sequence[Region], jobs: Sequence[Roaming], edges: Array, goal: Goal = "cost", *, gap: float = 1e-4,
    nodes: int = NODES,
) -> SpacePlan:  # fmt: skip
    """Return the plan of least energy, carbon or cost with all that is due done.

    Raises
    ------
    GoalError : the work due does not fit, or what must run does not.
    """
    if goal == "work":
        raise InputError("jobs over several sites are planned for least energy, carbon or cost of what is due")
    stated = _Stated(regions, jobs, edges, goal)
    try:
        return stated.read(stated.program.minimise(gap=gap, nodes=nodes))
    except InfeasibleError:
        raise GoalError(stated.why()) from None


class _Stated:
    def __init__(self, regions: Sequence[Region], jobs: Sequence[Roaming], edges: Array, goal: Goal) -> None:
        self.regions, self.jobs, self.edges, self.goal = tuple(regions), tuple(jobs), edges, goal
        self.dt, self.n = np.diff(edges), len(edges) - 1
        names = [r.name for r in regions]
        self.where = [self._places(job, names) for job in jobs]
        self.home = [None if job.home is None else names.index(job.home) for job in jobs]
        self.points = Points.of([job.task.job for job in jobs])
        self.curves = Curves.of(self.points, discrete=False)
        self.piece, self.width, self.slope = self.curves.segments()
        low, high, share = self.curves.at(np.arange(len(jobs)), self.curves.least)
        self.least_work = (1 - share) * self.curves.work[low] + share * self.curves.work[high]
        self.rate = np.stack([r.weight(goal) for r in regions])
        self.factor = np.stack([r.factor for r in regions])
        self.program = Program()
        self.at: dict[tuple[int, int], Ints] = {}
        self.more: dict[tuple[int, int], list[tuple[int, Ints]]] = {}
        self.moved: dict[tuple[int, int], Ints] = {}
        self._limits()
        for j in range(len(jobs)):
            self._job(j)

    def _places(self, job: Roaming, names: list[str]) -> list[int]:
        for name in (*job.regions, *([job.home] if job.home else [])):
            if name not in names:
                raise InputError(f"job {job.task.job.name}: no site is called {name!r}; {nearest(name, names)}")
        some = [names.index(name) for name in (job.regions or names)]
        if job.home is not None and names.index(job.home) not in some:
            some.append(names.index(job.home))
        return sorted(set(some))

    def _limits(self) -> None:
        """A row for each site and period with a limit."""
        self.rows: list[Ints] = []
        for r in self.regions:
            room = r.limit - r.fixed
            if (room < 0).any():
                t = int(np.argmin(room))
                raise GoalError(
                    f"site {r.name} may take {show(float(r.limit[t]), 'W')} and draws {show(r.fixed, 'W')} empty"
                )
            self.rows.append(self.program.constraints(self.n, most=room))

    def _job(self, j: int) -> None:
        job, p = self.jobs[j], self.program
        task = job.task
        begins, ends = self.edges[:-1], self.edges[1:]
        opened = (begins >= task.release - 1e-6) & (ends <= task.deadline + 1e-6)
        span = float(self.dt.sum())
        owing = task.due > 1e-12 * self.points.fastest[j] * span
        may = opened if owing else np.zeros(self.n, bool)
        least = float(self.curves.least[j])
        one = p.constraints(self.n, least=1.0, most=1.0)
        due = self.least_work[j] * float(self.dt[opened].sum())
        row = None
        if owing:
            row = p.constraints(1, least=task.due - due, most=max(task.due - due, 0.0))
            slack = p.variables(1, high=job.work * self.points.fastest[j] * (len(self.where[j]) > 1) * self.n)
            p.add(row[0], slack, -1.0)
        lost = job.work * self.points.fastest[j]
        for r in self.where[j]:
            cost = self.rate[r] * self.factor[r] * self.dt
            z = p.variables(self.n, cost=cost * least, high=1.0, whole=job.paid and len(self.where[j]) > 1)
            self.at[j, r] = z
            p.add(one, z, 1.0)
            p.add(self.rows[r], z, self.factor[r] * least)
            self.more[j, r] = []
            for k in np.flatnonzero(self.piece == j):
                wide = float(self.width[k])
                x = p.variables(self.n, cost=cost, high=np.where(may, wide, 0.0), unit=wide)
                self.more[j, r].append((int(k), x))
                p.add(self.rows[r], x, self.factor[r])
                held = p.constraints(self.n, most=0.0)
                p.add(held, x, 1.0 / wide)
                p.add(held, z, -1.0)
                if row is not None:
                    p.add(np.full(self.n, row[0]), x, self.slope[k] * self.dt * opened)
            self._in_order(j, r)
            if job.paid and len(self.where[j]) > 1:
                self._moves(j, r, z, lost, row)

    def _in_order(self, j: int, r: int) -> None:
        """Where a joule earns something a curve's last pieces are not to be had without its first."""
        earning = np.flatnonzero(self.rate[r] < 0)
        for (k, first), (m, then) in itertools.pairwise(self.more[j, r]):
            rows = self.program.constraints(len(earning), most=0.0)
            self.program.add(rows, then[earning], 1 / float(self.width[m]))
            self.program.add(rows, first[earning], -1 / float(self.width[k]))

    def _moves(self, j: int, r: int, z: Ints, lost: float, row: Ints | None) -> None:
        """A move is a rise of being there; the first period's from home."""
        job, p = self.jobs[j], self.program
        money = job.money if self.goal == "cost" else 0.0
        m = p.variables(self.n, cost=money + job.energy * self.rate[r], high=1.0)
        before = np.zeros(self.n)
        before[0] = 1.0 if self.home[j] is None else float(self.home[j] == r)
        rises = p.constraints(self.n, least=-before)
        p.add(rises, m, 1.0)
        p.add(rises, z, -1.0)
        p.add(rises[1:], z[:-1], 1.0)
        if row is not None and lost > 0:
            p.add(np.full(self.n, row[0]), m, -lost)
        self.moved[j, r] = m

    def read(self, solved: Solution) -> SpacePlan:
        """Return the plan of a solution."""
        many, count = len(self.regions), len(self.jobs)
        power, there = np.zeros((2, many, count, self.n))
        work = np.zeros((count, self.n))
        grid = np.stack([np.full(self.n, r.fixed) for r in self.regions])
        extra = np.zeros((many, self.n))
        money = 0.0
        for (j, r), z in self.at.items():
            share = solved.x[z]
            there[r, j] = share
            power[r, j] = share * self.curves.least[j]
            work[j] += share * self.least_work[j] * self.dt
            for k, x in self.more[j, r]:
                power[r, j] += solved.x[x]
                work[j] += solved.x[x] * self.slope[k] * self.dt
        moves = {job.task.job.name: self._path(j, there) for j, job in enumerate(self.jobs)}
        for j, job in enumerate(self.jobs):
            for t, _, to in moves[job.task.job.name] if job.paid else ():
                work[j, t] -= job.work * self.points.fastest[j]
                money += job.money
                extra[[r.name for r in self.regions].index(to), t] += job.energy
        grid = grid + self.factor * power.sum(axis=1)
        joules = grid * self.dt + extra

        def total(series: list[Array | None]) -> float | None:
            if any(one is None for one in series):
                return None
            return float(sum(np.asarray(one) @ joules[r] for r, one in enumerate(series)))

        cost, carbon = total([r.price for r in self.regions]), total([r.carbon for r in self.regions])
        cost = None if cost is None else cost + money
        objective = {"cost": cost, "carbon": carbon, "energy": float(joules.sum())}[self.goal]
        fixed = float(sum(r.fixed * (self.rate[k] @ self.dt) for k, r in enumerate(self.regions)))
        assert objective is not None
        return SpacePlan(
            tuple(r.name for r in self.regions), tuple(j.task.job.name for j in self.jobs), self.edges, power, work,
            there, grid, moves, float(joules.sum()), cost, carbon, objective, solved.bound + fixed,
            solved.tree_bound + fixed, solved.nodes,
        )  # fmt: skip

    def _path(self, j: int, there: Array) -> list[tuple[int, str, str]]:
        """Return the moves of a job: from where most of it was to where most of it is."""
        main = np.argmax(there[:, j], axis=0)
        at, out = self.home[j], []
        for t, now in enumerate(main.tolist()):
            if at is not None and now != at:
                out.append((t, self.regions[at].name, self.regions[now].name))
            at = now
        return out

    def why(self) -> str:
        """Return what the work due runs into, in one sentence."""
        said = []
        for j, job in enumerate(self.jobs):
            task = job.task
            begins, ends = self.edges[:-1], self.edges[1:]
            opened = (begins >= task.release - 1e-6) & (ends <= task.deadline + 1e-6)
            most = float(self.points.fastest[j] * self.dt[opened].sum())
            if task.due > most * (1 + 1e-9):
                said.append(f"{task.job.name} (at most {100 * most / task.due:.3g} % of what is due)")
        if said:
            return f"too slow for their deadlines: {', '.join(said)}; allow more time or ask for less"
        return (
            "the work due does not fit the sites' limits with what must run there; raise a limit, allow more time, or "
            "let jobs go to more sites"
        )
