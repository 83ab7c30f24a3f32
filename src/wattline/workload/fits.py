"""Does it fit, and if not, what is the smallest change that makes it fit?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from ..core.errors import CapacityError, ScenarioError
from .memory import CONTEXT, USABLE, Footprint, max_batch, serving_footprint, training_footprint
from .model import Model
from .parallel import Parallel
from .tuning import ADAM, Optimizer

# Of the activations that the stated recomputation keeps, what a trainer may still shed without saying so: modules
# run again (norms, gates, up-projections), offload to the host, inputs of products in 8 bits. Of gradients half: bf16.
SHED: Final = 0.75
# Beyond the estimate: the allocator's fragments and workspaces of kernels.
MORE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that the fullest stage's devices need: an estimate, the interval it may lie in, and what they have."""

    footprint: Footprint
    low: float
    high: float
    capacity: float

    @property
    def likely(self) -> float:
        """The estimate, bytes."""
        return self.footprint.total + CONTEXT

    @property
    def text(self) -> str:
        """The estimate in words, with a warning where it may not fit."""
        low, likely, high, has = (x / 1e9 for x in (self.low, self.likely, self.high, self.capacity))
        span = f"about {likely:.0f} GB ({low:.0f} to {high:.0f}) of {has:.0f} GB"
        if self.likely > self.capacity:
            return f"{span} on the fullest device: it may not fit; recompute more, or shard more (train.zero)"
        return f"{span} on the fullest device" + (": tight" if self.high > self.capacity else "")


def training_memory(
    model: Model,
    parallel: Parallel,
    sequence: int,
    microbatch: int,
    microbatches: int,
    capacity: float,
    *,
    recompute: str = "none",
    **more: Any,
) -> Memory:
    """Return what the fullest stage needs, fitting or not. `more`: as in `training_footprint`."""

    def need(again: str) -> Footprint:
        stages = (
            training_footprint(model, parallel, sequence, microbatch, microbatches, recompute=again, stage=s, **more)
            for s in range(parallel.pipeline)
        )
        return max(stages, key=lambda f: f.total)

    found = need(recompute)
    shed = 0.0 if recompute == "full" else SHED * max(found.activations - need("full").activations, 0.0)
    low = found.total - shed - 0.5 * found.gradients
    return Memory(found, low, (found.total + CONTEXT) * (1 + MORE), capacity)


def check_training(
    model: Model,
    parallel: Parallel,
    sequence: int,
    microbatch: int,
    microbatches: int,
    capacity: float,
    *,
    recompute: str = "none",
    schedule: str = "1f1b",
    flash: bool = True,
    dropout: bool = False,
    optimizer: Optimizer = ADAM,
    usable: float = USABLE,
    sure: bool = False,
    **more: Any,
) -> Memory:
    """Return what the fullest stage needs, or raise CapacityError with what would fit.

    `capacity`: bytes of one device's memory, of which the share `usable` is planned with. `sure`: refuse only what
    cannot fit even at the low end of the interval. `more`: as in `training_footprint`.
    """

    def need(p: Parallel, batch: int, again: str) -> Footprint:
        stages = range(p.pipeline)
        return max(
            (
                training_footprint(
                    model, p, sequence, batch, microbatches, recompute=again, stage=s, schedule=schedule, flash=flash,
                    dropout=dropout, optimizer=optimizer, **more,
                )
                for s in stages
            ),
            key=lambda f: f.total,
        )  # fmt: skip

    memory = training_memory(
        model, parallel, sequence, microbatch, microbatches, capacity, recompute=recompute, schedule=schedule,
        flash=flash, dropout=dropout, optimizer=optimizer, **more,
    )  # fmt: skip
    found = memory.footprint
    if found.total <= capacity * usable or (sure and memory.low <= capacity):
        return memory
    for words, p, batch, again in _training_changes(model, parallel, microbatch, recompute):
        if need(p, batch, again).total <= capacity * usable:
            raise CapacityError(_message(model, found, capacity, usable, words))
    raise CapacityError(_message(model, found, capacity, usable, ""))


def _training_changes(
    model: Model, parallel: Parallel, microbatch: int, recompute: str
) -> Iterator[tuple[str, Parallel, int, str]]:
    """Smaller changes first: keep fewer activations, shard state, then spread the model wider."""
    s = parallel.section
    for batch in dict.fromkeys(b for b in (microbatch // 2, 1) if 1 <= b < microbatch):
        yield f"{s}.microbatch = {batch}", parallel, batch, recompute
    modes = {"none": ("selective", "full"), "selective": ("full",), "operator": ("full",)}.get(recompute, ())
    shards = range(parallel.zero + 1, 4) if parallel.replicas > 1 else ()
    for mode in modes:
        yield f'{s}.recompute = "{mode}"', parallel, microbatch, mode
    for zero in shards:
        yield f"{s}.zero = {zero}", replace(parallel, zero=zero), microbatch, recompute
    for mode in modes:
        for zero in shards:
            yield f'{s}.recompute = "{mode}" and {s}.zero = {zero}', replace(parallel, zero=zero), microbatch, mode
    for wider, words in _wider(model, parallel):
        yield words, wider, microbatch, recompute
    for wider, words in _wider(model, parallel):
        yield f'{words}, {s}.microbatch = 1 and {s}.recompute = "full"', wider, 1, "full"


def _wider(model: Model, parallel: Parallel) -> Iterator[tuple[Parallel, str]]:
    """Layouts that spread the weights over more tensor ranks (within a node), experts and stages.

    Even stages first, then the fewest ranks; data ranks are given up for them where they divide.
    """
    experts = {parallel.expert, *(e for e in (2, 4, 8, 16, 32, 64) if model.moe and e > parallel.expert)}
    stages = {parallel.pipeline, 2, 4, 8, 10, 12, 16, 20, 24, 32, 48, 64}
    choices = [
        {"tensor": t, "pipeline": n, "expert": e}
        for t in {parallel.tensor, 2, 4, 8}
        for n in stages
        for e in experts
        if t >= parallel.tensor and n >= parallel.pipeline
    ]

    def size(change: dict[str, int]) -> tuple[bool, int, int, int]:
        t, n, e = change["tensor"], change["pipeline"], change["expert"]
        return model.layers % n != 0, t * n * e, n, e

    for change in sorted(choices, key=size):
        growth, more = divmod(change["tensor"] * change["pipeline"], parallel.tensor * parallel.pipeline)
        if not more and parallel.data % growth == 0:
            change["data"] = parallel.data // growth
        new = {key: value for key, value in change.items() if value != getattr(parallel, key)}
        shaped = _reshape(parallel, model, new) if new else None
        if shaped is not None:
            yield shaped, _words(parallel, new)


def _words(parallel: Parallel, changes: dict[str, int]) -> str:
    return " and ".join(f"{parallel.section}.{key} = {value}" for key, value in changes.items())


def _reshape(parallel: Parallel, model: Model, changes: dict[str, int]) -> Parallel | None:
    """The same layout with other degrees and the derived ones chosen anew, None if impossible."""
    degrees = ("tensor", "pipeline", "data", "context", "expert", "virtual", "node")
    sizes = {key: getattr(parallel, key) for key in degrees} | changes
    same = parallel.section
    try:
        return Parallel(**sizes, sequence=parallel.sequence, zero=parallel.zero, section=same).check(model)
    except ScenarioError:
        return None


def check_serving(
    model: Model,
    parallel: Parallel,
    capacity: float,
    context: float,
    batch: float = 1.0,
    *,
    precision: str | None = None,
    kv: str | None = None,
    step_tokens: float = 8192.0,
    usable: float = USABLE,
) -> Footprint:
    """Return the footprint of `batch` sequences of `context` tokens, or raise CapacityError.

    `capacity`: bytes of one device's memory, of which the share `usable` is planned with.
    """

    def need(p: Parallel, size: float, weights: str | None, cache: str | None) -> Footprint:
        return serving_footprint(model, p, size, context, precision=weights, kv=cache, step_tokens=step_tokens)

    found = need(parallel, batch, precision, kv)
    room = capacity * usable
    if found.total <= room:
        return found
    s = parallel.section
    fewer = max_batch(
        model,
        parallel,
        capacity,
        context,
        precision=precision,
        kv=kv,
        step_tokens=step_tokens,
        usable=usable,
    )
    if fewer >= 1:
        raise CapacityError(_message(model, found, capacity, usable, f"{s}.max_batch = {fewer}"))
    for p, words in _serving_changes(model, parallel):
        if need(p, min(batch, p.data), precision, kv).total <= room:
            raise CapacityError(_message(model, found, capacity, usable, words))
    for weights in ("fp8", "fp4"):
        if need(parallel, 1, weights, kv).total <= room:
            raise CapacityError(_message(model, found, capacity, usable, f'{s}.precision = "{weights}"'))
    raise CapacityError(_message(model, found, capacity, usable, ""))


def _serving_changes(model: Model, parallel: Parallel) -> Iterator[tuple[Parallel, str]]:
    """More tensor ranks within a node, else (with experts) more expert ranks, else tensor ranks beyond it."""
    near: list[dict[str, int]] = []
    for n in (2, 4, 8, 16, 32, 64):
        near += [{"tensor": n}] if n <= parallel.node else []
        near += [{"tensor": 1, "expert": n, "data": n}] if model.moe else []
    for change in (*near, *({"tensor": n} for n in (16, 32) if n > parallel.node)):
        if max(change.values()) <= max(parallel.tensor, parallel.expert):
            continue
        shaped = _reshape(parallel, model, change)
        if shaped is not None:
            yield shaped, _words(parallel, change)


def _message(model: Model, found: Footprint, capacity: float, usable: float, words: str) -> str:
    parts = {
        "weights": found.weights, "gradients": found.gradients, "optimizer": found.optimizer,
        "activations": found.activations, "cache": found.cache, "buffers": found.buffers,
    }  # fmt: skip
    largest = max(parts, key=lambda key: parts[key])
    hint = f"try {words}" if words else "no change of parallelism found that fits; try a device with more memory"
    need = f"needs {found.total / 1e9:.1f} GB on each device ({largest} {parts[largest] / 1e9:.1f} GB)"
    has = f"has {capacity * usable / 1e9:.1f} GB usable of {capacity / 1e9:.1f} GB"
    return f"{model.name} does not fit: {need}, {has}; {hint}"
