"""Measure work at every setting of a knob: the sweep behind `wattline profile`, through leases, kept as it goes.

    lease -> warm up -> idle power -> [ set -> settle -> run and measure -> keep ] ... -> lease ends, all as found

Each trial is in the store when it ends, so a sweep that is interrupted, killed or refused goes on where it was when
the same is asked for again. The answer is a frontier that `plan` uses at once (``[measured] profile = NAME``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ...core.errors import InputError
from ...measure.meter import this_host
from ...measure.monitor import Monitor, default
from ...measure.result import Measurement, add
from ...measure.run import run as run_command
from ...measure.store.database import Store
from ...measure.window import Window
from ...source.measured.profiled import TAG, Measured, Trial, of_key
from ..daemon.client import Held
from ..leases.actuator import ControlError, Knob
from .rounds import Rounds
from .settle import Settle

Work = Sequence[str] | Callable[[], object]
# Flags of a measurement that spoil a trial, and how many in a row are measured anew before giving up.
SPOILT: Final = frozenset({"reset", "lost", "stuck", "implausible"})
MOST_SPOILT: Final = 3
IDLE_SECONDS: Final = 3.0


class Watcher(Protocol):
    """Who is told how it goes."""

    def __call__(self, profile: Measured, rounds: Rounds, doing: str) -> None: ...


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to profile.

    work : a command, or a function of no arguments. name : what it is called. knob : what is set on all leases.
    waiting_power : W of all devices while they wait; measured while nothing runs where None.
    """

    work: Any
    name: str
    knob: Knob
    rounds: Rounds
    waiting_power: float | None = None
    warm_up: bool = True

    @property
    def words(self) -> list[str]:
        """The work, for the store."""
        if callable(self.work):
            return [getattr(self.work, "__qualname__", repr(self.work))]
        return list(self.work)

    def key(self, devices: Sequence[str]) -> str:
        """What makes two sweeps one: the same work, name, devices, knob, settings and order."""
        facts = [self.words, self.name, sorted(devices), self.knob, sorted(self.rounds.values), self.rounds.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


class Profiler:
    """A sweep over leases that are held already. Constructing it touches nothing; `run` measures.

    held : leases, all set alike. monitor : whose meters of the same devices are read. settle : see `Settle`.
    """

    def __init__(
        self,
        task: Task,
        held: Sequence[Held],
        store: Store,
        *,
        monitor: Monitor | None = None,
        settle: Settle | None = None,
        tell: Watcher | None = None,
        around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.task, self.held, self.store = task, list(held), store
        self.monitor = monitor if monitor is not None else default()
        self.settle = settle or Settle()
        self._tell, self._around = tell or (lambda _profile, _rounds, _doing: None), around

    def run(self, *, again: bool = False) -> Measured:
        """Measure what is not measured yet and return the profile; `again` begins anew."""
        task = self.task
        self._check()
        found = None if again else of_key(self.store, task.key(self._devices))
        if found is not None and found.done and not task.rounds.open(found.trials):
            return found
        if found is None or found.done:
            found = self._begin()
        if task.warm_up:
            self._tell(found, task.rounds, "warming up")
            self._set(max(task.rounds.values))
            self._measure()
        spoilt = 0
        while (value := task.rounds.next(found.trials)) is not None:
            self._set(value)
            self._tell(found, task.rounds, "settling")
            heat = self.settle(self.temperature)
            self._tell(found, task.rounds, "measuring")
            trial, why = self._trial(value, heat)
            if trial is None:
                spoilt += 1
                if spoilt >= MOST_SPOILT:
                    raise InputError(f"{spoilt} trials in a row could not be measured: {why}")
                continue
            spoilt = 0
            self.store.add(found.run, windows=[trial.window()], seen_unix_s=time.time())
            found = dataclasses.replace(found, trials=(*found.trials, trial))
        self.store.end(found.run, exit_code=0)
        found = dataclasses.replace(found, done=True)
        self._tell(found, task.rounds, "done")
        return found

    # ---- how ----

    @property
    def _devices(self) -> list[str]:
        return [held.device for held in self.held]

    def _check(self) -> None:
        """Refuse before anything is set what could not be measured or set later."""
        for held in self.held:
            for value in self.task.rounds.values:
                range_ = held.ranges.get(self.task.knob)
                if range_ is None:
                    raise ControlError("unsupported", f"{held.device} has no knob {self.task.knob}")
                range_.check(self.task.knob, value)
        self.monitor.prepare()
        known = {track.meter.uuid for track in self.monitor.tracks}
        for device in self._devices:
            if device not in known:
                raise InputError(f"the energy of {device} cannot be read here; `wattline doctor` says why")

    def _begin(self) -> Measured:
        """A run in the store for this sweep, with the power of waiting."""
        task = self.task
        waiting = task.waiting_power if task.waiting_power is not None else self._idle()
        names = [held.name for held in self.held]
        tags = {
            TAG: task.key(self._devices), "knob": task.knob, "values": sorted(task.rounds.values),
            "devices": self._devices, "names": names, "work": task.words, "waiting_power_w": waiting,
            "seed": task.rounds.seed, "waiting_power_from": "given" if task.waiting_power is not None else "idle",
        }  # fmt: skip
        run = self.store.begin(task.name, host=this_host(), process=os.getpid(), command=task.words, tags=tags)
        found = of_key(self.store, task.key(self._devices))
        assert found is not None
        assert found.run == run
        return found

    def _idle(self) -> float:
        """W of all devices while nothing runs, which stands for waiting."""
        with Window("idle", self.monitor) as window:
            time.sleep(IDLE_SECONDS)
        joules, _, _, why = self._energy(window.settle())
        if joules is None:
            raise InputError(f"the power of waiting could not be measured ({why}); give it with --waiting-power")
        return joules / window.seconds

    def _set(self, value: float) -> None:
        for held in self.held:
            held.apply({self.task.knob: value})

    def _trial(self, value: float, heat: float | None) -> tuple[Trial | None, str]:
        """One execution at what is set; None and why if it gave no sound figure."""
        for held in self.held:
            held.beat()
        answer = self._measure()
        # Set once more: had another tool changed the knob meanwhile, the trial would be of another setting.
        self._set(value)
        joules, low, high, why = self._energy(answer)
        if joules is None:
            return None, why
        held_down = {why for part in answer.parts if part.uuid in self._devices for why in part.throttle}
        return Trial(
            value=value, seconds=answer.seconds, joules=joules, low=low, high=high, start=answer.start,
            temperature=heat, notes=tuple(sorted(held_down)),
        ), ""  # fmt: skip

    def _measure(self) -> Measurement:
        work = self.task.work
        if callable(work):
            with Window(self.task.name, self.monitor) as window, self._around():
                work()
            return window.settle()
        with tempfile.TemporaryFile() as output, self._around():
            ran = run_command(work, self.monitor, output=output)
            output.seek(max(0, output.tell() - 400))
            said = " ".join(output.read().decode(errors="replace").split())
        if ran.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise KeyboardInterrupt
        if ran.code != 0:
            why = ran.error or f"it ended with code {ran.code}" + (f", saying: ...{said[-200:]}" if said else "")
            raise InputError(f"the command could not be profiled: {why}; a sweep needs one that succeeds each time")
        return ran.measurement

    def _energy(self, answer: Measurement) -> tuple[float | None, float | None, float | None, str]:
        """J of the devices that are set, with bounds, or why there is no sound figure."""
        parts = [part for part in answer.parts if part.uuid in self._devices]
        for part in parts:
            if part.joules is None:
                return None, None, None, part.reason or f"{part.uuid} gave no figure"
            if bad := SPOILT.intersection(part.flags):
                return None, None, None, f"{part.uuid}: {', '.join(sorted(bad))}"
            if "insufficient_resolution" in part.flags:
                need = 20 * (part.period or 0.1)
                return (
                    None,
                    None,
                    None,
                    f"{answer.seconds:.2g} s is too short for its meter; let the work take {need:.2g} s",
                )
        total = add(parts)
        return total.joules, total.low, total.high, "no meter of the devices gave a figure"

    def temperature(self) -> float | None:
        """Degrees Celsius of the hottest device; None where none says."""
        heats = []
        for track in self.monitor.tracks:
            if track.meter.uuid in self._devices:
                with contextlib.suppress(Exception):  # a sensor that fails must not end a sweep
                    heat = track.meter.state().temperature
                    heats += [] if heat is None else [heat]
        return max(heats, default=None)


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """While this is entered, SIGTERM and SIGHUP end the program as Ctrl-C does, so that leases are given back."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def profile(
    work: Work,
    *,
    device: str | Sequence[str] = "0",
    clocks: int | Sequence[float] | None = None,
    limits: int | Sequence[float] | None = None,
    name: str = "",
    store: Store | str | Path | None = None,
    again: bool = False,
    **more: Any,
) -> Measured:
    """Profile a command or a function over core clocks (Hz) or power limits (W), or so many of them.

    >>> found = profile(train_step, clocks=8)  # doctest: +SKIP
    >>> found.frontier.knee.plan  # doctest: +SKIP
    """
    from ..daemon.client import lease

    devices = [device] if isinstance(device, str) else list(device)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(lease(d)) for d in devices]
        knob, values = settings(held, clocks, limits)
        named = {k: more.pop(k) for k in list(more) if k in ("seed", "least", "most", "interval")}
        told = {k: more.pop(k) for k in list(more) if k in ("waiting_power", "warm_up")}
        rounds = Rounds(values=values, **named)
        task = Task(work=work, name=name or _name(work), knob=knob, rounds=rounds, **told)
        place = store if isinstance(store, Store) else Store(store)
        return Profiler(task, held, place, **more).run(again=again)


def settings(
    held: Sequence[Held], clocks: int | Sequence[float] | None, limits: int | Sequence[float] | None
) -> tuple[Knob, tuple[float, ...]]:
    """The knob and its settings, ascending; a number spreads so many over what the devices can do."""
    if clocks is not None and limits is not None:
        raise InputError("a profile is over clocks or over limits, not both; make two")
    knob: Knob = "power_limit" if limits is not None else "clock"
    if clocks is None and limits is None and "clock" not in held[0].ranges:
        knob = "power_limit"
    asked = limits if limits is not None else clocks
    asked = 8 if asked is None else asked
    if not isinstance(asked, int):
        return knob, tuple(sorted(dict.fromkeys(float(v) for v in asked)))
    if asked < 2:
        raise InputError(f"a profile needs at least 2 settings, got {asked}")
    if knob not in held[0].ranges:
        raise ControlError("unsupported", f"{held[0].device} has no knob {knob}; it has {', '.join(held[0].ranges)}")
    range_ = held[0].ranges[knob]
    top = range_.high
    if knob == "power_limit":
        top = min([top, *(v for h in held if (v := h.read()["power_limit"]) is not None)])
    # Clocks are spread over the upper part, where voltage follows the clock; a list reaches lower.
    low = max(range_.low, 0.4 * top) if knob == "clock" else range_.low
    return knob, msgspec.structs.replace(range_, high=top).spread(asked, low)


def _name(work: Work) -> str:
    if callable(work):
        return str(getattr(work, "__name__", "work"))
    return os.path.basename(work[0]) if work else "nothing"
