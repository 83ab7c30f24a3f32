"""What one layer does to one microbatch, forward and backward, piece by piece.

A piece is a step of the forward pass with the steps its gradient needs. Training instructions are
then lists of pieces read forwards, read backwards, or run again (recomputation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .matrices import extra
from .model import Layer, Matrix, Model, Recurrent
from .operator import BYTES, Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator
from .parallel import Parallel
from .tuning import NF4, Adapter, linears

# Tokens per block of the parallel form of a recurrent layer (Mamba-2, arXiv 2405.21060, section 7).
CHUNK = 256.0

# Operations per value of a dropout kernel: ten rounds of Philox (Salmon et al., SC 2011), about eight
# instructions each, give four random words; then compare, scale and select.
RANDOM = 24.0

# Share of a collective run beside a product that costs no time: it takes compute units and memory
# bandwidth away from the product (calculon, Isaev et al., SC 2023, holds 15 % of an A100 for it).
HIDDEN = 0.85


@dataclass(frozen=True, slots=True)
class Piece:
    """A forward step with the steps that give the gradients of its input and of its weights.

    `core`: part of softmax attention proper, which selective recomputation runs again.
    """

    forward: tuple[Operator, ...] = ()
    input: tuple[Operator, ...] = ()
    weight: tuple[Operator, ...] = ()
    core: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One microbatch on one device.

    `fused_linear`: backward of linear layers as in Megatron-LM since 2022: weight gradients are added to
    their sum inside the product, and input gradients are summed over the tensor ranks beside it. Else a
    pass of its own adds what the product wrote, and sums wait. `gradient`: stored precision of that sum.
    `paired`: the schedule runs one microbatch's forward beside another's backward, so that experts'
    all-to-alls go behind products (DualPipe). `attention`: generation of the fused kernel ("fa1", "fa2",
    "fa3"), the chip's fastest where empty. `eager`: what is not a product runs operator by operator, as
    PyTorch does without torch.compile or fused kernels. `adapter`: what is trained instead of the weights.

    `sequence` tokens per sequence, `microbatch` sequences. `precision` of the matrix products:
    "bf16", "fp16", "tf32", "fp32" or "fp8" (activations then stay in bf16 outside the products).
    """

    model: Model
    parallel: Parallel
    sequence: float
    microbatch: float
    precision: str = "bf16"
    flash: bool = True
    dropout: bool = False
    fused_linear: bool = True
    gradient: str = "fp32"
    paired: bool = False
    attention: str = ""
    eager: bool = False
    adapter: Adapter | None = None

    @property
    def act(self) -> str:
        """Stored precision of activations."""
        return {"fp8": "bf16", "tf32": "fp32"}.get(self.precision, self.precision)

    @property
    def width(self) -> float:
        """Bytes of one activation value."""
        return BYTES[self.act]

    @property
    def tokens(self) -> float:
        """Tokens of one device's share of the sequence."""
        return self.microbatch * self.sequence / self.parallel.context

    @property
    def own_tokens(self) -> float:
        """Tokens whose norms and residuals this device computes."""
        return self.tokens / (self.parallel.tensor if self.parallel.sequence else 1)


def layer_pieces(x: Setup, layer: Layer) -> tuple[Piece, ...]:
    """All pieces of `layer`, in forward order."""
    if layer.shape:
        x, layer = replace(x, model=x.model.at(layer)), Layer(layer.mixer, layer.mlp)
    parts: list[Piece] = []
    # A parallel block (GPT-J, PaLM) enters and leaves both halves together.
    together = x.model.parallel_block and layer.mixer != "none" and layer.mlp == "dense"
    if layer.mixer != "none":
        parts += [_norms(x, layer, 1), _enter(x), *_mixer(x, layer), *_extras(x, "mixer")]
        parts += [] if together else [_leave(x), _residual(x)]
    if layer.mlp == "dense":
        parts += [_norms(x, layer, 0 if together and x.model.norms == 1 else 1)]
        parts += [] if together else [_enter(x)]
        parts += [*_dense(x, layer), *_extras(x, "mlp"), _leave(x), _residual(x)]
    if layer.mlp == "experts":
        parts += [_norms(x, layer, 1), *_experts(x, layer), *_extras(x, "mlp"), _residual(x)]
    return tuple(p for p in parts if p.forward or p.input or p.weight)


def _extras(x: Setup, half: str) -> Iterator[Piece]:
    """Products with what a layer has beside its usual matrices."""
    for w in x.model.extra:
        if w.half == half and not w.table:
            matrix = extra(w, x.parallel.tensor, x.parallel.expert)
            share = x.model.top_k / w.copies if w.part == "experts" else 1.0
            for _ in range(int(matrix.copies)):
                yield from linear(x, matrix, x.tokens * share)


# ------------------------------------------------------------------ building blocks
def touch(name: str, count: float, read: float, write: float, ops: float = 0.0, kernels: float = 1.0) -> Elementwise:
    """A kernel over `count` values that reads, writes and computes so much per value (bytes, FLOP)."""
    return Elementwise(
        name=name,
        precision="fp32",
        read=count * read,
        write=count * write,
        ops=count * ops,
        kernels=kernels,
    )


def linear(x: Setup, matrix: Matrix, tokens: float, low: bool = True) -> tuple[Piece, ...]:
    """A product with a weight matrix. `low`: in the training precision (else the activations')."""
    prec = x.precision if low else ("tf32" if x.act == "fp32" else x.act)
    stored = "fp8" if prec == "fp8" else x.act
    m, k, n, act = tokens, matrix.k, matrix.n, x.act

    def gemm(suffix: str, m: float, n: float, k: float, c: str = act, accumulate: bool = False) -> Gemm:
        name = matrix.name + suffix
        return Gemm(name=name, precision=prec, m=m, n=n, k=k, a=stored, b=stored, c=c, accumulate=accumulate)

    if x.adapter is not None:
        return _adapted(x, matrix, m, gemm, low)
    product = Piece((gemm("", m, n, k),), (gemm("_dgrad", m, k, n),), _weight_gradient(x, gemm, m, n, k))
    return _with_casts(x, product, m * k, m * n) if prec == "fp8" else (product,)


def _adapted(x: Setup, matrix: Matrix, m: float, gemm: Callable[..., Gemm], low: bool) -> tuple[Piece, ...]:
    """A product whose weights stay, with two thin ones beside it; weights in 4 bits are widened before each use."""
    assert x.adapter is not None
    n, k, r = matrix.n, matrix.k, float(x.adapter.rank)
    joined = linears(x.model, matrix)
    wide: tuple[Operator, ...] = ()
    if low and x.adapter.base == "nf4":
        wide = (touch("dequantize", n * k, NF4, x.width, 2),)
    whole = Piece((*wide, gemm("", m, n, k)), (*wide, gemm("_dgrad", m, k, n)))
    if not low:  # the head is not adapted
        return (whole,)
    thin = Piece(
        (gemm("_a", m, joined * r, k), gemm("_b", m, n, r, accumulate=True)),
        (gemm("_b_dgrad", m, r, n), gemm("_a_dgrad", m, k, joined * r, accumulate=True)),
        (gemm("_a_wgrad", k, joined * r, m), gemm("_b_wgrad", r, n, m)),
    )
    return (whole, thin, *((_around_adapter(x, m, k, n),) if x.eager else ()))


def _around_adapter(x: Setup, m: float, k: float, n: float) -> Piece:
    """What PEFT's layer does beside its products: dropout of the input, then scale and add (LoraLayer.forward)."""
    w = x.width
    drop = touch("adapter_dropout", m * k, w, w + 1, RANDOM)
    add = touch("adapter_add", m * n, 3 * w, 2 * w, 2, kernels=2)
    back = touch("adapter_backward", m * (k + n), 2 * w, w, 2, kernels=2)
    return Piece((drop, add), (back,))


def _weight_gradient(x: Setup, gemm: Callable[..., Gemm], m: float, n: float, k: float) -> tuple[Operator, ...]:
    if x.fused_linear:
        return (gemm("_wgrad", k, n, m, x.gradient, True),)
    held = BYTES[x.gradient]
    return gemm("_wgrad", k, n, m), touch("gradient_sum", k * n, x.width + held, held, 1)


def _with_casts(x: Setup, product: Piece, inputs: float, outputs: float) -> tuple[Piece, ...]:
    # Each operand is cast once and kept both ways round, for the product and for the gradients.
    there = touch("cast", inputs, x.width, 2.0)
    back = touch("cast", outputs, x.width, 2.0)
    return (Piece(forward=(there,)), product, Piece(input=(back,)))


def _norms(x: Setup, layer: Layer, least: int) -> Piece:
    # Sandwich norms (Gemma-2) come in twos per sublayer.
    halves = (layer.mixer != "none") + (layer.mlp != "none")
    each = max(least, x.model.norms // 2) if halves and least else 0
    return norm(x, x.model.hidden, x.own_tokens, each)


def norm(x: Setup, width: float, tokens: float, times: float = 1.0) -> Piece:
    """Layer or RMS norm: one pass each way; the gradient reads input and output gradient."""
    if not times:
        return Piece()
    w, values = x.width, tokens * width
    fwd = touch("norm", values, w, w, 6)
    bwd = touch("norm_backward", values, 2 * w, w, 10)
    return Piece((_times(fwd, times),), (_times(bwd, times),))


def _times(op: Elementwise, times: float) -> Elementwise:
    return op if times == 1 else Elementwise(
        name=op.name, precision=op.precision, repeat=times, read=op.read, write=op.write, ops=op.ops, kernels=op.kernels
    )  # fmt: skip


def _residual(x: Setup) -> Piece:
    w, values = x.width, x.own_tokens * x.model.hidden
    mask = 1.0 if x.dropout else 0.0
    return Piece(
        (touch("residual", values, 2 * w, w + mask, 1 + RANDOM * mask),),
        (touch("residual_backward", values, 2 * w + mask, w, 1 + mask),),
    )


def _enter(x: Setup) -> Piece:
    """Before column-parallel products: gather the sequence, and sum input gradients on the way back."""
    p = x.parallel
    if p.tensor == 1:
        return Piece()
    hidden = HIDDEN if x.fused_linear else 0.0
    if not p.sequence:
        return Piece(input=(tensor_collective(x, "all_reduce", hidden),))
    gather = tensor_collective(x, "all_gather")
    # The gathered input is not kept: it is gathered again, behind the input-gradient product.
    again = tensor_collective(x, "all_gather", HIDDEN)
    return Piece((gather,), (tensor_collective(x, "reduce_scatter", hidden),), (again,))


def _leave(x: Setup) -> Piece:
    """After row-parallel products: sum the partial outputs."""
    p = x.parallel
    if p.tensor == 1:
        return Piece()
    if not p.sequence:
        return Piece((tensor_collective(x, "all_reduce"),))
    return Piece((tensor_collective(x, "reduce_scatter"),), (tensor_collective(x, "all_gather"),))


def tensor_collective(x: Setup, op: str, overlap: float = 0.0) -> Collective:
    """A collective of one hidden-wide activation over the tensor ranks."""
    p, size = x.parallel, x.tokens * x.model.hidden * x.width
    return Collective(
        name=f"tensor_{op}",
        precision=x.act,
        op=op,
        size=size,
        ranks=p.tensor,
        span=p.span("tensor"),
        local=p.local("tensor", p.tensor),
        overlap=overlap,
    )


# ------------------------------------------------------------------ mixers
def _mixer(x: Setup, layer: Layer) -> Iterator[Piece]:
    m, p = x.model, x.parallel
    matrices = [w for w in m.matrices(layer, p.tensor) if w.part in ("attention", "recurrent")]
    for matrix in matrices[:-1]:
        yield from linear(x, matrix, x.tokens)
        if matrix.name.startswith("down") and m.latent:
            yield norm(
                x,
                m.latent.rank + (m.latent.query_rank if matrix.name == "down_qkv" else 0),
                x.tokens,
            )
    if layer.mixer == "recurrent":
        assert m.recurrent is not None
        yield _scan(x, m.recurrent)
    else:
        yield from _attention(x, layer)
    yield from linear(x, matrices[-1], x.tokens)


def _attention(x: Setup, layer: Layer) -> Iterator[Piece]:
    m, p = x.model, x.parallel
    heads = m.heads / p.tensor
    kv_heads = heads if m.latent else max(m.kv_heads / p.tensor, 1)
    if m.rotary:
        turned = x.tokens * (heads * m.latent.rope + m.latent.rope if m.latent else (heads + kv_heads) * m.head_dim)
        yield Piece(
            (touch("rotary", turned, x.width, x.width, 3),),
            (touch("rotary", turned, x.width, x.width, 3),),
        )
    if m.qk_norm:
        yield norm(x, (heads + kv_heads) * m.head_dim, x.tokens)
    if p.context > 1:
        yield _ring(x, x.tokens * kv_heads * (m.qk_dim + m.v_dim) * x.width)
    yield _fused(x, layer, heads, kv_heads) if x.flash else _unfused(x, heads)


def _ring(x: Setup, size: float) -> Piece:
    """Keys and values go round the context ranks; on the way back their gradients do too."""
    p = x.parallel

    def send(bytes_: float) -> Collective:
        return Collective(
            name="context_send", precision=x.act, op="send", size=bytes_, ranks=p.context, span=p.span("context"),
            overlap=1.0, repeat=p.context - 1.0,
        )  # fmt: skip

    return Piece((send(size),), (send(2 * size),))


def _fused(x: Setup, layer: Layer, heads: float, kv_heads: float) -> Piece:
    m, query = x.model, x.sequence / x.parallel.context
    # Ranks of a context-parallel group take chunks from both ends, so all see the mean context.
    context = (x.sequence + query) / 2
    window = float(m.window) if layer.mixer == "window" else 0.0
    if m.index and m.index.topk < context:  # queries see the chosen keys alone
        window = float(m.index.topk)
    if m.compress > 1:
        window = min(context, (window or context) / m.compress + m.window)

    def attention(phase: str) -> Attention:
        return Attention(
            name="attention" if phase == "prefill" else "attention_backward", precision=_half(x), batch=x.microbatch,
            query=query, context=context, heads=heads, kv_heads=kv_heads, head_dim=m.qk_dim, value_dim=m.v_dim,
            window=window, kv=x.act, phase=phase,
            kernel=x.attention,
        )  # fmt: skip

    return Piece((attention("prefill"),), (attention("backward"),), core=True)


def _half(x: Setup) -> str:
    """Return what attention computes in: 16 bits, or what the products of a job in 32 bits do."""
    return x.precision if x.act == "fp32" else x.act


def _unfused(x: Setup, heads: float) -> Piece:
    """Scores written out, normalised, dropped out and read back (Megatron-LM before 2023)."""
    m, batch = x.model, x.microbatch * heads
    q, s, w = x.sequence / x.parallel.context, x.sequence, x.width
    mask = 1.0 if x.dropout else 0.0

    def product(name: str, rows: float, cols: float, inner: float) -> Gemm:
        return Gemm(
            name=name,
            precision=_half(x),
            m=rows,
            n=cols,
            k=inner,
            batch=batch,
            a=x.act,
            b=x.act,
            c=x.act,
        )

    scores = batch * q * s
    forward: list[Operator] = [
        product("scores", q, s, m.qk_dim),
        touch("softmax", scores, w, w, 6),
        product("weighted_values", q, m.v_dim, s),
    ]
    backward: list[Operator] = [
        product("weighted_values_dgrad", q, s, m.v_dim),
        product("weighted_values_vgrad", s, m.v_dim, q),
        touch("softmax_backward", scores, 2 * w, w, 5),
        product("scores_qgrad", q, m.qk_dim, s),
        product("scores_kgrad", s, m.qk_dim, q),
    ]
    if x.dropout:
        forward.insert(2, touch("attention_dropout", scores, w, w + mask, RANDOM))
        backward.insert(2, touch("attention_dropout_backward", scores, w + mask, w, 2))
    return Piece(tuple(forward), tuple(backward), core=True)


def scan(x: Recurrent, tokens: float, tensor: int, precision: str, width: float) -> tuple[Operator, ...]:
    """The recurrent mixer over `tokens` in its blocked form, as batched products and one pass.

    Per block and head: keys with queries, the masked weights with values (both CHUNK wide), the
    block's own state and what earlier state adds (both state x head_dim).
    """
    heads = x.heads / tensor
    inner, keys = x.inner / tensor, 2 * max(x.groups / tensor, 1) * x.state
    chunk = min(CHUNK, max(tokens, 1.0))
    blocks = tokens / chunk * heads

    def product(name: str, m: float, n: float, k: float, batch: float) -> Gemm:
        return Gemm(name=name, precision=precision, m=m, n=n, k=k, batch=batch, a=precision, b=precision, c=precision)

    conv = touch("convolution", tokens * (inner + keys), width, width, 2 * x.conv)
    if x.dt_rank:  # Mamba-1 scans on the vector units, keeping the state on chip
        return conv, touch("scan", tokens * inner, 3 * width, width, 9 * x.state)
    return (
        conv,
        product("scan_weights", chunk, chunk, float(x.state), blocks),
        product("scan_values", chunk, float(x.head_dim), chunk, blocks),
        product("scan_state", float(x.state), float(x.head_dim), chunk, 2 * blocks),
        touch("recurrent_gate", tokens * inner, 2 * width, width, 8),
    )


def _scan(x: Setup, recurrent: Recurrent) -> Piece:
    forward = scan(recurrent, x.tokens, x.parallel.tensor, _half(x), x.width)
    # Each product has two gradients and each pass reads its input again: the forward pass twice.
    return Piece(forward, forward + forward)


# ------------------------------------------------------------------ feed-forward parts
def _dense(x: Setup, layer: Layer, part: str = "dense") -> Iterator[Piece]:
    up, down = (w for w in x.model.matrices(layer, x.parallel.tensor) if w.part == part)
    yield from linear(x, up, x.tokens)
    yield _activation(x, down.k, x.tokens)
    yield from linear(x, down, x.tokens)


def _activation(x: Setup, inner: float, tokens: float) -> Piece:
    w, gates = x.width, x.model.ffn_matrices - 1
    values = tokens * inner
    return Piece(
        (touch("activation", values, gates * w, w, 8),),
        (touch("activation_backward", values, (gates + 1) * w, gates * w, 12),),
    )


def _experts(x: Setup, layer: Layer) -> Iterator[Piece]:
    m, p = x.model, x.parallel
    matrices = m.matrices(layer, p.tensor, p.expert, p.expert_tensor)
    router = next(w for w in matrices if w.part == "router")
    yield from linear(x, router, x.own_tokens, low=False)
    yield Piece(
        (touch("routing", x.own_tokens * m.experts, 4, 4, 8),),
        (touch("routing", x.own_tokens * m.experts, 4, 4, 4),),
    )
    if m.shared_ffn:
        yield _enter(x)
        yield from _dense(x, layer, "shared")
        yield _leave(x)
    yield from _routed(x, [w for w in matrices if w.part == "experts"])


def _routed(x: Setup, matrices: list[Matrix]) -> Iterator[Piece]:
    m, p = x.model, x.parallel
    # Each device routes its own share of the tokens, whether or not norms are split too.
    group = p.expert * p.expert_tensor * x.tokens / p.tensor
    rows = group * m.top_k / p.expert
    moved = x.tokens / p.tensor * m.top_k * (m.expert_hidden or m.hidden)
    low = 1.0 if x.precision == "fp8" else x.width
    w = x.width
    width = m.expert_hidden or m.hidden
    values = rows / p.expert_tensor * width
    shuffle = Piece((touch("permute", values, w, w),), (touch("permute", values, w, w),))
    yield shuffle
    if p.expert > 1:
        yield Piece((_all_to_all(x, moved * low),), (_all_to_all(x, moved * w),))
    if p.expert_tensor > 1:
        yield _slice_collective(x, rows, "all_gather", "reduce_scatter")
    up, down = matrices
    yield from _grouped(x, up, group)
    yield _activation(x, down.k, rows)
    yield from _grouped(x, down, group)
    if p.expert_tensor > 1:
        yield _slice_collective(x, rows, "reduce_scatter", "all_gather")
    if p.expert > 1:
        yield Piece((_all_to_all(x, moved * w),), (_all_to_all(x, moved * low),))
    yield shuffle


def _slice_collective(x: Setup, rows: float, there: str, back: str) -> Piece:
    # Without experts apart the gathered tensor is the sequence itself, before it is copied top_k-fold.
    p, m = x.parallel, x.model
    size = (rows if p.expert > 1 else rows / m.top_k) * m.hidden * x.width
    span = p.span("expert")

    def make(op: str) -> Collective:
        return Collective(
            name=f"expert_{op}", precision=x.act, op=op, size=size, ranks=p.expert_tensor, span=span,
            local=p.local("tensor", p.expert_tensor),
        )  # fmt: skip

    return Piece((make(there),), (make(back),))


def _all_to_all(x: Setup, size: float) -> Collective:
    p = x.parallel
    return Collective(
        name="expert_all_to_all",
        precision=x.act,
        op="all_to_all",
        size=size,
        ranks=p.expert,
        span=p.span("expert"),
        local=p.local("expert", p.expert),
        overlap=HIDDEN if x.paired else 0.0,
    )


def _grouped(x: Setup, matrix: Matrix, tokens: float) -> tuple[Piece, ...]:
    m = x.model
    prec, stored = x.precision, "fp8" if x.precision == "fp8" else x.act
    local = m.experts / x.parallel.expert
    active = local * touched(m.top_k / m.experts, tokens)
    rows = tokens * m.top_k / x.parallel.expert

    def product(suffix: str, n: float, k: float, b: str, c: str) -> GroupedGemm:
        return GroupedGemm(
            name=matrix.name + suffix, precision=prec, tokens=tokens, top_k=m.top_k, experts=m.experts,
            local_experts=local, n=n, k=k, active=active, a=stored, b=b, c=c,
        )  # fmt: skip

    piece = Piece(
        (product("", matrix.n, matrix.k, stored, x.act),),
        (product("_dgrad", matrix.k, matrix.n, stored, x.act),),
        # The weight gradient is written where the weights were read, in fp32; experts are not adapted.
        () if x.adapter else (product("_wgrad", matrix.n, matrix.k, "fp32", stored),),
    )
    return _with_casts(x, piece, rows * matrix.k, rows * matrix.n) if prec == "fp8" else (piece,)


def touched(share: float, tokens: float) -> float:
    """Expected share of experts that at least one of `tokens` chooses, each with chance `share`."""
    return 1.0 - (1.0 - share) ** tokens if share < 1.0 else 1.0
