"""Voltage follows clock: flat at its minimum up to a knee, then rising to its maximum at the top clock.

Dynamic power goes with f V^2, so below the knee a slower clock saves no switching energy at all and
only prolongs the standing power; above it every step down saves twice. The knee is therefore where
most least-energy clocks lie.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ..base import Array

# Curvature of the rise above the knee: V - V_min ~ (f - knee)^1.4. Fitted by
# scripts/calibrate_operators.py to stage power at 36 clocks of an A100 (Perseus artifact, SOSP'24,
# ml-energy/zeus, Apache-2.0): median residual 0.7 %, a straight line leaves 1.0 %.
CURVATURE: Final = 1.4

# Leakage over voltage: subthreshold current with drain-induced barrier lowering grows close to V^2 in
# the 0.7-1.0 V range, and power is V times that (Butts and Sohi, MICRO 2000; Liao, He, Lepak, TCAD
# 2005).
LEAKAGE_POWER: Final = 3.0


def voltage(clock: Array, low: float, high: float, knee: float, top: float) -> Array:
    """Return the core voltage (V) at `clock` (Hz): `low` up to `knee`, `high` at `top`.

    >>> voltage(np.array([5e8, 1e9, 2e9]), 0.7, 1.0, 1e9, 2e9)
    array([0.7, 0.7, 1. ])
    """
    span = np.maximum(top - knee, 1.0)
    rise = np.clip((clock - knee) / span, 0.0, 1.0)
    return np.asarray(low + (high - low) * rise**CURVATURE)
