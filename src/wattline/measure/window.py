"""A window: from here to there, so many joules.

    with wattline.measure("step") as m:          @wattline.measure("epoch")        wattline.begin("step")
        train()                                  def epoch(): ...                  train()
        m.count(tokens=4096)                                                       m = wattline.end("step")

Windows nest and overlap freely, in threads and in async tasks: each only remembers two instants on shared
energy curves. Nothing here raises into the user's program: what goes wrong is a note in the answer.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from .monitor import Monitor
    from .result import Measurement, Total
    from .track import Edge

F = TypeVar("F", bound="Callable[..., Any]")

_stack: contextvars.ContextVar[tuple[Window, ...]] = contextvars.ContextVar("wattline_windows", default=())
_open: dict[int, Window] = {}
_ids = itertools.count()

# Called with every window that closes, such as a store or an exporter; what they raise is kept as a note.
listeners: list[Callable[[Window], None]] = []


class Window:
    """A window being measured, and its answer once closed; make one with `measure`.

    `result` is the answer so far, and never waits. Right after the end the sensors have not yet shown the
    last instants, so the interval is wide; `settle()` waits for their next update and narrows it.
    """

    def __init__(
        self,
        name: str,
        monitor: Monitor | None = None,
        counts: dict[str, float] | None = None,
        devices: Sequence[str | int] | None = None,
    ) -> None:
        self.name = name
        self.counts: dict[str, float] = dict(counts or {})
        self.notes: list[str] = []
        self.parent = ""
        self.start = 0.0
        self.closed = False
        self.devices = None if devices is None else tuple(devices)
        self._given = monitor
        self._monitor: Monitor | None = None
        self._first: list[Edge] = []
        self._last: list[Edge] = []
        self._throttle: list[tuple[str, ...]] = []
        self._answer: Measurement | None = None
        self._begun = 0.0
        self._seconds = 0.0
        self._id = -1

    # ---- open and close ----

    def begin(self) -> Window:
        """Open the window; opening it again while open is noted and starts it afresh."""
        try:
            if self._id in _open:
                self.notes.append(f"window {self.name!r} was begun again before it ended; the earlier part is left out")
                self.end()
            self._answer, self.closed, self._last = None, False, []
            stack = _stack.get()
            self.parent = stack[-1].name if stack else ""
            _stack.set((*stack, self))
            self._id = next(_ids)
            _open[self._id] = self
            self.start = time.time()
            monitor = self._monitor = self._given if self._given is not None else start.ready()
            if monitor is None:
                self._first, self._begun = [], time.perf_counter()
                start.behind(self)
                return self
            self._first = monitor.open()
            self._begun = self._first[0].time if self._first else monitor.clock()
        except Exception as error:
            self.notes.append(f"the window could not be opened: {type(error).__name__}: {error}")
        return self

    def end(self) -> Window:
        """Close the window; closing one that is not open is noted and changes nothing."""
        try:
            if self._id not in _open:
                self.notes.append(f"window {self.name!r} was ended without being open")
                return self
            start.wait(self)
            self._close()
            self.closed = True
            _open.pop(self._id, None)
            stack = _stack.get()
            if stack and stack[-1] is self:
                _stack.set(stack[:-1])
            elif self in stack:
                _stack.set(tuple(w for w in stack if w is not self))
                self.notes.append(f"window {self.name!r} ended before windows opened inside it")
            for listener in listeners:
                try:
                    listener(self)
                except Exception as error:
                    self.notes.append(f"a listener failed: {type(error).__name__}: {error}")
        except Exception as error:
            self.notes.append(f"the window could not be closed: {type(error).__name__}: {error}")
        return self

    def take_up(self, monitor: Monitor | None) -> None:
        """Have a monitor follow this window that began before it was there; called by `start` alone."""
        self._monitor = monitor
        if monitor is not None:
            self._first = monitor.open(self._begun)

    def _close(self) -> None:
        """Mark the end at the monitor; one that fails must not keep the window open."""
        monitor = self._monitor
        if monitor is None:
            self._seconds = time.perf_counter() - self._begun
            return
        now = monitor.clock()
        try:
            self._last = monitor.close()
            self._throttle = [
                tuple(sorted(why for why, when in track.throttled.items() if when >= self._begun))
                if track.throttled
                else ()
                for track in monitor.tracks
            ]
        except Exception as error:
            self.notes.append(f"the sensors could not be read at the end: {type(error).__name__}: {error}")
        self._seconds = (self._last[0].time if self._last else now) - self._begun

    def __enter__(self) -> Window:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.notes.append(f"the window ended in {kind.__name__}")
        self.end()

    async def __aenter__(self) -> Window:
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate: every call of the function, sync or async, is a window; ``function.last`` is the latest."""
        from .decorate import decorate

        return decorate(function, self.name, self._given, Window)

    # ---- what was done in it ----

    def count(self, **what: float) -> Window:
        """Add to what was done in the window: ``m.count(tokens=4096, steps=1)``."""
        for name, number in what.items():
            try:
                self.counts[name] = self.counts.get(name, 0.0) + float(number)
            except (TypeError, ValueError):
                self.notes.append(f"count {name}={number!r} is not a number and was left out")
        self._answer = None
        return self

    # ---- the answer ----

    def settle(self, timeout: float = 1.0) -> Measurement:
        """Wait, at most `timeout` s, for the sensors to show the end of the window; then the answer."""
        try:
            if self.closed and self._monitor is not None:
                self._monitor.settle(self._last, timeout)
        except Exception as error:
            self.notes.append(f"waiting failed: {type(error).__name__}: {error}")
        return self.result

    @property
    def result(self) -> Measurement:
        """The answer so far; of an open window, up to now."""
        if self._answer is not None:
            return self._answer
        try:
            answer, final = self._measure()
        except Exception as error:
            self.notes.append(f"the answer could not be worked out: {type(error).__name__}: {error}")
            from .meter import this_host
            from .result import Measurement

            return Measurement(name=self.name, start=self.start, host=this_host(), notes=tuple(self.notes))
        if final:
            self._answer = answer
        return answer

    def _measure(self) -> tuple[Measurement, bool]:
        from .answer import part
        from .meter import this_host
        from .result import Measurement
        from .select import chosen

        notes = list(self.notes)
        monitor = self._monitor
        first, last, throttle, seconds = self._first, self._last, self._throttle, self._seconds
        tracks = monitor.tracks if monitor is not None else []
        if not self.closed and monitor is not None and first:
            last, throttle = monitor.mark(), [()] * len(first)
            seconds = monitor.clock() - self._begun
            notes.append("the window is still open; this is the answer so far")
        picked, unknown = chosen(tracks, self.devices)
        notes.extend(unknown)
        every = zip(tracks, first, last, throttle or [()] * len(first), strict=False)
        parts = tuple(part(track, a, b, why) for track, a, b, why in every if track in picked)
        if monitor is not None:
            notes.extend(f"{m.sensor}: {m.reason}" for m in monitor.missing)
            if not monitor.tracks:
                notes.append("no sensor was found; run `wattline doctor` to see why")
        answer = Measurement(
            name=self.name,
            start=self.start,
            seconds=seconds,
            host=this_host(),
            process=os.getpid(),
            parent=self.parent,
            parts=parts,
            counts=dict(self.counts),
            notes=tuple(dict.fromkeys(notes)),
        )
        final = self.closed and all(t.settled(e) for t, e in zip(tracks, last, strict=False))
        return answer, final

    @property
    def joules(self) -> float | None:
        """The total so far, J; None when no sensor gave a figure."""
        return self.result.joules

    @property
    def seconds(self) -> float:
        """The length of the window, s."""
        return self.result.seconds

    @property
    def total(self) -> Total:
        """The total so far and what it holds."""
        return self.result.total

    def each(self, count: str) -> float | None:
        """Joules per one of what was counted."""
        return self.result.each(count)

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data."""
        return self.result.to_dict()

    def __rich__(self) -> Any:
        return self.result.__rich__()

    def __repr__(self) -> str:
        return f"Window({self.name!r}, {'closed' if self.closed else 'open' if self._id >= 0 else 'new'})"


@overload
def measure(
    name: str = "window", *, monitor: Monitor | None = None, devices: Sequence[str | int] | None = None
) -> Window: ...
@overload
def measure(name: F) -> F: ...
def measure(name: Any = "window", *, monitor: Monitor | None = None, devices: Sequence[str | int] | None = None) -> Any:
    """A window for ``with``, ``async with`` or a decorator; nothing happens until it is entered.

    devices : only these, by place among the GPUs (0, 1), UUID or its beginning, key, or scope ("gpu", "cpu").
    """
    if callable(name):
        return Window(getattr(name, "__qualname__", repr(name)), monitor)(name)
    return Window(str(name), monitor, devices=devices)


def begin(name: str = "window", *, monitor: Monitor | None = None) -> Window:
    """Open a window in a loop; a window of this name still open here is closed first, with a note."""
    for window in reversed(_stack.get()):
        if window.name == name and not window.closed:
            window.notes.append(f"window {name!r} was never closed; it ended where the next of its name began")
            window.end()
            break
    return Window(name, monitor).begin()


def end(name: str | None = None) -> Window:
    """Close the latest window of this name, or the latest of all; if there is none, an answer that says so."""
    stack = _stack.get()
    for window in reversed(stack):
        if (name is None or window.name == name) and not window.closed:
            return window.end()
    # A window begun in another thread or task is not on this stack; it is found by name.
    for window in reversed(list(_open.values())):
        if name is not None and window.name == name:
            return window.end()
    missing = Window(name or "window")
    missing.closed = True
    missing.notes.append(f"no window named {name!r} was open" if name else "no window was open")
    return missing


def current() -> Window | None:
    """The innermost open window here, or None."""
    for window in reversed(_stack.get()):
        if not window.closed:
            return window
    return None


def _unclosed() -> None:
    """At exit, close what was left open, tell the listeners, and say so on stderr."""
    for window in list(_open.values()):
        window.notes.append(f"window {window.name!r} was never closed; it ended with the process")
        window.end()
        with contextlib.suppress(Exception):
            print(f"wattline: window {window.name!r} was never closed; it ended with the process", file=sys.stderr)


def _forked() -> None:
    """Windows of the parent are not this child's to close."""
    _open.clear()
    _stack.set(())


atexit.register(_unclosed)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
