"""What a benchmark's clock and power meter print, which is not what the kernel does.

The collector of the reference kernels reads the board's power every 100 ms while it repeats a kernel
for 0.3 s to 1 s, at most 3000 times, the first reading at the start. Kernels under some 30 us therefore
get one reading, of what ran before them; longer ones a mean over a ramp. How far a reading lies from the
kernel's own power depends on which shape ran before, hence on the exact shape, in steps.

A forest of small trees has learned that ratio for one campaign of measurements. It serves to compare
predictions with rows of that campaign (`calibrate.predict_rows`) and never enters `Roofline.points`:
no plan is made with it. A reading lies between the waiting power and the power limit, whatever it says.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from ..base import Array
from ..roofline.logs import log2
from ..roofline.silicon import Silicon, calibration

# Bits per stored value of the second operand, what a tree sees of a dtype.
_BITS = {"bfloat16": 16.0, "float16": 16.0, "fp8": 8.0, "fp8_static": 8.0, "fp8_block": 9.0, "int8": 8.5}


@dataclass(frozen=True)
class Forest:
    """Complete trees of one depth, the nodes of each in breadth-first order; the answer is `base` plus their sum.

    feature, threshold : (trees, 2^depth - 1); a row goes right where its feature exceeds the threshold.
    value : (trees, 2^depth).
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    value: NDArray[np.float32]
    base: float

    def __call__(self, x: Array) -> Array:
        """Return the answer of rows (n, features)."""
        narrow = np.ascontiguousarray(x.T, dtype=np.float32)
        at = np.arange(x.shape[0])
        total = np.full(x.shape[0], self.base)
        depth = int(np.log2(self.value.shape[1]))
        for feature, threshold, value in zip(self.feature, self.threshold, self.value, strict=True):
            node = np.zeros(x.shape[0], dtype=np.int64)
            for _ in range(depth):
                node = 2 * node + 1 + (narrow[feature[node], at] > threshold[node])
            total += value[node - len(threshold)]
        return total


@functools.cache
def forests() -> Mapping[str, Forest]:
    """Return the fitted forests by operator, from ``data/meter.npz``."""
    path = resources.files(__package__) / "data" / "meter.npz"
    if not path.is_file():
        return {}
    with path.open("rb") as stream, np.load(stream) as data:
        arrays = {key: data[key] for key in data.files}
    names = sorted({key.split("/")[0] for key in arrays})
    return {
        name: _forest(*(arrays[f"{name}/{x}"] for x in ("feature", "threshold", "value", "base"))) for name in names
    }


def _forest(feature: NDArray[Any], threshold: NDArray[Any], value: NDArray[Any], base: NDArray[Any]) -> Forest:
    return Forest(feature, threshold, value, float(base))


def features(columns: Mapping[str, NDArray[Any]], dtype: str, chip: Silicon, time: Array, power: Array) -> Array:
    """Return what the forests read: the exact shape, and time and power of the kernel by the model."""
    numbers = [v.astype(np.float64) for v in columns.values() if v.dtype.kind in "iuf"]
    skews = [_skews(v) for k, v in columns.items() if k == "distribution"]
    share = (power - chip.waiting) / (chip.limit - chip.waiting)
    return np.stack(
        [*numbers, *skews, np.full(time.shape, _BITS.get(dtype, 4.0)), log2(1e6 * time), log2(share + 0.01)], axis=1
    )


def _skews(names: NDArray[Any]) -> Array:
    """Return the exponent of each routing law, 0 where it has none."""
    known = {str(n): float(str(n).rsplit("_", 1)[-1]) if "_" in str(n) else 0.0 for n in np.unique(names)}
    return np.array([known[str(n)] for n in names])


def reading(
    op: str, columns: Mapping[str, NDArray[Any]], dtype: str, chip: Silicon, time: Array, power: Array
) -> Array:
    """Return the power (W) the meter prints for kernels of `time` s at `power` W; theirs where it is not known."""
    trusts: Mapping[str, float] = calibration()["harness"]["meter"].get(chip.name, {})
    forest, trust = forests().get(op), trusts.get(op, 0.0)
    if forest is None or not trust:
        return power
    x = features(columns, dtype, chip, time, power)
    if x.shape[1] <= int(forest.feature.max(initial=0)):
        raise InputError(f"the meter of {op!r} was fitted to other columns; write data/meter.npz anew")
    return np.clip(power * np.exp(trust * forest(x)), chip.waiting, chip.limit)
