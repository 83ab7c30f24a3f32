"""Reading one number out of a small kernel file, again and again, without opening it each time."""

from __future__ import annotations

import os
from pathlib import Path

from ..meter import MeterError


class NumberFile:
    """A file of sysfs that holds a number; opened at first use and read from its start each time."""

    def __init__(self, path: Path, fix: str = "") -> None:
        self.path, self._fix = path, fix
        self._descriptor = -1

    def read(self) -> float:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return float(os.pread(self._descriptor, 64, 0))
        except PermissionError as error:
            raise MeterError(f"no permission to read {self.path}", fix=self._fix or chmod(self.path)) from error
        except FileNotFoundError as error:
            raise MeterError(f"{self.path} is gone", lost=True) from error
        except OSError as error:
            # ENODEV: the device was removed while its file was open.
            raise MeterError(f"{self.path}: {error.strerror}", lost=error.errno == 19) from error
        except ValueError as error:
            raise MeterError(f"{self.path} does not hold a number") from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def chmod(path: Path) -> str:
    """The command that lets everyone read a file."""
    return f"sudo chmod a+r {path}"


def word(path: Path, default: str = "") -> str:
    """The stripped text of a file, or `default` if it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return default


def number(path: Path) -> float | None:
    """The number in a file, or None."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
