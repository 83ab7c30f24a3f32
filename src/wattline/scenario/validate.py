"""Predictions beside measurements, from files: tables of kernels in, predictions and their errors out."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..hardware import catalog
from ..hardware.facts import Sheet
from ..source.measured import calibrate as calibration
from ..source.measured.rows import COLUMNS, dtype_column

Column = NDArray[Any]


def read_table(path: Path) -> dict[str, Column]:
    """Read a CSV file (plain or .gz) as columns; those of numbers become numbers, an empty cell NaN."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise InputError(f"{path}: holds no rows; a line of column names and at least one row are needed")
    heads, body = rows[0], rows[1:]
    ragged = [number for number, row in enumerate(body, 2) if len(row) != len(heads)]
    if ragged:
        raise InputError(f"{path}: row {ragged[0]} has {len(body[ragged[0] - 2])} cells, expected {len(heads)}")
    return {head.strip(): _column(cells) for head, cells in zip(heads, zip(*body, strict=True), strict=True)}


def _column(cells: tuple[str, ...]) -> Column:
    try:
        numbers = np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return np.array([cell.strip() for cell in cells])
    if np.isfinite(numbers).all() and (numbers == np.round(numbers)).all() and (np.abs(numbers) < 2**53).all():
        return numbers.astype(np.int64)
    return numbers


def operators(inputs: Path, targets: Path | None = None, chip: str | None = None) -> dict[str, Any]:
    """Predict every kernel of a table; compare with the measured columns where there are any.

    Parameters
    ----------
    inputs : columns as `wattline.source.measured.rows.COLUMNS`; `device` names the chip unless `chip` does.
    targets : measured `latency` (ms) and `power` (W), by `row_id` or in the same order; those of
        `inputs` where None.

    Returns rows, metrics per target ("latency", "power", "energy_j") and predictions in the units
    of the files: latency in ms, power in W.
    """
    table = read_table(inputs)
    ids = table.get("row_id", np.arange(_length(table))).tolist()
    checked(table)
    guess, ends = _predict(table, chip)
    found = _measured(_targets(read_table(targets), ids, targets) if targets else table)
    labels = _labels(table, chip)
    predictions = [
        {"row_id": i, "group": labels[n], **{name: values[n].item() for name, values in guess.items()},
         **{f"{name}_interval": [low[n].item(), high[n].item()] for name, (low, high) in ends.items()}}
        for n, i in enumerate(ids)
    ]  # fmt: skip
    return {
        "rows": len(ids),
        "metrics": _metrics(guess, found),
        "coverage_90": {
            k: float(np.mean((a <= found[k]) & (found[k] <= b))) for k, (a, b) in ends.items() if k in found
        },
        "groups": _groups(labels, guess, found),
        "predictions": _beside(predictions, found),
    }


def checked(table: Mapping[str, Column]) -> None:
    """Refuse a table of kernels with an empty, negative or fractional dimension, naming the first such row."""
    ops = table.get("op_name")
    for op, columns in COLUMNS.items():
        mine = np.flatnonzero(np.asarray(ops).astype(str) == op) if ops is not None else np.zeros(0, int)
        for name in columns:
            if name not in table or not mine.size or name.endswith("dtype") or name == "distribution":
                continue
            least = 0 if name in ("window_size", "step") else 1
            values = table[name][mine]
            good = np.zeros(mine.size, dtype=bool)
            if values.dtype.kind in "iuf":
                good = np.isfinite(values) & (values >= least)
                good &= np.where(good, values, 0) == np.where(good, np.round(values), 0)
            if not good.all():
                row = int(mine[np.argmin(good)])
                value = table[name][row]
                raise InputError(
                    f"row {row + 2}: column {name} of {op} must hold a whole number of at least {least}, got {value!s}"
                )


def _labels(table: Mapping[str, Column], chip: str | None) -> list[str]:
    """Return the group of each row: its operator and dtype, with the device where there are several."""
    n = _length(table)
    ops = table["op_name"].astype(str)
    devices = np.full(n, "") if chip or np.unique(table["device"]).size == 1 else table["device"].astype(str)
    columns = [dtype_column(op) for op in ops]
    dtypes = [str(table[name][i]) if name else "" for i, name in enumerate(columns)]
    return [" ".join(x for x in (devices[i], ops[i].replace("_", " "), dtypes[i]) if x) for i in range(n)]


def _groups(labels: Sequence[str], guess: Mapping[str, Column], found: Mapping[str, Column]) -> dict[str, Any]:
    """Return errors of each group."""
    names = np.array(labels)
    return {
        label: {"rows": int((names == label).sum()), "metrics": _metrics(guess, found, names == label)}
        for label in dict.fromkeys(labels)
    }


def _beside(predictions: list[dict[str, Any]], found: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Return predictions with the figures measured, where there are any."""
    if not found:
        return predictions
    return [p | {"measured": {k: v[i].item() for k, v in found.items()}} for i, p in enumerate(predictions)]


def configurations(kind: str, inputs: Path, targets: Path | None = None) -> dict[str, Any]:
    """Predict every row of a table of measured serving, diffusion or training runs; rows are only read, never fitted.

    `targets`: measured columns in a file of their own, by `row_id` or in the same order; those of `inputs`
    where None.
    """
    from .scenario import default_source, training_source

    table = read_table(inputs)
    ids = table.get("row_id", np.arange(_length(table))).tolist()
    found = _targets(read_table(targets), ids, targets) if targets else {}
    if kind == "training":
        from ..training.validate_training import validate

        whole = {**table, **found}
        rows = [{name: str(column[i]) for name, column in whole.items()} for i in range(len(ids))]
        return validate(rows, training_source())
    if kind == "diffusion":
        from ..serving.diffusion_rows import validate as compare
    else:
        from ..serving.serving_rows import validate as compare
    told = compare(table, default_source(), found or None)
    seen = {k: np.asarray((found or table)[k], dtype=np.float64) for k in told["metrics"]}
    family = next((table[k] for k in ("family", "model_id") if k in table), None)
    for i, row in enumerate(told["predictions"]):
        row["group"] = "" if family is None else str(family[i])
    return {**told, "predictions": _beside(told["predictions"], seen)}


def _length(table: Mapping[str, Column]) -> int:
    return len(next(iter(table.values())))


def _predict(table: dict[str, Column], chip: str | None) -> tuple[dict[str, Column], dict[str, tuple[Column, Column]]]:
    """Return predictions by column, and the ends of the 90 % interval of time and energy."""
    n = _length(table)
    out: dict[str, Column] = {
        k: np.zeros(n) for k in ("latency", "power", "energy_j", "latency_spread", "energy_spread")
    }
    out["extrapolated"] = np.zeros(n, dtype=bool)
    ends = {k: (np.zeros(n), np.zeros(n)) for k in ("latency", "energy_j")}
    if chip is None and "device" not in table:
        raise InputError("the table has no column device, so the chip is not known; name it with --chip")
    devices = np.full(n, chip) if chip else table["device"].astype(str)
    for device in dict.fromkeys(devices.tolist()):
        pick = devices == device
        guess = calibration.predict_rows({k: v[pick] for k, v in table.items()}, find_chip(device))
        out["latency"][pick] = 1e3 * guess.time
        out["power"][pick] = guess.power
        out["energy_j"][pick] = guess.energy
        out["latency_spread"][pick], out["energy_spread"][pick] = guess.time_spread, guess.energy_spread
        out["extrapolated"][pick] = guess.extrapolated
        for name, what, unit in (("latency", "time", 1e3), ("energy_j", "energy", 1.0)):
            low, high = guess.interval(what)
            ends[name][0][pick], ends[name][1][pick] = unit * low, unit * high
    return out, ends


def find_chip(name: str) -> Sheet:
    """Return the chip of a device's name as its driver gives it ("NVIDIA H200"), or of a catalog name or file."""
    return catalog.chip(name.removeprefix("NVIDIA ").strip())


def _targets(table: dict[str, Column], ids: list[Any], path: Path) -> dict[str, Column]:
    """Return the targets in the order of the inputs."""
    if "row_id" not in table:
        if _length(table) != len(ids):
            raise InputError(f"{path}: has {_length(table)} rows and no row_id, the inputs have {len(ids)}")
        return table
    where = {key: n for n, key in enumerate(table["row_id"].tolist())}
    missing = [key for key in ids if key not in where]
    if missing:
        raise InputError(f"{path}: lacks row_id {missing[0]!r} ({len(missing)} of {len(ids)} missing)")
    order = [where[key] for key in ids]
    return {name: values[order] for name, values in table.items()}


def _measured(table: Mapping[str, Column]) -> dict[str, Column]:
    """Return the measured columns of a table, energy among them where time and power are."""
    known = {name: table[name] for name in ("latency", "power") if name in table}
    for name, values in known.items():
        good = np.zeros(values.size, dtype=bool)
        if values.dtype.kind in "iuf":
            good = np.isfinite(values) & (values > 0)
        if not good.all():
            row = int(np.argmin(good))
            raise InputError(
                f"column {name} must hold a positive number in every row, got {values[row]!s} in row {row + 2}"
            )
    if len(known) == 2:
        known["energy_j"] = 1e-3 * known["latency"] * known["power"]
    return known


def _metrics(guess: Mapping[str, Column], found: Mapping[str, Column], pick: Any = slice(None)) -> dict[str, Any]:
    return {
        name: {k: v for k, v in asdict(calibration.metrics(guess[name][pick], values[pick])).items() if k != "rows"}
        for name, values in found.items()
    }


def calibrate(chip: str, rows: Path, output: Path | None = None) -> tuple[str, calibration.Report]:
    """Fit a chip to measured rows; return its TOML sheet, only what changed, and the report."""
    sheet = catalog.chip(chip)
    source = rows.name
    fitted, report = calibration.calibrate(sheet, read_table(rows), source=source)
    base = (
        os.path.relpath(Path(chip).resolve(), (output or Path()).resolve().parent)
        if chip.endswith(".toml")
        else sheet.name
    )
    lines = [f'name = "{sheet.name}-calibrated"', f'base = "{base}"', ""]
    for key, (before, after) in report.changes.items():
        if after != before:
            fact = fitted.facts[key]
            lines.append(f'{key} = ["{fact.value:.6g}{f" {fact.unit}" if fact.unit else ""}", "fitted to {source}"]')
    return "\n".join(lines) + "\n", report
