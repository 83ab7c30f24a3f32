"""What the reader of a plan can change without new silicon, each change tried: precision, layout, batch, promise.

An elasticity says what a percent of a constant is worth; nobody sets the voltage of a chip they bought. These are
keys of the scenario that its owner sets, sketched with the change (`whatif.sketches`; a training run by its steady
state) beside the same sketch of the scenario as it stands. A change that does not fit, or saves nothing, is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from ..core.errors import WattlineError
from ..core.units import show
from ..frontier.answer import Answer
from .stated import Scenario, cluster_of, model_of
from .whatif import sketches, steady

Changes = dict[str, Any]

# Least saving worth a line, and most lines.
_WORTH: Final = 0.01
_MOST: Final = 5
# Bits of a weight in each precision.
_BITS: Final[Mapping[str, int]] = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "fp4": 4}


def with_levers(answer: Answer, scenario: Scenario) -> Answer:
    """Return the answer with its levers; without any where they cannot be told, for a side figure ends no plan."""
    with suppress(WattlineError):
        return replace(answer, levers=tuple(levers(scenario)))
    return answer


def levers(scenario: Scenario) -> list[dict[str, Any]]:
    """Return changes that save energy, most first: `change` (key -> value), `words`, `energy` and `time` (relative).

    `time` is that of the whole job, or of a replica's seconds per token of a serving plan at the same load.
    """
    if scenario.has("measured") or (scenario.has("train") and scenario["train.method"] == "grpo"):
        return []
    tried = list(_serving(scenario) if scenario.has("serve") else _training(scenario))
    if not tried:
        return []
    base, *rows = _rows(scenario, [{}, *(changes for changes, _ in tried)])
    if "error" in base:
        return []
    found = [
        {
            "change": dict(changes),
            "words": words,
            "energy": row["energy_j"] / base["energy_j"] - 1.0,
            "time": row["time_s"] / base["time_s"] - 1.0,
        }
        for (changes, words), row in zip(tried, rows, strict=True)
        if "error" not in row
    ]
    return sorted((f for f in found if f["energy"] < -_WORTH), key=lambda f: f["energy"])[:_MOST]


def _rows(scenario: Scenario, points: list[Changes]) -> list[dict[str, Any]]:
    """Return time and energy of each change: of a training run by its steady state, which shares no exact solve."""
    if scenario.has("serve"):
        return sketches(scenario, points)
    return [_steady(scenario, changes) for changes in points]


def _steady(scenario: Scenario, changes: Changes) -> dict[str, Any]:
    try:
        return steady(scenario.with_(changes)) or {"error": "no steady state"}
    except WattlineError as error:
        return {"error": str(error)}


def _serving(scenario: Scenario) -> Iterator[tuple[Changes, str]]:
    model, cluster = model_of(scenario), cluster_of(scenario)
    bits = _bits(scenario.get("serve.precision") or "") or 8 * model.weight_bytes / model.parameters
    if cluster.chip.get("compute.rate.fp8", 0.0) and bits > 12:
        yield {"serve.precision": "fp8"}, "an fp8 checkpoint of the model"
    if cluster.chip.get("compute.rate.fp8", 0.0) and scenario.get("serve.kv_precision") is None:
        yield {"serve.kv_precision": "fp8"}, "the KV cache in fp8"
    if scenario.get("serve.tpot"):
        slower = 1.5 * scenario["serve.tpot"]
        yield {"serve.tpot": slower}, f"a promise of {show(slower, 's')} a token"
    tensor, replicas = scenario["serve.tensor"], scenario.get("serve.replicas") or 1
    if tensor > 1 and tensor % 2 == 0 and scenario.get("hardware.chips_per_node") == tensor:
        half = {"serve.tensor": tensor // 2, "hardware.chips_per_node": tensor // 2}
        yield half, f"half the chips a replica: tensor {tensor // 2}"
    if replicas > 1:
        yield {"serve.replicas": replicas - 1}, f"{replicas - 1} replicas, one switched off"


def _training(scenario: Scenario) -> Iterator[tuple[Changes, str]]:
    cluster = cluster_of(scenario)
    tensor, pipeline = scenario["train.tensor"], scenario["train.pipeline"]
    if cluster.chip.get("compute.rate.fp8", 0.0) and _bits(scenario["train.precision"]) > 8:
        yield {"train.precision": "fp8"}, "matrix products in fp8"
    micro = scenario["train.microbatch"]
    yield {"train.microbatch": 2 * micro}, f"microbatches of {2 * micro}"
    if scenario["train.recompute"] not in ("none", "auto"):
        yield {"train.recompute": "none"}, "no recomputation of activations"
    if tensor > 1 and tensor % 2 == 0:
        yield {"train.tensor": tensor // 2}, f"tensor {tensor // 2}, twice the data parallel groups"
        if pipeline > 1:
            deep = {"train.tensor": tensor // 2, "train.pipeline": 2 * pipeline}
            yield deep, f"tensor {tensor // 2} and pipeline {2 * pipeline}"


def _bits(precision: str) -> int:
    return _BITS.get(precision, 0)
