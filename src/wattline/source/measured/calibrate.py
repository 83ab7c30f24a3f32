"""Predictions beside measurements: what the model says of measured kernels, how wrong it is, and how
a handful of rows improve a chip known from its datasheet.

`predict_rows` only reads shapes; `latency` and `power` are used by `compare` and `calibrate` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from ...hardware.facts import Fact, Sheet, keys
from ..base import Array
from ..roofline.factors import with_kernels
from ..roofline.residual import adjust, nets
from ..roofline.silicon import Silicon, calibration
from ..roofline.uncertain import spread_of
from ..roofline.work import Cost, cost
from . import campaign
from .kernelset import Corrected, corrected
from .meter import reading
from .rows import Batch, Harness, Table, batches, harness


@dataclass(frozen=True)
class Prediction:
    """Per row: seconds, joules, their relative standard deviations, and whether it is extrapolated.

    `time_ninety`, `energy_ninety`: half-width of the 90 % interval of the logarithm. It is wider than
    a Gaussian's: a fifth of the power readings it was taken from are far off.
    """

    time: Array
    energy: Array
    time_spread: Array
    energy_spread: Array
    extrapolated: NDArray[np.bool_]
    time_ninety: Array
    energy_ninety: Array

    @property
    def power(self) -> Array:
        """(n,) average watts."""
        return self.energy / self.time

    def interval(self, what: str = "energy") -> tuple[Array, Array]:
        """Return the 90 % interval of "time" or "energy"."""
        middle, half = (self.time, self.time_ninety) if what == "time" else (self.energy, self.energy_ninety)
        factor = np.exp(half)
        return middle / factor, middle * factor


@dataclass(frozen=True)
class Metrics:
    """Relative errors of a target: mean, median and 90th percentile of |p/m - 1|, and median p/m - 1."""

    rows: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


def predict_rows(rows: Table, chip: Sheet, *, residual: bool = True, meter: bool = True) -> Prediction:
    """Predict each row of a table of kernels (columns: see `rows.COLUMNS`) on `chip`.

    `residual`: apply the learned correction of kernels. `meter`: add what the benchmark's own clock
    and power meter do where that is known (see `meter`); without it the answer is the kernel's own.

    Raises `InputError` naming what is known for an unknown operator or dtype or a missing column.
    """
    silicon = Silicon.of(chip)
    n = len(next(iter(rows.values()))) if rows else 0
    out = np.zeros((6, n))
    outside = np.zeros(n, dtype=bool)
    for batch in batches(rows, silicon):
        out[:, batch.index], outside[batch.index] = _batch(batch, silicon, residual, meter)
    return Prediction(out[0], out[1], out[2], out[3], outside, out[4], out[5])


def _batch(batch: Batch, chip: Silicon, residual: bool, meter: bool) -> tuple[Array, NDArray[np.bool_]]:
    works = [adjust(w, chip) if residual else w for w in batch.works]
    if residual and (not meter or batch.bare):
        works = [with_kernels(w, chip) for w in works]
    rig = harness(batch, chip)
    answer = cost(works, chip, limit=None if rig.limited else np.inf)
    time, power = loop(answer, rig, chip)
    outside = np.zeros(time.shape, dtype=bool)
    for w in batch.works:
        if w.net in nets():
            outside |= nets()[w.net](np.stack(np.broadcast_arrays(*w.hints), axis=1))[2]
    if meter and not batch.bare:
        found = corrected(batch, chip, *kernels(batch, chip, residual), rig)
        if found is not None:
            return _engine(chip, found)
        power = np.where(outside, power, _metered(batch, chip, time, power, residual))
        time = rig.clock(answer.time)
    near, far = (spread_of(chip, batch.works[0].net, o) for o in (False, True))
    wide = [np.where(outside, f, n) for n, f in zip(near, far, strict=True)]
    return np.stack([time, power * time, *wide]), outside


def kernels(batch: Batch, chip: Silicon, residual: bool = True) -> tuple[Array, Array]:
    """Return seconds and watts as read of the kernels of a batch, before any engine's correction and clock."""
    works = [adjust(w, chip) if residual else w for w in batch.works]
    rig = harness(batch, chip)
    time, power = loop(cost(works, chip, limit=None if rig.limited else np.inf), rig, chip)
    return time, _metered(batch, chip, time, power, residual)


def _metered(batch: Batch, chip: Silicon, time: Array, power: Array, residual: bool) -> Array:
    """Return the power the reference campaign's meter prints; the meters of others are not known."""
    if batch.engine:
        return power
    if batch.op == "gemm":
        power = campaign.read(batch.columns, batch.dtype, chip, power, lambda t: looped(t, chip, residual))
    return reading(batch.op, batch.columns, batch.dtype, chip, time, power)


def _engine(chip: Silicon, found: Corrected) -> tuple[Array, NDArray[np.bool_]]:
    """Return the rows of `_batch` where an engine's set knows the operator."""
    time, power, outside, spread = found
    far = np.array(calibration()["spread"]["outside"])
    # Another chip's set, or one that saw no power: as wide as kinds the chip has no rows of.
    near = np.array(spread_of(chip, "", False)).reshape(2, 2)
    if spread is not None:
        near = np.where(np.isfinite(spread), spread, near)
    wide = np.where(outside[:, None, None], near * far, near).reshape(time.size, 4)
    return np.stack([time, power * time, *wide.T]), outside


def looped(rows: Table, chip: Silicon, residual: bool) -> tuple[Array, Array]:
    """Return seconds and mean watts of a table of kernels in the benchmark's loop."""
    out = np.zeros((2, len(rows["op_name"])))
    for batch in batches(rows, chip):
        works = [adjust(w, chip) if residual else w for w in batch.works]
        rig = harness(batch, chip)
        out[:, batch.index] = loop(cost(works, chip, limit=None if rig.limited else np.inf), rig, chip)
    return out[0], out[1]


def loop(answer: Cost, rig: Harness, chip: Silicon) -> tuple[Array, Array]:
    """Return seconds and mean watts of kernels repeated in the benchmark's loop: it waits when the host is late."""
    time = np.maximum(answer.time + rig.extra, rig.floor)
    busy = answer.time + (rig.extra if rig.limited else 0.0)
    power = chip.waiting + (answer.power - chip.waiting) * np.minimum(busy / time, 1.0)
    return time, power


def metrics(predicted: Array, measured: Array) -> Metrics:
    """Return relative errors of `predicted` against `measured` (same unit, all rows counted)."""
    ratio = np.asarray(predicted) / np.asarray(measured)
    error = np.abs(ratio - 1.0)
    if not error.size:
        raise InputError("there are no rows to compare")
    return Metrics(
        rows=int(error.size),
        mape=float(error.mean()),
        median_ape=float(np.median(error)),
        p90_ape=float(np.quantile(error, 0.9)),
        bias=float(np.median(ratio) - 1.0),
    )


def measured(rows: Table) -> tuple[Array, Array]:
    """Return measured time (s) and energy (J) from columns `latency` (ms) and `power` (W)."""
    missing = [c for c in ("latency", "power") if c not in rows]
    if missing:
        raise InputError(f"the table lacks column(s) {', '.join(missing)}; it has {', '.join(rows)}")
    time = np.asarray(rows["latency"], dtype=np.float64) * 1e-3
    power = np.asarray(rows["power"], dtype=np.float64)
    if not (np.all(np.isfinite(time)) and np.all(time > 0) and np.all(np.isfinite(power)) and np.all(power > 0)):
        raise InputError("latency and power must be positive numbers in every row")
    return time, time * power


def compare(rows: Table, chip: Sheet) -> dict[str, Metrics]:
    """Return errors of "time" and "energy" over all rows."""
    guess = predict_rows(rows, chip)
    time, energy = measured(rows)
    return {"time": metrics(guess.time, time), "energy": metrics(guess.energy, energy)}


@dataclass(frozen=True)
class Report:
    """What a calibration changed: fact -> (before, after), and errors before and after."""

    changes: Mapping[str, tuple[float, float]]
    before: Mapping[str, Metrics]
    after: Mapping[str, Metrics]


# Facts a handful of rows may move, and the log-width of the belief in what stands (68 %): datasheet
# bandwidths hardly, estimated energies freely.
PRIORS: Mapping[str, float] = {
    "fit.compute": 0.15,
    "fit.memory": 0.1,
    "fit.latency": 0.5,
    "fit.prefill": 0.2,
    "fit.decode": 0.3,
    "power.waiting": 0.05,
    "power.leakage": 0.5,
    "power.clock_tree": 0.5,
    "memory.hbm.energy": 0.4,
    "memory.l2.energy": 0.4,
    "memory.l2.bandwidth": 0.3,
    "compute.energy.bf16": 0.4,
    "compute.energy.fp8": 0.4,
    "compute.energy.fp4": 0.4,
}

_NOISE_TIME, _NOISE_POWER = 0.08, 0.15
# Most steps of the fit, and the relative gain below which it has settled.
_ROUNDS, _SETTLED = 12, 1e-3


def calibrate(
    chip: Sheet,
    rows: Table,
    *,
    source: str = "calibration rows",
    priors: Mapping[str, float] = PRIORS,
    meter: bool = False,
) -> tuple[Sheet, Report]:
    """Return `chip` with a few facts moved to fit measured rows, and what changed.

    A robust Gauss-Newton fit (pseudo-Huber) of log time and log power, held back by `priors`: facts
    that the rows say nothing about stay as they were. `meter`: rows are what a benchmark known to
    the package printed; otherwise they are taken as what the kernels do.
    """
    time, energy = measured(rows)
    names = [n for n in priors if n in chip or n.startswith("fit.")]
    width = np.array([priors[n] for n in names])
    start = {n: chip.get(n, 1.0) for n in names}
    target = np.concatenate([np.log(time) / _NOISE_TIME, np.log(energy / time) / _NOISE_POWER])
    balance = np.sqrt(min(1.0, 400.0 / len(time)))

    def model(x: Array) -> Array:
        moved = _moved(chip, start, names, x, source)
        # The time is always the kernel's: a clock that counts in ticks has no slope to follow.
        guess = predict_rows(rows, moved, meter=False)
        power = predict_rows(rows, moved).power if meter else guess.power
        return np.concatenate([np.log(guess.time) / _NOISE_TIME, np.log(power) / _NOISE_POWER])

    x = gauss_newton(model, target, width, balance, len(names))
    fitted = _moved(chip, start, names, x, source)
    changes = {n: (start[n], fitted[n]) for n in names}
    return fitted, Report(changes, compare(rows, chip), compare(rows, fitted))


def gauss_newton(model: Callable[[Array], Array], target: Array, width: Array, balance: float, n: int) -> Array:
    """Return the log factors that fit `target` robustly; steps are damped until they improve."""
    x, damping = np.zeros(n), 1.0

    def loss(r: Array, at: Array) -> float:
        return float(balance**2 * np.sum(np.sqrt(1.0 + r**2) - 1.0) + 0.5 * np.sum((at / width) ** 2))

    now = model(x) - target
    for _ in range(_ROUNDS):
        slope = np.stack([(model(x + 1e-3 * e) - target - now) / 1e-3 for e in np.eye(n)], axis=1)
        weight = balance**2 / np.sqrt(1.0 + now**2)
        matrix = slope.T @ (slope * weight[:, None]) + np.diag((1.0 + damping) / width**2)
        step = np.linalg.solve(matrix, slope.T @ (weight * now) + x / width**2)
        trial = np.clip(x - step, -3.0 * width, 3.0 * width)
        then = model(trial) - target
        won = loss(now, x) - loss(then, trial)
        if won > 0.0:
            x, now, damping = trial, then, damping / 3.0
            if won < _SETTLED * loss(now, x):
                break
        else:
            damping *= 4.0
    return x


def _moved(chip: Sheet, start: Mapping[str, float], names: Sequence[str], x: Array, source: str) -> Sheet:
    """Return `chip` with each named fact at `start` times exp(x), within the bounds of its key."""
    facts = dict(chip.facts)
    for name, shift in zip(names, x, strict=True):
        rule = keys("chip")[name]
        value = float(np.clip(start[name] * np.exp(shift), rule.low, rule.high))
        facts[name] = Fact(value, rule.unit, f"fitted to {source}")
    return replace(chip, facts=facts)
