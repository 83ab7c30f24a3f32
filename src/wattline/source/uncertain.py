"""How far to trust a prediction: learned corrections, and the spread of held-out errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .silicon import Silicon
from .work import Work


@dataclass(frozen=True)
class Spread:
    """Relative standard deviations of time and energy, and whether the chip itself was measured."""

    time: float
    energy: float
    known: bool
    source: str


def uncertainty(chip: Silicon, works: Sequence[Work]) -> Spread:
    return Spread(0.15, 0.2, False, "roofline from the chip's facts")


def adjust(work: Work, chip: Silicon) -> Work:
    return work
