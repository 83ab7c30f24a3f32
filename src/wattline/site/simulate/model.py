"""What a site is to be played as: crews of nodes on a power tree, their physics, and limits over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from ...frontier.algebra import Frontier
from ...hardware.power_tree import PowerTree
from ..curves import Curves, Job, Points
from .breaker import CURVES, TripCurve

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Crew:
    """Equal nodes of one job.

    Attributes
    ----------
    frontier : of one node: seconds and joules above waiting of one second's work at full speed.
    at : part of the tree and how many nodes there. weight : value of a node at full speed. gangs : the nodes go at
        one pace in so many gangs (training); 0: each alone. minimum : share of full speed that plans owe it.
    paused : W of a paused node; None where it may not pause.
    load, swing : share of full speed that is asked for, and its relative swing over a day.
    arrivals, stay : tasks a second for the whole crew, and their mean seconds at full speed; no arrivals: always at
        work.
    tasks : instead of arrivals, (tasks,) s when each comes and its seconds at full speed, of a trace.
    quiet, lasts : the quiet phase takes this share of the power above idle; mean seconds of the loud and the quiet
        phase.
    """

    name: str
    frontier: Frontier
    at: Sequence[tuple[str, int]]
    weight: float = 1.0
    gangs: int = 0
    minimum: float = 0.0
    paused: float | None = None
    load: float = 1.0
    swing: float = 0.0
    arrivals: float = 0.0
    stay: float = 0.0
    tasks: tuple[Array, Array] | None = None
    quiet: float = 1.0
    lasts: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.at or any(count < 1 for _, count in self.at):
            raise InputError(f"crew {self.name}: it needs nodes at one part or more, got {list(self.at)}")
        if not 0 <= self.load <= 1 or not 0 <= self.swing <= 1 or not 0 < self.quiet <= 1:
            raise InputError(f"crew {self.name}: load and swing must lie in 0 to 1 and quiet above 0, up to 1")
        if (self.arrivals > 0) != (self.stay > 0):
            raise InputError(
                f"crew {self.name}: arrivals and stay are due together, got {self.arrivals} and {self.stay}"
            )
        if self.tasks is not None and (
            self.arrivals or len(self.tasks[0]) != len(self.tasks[1]) or not len(self.tasks[0])
        ):
            raise InputError(f"crew {self.name}: tasks of a trace take the place of arrivals, one time and length each")
        if not 0 <= self.gangs <= self.count or (self.gangs and (self.tasked or self.load < 1)):
            raise InputError(f"crew {self.name}: at most one gang a node, and gangs are always at full load")
        if self.lasts is not None and min(self.lasts) <= 0:
            raise InputError(f"crew {self.name}: phases must last longer than 0 s, got {self.lasts}")

    @property
    def tasked(self) -> bool:
        """Whether its nodes wait for tasks."""
        return self.arrivals > 0 or self.tasks is not None

    @property
    def count(self) -> int:
        """Nodes."""
        return sum(count for _, count in self.at)


@dataclass(frozen=True)
class Physics:
    """What nodes and the site do whatever the plan: seconds, kelvin, shares. Infinite means never.

    Attributes
    ----------
    step : s of a step. actuation : s from a controller's decision to the caps being in force.
    failing, repair, restart, rework : s between a node's failures and of its repair (means, exponential); s until a
        gang goes on with a spare; s of work that a task loses.
    slowing, slowed, pace : s between a node's slow spells and of one (means), and its speed then.
    breaker : inverse-time curve; its pickup is `margin` times each part's limit. reclose : s until a tripped part is
        on again.
    cooling : s, time constant of cooling. warming, rise : s, and K above the inlet at top power. supply : K. room : K
        that the inlet rises at the site's top power. hottest : K.
    """

    step: float = 1.0
    actuation: float = 1.0
    failing: float = math.inf
    repair: float = 6 * 3600.0
    restart: float = 600.0
    rework: float = 300.0
    slowing: float = math.inf
    slowed: float = 600.0
    pace: float = 0.8
    breaker: TripCurve = CURVES["extremely-inverse"]
    margin: float = 1.0
    reclose: float = 1800.0
    cooling: float = 300.0
    warming: float = 120.0
    rise: float = 40.0
    supply: float = 298.15
    room: float = 0.0
    hottest: float = 358.15

    def __post_init__(self) -> None:
        above = (
            self.step,
            self.failing,
            self.repair,
            self.slowing,
            self.slowed,
            self.margin,
            self.reclose,
            self.warming,
        )
        if not all(x > 0 for x in above) or not 0 < self.pace <= 1 or self.rise <= 0:
            raise InputError(
                "step, times between events, repair, reclose, warming, rise and margin must be > 0, pace up to 1"
            )
        if min(self.actuation, self.restart, self.rework, self.cooling, self.room) < 0:
            raise InputError("actuation, restart, rework, cooling and room must be 0 or more")


@dataclass(frozen=True)
class Limit:
    """A limit of one row of the tree for a time, known beforehand: W from `start` to `end`, announced at `told` (s)."""

    row: int
    watts: float
    start: float
    end: float
    told: float


@dataclass(frozen=True, eq=False)
class Site:
    """A power tree, crews on it, physics, and limits that change."""

    tree: PowerTree
    crews: tuple[Crew, ...]
    physics: Physics = field(default_factory=Physics)
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        if not self.crews:
            raise InputError("a site needs at least one crew of nodes")

    @cached_property
    def first(self) -> Ints:
        """(crews + 1,) where the nodes of each crew begin."""
        return np.concatenate([[0], np.cumsum([crew.count for crew in self.crews])]).astype(np.int64)

    @cached_property
    def group(self) -> Ints:
        """(nodes,) crew of each node."""
        return np.repeat(np.arange(len(self.crews)), np.diff(self.first))

    @cached_property
    def place(self) -> Ints:
        """(nodes,) part of the tree of each node."""
        parts = [np.repeat(self.tree.index(name), count) for crew in self.crews for name, count in crew.at]
        return np.concatenate(parts).astype(np.int64)

    @cached_property
    def gang(self) -> Ints:
        """(nodes,) gang of each node, -1 alone; the nodes of a gang follow one another."""
        out = np.full(int(self.first[-1]), -1, np.int64)
        made = 0
        for crew, begin in zip(self.crews, self.first, strict=False):
            for some in np.array_split(np.arange(crew.count), crew.gangs) if crew.gangs else ():
                out[begin + some] = made
                made += 1
        return out

    @cached_property
    def curves(self) -> Curves:
        """Envelopes of one node of each crew."""
        jobs = [
            Job(crew.name, crew.frontier, self.tree.names[self.tree.root], paused=crew.paused) for crew in self.crews
        ]
        return Curves.of(Points.of(jobs), discrete=False)

    @cached_property
    def top(self) -> Array:
        """(nodes,) W at full speed."""
        c = self.curves
        return np.asarray(c.power[c.begin + c.count - 1][self.group])

    @cached_property
    def floor(self) -> Array:
        """(nodes,) W below which no cap brings a node: paused, or at its slowest; at least what it draws idle."""
        return np.asarray(np.maximum(self.curves.power[self.curves.begin], self.idle_of_crew)[self.group])

    @cached_property
    def idle_of_crew(self) -> Array:
        """(crews,) W of a node without work."""
        return np.array([crew.frontier.waiting_power for crew in self.crews])

    def load(self, power: Array) -> Array:
        """Return the load at every part for the nodes' powers."""
        return np.asarray(np.bincount(self.place, weights=power, minlength=len(self.tree)), float)

    def limit(self, now: float, until: float) -> Array:
        """Return for every row the least limit of `now` to `until` (s), of those announced by now."""
        out = self.tree.row_limit.copy()
        for one in self.limits:
            if one.told <= now and one.start <= until and one.end > now:
                out[one.row] = min(out[one.row], one.watts)
        return out
