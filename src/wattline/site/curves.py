"""A job of a fleet, and what it does with each watt: the concave envelope of work rate against power.

A frontier's point of T seconds and E joules above waiting, run without a pause, does ``r = 1 / T`` units of
work a second and draws ``p = w + E / T`` watts. Spending shares of the *time* on several points averages
both, so all that a job can do on average is the convex hull of its points in (p, r).

That is the frontier's own hull, seen from elsewhere. Doing shares of the *work* at several points averages
(T, E) instead, and (T, E) -> (w + E / T, 1 / T) is a projective map: it takes straight lines to straight
lines, so the same vertices stand on both hulls and only the shares differ (a share of work f at T_b is a
share ``f T_b / T`` of the time). What (p, r) adds is the pause, r = 0, which no finite T can stand for.

Work that arrives at a rate (`maximum`) leaves a faster point idle in between: it draws ``w + E * maximum``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, InputError
from ..frontier.algebra import Frontier

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Job:
    """Work of a fleet, seen only as a frontier and how much it matters.

    Attributes
    ----------
    frontier : of one unit of work (an iteration, a request, a whole job); its times are > 0.
    at : the part of the power tree it draws from, or several with shares of its power that sum to 1.
    weight : value of one unit of work. minimum, maximum : units of work a second that it must do, that there are.
    paused : W it draws while paused; None where it may not pause.
    """

    name: str
    frontier: Frontier
    at: str | Mapping[str, float]
    weight: float = 1.0
    minimum: float = 0.0
    maximum: float = math.inf
    paused: float | None = None

    def __post_init__(self) -> None:
        if not len(self.frontier) or not self.frontier.time[0] > 0:
            raise InputError(f"job {self.name}: its frontier must have points, each of more than 0 s")
        if not 0 <= self.weight < math.inf:
            raise InputError(f"job {self.name}: weight must be a finite number of 0 or more, got {self.weight}")
        if not 0 <= self.minimum < math.inf or not self.maximum > 0 or self.minimum > self.maximum:
            raise InputError(
                f"job {self.name}: 0 <= minimum <= maximum must hold and maximum be > 0, "
                f"got {self.minimum:g} and {self.maximum:g} a second"
            )
        if self.paused is not None and not 0 <= self.paused < math.inf:
            raise InputError(f"job {self.name}: paused must be watts of 0 or more, got {self.paused}")
        if not isinstance(self.at, str):
            shares = list(self.at.values())
            if not shares or min(shares) <= 0 or abs(math.fsum(shares) - 1) > 1e-9:
                raise InputError(f"job {self.name}: shares of its power must be > 0 and sum to 1, got {dict(self.at)}")

    @property
    def fastest(self) -> float:
        """Most units of work a second."""
        return min(1.0 / float(self.frontier.time[0]), self.maximum)


@dataclass(frozen=True, eq=False)
class Points:
    """The points of many jobs as flat tables; jobs that share a frontier share its rows.

    first : (kinds + 1,) where each frontier's rows begin. rate, energy : (rows,) 1/s and J above waiting, fastest
    first. waiting : (kinds,) W. kind, weight, minimum, maximum, paused : (jobs,), `paused` NaN where there is none.
    """

    first: Ints
    rate: Array
    energy: Array
    waiting: Array
    kind: Ints
    weight: Array
    minimum: Array
    maximum: Array
    paused: Array

    @staticmethod
    def of(jobs: Sequence[Job]) -> Points:
        """Return the tables of `jobs`; a minimum beyond a job's fastest point is refused by name."""
        kinds: dict[int, int] = {}
        frontiers: list[Frontier] = []
        kind = np.empty(len(jobs), np.int64)
        for j, job in enumerate(jobs):
            k = kinds.setdefault(id(job.frontier), len(frontiers))
            if k == len(frontiers):
                frontiers.append(job.frontier)
            kind[j] = k
        sizes = [len(f) for f in frontiers]
        first = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        rate = 1.0 / np.concatenate([f.time for f in frontiers]) if frontiers else np.zeros(0)
        energy = np.concatenate([f.energy for f in frontiers]) if frontiers else np.zeros(0)
        out = Points(
            first,
            rate,
            energy,
            np.array([f.waiting_power for f in frontiers], float),
            kind,
            np.array([job.weight for job in jobs], float),
            np.array([job.minimum for job in jobs], float),
            np.array([job.maximum for job in jobs], float),
            np.array([math.nan if job.paused is None else job.paused for job in jobs], float),
        )
        short = np.flatnonzero(out.minimum > out.fastest * (1 + 1e-9))
        if short.size:
            j = int(short[0])
            raise GoalError(
                f"the minimum service of job {jobs[j].name} is {out.minimum[j]:,.4g} a second and its fastest "
                f"setting does {out.fastest[j]:,.4g}; lower the minimum or give it more devices"
            )
        return out

    @cached_property
    def fastest(self) -> Array:
        """(jobs,) most units of work a second."""
        return np.minimum(self.rate[self.first[:-1]][self.kind], self.maximum)

    @cached_property
    def slip(self) -> float:
        """Value a second by which a plan may miss what is required: rounding of watts, of all there could be."""
        return 1e-9 * float(self.weight @ self.fastest)

    @property
    def idle(self) -> Array:
        """(jobs,) W drawn with nothing done."""
        waits = self.waiting[self.kind]
        return np.where(np.isnan(self.paused), waits, np.fmin(waits, self.paused))


@dataclass(frozen=True, eq=False)
class Curves:
    """Concave envelopes of many jobs: vertices as flat tables, least power first.

    begin, count : (jobs,) rows of each job. power, work : (rows,) W and units/s. point : (rows,) index on the job's
    frontier, -1 for its pause. least : (jobs,) W that its minimum needs; in the hull reading perhaps between two.
    """

    begin: Ints
    count: Ints
    power: Array
    work: Array
    point: Ints
    least: Array

    @staticmethod
    def of(points: Points, *, discrete: bool) -> Curves:
        """Return the envelopes over all points, or in the discrete reading over those that meet the minimum."""
        from . import _allocate as _fleet

        sizes = np.diff(points.first)[points.kind] + 1
        begin = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        total = int(sizes.sum())
        power, work, point = np.zeros(total), np.zeros(total), np.zeros(total, np.int64)
        count, least = np.zeros(len(sizes), np.int64), np.zeros(len(sizes))
        p = points
        _fleet.envelope(
            p.first, p.rate, p.energy, p.waiting, p.kind, p.minimum, p.maximum, p.paused, discrete,
            begin, power, work, point, count, least,
        )  # fmt: skip
        return Curves(begin, count, power, work, point, least)

    def at(self, job: Ints, power: Array) -> tuple[Ints, Ints, Array]:
        """Return for jobs at an average power the two vertices it lies between, and the share of time at the upper."""
        low, high = self.begin[job].copy(), (self.begin + self.count - 1)[job]
        top = high.copy()
        while (open_ := high - low > 1).any():
            middle = (low + high) // 2
            right = self.power[middle] <= power
            low = np.where(open_ & right, middle, low)
            high = np.where(open_ & ~right, middle, high)
        high = np.minimum(low + 1, top)
        span = self.power[high] - self.power[low]
        share = np.clip(np.divide(power - self.power[low], span, out=np.zeros_like(power), where=span > 0), 0.0, 1.0)
        return low, high, share

    def segments(self) -> tuple[Ints, Array, Array]:
        """Return (job, width in W, slope in work per W) of every piece above each job's least power."""
        jobs = np.repeat(np.arange(len(self.count)), np.maximum(self.count - 1, 0))
        offset = np.arange(len(jobs)) - np.repeat(np.cumsum(self.count - 1) - (self.count - 1), self.count - 1)
        low = self.begin[jobs] + offset
        width = self.power[low + 1] - self.power[low]
        slope = (self.work[low + 1] - self.work[low]) / width
        left = self.power[low + 1] - np.maximum(self.power[low], self.least[jobs])
        keep = left > 0
        return jobs[keep], np.minimum(left, width)[keep], slope[keep]
