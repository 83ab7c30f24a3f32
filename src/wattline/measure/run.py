"""Measure a command from outside: no edits, its children included, its exit code and output untouched.

The command runs in the foreground with our standard streams. Signals that would end us reach it instead, and we
wait for it and still report. What is measured are whole devices, so whatever else ran on them is in the figure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

import msgspec

from .monitor import Monitor
from .result import Measurement
from .window import Window

# What a shell answers for a command that is not there or may not run (POSIX, Shell Command Language, 2.8.2).
NOT_FOUND, NOT_EXECUTABLE = 127, 126
WHOLE_DEVICES = "figures are of whole devices: anything else that ran on them meanwhile is included"


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was run: its exit code as a shell gives it, what it used, and why it did not start."""

    command: tuple[str, ...]
    code: int
    measurement: Measurement
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "command": list(self.command),
            "exit_code": self.code,
            "error": self.error,
            **self.measurement.to_dict(),
        }


def run(argv: Sequence[str], monitor: Monitor | None = None, *, output: IO[bytes] | None = None) -> Ran:
    """Run a command to its end and measure it; `output` takes what it prints, in place of our own streams.

    The code is the command's own, 128 + n if signal n ended it, 127 if it was not found, 126 if it may not run.
    """
    command = tuple(argv)
    window = Window(os.path.basename(command[0]) if command else "nothing", monitor)
    if not command:
        window.closed = True
        return Ran(command=command, code=2, measurement=window.result, error="no command was given")
    window.notes.append(WHOLE_DEVICES)
    error, code = "", 0
    with window:
        try:
            with _forwarding() as target:
                process = subprocess.Popen(command, stdout=output, stderr=output)
                target.append(process)
                code = process.wait()
        except FileNotFoundError:
            error, code = f"{command[0]!r} was not found", NOT_FOUND
        except (OSError, ValueError) as failure:
            error, code = f"{command[0]!r} could not be started: {failure}", NOT_EXECUTABLE
    if code < 0:
        window.notes.append(f"the command was ended by {_signal_name(-code)}")
        code = 128 - code
    return Ran(command=command, code=code, measurement=window.settle(), error=error)


@contextlib.contextmanager
def _forwarding() -> Iterator[list[subprocess.Popen[bytes]]]:
    """While this is entered, signals that would end us go to the process in the list; then all is put back."""
    target: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield target
        return

    def forward(number: int, _frame: object) -> None:
        if not target:
            early.append(number)
        elif not (number in (signal.SIGINT, signal.SIGQUIT) and _terminal_signals_us()):
            with contextlib.suppress(OSError):
                target[0].send_signal(number)

    class Waiting(list[subprocess.Popen[bytes]]):
        """Hands over what arrived before the process was there."""

        def append(self, process: subprocess.Popen[bytes]) -> None:
            super().append(process)
            for number in early:
                process.send_signal(number)

    target = Waiting()
    before: dict[int, Any] = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
        number = getattr(signal, name, None)
        # What our parent had us ignore (nohup) stays ignored, for the command too.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, forward)
    try:
        yield target
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _terminal_signals_us() -> bool:
    """Whether we are the terminal's foreground group, so that its Ctrl-C reaches the command by itself."""
    for descriptor in (0, 1, 2):
        try:
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        except OSError:
            continue
    return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
