"""A small process that waits for the one that set a device to end, however it ends, and then puts back what was found.

A program that was killed cannot clean up after itself, and without a daemon nobody else would until the next start.
The guard holds the reading end of a pipe and nothing else: when the last writer is gone it does what `Keeper.recover`
does, unless its program said that it put everything back. Run: ``python -m wattline.control.leases.guard FOLDER``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

DONE: Final = b"done"


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a guard over a folder of records; closing its standard input sets it to work, after `DONE` lets it go."""
    command = [sys.executable, "-m", __name__, str(folder)]
    quiet = subprocess.DEVNULL
    # A session of its own: a Ctrl-C or a hang-up of the terminal must not end the guard before its program.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def main(folder: str) -> None:
    """Wait, then put back."""
    if sys.stdin.buffer.read().endswith(DONE):
        return
    from ..devices.find import find
    from .keeper import Keeper

    Keeper(find()[0], Path(folder)).recover()


if __name__ == "__main__":
    main(sys.argv[1])
