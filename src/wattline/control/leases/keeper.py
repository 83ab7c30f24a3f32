"""A lease is the right to set one device for a while; however it ends, the device is left as it was found.

    take ---- set ---- set ---- beat ---- close        found: recorded on the disk before the first set
      |                                     |
      +-- expiry, lost client, exit, crash, kill: what was found is put back, by us or by whoever starts next

Four rules are kept here for every kind of device. (1) Nothing is changed before what was found is on the disk.
(2) Nothing is set above what was found, for that is the administrator's limit. (3) What is in force after a change is
compared with what was asked, and a change that did not take is taken back. (4) A knob that someone else has
changed since is theirs: it is left alone, and the lease ends and says so.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ...core.units import show
from . import journal
from .actuator import (
    Actuator,
    ControlError,
    Knob,
    Range,
    Setting,
    describe,
    pick,
    same,
    say,
    setting_of,
)
from .audit import Audit
from .journal import Record
from .restore import Standing, restore

Clock = Callable[[], float]


class Lease:
    """The right to set one device; make one with `Keeper.take`. Leaving a ``with`` puts back what was found.

    owner : who it belongs to, for the log. ttl : s after which it ends unless `beat` or `set` is called; None never.
    over : "" while it is held, then why it ended.
    """

    def __init__(self, keeper: Keeper, actuator: Actuator, owner: str, ttl: float | None) -> None:
        self.actuator, self.owner, self.ttl = actuator, owner, ttl
        self.device, self.name = actuator.uuid, actuator.name
        self.over = ""
        self.code: str = ""
        self._keeper = keeper
        self._record: Record | None = None
        self._most: dict[Knob, float] = {}
        self._in_force: dict[Knob, float | None] = {}
        self._lock = threading.RLock()
        self._due = math.inf
        self.beat()

    # ---- use ----

    @property
    def ranges(self) -> Mapping[Knob, Range]:
        """What can be set, and to what."""
        return self.actuator.knobs()

    @property
    def limit(self) -> float:
        """W of the power limit in force when the lease was taken, which is the most that may be set."""
        with self._lock:
            self._checked("power_limit", None)
            return self._most["power_limit"]

    def recorded(self, setting: Setting) -> bool:
        """Whether what was found of these knobs is on the disk already, so that setting them flushes nothing."""
        record = self._record
        return record is not None and all(knob in record.found for knob in setting)

    @property
    def latency(self) -> float:
        """Seconds until a change is in force."""
        return self.actuator.latency

    def set(self, *, verify: bool = True, **knobs: float | None) -> dict[Knob, float | None]:
        """Set knobs, all or none, and return what is in force: ``lease.set(power_limit=250.0, clock=1.2e9)``.

        W and Hz; None lets the device choose again, or a limit go back to what was found. `verify=False` leaves
        out looking whether a lower clock has been reached, which takes some ms; limits are always read back.
        """
        return self.apply(setting_of(**knobs), verify=verify)

    def apply(self, setting: Setting, *, verify: bool = True) -> dict[Knob, float | None]:
        """The same with the knobs in a mapping."""
        with self._lock:
            self._alive()
            wanted = {knob: self._checked(knob, value) for knob, value in setting.items()}
            self._undisturbed(blind=False)
            if self._keeper.dry_run:
                for knob, value in wanted.items():
                    self._log("set", knob, self._now(knob), value, value)
                self._in_force.update(wanted)
            else:
                self._write(wanted, verify)
            self.beat()
            return dict(wanted)

    def read(self) -> dict[Knob, float | None]:
        """What every knob is set to now."""
        with self._lock:
            self._alive()
            return {knob: self._now(knob) for knob in self.ranges}

    def beat(self) -> None:
        """Keep the lease for another `ttl`."""
        if self.over:
            self._alive()
        if self.ttl is not None:
            self._due = self._keeper.clock() + self.ttl

    def check(self) -> None:
        """Whether everything is as it was set; if another tool changed a knob, the lease ends and this says so."""
        with self._lock:
            self._alive()
            self._undisturbed(blind=True)

    @property
    def remaining(self) -> float:
        """Seconds until it ends unless `beat` is called."""
        return self._due - self._keeper.clock()

    def close(self, why: str = "it was given back") -> list[str]:
        """Put back what was found; returns what could not be, in sentences. Closing twice does nothing."""
        with self._lock:
            # A child after fork has none of its parent's leases.
            if self.over or os.getpid() != self._keeper._process:
                return []
            return self._end("stale", why)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lease({self.device!r}, {self.over or 'held'})"

    # ---- how ----

    def _alive(self) -> None:
        if not self.over and self._due <= self._keeper.clock():
            self._end("stale", f"it was not renewed within {show(self.ttl or 0.0, 's')}")
        if os.getpid() != self._keeper._process:
            raise ControlError("stale", f"the lease of {self.device} belongs to the process that took it")
        if self.over:
            raise ControlError("stale", f"the lease of {self.device} is over: {self.over}", "take a new one")

    def _checked(self, knob: Knob, value: float | None) -> float | None:
        """The value as the device takes it, within its range and the administrator's limit."""
        range_ = self.actuator.range(knob)
        if knob not in self._most:
            standing = self._keeper.standing(self.actuator, knob)
            ceiling = self.actuator.ceiling(knob)
            self._most[knob] = ceiling if standing is None else min(ceiling, standing)
        if value is None:
            return self._found(knob)
        return range_.check(knob, float(value), self._most[knob])

    def _found(self, knob: Knob) -> float | None:
        if self._record is not None and knob in self._record.found:
            return self._record.found[knob]
        if not self.actuator.range(knob).readable:
            standing = self._keeper.standing(self.actuator, knob)
            if standing is not None:
                return standing
        return self.actuator.read(knob)

    def _now(self, knob: Knob) -> float | None:
        if self._keeper.dry_run and knob in self._in_force:
            return self._in_force[knob]
        return self.actuator.read(knob)

    def _undisturbed(self, *, blind: bool) -> None:
        """Rule 4: a knob of ours that reads otherwise was changed by someone else; `blind` looks at clocks too."""
        record = self._record
        if record is None:
            return
        for knob, mine in list(self._in_force.items()):
            range_ = self.actuator.range(knob)
            if not (range_.readable or blind):
                continue
            try:
                now = self.actuator.observe(knob, mine)
            except ControlError as error:
                self._end(error.code, error.reason)
                raise
            if not same(now, mine, range_.step):
                text = f"another tool set {describe({knob: now})} on {self.device}, which is left as it is"
                record.forget(knob)
                self._log("conflict", knob, mine, None, now)
                self._end("conflict", text)
                raise ControlError("conflict", f"{text}; the lease is over", "let one tool set a device")

    def _write(self, wanted: dict[Knob, float | None], verify: bool) -> None:
        """Rules 1 and 3; `wanted` becomes what is in force, which a driver may have rounded down."""
        record, done = self._record, dict[Knob, float | None]()
        assert record is not None
        try:
            if fresh := {knob: self._found(knob) for knob in wanted if knob not in record.found}:
                record.keep(fresh, self.owner)
            for knob, value in list(wanted.items()):
                before = self._in_force.get(knob, record.found[knob])
                record.note(knob, value)
                self._log("set", knob, before, value, must=True)
                done[knob] = before
                self.actuator.write(knob, value)
                if verify or self.actuator.range(knob).readable:
                    wanted[knob] = self._compare(knob, value)
                self._in_force[knob] = wanted[knob]
        except ControlError as error:
            self._undo(done, error)
            if error.code == "lost":
                self._end("lost", error.reason)
            raise

    def _compare(self, knob: Knob, asked: float | None) -> float | None:
        """What is in force after asking; anything but what was asked, up to the driver's rounding, is refused."""
        got = self.actuator.observe(knob, asked)
        if same(got, asked, self.actuator.range(knob).step):
            return asked
        if self._record is not None:
            self._record.note(knob, got)
        if self.actuator.range(knob).rounds(asked, got):
            return got
        wanted, has = describe({knob: asked}), "none" if got is None else say(knob, got)
        raise ControlError("clamped", f"{self.device} was asked for {wanted} and took {has}; it was set back as it was")

    def _undo(self, done: Mapping[Knob, float | None], why: ControlError) -> None:
        for knob, before in reversed(list(done.items())):
            with contextlib.suppress(ControlError):
                if self._record is not None:
                    self._record.note(knob, before)
                self.actuator.write(knob, before)
                self._in_force[knob] = before
            self._log("undone", knob, None, None, before, reason=why.reason, code=why.code)

    def _end(self, code: str, why: str) -> list[str]:
        self.over, self.code = why, code
        notes = self._put_back()
        self._keeper._ended(self)
        self._keeper.audit.tell("end", device=self.device, owner=self.owner, reason=why, notes=notes)
        return notes

    def _put_back(self) -> list[str]:
        record, self._record = self._record, None
        if record is None:
            return []
        notes = restore(self.actuator, record, self._keeper.audit, self.owner, self._keeper.standing)
        record.release()
        return notes

    def _log(
        self,
        event: str,
        knob: Knob,
        before: float | None,
        asked: float | None,
        after: float | None = None,
        *,
        must: bool = False,
        **more: str,
    ) -> None:
        write = self._keeper.audit.write if must else self._keeper.audit.tell
        write(
            event, device=self.device, owner=self.owner, knob=knob, before=before, asked=asked, after=after,
            dry_run=self._keeper.dry_run, **more,
        )  # fmt: skip


class Keeper:
    """The devices of a machine and the leases on them. Constructing it changes nothing and opens nothing.

    folder : where records and the audit log are kept; `journal.state_folder()` if None.
    dry_run : everything is checked and logged, nothing is set. clock : seconds that never go back, whatever the
    wall clock does. standing : what the administrator has set where a device cannot tell.
    """

    def __init__(
        self,
        actuators: Iterable[Actuator],
        folder: Path | None = None,
        *,
        dry_run: bool = False,
        clock: Clock = time.monotonic,
        standing: Standing = lambda _actuator, _knob: None,
    ) -> None:
        self.actuators = {actuator.uuid: actuator for actuator in actuators}
        self.folder = journal.state_folder() if folder is None else folder
        self.dry_run, self.clock, self.standing = dry_run, clock, standing
        self.audit = Audit(self.folder / "audit.jsonl")
        self.leases: dict[str, Lease] = {}
        # What has to be told of records that were damaged.
        self.notes: list[str] = []
        # Told of every lease that ends, however it ends.
        self.listener: Callable[[Lease], None] = lambda _lease: None
        self._lock = threading.RLock()
        self._process = os.getpid()

    def take(self, device: str, *, owner: str = "", ttl: float | None = None, **knobs: float | None) -> Lease:
        """Lease a device, by UUID, its beginning, or its place; the settings given are made at once.

        A device has one lease at a time. If the settings cannot be made there is no lease.
        """
        actuator = pick(self.actuators.values(), device)
        if ttl is not None and not 0 < ttl < math.inf:
            raise ControlError("range", f"a lease's ttl must be a number of seconds > 0, got {ttl}")
        with self._lock:
            held = self.leases.get(actuator.uuid)
            if held is not None and held.remaining <= 0:
                held.close(f"it was not renewed within {show(held.ttl or 0.0, 's')}")
                held = None
            if held is not None:
                raise ControlError("busy", f"{actuator.uuid} is held by {held.owner or 'another lease'}; wait for it")
            lease = Lease(self, actuator, owner, ttl)
            self.leases[actuator.uuid] = lease
        try:
            if not self.dry_run:
                lease._record = self._claim(actuator)
            if knobs:
                lease.apply(setting_of(**knobs))
        except BaseException:
            lease.close("its settings could not be made")
            raise
        return lease

    def late(self) -> list[Lease]:
        """The leases that were not renewed in time; looking takes no time."""
        now = self.clock()
        return [lease for lease in list(self.leases.values()) if lease._due <= now]

    def expire(self) -> list[Lease]:
        """End the leases that were not renewed in time, and return them."""
        late = self.late()
        for lease in late:
            lease.close(f"it was not renewed within {show(lease.ttl or 0.0, 's')}")
        return late

    def recover(self) -> list[str]:
        """Put back what owners that died had found; one sentence for each device, done or not."""
        notes = [
            f"a damaged record is kept in {copy}; look at its device, then delete it"
            for copy in journal.kept_aside(self.folder)
        ]
        for record in journal.left(self.folder):
            if record.damage:
                notes.append(record.damage)
                self.audit.tell("damage", device=record.device, reason=record.damage)
            if not record.found:
                notes.append(f"what was found on {record.device} is lost, so it is left as it is; look at its limits")
                record.abandon() if self.dry_run else record.release()
                continue
            actuator = self.actuators.get(record.device)
            if actuator is None:
                notes.append(f"{record.device} is not here, so what was found on it waits in {record.path}")
                record.abandon()
                continue
            if self.dry_run:
                notes.append(f"{record.device} would be put back to {describe(record.found)}")
                record.abandon()
                continue
            was = describe(record.found)
            failed = restore(actuator, record, self.audit, record.owner, self.standing)
            record.release()
            notes += failed or [f"{record.device} was put back to {was}, after its owner died"]
        return notes

    def drain(self, why: str = "the driver is about to be reset") -> list[str]:
        """End every lease and let go of every device; returns what could not be put back."""
        notes = [note for lease in list(self.leases.values()) for note in lease.close(why)]
        for actuator in self.actuators.values():
            with contextlib.suppress(ControlError):
                actuator.close()
        return notes

    def resume(self, actuators: Iterable[Actuator] | None = None) -> list[str]:
        """Go on with these devices, those from before where None, after putting back what is still to be put back."""
        if actuators is not None:
            self.actuators = {actuator.uuid: actuator for actuator in actuators}
        return self.recover()

    def close(self, why: str = "the program ended") -> list[str]:
        """End every lease; a child after fork has none."""
        if os.getpid() != self._process:
            return []
        notes = [note for lease in list(self.leases.values()) for note in lease.close(why)]
        self.audit.close()
        return notes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _claim(self, actuator: Actuator) -> Record:
        """The record of a device, after putting back what a dead owner had found."""
        record = journal.claim(self.folder, actuator.uuid)
        if record.damage:
            self.audit.tell("damage", device=record.device, reason=record.damage)
            self.notes.append(record.damage)
        if record.found:
            try:
                failed = restore(actuator, record, self.audit, record.owner, self.standing)
            except BaseException:
                record.release()
                raise
            if failed:
                record.release()
                raise ControlError("device", f"{actuator.uuid} could not first be put back: {failed[0]}")
        return record

    def _ended(self, lease: Lease) -> None:
        with self._lock:
            if self.leases.get(lease.device) is lease:
                del self.leases[lease.device]
        self.listener(lease)
