"""What was found on a device before it was changed, on the disk before the change: one small file for each device.

    block 0, 1     what was found        written in turn and fsync'd before the first change of a knob
    block 2, 3     what we set last      written in turn before each change; a kill cannot lose it, a power cut may,
                                         but a power cut resets the device too

Each block has a generation and a checksum over all of it, and only the older of a pair is ever written: whatever
happens to a write, the block before it stands. A block that is neither whole nor untouched is damage. It is told, and a
copy of the file is kept aside; it is never taken for nothing, and nothing is ever made of it.

The file is made at its full size under another name, so a disk that fills up later cannot stop a note and a file that
is short was cut. It is locked for as long as its owner lives: the kernel lets go of the lock when a process dies,
however it dies, so a file that can be locked and is not empty belongs to a dead owner and what it found is to be put
back. It is removed when that is done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec

from .actuator import KNOBS, ControlError, Knob, Setting

BLOCK: Final = 1024
SIZE: Final = 4 * BLOCK
# Magic and version, generation, checksum of all that follows, length of the text.
_HEAD: Final = struct.Struct("<8sQII")
_MAGIC: Final = b"WATTLIN2"
_UNTOUCHED: Final = bytes(BLOCK)
FOUND, OURS = (0, 1), (2, 3)
_open: set[int] = set()


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a block of the first pair holds."""

    device: str
    owner: str
    found: dict[str, float | None]


def pack(generation: int, data: bytes) -> bytes:
    """A block: its checksum covers the generation, the text and the padding."""
    room = BLOCK - _HEAD.size
    if len(data) > room:
        raise OSError(errno.EFBIG, "the record is too long")
    body = data.ljust(room, b"\0")
    check = zlib.crc32(struct.pack("<QI", generation, len(data)) + body)
    return _HEAD.pack(_MAGIC, generation, check, len(data)) + body


def unpack(block: bytes) -> tuple[int, bytes] | None:
    """(generation, text) of a block; None for one that was never written. Damage is a ValueError."""
    if block == _UNTOUCHED:
        return None
    if len(block) != BLOCK:
        raise ValueError("it was cut")
    magic, generation, check, length = _HEAD.unpack_from(block)
    body = block[_HEAD.size :]
    if magic != _MAGIC or length > len(body) or zlib.crc32(struct.pack("<QI", generation, length) + body) != check:
        raise ValueError("its checksum does not fit")
    return generation, body[:length]


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
    damage : what is wrong with the file, in a sentence; "" where nothing is. unsure : `ours` cannot be relied on.
    """

    def __init__(self, path: Path, device: str, descriptor: int) -> None:
        self.path, self.device = path, device
        self.owner = ""
        self.damage = ""
        self.unsure = False
        self.found: dict[Knob, float | None] = {}
        self.ours: dict[Knob, tuple[float | None, ...]] = {}
        self._descriptor = descriptor
        # For each pair of blocks: the newest generation, and the block to be written next.
        self._next: dict[tuple[int, int], tuple[int, int]] = {FOUND: (0, FOUND[0]), OURS: (0, OURS[0])}
        self._damaged: set[int] = set()
        _open.add(descriptor)

    def keep(self, setting: Setting, owner: str = "") -> None:
        """Record durably what was found; on failure nothing is recorded, and nothing may be changed."""
        found = {**self.found, **setting}
        block = Found(device=self.device, owner=(owner or self.owner)[:100], found=_plain(found))
        try:
            self._write(FOUND, msgspec.json.encode(block))
            os.fsync(self._descriptor)
        except OSError as error:
            raise ControlError(
                "journal",
                f"what was found on {self.device} could not be recorded in {self.path} ({error.strerror}), "
                "so nothing was changed",
            ) from error
        self.found, self.owner = found, block.owner

    def note(self, knob: Knob, value: float | None) -> None:
        """Note what is asked for next."""
        ours = {**self.ours, knob: (*self.ours.get(knob, ()), value)[-2:]}
        try:
            self._write(OURS, msgspec.json.encode(ours))
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
                block = Found(device=self.device, owner=self.owner, found=_plain(self.found))
                self._write(FOUND, msgspec.json.encode(block))
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

    def _write(self, pair: tuple[int, int], data: bytes) -> None:
        """Write the older block of a pair; the newer one stays as it is."""
        generation, place = self._next[pair]
        block = pack(generation + 1, data)
        if os.pwrite(self._descriptor, block, place * BLOCK) != BLOCK:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._next[pair] = generation + 1, pair[1] if place == pair[0] else pair[0]

    def _load(self) -> None:
        """Read both pairs; what is damaged is told and kept aside."""
        data = os.pread(self._descriptor, SIZE + 1, 0)
        wrong = [] if len(data) == SIZE else [f"it holds {len(data)} bytes instead of {SIZE}"]
        data = data[:SIZE]
        text = self._newest(FOUND, data, wrong, "what was found")
        if text is not None:
            try:
                block = msgspec.json.decode(text, type=Found)
                self.device, self.owner, self.found = block.device, block.owner, _knobs(block.found)
            except msgspec.MsgspecError as error:
                wrong.append(f"what was found makes no sense: {error}")
        before = len(wrong)
        text = self._newest(OURS, data, wrong, "what was set")
        self.unsure = len(wrong) > before
        if text is not None:
            try:
                self.ours = _knobs(msgspec.json.decode(text, type=dict[str, tuple[float | None, ...]]))
            except msgspec.MsgspecError as error:
                self.unsure = True
                wrong.append(f"what was set makes no sense: {error}")
        if wrong:
            self.damage = self._aside("; ".join(wrong))

    def _newest(self, pair: tuple[int, int], data: bytes, wrong: list[str], what: str) -> bytes | None:
        """The text of the newer whole block of a pair; what is wrong with either is added to `wrong`."""
        whole: list[tuple[int, int, bytes]] = []
        for place in pair:
            try:
                read = unpack(data[place * BLOCK : (place + 1) * BLOCK].ljust(BLOCK, b"\xff"))
                if read is not None:
                    whole.append((read[0], place, read[1]))
            except ValueError as error:
                self._damaged.add(place)
                wrong.append(f"block {place} ({what}) is damaged: {error}")
        if not whole:
            return None
        generation, place, text = max(whole)
        other = pair[1] if place == pair[0] else pair[0]
        self._next[pair] = generation, other
        return text

    def _aside(self, why: str) -> str:
        """Keep a copy of a damaged file, which is never deleted, and say where."""
        for number in range(1, 1000):
            place = self.path.with_name(f"{self.path.name}.damaged-{number}")
            try:
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                if place.read_bytes() == os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0):
                    return f"the record of {self.device} is damaged ({why}); a copy is kept in {place}"
                continue
            except OSError as error:
                told = f"the record of {self.device} in {self.path} is damaged ({why})"
                return f"{told}, and no copy could be kept ({error.strerror})"
            with os.fdopen(descriptor, "wb") as file, self.path.open("rb") as source:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
            return f"the record of {self.device} is damaged ({why}); a copy is kept in {place}"
        return (
            f"the record of {self.device} in {self.path} is damaged ({why}); there are too many copies to keep another"
        )


def claim(folder: Path, device: str) -> Record:
    """Lock the record of a device; one that a living process holds is refused."""
    path = folder / "found" / (re.sub(r"[^A-Za-z0-9_-]", "_", device)[:128] + ".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            _make(path)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # its last owner removed it meanwhile
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
        record._load()
        if record.damage:
            _mend(record)
        return record
    except OSError as error:
        raise ControlError(
            "journal",
            f"the record of {device} in {path} cannot be kept ({error.strerror}), so nothing was changed",
            "give another folder by WATTLINE_STATE",
        ) from error


def _make(path: Path) -> None:
    """Make a record that holds nothing, at its full size or not at all; one that is there is left."""
    if path.exists():
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(descriptor, bytes(SIZE)) != SIZE:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
        _sync(path.parent)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            partial.unlink()


def _mend(record: Record) -> None:
    """Write what could be read in place of what is damaged, so that the file is whole again."""
    os.ftruncate(record._descriptor, SIZE)
    block = Found(device=record.device, owner=record.owner, found=_plain(record.found))
    for pair, text in ((FOUND, msgspec.json.encode(block)), (OURS, msgspec.json.encode(record.ours))):
        for place in pair:
            if place in record._damaged:
                record._next[pair] = record._next[pair][0], place
                record._write(pair, text)
    os.fsync(record._descriptor)


def kept_aside(folder: Path) -> list[Path]:
    """Copies of damaged records, which an administrator looks at and deletes."""
    return sorted((folder / "found").glob("*.json.damaged-*"))


def left(folder: Path) -> list[Record]:
    """Records of owners that died, each locked; those that hold nothing and are whole are removed."""
    found = []
    for path in sorted((folder / "found").glob("*.json")):
        try:
            record = claim(folder, path.stem)
        except ControlError:
            continue
        if record.found or record.damage:
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
