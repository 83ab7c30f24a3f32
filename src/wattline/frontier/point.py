"""One choice on a frontier: what it costs, what it is made of, and how sure that is."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from .origin import Choice, Composed, unroll


class Weighed(Composed, Protocol):
    """What a point asks of its frontier, beside where its points came from."""

    @property
    def waiting_power(self) -> float: ...


@dataclass(frozen=True)
class Point:
    """One choice on a frontier. `time` s; `energy` J above waiting; `total` J with waiting.

    `position` is the index on the frontier; in the hull reading it may lie between two.
    """

    frontier: Weighed
    position: float
    time: float
    energy: float

    @property
    def total(self) -> float:
        """Total joules of this choice when nothing else makes it wait."""
        return self.energy + self.frontier.waiting_power * self.time

    @property
    def average_power(self) -> float:
        """Average watts over all devices of this choice; infinite for work that takes no time."""
        return self.total / self.time if self.time > 0 else math.inf

    @functools.cached_property
    def plan(self) -> tuple[Choice, ...]:
        """The knobs of every leaf, in order."""
        return tuple(unroll(self.frontier, self.position))

    @property
    def parts(self) -> dict[str, float]:
        """Joules by component; what no leaf names is "waiting"."""
        out: dict[str, float] = {}
        for choice in unroll(self.frontier, self.position, weigh=True):
            for name, joules in choice.leaf.parts.items():
                if name != "waiting":
                    out[name] = out.get(name, 0.0) + choice.share * float(joules[choice.index])
        out["waiting"] = self.total - sum(out.values())
        return out

    @property
    def uncertainty(self) -> float:
        """Relative standard deviation of the energy: errors of one source add up, of two sources in quadrature."""
        by_source: dict[str, float] = {}
        weight = 0.0
        for c in unroll(self.frontier, self.position, weigh=True):
            joules = abs(c.energy + c.leaf.waiting_power * c.time)
            by_source[c.leaf.source] = by_source.get(c.leaf.source, 0.0) + c.leaf.uncertainty * joules
            weight += joules
        return math.sqrt(sum(v * v for v in by_source.values())) / weight if weight else 0.0
