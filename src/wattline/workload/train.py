"""Training as operators: what one device does for one microbatch, per pipeline stage and instruction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from ..core.errors import ScenarioError, nearest
from .memory import stage_parameters
from .model import Matrix, Model
from .operator import Collective, Elementwise, Gemm, GroupedGemm, Operator
from .parallel import Parallel
from .pieces import Piece, Setup, layer_pieces, linear, norm, tensor_collective, touch
from .tuning import ADAM, Adapter, Optimizer, frozen_layers, trained_parameters

INSTRUCTIONS: Final = (
    "forward", "backward", "backward_input", "backward_weight", "gradients", "optimizer", "parameters",
)  # fmt: skip
RECOMPUTE: Final = ("none", "selective", "operator", "full")
ATTENTION: Final = ("", "fa1", "fa2", "fa3")
# Share of the gradients' exchange that hides behind the last backward pass: all buckets but the last few, and those
# of the layers it ends with (PyTorch DDP, Li et al., VLDB 2020, section 3.2; Megatron-LM --overlap-grad-reduce).
HIDDEN_GRADIENTS: Final = 0.8
PRECISIONS: Final = ("bf16", "fp16", "fp8", "tf32", "fp32")


def stage_operators(
    model: Model,
    parallel: Parallel,
    sequence: int,
    microbatch: int,
    precision: str = "bf16",
    recompute: str = "none",
    stage: int = 0,
    instruction: str = "forward",
    *,
    flash: bool = True,
    dropout: bool = False,
    fused_linear: bool = True,
    paired: bool = False,
    optimizer: Optimizer = ADAM,
    overlap: float | None = None,
    attention: str = "",
    eager: bool = False,
    adapter: Adapter | None = None,
    frozen: int = 0,
) -> tuple[Operator, ...]:
    """Return what one device of `stage` does in one `instruction`, equal operators merged.

    Parameters
    ----------
    sequence, microbatch : tokens per sequence and sequences per microbatch (per data rank).
    precision : of the matrix products; recompute : "none", "selective" (attention core only) or
        "full" (every layer's forward pass again), as in Korthikanti et al. 2022 (arXiv 2205.05198);
        "operator": all but attention, every second product and sums over ranks, as torchtitan's selective
        option "op" and torch.utils.checkpoint with a policy do.
    instruction : "forward", "backward" (or its halves "backward_input", "backward_weight") for one
        microbatch; once per iteration "gradients" (their reduction over the data ranks),
        "optimizer", "parameters" (their gathering under ZeRO 1 and 2).
    flash : fused attention; without it scores go through memory. dropout : as GPT-3 was trained.
    fused_linear : weight gradients added to their sum inside the product, collectives of the backward pass
        beside it (Megatron-LM since 2022). paired : one microbatch's forward beside another's backward.
    overlap : share of the data-parallel communication that can hide behind computation; where None
        `HIDDEN_GRADIENTS` of what comes once per iteration, and all but the first layer's of ZeRO 3.
    attention, eager : generation of the fused kernel, and whether the rest runs operator by operator; see `Setup`.
    adapter, frozen : what is trained, see `tuning`.
    """
    _check(sequence, microbatch, precision, recompute, instruction, parallel)
    return _operators(
        model,
        parallel,
        sequence,
        microbatch,
        precision,
        recompute,
        stage,
        instruction,
        flash,
        dropout,
        fused_linear,
        paired,
        optimizer,
        overlap,
        attention,
        eager,
        adapter,
        frozen,
    )


@lru_cache(maxsize=4096)
def _operators(
    model: Model, parallel: Parallel, sequence: int, microbatch: int, precision: str, recompute: str, stage: int,
    instruction: str, flash: bool, dropout: bool, fused_linear: bool, paired: bool, optimizer: Optimizer,
    overlap: float | None, attention: str, eager: bool, adapter: Adapter | None, frozen: int,
) -> tuple[Operator, ...]:  # fmt: skip
    parallel.check(model)
    if instruction in ("gradients", "optimizer", "parameters"):
        shown = HIDDEN_GRADIENTS if overlap is None else overlap
        whole = stage_parameters(model, parallel, stage)
        trained = trained_parameters(whole, model, parallel, stage, adapter, frozen)
        return _per_iteration(model, parallel, stage, instruction, optimizer, shown, precision == "fp16", trained)
    x = Setup(
        model=model, parallel=parallel, sequence=sequence, microbatch=microbatch, precision=precision, flash=flash,
        dropout=dropout, fused_linear=fused_linear, gradient="fp32" if optimizer.gradient == 4 else "bf16",
        paired=paired, attention=attention, eager=eager, adapter=adapter,
    )  # fmt: skip
    done = (
        _forward(x, stage, overlap)
        if instruction == "forward"
        else _backward(x, stage, instruction, recompute, overlap, frozen)
    )
    return merge(_apart(x, op) for op in done) if eager else merge(done)


def merge(operators: Iterable[Operator]) -> tuple[Operator, ...]:
    """Merge operators that are the same but for `repeat`, keeping the order of first appearance."""
    total: dict[Operator, float] = {}
    for op in operators:
        key = op if op.repeat == 1.0 else replace(op, repeat=1.0)
        total[key] = total.get(key, 0.0) + op.repeat
    return tuple(op if n == 1.0 else replace(op, repeat=n) for op, n in total.items())


# Passes over their values that PyTorch's operators make where a fused kernel makes one: RMSNorm as written in
# torchtitan and Llama (cast, square, mean, rsqrt, two products, cast back), rotary embedding in fp32 as complex
# numbers (casts, view, product, flatten), a gate's activation and its product apart. LayerNorm, GELU and residual
# sums are single operators.
EAGER: Final = {
    "norm": 4.0, "norm_backward": 4.0, "rotary": 4.0, "activation": 5.0 / 3.0, "activation_backward": 8.0 / 5.0,
    "cross_entropy": 1.5, "cross_entropy_backward": 1.5,
}  # fmt: skip


def _apart(x: Setup, op: Operator) -> Operator:
    """Return an operator as its parts, one after the other, each reading and writing what it works on."""
    passes = EAGER.get(op.name, 1.0)
    plain = (op.name.startswith("norm") and x.model.norm_bias) or (
        op.name.startswith("activation") and x.model.ffn_matrices == 2
    )
    if not isinstance(op, Elementwise) or plain:
        return op
    return replace(op, read=passes * op.read, write=passes * op.write, kernels=passes * op.kernels)


def _forward(x: Setup, stage: int, overlap: float | None) -> list[Operator]:
    done: list[Operator] = [*_gathered(x, stage, overlap)]
    for part in _parts(x, stage):
        done += _many((op for piece in part.pieces for op in piece.forward), part.times)
    return done + _sends(x, stage, forward=True)


def _backward(
    x: Setup, stage: int, instruction: str, recompute: str, overlap: float | None, frozen: int
) -> list[Operator]:  # fmt: skip
    done: list[Operator] = []
    layers = sum(count for _, count in x.parallel.stage(x.model, stage))
    live = 1.0 - frozen_layers(x.model, x.parallel, stage, frozen) / layers if layers else 1.0
    if instruction != "backward_weight":
        done += _gathered(x, stage, overlap)
    for part in reversed(_parts(x, stage)):
        # Below the first layer that is trained nothing goes back, and an embedding is trained with the layers alone.
        times = live * part.times if part.layer else part.times * (not frozen or part.last)
        if not times:
            continue
        back = part.pieces[::-1]
        if instruction != "backward_weight":
            done += _many((op for piece in _again(part, recompute) for op in piece.forward), times)
            done += _many((op for piece in back for op in piece.input), times)
        if instruction != "backward_input" and (x.adapter is None or part.layer):
            done += _many((op for piece in back for op in piece.weight), times)
    if instruction != "backward_weight":
        done += _sends(x, stage, forward=False)
    if instruction != "backward_input" and x.parallel.zero == 3:
        whole = stage_parameters(x.model, x.parallel, stage)
        trained = trained_parameters(whole, x.model, x.parallel, stage, x.adapter, frozen)
        done += _sharded(x, stage, "reduce_scatter", ADAM.gradient, overlap, trained)
    return done


class _Part(NamedTuple):
    """Pieces that come `times` over; those of a layer may be recomputed. `last`: the head."""

    pieces: tuple[Piece, ...]
    times: int
    layer: bool
    last: bool = False


def _again(part: _Part, recompute: str) -> Sequence[Piece]:
    if recompute == "none" or not part.layer:
        return ()
    if recompute == "operator":
        return [replace(p, forward=tuple(_run_again(p))) for p in part.pieces if not p.core]
    return part.pieces if recompute == "full" else [p for p in part.pieces if p.core]


def _run_again(piece: Piece) -> Iterator[Operator]:
    """Yield what per-operator recomputation runs again: every second product is kept, and all sums over ranks."""
    for op in piece.forward:
        if isinstance(op, (Gemm, GroupedGemm)):
            yield replace(op, repeat=0.5 * op.repeat)
        elif not isinstance(op, Collective) or op.op == "all_gather":
            yield op


def _many(operators: Iterable[Operator], count: float) -> list[Operator]:
    return [replace(op, repeat=op.repeat * count) if count != 1 else op for op in operators]


def _parts(x: Setup, stage: int) -> list[_Part]:
    """The embedding, each kind of layer with its count, and the head, in forward order."""
    parts = [_Part(layer_pieces(x, layer), count, True) for layer, count in x.parallel.stage(x.model, stage)]
    if stage == 0:
        parts.insert(0, _Part(_embedding(x), 1, False))
    if stage == x.parallel.pipeline - 1:
        parts.append(_Part(_head(x), 1, False, last=True))
    return parts


def _embedding(x: Setup) -> tuple[Piece, ...]:
    w, values = x.width, x.tokens * x.model.hidden
    tables = 2 if x.model.positions else 1
    look = touch("embedding", values, tables * w, w)
    # The gradient of a row is read, added to and written in fp32.
    back = touch("embedding_backward", values, w + 4, 4.0)
    parts = [Piece((look,), (), (back,))]
    if x.parallel.tensor > 1:
        op = "reduce_scatter" if x.parallel.sequence else "all_reduce"
        grad = (tensor_collective(x, "all_gather"),) if x.parallel.sequence else ()
        parts.append(Piece((tensor_collective(x, op),), grad))
    return tuple(parts)


def _head(x: Setup) -> tuple[Piece, ...]:
    m, p = x.model, x.parallel
    matrix = Matrix("head", "head", m.hidden, m.vocab / p.tensor, "column")
    logits = x.tokens * matrix.n
    enter: tuple[Piece, ...] = ()
    if p.tensor > 1:
        if p.sequence:
            enter = (Piece((tensor_collective(x, "all_gather"),), (tensor_collective(x, "reduce_scatter"),)),)
        else:
            enter = (Piece(input=(tensor_collective(x, "all_reduce"),)),)
    # Logits to fp32, their maximum, exponentials in place, their sum; one pass back.
    loss = Piece(
        (touch("cross_entropy", logits, x.width + 12, 8.0, 6, kernels=4),),
        (touch("cross_entropy_backward", logits, 4.0, x.width, 2),),
    )
    return norm(x, m.hidden, x.own_tokens), *enter, *linear(x, matrix, x.tokens, low=False), loss


def _sends(x: Setup, stage: int, forward: bool) -> list[Operator]:
    """Activations to the next stage, or their gradients to the one before, once per chunk."""
    p = x.parallel
    if p.pipeline == 1:
        return []
    first, last = (0, p.pipeline - 1) if forward else (p.pipeline - 1, 0)
    times, received = p.virtual - (stage == last), p.virtual - (stage == first)
    # What arrives in slices is put together, unless sequence parallelism keeps it so.
    whole = [] if p.sequence or p.tensor == 1 else [tensor_collective(x, "all_gather")]
    return [*_send(x, times), *_many(whole if received else (), received)]


def _send(x: Setup, times: int) -> list[Operator]:
    p = x.parallel
    if times == 0:
        return []
    # The tensor ranks each send their slice (scatter-gather, Narayanan et al. 2021, section 4.1).
    size = x.tokens * x.model.hidden * x.width / p.tensor
    send = Collective(
        name="pipeline_send",
        precision=x.act,
        op="send",
        size=size,
        ranks=2,
        span=p.span("pipeline"),
        repeat=float(times),
    )
    return [send]


# ------------------------------------------------------------------ once per iteration
def _gathered(x: Setup, stage: int, overlap: float | None) -> list[Operator]:
    """Under ZeRO 3 the weights are gathered before each use."""
    if x.parallel.zero < 3:
        return []
    width = x.width if x.adapter is None else x.adapter.width
    return _sharded(x, stage, "all_gather", width, overlap, stage_parameters(x.model, x.parallel, stage))


def _sharded(
    x: Setup, stage: int, op: str, width: float, overlap: float | None, held: tuple[float, float]
) -> list[Operator]:  # fmt: skip
    """One collective for each layer, ahead of its use; all but the first can hide (PyTorch FSDP, one unit a block)."""
    units = max(1, sum(count for _, count in x.parallel.stage(x.model, stage)))
    hidden = 1.0 - 1.0 / units if overlap is None else overlap
    whole = _data(x.parallel, op, width, "zero", hidden, held)
    return [replace(c, size=c.size / units, repeat=float(units), ahead=True) for c in whole]


def _data(
    parallel: Parallel, op: str, width: float, name: str, overlap: float, held: tuple[float, float]
) -> list[Collective]:  # fmt: skip
    """A collective over the ranks that hold the same weights: `held` parameters (all but experts, experts)."""
    groups = ((held[0], "data", parallel.replicas), (held[1], "experts", parallel.expert_replicas))
    return [
        Collective(
            name=f"{name}_{op}", op=op, size=count * width, ranks=ranks, span=parallel.span("data"),
            local=parallel.local(direction, ranks), overlap=overlap,
        )
        for count, direction, ranks in groups
        if ranks > 1 and count > 0
    ]  # fmt: skip


def _per_iteration(
    model: Model,
    parallel: Parallel,
    stage: int,
    instruction: str,
    optimizer: Optimizer,
    overlap: float,
    scaled: bool,
    trained: tuple[float, float],
) -> tuple[Operator, ...]:
    zero = parallel.zero
    if instruction == "parameters":
        return (
            tuple(_data(parallel, "all_gather", optimizer.weight, "data", overlap, trained)) if zero in (1, 2) else ()
        )
    if instruction == "optimizer":
        return (_update(parallel, optimizer, scaled, trained), *_orthogonal(model, parallel, stage, optimizer))
    if zero == 3:
        return ()  # reduced after every microbatch
    op = "all_reduce" if zero == 0 else "reduce_scatter"
    tied: list[Operator] = []
    if model.tied and parallel.pipeline > 1 and stage in (0, parallel.pipeline - 1):
        size = model.vocab * model.hidden / parallel.tensor * optimizer.gradient
        tied = [
            Collective(
                name="tied_all_reduce",
                op="all_reduce",
                size=size,
                ranks=2,
                span=parallel.span("pipeline"),
            )
        ]
    return (*_data(parallel, op, optimizer.gradient, "data", overlap, trained), *tied)


def _orthogonal(model: Model, parallel: Parallel, stage: int, o: Optimizer) -> tuple[Operator, ...]:
    """Muon's Newton-Schulz rounds on every matrix: X X^T, its square, and their product with X, shared out by ZeRO."""
    done: list[Operator] = []
    for layer, count in parallel.stage(model, stage) if o.rounds else ():
        for matrix in model.matrices(layer, parallel.tensor, parallel.expert, parallel.expert_tensor):
            n, k = sorted((matrix.n, matrix.k))
            times = o.rounds * count * matrix.copies / (parallel.replicas if parallel.zero else 1)
            done += [
                Gemm(name="muon_gram", m=n, n=n, k=k, repeat=times),
                Gemm(name="muon_square", m=n, n=n, k=n, repeat=times),
                Gemm(name="muon_apply", m=n, n=k, k=n, repeat=times),
            ]
    return merge(done)


def _update(parallel: Parallel, o: Optimizer, scaled: bool, trained: tuple[float, float]) -> Elementwise:
    """Adam on the device's share: gradients zeroed, their norm taken, state read and written, weights cast.

    With a loss scale (fp16) gradients are unscaled and clipped in passes of their own, and so is the cast
    of the weights (megatron/optimizer/optimizer.py).
    """
    dense, experts = trained
    held = dense + experts
    if parallel.zero:
        held = dense / parallel.replicas + experts / parallel.expert_replicas
    state, passes = o.master + o.moments, 2 * o.gradient if scaled else 0.0
    return Elementwise(
        name="optimizer", precision="fp32", read=held * (2 * o.gradient + state + passes + (o.master if scaled else 0)),
        write=held * (state + o.weight + o.gradient + passes), ops=14 * held, kernels=4.0 + 3.0 * scaled,
    )  # fmt: skip


def _check(
    sequence: int,
    microbatch: int,
    precision: str,
    recompute: str,
    instruction: str,
    parallel: Parallel,
) -> None:
    s = parallel.section
    for key, value in (("sequence", sequence), ("microbatch", microbatch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ScenarioError(f"{s}.{key} = {value!r} must be a whole number of at least 1")
    words = {"precision": (precision, PRECISIONS), "recompute": (recompute, RECOMPUTE)}
    words["instruction"] = (instruction, INSTRUCTIONS)
    for key, (word, known) in words.items():
        if word not in known:
            raise ScenarioError(f"{s}.{key} = {word!r} is not known; {nearest(str(word), known)}")
    if sequence % parallel.context:
        good = [d for d in range(1, sequence + 1) if sequence % d == 0]
        near = min(good, key=lambda d: abs(d - parallel.context))
        raise ScenarioError(f"{s}.context = {parallel.context} does not divide sequence = {sequence}; try {near}")
