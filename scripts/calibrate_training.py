"""Fit what steps of training cost beside kernels benchmarked alone, print residuals, write the constants.

    python scripts/calibrate_training.py REFERENCE [--write]

Four shares and a time, none of which names a model, and the energy of a 16-bit operation of the A100:
fitted by Gauss-Newton with priors to published iteration times (rows marked `fit` of
training/data/published_training.csv, those the reference table marks as checked) and to the stage profile
of GPT-3 over clocks in ``pipeline/`` (Perseus artifact of ml-energy/zeus). Errors are quoted on the
fitted rows and leaving one model out.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from wattline.hardware import catalog
from wattline.source.base import Array, Device
from wattline.source.roofline import silicon
from wattline.source.roofline.source import Roofline
from wattline.training import validate_training as training
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel
from wattline.workload.train import stage_operators

ROOT = Path(__file__).parent.parent / "src" / "wattline"
SOURCE = Roofline(sustained=True)


@dataclass(frozen=True)
class Constant:
    """`prior` and its standard deviation, and hard bounds."""

    name: str
    prior: float
    spread: float
    low: float
    high: float


CONSTANTS = (
    # Large products of random operands keep 240 to 280 of the 293 TFLOP/s of a benchmark on an A100.
    Constant("products.share", 0.90, 0.05, 0.75, 1.0),
    # calculon (Isaev et al., SC 2023) uses 65 % of an A100's NVLink rate, nccl-tests reach 75 % to 80 %.
    Constant("collectives.share", 0.88, 0.06, 0.70, 1.0),
    # A large copy reaches 0.9 of peak; kernels with masks and reductions 0.7 to 0.85.
    Constant("elementwise.share", 0.88, 0.06, 0.70, 1.0),
    # A few synchronisations of 1 ms to 10 ms each, and the loader.
    Constant("host.iteration", 0.03, 0.02, 0.0, 0.1),
    # Between a datasheet's 400 W over 293 TFLOP/s, all counted, and half of it.
    Constant("energy", 1.0, 0.2, 0.6, 1.4),
)
# How far a row may lie from the model, relative: a published time; a profiled stage.
ROW, STAGE = 0.03, 0.08
# The stage profile: clocks below the board's limit, MHz. Times match eight tensor ranks and a
# microbatch of eight at every clock (the artifact states times at a tenth).
CLOCKS, RANKS, MICROBATCH, SCALE = (1005, 1095, 1200, 1275), 8, 8, 10.0


DOCUMENT = """
# Training: predicted and published

How well does Wattline predict published training runs? Compare your own runs in the same way with

    wattline validate training RUNS.csv

`scripts/calibrate_training.py REFERENCE --docs` fits the constants and writes this page. An iteration consists of the
operators of every stage, tensor-parallel collectives, messages between stages, the pipeline bubble, the exchange of
gradients, the optimizer and a wait for the host. Products keep less of their benchmarked rate inside a step than
alone, and a chip at its power limit lowers its clock: an A100 limited to 400 W runs the products of GPT-3 near 1.3
GHz. No constant belongs to a model, and no row was dropped.
"""

OPEN = """
## Open rows, never fitted

{count} throughputs that trainers publish with their whole set-up (`training/data/open_training.csv`):

    wattline validate training src/wattline/training/data/open_training.csv

No constant was fitted to them. The terms below were added after looking at these rows; their values come from the
source named.

FlashAttention-1 takes 1.8 times as long as 2, and on Hopper 2 takes 1.65 times as long as 3 (arXiv 2307.08691,
2407.08608). `recompute = "operator"` repeats everything but attention and every second product; `kernels = "eager"`
makes 1.5 to 4 passes for one (torchtitan, Llama). `zero = 3` gathers every layer (PyTorch FSDP; DeepSeek-V3 report,
3.2.2), ranks that share a node leave by their own adapters (NCCL), and a launch takes 5 us.
"""

NEVER = """
Every row's source and what had to be assumed about it are in `training/data/published_training.csv`; several figures
are recalled from their papers and not verified, which is said there.
"""
AFTER = """
## Limits

Mixtures of experts on x86 hosts run at half the predicted rate or less (Qwen3-30B and gpt-oss-120b on H100 and B200);
with CUDA graphs on GB200, DeepSeek-V3 and Qwen3-235B run a fifth faster than predicted. So times of models with experts
are told ± 40 % (the spread of these 11 rows; set from either half it holds 10 of the 11 of the other halves).
Context parallelism over 4
and 8 ranks is predicted 65 to 74 % too fast, a 405B pipeline in torchtitan 30 to 50 %, and a 30B model that fills its
eight GPUs 25 %. Adapters on sequences of up to 512 tokens wait for Python a fifth to two thirds of the time; from
4,096 tokens on they are within 16 %, and their memory within 15 % at every length. Whole runs that state no goodput
(BLOOM, Llama 2) stay 8 to 24 % below their GPU-hours; those that state it are within 5 %. The card of Llama-3.1-8B
counts more than twice the hours that its tokens take at any published rate.
"""


def use(values: Array) -> None:
    """Set the constants that the model reads."""
    for constant, value in zip(CONSTANTS, values, strict=True):
        group, _, key = constant.name.partition(".")
        if group == "host":
            cast("dict[str, float]", training.constants())[constant.name] = float(value)
        elif group != "energy":
            silicon.training()["common"][group][key][0] = float(value)


def chip_with(energy: float, limit: str = "") -> Any:
    """Return the A100 with `energy` pJ per 16-bit operation."""
    changes = {f"compute.energy.{p}": f"{energy} pJ/FLOP" for p in ("bf16", "fp16")}
    return catalog.chip("a100-sxm-80gb").with_({**changes, **({"power.limit": limit} if limit else {})}, source="fit")


def rows() -> list[Mapping[str, str]]:
    """Return the published rows that count."""
    return [row for row in training.published() if row["fit"] == "yes"]


def row_errors(values: Array) -> Array:
    """Return the logarithm of predicted over published time of each row."""
    use(values)
    chip, out = chip_with(float(values[-1])), []
    for row in rows():
        r = training.published_run(row)
        job = replace(r.job, host_time=float(values[-2]))
        guess = training.predict_run(replace(r, job=job, cluster=replace(r.cluster, chip=chip)), SOURCE)
        ratio = np.log(guess / r.measured)
        out.append(-ratio if r.target.startswith("tflops") else ratio)
    return np.array(out)


def stage_errors(values: Array, folder: Path) -> tuple[Array, Array]:
    """Return the logarithm of predicted over measured time and energy, forward and backward, over clocks."""
    use(values)
    with (folder / "gpt3-175b+a100_sxm_bf16.csv").open() as stream:
        table = {(r["instruction"], int(r["frequency"])): r for r in csv.DictReader(stream) if r["stage"] == "1"}
    chip = chip_with(float(values[-1]), "500 W")
    device, clocks = Device(chip, catalog.default_node(chip)), np.array(CLOCKS) * 1e6
    layout = Parallel(tensor=RANKS, pipeline=8, node=8)
    time, energy = [], []
    for what in ("forward", "backward"):
        operators = stage_operators(
            model("gpt3-175b"), layout, 2048, MICROBATCH, "bf16", "none", 1, what,
            flash=False, dropout=True, fused_linear=False,
        )  # fmt: skip
        points = SOURCE.points([o for o in operators if o.name != "pipeline_send"], device, clocks)
        measured = np.array([[SCALE * float(table[what, c][key]) for c in CLOCKS] for key in ("time", "energy")])
        time.append(np.log(points.time / measured[0]))
        energy.append(np.log(points.energy / measured[1]))
    return np.concatenate(time), np.concatenate(energy)


def residuals(values: Array, folder: Path) -> Array:
    """Return all residuals in units of their spread: rows, stage times, stage energies, priors."""
    time, energy = stage_errors(values, folder)
    prior = [(v - c.prior) / c.spread for v, c in zip(values, CONSTANTS, strict=True)]
    count = np.sqrt(len(CLOCKS))  # clocks of one stage are not independent
    return np.concatenate([row_errors(values) / ROW, time / STAGE / count, energy / STAGE / count, prior])


def fit(folder: Path, steps: int = 3) -> tuple[Array, Array, Array]:
    """Return the constants, residuals there and their derivatives."""
    values = np.array([c.prior for c in CONSTANTS])
    low, high = np.array([[c.low, c.high] for c in CONSTANTS]).T
    for _ in range(steps):
        here = residuals(values, folder)
        slope = derivatives(values, here, folder)
        values = np.clip(values - np.linalg.lstsq(slope, here, rcond=None)[0], low, high)
        print("  ", *[f"{c.name} {v:.4f}" for c, v in zip(CONSTANTS, values, strict=True)], f"cost {here @ here:.1f}")
    here = residuals(values, folder)
    return values, here, derivatives(values, here, folder)


def derivatives(values: Array, here: Array, folder: Path) -> Array:
    """Return d residual / d constant by forward differences."""
    columns = []
    for i, constant in enumerate(CONSTANTS):
        moved = values.copy()
        moved[i] += 0.1 * constant.spread
        columns.append((residuals(moved, folder) - here) / (0.1 * constant.spread))
    return np.array(columns).T


def leave_one_out(values: Array, here: Array, slope: Array) -> Array:
    """Return the errors of each row from constants fitted without its model."""
    table = rows()
    names = np.array([row["model"] for row in table])
    low, high = np.array([[c.low, c.high] for c in CONSTANTS]).T
    out = np.empty(len(table))
    for name in dict.fromkeys(names.tolist()):
        keep = np.ones(len(here), dtype=bool)
        keep[: len(table)] = names != name
        step = np.linalg.lstsq(slope[keep], here[keep], rcond=None)[0]
        out[names == name] = row_errors(np.clip(values - step, low, high))[names == name]
    return out


def document(values: Array, errors: Array, outside: Array) -> None:
    """Write docs/validation-training.md."""
    use(values)
    lines = [DOCUMENT.strip(), "", "| Constant | Value | Prior | Bounds |", "| --- | --- | --- | --- |"]
    for c, value in zip(CONSTANTS, values, strict=True):
        name = "energy per 16-bit operation, A100 (pJ)" if c.name == "energy" else f"`{c.name}`"
        lines.append(f"| {name} | {value:.3g} | {c.prior:g} ± {c.spread:g} | {c.low:g} to {c.high:g} |")
    lines += [
        "",
        "## Fitted rows",
        "",
        'Errors of the iteration\'s time; "left out": constants fitted without that model.',
        "",
    ]
    lines += ["| Run, GPUs, recomputation | Published | Fit | Left out |", "| --- | --- | --- | --- |"]
    for row, error, out in zip(rows(), errors, outside, strict=True):
        what = f"| {row['names'].split(';')[0]}, {row['devices']}, {row['recompute']} | {row['value']} {row['unit']} "
        lines.append(f"{what}| {100 * np.expm1(error):+.1f} % | {100 * np.expm1(out):+.1f} % |")
    for name, e in (("Fit", errors), ("Leave one model out", outside)):
        size = 100 * np.abs(np.expm1(e))
        lines += ["", f"{name}: mean {size.mean():.2f} %, worst {size.max():.1f} %."]
    lines += ["", "## Rows never fitted", "", *NEVER.strip().splitlines(), ""]
    lines += ["| Run, GPUs | Figure | Published | Predicted | Error |", "| --- | --- | --- | --- | --- |"]
    for row in training.published():
        if row["fit"] == "yes" or (row["paper"] == "2104.04473" and row["metric"] == "days"):
            continue
        r = training.published_run(row)
        guess = training.predict_run(r, SOURCE)
        lines.append(
            f"| {row['names'].split(';')[0]}, {row['devices']} | {row['metric']} | {float(row['value']):.6g} "
            f"| {guess:.4g} | {100 * (guess / r.measured - 1):+.1f} % |"
        )
    lines += open_rows()
    path = ROOT.parent.parent / "docs" / "validation-training.md"
    path.write_text("\n".join([*lines, ""]), "utf-8")


def open_rows() -> list[str]:
    """Return the section on published throughputs that state their set-up, by software, chip and precision."""
    path = ROOT / "training" / "data" / "open_training.csv"
    table = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    found = training.validate(table, SOURCE)
    errors: dict[tuple[str, str, str], list[float]] = {}
    kept = {r["row_id"]: r for r in table}
    for p in found["predictions"]:
        row = kept[p["row_id"]]
        what = f"{row['adapter']} {row['base']}" if row["adapter"] else row["precision"]
        key = (row["source"].split("/")[1].split(" ")[0], row["hardware"], what)
        both = [("all", "", "")] + ([] if row["adapter"] else [("all but adapters", "", "")])
        for name in (key, *both):
            errors.setdefault(name, []).append(p["relative_error"])
    lines = ["", *OPEN.strip().format(count=len(table)).splitlines(), ""]
    lines += ["| Software, chip, products | Rows | Median, 90th percentile | Bias |", "| --- " * 4 + "|"]
    for (software, chip, precision), values in sorted(
        errors.items(), key=lambda item: (not item[0][0].startswith("all"), item[0])
    ):
        e = 100 * np.array(values)
        size = f"{np.median(abs(e)):.1f}, {np.quantile(abs(e), 0.9):.1f} %"
        name = ", ".join(filter(None, (software, chip, precision)))
        lines.append(f"| {name} | {len(e)} | {size} | {np.median(e):+.1f} % |")
    every = found["metrics"]["all"]
    lines += [
        "",
        f"90 % intervals hold {100 * every['coverage']:.0f} % of the rows; target: median 8 %, 90th percentile 20 %.",
    ]
    if found["refused"]:
        lines.append(f"{len(found['refused'])} rows are not predicted: {found['refused'][0]['reason']}.")
    return [*lines, *AFTER.rstrip().splitlines()]


def report(title: str, errors: Array) -> None:
    size = 100 * np.abs(np.expm1(errors))
    print(f"{title}: mean {size.mean():.2f} %, worst {size.max():.1f} %, bias {100 * np.expm1(errors).mean():+.1f} %")


def write(values: Array, spread: float) -> None:
    """Rewrite the constants in place."""
    for constant, value in zip(CONSTANTS, values, strict=True):
        if constant.name != "energy":
            folder = "training" if constant.name.startswith("host") else "source/roofline"
            _replace(ROOT / folder / "data" / "training.toml", constant.name, f"{value:.4g}")
    _replace(ROOT / "training" / "data" / "training.toml", "spread.fitted", f"{spread:.3g}")
    said = (
        '"fitted by scripts/calibrate_training.py to the energy of a GPT-3 175B stage over clocks '
        '(Perseus artifact, SOSP 2024, ml-energy/zeus, Apache-2.0)", "15 %"'
    )
    for chip in ("a100-sxm-80gb", "a100-sxm-40gb"):
        path = ROOT / "hardware" / "data" / "chips" / f"{chip}.toml"
        text = path.read_text("utf-8")
        for precision in ("fp16", "bf16"):
            line = f'compute.energy.{precision} = ["{values[-1]:.3g} pJ/FLOP", {said}]'
            text = re.sub(rf"^compute\.energy\.{precision} = .*$", line, text, flags=re.M)
        path.write_text(text, "utf-8")


def _replace(path: Path, key: str, value: str) -> None:
    text = path.read_text("utf-8")
    path.write_text(re.sub(rf"^({re.escape(key)} = \[)[^,]+", rf"\g<1>{value}", text, flags=re.M), "utf-8")


def main() -> None:
    """Fit, report, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="directory that holds pipeline/")
    parser.add_argument("--docs", action="store_true", help="write docs/validation-training.md")
    parser.add_argument("--write", action="store_true", help="write training.toml and the A100's energy")
    args = parser.parse_args()
    folder = args.reference / "pipeline"
    values, here, slope = fit(folder)
    errors = row_errors(values)
    outside = leave_one_out(values, here, slope)
    for row, error, out in zip(rows(), errors, outside, strict=True):
        what = (
            f"{row['names'].split(';')[0]:14s} {row['devices']:>5s} devices {row['recompute']:9s} {row['metric']:16s}"
        )
        print(f"{what} {row['value']:>7s}  fit {100 * np.expm1(error):+5.1f} %  left out {100 * np.expm1(out):+5.1f} %")
    report("fit, time", errors)
    report("leave one model out, time", outside)
    for paper in ("2205.05198", "2104.04473"):
        mine = np.array([row["paper"] == paper for row in rows()])
        report(f"  arXiv {paper}, fit", errors[mine])
        report(f"  arXiv {paper}, left out", outside[mine])
    time, energy = stage_errors(values, folder)
    report("stage profile, time", time)
    report("stage profile, energy", energy)
    if args.docs:
        document(values, errors, outside)
    if args.write:
        write(values, float(np.sqrt(np.mean(outside**2))))


if __name__ == "__main__":
    main()
