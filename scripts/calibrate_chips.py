"""Fit how fast kernels run on chips that have tables of times but no power, say how they do on shapes left out.

    python scripts/calibrate_chips.py REFERENCE [--write]

REFERENCE holds ``kernels/`` (ai-dynamo/aiconfigurator, Apache-2.0). Six facts of a chip move within the beliefs that
`source.measured.calibrate` holds for a user's own rows: efficiency of products, memory, starts, prefill and decode
attention, and the last cache level's bandwidth. Only 16-bit kernels of the newest vLLM are used: what an engine adds
around narrower ones is its own (see calibrate_kernels.py). Plans use these facts.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from calibrate_kernels import SEED, line, read

import wattline.hardware as hardware_room
from wattline.hardware.catalog import chip as find_chip
from wattline.hardware.facts import Fact, Sheet
from wattline.source.measured.calibrate import PRIORS, gauss_newton, predict_rows

FOLDERS = {"l40s": ("l40s", "vllm_0.24.0"), "rtx-pro-6000": ("rtx_pro_6000_server", "vllm_0.24.0")}
OPS = ("gemm", "moe", "context_attention", "generation_attention")
MOVED = ("fit.compute", "fit.memory", "fit.latency", "fit.prefill", "fit.decode", "memory.l2.bandwidth")
EACH = 400  # rows of an operator
SOURCE = "fitted to vLLM 0.24 kernel times by scripts/calibrate_chips.py (ai-dynamo/aiconfigurator, Apache-2.0)"


def rows_of(folder: Path, name: str) -> list[dict[str, np.ndarray]]:
    """Return 16-bit rows of each operator."""
    place, engine = FOLDERS[name]
    out = []
    for op in OPS:
        rows = read(folder / "kernels" / place / f"{engine}_{op}_perf.parquet")
        dtype = {"gemm": "gemm_dtype", "moe": "moe_dtype"}.get(op, "kv_cache_dtype")
        keep = rows[dtype] == "bfloat16"
        if "attention" in op:
            keep &= np.char.find(rows["kernel_source"].astype(str), "triton") < 0
        pick = np.random.default_rng(SEED).permutation(np.flatnonzero(keep))[:EACH]
        out.append({k: v[pick] for k, v in rows.items() if k not in ("framework", "version")})
    return out


def moved(sheet: Sheet, x: np.ndarray) -> Sheet:
    """Return the chip with its facts times exp(x)."""
    start = {n: sheet.get(n, 1.0) for n in MOVED}
    facts = {n: Fact(float(start[n] * np.exp(v)), sheet.facts[n].unit if n in sheet.facts else "", SOURCE)
             for n, v in zip(MOVED, x, strict=True)}  # fmt: skip
    return Sheet(**{**vars_of(sheet), "facts": {**sheet.facts, **facts}})


def vars_of(sheet: Sheet) -> Mapping[str, object]:
    return {name: getattr(sheet, name) for name in sheet.__dataclass_fields__}


def logs(parts: list[dict[str, np.ndarray]], sheet: Sheet) -> np.ndarray:
    """Return logarithms of predicted over measured time."""
    return np.concatenate([np.log(predict_rows(p, sheet, meter=False).time / (1e-3 * p["latency"])) for p in parts])


def fit(parts: list[dict[str, np.ndarray]], sheet: Sheet) -> np.ndarray:
    """Return logarithms of how far the facts move."""
    width = np.array([{**PRIORS, "fit.decode": 0.5, "fit.prefill": 0.5}[n] for n in MOVED])
    count = sum(len(p["latency"]) for p in parts)
    balance = np.sqrt(min(1.0, 400.0 / count))
    return gauss_newton(lambda x: logs(parts, moved(sheet, x)) / 0.08, np.zeros(count), width, balance, width.size)


def main() -> None:
    """Run the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    for name in FOLDERS:
        sheet, parts = find_chip(name), rows_of(args.reference, name)
        held = [np.random.default_rng(1).random(len(p["latency"])) < 0.3 for p in parts]
        train = [{k: v[~h] for k, v in p.items()} for p, h in zip(parts, held, strict=True)]
        test = [{k: v[h] for k, v in p.items()} for p, h in zip(parts, held, strict=True)]
        print(f"{name}: time of shapes left out, median, mean, bias in %")
        fitted = moved(sheet, fit(train, sheet))
        for op, part in zip(OPS, test, strict=True):
            print(f"  {op:22} datasheet {line(logs([part], sheet)[None])}   fitted {line(logs([part], fitted)[None])}")
        found = moved(sheet, fit(parts, sheet))
        lines = {n: found[n] for n in MOVED}
        print("  ", {n: float(f"{v:.4g}") for n, v in lines.items()})
        if args.write:
            path = Path(hardware_room.__file__).parent / "data" / "chips" / f"{name}.toml"
            text = path.read_text()
            for fact, value in lines.items():
                shown = f"{value / 1e12:.3g} TB/s" if fact.startswith("memory") else f"{value:.3g}"
                entry = f'{fact} = ["{shown}", "{SOURCE}", "20 %"]'
                text, count = re.subn(rf"^{re.escape(fact)} = .*$", lambda _, e=entry: e, text, flags=re.M)
                text = text if count else text.rstrip("\n") + f"\n{entry}\n"
            path.write_text(text)


if __name__ == "__main__":
    main()
