"""The keys a scenario may have: section, name, what kind of value, its default and a sentence.

One table, read by the loader, by the messages and by the docs. A value that the user leaves out takes
the default shown here, and the answer lists every default it used as an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core import plugins
from ..core.errors import ScenarioError, nearest
from ..core.units import parse
from ..workload.arrivals import SPREADS

PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16", "fp8", "fp4")


@dataclass(frozen=True, slots=True)
class Key:
    """One key; packages add to its choices by entry points of `group` (`core.plugins`). `kind` is "text", "whole", "flag", "choice", a list of "texts" or "wholes", or the SI unit of a quantity
    ("" for a fraction)."""

    section: str
    name: str
    kind: str
    default: Any
    text: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = float("inf")
    group: str = ""

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    def read(self, value: object) -> Any:
        """Return `value` in SI, or raise a sentence that names the key, the value and what would work."""
        if self.kind in ("texts", "wholes"):
            return self._several(value)
        if self.kind in ("text", "choice"):
            return self._text(value)
        if self.kind == "flag":
            if isinstance(value, bool):
                return value
            raise ScenarioError(f"{self.path} must be true or false, got {value!r}")
        if self.kind == "whole":
            number = parse(value, "", key=self.path) if isinstance(value, str) else value
            if isinstance(number, bool) or not isinstance(number, (int, float)) or number % 1 != 0:
                raise ScenarioError(f"{self.path} must be a whole number, got {value!r}")
            return self._bounded(int(number), value)
        return self._bounded(parse(value, self.kind, key=self.path), value)

    def _several(self, value: object) -> tuple[Any, ...] | None:
        """Read a list, or text with commas as on the command line; "auto" leaves it to the search."""
        if value == "auto" and self.default is None and not self.choices:
            return None
        many = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        many = [many] if isinstance(many, int) and not isinstance(many, bool) else many
        if not isinstance(many, (list, tuple)) or not many:
            raise ScenarioError(f"{self.path} must be a list of at least one, got {value!r}")
        one = Key(self.section, self.name, self.kind[:-1], None, self.text, self.choices, self.low, self.high)
        return tuple(dict.fromkeys(one.read(part) for part in many))

    def _text(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ScenarioError(f"{self.path} must be a text in quotes, got {value!r}")
        known = (*self.choices, *plugins.named(self.group)) if self.group else self.choices
        if known and value not in known:
            raise ScenarioError(f"{self.path} = {value!r} is not known; {nearest(value, known)}")
        return value

    def _bounded(self, number: Any, value: object) -> Any:
        if not self.low <= number <= self.high:
            limits = (
                f"at least {self.low:g}" if self.high == float("inf") else f"between {self.low:g} and {self.high:g}"
            )
            raise ScenarioError(
                f"{self.path} must be {limits} {self.kind if self.kind != 'whole' else ''}".rstrip()
                + f", got {value!r}"
            )
        return number


def _table() -> tuple[Key, ...]:
    def key(path: str, kind: str, default: Any, text: str, **more: Any) -> Key:
        section, _, name = path.partition(".")
        return Key(section, name, kind, default, text, **more)

    tiny = 1e-12
    return (
        key("model.name", "text", None, "A model of the catalog, e.g. llama-3.1-70b"),
        key("model.config", "text", None, "Path to a Hugging Face config.json, relative to the scenario file"),
        key("hardware.chip", "text", None, "A chip or chip description of the catalog, or a path to either's TOML file"),
        key("hardware.node", "text", None, "A node of the catalog; the chip's usual node where left out"),
        key("hardware.nodes", "whole", 1, "Nodes used", low=1),
        key("hardware.chips_per_node", "whole", None, "Chips used in each node; all of the node's where left out", low=1),
        key("hardware.source", "choice", "roofline", "How time and energy are found: the calibrated roofline, or a mapping search on a described chip", choices=("roofline", "dataflow"), group="wattline.sources"),
        key("train.tokens", "token", None, "Tokens to train on; or give train.samples", low=1),
        key("train.samples", "whole", None, "Samples of the data set, in place of train.tokens", low=1),
        key("train.epochs", "", 1.0, "Times that the samples are gone through", low=0.001),
        key("train.length", "whole", None, "Mean tokens of a sample; train.sequence where left out", low=1),
        key("train.packing", "flag", True, "Samples shorter than train.sequence share one; else they are padded to it"),
        key("train.method", "choice", "sft", "What a step is: next-token training (sft), preference pairs beside a frozen reference model (dpo), or answers generated, scored and learned from (grpo)", choices=("sft", "dpo", "grpo")),
        key("train.steps", "whole", None, "Steps of grpo", low=1),
        key("train.prompts", "whole", None, "Prompts of a step of grpo", low=1),
        key("train.group", "whole", 8, "Answers generated for each prompt of grpo", low=1),
        key("train.prompt", "whole", 512, "Mean tokens of a prompt of grpo", low=1),
        key("train.answer", "whole", None, "Mean tokens of an answer of grpo", low=1),
        key("train.longest", "whole", None, "Tokens of the longest answer of a step, which a synchronous step waits for; three times the mean where left out", low=1),
        key("train.rollout_tensor", "whole", 1, "Tensor-parallel devices of one replica that generates", low=1),
        key("train.rollout_nodes", "whole", 0, "Further nodes that only generate, one step ahead of training (asynchronous); 0: the same chips do both in turn"),
        key("train.adapter", "choice", "none", "What is trained: all weights, or low-rank adapters beside them", choices=("none", "lora")),
        key("train.rank", "whole", 16, "Rank of the adapters", low=1),
        key("train.base", "choice", "bf16", "How weights are stored that are not trained; nf4 is QLoRA's", choices=("bf16", "nf4")),
        key("train.frozen", "whole", 0, "First layers that are not trained"),
        key("train.optimizer", "choice", "adamw", "Optimizer, which decides its state and its step", choices=("adamw", "adamw-bf16", "adamw-8bit", "muon", "sgd")),
        key("train.gradients", "choice", "fp32", "Stored precision of summed gradients", choices=("fp32", "bf16")),
        key("train.loss_chunks", "whole", 1, "Parts in which the loss is taken, so that logits of one part are held at a time", low=1),
        key("train.memory", "", 1.0, "Share of a device's memory that may be used", low=0.1, high=1),
        key("train.sequence", "whole", 4096, "Tokens per sequence", low=1),
        key("train.global_batch", "whole", None, "Sequences per optimizer step", low=1),
        key("train.microbatch", "whole", 1, "Sequences per microbatch and replica", low=1),
        key("train.precision", "choice", "bf16", "Arithmetic of the matrix products", choices=PRECISIONS),
        key("train.tensor", "whole", 1, "Tensor-parallel devices", low=1),
        key("train.pipeline", "whole", 1, "Pipeline stages", low=1),
        key("train.stages", "text", None, "Layers of each pipeline stage, as in \"20,20,20,18\"; an even split where left out"),
        key("train.data", "whole", None, "Data-parallel replicas; all that the devices allow where left out", low=1),
        key("train.context", "whole", 1, "Context-parallel devices", low=1),
        key("train.expert", "whole", 1, "Expert-parallel devices", low=1),
        key("train.virtual", "whole", 1, "Model chunks per stage (interleaved schedule)", low=1),
        key("train.sequence_parallel", "flag", True, "Split norms and residuals over the tensor-parallel devices"),
        key("train.schedule", "choice", "1f1b", "Pipeline schedule", choices=("gpipe", "1f1b", "interleaved", "zb-h1", "zb-2p", "zb-v", "dualpipe", "dualpipe-v")),
        key("train.recompute", "choice", "selective", "Activations computed again in the backward pass; operator: all but attention and every second product", choices=("none", "selective", "operator", "full")),
        key("train.flash", "flag", True, "Fused attention (no score matrix in memory)"),
        key("train.attention", "choice", None, "Generation of the fused attention kernel; the fastest that the chip has where left out", choices=("fa1", "fa2", "fa3")),
        key("train.kernels", "choice", "fused", "What is not a product: fused (torch.compile, Transformer Engine, Liger), or eager PyTorch operators", choices=("fused", "eager")),
        key("train.launch_time", "s", 5e-6, "Host time per kernel launch; 0 with CUDA graphs"),
        key("train.dropout", "flag", False, "Dropout after attention, softmax and the feed-forward part, as GPT-3 was trained"),
        key("train.fused_linear", "flag", True, "Backward of linear layers with gradient sums fused and collectives beside them"),
        key("train.host_time", "s", None, "Seconds per iteration in which devices wait for the host; a fitted constant where left out"),
        key("train.checkpoint_every", "whole", None, "Iterations between checkpoints that training waits for; none where left out", low=1),
        key("train.checkpoint_bandwidth", "B/s", 2e9, "Rate at which one node writes a checkpoint", low=1),
        key("train.zero", "whole", 1, "ZeRO stage: what the data-parallel replicas share out", high=3),
        key("train.overlap", "", None, "Share of the data-parallel collectives hidden behind computation; 0.8 of the gradients' and all but the first layer's of ZeRO 3 where left out", high=1),
        key("train.mfu", "", None, "Model FLOP utilisation to assume at maximum clocks, where it is known; stretches the step", low=0.01, high=1),
        key("train.goodput", "", 1.0, "Share of the wall time that makes progress (failures, restarts, checkpoints)", low=0.01, high=1),
        key("serve.requests", "text", None, "Trace of requests: CSV of arrival_s, prompt_tokens, output_tokens, or Azure, BurstGPT, Mooncake (plain or .gz)"),
        key("serve.rate", "request/s", None, "Requests per second to carry, over all replicas; as many as they can where left out", low=tiny),
        key("serve.prompt", "whole", 1024, "Mean prompt tokens of a request", low=1),
        key("serve.output", "whole", 256, "Mean output tokens of a request", low=1),
        key("serve.task", "choice", None, "What the requests are, for the spread of made-up lengths; chat where left out", choices=tuple(SPREADS)),
        key("serve.concurrency", "whole", None, "Clients that each send the next request when the last is answered (closed loop), instead of serve.rate", low=1),
        key("serve.ttft", "s", None, "Longest time to the first token", low=tiny),
        key("serve.tpot", "s", None, "Longest time per output token", low=tiny),
        key("serve.percentile", "whole", 99, "Percentile at which the latency limits hold", low=1, high=100),
        key("serve.tensor", "whole", 1, "Tensor-parallel devices of the replica", low=1),
        key("serve.expert", "whole", 1, "Expert-parallel devices of the replica", low=1),
        key("serve.pipeline", "whole", 1, "Pipeline stages of the replica", low=1),
        key("serve.data", "whole", 1, "Data-parallel attention groups of the replica", low=1),
        key("serve.precision", "choice", None, "Precision of the weights; the model's own where left out", choices=PRECISIONS),
        key("serve.kv_precision", "choice", None, "Precision of the KV cache; as the activations where left out", choices=PRECISIONS),
        key("serve.max_batch", "whole", 512, "Most requests decoded together", low=1),
        key("serve.chunk", "whole", 8192, "Most tokens in one step (chunked prefill)", low=1),
        key("serve.engine", "text", "vllm 0.11", "Engine and version: vllm, sglang or trtllm, as in vllm 0.14; decides kernels, graphs, the host's work and the launch line that the plan ends with"),
        key("serve.engine_switches", "texts", None, "Environment variables and arguments it is launched with, NAME=VALUE, as in VLLM_USE_FLASHINFER_MOE_FP8=1"),
        key("serve.request_overhead", "s", None, "Seconds a request waits outside the engine's steps before its first token is seen (HTTP, tokeniser, first flush); the engine's own where left out"),
        key("serve.cores_per_gpu", "", None, "Processor cores that each device has for its engine; one process a device and two more share them. As many as they need where left out", low=0.1),
        key("serve.factors", "text", None, "File of factors on the engine's constants that wattline calibrate serving wrote from runs of your own"),
        key("serve.arrivals", "choice", None, "Simulated arrivals where no trace is given; poisson where left out", choices=("poisson", "gamma", "diurnal", "uniform")),
        key("serve.variation", "", None, "Coefficient of variation of the gaps of gamma arrivals; 2 where left out", low=0.01),
        key("serve.swing", "", None, "How far diurnal arrivals swing about their mean rate; 60 % where left out", high=1),
        key("serve.prompt_variation", "", None, "Coefficient of variation of made-up prompt lengths; that of serve.task where left out, all alike at 0"),
        key("serve.output_variation", "", None, "The same of output lengths"),
        key("serve.prefix", "whole", None, "Tokens at the start of every made-up prompt that many share (system prompt)", low=0),
        key("serve.prefixes", "whole", None, "How many such texts there are; 1 where left out", low=1),
        key("serve.count", "whole", None, "Requests to simulate: made up (10,000 where left out), or the first of the trace", low=1),
        key("serve.start", "s", None, "Where in the trace the simulation starts"),
        key("serve.duration", "s", None, "How much of the trace is simulated", low=tiny),
        key("serve.replicas", "whole", None, "Replicas simulated, each of the scenario's hardware; 1 where left out", low=1),
        key("serve.prefill_replicas", "whole", None, "Replicas that only read prompts, before `serve.replicas` that only decode (disaggregated)", low=1),
        key("serve.scheduler", "choice", None, "How requests are let in and steps made up: vllm (all of a prompt fits; mixed steps), sglang (prompts first, in steps of their own), no-evict (the whole output fits) or max-utilization (TensorRT-LLM's two); that of serve.engine where left out", choices=("vllm", "sglang", "no-evict", "max-utilization")),
        key("serve.urgent", "", None, "Share of made-up requests that are let in before all others (class 0 of two)", high=1),
        key("serve.patience", "s", None, "Time after which a request that was not begun gives up; none does where left out", low=tiny),
        key("serve.images", "", None, "Pictures in a mean prompt, whose tokens count within serve.prompt", low=0),
        key("serve.image_tokens", "whole", None, "Tokens of a picture; the model's own where all are scaled to one size, else those of a megapixel", low=1),
        key("serve.lora_rank", "whole", None, "Rank of low-rank adapters that requests use; none where left out", low=1, high=1024),
        key("serve.loras", "whole", None, "Adapters that requests use, each as often as another; 1 where left out", low=1),
        key("serve.turns", "", None, "Mean turns of a session: serve.prompt is what a turn adds to all that was said before, which the prefix cache may hold; 1 where left out", low=1),
        key("serve.think", "s", None, "Mean time between an answer, at the pace of serve.tpot, and the next turn of its session; 0 where left out", low=0),
        key("serve.offload", "flag", None, "Whether the caches of preempted requests move to the host over its link, in place of being computed again"),
        key("serve.route", "choice", None, "How requests find their replica; least_loaded where left out", choices=("round_robin", "least_loaded", "prefix", "pack")),
        key("serve.policy", "choice", None, "What sets clocks, batches and replicas over time; highest clock where left out", choices=("fixed", "governor", "batch", "parking", "parking-governor"), group="wattline.policies"),
        key("serve.clock", "Hz", None, "Clock of policy fixed, batch or parking; the highest where left out", low=tiny),
        key("serve.prefill_clock", "Hz", None, "Clock of steps that carry prompts, where another than serve.clock", low=tiny),
        key("serve.draft_tokens", "whole", None, "Tokens proposed per step by speculative decoding; none where left out", low=1, high=64),
        key("serve.draft_acceptance", "", None, "Chance that a proposed token holds", high=1),
        key("serve.draft_model", "text", None, "Model that proposes them; free where left out (n-grams, heads of the model)"),
        key("serve.start_time", "s", None, "Time to start a replica that is off; 60 s where left out"),
        key("serve.start_power", "W", None, "Power of a replica's chips while it starts; their waiting power where left out"),
        key("serve.parked_power", "W", None, "Power of a replica's chips while it is parked; 0 (off) where left out"),
        key("serve.context", "whole", None, "Longest request, prompt and output; any that the cache holds where left out", low=1),
        key("serve.seed", "whole", None, "Seed of made-up requests and of accepted draft tokens; 0 where left out", low=0),
        key("serve.memory", "", 0.9, "Share of the device memory that the server may use", low=0.05, high=1),
        key("measured.profile", "text", None, "A profile that `wattline profile` made: its name, its run, or last"),
        key("measured.times", "whole", 1, "How many times the profiled work is done", low=1),
        key("measured.store", "text", None, "The store it is in, where that is not the usual one"),
        key("serve.search", "flag", None, "Search chips, layouts, precisions, batches, clocks and replicas for the trace; [serve.search] says which"),
        key("serve.search.chips", "texts", None, "Chips searched; hardware.chip where left out"),
        key("serve.search.tensor", "wholes", None, "Tensor-parallel degrees searched; 1, 2, 4, 8 where left out", low=1),
        key("serve.search.expert", "wholes", None, "Expert-parallel degrees searched; 1 where left out", low=1),
        key("serve.search.data", "wholes", None, "Data-parallel attention groups searched; 1 where left out", low=1),
        key("serve.search.pipeline", "wholes", None, "Pipeline stages searched; 1 where left out", low=1),
        key("serve.search.drafts", "wholes", None, "Draft tokens of a step searched (speculative decoding), 0 for none; 0 where left out", low=0),
        key("serve.search.chunks", "wholes", None, "Most tokens of a step searched; 1,024 to serve.chunk by twos where neither is stated", low=1),
        key("serve.search.phases", "flag", None, "Whether steps with prompts may run at a clock of their own; true where left out"),
        key("serve.search.goal", "choice", None, "What is to be least: energy, cost (site.price and site.chip_price), or both, told as a frontier; energy where left out", choices=("energy", "cost", "both")),
        key("serve.search.precision", "texts", None, "Precisions of the weights searched; serve.precision where left out", choices=("stored", *PRECISIONS)),
        key("serve.search.kv_precision", "texts", None, "Precisions of the KV cache searched; serve.kv_precision where left out", choices=("stored", *PRECISIONS)),
        key("serve.search.batches", "wholes", None, "Most running requests searched; 8 to 256 by twos and what the memory holds where left out", low=1),
        key("serve.search.replicas", "wholes", None, "Replicas of a pool searched, or auto: from what carries the mean load to three times that", low=1),
        key("serve.search.pools", "texts", None, "Fleets searched: one pool, a prefill and a decode pool (disaggregated), pools by-length of prompts; all where left out", choices=("one", "disaggregated", "by-length")),
        key("serve.search.split", "whole", None, "Longest prompt that goes to the pool for short ones; where short ones hold half the prompt tokens where left out", low=1),
        key("serve.search.chips_limit", "whole", None, "Most chips of the whole fleet", low=1),
        key("serve.search.confirm", "whole", None, "Best configurations that are simulated; 10 where left out", low=1, high=1000),
        key("site.pue", "", 1.0, "Facility power over IT power", low=1, high=5),
        key("site.price", "USD/J", None, "Price of electricity"),
        key("site.chip_price", "USD/s", None, "Price of a chip's time, rented or written off, e.g. 2.5 USD/h; electricity comes besides", low=0),
        key("site.carbon", "g/J", None, "Carbon intensity of electricity"),
        key("site.power_limit", "W", None, "Most average power the job may draw, facility included", low=tiny),
        key("goal.max_slowdown", "", None, "Least energy at no more than this slowdown against maximum clocks"),
        key("goal.deadline", "s", None, "Least energy by this time", low=tiny),
        key("goal.power", "W", None, "Fastest within this average facility power", low=tiny),
        key("goal.energy", "J", None, "Fastest within this facility energy", low=tiny),
        key("goal.carbon", "g", None, "Fastest within this carbon", low=tiny),
        key("goal.cost", "USD", None, "Fastest within this electricity cost", low=tiny),
        key("goal.least_energy", "flag", None, "Least energy whatever the time"),
    )  # fmt: skip


KEYS: Final[Mapping[str, Key]] = {key.path: key for key in _table()}
SECTIONS: Final = ("model", "hardware", "chip", "node", "train", "serve", "measured", "site", "goal")


def lookup(path: str) -> Key:
    """Return the key at a dotted path, or raise naming the nearest valid one."""
    if path in KEYS:
        return KEYS[path]
    section, _, name = path.partition(".")
    if section not in SECTIONS:
        raise ScenarioError(f"unknown section [{section}]; {nearest(section, SECTIONS)}")
    inside = [k.name for k in KEYS.values() if k.section == section]
    raise ScenarioError(f"unknown key {path}; {nearest(name, inside)}")
