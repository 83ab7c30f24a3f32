"""What one percent of a constant is worth to a training job, for the same deadline.

Near the fastest plan the frontier is steep, and the price of a second there says little about a whole percent: a
percent more speed is not sold at the dearest second's price but at that of the seconds after it too. So the exact
optima at the deadline and a little beyond it are followed, with their settings, to the changed hardware: their times
and energies there are points of its frontier, and the least energy among their mixtures by the same deadline is what
the job would cost. A constant is changed in the direction that saves, which can always be done in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..frontier.algebra import Frontier
from ..frontier.graph import Dag, GraphFrontier
from ..frontier.path import longest_path
from ..frontier.pruning import hull_index, prune
from ..hardware.cluster import Cluster
from ..source import elasticity
from ..source.base import Array, Points, Source
from ..source.overhead import Overhead

Ints = NDArray[np.int64]
STEP: Final = elasticity.STEP
# How far beyond the deadline optima are followed, as shares of a step's worth of time: the steepest part first.
REACH: Final = (0.0, 0.004, 0.015, 0.04, 0.1, 0.2, 0.4, 0.7, 1.1, 1.8)


@dataclass(frozen=True)
class Mixture:
    """Settings of n pieces of work: `share` of each piece at point `fast` of its table, the rest at `slow`."""

    fast: Ints
    slow: Ints
    share: Array

    @staticmethod
    def of(entry: Ints, duration: Array, hulls: Sequence[tuple[Array, Ints]]) -> Mixture:
        """`entry`: (n,) place of each piece's hull, (times, rows of its table); `duration`: (n,) s in the optimum."""
        fast, slow, share = np.zeros(len(entry), np.int64), np.zeros(len(entry), np.int64), np.ones(len(entry))
        for e in np.unique(entry):
            mine = np.flatnonzero(entry == e)
            time, index = hulls[e]
            at = np.clip(np.searchsorted(time, duration[mine], side="right") - 1, 0, len(time) - 1)
            after = np.minimum(at + 1, len(time) - 1)
            width = time[after] - time[at]
            part = np.where(width > 0, (time[after] - duration[mine]) / np.where(width > 0, width, 1.0), 1.0)
            fast[mine], slow[mine], share[mine] = index[at], index[after], np.clip(part, 0.0, 1.0)
        return Mixture(fast, slow, share)

    def read(self, entry: Ints, table: Array) -> Array:
        """Return (n,) of each piece from `table` (entries, points)."""
        return self.share * table[entry, self.fast] + (1.0 - self.share) * table[entry, self.slow]


@dataclass(frozen=True)
class Optimum:
    """One exact optimum: how every computation, and every stage's step after them, is set."""

    nodes: Mixture
    steps: Mixture


@dataclass(frozen=True)
class Followed:
    """Optima of one iteration near a deadline.

    `nodes`, `steps`: (n,), (stages,) place of each computation's and step's table; `devices`: of one pipeline.
    """

    dag: Dag
    nodes: Ints
    steps: Ints
    devices: int
    optima: tuple[Optimum, ...]

    @staticmethod
    def near(
        dag: Dag, nodes: Ints, steps: Ints, devices: int, pipeline: GraphFrontier, whole: Frontier,
        frontiers: Sequence[Frontier], time: float,
    ) -> Followed:  # fmt: skip
        """Follow the optima of `whole` (the graph, then the steps) from `time` seconds on."""
        hulls = [_hull(f) for f in frontiers]
        first, last = float(whole.time[0]), float(whole.time[-1])
        optima = []
        for at in dict.fromkeys(min(max(time * (1.0 + STEP * r), first), last) for r in REACH):
            point = whole.by(at)
            in_graph = sum(c.time for c in point.plan if "graph" in c.knobs)
            slack = np.array([np.clip(point.time - in_graph, hulls[e][0][0], hulls[e][0][-1]) for e in steps])
            duration = pipeline.schedule(in_graph).duration
            optima.append(Optimum(Mixture.of(nodes, duration, hulls), Mixture.of(steps, slack, hulls)))
        return Followed(dag, nodes, steps, devices, tuple(optima))

    def frontier(self, points: Sequence[Points]) -> tuple[Array, Array]:
        """Return (k,) seconds and joules of one pipeline when the optima's settings run by other tables."""
        time, energy = np.array([p.time for p in points]), np.array([p.energy for p in points])
        waiting = points[0].waiting_power
        above = energy - waiting * time
        out = np.empty((2, len(self.optima)))
        for k, o in enumerate(self.optima):
            seconds = longest_path(self.dag, o.nodes.read(self.nodes, time))
            seconds += float(o.steps.read(self.steps, time).max())
            joules = o.nodes.read(self.nodes, above).sum() + o.steps.read(self.steps, above).sum()
            out[:, k] = seconds, joules + waiting * self.devices * seconds
        return out[0], out[1]


def _hull(frontier: Frontier) -> tuple[Array, Ints]:
    """Return the times of a frontier's hull and the rows of the table it was made from."""
    keep = hull_index(frontier.time, frontier.energy)
    return frontier.time[keep], np.asarray(frontier.indices)[keep]


def least(time: Array, energy: Array, deadline: float) -> float:
    """Return the least energy by a deadline among points and their mixtures; infinite if none is in time."""
    keep = prune(time, energy)
    if time[keep[0]] > deadline * (1 + 1e-12):
        return float("inf")
    keep = keep[hull_index(time[keep], energy[keep])]
    return float(np.interp(deadline, time[keep], energy[keep]))


@dataclass(frozen=True)
class Weighed:
    """What is weighed: optima followed, their tables asked anew, and from them facility joules by a deadline.

    `ask`: (cluster, source) -> tables at the same clocks; `groups`: devices that do as each pipeline device does;
    `deadline`: seconds of one iteration, infinite where time does not bind.
    """

    followed: Followed
    ask: Callable[[Cluster, Source], Sequence[Points]]
    groups: int
    deadline: float

    def energy(self, cluster: Cluster, points: Sequence[Points], *, scale: float = 1.0) -> float:
        """Return facility joules of `scale` iterations within one iteration's deadline."""
        time, energy = self.followed.frontier(points)
        total = Overhead.of(cluster).total(self.groups * energy, time)
        return scale * least(time, total, min(self.deadline / scale, float(time.max())))


def weigh(job: Weighed, cluster: Cluster, source: Source) -> dict[str, float]:
    """Return parameter -> d ln E / d ln parameter: constants of chip and node, the large ones first, then the job's."""
    points = job.ask(cluster, source)
    base = job.energy(cluster, points)
    out = elasticity.saving(cluster, source, lambda c, answers: job.energy(c, job.ask(c, answers)) / base - 1.0)
    out["site.pue"] = 1.0
    # Fewer tokens by the same deadline leave more time to each; a better goodput is fewer tokens done twice.
    out["train.tokens"] = (1.0 - job.energy(cluster, points, scale=1.0 - STEP) / base) / STEP
    return out | {"train.goodput": (job.energy(cluster, points, scale=1.0 / (1.0 + STEP)) / base - 1.0) / STEP}


def of_mfu(job: Weighed, cluster: Cluster, points: Sequence[Points]) -> float:
    """Return d ln E / d ln of a stated MFU, to which the length of every step is inverse."""
    base = job.energy(cluster, points)
    return (job.energy(cluster, [p.stretched(1.0 / (1.0 + STEP)) for p in points]) / base - 1.0) / STEP
