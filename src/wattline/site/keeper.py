"""A controller that keeps a grid's limits on ramps and swings, a millisecond at a time, knowing only what has been.

    ramp    what is bought changes by no more than the limit allows in a step
    band    what is bought stays within ``limit / sqrt(2)`` of its own slow part, a low pass of first order at 0.1 Hz

The second is a proof for every wave: what is left beside the slow part is a high pass that lets at least 1 / sqrt(2) of
any line at 0.1 Hz or above through, so the lines between 0.1 and 20 Hz have together a root mean square of at most
sqrt(2) times that of what is left, which is the limit (Parseval).

What the jobs want beyond what is bought is given by the battery as far as it reaches; then chips are capped and work is
lost. Below it they burn energy on nothing, as the power smoothing of GB200 does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from .tasks import Array
from .transient import BAND, STEP


@dataclass(frozen=True, eq=False)
class Kept:
    """What came of it: (n,) W bought, shares of work lost and energy added, and (n,) J held, None without battery."""

    power: Array
    lost: float
    added: float
    held: Array | None


def kept(
    power: Array, *, ramp: float = math.inf, band: float = math.inf, energy: float = 0.0, most: float = 0.0,
    slow: float = 30.0,
) -> Kept:  # fmt: skip
    """Keep `ramp` W/s and `band` W (root mean square, 0.1 to 20 Hz) for a wave sampled every `STEP` s.

    energy, most : J and W of a battery, none where 0; it begins half full and follows changes slower than `slow` s.
    """
    if not (ramp > 0 and band > 0) or not math.isfinite(min(ramp, band)):
        raise InputError("a controller keeps a limit on ramps, on swings between 0.1 and 20 Hz, or both; state one > 0")
    held, mean = energy / 2, float(power[: max(1, round(slow / STEP))].mean())
    last = mean if energy > 0 else float(power[0])
    slowly, share, room, step = last, STEP / slow, band / math.sqrt(2), ramp * STEP
    follow = 1 - math.exp(-2 * math.pi * BAND[0] * STEP)
    out, used, level = np.empty_like(power), np.empty_like(power), np.empty_like(power)
    for k, want in enumerate(power.tolist()):
        mean += share * (want - mean)
        target = mean + (energy / 2 - held) / (4 * slow) if energy > 0 else want
        low, high = max(last - step, slowly - room, 0.0), min(last + step, slowly + room)
        last = min(max(target, low), high)
        slowly += follow * (last - slowly)
        give = min(max(want - last, -most, (held - energy) / STEP), most, held / STEP)
        held -= give * STEP
        out[k], used[k], level[k] = last, last + give, held
    total = float(power.sum()) or 1.0
    lost = float(np.maximum(power - used, 0.0).sum()) / total
    added = float(np.maximum(used - power, 0.0).sum()) / total
    return Kept(out, lost, added, level if energy > 0 else None)
