"""Fit the kernel sets of engines to public kernel tables, say how they do on shapes, families and chips left out.

    python scripts/calibrate_kernels.py REFERENCE [--write] [--only WORD]

REFERENCE holds ``kernels/CHIP/ENGINE_VERSION_TABLE.parquet`` and ``operators/*_calibration.csv.gz`` (both from
ai-dynamo/aiconfigurator, Apache-2.0). Needs pyarrow and scipy-free numpy only. See `source/measured/kernelset.py`.

A set is fitted to at most MOST_ROWS rows of each table (MANY_ROWS of some), drawn at random. Errors printed are on
shapes a fit did not see (a fifth of them; five folds where there are fewer than 1000), then on families left out, then
on GB200 with the sets of the B200. What ships is fitted to all rows drawn.
"""

from __future__ import annotations

import argparse
import gzip
import time as clock
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet

import wattline.source.measured as measured_room
from wattline.hardware.catalog import chip as find_chip
from wattline.source.measured import kernelset
from wattline.source.measured.calibrate import kernels
from wattline.source.measured.kernelset import CAMPAIGN, KernelSet, features, label_of, lifted
from wattline.source.measured.rows import COLUMNS, DTYPES, batches, dtype_column, harness
from wattline.source.roofline.silicon import Silicon

MOST_ROWS, TRIED, SEED = 6000, 2000, 0
# Rows of decode attention whose readings of power hang on what ran before: more of them tell more.
MANY_ROWS = {"trtllm_1.3.0rc15_generation": 24000, "trtllm_1.3.0rc17_generation": 24000}
# Logarithm of a miss beyond which a row weighs less: power is read in two modes, of which the likelier counts.
BLUR_TIME, BLUR_POWER, REWEIGHTED = 0.03, 0.03, 8
CHIPS = {
    "a100_sxm": "a100-sxm-80gb", "b200_sxm": "b200-sxm", "gb200": "gb200", "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm", "l40s": "l40s", "rtx_pro_6000_server": "rtx-pro-6000",
}  # fmt: skip
# Operators of the campaign that keep to the kernels and the meter fitted by calibrate_operators.py.
APART = {("h200-sxm", op) for op in ("gemm", "moe", "context_attention", "generation_attention")} | {
    ("b200-sxm", "gemm")
}
FAMILY = {
    "gemm": ("n", "k"), "moe": ("hidden_size", "inter_size", "num_experts"), "gdn": ("num_v_heads",),
    "mamba2": ("nheads", "d_state"), "compute_scale": ("k",), "scale_matrix": ("k",),
}  # fmt: skip
# How far a correction reaches and how much it is held back: many rows allow a short reach.
TRIALS_MANY = ((1.5, 1e-3), (2.0, 1e-3), (3.0, 1e-3), (2.0, 1e-2), (4.0, 1e-2))
TRIALS_FEW = tuple((length, ridge) for length in (2.0, 4.0, 8.0) for ridge in (1e-2, 1e-1, 1.0))


@dataclass
class Lesson:
    """Rows of one set: features, label, logarithms of measured over modelled time and power (NaN: not read)."""

    x: np.ndarray
    label: np.ndarray
    names: list[str]
    time: np.ndarray
    power: np.ndarray
    late: np.ndarray
    share: np.ndarray
    family: np.ndarray
    shape: np.ndarray
    limit: float = 0.0
    waiting: float = 0.0
    tick: float = 0.0
    least: float = 1.0


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a table as columns, at most MOST_ROWS rows of known dtypes."""
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            table = pyarrow.csv.read_csv(stream)
    else:
        table = pyarrow.parquet.read_table(path)
    columns = {}
    for name in table.column_names:
        columns[name] = _typed(np.array(table.column(name).to_pylist(), dtype=object))
    op = str(columns["op_name"][0])
    keep = np.isfinite(columns["latency"].astype(float)) & (columns["latency"].astype(float) > 0)
    column = dtype_column(op)
    if column and column in columns:
        keep &= np.isin(columns[column].astype(str), list(DTYPES))
    most = next((n for word, n in MANY_ROWS.items() if word in path.name and MOST_ROWS >= 6000), MOST_ROWS)
    index = np.random.default_rng(SEED).permutation(np.flatnonzero(keep))[:most]
    return {k: v[index] for k, v in columns.items()}


def _typed(raw: np.ndarray) -> np.ndarray:
    try:
        wide = np.array([np.nan if v is None or v == "" else float(v) for v in raw])
    except ValueError:
        return raw.astype(str)
    whole = np.isfinite(wide).all() and (wide == np.round(wide)).all()
    return wide.astype(np.int64) if whole else wide


def tables(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield (chip, engine, file) of every table of kernels."""
    for path in sorted((folder / "kernels").glob("*/*.parquet")):
        engine = path.name.split("_", 1)[0]
        if engine in ("nccl",) or "nccl" in path.name or "allreduce" in path.name or path.parent.name not in CHIPS:
            continue
        measured = path.parent.name == "h200_sxm" and "_0.22." in path.name  # whose other kernels are the campaign
        yield CHIPS[path.parent.name], CAMPAIGN if measured else engine, path
    for path in sorted((folder / "operators").glob("*_calibration.csv.gz")):
        yield CHIPS["_".join(path.name.split("_")[:2])], CAMPAIGN, path


def lesson(parts: list[dict[str, np.ndarray]], chip: Silicon) -> Lesson:
    """Return what a set learns from tables of one operator; `extra` is not yet added."""
    found: list[tuple[np.ndarray, ...]] = []
    names: dict[str, int] = {}
    for rows in parts:
        op = str(rows["op_name"][0])
        power = rows["power"].astype(float) if "power" in rows else np.full(len(rows["latency"]), np.nan)
        family = np.array(
            ["|".join(str(rows[c][i]) for c in FAMILY.get(op, ("num_heads",))) for i in range(power.size)]
        )
        for batch in batches(rows, chip):
            label = names.setdefault(label_of(batch), len(names))
            seconds, watts = kernelset.before(batch, chip, *kernels(batch, chip))
            rig = harness(batch, chip)
            x = features(batch, chip, seconds, watts)
            at = batch.index
            shape = np.array(["|".join(map(str, key)) for key in np.round(x[:, : x.shape[1] - 3], 4).tolist()])
            found.append((x, np.full(at.size, label), 1e-3 * rows["latency"][at].astype(float), power[at], seconds,
                          watts, family[at], shape))  # fmt: skip
    x, label, time, power, late, share, family, shape = (np.concatenate(v) for v in zip(*found, strict=True))
    good = np.isfinite(power) & (power > 0)
    return Lesson(x, label, list(names), time, np.where(good, power, np.nan), late, share, family, shape,
                  chip.limit, chip.waiting, rig.tick, rig.least)  # fmt: skip


def extras(data: Lesson, keep: np.ndarray) -> np.ndarray:
    """Return seconds each label adds: of a grid, the least spread of the logarithm of measured over modelled."""
    grid = np.r_[0.0, np.geomspace(0.2e-6, 300e-6, 45)]
    out = np.zeros(len(data.names))
    for i in range(out.size):
        mine = keep & (data.label == i)
        if mine.sum() < 12:
            continue
        ratio = [np.log(data.time[mine] / (data.late[mine] + extra)) for extra in grid]
        out[i] = grid[np.argmin([np.mean(np.abs(r - np.median(r))) + 0.05 * abs(np.median(r)) for r in ratio])]
    return out


def added(data: Lesson, extra: np.ndarray) -> Lesson:
    """Return rows with the seconds of their label added to the modelled time."""
    more = extra[data.label]
    late = data.late + more
    share = (data.share * data.late + data.waiting * more) / late
    x = data.x.copy()
    x[:, -3] = np.log2(1e6 * late)
    x[:, -2] = np.log2((share - data.waiting) / (data.limit - data.waiting) + 0.05)
    return replace(data, x=x, late=late, share=share)


def solve(basis: np.ndarray, target: np.ndarray, ridge: float, blur: float) -> np.ndarray:
    """Return weights by ridge regression, reweighted to weigh far rows less (absolute beyond `blur`)."""
    weight = np.ones(target.size)
    penalty = np.full(basis.shape[1], ridge)
    penalty[0] = 1e-6
    penalty *= 0.01 * target.size**0.5
    found = np.zeros(basis.shape[1])
    for _ in range(REWEIGHTED):
        scaled = basis * weight[:, None]
        found = np.linalg.solve(scaled.T @ basis + np.diag(penalty), scaled.T @ target)
        miss = basis @ found - target
        weight = 1.0 / np.sqrt(1.0 + (miss / blur) ** 2)
    return found


def fit(data: Lesson, keep: np.ndarray, length: float, ridge: float) -> KernelSet:
    """Fit a set to rows `keep`."""
    extra = extras(data, keep)
    here = added(data, extra)
    x = here.x[keep]
    low, high, mean = x.min(axis=0), x.max(axis=0), x.mean(axis=0)
    scale = 1.0 / (x.std(axis=0) + 0.05)
    basis = lifted((x - mean) * scale, here.label[keep], len(data.names), length)
    weight = np.zeros((basis.shape[1], 2))
    weight[:, 0] = solve(basis, np.log(here.time / here.late)[keep], ridge, BLUR_TIME)
    on_power = np.log(here.power / here.share)[keep]
    seen = np.isfinite(on_power)
    if seen.sum() >= 40:
        weight[:, 1] = solve(basis[seen], on_power[seen], ridge, BLUR_POWER)
    blank = np.zeros((2, 2))
    return KernelSet(tuple(data.names), extra, low, high, mean, scale, length, weight, blank, int(keep.sum()))


def guessed(one: KernelSet, data: Lesson, pick: np.ndarray) -> np.ndarray:
    """Return (2, n) logarithms of predicted over measured time and energy of rows `pick`."""
    here = added(data, np.array([one.extra[one.labels.index(name)] for name in data.names]))
    out = np.zeros((2, int(pick.sum())))
    at = np.flatnonzero(pick)
    for i, name in enumerate(data.names):
        mine = here.label[at] == i
        on, _ = one(here.x[at][mine], name)
        time = here.late[at][mine] * np.exp(on[:, 0])
        if data.tick:
            time = data.tick * np.maximum(np.round(time / data.tick), data.least)
        power = np.clip(here.share[at][mine] * np.exp(on[:, 1]), data.waiting, data.limit)
        out[0, mine] = np.log(time / here.time[at][mine])
        out[1, mine] = np.log(time * power / (here.time * here.power)[at][mine])
    return out


def folds(groups: np.ndarray) -> list[np.ndarray]:
    """Return masks of rows to leave out: a fifth of the groups, five times where rows are few."""
    _, group = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(SEED).integers(0, 5, group.max() + 1)[group.ravel()]
    few = groups.size < 1000 or group.max() < 20
    return [fold == k for k in (range(5) if few else range(1))]


def left_out(data: Lesson, groups: np.ndarray, length: float, ridge: float) -> np.ndarray:
    """Return errors of rows whose group the fit did not see."""
    errors = [guessed(fit(data, ~f, length, ridge), data, f) for f in folds(groups) if f.any() and (~f).any()]
    return np.concatenate([np.full((2, 1), np.nan), *errors], axis=1) if not errors else np.concatenate(errors, axis=1)


def settled(data: Lesson) -> tuple[float, float]:
    """Return length and ridge that leave the least error on shapes left out, median and mean, of at most TRIED rows."""
    few = np.random.default_rng(SEED).permutation(data.time.size)[:TRIED]
    arrays = {k: v[few] for k, v in vars(data).items() if isinstance(v, np.ndarray)}
    small, scores = replace(data, **arrays), {}
    for length, ridge in TRIALS_MANY if data.time.size > TRIED else TRIALS_FEW:
        time, energy = np.abs(left_out(small, small.shape, length, ridge))
        known = energy[np.isfinite(energy)]
        both = (time, known) if known.size else (time,)
        scores[length, ridge] = float(sum(np.median(e) + e.mean() for e in both))
    return min(scores, key=lambda k: scores[k])


def line(errors: np.ndarray) -> str:
    """Return median, mean and bias of time and of energy, percent."""
    cells = []
    for row in errors:
        row = row[np.isfinite(row)]
        ratio = np.expm1(row) if row.size else np.array([np.nan])
        cells.append(f"{100 * np.median(np.abs(ratio)):6.1f}{100 * np.mean(np.abs(ratio)):7.1f}"
                     f"{100 * np.median(ratio):+7.1f}")  # fmt: skip
    return " |".join(cells)


def spreads(errors: np.ndarray) -> np.ndarray:
    """Return 68 % quantile of the relative error and 90 % quantile of its logarithm, of time and of energy (NaN: no
    power was read)."""
    out = np.full((2, 2), np.nan)
    for i in (0, 1):
        row = np.abs(errors[i][np.isfinite(errors[i])])
        if row.size:
            rank = min(row.size - 1, int(np.ceil(0.9 * (row.size + 1))) - 1)
            out[0, i], out[1, i] = np.quantile(np.expm1(row), 0.68), np.sort(row)[rank]
    return out


def main() -> None:
    """Run the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--write", action="store_true", help="write data/kernelsets.npz")
    parser.add_argument("--only", default="", help="fit only sets whose name holds this word, the others as stored")
    args = parser.parse_args()
    begun = clock.perf_counter()
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for name, engine, path in tables(args.reference):
        op = str(read(path)["op_name"][0])
        if op in COLUMNS and not (engine == CAMPAIGN and (name, op) in APART) and args.only in f"{name} {engine} {op}":
            groups.setdefault((name, engine, op), []).append(path)
    out: dict[str, KernelSet] = dict(kernelset.sets()) if args.only else {}
    kernelset.sets = lambda: out  # type: ignore[assignment]
    lessons: dict[str, Lesson] = {}
    print(f"{'set':44}{'rows':>7}  time: median, mean, bias | energy;  then families left out")
    for (name, engine, op), paths in groups.items():
        try:
            chip = Silicon.of(find_chip(name))
        except Exception as error:
            print(f"{name}: {error}")
            continue
        data = lesson([read(p) for p in paths], chip)
        everything = np.ones(data.time.size, dtype=bool)
        length, ridge = settled(data)
        errors = left_out(data, data.shape, length, ridge)
        key = f"{name} {engine} {op}"
        away = left_out(data, data.family, length, ridge)
        out[key] = replace(fit(data, everything, length, ridge), spread=spreads(errors))
        lessons[key] = data
        print(f"{key:44}{data.time.size:7d} {line(errors)}  ||{line(away)}   {length:g} {ridge:g} "
              f"extra {','.join(f'{1e6 * e:.1f}' for e in out[key].extra)}", flush=True)  # fmt: skip
    print(f"{clock.perf_counter() - begun:.0f} s")
    for key, data in lessons.items():
        other = key.replace("gb200", "b200-sxm")
        if other != key and other in out and set(data.names) <= set(out[other].labels):
            errors = guessed(out[other], data, np.ones(data.time.size, dtype=bool))
            print(f"chip left out: {key:30} with {other:30} {line(errors)}")
    if args.write:
        path = Path(measured_room.__file__).parent / "data" / "kernelsets.npz"
        np.savez_compressed(path, **kernelset.arrays_of(out))
        print(f"written, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
