"""The leases of this process on the devices of this machine, for where no daemon serves them.

What was found is put back when a lease is closed, at exit, after an unhandled exception, and, through `guard`, when
the process is killed. What an earlier process could not put back is put back before the first lease.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading

from ..devices.find import find
from . import guard
from .actuator import ControlError
from .keeper import Keeper, Lease

# Seconds between looks at whether a lease is due; only where one has a ttl.
TICK = 0.2
_keepers: dict[bool, Keeper] = {}
_lock = threading.Lock()
_guard: subprocess.Popen[bytes] | None = None


def keeper(*, dry_run: bool = False) -> Keeper:
    """The keeper of this process over every device of this machine; made at first use."""
    with _lock:
        if dry_run not in _keepers:
            actuators, missing = find()
            if not actuators:
                why = "; ".join(f"{m.sensor}: {m.reason}" for m in missing)
                raise ControlError("unknown", f"no device with knobs was found: {why or 'nothing is here'}")
            _keepers[dry_run] = made = Keeper(actuators, dry_run=dry_run)
            if not dry_run:
                for note in made.recover():
                    print(f"wattline: {note}", file=sys.stderr)
                atexit.register(_close)
        return _keepers[dry_run]


def use(made: Keeper | None, *, dry_run: bool = False) -> None:
    """Make this the keeper of the process, for simulated devices; None goes back to those of the machine."""
    with _lock:
        _keepers.pop(dry_run, None)
        if made is not None:
            _keepers[dry_run] = made


def lease(device: str = "0", *, dry_run: bool = False, ttl: float | None = None, **knobs: float | None) -> Lease:
    """Lease a device of this machine in this process."""
    held = keeper(dry_run=dry_run)
    if not dry_run:
        _watch_over(held)
    taken = held.take(device, owner=f"pid {os.getpid()}", ttl=ttl, **knobs)
    if ttl is not None:
        threading.Thread(target=_expire, args=(held, taken), name="wattline-lease", daemon=True).start()
    return taken


def _expire(held: Keeper, taken: Lease) -> None:
    while not taken.over:
        threading.Event().wait(min(TICK, max(0.01, taken.remaining)))
        held.expire()


def _watch_over(held: Keeper) -> None:
    """Have a guard that puts back what was found if this process is killed."""
    global _guard
    if any(type(a).__module__.endswith(".simulated") for a in held.actuators.values()):
        return  # a simulated device dies with its process, and no other process could find it
    with _lock:
        if _guard is None or _guard.poll() is not None:
            _guard = guard.start(held.folder)


def _close() -> None:
    global _guard
    notes = [note for held in list(_keepers.values()) for note in held.close()]
    for note in notes:
        print(f"wattline: {note}", file=sys.stderr)
    if _guard is not None and _guard.stdin is not None:
        with contextlib.suppress(OSError):  # it may have been killed itself
            if not notes:
                _guard.stdin.write(guard.DONE)
            _guard.stdin.close()
        _guard.wait()
        _guard = None


def _forked() -> None:
    """A child has no leases and no guard of its own; its copy of the guard's pipe must not keep the guard waiting."""
    global _guard, _lock
    _keepers.clear()
    _lock = threading.Lock()
    if _guard is not None and _guard.stdin is not None:
        _guard.returncode = 0  # it is the parent's to wait for
        _guard.stdin.close()
        _guard = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
