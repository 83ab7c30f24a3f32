"""`wattline profile`: from what was typed to a sweep, its picture while it runs, and the frontier it found."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import InputError
from ...core.units import parse, show
from ...measure.monitor import Monitor
from ...measure.store.database import Store
from ...source.measured.profiled import KNOBS, Measured
from ..daemon.client import Held, lease
from ..devices.simulated import SimulatedGpu
from ..leases.actuator import UNITS, Knob
from ..leases.keeper import Keeper
from .live import picture, watching
from .rounds import Rounds, count, half_widths
from .settings_sweep import Profiler, Task, settings, terminating
from .settle import Settle


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed."""

    command: tuple[str, ...]
    clocks: str | None = None
    limits: str | None = None
    devices: tuple[str, ...] = ("0",)
    name: str = ""
    interval: str = "2 %"
    least: int = 3
    most: int = 10
    settle: str = "30 s"
    waiting_power: str | None = None
    seed: int = 0
    again: bool = False
    dry_run: bool = False
    simulate: bool = False
    store: str | None = None
    json: bool = False


def sweep(asked: Asked) -> int:
    """Run a sweep and print what it found; 130 if it was interrupted, and then the same goes on where it was."""
    if not asked.command:
        raise InputError("profile needs a command, after --: wattline profile --clocks 8 -- python train.py")
    interval = parse(asked.interval, "", key="--interval")
    if not 0 < interval < 1:
        raise InputError(f"--interval lies between 0 and 100 %, got {asked.interval}")
    if not 1 <= asked.least <= asked.most:
        raise InputError(f"--least is at least 1 and at most --most, got {asked.least} and {asked.most}")
    clocks, limits = _values(asked.clocks, "clock"), _values(asked.limits, "power_limit")
    waiting = None if asked.waiting_power is None else parse(asked.waiting_power, "W", key="--waiting-power")
    longest = parse(asked.settle, "s", key="--settle")
    store, found = Store(asked.store), None
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminating())
        held, monitor, around = stack.enter_context(_devices(asked))
        knob, values = settings(held, clocks, limits)
        rounds = Rounds(values=values, seed=asked.seed, least=asked.least, most=asked.most, interval=interval)
        name = asked.name or os.path.basename(asked.command[0])
        task = Task(work=asked.command, name=name, knob=knob, rounds=rounds, waiting_power=waiting)
        if asked.dry_run:
            order = ", ".join(show(v, UNITS[knob], 4) for v in _first_round(rounds))
            print(f"{name}: {knob} of {', '.join(h.device for h in held)} to {order}, {rounds.least} times or more")
            return 0
        tell = stack.enter_context(watching())
        work = Profiler(task, held, store, monitor=monitor, settle=Settle(longest), tell=tell, around=around)
        try:
            found = work.run(again=asked.again)
        except KeyboardInterrupt:
            print(f"wattline: stopped; the same command goes on where {name} stopped", file=sys.stderr)
            return 130
    _print(found, store, asked.json)
    return 0


@contextlib.contextmanager
def _devices(
    asked: Asked,
) -> Iterator[tuple[list[Held], Monitor | None, Callable[[], contextlib.AbstractContextManager[object]]]]:
    """The leases of a sweep, and for a simulated device its meter and what tells it that it is busy."""
    with contextlib.ExitStack() as stack:
        if not asked.simulate:
            yield (
                [stack.enter_context(lease(d, dry_run=asked.dry_run)) for d in asked.devices],
                None,
                contextlib.nullcontext,
            )
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gpu = SimulatedGpu(state=folder / "knobs")
        os.environ["WATTLINE_SIMULATED"] = str(folder / "knobs")
        monitor = Monitor([gpu.meter()])
        stack.callback(monitor.stop)

        @contextlib.contextmanager
        def busy() -> Iterator[None]:
            gpu.busy(True)
            try:
                yield
            finally:
                gpu.busy(False)

        keeper = stack.enter_context(Keeper([gpu], folder, dry_run=asked.dry_run))
        yield [stack.enter_context(keeper.take("0"))], monitor, busy


def _first_round(rounds: Rounds) -> list[float]:
    from ...source.measured.profiled import Trial

    done: list[Trial] = []
    while len(done) < len(rounds.values):
        value = rounds.next(done)
        assert value is not None
        done.append(Trial(value, 1.0, 1.0))
    return [t.value for t in done]


def _values(text: str | None, knob: Knob) -> int | list[float] | None:
    """A number of settings, or a list of them with units."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) == 1 and words[0].isdecimal():
        return int(words[0])
    return [parse(word, UNITS[knob], key="--clocks" if knob == "clock" else "--limits") for word in words]


def told(found: Measured, store: Store) -> dict[str, Any]:
    """A profile as plain data with SI units in the key names."""
    fitted, widths, counts = found.fitted, half_widths(found.trials), count(found.trials)
    key, on = KNOBS[found.knob], set(found.frontier.time.tolist())
    rows = []
    for k, knobs in enumerate(fitted.knobs):
        value, time = knobs[key], float(fitted.time[k])
        rows.append(
            {
                key: value,
                "time_s": time,
                "energy_j": float(fitted.fitted[k]) + found.waiting_power * time,
                "measured_energy_j": float(fitted.measured[k]) + found.waiting_power * time,
                "repeats": counts[value],
                "half_width": widths[value],
                "frontier": time in on,
                "throttled_by": sorted({why for t in found.trials if t.value == value for why in t.notes}),
            }
        )
    return {
        "run": found.run,
        "name": found.name,
        "store": store.url,
        "done": found.done,
        "devices": list(found.devices),
        "waiting_power_w": found.waiting_power,
        "trials": len(found.trials),
        "settings": sorted(rows, key=lambda row: -row[key]),
        "provenance": "measured",
        "source": found.source,
    }


def _print(found: Measured, store: Store, json: bool) -> None:
    data = told(found, store)
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
        return
    key = KNOBS[found.knob]
    knob: Knob = found.knob  # type: ignore[assignment]
    print("\n".join(picture(found)))
    print(f"\n{'':2}{found.knob.replace('_', ' '):>12}  {'time':>9}  {'energy':>9}  repeats  interval")
    for row in data["settings"]:
        mark = "●" if row["frontier"] else " "
        print(
            f"{mark} {show(row[key], UNITS[knob], 4):>12}  {show(row['time_s'], 's'):>9}  "
            f"{show(row['energy_j'], 'J'):>9}  {row['repeats']:>7}  ±{100 * row['half_width']:.2g} %"
        )
    print(f'\n{found.source}\nuse it: [measured] profile = "{found.name}" in a scenario, then wattline plan')
