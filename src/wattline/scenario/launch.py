"""A serving answer as what an engine is told: pools of replicas with every flag that the plan rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..serving.deploy import Launch, commands
from ..workload import catalog as models
from . import stated as scenarios
from .stated import Scenario

if TYPE_CHECKING:
    from ..frontier.answer import Outcome

FORMS = ("vllm", "sglang", "trtllm", "k8s", "dynamo")


def model_id(scenario: Scenario) -> str:
    """Return what an engine loads: the Hugging Face id, of instructed weights where there are such, or a path."""
    config = scenario.get("model.config")
    if config is not None:
        path = scenarios.path_of(scenario, config)
        return str(path.parent if path.name == "config.json" else path)
    return models.hub_id(str(scenario["model.name"]))


def pools(scenario: Scenario, chosen: Outcome) -> tuple[Launch, ...]:
    """Return the pools of a plan: one, or prefill and decode where the scenario parts them."""
    (knob,) = chosen.knobs
    cluster = scenarios.cluster_of(scenario)
    common = _common(scenario) | {
        "chip": cluster.chip, "tensor": scenario["serve.tensor"], "data": scenario["serve.data"],
        "expert": scenario["serve.expert"], "pipeline": scenario["serve.pipeline"],
        "weights": scenario.get("serve.precision"),
        "cache": scenario.get("serve.kv_precision"), "batch": knob["max_batch"], "chunk": knob["max_step_tokens"],
        "clock": knob["clock_hz"], "replicas": scenario.get("serve.replicas") or 1,
        "power": cluster.chip["power.limit"] if "power.limit" in scenario.chip else None,
    }  # fmt: skip
    first = scenario.get("serve.prefill_replicas")
    if first is None:
        return (Launch(**common),)
    return Launch(**{**common, "role": "prefill", "replicas": first}), Launch(**{**common, "role": "decode"})


def searched(scenario: Scenario, found: Sequence[Mapping[str, Any]]) -> tuple[Launch, ...]:
    """Return the pools of a configuration that a search found."""
    out = []
    for pool in found:
        cluster = scenarios.cluster_of(scenario.with_({"hardware.chip": pool["chip"]}))
        out.append(Launch(**_common(scenario) | {
            "chip": cluster.chip, "replicas": pool["replicas"], "role": pool["role"], "tensor": pool["tensor"],
            "data": pool["data"], "expert": pool["expert"],
            "pipeline": pool.get("pipeline", 1), "weights": pool["precision"], "cache": pool["kv_precision"],
            "batch": pool["max_batch"], "chunk": pool.get("max_step_tokens", scenario["serve.chunk"]),
            "clock": pool["clock_hz"], **({"drafts": pool["drafts"]} if pool.get("drafts") else {}),
        }))  # fmt: skip
    return tuple(out)


def _common(scenario: Scenario) -> dict[str, Any]:
    return {
        "model": model_id(scenario), "memory": scenario["serve.memory"], "context": scenario.get("serve.context"),
        "drafts": scenario.get("serve.draft_tokens"), "draft": scenario.get("serve.draft_model"),
        "ttft": scenario.get("serve.ttft"), "tpot": scenario.get("serve.tpot"),
        "percentile": scenario["serve.percentile"],
    }  # fmt: skip


def typed(scenario: Scenario, some: tuple[Launch, ...]) -> tuple[str, ...]:
    """Return what to type for the scenario's engine."""
    return commands(some, scenarios.engine_of(scenario).name)
