"""Kernels beyond products and plain attention, from the columns of a row to the work they do.

Encoder attention sees all of a picture. Multi-head latent attention comes alone or as the whole module of a
layer, its low-rank products included. Recurrent mixers (gated delta net, arXiv 2412.06464; Mamba-2, arXiv
2405.21060) come as the kernels of their layer: a short convolution, and the rule in blocks over a prompt or one
token at a time. Quantising an activation to fp8 comes as two passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, nearest
from ..base import Array
from ..roofline import shapes
from ..roofline.silicon import Silicon
from ..roofline.work import Work

Numbers = Mapping[str, Array]
Columns = Mapping[str, NDArray[Any]]
# (precision of the arithmetic, stored A, stored B), as in `rows.DTYPES`.
Stored = tuple[str, str, str]


@dataclass(frozen=True)
class Latent:
    """Widths of multi-head latent attention: of the hidden state, both low ranks, and one head's parts."""

    hidden: float
    query_rank: float
    rank: float
    plain: float
    rotary: float
    value: float


# By the architecture a config.json names. DeepSeek-V3 technical report (arXiv 2412.19437), section 4.2.
LATENT: Final[Mapping[str, Latent]] = {
    "DeepseekV3ForCausalLM": Latent(7168.0, 1536.0, 512.0, 128.0, 64.0, 128.0),
}

# Tokens of one block of the gated delta rule in parallel form (fla-org/flash-linear-attention, chunk size 64).
DELTA_BLOCK: Final = 64.0
# A recurrent state is kept in fp32 (the same library, and vLLM's caches of states).
STATE_BYTES: Final = 4.0


def encoder(chip: Silicon, x: Numbers, stored: Stored) -> tuple[Work, ...]:
    """Return attention of every token to every other of its picture."""
    return (
        shapes.attention(
            chip, x["batch_size"], x["isl"], x["isl"], x["num_heads"], x["num_heads"], x["head_dim"], x["head_dim"],
            causal=False, kv=stored[2], phase="prefill",
        ),
    )  # fmt: skip


def latent_attention(chip: Silicon, x: Numbers, stored: Stored, decode: bool) -> tuple[Work, ...]:
    """Return the attention alone of a layer with latent keys: absorbed for one new token, expanded for a prompt."""
    m = LATENT["DeepseekV3ForCausalLM"]
    return (_latent(chip, x, m, stored[2], decode),)


def _latent(chip: Silicon, x: Numbers, m: Latent, kv: str, decode: bool) -> Work:
    heads, batch = x["num_heads"], x["batch_size"]
    if decode:
        one = np.ones_like(heads)
        return shapes.attention(
            chip, batch, one, x["step"] + 1.0, heads, one, m.rank + m.rotary, m.rank, shared_kv=True, kv=kv,
            phase="decode",
        )  # fmt: skip
    head = m.plain + m.rotary
    return shapes.attention(chip, batch, x["isl"], x["isl"], heads, heads, head, m.value, kv=kv, phase="prefill")


def latent_module(chip: Silicon, x: Numbers, part: Columns, stored: Stored, decode: bool) -> tuple[Work, ...]:
    """Return a whole layer of latent attention: both low-rank paths, the attention, the product out."""
    names = np.unique(part["architecture"].astype(str))
    unknown = [n for n in names if n not in LATENT]
    if unknown:
        raise InputError(f"architecture {str(unknown[0])!r} is not known; {nearest(str(unknown[0]), LATENT)}")
    m = LATENT[str(names[0])]
    precision, a, b = stored
    heads, kv = x["num_heads"], _cached(part)
    tokens = x["batch_size"] * (1.0 if decode else x["isl"])

    def product(n: Array | float, k: Array | float) -> Work:
        return shapes.gemm(chip, tokens, n, k, a=a, b=b, precision=precision)

    works = [
        product(m.query_rank + m.rank + m.rotary, m.hidden),
        product(heads * (m.plain + m.rotary), m.query_rank),
        product(m.hidden, heads * m.value),
        _latent(chip, x, m, kv, decode),
    ]
    if decode:  # keys and values stay latent: two small products a head take queries in and values out
        works += [
            shapes.gemm(chip, tokens, n, k, batch=heads) for n, k in ((m.rank, m.plain), (m.value, m.rank))
        ]  # fmt: skip
    else:
        works.append(product(heads * (m.plain + m.value), m.rank))
    # Two norms, the rotary embedding, the write of the cache: each reads and writes what it names.
    walked = tokens * (2.0 * (m.query_rank + m.rank) + heads * m.rotary + 2.0 * (m.rank + m.rotary)) * 2.0
    works.append(shapes.elementwise(chip, walked, walked, kernels=5.0))
    return tuple(works)


def _cached(part: Columns) -> str:
    return "fp8" if str(part["kv_cache_dtype"][0]).startswith("fp8") else "bf16"


def recurrent(chip: Silicon, x: Numbers, part: Columns, op: str) -> tuple[Work, ...]:
    """Return one kernel of a recurrent layer; all rows name the same one in `kernel_source`."""
    kernel = str(part["kernel_source"][0])
    known = RECURRENT[op]
    if kernel not in known:
        raise InputError(f"kernel_source {kernel!r} of {op} is not known; {nearest(kernel, known)}")
    return known[kernel](chip, x)


def _channels(x: Numbers) -> Array:
    """Return the channels a layer's short convolution runs over."""
    if "num_k_heads" in x:
        return np.asarray(2.0 * x["num_k_heads"] * x["head_k_dim"] + x["num_v_heads"] * x["head_v_dim"])
    return np.asarray(x["nheads"] * x["head_dim"] + 2.0 * x["n_groups"] * x["d_state"])


def _convolution(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    values = x["num_tokens"] * _channels(x)
    return (shapes.elementwise(chip, 2.0 * values, 2.0 * values, ops=2.0 * x["d_conv"] * values),)


def _convolution_update(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    values = x["batch_size"] * _channels(x)
    kept = 2.0 * values * (x["d_conv"] - 1.0)
    return (shapes.elementwise(chip, 2.0 * values + kept, 2.0 * values + kept, ops=2.0 * x["d_conv"] * values),)


def _delta_blocks(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    """The gated delta rule in blocks: three products among the tokens of a block by kind, then the states."""
    c, k, v = DELTA_BLOCK, x["head_k_dim"], x["head_v_dim"]
    blocks = x["batch_size"] * np.ceil(x["seq_len"] / c) * x["num_v_heads"]
    among = shapes.gemm(chip, c, c, k, batch=blocks, repeat=2.0)
    values = shapes.gemm(chip, c, v, c, batch=blocks, repeat=3.0)
    states = shapes.gemm(chip, k, v, c, batch=blocks, c="fp32", repeat=3.0)
    return among, values, states, _gates(chip, x["num_tokens"] * x["num_v_heads"] * v)


def _delta_step(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    state = x["batch_size"] * x["num_v_heads"] * x["head_k_dim"] * x["head_v_dim"]
    return (shapes.elementwise(chip, STATE_BYTES * state, STATE_BYTES * state, ops=6.0 * state),)


def _mamba_blocks(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    c, n, p = x["chunk_size"], x["d_state"], x["head_dim"]
    chunks = x["batch_size"] * np.ceil(x["seq_len"] / c)
    among = shapes.gemm(chip, c, c, n, batch=chunks * x["n_groups"])
    values = shapes.gemm(chip, c, p, c, batch=chunks * x["nheads"])
    states = shapes.gemm(chip, n, p, c, batch=chunks * x["nheads"], c="fp32", repeat=2.0)
    return among, values, states, _gates(chip, x["num_tokens"] * x["nheads"] * p)


def _mamba_step(chip: Silicon, x: Numbers) -> tuple[Work, ...]:
    state = x["batch_size"] * x["nheads"] * x["head_dim"] * x["d_state"]
    return (shapes.elementwise(chip, STATE_BYTES * state, STATE_BYTES * state, ops=5.0 * state),)


def _gates(chip: Silicon, values: Array) -> Work:
    """Return cumulative decays, gates and the sum over blocks: a read and a write of the values each."""
    return shapes.elementwise(chip, 6.0 * values, 4.0 * values, ops=8.0 * values, kernels=3.0)


Kernel = Callable[[Silicon, Numbers], tuple[Work, ...]]
RECURRENT: Final[Mapping[str, Mapping[str, Kernel]]] = {
    "gdn": {
        "causal_conv1d_fn": _convolution,
        "causal_conv1d_update": _convolution_update,
        "chunk_gated_delta_rule": _delta_blocks,
        "fused_recurrent_gated_delta_rule": _delta_step,
    },
    "mamba2": {
        "causal_conv1d_fn": _convolution,
        "causal_conv1d_update": _convolution_update,
        "mamba_chunk_scan_combined": _mamba_blocks,
        "selective_state_update": _mamba_step,
    },
}


def quantise(chip: Silicon, x: Numbers, scales_only: bool) -> tuple[Work, ...]:
    """Return the pass that finds the scales of an activation (m, k), or the one that writes it in fp8."""
    values = x["m"] * x["k"]
    return (shapes.elementwise(chip, 2.0 * values, 0.0 * values if scales_only else values, ops=2.0 * values),)
