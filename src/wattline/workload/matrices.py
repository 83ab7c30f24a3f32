"""The weight matrices of one layer as one device holds them, in the order they are used."""

from __future__ import annotations

from typing import Any

from .shapes import Extra, Latent, Layer, Matrix, Recurrent

# A `model.Model`, which is made of what is here and so is not imported.
Model = Any


def mixer(m: Model, layer: Layer, tensor: int) -> tuple[Matrix, ...]:
    """Return the matrices of what mixes tokens; the last gives its output."""
    if layer.mixer == "none":
        return ()
    if m.mixer_matrices:
        return tuple(extra(x, tensor) for x in m.mixer_matrices)
    if layer.mixer == "recurrent":
        assert m.recurrent is not None
        return _recurrent(m, m.recurrent, tensor)
    if m.latent:
        return _latent(m, m.latent, tensor)
    h, heads = m.hidden, m.heads / tensor
    queries = heads * m.head_dim * (2 if m.attention_gate else 1)
    keys = m.head_dim + (0 if m.value_from_key else m.value_dim) if m.kv_own else 0
    n = queries + max(m.kv_heads / tensor, 1) * keys
    return (
        Matrix("qkv", "attention", m.mixer_hidden or h, n, "column", bias=n if m.qkv_bias else 0),
        Matrix("out", "attention", heads * m.value_dim, h, "row", bias=h if m.out_bias else 0),
    )


def _latent(m: Model, x: Latent, tensor: int) -> tuple[Matrix, ...]:
    h, heads = m.hidden, m.heads / tensor
    q = heads * (x.nope + x.rope)
    # Both down-projections read the same input and run as one product where queries are compressed.
    if x.query_rank:
        first = (
            Matrix("down_qkv", "attention", h, x.query_rank + x.rank + x.rope),
            Matrix("up_q", "attention", x.query_rank, q, "column"),
        )
    else:
        first = (
            Matrix("up_q", "attention", h, q, "column"),
            Matrix("down_kv", "attention", h, x.rank + x.rope),
        )
    return (
        *first,
        Matrix("up_kv", "attention", x.rank, heads * (x.nope + x.value), "column"),
        Matrix("out", "attention", heads * x.value, h, "row", bias=h if m.out_bias else 0),
    )


def _recurrent(m: Model, r: Recurrent, tensor: int) -> tuple[Matrix, ...]:
    h, inner = m.hidden, r.inner / tensor
    last = Matrix("recurrent_out", "recurrent", inner, h, "row")
    if r.dt_rank:
        return (
            Matrix("recurrent_in", "recurrent", h, 2 * inner, "column"),
            Matrix("recurrent_terms", "recurrent", inner, r.dt_rank + 2 * r.state, "row"),
            Matrix("recurrent_step", "recurrent", r.dt_rank, inner, "column"),
            last,
        )
    keys = 2 * max(r.groups / tensor, 1) * r.state
    n = 2 * inner + keys + r.gates * r.heads / tensor
    return Matrix("recurrent_in", "recurrent", h, n, "column"), last


def extra(x: Extra, tensor: int, expert: int = 1) -> Matrix:
    """Return an extra matrix as one device holds it."""
    k, n = float(x.k), float(x.n)
    if x.split == "column":
        n /= tensor
    elif x.split == "row":
        k /= tensor
    copies = x.copies / expert if x.part == "experts" else float(x.copies)
    return Matrix(x.name, x.part, k, n, x.split, copies)


def mlp(m: Model, layer: Layer, tensor: int, expert: int, expert_tensor: int) -> tuple[Matrix, ...]:
    """Return the matrices of the feed-forward part; pairs of the same part are up and down."""
    if layer.mlp == "none":
        return ()
    if layer.mlp == "dense":
        return _pair(m, "dense", "mlp", m.ffn / tensor, 1, m.mlp_bias)
    routed = _pair(m, "experts", "expert", m.expert_ffn / expert_tensor, m.experts / expert, m.expert_bias)
    routes = m.experts + m.empty_experts
    router = Matrix("router", "router", m.hidden, routes, bias=routes if m.expert_bias else 0)
    if not m.shared_ffn:
        return router, *routed
    return router, *_pair(m, "shared", "shared", m.shared_ffn / tensor, 1, m.mlp_bias), *routed


def _pair(m: Model, part: str, name: str, inner: float, copies: float, bias: bool) -> tuple[Matrix, ...]:
    up = inner * (m.ffn_matrices - 1)
    hidden = (m.expert_hidden or m.hidden) if part == "experts" else m.hidden
    return (
        Matrix(f"{name}_up", part, hidden, up, "column", copies, up if bias else 0),
        Matrix(f"{name}_down", part, inner, hidden, "row", copies, hidden if bias else 0),
    )
