"""`wattline.follow`: a trainer's devices follow a plan, made from the job's own first iterations where none is given.

    follow(trainer) --one clock an iteration--> profile --exchanged between ranks--> plan --> each computation's clock
                                                        a board beside it: all slow down to a straggler (`straggler`)

A pipeline gets a clock for every computation; a trainer without one (FSDP, Accelerate, the HF Trainer) a clock each for
forward, backward and the optimizer's step. What goes wrong after the start frees the clock and is a note; training
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from ...core.errors import InputError, WattlineError
from ...training.pipeline import PipelineJob, plan_pipeline
from ...training.profile import parse
from ..daemon.client import Held
from ..leases.actuator import ControlError
from .follow import Follower, Plan, Program, Step
from .selfprofile import Recorder, clocks, phases, switch_latency
from .straggler import Board, Family, Pace

WARM: Final = 1  # iterations before anything is measured
PATIENCE: Final = 120.0  # s that ranks wait for one another's rows
PHASES: Final = ("forward", "backward", "step")

Rows = list[dict[str, Any]]
Exchange = Callable[[Rows], Rows]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What this rank runs: its stage of `stages`, microbatches of an iteration, and the schedule's name.

    `schedule` "phases": no pipeline; forward and backward `microbatches` times, then a step.
    """

    stage: int = 0
    stages: int = 1
    microbatches: int = 1
    schedule: str = "phases"
    virtual: int = 1


class Runtime:
    """One rank's following: `before` and `after` each computation, `turn` before each iteration; then `close`.

    Parameters
    ----------
    held : lease of this rank's device. layout : what runs here. plan : followed as it is; None profiles first.
    joules : reads this device's energy counter, J; needed for profiling. count : clocks that are looked at.
    exchange : gives every rank the rows of all; None for a job of one rank, or `shared` over a folder.
    waiting_power : W while a device waits; measured between computations where None.
    latency : s of a change of clock; measured where None.
    board, name : the folder where pipelines tell of stragglers, and this one's name.
    """

    def __init__(
        self,
        held: Held,
        layout: Layout,
        *,
        plan: Plan | str | Path | None = None,
        joules: Callable[[], float] | None = None,
        max_slowdown: float = 0.0,
        count: int = 8,
        exchange: Exchange | None = None,
        waiting_power: float | None = None,
        latency: float | None = None,
        board: str | Path | None = None,
        name: str = "0",
        clock: Callable[[], float] = time.monotonic,
        sync: Callable[[], object] = lambda: None,
        background: bool = True,
    ) -> None:
        self.held, self.layout = held, layout
        self.notes: list[str] = []
        self.closing: list[Callable[[], object]] = []  # done last, such as giving the lease back
        self.saving: float | None = None
        self.follower: Follower | None = None
        self._slack, self._exchange, self._waiting = max_slowdown, exchange, waiting_power
        self._clock, self._background = clock, background
        self._board, self._name = board, name
        self._pace: Pace | None = None
        self._iteration, self._began, self._waited, self._ended = -1, clock(), 0.0, clock()
        self.latency = switch_latency(held, clock=clock) if latency is None else latency
        self.recorder: Recorder | None = None
        self._todo: list[float] = []
        self._planned = 0.0
        if plan is not None:
            self._start(plan if isinstance(plan, Plan) else Plan.read(plan), None)
        elif joules is None:
            raise InputError("follow without a plan profiles first and needs joules=, which reads the device's counter")
        elif count < 2:
            raise InputError(f"a profile needs two clocks or more, got {count}")
        else:
            self.recorder = Recorder(joules, clock=clock, sync=sync)
            self._todo = clocks(held, count)

    # ---- hooks ----

    def turn(self) -> None:
        """An iteration begins."""
        now = self._clock()
        if self._pace is not None and self.layout.stage == 0:  # whose backward pass ends the iteration
            self._tell(self._ended)
        self._iteration += 1
        self._began, self._waited, self._ended = now, 0.0, now
        if self.recorder is not None:
            self._profile()
        elif self._pace is not None:
            self._guard(self._pace.turn, self._iteration)
        elif self.follower is not None:
            self.follower.turn()

    def before(self, instruction: str, microbatch: int, chunk: int | None = None) -> None:
        """A computation is about to run."""
        self._waited += self._clock() - self._ended
        if self.recorder is not None:
            self.recorder.start(instruction)
        elif self.follower is not None:
            self._guard(self.follower.before, instruction, microbatch, chunk)

    def after(self) -> None:
        """It has run."""
        if self.recorder is not None:
            self.recorder.stop()
        self._ended = self._clock()

    def close(self) -> None:
        """Let the clock free and take the hooks off; a lease that was given is its owner's to close."""
        self._free()
        while self.closing:
            self.closing.pop(0)()

    def _free(self) -> None:
        if self.follower is not None:
            self.follower.close()
            self.notes += self.follower.notes
            self.follower = None
        elif not self.held.over:
            self._set(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- profiling ----

    def _profile(self) -> None:
        assert self.recorder is not None
        self.recorder.turn()
        if self._iteration < WARM:
            return
        if self._iteration == WARM:
            self.recorder = self.recorder.fresh()
        if self._todo:
            self.recorder.at = self._todo.pop(0)
            self._set(self.recorder.at)
            return
        recorder, self.recorder = self.recorder, None
        self._set(None)
        try:
            rows = recorder.rows(self.layout.stage)
            self._plan(self._exchange(rows) if self._exchange else rows, recorder.waiting_power)
        except WattlineError as error:
            self.notes.append(f"no plan was made, the clock stays free: {error}")

    def _plan(self, rows: Rows, waited: float | None) -> None:
        if self.layout.schedule == "phases":
            program, self.saving = self._phased(rows)
            self.follower = Follower(program, self.held, latency=self.latency, background=self._background)
            self.follower.turn()
            return
        names = ("stage", "instruction", "frequency", "time", "energy")
        text = "\n".join([",".join(names), *(",".join(str(row[n]) for n in names) for row in rows)])
        waiting = self._waiting if self._waiting is not None else waited or 0.0
        if self._waiting is None and waited is None:
            self.notes.append("no device waited long enough to measure its power then: taken as 0 W")
        here = self.layout
        job = PipelineJob(
            parse(text, "the first iterations"), here.stages, here.microbatches, here.schedule, here.virtual, waiting,
        )  # fmt: skip
        made = plan_pipeline(job)
        chosen = made.realize(max_slowdown=self._slack, rounds=400)
        self.saving = 1.0 - chosen.energy / made.baseline.energy
        head = {"schedule": here.schedule, "stages": here.stages, "microbatches": here.microbatches}
        self._planned = chosen.time
        family = None if self._board is None else Family.of(made)
        self._start(Plan.of(made.rows(chosen), head, "the first iterations"), family)

    def _phased(self, rows: Rows) -> tuple[Program, float]:
        """Return a program of phases: each microbatch forward and backward, then the step."""
        done = {row["instruction"] for row in rows}
        repeats = {"forward": self.layout.microbatches, "backward": self.layout.microbatches, "step": 1}
        if unknown := done - set(repeats):
            raise InputError(f"a trainer without a pipeline has {', '.join(PHASES)}, and here ran {min(unknown)}")
        best, saving = phases(rows, repeats, self._slack)
        took = {(r["instruction"], r["frequency"] * 1e6): r["time"] for r in rows}
        steps, at = [], 0.0
        order = [(what, m) for m in range(self.layout.microbatches) for what in ("forward", "backward") if what in done]
        for what, m in [*order, *([("step", 0)] if "step" in done else [])]:
            seconds = took[what, best[what]]
            steps.append(Step((0, what, m), at, seconds, best[what]))
            at += seconds
        return Program(0, tuple(steps), {"schedule": "phases", "microbatches": self.layout.microbatches}), saving

    # ---- following ----

    def _start(self, plan: Plan, family: Family | None) -> None:
        here = self.layout
        job = {"schedule": here.schedule, "stages": here.stages, "microbatches": here.microbatches}
        program = plan.stage(here.stage)
        self.follower = Follower(program, self.held, job=job, latency=self.latency, background=self._background)
        if family is not None and self._board is not None:
            usual = self._planned or family.fastest
            self._pace = Pace(family, self.follower, Board(self._board, usual), self._name)

    def _tell(self, ended: float) -> None:
        """Say how late this pipeline was, before it waited for others, and decide by when all end."""
        assert self._pace is not None
        entry = self._pace.family.by(self._pace.board.at(self._iteration).seconds)
        if entry.time > 0 and ended > self._began:
            board, fastest = self._pace.board, self._pace.family.fastest
            self._guard(board.post, self._name, (ended - self._began) / entry.time)
            self._guard(board.decide, self._iteration, fastest)

    def _set(self, hertz: float | None) -> None:
        self._guard(lambda: self.held.set(verify=False, clock=hertz))

    def _guard(self, do: Callable[..., Any], *what: Any) -> None:
        """Do it; what goes wrong is a note, and nothing is followed any more."""
        try:
            do(*what)
        except (ControlError, OSError) as error:
            self.notes.append(f"no longer followed: {error}")
            self.recorder = self._pace = None
            if self.follower is not None:
                self.follower.close()
                self.follower = None


def shared(folder: str | Path, rank: int, ranks: int, *, patience: float = PATIENCE) -> Exchange:
    """Return an exchange over a folder that all ranks can reach: each writes its rows and waits for the others'."""
    place = Path(folder)

    def exchange(rows: Rows) -> Rows:
        place.mkdir(parents=True, exist_ok=True)
        mine = place / f".rows-{rank}"
        mine.write_bytes(msgspec.json.encode(rows))
        mine.replace(place / f"rows-{rank}.json")
        paths = [place / f"rows-{r}.json" for r in range(ranks)]
        end = time.monotonic() + patience
        while missing := [path.name for path in paths if not path.exists()]:
            if time.monotonic() > end:
                raise InputError(f"{place}: {missing[0]} did not come within {patience:g} s")
            time.sleep(0.005)
        return [row for path in paths for row in msgspec.json.decode(path.read_bytes(), type=Rows)]

    return exchange


def merged(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all ranks, for an exchange by ``torch.distributed.all_gather_object``."""
    return [row for rows in parts for row in rows]


__all__ = ["Layout", "Runtime", "merged", "shared"]
