"""What the physical model misses, learned: a small bounded correction that fades where nothing was seen.

One network of two small hidden layers per kind of operator maps the logarithms of a shape to a
factor on time and one on power. The output is bounded to exp(+-BOUNDS), and multiplied by a weight
that falls from one inside the fitted range to zero beyond it, so that far away the physics rules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from .logs import features
from .silicon import Silicon
from .work import Work, soft_max

# The largest logarithm of a correction on time and on power: factors 0.70 to 1.42 and 0.61 to 1.65.
# A model that needs more is wrong and must be mended; power is the less certain of the two.
BOUNDS: Final = (0.35, 0.50)

# How fast the correction fades: by 1/e for each doubling of a dimension beyond the fitted range.
FADE: Final = 1.0

_Narrow = NDArray[np.float32]


@dataclass(frozen=True)
class Net:
    """Weights of one correction. `low`, `high`: the fitted range of each feature; `bounds`: of the
    logarithms of the two factors."""

    low: _Narrow
    high: _Narrow
    mean: _Narrow
    scale: _Narrow
    bounds: _Narrow
    layers: tuple[tuple[_Narrow, _Narrow], ...]

    def __call__(self, features: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return (log factor on time, log factor on power, outside) for features (..., n, d)."""
        x = features.astype(np.float32)
        near = np.clip(x, self.low, self.high)
        far = np.abs(x - near).sum(axis=-1)
        hidden = (near - self.mean) * self.scale
        for weight, bias in self.layers[:-1]:
            hidden = np.tanh(hidden @ weight + bias)
        weight, bias = self.layers[-1]
        out = self.bounds * np.tanh(hidden @ weight + bias) * np.exp(-far / FADE)[..., None]
        return out[..., 0].astype(np.float64), out[..., 1].astype(np.float64), far > 0.5


@functools.cache
def nets() -> Mapping[str, Net]:
    """Return the fitted corrections by name, from ``data/residual.npz``."""
    path = resources.files(__package__) / "data" / "residual.npz"
    if not path.is_file():
        return {}
    with path.open("rb") as stream, np.load(stream) as data:
        arrays = {key: data[key] for key in data.files}
    names = sorted({key.split("/")[0] for key in arrays})
    return {name: _net(name, arrays) for name in names}


def _net(name: str, arrays: Mapping[str, _Narrow]) -> Net:
    depth = sum(key.startswith(f"{name}/weight") for key in arrays)
    layers = tuple((arrays[f"{name}/weight{i}"], arrays[f"{name}/bias{i}"]) for i in range(depth))
    low, high, mean, scale, bounds = (arrays[f"{name}/{x}"] for x in ("low", "high", "mean", "scale", "bounds"))
    return Net(low, high, mean, scale, bounds, layers)


def alone(work: Work, chip: Silicon) -> tuple[Array, Array, Array]:
    """Return time, power and power without switching of each operator alone at the highest clock."""
    clock = np.asarray(chip.clock_max)
    s = chip.clock_ref / chip.clock_max
    busy = soft_max(chip.shape["overlap.exponent"], work.core * s, work.l2 * s, work.dram, work.link)
    busy = busy + work.ramp * s
    time = busy + work.fixed
    leakage, tree = chip.standing(clock)
    standing = chip.waiting + (leakage + tree) * work.lit * busy / time
    joules = (work.e_core + work.e_l2) * chip.swing(clock) + work.e_dram + work.e_link
    return time, standing + joules / time, standing


def adjust(work: Work, chip: Silicon, seen: Work | None = None) -> Work:
    """Return `work` with its learned factors on time and switched energy.

    `seen` : the same work on `chip.origin`, for a chip whose facts were replaced. What measurements of the one chip
    taught about a shape holds for the other as it stands; read anew, the correction would answer for the change.

    The factor on power was learned at the highest clock and the default limit, one operator at a
    time. Work that throttles there sits at the limit whatever its energy; for it both factors are
    the one on time.
    """
    net = nets().get(work.net)
    if net is None:
        return work
    seen, of = (work, chip) if seen is None or chip.origin is None else (seen, chip.origin)
    shape = np.broadcast_shapes(*[h.shape for h in seen.hints])
    read = features(*seen.hints)
    # One product per chip of a stack: in single precision the size of a product moves its last digits.
    on_time, on_power, outside = net(read.reshape(*shape[:-2], -1, read.shape[-1]))
    weight = chip.shape.get(f"residual.{work.net}", chip.shape["residual.weight"])
    slow = np.exp(weight * on_time.reshape(shape))
    _, power, standing = alone(seen, of)
    # The limit of the measurement, not the one set now: work that never meets a limit is the same under any.
    limit = chip.limit_learned if weight >= 1.0 else np.inf
    target = np.minimum(power * np.exp(weight * on_power.reshape(shape)), limit)
    warm = np.clip((target - standing) / np.maximum(power - standing, 1e-9), 0.0, 100.0)
    warm = np.where(power >= limit, 1.0, warm)
    return replace(work, slow=slow, warm=slow * warm, outside=outside.reshape(shape))
