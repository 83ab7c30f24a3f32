"""The [train] section as a job: what is trained, on how many tokens, laid out how, with which software."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import ScenarioError
from ..hardware.cluster import Cluster
from ..training.job import TrainingJob
from ..training.validate_training import constants
from ..workload.model import Model
from ..workload.tuning import OPTIMIZERS, Adapter
from . import schema
from .stated import Scenario, cluster_of, model_of, parallel_of


def training_job(scenario: Scenario, model: Model, cluster: Cluster) -> tuple[TrainingJob, Cluster]:
    """Return the job that a scenario states, and the devices it runs on."""
    _check_precision(scenario["train.precision"], cluster)
    if scenario["train.method"] == "grpo":
        scenario = _grpo(scenario)
    job = TrainingJob(
        model=model,
        parallel=parallel_of(scenario, cluster).check(model, cluster.devices),
        tokens=_tokens(scenario),
        sequence=scenario["train.sequence"],
        global_batch=scenario["train.global_batch"],
        microbatch=scenario["train.microbatch"],
        precision=scenario["train.precision"],
        schedule=scenario["train.schedule"] if scenario["train.virtual"] == 1 else "interleaved",
        recompute=scenario["train.recompute"],
        flash=scenario["train.flash"],
        dropout=scenario["train.dropout"],
        fused_linear=scenario["train.fused_linear"],
        host_time=_host_time(scenario),
        checkpoint_time=_checkpoint_time(scenario, model, cluster),
        overlap=scenario.get("train.overlap"),
        mfu=scenario.get("train.mfu"),
        goodput=scenario["train.goodput"],
        attention=scenario.get("train.attention") or "",
        eager=scenario["train.kernels"] == "eager",
        launch_time=scenario["train.launch_time"],
        gradient_bytes=2.0 if scenario["train.gradients"] == "bf16" else 4.0,
        optimizer=OPTIMIZERS[scenario["train.optimizer"]],
        adapter=_adapter(scenario),
        frozen=_frozen(scenario, model),
        method=scenario["train.method"],
        loss_chunks=scenario["train.loss_chunks"],
        memory=scenario["train.memory"],
    )
    return job, cluster


def _grpo(scenario: Scenario) -> Scenario:
    """Return the training half of grpo: a batch is every answer of a step, each with its prompt before it."""
    for key, usual in (("train.steps", "1000"), ("train.prompts", "128"), ("train.answer", "1024")):
        if scenario.get(key) is None:
            raise ScenarioError(f"{key} must be given where train.method is grpo; e.g. {key} = {usual}")
    for key in ("train.tokens", "train.samples"):
        if scenario.get(key) is not None:
            raise ScenarioError(f"{key} does not go with train.method = grpo, which trains on what it generates")
    sequence = scenario["train.prompt"] + scenario["train.answer"]
    batch = scenario["train.prompts"] * scenario["train.group"]
    tokens = float(scenario["train.steps"] * batch * sequence)
    values = {"train.sequence": sequence, "train.global_batch": batch, "train.tokens": tokens}
    return replace(scenario, values={**scenario.values, **values})


def _tokens(scenario: Scenario) -> float:
    """Return the tokens gone through: as stated, or samples x epochs, padded to whole sequences where not packed."""
    samples = scenario.get("train.samples")
    if samples is None:
        if scenario.get("train.tokens") is None:
            raise ScenarioError('say how much to train on: train.tokens = "1T", or train.samples = 50000')
        return float(scenario["train.tokens"])
    if scenario.get("train.tokens") is not None:
        raise ScenarioError("train.tokens and train.samples both say how much to train on; leave one out")
    sequence = scenario["train.sequence"]
    length = min(scenario.get("train.length") or sequence, sequence)
    each = length if scenario["train.packing"] else sequence
    return float(samples * scenario["train.epochs"] * each)


def _adapter(scenario: Scenario) -> Adapter | None:
    if scenario["train.adapter"] == "lora":
        return Adapter(scenario["train.rank"], scenario["train.base"])
    if scenario["train.base"] != "bf16":
        raise ScenarioError(
            f'train.base = {scenario["train.base"]!r} holds for weights beside an adapter; add train.adapter = "lora"'
        )
    return None


def _frozen(scenario: Scenario, model: Model) -> int:
    frozen = int(scenario["train.frozen"])
    if frozen >= model.layers:
        raise ScenarioError(
            f"train.frozen = {frozen} leaves none of {model.name}'s {model.layers} layers to train; "
            f"try {model.layers // 2}"
        )
    if frozen and scenario["train.pipeline"] > 1:
        raise ScenarioError(
            f"train.frozen = {frozen} needs train.pipeline = 1: a frozen stage has nothing to send back"
        )
    return frozen


def _check_precision(precision: str, cluster: Cluster) -> None:
    has = [name for name in schema.PRECISIONS if f"compute.rate.{name}" in cluster.chip]
    if precision not in has:
        narrow = [name for name in ("bf16", "fp16", *has) if name in has]
        raise ScenarioError(
            f"train.precision = {precision} but {cluster.chip.name} computes in {', '.join(has)}; try {narrow[0]}"
        )


def _host_time(scenario: Scenario) -> float:
    stated = scenario.get("train.host_time")
    return constants()["host.iteration"] if stated is None else float(stated)


def _checkpoint_time(scenario: Scenario, model: Model, cluster: Cluster) -> float:
    """Return seconds per iteration spent writing checkpoints: the nodes of one replica write the model's state."""
    every = scenario.get("train.checkpoint_every")
    if every is None:
        return 0.0
    replica = scenario["train.tensor"] * scenario["train.pipeline"] * scenario["train.context"]
    nodes = max(1.0, replica * cluster.nodes / cluster.devices)
    size = constants()["checkpoint.bytes"] * model.parameters
    return float(size / (nodes * scenario["train.checkpoint_bandwidth"]) / every)


def training(scenario: Scenario) -> tuple[TrainingJob, Cluster]:
    """Return what to train and on what."""
    return training_job(scenario, model_of(scenario), cluster_of(scenario))
