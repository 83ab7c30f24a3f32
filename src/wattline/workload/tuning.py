"""What of a model is trained, and what the optimizer keeps for it.

whole model      every weight has a gradient, a master copy and the optimizer's moments
adapter (LoRA)   weights stay as they are; each matrix gets two thin ones of rank r (arXiv 2106.09685)
QLoRA            the same over weights stored in 4 bits, widened before each use (arXiv 2305.14314)
frozen           the first layers only run forward
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..core.errors import ScenarioError
from .model import Matrix, Model
from .parallel import Parallel


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Bytes per parameter of each state of training. The default is mixed-precision Adam as in
    Megatron-LM: 2 + 4 + 4 + 8 = 18 bytes (arXiv 2201.11990, section 2).

    `rounds`: iterations of Newton-Schulz on every matrix, as Muon takes.
    """

    weight: float = 2.0
    gradient: float = 4.0
    master: float = 4.0
    moments: float = 8.0
    rounds: int = 0


ADAM: Final = Optimizer()
# DeepSeek-V3 keeps both moments in bf16 (arXiv 2412.19437, section 3.3.3).
ADAM_BF16_MOMENTS: Final = Optimizer(moments=4.0)
OPTIMIZERS: Final[Mapping[str, Optimizer]] = {
    "adamw": ADAM,
    "adamw-bf16": ADAM_BF16_MOMENTS,
    # Blocks of 2,048 values with one fp32 scale for each moment (Dettmers et al., arXiv 2110.02861, section 2).
    "adamw-8bit": Optimizer(moments=2.0 + 2 * 4.0 / 2048),
    # One momentum in fp32, orthogonalised by five iterations of Newton-Schulz (Jordan et al. 2024; arXiv 2502.16982).
    "muon": Optimizer(moments=4.0, rounds=5),
    "sgd": Optimizer(moments=4.0),
}

# Bytes of a weight in 4 bits: NF4 with a scale of 8 bits for 64 values, and one of 32 for 256 of those
# (Dettmers et al., arXiv 2305.14314, section 3: 0.127 bits more than 4).
NF4: Final = (4.0 + 0.127) / 8
BASES: Final = ("bf16", "nf4")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Thin matrices of `rank` beside every matrix of the layers but experts; `base`: how the weights are stored."""

    rank: int
    base: str = "bf16"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ScenarioError(f"train.rank = {self.rank} must be at least 1; try 16")
        if self.base not in BASES:
            raise ScenarioError(f"train.base = {self.base!r} is not known; known: {', '.join(BASES)}")

    @property
    def width(self) -> float:
        """Bytes of a weight as stored."""
        return NF4 if self.base == "nf4" else 2.0

    def parameters(self, model: Model, parallel: Parallel, stage: int) -> float:
        """Return the trained parameters that one device of `stage` holds."""
        total = 0.0
        for layer, count in parallel.stage(model, stage):
            for matrix in model.matrices(layer, parallel.tensor, parallel.expert, parallel.expert_tensor):
                if matrix.part not in ("router", "experts"):
                    total += count * matrix.copies * self.rank * (linears(model, matrix) * matrix.k + matrix.n)
        return total


def linears(model: Model, matrix: Matrix) -> int:
    """Return the layers of a checkpoint that a fused matrix joins, each of which has an adapter of its own."""
    if matrix.name in ("qkv", "down_qkv"):
        return 3 if matrix.name == "qkv" else 2
    return model.ffn_matrices - 1 if matrix.name in ("mlp_up", "shared_up") else 1


def trained_parameters(
    held: tuple[float, float], model: Model, parallel: Parallel, stage: int, adapter: Adapter | None, frozen: int
) -> tuple[float, float]:
    """Return (all but experts, experts) that have gradients, of the parameters `held` by one device of `stage`."""
    if adapter is not None:
        return adapter.parameters(model, parallel, stage), 0.0
    layers = sum(count for _, count in parallel.stage(model, stage))
    live = 1.0 - frozen_layers(model, parallel, stage, frozen) / layers if layers else 1.0
    return live * held[0], live * held[1]


def frozen_layers(model: Model, parallel: Parallel, stage: int, frozen: int) -> int:
    """Return how many of a stage's layers are among the first `frozen` of the model."""
    counts = parallel.counts(model.layers)
    total = 0
    for chunk in range(stage, len(counts), parallel.pipeline):
        start = sum(counts[:chunk])
        total += max(0, min(counts[chunk], frozen - start))
    return total
