"""Results that serving benchmarks write, read into one form: what was asked of a server, and what came back.

    vllm bench serve (JSON)   sglang.bench_serving (JSON lines)   GenAI-Perf, AIPerf (JSON)   InferenceMAX (JSON)

Seconds, tokens and tokens per second throughout. What a file does not say (chip, parallelism, engine) is left open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """One run. tpot, ttft : median seconds. output_rate : output tokens per second of the whole server.

    stated : what else the file says, by column of a closed-loop row: hw, framework, image, tp, ep, dp_attention,
    precision.
    """

    file: str
    tool: str
    model: str
    prompt: float
    output: float
    concurrency: float
    tpot: float
    ttft: float | None
    output_rate: float
    stated: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> list[Bench]:
    """Return the runs of one file; raise InputError saying what was found and what is read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    results = _objects(path, text)
    runs = [_run(path, result) for result in results]
    if not runs:
        raise InputError(f"{path}: holds no result of a benchmark")
    return runs


def _objects(path: Path, text: str) -> list[Result]:
    """Return the objects of a JSON file, of its list, or of JSON lines."""
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise InputError(f"{path}: neither JSON nor JSON lines: {error}") from None
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in found):
        raise InputError(f"{path}: must hold an object, or a list or lines of them")
    return found


def _run(path: Path, result: Result) -> Bench:
    for tool, fits, reader in READERS:
        if fits(result):
            try:
                run = reader(path.name, result)
            except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, IndexError) as error:
                raise InputError(f"{path}: looks like a result of {tool} but {_lacking(error)}") from None
            return _checked(path, run)
    raise InputError(
        f"{path}: not a result that is known ({', '.join(list(result)[:6])}, ...); read are "
        + ", ".join(tool for tool, _, _ in READERS)
    )


def _lacking(error: Exception) -> str:
    return f"lacks {error}" if isinstance(error, KeyError) else f"holds no number where one belongs ({error})"


def _checked(path: Path, run: Bench) -> Bench:
    for name in ("output", "concurrency", "tpot", "output_rate"):
        value = getattr(run, name)
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{path}: {name.replace('_', ' ')} must be a positive number, got {value!r}")
    return run


# ------------------------------------------------------------------ tools
def _vllm(name: str, r: Result) -> Bench:
    """``vllm bench serve --save-result``, and ``sglang.bench_serving``, which writes the same names."""
    done = float(r["completed"])
    output, prompt = float(r["total_output_tokens"]) / done, float(r["total_input_tokens"]) / done
    tpot = _first(r, "median_tpot_ms", "mean_tpot_ms") / 1e3
    ttft = _first(r, "median_ttft_ms", "mean_ttft_ms") / 1e3
    rate = float(r["output_throughput"])
    server = r.get("server_info") or {}
    stated = {
        "framework": str(r.get("backend", "")).split("-")[0],
        "tp": server.get("tp_size", r.get("tensor_parallel_size", r.get("tp"))),
        "ep": server.get("ep_size", r.get("ep")),
        "hw": r.get("hw", r.get("gpu")),
    }
    if stated["framework"] not in ("vllm", "sglang", "trtllm", "tensorrt"):
        stated["framework"] = None  # "openai": a way to speak to a server, not an engine
    model = str(r.get("model_id") or server.get("model_path") or r.get("model") or "")
    asked = r.get("max_concurrency") or r.get("concurrency")
    held = float(asked) if asked else rate / output * (ttft + (output - 1.0) * tpot)
    tool = "sglang.bench_serving" if stated["framework"] == "sglang" else "vllm bench serve"
    return Bench(name, tool, model, prompt, output, min(held, done), tpot, ttft, rate, _said(stated))


def _first(r: Result, *names: str) -> float:
    for name in names:
        if r.get(name) is not None:
            return float(r[name])
    raise KeyError(names[0])


def _perf(name: str, r: Result) -> Bench:
    """GenAI-Perf's and AIPerf's ``profile_export_*.json``: a metric is an object of statistics with a unit."""
    inside = r.get("llm_metrics", r)
    config = r.get("input_config") or {}
    endpoint = config.get("endpoint") or {}
    names = endpoint.get("model_names") or config.get("model") or config.get("model_names") or [""]
    model = str((r.get("metadata") or {}).get("model") or (names if isinstance(names, str) else names[0]))
    load = config.get("loadgen") or config
    tpot = _statistic(inside["inter_token_latency"])
    first = inside.get("time_to_first_token")
    ttft = _statistic(first) if first else None
    rate = float(inside["output_token_throughput"]["avg"])
    output = float(inside["output_sequence_length"]["avg"])
    prompt = float((inside.get("input_sequence_length") or {"avg": 1.0})["avg"])
    asked = load.get("concurrency") or (config.get("perf_analyzer") or {}).get("stimulus", {}).get("concurrency")
    held = float(asked) if asked else rate / output * ((ttft or 0.0) + (output - 1.0) * tpot)
    return Bench(name, "GenAI-Perf or AIPerf", model, prompt, output, held, tpot, ttft, rate)


# Seconds of the units that these tools write.
_UNITS: Final = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}


def _statistic(metric: Mapping[str, Any]) -> float:
    """Return the median (else the mean) of a metric in seconds."""
    value = metric.get("p50", metric.get("avg"))
    if value is None:
        raise KeyError("p50")
    return float(value) * _UNITS.get(str(metric.get("unit", "ms")), 1e-3)


def _inferencemax(name: str, r: Result) -> Bench:
    """A result of InferenceMAX: seconds, tokens per second and GPU; lengths even between 0.8 and 1 of those stated."""
    devices = float(r["tp"])
    mean = (1.0 + float(r.get("range_ratio", 0.8))) / 2.0
    stated = {k: r.get(k) for k in ("hw", "framework", "image", "precision", "tp", "ep", "dp_attention")}
    ttft = r.get("median_ttft")
    return Bench(
        name, "InferenceMAX", str(r["model"]), mean * float(r["isl"]), mean * float(r["osl"]), float(r["conc"]),
        float(r["median_tpot"]), None if ttft is None else float(ttft),
        devices * float(r["output_tput_per_gpu"]), _said(stated),
    )  # fmt: skip


def _said(stated: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in stated.items() if v not in (None, "")}


READERS: Final[tuple[tuple[str, Callable[[Result], bool], Callable[[str, Result], Bench]], ...]] = (
    ("InferenceMAX", lambda r: "output_tput_per_gpu" in r, _inferencemax),
    ("vllm bench serve", lambda r: "total_output_tokens" in r and "output_throughput" in r, _vllm),
    ("GenAI-Perf or AIPerf", lambda r: "output_token_throughput" in r.get("llm_metrics", r), _perf),
)
