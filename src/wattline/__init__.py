"""Wattline: energy optimization of AI systems across every layer, joined by the time-energy frontier."""

from .errors import (
    CapacityError,
    GoalError,
    InputError,
    MissingExtraError,
    ScenarioError,
    UnitError,
    WattlineError,
)
from .frontier.algebra import NEVER, ZERO, Choice, Frontier, Point, best, total

__version__ = "0.1.0"

__all__ = [
    "NEVER",
    "ZERO",
    "CapacityError",
    "Choice",
    "Frontier",
    "GoalError",
    "InputError",
    "MissingExtraError",
    "Point",
    "ScenarioError",
    "UnitError",
    "WattlineError",
    "best",
    "total",
]
