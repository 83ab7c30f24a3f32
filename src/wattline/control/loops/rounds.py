"""Which setting to measure next: rounds in random order, until every setting is known well enough.

    round 1   1.2 GHz  0.9 GHz  1.8 GHz  1.5 GHz        every setting once, shuffled by the seed and the round's number
    round 2   1.8 GHz  1.5 GHz  0.9 GHz  1.2 GHz        drift in time and heat falls on all settings alike
    ...
    round 5            0.9 GHz                          only settings whose interval is still too wide

What comes next depends on nothing but what has been measured, so a sweep that was stopped goes on as if it had not.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ...source.measured.profiled import Trial

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL: Final = 1.960
# A setting with so many repeats answers for its own noise; below, all settings answer together.
_OWN: Final = 6


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """The rule of a sweep.

    values : settings, W or Hz. least, most : repeats of each. interval : relative half-width of the 95 % interval of
    a setting's mean time and mean energy at which it is known well enough.
    """

    values: tuple[float, ...]
    seed: int = 0
    least: int = 3
    most: int = 10
    interval: float = 0.02

    def next(self, trials: Sequence[Trial]) -> float | None:
        """The setting to measure next; None when all are known."""
        counts = count(trials)
        open_ = self.open(trials)
        if not open_:
            return None
        number = min(counts.get(v, 0) for v in open_)
        order = list(self.values)
        random.Random(f"{self.seed}/{number}").shuffle(order)
        return next(v for v in order if v in open_ and counts.get(v, 0) == number)

    def open(self, trials: Sequence[Trial]) -> frozenset[float]:
        """The settings that are not known well enough yet."""
        counts, widths = count(trials), half_widths(trials)
        return frozenset(
            v
            for v in self.values
            if counts.get(v, 0) < self.least or (counts[v] < self.most and not widths.get(v, math.inf) <= self.interval)
        )

    def expected(self, trials: Sequence[Trial]) -> int:
        """Trials in all, as far as can be told now: by the square root law for what is still open."""
        counts, widths = count(trials), half_widths(trials)
        total = 0
        for v in self.values:
            have = counts.get(v, 0)
            need = max(self.least, have)
            if v in self.open(trials) and have >= 2 and math.isfinite(widths.get(v, math.inf)):
                need = min(self.most, max(need, math.ceil(have * (widths[v] / self.interval) ** 2)))
            total += need
        return total


def count(trials: Iterable[Trial]) -> dict[float, int]:
    """Repeats of each setting."""
    counts: dict[float, int] = defaultdict(int)
    for trial in trials:
        counts[trial.value] += 1
    return dict(counts)


def half_widths(trials: Sequence[Trial]) -> Mapping[float, float]:
    """Relative half-width of the 95 % interval of each setting's mean: of its time or its energy, the wider."""
    grouped: dict[float, list[Trial]] = defaultdict(list)
    for trial in trials:
        grouped[trial.value].append(trial)
    widths = dict.fromkeys(grouped, 0.0)
    for quantity in ("seconds", "joules"):
        spread = {v: _spread([getattr(t, quantity) for t in rows]) for v, rows in grouped.items()}
        degrees = sum(n - 1 for _, n in spread.values())
        if degrees == 0:
            return dict.fromkeys(grouped, math.inf)
        pooled = math.sqrt(math.fsum(s * (n - 1) for s, n in spread.values()) / degrees)
        for v, (own, n) in spread.items():
            sigma, free = (math.sqrt(own), n - 1) if n >= _OWN else (pooled, degrees)
            widths[v] = max(widths[v], student(free) * sigma / math.sqrt(n))
    return widths


def student(degrees: int) -> float:
    """The two-sided 95 % quantile."""
    return _T[degrees - 1] if degrees <= len(_T) else _NORMAL + 2.4 / degrees


def _spread(values: Sequence[float]) -> tuple[float, int]:
    """Relative variance and number."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2 or mean == 0:
        return 0.0, n
    return math.fsum((x / mean - 1.0) ** 2 for x in values) / (n - 1), n
