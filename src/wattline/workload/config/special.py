"""Mixers that no other family has, one function each, named by the `mixer` flag of the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...core.errors import InputError
from ..model import Extra, Index, Recurrent
from .facts import Facts
from .mixers import attention
from .pattern import Block

Fields = dict[str, Any]
Mixer = Callable[[Facts, Block, int], Fields]


def _state(heads: int, dim: int, state: int, channels: int, conv: int, groups: int = 1) -> Recurrent:
    return Recurrent(heads=heads, head_dim=dim, state=state, groups=groups, conv=conv, channels=channels)


def _in(name: str, k: int, n: int, split: str = "column") -> Extra:
    return Extra(name, "recurrent", k, n, split)


def kda(x: Facts, b: Block, hidden: int) -> Fields:
    """Kimi delta attention (arXiv 2510.26692): a delta rule with a gate for every channel."""
    if b.mixer != "recurrent":
        return attention(x, b, hidden)
    table = x.raw("linear_attn_config")
    inner = table if isinstance(table, Mapping) else {}
    heads = int(inner.get("num_heads") or x.number("linear_num_heads") or x.need("heads"))
    dim = int(inner.get("head_dim") or x.number("linear_head_dim") or x.maybe("head_dim"))
    conv = int(inner.get("short_conv_kernel_size") or x.number("linear_conv_kernel_dim", 4))
    x.seen.update(("short_conv_kernel_size", "attn_res_block_size"))  # said twice; a few values a layer
    width = heads * dim
    full = bool(inner.get("use_full_rank_gate") or x.flag("full_rank"))
    gates = (
        (_in("f_proj", hidden, width), _in("g_proj", hidden, width))
        if full
        else (
            _in("f_a_proj", hidden, dim, "whole"),
            _in("f_b_proj", dim, width),
            _in("g_a_proj", hidden, dim, "whole"),
            _in("g_b_proj", dim, width),
        )
    )
    return {
        "recurrent": _state(heads, dim, dim, 3 * width, conv, heads),
        "mixer_matrices": (
            *(_in(name, hidden, width) for name in ("q_proj", "k_proj", "v_proj")),
            *gates,
            _in("b_proj", hidden, heads),
            _in("o_proj", width, hidden, "row"),
        ),
    }


def conv(x: Facts, b: Block, hidden: int) -> Fields:
    """A gated short convolution (LFM2)."""
    if b.mixer != "recurrent":
        return attention(x, b, hidden)
    taps = x.number("conv_L_cache", 3)
    return {
        "recurrent": _state(hidden, 1, 1, hidden, taps),
        "mixer_matrices": (_in("in_proj", hidden, 3 * hidden), _in("out_proj", hidden, hidden, "row")),
    }


def rg_lru(x: Facts, b: Block, hidden: int) -> Fields:
    """Griffin's recurrent block (arXiv 2402.19427): a gated linear recurrence of one value per channel."""
    if b.mixer != "recurrent":
        return attention(x, Block("window", b.mlp, b.kind, b.i), hidden)
    width, heads = x.number("lru_width") or hidden, x.need("heads")
    block = width // heads
    return {
        "recurrent": _state(width, 1, 1, width, x.number("conv1d_width", 4)),
        "mixer_matrices": (
            _in("linear_y", hidden, width),
            _in("linear_x", hidden, width),
            Extra("gates", "recurrent", block, block, "whole", 2 * heads),
            _in("linear_out", width, hidden, "row"),
        ),
    }


def rwkv(x: Facts, _b: Block, hidden: int) -> Fields:
    """RWKV-4 (arXiv 2305.13048): the state of a channel is a numerator, a denominator and the last token."""
    width = x.number("attention_hidden_size") or hidden
    return {
        "recurrent": _state(width, 1, 5, 0, 1),
        "mixer_matrices": (
            *(_in(name, hidden, width) for name in ("key", "value", "receptance")),
            _in("output", width, hidden, "row"),
        ),
        "extra": (Extra("ffn_receptance", "dense", hidden, hidden, "column", half="mlp"),),
    }


def mlstm(x: Facts, _b: Block, hidden: int) -> Fields:
    """xLSTM's matrix memory (arXiv 2405.04517); the width of the feed-forward part follows from a factor."""
    heads = x.need("heads")
    keys = int(hidden * float(x.raw("qk_dim_factor", 0.5)))
    values = int(hidden * float(x.raw("v_dim_factor", 1.0)))
    return {
        "recurrent": _state(heads, values // heads, keys // heads, 0, 1, heads),
        "mixer_matrices": (
            _in("q", hidden, keys), _in("k", hidden, keys), _in("v", hidden, values),
            _in("ogate_preact", hidden, values), _in("gates", hidden, 2 * heads), _in("out_proj", values, hidden,
            "row"),
        ),
    }  # fmt: skip


def lightning(x: Facts, b: Block, hidden: int) -> Fields:
    """Lightning attention (MiniMax-01, arXiv 2501.08313): linear attention with an output gate."""
    if b.mixer != "recurrent":
        return attention(x, b, hidden)
    heads = x.need("heads")
    dim = x.maybe("head_dim") or hidden // heads
    width = heads * dim
    return {
        "recurrent": _state(heads, dim, dim, 0, 1, heads),
        "mixer_matrices": (
            _in("qkv_proj", hidden, 3 * width),
            _in("output_gate", hidden, width),
            _in("out_proj", width, hidden, "row"),
        ),
    }


def mixture(x: Facts, _b: Block, hidden: int) -> Fields:
    """Mixture of attention heads (JetMoE, arXiv 2404.07413): experts hold queries and output, all share the keys."""
    kv, dim, top = x.need("kv_heads"), x.need("head_dim"), x.need("top_k")
    count = x.need("experts")
    x.maybe("heads")
    return {
        "heads": kv * top, "kv_heads": kv, "head_dim": dim, "value_dim": dim,
        "mixer_matrices": (Extra("kv_proj", "attention", hidden, 2 * kv * dim, "column"),),
        "extra": (
            Extra("attention_router", "router", hidden, count),
            Extra("attention_in", "experts", hidden, kv * dim, "column", count),
            Extra("attention_out", "experts", kv * dim, hidden, "row", count),
        ),
    }  # fmt: skip


def cca(x: Facts, b: Block, hidden: int) -> Fields:
    """Compressed convolutional attention with a router of three small matrices (Zaya)."""
    out = attention(x, b, hidden)
    heads, kv, dim = out["heads"], out["kv_heads"], out["head_dim"]
    taps, routes = x.number("cca_time1", 2), x.number("router_hidden_size")
    x.number("cca_time0")
    return out | {
        "extra": (
            Extra("conv_qk_grouped", "attention", dim * taps, (heads + kv) * dim, "column"),
            Extra("router_in", "router", hidden, routes, half="mlp"),
            Extra("router_mlp", "router", routes, routes, copies=2, half="mlp"),
        )
    }


def inkling(x: Facts, b: Block, hidden: int) -> Fields:
    """Attention with relative positions made from the hidden state (Inkling)."""
    out = attention(x, b, hidden)
    heads = out["heads"]
    out["extra"] = (*out["extra"], Extra("r_proj", "attention", hidden, heads * x.number("d_rel"), "column"))
    return out


def compressed(x: Facts, b: Block, hidden: int) -> Fields:
    """DeepSeek-V4: one key-value head, compressed by groups of tokens (CSA with an index, HCA without)."""
    heads, dim, rank = x.need("heads"), x.need("head_dim"), x.number("q_lora_rank")
    groups, out_rank = x.number("o_groups", 1), x.number("o_lora_rank")
    if not (rank and out_rank):
        raise InputError(f"model {x.name!r}: DeepSeek-V4 needs q_lora_rank and o_lora_rank; give both")
    ratio = _ratio(x, b)
    x.seen.update(("num_hash_layers", "qk_rope_head_dim"))  # a table of fixed routes; part of head_dim
    overlap = (
        2 if ratio and ratio < 64 else 1
    )  # finely compressed groups overlap, so that their matrices are twice as wide
    more: list[Extra] = []
    index = None
    if ratio:
        more.append(Extra("compressor", "attention", hidden, 2 * overlap * dim))
    if ratio and overlap == 2:
        index = Index(x.number("index_n_heads"), x.number("index_head_dim"), x.number("index_topk"))
        more += [
            Extra("compressor.indexer.kv", "attention", hidden, 2 * overlap * index.dim),
            Extra("compressor.indexer.q_b_proj", "attention", rank, index.heads * index.dim),
            Extra("compressor.indexer.weights_proj", "attention", hidden, index.heads),
        ]
    more += _hyper(x, hidden)
    return {
        "heads": heads, "kv_heads": 1, "head_dim": dim, "value_dim": dim, "one_kv": True, "latent": None,
        "compress": ratio or 1, "index": index, "window": x.maybe("window"),
        "mixer_matrices": (
            Extra("q_a_proj", "attention", hidden, rank),
            Extra("kv_proj", "attention", hidden, dim),
            Extra("q_b_proj", "attention", rank, heads * dim, "column"),
            Extra("o_a_proj", "attention", heads * dim // groups, groups * out_rank, "column"),
            Extra("o_b_proj", "attention", groups * out_rank, hidden, "row"),
        ),
        "extra": tuple(more),
    }  # fmt: skip


def _ratio(x: Facts, b: Block) -> int:
    """Tokens per compressed entry of the layer, 0 where none are compressed."""
    listed, rates = x.listed("compress_ratios"), x.raw("compress_rates")
    if b.kind and isinstance(rates, Mapping):
        return int(rates.get(b.kind, 0))
    if listed:
        return x.whole("compress_ratios", listed[b.i])
    raise InputError(f"model {x.name!r}: config.json has no 'compress_ratios'; give one number a layer")


def _hyper(x: Facts, hidden: int) -> list[Extra]:
    """Hyper-connections (arXiv 2409.19606): the residual is several streams, mixed before each half of a layer."""
    streams = x.number("hc_mult")
    if not streams:
        return []
    each = Extra("hc", "router", streams * hidden, streams * (streams + 2))
    return [each, Extra("hc", "router", each.k, each.n, half="mlp")]


def double_latent(x: Facts, b: Block, hidden: int) -> Fields:
    """A.X K2: queries and an output gate come from twice the usual query rank."""
    out = attention(x, b, hidden)
    rank, heads = x.number("q_lora_rank"), out["heads"]
    latent = out["latent"]
    gate = Extra("q_gate", "attention", 2 * rank, heads * latent.value, "column")
    queries = Extra("q_more", "attention", rank, heads * (latent.nope + latent.rope), "column")
    norm = Extra("gated_norm", "attention", hidden, 2 * x.number("gated_norm_rank"), copies=2)
    out["extra"] = (*out["extra"], gate, queries, norm)
    return out


SPECIAL: Final[Mapping[str, Mixer]] = {
    "kda": kda, "conv": conv, "rg_lru": rg_lru, "rwkv": rwkv, "mlstm": mlstm, "lightning": lightning,
    "mixture": mixture, "cca": cca, "inkling": inkling, "compressed": compressed, "double_latent": double_latent,
}  # fmt: skip
