"""Kernels: requests as a fluid through replicas, bin by bin (see `fluid.py`), for many settings at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..core.kernels import Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

kernel = Source("fluid.c")

# Bins after the last arrival that requests may take to leave, as a multiple of the trace's, and besides.
DRAIN, MORE = 8, 1000
# Requests of the whole fleet that count as none.
NONE = 0.5
# Seconds of queueing where nothing moves.
STUCK = 1e6


def at(values: Floats, n: float, level: int) -> float:
    """Return a curve at a fractional number of requests, on the straight line between whole ones."""
    low = min(int(n), values.shape[0] - 2)
    a: float = values[low, level]
    b: float = values[low + 1, level]
    found: float = a + (n - low) * (b - a)
    return found


def moved(n: float, x: float, h: float) -> tuple[float, float]:
    """Return requests left and their mean, of `n` that are joined evenly by `x` and leave at a rate of `h` a bin."""
    keep = math.exp(-h)
    gain = (1.0 - keep) / h if h > 1e-9 else 1.0
    left = n * keep + x * gain
    return left, ((n + x - left) / h if h > 1e-9 else (n + left) / 2.0)


@kernel
def walk(
    arrive: Floats, work: Floats, dt: float, output: float, replicas: Floats, batch: Floats, levels: Ints,
    step: Floats, fill: Floats, step_j: Floats, fill_j: Floats, waiting: float, room: float, reads: bool, decodes: bool,
    energy: Floats, duration: Floats, running: Singles, entering: Singles, pace: Singles, queued: Singles,
) -> None:  # fmt: skip
    """Fill joules, seconds, and the four series of every setting."""
    bins = len(arrive)
    for c in range(len(replicas)):
        r, cap, level = replicas[c], batch[c], levels[c]
        n = queue = prompts = total = 0.0  # of one replica; `prompts`: what waits, in mean prompts
        k = 0
        while k < bins or ((n + queue) * r > NONE and k < (1 + DRAIN) * bins + MORE):
            if k < bins:
                queue += arrive[k] / r
                prompts += work[k] / r
            share = prompts / queue if queue > 1e-12 else 1.0
            middle, left, x, steps = n, 0.0, queue, 0.0
            if decodes:
                for _ in range(2):  # with the requests at the start of the bin, then with their mean over it
                    seconds = at(step, max(middle, 1.0), level)
                    # Where nobody runs, a prompt pays for the whole step that reads it.
                    each = at(fill, max(middle, 1.0), level) * share + max(0.0, 1.0 - middle) * seconds
                    x = min(queue, dt / (seconds * share / room + each)) if reads else queue
                    each = each if reads else 0.0
                    steps = max(dt - x * each, 0.0) / seconds
                    left, middle = moved(n, x, steps / output)
                    if left > cap:
                        stay = n * math.exp(-steps / output)
                        x = min(x, max((cap - stay) / max(left - stay, 1e-12) * x, 0.0))
                        steps = max(dt - x * each, 0.0) / seconds
                        left, middle = moved(n, x, steps / output)
                    middle = min(middle, cap)
                some = min(middle, 1.0)
                seconds = at(step, max(middle, 1.0), level)
                made = steps * some + (x * max(0.0, 1.0 - middle) if reads else 0.0)
            else:
                # Prompts alone: each has a step of its own as long as there is time for it, else they share.
                middle, seconds = 0.0, step[1, level]
                each = fill[1, level] * share
                x = min(queue, dt / (each + seconds * share / room))
                made = min(x, max(dt - x * each, 0.0) / seconds)
            reading = at(fill, max(middle, 1.0), level) * share
            total += made * at(step_j, max(middle, 1.0), level) + x * at(fill_j, max(middle, 1.0), level) * share
            total += waiting * max(dt - made * seconds - x * reading, 0.0)
            queue = max(queue - x, 0.0)
            prompts = queue * share
            if k < bins:
                running[c, k], entering[c, k] = middle, x
                pace[c, k] = dt / steps if steps > 0.0 else seconds
                queued[c, k] = queue
            n = left
            k += 1
        energy[c], duration[c] = total * r, k * dt
        if (n + queue) * r > NONE:
            energy[c] = np.inf


@kernel
def waits(queued: Singles, entering: Singles, bins: Ints, dt: float, out: Floats) -> None:
    """Fill the seconds until what waits at the end of `bins` has been let in; after the trace, as fast as in it."""
    count = queued.shape[1]
    for c in range(queued.shape[0]):
        sum_of = 0.0
        for x in entering[c]:
            sum_of += float(x)
        mean = max(sum_of / count, 1e-12)
        for i in range(len(bins)):
            k, left, time = bins[i] + 1, float(queued[c, bins[i]]), 0.0
            while left > 1e-6 and k < count and left > entering[c, k]:
                left -= float(entering[c, k])
                time += dt
                k += 1
            if left > 1e-6:
                time += min(left * dt / (float(entering[c, k]) if k < count else mean), STUCK)
            out[c, i] = time


@kernel
def lives(
    pace: Singles, entering: Singles, bins: Ints, tokens: Floats, dt: float, out: Floats, met: Floats
) -> None:  # fmt: skip
    """Fill the mean seconds per token of requests that start in `bins` and take `tokens` steps, and prompts met."""
    last = pace.shape[1] - 1
    for c in range(pace.shape[0]):
        for i in range(len(bins)):
            k, left, time, prompts = bins[i], tokens[i], 0.0, 0.0
            while k < last and left > dt / float(pace[c, k]):
                left -= dt / float(pace[c, k])
                time += dt
                prompts += float(entering[c, k])
                k += 1
            time += left * float(pace[c, k])
            prompts += left * float(pace[c, k]) / dt * float(entering[c, k])
            out[c, i], met[c, i] = time / tokens[i], prompts


@kernel
def behind(arrival: Floats, share: Floats, fills: Floats, replicas: int, out: Floats) -> None:
    """Fill (n, fills) seconds of prompts unread at a request's replica as it arrives, in turn at each of `replicas`.

    A mean prompt takes `fills` seconds.
    """
    left, last = np.zeros(replicas), np.zeros(replicas)
    for g in range(len(fills)):
        left[:] = 0.0
        last[:] = 0.0
        for i in range(len(arrival)):
            r = i % replicas
            left[r] = max(left[r] - (arrival[i] - last[r]), 0.0)
            last[r] = arrival[i]
            out[i, g] = left[r]
            left[r] += fills[g] * share[i]
