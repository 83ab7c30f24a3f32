"""Fit what engines' constants are over those of vLLM 0.11 to public closed-loop results, and store the factors.

    python scripts/calibrate_engines.py REFERENCE_DIR [--dry]

REFERENCE_DIR/serving/inferencemax.csv.gz holds public InferenceMAX results (vLLM, SGLang, TensorRT-LLM; figures
only). Five factors an engine and three constants of its first token, each held to those common to all engines, so
that an engine left out has a prediction: the common ones. Errors are told with the engine and with the chip left out.
Run it after calibrate_serving.py.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from calibrate_serving import Array, as_toml
from old_engine import report as old_engine
from scipy.optimize import least_squares

from wattline.core.errors import InputError
from wattline.serving import closed_loop as loop
from wattline.serving import engine
from wattline.serving.beside import metrics, reach
from wattline.serving.conformal import HELD
from wattline.source.roofline.source import Roofline

DATA = Path(engine.__file__).parent / "data" / "engine_factors.toml"
# name -> (prior, spread of its logarithm, an engine's own spread around the common one, unit, meaning).
PRIOR: Mapping[str, tuple[float, float, float, str, str]] = {
    "host": (0.6, 0.4, 0.3, "", "host seconds over those of vLLM 0.11"),
    "sampler": (0.2, 0.5, 0.1, "", "passes over the logits likewise: greedy requests need no sort"),
    "experts": (1.0, 0.15, 0.1, "", "seconds of products of experts likewise"),
    "gaps": (1.0, 0.3, 0.3, "", "seconds between kernels likewise"),
    "elementwise": (0.9, 0.2, 0.1, "", "seconds of kernels bound by memory likewise"),
    "first_request": (0.03, 0.7, 0.3, "s", "seconds until the first token besides steps: HTTP, tokeniser, first flush"),
    "first_token": (3e-6, 0.5, 0.2, "s", "the same per prompt token: text received and tokenised"),
    "first_prefill": (1.0, 0.3, 0.15, "", "seconds of a prompt's own steps over those it adds to the mean step"),
}
# These engines hide the host behind the device: overlap schedulers without a gap.
OVERLAP = 4.0
WEIGHTS = (8.0, 4.0, 0.0)
# Sections of platforms other than CUDA, and how much further these lie from the common factors than engines do.
PLATFORMS, OTHER = ("rocm",), 5.0


def base(architecture: str) -> dict[str, float]:
    """Return what factors multiply: an architecture's constants with the common host."""
    common = engine.constants()
    return {n: common[n] if n.startswith("host.") else v for n, v in engine.constants(architecture).items()}


class Rows:
    """Rows that the catalog knows, made ready once."""

    def __init__(self, path: Path) -> None:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        source = Roofline()
        self.rows, self.skipped = list[loop.Row](), 0
        measured: list[list[float]] = []
        for i, line in enumerate(lines):
            try:
                self.rows.append(loop.row_of(line, i))
            except InputError:
                self.skipped += 1
                continue
            measured.append([float(line[name]) for name in loop.TARGETS])
        self.measured = np.array(measured)
        alike = [loop.like(row) for row in self.rows]
        self.kinds = [np.array([i for i, k in enumerate(alike) if k == kind]) for kind in dict.fromkeys(alike)]
        self.work = [loop.works([self.rows[i] for i in kind], source) for kind in self.kinds]
        self.engine = np.array([loop.like(row)[1] for row in self.rows])
        self.chip = np.array([row.device.chip.name for row in self.rows])

    def errors(self, factors: Mapping[str, Mapping[str, float]], keep: Array | None = None) -> Array:
        """Return (rows, targets) logarithms of predicted over measured, NaN where not kept."""
        out = np.full((len(self.rows), len(loop.TARGETS)), np.nan)
        for kind, work in zip(self.kinds, self.work, strict=True):
            some = [self.rows[i] for i in kind]
            mine = factors.get(loop.like(some[0])[1], factors["common"])
            if keep is None or keep[kind].any():
                # Any engine with a host of its own: factors are over the common host.
                c = engine.scaled(base(some[0].architecture), {**mine, "overlap": OVERLAP})
                c = some[0].replica.launched(c, some[0].device)
                out[kind] = np.log(loop.targets_of(some, work, c) / self.measured[kind])
        return out


def fit(rows: Rows, keep: Array) -> dict[str, dict[str, float]]:
    """Return factors by engine and "common", fitted to the rows of `keep`."""
    names, engines = list(PRIOR), sorted(set(rows.engine[keep].tolist()))
    center = np.log([PRIOR[n][0] for n in names])
    width, apart = (np.array([PRIOR[n][i] for n in names]) for i in (1, 2))
    count = len(names)
    # Another vendor's platform: its launches say nothing of CUDA's, nor those of its.
    free = np.concatenate([apart * (OTHER if name in PLATFORMS else 1.0) for name in engines])

    def factors(x: Array) -> dict[str, dict[str, float]]:
        out = {"common": dict(zip(names, np.exp(x[:count]).tolist(), strict=True))}
        for i, name in enumerate(engines):
            own = x[:count] + x[count * (i + 1) : count * (i + 2)]
            out[name] = dict(zip(names, np.exp(own).tolist(), strict=True))
        return out

    def residual(x: Array) -> Array:
        raw = (rows.errors(factors(x), keep)[keep] * WEIGHTS).ravel()
        soft = np.sign(raw) * np.sqrt(2.0 * (np.sqrt(1.0 + raw**2) - 1.0))
        return np.concatenate([soft, (x[:count] - center) / width, x[count:] / free])

    start = np.concatenate([center, np.zeros(count * len(engines))])
    return factors(least_squares(residual, start, max_nfev=6).x)


def left_out(rows: Rows, label: Array) -> Array:
    """Return errors of every row under factors fitted without the rows that share its label."""
    out = np.zeros((len(rows.rows), len(loop.TARGETS)))
    for name in np.unique(label):
        mine = label == name
        found = fit(rows, ~mine)
        if label is rows.engine:
            found.pop(str(name), None)
        out[mine] = rows.errors(found, mine)[mine]
    return out


def report(title: str, rows: Rows, errors: Array) -> None:
    """Print errors by chip and engine as a table of Markdown: median (bias)."""
    print(f"\n{title}\n\n| chip | engine | rows | " + " | ".join(loop.TARGETS) + " |\n" + "| --- " * 6 + "|")
    pairs = sorted(set(zip(rows.chip.tolist(), rows.engine.tolist(), strict=True)))
    for chip, name in [*pairs, ("all", "all")]:
        mine = (rows.chip == chip) & (rows.engine == name) if chip != "all" else np.ones(len(rows.rows), dtype=bool)
        cells = [metrics(np.exp(line[mine]), np.ones(int(mine.sum()))) for line in errors.T]
        told = " | ".join(f"{100 * m['median_ape']:.1f} ({100 * m['bias']:+.1f})" for m in cells)
        print(f"| {chip} | {name} | {mine.sum()} | {told} |")


def spans(errors: Array) -> dict[str, list[float]]:
    """Return factors that hold nine in ten rows."""
    ends = np.quantile(-errors, [(1 - HELD) / 2, (1 + HELD) / 2], axis=0)
    return {
        n: [float(np.exp(min(a, -0.01))), float(np.exp(max(b, 0.01)))]
        for n, a, b in zip(loop.TARGETS, *ends, strict=True)
    }


def nested(errors: Array, label: Array) -> None:
    """Print what share of rows of a label intervals hold that were chosen on the other labels' errors left out."""
    print("\n| left out | rows | " + " | ".join(loop.TARGETS) + " |\n" + "| --- " * 5 + "|")
    for name in np.unique(label):
        mine = label == name
        ends = spans(errors[~mine])
        held = [
            100 * np.mean((np.log(ends[t][0]) <= -e) & (-e <= np.log(ends[t][1])))
            for t, e in zip(loop.TARGETS, errors[mine].T, strict=True)
        ]
        print(f"| {name} | {mine.sum()} | " + " | ".join(f"{x:.0f}" for x in held) + " |")


def write(
    rows: Rows, found: Mapping[str, Mapping[str, float]], old: Mapping[str, float], fitted: Array, chips: Array,
    engines: Array,
) -> None:  # fmt: skip
    """Write the data file."""
    lines = [
        "# What an engine's constants are over those of vLLM 0.11 (serving.toml), and a request's first token.",
        'source = "fitted to public InferenceMAX results (figures only), by scripts/calibrate_engines.py"',
        "",
        "# The first token of an engine without a section of its own.",
        "[common]",
        *[_line(n, found["common"]) for n in PRIOR if n.startswith("first_")],
    ]
    for name in sorted(set(found) - {"common"}):
        lines += ["", f"[{name}]", f'overlap = [{OVERLAP:g}, "", "how sharply the longer of device and host rules"]']
        lines += [_line(n, found[name]) for n in PRIOR]
    lines += ["", "# Fitted to ML.ENERGY leaderboard v2 (Apache-2.0), whole runs on A100 and H100.", "[vllm-old]"]
    lines += [_line(n, old) for n in old]
    lines += ["", "# Factors that hold nine in ten measurements, of chips left out of the fit and of engines left out."]
    # Chips left out tell of chips unlike any, engines left out of engines unlike any: the wider of both for either.
    both = np.concatenate([chips, engines])
    for kind, span in (("hopper", spans(both)), ("blackwell", spans(both)), ("other", spans(both))):
        lines += [f"[interval.{kind}]", *[f"{n} = [{v[0]:.3f}, {v[1]:.3f}]" for n, v in span.items()], ""]
    lines += ["[reach]", *[f"{n} = {as_toml(v)}" for n, v in reach(rows.rows).items()], ""]
    lines += [f"# [median] relative error of {', '.join(loop.TARGETS)}, all rows.", "[median_error]"]
    for kind, e in (("fitted", fitted), ("chip_left_out", chips), ("engine_left_out", engines)):
        lines.append(f"{kind} = [{', '.join(f'{x:.3f}' for x in np.median(np.abs(np.expm1(e)), axis=0))}]")
    lines.append("")
    DATA.write_text("\n".join(lines), encoding="utf-8")


def _line(name: str, table: Mapping[str, float]) -> str:
    unit, meaning = PRIOR[name][3:]
    return f'{name} = [{table[name]:.4g}, "{unit}", "{meaning}"]'


def main(arguments: Sequence[str]) -> None:
    names = [a for a in arguments if not a.startswith("--")]
    if len(names) != 1:
        raise SystemExit(__doc__)
    rows = Rows(Path(names[0]) / "serving" / "inferencemax.csv.gz")
    if rows.skipped:
        print(f"{rows.skipped} rows name a chip or model the catalog lacks")
    found = fit(rows, np.ones(len(rows.rows), dtype=bool))
    for name, table in found.items():
        print(name, {n: float(f"{v:.3g}") for n, v in table.items()})
    fitted = rows.errors(found)
    report("All rows fitted", rows, fitted)
    chips, engines = left_out(rows, rows.chip), left_out(rows, rows.engine)
    report("Chip left out", rows, chips)
    report("Engine left out", rows, engines)
    print("\nRows that 90 % intervals hold, percent; nothing of the engine is in its intervals")
    nested(engines, rows.engine)
    old = old_engine(Path(names[0]) / "serving" / "mlenergy_v2_llm.csv.gz")
    if "--dry" not in arguments:
        write(rows, found, old, fitted, chips, engines)


if __name__ == "__main__":
    main(sys.argv[1:])
