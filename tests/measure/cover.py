"""How often the truth is inside the interval: random windows on simulated sensors under every load."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import NamedTuple

from wattline.measure import probe
from wattline.measure.devices.replay import Recording, VirtualClock
from wattline.measure.devices.simulated import LOADS, SENSORS, load, sensor
from wattline.measure.monitor import Monitor
from wattline.measure.sensor import Sensor

from .drive import Driver

# Lengths of windows, s; each is drawn up to 30 % longer.
SPANS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Look(NamedTuple):
    """One window: its nominal length, whether the truth was inside, the error and the half-width as shares."""

    span: float
    inside: bool
    error: float | None
    width: float


class _Told(probe.Load):
    """A load that a recording already holds."""

    name = "pulses"

    def on(self) -> None: ...
    def off(self) -> None: ...
    def close(self) -> None: ...


@functools.lru_cache
def learnt(name: str, seconds: float = 60.0, seed: int = 3) -> probe.Learnt:
    """What a probe learns of a simulated sensor beside pulses of 100 and 500 W."""
    times, watts = [0.0], [100.0]
    for on, off in probe.pulses(seconds, seed):
        times += [on, on + 1e-6, off, off + 1e-6]
        watts += [100.0, 500.0, 500.0, 100.0]
    clock = VirtualClock()
    recording = Recording([*times, seconds + 5.0], [*watts, 100.0])
    meter = sensor(name, recording, seed, clock=clock, phase=0.37 * SENSORS[name]["update"])
    seen, pulsed = probe.watch([meter], _Told(), seconds=seconds, seed=seed, clock=clock, sleep=clock.advance)
    return probe.learn(seen[0], pulsed, counter=meter.method == "counter", start=Sensor(), source="learnt")


def windows(
    name: str,
    known: Sensor | None,
    count: int,
    loads: Sequence[str] = LOADS,
    seed: int = 1,
    spans: Sequence[float] = SPANS,
) -> list[Look]:
    """`count` windows under each load on one simulated sensor of which so much is known."""
    found = []
    for kind in loads:
        clock, rng = VirtualClock(), random.Random(f"{name} {kind} {seed}")
        phase = rng.random() * SENSORS[name]["update"]
        meter = sensor(name, load(kind, seed), seed, known, clock=clock, phase=phase)
        driver = Driver(Monitor([meter], clock=clock, thread=False), clock, seed=seed)
        driver.window(3.0, settle=0.5)
        for k in range(count):
            span = spans[k % len(spans)]
            seconds = span * rng.uniform(1.0, 1.3)
            driver.run(rng.random() * 0.3)
            start = clock.now
            part = driver.window(seconds, settle=0.5).result.parts[0]
            true = meter.energy(start, start + seconds)
            # A counter shows whole steps at both ends.
            slack = 2.0 * meter.quantum
            inside = part.low is not None and part.low - slack <= true <= part.high + slack
            width = (part.high - part.low) / 2 / true if part.low is not None else float("inf")
            found.append(Look(span, inside, None if part.joules is None else part.joules / true - 1, width))
    return found


def difference(name: str, count: int, seconds: float = 0.05) -> float | None:
    """Mean error, as a share, of windows by the difference of two readings; None for a sensor that counts nothing."""
    if SENSORS[name].get("method"):
        return None
    errors = []
    for kind in LOADS:
        clock, rng = VirtualClock(), random.Random(f"{name} {kind}")
        meter = sensor(name, load(kind, 1), 1, clock=clock)
        clock.advance(5.0)
        for _ in range(max(1, count // len(LOADS))):
            clock.advance(rng.uniform(0.3, 1.3))
            start, first = clock.now, meter.read()
            clock.advance(seconds * rng.uniform(1.0, 1.3))
            errors.append(abs((meter.read() - first) / meter.energy(start, clock.now) - 1.0))
    return sum(errors) / len(errors)
