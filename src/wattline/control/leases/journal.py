"""What was found on a device before it was changed, on the disk before the change: one small file for each device.

    bytes 0 to 1023       what was found          written and fsync'd before the first change of a knob
    bytes 1024 to 2047    what we set last        written before each change; a kill cannot lose it, a power cut may,
                                                  but a power cut resets the device too

The file is made at its full size, so a disk that fills up later cannot stop a note. It is locked for as long as its
owner lives: the kernel lets go of the lock when a process dies, however it dies, so a file that can be locked and
is not empty belongs to a dead owner and what it found is to be put back. It is removed when that is done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from .actuator import KNOBS, ControlError, Knob, Setting

BLOCK: Final = 1024
VERSION: Final = 1
_open: set[int] = set()


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first block."""

    version: int
    device: str
    owner: str
    found: dict[str, float | None]


def state_folder() -> Path:
    """Where records and the audit log are kept: WATTLINE_STATE, else /var/lib/wattline for root, else one's own."""
    given = os.environ.get("WATTLINE_STATE", "")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/wattline")
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "wattline"


class Record:
    """A device's record, locked; make one with `claim`.

    found : what each changed knob was set to before. ours : the last two values that we asked each for.
    """

    def __init__(self, path: Path, device: str, descriptor: int) -> None:
        self.path, self.device = path, device
        self.owner = ""
        self.found: dict[Knob, float | None] = {}
        self.ours: dict[Knob, tuple[float | None, ...]] = {}
        self._descriptor = descriptor
        self._fresh = True  # its name may not be on the disk yet
        _open.add(descriptor)

    def keep(self, setting: Setting, owner: str = "") -> None:
        """Record durably what was found; on failure nothing is recorded, and nothing may be changed."""
        found = {**self.found, **setting}
        block = Found(version=VERSION, device=self.device, owner=(owner or self.owner)[:100], found=_plain(found))
        try:
            self._write(0, msgspec.json.encode(block))
            os.fsync(self._descriptor)
            if self._fresh:
                _sync(self.path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._write(0, msgspec.json.encode(msgspec.structs.replace(block, found=_plain(self.found))))
            raise ControlError(
                "journal",
                f"what was found on {self.device} could not be recorded in {self.path} ({error.strerror}), "
                "so nothing was changed",
            ) from error
        self.found, self.owner, self._fresh = found, block.owner, False

    def note(self, knob: Knob, value: float | None) -> None:
        """Note what is asked for next."""
        ours = {**self.ours, knob: (*self.ours.get(knob, ()), value)[-2:]}
        try:
            self._write(BLOCK, msgspec.json.encode(ours))
        except OSError as error:
            raise ControlError(
                "journal", f"{self.path} could not be written ({error.strerror}), so nothing was changed"
            ) from error
        self.ours = ours

    def forget(self, knob: Knob) -> None:
        """A knob is as it was found, or is someone else's now."""
        self.found.pop(knob, None)
        self.ours.pop(knob, None)

    def release(self) -> None:
        """Let go: the file is removed if nothing is left to put back, and stays for later if something is."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if self.found:
                block = Found(version=VERSION, device=self.device, owner=self.owner, found=_plain(self.found))
                self._write(0, msgspec.json.encode(block))
                os.fsync(self._descriptor)
            else:
                self.path.unlink(missing_ok=True)
                _sync(self.path.parent)
        _open.discard(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def abandon(self) -> None:
        """Let go of the lock and leave the file as it is, as a process that dies does."""
        if self._descriptor >= 0:
            _open.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, at: int, data: bytes) -> None:
        if len(data) >= BLOCK:
            raise OSError(errno.EFBIG, "the record is too long")
        block = data.ljust(BLOCK - 1) + b"\n"
        if os.pwrite(self._descriptor, block, at) != len(block):
            raise OSError(errno.ENOSPC, "No space left on device")

    def _load(self) -> None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            data = os.pread(self._descriptor, 2 * BLOCK, 0)
            # A first block that cannot be read was being written when the power went: nothing had been changed yet.
            block = msgspec.json.decode(data[:BLOCK], type=Found)
            if block.version == VERSION and block.device:
                self.device, self.owner = block.device, block.owner
                self.found = _knobs(block.found)
                with contextlib.suppress(msgspec.MsgspecError):
                    self.ours = _knobs(msgspec.json.decode(data[BLOCK:], type=dict[str, tuple[float | None, ...]]))


def claim(folder: Path, device: str) -> Record:
    """Lock the record of a device; one that a living process holds is refused."""
    path = folder / "found" / (re.sub(r"[^A-Za-z0-9_-]", "_", device)[:128] + ".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise ControlError("busy", f"{device} is held by another lease; wait for it to end") from None
            # Its last owner may have removed the file between the opening and the lock.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
            os.close(descriptor)
        record = Record(path, device, descriptor)
        if os.fstat(descriptor).st_size < 2 * BLOCK:
            _fill(record)
        record._load()
        return record
    except OSError as error:
        raise ControlError(
            "journal",
            f"the record of {device} in {path} cannot be kept ({error.strerror}), so nothing was changed",
            "give another folder by WATTLINE_STATE",
        ) from error


def _fill(record: Record) -> None:
    """Take the space of both blocks now."""
    try:
        record._write(0, b"")
        record._write(BLOCK, b"")
    except OSError:
        record.release()
        raise


def left(folder: Path) -> list[Record]:
    """Records of owners that died, each locked; those that hold nothing are removed."""
    found = []
    for path in sorted((folder / "found").glob("*.json")):
        try:
            record = claim(folder, path.stem)
        except ControlError:
            continue
        if record.found:
            found.append(record)
        else:
            record.release()
    return found


def _knobs(values: dict[str, Any]) -> dict[Knob, Any]:
    return {knob: values[knob] for knob in KNOBS if knob in values}


def _plain(found: dict[Knob, float | None]) -> dict[str, float | None]:
    return {str(knob): value for knob, value in found.items()}


def _sync(folder: Path) -> None:
    """Make a new or removed name durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forked() -> None:
    """A child does not own its parent's records, and must not keep their locks after the parent is gone."""
    for descriptor in list(_open):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
