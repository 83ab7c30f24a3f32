"""Beside a straggler everyone else may slow down: all pipelines move along their stored frontiers to its time.

    each pipeline: measured / planned time of its iteration -> Board.post(name, lag)
    one of them:   Board.decide(iteration)                  -> a notice: from iteration k on, end by T seconds
    each stage:    Pace.turn(iteration)                     -> the least-energy plan of the family that ends by T

A pipeline's lag is what it takes over what its plan takes, measured before it waits for others, so that one which
slowed down for another's sake is not taken for slow itself. A notice is for an iteration to come: all stages of all
pipelines change plans at the same one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ...core.errors import InputError
from ...training.pipeline import PipelinePlan
from .follow import Follower, Plan, Program

# A notice is given when the time to end by changes by more than this share; iterations vary by about as much.
_TOLERANCE: Final = 0.01
# Iterations between a decision and when it holds: every stage must have seen it by then.
_AHEAD: Final = 2
# Names of pipelines, which are names of files.
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Entry(msgspec.Struct, frozen=True):
    """One plan of a family: s of an iteration, J of all devices in it, and the plan."""

    time: float
    energy: float
    plan: Plan


class Family(msgspec.Struct, frozen=True):
    """Plans of one pipeline along its frontier, the fastest first. power : W of all its devices while they wait."""

    entries: tuple[Entry, ...]
    power: float

    @classmethod
    def of(cls, plan: PipelinePlan, points: int = 25) -> Family:
        """`points` plans from the fastest to the one of least energy."""
        head = {"schedule": plan.job.schedule, "stages": plan.job.stages, "microbatches": plan.job.microbatches}
        made = [Entry(p.time, p.energy, Plan.of(plan.rows(p), head)) for p in plan.realized(points)]
        return cls._sorted(made, plan.job.power * plan.job.replicas)

    @classmethod
    def _sorted(cls, made: list[Entry], power: float) -> Family:
        entries, least = [], math.inf
        for entry in sorted(made, key=lambda e: (e.time, e.energy)):
            above = entry.energy - power * entry.time  # what is spent besides waiting; only less of it is worth time
            if above < least:
                entries.append(entry)
                least = above
        return cls(tuple(entries), power)

    @classmethod
    def read(cls, path: str | Path) -> Family:
        """A file that `write` or `wattline pipeline --family` wrote."""
        try:
            data = msgspec.json.decode(Path(path).read_bytes())
            made = [Entry(float(e["time_s"]), float(e["energy_j"]), Plan.of(e["rows"], data)) for e in data["plans"]]
            power = float(data["waiting_power_w"])
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise InputError(f"{path}: is no family of plans; write one with wattline pipeline --family") from None
        if not made:
            raise InputError(f"{path}: has no plans; write one with wattline pipeline --family")
        return cls._sorted(made, power)

    def write(self, path: str | Path) -> None:
        """As JSON: the facts of the job, and under `plans` time, energy and rows of each."""
        facts = dict(self.entries[0].plan.facts)
        plans = [{"time_s": e.time, "energy_j": e.energy, "rows": list(e.plan.rows)} for e in self.entries]
        try:
            Path(path).write_bytes(
                msgspec.json.encode({**facts, "waiting_power_w": self.power, "plans": plans}) + b"\n"
            )
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None

    def by(self, seconds: float) -> Entry:
        """The plan of least energy until `seconds`, waiting for it included; the fastest where none ends by then."""
        if not seconds > 0:
            raise InputError(f"an iteration ends by a time > 0 s, got {seconds}")
        fitting = [e for e in self.entries if e.time <= seconds * (1.0 + 1e-9)]
        return min(fitting, key=lambda e: e.energy - self.power * e.time, default=self.entries[0])

    @property
    def fastest(self) -> float:
        """s of the fastest plan."""
        return self.entries[0].time


class Notice(msgspec.Struct, frozen=True):
    """From iteration `begin` on, pipelines end by `seconds`; lags : by how much each is slower than its plans say."""

    begin: int
    seconds: float
    lags: Mapping[str, float]


class Board:
    """Where pipelines of one job tell one another, as files of a folder that all can reach.

    folder : made where it is missing. usual : s that iterations should end by without a straggler.
    """

    def __init__(self, folder: str | Path, usual: float) -> None:
        if not 0 < usual < math.inf:
            raise InputError(f"the usual time of an iteration must be finite and > 0 s, got {usual}")
        self.folder, self.usual = Path(folder), usual

    def post(self, pipeline: str, lag: float) -> None:
        """Say by how much a pipeline is slower than planned: its measured time over its plan's, waiting left out."""
        if not pipeline or not set(pipeline) <= _LETTERS:
            raise InputError(f"a pipeline's name is letters, digits, - and _, got {pipeline!r}")
        if not 0 < lag < math.inf:
            raise InputError(f"a lag is a finite ratio > 0 of measured over planned time, got {lag}")
        self._put(f"lag-{pipeline}.json", lag)

    def lags(self) -> dict[str, float]:
        """What each pipeline last said."""
        found = {}
        for path in sorted(self.folder.glob("lag-*.json")):
            value = _decoded(path, float)
            if value is not None:
                found[path.stem.removeprefix("lag-")] = value
        return found

    def decide(self, iteration: int, fastest: float) -> Notice | None:
        """Give notice if the time to end by has changed; one pipeline of the job does so after each iteration.

        fastest : s of the fastest plan. Returns the notice given, None where the last one holds.
        """
        lags = {name: max(lag, 1.0) for name, lag in self.lags().items()}
        slowest = max(lags.values(), default=1.0)
        # Lags within the tolerance are noise, and no reason to leave the usual time.
        seconds = self.usual if slowest <= 1.0 + _TOLERANCE else max(self.usual, slowest * fastest)
        now = self.notices()
        last = now[-1].seconds if now else self.usual
        if abs(seconds - last) <= _TOLERANCE * last:
            return None
        notice = Notice(iteration + _AHEAD, seconds, lags)
        self.announce(notice)
        return notice

    def announce(self, notice: Notice) -> None:
        """Give notice; whoever knows of a straggler beforehand may."""
        self._put("notices.json", [*self.notices()[-1:], notice])

    def notices(self) -> list[Notice]:
        """The last two notices given: one may not have begun yet."""
        return _decoded(self.folder / "notices.json", list[Notice]) or []

    def at(self, iteration: int) -> Notice:
        """What holds at an iteration."""
        held = [n for n in self.notices() if n.begin <= iteration]
        return held[-1] if held else Notice(0, self.usual, {})

    def _put(self, name: str, what: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f".{name}.{os.getpid()}"
        path.write_bytes(msgspec.json.encode(what))
        path.replace(self.folder / name)  # a reader sees all of it or nothing of it


class Pace:
    """Keeps one stage's follower on the plan of its pipeline's family that the board's notices ask for."""

    def __init__(self, family: Family, follower: Follower, board: Board, pipeline: str) -> None:
        self.family, self.follower, self.board, self.pipeline = family, follower, board, pipeline
        self._programs: dict[float, Program] = {}
        self._time = math.nan
        self.turn(0)

    def turn(self, iteration: int) -> Entry:
        """An iteration begins; returns the plan that it follows."""
        notice = self.board.at(iteration)
        entry = self.family.by(notice.seconds / notice.lags.get(self.pipeline, 1.0))
        if entry.time != self._time:
            self._time = entry.time
            if entry.time not in self._programs:
                self._programs[entry.time] = entry.plan.stage(self.follower.stage)
            self.follower.use(self._programs[entry.time])
        self.follower.turn()
        return entry


def _decoded(path: Path, kind: Any) -> Any:
    """What a file holds, None where it is missing or is no such thing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


__all__ = ["Board", "Entry", "Family", "Notice", "Pace"]
