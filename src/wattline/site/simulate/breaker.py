"""Breakers trip by inverse time: the further above its rating a feed is loaded, the sooner it goes dark.

    time to trip = k / (m ** alpha - 1)        m: load over rating, held constant
    time to reset = reset / (1 - m ** 2)       from the edge of tripping, below the rating

Constants of IEC 60255-151 (curves A, B, C of BS 142) with their reset times as relays implement them
(GE Multilin M60 manual, table 5-28). Under a load that varies the state integrates: it gains ``dt / time`` above the
rating, loses it by the reset time below, and the breaker opens at 1. A moulded-case breaker is described by a
multiple (`times`) of one of these, read off its published band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...core.errors import InputError


@dataclass(frozen=True)
class TripCurve:
    """An inverse-time curve: `k` and `reset` in s, `alpha` without unit; infinite `k` never trips.

    >>> round(CURVES["extremely-inverse"].time(1.1))
    381
    """

    k: float
    alpha: float
    reset: float

    def __post_init__(self) -> None:
        if not (self.k > 0 and self.alpha > 0 and self.reset > 0):
            raise InputError(f"a trip curve needs k, alpha and reset > 0, got {self.k}, {self.alpha}, {self.reset}")

    def times(self, factor: float) -> TripCurve:
        """Return the curve with all times multiplied (the time multiplier setting)."""
        return TripCurve(self.k * factor, self.alpha, self.reset * factor)

    def time(self, ratio: float) -> float:
        """Return the seconds a constant load of `ratio` times the rating is carried from cold."""
        return self.k / (ratio**self.alpha - 1.0) if ratio > 1.0 else math.inf

    def reset_time(self, ratio: float) -> float:
        """Return the seconds from the edge of tripping back to cold at `ratio` below 1."""
        return self.reset / (1.0 - ratio**2) if ratio < 1.0 else math.inf


CURVES: Final[Mapping[str, TripCurve]] = MappingProxyType(
    {
        "inverse": TripCurve(0.14, 0.02, 9.7),
        "very-inverse": TripCurve(13.5, 1.0, 43.2),
        "extremely-inverse": TripCurve(80.0, 2.0, 58.2),
        "none": TripCurve(math.inf, 2.0, 1.0),
    }
)
