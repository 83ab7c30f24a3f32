"""`wattline.measure` as a type checker sees it: a package that answers a call, see `wattline.measure`'s docstring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from . import result, start, union, window
from .monitor import Monitor

F = TypeVar("F", bound=Callable[..., Any])


class Door:
    """What may be asked of ``wattline.measure``."""

    Measurement = result.Measurement
    Part = result.Part
    Total = result.Total
    Window = window.Window

    @overload
    def __call__(
        self, name: str = "window", *, monitor: Monitor | None = None, devices: Sequence[str | int] | None = None
    ) -> window.Window: ...
    @overload
    def __call__(self, name: F) -> F: ...
    def __call__(self, name: Any = "window", **options: Any) -> Any:
        """A window, or a function measured."""
        return window.measure(name, **options)

    begin = staticmethod(window.begin)
    end = staticmethod(window.end)
    current = staticmethod(window.current)
    merge = staticmethod(union.merge)
    prepare = staticmethod(start.prepare)


measure = Door()
