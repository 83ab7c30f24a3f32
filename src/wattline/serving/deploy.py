"""What to type for a serving plan: the engine's launch line, the clocks, the governor, and manifests.

    Launch --vllm | sglang | trtllm--> one command line       every flag whose value the plan rests on is written out
           --k8s | dynamo-----------> manifests (YAML)        the same command in a container, clocks set before it

Flags are those of vLLM 0.11.2 (`vllm serve`, vllm/engine/arg_utils.py), SGLang 0.5.6 (`sglang.launch_server`,
python/sglang/srt/server_args.py) and TensorRT-LLM 1.2 (`trtllm-serve`, tensorrt_llm/commands/serve.py); the tests hold
them against what scripts/write_engine_flags.py reads out of the first two's releases. Dynamo's graph is
`nvidia.com/v1alpha1`, as components/backends/vllm/deploy of ai-dynamo/dynamo has it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..core.units import show
from ..hardware import chip as chips
from ..hardware.facts import Sheet
from .profile import ENGINES

IMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vllm": "vllm/vllm-openai:latest",
        "sglang": "lmsysorg/sglang:latest",
        "trtllm": "nvcr.io/nvidia/tensorrt-llm/release:latest",
        "dynamo": "nvcr.io/nvidia/ai-dynamo/vllm-runtime:latest",
    }
)
FORMS: Final = (*ENGINES, "k8s", "dynamo")
# Weights that an engine makes of a stored model while it loads it: any other precision is a checkpoint of its own.
_LOADED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "bf16": ("--dtype", "bfloat16"), "fp16": ("--dtype", "float16"), "fp32": ("--dtype", "float32"),
        "tf32": ("--dtype", "float32"), "fp8": ("--quantization", "fp8"),
    }
)  # fmt: skip
# What engines call the cache's precisions.
_CACHE: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "vllm": {"fp8": "fp8", "bf16": "bfloat16"},
        "sglang": {"fp8": "fp8_e4m3", "bf16": "bf16", "fp4": "fp4_e2m1"},
    }
)
# Where each engine serves its metrics.
_METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {"vllm": "/metrics", "sglang": "/metrics", "trtllm": "/prometheus/metrics"}
)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One pool of equal replicas, as an engine is told of it.

    Attributes
    ----------
    model : its Hugging Face id, or a path. clock : Hz; None leaves it. power : W of a chip; None leaves it.
    batch, chunk : most running requests, most tokens of a step, of a replica; an engine with `data` groups has them
        per group. context : longest request; None for the model's own. drafts : draft tokens a step, by n-grams where
        `draft` names no model. ttft, tpot, percentile : the promise, for the governor.
    """

    model: str
    chip: Sheet
    replicas: int = 1
    role: str = "both"
    tensor: int = 1
    data: int = 1
    expert: int = 1
    pipeline: int = 1
    batch: int
    chunk: int
    memory: float = 0.9
    context: int | None = None
    weights: str | None = None
    cache: str | None = None
    drafts: int | None = None
    draft: str | None = None
    clock: float | None = None
    power: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    percentile: int = 99

    @property
    def devices(self) -> int:
        """Chips of a replica."""
        return self.tensor * self.data * self.pipeline

    @property
    def group_batch(self) -> int:
        """Most running requests of one data-parallel group."""
        return -(-self.batch // self.data)

    @property
    def group_chunk(self) -> int:
        """Most tokens of a step of one data-parallel group."""
        return -(-self.chunk // self.data)


# ---- engines -------------------------------------------------------------------------------------


def vllm(x: Launch) -> list[str]:
    """Return the words of `vllm serve`."""
    return ["vllm", "serve", x.model, *vllm_flags(x)]


def vllm_flags(x: Launch) -> list[str]:
    """Return vLLM's flags, which Dynamo's worker takes too."""
    out = [
        "--tensor-parallel-size", str(x.tensor), "--max-num-seqs", str(x.group_batch),
        "--max-num-batched-tokens", str(x.group_chunk), "--gpu-memory-utilization", f"{x.memory:g}",
    ]  # fmt: skip
    out += ["--data-parallel-size", str(x.data)] if x.data > 1 else []
    out += ["--pipeline-parallel-size", str(x.pipeline)] if x.pipeline > 1 else []
    out += ["--enable-expert-parallel"] if x.expert > 1 else []
    out += ["--max-model-len", str(x.context)] if x.context else []
    out += _LOADED.get(x.weights or "", ())
    cache = _CACHE["vllm"].get(x.cache or "")
    out += ["--kv-cache-dtype", cache] if cache else []
    if x.drafts:
        told: dict[str, object] = {"num_speculative_tokens": x.drafts}
        told |= {"model": x.draft} if x.draft else {"method": "ngram", "prompt_lookup_max": 4}
        out += ["--speculative-config", json.dumps(told)]
    return out


def sglang(x: Launch) -> list[str]:
    """Return the words of SGLang's server."""
    out = [
        "python", "-m", "sglang.launch_server", "--model-path", x.model, "--tp-size", str(x.tensor * x.data),
        "--max-running-requests", str(x.batch), "--chunked-prefill-size", str(x.chunk),
        "--mem-fraction-static", f"{x.memory:g}", "--enable-metrics",
    ]  # fmt: skip
    out += ["--dp-size", str(x.data), "--enable-dp-attention"] if x.data > 1 else []
    out += ["--pp-size", str(x.pipeline)] if x.pipeline > 1 else []
    out += ["--ep-size", str(x.expert)] if x.expert > 1 else []
    out += ["--context-length", str(x.context)] if x.context else []
    out += _LOADED.get(x.weights or "", ())
    cache = _CACHE["sglang"].get(x.cache or "")
    out += ["--kv-cache-dtype", cache] if cache else []
    if x.drafts:
        # SGLang counts the token that is verified anyway, and refuses a draft model without its steps and breadth.
        out += ["--speculative-num-draft-tokens", str(x.drafts + 1)]
        out += (
            ["--speculative-algorithm", "STANDALONE", "--speculative-draft-model-path", x.draft,
             "--speculative-num-steps", str(x.drafts), "--speculative-eagle-topk", "1"]
            if x.draft
            else ["--speculative-algorithm", "NGRAM"]
        )  # fmt: skip
    return [*out, "--port", "8000"]


def trtllm(x: Launch) -> list[str]:
    """Return the words of `trtllm-serve`."""
    out = [
        "trtllm-serve", x.model, "--backend", "pytorch", "--tp_size", str(x.tensor * x.data),
        "--max_batch_size", str(x.group_batch), "--max_num_tokens", str(x.group_chunk),
        "--kv_cache_free_gpu_memory_fraction", f"{x.memory:g}", "--enable_chunked_prefill",
    ]  # fmt: skip
    out += ["--ep_size", str(x.expert)] if x.expert > 1 else []
    out += ["--pp_size", str(x.pipeline)] if x.pipeline > 1 else []
    out += ["--max_seq_len", str(x.context)] if x.context else []
    return out


_ENGINES: Final[Mapping[str, Callable[[Launch], list[str]]]] = MappingProxyType(
    {"vllm": vllm, "sglang": sglang, "trtllm": trtllm}
)


# ---- clocks --------------------------------------------------------------------------------------


def settings(x: Launch) -> list[str]:
    """Return the commands that set a replica's chips, each with its undo."""
    devices = ",".join(str(k) for k in range(x.devices))
    amd = x.chip.name.startswith("mi")
    out = []
    if x.clock is not None and len(chips.clocks(x.chip)) > 1:
        mhz = f"{x.clock / 1e6:.0f}"
        out.append(
            f"rocm-smi --setsrange {x.chip['clock.min'] / 1e6:.0f} {mhz}  # undo: rocm-smi -r"
            if amd
            else f"nvidia-smi -i {devices} -lgc {mhz},{mhz}  # undo: nvidia-smi -i {devices} -rgc"
        )
    if x.power is not None:
        whole = f"{x.power:.0f}"
        out.append(
            f"rocm-smi --setpoweroverdrive {whole}  # undo: rocm-smi --resetpoweroverdrive"
            if amd
            else f"nvidia-smi -i {devices} -pl {whole}"
        )
    return out


def governor(x: Launch, engine: str = "vllm") -> list[str]:
    """Return the command that lets clocks follow the load instead, where there is a promise."""
    if x.ttft is None and x.tpot is None:
        return []
    words = ["wattline", "govern", "--metrics", f"http://127.0.0.1:8000{_METRICS[engine]}"]
    words += ["--tpot", show(x.tpot, "s", 6)] if x.tpot is not None else []
    words += ["--ttft", show(x.ttft, "s", 6)] if x.ttft is not None else []
    words += ["--percentile", str(x.percentile)]
    for device in range(x.devices):
        words += ["--device", str(device)]
    return words


# ---- texts ---------------------------------------------------------------------------------------


def commands(pools: tuple[Launch, ...], engine: str = "vllm") -> tuple[str, ...]:
    """Return lines to type, comments among them: the engine, then clocks, then the governor."""
    out: list[str] = []
    for x in pools:
        if x.replicas > 1 or len(pools) > 1:
            kind = "" if x.role == "both" else f"{x.role} "
            each = "1 chip" if x.devices == 1 else f"{x.devices} chips"
            out.append(f"# {x.replicas} {kind}replicas of {each}; on each:")
        out += settings(x)
        out.append(shlex.join(_ENGINES[engine](x)))
        if x.weights and x.weights not in _LOADED:
            out.append(f"# weights in {x.weights}: name a checkpoint that is stored so")
        if engine in _CACHE and x.cache and x.cache not in _CACHE[engine]:
            out.append(f"# {engine} has no flag for a cache in {x.cache}")
        if engine == "trtllm" and (x.cache or x.drafts or x.data > 1):
            out.append("# trtllm-serve takes the cache type, drafts and attention groups from --config FILE.yaml only")
    if len(pools) == 1 and (follow := governor(pools[0], engine)):
        out += ["# or, instead of the fixed clock, let it follow the load:", shlex.join(follow)]
    return tuple(out)


def emit(pools: tuple[Launch, ...], form: str, name: str) -> str:
    """Return a text to run or to apply: a command line per pool, or manifests.

    Parameters
    ----------
    form : "vllm", "sglang", "trtllm", "k8s" or "dynamo". name : of what is deployed.
    """
    if form in ENGINES:
        return "\n".join(commands(pools, form)) + "\n"
    plain = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
    if form == "dynamo":
        return _dynamo(pools, plain)
    return "---\n".join(_kubernetes(x, plain if len(pools) == 1 else f"{plain}-{x.role}") for x in pools)


def _kubernetes(x: Launch, name: str) -> str:
    """Return a deployment and its service; an init container sets the clocks of the chips that the pod gets."""
    own = f"-i {','.join(map(str, range(x.devices)))} "  # a pod sees its own chips only
    set_clock = [line.split("  #")[0].replace(own, "") for line in settings(x)]
    before = ""
    if set_clock:
        before = f"""      initContainers:
        - name: clocks
          image: {IMAGES["vllm"]}
          command: {json.dumps(["sh", "-c", " && ".join(set_clock)])}
          securityContext: {{privileged: true}}
          resources: {{limits: {{nvidia.com/gpu: "{x.devices}"}}}}
"""
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {x.replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
{before}      containers:
        - name: engine
          image: {IMAGES["vllm"]}
          command: {json.dumps(vllm(x)[:2])}
          args: {json.dumps(vllm(x)[2:])}
          ports: [{{containerPort: 8000}}]
          resources: {{limits: {{nvidia.com/gpu: "{x.devices}"}}}}
          readinessProbe:
            httpGet: {{path: /health, port: 8000}}
          volumeMounts: [{{name: shm, mountPath: /dev/shm}}]
      volumes:
        - name: shm
          emptyDir: {{medium: Memory}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 8000, targetPort: 8000}}]
"""


def _dynamo(pools: tuple[Launch, ...], name: str) -> str:
    """Return a Dynamo graph: a frontend and a worker of each pool. Clocks are the node's to set."""
    services = [
        f"""    Frontend:
      dynamoNamespace: {name}
      componentType: frontend
      replicas: 1
      extraPodSpec:
        mainContainer:
          image: {IMAGES["dynamo"]}
"""
    ]
    for x in pools:
        worker = "VllmPrefillWorker" if x.role == "prefill" else "VllmDecodeWorker"
        args = ["--model", x.model, *vllm_flags(x), *(["--is-prefill-worker"] if x.role == "prefill" else [])]
        services.append(
            f"""    {worker}:
      dynamoNamespace: {name}
      componentType: worker
      replicas: {x.replicas}
      resources:
        limits: {{gpu: "{x.devices}"}}
      extraPodSpec:
        mainContainer:
          image: {IMAGES["dynamo"]}
          command: ["python3", "-m", "dynamo.vllm"]
          args: {json.dumps(args)}
"""
        )
    where = {"both": "its nodes", "prefill": "nodes of prefill workers", "decode": "nodes of decode workers"}
    clocks = "".join(f"# on {where[x.role]}: {line}\n" for x in pools for line in settings(x))
    head = f"{clocks}apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nmetadata:\n  name: {name}\nspec:\n"
    return head + "  services:\n" + "".join(services)
