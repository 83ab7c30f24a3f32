"""Which job on which chips, how many nodes awake, and which asleep.

Nodes come in pools of one kind at one part of the power tree. A job may run in gangs (the nodes of one replica)
on any pool it has a frontier for, each gang at one of that frontier's points. Nodes that run nothing are idle,
or asleep where their pool has a sleep state. Whole numbers of gangs, idle and sleeping nodes:

    minimise  power at the feed                     or  maximise  weighted work
    with      work of every job >= what it needs,   gangs x nodes + idle + asleep = nodes of the pool
              what is awake, or wakes in time, carries the burst;   every inflow of the tree within its limit

Spreading work over slow nodes, or packing it on few fast ones with the rest asleep, is not a rule but what comes
out: slow clocks save energy above waiting, sleep saves the waiting. `compare` says what each rule would draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError
from ..core.units import show
from ..frontier.algebra import Frontier
from ..hardware.power_tree import PowerTree
from .program import NODES, InfeasibleError, Program

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Equal nodes at one part of the tree: W of one while idle and asleep (None: cannot sleep), s it takes to wake."""

    name: str
    at: str
    nodes: int
    idle: float
    asleep: float | None = None
    wake: float = 0.0

    def __post_init__(self) -> None:
        if self.nodes < 0 or self.idle < 0 or self.wake < 0 or (self.asleep is not None and self.asleep < 0):
            raise InputError(f"pool {self.name}: nodes, watts and seconds must be 0 or more")
        if self.asleep is not None and self.asleep > self.idle:
            raise InputError(
                f"pool {self.name}: a sleeping node may draw no more than an idle one, "
                f"got {show(self.asleep, 'W')} and {show(self.idle, 'W')}"
            )


@dataclass(frozen=True, eq=False)
class Work:
    """A job that may run on several pools.

    Attributes
    ----------
    on : pool name -> frontier of one unit of work on one gang there.
    gang : pool name -> nodes of a gang; 1 where left out.
    need : units of work a second due. burst : share by which the need may jump, to be carried after `within` s.
    most : units a second that there are; more is worth nothing.
    """

    name: str
    on: Mapping[str, Frontier]
    need: float = 0.0
    weight: float = 1.0
    gang: Mapping[str, int] = field(default_factory=dict)
    burst: float = 0.0
    within: float = 0.0
    most: float = np.inf


@dataclass(frozen=True, eq=False)
class Placement:
    """How many gangs of each job run where and at which point, and what the other nodes do.

    Attributes
    ----------
    gangs : (job, pool, point of its frontier) -> gangs, only where there are some.
    idle, asleep : pool -> nodes. work : job -> units a second. power, bound : W at the feed, and the least provable
        (most work: weighted work and its bound). flows : (rows,) W through every constraint of the tree.
    nodes : of the search; it ends at its gap or after so many, never by the clock.
    """

    gangs: Mapping[tuple[str, str, int], int]
    idle: Mapping[str, int]
    asleep: Mapping[str, int]
    work: Mapping[str, float]
    value: float
    power: float
    objective: float
    bound: float
    flows: Array
    nodes: int = 0

    @property
    def gap(self) -> float:
        """Relative distance from the bound."""
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-12)


def place(
    tree: PowerTree, pools: Sequence[Pool], jobs: Sequence[Work], *, most_work: bool = False, sleep: bool = True,
    fastest: bool = False, gap: float = 1e-4, nodes: int = NODES,
) -> Placement:  # fmt: skip
    """Return the placement of least power that does what is needed, or of most weighted work.

    `sleep=False` keeps every node awake; `fastest=True` uses each frontier's fastest point alone.

    Raises
    ------
    GoalError : what is needed does not fit; the message says which pools or limits are in the way.
    """
    built = _Built(tree, pools, jobs, most_work, sleep, fastest)
    try:
        return built.read(built.program.minimise(gap=gap, nodes=nodes))
    except InfeasibleError:
        raise GoalError(built.why()) from None


def compare(tree: PowerTree, pools: Sequence[Pool], jobs: Sequence[Work], **more: Any) -> dict[str, Placement]:
    """Return the best placement, and the best that never sleeps ("spread") or never slows down ("packed")."""
    return {
        "best": place(tree, pools, jobs, **more),
        "spread": place(tree, pools, jobs, sleep=False, **more),
        "packed": place(tree, pools, jobs, fastest=True, **more),
    }


class _Built:
    """The program of a placement, and how its answer is read."""

    def __init__(
        self, tree: PowerTree, pools: Sequence[Pool], jobs: Sequence[Work], most_work: bool, sleep: bool, fastest: bool
    ) -> None:
        self.tree, self.pools, self.jobs, self.most_work = tree, pools, jobs, most_work
        self.where = {pool.name: p for p, pool in enumerate(pools)}
        self._ways(fastest)
        none = tree.row_flows(np.zeros(len(tree)))
        unit = np.zeros((len(pools), len(tree)))
        unit[np.arange(len(pools)), [tree.index(pool.at) for pool in pools]] = 1.0
        self.none, self.per = none, tree.row_per_watt(unit)  # (pools, rows) W per W in a pool
        at_feed = self.per[:, tree.root]
        self.program = Program()
        value = self.weight[self.job] * self.rate
        self.n = self.program.variables(
            len(self.job), whole=True, high=self.room, cost=-value if most_work else at_feed[self.pool] * self.power
        )
        free = 0.0 if most_work else 1.0
        count = np.array([float(pool.nodes) for pool in pools])
        idle = np.array([pool.idle for pool in pools])
        self.asleep_w = np.array([pool.idle if pool.asleep is None else pool.asleep for pool in pools])
        naps = np.array([0.0 if pool.asleep is None or not sleep else pool.nodes for pool in pools])
        self.idle = self.program.variables(len(pools), whole=True, high=count, cost=free * at_feed * idle)
        self.asleep = self.program.variables(len(pools), whole=True, high=naps, cost=free * at_feed * self.asleep_w)
        every = self.program.constraints(len(pools), least=count, most=count)
        self.program.add(every[self.pool], self.n, self.nodes)
        self.program.add(every, self.idle, 1.0)
        self.program.add(every, self.asleep, 1.0)
        self._limits(idle)
        self._needs()
        self._bursts()

    def _ways(self, fastest: bool) -> None:
        """Every (job, pool, point) as flat tables."""
        rows: list[tuple[int, int, int, float, float, int]] = []
        for j, job in enumerate(self.jobs):
            for name, frontier in job.on.items():
                if name not in self.where:
                    raise InputError(
                        f"job {job.name} may run on {name!r}, which is no pool; pools: {', '.join(self.where)}"
                    )
                gang = job.gang.get(name, 1)
                for k in range(1 if fastest else len(frontier)):
                    watts = float(frontier.average_power[k])
                    rows.append((j, self.where[name], k, watts, 1.0 / float(frontier.time[k]), gang))
        self.job, self.pool, self.point, self.nodes = (np.array([r[c] for r in rows], np.int64) for c in (0, 1, 2, 5))
        self.power, self.rate = (np.array([r[c] for r in rows], float) for c in (3, 4))
        self.weight = np.array([job.weight for job in self.jobs])
        self.room = np.array([self.pools[p].nodes // g for p, g in zip(self.pool, self.nodes, strict=True)], float)

    def _limits(self, idle: Array) -> None:
        finite = np.flatnonzero(np.isfinite(self.tree.row_limit))
        rows = self.program.constraints(len(finite), most=(self.tree.row_limit - self.none)[finite])
        through = self.per[:, finite]  # (pools, rows)
        self.program.add(rows[None, :], self.n[:, None], through[self.pool] * self.power[:, None])
        self.program.add(rows[None, :], self.idle[:, None], through * idle[:, None])
        self.program.add(rows[None, :], self.asleep[:, None], through * self.asleep_w[:, None])

    def _needs(self) -> None:
        need = np.array([job.need for job in self.jobs])
        rows = self.program.constraints(len(self.jobs), least=need * (1 - 1e-9))
        self.program.add(rows[self.job], self.n, self.rate)
        capped = np.array([job.most for job in self.jobs])
        if self.most_work and np.isfinite(capped).any():
            # Work beyond what there is earns nothing: what is done in excess is paid back.
            spare = self.program.variables(len(self.jobs), cost=self.weight)
            rows = self.program.constraints(len(self.jobs), most=capped)
            self.program.add(rows[self.job], self.n, self.rate)
            self.program.add(rows, spare, -1.0)

    def _bursts(self) -> None:
        """Nodes kept for a burst: running gangs at full clock, idle ones, and sleepers that wake in time."""
        top: dict[tuple[int, int], float] = {}
        for j, p, r in zip(self.job, self.pool, self.rate, strict=True):
            top[int(j), int(p)] = max(top.get((int(j), int(p)), 0.0), float(r))
        kept: list[tuple[int, int, int]] = []
        for j, p in top:
            job, pool = self.jobs[j], self.pools[p]
            if job.burst <= 0:
                continue
            gang = job.gang.get(pool.name, 1)
            kept.append((j, p, int(self.program.variables(1, whole=True, high=float(pool.nodes // gang))[0])))
        bursting = sorted({j for j, _, _ in kept})
        rows = self.program.constraints(
            len(bursting), least=np.array([(1 + self.jobs[j].burst) * self.jobs[j].need for j in bursting])
        )
        row = dict(zip(bursting, rows, strict=True))
        for i, (j, p) in enumerate(zip(self.job, self.pool, strict=True)):
            if int(j) in row:
                self.program.add(row[int(j)], self.n[i], top[int(j), int(p)])
        for j, p, column in kept:
            self.program.add(row[j], column, top[j, p])
        for p, pool in enumerate(self.pools):
            mine = [(j, column) for j, q, column in kept if q == p]
            if not mine:
                continue
            # A node is kept for one job; who cannot wait counts on idle nodes only.
            for quick in (False, True):
                some = [(j, c) for j, c in mine if not quick or self.jobs[j].within < pool.wake]
                limit = self.program.constraints(1, most=0.0)[0]
                for j, column in some:
                    self.program.add(limit, column, float(self.jobs[j].gang.get(pool.name, 1)))
                self.program.add(limit, self.idle[p], -1.0)
                if not quick:
                    self.program.add(limit, self.asleep[p], -1.0)

    def read(self, solved: Any) -> Placement:
        """Return the placement of a solution."""
        n = np.round(solved.x[self.n]).astype(int)
        idle, asleep = (np.round(solved.x[columns]).astype(int) for columns in (self.idle, self.asleep))
        watts = np.bincount(self.pool, weights=n * self.power, minlength=len(self.pools))
        watts += idle * np.array([pool.idle for pool in self.pools]) + asleep * self.asleep_w
        flows = self.none + watts @ self.per
        done = np.bincount(self.job, weights=n * self.rate, minlength=len(self.jobs))
        useful = np.minimum(done, [job.most for job in self.jobs])
        value, power = float(self.weight @ useful), float(flows[self.tree.root])
        fixed = float(self.none[self.tree.root])
        return Placement(
            gangs={
                (self.jobs[self.job[i]].name, self.pools[self.pool[i]].name, int(self.point[i])): int(n[i])
                for i in np.flatnonzero(n)
            },
            idle={pool.name: int(k) for pool, k in zip(self.pools, idle, strict=True)},
            asleep={pool.name: int(k) for pool, k in zip(self.pools, asleep, strict=True)},
            work={job.name: float(w) for job, w in zip(self.jobs, done, strict=True)},
            value=value,
            power=power,
            objective=value if self.most_work else power,
            bound=-solved.tree_bound if self.most_work else solved.tree_bound + fixed,
            nodes=solved.nodes,
            flows=flows,
        )

    def why(self) -> str:
        """Return what is in the way of what is needed."""
        idle = np.array([pool.nodes * self.asleep_w[p] for p, pool in enumerate(self.pools)])
        over = np.flatnonzero(self.none + idle @ self.per > self.tree.row_limit * (1 + 1e-9))
        if over.size:
            r = int(over[0])
            return (
                f"{self.tree.row_names[r]} may take {show(float(self.tree.row_limit[r]), 'W')} and its nodes draw "
                f"{show(float((self.none + idle @ self.per)[r]), 'W')} with nothing running; raise it or move nodes"
            )
        for j, job in enumerate(self.jobs):
            mine = self.job == j
            most = float(np.sum([
                (self.room[mine & (self.pool == p)] * self.rate[mine & (self.pool == p)]).max(initial=0.0)
                for p in range(len(self.pools))
            ]))  # fmt: skip
            if most < (1 + job.burst) * job.need:
                return (
                    f"job {job.name} needs {(1 + job.burst) * job.need:,.4g} a second with its burst, and all nodes it "
                    f"may run on do {most:,.4g}; add nodes, or let it run on other pools"
                )
        return (
            "what the jobs need together does not fit: each would alone, so nodes or power limits are short; "
            "ask for less, add nodes, or raise a limit"
        )
