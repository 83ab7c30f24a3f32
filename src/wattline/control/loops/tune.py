"""Tune a running loop: its power limit or clock follows what the steps take, through leases.

    for batch in wattline.tune(loader):                 with tuning(max_slowdown=0.02) as tuned:
        train(batch)                                        while ...: train(); tuned.step()

A look is so many steps at one setting, measured as a whole; the first step after a change is left out. Where `tuner`
sees nothing to gain, the loop runs at its best setting and is only watched for drift. What goes wrong later than the
start ends the tuning, not the loop, and is a note in the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import msgspec

from ...core.errors import InputError
from ...core.units import show
from ...measure.monitor import Monitor
from ...measure.result import Measurement
from ...measure.window import Window
from ..daemon.client import Held, lease
from ..leases.actuator import UNITS, ControlError, Knob
from .tuner import Objective, Tuner

T = TypeVar("T")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How a loop is looked at.

    values : settings to choose from, W or Hz; `count` of them, evenly from `least` (share of the highest) up, where
    None. seconds, steps : a look ends when it has both. settle : steps left out after a change. wait : the longest
    that the end of a look waits for its sensor, s.
    """

    values: tuple[float, ...] | None = None
    count: int = 12
    least: float = 0.4
    seconds: float = 2.0
    steps: int = 3
    settle: int = 1
    wait: float = 0.2


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What tuning has found: the knob's best setting, settings tried, looks, drifts, and s and J of a step.

    `best` and its figures are None before the first look has ended.
    """

    knob: str
    devices: tuple[str, ...]
    best: float | None
    seconds: float | None
    joules: float | None
    highest: tuple[float, float] | None
    looks: int
    tried: tuple[float, ...]
    drifts: int
    notes: tuple[str, ...]


class Tuning:
    """The tuning of one loop. `begin`, then `step` after every step, then `end`; or a ``with``.

    held : leases of the devices that do the steps, all set alike. joules : reads the joules of an ended window, those
    of the leased devices where None. total : steps in all, None where not known. sync : waits until the devices have
    done what they were given, such as ``torch.cuda.synchronize``; called at the ends of looks.
    """

    def __init__(
        self,
        held: Sequence[Held],
        objective: Objective,
        *,
        knob: Knob = "power_limit",
        rule: Rule | None = None,
        total: int | None = None,
        monitor: Monitor | None = None,
        joules: Callable[[Measurement], float | None] | None = None,
        sync: Callable[[], object] = lambda: None,
        seed: int = 0,
    ) -> None:
        if not held:
            raise InputError("tuning needs a lease of each device that does the steps, got none")
        self.held, self.knob, self.rule = tuple(held), knob, rule or Rule()
        self.notes: list[str] = []
        self._monitor, self._sync = monitor, sync
        self._clock = time.perf_counter if monitor is None else monitor.clock
        self._begun = 0.0
        self._joules = joules if joules is not None else self._of_devices
        self._tuner = Tuner(
            _values(self.held, knob, self.rule),
            objective,
            knob=knob,
            steps=total,
            switch=max(h.latency for h in self.held),
            seed=seed,
        )
        self._set_to: float | None = None
        self._window: Window | None = None
        self._steps = self._skip = self._looks = 0
        self._on = False

    # ---- use ----

    def begin(self) -> Self:
        """Set the first setting and begin to look; a setting that cannot be made is an error here."""
        if self._tuner.steps is not None and self._looks == 0 and self._tuner.steps < 1:
            raise InputError(f"a loop to tune has at least 1 step, got {self._tuner.steps}")
        self._apply(self._tuner.ask())
        self._on = True
        self._open()
        return self

    def step(self) -> None:
        """A step has ended."""
        if not self._on:
            return
        if self._skip > 0:
            self._skip -= 1
            if self._skip == 0:
                self._open()
            return
        self._steps += 1
        window = self._window
        if window is None or self._steps < self.rule.steps:
            return
        if self._clock() - self._begun < self.rule.seconds:
            return
        try:
            self._look_ended(window)
        except ControlError as error:
            self._stop(f"tuning ended: {error}")

    def end(self) -> Report:
        """The loop is over; devices stay as they are until their leases are closed."""
        if self._window is not None:
            self._window.end()
            self._window = None
        self._on = False
        return self.report()

    def report(self) -> Report:
        """What has been found so far."""
        tuner = self._tuner
        known = bool(tuner.looks)
        seconds, joules = tuner.believed(tuner.best) if known else (None, None)
        return Report(
            knob=self.knob,
            devices=tuple(h.device for h in self.held),
            best=tuner.best if known else None,
            seconds=seconds,
            joules=joules,
            highest=tuner.believed(tuner.values[-1]) if known else None,
            looks=self._looks,
            tried=tuner.tried,
            drifts=tuner.era,
            notes=tuple(self.notes),
        )

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    # ---- how ----

    def _open(self) -> None:
        self._sync()
        self._window = Window("wattline/look", self._monitor).begin()
        self._begun = self._clock()
        self._steps = 0

    def _look_ended(self, window: Window) -> None:
        self._sync()
        steps, value = self._steps, self._set_to
        answer = window.end().settle(timeout=self.rule.wait)
        self._window = None
        joules = self._joules(answer)
        if joules is None or not joules > 0 or not answer.seconds > 0 or value is None:
            self._stop("tuning ended: no sensor shows what the leased devices draw; see wattline doctor")
            return
        self._looks += 1
        self._tuner.tell(value, seconds=answer.seconds, joules=joules, steps=steps)
        wanted = self._tuner.ask()
        if wanted != value:
            self._apply(wanted)
            self._skip = self.rule.settle
        if self._skip == 0:
            self._open()

    def _apply(self, value: float) -> None:
        done: list[Held] = []
        try:
            for held in self.held:
                held.apply({self.knob: value}, verify=False)
                done.append(held)
        except ControlError:
            for held in done:
                if self._set_to is not None:
                    held.apply({self.knob: self._set_to}, verify=False)
            raise
        self._set_to = value

    def _stop(self, why: str) -> None:
        """Go on without tuning, at the best setting where that can still be set."""
        self.notes.append(why)
        self._on = False
        if self._tuner.looks:
            for held in self.held:
                if not held.over:
                    try:
                        held.apply({self.knob: self._tuner.best}, verify=False)
                    except ControlError as error:
                        self.notes.append(str(error))

    def _of_devices(self, answer: Measurement) -> float | None:
        mine = {h.device for h in self.held}
        parts = [part for part in answer.parts if part.uuid in mine]
        inner = {part.key for part in parts if {p.key for p in parts} & set(part.within)}
        whole = [part for part in parts if part.key not in inner]
        if {part.uuid for part in whole} != mine or any(part.joules is None for part in whole):
            return None
        return float(sum(part.joules or 0.0 for part in whole))


class Tuned(Generic[T]):
    """An iterable whose loop is tuned while it is iterated over; made by `tune`."""

    def __init__(self, loader: Iterable[T], take: Callable[[], list[Held]], **how: Any) -> None:
        self._loader, self._take, self._how = loader, take, how
        self.report: Report | None = None

    def __iter__(self) -> Iterator[T]:
        how = dict(self._how)
        if how.get("total") is None:
            how["total"] = _length(self._loader)
        held = self._take()
        tuning: Tuning | None = None
        try:
            tuning = Tuning(held, **how).begin()
            for item in self._loader:
                yield item
                tuning.step()
        finally:
            if tuning is not None:
                self.report = tuning.end()
            for each in held:
                each.close()

    def __len__(self) -> int:
        found = _length(self._loader)
        if found is None:
            raise TypeError("the loader has no length")
        return found


def tune(
    loader: Iterable[T],
    *,
    max_slowdown: float | None = None,
    eta: float | None = None,
    devices: Sequence[str] = ("0",),
    knob: Knob = "power_limit",
    values: Sequence[float] | None = None,
    steps: int | None = None,
    rule: Rule | None = None,
    monitor: Monitor | None = None,
    sync: Callable[[], object] = lambda: None,
    held: Sequence[Held] | None = None,
    seed: int = 0,
) -> Tuned[T]:
    """Iterate over `loader` while the devices' power limit (or clock) is tuned to what the steps take.

    max_slowdown : least energy, at most so much slower than untuned (0.02 is 2 %; 0 where nothing is said). eta :
    instead, least of eta * energy + (1 - eta) * power * time. devices : leased while it is iterated over, all set
    alike. values : settings to choose from, W or Hz. steps : in all, for a loader without a length. held : leases
    to use instead; they stay the caller's. `report` of what is returned says what was found.
    """
    if max_slowdown is None and eta is None:
        max_slowdown = 0.0
    objective = Objective(max_slowdown=max_slowdown, eta=eta)
    how = rule or Rule()
    if values is not None:
        how = msgspec.structs.replace(how, values=tuple(values))
    take = (lambda: leases(devices)) if held is None else (lambda: [cast("Held", _Lent(h)) for h in held])
    return Tuned(
        loader, take, objective=objective, knob=knob, rule=how, total=steps, monitor=monitor, sync=sync, seed=seed
    )


def leases(devices: Sequence[str]) -> list[Held]:
    """Leases of all of these devices, or of none."""
    held: list[Held] = []
    try:
        for device in devices:
            held.append(lease(device))  # noqa: PERF401 - those taken are given back if one fails
    except BaseException:
        for each in held:
            each.close()
        raise
    return held


def _length(loader: object) -> int | None:
    """How many items there are; None where the loader does not say, or only says so when asked."""
    if not isinstance(loader, Sized):
        return None
    try:
        return len(loader) or None
    except TypeError:
        return None


class _Lent:
    """A lease that is someone else's to close."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    def close(self) -> list[str]:
        return []


def _values(held: Sequence[Held], knob: Knob, rule: Rule) -> tuple[float, ...]:
    """The settings to choose from, each within every device's range and the limit that was found."""
    most: list[float] = []
    for each in held:
        range_ = each.ranges.get(knob)
        if range_ is None:
            has = ", ".join(each.ranges) or "none"
            raise ControlError("unsupported", f"{each.device} has no knob {knob} to tune; it has {has}")
        found = each.read()[knob] if range_.readable and knob == "power_limit" else None
        most.append(range_.high if found is None else min(found, range_.high))
    top, first = min(most), held[0].ranges[knob]
    if rule.values is not None:
        for each in held:
            for value in rule.values:
                each.ranges[knob].check(knob, value, top)
        chosen = {first.nearest(v) for v in rule.values}
    else:
        if rule.count < 2 or not 0 < rule.least < 1:
            raise InputError(f"tuning chooses among 2 settings or more, from a share of the highest, got {rule}")
        low = max(first.low, rule.least * top)
        chosen = {first.nearest(low + (top - low) * k / (rule.count - 1)) for k in range(rule.count)}
        chosen = {v for v in chosen if v <= top + first.step} or {first.nearest(top)}
    if len(chosen) < 2:
        only = show(next(iter(chosen)), UNITS[knob], 4)
        raise InputError(f"there is nothing to tune: the only {knob.replace('_', ' ')} to choose is {only}")
    return tuple(sorted(chosen))


__all__ = ["Report", "Rule", "Tuned", "Tuning", "leases", "tune"]
