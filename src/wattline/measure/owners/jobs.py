"""Jobs of a scheduler on this node, and what each used: Slurm's prolog and epilog write, the agent measures.

    prolog   writes JOBS/ID.toml: the job's id, user, and devices         the agent opens a window over those devices
    epilog   removes it                                                   the agent closes it and writes ENERGY/ID.json

A folder that only root can write says who may begin a job. The agent looks a few times a second, so either end may be
that much off; the answer says so. A job that was running when the agent ended is measured from when it is back.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ..monitor import Monitor
from ..window import Window

JOBS: Final = Path("/run/wattline/jobs")
ENERGY: Final = Path("/var/lib/wattline/energy")
# What a scheduler may call a job: it becomes a file's name and a label.
_NAMED: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-+"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the prolog wrote it; without devices it has the whole node."""

    job: str
    user: str = ""
    scheduler: str = "slurm"
    devices: list[str] = []


class Jobs:
    """Follows the folder of jobs; `poll` every so often, `close` at the end.

    energy : where what an ended job used is kept; nowhere if None.
    """

    def __init__(self, monitor: Monitor, folder: Path = JOBS, energy: Path | None = ENERGY) -> None:
        self.monitor, self.folder, self.energy = monitor, folder, energy
        self.running: dict[str, tuple[Job, Window]] = {}
        self.notes: list[str] = []

    def poll(self) -> list[dict[str, Any]]:
        """Begin and end what began and ended; what each ended job used, as plain data."""
        here = self._read()
        for name, job in here.items():
            if name not in self.running:
                window = Window(f"job {name}", self.monitor, devices=job.devices or None)
                window.notes.append("begun and ended by the agent's looks at its folder, a fraction of a second late")
                if self.energy is not None:  # of an earlier run of the same id
                    (self.energy / f"{name}.json").unlink(missing_ok=True)
                # In a context of its own, so that no job's window is the parent of another's.
                contextvars.copy_context().run(window.begin)
                self.running[name] = job, window
        return [self._end(name) for name in list(self.running) if name not in here]

    def joules(self) -> dict[str, tuple[Job, float | None]]:
        """What each running job used so far."""
        return {name: (job, window.result.joules) for name, (job, window) in self.running.items()}

    def owners(self) -> dict[str, Job]:
        """The job of each device that a running job has."""
        return {device: job for job, _ in self.running.values() for device in job.devices}

    def close(self) -> list[dict[str, Any]]:
        """End every window; jobs that still run are noted as cut."""
        for _, window in self.running.values():
            window.notes.append("the agent ended before the job")
        return [self._end(name) for name in list(self.running)]

    def _end(self, name: str) -> dict[str, Any]:
        job, window = self.running.pop(name)
        answer = {"job": job.job, "user": job.user, "scheduler": job.scheduler, **window.end().settle().to_dict()}
        if self.energy is not None:
            try:
                self.energy.mkdir(parents=True, exist_ok=True)
                partial = self.energy / f".{name}.{os.getpid()}"
                partial.write_bytes(msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
                os.replace(partial, self.energy / f"{name}.json")
            except OSError as error:
                self.notes.append(f"what job {name} used could not be kept in {self.energy}: {error.strerror}")
        return answer

    def _read(self) -> dict[str, Job]:
        found: dict[str, Job] = {}
        for path in sorted(self.folder.glob("*.toml")):
            with contextlib.suppress(FileNotFoundError):
                try:
                    job = msgspec.toml.decode(path.read_bytes(), type=Job)
                except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
                    note = f"{path} is no job as the prolog writes it: {error}"
                    if note not in self.notes:
                        self.notes.append(note)
                    continue
                found[path.stem] = job
        return found


def begin(job: str, user: str = "", devices: Sequence[str] = (), folder: Path = JOBS, scheduler: str = "slurm") -> Path:
    """What a prolog does: say that a job begins on these devices.

    Raises
    ------
    ValueError : the job's name cannot be a file's. OSError : the folder cannot be written.
    """
    if not job or job.startswith(".") or any(letter not in _NAMED for letter in job):
        raise ValueError(f"a job's id holds letters, digits, ., _, - and +, got {job!r}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    text = {"job": job, "user": user, "scheduler": scheduler}
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in text.items()]
    lines.append(f"devices = {msgspec.json.encode(list(devices)).decode()}")
    partial = folder / f".{job}.{os.getpid()}"
    partial.write_text("\n".join(lines) + "\n")
    path = folder / f"{job}.toml"
    os.replace(partial, path)
    return path


def end(job: str, folder: Path = JOBS, energy: Path = ENERGY, wait: float = 0.0) -> dict[str, Any] | None:
    """What an epilog does: say that a job has ended; its energy if the agent writes it within `wait` s, else None."""
    (folder / f"{job}.toml").unlink(missing_ok=True)
    until = time.monotonic() + wait
    path = energy / f"{job}.json"
    while True:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
            return found
        if time.monotonic() >= until:
            return None
        time.sleep(0.02)
