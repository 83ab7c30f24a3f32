"""The first window of a process opens at once: sensors are found behind it, in a thread.

    begin ------------------------------------------------> end
      |  modules, drivers, files: some tenths of a second
      +--------------> first reading; the time before it is reckoned with the power seen after it, and bounded

`prepare` does the same before the first window, for whoever wants that one sharp too.
"""

# Nothing of the package is imported here before it is needed: that is what this module is for.
from __future__ import annotations

import contextlib
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .monitor import Monitor

    class Window(Protocol):
        """A window that waits for the monitor."""

        def take_up(self, monitor: Monitor | None) -> None: ...


_lock = threading.Lock()
_thread: threading.Thread | None = None
_waiting: list[Window] = []


def ready() -> Monitor | None:
    """The monitor of this process, if there is one that takes no finding of sensors any more."""
    module = sys.modules.get("wattline.measure.monitor")
    made: Monitor | None = getattr(module, "_default", None)
    if made is None or (_thread is not None and not made.ready):
        return None
    return made


def behind(window: Window) -> None:
    """Have this window taken up by the monitor when it is there."""
    global _thread
    with _lock:
        _waiting.append(window)
        if _thread is None:
            _thread = threading.Thread(target=_prepare, name="wattline-prepare", daemon=True)
            _thread.start()


def wait(window: Window) -> None:
    """Wait until this window is taken up."""
    thread = _thread
    if thread is not None and window in _waiting:
        thread.join()


def prepare() -> None:
    """Find the sensors of this machine now, so that the first window is as sharp as the others."""
    from .monitor import default

    default().prepare()


def _prepare() -> None:
    global _thread
    monitor = None
    with contextlib.suppress(Exception):  # the windows say that there is no sensor
        from .monitor import default

        monitor = default()
        monitor.prepare()
    with _lock:
        for window in _waiting:
            window.take_up(monitor)
        _waiting.clear()
        _thread = None


def _forked() -> None:
    """The parent's thread is not here."""
    global _thread, _lock
    _thread, _lock = None, threading.Lock()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
