"""Fit how long collectives take inside a node to public tables, say how they do on sizes and versions left out.

    python scripts/calibrate_collectives.py REFERENCE [--write]

REFERENCE holds ``kernels/CHIP/*_custom_allreduce_perf.parquet`` and ``*_nccl_perf.parquet``
(ai-dynamo/aiconfigurator, Apache-2.0; sizes there are elements). Needs pyarrow. One class of links per line of
CLASSES; its constants and what they mean are in `source/roofline/collective.py`. Errors printed: every second size
left out, then the newest version left out, then a class predicted by the constants of all others.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from scipy.optimize import least_squares

import wattline.source.roofline as roofline
from wattline.hardware.catalog import chip as find_chip
from wattline.source.roofline.collective import Links, custom_seconds, library_seconds

DATA = Path(roofline.__file__).parent / "data" / "collectives.toml"
# Link class -> folders of tables and the chip whose link it is.
CLASSES = {
    "nvlink-ampere": {"a100_sxm": "a100-sxm-80gb"},
    "nvlink-hopper": {"h100_sxm": "h100-sxm", "h200_sxm": "h200-sxm"},
    "nvlink-blackwell": {"b200_sxm": "b200-sxm", "b300_sxm": "b300-sxm", "gb200": "gb200", "gb300": "gb300"},
    "pcie-ada": {"l40s": "l40s"},
    "pcie-blackwell-rtx": {"rtx_pro_6000_server": "rtx-pro-6000"},
}
MEANING = {
    "custom.start": ("s", "an engine's own all-reduce with no bytes, between two devices"),
    "custom.peer": ("s", "added by each further device"),
    "custom.one": ("", "share of the link rate when each device reads all others' buffers whole"),
    "custom.two": ("", "share of the link rate in two steps, a scatter and a gather"),
    "custom.two_start": ("s", "added by the second step"),
    "nccl.start": ("s", "a collective of the library with no bytes, between two devices"),
    "nccl.peer": ("s", "added by each further device, once round"),
    "nccl.share": ("", "share of the link rate large messages reach, between two devices"),
    "nccl.crowd": ("", "exponent of devices/2 by which that share falls (rises where below zero: in-switch sums)"),
    "nccl.ramp": ("s", "added while a pipeline of chunks fills: times the logarithm of how far a size is past 64 KiB"),
    "nccl.sum": ("", "time of an all-reduce over twice that of a gather of as many bytes"),
    "nccl.eager": ("s", "what a launch without a graph lasts at least: the host"),
}
START = {
    "custom.start": 4e-6, "custom.peer": 0.3e-6, "custom.one": 0.5, "custom.two": 0.6, "custom.two_start": 3e-6,
    "nccl.start": 6e-6, "nccl.peer": 1.2e-6, "nccl.share": 0.75, "nccl.crowd": 0.0, "nccl.ramp": 1e-6,
    "nccl.sum": 0.9, "nccl.eager": 20e-6,
}  # fmt: skip
LINEAR = {"nccl.crowd"}


@dataclass
class Rows:
    """Collectives of one class: op ("custom" for an engine's own), bytes, devices, seconds, link rate, version."""

    op: np.ndarray
    size: np.ndarray
    ranks: np.ndarray
    time: np.ndarray
    rate: np.ndarray
    version: np.ndarray

    def part(self, pick: np.ndarray) -> Rows:
        return Rows(*[getattr(self, k)[pick] for k in ("op", "size", "ranks", "time", "rate", "version")])


def read(folder: Path, chips: dict[str, str]) -> tuple[Rows, np.ndarray]:
    """Read the tables of a class; also the seconds of small eager calls."""
    found: list[tuple[str, float, float, float, float, str]] = []
    eager = []
    for name, chip in chips.items():
        sheet = find_chip(chip)
        rate = sheet["link.nvlink.bandwidth"] or sheet["link.pcie.bandwidth"]
        for path in sorted((folder / "kernels" / name).glob("*.parquet")):
            if "allreduce" not in path.name and "nccl" not in path.name:
                continue
            for row in pyarrow.parquet.read_table(path).to_pylist():
                ranks, seconds = float(row["num_gpus"]), 1e-3 * float(row["latency"])
                if ranks > 8:
                    continue
                if "allreduce" in path.name:
                    size = 2.0 * float(row["message_size"])
                    if row["backend"] == "vllm_graph":
                        found.append(("custom", size, ranks, seconds, rate, path.name))
                    elif size <= 32768:
                        eager.append(seconds)
                else:
                    size = float(row["message_size"]) * (2.0 if row["nccl_dtype"] == "half" else 1.0)
                    found.append((row["op_name"], size, ranks, seconds, rate, path.name))
    op, *numbers, version = zip(*found, strict=True)
    return Rows(np.array(op), *[np.array(n) for n in numbers], np.array(version)), np.array(eager)


def model(c: dict[str, float], rows: Rows) -> np.ndarray:
    """Return seconds of each row."""
    links = Links(c)
    custom = custom_seconds(links, rows.size, rows.ranks, rows.rate)
    named = {"alltoall": "all_to_all", "custom": "all_reduce"}
    out = np.zeros(rows.size.size)
    for op in np.unique(rows.op):
        mine = rows.op == op
        out[mine] = library_seconds(
            links, named.get(str(op), str(op)), rows.size[mine], rows.ranks[mine], rows.rate[mine]
        )
    return np.where(rows.op == "custom", np.minimum(custom, out), out)


def fit(rows: Rows) -> dict[str, float]:
    """Return constants that fit rows, robust in the logarithm."""
    names = [n for n in START if n != "nccl.eager"]
    begin = np.array([START[n] if n in LINEAR else np.log(START[n]) for n in names])

    def constants(x: np.ndarray) -> dict[str, float]:
        return {n: float(v) if n in LINEAR else float(np.exp(v)) for n, v in zip(names, x, strict=True)}

    def miss(x: np.ndarray) -> np.ndarray:
        gap = np.log(model(constants(x), rows) / rows.time) / 0.1
        return np.concatenate([np.sign(gap) * np.sqrt(2.0 * (np.sqrt(1.0 + gap**2) - 1.0)), (x - begin) / 2.0])

    return constants(least_squares(miss, begin).x)


def line(ratio: np.ndarray) -> str:
    off = np.abs(ratio - 1.0)
    return f"{100 * np.median(off):5.1f} {100 * off.mean():5.1f} {100 * (np.median(ratio) - 1):+5.1f}"


def told(c: dict[str, float], rows: Rows, title: str) -> None:
    """Print errors by operator and by size."""
    ratio = model(c, rows) / rows.time
    cells = [f"{op}: {line(ratio[rows.op == op])}" for op in np.unique(rows.op)]
    small, large = rows.size <= 262144, rows.size > 8 * 2**20
    cells += [f"<=256K: {line(ratio[small])}", f">8M: {line(ratio[large])}"]
    print(f"  {title:28} all {line(ratio)}   " + "  ".join(cells))


def main() -> None:
    """Run the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    out: dict[str, dict[str, float]] = {}
    print("errors in %: median, mean, bias")
    data = {name: read(args.reference, chips) for name, chips in CLASSES.items()}
    for name, (rows, eager) in data.items():
        sizes = np.unique(rows.size)
        odd = np.isin(rows.size, sizes[1::2])
        newest = rows.version == sorted(set(rows.version[rows.op == "custom"].tolist()))[-1]
        print(name, len(rows.size), "rows")
        told(fit(rows.part(~odd)), rows.part(odd), "every second size left out")
        if (~newest & (rows.op == "custom")).any():
            told(fit(rows.part(~newest)), rows.part(newest), "newest engine left out")
        for ranks in np.unique(rows.ranks):
            mine = rows.ranks == ranks
            if 0 < mine.sum() < mine.size:
                told(fit(rows.part(~mine)), rows.part(mine), f"{ranks:.0f} devices left out")
        out[name] = fit(rows) | {"nccl.eager": float(np.median(eager))}
        told(out[name], rows, "all rows fitted")
        print("   ", {k: float(f"{v:.3g}") for k, v in out[name].items()})
    for name, (rows, _) in data.items():
        others = [c for other, c in out.items() if other != name and other.split("-")[0] == name.split("-")[0]]
        mean = {k: float(np.median([c[k] for c in others])) for k in out[name]}
        told(mean, rows, f"class left out: {name}")
    for kind in ("nvlink", "pcie"):
        mine = [c for name, c in out.items() if name.startswith(kind)]
        out[kind] = {k: float(np.median([c[k] for c in mine])) for k in START}
    if args.write:
        lines = [
            "# How long collectives take inside a node, by class of links. Constants: [value, unit, meaning].",
            "# [nvlink] and [pcie] are medians of their classes, for chips no table speaks of.",
            'source = "fitted to all-reduce and NCCL tables of ten chips (ai-dynamo/aiconfigurator, Apache-2.0) by '
            'scripts/calibrate_collectives.py"',
        ]
        for name, c in out.items():
            lines += ["", f"[{name}]", *[f'{k} = [{c[k]:.4g}, "{MEANING[k][0]}", "{MEANING[k][1]}"]' for k in START]]
        DATA.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tomllib.loads(DATA.read_text())


if __name__ == "__main__":
    main()
