"""What ``@wattline.measure`` does to a function: every call of it is a window, whatever kind of function it is.

A generator's window lasts from its first step to its last, with what is done between its steps; it is no parent of
windows opened there. Of a class every public method of its own is measured, under its name; the class stays itself.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .monitor import Monitor

F = TypeVar("F", bound=Callable[..., Any])
# Makes a window of a name: `window.Window`, handed in so that imports go one way.
Make = Callable[[str, "Monitor | None"], Any]


def decorate(function: F, name: str, monitor: Monitor | None, make: Make) -> F:
    """The same function, measured; ``function.last`` is its latest window."""
    if inspect.isclass(function):
        return cast("F", _class(function, name, monitor, make))
    if inspect.iscoroutinefunction(function):
        return cast("F", _coroutine(function, name, monitor, make))
    if inspect.isasyncgenfunction(function):
        return cast("F", _asynchronous_generator(function, name, monitor, make))
    if inspect.isgeneratorfunction(function):
        return cast("F", _generator(function, name, monitor, make))

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        with make(name, monitor) as window:
            measured.last = window  # type: ignore[attr-defined]
            return function(*args, **kwargs)

    return cast("F", measured)


def _coroutine(function: Callable[..., Any], name: str, monitor: Monitor | None, make: Make) -> Callable[..., Any]:
    @functools.wraps(function)
    async def measured(*args: Any, **kwargs: Any) -> Any:
        with make(name, monitor) as window:
            measured.last = window  # type: ignore[attr-defined]
            return await function(*args, **kwargs)

    return measured


def _generator(function: Callable[..., Any], name: str, monitor: Monitor | None, make: Make) -> Callable[..., Any]:
    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        window, context = make(name, monitor), contextvars.copy_context()
        context.run(window.begin)
        measured.last = window  # type: ignore[attr-defined]
        try:
            return (yield from function(*args, **kwargs))
        except GeneratorExit:
            raise
        except BaseException as error:
            window.notes.append(f"the window ended in {type(error).__name__}")
            raise
        finally:
            context.run(window.end)

    return measured


def _asynchronous_generator(
    function: Callable[..., Any], name: str, monitor: Monitor | None, make: Make
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def measured(*args: Any, **kwargs: Any) -> Any:
        window, context = make(name, monitor), contextvars.copy_context()
        context.run(window.begin)
        measured.last = window  # type: ignore[attr-defined]
        inner = function(*args, **kwargs)
        try:
            sent = None
            while True:
                try:
                    item = await inner.asend(sent)
                except StopAsyncIteration:
                    return
                sent = yield item
        finally:
            await inner.aclose()
            context.run(window.end)

    return measured


def _class(cls: type, name: str, monitor: Monitor | None, make: Make) -> type:
    """Measure the public methods that the class itself defines."""
    for attribute, value in list(vars(cls).items()):
        if attribute.startswith("_") and attribute != "__call__":
            continue
        kind = type(value)
        if kind in (staticmethod, classmethod):
            setattr(cls, attribute, kind(decorate(value.__func__, f"{name}.{attribute}", monitor, make)))
        elif inspect.isfunction(value):
            setattr(cls, attribute, decorate(value, f"{name}.{attribute}", monitor, make))
    return cls
