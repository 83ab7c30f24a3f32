"""A training job as stated: what to train, on how much, laid out how and by which software."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..core.errors import ScenarioError
from ..workload.flops import model_flops
from ..workload.model import Model
from ..workload.parallel import Parallel
from ..workload.tuning import ADAM, Adapter, Optimizer


@dataclass(frozen=True)
class TrainingJob:
    """What to train and how. Fractions in [0, 1]; `mfu` None where the model of the step decides.

    `gradient_bytes`: of a stored gradient; `host_time`, `checkpoint_time`: seconds per iteration in which
    all devices wait for the host (data, logging, checks for overflow) or for a checkpoint to be written.
    """

    model: Model
    parallel: Parallel
    tokens: float
    sequence: int
    global_batch: int
    microbatch: int
    precision: str = "bf16"
    schedule: str = "1f1b"
    recompute: str = "selective"
    flash: bool = True
    dropout: bool = False
    fused_linear: bool = True
    gradient_bytes: float = 4.0
    host_time: float = 0.0
    checkpoint_time: float = 0.0
    overlap: float | None = None
    mfu: float | None = None
    goodput: float = 1.0
    attention: str = ""
    eager: bool = False
    launch_time: float = 0.0
    optimizer: Optimizer = ADAM
    adapter: Adapter | None = None
    frozen: int = 0
    method: str = "sft"
    loss_chunks: int = 1
    memory: float = 1.0

    @property
    def forwards(self) -> float:
        """Forward passes over each token: a reference model's too, and the policy's own before it is updated (grpo)."""
        return {"sft": 1.0, "dpo": 2.0, "grpo": 3.0}[self.method]

    @property
    def updates(self) -> Optimizer:
        """The optimizer with the stored precision of gradients."""
        return replace(self.optimizer, gradient=self.gradient_bytes)

    @property
    def microbatches(self) -> int:
        """Microbatches per replica and iteration."""
        replica = self.parallel.data * self.microbatch
        if self.global_batch % replica:
            near = max(1, round(self.global_batch / replica)) * replica
            raise ScenarioError(
                f"train.global_batch = {self.global_batch} is not a multiple of data x microbatch = "
                f"{self.parallel.data} x {self.microbatch} = {replica}; try {near}"
            )
        return self.global_batch // replica

    @property
    def iterations(self) -> float:
        """Optimizer steps in all."""
        return self.tokens / (self.global_batch * self.sequence)

    @property
    def flops(self) -> float:
        """Model FLOPs of one iteration on all devices as MFU counts them: no recomputation, no causal saving."""
        return model_flops(self.model, self.global_batch * self.sequence, self.sequence, causal=False)

    @property
    def useful_flops(self) -> float:
        """The same less what the causal mask spares a fused kernel: the part of the peak that can be used."""
        return model_flops(self.model, self.global_batch * self.sequence, self.sequence, causal=self.flash)
