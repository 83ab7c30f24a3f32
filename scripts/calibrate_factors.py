"""Fit what engines' kernels take and draw over the model's own to public tables: a few numbers for each kind.

    python scripts/calibrate_factors.py REFERENCE [--write] [--only WORDS]

REFERENCE as of `calibrate_kernels.py`, with ``operators/`` of the H200 too. Of each chip, engine, version, kind and
format: seconds added, factors on arithmetic and on memory, and on switched joules where the table has power
(`source/roofline/factors.py`). Printed: error of time and of energy in percent, median and mean, without and with the
factors on a fifth of the shapes left out (five folds where rows are few), then how far what stands in for a version,
a chip or an engine is off. Needs pyarrow and scipy.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import calibrate_kernels
import numpy as np
import pyarrow.parquet
from calibrate_kernels import CHIPS, read, tables
from scipy.optimize import least_squares

import wattline.source.roofline as roofline
from wattline.hardware.catalog import chip as find_chip
from wattline.source.measured.kernelset import CAMPAIGN
from wattline.source.measured.rows import DTYPES, Batch, batches, harness
from wattline.source.roofline import factors
from wattline.source.roofline.collective import Links, classes, custom_seconds, library_seconds
from wattline.source.roofline.factors import KernelFactor
from wattline.source.roofline.residual import adjust
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.work import Work, cost

DATA = Path(roofline.__file__).parent / "data" / "kernel_factors.toml"
KINDS = {
    "gemm": "gemm", "moe": "moe", "context_attention": "prefill", "generation_attention": "decode",
    "context_mla": "mla_prefill", "generation_mla": "mla_decode", "mla_context_module": "mla_module",
    "mla_generation_module": "mla_module", "encoder_attention": "encoder",
}  # fmt: skip
# Kernels whose chips' plans have them: facts fitted to that engine's tables, and no other constants fitted over them.
APPLIED = {
    "b200-sxm": ("vllm", "0.22.0"), "gb200": ("vllm", "0.22.0"), "b300-sxm": ("vllm", "0.22.0"),
    "gb300": ("vllm", "0.22.0"), "l40s": ("vllm", "0.24.0"), "rtx-pro-6000": ("vllm", "0.24.0"),
}  # fmt: skip
# Readings of power count where the loop is as long as the meter's memory: kernels from here, s.
READABLE = 1e-4
LEAST_ROWS, READ_ROWS, FOLDS, MANY = 4, 12, 5, 300
# Largest logarithm of a factor; and the error left, over that before, above which a factor is not worth having.
MOST, WORTH = 1.6, 0.97
Key = tuple[str, str, str, str, str]


@dataclass
class Rows:
    """Kernels of one key: works with the learned correction, what was measured (watts NaN: not read), and a fold."""

    chip: Silicon
    works: list[Work]
    mixture: bool
    time: np.ndarray
    power: np.ndarray
    fold: np.ndarray

    def modelled(self, factor: KernelFactor) -> tuple[np.ndarray, np.ndarray]:
        """Return seconds and watts with a factor."""
        answer = cost(with_factor(self.works, factor, self.mixture), self.chip)
        return answer.time, answer.power

    def part(self, pick: np.ndarray) -> Rows:
        """Return the rows of a mask."""
        works = [of_rows(w, pick) for w in self.works]
        return Rows(self.chip, works, self.mixture, self.time[pick], self.power[pick], self.fold[pick])


def of_rows(work: Work, pick: np.ndarray) -> Work:
    """Return the rows of a mask of a work."""
    n, changes = pick.size, {}
    for field in fields(Work):
        value = getattr(work, field.name)
        if isinstance(value, np.ndarray) and value.shape == (n,):
            changes[field.name] = value[pick]
    return replace(work, **changes, hints=())


def with_factor(works: list[Work], factor: KernelFactor, mixture: bool) -> list[Work]:
    """Return works with a factor: what is added counts once, and a mixture's activation stays as it is."""
    out, left = [], factor
    for w in works:
        if mixture and not w.net:
            out.append(w)
            continue
        out.append(left.on(w))
        left = replace(factor, added=0.0)
    return out


def collect(folder: Path, only: str = "") -> dict[Key, Rows]:
    """Return rows by (chip, engine, version, kind, format)."""
    found: dict[Key, list[Rows]] = defaultdict(list)
    calibrate_kernels.MOST_ROWS = 1000  # four numbers need no more
    for name, maker, path in [*tables(folder), *own(folder)]:
        rows = read(path)
        op = str(rows["op_name"][0])
        if op not in KINDS or only not in f"{name} {maker} {KINDS[op]}":
            continue
        chip = Silicon.of(find_chip(name))
        match = re.search(r"_(\d[^_]*)_", path.name)
        version = match[1] if match and maker != CAMPAIGN else "0.22.0"
        engine = "vllm" if maker == CAMPAIGN else maker
        for batch in batches(rows, chip):
            if not batch.fallback:
                found[name, engine, version, KINDS[op], DTYPES[batch.dtype][2]].append(of_batch(batch, rows, chip))
    most = {k: max(v, key=lambda r: r.time.size) for k, v in found.items()}  # the scheme with most rows of a format
    return {k: v for k, v in most.items() if v.time.size >= LEAST_ROWS}


def own(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the campaign's whole files of the H200, which `tables` leaves to another script."""
    for path in sorted((folder / "operators").glob("h200_sxm_*.csv.gz")):
        if "calibration" not in path.name:
            yield "h200-sxm", CAMPAIGN, path


def of_batch(batch: Batch, rows: dict[str, np.ndarray], chip: Silicon) -> Rows:
    """Return a batch: what its harness adds taken off, rows at a floor or of a few ticks left out."""
    rig = harness(batch, chip)
    seen = 1e-3 * rows["latency"][batch.index].astype(float)
    bare = seen - rig.extra
    good = (bare > 0.2 * seen) & (seen > 1.15 * rig.floor)
    if rig.tick:
        good &= seen > 4.5 * rig.tick
    power = rows["power"][batch.index].astype(float) if "power" in rows else np.full(seen.size, np.nan)
    power = np.where((power > 0) & (seen > READABLE), power, np.nan)
    shape = np.array(["|".join(map(str, row)) for row in zip(*batch.columns.values(), strict=True)])
    _, group = np.unique(shape, return_inverse=True)
    fold = np.random.default_rng(len(shape)).integers(0, FOLDS, group.max() + 1)[group.ravel()]
    works = [adjust(w, chip) for w in batch.works]
    return Rows(chip, works, batch.op == "moe", bare, power, fold).part(good)


def fit(rows: Rows) -> KernelFactor:
    """Return the factor that fits rows, robust in the logarithm, energy and time in turns."""
    factor = KernelFactor()
    for _ in range(2):
        factor = _time(rows, _energy(rows, factor))
    return _energy(rows, factor)


def _time(rows: Rows, start: KernelFactor) -> KernelFactor:
    held = np.sqrt(rows.time.size) * np.array([1 / 100.0, 1 / 3.0, 1 / 3.0])

    def made(x: np.ndarray) -> KernelFactor:
        return replace(start, added=1e-6 * float(x[0]), compute=float(np.exp(x[1])), memory=float(np.exp(x[2])))

    def miss(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(rows.modelled(made(x))[0] / rows.time) / 0.1, held * x])

    ends = [[0.0, -MOST, -MOST], [500.0, MOST, MOST]]
    tries = (least_squares(miss, [a, 0.0, 0.0], loss="soft_l1", bounds=ends, max_nfev=15) for a in (0.5, 8.0))
    return made(min(tries, key=lambda r: r.cost).x)


def _energy(rows: Rows, factor: KernelFactor) -> KernelFactor:
    """Return the factor with joules as read; watts at the limit, where both lie there, say nothing."""
    _, modelled = rows.modelled(factor)
    chip = rows.chip
    use = np.isfinite(rows.power) & ~((modelled > 0.97 * chip.limit) & (rows.power > 0.95 * chip.limit))
    if use.sum() < READ_ROWS:
        return factor
    # What is above waiting but not switched (leakage, clocks) stays: the ratio is of what is left.
    lit = 0.9 * sum(float(p) for p in chip.standing(np.asarray(chip.clock_max)))
    ratio = (rows.power - chip.waiting - lit)[use] / np.maximum(modelled - chip.waiting - lit, 5.0)[use]
    return replace(factor, energy=float(np.clip(factor.energy * np.median(ratio), np.exp(-MOST), np.exp(MOST))))


def told(rows: Rows) -> tuple[KernelFactor, str]:
    """Return the factor of all rows, its spread from rows left out, and a line of errors; one where it wins nothing."""
    guess = [np.full(rows.time.size, np.nan), np.full(rows.time.size, np.nan)]
    for k in range(FOLDS if rows.time.size < MANY else 1):
        out = rows.fold == k
        if out.any() and (~out).any():
            for array, values in zip(guess, rows.part(out).modelled(fit(rows.part(~out))), strict=True):
                array[out] = values
    seen = np.isfinite(guess[0])
    part, after = rows.part(seen), (guess[0][seen], guess[1][seen])
    before = part.modelled(KernelFactor())
    found, one = fit(rows), KernelFactor()
    if _off(after[0], part.time) > WORTH * _off(before[0], part.time):
        after = (before[0], after[1])
        found = replace(one, energy=found.energy)
    if _off(after[0] * after[1], part.time * part.power) > WORTH * _off(before[0] * before[1], part.time * part.power):
        found, after = replace(found, energy=1.0), (after[0], before[1])
    spread = float(np.quantile(np.abs(after[0] / part.time - 1), 0.68))
    told = " |".join(_cells(*pair, part) for pair in (before, after))
    return replace(found, spread=spread, rows=rows.time.size), told


def _off(model: np.ndarray, seen: np.ndarray) -> float:
    known = np.isfinite(seen)
    off = np.abs(model / seen - 1)[known]
    return float(np.median(off) + off.mean()) if known.any() else 0.0


def _cells(time: np.ndarray, power: np.ndarray, rows: Rows) -> str:
    known = np.isfinite(rows.power)
    pairs = [(time, rows.time), ((time * power)[known], (rows.time * rows.power)[known])]
    off = [np.abs(a / b - 1) for a, b in pairs]
    return " |".join(f"{100 * np.median(x):6.1f}{100 * x.mean():7.1f}" if x.size else " " * 13 for x in off)


def collectives(folder: Path) -> dict[Key, KernelFactor]:
    """Return factors of collectives inside a node, by the model of its class of links."""
    out: dict[Key, KernelFactor] = {}
    named = {"alltoall": "all_to_all"}
    for name, chip_name in CHIPS.items():
        sheet, links = find_chip(chip_name), None
        kind = "nvlink" if sheet["link.nvlink.bandwidth"] else "pcie"
        rate = sheet[f"link.{kind}.bandwidth"]
        links = Links(classes().get(f"{kind}-{Silicon.of(sheet).architecture}", classes()[kind]))
        groups: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        for path in sorted((folder / "kernels" / name).glob("*.parquet")):
            if "allreduce" not in path.name and "nccl" not in path.name:
                continue
            version = re.search(r"_(\d[^_]*)_", path.name)
            assert version
            engine = path.name.split("_")[0]
            for row in pyarrow.parquet.read_table(path).to_pylist():
                ranks, seconds = np.array(float(row["num_gpus"])), 1e-3 * float(row["latency"])
                own_kernel = "allreduce" in path.name
                if ranks > 8 or (own_kernel and row["backend"] != "vllm_graph"):
                    continue
                wide = 2.0 if own_kernel or row.get("nccl_dtype") == "half" else 1.0
                size = np.array(float(row["message_size"]) * wide)
                op = "all_reduce" if own_kernel else named.get(row["op_name"], row["op_name"])
                model = library_seconds(links, op, size, ranks, rate)
                if own_kernel:
                    model = np.minimum(model, custom_seconds(links, size, ranks, rate))
                groups[chip_name, engine, version[1], op, "any"].append((float(size), seconds / float(model)))
        for key, pairs in groups.items():
            if key[3] not in factors.KINDS:
                continue
            size, ratio = np.array(pairs).T
            small, large = ratio[size <= factors.SMALL], ratio[size >= factors.LARGE]
            if small.size < 4:
                continue
            low = float(np.median(small))
            one = KernelFactor(0.0, low, float(np.median(large)) if large.size >= 2 else low)
            spread = float(np.quantile(np.abs(one.of_size(size) / ratio - 1), 0.68))
            out[key] = KernelFactor(0.0, one.compute, one.memory, 1.0, spread, size.size)
    return out


def nearest(found: dict[Key, KernelFactor]) -> dict[str, float]:
    """Return 68 % quantiles of how far the factor of a version, chip or engine is from what stands in for it."""
    gaps: dict[str, list[float]] = defaultdict(list)
    for a, one in found.items():
        for b, other in found.items():
            if a == b or a[3:] != b[3:] or a[3].startswith(("all", "reduce")):
                continue
            gap = 0.5 * (abs(np.log(one.compute / other.compute)) + abs(np.log(one.memory / other.memory)))
            same = [x == y for x, y in zip(a, b, strict=True)]
            if same[:3] == [True, True, False]:
                gaps["version"].append(float(gap))
            elif same[1] and not same[0]:
                gaps["chip"].append(float(gap))
            elif same[0] and not same[1]:
                gaps["engine"].append(float(gap))
    out = {k: float(np.quantile(v, 0.68)) for k, v in gaps.items()}
    every = [0.5 * (abs(np.log(f.compute)) + abs(np.log(f.memory))) for f in found.values()]
    return out | {"none": float(np.quantile(every, 0.68))}


def written(found: dict[Key, KernelFactor], wide: dict[str, float]) -> str:
    """Return the data file."""
    lines = [
        "# Factors on the model's kernels, of engines' tables (ai-dynamo/aiconfigurator, Apache-2.0), by",
        "# scripts/calibrate_factors.py. Of each kind and format: seconds added, factors on arithmetic, on memory and",
        "# on switched joules, 68 % quantile of the relative error of time left on shapes left out, rows.",
        "", "# Whose kernels the plans of a chip have.", "[applied]",
        *[f'{chip} = ["{engine}", "{version}"]' for chip, (engine, version) in APPLIED.items()],
        "", "# How far off what stands in for a table was: another version, other chips, another engine; no table.",
        "[widened]", *[f"{k} = {v:.3f}" for k, v in wide.items()],
    ]  # fmt: skip
    sections: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (chip, engine, version, kind, form), f in sorted(found.items()):
        cells = f"{round(f.added, 9):.3g}, {f.compute:.3f}, {f.memory:.3f}, {f.energy:.3f}, {f.spread:.3f}, {f.rows}"
        sections[chip, engine, version].append(f"{kind}.{form} = [{cells}]")
    for (chip, engine, version), body in sections.items():
        lines += ["", f'[factor.{chip}.{engine}."{version}"]', *body]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--write", action="store_true", help="write data/kernel_factors.toml")
    parser.add_argument("--only", default="", help="fit only keys whose words hold this, the others as stored")
    args = parser.parse_args()
    found: dict[Key, KernelFactor] = {}
    print(f"{'':62} rows  without: time | energy | with: time | energy")
    if args.only:
        found = {(c, e, v, k, s): f for (c, e, k, s, v), f in factors.table().items()}
    for key, rows in collect(args.reference, args.only).items():
        found[key], errors = told(rows)
        f = found[key]
        print(f"{' '.join(key):62}{f.rows:5d} {errors} | +{1e6 * f.added:.2f} us x{f.compute:.2f} x{f.memory:.2f} "
              f"J x{f.energy:.2f}", flush=True)  # fmt: skip
    found |= {} if args.only else collectives(args.reference)
    wide = nearest(found)
    print("stand-ins off by", {k: round(v, 3) for k, v in wide.items()})
    if args.write:
        DATA.write_text(written(found, wide), encoding="utf-8")
        print(f"written, {DATA.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
