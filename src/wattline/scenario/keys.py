"""The keys of a scenario by the type of their value, so that a checker knows ``scenario["serve.rate"]``.

Written by scripts/write_keys.py from `schema.KEYS`; a key that is missing here is one of `Value`.
"""

from __future__ import annotations

from typing import Literal

Value = float | int | bool | str | tuple[str, ...] | tuple[int, ...]

# Quantities in SI, and fractions.
NumberKey = Literal[
    "train.tokens", "train.epochs", "train.memory", "train.launch_time", "train.host_time",
    "train.checkpoint_bandwidth", "train.overlap", "train.mfu", "train.goodput", "serve.rate", "serve.ttft",
    "serve.tpot", "serve.request_overhead", "serve.cores_per_gpu", "serve.variation", "serve.swing",
    "serve.prompt_variation", "serve.output_variation", "serve.start", "serve.duration", "serve.urgent",
    "serve.patience", "serve.images", "serve.turns", "serve.think", "serve.clock", "serve.prefill_clock",
    "serve.draft_acceptance", "serve.start_time", "serve.start_power", "serve.parked_power", "serve.memory",
    "site.pue", "site.price", "site.chip_price", "site.carbon", "site.power_limit", "goal.max_slowdown",
    "goal.deadline", "goal.power", "goal.energy", "goal.carbon", "goal.cost",
]  # fmt: skip
# Whole numbers.
WholeKey = Literal[
    "hardware.nodes", "hardware.chips_per_node", "train.samples", "train.length", "train.steps", "train.prompts",
    "train.group", "train.prompt", "train.answer", "train.longest", "train.rollout_tensor", "train.rollout_nodes",
    "train.rank", "train.frozen", "train.loss_chunks", "train.sequence", "train.global_batch", "train.microbatch",
    "train.tensor", "train.pipeline", "train.data", "train.context", "train.expert", "train.virtual",
    "train.checkpoint_every", "train.zero", "serve.prompt", "serve.output", "serve.concurrency", "serve.percentile",
    "serve.tensor", "serve.expert", "serve.pipeline", "serve.data", "serve.max_batch", "serve.chunk",
    "serve.prefix", "serve.prefixes", "serve.count", "serve.replicas", "serve.prefill_replicas",
    "serve.image_tokens", "serve.lora_rank", "serve.loras", "serve.draft_tokens", "serve.context", "serve.seed",
    "measured.times", "serve.search.split", "serve.search.chips_limit", "serve.search.confirm",
]  # fmt: skip
# True or false.
FlagKey = Literal[
    "train.packing", "train.sequence_parallel", "train.flash", "train.dropout", "train.fused_linear",
    "serve.offload", "serve.search", "serve.search.phases", "goal.least_energy",
]  # fmt: skip
# Texts and choices.
TextKey = Literal[
    "model.name", "model.config", "hardware.chip", "hardware.node", "hardware.source", "train.method",
    "train.adapter", "train.base", "train.optimizer", "train.gradients", "train.precision", "train.stages",
    "train.schedule", "train.recompute", "train.attention", "train.kernels", "serve.requests", "serve.task",
    "serve.precision", "serve.kv_precision", "serve.engine", "serve.factors", "serve.arrivals", "serve.scheduler",
    "serve.route", "serve.policy", "serve.draft_model", "measured.profile", "measured.store", "serve.search.goal",
]  # fmt: skip
# Lists of texts.
TextsKey = Literal[
    "serve.engine_switches", "serve.search.chips", "serve.search.precision", "serve.search.kv_precision",
    "serve.search.pools",
]  # fmt: skip
# Lists of whole numbers.
WholesKey = Literal[
    "serve.search.tensor", "serve.search.expert", "serve.search.data", "serve.search.pipeline",
    "serve.search.drafts", "serve.search.chunks", "serve.search.batches", "serve.search.replicas",
]  # fmt: skip
