"""Measurement: joules per device and scope, each with an interval, a method and what is missing.

This package is also a function. ``wattline.measure("step")`` opens a window, and
``wattline.measure.result`` is a module, because the package answers a call with `window.measure`.
One word for one thing, at the price of this one trick; nothing else here depends on it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Measurement, Part, Total
    from .start import prepare
    from .union import merge
    from .window import Window, begin, current, end, measure

__all__ = ["Measurement", "Part", "Total", "Window", "begin", "current", "end", "measure", "merge", "prepare"]

_HOME = {
    "Measurement": "result",
    "Part": "result",
    "Total": "result",
    "merge": "union",
    "prepare": "start",
    "Window": "window",
    "begin": "window",
    "current": "window",
    "end": "window",
    "measure": "window",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(ModuleType):
    """A module that answers a call as `window.measure` does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from .window import measure

        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
