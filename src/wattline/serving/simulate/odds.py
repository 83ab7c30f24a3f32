"""How likely another run keeps a promise, from the margins of a few runs."""

from __future__ import annotations

import math

import numpy as np

from ...source.base import Array


def likely(margins: Array) -> float:
    """Return the chance that one more margin is above 0, where margins are normal and these are a sample.

    The prediction of one more from n: t = mean / (s sqrt(1 + 1/n)) with n - 1 degrees of freedom, so that few runs
    promise less than many. One run alone says only whether it kept it.

    >>> round(likely(np.array([1.0, 2.0, 3.0])), 3)
    0.887
    """
    n, mean = len(margins), float(np.mean(margins))
    spread = float(np.std(margins, ddof=1)) if n > 1 else 0.0
    if spread == 0.0 or not math.isfinite(mean):
        return 1.0 if mean >= 0.0 else 0.0
    return student(mean / (spread * math.sqrt(1.0 + 1.0 / n)), n - 1)


def student(t: float, freedom: int) -> float:
    """Return the distribution function of Student's t at whole degrees of freedom (Abramowitz and Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    inside = 2.0 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + 0.5 * inside
