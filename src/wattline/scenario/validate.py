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
from ..source.measured import meetings, sound
from ..source.measured.rows import dtype_column

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


def operators(
    inputs: Path, targets: Path | None = None, chip: str | None = None, table: dict[str, Column] | None = None
) -> dict[str, Any]:
    """Predict every kernel of a table; compare with the measured columns where there are any.

    Parameters
    ----------
    inputs : columns as `wattline.source.measured.rows.COLUMNS`; `device` names the chip unless `chip` does.
    targets : measured `latency` (ms) and `power` (W), by `row_id` or in the same order; those of
        `inputs` where None.
    table : the columns, where they were read already.

    Rows that cannot be predicted come back under "refused", each with its reason; the others are predicted all the
    same. Where none can be, the first reason is raised. "notes" says which columns a default stood for.

    Returns rows, metrics per target ("latency", "power", "energy_j") and predictions in the units
    of the files: latency in ms, power in W.
    """
    table = read_table(inputs) if table is None else table
    ids = table.get("row_id", np.arange(_length(table))).tolist()
    if "op_name" not in table:
        raise InputError(f"the table lacks column(s) op_name; it has {', '.join(table)}")
    found, notes = _measured(_targets(read_table(targets), ids, targets) if targets else table)
    ops = table["op_name"].astype(str).tolist()
    reasons = refusals(table, chip)
    good = np.flatnonzero([not reason for reason in reasons])
    if not good.size:
        raise InputError(next(reason for reason in reasons))
    table = {name: sound.numbers(values[good]) for name, values in table.items()}
    found = {name: values[good] for name, values in found.items()}
    guess, ends = _predict(table, chip)
    labels = _labels(table, chip)
    predictions = [
        {"row_id": ids[i], "group": labels[n], **{name: values[n].item() for name, values in guess.items()},
         **{f"{name}_interval": [low[n].item(), high[n].item()] for name, (low, high) in ends.items()}}
        for n, i in enumerate(good)
    ]  # fmt: skip
    return {
        "rows": len(ids),
        "metrics": _metrics(guess, found),
        "coverage_90": {k: _inside(a, b, found[k]) for k, (a, b) in ends.items() if k in found},
        "groups": _groups(labels, guess, found),
        "predictions": _beside(predictions, found),
        "refused": [
            {"row_id": i, "model": op, "metric": "", "reason": why}
            for i, op, why in zip(ids, ops, reasons, strict=True)
            if why
        ],
        "notes": [*sound.assumed(table), *notes],
    }


def refusals(table: Mapping[str, Column], chip: str | None) -> list[str]:
    """Return for each row of a table of kernels why it cannot be predicted, "" where it can."""
    reasons = sound.reasons(table)
    if chip is not None:
        find_chip(chip)
        return reasons
    if "device" not in table:
        raise InputError("the table has no column device, so the chip is not known; name it with --chip")
    devices: dict[str, str] = {}
    for name in np.unique(table["device"].astype(str)).tolist():
        try:
            find_chip(name)
            devices[name] = ""
        except InputError as error:
            devices[name] = str(error)
    return [why or devices[str(name)] for why, name in zip(reasons, table["device"], strict=True)]


def _inside(low: Column, high: Column, values: Column) -> float:
    """Return the share of measured values within their interval."""
    known = np.isfinite(values)
    return float(np.mean((low <= values)[known] & (values <= high)[known])) if known.any() else 0.0


def _labels(table: Mapping[str, Column], chip: str | None) -> list[str]:
    """Return the group of each row: its operator and dtype, with the device where there are several."""
    n = _length(table)
    ops = table["op_name"].astype(str)
    devices = np.full(n, "") if chip or np.unique(table["device"]).size == 1 else table["device"].astype(str)
    columns = [dtype_column(op) for op in ops]
    dtypes = [str(table[name][i]) if name in table else "" for i, name in enumerate(columns)]
    bands = meetings.bands(table)
    return [" ".join(x for x in (devices[i], ops[i].replace("_", " "), dtypes[i], bands[i]) if x) for i in range(n)]


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
    known = [{k: v[i].item() for k, v in found.items() if np.isfinite(v[i])} for i in range(len(predictions))]
    return [p | ({"measured": row} if row else {}) for p, row in zip(predictions, known, strict=True)]


def configurations(kind: str, inputs: Path, targets: Path | None = None) -> dict[str, Any]:
    """Predict every row of a table of measured serving, diffusion or training runs; rows are only read, never fitted.

    `targets`: measured columns in a file of their own, by `row_id` or in the same order; those of `inputs`
    where None.
    """
    from ..serving import closed_loop
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
    elif closed_loop.is_closed_loop(table):
        compare = closed_loop.validate
    else:
        from ..serving.serving_rows import validate as compare
    told = compare(table, default_source(), found or None)
    picked = told.pop("picked", list(range(len(ids))))
    measured = {k: v[picked] for k, v in (found or table).items()} | told.pop("seen", {})
    seen = {k: np.asarray(measured[k], dtype=np.float64) for k in told["metrics"] if k in measured}
    family = next((table[k] for k in ("family", "model_id", "Model", "model") if k in table), None)
    for i, row in zip(picked, told["predictions"], strict=True):
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
    return catalog.device(name)


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


def _measured(table: Mapping[str, Column]) -> tuple[dict[str, Column], list[str]]:
    """Return the measured columns of a table, energy among them where time and power are, NaN where a cell holds no
    positive number; and a sentence for each column with such cells."""
    known, notes = {}, []
    for name in ("latency", "power"):
        if name not in table:
            continue
        values = np.array([_positive(value) for value in table[name]])
        bad = [i for i in np.flatnonzero(np.isnan(values)) if str(table[name][i]) not in ("", "nan")]
        if bad:
            notes.append(
                f"column {name} must hold a positive number, got {table[name][bad[0]]!s} in row {bad[0] + 2}"
                f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}; not compared there"
            )
        if np.isfinite(values).any():
            known[name] = values
    if len(known) == 2:
        known["energy_j"] = 1e-3 * known["latency"] * known["power"]
    return known, notes


def _positive(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        return np.nan
    return number if np.isfinite(number) and number > 0 else np.nan


def _metrics(guess: Mapping[str, Column], found: Mapping[str, Column], pick: Any = slice(None)) -> dict[str, Any]:
    out = {}
    for name, values in found.items():
        mine = np.flatnonzero(np.isfinite(values[pick]))
        if mine.size:
            told = asdict(calibration.metrics(guess[name][pick][mine], values[pick][mine]))
            out[name] = {k: v for k, v in told.items() if k != "rows"}
    return out


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
