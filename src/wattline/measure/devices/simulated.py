"""Kinds of sensors as boards have them, over an invented load: late, jittery, part-time, coarse, smoothed.

Each is a set of arguments of `ReplayMeter`, whose truth is known, so an estimator can be judged on every kind.
"""

from __future__ import annotations

import random
from typing import Any, Final

from ..sensor import Sensor
from .replay import Recording, ReplayMeter

LIMIT: Final = 770.0  # W, of the invented device with room for excursions
SENSORS: Final[dict[str, dict[str, Any]]] = {
    "counter, 1 ms, 61 uJ": {"update": 0.001, "quantum": 61e-6},
    "counter, 20 ms": {"update": 0.02},
    "counter, 100 ms": {"update": 0.1},
    "counter, 1 s": {"update": 1.0},
    "counter, 10 ms, 1 J": {"update": 0.01, "quantum": 1.0},
    "counter, 20 ms, late by 50 ms": {"update": 0.02, "lag": 0.05},
    "counter, 100 ms, late by 100 ms": {"update": 0.1, "lag": 0.1},
    "counter, 20 ms, jitter of 25 %": {"update": 0.02, "jitter": 0.25},
    "counter, 100 ms, jitter of 25 %": {"update": 0.1, "jitter": 0.25},
    "counter, 100 ms, smoothed over 0.4 s": {"update": 0.1, "averaging": 0.4},
    "counter, 100 ms, looks at 25 %": {"update": 0.1, "duty": 0.25},
    "counter, 20 ms, looks at 50 %, late by 30 ms": {"update": 0.02, "duty": 0.5, "lag": 0.03},
    "power, mean of 1 s each 100 ms": {"method": "power-integral", "update": 0.1, "averaging": 1.0},
    "power, mean of 100 ms each 20 ms": {"method": "power-integral", "update": 0.02, "averaging": 0.1},
    "power, 25 ms in 100 ms": {"method": "power-integral", "update": 0.1, "duty": 0.25},
    "power, instant each 2 ms, late by 40 ms": {"method": "power-integral", "update": 0.002, "lag": 0.04},
}
LOADS: Final = ("constant", "locked", "steps", "bursts", "ramp", "noise")


def load(kind: str, seed: int = 0) -> Recording:
    """A load of a known kind between 80 and 700 W, some twenty seconds long and repeated."""
    rng = random.Random(f"{kind} {seed}")
    if kind == "constant":
        return Recording.constant(300.0)
    if kind == "locked":  # keeps time with a sensor of 20 or 100 ms: high for a quarter of each 100 ms
        return _square([(0.025, 700.0), (0.075, 100.0)])
    if kind == "steps":
        return _square([(rng.uniform(0.1, 0.6), rng.uniform(80.0, 700.0)) for _ in range(60)])
    if kind == "bursts":
        return _square([(span, watts) for _ in range(12) for span, watts in ((0.051, 650.0), (1.6, 90.0))])
    if kind == "ramp":
        return Recording([0.0, 5.0, 5.001], [100.0, 700.0, 100.0])
    if kind == "noise":
        return _square([(0.005, rng.uniform(80.0, 700.0)) for _ in range(4000)])
    raise ValueError(f"no load is called {kind!r}")


def sensor(name: str, recording: Recording, seed: int = 0, known: Sensor | None = None, **more: Any) -> ReplayMeter:
    """A sensor of `SENSORS` over a load; the meter is told of it only what is `known`, as no board tells more."""
    facts = {**SENSORS[name], "limit": LIMIT, "seed": seed, **more}
    meter = ReplayMeter(recording, **facts)
    meter.behaves(known or Sensor())
    return meter


def _square(pieces: list[tuple[float, float]]) -> Recording:
    """Levels held one after the other; a change takes a microsecond."""
    times, watts, now = [0.0], [pieces[0][1]], 0.0
    for span, level in pieces:
        times += [now + 1e-6, now + span]
        watts += [level, level]
        now += span
    return Recording(times, watts)
