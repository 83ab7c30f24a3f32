"""Recurring training jobs: which batch size and power limit reach the target at least cost.

A job that is trained again and again (new data, new seed) has two knobs that change nothing else: the
batch size, which decides how many epochs the target takes and how long an epoch is, and the power
limit. What one choice costs is weighed between energy and time as Zeus does (NSDI 2023, equation 2):

    cost = eta * energy + (1 - eta) * largest power limit * time          J

`Job` holds what such a job was measured to take; `oracle` is the best fixed choice with all of it known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, nearest
from ..core.units import show
from ..frontier.algebra import Frontier

Array = NDArray[np.float64]

# What a trace of epochs must say, and one of power.
EPOCH_COLUMNS: Final = ("dataset", "network", "batch_size", "optimizer", "target_metric", "target_epoch", "reached")
POWER_COLUMNS: Final = (
    "gpu", "dataset", "network", "batch_size", "optimizer", "power_limit_w", "time_per_epoch_s", "average_power_w",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One recurring job on one kind of device, measured at every batch size and power limit.

    Attributes
    ----------
    batches : (b,) batch sizes, ascending.
    limits : (p,) power limits, W, ascending; the last is the device's highest.
    epoch_time, epoch_power : (b, p) s per epoch and mean W.
    epochs : per batch size the epochs that each run took to the target; inf where it never got there.
    max_epochs : a run is given up after so many.
    start : index of the batch size its owner uses.
    """

    name: str
    batches: tuple[int, ...]
    limits: Array
    epoch_time: Array
    epoch_power: Array
    epochs: tuple[Array, ...]
    max_epochs: float
    start: int

    @property
    def max_power(self) -> float:
        """W of the highest limit: what a second is worth where time alone counts."""
        return float(self.limits[-1])

    @property
    def epoch_energy(self) -> Array:
        """(b, p) J per epoch."""
        return np.asarray(self.epoch_time * self.epoch_power)

    def epoch_cost(self, eta: float) -> Array:
        """(b, p) J of one epoch at weight `eta` in [0, 1]: 1 counts energy only, 0 time only."""
        _check(eta)
        return np.asarray(eta * self.epoch_energy + (1 - eta) * self.max_power * self.epoch_time)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(b,) whether every run with that batch size reached the target within `max_epochs`."""
        return np.array([bool(np.all(e <= self.max_epochs)) for e in self.epochs])

    @property
    def mean_epochs(self) -> Array:
        """(b,) mean epochs to the target; inf where some run never got there."""
        return np.array([e.mean() if ok else np.inf for e, ok in zip(self.epochs, self.feasible, strict=True)])

    def frontier(self) -> Frontier:
        """Return the time-energy frontier of one training to the target over both knobs."""
        rows = np.flatnonzero(self.feasible)
        if not rows.size:
            raise InputError(
                f"job {self.name}: no batch size reached the target in every run within {self.max_epochs:g} epochs"
            )
        times = (self.mean_epochs[rows, None] * self.epoch_time[rows]).ravel()
        joules = (self.mean_epochs[rows, None] * self.epoch_energy[rows]).ravel()
        knobs = [
            {"label": self.name, "batch_size": self.batches[i], "power_limit_w": float(limit)}
            for i in rows
            for limit in self.limits
        ]
        return Frontier.of(times, joules, knobs=knobs, provenance="measured", source=f"traces of {self.name}")


@dataclass(frozen=True)
class Choice:
    """A batch size and a power limit (W) with what one training takes there: s, J, and cost (J)."""

    batch: int
    limit: float
    time: float
    energy: float
    cost: float


def choice(job: Job, row: int, column: int, eta: float) -> Choice:
    """Return what batch size `row` at limit `column` takes."""
    epochs = float(job.mean_epochs[row])
    return Choice(
        job.batches[row],
        float(job.limits[column]),
        epochs * float(job.epoch_time[row, column]),
        epochs * float(job.epoch_energy[row, column]),
        epochs * float(job.epoch_cost(eta)[row, column]),
    )


def default(job: Job, eta: float) -> Choice:
    """Return the owner's batch size at the highest limit: what is compared with."""
    return choice(job, job.start, len(job.limits) - 1, eta)


def oracle(job: Job, eta: float) -> Choice:
    """Return the fixed choice of least mean cost, all measurements known beforehand."""
    cost = job.mean_epochs[:, None] * job.epoch_cost(eta)
    if not np.isfinite(cost).any():
        raise InputError(
            f"job {job.name}: no batch size reached the target in every run within {job.max_epochs:g} epochs"
        )
    row, column = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return choice(job, int(row), int(column), eta)


def read(
    epoch_rows: Sequence[Mapping[str, str]],
    power_rows: Sequence[Mapping[str, str]],
    *,
    gpu: str,
    dataset: str,
    network: str,
    optimizer: str,
    target_metric: float,
    max_epochs: float,
    batch: int,
) -> Job:
    """Return the job of two traces in Zeus' layout (`EPOCH_COLUMNS`, `POWER_COLUMNS`).

    `batch`: the owner's batch size. Batch sizes that one of the traces lacks are left out; a batch size
    must have been measured at every power limit.
    """
    _columns(epoch_rows, EPOCH_COLUMNS, "the trace of epochs")
    _columns(power_rows, POWER_COLUMNS, "the trace of power")
    same = (("dataset", dataset), ("network", network), ("optimizer", optimizer))
    epochs: dict[int, list[float]] = {}
    for row in epoch_rows:
        if all(row[k] == v for k, v in same) and abs(float(row["target_metric"]) - target_metric) < 1e-9:
            reached = row["reached"] == "True" and row["target_epoch"]
            epochs.setdefault(int(row["batch_size"]), []).append(float(row["target_epoch"]) if reached else np.inf)
    power: dict[tuple[int, float], tuple[float, float]] = {}
    for row in power_rows:
        if row["gpu"] == gpu and all(row[k] == v for k, v in same):
            key = int(row["batch_size"]), float(row["power_limit_w"])
            power[key] = float(row["time_per_epoch_s"]), float(row["average_power_w"])
    name = f"{network} on {dataset}, {gpu}"
    batches = tuple(sorted({b for b, _ in power} & set(epochs)))
    limits = sorted({limit for _, limit in power})
    if batch not in batches:
        raise InputError(
            f"job {name}: batch size {batch} is not in both traces; {nearest(str(batch), map(str, batches))}"
        )
    missing = [(b, limit) for b in batches for limit in limits if (b, limit) not in power]
    if missing:
        at, limit = missing[0]
        raise InputError(f"job {name}: batch size {at} has no measurement at {show(limit, 'W')}; measure every limit")
    table = np.array([[power[b, limit] for limit in limits] for b in batches])
    return Job(
        name,
        batches,
        np.array(limits),
        table[:, :, 0],
        table[:, :, 1],
        tuple(np.array(epochs[b]) for b in batches),
        max_epochs,
        batches.index(batch),
    )


def _columns(rows: Sequence[Mapping[str, str]], wanted: tuple[str, ...], what: str) -> None:
    if not rows:
        raise InputError(f"{what} is empty; it needs the columns {', '.join(wanted)}")
    missing = [c for c in wanted if c not in rows[0]]
    if missing:
        raise InputError(f"{what} lacks the columns {', '.join(missing)}; it needs {', '.join(wanted)}")


def _check(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie between 0 (time alone) and 1 (energy alone), got {eta:g}")
