"""The tree of exceptions: one per kind of answer a caller can act on.

    WattlineError
    ├── InputError          what was given cannot be used            (exit code 2)
    │   ├── UnitError       a quantity with a wrong or missing unit
    │   └── ScenarioError   a key or value of a scenario file
    │       └── LayoutError     a layout that the model or the devices do not take
    │           └── CapacityError   the work does not fit on the device
    ├── GoalError           a well-formed goal that nothing can meet (exit code 1)
    └── MissingExtraError   an optional dependency is not installed  (exit code 2)

Every message is one sentence that says the rule, what was received and what would work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WattlineError(Exception):
    """Base of everything Wattline raises on purpose."""

    exit_code = 2


class InputError(WattlineError):
    """What was given cannot be used: wrong shape, range, name or file."""


class UnitError(InputError):
    """A quantity whose unit is missing, unknown or of the wrong kind."""


class ScenarioError(InputError):
    """A key or value of a scenario that breaks a rule."""


class LayoutError(ScenarioError):
    """Parallel degrees, or a number of chips, that the model or the hardware does not take."""


class CapacityError(LayoutError):
    """The work does not fit on the device it was given."""


class GoalError(WattlineError):
    """A well-formed goal that no choice can meet; `beyond`: because the load itself is more than can be carried."""

    exit_code = 1

    def __init__(self, message: str, *, beyond: bool = False) -> None:
        super().__init__(message)
        self.beyond = beyond


class MissingExtraError(WattlineError):
    """An optional dependency is needed and not installed."""


def nearest(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return a clause naming the valid word(s) closest to `word`, or listing what is known.

    >>> nearest("tensr", ["tensor", "pipeline"])
    "did you mean 'tensor'?"
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(names)
