"""Wattline: energy optimization of AI systems across every layer, joined by the time-energy frontier."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .measure.window import begin, end, measure

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
    "begin",
    "best",
    "end",
    "measure",
    "total",
]


def __getattr__(name: str) -> Any:
    """Bring in measuring only when it is asked for, so that the import stays quick."""
    if name in ("begin", "end", "measure"):
        from importlib import import_module

        package = import_module(".measure", __name__)
        return package if name == "measure" else getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
