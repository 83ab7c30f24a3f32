"""Candidates explored by simulation: what is expected of each is corrected by what was measured of its like.

    best of each variant --simulated--> corrections --those that look better, simulated--> ... --> the best
    the best --neighbours in clock, batch, replicas, step tokens, clock of steps with prompts--> better still

Every candidate is played on the same requests. A pool that missed its promise rules out every candidate with that pool,
or with a slower or smaller one of its kind, whatever its partner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...serving.candidates import Candidate, Part, Promise
from ...source.base import Array
from ..whatif import Row
from .telling import Confirmed

Simulate = Callable[[Sequence[Candidate]], list[Row]]
Kind = tuple[int, str, str]  # variant, role and slice of a part
# Joules, chips and seconds of a whole trace -> what is to be least.
Worth = Callable[[float, float, float], float]

# Candidates looked at again in one round, of one signature among them, and what a better one must save.
AGAIN, ALIKE, WORTH = 6, 2, 0.001
# Most simulations of candidates, and of neighbours of the best.
EXPLORED, POLISHED = 140, 90
# Nearest measured ones that correct an expectation.
_NEAR: Final = 3
# A step that is taken back this far from the promise is still worth a look: the corrections are no better.
_DOUBT: Final = 1.1


@dataclass(frozen=True)
class Axes:
    """What a part may be moved to: clocks (Hz) by variant, most running requests, tokens of a step, and whether steps
    with prompts may have a clock of their own. `replicas`, `most_chips`: those allowed, any where empty or None."""

    clocks: Callable[[int], Array]
    batches: Callable[[Part], Sequence[int]]
    chunks: Sequence[int]
    phases: bool
    replicas: Sequence[int] = ()
    most_chips: float = math.inf

    def moves(self, part: Part) -> Iterator[Part]:
        """Yield the part moved along each axis."""
        clocks = self.clocks(part.variant)
        at = int(np.argmin(np.abs(clocks - part.clock)))
        for d in (-1, 1, -3, 3):
            if 0 <= at + d < len(clocks):
                yield replace(part, clock=float(clocks[at + d]))
        many = sorted(self.replicas) or list(range(1, part.replicas + 2))
        for count in {max((r for r in many if r < part.replicas), default=0), _next(many, part.replicas)}:
            if count > 0:
                yield replace(part, replicas=count)
                for d in (1, 2, 4):  # fewer replicas at higher clocks, more at lower ones
                    other = at + (d if count < part.replicas else -d)
                    if 0 <= other < len(clocks):
                        yield replace(part, replicas=count, clock=float(clocks[other]))
        if part.role != "prefill":
            sizes = sorted({*self.batches(part), part.batch})
            i = sizes.index(part.batch)
            yield from (replace(part, batch=sizes[k]) for k in (i - 1, i + 1) if 0 <= k < len(sizes))
        if part.role != "decode" and self.chunks:
            now = part.chunk or max(self.chunks)
            steps = sorted({*self.chunks, now})
            i = steps.index(now)
            yield from (
                replace(part, chunk=steps[k]) for k in (i - 1, i + 1) if 0 <= k < len(steps) and steps[k] >= part.batch
            )
        if part.role == "both" and self.phases:
            near = at if part.prefill_clock is None else int(np.argmin(np.abs(clocks - part.prefill_clock)))
            for d in (-2, 2, -1, 1):
                if 0 <= near + d < len(clocks):
                    yield replace(part, prefill_clock=float(clocks[near + d]))
            if part.prefill_clock is not None:
                yield replace(part, prefill_clock=None)


def _next(many: Sequence[int], now: int) -> int:
    return min((r for r in many if r > now), default=0)


def kind(part: Part) -> Kind:
    """Return what parts are compared by."""
    return part.variant, part.role, part.slice


def signature(candidate: Candidate) -> tuple[Kind, ...]:
    """Return what candidates are compared by."""
    return tuple(kind(part) for part in candidate.parts)


@dataclass
class Explorer:
    """What was simulated so far, by the parts of a candidate."""

    promise: Promise
    worth: Worth
    simulate: Simulate
    axes: Axes
    chips: Callable[[Candidate], float]
    tried: dict[tuple[Part, ...], Confirmed] = field(default_factory=dict)
    missed: dict[Kind, list[Part]] = field(default_factory=dict)

    # ---- what is known
    @property
    def best(self) -> float:
        """The least worth that keeps the promise."""
        return min((self.value(c) for c in self.tried.values() if c.row["kept"]), default=math.inf)

    def value(self, c: Confirmed) -> float:
        """Return what a simulated candidate is worth."""
        return self.worth(c.row["energy_j"], self.chips(c.candidate), c.row["duration_s"])

    def order(self, c: Confirmed) -> tuple[float, float]:
        """Return what orders simulated candidates: how far they miss, then what they are worth."""
        over = self.promise.broken(c.row["ttft"], c.row["tpot"], c.row["power_w"])
        return (0.0 if c.row["kept"] else max(over.values(), default=1.0)), self.value(c)

    def run(self, some: Sequence[Candidate]) -> None:
        """Simulate those that were not, and remember which parts missed what is theirs to keep."""
        fresh = [c for c in dict.fromkeys(some) if c.parts not in self.tried]
        for c, row in zip(fresh, self.simulate(fresh), strict=True):
            self.tried[c.parts] = Confirmed(c, row)
            for part, figure, limit in self._duties(c, row):
                if limit is not None and figure > limit:
                    self.missed.setdefault(kind(part), []).append(part)

    def _duties(self, c: Candidate, row: Row) -> Iterator[tuple[Part, float, float | None]]:
        """Yield the parts that alone decide a latency: a prefill pool the first token, a decode pool the rest."""
        if len(c.parts) == 1 or c.parts[0].role == "prefill":
            yield c.parts[0], row["ttft"], self.promise.ttft
            yield c.parts[-1], row["tpot"], self.promise.tpot

    def ruled_out(self, c: Candidate) -> bool:
        """Whether a part of it is no faster and no larger than one that missed its promise."""
        return any(
            part.replicas <= other.replicas and part.clock <= other.clock and part.batch == other.batch
            for part in c.parts
            for other in self.missed.get(kind(part), ())
        )

    # ---- exploring
    def explore(self, candidates: Sequence[Candidate]) -> None:
        """Simulate the best of each variant, then whatever looks better than the best in the light of it."""
        table = _Table.of(candidates, self.chips, self.worth, self.promise)
        self.run([candidates[i] for i in table.first()])
        while len(self.tried) < EXPLORED:
            some = self._promising(candidates, table)
            if not some:
                return
            self.run(some)

    def _promising(self, candidates: Sequence[Candidate], table: _Table) -> list[Candidate]:
        over, value = table.corrected(self.tried.values())
        best = self.best
        order = np.lexsort((value, np.maximum(over, _DOUBT if math.isfinite(best) else 1.0)))
        out: list[Candidate] = []
        alike: dict[tuple[Kind, ...], int] = {}
        for i in order.tolist():
            if math.isfinite(best) and (over[i] > _DOUBT or len(out) == AGAIN):
                break
            c = candidates[i]
            mine = signature(c)
            if (
                value[i] < best * (1.0 - WORTH)
                and c.parts not in self.tried
                and alike.get(mine, 0) < ALIKE
                and not self.ruled_out(c)
            ):
                out.append(c)
                alike[mine] = alike.get(mine, 0) + 1
                if len(out) == AGAIN:
                    break
        return out

    def polish(self, starts: int = 3) -> None:
        """Move the best of a few signatures along every axis, one at a time, as long as that helps."""
        budget = len(self.tried) + POLISHED
        leaders: dict[tuple[Kind, ...], Confirmed] = {}
        for c in sorted(self.tried.values(), key=self.order):
            leaders.setdefault(signature(c.candidate), c)
        for now in list(leaders.values())[:starts]:
            if math.isfinite(self.best) and (not now.row["kept"] or self.value(now) > 1.1 * self.best):
                continue
            self._climb(now, budget)

    def around(self, now: Confirmed) -> list[Candidate]:
        """Return a candidate's neighbours that nothing rules out."""
        c = now.candidate
        moved = [
            replace(c, parts=(*c.parts[:k], part, *c.parts[k + 1 :]), moved=True)
            for k, mine in enumerate(c.parts)
            for part in self.axes.moves(mine)
        ]
        return [m for m in moved if self.chips(m) <= self.axes.most_chips and not self.ruled_out(m)]

    def _climb(self, now: Confirmed, budget: int) -> None:
        while len(self.tried) < budget:
            moved = self.around(now)
            self.run(moved)
            then = min((self.tried[c.parts] for c in moved), key=self.order, default=now)
            if self.order(then) >= self.order(now):
                return
            now = then


@dataclass(frozen=True)
class _Table:
    """Candidates as arrays (n,), with the group each belongs to."""

    candidates: Sequence[Candidate]
    figures: Array  # (n, 3) joules, TTFT, TPOT as expected
    chips: Array
    duration: Array
    groups: dict[tuple[Kind, ...], NDArray[np.int64]]
    worth: Worth
    promise: Promise

    @staticmethod
    def of(some: Sequence[Candidate], chips: Callable[[Candidate], float], worth: Worth, promise: Promise) -> _Table:
        groups: dict[tuple[Kind, ...], list[int]] = {}
        for i, c in enumerate(some):
            groups.setdefault(signature(c), []).append(i)
        return _Table(
            some,
            np.array([[c.energy, max(c.ttft, 1e-9), max(c.tpot, 1e-9)] for c in some]).reshape(-1, 3),
            np.array([chips(c) for c in some], np.float64),
            np.array([c.duration for c in some]),
            {key: np.array(rows) for key, rows in groups.items()},
            worth,
            promise,
        )

    def first(self) -> list[int]:
        """Return the best of each variant in each role: the cheapest expected to keep the promise, else the nearest."""
        over, value = self._judged(self.figures)
        order = np.lexsort((value, np.maximum(over, 1.0)))
        best: dict[Any, int] = {}
        for i in order.tolist():
            for part in self.candidates[i].parts:
                best.setdefault(kind(part), i)
        return sorted(set(best.values()), key=lambda i: (max(over[i], 1.0), value[i]))

    def corrected(self, tried: Any) -> tuple[Array, Array]:
        """Return by what factor each candidate is expected to miss the promise, and what it is expected to be worth."""
        ratios: dict[Any, list[Array]] = {}
        for c in tried:
            a = np.array([c.candidate.energy, max(c.candidate.ttft, 1e-9), max(c.candidate.tpot, 1e-9)])
            b = np.array([c.row["energy_j"], max(c.row["ttft"], 1e-9), max(c.row["tpot"], 1e-9)])
            point = np.concatenate([np.log(a), np.log(b / a)])
            if c.candidate.moved:
                continue
            ratios.setdefault(signature(c.candidate), []).append(point)
            for part in c.candidate.parts:
                ratios.setdefault(kind(part), []).append(point)
            ratios.setdefault("all", []).append(point)
        logs = np.log(self.figures)
        out = self.figures.copy()
        for key, rows in self.groups.items():
            if key in ratios:
                out[rows] = np.exp(logs[rows] + _near(np.array(ratios[key]), logs[rows]))
                continue
            # Pools measured with other partners: the first token as the first pool had it, the rest as the second.
            first, last = (np.array(ratios.get(k, ratios["all"])) for k in (key[0], key[-1]))
            one, two = _near(first, logs[rows]), _near(last, logs[rows])
            shift = np.stack([(one[:, 0] + two[:, 0]) / 2.0, one[:, 1], two[:, 2]], axis=1)
            out[rows] = np.exp(logs[rows] + shift)
        return self._judged(out)

    def _judged(self, figures: Array) -> tuple[Array, Array]:
        p = self.promise
        power = figures[:, 0] / np.maximum(self.duration, 1e-9)
        over = np.zeros(len(figures))
        for values, limit in ((figures[:, 1], p.ttft), (figures[:, 2], p.tpot), (power, p.power)):
            if limit is not None:
                over = np.maximum(over, values / limit)
        value = np.array([
            self.worth(e, c, d) for e, c, d in zip(figures[:, 0], self.chips, self.duration, strict=True)
        ])  # fmt: skip
        return over, value


def _near(points: Array, logs: Array) -> Array:
    """Return the mean log ratio (n, 3) of the measured ones nearest to each row of `logs` (n, 3)."""
    apart = np.abs(points[None, :, :3] - logs[:, None, :]).sum(axis=2)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :_NEAR]
    weight = 1.0 / (0.02 + np.take_along_axis(apart, nearest, axis=1))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((points[nearest][:, :, 3:] * weight[:, :, None]).sum(axis=1))
