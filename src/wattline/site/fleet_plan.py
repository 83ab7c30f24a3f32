"""What a plan of a fleet's power says, and what planning asks of the fleet it is made for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from ..hardware.power_tree import PowerTree
from .curves import Array, Ints, Points

Reading = Literal["hull", "discrete"]


@dataclass(frozen=True, eq=False)
class FleetPlan:
    """What every job gets, and what power is worth at every part of the tree.

    Attributes
    ----------
    power, work : (jobs,) W at the job's place and units of work a second.
    low, high : (jobs,) points of its frontier between which its time is divided, -1 for the pause; equal in the
        discrete reading. share : (jobs,) of its time spent at `high`.
    load : (parts,) W the jobs draw at each part of the tree.
    flows, headroom, price : (rows,) W through each constraint of the tree (`tree.row_names`), W left, and what one watt
        less would cost there: value a second, or watts at the feed where least power is asked for; 0 where none.
    value : sum of weight * work. bound : what no plan exceeds (most work), or goes below (least power, W at the feed).
    """

    tree: PowerTree
    names: tuple[str, ...]
    reading: Reading
    goal: Literal["most work", "least power"]
    power: Array
    work: Array
    low: Ints
    high: Ints
    share: Array
    load: Array
    price: Array
    value: float
    bound: float

    @cached_property
    def flows(self) -> Array:
        """(rows,) W through each constraint."""
        return self.tree.row_flows(self.load)

    @property
    def headroom(self) -> Array:
        """(rows,) W left under each constraint."""
        return self.tree.row_limit - self.flows

    @property
    def feed(self) -> float:
        """W drawn by the whole site."""
        return float(self.flows[self.tree.root])

    @property
    def gap(self) -> float:
        """Relative distance from the bound; no plan can be better by more."""
        if self.goal == "least power":
            return self.feed / self.bound - 1.0 if self.bound > 0 else 0.0
        return 1.0 - self.value / self.bound if self.bound > 0 else 0.0

    def binding(self) -> list[tuple[str, float]]:
        """Return the constraints that cost something and their prices, dearest first."""
        dear = np.flatnonzero(self.price > 0)
        return [(self.tree.row_names[r], float(self.price[r])) for r in dear[np.argsort(-self.price[dear])]]


class Planned(Protocol):
    """A fleet as far as planning is concerned: its jobs on their tree, and how to say what cannot be."""

    tree: PowerTree
    names: tuple[str, ...]
    points: Points

    @property
    def place(self) -> Ints: ...
    @property
    def spread(self) -> list[tuple[int, Ints, Array]]: ...
    def load(self, power: Array) -> Array: ...
    def _room(self, least: Array) -> Array: ...
    def _too_little(self, filled: FleetPlan, target: float) -> str: ...
