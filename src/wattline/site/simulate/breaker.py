"""Breakers trip by inverse time: the further above its rating a feed is loaded, the sooner it goes dark.

    time to trip = k / (m ** alpha - 1)        m: load over rating, held constant
    time to reset = reset / (1 - m ** 2)       from the edge of tripping, below the rating

Constants of IEC 60255-151 (curves A, B, C of BS 142) with their reset times as relays implement them
(GE Multilin M60 manual, table 5-28). Under a load that varies the state integrates: it gains ``dt / time`` above the
rating, loses it by the reset time below, and the breaker opens at 1. A moulded-case breaker is described by a
multiple (`times`) of one of these, read off its published band, or by a table of (ratio, seconds): straight lines
between its points on logarithmic axes, constant energy (I squared t) beyond the last, for ever below the first.

Tables of standards are the *latest* times that a breaker may take to open; one of the standard may open sooner:

    iec-60898-b, -c, -d   IEC 60898-1, table 7, above 32 A: 1.13 and 1.45 (1 h), 2.55 (120 s), B 3, C 5, D 10 times (90,
                          30, 8 s), at once (0.1 s) at B 5, C 10, D 20
    iec-60947-2           IEC 60947-2, 7.2.1.2.4: not below 1.05, within 2 h at 1.30; beyond it is the maker's
    ul-489-225, -1200     UL 489, calibration at 135 % (2 h above 50 A) and 200 % (10 min for 151 to 225 A, 20 min for
                          1,001 to 1,200 A; recalled, not read in the standard)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...core.errors import InputError


@dataclass(frozen=True)
class TripCurve:
    """An inverse-time curve: `k` and `reset` in s, `alpha` without unit; infinite `k` never trips.

    `table` : (ratio, s) rising in ratio, in place of the formula.

    >>> round(CURVES["extremely-inverse"].time(1.1))
    381
    """

    k: float
    alpha: float
    reset: float
    table: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self.k > 0 and self.alpha > 0 and self.reset > 0):
            raise InputError(f"a trip curve needs k, alpha and reset > 0, got {self.k}, {self.alpha}, {self.reset}")
        ratios, seconds = [r for r, _ in self.table], [t for _, t in self.table]
        rises = all(a < b for a, b in itertools.pairwise(ratios)) and all(
            a >= b for a, b in itertools.pairwise(seconds)
        )
        if self.table and not (rises and ratios[0] > 1 and seconds[-1] > 0):
            raise InputError(f"a trip table has ratios that rise from above 1 and times that fall, got {self.table}")

    def times(self, factor: float) -> TripCurve:
        """Return the curve with all times multiplied (the time multiplier setting)."""
        table = tuple((ratio, seconds * factor) for ratio, seconds in self.table)
        return TripCurve(self.k * factor, self.alpha, self.reset * factor, table)

    def time(self, ratio: float) -> float:
        """Return the seconds a constant load of `ratio` times the rating is carried from cold."""
        if not self.table:
            return self.k / (ratio**self.alpha - 1.0) if ratio > 1.0 else math.inf
        if ratio < self.table[0][0]:
            return math.inf
        last, seconds = self.table[-1]
        if ratio >= last:
            return seconds * (last / ratio) ** 2
        (a, s), (b, t) = next(two for two in itertools.pairwise(self.table) if two[0][0] <= ratio < two[1][0])
        return float(s * (t / s) ** (math.log(ratio / a) / math.log(b / a)))

    def reset_time(self, ratio: float) -> float:
        """Return the seconds from the edge of tripping back to cold at `ratio` below 1."""
        return self.reset / (1.0 - ratio**2) if ratio < 1.0 else math.inf


# Seconds in which a bimetal cools down; standards say nothing of it, and a slow one opens sooner the next time.
_COOLS: Final = 600.0


def _table(*points: tuple[float, float]) -> TripCurve:
    return TripCurve(math.inf, 2.0, _COOLS, points)


CURVES: Final[Mapping[str, TripCurve]] = MappingProxyType(
    {
        "inverse": TripCurve(0.14, 0.02, 9.7),
        "very-inverse": TripCurve(13.5, 1.0, 43.2),
        "extremely-inverse": TripCurve(80.0, 2.0, 58.2),
        "iec-60898-b": _table((1.13, 3600.0), (1.45, 3600.0), (2.55, 120.0), (3.0, 90.0), (5.0, 0.1)),
        "iec-60898-c": _table((1.13, 3600.0), (1.45, 3600.0), (2.55, 120.0), (5.0, 30.0), (10.0, 0.1)),
        "iec-60898-d": _table((1.13, 3600.0), (1.45, 3600.0), (2.55, 120.0), (10.0, 8.0), (20.0, 0.1)),
        "iec-60947-2": _table((1.05, 7200.0), (1.3, 7200.0)),
        "ul-489-225": _table((1.35, 7200.0), (2.0, 600.0)),
        "ul-489-1200": _table((1.35, 7200.0), (2.0, 1200.0)),
        "none": TripCurve(math.inf, 2.0, 1.0),
    }
)
