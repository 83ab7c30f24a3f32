"""Fit the constants of the serving step to measured rows, say how they do on models left out, and store them.

    python scripts/calibrate_serving.py REFERENCE_DIR [--prompts] [--dry]

REFERENCE_DIR holds serving/llm_h100.csv.gz and serving/llm_b200_calibration.csv.gz (ML.ENERGY
leaderboard v3, Apache-2.0). Every row counts. No constant knows a model: those of [common] are fitted
to all H100 rows, those of [blackwell] to the B200 rows of three models. Each constant has a prior, what
physics or a datasheet suggests, and a spread it may leave it by. `--prompts` also searches the
default prompt of each task. `--dry` writes nothing.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wattline.serving import engine
from wattline.serving import serving_rows as sr
from wattline.serving.beside import metrics, reach
from wattline.source.roofline.source import Roofline

Array = NDArray[np.float64]
Bounds = Callable[[Array], dict[str, list[float]]]
DATA = Path(engine.__file__).parent / "data" / "serving.toml"
ORIGIN = "ML.ENERGY leaderboard v3 (Apache-2.0)"

# name -> (prior, spread of its logarithm, unit, meaning)
PRIOR: Mapping[str, tuple[float, float, str, str]] = {
    "time.gemm": (1, 0.15, "", "seconds of matrix products in an engine over those the source states"),
    "time.grouped_gemm": (1, 0.15, "", "the same of grouped products of experts"),
    "time.attention_decode": (1, 0.15, "", "the same of new tokens attending to their cache"),
    "time.attention_prefill": (1, 0.15, "", "the same of attention inside prompts and images"),
    "time.elementwise": (1, 0.15, "", "the same of kernels bound by memory"),
    "time.collective": (1, 0.15, "", "the same of communication"),
    "energy.compute": (1, 0.3, "", "joules of arithmetic over those the source states"),
    "energy.memory": (1, 0.3, "", "the same of main memory, caches and links"),
    "energy.standing": (1, 0.3, "", "the same of leakage and clocks"),
    "energy.waiting": (1, 0.3, "", "the same of the awake floor"),
    "energy.grouped_gemm": (1, 0.3, "", "the same of grouped products of experts"),
    "energy.attention_decode": (1, 0.3, "", "the same of new tokens attending to their cache"),
    "host.step": (2e-3, 0.6, "s", "host seconds per step: scheduler, input preparation, output"),
    "host.sequence": (20e-6, 0.6, "s", "host seconds per running request and step: detokenise, stream"),
    "host.sharing": (0.3, 0.6, "", "power by which these grow with the replicas that share a host"),
    "host.prompt": (1e-3, 0.6, "s", "host seconds per new request"),
    "host.visual": (20e-6, 0.6, "s", "host seconds per visual token of a prompt: decode, resize, hash, copy"),
    "host.launch": (5e-6, 0.3, "s", "host seconds per kernel launched without a captured graph"),
    "host.exponent": (3, 0.15, "", "how sharply the longer of device and host time rules where they overlap"),
    "gap.step": (0.5e-3, 0.6, "s", "device seconds per step that nothing hides"),
    "gap.kernel": (0.2e-6, 0.6, "s", "device seconds per kernel besides"),
    "gap.meeting": (2e-6, 0.6, "s", "device seconds per collective besides: ranks arrive apart"),
    "gap.logits": (50, 0.6, "", "passes over the logits (fp32) that sampling makes: softmax, sort, draw"),
    "expert.imbalance": (0.05, 0.6, "", "standard deviation of the time of expert ranks over its mean"),
    "expert.untuned": (1.3, 0.2, "", "time of grouped products with default tiles over that with tuned ones"),
    "expert.wide": (
        1,
        0.0,
        "",
        "the same of experts stored in 16 bits (Triton kernels) over those of a narrower format",
    ),
    "limit.share": (0.98, 0.0, "", "share of the power limit at which a chip settles"),
}
COMMON = [name for name, (_, spread, *_rest) in PRIOR.items() if spread]

# What an architecture known from a few models may have of its own, with its spread around [common].
OWN: Mapping[str, float] = {
    "host.step": 0.8, "host.sequence": 0.4, "host.sharing": 0.4, "host.launch": 0.8, "expert.wide": 0.4,
    "time.gemm": 0.15, "energy.compute": 0.3, "energy.memory": 0.3, "energy.standing": 0.3, "energy.waiting": 0.3,
    "energy.attention_decode": 0.4, "energy.grouped_gemm": 0.4, "limit.share": 0.03,
}  # fmt: skip

# Default prompts searched per task: (text tokens, visual tokens, patches).
PROMPTS = {
    "lm-arena-chat": [(p, 0.0, 0.0) for p in (150.0, 200.0, 250.0, 300.0, 400.0)],
    "gpqa": [(p, 0.0, 0.0) for p in (150.0, 250.0)],
    "sourcegraph-fim": [(p, 0.0, 0.0) for p in (1000.0, 1500.0, 2000.0, 2500.0)],
    "image-chat": [(150.0, v, 4 * v) for v in (200.0, 400.0, 600.0, 800.0)],
    "video-chat": [(100.0, v, 4 * v) for v in (500.0, 1000.0, 1500.0, 2000.0)],
}
TASKS = {
    "lm-arena-chat": "text chat, arena prompts",
    "gpqa": "graduate-level multiple choice",
    "sourcegraph-fim": "code around a gap to be filled",
    "image-chat": "a picture and a question",
    "video-chat": "a short video and a question",
}


@dataclass
class Rows:
    """Rows of one chip, made ready once: only constants change while fitting."""

    rows: list[sr.Row]
    work: engine.Parts
    measured: dict[str, Array]
    labels: dict[str, NDArray[np.str_]]

    @classmethod
    def read(cls, path: Path, source: Roofline) -> Rows:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        table = {name: [line[name] for line in lines] for name in lines[0]}
        rows = sr.rows_of(table)
        measured = {name: np.array([float(v) for v in table[name]]) for name in sr.TARGETS}
        labels = {by: np.array([r.groups[by] for r in rows]) for by in rows[0].groups}
        labels["model"] = np.array([str(v) for v in table["model_id"]])
        return cls(rows, sr.works(rows, source), measured, labels)

    def errors(self, c: engine.Constants) -> Array:
        """Return (targets, rows) logarithms of predicted over measured."""
        guess = sr.targets_of(self.rows, sr.table_of(self.rows, self.work, c))
        return np.array([np.log(guess[n] / self.measured[n]) for n in sr.TARGETS])


# Weight of throughput, power and median latency in the fit, over a tolerance of 1/8.
_WEIGHTS = {"throughput_tok_s": 8.0, "power_per_gpu_w": 8.0, "median_itl_ms": 4.0}


def fit(rows: Rows, start: engine.Constants, spread: Mapping[str, float], keep: NDArray[np.bool_]) -> dict[str, float]:
    """Return constants fitted to the rows of `keep`: soft-L1 residuals, a ridge of `spread` around `start`."""
    return _fit(rows, start, spread, keep)[0]


def _fit(
    rows: Rows, start: engine.Constants, spread: Mapping[str, float], keep: NDArray[np.bool_]
) -> tuple[dict[str, float], float]:
    names = list(spread)
    center = np.log([start[n] for n in names])
    width = np.array([spread[n] for n in names])

    def residual(x: Array) -> Array:
        errors = rows.errors(dict(start) | dict(zip(names, np.exp(x), strict=True)))
        parts = [_WEIGHTS[n] * errors[i][keep] for i, n in enumerate(sr.TARGETS) if n in _WEIGHTS]
        raw = np.concatenate(parts)
        soft = np.sign(raw) * np.sqrt(2.0 * (np.sqrt(1.0 + raw**2) - 1.0))
        return np.concatenate([soft, (x - center) / width])

    found = least_squares(residual, center, max_nfev=60)
    return dict(start) | dict(zip(names, map(float, np.exp(found.x)), strict=True)), float(found.cost)


def left_out(rows: Rows, by: str, start: engine.Constants, spread: Mapping[str, float]) -> Array:
    """Return errors of every row under constants fitted without the rows that share its label."""
    out = np.zeros((len(sr.TARGETS), len(rows.rows)))
    labels = rows.labels[by]
    for label in np.unique(labels):
        mine = labels == label
        out[:, mine] = rows.errors(fit(rows, start, spread, ~mine))[:, mine]
    return out


def nested(old: Rows, new: Rows, start: engine.Constants, spread: Mapping[str, float]) -> Array:
    """Return errors of B200 rows that neither fit saw: not its model on B200, nor its family on H100."""
    out = np.zeros((len(sr.TARGETS), len(new.rows)))
    for model in np.unique(new.labels["model"]):
        mine = new.labels["model"] == model
        family = new.labels["family"][mine][0]
        common = fit(old, start, spread, old.labels["family"] != family)
        out[:, mine] = new.errors(fit(new, common, OWN, ~mine))[:, mine]
    return out


def report(title: str, errors: Array, labels: NDArray[np.str_] | None = None) -> None:
    """Print errors by target, and by label."""
    print(f"\n{title}\n{'':24}{'rows':>5}" + "".join(f"{n:>40}" for n in sr.TARGETS))
    print(f"{'':29}" + "".join(f"{'median':>13}{'mean':>9}{'p90':>9}{'bias':>9}" for _ in sr.TARGETS))
    groups = {"all": np.ones(errors.shape[1], dtype=bool)}
    if labels is not None:
        groups |= {str(x): labels == x for x in np.unique(labels)}
    for name, mine in groups.items():
        cells = []
        for line in errors:
            m = metrics(np.exp(line[mine]), np.ones(int(mine.sum())))
            cells.append("".join(f"{100 * m[k]:{w}.1f}" for k, w in _FIELDS))
        print(f"{name[-24:]:24}{mine.sum():5d}" + "".join(cells))


_FIELDS = (("median_ape", 13), ("mape", 9), ("p90_ape", 9), ("bias", 9))


def regret(rows: Rows, errors: Array, limit: float = 50.0) -> tuple[float, int, int]:
    """Return mean regret of choosing the least J/token within `limit` ms by prediction, misses and choices.

    One choice per model and task, over GPUs, batch and parallelism. A choice that misses the limit when
    measured counts as the next in the predicted order that keeps it, and is reported.
    """
    e, t = sr.TARGETS.index("energy_per_token_j"), sr.TARGETS.index("median_itl_ms")
    energy, latency = rows.measured["energy_per_token_j"], rows.measured["median_itl_ms"]
    guess_e, guess_t = energy * np.exp(errors[e]), latency * np.exp(errors[t])
    keys = np.array([f"{m}|{k}" for m, k in zip(rows.labels["model"], rows.labels["task"], strict=True)])
    lost, missed = [], 0
    for key in np.unique(keys):
        mine = np.flatnonzero(keys == key)
        good = mine[latency[mine] <= limit]
        if good.size < 2:
            continue
        order = mine[np.argsort(np.where(guess_t[mine] <= limit, guess_e[mine], np.inf))]
        missed += bool(latency[order[0]] > limit)
        chosen = next(i for i in order if latency[i] <= limit)
        lost.append(energy[chosen] / energy[good].min() - 1.0)
    return float(np.mean(lost)), missed, len(lost)


def bounds(errors: Array) -> dict[str, list[float]]:
    """Return factors on a prediction that hold nine in ten measurements (split-conformal quantiles).

    Taken at 96 % a side: groups differ more than rows within one, as `coverage` measures.
    """
    n = errors.shape[1]
    level = min(0.96 * (n + 1) / n, 1.0)
    return {
        name: [float(np.exp(np.quantile(-line, 1 - level))), float(np.exp(np.quantile(-line, level)))]
        for name, line in zip(sr.TARGETS, errors, strict=True)
    }


def widened(
    fresh: Array, labels: NDArray[np.str_], kin: NDArray[np.str_], held: Array, theirs: NDArray[np.str_], bounds: Bounds
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return bounds for a chip of few models, and the share of its rows that they hold, each model left out in turn.

    The base is `bounds` of its rows or of the old chip's, whichever is wider. A row's score is how far the base
    taken without its model, and without its `kin` among the old chip's rows, must be stretched (in logarithms)
    to hold it. The base ships stretched by the score that nine in ten rows stay below (split conformal), and never
    narrowed: the old chip's many models say more about the next one than these few.
    """
    scores = np.zeros(fresh.shape)
    for label in np.unique(labels):
        mine = labels == label
        base = wider(bounds(fresh[:, ~mine]), bounds(held[:, theirs != kin[mine][0]]))
        ends = np.log(list(base.values()))
        scores[:, mine] = np.max(-fresh[:, mine, None] / ends[:, None, :], axis=2)
    count = fresh.shape[1]
    level = min(0.9 * (count + 1) / count, 1.0)
    stretch = np.maximum(np.quantile(scores, level, axis=1, method="higher"), 1.0)
    ends = np.log(list(wider(bounds(fresh), bounds(held)).values())) * stretch[:, None]
    shares = (scores <= stretch[:, None]).mean(axis=1)
    names = list(bounds(fresh))
    return dict(zip(names, np.exp(ends).tolist(), strict=True)), dict(zip(names, shares.tolist(), strict=True))


def wider(one: Mapping[str, list[float]], two: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return bounds that hold both."""
    return {n: [min(one[n][0], two[n][0]), max(one[n][1], two[n][1])] for n in one}


def coverage(errors: Array, labels: NDArray[np.str_]) -> dict[str, float]:
    """Return the share of rows inside bounds taken from the rows of all other labels."""
    inside = np.zeros(errors.shape, dtype=bool)
    for label in np.unique(labels):
        mine = labels == label
        for i, (low, high) in enumerate(bounds(errors[:, ~mine]).values()):
            inside[i, mine] = (np.log(low) <= -errors[i, mine]) & (-errors[i, mine] <= np.log(high))
    return dict(zip(sr.TARGETS, inside.mean(axis=1).tolist(), strict=True))


def search_prompts(path: Path, source: Roofline, start: engine.Constants, spread: Mapping[str, float]) -> None:
    """Search default prompts, task by task, and leave the best in the settings in memory."""
    tasks = engine.settings()["task"]
    for task, choices in PROMPTS.items():
        costs = []
        for choice in choices:
            tasks[task] = [*choice, *tasks[task][3:]]
            rows = Rows.read(path, source)
            costs.append(_fit(rows, start, spread, np.ones(len(rows.rows), dtype=bool))[1])
        tasks[task] = [*choices[int(np.argmin(costs))], *tasks[task][3:]]
        print(f"prompt of {task}: {', '.join(f'{sum(c[:2]):g}: {v:.1f}' for c, v in zip(choices, costs, strict=True))}")


def write(
    common: Mapping[str, float], own: Mapping[str, float], spans: Mapping[str, Mapping[str, Sequence[float]]],
    known: Mapping[str, Sequence[float | str]], errors: Mapping[str, Array],
) -> None:  # fmt: skip
    """Write the data file."""
    origin = f"{ORIGIN}, by scripts/calibrate_serving.py: [common] to H100 rows, [blackwell] to B200 rows of 3 models"
    lines = [
        "# How an engine that batches continuously spends its steps, for every model alike.",
        "# Constants: [value, unit, meaning]. An architecture may state its own; all else is [common].",
        f'source = "fitted to {origin}"',
        "",
        "[common]",
        *[f'{n} = [{common[n]:.4g}, "{u}", "{text}"]' for n, (_, _, u, text) in PRIOR.items()],
        "",
        "[blackwell]",
        *[f'{n} = [{own[n]:.4g}, "{PRIOR[n][2]}", "{PRIOR[n][3]}"]' for n in OWN],
        "",
        "# Default prompt of a task: [text tokens, visual tokens, patches of the encoder, frames seen apart, meaning].",
        "[task]",
    ]
    tasks = engine.settings()["task"]
    lines += [f'{n} = [{v[0]:g}, {v[1]:g}, {v[2]:g}, {v[3]:g}, "{TASKS.get(n, v[4])}"]' for n, v in tasks.items()]
    lines += ["", "# Factors on a prediction that hold nine in ten measurements of models left out of the fit."]
    for kind, table in spans.items():
        lines += [f"[interval.{kind}]", *[f"{n} = [{v[0]:.3f}, {v[1]:.3f}]" for n, v in table.items()], ""]
    lines += ["# What the rows cover: a row outside is extrapolated, and its interval wider."]
    lines += ["[reach]", *[f"{n} = {as_toml(v)}" for n, v in known.items()], ""]
    lines += ["# Relative size of errors on models left out of the fit: [median, mean, 68 % quantile]."]
    for kind, table in errors.items():
        lines += [f"[residual.{kind}]", f"rows = {table.shape[1]}"]
        for name, line in zip(sr.TARGETS, table, strict=True):
            m = metrics(np.exp(line), np.ones(line.size))
            deviation = float(np.quantile(np.abs(np.expm1(line)), 0.68))
            lines.append(f"{name} = [{m['median_ape']:.3f}, {m['mape']:.3f}, {deviation:.3f}]")
        lines.append("")
    DATA.write_text("\n".join(lines), encoding="utf-8")


def as_toml(values: Sequence[float | str]) -> str:
    """Return a list as TOML writes it."""
    return "[" + ", ".join(f'"{v}"' if isinstance(v, str) else f"{v:.10g}" for v in values) + "]"


def main(arguments: Sequence[str]) -> None:
    names = [a for a in arguments if not a.startswith("--")]
    if len(names) != 1:
        raise SystemExit(__doc__)
    folder, source = Path(names[0]) / "serving", Roofline()
    start = dict(engine.NEUTRAL) | {n: float(p[0]) for n, p in PRIOR.items()}
    spread = {n: PRIOR[n][1] for n in COMMON}
    if "--prompts" in arguments:
        search_prompts(folder / "llm_h100.csv.gz", source, start, spread)
    old, new = (Rows.read(folder / f"llm_{n}.csv.gz", source) for n in ("h100", "b200_calibration"))
    everything = np.ones(len(old.rows), dtype=bool)
    common = fit(old, start, spread, everything)
    blackwell = fit(new, common, OWN, np.ones(len(new.rows), dtype=bool))
    report("H100, all rows fitted", old.errors(common))
    held = left_out(old, "family", start, spread)
    report("H100, model family left out", held, old.labels["family"])
    for by in ("task", "batch", "num_gpus"):
        report(f"the same by {by}", held, old.labels[by])
    report("B200, constants of H100 and its datasheet (GPU left out)", new.errors(common), new.labels["model"])
    report("B200, all three models fitted", new.errors(blackwell))
    report("B200, model left out of its rows only", left_out(new, "model", common, OWN), new.labels["model"])
    fresh = nested(old, new, start, spread)
    report("B200, model left out, and its family of the H100 rows", fresh, new.labels["model"])
    reverse = fit(new, start, spread, np.ones(len(new.rows), dtype=bool))
    report("H100, constants fitted to B200 alone (GPU left out)", old.errors(reverse))
    for title, rows, errors in (("H100", old, held), ("B200", new, fresh)):
        print(f"regret at 50 ms, {title}, left out: mean %.1f %%, %d misses of %d" % _percent(regret(rows, errors)))
    print("coverage of 90 % intervals, H100 families:", _round(coverage(held, old.labels["family"])))
    labels = new.labels["model"], new.labels["family"]
    span, shares = widened(fresh, *labels, held, old.labels["family"], bounds)
    print("coverage of 90 % intervals, B200 models:", _round(shares))
    spans = {
        "hopper": bounds(held),
        "blackwell": span,
        "other": wider(bounds(new.errors(common)), bounds(held)),
    }
    for name in COMMON:
        own = f"  blackwell {blackwell[name]:.4g}" if name in OWN else ""
        print(f"{name:28}{common[name]:12.4g}   prior {start[name]:.4g}{own}")
    if "--dry" not in arguments:
        write(
            common,
            blackwell,
            spans,
            reach([*old.rows, *new.rows]),
            {"hopper": held, "blackwell": fresh, "other": new.errors(common)},
        )


def _percent(found: tuple[float, int, int]) -> tuple[float, int, int]:
    return 100 * found[0], found[1], found[2]


def _round(found: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
