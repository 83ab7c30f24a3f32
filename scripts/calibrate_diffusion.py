"""Fit the constants of image and video generation to measured rows, say how they do on models left out, store them.

    python scripts/calibrate_diffusion.py REFERENCE_DIR [--dry]

REFERENCE_DIR holds serving/diffusion_h100.csv.gz and serving/diffusion_b200_calibration.csv.gz (ML.ENERGY
leaderboard v3, Apache-2.0). Every row counts, and no constant knows a model. The method is that of
calibrate_serving.py.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from calibrate_serving import ORIGIN, Array, as_toml, widened, wider
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

    def __init__(self, path: Path, source: Roofline) -> None:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
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


def coverage(errors: Array, labels: NDArray[np.str_]) -> dict[str, float]:
    """Return the share of rows inside bounds taken from the rows of all other labels."""
    inside = np.zeros(errors.shape, dtype=bool)
    for label in np.unique(labels):
        mine = labels == label
        for i, (low, high) in enumerate(bounds(errors[:, ~mine]).values()):
            inside[i, mine] = (np.log(low) <= -errors[i, mine]) & (-errors[i, mine] <= np.log(high))
    return {name: round(float(share), 3) for name, share in zip(dr.TARGETS, inside.mean(axis=1), strict=True)}


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
    old, new = (Rows(folder / f"diffusion_{n}.csv.gz", source) for n in ("h100", "b200_calibration"))
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
    print("coverage of 90 % intervals, H100 models:", coverage(held, theirs))
    print("coverage of 90 % intervals, B200 models:", {name: round(share, 3) for name, share in shares.items()})
    if "--dry" not in arguments:
        spans = {
            "hopper": bounds(held),
            "blackwell": span,
            "other": wider(bounds(new.errors(common)), bounds(held)),
        }
        found = {"hopper": held, "blackwell": fresh, "other": np.hstack([new.errors(common), held])}
        write(common, own, spans, reach([*old.rows, *new.rows]), found)


if __name__ == "__main__":
    main(sys.argv[1:])
