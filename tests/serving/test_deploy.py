"""Tests for what to type: every text is read by a parser with the engines' own flags, or as the objects it declares.

The parsers below hold names and types as the engines declare them: vLLM 0.11 (EngineArgs and FrontendArgs in
vllm/engine/arg_utils.py and vllm/entrypoints/openai/cli_args.py), SGLang 0.5 (python/sglang/srt/server_args.py) and
TensorRT-LLM at 00209af1 (tensorrt_llm/commands/serve.py). They refuse what these refuse: other names, other types.
"""

from __future__ import annotations

import argparse
import json
import shlex
from typing import Any

import pytest
import yaml

from wattline.hardware import catalog as hardware
from wattline.serving.deploy import Launch, commands, emit, sglang, trtllm, vllm
from wattline.show.cli.main import app

WORDS = {
    "vllm": {
        "model": str, "--tensor-parallel-size": int, "--data-parallel-size": int, "--max-num-seqs": int,
        "--max-num-batched-tokens": int, "--gpu-memory-utilization": float, "--max-model-len": int,
        "--quantization": str, "--speculative-config": json.loads,
    },
    "sglang": {
        "--model-path": str, "--tp-size": int, "--dp-size": int, "--ep-size": int, "--max-running-requests": int,
        "--chunked-prefill-size": int, "--mem-fraction-static": float, "--context-length": int, "--quantization": str,
        "--port": int, "--speculative-num-draft-tokens": int, "--speculative-draft-model-path": str,
    },
    "trtllm": {
        "model": str, "--tp_size": int, "--ep_size": int, "--max_batch_size": int, "--max_num_tokens": int,
        "--max_seq_len": int, "--kv_cache_free_gpu_memory_fraction": float,
    },
}  # fmt: skip
SWITCHES = {"vllm": ["--enable-expert-parallel"], "sglang": ["--enable-metrics", "--enable-dp-attention"], "trtllm": []}
CHOICES = {
    "vllm": {"--kv-cache-dtype": ["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"]},
    "sglang": {
        "--kv-cache-dtype": ["auto", "fp8_e5m2", "fp8_e4m3", "bf16"],
        "--speculative-algorithm": ["EAGLE", "EAGLE3", "NEXTN", "STANDALONE", "NGRAM"],
    },
    "trtllm": {"--backend": ["pytorch", "tensorrt", "_autodeploy"]},
}  # fmt: skip
START = {"vllm": ["vllm", "serve"], "sglang": ["python", "-m", "sglang.launch_server"], "trtllm": ["trtllm-serve"]}


def read(engine: str, words: list[str]) -> dict[str, Any]:
    """Parse a command line as the engine does."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for name, kind in WORDS[engine].items():
        parser.add_argument(name, type=kind)
    for name in SWITCHES[engine]:
        parser.add_argument(name, action="store_true")
    for name, choices in CHOICES[engine].items():
        parser.add_argument(name, choices=choices)
    start = START[engine]
    assert words[: len(start)] == start
    found, rest = parser.parse_known_args(words[len(start) :])
    assert not rest, rest
    return vars(found)


def launch(**more: Any) -> Launch:
    base = {"model": "meta-llama/Llama-3.1-8B-Instruct", "chip": hardware.chip("h100-sxm"), "batch": 96, "chunk": 8192}
    return Launch(**{**base, "clock": 1.425e9, "ttft": 0.5, "tpot": 0.05, **more})


WAYS = [
    {}, {"tensor": 8, "expert": 8}, {"tensor": 4, "data": 2, "batch": 97}, {"weights": "fp8", "cache": "fp8"},
    {"context": 32768}, {"drafts": 3}, {"drafts": 4, "draft": "meta-llama/Llama-3.2-1B"},
]  # fmt: skip


@pytest.mark.parametrize("more", WAYS, ids=lambda way: ",".join(way) or "plain")
def test_engines_read_their_lines(more: dict[str, Any]) -> None:
    """Every engine's parser takes its line, and finds in it what the plan says."""
    x = launch(**more)
    a, b, c = read("vllm", vllm(x)), read("sglang", sglang(x)), read("trtllm", trtllm(x))
    assert a["model"] == b["model_path"] == c["model"] == x.model
    assert a["tensor_parallel_size"] * (a["data_parallel_size"] or 1) == b["tp_size"] == c["tp_size"] == x.devices
    assert a["max_num_seqs"] * x.data >= b["max_running_requests"] == x.batch
    assert a["max_num_batched_tokens"] * x.data == b["chunked_prefill_size"] == x.chunk
    assert a["max_model_len"] == b["context_length"] == c["max_seq_len"] == x.context
    assert (a["kv_cache_dtype"], b["kv_cache_dtype"]) == (("fp8", "fp8_e4m3") if x.cache else (None, None))
    assert a["enable_expert_parallel"] == (x.expert > 1)
    if x.drafts:
        assert a["speculative_config"]["num_speculative_tokens"] == b["speculative_num_draft_tokens"] == x.drafts


def test_clocks_come_first_and_can_be_undone() -> None:
    """nvidia-smi locks the whole replica's chips; on AMD it is rocm-smi; a chip of one clock gets none."""
    lines = commands((launch(tensor=2, power=500.0),))
    assert lines[0] == "nvidia-smi -i 0,1 -lgc 1425,1425  # undo: nvidia-smi -i 0,1 -rgc"
    assert lines[1] == "nvidia-smi -i 0,1 -pl 500"
    assert commands((launch(chip=hardware.chip("mi300x"), clock=1.5e9),))[0].startswith("rocm-smi --setsrange ")


def test_the_governors_line_is_one_of_ours() -> None:
    """The command line parses it."""
    line = commands((launch(),))[-1]
    words = shlex.split(line)
    assert words[:2] == ["wattline", "govern"]
    command, bound, _ = app.parse_args(words[1:], print_error=False, exit_on_error=False)
    assert command.__name__ == "govern"
    assert bound.arguments["tpot"] == "50 ms"


@pytest.mark.parametrize("more", WAYS, ids=lambda way: ",".join(way) or "plain")
def test_manifests_are_what_they_declare(more: dict[str, Any]) -> None:
    """A deployment whose labels meet its selector and its service's, with vLLM's own line and as many chips as it needs."""
    x = launch(replicas=3, **more)
    deployment, service = yaml.safe_load_all(emit((x,), "k8s", "Llama 8B"))
    spec, pod = deployment["spec"], deployment["spec"]["template"]
    assert (deployment["apiVersion"], deployment["kind"], spec["replicas"]) == ("apps/v1", "Deployment", 3)
    assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["spec"]["selector"]
    (engine,), (first,) = pod["spec"]["containers"], pod["spec"]["initContainers"]
    assert read("vllm", [*engine["command"], *engine["args"]])["max_num_seqs"] == x.group_batch
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == str(x.devices)
    assert first["command"][-1] == "nvidia-smi -lgc 1425,1425"
    assert {v["name"] for v in pod["spec"]["volumes"]} >= {m["name"] for m in engine["volumeMounts"]}
    assert service["spec"]["ports"][0]["targetPort"] == engine["ports"][0]["containerPort"]


def test_a_dynamo_graph_has_a_worker_a_pool() -> None:
    """Prefill and decode pools are workers of their own, and their flags are vLLM's."""
    pools = (launch(role="prefill", replicas=2), launch(role="decode", replicas=5, clock=1.2e9))
    text = emit(pools, "dynamo", "split")
    graph = yaml.safe_load(text)
    assert (graph["apiVersion"], graph["kind"]) == ("nvidia.com/v1alpha1", "DynamoGraphDeployment")
    services = graph["spec"]["services"]
    assert [services[n]["replicas"] for n in ("Frontend", "VllmPrefillWorker", "VllmDecodeWorker")] == [1, 2, 5]
    args = services["VllmPrefillWorker"]["extraPodSpec"]["mainContainer"]["args"]
    assert args[-1] == "--is-prefill-worker"
    assert read("vllm", ["vllm", "serve", args[1], *args[2:-1]])["max_num_batched_tokens"] == 8192
    assert "-lgc 1200,1200" in text
