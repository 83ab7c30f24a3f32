"""Fit the constants of image and video generation to measured rows, say how they do on models left out, store them.

    python scripts/calibrate_diffusion.py REFERENCE_DIR [--dry]

REFERENCE_DIR holds serving/diffusion_h100.csv.gz, diffusion_more.csv.gz and diffusion_b200_calibration.csv.gz
(ML.ENERGY leaderboard v3, Apache-2.0), and mlenergy_v2_diffusion.csv.gz (v2: other models, UNets all but one, on A100
and H100), of which nothing is fitted: they say what the constants do on a kind of model they never saw. Every row
counts, and no constant knows a model. The method is that of calibrate_serving.py.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from calibrate_serving import ORIGIN, Array, as_toml
from few_models import widened, wider
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wattline.serving import diffusion_rows as dr
from wattline.serving import engine
from wattline.serving.beside import metrics, reach
from wattline.source.roofline.source import Roofline

DATA = Path(engine.__file__).parent / "data" / "diffusion.toml"

# name -> (prior, spread of its logarithm around the prior, around [common] for a chip of its own, unit, meaning)
PRIOR: Mapping[str, tuple[float, float, float, str, str]] = {
    "time.gemm": (1, 0.05, 0.05, "", "seconds of matrix products in an eager framework over those the source states"),
    "time.attention_prefill": (1.2, 0.2, 0.08, "", "the same of attention, besides its older instructions"),
    "time.elementwise": (1.2, 0.3, 0.08, "", "the same of unfused kernels"),
    "time.collective": (1.2, 0.3, 0.1, "", "the same of communication"),
    "ends.time": (3, 0.5, 0.1, "", "the same of text encoders and autoencoders: convolutions, channels first"),
    "energy.compute": (1, 0.3, 0.1, "", "joules of arithmetic over those the source states"),
    "energy.memory": (1, 0.3, 0.1, "", "the same of main memory, caches and links"),
    "energy.standing": (1, 0.3, 0.1, "", "the same of leakage and clocks"),
    "energy.waiting": (1, 0.3, 0.1, "", "the same of the awake floor"),
    "energy.gemm": (1, 0, 0, "", "joules moved by matrix products, besides the factors above"),
    "energy.attention_prefill": (1, 0.4, 0.1, "", "joules moved by attention, besides the factors above"),
    "energy.elementwise": (1, 0.4, 0.1, "", "the same of unfused kernels"),
    "energy.collective": (1, 0, 0, "", "the same of communication"),
    "host.step": (5e-3, 1.0, 0.2, "s", "host seconds per denoising step"),
    "host.launch": (20e-6, 0.6, 0.15, "s", "host seconds per kernel"),
    "host.exponent": (3, 0, 0, "", "how sharply the longer of device and host time rules"),
    "gap.step": (1e-3, 0.6, 0, "s", "device seconds per denoising step that nothing hides"),
    "gap.kernel": (0.2e-6, 0.8, 0, "s", "device seconds per kernel besides"),
    "gap.meeting": (50e-6, 1.0, 0.2, "s", "device seconds per collective besides: hosts meet before each"),
    "limit.share": (0.98, 0, 0, "", "share of the power limit at which a chip settles"),
}
FITTED = {n: p[1] for n, p in PRIOR.items() if p[1]}
OWN = {n: p[2] for n, p in PRIOR.items() if p[2]}


class Rows:
    """Rows of one chip, made ready once: only constants change while fitting."""

    def __init__(self, paths: Sequence[Path], source: Roofline) -> None:
        lines: list[dict[str, str]] = []
        for path in paths:
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                lines += list(csv.DictReader(stream))
        table = dr.renamed({name: [line[name] for line in lines] for name in lines[0]})
        self.rows = dr.rows_of(table)
        self.work = dr.works(self.rows, source)
        self.measured = {name: np.array([float(v) for v in table[name]]) for name in dr.TARGETS}
        self.labels = {by: np.array([r.groups[by] for r in self.rows]) for by in self.rows[0].groups}

    def errors(self, c: engine.Constants) -> Array:
        """Return (targets, rows) logarithms of predicted over measured."""
        guess = dr.targets_of(self.rows, self.work, c)
        return np.array([np.log(guess[n] / self.measured[n]) for n in dr.TARGETS])


def fit(rows: Rows, start: engine.Constants, spread: Mapping[str, float], keep: NDArray[np.bool_]) -> dict[str, float]:
    """Return constants fitted to the rows of `keep`: soft-L1 residuals, a ridge of `spread` around `start`."""
    names = list(spread)
    center = np.log([start[n] for n in names])
    width = np.array([spread[n] for n in names])

    def residual(x: Array) -> Array:
        errors = rows.errors(dict(start) | dict(zip(names, np.exp(x), strict=True)))
        raw = 8.0 * errors[1:3, keep].ravel()
        return np.concatenate([np.sign(raw) * np.sqrt(2.0 * (np.sqrt(1.0 + raw**2) - 1.0)), (x - center) / width])

    found = least_squares(residual, center, max_nfev=60)
    return dict(start) | dict(zip(names, map(float, np.exp(found.x)), strict=True))


def left_out(rows: Rows, start: engine.Constants, spread: Mapping[str, float]) -> Array:
    """Return errors of every row under constants fitted without the rows of its model."""
    out = np.zeros((len(dr.TARGETS), len(rows.rows)))
    for label in np.unique(rows.labels["model"]):
        mine = rows.labels["model"] == label
        out[:, mine] = rows.errors(fit(rows, start, spread, ~mine))[:, mine]
    return out


def nested(old: Rows, new: Rows, start: engine.Constants) -> Array:
    """Return errors of B200 rows that neither fit saw: their model is left out on B200 and on H100."""
    out = np.zeros((len(dr.TARGETS), len(new.rows)))
    for label in np.unique(new.labels["model"]):
        mine = new.labels["model"] == label
        common = fit(old, start, FITTED, old.labels["model"] != label)
        out[:, mine] = new.errors(fit(new, common, OWN, ~mine))[:, mine]
    return out


def report(title: str, errors: Array, labels: NDArray[np.str_]) -> None:
    """Print median, mean and bias by target, in all and by label, percent."""
    print(f"\n{title}\n{'':28}{'rows':>5}" + "".join(f"{n:>30}" for n in dr.TARGETS))
    groups = {"all": np.ones(labels.size, dtype=bool)} | {str(x): labels == x for x in np.unique(labels)}
    for name, mine in groups.items():
        found = [metrics(np.exp(line[mine]), np.ones(int(mine.sum()))) for line in errors]
        cells = "".join(f"{100 * m['median_ape']:12.1f}{100 * m['mape']:9.1f}{100 * m['bias']:+9.1f}" for m in found)
        print(f"{name[-28:]:28}{mine.sum():5d}{cells}")


def bounds(errors: Array) -> dict[str, list[float]]:
    """Return factors on a prediction that hold nine in ten measurements of a model left out.

    Taken at 98.5 % a side: models differ more than rows of one, as `coverage` measures.
    """
    pairs = np.exp(-np.quantile(errors, [0.985, 0.015], axis=1))
    return {name: [float(pairs[0, i]), float(pairs[1, i])] for i, name in enumerate(dr.TARGETS)}


def coverage(errors: Array, labels: NDArray[np.str_], stretch: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the share of rows inside bounds taken from the rows of all other labels, their logarithms stretched."""
    inside = np.zeros(errors.shape, dtype=bool)
    for label in np.unique(labels):
        mine = labels == label
        for i, (name, (low, high)) in enumerate(bounds(errors[:, ~mine]).items()):
            g = (stretch or {}).get(name, 1.0)
            inside[i, mine] = (g * np.log(low) <= -errors[i, mine]) & (-errors[i, mine] <= g * np.log(high))
    return {name: round(float(share), 3) for name, share in zip(dr.TARGETS, inside.mean(axis=1), strict=True)}


def stretches(errors: Array, labels: NDArray[np.str_]) -> dict[str, float]:
    """Return by target the least factor on the logarithms of bounds with which nine in ten rows of a model whose own
    rows set none lie inside: conformal over models."""
    out = {}
    for name in dr.TARGETS:
        grid = np.arange(1.0, 2.51, 0.05)
        out[name] = next((float(g) for g in grid if coverage(errors, labels, {name: float(g)})[name] >= 0.9), 2.5)
    return out


def stretched(span: Mapping[str, Sequence[float]], stretch: Mapping[str, float]) -> dict[str, list[float]]:
    """Return bounds with their logarithms stretched."""
    return {name: [float(v ** stretch[name]) for v in pair] for name, pair in span.items()}


def write(
    common: Mapping[str, float], own: Mapping[str, float], spans: Mapping[str, Mapping[str, Sequence[float]]],
    known: Mapping[str, Sequence[float | str]], errors: Mapping[str, Array],
) -> None:  # fmt: skip
    """Write the data file."""
    lines = [
        "# How a framework that runs diffusion transformers spends its steps, for every model alike.",
        "# Constants: [value, unit, meaning]. An architecture may state its own; all else is [common].",
        f'source = "fitted to {ORIGIN}, by scripts/calibrate_diffusion.py: [common] to H100 rows, [blackwell] to B200"',
        "",
        "[common]",
        *[f'{n} = [{common[n]:.4g}, "{p[3]}", "{p[4]}"]' for n, p in PRIOR.items()],
        "",
        "[blackwell]",
        *[f'{n} = [{own[n]:.4g}, "{PRIOR[n][3]}", "{PRIOR[n][4]}"]' for n in OWN],
    ]
    lines += ["", "# Factors on a prediction that hold nine in ten measurements of models left out of the fit."]
    for kind, span in spans.items():
        lines += [f"[interval.{kind}]", *[f"{n} = [{a:.3f}, {b:.3f}]" for n, (a, b) in span.items()], ""]
    lines += ["# What the rows cover: a row outside is extrapolated, and its interval wider."]
    lines += ["[reach]", *[f"{n} = {as_toml(v)}" for n, v in known.items()], ""]
    lines += ["# Relative size of errors on models left out of the fit: [median, mean, 68 % quantile]."]
    for kind, table in errors.items():
        lines += [f"[residual.{kind}]", f"rows = {table.shape[1]}"]
        for name, line in zip(dr.TARGETS, table, strict=True):
            m = metrics(np.exp(line), np.ones(line.size))
            deviation = float(np.quantile(np.abs(np.expm1(line)), 0.68))
            lines.append(f"{name} = [{m['median_ape']:.3f}, {m['mape']:.3f}, {deviation:.3f}]")
        lines.append("")
    DATA.write_text("\n".join(lines), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    names = [a for a in arguments if not a.startswith("--")]
    if len(names) != 1:
        raise SystemExit(__doc__)
    folder, source = Path(names[0]) / "serving", Roofline()
    start = dict(engine.NEUTRAL) | {n: float(p[0]) for n, p in PRIOR.items()}
    old = Rows([folder / f"diffusion_{n}.csv.gz" for n in ("h100", "more")], source)
    new = Rows([folder / "diffusion_b200_calibration.csv.gz"], source)
    common = fit(old, start, FITTED, np.ones(len(old.rows), dtype=bool))
    own = fit(new, common, OWN, np.ones(len(new.rows), dtype=bool))
    held, fresh = left_out(old, start, FITTED), nested(old, new, start)
    report("H100, all rows fitted", old.errors(common), old.labels["model"])
    report("H100, model left out", held, old.labels["model"])
    report("the same by GPUs", held, old.labels["num_gpus"])
    report("B200, constants of H100 (GPU left out)", new.errors(common), new.labels["model"])
    report("B200, all rows fitted", new.errors(own), new.labels["model"])
    report("B200, model left out, on H100 too", fresh, new.labels["model"])
    for name, prior in PRIOR.items():
        if prior[1]:
            print(f"{name:28}{common[name]:12.4g}   prior {prior[0]:g}   blackwell {own[name]:.4g}")
    mine, theirs = new.labels["model"], old.labels["model"]
    span, shares = widened(fresh, mine, mine, held, theirs, bounds)
    stretch = stretches(held, theirs)
    print("stretch of intervals, H100 models:", stretch)
    print("coverage of 90 % intervals, H100 models:", coverage(held, theirs, stretch))
    print("coverage of 90 % intervals, B200 models:", {name: round(share, 3) for name, share in shares.items()})
    unseen(folder / "mlenergy_v2_diffusion.csv.gz")
    if "--dry" not in arguments:
        spans = {
            "hopper": stretched(bounds(held), stretch),
            "blackwell": span,
            "other": stretched(wider(bounds(new.errors(common)), bounds(held)), stretch),
        }
        found = {"hopper": held, "blackwell": fresh, "other": np.hstack([new.errors(common), held])}
        write(common, own, spans, reach([*old.rows, *new.rows]), found)


def unseen(path: Path) -> None:
    """Print errors and coverage on a table of which nothing was fitted, under the constants and intervals that ship."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    told = dr.validate({name: [line[name] for line in lines] for name in lines[0]}, Roofline())
    print("\nnever fitted, as shipped before this run: " + path.name)
    for label, group in {"all": told, **told["groups"]["model"]}.items():
        cells = [f"{n} {100 * m['median_ape']:.1f} ({100 * m['bias']:+.1f})" for n, m in group["metrics"].items()]
        print(f"  {label:28}{group['rows']:5d}  " + ", ".join(cells))
    print("  coverage:", {n: round(m["coverage_90"], 3) for n, m in told["metrics"].items()})


if __name__ == "__main__":
    main(sys.argv[1:])
