"""The audit log: one JSON line for everything that was asked of a device and what came of it, only ever added to.

    {"time_unix_s": ..., "event": "set", "device": "GPU-...", "owner": "alice", "knob": "power_limit",
     "before": 700.0, "asked": 300.0, "after": 300.0, "dry_run": false}

A line is written before a change, so no change goes unlogged: where it cannot be written, nothing is changed.
Lines are single writes to a file opened for appending, so processes share it and it may be rotated by renaming.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from .actuator import ControlError


class Audit:
    """A log in a file; None keeps nothing. It is opened at the first line, and anew when it was renamed away."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._descriptor = -1
        self._process = 0

    def write(self, event: str, **facts: Any) -> None:
        """Add a line; a disk that takes none refuses the change."""
        if self.path is None:
            return
        line = msgspec.json.encode({"time_unix_s": time.time(), "event": event, **facts}) + b"\n"
        try:
            self._open()
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ControlError(
                "journal", f"the audit log {self.path} cannot be written ({error.strerror}), so nothing was changed"
            ) from error

    def tell(self, event: str, **facts: Any) -> None:
        """Add a line about what happened already; a full disk must not keep anything from being put back."""
        with contextlib.suppress(ControlError):
            self.write(event, **facts)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        assert self.path is not None
        if self._descriptor >= 0 and self._process == os.getpid():
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                    return
            os.close(self._descriptor)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._process = os.getpid()
