"""Logarithms of shapes, what the learned corrections read."""

from __future__ import annotations

import numpy as np

from ..base import Array


def log2(value: Array | float) -> Array:
    """Return log2 of a positive quantity, anything below 2^-10 counted as that."""
    return np.asarray(np.log2(np.maximum(value, 2.0**-10)))


def features(*columns: Array | float) -> Array:
    """Stack columns into (n, d), broadcasting scalars."""
    wide = np.broadcast_arrays(*[np.asarray(c, dtype=np.float64) for c in columns])
    return np.stack([w.ravel() for w in wide], axis=1)
