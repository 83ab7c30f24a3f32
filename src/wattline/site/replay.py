"""A trace of jobs replayed under a cap: who runs when, at which speed, and what each user's work takes.

Between two events (an arrival, an end, a change of the cap) nothing changes, so time goes from event to event and
energy is exact; no step is chosen. Jobs start in order of submission where chips are free, later ones that fit pass
by those that do not (first fit among the first 200). All chips of a kind share a table of speeds and powers, and a
controller says at which speed each kind runs:

    recorded   jobs run when they ran, at full speed, cap or none
    uncapped   queued anew, full speed
    wait       full speed, but no job starts while the cap has no room for it
    uniform    every kind at the same speed, the highest that the cap allows
    prices     kinds slow down where a watt does least (the pieces of all tables in order of work per watt)
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from ..core.errors import GoalError, InputError, nearest
from ..core.units import show
from ..frontier.pruning import hull_index
from .tasks import Array
from .traces import Arrival

# Jobs in the queue that are looked at for one that fits.
_LOOK: Final = 200

Controller = Literal["recorded", "uncapped", "wait", "uniform", "prices"]
CONTROLLERS: Final = ("recorded", "uncapped", "wait", "uniform", "prices")


@dataclass(frozen=True, eq=False)
class Table:
    """Watts of one chip at shares of full speed, (n,) falling from 1. `idle`: W without work.

    Between two settings a chip takes turns, so power is read off a straight line.
    """

    speed: Array
    power: Array
    idle: float = 0.0

    def __post_init__(self) -> None:
        ok = len(self.speed) == len(self.power) > 0 and self.speed[0] == 1.0 and (np.diff(self.speed) < 0).all()
        if not ok or not (np.diff(self.power) < 0).all() or not self.speed[-1] > 0 or self.idle < 0:
            raise InputError(
                "speeds fall from 1 and powers fall with them, one each, and idle is 0 W or more; got "
                f"{self.speed.tolist()} and {self.power.tolist()} W"
            )

    def hull(self) -> Table:
        """Return the settings that no turns between two others beat."""
        keep = hull_index(self.speed[::-1], self.power[::-1])
        return Table(self.speed[::-1][keep][::-1], self.power[::-1][keep][::-1], self.idle)

    def at(self, speed: float) -> float:
        """Return the watts at a speed between the slowest and full."""
        return float(np.interp(speed, self.speed[::-1], self.power[::-1]))


@dataclass(frozen=True, eq=False)
class Replay:
    """What happened.

    Attributes
    ----------
    time, power : (n + 1,) s and (n,) W of the jobs and idle chips between events. start, end, energy : (jobs,) s, s and
        J of each job. idle : J of chips without work and of what always flows. over : J above the cap.
    """

    jobs: tuple[Arrival, ...]
    time: Array
    power: Array
    start: Array
    end: Array
    energy: Array
    idle: float
    over: float

    @property
    def peak(self) -> float:
        """The most watts."""
        return float(self.power.max())

    def by(self, what: Literal["user", "kind", "name"]) -> dict[str, float]:
        """Return the joules of each user, kind or job, most first."""
        out: dict[str, float] = {}
        for job, joules in zip(self.jobs, self.energy, strict=True):
            key = getattr(job, what)
            out[key] = out.get(key, 0.0) + float(joules)
        return dict(sorted(out.items(), key=lambda item: -item[1]))

    def mean(self, edges: Array) -> Array:
        """Return the mean power of periods between `edges` (s)."""
        area = np.concatenate([[0.0], np.cumsum(self.power * np.diff(self.time))])
        return np.asarray(np.diff(np.interp(edges, self.time, area)) / np.diff(edges))


def play(
    jobs: Sequence[Arrival], chips: Mapping[str, float], tables: Mapping[str, Table], *,
    controller: Controller = "uncapped", cap: float = np.inf, standing: float = 0.0,
) -> Replay:  # fmt: skip
    """Replay jobs on `chips` of each kind. `cap` : W of all, idle chips included. `standing` : W that always flow.

    Raises
    ------
    InputError : a job asks for a kind or more chips than there are. GoalError : a cap below what idles.
    """
    if controller not in CONTROLLERS:
        raise InputError(f"no controller is called {controller!r}; {nearest(controller, CONTROLLERS)}")
    return _Play(tuple(jobs), dict(chips), dict(tables), controller, cap, standing).run()


class _Play:
    """The state between two events."""

    def __init__(
        self, jobs: tuple[Arrival, ...], chips: dict[str, float], tables: dict[str, Table], how: Controller, cap: float,
        standing: float,
    ) -> None:  # fmt: skip
        self.jobs, self.how, self.cap, self.standing = jobs, how, cap, standing
        self.kinds = sorted(chips)
        self.kind = {name: k for k, name in enumerate(self.kinds)}
        for job in jobs:
            if job.kind not in self.kind or (job.chips > chips[job.kind] * (1 + 1e-9) and how != "recorded"):
                has = chips.get(job.kind, 0.0)
                raise InputError(f"job {job.name} asks for {job.chips:g} chips of {job.kind!r}, and there are {has:g}")
        self.table = [tables[name].hull() for name in self.kinds]
        self.most = np.array([chips[name] for name in self.kinds], float)
        self.idle = np.array([t.idle for t in self.table])
        self.of = [self.kind[job.kind] for job in jobs]
        # W that one more busy chip draws at full speed.
        self.extra = [float(t.power[0]) - t.idle for t in self.table]
        self.pieces = self._pieces()
        # Speeds at which the power of some kind bends, and the W of one chip of each kind at them, for `uniform`.
        self.steps = np.unique(np.concatenate([t.speed for t in self.table]))
        self.levels = np.array([[t.at(max(float(s), float(t.speed[-1]))) for t in self.table] for s in self.steps])
        idle = self.rest(np.zeros(len(self.kinds)))
        if cap < idle:
            raise GoalError(
                f"the cap of {show(cap, 'W')} is below what is drawn with all chips idle, {show(idle, 'W')}"
            )

    def _pieces(self) -> list[tuple[float, int, float, float]]:
        """(work per watt, kind, W and speed of one chip) of every piece above the slowest, best first."""
        out = []
        for k, t in enumerate(self.table):
            for a in range(len(t.speed) - 1, 0, -1):
                watts, speed = float(t.power[a - 1] - t.power[a]), float(t.speed[a - 1] - t.speed[a])
                out.append((speed / watts, k, watts, speed))
        return sorted(out, reverse=True)

    def speeds(self, busy: Array) -> Array:
        """Return (kinds,) the speed of each for so many busy chips."""
        full = np.ones(len(self.kinds))
        if (
            not np.isfinite(self.cap)
            or self.how in ("recorded", "uncapped", "wait")
            or self.draw(busy, full) <= self.cap
        ):
            return full
        slowest = np.array([t.speed[-1] for t in self.table])
        if self.draw(busy, slowest) >= self.cap:
            return slowest
        if self.how == "prices":
            return self._priced(busy, slowest)
        rest = self.rest(busy)
        common = float(np.interp(self.cap, self.levels @ busy + rest, self.steps))
        return np.asarray(np.maximum(slowest, common), float)

    def _priced(self, busy: Array, slowest: Array) -> Array:
        out = slowest.copy()
        left = self.cap - self.draw(busy, slowest)
        for _, k, watts, speed in self.pieces:
            if busy[k] <= 0:
                continue
            share = min(1.0, left / (watts * busy[k]))
            out[k] += share * speed
            left -= share * watts * busy[k]
            if share < 1.0:
                break
        return out

    def draw(self, busy: Array, speed: Array) -> float:
        """Return the W of all chips, so many of which are busy at a speed."""
        each = np.array([t.at(s) for t, s in zip(self.table, speed, strict=True)])
        return float(busy @ each) + self.rest(busy)

    def rest(self, busy: Array) -> float:
        """Return the W of idle chips and of what always flows."""
        return float(np.maximum(self.most - busy, 0.0) @ self.idle) + self.standing

    def _starts(self, waiting: list[int], free: Array, busy: Array) -> list[int]:
        """Return which waiting jobs start now, in order; those that do not fit are passed by."""
        out: list[int] = []
        if not waiting:
            return out
        capped = self.how == "wait" and np.isfinite(self.cap)
        room = self.cap - self.draw(busy, np.ones(len(busy))) if capped else np.inf
        left, count = free.tolist(), [0.0] * len(busy)
        rest = []
        for j in waiting[:_LOOK]:
            k, chips = self.of[j], self.jobs[j].chips
            more = chips * self.extra[k]
            if chips > left[k] + 1e-9 or more > room * (1 + 1e-12):
                rest.append(j)
                continue
            left[k] -= chips
            count[k] += chips
            room -= more
            out.append(j)
        waiting[: min(_LOOK, len(waiting))] = rest
        free[:] = left
        busy += count
        return out

    def run(self) -> Replay:
        """Go from event to event."""
        n = len(self.jobs)
        come = [j.start if self.how == "recorded" else j.submit for j in self.jobs]
        order = sorted(range(n), key=lambda j: come[j])
        now, at = come[order[0]], 0
        # A kind's work done per chip so far; a job ends when its kind has done as much more as the job is long.
        done, joules = np.zeros(len(self.kinds)), np.zeros(len(self.kinds))
        ends: list[list[tuple[float, int]]] = [[] for _ in self.kinds]
        busy, free = np.zeros(len(self.kinds)), self.most.copy()
        waiting: list[int] = []
        start, end, energy, begun = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
        time, power, idle, over = [now], [], 0.0, 0.0
        while at < n or waiting or any(ends):
            while at < n and come[order[at]] <= now:
                waiting.append(order[at])
                at += 1
            for j in self._starts(waiting, np.full_like(free, np.inf) if self.how == "recorded" else free, busy):
                k = self.kind[self.jobs[j].kind]
                start[j], begun[j] = now, joules[k]
                heapq.heappush(ends[k], (done[k] + self.jobs[j].lasts, j))
            speed = self.speeds(busy)
            after = [now + (heap[0][0] - done[k]) / speed[k] for k, heap in enumerate(ends) if heap]
            upcoming = min([*after, *([come[order[at]]] if at < n else [])], default=None)
            if upcoming is None:  # nothing runs, nothing comes, and what waits never fits
                job = self.jobs[waiting[0]]
                raise GoalError(f"job {job.name} never fits under the cap of {show(self.cap, 'W')}, though all is idle")
            span = max(upcoming - now, 0.0)
            each = np.array([t.at(s) for t, s in zip(self.table, speed, strict=True)])
            rest = self.rest(busy)
            drawn = float(busy @ each) + rest
            idle += rest * span
            over += max(0.0, drawn - self.cap) * span
            done += speed * span
            joules += each * span
            if span > 0:
                time.append(upcoming)
                power.append(drawn)
            now = upcoming
            for k, heap in enumerate(ends):
                while heap and heap[0][0] <= done[k] + 1e-9 * max(1.0, abs(done[k])):
                    j = heapq.heappop(heap)[1]
                    end[j], energy[j] = now, (joules[k] - begun[j]) * self.jobs[j].chips
                    busy[k] = max(busy[k] - self.jobs[j].chips, 0.0)
                    free[k] += self.jobs[j].chips
                if not heap:
                    busy[k], free[k] = 0.0, self.most[k]
        return Replay(self.jobs, np.array(time), np.array(power or [0.0]), start, end, energy, idle, over)
