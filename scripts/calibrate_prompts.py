"""Fit attention over prompts on Blackwell to the B200's rows: six constants of its kernels, shapes left out told.

    python scripts/calibrate_prompts.py REFERENCE

REFERENCE holds ``operators/b200_sxm_context_attention_calibration.csv.gz`` (vLLM 0.22, FlashInfer; Apache-2.0,
ai-dynamo/aiconfigurator). Prints constants for ``[shape.blackwell]`` of ``source/roofline/data/calibration.toml`` and
the error of time in percent, median and mean, of five folds left out. Kernels of the engine's second choice and single
tokens do not count.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate_kernels import read
from scipy.optimize import least_squares

from wattline.hardware.catalog import chip as find_chip
from wattline.source.measured.calibrate import kernels
from wattline.source.measured.rows import batches
from wattline.source.roofline.residual import adjust
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.work import cost

FILE = "operators/b200_sxm_context_attention_calibration.csv.gz"
# Constant -> where the fit starts, and how firmly it is held there (per unit of its logarithm).
FREE = {
    "attention.efficiency": (0.69, 3.0), "attention.tile_ramp": (3e-6, 1.0), "attention.ramp": (3e-6, 1.0),
    "attention.narrow": (1.8, 3.0),
}  # fmt: skip
POWER = {"attention.busy": (200.0, 0.5), "attention.energy": (0.89, 3.0)}
READABLE = 3e-5
FOLDS = 5


def modelled(rows: dict[str, np.ndarray], chip: Silicon, constants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds of each row by the kernel's own model, and which rows count."""
    chip = replace(chip, shape={**chip.shape, **dict(zip(FREE, constants, strict=True))})
    time, count = np.zeros(rows["isl"].size), rows["isl"] > 1
    for batch in batches(rows, chip):
        time[batch.index] = kernels(batch, chip)[0]
        count[batch.index] &= not batch.fallback
    return time, count


def fit(rows: dict[str, np.ndarray], chip: Silicon, keep: np.ndarray) -> np.ndarray:
    """Return the constants that fit rows `keep`, robust in the logarithm."""
    start, held = np.array(list(FREE.values())).T

    def miss(x: np.ndarray) -> np.ndarray:
        time, count = modelled(rows, chip, start * np.exp(x))
        return np.concatenate([np.log(time / (1e-3 * rows["latency"]))[count & keep] / 0.1, held * x])

    return start * np.exp(least_squares(miss, np.zeros(start.size), loss="soft_l1", max_nfev=25).x)


def drawn(rows: dict[str, np.ndarray], chip: Silicon, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return watts of each row with `POWER`'s constants, and which rows count: those as long as a reading takes."""
    chip = replace(chip, shape={**chip.shape, **dict(zip(POWER, pair, strict=True))})
    power, count = np.zeros(rows["isl"].size), (rows["isl"] > 1) & (1e-3 * rows["latency"] > READABLE)
    for batch in batches(rows, chip):
        power[batch.index] = cost([adjust(w, chip) for w in batch.works], chip).power
        count[batch.index] &= not batch.fallback
    return power, count


def fit_power(rows: dict[str, np.ndarray], chip: Silicon, keep: np.ndarray) -> np.ndarray:
    """Return the constants of power that fit rows `keep`."""
    start, held = np.array(list(POWER.values())).T

    def miss(x: np.ndarray) -> np.ndarray:
        power, count = drawn(rows, chip, start * np.exp(x))
        return np.concatenate([np.log(power / rows["power"])[count & keep] / 0.15, held * x])

    return start * np.exp(least_squares(miss, np.zeros(start.size), loss="soft_l1", max_nfev=25).x)


def main() -> None:
    """Run the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    rows, chip = read(parser.parse_args().reference / FILE), Silicon.of(find_chip("b200-sxm"))
    fold = np.random.default_rng(0).integers(0, FOLDS, rows["isl"].size)
    off = np.zeros(fold.size)
    for k in range(FOLDS):
        time, count = modelled(rows, chip, fit(rows, chip, fold != k))
        off = np.where(fold == k, np.abs(time / (1e-3 * rows["latency"]) - 1.0), off)
    print(f"left out: {100 * np.median(off[count]):.1f} {100 * off[count].mean():.1f} ({count.sum()} rows)")
    found = fit(rows, chip, np.ones(fold.size, dtype=bool))
    chip = replace(chip, shape={**chip.shape, **dict(zip(FREE, found, strict=True))})
    for k in range(FOLDS):
        power, count = drawn(rows, chip, fit_power(rows, chip, fold != k))
        off = np.where(fold == k, np.abs(power / rows["power"] - 1.0), off)
    print(f"power left out: {100 * np.median(off[count]):.1f} {100 * off[count].mean():.1f} ({count.sum()} rows)")
    pair = fit_power(rows, chip, np.ones(fold.size, dtype=bool))
    for name, value in [*zip(FREE, found, strict=True), *zip(POWER, pair, strict=True)]:
        print(f"{name} = {value:.4g}")


if __name__ == "__main__":
    main()
