"""What a device must hold, in bytes, to train or to serve a model.

Training activations follow Korthikanti et al. 2022 (arXiv 2205.05198, sections 4 and 5), written for
any layer: with their GPT layers this is their table 2, value for value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .model import INNER, PARTS, Layer, Model, cache_bytes, stored_bytes
from .operator import BYTES
from .parallel import Parallel
from .tuning import ADAM, Adapter, Optimizer, frozen_layers

# Share of a device's memory that a job may plan with: the rest is the driver's context, the
# communication library's buffers and fragments of the allocator (vLLM plans with 0.9 as well).
USABLE: Final = 0.9


# Driver's context, NCCL's buffers and cuBLAS' workspace on an H100 (torchtitan's own accounts; nccl 2 GB at most).
CONTEXT: Final = 1.5e9
# Bytes per logit at the loss of PyTorch: logits in 16 bits, their fp32 copy, its gradient.
LOGIT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on one device."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    cache: float = 0.0
    buffers: float = 0.0

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.cache + self.buffers


# ------------------------------------------------------------------ parameters on a device
@lru_cache(maxsize=4096)
def stage_parameters(model: Model, parallel: Parallel, stage: int) -> tuple[float, float]:
    """Return (all but experts, experts): parameters one device of `stage` holds."""
    p = parallel
    dense = experts = 0.0
    for layer, count in p.stage(model, stage):
        dense += count * model.vectors(layer)
        for matrix in model.held(layer, p.tensor, p.expert, p.expert_tensor):
            if matrix.part == "experts":
                experts += count * matrix.parameters
            else:
                dense += count * matrix.parameters
    first, last = stage == 0, stage == p.pipeline - 1
    if first:
        dense += (model.parts["embedding"] + _ends(model)) / p.tensor
    if last:
        # A tied head is the embedding itself, kept twice once the stages part.
        alone = model.tied and first
        dense += model.last_norm + (0.0 if alone else _head(model) / p.tensor)
    return dense, experts


def _head(model: Model) -> float:
    """Parameters of the output table, a copy of the input table where they are tied."""
    return model.parts["head"] or model.head_values or float(model.vocab * model.hidden)


def _ends(model: Model) -> float:
    return float(sum(x.copies * x.k * x.n for x in model.ends if x.part in INNER))


# ------------------------------------------------------------------ training
def layer_activations(
    model: Model,
    parallel: Parallel,
    layer: Layer,
    sequence: int,
    microbatch: int,
    recompute: str = "none",
    *,
    flash: bool = True,
    dropout: bool = False,
    precision: str = "bf16",
) -> float:
    """Bytes that one layer keeps from forward to backward of one microbatch on one device.

    Activations are stored in 16 bits, but for the inputs of products in fp8. "operator": block input, attention's
    output and the outputs of every second product (torchtitan's selective option "op").
    """
    model = model.at(layer)
    tokens = microbatch * sequence / parallel.context
    t, own = parallel.tensor, parallel.tensor if parallel.sequence else 1
    if recompute == "full":
        return tokens * 2 * model.hidden / own
    if recompute == "operator":
        return tokens * (2 * model.hidden / own + _every_second(model, layer, t))
    whole, split = _mixer_bytes(model, layer, dropout)
    more_whole, more_split = _mlp_bytes(model, layer, dropout)
    if precision == "fp8":  # inputs of the products: one byte each instead of two
        whole, more_whole = whole - (model.hidden if whole else 0), more_whole - (model.hidden if more_whole else 0)
        more_split -= model.ffn if layer.mlp == "dense" else model.top_k * (2 * model.hidden + model.expert_ffn)
    scores = 0.0
    if layer.mixer in ("full", "window") and not flash and recompute == "none":
        # Softmax output and its dropped-out copy, 2 bytes each, and a mask: 5 a s per token.
        scores = (5.0 if dropout else 2.0) * model.heads * sequence / t
    elif layer.mixer in ("full", "window") and flash:
        scores = 4.0 * model.heads / t  # log-sum-exp of a fused kernel, fp32
    return tokens * ((whole + more_whole) / own + (split + more_split) / t + scores)


def _every_second(model: Model, layer: Layer, tensor: int) -> float:
    """Bytes per token of attention's output and of half of the products' outputs."""
    total = 4.0 * model.heads / tensor + 2.0 * model.heads * model.v_dim / tensor if layer.mixer != "none" else 0.0
    for matrix in model.matrices(layer, tensor):
        total += 0.5 * 2.0 * matrix.n * (model.top_k if matrix.part == "experts" else matrix.copies)
    return total


def _mixer_bytes(model: Model, layer: Layer, dropout: bool) -> tuple[float, float]:
    """Bytes per token kept whole on each tensor rank, and those divided among them."""
    h, mask = model.hidden, 1.0 if dropout else 0.0
    if layer.mixer == "none":
        return 0.0, 0.0
    whole = 2 * h + 2 * h + mask * h  # input of the norm, of the projection; dropout mask
    if layer.mixer == "recurrent":
        assert model.recurrent is not None
        r = model.recurrent
        return whole, 2 * (4 * r.inner + 2 * r.groups * r.state)
    split = 2 * model.heads * (model.qk_dim + model.v_dim)  # queries, input of the output projection
    if model.latent:
        ranks = model.latent.rank + model.latent.rope + model.latent.query_rank
        return whole + 4 * ranks, split + 2 * model.heads * (model.qk_dim + model.v_dim)
    return whole, split + 2 * model.kv_values


def _mlp_bytes(model: Model, layer: Layer, dropout: bool) -> tuple[float, float]:
    h, mask = model.hidden, 1.0 if dropout else 0.0
    if layer.mlp == "none":
        return 0.0, 0.0
    whole = 2 * h + 2 * h + mask * h
    if model.parallel_block and model.norms == 1:
        whole -= 4 * h  # shares norm and input with the mixer
    inner = 2 * model.ffn_matrices  # bytes per inner value: gate and up (or up), and the product
    if layer.mlp == "dense":
        return whole, inner * model.ffn
    # Routed copies: input and inner values of each of top_k experts. Devices of an expert group
    # exchange as many rows as they send, so this is as for the tokens of one tensor rank.
    routed = model.top_k * (4 * h + inner * model.expert_ffn)
    return whole + 4 * model.experts, routed + inner * model.shared_ffn


def in_flight(parallel: Parallel, stage: int, microbatches: int, schedule: str = "1f1b") -> float:
    """Microbatches whose activations a stage holds at most, in units of its whole stage.

    "gpipe" keeps all; "1f1b" one per stage still ahead; with `virtual` chunks a few chunks more
    (Narayanan et al. 2021, section 2.2: at the first stage a factor 1 + (p - 1) / (p v)).
    """
    p, v = parallel.pipeline, parallel.virtual
    if schedule == "gpipe":
        return float(microbatches)
    if schedule == "zb-h1":  # weight gradients lag behind by as many as stages before this one
        return float(min(microbatches, p + 1))
    if schedule == "zb-2p":
        return float(min(microbatches, 2 * p - 1))
    if schedule in ("zb-v", "dualpipe-v"):  # two half stages; forward beside backward holds half a microbatch more
        return min(microbatches, p + 1.0)
    if v == 1:
        return float(min(microbatches, p - stage))
    return min(microbatches * v, (v - 1) * p + 2 * (p - stage - 1) + 1) / v


def training_footprint(
    model: Model,
    parallel: Parallel,
    sequence: int,
    microbatch: int,
    microbatches: int,
    *,
    recompute: str = "none",
    stage: int = 0,
    schedule: str = "1f1b",
    flash: bool = True,
    dropout: bool = False,
    optimizer: Optimizer = ADAM,
    precision: str = "bf16",
    adapter: Adapter | None = None,
    frozen: int = 0,
    logit: float = 4.0,
    chunks: int = 1,
) -> Footprint:
    """Bytes on one device of `stage`. `microbatches` per data rank and iteration.

    `adapter`, `frozen`: what is trained, see `tuning`. `logit`: bytes per logit at the loss; `chunks`: parts in which
    the loss is taken.
    """
    p, o = parallel, optimizer
    dense, experts = stage_parameters(model, p, stage)

    def held(width: float, sharded: bool, share: float = 1.0) -> float:
        if not sharded:
            return width * share * (dense + experts)
        return width * share * (dense / p.replicas + experts / p.expert_replicas)

    layers = sum(count for _, count in p.stage(model, stage))
    live = 1.0 - frozen_layers(model, p, stage, frozen) / layers if layers else 1.0
    kept = live * sum(
        count
        * layer_activations(
            model, p, layer, sequence, microbatch, recompute, flash=flash, dropout=dropout, precision=precision
        )
        for layer, count in p.stage(model, stage)
    )
    waiting = in_flight(p, stage, microbatches, schedule)
    work = _recomputing(model, p, stage, sequence, microbatch, recompute, flash, dropout)
    ends = _first_and_last(model, p, stage, sequence, microbatch, waiting, dropout, logit / chunks)
    activations = kept * waiting + work + ends
    # Two layers gathered at once, and one layer's gradients before they are scattered (PyTorch FSDP).
    unit = (dense + experts) / max(layers, 1)
    gathered = p.zero == 3 and p.replicas > 1
    if adapter is None:
        return Footprint(
            weights=held(o.weight, p.zero == 3),
            gradients=held(o.gradient, p.zero >= 2, live),
            optimizer=held(o.master + o.moments, p.zero >= 1, live),
            activations=activations,
            buffers=unit * (2 * o.weight + o.gradient) if gathered else 0.0,
        )
    trained = adapter.parameters(model, p, stage)
    return Footprint(
        weights=held(adapter.width, p.zero == 3) + o.weight * trained,
        gradients=o.gradient * trained,
        optimizer=(o.master + o.moments) * trained,
        activations=activations,
        buffers=2 * unit * o.weight if gathered or adapter.base == "nf4" else 0.0,
    )


def _recomputing(
    model: Model,
    p: Parallel,
    stage: int,
    sequence: int,
    microbatch: int,
    recompute: str,
    flash: bool,
    dropout: bool,
) -> float:
    """Full recomputation has one layer's activations whole while it goes back through it."""
    if recompute != "full":
        return 0.0
    return max(
        (
            layer_activations(model, p, layer, sequence, microbatch, "none", flash=flash, dropout=dropout)
            for layer, _ in p.stage(model, stage)
        ),
        default=0.0,
    )


def _first_and_last(
    model: Model,
    p: Parallel,
    stage: int,
    sequence: int,
    microbatch: int,
    waiting: float,
    dropout: bool,
    logit: float = 4.0,
) -> float:
    """Embedding dropout mask of the first stage; norm, head input and logits of the last."""
    tokens = microbatch * sequence / p.context
    own = p.tensor if p.sequence else 1
    total = 0.0
    if stage == 0 and dropout:
        total += waiting * tokens * model.hidden / own
    if stage == p.pipeline - 1:
        total += tokens * (4 * model.hidden / own + logit * model.vocab / p.tensor)
    return total


# ------------------------------------------------------------------ serving
def weight_table(model: Model, precision: str | None) -> dict[str, float]:
    """Return part -> bytes per parameter; `precision` replaces that of the matrices in the layers."""
    return {
        part: stored_bytes(precision) if precision and part in INNER else model.weights.bytes(part) for part in PARTS
    }


def cache_bytes_per_token(model: Model, parallel: Parallel, kv: str | None = None) -> float:
    """Bytes one more token adds to one device's cache while no window is full.

    Key-value heads are divided among the tensor ranks down to one each; a latent cache is held
    whole by every rank. `kv`: stored precision, the model's own where None.
    """
    total = sum(
        count * cache_bytes(model.at(layer), parallel.tensor, kv)
        for layer, count in model.groups
        if layer.mixer in ("full", "window")
    )
    return total / parallel.pipeline


def sequence_bytes(model: Model, parallel: Parallel, context: float, kv: str | None = None) -> float:
    """Bytes that one sequence of `context` tokens holds on one device: caches and states."""
    total = 0.0
    for layer, count in model.groups:
        m = model.at(layer)
        if layer.mixer in ("full", "window"):
            seen = min(context, m.window) if layer.mixer == "window" else context
            total += count * cache_bytes(m, parallel.tensor, kv) * seen
            if m.compress > 1:  # the last tokens are kept whole beside the compressed ones
                total += count * m.kv_values * BYTES[kv or m.kv] * min(context, m.window)
        elif layer.mixer == "recurrent":
            total += count * state_bytes(m, parallel.tensor)
    return total / parallel.pipeline


def state_bytes(model: Model, tensor: int = 1) -> float:
    """Bytes of one recurrent layer's state per sequence and device: fp32 state, 16-bit taps."""
    r = model.recurrent
    if r is None:
        return 0.0
    return (4.0 * r.inner * r.state + 2.0 * r.conv * r.taps) / tensor


def serving_weights(model: Model, parallel: Parallel, precision: str | None = None) -> float:
    """Bytes of weights on one device (the fullest stage). `precision`: of all matrices, or as stored."""
    return max(_stage_weights(model, parallel, precision, stage) for stage in range(parallel.pipeline))


@lru_cache(maxsize=4096)
def _stage_weights(model: Model, p: Parallel, precision: str | None, stage: int) -> float:
    total = 0.0
    for layer, count in p.stage(model, stage):
        stored = weight_table(model.at(layer), precision)
        total += count * model.vectors(layer) * stored["norms"]
        total += count * sum(
            w.parameters * stored[w.part] for w in model.held(layer, p.tensor, p.expert, p.expert_tensor)
        )
    stored = weight_table(model, precision)
    if stage == 0:
        total += model.parts["embedding"] * stored["embedding"] / p.tensor
        total += _ends(model) * stored["dense"] / p.tensor
        # Encoders beside the language model stay in 16 bits and are held whole by every rank (vLLM's default).
        total += 2.0 * model.towers_parameters
    if stage == p.pipeline - 1:
        total += model.last_norm * stored["norms"]
    if stage == p.pipeline - 1 and not (model.tied and stage == 0):
        total += _head(model) * stored["head"] / p.tensor
    return total


def serving_footprint(
    model: Model,
    parallel: Parallel,
    batch: float,
    context: float,
    *,
    precision: str | None = None,
    kv: str | None = None,
    step_tokens: float = 8192.0,
) -> Footprint:
    """Bytes on one device that serves `batch` sequences of `context` tokens on average.

    `batch` counts the whole replica: with data-parallel attention each group holds its share.
    `step_tokens` is the most tokens one step takes (activations and logits are sized for it).
    """
    return Footprint(
        weights=serving_weights(model, parallel, precision),
        activations=_workspace(model, parallel, step_tokens, batch),
        cache=math.ceil(batch / parallel.data) * sequence_bytes(model, parallel, context, kv),
    )


def _workspace(model: Model, p: Parallel, tokens: float, batch: float) -> float:
    """Live activations of one step: hidden twice, the widest inner value, logits in fp32."""
    inner = max(
        (
            _inner(model, layer, p)
            for layer, _ in model.groups
        ),
        default=0.0,
    )  # fmt: skip
    rows = min(batch / p.data, tokens)
    return tokens * (4.0 * model.hidden + 2.0 * inner) + rows * 4.0 * model.vocab / p.tensor


def _inner(model: Model, layer: Layer, p: Parallel) -> float:
    widths = [
        (w.n + w.k) * (model.at(layer).top_k if w.part == "experts" else 1)
        for w in model.matrices(layer, p.tensor, p.expert, p.expert_tensor)
    ]
    return max(widths, default=0.0)


def max_batch(
    model: Model,
    parallel: Parallel,
    capacity: float,
    context: float,
    *,
    precision: str | None = None,
    kv: str | None = None,
    step_tokens: float = 8192.0,
    usable: float = USABLE,
) -> int:
    """Return how many sequences of `context` tokens fit, for the whole replica; 0 if none.

    `capacity`: bytes of one device's memory, of which the share `usable` is planned with.
    """
    fixed = serving_footprint(model, parallel, 0, context, precision=precision, kv=kv, step_tokens=step_tokens)
    each = sequence_bytes(model, parallel, context, kv) + 4.0 * model.vocab / parallel.tensor
    room = capacity * usable - fixed.total
    return max(0, int(room // each)) * parallel.data if each > 0 else 0
