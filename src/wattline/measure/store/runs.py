"""What the store knows, for a person or a spreadsheet: runs listed, shown, compared and exported.

Functions take a `Store` and return plain data; `cli_store` prints it. A run that was lost has no answer of its
own, so its energy is what its samples show, without an interval, and is marked so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from ...core.errors import InputError, MissingExtraError
from ..carbon.series import Series
from .database import Store, StoreError
from .sql import SAMPLE_KEYS, Row

Table = Literal["runs", "windows", "samples"]

RUN_KEYS: Final = (
    "run",
    "name",
    "state",
    "host",
    "start_unix_s",
    "duration_s",
    "energy_j",
    "low_j",
    "high_j",
    "method",
    "exit_code",
)
WINDOW_KEYS: Final = ("name", "start_unix_s", "duration_s", "energy_j", "low_j", "high_j")
# Rows written to a file at a time.
_BATCH: Final = 4096


def summary(store: Store, row: Row) -> Row:
    """A run in brief: `RUN_KEYS`, and what was counted in it."""
    end = row["end_unix_s"] if row["end_unix_s"] is not None else row["seen_unix_s"]
    brief = {
        **row,
        "duration_s": end - row["start_unix_s"],
        "method": "measured" if row["energy_j"] is not None else "none",
    }
    if row["energy_j"] is None:
        sampled = energy(store, row["run"])
        if sampled:
            brief.update(energy_j=math.fsum(sampled.values()), method="samples")
    return {key: brief[key] for key in RUN_KEYS}


def energy(store: Store, run: str) -> dict[str, float]:
    """Joules of each outermost device of a run between its first and last sample; what lies within is left out.

    A counter that went back in between leaves a gap, not negative joules.
    """
    used: dict[str, float] = {}
    for device, _, _, joules in _spans(store, run):
        used[device] = used.get(device, 0.0) + joules
    return used


def _spans(store: Store, run: str) -> Iterator[tuple[str, float, float, float]]:
    """(device, start, stop, J) between every two samples of the outermost devices of a run."""
    devices = {row["device"]: row for row in store.devices(run)}
    outer = {name for name, row in devices.items() if not any(other in devices for other in row["within"])}
    last: dict[str, Row] = {}
    for sample in store.samples(run):
        name = sample["device"]
        if sample["energy_j"] is None or (devices and name not in outer):
            continue
        before = last.get(name, sample)
        joules = max(0.0, sample["energy_j"] - before["energy_j"])
        yield name, before["time_unix_s"], sample["time_unix_s"], joules
        last[name] = sample


def listing(store: Store, limit: int | None = 20) -> list[Row]:
    """The latest runs in brief, the newest first."""
    return [summary(store, row) for row in store.runs(limit)]


def show(store: Store, name: str) -> Row:
    """One run: in brief, its devices, its windows by name, its tags, its notes and its whole answer."""
    row = store.run(name)
    return {
        **summary(store, row),
        "command": row["command"],
        "tags": row["tags"],
        "notes": row["notes"],
        "devices": store.devices(row["run"]),
        "windows": grouped(store.windows(row["run"])),
        "measurement": row["measurement"],
    }


def grouped(windows: Iterable[Row]) -> list[Row]:
    """Windows of one name together: how many, their time and energy, and energy per thing counted.

    Intervals of windows that follow one another share the error of the edge between them with opposite signs, so
    adding them in line, as done here, never states too little.
    """
    found: dict[str, Row] = {}
    for window in windows:
        row = found.setdefault(
            window["name"],
            {"name": window["name"], "windows": 0, "without_figure": 0, "duration_s": 0.0, "energy_j": None,
             "low_j": None, "high_j": None, "counts": {}, "energy_per_count_j": {}},
        )  # fmt: skip
        row["windows"] += 1
        row["duration_s"] += window["duration_s"]
        for what, number in window["counts"].items():
            row["counts"][what] = row["counts"].get(what, 0.0) + number
        if window["energy_j"] is None:
            row["without_figure"] += 1
            continue
        for key in ("energy_j", "low_j", "high_j"):
            value = window[key] if window[key] is not None else window["energy_j"]
            row[key] = (row[key] or 0.0) + value
    for row in found.values():
        # Where some windows have no figure, energy and counts are not of the same windows.
        if row["energy_j"] is not None and not row["without_figure"]:
            row["energy_per_count_j"] = {
                what: row["energy_j"] / number for what, number in row["counts"].items() if number > 0
            }
    return list(found.values())


def compare(store: Store, names: Sequence[str]) -> list[Row]:
    """Runs beside the first of them, and windows of the same name beside those of the first.

    Each row has ``energy_change`` (a fraction of the first) and ``verdict``: "less", "more", or "not told apart"
    where the intervals overlap or one is missing.
    """
    if len(names) < 2:
        raise InputError(f"two or more runs are compared, got {len(names)}; `wattline runs list` shows them")
    rows = [store.run(name) for name in names]
    whole = [{**summary(store, row), "window": ""} for row in rows]
    parts = [grouped(store.windows(row["run"])) for row in rows]
    answer: list[Row] = []
    for i, brief in enumerate(whole):
        answer.append(_beside(brief, whole[0], first=i == 0))
        for part in parts[i]:
            base = next((p for p in parts[0] if p["name"] == part["name"]), None)
            each = {**_each(part), "run": brief["run"], "window": part["name"]}
            answer.append(_beside(each, None if base is None else _each(base), first=i == 0))
    return answer


def _each(part: Row) -> Row:
    """A group of windows per window, so that runs of different lengths compare."""
    number = part["windows"] - part["without_figure"]
    mean = {key: None if part[key] is None else part[key] / number for key in ("energy_j", "low_j", "high_j")}
    return {**part, **mean, "duration_s": part["duration_s"] / part["windows"]}


def _beside(row: Row, base: Row | None, *, first: bool) -> Row:
    change, verdict = None, ""
    if not first and base is not None:
        verdict = "not told apart"
        if row["energy_j"] is not None and base["energy_j"]:
            change = row["energy_j"] / base["energy_j"] - 1.0
        bounds = (row["low_j"], row["high_j"], base["low_j"], base["high_j"])
        if None not in bounds:
            low, high, base_low, base_high = bounds
            verdict = "less" if high < base_low else "more" if low > base_high else verdict
    keys = ("run", "name", "window", "duration_s", "energy_j", "low_j", "high_j")
    return {**{key: row[key] for key in keys}, "energy_change": change, "verdict": verdict}


def cost(store: Store, name: str, series: Series) -> float:
    """What the energy of a run cost by the hour, in g, USD or EUR: its samples against a series of time.

    Only the outermost devices count. The series must cover the run; nothing is assumed beyond its ends.
    """
    run = store.run(name)["run"]
    spans = list(_spans(store, run))
    if not spans:
        raise InputError(f"run {run} has no samples with energy, so its cost over time is not known")
    return math.fsum(joules * series.mean(start, stop) for _, start, stop, joules in spans if joules)


# ---- export ----


def export(store: Store, path: str | Path, table: Table = "samples", names: Sequence[str] = ()) -> int:
    """Write a table of runs (all if none is named) to a .csv or .parquet file; returns the number of rows.

    The file is complete or not there at all: it is written beside and moved into place.
    """
    target = Path(path)
    writers = {".csv": _csv, ".parquet": _parquet}
    if target.suffix not in writers:
        raise InputError(f"a table is exported to a file ending in .csv or .parquet, got {target.name!r}")
    keys, rows = _select(store, table, names)
    beside = target.with_name(f".{target.name}.part")
    try:
        count = writers[target.suffix](beside, keys, rows)
        beside.replace(target)
    except OSError as error:
        raise StoreError(f"{target} could not be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return count


def _select(store: Store, table: Table, names: Sequence[str]) -> tuple[tuple[str, ...], Iterator[Row]]:
    runs = [store.run(name) for name in names] if names else store.runs()[::-1]
    ids = [row["run"] for row in runs]
    if table == "runs":
        return RUN_KEYS, (summary(store, row) for row in runs)
    if table == "samples":
        return ("run", *SAMPLE_KEYS), ({"run": run, **row} for run in ids for row in store.samples(run))
    if table != "windows":
        raise InputError(f"a table is runs, windows or samples, got {table!r}")
    counts = sorted({what for run in ids for row in store.windows(run) for what in row["counts"]})
    rows = (
        {"run": run, **row, **{f"count_{what}": row["counts"].get(what) for what in counts}}
        for run in ids
        for row in store.windows(run)
    )
    return ("run", *WINDOW_KEYS, *(f"count_{what}" for what in counts)), rows


def _csv(path: Path, keys: Sequence[str], rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(keys)
        for count, row in enumerate(rows, 1):  # noqa: B007
            writer.writerow([row.get(key) for key in keys])
    return count


def _parquet(path: Path, keys: Sequence[str], rows: Iterator[Row]) -> int:
    try:
        pa: Any = import_module("pyarrow")
        pq: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow; pip install 'wattline[parquet]', or export to .csv") from None
    words = ("run", "name", "state", "host", "method", "device")
    kinds = {key: pa.string() if key in words else pa.float64() for key in keys}
    kinds.update({"exit_code": pa.int64()} if "exit_code" in kinds else {})
    schema = pa.schema(list(kinds.items()))
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []

        def flush() -> None:
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch.clear()

        for count, row in enumerate(rows, 1):  # noqa: B007
            batch.append({key: row.get(key) for key in keys})
            if len(batch) >= _BATCH:
                flush()
        flush()
    return count
