"""What a plan over time says: what every task does in every period, what that costs, and how near the best it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..hardware.power_tree import PowerTree
from .curves import Curves, Points
from .equipment import Equipment
from .tasks import Conditions, Goal, Task

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HorizonPlan:
    """What every task does in every period.

    Attributes
    ----------
    power, work : (tasks, n) W at the job's place and units of work done in the period. on : (tasks, n).
    flows : (n, rows) W through every constraint, the feed's being what the site uses. grid : (n,) W bought less W sold;
        the feed's flow where there is no equipment of its own.
    price : (n, rows) objective per watt and period more; with pauses that cost, those of the pauses decided.
    objective, bound : of the goal; the bound is proved by prices, whatever the solver says of itself.
    energy_j : at the feed. carbon_g, cost_usd : of what is bought, None where no rate is given.
    done : task -> units of work done while they count. short : task -> units left undone, empty where all is done.
    nodes, tree_bound : of the search for pauses that cost, 0 nodes where none was needed; what its tree proved.
    bill : what the cost is made of, by name. equipment : name -> (n,) W series of storage, sources and services.
    off : (tasks, n) True where a part without power (limit 0) switches a job off.
    """

    tree: PowerTree
    names: tuple[str, ...]
    edges: Array
    power: Array
    work: Array
    on: NDArray[np.bool_]
    flows: Array
    grid: Array
    limits: Array
    price: Array
    objective: float
    bound: float
    energy_j: float
    carbon_g: float | None
    cost_usd: float | None
    done: dict[str, float] = field(default_factory=dict)
    short: dict[str, float] = field(default_factory=dict)
    nodes: int = 0
    tree_bound: float | None = None
    bill: dict[str, float] = field(default_factory=dict)
    equipment: dict[str, Array] = field(default_factory=dict)
    off: NDArray[np.bool_] | None = None

    @property
    def feed(self) -> Array:
        """(n,) W that the site uses."""
        return self.flows[:, self.tree.root]

    @property
    def pue(self) -> Array:
        """(n,) W that the site uses over W of the jobs, NaN while no job draws anything."""
        jobs = self.power.sum(axis=0)
        return np.asarray(np.divide(self.feed, jobs, out=np.full(len(jobs), np.nan), where=jobs > 0))

    @property
    def gap(self) -> float:
        """Relative distance from what no plan can beat."""
        return abs(self.objective - self.bound) / max(abs(self.objective), abs(self.bound), 1e-300)

    @property
    def search_gap(self) -> float:
        """Relative distance from what the tree of the search proved; `gap` where there was no search."""
        if self.tree_bound is None:
            return self.gap
        return abs(self.objective - self.tree_bound) / max(abs(self.objective), abs(self.tree_bound), 1e-300)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(tasks,) times each was resumed."""
        return np.asarray((np.diff(self.on.astype(int), axis=1) > 0).sum(axis=1))


class Span(Protocol):
    """What a program asks of the horizon it is made for.

    paid, owing : (tasks,) pauses cost something; something is due. open, runs, off : (tasks, n) work counts; it may
    run; its part has no power. rest : (tasks, n) W while it does not run. trees, response : per period, see `Horizon`.
    """

    tree: PowerTree
    tasks: tuple[Task, ...]
    conditions: Conditions
    points: Points
    curves: Curves
    paid: Flags
    owing: Flags
    open: Flags
    runs: Flags
    rest: Array
    equipment: Equipment

    @property
    def trees(self) -> Sequence[PowerTree]:
        """The tree of each period."""

    @property
    def dark(self) -> Flags:
        """(n, parts) True where a part has no power."""

    @property
    def places(self) -> tuple[NDArray[np.int64], Array]:
        """(tasks,) the place of each job, and (places, parts) W at every part per watt there."""

    @property
    def response(self) -> Sequence[tuple[Array, Array]]:
        """Per period: (rows,) W with no job, and (places, rows) W through every constraint per watt of one."""

    def by_place(self, power: Array) -> Array:
        """Return (places, n) W of (tasks, n) W of the jobs."""

    def flows(self, power: Array) -> Array:
        """Return (n, rows) W through every constraint for (tasks, n) W of the jobs."""

    def made(
        self, power: Array, work: Array, on: Flags, goal: Goal, price: Array | None = None, bound: float | None = None
    ) -> HorizonPlan:
        """Return the plan of given powers and work, with its totals."""
