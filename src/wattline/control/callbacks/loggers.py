"""Figures to experiment trackers: ``log=`` of a callback, or every window of the program with `follow`.

WattlineCallback(log=wandb(run))          follow(mlflow())
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...measure import window as windows
from .steps import Log, figures, need


def mlflow(client: Any = None) -> Log:
    """Log to MLflow's active run; `client` is the mlflow module or anything with ``log_metrics(figures, step=)``."""
    tracker = client if client is not None else need("mlflow", "mlflow")

    def log(found: Mapping[str, float], step: int) -> None:
        tracker.log_metrics(dict(found), step=step)

    return log


def wandb(run: Any = None) -> Log:
    """Log to a Weights & Biases run, the current one if None; the step goes in as a figure of its own.

    W&B drops what is logged to a step already passed, and trackers count steps differently.
    """
    tracker = run if run is not None else need("wandb", "wandb")

    def log(found: Mapping[str, float], step: int) -> None:
        tracker.log({**found, "energy/step": step})

    return log


@contextmanager
def follow(log: Log) -> Iterator[Callable[[], None]]:
    """While this is entered, log every window that closes, as ``NAME/...``, numbered from 1 by name.

    Windows are logged by a thread of their own, within a second, so that the program does not wait for a tracker.
    Yields a function that logs what waits now.
    """
    waiting: deque[windows.Window] = deque()
    numbers: dict[str, int] = {}
    stop, lock = threading.Event(), threading.Lock()

    def flush() -> None:
        with lock:
            for _ in range(len(waiting)):
                window = waiting.popleft()
                number = numbers[window.name] = numbers.get(window.name, 0) + 1
                found = figures(window.result)
                if found:
                    try:
                        log({f"{window.name}/{name.removeprefix('energy/')}": v for name, v in found.items()}, number)
                    except Exception as error:
                        window.notes.append(f"figures could not be logged: {type(error).__name__}: {error}")

    def loop() -> None:
        while not stop.wait(1.0):
            flush()

    thread = threading.Thread(target=loop, name="wattline-follow", daemon=True)
    windows.listeners.append(waiting.append)
    thread.start()
    try:
        yield flush
    finally:
        windows.listeners.remove(waiting.append)
        stop.set()
        thread.join(timeout=5.0)
        flush()
