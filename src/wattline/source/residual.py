"""What the physical model misses, learned: a small bounded correction that fades where nothing was seen.

One network of two small hidden layers per kind of operator maps the logarithms of a shape to a
factor on time and one on power. The output is bounded to exp(+-BOUND), and multiplied by a weight
that falls from one inside the fitted range to zero beyond it, so that far away the physics rules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .base import Array

# The largest correction: a factor 0.70 to 1.42. A model that needs more is wrong and must be mended.
BOUND: Final = 0.35

# How fast the correction fades: by 1/e for each doubling of a dimension beyond the fitted range.
FADE: Final = 1.0

_Narrow = NDArray[np.float32]


@dataclass(frozen=True)
class Net:
    """Weights of one correction. `low`, `high`: the fitted range of each feature."""

    low: _Narrow
    high: _Narrow
    mean: _Narrow
    scale: _Narrow
    layers: tuple[tuple[_Narrow, _Narrow], ...]

    def __call__(self, features: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return (log factor on time, log factor on power, outside) for features (n, d)."""
        x = features.astype(np.float32)
        near = np.clip(x, self.low, self.high)
        far = np.abs(x - near).sum(axis=1)
        hidden = (near - self.mean) * self.scale
        for weight, bias in self.layers[:-1]:
            hidden = np.tanh(hidden @ weight + bias)
        weight, bias = self.layers[-1]
        out = BOUND * np.tanh(hidden @ weight + bias) * np.exp(-far / FADE)[:, None]
        return out[:, 0].astype(np.float64), out[:, 1].astype(np.float64), far > 0.5


@functools.cache
def nets() -> Mapping[str, Net]:
    """Return the fitted corrections by name, from ``data/residual.npz``."""
    path = resources.files("wattline.source") / "data" / "residual.npz"
    if not path.is_file():
        return {}
    with path.open("rb") as stream, np.load(stream) as data:
        arrays = {key: data[key] for key in data.files}
    names = sorted({key.split("/")[0] for key in arrays})
    return {name: _net(name, arrays) for name in names}


def _net(name: str, arrays: Mapping[str, _Narrow]) -> Net:
    depth = sum(key.startswith(f"{name}/weight") for key in arrays)
    layers = tuple((arrays[f"{name}/weight{i}"], arrays[f"{name}/bias{i}"]) for i in range(depth))
    low, high, mean, scale = (arrays[f"{name}/{x}"] for x in ("low", "high", "mean", "scale"))
    return Net(low, high, mean, scale, layers)


def features(*columns: Array | float) -> Array:
    """Stack columns into (n, d), broadcasting scalars."""
    wide = np.broadcast_arrays(*[np.asarray(c, dtype=np.float64) for c in columns])
    return np.stack([w.ravel() for w in wide], axis=1)


def log2(value: Array | float) -> Array:
    """Return log2 of a positive quantity, zero counted as 2^-10."""
    return np.asarray(np.log2(np.maximum(value, 2.0**-10)))
