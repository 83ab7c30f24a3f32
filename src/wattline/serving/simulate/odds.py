"""How likely another run keeps a promise, from which requests of a few runs came late."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...source.base import Array

# Stretches that a run is cut into: long beside a burst, so that one says little about the next.
BLOCKS: Final = 20
_DRAWS: Final = 2000


def late_shares(late: NDArray[np.bool_], blocks: int = BLOCKS) -> Array:
    """Return the share of late requests in each of `blocks` stretches of (n,) requests; of fewer where n is small."""
    size = max(len(late) // blocks, 1)
    return np.array([late[i : i + size].mean() for i in range(0, size * (len(late) // size), size)])


def kept_odds(shares: Array, allowed: float, blocks: int = BLOCKS) -> float:
    """Return the chance that another run has at most `allowed` late under each limit.

    A run is `blocks` stretches drawn anew from those seen, `shares` (limits, n). What was seen is itself a sample, so
    each run is drawn with other weights (Rubin's Bayesian bootstrap, Annals of Statistics 9, 1981): few runs promise
    less than many. Looser limits make fewer requests late and so never lower the chance.

    >>> kept_odds(np.zeros((2, 160)), 0.01)
    1.0
    """
    if not shares.any():
        return 1.0
    random = np.random.default_rng(0)
    weights = np.cumsum(random.exponential(size=(_DRAWS, shares.shape[1])), axis=1)
    drawn = random.random((_DRAWS, blocks)) * weights[:, -1:]
    offset = np.arange(_DRAWS)[:, None] * (weights.max() + 1.0)  # rows one after the other, so that one look finds all
    at = np.searchsorted((weights + offset).ravel(), (drawn + offset).ravel()).reshape(drawn.shape)
    mine = shares[:, np.minimum(at - np.arange(_DRAWS)[:, None] * shares.shape[1], shares.shape[1] - 1)]
    return float((mine.mean(axis=2) <= allowed + 1e-12).all(axis=0).mean())
