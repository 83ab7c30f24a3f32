"""Wattline: energy optimization of AI systems across every layer, joined by the time-energy frontier.

The public names below are brought in when they are first used, so that ``import wattline`` costs a few
milliseconds in any program that only wants to measure.
"""

from .core.version import __version__ as __version__

# typing and importlib are left out on purpose: they are most of what importing this would cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .control.loops.trainers import follow
    from .control.loops.tune import tune
    from .core.errors import (
        CapacityError,
        GoalError,
        InputError,
        MissingExtraError,
        ScenarioError,
        UnitError,
        WattlineError,
    )
    from .frontier.algebra import NEVER, ZERO, Frontier, Point, best, total
    from .frontier.origin import Choice
    from .measure.door import measure
    from .measure.window import begin, end
    from .show.door import fleet, pipeline, plan, simulate, sweep, whatif
    from .show.result import Result

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
    "Result",
    "ScenarioError",
    "UnitError",
    "WattlineError",
    "begin",
    "best",
    "end",
    "fleet",
    "follow",
    "measure",
    "pipeline",
    "plan",
    "simulate",
    "sweep",
    "total",
    "tune",
    "whatif",
]

_HOME = {
    "Choice": ".frontier.origin",
    **dict.fromkeys(("NEVER", "ZERO", "Frontier", "Point", "best", "total"), ".frontier.algebra"),
    **dict.fromkeys(("begin", "end"), ".measure"),
    **dict.fromkeys(("fleet", "pipeline", "plan", "simulate", "sweep", "whatif"), ".show.door"),
    "Result": ".show.result",
    "follow": ".control.loops.trainers",
    "tune": ".control.loops.tune",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), ".core.errors"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "measure":  # the package itself answers a call, see its docstring
        return import_module(".measure", __name__)
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
