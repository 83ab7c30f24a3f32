"""Fit the constants of the serving step to measured rows, say how they do on models left out, and store them.

    python scripts/calibrate_serving.py REFERENCE_DIR [--quick] [--dry] [--models]
    python scripts/calibrate_serving.py REFERENCE_DIR --errors FILE.npz     keeps errors left out, for a study

REFERENCE_DIR/serving holds llm_h100, llm_b200_calibration and llm_more.csv.gz (ML.ENERGY leaderboard v3,
Apache-2.0). Every row counts, both chips at once. No constant knows a model: [common] holds for both chips,
[blackwell] is what B200 rows say of their own. Each constant has a prior, what physics, a kernel table or a
datasheet suggests, and a spread it may leave it by. One-GPU rows of B200 come from hosts in one of two states,
so their likelihood is a mixture. `--quick` leaves families out only; `--models`
leaves models out too; `--dry` writes nothing.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wattline.serving import engine
from wattline.serving import serving_rows as sr
from wattline.serving.beside import metrics, reach
from wattline.serving.conformal import ENOUGH, Scores, factors, group_of, stretched, wider_groups
from wattline.source.roofline.source import Roofline

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
DATA = Path(engine.__file__).parent / "data" / "serving.toml"
EXPECTED = DATA.with_name("expected.toml")
ORIGIN = "ML.ENERGY leaderboard v3 (Apache-2.0)"

# name -> (prior, spread of its logarithm, spread of Blackwell's own around it or 0, unit, meaning)
PRIOR: Mapping[str, tuple[float, float, float, str, str]] = {
    "time.gemm": (1, 0.1, 0.1, "", "seconds of matrix products in an engine over those the source states"),
    "time.narrow_gemm": (1, 0.1, 0.1, "", "the same of dense products of weights in fewer than 16 bits"),
    "time.grouped_gemm": (1, 0.1, 0.1, "", "the same of grouped products of experts"),
    "time.padded_gemm": (1, 0.3, 0.3, "", "the same of grouped products over padded rows"),
    "time.attention_decode": (1, 0.1, 0.1, "", "the same of new tokens attending to their cache"),
    "time.attention_latent": (1, 0.15, 0, "", "the same of new tokens attending to latents"),
    "time.attention_prefill": (1, 0.1, 0, "", "the same of attention inside prompts and images"),
    "time.elementwise": (1, 0.15, 0, "", "the same of kernels bound by memory"),
    "time.collective": (1, 0.15, 0, "", "the same of communication"),
    "energy.compute": (1, 0.3, 0.3, "", "joules of arithmetic over those the source states"),
    "energy.fp8": (0.6, 0.3, 0, "", "joules of fp8 and fp4 arithmetic over those again"),
    "energy.memory": (1, 0.3, 0.3, "", "joules of main memory, caches and links"),
    "energy.standing": (1, 0.2, 0.15, "", "the same of leakage and clocks"),
    "energy.waiting": (1, 0.2, 0.2, "", "the same of the awake floor"),
    "energy.grouped_gemm": (1, 0.3, 0.3, "", "the same of grouped products of experts"),
    "energy.padded_gemm": (0.5, 0.5, 0.3, "", "the same over padded rows, most of them zeros"),
    "energy.attention_decode": (1, 0.3, 0.3, "", "the same of new tokens attending to their cache"),
    "host.step": (2e-3, 0.6, 0.3, "s", "host seconds per step: scheduler, input preparation, output"),
    "host.team": (1e-3, 0.6, 0.6, "s", "the same where each rank has a process of its own to be told"),
    "host.sequence": (20e-6, 0.6, 0.4, "s", "host seconds per running request and step: detokenise, stream"),
    "host.prompt": (1e-3, 0.6, 0.4, "s", "host seconds per new request"),
    "host.visual": (20e-6, 0.6, 0.4, "s", "host seconds per visual token of a prompt: decode, resize, hash, copy"),
    "host.launch": (5e-6, 0.3, 0.3, "s", "host seconds per kernel launched without a captured graph"),
    "host.exponent": (1.2, 0.1, 0, "", "how sharply the longer of device and host time rules; at 1 they add"),
    "gap.step": (0.5e-3, 0.6, 0.3, "s", "device seconds per step that nothing hides"),
    "gap.kernel": (0.3e-6, 0.6, 0, "s", "device seconds per kernel besides"),
    "gap.meeting": (2e-6, 0.6, 0, "s", "device seconds per collective besides: ranks arrive apart"),
    "gap.logits": (50, 0.6, 0, "", "passes over the logits (fp32) that sampling makes: softmax, sort, draw"),
    "gap.scaled": (0.3, 0.5, 0, "", "seconds that scaling operands adds, over those of kernel tables: engines fuse it"),
    "gap.sorted": (0.7, 0.4, 0, "", "seconds that sorting, scaling and summing rows of experts adds, likewise"),
    "gap.scan": (0.8e-3, 0.4, 0, "s", "the same per recurrent layer of a step with prompts"),
    "gap.burn": (0.5, 0.5, 0, "", "standing power in these seconds over that of busy ones"),
    "expert.imbalance": (0.05, 0.6, 0, "", "standard deviation of the time of expert ranks over its mean"),
    "expert.untuned": (1.3, 0.2, 0, "", "time of grouped products with default tiles over that with tuned ones"),
}
# Taken as they are: the share of the limit a chip settles at, and per crowded step 22 ms, a host in two states.
FIXED: Mapping[str, tuple[float, str, str]] = {
    "limit.share": (0.98, "", "share of the power limit at which a chip settles"),
    "host.crowd": (0.0, "s", "host seconds per step that one-device replicas wait for cores on a full host"),
}
OWN = [name for name, (_, _, own, *_rest) in PRIOR.items() if own]
# A host full of one-GPU jobs on B200 is free or crowded: shares of rows by how crowded, of the longest wait (prior),
# and the share of that wait a prediction counts: the choice that left-out rows are nearest to.
CROWDS, LATE_STEP, COUNTED = ((0.55, 0.0), (0.15, 0.2), (0.15, 0.5), (0.15, 1.0)), 30e-3, 0.0

TASKS = {
    "lm-arena-chat": "text chat, arena prompts",
    "gpqa": "graduate-level multiple choice",
    "sourcegraph-fim": "code around a gap to be filled",
    "image-chat": "a picture and a question",
    "video-chat": "a short video and a question",
}
# Weights of relative errors, in units of their tolerance: twelve percent has weight 8.
WEIGHTS = {"energy_per_token_j": 5.0, "throughput_tok_s": 8.0, "power_per_gpu_w": 8.0, "median_itl_ms": 3.0}


@dataclass
class Rows:
    """Rows of one chip, made ready once: only constants change while fitting."""

    chip: str
    rows: list[sr.Row]
    work: engine.Parts
    measured: Array
    family: NDArray[np.str_]
    model: NDArray[np.str_]
    alone: Mask

    @classmethod
    def read(cls, paths: Sequence[Path], gpu: str, source: Roofline) -> Rows:
        lines: list[dict[str, str]] = []
        for path in paths:
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                lines += [line for line in csv.DictReader(stream) if line["gpu"] == gpu]
        table = {name: [line[name] for line in lines] for name in lines[0]}
        rows = sr.rows_of(table)
        measured = np.array([[float(v) for v in table[name]] for name in sr.TARGETS])
        alone = np.array([r.replica.parallel.devices == 1 for r in rows])
        names = np.array([str(v).rpartition("/")[2] for v in table["model_id"]])
        return cls(
            rows[0].architecture, rows, sr.works(rows, source), measured, np.array(table["family"]), names, alone
        )

    def errors(self, c: engine.Constants) -> Array:
        """Return (targets, rows) logarithms of predicted over measured."""
        guess = sr.targets_of(self.rows, sr.table_of(self.rows, self.work, c))
        return np.log(np.array([guess[n] for n in sr.TARGETS]) / self.measured)


Fitted = dict[str, dict[str, float]]  # architecture -> constants


def fit(data: Sequence[Rows], keep: Sequence[Mask]) -> Fitted:
    """Return constants by architecture, fitted to the rows of `keep`: soft-L1 losses and a ridge around the priors.

    It starts from the priors, so that nothing of rows left out is in it.
    """
    names = list(PRIOR)
    center = np.log([PRIOR[n][0] for n in names] + [LATE_STEP])
    width = np.array([PRIOR[n][1] for n in names] + [0.4])
    own = np.array([PRIOR[n][2] for n in OWN])
    count = len(center)

    def constants(x: Array) -> tuple[Fitted, float]:
        common = dict(engine.NEUTRAL) | {n: v[0] for n, v in FIXED.items()}
        common |= dict(zip(names, np.exp(x[: count - 1]).tolist(), strict=True))
        apart = {n: common[n] * float(np.exp(d)) for n, d in zip(OWN, x[count:], strict=True)}
        return {"hopper": common, "blackwell": common | apart}, float(np.exp(x[count - 1]))

    def residual(x: Array) -> Array:
        found, late = constants(x)
        parts = [_losses(some, found[some.chip], late, mine) for some, mine in zip(data, keep, strict=True)]
        return np.concatenate([*parts, (x[:count] - center) / width, x[count:] / own])

    start = np.concatenate([center, np.zeros(len(OWN))])
    best = least_squares(residual, start, max_nfev=12, x_scale=np.concatenate([width, own]))
    found, late = constants(best.x)
    found["blackwell"]["host.crowd"] = COUNTED * late
    return found


def _losses(data: Rows, c: engine.Constants, late: float, keep: Mask) -> Array:
    """Return roots of the losses of rows; of those whose host may be late, that of the mixture."""
    loss = _soft(data.errors(c))
    if data.chip != "blackwell":
        return np.asarray(np.sqrt(loss[:, keep]).ravel())
    one = keep & data.alone
    delayed = [(share, data.errors({**c, "host.step": c["host.step"] + part * late})[:, one]) for share, part in CROWDS]
    each = [np.log(share) - _soft(errors).sum(axis=0) / 2.0 for share, errors in delayed]
    mixed = np.maximum(-2.0 * np.logaddexp.reduce(each), 0.0)
    return np.concatenate([np.sqrt(loss[:, keep & ~data.alone]).ravel(), np.sqrt(mixed)])


def _soft(errors: Array) -> Array:
    scaled = np.array([WEIGHTS[n] for n in sr.TARGETS])[:, None] * errors
    return np.asarray(2.0 * (np.sqrt(1.0 + scaled**2) - 1.0))


def left_out(data: Sequence[Rows], by: str) -> list[Array]:
    """Return errors of every row under constants fitted without the rows, of any chip, that share its label."""
    out = [np.zeros((len(sr.TARGETS), len(d.rows))) for d in data]
    for label in sorted({str(x) for d in data for x in getattr(d, by)}):
        mine = [getattr(d, by) == label for d in data]
        found = fit(data, [~m for m in mine])
        for errors, d, m in zip(out, data, mine, strict=True):
            errors[:, m] = d.errors(found[d.chip])[:, m]
    return out


def chip_out(data: Sequence[Rows]) -> list[Array]:
    """Return errors of the rows of each chip under the common constants fitted to the other's."""
    out = []
    for d in data:
        found = fit(data, [np.full(len(x.rows), x is not d) for x in data])
        out.append(d.errors(found["hopper" if d.chip == "blackwell" else "blackwell"]))
    return out


def both_out(data: Sequence[Rows]) -> list[Array]:
    """Return errors of every row under the common constants fitted to the other chip's rows of other families."""
    out = [np.zeros((len(sr.TARGETS), len(d.rows))) for d in data]
    for errors, d in zip(out, data, strict=True):
        for label in np.unique(d.family):
            mine = d.family == label
            found = fit(data, [(x.family != label) & (x is not d) for x in data])
            errors[:, mine] = d.errors(found["hopper" if d.chip == "blackwell" else "blackwell"])[:, mine]
    return out


def nested(data: Sequence[Rows], errors: Sequence[Array]) -> None:
    """Print what intervals hold of rows of families that had no part in them, by group of at least ENOUGH rows."""
    held: dict[str, list[list[bool]]] = {}
    for label in sorted({str(x) for d in data for x in d.family}):
        table = stretched(scores(data, errors, [d.family != label for d in data]), sr.TARGETS)
        for d, e in zip(data, errors, strict=True):
            for i in np.flatnonzero(d.family == label):
                ends = [factors(table, d.rows[i].traits, d.chip, t) for t in sr.TARGETS]
                inside = [bool(np.log(low) <= -x <= np.log(high)) for (low, high), x in zip(ends, e[:, i], strict=True)]
                name = group_of(d.rows[i].traits)
                for part in (*wider_groups(name), "all"):
                    held.setdefault(part, []).append(inside)
    print("\n| rows | | " + " | ".join(sr.TARGETS) + " |\n" + "| --- " * (2 + len(sr.TARGETS)) + "|")
    for name, some in sorted(held.items()):
        if len(some) >= ENOUGH:
            print(f"| {name} | {len(some)} | " + " | ".join(f"{100 * x:.0f}" for x in np.mean(some, axis=0)) + " |")


# ------------------------------------------------------------------ telling
def groups(d: Rows) -> Iterator[tuple[str, Mask]]:
    """Give the groups of rows that errors are told for."""
    yield d.chip, np.ones(len(d.rows), dtype=bool)
    yield f"{d.chip}, several GPUs", ~d.alone
    yield f"{d.chip}, one GPU", d.alone


def report(title: str, data: Sequence[Rows], errors: Sequence[Array]) -> None:
    """Print errors by target and group as a table of Markdown: median, mean."""
    print(f"\n{title}\n\n| rows | | " + " | ".join(sr.TARGETS) + " |\n" + "| --- " * (2 + len(sr.TARGETS)) + "|")
    for d, e in zip(data, errors, strict=True):
        for name, mine in groups(d):
            print(f"| {name} | {mine.sum()} | " + " | ".join(_cell(line[mine]) for line in e) + " |")


def _cell(line: Array) -> str:
    m = metrics(np.exp(line), np.ones(line.size))
    return f"{100 * m['median_ape']:.1f}, {100 * m['mape']:.1f} ({100 * m['bias']:+.1f})"


def by_label(data: Sequence[Rows], errors: Sequence[Array], by: str) -> None:
    """Print errors of each family or model."""
    for d, e in zip(data, errors, strict=True):
        for label in np.unique(getattr(d, by)):
            mine = getattr(d, by) == label
            print(f"{d.chip:10}{label[:34]:36}{mine.sum():4d}  " + "   ".join(_cell(line[mine]) for line in e))


def scores(data: Sequence[Rows], errors: Sequence[Array], keep: Sequence[Mask] | None = None) -> list[Scores]:
    """Return the errors left out of each group of intervals, of the rows of `keep` alone where given."""
    out: dict[str, list[tuple[Array, str]]] = {}
    for n, (d, e) in enumerate(zip(data, errors, strict=True)):
        for i, row in enumerate(d.rows):
            if keep is not None and not keep[n][i]:
                continue
            out.setdefault(group_of(row.traits), []).append((e[:, i], str(d.family[i])))
    return [
        Scores(name, np.array([x for x, _ in some]).T, np.array([m for _, m in some])) for name, some in out.items()
    ]


# ------------------------------------------------------------------ writing
def write(found: Fitted, spans: Mapping[str, Mapping[str, Sequence[float]]], known: Mapping[str, Sequence[float | str]],
          errors: Mapping[str, Array]) -> None:  # fmt: skip
    """Write the data file of constants."""
    units = {n: v[3:] for n, v in PRIOR.items()} | {n: v[1:] for n, v in FIXED.items()}
    lines = [
        "# How an engine that batches continuously spends its steps, for every model alike.",
        "# Constants: [value, unit, meaning]. An architecture may state its own; all else is [common].",
        f'source = "fitted to {ORIGIN}, H100 and B200 rows together, by scripts/calibrate_serving.py"',
    ]
    for title, table, names in (
        ("common", found["hopper"], list(units)),
        ("blackwell", found["blackwell"], [*OWN, "host.crowd"]),
    ):
        lines += ["", f"[{title}]", *[f'{n} = [{table[n]:.4g}, "{units[n][0]}", "{units[n][1]}"]' for n in names]]
    lines += [
        "",
        "# Default prompt of a task: [text tokens, visual tokens, patches of the encoder, frames apart, meaning].",
    ]
    lines += ["[task]"]
    tasks = engine.settings()["task"]
    lines += [f'{n} = [{v[0]:g}, {v[1]:g}, {v[2]:g}, {v[3]:g}, "{TASKS.get(n, v[4])}"]' for n, v in tasks.items()]
    lines += ["", "# Factors on a prediction that hold nine in ten measurements of families left out of the fit."]
    for kind, span in spans.items():
        lines += [f'[interval."{kind}"]', *[f"{n} = [{v[0]:.3f}, {v[1]:.3f}]" for n, v in span.items()], ""]
    lines += ["# What the rows cover: a row outside is extrapolated, and its interval wider.", "[reach]"]
    lines += [*[f"{n} = {as_toml(v)}" for n, v in known.items()], ""]
    lines += ["# Relative size of errors on families left out of the fit: [median, mean, 68 % quantile]."]
    for kind, line in errors.items():
        lines += [f"[residual.{kind}]", f"rows = {line.shape[1]}"]
        for name, e in zip(sr.TARGETS, line, strict=True):
            m = metrics(np.exp(e), np.ones(e.size))
            deviation = float(np.quantile(np.abs(np.expm1(e)), 0.68))
            lines.append(f"{name} = [{m['median_ape']:.3f}, {m['mape']:.3f}, {deviation:.3f}]")
        lines.append("")
    DATA.write_text("\n".join([*lines, ""]), encoding="utf-8")


def expect(figures: Mapping[str, Mapping[str, Array]]) -> None:
    """Write what a release is held to: a few predictions under the constants now stored, and errors by group."""
    engine.settings.cache_clear()
    engine.constants.cache_clear()
    rows = engine.settings("expected")["rows"]
    guess = sr.predict(sr.rows_of(rows), Roofline())
    text = EXPECTED.read_text(encoding="utf-8")
    lines = [text[: text.index("[rows]")].rstrip(), "", "[rows]", *[f"{n} = {as_toml(v)}" for n, v in rows.items()]]
    lines += ["", "[predicted]"]
    lines += [f"{n} = [{', '.join(f'{v:.4g}' for v in guess[n])}]" for n in sr.TARGETS[:3]]
    for kind, groups_of in figures.items():
        lines += ["", f"# [median, mean] relative error of {', '.join(sr.TARGETS[:3])}.", f"[{kind}]"]
        for name, e in groups_of.items():
            cells = [f"[{np.median(np.abs(np.expm1(x))):.3f}, {np.abs(np.expm1(x)).mean():.3f}]" for x in e[:3]]
            lines.append(f'"{name}" = [{", ".join(cells)}]')
    EXPECTED.write_text("\n".join([*lines, ""]), encoding="utf-8")


def as_toml(values: Sequence[float | str]) -> str:
    """Return a list as TOML writes it."""
    return "[" + ", ".join(f'"{v}"' if isinstance(v, str) else f"{v:.10g}" for v in values) + "]"


def main(arguments: Sequence[str]) -> None:
    names = [a for a in arguments if not a.startswith("--")]
    keep = names.pop() if "--errors" in arguments else ""
    if len(names) != 1:
        raise SystemExit(__doc__)
    folder, source = Path(names[0]) / "serving", Roofline()
    old, new, more = (folder / f"llm_{n}.csv.gz" for n in ("h100", "b200_calibration", "more"))
    data = [Rows.read([old, more], "H100", source), Rows.read([new, more], "B200", source)]
    found = fit(data, [np.ones(len(d.rows), dtype=bool) for d in data])
    for name in (*PRIOR, *FIXED):
        own = f"  blackwell {found['blackwell'][name]:.4g}" if name in (*OWN, "host.crowd") else ""
        print(f"{name:26}{found['hopper'][name]:12.4g}   prior {PRIOR.get(name, FIXED.get(name))[0]:.4g}{own}")  # type: ignore[index]
    fitted = [d.errors(found[d.chip]) for d in data]
    report("All rows fitted", data, fitted)
    kin = left_out(data, "family")
    report("Family left out, on both chips", data, kin)
    by_label(data, kin, "family")
    if "--quick" in arguments:
        return
    if "--models" in arguments:
        held = left_out(data, "model")
        report("Model left out, on both chips", data, held)
        by_label(data, held, "model")
    apart = chip_out(data)
    report("Chip left out", data, apart)
    both = both_out(data)
    report("Family and chip left out", data, both)
    print("\nRows of families left out that intervals hold, percent; nothing of a family is in its intervals")
    nested(data, kin)
    if keep:
        kinds = (("family", kin), ("both", both))
        np.savez(keep, **{f"{d.chip}_{n}": e[i] for n, e in kinds for i, d in enumerate(data)})
    spans = stretched(scores(data, kin), sr.TARGETS)
    if "--dry" not in arguments:
        write(
            found,
            spans,
            reach([r for d in data for r in d.rows]),
            {"hopper": kin[0], "blackwell": kin[1], "other": apart[1]},
        )
        told = {
            "fitted": fitted, "family_left_out": kin, "chip_left_out": apart, "family_and_chip_left_out": both,
        }  # fmt: skip
        expect(
            {
                kind: {n: e[:, m] for d, e in zip(data, some, strict=True) for n, m in groups(d)}
                for kind, some in told.items()
            }
        )


if __name__ == "__main__":
    main(sys.argv[1:])
