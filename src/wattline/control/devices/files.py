"""Reading and writing one value of a kernel file, every failure a `ControlError` with its reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..leases.actuator import ControlError


def read_number(path: Path, device: str) -> float:
    """The number in a file."""
    text = read_text(path, device)
    try:
        return float(text)
    except ValueError:
        raise ControlError("device", f"{path} does not hold a number") from None


def read_text(path: Path, device: str) -> str:
    """The stripped text of a file."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise _translate(error, path, device, "read") from error


def write_text(path: Path, text: str, device: str) -> None:
    """Write a value in one call, as sysfs wants it; the file is never created."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translate(error, path, device, "set") from error


def _translate(error: OSError, path: Path, device: str, what: str) -> ControlError:
    if isinstance(error, PermissionError):
        return ControlError("permission", f"no permission to {what} {path}", "ask `wattline daemon`, or run as root")
    if isinstance(error, FileNotFoundError) or error.errno == errno.ENODEV:
        return ControlError("lost", f"the device {device} is lost: {path} is gone")
    if error.errno == errno.EINVAL:
        return ControlError("range", f"{device} does not take this value ({path})")
    return ControlError("device", f"{device}: {path}: {error.strerror}")
