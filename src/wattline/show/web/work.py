"""Processes that answer requests, so that the page stays quick, sees progress, and can stop what it asked.

A `Lane` is one process that answers one request after another and keeps what it has compiled and cached. What
is asked of it can be stopped at any time: the process ends, the next request starts another.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...core.errors import WattlineError
from .inbox import Request, line_of


class StoppedError(WattlineError):
    """The request was stopped by whoever asked."""


class RefusedError(WattlineError):
    """A request without an answer: the sentence, its exit code, and the line of the scenario it is about."""

    def __init__(self, message: str, code: int, line: int | None) -> None:
        super().__init__(message)
        self.code, self.line = code, line


@dataclass
class Task:
    """A request on its way: how far it is."""

    name: str
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    stopped: bool = False


class Lane:
    """One process and its queue. Thread-safe: requests wait for one another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._turn = threading.Lock()
        self._process: Any = None
        self._pipe: Any = None
        self._busy: Task | None = None
        self._folder: Path | None = None

    def ask(self, what: str, request: Request, more: Mapping[str, Any], task: Task) -> dict[str, Any]:
        """Return the answer of `api.what(request, **more)`; raise `RefusedError` or `StoppedError`."""
        with self._turn:
            if task.stopped:
                raise StoppedError("stopped before it began")
            self._start()
            self._busy = task
            try:
                self._pipe.send((what, request, dict(more)))
                return self._wait(task, request)
            finally:
                self._busy = None

    def _wait(self, task: Task, request: Request) -> dict[str, Any]:
        while True:
            try:
                kind, *rest = self._pipe.recv()
            except (EOFError, OSError):
                self._end()
                if task.stopped:
                    raise StoppedError("stopped") from None
                raise RefusedError("the process that answers ended without one; try again", 1, None) from None
            if kind == "progress":
                task.done, task.total = rest
            elif kind == "answer":
                return dict(rest[0])
            else:
                message, code = rest
                raise RefusedError(message, code, line_of(request.scenario, message))

    def stop(self, task: Task) -> None:
        """End `task`, running or waiting."""
        task.stopped = True
        if self._busy is task and self._process is not None:
            self._process.terminate()

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
        self._end()

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self._end()
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._folder = Path(tempfile.mkdtemp(prefix="wattline-"))
        self._process = context.Process(
            target=_serve, args=(theirs, self._folder), name=f"wattline-{self.name}", daemon=True
        )
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        """Put away what is left of the process, its files among it."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.join(5)
        self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _serve(pipe: Any, folder: Path) -> None:
    """Answer requests until the other side is gone."""
    from . import api

    api.settle(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            what, request, more = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_answer(api, what, request, more, lambda done, total: pipe.send(("progress", done, total))))


def _answer(api: Any, what: str, request: Request, more: Mapping[str, Any], tell: Any) -> tuple[Any, ...]:
    try:
        return "answer", getattr(api, what)(request, tell, **more)
    except WattlineError as error:
        return "refused", " ".join(str(error).split()), error.exit_code
    except Exception as error:  # a fault of ours: said in one sentence, and the page goes on
        return "refused", f"wattline failed on this scenario ({type(error).__name__}: {error}); please report it", 1


class Desk:
    """The lanes, and what is under way: previews are never held up by exact answers."""

    def __init__(self) -> None:
        self.lanes = {name: Lane(name) for name in ("quick", "exact")}
        self.tasks: dict[str, tuple[Lane, Task]] = {}

    def ask(self, lane: str, what: str, request: Request, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer a request in its lane; blocks, so call it in a thread."""
        task = Task(request.task)
        if request.task:
            self.tasks[request.task] = self.lanes[lane], task
        try:
            return self.lanes[lane].ask(what, request, more or {}, task)
        finally:
            self.tasks.pop(request.task, None)

    def stop(self, name: str) -> bool:
        """Stop a task by its name; say whether there was one."""
        found = self.tasks.get(name)
        if found is not None:
            lane, task = found
            lane.stop(task)
        return found is not None

    def progress(self, name: str) -> dict[str, Any]:
        """Return how far a task is."""
        found = self.tasks.get(name)
        if found is None:
            return {"running": False, "done": 0, "total": 0, "elapsed_s": 0.0}
        task = found[1]
        return {"running": True, "done": task.done, "total": task.total, "elapsed_s": time.monotonic() - task.began}

    def close(self) -> None:
        """End every process."""
        for lane in self.lanes.values():
            lane.close()
