"""Keep what is measured: the windows of this process and samples of its devices go to the store as they come.

    with record("train"):                 # or Recorder("train").start() ... .close()
        with wattline.measure("epoch") as m:
            ...

A thread samples the devices, and the store's own thread commits each second; the measured program is never
held up and never dies of it. What could not be kept is in `reason`.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import window as windows
from ..meter import this_host
from ..monitor import Live, Monitor, default
from .database import COMMIT_SECONDS, Store, Writer
from .sql import Row

# Windows that may wait to be worked out, so that a program that opens very many does not fill the memory.
MOST_WINDOWS = 100_000


class Recorder:
    """One run being kept. Constructing it touches nothing; `start` begins, `close` ends and says what went wrong.

    name : what the run is called. store : a `Store`, a path or a URL; the default store if None.
    interval : seconds between samples. tags : anything to find the run by.
    """

    def __init__(
        self,
        name: str = "",
        store: Store | str | Path | None = None,
        *,
        monitor: Monitor | None = None,
        interval: float = 1.0,
        command: Sequence[str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.command = list(sys.argv if command is None else command)
        self.name = name or os.path.basename(self.command[0] if self.command else "") or "run"
        self.interval = interval
        self._given = monitor
        self._window = windows.Window(self.name, monitor)
        self._closed: deque[windows.Window] = deque(maxlen=MOST_WINDOWS)
        self._known: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._writer = Writer(store, self.name, host=this_host(), command=self.command, tags=dict(tags or {}))

    @property
    def run(self) -> str:
        """The id of the run in the store."""
        return self._writer.run

    @property
    def reason(self) -> str:
        """Why something could not be kept, or ""."""
        return self._writer.reason

    def start(self) -> Recorder:
        """Begin the run; does nothing the second time."""
        if self._thread is None:
            windows.listeners.append(self._listen)
            # In a context of its own, so that the run's window is not the parent of the program's.
            contextvars.copy_context().run(self._window.begin)
            self._writer.start()
            atexit.register(self.close)
            self._thread = threading.Thread(target=self._loop, name="wattline-record", daemon=True)
            self._thread.start()
        return self

    def close(self, exit_code: int | None = None) -> str:
        """End the run; returns why something could not be kept, or ""."""
        if self._thread is None or self._stop.is_set() or os.getpid() != self._process:
            return self.reason
        self._stop.set()
        atexit.unregister(self.close)
        self._thread.join(timeout=5.0)
        self._window.end()
        with contextlib.suppress(ValueError):
            windows.listeners.remove(self._listen)
        answer: Row | None = None
        with contextlib.suppress(Exception):
            answer = self._window.settle().to_dict()
        self._keep()
        return self._writer.close(answer, exit_code, self._window.notes)

    def __enter__(self) -> Recorder:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(None if kind is None else 1)

    def _listen(self, window: windows.Window) -> None:
        if window is not self._window and os.getpid() == self._process:
            self._closed.append(window)

    def _loop(self) -> None:
        due = flushed = time.monotonic()
        while not self._stop.is_set():
            with contextlib.suppress(Exception):  # the next turn may do better, and the program must not notice
                self._keep()
            # Committed right after a sample, and no later than a second after the last: that is all a kill can take.
            if time.monotonic() - flushed + self.interval > COMMIT_SECONDS:
                self._writer.flush()
                flushed = time.monotonic()
            due = max(due + self.interval, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _keep(self) -> None:
        """Hand one sample of every device and the windows closed since to the writer."""
        monitor = self._given if self._given is not None else default()
        rows = monitor.live()
        now = time.time()
        fresh = [row for row in rows if device_key(row) not in self._known]
        if fresh:
            self._known.update(map(device_key, fresh))
            self._writer.add("devices", [device_row(row) for row in fresh])
        self._writer.add("samples", [sample_row(row, now) for row in rows if row.joules is not None])
        # A window is worked out here and not where it closed: the program is not held up, and by now the sensors
        # have shown its end.
        closed = [self._closed.popleft() for _ in range(len(self._closed))]
        self._writer.add("windows", [window.result.to_dict() for window in closed])


def record(
    name: str = "", store: Store | str | Path | None = None, *, monitor: Monitor | None = None, interval: float = 1.0
) -> Recorder:
    """Keep this program's windows and samples while this is entered: ``with record("train"): ...``."""
    return Recorder(name, store, monitor=monitor, interval=interval)


def device_key(row: Live) -> str:
    """``host/uuid/scope``."""
    return f"{row.host}/{row.uuid}/{row.scope}"


def device_row(row: Live) -> Row:
    """What the store keeps of a device once."""
    return {
        "device": device_key(row),
        "scope": row.scope,
        "name": row.name,
        "method": row.method,
        "within": list(row.within),
    }


def sample_row(row: Live, time_unix_s: float) -> Row:
    """What the store keeps of a device at an instant; its power with the least and the most it can have been."""
    return {
        "time_unix_s": time_unix_s,
        "device": device_key(row),
        "power_w": row.watts,
        "energy_j": row.joules,
        "clock_hz": row.clock,
        "memory_clock_hz": row.memory_clock,
        "temperature_c": row.temperature,
        "power_limit_w": row.power_limit,
        "utilization": row.utilization,
        "power_low_w": row.low,
        "power_high_w": row.high,
    }
