"""Published training runs beside predictions: what each row states, what is predicted, how wrong it is.

A row names a model, devices, a layout and a figure ("iteration time", TFLOP/s per device, days,
GPU-hours). What it leaves out (microbatch, virtual stages, recomputation, dropout) is looked up in the
facts of ``data/published_training.csv`` by model and paper, else assumed and said. Rows are only read
here, never fitted. A row without an answer is listed with the reason.
"""

from __future__ import annotations

import csv
import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, WattlineError
from ..hardware import catalog as hardware
from ..hardware.cluster import Cluster
from ..source.base import Device, Source
from ..workload import catalog as models
from ..workload.flops import megatron
from ..workload.model import Model
from ..workload.parallel import Parallel
from ..workload.tuning import Adapter
from .costs import Costs, Settings, count_work, run
from .job import TrainingJob

NEEDED: Final = ("model", "hardware", "num_devices", "parallelism", "metric", "value", "unit")
# Columns read where they are there; any other is passed over.
OPTIONAL: Final = (
    "row_id", "batch", "tokens", "microbatch", "virtual", "sequence", "precision", "recompute", "schedule", "zero",
    "goodput", "source", "checked", "attention", "kernels", "launch_time", "layers", "hidden", "heads", "chip",
    "adapter", "rank", "base",
)  # fmt: skip
TARGETS: Final = (
    "iteration_s",
    "tflops_hardware",
    "tflops_model",
    "days",
    "gpu_hours",
    "gpu_hours_per_trillion_tokens",
    "tokens_per_s_per_device",
    "gpu_mwh",
)

# Words of a metric or unit -> target, the first that fits; and those that no prediction is made for.
_REFUSED: Final = {
    "serving": "this row is about serving",
    "emission": "emissions need the grid's carbon intensity, which the row does not give",
    "energy": "published energies are GPU-hours times rated power; give GPU-hours",
    "electricity": "published energies are GPU-hours times rated power; give GPU-hours",
    "power": "power is an assumption of the source, not a measurement",
}
_WORDS: Final = {
    "iteration": "iteration_s", "day": "days", "gpu hour": "gpu_hours", "gpu-h": "gpu_hours",
    "token": "tokens_per_s_per_device",
}  # fmt: skip
_DEGREES: Final = {"TP": "tensor", "PP": "pipeline", "DP": "data", "EP": "expert", "CP": "context"}


@functools.cache
def constants() -> Mapping[str, float]:
    """Return the constants of ``data/training.toml`` by dotted name, SI."""
    text = resources.files(__package__).joinpath("data/training.toml").read_text("utf-8")
    table = {k: v for k, v in tomllib.loads(text).items() if isinstance(v, dict)}
    return {f"{group}.{key}": float(entry[0]) for group, rows in table.items() for key, entry in rows.items()}


@functools.cache
def published() -> tuple[Mapping[str, str], ...]:
    """Return the checked table of published runs, as text."""
    text = resources.files(__package__).joinpath("data/published_training.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


# ---- reading a row -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One published figure: the job that produced it, its devices, and what was assumed."""

    job: TrainingJob
    cluster: Cluster
    target: str
    measured: float
    assumed: tuple[str, ...]
    facts: Mapping[str, str]

    @property
    def devices(self) -> int:
        return self.job.parallel.devices


def target_of(metric: str, unit: str) -> str:
    """Return which of `TARGETS` a metric in words is; raise InputError with the reason if none."""
    text, unit = metric.strip().lower(), unit.strip().lower()
    if text in TARGETS:
        return text
    for word, reason in _REFUSED.items():
        if word in text:
            raise InputError(reason)
    if "flop" in unit or "flop" in text:
        model = "model" in text and "recompute counted" not in text
        return "tflops_model" if model or "mfu" in text else "tflops_hardware"
    if "/" in unit and "gpu" in unit and "tok" in unit.partition("/")[2]:
        return "gpu_hours_per_trillion_tokens"
    for word, target in _WORDS.items():
        if word in text or word in unit:
            return target
    if "time" in text and unit in ("s", "sec", "seconds", "ms"):
        return "iteration_s"
    raise InputError(f"metric {metric!r} in {unit!r} is not predicted; known: {', '.join(TARGETS)}")


def read_run(row: Mapping[str, Any]) -> Run:
    """Return the run a row describes; raise WattlineError with the reason if it cannot be predicted."""
    text = {str(k).strip(): "" if v is None or str(v) == "nan" else str(v).strip() for k, v in row.items()}
    target = target_of(text.get("metric", ""), text.get("unit", ""))
    value = _number(text.get("value", ""), "value")
    if value is None or value <= 0:
        raise InputError(f"value must be a positive number, got {text.get('value')!r}")
    if text.get("kernels"):
        # A row that states its software states its whole set-up.
        own = {key: text[key] for key in ("model", "layers", "hidden", "heads") if text.get(key)}
        return _run({**own, **_stated(text)}, target, value, [])
    facts, assumed = _known(text)
    return _run({**facts, **_stated(text)}, target, value, assumed)


def published_run(row: Mapping[str, str]) -> Run:
    """Return a run of the published table itself."""
    return _run({k: v for k, v in row.items() if v}, row["metric"], float(row["value"]), [row["assumed"]])


def _run(facts: Mapping[str, str], target: str, value: float, assumed: list[str]) -> Run:
    job = _job(facts, assumed)
    chip = hardware.chip(facts["chip"])
    node = hardware.default_node(chip)
    if facts.get("changes"):
        chip = chip.with_(_changes(facts["changes"]), source="stated in the row")
    used = min(int(node["chips"]), job.parallel.devices)
    cluster = Cluster(chip, node, -(-job.parallel.devices // used), used=used)
    parallel = replace(job.parallel, node=cluster.domain)
    return Run(replace(job, parallel=parallel.check(job.model)), cluster, target, value, tuple(assumed), facts)


def _changes(text: str) -> dict[str, str]:
    """Read "power.limit=500 W; memory.hbm.bandwidth=2.4 TB/s"."""
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str, name: str) -> float | None:
    """Read the number a cell opens with ("15e12+", "16M tokens", "671e9 (37e9 active)"); None where empty."""
    found = re.match(r"\s*([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kMBT]?)", text)
    if not text:
        return None
    if not found:
        raise InputError(f"{name} = {text!r} is not a number")
    scale = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]]
    return float(found[1].replace(",", "").replace("_", "")) * scale


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _known(text: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the facts of the published run most like the row, and what had to be assumed."""
    name = _plain(text.get("model", ""))
    mine = [
        r
        for r in published()
        if name in {_plain(n) for n in [*r["names"].split(";"), r["model"] if not r["layers"] else ""]}
    ]
    source = text.get("source", "").lower()
    degrees = _degrees(text.get("parallelism", ""))

    def likeness(r: Mapping[str, str]) -> tuple[bool, int, bool]:
        same = sum(r.get(key) == str(value) for key, value in degrees.items())
        again = _recompute(text.get("metric", ""))
        return r["paper"].lower() in source, same, r["recompute"] == again.get("recompute", r["recompute"])

    if not mine:
        return {"model": text.get("model", ""), "virtual": "1"}, [
            "the set-up is not among the published ones: defaults"
        ]
    best = max(mine, key=likeness)
    found = {
        k: v for k, v in best.items() if v and k not in ("names", "metric", "value", "unit", "fit", "source", "assumed")
    }
    notes = [best["assumed"]] if best["assumed"] else []
    if best["paper"].lower() not in source:
        notes.append(f"set-up as in {best['source']}")
    return found, notes


def _degrees(text: str) -> dict[str, int]:
    """Read "TP8 PP12 DP4"; words that are no degree are left alone."""
    found = re.findall(r"\b(TP|PP|DP|EP|CP)\s*=?\s*(\d+)", text.upper())
    return {_DEGREES[word]: int(count) for word, count in found}


def _recompute(metric: str) -> dict[str, str]:
    text = metric.lower()
    if "full recomp" in text:
        return {"recompute": "full"}
    if "selective" in text:
        return {"recompute": "selective", "sequence_parallel": str("seq" in text).lower()}
    return {}


def _stated(text: Mapping[str, str]) -> dict[str, str]:
    """Return what the row itself states, under the names of the facts."""
    out: dict[str, str] = {key: str(value) for key, value in _degrees(text.get("parallelism", "")).items()}
    out |= _recompute(text.get("metric", ""))
    for key in (
        "microbatch", "virtual", "sequence", "precision", "recompute", "schedule", "zero", "goodput", "attention",
        "kernels", "launch_time", "adapter", "rank", "base",
    ):  # fmt: skip
        if text.get(key):
            out[key] = text[key]
    if text.get("chip"):
        out["changes"] = text["chip"]
    devices = _number(text.get("num_devices", ""), "num_devices")
    if devices:
        out["devices"] = str(int(devices))
    tokens = _number(text.get("tokens", ""), "tokens")
    if tokens:
        out["tokens"] = str(tokens)
    batch = text.get("batch", "")
    if batch and "token" not in batch:
        out["batch"] = str(int(_number(batch, "batch") or 0))
    stated = text.get("hardware", "")
    chip = stated if stated in hardware.names("chip") else _chip(stated)
    return out | ({"chip": chip} if chip else {})


def _chip(text: str) -> str:
    """Return the catalog name of hardware in words, or "" where the words name none."""
    for pattern, name in (
        (r"a100.*40", "a100-sxm-40gb"), (r"a100", "a100-sxm-80gb"), (r"h[18]00", "h100-sxm"), (r"h200", "h200-sxm"),
        (r"gb200", "gb200"), (r"b200", "b200-sxm"), (r"v100", "v100-sxm"), (r"mi300", "mi300x"),
    ):  # fmt: skip
        if re.search(pattern, text.lower()):
            return name
    return ""


def _model(facts: Mapping[str, str]) -> Model:
    name = facts.get("model", "")
    base = models.model(re.sub(r"[\s_]+", "-", name.strip().lower()))
    if not facts.get("layers"):
        return base
    hidden, heads, layers = (int(float(facts[key])) for key in ("hidden", "heads", "layers"))
    dim = hidden // heads
    return replace(
        base, name=f"gpt-{layers}x{hidden}", pattern=base.pattern[:1] * layers, hidden=hidden, heads=heads,
        kv_heads=heads, head_dim=dim, value_dim=dim, ffn=4 * hidden, published=0.0,
    )  # fmt: skip


def _job(facts: Mapping[str, str], assumed: list[str]) -> TrainingJob:
    def whole(key: str, default: int) -> int:
        if not facts.get(key):
            if not (facts.get("kernels") and default == 1):  # where all is stated a degree left out is one
                assumed.append(f"{key} = {default}")
            return default
        return int(float(facts[key]))

    def flag(key: str, default: bool) -> bool:
        return facts.get(key, str(default)).lower() in ("true", "yes", "1")

    if "chip" not in facts:
        raise InputError("the row names no known hardware; known words: A100, H100, H800, H200, B200, V100, MI300X")
    tensor, pipeline = whole("tensor", 1 if facts.get("kernels") else 8), whole("pipeline", 1)
    context, devices = int(facts.get("context", 1)), whole("devices", tensor * pipeline)
    # Devices and degrees of one row win over the data ranks of a run like it.
    if devices % (tensor * pipeline * context):
        raise InputError(
            f"{devices} devices are no multiple of tensor {tensor} x pipeline {pipeline} x context {context}"
        )
    data = max(1, devices // (tensor * pipeline * context))
    virtual = whole("virtual", 1)
    parallel = Parallel(
        tensor=tensor, pipeline=pipeline, virtual=virtual, data=data, context=context,
        expert=int(facts.get("expert", 1)), zero=whole("zero", 1),
        sequence=flag("sequence_parallel", True) and tensor > 1,
    )  # fmt: skip
    microbatch, usual = whole("microbatch", 1), "interleaved" if virtual > 1 else "1f1b"
    return TrainingJob(
        model=_model(facts), parallel=parallel, tokens=float(facts.get("tokens") or 1e9),
        sequence=whole("sequence", 2048), global_batch=whole("batch", data * microbatch * 4 * pipeline),
        microbatch=microbatch, precision=facts.get("precision", "bf16"), schedule=facts.get("schedule") or usual,
        recompute=facts.get("recompute", "selective"), flash=flag("flash", True), dropout=flag("dropout", False),
        fused_linear=flag("fused_linear", True), gradient_bytes=float(facts.get("gradient_bytes", 4)),
        overlap=0.0 if facts.get("zero", "1") == "0" else None, goodput=float(facts.get("goodput", 1)),
        host_time=constants()["host.iteration"], attention=facts.get("attention", ""),
        eager=facts.get("kernels") == "eager", launch_time=float(facts.get("launch_time", 0)),
        adapter=Adapter(whole("rank", 16), facts.get("base", "bf16")) if facts.get("adapter") == "lora" else None,
    )  # fmt: skip


# ---- predicting ----------------------------------------------------------------------------------


def iteration(job: TrainingJob, cluster: Cluster, source: Source) -> tuple[float, float]:
    """Return seconds of one iteration at maximum clocks and mean watts of a chip."""
    work = _work(job)
    points = Costs.points_of(work, Device(cluster.chip, cluster.node), source, np.array([cluster.chip["clock.max"]]))
    settings = Settings(np.zeros(len(work.graph.kind), np.int64), (0,) * len(work.steps))
    found = run(work, points, settings, job.parallel.devices // job.parallel.pipeline)
    return found.time, found.energy / found.time / job.parallel.devices


_work = functools.lru_cache(maxsize=64)(count_work)


def predict_run(r: Run, source: Source, seen: dict[Any, tuple[float, float]] | None = None) -> float:
    """Return the run's figure in the unit of its target. `seen`: iterations known already, added to."""
    seen = {} if seen is None else seen
    key = (replace(r.job, tokens=1.0, goodput=1.0), r.cluster.chip.name, r.facts.get("changes"))
    if key not in seen:
        seen[key] = iteration(key[0], r.cluster, source)
    seconds, watts = seen[key]
    tokens = r.job.global_batch * r.job.sequence
    if r.target == "iteration_s":
        return seconds
    if r.target == "tokens_per_s_per_device":
        return tokens / seconds / r.devices
    if r.target == "gpu_hours_per_trillion_tokens":
        return 1e12 / tokens * seconds / r.job.goodput * r.devices / 3600
    if r.target.startswith("tflops"):
        flops = r.job.flops if r.target == "tflops_model" else _hardware_flops(r.job, tokens)
        return flops / seconds / r.devices / 1e12
    if "tokens" not in r.facts:
        raise InputError("a whole run needs its tokens")
    wall = r.job.iterations * seconds / r.job.goodput
    if r.target == "gpu_mwh":
        return wall * r.devices * watts / 3.6e9  # of the chips alone, lost work at the same power
    return wall / 86400 if r.target == "days" else wall * r.devices / 3600


def _hardware_flops(job: TrainingJob, tokens: float) -> float:
    """Return FLOPs as Megatron-LM reports them: recomputation counted, attention without causal saving."""
    m = job.model
    if m.ffn_matrices == 2 and not m.moe and m.ffn == 4 * m.hidden:
        return megatron(m.layers, m.hidden, job.sequence, m.vocab, tokens, job.recompute)
    return job.flops * (4 / 3 if job.recompute == "full" else 1.0)


def validate(rows: Sequence[Mapping[str, Any]], source: Source) -> dict[str, Any]:
    """Predict every row and compare: {"rows", "metrics", "predictions", "refused"}.

    Each prediction has `row_id`, the target's value, `low` and `high` (90 %), the published figure, the
    relative error and what was assumed; a row without one is in `refused` with the reason.
    """
    if not rows:
        raise InputError(f"no rows; columns needed: {', '.join(NEEDED)}")
    # Without its column a fact would be that of a run like it, the same for every row: cells may be empty, columns not.
    missing = [name for name in NEEDED if name not in rows[0]]
    if missing:
        raise InputError(
            f"training rows lack column {', '.join(map(repr, missing))}; needed (a cell may be empty): "
            f"{', '.join(NEEDED)}; read where given: {', '.join(OPTIONAL)}"
        )
    predictions: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    seen: dict[Any, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        row_id = row.get("row_id", number)
        try:
            predictions.append({"row_id": row_id, **_prediction(read_run(row), row, source, seen)})
        except WattlineError as error:
            told = {"model": row.get("model"), "metric": row.get("metric"), "reason": str(error)}
            refused.append({"row_id": row_id, **told})
    return {"rows": len(rows), "metrics": metrics(predictions), "predictions": predictions, "refused": refused}


def _prediction(r: Run, row: Mapping[str, Any], source: Source, seen: dict[Any, tuple[float, float]]) -> dict[str, Any]:
    guess = predict_run(r, source, seen)
    experts = r.job.model.moe
    spread = constants()["spread.experts" if experts else "spread.fitted" if _fitted(r) else "spread.other"]
    width = float(np.exp(1.645 * spread))
    lost = _UNSTATED if _whole_run(r) and r.job.goodput == 1.0 and not _fitted(r) else 1.0
    return {
        "model": row.get("model"),
        "target": r.target,
        r.target: guess,
        "low": guess / width,
        "high": guess * width * lost,
        "published": r.measured,
        "relative_error": guess / r.measured - 1.0,
        "extrapolated": not _fitted(r),
        "recalled": "recalled" in str(row.get("checked", "")).lower(),
        "assumed": list(r.assumed),
    }


# A run that states no goodput may have lost a fifth of its time to failures, restarts and checkpoints; runs that
# state it keep 0.9 or more (arXiv 2407.21783, section 3.3.4) or far less (arXiv 2205.01068, section 2.5).
_UNSTATED: Final = 1.25


def _whole_run(r: Run) -> bool:
    return r.target in ("days", "gpu_hours", "gpu_hours_per_trillion_tokens", "gpu_mwh")


def _fitted(r: Run) -> bool:
    return r.cluster.chip.name.startswith("a100") and r.facts.get("paper", "") in ("2205.05198", "2104.04473")


def metrics(predictions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return errors by target and as "all", times and rates both as relative errors.

    Figures marked as recalled, not read in their source, do not count: they are apart, as "recalled".
    """
    out: dict[str, Any] = {}
    rows = list(predictions)
    for name in (*TARGETS, "all", "recalled"):
        apart = name == "recalled"
        mine = [p for p in rows if bool(p.get("recalled")) == apart and (apart or name in ("all", p["target"]))]
        if not mine:
            continue
        errors = np.array([p["relative_error"] for p in mine])
        inside = np.array([p["low"] <= p["published"] <= p["high"] for p in mine])
        size = np.abs(errors)
        out[name] = {
            "rows": len(mine), "mape": float(size.mean()), "median_ape": float(np.median(size)),
            "p90_ape": float(np.quantile(size, 0.9)), "worst_ape": float(size.max()), "bias": float(np.median(errors)),
            "coverage": float(inside.mean()),
        }  # fmt: skip
    return out
