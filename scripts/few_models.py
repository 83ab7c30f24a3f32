"""Bounds of predictions for a chip known from few models: never narrower than those of a chip known from many."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bounds = Callable[[Array], dict[str, list[float]]]


def widened(
    fresh: Array, labels: NDArray[np.str_], kin: NDArray[np.str_], held: Array, theirs: NDArray[np.str_], bounds: Bounds
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return bounds for a chip of few models, and the share of its rows that they hold, each model left out in turn.

    The base is `bounds` of its rows or of the old chip's, whichever is wider. A row's score is how far the base
    taken without its model, and without its `kin` among the old chip's rows, must be stretched (in logarithms)
    to hold it. The base ships stretched by the score that nine in ten rows stay below (split conformal), and never
    narrowed: the old chip's many models say more about the next one than these few.
    """
    scores = np.zeros(fresh.shape)
    for label in np.unique(labels):
        mine = labels == label
        base = wider(bounds(fresh[:, ~mine]), bounds(held[:, theirs != kin[mine][0]]))
        ends = np.log(list(base.values()))
        scores[:, mine] = np.max(-fresh[:, mine, None] / ends[:, None, :], axis=2)
    count = fresh.shape[1]
    level = min(0.9 * (count + 1) / count, 1.0)
    stretch = np.maximum(np.quantile(scores, level, axis=1, method="higher"), 1.0)
    ends = np.log(list(wider(bounds(fresh), bounds(held)).values())) * stretch[:, None]
    shares = (scores <= stretch[:, None]).mean(axis=1)
    names = list(bounds(fresh))
    return dict(zip(names, np.exp(ends).tolist(), strict=True)), dict(zip(names, shares.tolist(), strict=True))


def wider(one: Mapping[str, list[float]], two: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return bounds that hold both."""
    return {n: [min(one[n][0], two[n][0]), max(one[n][1], two[n][1])] for n in one}
