"""Tests for what to type: every text is held against the engines' own flags and against Kubernetes' own schema.

`engine_flags.json` and `kubernetes.json` are read out of the releases of vLLM, SGLang and Kubernetes' schema by
scripts/write_engine_flags.py: names, types and choices of every argument. TensorRT-LLM is in no package index; its
flags are those of commit 00209af1 (tensorrt_llm/commands/serve.py). What these parsers refuse is refused here.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from wattline.hardware import catalog as hardware
from wattline.scenario.schema import PRECISIONS
from wattline.serving.deploy import Launch, commands, emit, sglang, trtllm, vllm
from wattline.show.cli.main import app

HERE = Path(__file__).parent
FLAGS: dict[str, Any] = json.loads((HERE / "engine_flags.json").read_text("utf-8"))
TRTLLM = {
    **{f"--{name}": {"type": "int"} for name in ["tp_size", "ep_size", "pp_size", "max_batch_size", "max_num_tokens", "max_seq_len"]},
    "--kv_cache_free_gpu_memory_fraction": {"type": "float"}, "--enable_chunked_prefill": {"type": "switch"},
    "--backend": {"type": "str", "choices": ["pytorch", "tensorrt", "_autodeploy"]},
}  # fmt: skip
START = {"vllm": ["vllm", "serve"], "sglang": ["python", "-m", "sglang.launch_server"], "trtllm": ["trtllm-serve"]}
KINDS: dict[str, Any] = {"int": int, "float": float, "str": str, "json": json.loads}


def parser(engine: str) -> argparse.ArgumentParser:
    """A parser of all of an engine's flags, with its types and choices."""
    flags = TRTLLM if engine == "trtllm" else FLAGS[engine]["flags"]
    out = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    if engine != "sglang":
        out.add_argument("model", type=str)
    for name, what in flags.items():
        if not name.startswith("-"):
            continue
        if what.get("type") == "switch":
            out.add_argument(name, action="store_true")
        else:
            out.add_argument(name, type=KINDS[what.get("type", "str")], choices=what.get("choices"))
    return out


def read(engine: str, words: list[str]) -> dict[str, Any]:
    """Parse a command line as the engine does."""
    start = START[engine]
    assert words[: len(start)] == start
    found, rest = parser(engine).parse_known_args(words[len(start) :])
    assert not rest, rest
    if engine == "vllm" and found.speculative_config:
        assert set(found.speculative_config) <= set(FLAGS["vllm"]["speculative_config"])
    return vars(found)


SCHEMA: dict[str, Any] = {"$defs": json.loads((HERE / "kubernetes.json").read_text("utf-8"))["$defs"]}


def launch(**more: Any) -> Launch:
    base = {"model": "meta-llama/Llama-3.1-8B-Instruct", "chip": hardware.chip("h100-sxm"), "batch": 96, "chunk": 8192}
    return Launch(**{**base, "clock": 1.425e9, "ttft": 0.5, "tpot": 0.05, **more})


WAYS = [
    {}, {"tensor": 8, "expert": 8}, {"tensor": 4, "data": 2, "batch": 97}, {"weights": "fp8", "cache": "fp8"},
    {"context": 32768}, {"drafts": 3}, {"drafts": 4, "draft": "meta-llama/Llama-3.2-1B"},
    *({"weights": p, "cache": p} for p in PRECISIONS),
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
    if x.cache in ("fp8", None):
        assert (a["kv_cache_dtype"], b["kv_cache_dtype"]) == (("fp8", "fp8_e4m3") if x.cache else (None, None))
    assert a["enable_expert_parallel"] == (x.expert > 1)
    if x.drafts:
        assert a["speculative_config"]["num_speculative_tokens"] == b["speculative_num_draft_tokens"] - 1 == x.drafts
        assert (b["speculative_num_steps"], b["speculative_eagle_topk"]) == ((x.drafts, 1) if x.draft else (None, None))


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
    for made, name in ((deployment, "apps.v1.Deployment"), (service, "core.v1.Service")):
        jsonschema.validate(made, {**SCHEMA, "$ref": f"#/$defs/io.k8s.api.{name}"})
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


def test_what_the_engines_refuse_is_refused_here() -> None:
    """The parsers above bite: a name, a type and a choice that no engine has, and a field that no manifest has."""
    for words in (["m", "--max-num-seq", "4"], ["m", "--max-num-seqs", "x"], ["m", "--quantization", "bf16"]):
        with pytest.raises((argparse.ArgumentError, AssertionError)):
            read("vllm", ["vllm", "serve", *words])
    (deployment, _) = yaml.safe_load_all(emit((launch(),), "k8s", "x"))
    deployment["spec"]["template"]["spec"]["containers"][0]["argz"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(deployment, {**SCHEMA, "$ref": "#/$defs/io.k8s.api.apps.v1.Deployment"})


def test_a_precision_that_no_flag_makes_is_said() -> None:
    """Weights in fp4 are a checkpoint of their own; a cache that an engine has no name for is not silently left out."""
    lines = commands((launch(weights="fp4", cache="fp4"),))
    assert "# weights in fp4: name a checkpoint that is stored so" in lines
    assert "# vllm has no flag for a cache in fp4" in lines


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_every_engine_has_its_governor(engine: str) -> None:
    """The line that lets clocks follow the load reads the metrics where the engine serves them."""
    line = commands((launch(),), engine)[-1]
    assert line.startswith("wattline govern --metrics http://127.0.0.1:8000/")
    assert ("prometheus" in line) == (engine == "trtllm")
