"""What a few noisy looks say about time and power at every setting of a knob: a belief to draw landscapes from.

    log seconds  =  level + slope * x + bend(x)         x = log(setting / highest setting)
    log watts    =  level + slope * x + bend(x)         looks scatter around both with a noise of their own

Bends are Gaussian processes (Matérn 5/2), so the belief at a setting never tried is wide and follows its neighbours.
How much curves bend and looks scatter is learnt too. After a drift an era begins: its level is new, its shape is
remembered in part. Time and power are modelled, not energy: a slow look is dear in joules as well, while its
power is hardly another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# What is tried for the bend's height, and for the relative noise of one look; in logarithms, so relative.
_HEIGHTS: Final = (0.06, 0.2, 0.5)
_NOISES: Final = tuple(0.002 * 2.0 ** (k / 1.5) for k in range(11))  # 0.2 % to 20 %
# A priori noise: 2 %, within a factor of e (one standard deviation).
_NOISE: Final = (math.log(0.02), 1.0)
# Over how much of a logarithm a curve may change its direction: from 100 % to 75 % of the knob.
_LENGTH: Final = 0.3
# Correlation of the shapes of two eras that follow one another.
_MEMORY: Final = 0.5
_LEVEL: Final = 1.0
_JITTER: Final = 1e-10


class Slopes(msgspec.Struct, frozen=True):
    """What is believed of the slopes d log y / d log setting before any look: (mean, standard deviation)."""

    time: tuple[float, float]
    power: tuple[float, float]


# A clock: work bound by memory does not slow down (0), work bound by compute fully (-1); switching power goes with
# the clock times the voltage squared (1 to 3) above a floor. A limit: unbound it does nothing (0, 0), bound the
# power is the limit (1) and the time of compute goes with its cube root or worse.
SLOPES: Final = {
    "clock": Slopes((-0.5, 0.5), (1.2, 0.8)),
    "memory_clock": Slopes((-0.5, 0.5), (0.3, 0.5)),
    "power_limit": Slopes((-0.3, 0.5), (0.6, 0.6)),
}


class Look(msgspec.Struct, frozen=True):
    """What was seen at a setting: place in the list of settings, log s and log W of a step, and the era."""

    place: int
    time: float
    power: float
    era: int


class Belief(msgspec.Struct, frozen=True):
    """Landscapes as likely as what was seen makes them, and the noise.

    time, power : (draws, settings) s and W. time_noise, power_noise : relative standard deviation of one look.
    """

    time: Array
    power: Array
    time_noise: float
    power_noise: float


def believe(x: Array, looks: Sequence[Look], slopes: Slopes, normal: tuple[Array, Array]) -> Belief:
    """The belief after `looks` at settings `x` (log of the share of the highest).

    normal : two arrays (draws, settings) of standard normal numbers, so that the same looks give the same belief.
    """
    time, time_noise = _draw(x, looks, [look.time for look in looks], slopes.time, normal[0])
    power, power_noise = _draw(x, looks, [look.power for look in looks], slopes.power, normal[1])
    # Draws come out in order of their constants; time and power must not be paired by them.
    mixed = np.argsort(normal[0][:, 0] + normal[1][:, -1], kind="stable")
    return Belief(np.exp(time), np.exp(power[mixed]), time_noise, power_noise)


def _draw(
    x: Array, looks: Sequence[Look], values: Sequence[float], slope: tuple[float, float], normal: Array
) -> tuple[Array, float]:
    """Draw curves of one quantity, and say its noise."""
    place, era, mean, count, square, rest = _grouped(looks, values)
    now = max(look.era for look in looks)
    # The level is what the looks of this era say, as near as they are alone; the process holds what is left.
    base = float(mean[era == now][0])
    target = mean - base - slope[0] * x[place]
    scale, weight, moments = [], [], []
    for height in _HEIGHTS:
        inner = _kernel(x[place], x[place], era, era, slope[1], height)
        cross = _kernel(x, x[place], np.full(len(x), now), era, slope[1], height)
        own = _kernel(x, x, np.full(len(x), now), np.full(len(x), now), slope[1], height)
        for noise in _NOISES:
            lower = np.linalg.cholesky(inner + np.diag(noise**2 / count + _JITTER))
            white = np.linalg.solve(lower, target)
            fit = -0.5 * float(white @ white) - float(np.log(np.diag(lower)).sum())
            within = -rest * math.log(noise) - 0.5 * square / noise**2
            prior = -0.5 * ((math.log(noise) - _NOISE[0]) / _NOISE[1]) ** 2
            scale.append(noise)
            weight.append(fit + within + prior)
            half = np.linalg.solve(lower, cross.T)
            moments.append((half.T @ white, own - half.T @ half))
    chance = np.exp(np.array(weight) - max(weight))
    chance /= chance.sum()
    draws = len(normal)
    pick = np.searchsorted(np.cumsum(chance), (np.arange(draws) + 0.5) / draws).clip(max=len(chance) - 1)
    out = np.empty_like(normal)
    for k in np.unique(pick):
        centre, spread = moments[k]
        root = np.linalg.cholesky(spread + 1e-9 * np.eye(len(x)))
        mine = pick == k
        out[mine] = base + slope[0] * x + centre + normal[mine] @ root.T
    return out, float(np.exp(chance @ np.log(scale)))


def _kernel(a: Array, b: Array, era_a: Array, era_b: Array, slope: float, height: float) -> Array:
    """Covariance of a curve between settings `a` and `b`, each in its era."""
    apart = np.abs(era_a[:, None] - era_b[None, :])
    r = math.sqrt(5.0) * np.abs(a[:, None] - b[None, :]) / _LENGTH
    shape = slope**2 * np.outer(a, b) + height**2 * (1.0 + r + r**2 / 3.0) * np.exp(-r)
    return np.asarray(_LEVEL * (apart == 0) + _MEMORY**apart * shape)


def _grouped(
    looks: Sequence[Look], values: Sequence[float]
) -> tuple[NDArray[np.int64], Array, Array, Array, float, int]:
    """Looks at the same setting in the same era together: place, era, mean, count; square sum and degrees within."""
    keys = sorted({(-look.era, look.place) for look in looks})
    index = {key: k for k, key in enumerate(keys)}
    at = np.array([index[-look.era, look.place] for look in looks])
    y = np.asarray(values, float)
    count = np.bincount(at).astype(float)
    mean = np.bincount(at, weights=y) / count
    place = np.array([key[1] for key in keys])
    era = np.array([-float(key[0]) for key in keys])
    return place, era, mean, count, float(((y - mean[at]) ** 2).sum()), len(y) - len(keys)
