"""How a model is laid over devices, and which layouts are possible.

Devices are numbered as Megatron does: tensor ranks are neighbours, then context, then data (expert
groups are cut from those three), and pipeline stages lie furthest apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ..core.errors import LayoutError
from .model import Layer, Model, count_layers


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Degrees of parallelism.

    Attributes
    ----------
    tensor, pipeline, data, context, expert : devices along each direction. Training: `data`
        replicas of the weights. Serving: `data` groups inside one replica that share the experts
        but each run the attention of their own requests (data-parallel attention).
    sequence : norms and residuals split over the tensor ranks (Korthikanti et al. 2022).
    virtual : model chunks per pipeline stage (interleaved schedule).
    zero : ZeRO stage 0 to 3 (arXiv 1910.02054): what the data ranks shard.
    expert_tensor : slices of one expert; 0 chooses it: as `tensor` where experts are not
        distributed, else 1 in training and all that is left in serving.
    layers_per_stage : layers of each stage, or empty for an even split.
    node : devices in one scale-up domain. section : the scenario section, for messages.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    context: int = 1
    expert: int = 1
    sequence: bool = False
    virtual: int = 1
    zero: int = 0
    expert_tensor: int = 0
    layers_per_stage: tuple[int, ...] = ()
    node: int = 8
    section: str = "train"

    def __post_init__(self) -> None:
        for key in ("tensor", "pipeline", "data", "context", "expert", "virtual", "node"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LayoutError(f"{self.section}.{key} = {value!r} must be a whole number of at least 1; try 1")
        if self.zero not in (0, 1, 2, 3):
            raise LayoutError(f"{self.section}.zero = {self.zero!r} is not a ZeRO stage; try 0, 1, 2 or 3")
        if self.expert_tensor == 0:
            object.__setattr__(self, "expert_tensor", self._slices())

    def _slices(self) -> int:
        if self.section == "serve":
            return max(1, self.tensor * self.data // self.expert)
        return self.tensor if self.expert == 1 else 1

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def replicas(self) -> int:
        """Devices that hold the same dense weights of one stage (gradients are summed over them)."""
        return self.data * self.context

    @property
    def expert_replicas(self) -> int:
        """Devices that hold the same experts."""
        return max(1, self.tensor * self.data * self.context // (self.expert * self.expert_tensor))

    def span(self, direction: str) -> str:
        """Return "node" if that direction's ranks share one scale-up domain, else "fabric"."""
        reach = {
            "tensor": self.tensor,
            "context": self.tensor * self.context,
            "expert": max(self.expert * self.expert_tensor, 1),
            "data": self.tensor * self.context * self.data,
            "pipeline": self.devices,
        }[direction]
        return "node" if reach <= self.node else "fabric"

    def local(self, direction: str, ranks: int) -> float:
        """Return how many of a group's `ranks` along a direction share one scale-up domain, on average.

        "experts": the ranks that hold the same experts, which lie as far apart as an expert group is long.
        """
        apart = {
            "tensor": 1,
            "context": self.tensor,
            "data": self.tensor,
            "expert": self.expert_tensor,
            "experts": self.expert * self.expert_tensor,
            "pipeline": self.devices,
        }[direction]
        return ranks / math.ceil(ranks / max(1, min(ranks, self.node // apart)))

    # --------------------------------------------------------------- stages
    def counts(self, layers: int) -> tuple[int, ...]:
        """Layers of each of the pipeline * virtual chunks, in model order.

        A remainder goes to the chunks after the first: that one has the embedding too.
        """
        if self.layers_per_stage:
            return self.layers_per_stage
        chunks = self.pipeline * self.virtual
        each, more = divmod(layers, chunks)
        return tuple(each + (1 <= i <= more) for i in range(chunks)) if chunks > 1 else (layers,)

    def stage(self, model: Model, stage: int) -> tuple[tuple[Layer, int], ...]:
        """Distinct layers that `stage` (0-based) holds, with how many of each."""
        return _stage(self, model, stage)

    # ---------------------------------------------------------------- rules
    def check(self, model: Model, devices: int | None = None) -> Parallel:
        """Return self if `model` can be laid out so, on `devices` if given; raise ScenarioError if not."""
        self._check_heads(model)
        self._check_layers(model)
        self._check_experts(model)
        if devices is not None and self.devices != devices:
            raise LayoutError(self._device_message(devices))
        return self

    def _check_heads(self, model: Model) -> None:
        if not model.attention_layers:
            return
        if model.heads % self.tensor:
            self._refuse("tensor", f"does not divide {model.heads} attention heads", model.heads, _divides)
        if model.kv_heads % self.tensor and self.tensor % model.kv_heads and not model.latent:
            good = [
                d for d in range(1, model.heads + 1)
                if model.heads % d == 0 and (model.kv_heads % d == 0 or d % model.kv_heads == 0)
            ]  # fmt: skip
            raise LayoutError(
                f"{self.section}.tensor = {self.tensor} neither divides nor is a multiple of "
                f"{model.kv_heads} key-value heads; try {_either_side(good, self.tensor)}"
            )

    def _check_layers(self, model: Model) -> None:
        key, s = ("virtual" if self.virtual > 1 else "pipeline"), self.section
        chunks = self.pipeline * self.virtual
        if self.layers_per_stage:
            n, total = len(self.layers_per_stage), sum(self.layers_per_stage)
            if n != chunks or total != model.layers or min(self.layers_per_stage) < 0:
                raise LayoutError(
                    f"{s}.stages = {list(self.layers_per_stage)} has {n} entries that sum to {total}; "
                    f"give {chunks} entries that sum to {model.layers}"
                )
            return
        if chunks > model.layers:
            most = model.layers if key == "pipeline" else model.layers // self.pipeline
            if most < 1:
                key, most = "pipeline", model.layers
            raise LayoutError(
                f"{s}.{key} = {getattr(self, key)} needs {chunks} layers or more and {model.name} has "
                f"{model.layers}; try {most} or fewer"
            )

    def _check_experts(self, model: Model) -> None:
        s = self.section
        if not model.moe:
            if self.expert > 1:
                raise LayoutError(f"{s}.expert = {self.expert} but {model.name} has no experts; try 1")
            return
        if model.experts % self.expert:
            self._refuse("expert", f"does not divide {model.experts} experts", model.experts, _divides)
        room = self.tensor * self.data * self.context
        if room % (self.expert * self.expert_tensor):
            good = [d for d in range(1, room + 1) if room % d == 0 and model.experts % d == 0]
            raise LayoutError(
                f"{s}.expert = {self.expert} (each expert in {self.expert_tensor} slices) does not divide the "
                f"{room} devices of tensor x context x data; try {_either_side(good, self.expert)}"
            )

    def _refuse(self, key: str, rule: str, whole: int, works: Callable[[int, int], bool]) -> None:
        value = getattr(self, key)
        good = [d for d in range(1, whole + 1) if works(whole, d)]
        raise LayoutError(f"{self.section}.{key} = {value} {rule}; try {_either_side(good, value)}")

    def _device_message(self, devices: int) -> str:
        rest = self.tensor * self.pipeline * self.context
        parts = " x ".join(
            f"{key} {getattr(self, key)}"
            for key in ("tensor", "pipeline", "data", "context")
            if key != "context" or self.context > 1
        )
        if devices % rest == 0:
            hint = f"try {self.section}.data = {devices // rest}"
        else:
            hint = f"try {self.section}.data = {max(1, devices // rest)} on {max(1, devices // rest) * rest} devices"
        return f"{self.section}: {parts} = {self.devices} devices, but there are {devices}; {hint}"


@lru_cache(maxsize=4096)
def _stage(parallel: Parallel, model: Model, stage: int) -> tuple[tuple[Layer, int], ...]:
    if not 0 <= stage < parallel.pipeline:
        raise LayoutError(
            f"stage {stage} does not exist: {parallel.section}.pipeline = {parallel.pipeline}; "
            f"try 0 to {parallel.pipeline - 1}"
        )
    counts = parallel.counts(model.layers)
    held: list[Layer] = []
    for chunk in range(stage, len(counts), parallel.pipeline):
        start = sum(counts[:chunk])
        held += model.pattern[start : start + counts[chunk]]
    return count_layers(tuple(held))


def _divides(whole: int, value: int) -> bool:
    return whole % value == 0


def _either_side(good: list[int], value: int) -> str:
    below = [g for g in good if g < value]
    above = [g for g in good if g > value]
    near = [*below[-1:], *above[:1]]
    return " or ".join(str(n) for n in near) or "1"
