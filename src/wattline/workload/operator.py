"""What is to be done, as operators: shapes and precisions, and what follows from them by counting.

An operator states its work on one device: floating-point operations, compulsory bytes to and from
main memory, bytes per link, kernel launches. Never a speed: how fast and at what energy it runs is
the business of a source. `repeat` is how many identical instances there are, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

# Bytes of one stored value. fp4 as in OCP MX v1.0 / NVFP4 without the shared scale factors, which
# callers add where they matter (a scale byte per 32 or 16 values).
BYTES: Final = {
    "fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Base of every operator. `precision` is what the arithmetic units run in."""

    name: str
    precision: str = "bf16"
    repeat: float = 1.0
    kind: ClassVar[str] = ""

    @property
    def flops(self) -> float:
        """Floating-point operations of one instance (a multiply-accumulate is two)."""
        return 0.0

    @property
    def bytes(self) -> float:
        """Compulsory main-memory traffic of one instance: each input read once, each output written once."""
        return 0.0

    @property
    def launches(self) -> float:
        """Kernel launches of one instance."""
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Operator):
    """C[b, m, n] = A[b, m, k] B[b, k, n]. `a`, `b`, `c`: stored precision of each matrix.

    `batch` independent products run in one launch (B is read once per product). `accumulate` adds
    to C, which is then read as well as written.
    """

    m: float
    n: float
    k: float
    batch: float = 1.0
    a: str = "bf16"
    b: str = "bf16"
    c: str = "bf16"
    accumulate: bool = False
    kind: ClassVar[str] = "gemm"

    @property
    def flops(self) -> float:
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        m, n, k = self.m, self.n, self.k
        out = m * n * BYTES[self.c] * (2.0 if self.accumulate else 1.0)
        return self.batch * (m * k * BYTES[self.a] + k * n * BYTES[self.b] + out)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedGemm(Operator):
    """One launch of several small GEMMs that share n and k: the experts of a mixture.

    `tokens` are routed to `top_k` experts each (those assignments that land on this device are
    `tokens * top_k * local_experts / experts` on average). `active` is the expected number of
    distinct local experts touched; `skew` >= 1 the load of the busiest expert over the mean.
    """

    tokens: float
    top_k: float
    experts: float
    local_experts: float
    n: float
    k: float
    active: float
    skew: float = 1.0
    a: str = "bf16"
    b: str = "bf16"
    c: str = "bf16"
    kind: ClassVar[str] = "grouped_gemm"

    @property
    def rows(self) -> float:
        """Rows over all local experts."""
        return self.tokens * self.top_k * self.local_experts / self.experts

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.n * self.k

    @property
    def bytes(self) -> float:
        weights = self.active * self.n * self.k * BYTES[self.b]
        return weights + self.rows * (self.k * BYTES[self.a] + self.n * BYTES[self.c])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Operator):
    """Scaled dot-product attention, fused (no score matrix in main memory).

    `query` new tokens per sequence attend to `context` tokens (including themselves when causal)
    for `batch` sequences. `pairs` = query-key pairs per head and sequence, which a causal mask or a
    sliding window lowers. `kv_heads` < `heads` is grouped-query attention; multi-head latent
    attention in its absorbed form is kv_heads = 1 with head_dim = rank + rope and
    value_dim = rank, keys and values stored once (`shared_kv`). `kernel`: "fa1", "fa2" or "fa3" where
    it is not the fastest that the chip has, "mla" one written for new tokens that attend to latents.
    """

    batch: float
    query: float
    context: float
    heads: float
    kv_heads: float
    head_dim: float
    value_dim: float
    causal: bool = True
    window: float = 0.0
    shared_kv: bool = False
    kv: str = "bf16"
    phase: str = "prefill"  # "prefill", "decode" or "backward"
    kernel: str = ""
    kind: ClassVar[str] = "attention"

    @property
    def pairs(self) -> float:
        """Query-key pairs per head and sequence after the mask."""
        q, c = self.query, self.context
        w = min(self.window, c) if self.window else c
        if not self.causal:
            return q * w
        first = c - q  # context before the first new token
        # Token i (0-based among the new ones) sees min(first + i + 1, w) keys.
        if first + 1 >= w:
            return q * w
        ramp = min(q, w - first)  # tokens that see fewer than w keys, or just w
        return ramp * first + ramp * (ramp + 1) / 2 + (q - ramp) * w

    @property
    def flops(self) -> float:
        forward = 2.0 * self.batch * self.heads * self.pairs * (self.head_dim + self.value_dim)
        # Backward of a fused kernel: recompute QK^T, then dV, dP, dQ, dK: 5 products for 2.
        return 2.5 * forward if self.phase == "backward" else forward

    @property
    def bytes(self) -> float:
        seen = min(self.context, self.window + self.query) if self.window else self.context
        width = self.head_dim if self.shared_kv else self.head_dim + self.value_dim
        kv = self.batch * self.kv_heads * seen * width * BYTES[self.kv]
        q = self.batch * self.query * self.heads * (self.head_dim + self.value_dim) * 2.0
        # Backward reads q, k, v, o, do and writes dq, dk, dv: about twice the forward traffic and a half.
        return 2.5 * (kv + q) if self.phase == "backward" else kv + q


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Operator):
    """Work bound by memory: norms, activations, residual adds, rotary embedding, optimizer, copies.

    `read` and `write` are bytes; `ops` floating-point operations on the vector units.
    """

    read: float
    write: float
    ops: float = 0.0
    kernels: float = 1.0
    kind: ClassVar[str] = "elementwise"

    @property
    def flops(self) -> float:
        return self.ops

    @property
    def bytes(self) -> float:
        return self.read + self.write

    @property
    def launches(self) -> float:
        return self.kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective(Operator):
    """Communication among `ranks` devices.

    `op`: "all_reduce", "all_gather", "reduce_scatter", "all_to_all" or "send".
    `size`: bytes of the full buffer on one device (all_reduce: the reduced tensor; all_gather and
    reduce_scatter: the gathered tensor; all_to_all: what one device sends in all; send: the message).
    `span`: "node" when all ranks share one scale-up domain, else "fabric"; then `local` of them share each.
    `overlap` in [0, 1]: the share that a schedule can hide behind computation. `ahead`: issued before it is
    needed, beside the computation of the same instruction, and hidden for no longer than that lasts.
    """

    op: str
    size: float
    ranks: float
    span: str = "node"
    overlap: float = 0.0
    local: float = 1.0
    ahead: bool = False
    kind: ClassVar[str] = "collective"

    @property
    def link_bytes(self) -> float:
        """Bytes one device sends (ring algorithms; Thakur, Rabenseifner, Gropp, IJHPCA 2005)."""
        p = self.ranks
        if p <= 1:
            return 0.0
        if self.op == "all_reduce":
            return 2.0 * self.size * (p - 1) / p
        if self.op in ("all_gather", "reduce_scatter", "all_to_all"):
            return self.size * (p - 1) / p
        return self.size

    @property
    def bytes(self) -> float:
        # What is sent is read from main memory and what is received is written to it.
        return 2.0 * self.link_bytes

    @property
    def launches(self) -> float:
        return 1.0 if self.ranks > 1 else 0.0
