"""Waiting for what another thread or process does: until it is so, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable

from wattline.measure.monitor import Monitor

# A bound for what is broken, far above what a busy machine takes; a test that passes never waits so long.
BROKEN_S = 60.0


def until(condition: Callable[[], object], seconds: float = BROKEN_S) -> bool:
    """Wait until something is so; False where it is not after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def updated(monitor: Monitor, times: int = 4) -> None:
    """Wait until the first device's counter has been seen to update so often."""
    track = monitor.tracks[0]
    wanted = track.changed + times

    def seen() -> bool:
        track.drain()
        return track.changed >= wanted

    assert until(seen)
