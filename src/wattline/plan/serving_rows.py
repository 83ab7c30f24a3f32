"""Measured serving configurations, row by row: what each states, what is predicted, how wrong it is.

Columns are those of the ML.ENERGY leaderboard as cleaned for reference: the parallelism really
launched, mean running requests, mean output length. Rows are only read here, never fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, nearest
from ..hardware import catalog as hardware
from ..source.base import Array, Device, Source
from ..workload import catalog as models
from ..workload.parallel import Parallel
from .engine import Constants, Parts, Table, assemble, constants, settings
from .step import Job, Load, Replica, clock_grid, work_of

TARGETS: Final = ("energy_per_token_j", "throughput_tok_s", "power_per_gpu_w", "median_itl_ms")

NEEDED: Final = ("model_id", "gpu", "task", "attn_tp", "avg_batch_size", "avg_output_len")

# Columns read where they are there: name -> what stands for a missing one.
OPTIONAL: Final[Mapping[str, str]] = {
    "attn_dp": "1", "expert_ep": "1", "out_ctx_mean": "half of avg_output_len", "prompt_len": "the task's default",
    "visual_tokens": "the task's default", "n_requests_sampled": "no prompt seen before",
    "num_unique_requests": "no prompt seen before", "vllm_max_num_batched_tokens": "8192",
    "vllm_async_scheduling": "True", "family": "the model", "num_gpus": "attn_tp x attn_dp",
}  # fmt: skip

# Ranges of running requests that errors are grouped by.
BATCHES: Final = (0.0, 12.0, 48.0, 100.0, 300.0, np.inf)

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One configuration. `groups`: by what its error is reported (family, batch, num_gpus, task)."""

    id: Any
    replica: Replica
    load: Load
    batch: float
    device: Device
    groups: Mapping[str, str]


def rows_of(table: Columns) -> list[Row]:
    """Read configurations from columns; raise InputError naming what is missing and what is known."""
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise InputError(
            f"serving rows lack column {missing[0]!r}; needed: {', '.join(NEEDED)}; "
            f"read where given: {', '.join(OPTIONAL)}"
        )
    count = len(table["model_id"])
    return [_row({name: column[i] for name, column in table.items()}, i) for i in range(count)]


def _row(cells: Mapping[str, Any], index: int) -> Row:
    chip = hardware.chip(str(cells["gpu"]))
    model = models.model(str(cells["model_id"]))
    tensor, data = _whole(cells, "attn_tp"), _whole(cells, "attn_dp", 1)
    parallel = Parallel(tensor=tensor, data=data, expert=_whole(cells, "expert_ep", 1), section="serve").check(model)
    chunk = _number(cells, "vllm_max_num_batched_tokens", 8192.0)
    ahead = str(cells.get("vllm_async_scheduling", "True")).lower() != "false"
    replica = Replica(model=model, parallel=parallel, chunk=chunk, asynchronous=ahead)
    batch = _number(cells, "avg_batch_size")
    groups = {
        "family": str(cells.get("family", model.name)),
        "batch": _range(batch),
        "num_gpus": str(parallel.devices),
        "task": str(cells["task"]),
    }
    device = Device(chip, hardware.default_node(chip))
    return Row(cells.get("row_id", index), replica, load_of(cells), batch, device, groups)


def load_of(cells: Mapping[str, Any]) -> Load:
    """Return what the requests of a row are like: stated lengths, or the task's default prompt."""
    known = settings()["task"]
    task = str(cells["task"])
    stated = "prompt_len" in cells
    if task not in known and not stated:
        raise InputError(f"task {task!r} has no default prompt; {nearest(task, known)}, or give a column prompt_len")
    prompt, visual, patches = known[task][:3] if task in known else (0.0, 0.0, 0.0)
    if "visual_tokens" in cells:
        tokens = _number(cells, "visual_tokens")
        patches = tokens * (patches / visual if visual else 4.0)
        visual = tokens
    unique, sent = (_number(cells, n, 0.0) for n in ("num_unique_requests", "n_requests_sampled"))
    output = _number(cells, "avg_output_len")
    return Load(
        prompt=_number(cells, "prompt_len", prompt),
        output=output,
        context=_number(cells, "out_ctx_mean", output / 2.0),
        visual=visual,
        patches=patches,
        # A prompt sent before is found in the prefix cache.
        cached=max(0.0, 1.0 - unique / sent) if unique and sent else 0.0,
    )


def _number(cells: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value: Any = cells.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if np.isnan(number) and default is not None:
        return default
    if not np.isfinite(number) or number < 0:
        raise InputError(f"column {name} must hold numbers of at least 0, got {value!r}")
    return number


def _whole(cells: Mapping[str, Any], name: str, default: float | None = None) -> int:
    number = _number(cells, name, default)
    if number != int(number) or number < 1:
        raise InputError(f"column {name} must hold whole numbers of at least 1, got {cells.get(name)!r}")
    return int(number)


def _range(batch: float) -> str:
    at = int(np.searchsorted(BATCHES, batch, side="left"))
    low, high = BATCHES[max(at - 1, 0)], BATCHES[min(at, len(BATCHES) - 1)]
    return f"over {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


# ------------------------------------------------------------------ predictions
def works(rows: Sequence[Row], source: Source) -> Parts:
    """Return rows of one chip as one piece of work for `assemble`."""
    device = rows[0].device
    return work_of([Job(r.replica, r.load, r.batch) for r in rows], device, source, clock_grid(device))


def table_of(rows: Sequence[Row], work: Parts, c: Constants) -> Table:
    """Return mean steps of rows of one chip at its highest clock."""
    device = rows[0].device
    chip, grid = device.chip, clock_grid(device)
    return assemble(work, c, chip["power.waiting"], chip["power.limit"], grid, grid[-1:])


def targets_of(rows: Sequence[Row], table: Table) -> dict[str, Array]:
    """Return (n,) predictions by target name, in the units of the columns."""
    batch = np.array([r.batch for r in rows])
    devices = np.array([float(r.replica.parallel.devices) for r in rows])
    time, energy = table.time[:, 0], table.energy[:, 0]
    return {
        "energy_per_token_j": devices * energy / batch,
        "throughput_tok_s": batch / time,
        "power_per_gpu_w": energy / time,
        "median_itl_ms": 1e3 * table.median[:, 0],
    }


def predict(rows: Sequence[Row], source: Source) -> dict[str, Array]:
    """Return (n,) predictions of every row by target name."""
    out = {name: np.empty(len(rows)) for name in TARGETS}
    for chip in dict.fromkeys(r.device.chip.name for r in rows):
        mine = np.array([i for i, r in enumerate(rows) if r.device.chip.name == chip])
        some = [rows[i] for i in mine]
        c = constants(some[0].device.chip.tags.get("architecture", ""))
        found = targets_of(some, table_of(some, works(some, source), c))
        for name, values in found.items():
            out[name][mine] = values
    return out


def interval(row: Row, name: str) -> tuple[float, float]:
    """Return factors on a prediction that bound nine in ten measurements of models never seen."""
    table = settings()["interval"]
    kind = row.device.chip.tags.get("architecture", "")
    low, high = table.get(kind, table["other"])[name]
    return float(low), float(high)


# ------------------------------------------------------------------ errors
def metrics(predicted: Array, measured: Array) -> dict[str, float]:
    """Return relative errors of predictions: mean, median and 90th percentile of the size, and the median bias."""
    error = predicted / measured - 1.0
    size = np.abs(error)
    return {
        "mape": float(size.mean()),
        "median_ape": float(np.median(size)),
        "p90_ape": float(np.quantile(size, 0.9)),
        "bias": float(np.median(error)),
    }


def validate(table: Columns, source: Source, measured: Columns | None = None) -> dict[str, Any]:
    """Predict every row and compare with what was measured, where it was.

    `measured`: columns of `TARGETS`, row by row as `table` (whose own columns count where None).
    Returns rows, metrics by target, groups (by family, batch, num_gpus and task) and predictions
    with a 90 % interval each.
    """
    rows = rows_of(table)
    guess = predict(rows, source)
    found = _measured(table if measured is None else measured, len(rows))
    inside = {name: _bounds(rows, name, guess[name]) for name in TARGETS}
    return {
        "rows": len(rows),
        "metrics": {n: metrics(guess[n], v) | {"coverage_90": _coverage(inside[n], v)} for n, v in found.items()},
        "groups": _groups(rows, guess, found),
        "predictions": [
            {"row_id": _plain(row.id)}
            | {n: float(guess[n][i]) for n in TARGETS}
            | {f"{n}_interval": [float(inside[n][0][i]), float(inside[n][1][i])] for n in TARGETS}
            for i, row in enumerate(rows)
        ],
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _bounds(rows: Sequence[Row], name: str, guess: Array) -> tuple[Array, Array]:
    factors = np.array([interval(row, name) for row in rows])
    return guess * factors[:, 0], guess * factors[:, 1]


def _coverage(bounds: tuple[Array, Array], measured: Array) -> float:
    return float(np.mean((bounds[0] <= measured) & (measured <= bounds[1])))


def _measured(table: Columns, count: int) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in TARGETS:
        if name not in table:
            continue
        values = np.asarray(table[name], dtype=np.float64)
        if len(values) != count or not (np.isfinite(values).all() and (values > 0).all()):
            raise InputError(f"column {name} must hold a positive number in each of the {count} rows")
        found[name] = values
    return found


def _groups(rows: Sequence[Row], guess: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for by in rows[0].groups if rows else ():
        labels = np.array([row.groups[by] for row in rows])
        out[by] = {}
        for label in dict.fromkeys(labels.tolist()):
            mine = labels == label
            each = {name: metrics(guess[name][mine], values[mine]) for name, values in found.items()}
            out[by][label] = {"rows": int(mine.sum()), "metrics": each}
    return out
