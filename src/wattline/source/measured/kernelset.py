"""What an engine's kernels and its benchmark do to the time and power of a row, beside the model's own kernels.

Engines bring kernels of their own: TensorRT-LLM's products are not vLLM's, nor are those of last year's version
this year's. One smooth correction per chip, engine and operator (``data/kernelsets.npz``) says by what factor a
shape of that engine differs: seconds its launches add by dtype, then a ridge regression on random Fourier
features (Rahimi and Recht, NIPS 2007) of the logarithms of the shape. It serves rows of a benchmark
(`calibrate.predict_rows`); plans have the four numbers of `roofline.factors`. Far from the shapes it was fitted on
it fades.

A chip without a set of its own takes that of a chip of its architecture, where there is one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from ..roofline.logs import log2
from ..roofline.silicon import Silicon, calibration
from .modules import RECURRENT
from .rows import Batch, Harness

# Rows of files that state no version: the reference campaign.
CAMPAIGN: Final = "campaign"
# Whose kernels the campaign ran.
BELOW: Final = "vllm"
# Distance of two dtypes, in standard deviations of a shape's logarithm.
GAP: Final = 1.5
# Fades by 1/e for each doubling of a dimension beyond the fitted range, as `residual.FADE`.
FADE: Final = 1.0
# The largest logarithm of a correction: a kernel ten times as slow is another kernel.
MOST: Final = 2.3
# Dimensions and frequencies that random features are taken from.
DIMENSIONS, FREQUENCIES = 32, 256


@functools.cache
def frequencies() -> Array:
    """Return standard normal frequencies (DIMENSIONS, FREQUENCIES), the same on every machine: PCG64 seeded with 7."""
    return np.random.Generator(np.random.PCG64(7)).standard_normal((DIMENSIONS, FREQUENCIES))


@dataclass(frozen=True)
class KernelSet:
    """One chip's, engine's and operator's correction.

    labels, extra : dtypes it knows, and seconds each adds to a kernel. low, high, mean, scale : (d,) of the
    features. length : how far a correction reaches, in standard deviations. weight : (1 + d + 2 frequencies, 2)
    on time and power. spread : (2, 2) 68 % quantile of the relative error and 90 % quantile of that of the
    logarithm, of time and of energy, on shapes left out. rows : how many it was fitted to.
    """

    labels: tuple[str, ...]
    extra: Array
    low: Array
    high: Array
    mean: Array
    scale: Array
    length: float
    weight: Array
    spread: Array
    rows: int

    def __call__(self, x: Array, label: str) -> tuple[Array, NDArray[np.bool_]]:
        """Return (n, 2) logarithms of the factors on time and power, and which rows lie outside the fitted range."""
        if label not in self.labels:
            return np.zeros((len(x), 2)), np.ones(len(x), dtype=bool)
        near = np.clip(x, self.low, self.high)
        far = np.abs(x - near).sum(axis=1)
        basis = lifted((near - self.mean) * self.scale, self.labels.index(label), len(self.labels), self.length)
        out = np.clip(basis @ self.weight, -MOST, MOST) * np.exp(-far / FADE)[:, None]
        return np.asarray(out), far > 0.5


def lifted(x: Array, label: int | Array, labels: int, length: float) -> Array:
    """Return the basis of features (n, d): one, the features, and cosines and sines of random mixtures of them."""
    hot = np.zeros((len(x), labels))
    hot[np.arange(len(x)), label] = GAP
    wide = np.concatenate([x, hot], axis=1)
    count = min(FREQUENCIES, _many(labels, x.shape[1]))
    phase = wide @ frequencies()[: wide.shape[1], :count] / length
    root = np.sqrt(1.0 / count)
    return np.concatenate([np.ones((len(x), 1)), wide, root * np.cos(phase), root * np.sin(phase)], axis=1)


def _many(labels: int, dimensions: int) -> int:
    return FREQUENCIES if labels + dimensions <= DIMENSIONS else 0


def label_of(batch: Batch) -> str:
    """Return the dtype of a batch, or its kernel; for a module its cache too."""
    if batch.op in RECURRENT:
        return str(batch.columns["kernel_source"][0])
    if batch.op.startswith("mla_"):
        return f"{batch.dtype} {batch.columns['kv_cache_dtype'][0]}"
    return f"{batch.dtype} fallback" if batch.fallback else batch.dtype


def features(batch: Batch, chip: Silicon, time: Array, power: Array) -> Array:
    """Return (n, d): logarithms of the shape, of the kernel's time and share of power by the model, the version."""
    c = batch.columns
    numbers: list[Array] = [log2(v.astype(np.float64) + (k == "step")) for k, v in c.items()
               if v.dtype.kind in "iuf" and k != "window_size"]  # fmt: skip
    if "window_size" in c:
        context = (c["isl"] if "isl" in c else c["step"] + 1.0).astype(np.float64)
        window = c["window_size"].astype(np.float64)
        numbers += [log2(np.where(window > 0, np.minimum(window, context), context)), np.where(window > 0, 2.0, 0.0)]
    if "num_key_value_heads" in c:
        numbers.append(log2(c["num_heads"] / c["num_key_value_heads"]))
    skews = [_skews(v) for k, v in c.items() if k == "distribution"]
    share = (power - chip.waiting) / (chip.limit - chip.waiting)
    version = np.zeros(time.size) if batch.version is None else batch.version
    return np.stack([*numbers, *skews, log2(1e6 * time), log2(share + 0.05), version], axis=1)


def _skews(names: NDArray[np.str_]) -> Array:
    words = {str(n): float(str(n).rsplit("_", 1)[-1]) if "_" in str(n) else 0.0 for n in np.unique(names)}
    return 4.0 * np.array([words[str(n)] for n in names])


@functools.cache
def sets() -> Mapping[str, KernelSet]:
    """Return the fitted corrections by "chip engine op"."""
    path = resources.files(__package__) / "data" / "kernelsets.npz"
    if not path.is_file():
        return {}
    with path.open("rb") as stream, np.load(stream) as data:
        arrays = {key: data[key] for key in data.files}
    names = dict.fromkeys(key.split("/")[0] for key in arrays)
    return {name: _set(name, arrays) for name in names}


def _set(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> KernelSet:
    words = tuple(str(arrays[f"{name}/labels"]).split(","))
    wide: dict[str, Array] = {
        key: np.asarray(arrays[f"{name}/{key}"], dtype=np.float64)
        for key in ("extra", "low", "high", "mean", "scale", "weight", "spread")
    }
    return KernelSet(
        words, wide["extra"], wide["low"], wide["high"], wide["mean"], wide["scale"],
        float(arrays[f"{name}/length"]), wide["weight"], wide["spread"], int(arrays[f"{name}/rows"]),
    )  # fmt: skip


def arrays_of(found: Mapping[str, KernelSet]) -> dict[str, NDArray[np.generic]]:
    """Return sets as arrays to store; what `sets` reads back."""
    out: dict[str, NDArray[np.generic]] = {}
    for name, one in found.items():
        out[f"{name}/labels"] = np.array(",".join(one.labels))
        for key in ("extra", "low", "high", "mean", "scale", "weight", "spread"):
            out[f"{name}/{key}"] = np.asarray(getattr(one, key), dtype=np.float32)
        out[f"{name}/length"], out[f"{name}/rows"] = np.array(one.length), np.array(one.rows)
    return out


def chosen(chip: Silicon, engine: str, op: str) -> tuple[KernelSet, bool] | None:
    """Return the set of a chip, else that of one of its architecture, and whether it is its own.

    vLLM's kernels that no table of a version has are those of the reference campaign, of that architecture.
    """
    own = sets().get(f"{chip.name} {engine} {op}")
    if own is not None:
        return own, True
    alike: Sequence[str] = calibration()["architecture"].get(chip.architecture, ())
    for maker in (engine, CAMPAIGN) if engine == BELOW else (engine,):
        for name, other in sets().items():
            there, theirs, what = name.split(" ")
            if (theirs, what) == (maker, op) and there.startswith(tuple(alike)):
                return other, False
    return None


Corrected = tuple[Array, Array, NDArray[np.bool_], Array | None]


def corrected(batch: Batch, chip: Silicon, time: Array, power: Array, rig: Harness) -> Corrected | None:
    """Return a batch's time (s) and power (W) as its engine's kernels take and draw, None where no set is known.

    Then which rows are extrapolated, and the spreads of the set (see `KernelSet.spread`), None for those of another
    chip.
    """
    found = chosen(chip, batch.engine or CAMPAIGN, batch.op)
    if found is None:
        return None
    one, own = found
    time, power, outside = _applied(one, batch, chip, *before(batch, chip, time, power))
    return rig.counted(time), power, outside, one.spread if own else None


def before(batch: Batch, chip: Silicon, time: Array, power: Array) -> tuple[Array, Array]:
    """Return time and power of a batch of the reference campaign with vLLM's own set of the chip, where there is one:
    what the campaign's set starts from, a hundred rows on the shoulders of thousands."""
    under = sets().get(f"{chip.name} {BELOW} {batch.op}")
    if batch.engine or under is None or label_of(batch) not in under.labels:
        return time, power
    return _applied(under, batch, chip, time, power)[:2]


def _applied(
    one: KernelSet, batch: Batch, chip: Silicon, time: Array, power: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    label = label_of(batch)
    added = one.extra[one.labels.index(label)] if label in one.labels else 0.0
    late = time + added
    share = power * time / late + chip.waiting * added / late
    if batch.version is None:  # the newest that the set knows
        batch = replace(batch, version=np.full(time.size, one.high[-1]))
    on, outside = one(features(batch, chip, late, share), label)
    return late * np.exp(on[:, 0]), np.clip(share * np.exp(on[:, 1]), chip.waiting, chip.limit), outside
