"""Designs compared: which are worth keeping, which one is chosen, and what one change of it would do.

A design is one value for each thing that may vary. To a mix of works it is three numbers:

    energy   sum of weight x energy / energy on the unchanged chip   (weights sum to one)
    time     the same of machine time: a run's duration, or a replica's seconds per token
    area     square metres of die

and, where the chip's making is priced (`hardware.manufacture`) and the site says what a joule costs or emits, two more:

    cost, carbon   electricity and the chips written off over their life, relative to the unchanged chip

So with weights that are shares of a site's energy today, `energy` is what the site would take, as a share of today.

Laws: a design with nothing changed is (1, 1, its area); more choices never worsen the frontier; a wider budget never
worsens the chosen design; the frontier does not depend on the order of designs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError
from ..frontier.answer import Answer, Array
from ..hardware.manufacture import Made

# What the chosen design may have least of.
LEAST: Final = ("energy", "time", "edp", "area", "cost", "carbon")


@dataclass(frozen=True)
class Designs:
    """n designs that keep the budgets and have an answer, by what they cost the mix.

    Attributes
    ----------
    choice : (n, axes) index of the option taken on each axis; -1 for the unchanged chip's own value.
    energy, time : (n,) of the mix, relative to the unchanged chip. area : (n,) m2; zeros where no chip states one.
    rows : the figures of every work, by design.
    owned : "cost", "carbon" -> (n,) of the mix with the chips it takes, relative to the unchanged chip, where known.
    least : what is chosen by; one of `owned` joins the three costs of the frontier.
    """

    choice: NDArray[np.int64]
    energy: Array
    time: Array
    area: Array
    rows: tuple[Mapping[str, Any], ...]
    owned: Mapping[str, Array] = field(default_factory=dict)
    least: str = "energy"

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def costs(self) -> Array:
        """(n, 3) energy, time and area; (n, 4) with cost or carbon where the least of that is asked for."""
        own = [self.owned[self.least]] if self.least in self.owned else []
        return np.stack([self.energy, self.time, self.area, *own], axis=1)


def mixed(weights: Array, new: Array, old: Array) -> float:
    """Return the weighted mean of ratios: what the mix takes now, as a share of what it took."""
    return float(np.sum(weights * new / old) / np.sum(weights))


def undominated(costs: Array) -> NDArray[np.intp]:
    """Return the rows of `costs` (n, k) that no other row is at most in every column of; of equal rows the first.

    >>> undominated(np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0]])).tolist()
    [0, 1]
    """
    order = np.lexsort((np.arange(len(costs)), *costs.T[::-1]))
    kept = np.empty_like(costs)
    found: list[int] = []
    for row in order:  # whatever dominates a row stands before it
        if not np.any(np.all(kept[: len(found)] <= costs[row], axis=1)):
            kept[len(found)] = costs[row]
            found.append(int(row))
    return np.sort(np.array(found, dtype=np.intp))


def choose(designs: Designs, least: str, slowdown: float) -> int:
    """Return the design with least of `least` among those at most `slowdown` slower than the unchanged chip.

    Of equal ones the one with less energy, then time, then area, then the earlier options.
    """
    ok = np.flatnonzero(designs.time <= (1.0 + slowdown) * (1 + 1e-9))
    if not ok.size:
        best = float(designs.time.min())
        raise GoalError(
            f"design.max_slowdown = {100 * slowdown:.4g} % cannot be met: the fastest design within the budgets takes "
            f"{100 * (best - 1):.4g} % more time than the unchanged chip; allow more, or vary something that saves time"
        )
    costs = {
        "energy": designs.energy,
        "time": designs.time,
        "edp": designs.energy * designs.time,
        "area": designs.area,
        **designs.owned,
    }[least]
    keys = (*designs.choice.T[::-1], designs.area, designs.time, designs.energy, costs)
    return int(ok[np.lexsort(tuple(np.round(k[ok], 12) for k in keys))[0]])


@dataclass(frozen=True)
class Step:
    """One change of the chosen design: the next option of one axis.

    `energy`, `time` : relative change of the mix's; `area` : change in m2; None where the design has no answer.
    `verdict` : why it was not taken, in words.
    """

    axis: str
    option: str
    energy: float | None
    time: float | None
    area: float | None
    verdict: str
    owned: Mapping[str, float] = field(default_factory=dict)  # relative change of cost and carbon, where known


@dataclass(frozen=True)
class WorkAnswer:
    """One work of the mix, planned exactly on the unchanged chip and on the chosen design."""

    name: str
    weight: float
    unchanged: Answer
    chosen: Answer

    @property
    def energy(self) -> float:
        """Energy on the chosen design over that on the unchanged chip."""
        return self.chosen.chosen.energy_j / self.unchanged.chosen.energy_j


@dataclass(frozen=True)
class DesignAnswer:
    """The answer to a study of designs.

    Attributes
    ----------
    axes : what varies -> its options in words. designs : all that keep the budgets; `frontier` indexes those that
        none beats in energy, time and area, cheapest energy first. chosen : index.
    counted : designs "possible", "evaluated", over "area", over "power", "without an answer".
    unchanged : energy, time (1, 1) and area of the unchanged chip.
    steps : one change of the chosen design each. elasticity : of the mix's energy on the chosen design.
    site : figures of the whole site for a year, where its energy is stated: name -> (today, with the chosen design).
    exact : energy and time of the chosen design from exact plans of every work.
    """

    title: str
    goal: str
    axes: Mapping[str, Sequence[str]]
    designs: Designs
    frontier: NDArray[np.intp]
    chosen: int
    counted: Mapping[str, int]
    unchanged: tuple[float, float, float]
    steps: tuple[Step, ...]
    elasticity: Mapping[str, float]
    works: tuple[WorkAnswer, ...]
    site: Mapping[str, tuple[float, float]]
    exact: tuple[float, float]
    method: str
    seconds: float
    assumptions: tuple[str, ...] = ()
    making: Mapping[str, Made] = field(default_factory=dict)  # "unchanged", "chosen" -> what a chip costs to make

    def options(self, design: int) -> dict[str, str]:
        """Return axis -> option of a design, only those that are changed from the unchanged chip."""
        choice = self.designs.choice[design]
        return {axis: self.axes[axis][c] for axis, c in zip(self.axes, choice, strict=True) if c >= 0}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        return {
            "kind": "design",
            "title": self.title,
            "goal": self.goal,
            "axes": {axis: list(options) for axis, options in self.axes.items()},
            "designs": dict(self.counted),
            "frontier": [self._point(int(i)) for i in self.frontier],
            "chosen": {**self._point(self.chosen), "exact": {"energy": self.exact[0], "time": self.exact[1]}},
            "unchanged": dict(zip(("energy", "time", "area_m2"), self.unchanged, strict=True)),
            "savings": {"energy": 1.0 - self.exact[0], "time": 1.0 - self.exact[1]},
            "steps": [
                {
                    "axis": s.axis, "option": s.option, "energy": s.energy, "time": s.time, "area_m2": s.area,
                    "verdict": s.verdict, **s.owned,
                }
                for s in self.steps
            ],
            "elasticity": dict(self.elasticity),
            "works": [
                {
                    "name": w.name, "weight": w.weight, "energy": w.energy,
                    "unchanged": w.unchanged.to_dict()["chosen"], "chosen": w.chosen.to_dict()["chosen"],
                    "uncertainty": {"energy": w.chosen.uncertainty, "time": w.chosen.time_uncertainty},
                    "provenance": w.chosen.provenance,
                }
                for w in self.works
            ],
            "site": {name: {"today": a, "chosen": b} for name, (a, b) in self.site.items()},
            "making": {name: made.to_dict() for name, made in self.making.items()},
            "method": self.method,
            "seconds": self.seconds,
            "assumptions": list(self.assumptions),
        }  # fmt: skip

    def expected(self) -> dict[str, Any]:
        """Return what an example's file holds of the answer: figures that a change of the models would move."""
        return {
            "goal": self.goal,
            "designs": dict(self.counted),
            "frontier": [
                {"energy": float(self.designs.energy[i]), "time": float(self.designs.time[i])} for i in self.frontier
            ],
            "chosen": self.options(self.chosen),
            "exact": {"energy": self.exact[0], "time": self.exact[1]},
            "works": {
                w.name: {"unchanged_j": w.unchanged.chosen.energy_j, "chosen_j": w.chosen.chosen.energy_j}
                for w in self.works
            },
        }

    def _point(self, i: int) -> dict[str, Any]:
        d = self.designs
        return {
            "energy": float(d.energy[i]),
            "time": float(d.time[i]),
            "area_m2": float(d.area[i]),
            **{name: float(values[i]) for name, values in d.owned.items()},
            "changes": self.options(i),
            "works": dict(d.rows[i]),
        }
