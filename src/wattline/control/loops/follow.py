"""Follow a pipeline's plan: before each computation, the clock that the plan gives it.

    plan file -> Plan.stage(2) -> Program: (chunk, instruction, microbatch) -> Hz
                                     |  settings shorter than the device's latency are joined to a faster neighbour
    schedule: before("forward", 3) --+--> lease.set(clock=...)          never slower than planned

A plan for other devices or another schedule is refused before anything is set. What goes wrong later frees the clock
and is a note: training goes on at the device's own clocks.
"""

from __future__ import annotations

import csv
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from ...core.errors import InputError
from ...training.joining import joined
from ..daemon.client import Held
from ..leases.actuator import ControlError
from .match import same_job, settable

Key = tuple[int, str, int]  # chunk, instruction, microbatch

# What a plan file must have in each row, as `wattline pipeline --plan` writes it.
COLUMNS: Final = ("stage", "chunk", "instruction", "microbatch", "start_s", "time_s", "clock_hz")


class Step(msgspec.Struct, frozen=True):
    """One computation of a stage: what, when (s after the iteration's begin), how long, and at which clock (Hz)."""

    key: Key
    start: float
    seconds: float
    clock: float


class Program(msgspec.Struct, frozen=True):
    """The computations of one stage in the order of its plan, and the facts of the job that they are for."""

    stage: int
    steps: tuple[Step, ...]
    facts: Mapping[str, Any]

    def joined(self, latency: float) -> Program:
        """The same without changes that a device of this latency (s) has no time for.

        A run of computations at one clock that is shorter than the latency takes the clock of the faster neighbour,
        or the neighbour takes its, so no computation becomes slower than planned.
        """
        clocks = joined([step.clock for step in self.steps], [step.seconds for step in self.steps], latency)
        made = [msgspec.structs.replace(step, clock=clock) for step, clock in zip(self.steps, clocks, strict=True)]
        return msgspec.structs.replace(self, steps=tuple(made))

    @property
    def changes(self) -> int:
        """How often the clock changes in an iteration that follows another."""
        clocks = [step.clock for step in self.steps]
        return sum(a != b for a, b in zip(clocks, clocks[1:] + clocks[:1], strict=True))


class Plan(msgspec.Struct, frozen=True):
    """A pipeline's plan as its file has it: rows, and the facts of the job it was made for."""

    rows: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]
    source: str = ""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], head: Mapping[str, Any] | None = None, source: str = "") -> Plan:
        """A plan of rows with `COLUMNS`; what they say of the job is compared with what `head` does."""
        rows = list(rows)
        made = tuple(_row(row, k, source) for k, row in enumerate(rows))
        if not made:
            raise InputError(f"{source or 'the plan'} has no rows; write it with wattline pipeline --plan")
        facts: dict[str, Any] = {
            "stages": 1 + max(row["stage"] for row in made),
            "microbatches": len({row["microbatch"] for row in made}),
            "chunks": 1 + max(row["chunk"] for row in made),
        }
        for key in ("schedule", "virtual", "replicas"):
            if head and key in head:
                facts[key] = head[key]
        if "schedule" not in facts and rows[0].get("schedule"):
            facts["schedule"] = str(rows[0]["schedule"])
        for key in ("stages", "microbatches"):
            if head and head.get(key, facts[key]) != facts[key]:
                raise InputError(f"{source}: its head says {key} {head[key]}, and its rows are of {facts[key]}")
        return cls(made, facts, source)

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """A plan file, .csv or .json, of `wattline pipeline --plan`."""
        path = Path(path)
        try:
            if path.suffix == ".json":
                data = msgspec.json.decode(path.read_bytes())
                if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
                    raise InputError(f"{path}: a plan in JSON has its computations under rows")
                return cls.of(data["rows"], data, str(path))
            with path.open(encoding="utf-8", newline="") as stream:
                return cls.of(list(csv.DictReader(stream)), None, str(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (msgspec.DecodeError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: is no plan ({error}); write one with wattline pipeline --plan") from None

    def stage(self, stage: int) -> Program:
        """What one stage runs. Partitions of a computation share its highest clock."""
        mine = sorted((row for row in self.rows if row["stage"] == stage), key=lambda row: row["start_s"])
        if not mine:
            raise ControlError("plan", f"the plan has stages 0 to {self.facts['stages'] - 1}, and not {stage}")
        steps: dict[Key, Step] = {}
        for row in mine:
            key = (row["chunk"], row["instruction"], row["microbatch"])
            found = steps.get(key)
            if found is None:
                steps[key] = Step(key, row["start_s"], row["time_s"], row["clock_hz"])
            else:
                steps[key] = Step(key, found.start, found.seconds + row["time_s"], max(found.clock, row["clock_hz"]))
        return Program(stage, tuple(steps.values()), self.facts)


class Follower:
    """Sets one stage's device as its program says: `before` each computation, or the hooks made from it.

    program : of this stage. held : the lease of its device. job : what is known of the job that runs (schedule, stages,
    microbatches, ...), compared with the plan's. latency : s that a change takes; what the lease says where None.
    background : changes are made by a thread, so that the program does not wait for the driver; the latest wins.
    """

    def __init__(
        self,
        program: Program,
        held: Held,
        *,
        job: Mapping[str, Any] | None = None,
        latency: float | None = None,
        background: bool = True,
    ) -> None:
        self.held, self.stage = held, program.stage
        self.latency = held.latency if latency is None else latency
        if not 0 <= self.latency < math.inf:
            raise InputError(f"a latency is finite and at least 0 s, got {self.latency}")
        self.notes: list[str] = []
        self.changes = 0
        self._background = background
        self._in_force: float | None = None
        self._next: Program | None = None
        self._dead = False
        self._queue: queue.SimpleQueue[float | type[_End] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._clocks: dict[Key, float] = {}
        self.use(program, job)
        self.turn()

    # ---- which program ----

    def use(self, program: Program, job: Mapping[str, Any] | None = None) -> None:
        """Follow this program from the next iteration on; one for another job or device is refused."""
        if job is not None:
            same_job(program.facts, job)
        if program.stage != self.stage:
            raise ControlError("plan", f"the program is of stage {program.stage}, and here is stage {self.stage}")
        if self._clocks and {step.key for step in program.steps} != set(self._clocks):
            raise ControlError("plan", "the program is of another schedule than the one it is to replace")
        settable([self.held], [{"clock": clock} for clock in {step.clock for step in program.steps}])
        self._next = program.joined(self.latency)

    def turn(self) -> None:
        """An iteration begins: a program given since the last one takes effect."""
        if self._next is not None:
            self.program, self._next = self._next, None
            self._clocks = {step.key: step.clock for step in self.program.steps}

    # ---- hooks ----

    def before(self, instruction: str, microbatch: int, chunk: int | None = None) -> None:
        """A computation is about to run; `chunk` is the stage's own where None.

        One that the plan does not have means that another schedule runs: refused, and the clock is freed.
        """
        key = (self.stage if chunk is None else chunk, instruction, microbatch)
        clock = self._clocks.get(key)
        if clock is None:
            self._free(
                f"the plan of stage {self.stage} has no {instruction} of microbatch {microbatch}, chunk {key[0]}"
            )
            raise ControlError("plan", self.notes[-1], "plan the schedule that runs")
        if clock != self._in_force and not self._dead:
            self._in_force = clock
            self._send(clock)

    @contextmanager
    def running(self, instruction: str, microbatch: int, chunk: int | None = None) -> Iterator[None]:
        """The same for a ``with`` around a computation."""
        self.before(instruction, microbatch, chunk)
        yield

    def wrap(
        self, function: Callable[..., Any], instruction: str, *, chunk: int | None = None, count: int
    ) -> Callable[..., Any]:
        """A function whose calls are the microbatches 0 to `count` - 1 of an instruction, over and over."""
        calls = 0

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            self.before(instruction, calls % count, chunk)
            calls += 1
            return function(*args, **kwargs)

        return wrapped

    def close(self) -> None:
        """Let the clock free; the lease is its owner's to close."""
        if self._thread is not None:
            self._queue.put(_End)
            self._thread.join()
            self._thread = None
        if not self._dead and not self.held.over and self._in_force is not None:
            self._set(None)
        self._dead = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- how ----

    def _send(self, clock: float) -> None:
        if not self._background:
            self._set(clock)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="wattline-follow", daemon=True)
            self._thread.start()
        self._queue.put(clock)

    def _work(self) -> None:
        while True:
            wanted = self._queue.get()
            while not self._queue.empty() and wanted is not _End:  # only the latest counts
                wanted = self._queue.get()
            if wanted is _End:
                return
            self._set(wanted)  # type: ignore[arg-type]

    def _set(self, clock: float | None) -> None:
        with self._lock:
            if self._dead:
                return
            try:
                self.held.set(verify=False, clock=clock)
                self.changes += 1
            except ControlError as error:
                self._dead = True
                self.notes.append(f"the plan is no longer followed: {error}")
                if not self.held.over:
                    self._let_go()

    def _free(self, why: str) -> None:
        self.notes.append(why)
        with self._lock:
            self._dead = True
            if not self.held.over:
                self._let_go()

    def _let_go(self) -> None:
        try:
            self.held.set(verify=False, clock=None)
        except ControlError as error:
            self.notes.append(str(error))


class _End:
    """What tells the thread to end."""


def attach(schedule: Any, follower: Follower) -> Follower:
    """Have a schedule of `torch.distributed.pipelining` follow a plan: each chunk it runs is preceded by its clock.

    Refuses, and changes nothing, where the schedule, its stages or its microbatches are not those of the plan.
    """
    stages = list(getattr(schedule, "_stages", [])) or [schedule._stage]
    name = SCHEDULES.get(type(schedule).__name__)
    if name is None:
        known = ", ".join(SCHEDULES)
        raise ControlError("plan", f"a plan is followed in {known}, got {type(schedule).__name__}")
    facts = follower.program.facts
    job: dict[str, Any] = {"microbatches": int(schedule._n_microbatches), "chunks": int(stages[0].num_stages)}
    if "schedule" in facts and not str(facts["schedule"]).startswith("file "):
        job["schedule"] = name
    same_job(facts, job)
    same_order(schedule, follower.program)
    held = {step.key[0] for step in follower.program.steps}
    if held != {int(stage.stage_index) for stage in stages}:
        raise ControlError(
            "plan", f"the plan gives stage {follower.stage} chunks {sorted(held)}, and here run "
            f"{sorted(int(stage.stage_index) for stage in stages)}", "follow the program of this rank",
        )  # fmt: skip
    split = any(step.key[1] == "backward_input" for step in follower.program.steps)
    for stage in stages:
        _hook(stage, follower, split)
    _around(schedule, "step", lambda *_args, **_kwargs: follower.turn())
    return follower


# torch's schedules by the names of plans. Of the last two there is no generator here: plan the order that torch writes
# (`schedule._dump_csv`, then wattline pipeline --order).
SCHEDULES: Final = {
    "Schedule1F1B": "1f1b",
    "ScheduleGPipe": "gpipe",
    "ScheduleInterleaved1F1B": "interleaved",
    "ScheduleZBVZeroBubble": "zb-v",
    "ScheduleDualPipeV": "dualpipe-v",
    "ScheduleInterleavedZeroBubble": "interleaved-zb",
    "ScheduleLoopedBFS": "looped-bfs",
}
_KINDS: Final = {"F": "forward", "B": "backward", "I": "backward_input", "W": "backward_weight"}


def same_order(schedule: Any, program: Program) -> None:
    """Refuse a plan whose order of computations is not the one that torch will run, where torch says it beforehand."""
    told = getattr(schedule, "pipeline_order", None)
    if not isinstance(told, Mapping) or program.stage not in told:
        return
    split = any(step.key[1] == "backward_input" for step in program.steps)
    runs: list[Key] = []
    for action in told[program.stage]:
        for part in getattr(action, "sub_actions", None) or [action]:
            kind = _KINDS.get(str(getattr(getattr(part, "computation_type", None), "value", "")))
            if kind is None or part.microbatch_index is None:
                continue
            halves = ("backward_input", "backward_weight") if split and kind == "backward" else (kind,)
            runs += [(int(part.stage_index), half, int(part.microbatch_index)) for half in halves]
    planned = [step.key for step in program.steps]
    at = next((k for k, (a, b) in enumerate(zip(planned, runs, strict=False)) if a != b), min(len(planned), len(runs)))
    if at == len(planned) == len(runs):
        return
    said = [f"{k[1]} of microbatch {k[2]}, chunk {k[0]}" for k in (*planned[at : at + 1], *runs[at : at + 1])]
    raise ControlError(
        "plan", f"the plan orders computation {at + 1} of rank {program.stage} otherwise than the schedule: "
        + " against ".join(said), "write the order with schedule._dump_csv and plan it with --order",
    )  # fmt: skip


def _hook(stage: Any, follower: Follower, split: bool) -> None:
    chunk = int(stage.stage_index)

    def forward(index: int, *_args: Any, **_kwargs: Any) -> None:
        follower.before("forward", index, chunk)

    def backward(index: int, *_args: Any, full_backward: bool = True, **_kwargs: Any) -> None:
        follower.before("backward_input" if split or not full_backward else "backward", index, chunk)

    def weight(index: int, *_args: Any, **_kwargs: Any) -> None:
        follower.before("backward_weight", index, chunk)

    _around(stage, "forward_one_chunk", forward)
    _around(stage, "backward_one_chunk", backward)
    _around(stage, "backward_weight_one_chunk", weight)


def _around(thing: Any, name: str, first: Callable[..., None]) -> None:
    """Have `first` called before a method of this one object."""
    method = getattr(thing, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        first(*args, **kwargs)
        return method(*args, **kwargs)

    setattr(thing, name, wrapped)


def _row(row: Mapping[str, Any], number: int, source: str) -> dict[str, Any]:
    """One row with its numbers as numbers."""
    if missing := [name for name in COLUMNS if row.get(name) in (None, "")]:
        raise InputError(f"{source or 'the plan'}, row {number + 1}: has no {', '.join(missing)}")
    try:
        whole = {name: int(row[name]) for name in ("stage", "chunk", "microbatch")}
        reals = {name: float(row[name]) for name in ("start_s", "time_s", "clock_hz")}
    except (TypeError, ValueError):
        raise InputError(f"{source or 'the plan'}, row {number + 1}: holds what is no number") from None
    if min(whole.values()) < 0 or not all(math.isfinite(v) for v in reals.values()) or reals["clock_hz"] <= 0:
        raise InputError(f"{source or 'the plan'}, row {number + 1}: holds a number out of range")
    return {**whole, "instruction": str(row["instruction"]), **reals}


def play(program: Program, follower: Follower, work: Callable[[Step], None], order: Sequence[Key] = ()) -> float:
    """Run one iteration in the plan's order, or in `order`, with `work` as the computations; returns its seconds."""
    began = time.monotonic()
    follower.turn()
    steps = {step.key: step for step in program.steps}
    for key in order or list(steps):
        follower.before(key[1], key[2], key[0])
        work(steps[key])
    return time.monotonic() - began


__all__ = ["COLUMNS", "Follower", "Plan", "Program", "Step", "attach", "play"]
