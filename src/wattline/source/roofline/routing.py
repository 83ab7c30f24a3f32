"""How a mixture's router spreads tokens: loads per expert, and what one device sees of them.

`balanced` deals assignments evenly; `power_law_x` draws loads from a bounded Pareto law of exponent
x, as the routing generator of ai-dynamo/aiconfigurator does, and looks at the busiest device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...core.errors import InputError
from ..base import Array

# Draws averaged over for a random placement of experts; the seed makes the answer reproducible.
_DRAWS: Final = 16
_SEED: Final = 20240406
# Largest load before normalising, as a share of all tokens (aiconfigurator, collector/helper.py).
_TOP_SHARE: Final = 0.8


@dataclass(frozen=True)
class Routed:
    """What one device gets: rows over all its experts, experts touched, busiest load over the mean."""

    rows: float
    active: float
    skew: float


@functools.lru_cache(maxsize=65536)
def route(distribution: str, tokens: int, top_k: int, experts: int, devices: int) -> Routed:
    """Return what the busiest of `devices` gets when `tokens` pick `top_k` of `experts` each.

    >>> route("balanced", 256, 8, 256, 4)
    Routed(rows=512.0, active=64.0, skew=1.0)
    """
    total, local = tokens * top_k, max(1, experts // devices)
    if distribution == "balanced":
        rows = max(total * local / experts, 1.0)
        return Routed(rows, min(float(local), rows), 1.0)
    if distribution == "uniform":
        rows = total * local / experts
        active = local * (1.0 - (1.0 - top_k / experts) ** tokens)
        return Routed(rows, max(active, min(1.0, rows)), 1.0)
    if not distribution.startswith("power_law_"):
        raise InputError(f"routing {distribution!r} is not known; known: balanced, uniform, power_law_EXPONENT")
    return _power_law(float(distribution.removeprefix("power_law_")), tokens, top_k, experts, devices)


def _power_law(exponent: float, tokens: int, top_k: int, experts: int, devices: int) -> Routed:
    random = np.random.default_rng(_SEED)
    top = max(_TOP_SHARE * tokens, 1.0 + 1e-9)
    local = max(1, experts // devices)
    power = 1.0 - exponent
    u = random.random((_DRAWS, experts))
    loads = ((top**power - 1.0) * u + 1.0) ** (1.0 / power)
    loads = np.minimum(loads / loads.sum(axis=1, keepdims=True) * tokens * top_k, float(tokens))
    # Loads are whole numbers: what rounds down to nothing is not touched.
    loads = _whole(loads, tokens * top_k)
    groups = loads[:, : local * (experts // local)].reshape(_DRAWS, -1, local)
    busiest = groups[np.arange(_DRAWS), groups.sum(axis=2).argmax(axis=1)]
    rows = busiest.sum(axis=1)
    active = (busiest > 0).sum(axis=1)
    skew = busiest.max(axis=1) / np.maximum(rows / np.maximum(active, 1), 1e-9)
    return Routed(float(max(rows.mean(), 1.0)), float(max(active.mean(), 1.0)), float(skew.mean()))


def _whole(loads: Array, total: int) -> Array:
    """Round loads to whole numbers that keep each row's total, largest remainders first."""
    floor = np.floor(loads)
    missing = (total - floor.sum(axis=1)).astype(int)
    order = np.argsort(floor - loads, axis=1)
    rank = np.argsort(order, axis=1)
    return np.asarray(floor + (rank < missing[:, None]))
