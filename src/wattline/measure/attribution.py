"""Joules per operator and module from a torch.profiler trace and a device's power: always an estimate.

    power  |   ____________
           |__|            |_____       the power of an instant goes in equal parts to what runs at that instant,
    stream 0   [gemm ] [norm]           and where nothing runs it goes to ``idle``
    stream 1      [all-reduce]

Kernels are traced back to the operator that launched them (by correlation and external ids) and to the module
that called it (``with_modules=True`` or ``with_stack=True``). Without kernels the operators' own time on the CPU is
taken. Every share adds up to the joules that were measured. A power sensor is slower than a kernel, so within one
of its intervals energy could have gone otherwise; the bounds hold every way that the highest and lowest power allow.
"""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from ..core.errors import InputError

# Categories of a trace's events that are work of a device (Kineto's names).
KERNELS: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
LAUNCHES: Final = frozenset({"cuda_runtime", "cuda_driver", "hip_runtime", "xpu_runtime"})
MODULE: Final = "nn.Module: "
NOWHERE: Final = "(no module)"


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Joules given to one name, with bounds, the seconds it ran (each instant shared) and its calls."""

    name: str
    joules: float
    low: float
    high: float
    seconds: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        return {
            "name": self.name,
            "energy_j": self.joules,
            "low_j": self.low,
            "high_j": self.high,
            "duration_s": self.seconds,
            "calls": self.calls,
        }


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """How the joules of a trace were shared out, the largest first; `joules` is their sum and `idle` one of them.

    kernels, operators, modules : three views of the same joules, not three parts. A module's energy holds that of
    the modules inside it in `modules`; kernels and operators are of their own alone.
    """

    joules: float
    seconds: float
    idle: Share
    kernels: tuple[Share, ...]
    operators: tuple[Share, ...]
    modules: tuple[Share, ...]
    estimated: bool = True
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        return {
            "energy_j": self.joules,
            "duration_s": self.seconds,
            "estimated": self.estimated,
            "idle": self.idle.to_dict(),
            "kernels": [share.to_dict() for share in self.kernels],
            "operators": [share.to_dict() for share in self.operators],
            "modules": [share.to_dict() for share in self.modules],
            "notes": list(self.notes),
        }


class Work(msgspec.Struct, frozen=True):
    """Something that ran on the device: when (s), what, for which operator, in which modules (outermost first).

    Pieces of one call, parted by what it called in turn, have the same `call`.
    """

    start: float
    stop: float
    kernel: str
    operator: str
    modules: tuple[str, ...] = ()
    call: int = -1


def load(path: str | Path) -> dict[str, Any]:
    """A trace from a file that ``prof.export_chrome_trace`` wrote, ``.json`` or ``.json.gz``."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            import gzip

            data = gzip.decompress(data)
        trace = json.loads(data)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a trace of torch.profiler: {error}") from None
    return {"traceEvents": trace} if isinstance(trace, list) else trace


def origin(trace: Mapping[str, Any]) -> float:
    """The instant, in seconds since 1970, that a trace's times count from; 0 where they are since 1970 themselves.

    Times are kept from there, because seconds since 1970 tell nothing shorter than 0.2 microseconds apart.
    """
    return float(trace.get("baseTimeNanoseconds", 0)) * 1e-9


def work(trace: Mapping[str, Any], device: int | None = None) -> tuple[Work, ...]:
    """What ran on a device (all of them if None), in seconds since the trace's `origin`."""
    events = trace.get("traceEvents")
    if not isinstance(events, list):
        raise InputError("a trace needs a list of traceEvents; write it with prof.export_chrome_trace")
    spans = [e for e in events if isinstance(e, dict) and e.get("ph") == "X" and float(e.get("dur", 0)) > 0]
    stacks = _Stacks(spans)
    kernels: list[Mapping[str, Any]] = [e for e in spans if e.get("cat") in KERNELS]
    if device is not None:
        kernels = [e for e in kernels if e.get("args", {}).get("device", device) == device]
    found: list[Work] = []
    if kernels:
        launched = {
            e["args"]["correlation"]: e
            for e in spans
            if e.get("cat") in LAUNCHES and "correlation" in e.get("args", {})
        }
        by_external = {
            e["args"]["External id"]: e
            for e in spans
            if e.get("cat") == "cpu_op" and "External id" in e.get("args", {})
        }
        for event in kernels:
            arguments = event.get("args", {})
            origin = launched.get(arguments.get("correlation")) or by_external.get(arguments.get("External id"))
            operator, modules = stacks.at(origin) if origin is not None else ("", ())
            name = str(event.get("name", "?"))
            found.append(Work(*_seconds(event), name, operator or f"({name})", modules, len(found)))
    else:
        for event, start, stop in stacks.own():
            operator, modules = stacks.at(event)
            found.append(Work(start * 1e-6, stop * 1e-6, operator, operator, modules, id(event)))
    return tuple(sorted(found, key=lambda w: (w.start, w.stop)))


def attribute(
    done: Sequence[Work],
    times: Sequence[float],
    watts: Sequence[float],
    *,
    origin: float = 0.0,
    joules: float | None = None,
    low: float | None = None,
    high: float | None = None,
    floor: float = 0.0,
    most: float | None = None,
) -> Attribution:
    """Share the energy of a device over what ran on it.

    times, watts : edges in s and the mean power between each two, covering the time of interest.
    origin : the instant on the clock of `times` that `done` counts from, which `origin` tells of a trace.
    joules, low, high : what was measured over that time, to which the shares are scaled, and its 95 % interval; the
        integral of power if None.
    floor, most : W that the device draws whatever runs, and W that it cannot exceed; the most seen if None.
    """
    if len(times) != len(watts) + 1 or not watts:
        raise InputError(f"`times` must have one entry more than `watts`, got {len(times)} and {len(watts)}")
    if any(not b > a for a, b in pairwise(times)):
        raise InputError("the times of the power must increase")
    if any(not (math.isfinite(w) and w >= 0) for w in watts):
        raise InputError("power must be finite and >= 0")
    times = [t - origin for t in times]
    integral = math.fsum(w * (b - a) for w, a, b in zip(watts, times, times[1:], strict=False))
    total = integral if joules is None else joules
    if not (math.isfinite(total) and total >= 0):
        raise InputError(f"the joules to share out must be finite and >= 0, got {total}")
    scale = total / integral if integral > 0 else 0.0
    down = low / total if low is not None and total > 0 else 1.0
    up = high / total if high is not None and total > 0 else 1.0
    ledger = _Ledger(
        [w * scale for w in watts], times, min(floor, *watts) * scale, max(most or 0.0, *watts) * scale, down, up
    )
    inside = [w for w in done if w.stop > times[0] and w.start < times[-1]]
    for start, stop, running in _segments(inside, times[0], times[-1]):
        ledger.spend(start, stop, running)
    notes = ["shared out by time and power, not measured; bounds hold what a slow power sensor cannot tell apart"]
    if len(inside) < len(done):
        notes.append(f"{len(done) - len(inside)} of {len(done)} pieces of work lie outside the time of the power")
    if not inside:
        notes.append("nothing ran in this time; check that trace and power are on one clock")
    if low is None or high is None:
        notes.append("the error of the meter is not in the bounds, for it was not given")
    calls: dict[tuple[str, str], set[int]] = {}
    for number, piece in enumerate(inside):
        for key in _keys(piece):
            calls.setdefault(key, set()).add(piece.call if piece.call >= 0 else -2 - number)

    def view(kind: str) -> tuple[Share, ...]:
        shares = [ledger.share(key, len(calls.get(key, ()))) for key in ledger.keys() if key[0] == kind]  # noqa: SIM118
        return tuple(sorted(shares, key=lambda s: (-s.joules, s.name)))

    return Attribution(
        joules=total,
        seconds=times[-1] - times[0],
        idle=ledger.share(("idle", "idle"), 0),
        kernels=view("kernel"),
        operators=view("operator"),
        modules=view("module"),
        notes=tuple(notes),
    )


def _keys(piece: Work) -> list[tuple[str, str]]:
    """What a piece of work counts for: its kernel, its operator, and each module it lies in, by its path."""
    paths = [".".join(piece.modules[: i + 1]) for i in range(len(piece.modules))]
    return [("kernel", piece.kernel), ("operator", piece.operator), *(("module", path) for path in paths or [NOWHERE])]


class _Held(msgspec.Struct):
    """Seconds of a key in one interval: its share, those it ran in at all, and those it had to itself."""

    share: float = 0.0
    present: float = 0.0
    alone: float = 0.0


class _Ledger:
    """Seconds by (kind, name) and interval of the power sensor, so that joules and their bounds can be had."""

    def __init__(
        self, watts: Sequence[float], times: Sequence[float], floor: float, most: float, down: float, up: float
    ) -> None:
        self.watts, self.times, self.floor, self.most, self.down, self.up = watts, times, floor, most, down, up
        self._held: dict[tuple[str, str], dict[int, _Held]] = {}

    def keys(self) -> Iterable[tuple[str, str]]:
        return self._held.keys()

    def spend(self, start: float, stop: float, running: Sequence[Work]) -> None:
        """Share [start, stop] over what runs in it."""
        counts = Counter(key for piece in running for key in _keys(piece)) or Counter({("idle", "idle"): 1})
        number = max(1, len(running))
        first = max(0, bisect.bisect_right(self.times, start) - 1)
        for i in range(first, len(self.watts)):
            if self.times[i] >= stop:
                break
            span = min(stop, self.times[i + 1]) - max(start, self.times[i])
            for key, count in counts.items() if span > 0 else ():
                held = self._held.setdefault(key, {}).setdefault(i, _Held())
                held.share += span * count / number
                held.present += span
                held.alone += span if count == number else 0.0

    def share(self, key: tuple[str, str], calls: int) -> Share:
        """The share of a key; its bounds are what each interval could at least and at most have given it."""
        held = self._held.get(key, {})
        joules = math.fsum(self.watts[i] * h.share for i, h in held.items())
        low = high = 0.0
        for i, h in held.items():
            length = self.times[i + 1] - self.times[i]
            energy = self.watts[i] * length
            low += max(self.floor * h.alone, energy - self.most * max(0.0, length - h.alone))
            high += min(self.most * h.present, energy - self.floor * max(0.0, length - h.present))
        return Share(
            name=key[1],
            joules=joules,
            low=min(low, joules) * self.down,
            high=max(high, joules) * self.up,
            seconds=math.fsum(h.share for h in held.values()),
            calls=calls,
        )


def _segments(done: Sequence[Work], start: float, stop: float) -> Iterable[tuple[float, float, list[Work]]]:
    """(start, stop, what runs) between every two instants at which something begins or ends."""
    marks = sorted(
        [(max(start, w.start), 1, k) for k, w in enumerate(done)]
        + [(min(stop, w.stop), 0, k) for k, w in enumerate(done)]
    )
    running: dict[int, Work] = {}
    at = start
    for time, begins, k in marks:
        if time > at:
            yield at, time, list(running.values())
            at = time
        if begins:
            running[k] = done[k]
        else:
            running.pop(k, None)
    if stop > at:
        yield at, stop, list(running.values())


class _Stacks:
    """What encloses an instant on each thread of the CPU: operators and modules."""

    def __init__(self, spans: Sequence[Mapping[str, Any]]) -> None:
        self._threads: dict[tuple[Any, Any], list[tuple[float, float, str, Mapping[str, Any]]]] = {}
        for event in spans:
            name = str(event.get("name", ""))
            kind = (
                "operator"
                if event.get("cat") == "cpu_op"
                else "module"
                if name.startswith(MODULE) or (event.get("cat") == "user_annotation" and name.startswith("module:"))
                else ""
            )
            if kind:
                start = float(event["ts"])
                row = (start, start + float(event["dur"]), kind, event)
                self._threads.setdefault((event.get("pid"), event.get("tid")), []).append(row)
        self._open: dict[tuple[Any, Any], tuple[list[float], list[tuple[Any, ...]]]] = {}
        for thread, rows in self._threads.items():
            rows.sort(key=lambda r: (r[0], -r[1]))
            self._open[thread] = self._sweep(rows)

    @staticmethod
    def _sweep(rows: list[tuple[float, float, str, Mapping[str, Any]]]) -> tuple[list[float], list[tuple[Any, ...]]]:
        """Instants at which what is open changes, and what is open from each."""
        times: list[float] = []
        states: list[tuple[Any, ...]] = []
        stack: list[tuple[float, float, str, Mapping[str, Any]]] = []

        def note(time: float) -> None:
            if times and times[-1] == time:
                states[-1] = tuple(stack)
            else:
                times.append(time)
                states.append(tuple(stack))

        for row in [*rows, (math.inf, math.inf, "", {})]:
            while stack and min(r[1] for r in stack) <= row[0]:
                ends = min(r[1] for r in stack)
                stack[:] = [r for r in stack if r[1] > ends]
                note(ends)
            if row[0] < math.inf:
                stack.append(row)
                note(row[0])
        return times, states

    def _state(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        times, states = self._open.get((event.get("pid"), event.get("tid")), ([], []))
        i = bisect.bisect_right(times, float(event["ts"])) - 1
        return states[i] if i >= 0 else ()

    def at(self, event: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The innermost operator and the modules, outermost first, around the start of an event."""
        state = self._state(event)
        operators = [str(row[3]["name"]) for row in state if row[2] == "operator"]
        modules = [
            str(row[3]["name"]).removeprefix(MODULE).removeprefix("module:") for row in state if row[2] == "module"
        ]
        if event.get("cat") == "cpu_op":
            return str(event["name"]), tuple(modules)
        return (operators[-1] if operators else ""), tuple(modules)

    def own(self) -> Iterable[tuple[Mapping[str, Any], float, float]]:
        """The spans of time that each operator has to itself, its inner operators left out, in microseconds."""
        for times, states in self._open.values():
            for i, state in enumerate(states[:-1]):
                operators = [row[3] for row in state if row[2] == "operator"]
                if operators and times[i + 1] > times[i]:
                    yield operators[-1], times[i], times[i + 1]


def _seconds(event: Mapping[str, Any]) -> tuple[float, float]:
    start = float(event["ts"]) * 1e-6
    return start, start + float(event["dur"]) * 1e-6
