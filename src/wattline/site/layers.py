"""A megawatt less: which layer gives it up cheapest, in what order, and what work each watt costs.

A job stands at one setting. Its measures are other ways to do the same work: a slower clock, another batch,
another precision, fewer nodes at higher clocks, another chip, the work put off. Each is a set of points
(watts, work a second); seen from where the job stands, a point gives up ``d = p0 - p`` watts and loses
``l = r0 - r`` of work. The lower convex hull of (d, l) from the origin is the cheapest way down for that job,
and all jobs' pieces sorted by price, work lost per watt, are the cheapest way down for the site: powers only
fall, so no limit of the tree that held before is broken. A negative price is a measure that gains work too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError, nearest
from ..core.units import show
from ..frontier.algebra import Frontier
from ..frontier.pruning import hull_index

Array = NDArray[np.float64]

LAYERS: Final = ("clock", "batch", "precision", "placement", "time-shift", "load", "chip")


@dataclass(frozen=True, eq=False)
class Measure:
    """Other ways for a job to do its work: (n,) W and units of work a second, and the layer they belong to.

    `along`: the layer of a move from one of its points to the next.
    """

    layer: str
    power: Array
    work: Array
    name: str = ""
    along: str = "clock"

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise InputError(f"layer {self.layer!r} is not known; {nearest(self.layer, LAYERS)}")
        if self.power.shape != self.work.shape:
            raise InputError(f"a measure needs as many watts as works, got {self.power.shape} and {self.work.shape}")

    @staticmethod
    def of(layer: str, frontier: Frontier, name: str = "", *, most: float = np.inf) -> Measure:
        """Return the points of a frontier of one unit of work; `most`: units of work a second that there are."""
        rate = np.minimum(1.0 / frontier.time, most)
        return Measure(layer, frontier.waiting_power + frontier.energy * rate, rate, name)

    @staticmethod
    def later(work: float, paused: float, lasts: float, slack: float, resume: float = 0.0) -> Measure:
        """Return the pause of a job for `lasts` seconds whose deadline leaves `slack` seconds to make up.

        What fits into the slack is put off and not lost; the rest, and `resume` seconds to come back, are.
        """
        kept = max(0.0, min(lasts, slack) - resume) / lasts
        return Measure("time-shift", np.array([paused]), np.array([work * kept]), "paused")


@dataclass(frozen=True, eq=False)
class Standing:
    """A job where it stands: W at its place, units of work a second, value of one, and W at the feed per watt."""

    name: str
    power: float
    work: float
    measures: tuple[Measure, ...]
    weight: float = 1.0
    gain: float = 1.0


@dataclass(frozen=True)
class Step:
    """One measure on the way down: what it gives up at the feed (W), what value a second it loses, per watt too."""

    job: str
    layer: str
    name: str
    power: float
    lost: float

    @property
    def price(self) -> float:
        """Value a second lost per watt at the feed."""
        return self.lost / self.power


@dataclass(frozen=True, eq=False)
class PriceCurve:
    """The cheapest way down: steps in order of price."""

    steps: tuple[Step, ...]

    @cached_property
    def power(self) -> Array:
        """(n + 1,) W given up after each step, from 0."""
        return np.concatenate([[0.0], np.cumsum([s.power for s in self.steps])])

    @cached_property
    def lost(self) -> Array:
        """(n + 1,) value a second lost after each step, from 0."""
        return np.concatenate([[0.0], np.cumsum([s.lost for s in self.steps])])

    def at(self, watts: float) -> float:
        """Return the value a second that giving up `watts` costs."""
        if not 0 <= watts <= self.power[-1] * (1 + 1e-12):
            raise GoalError(f"{show(watts, 'W')} cannot be given up; all measures together give {self._all}")
        return float(np.interp(watts, self.power, self.lost))

    def give(self, watts: float) -> list[Step]:
        """Return the steps, the last perhaps in part, that give up `watts`, cheapest first."""
        self.at(watts)
        out, left = [], watts
        for step in self.steps:
            if left <= 1e-12 * watts:
                break
            share = min(1.0, left / step.power)
            out.append(Step(step.job, step.layer, step.name, share * step.power, share * step.lost))
            left -= step.power
        return out

    @property
    def _all(self) -> str:
        return show(float(self.power[-1]), "W")


def price_curve(jobs: Iterable[Standing], layers: Sequence[str] = LAYERS) -> PriceCurve:
    """Return the cheapest way down by measures of some layers: pieces of every job's hull, in order of price."""
    steps = [step for job in jobs for step in _way_down(job, layers)]
    return PriceCurve(tuple(sorted(steps, key=lambda step: step.price)))


def by_layer(jobs: Sequence[Standing]) -> dict[str, PriceCurve]:
    """Return the way down of each layer used alone, those that can give anything."""
    alone = {layer: price_curve(jobs, (layer,)) for layer in LAYERS}
    return {layer: curve for layer, curve in alone.items() if curve.steps}


def shares(steps: Iterable[Step]) -> Mapping[str, tuple[float, float]]:
    """Return layer -> (W given up, value lost) of some steps, in the order in which the layers come in."""
    out: dict[str, tuple[float, float]] = {}
    for step in steps:
        power, lost = out.get(step.layer, (0.0, 0.0))
        out[step.layer] = (power + step.power, lost + step.lost)
    return out


def _way_down(job: Standing, layers: Sequence[str]) -> list[Step]:
    """Return the pieces of one job's hull of (watts given up, work lost)."""
    used = [m for m in job.measures if m.layer in layers]
    given = np.concatenate([[0.0], *(job.power - m.power for m in used)])
    lost = np.concatenate([[0.0], *(job.work - m.work for m in used)])
    which = np.concatenate([[-1], *(np.full(m.power.size, k) for k, m in enumerate(used))]).astype(int)
    # Only what gives power up; the least that is worth a name.
    keep = np.flatnonzero((given > 1e-9 * max(job.power, 1e-300)) | (which < 0))
    order = keep[np.lexsort((lost[keep], given[keep]))]
    order = order[np.append(True, np.diff(given[order]) > 0)]
    hull = order[hull_index(given[order], lost[order])]
    steps = []
    for a, b in pairwise(hull):
        at, to = which[a], which[b]
        measure = used[to]
        layer = measure.along if at == to else measure.layer
        power, work = float(given[b] - given[a]) * job.gain, float(lost[b] - lost[a]) * job.weight
        steps.append(Step(job.name, layer, "" if at == to else measure.name, power, work))
    return steps
