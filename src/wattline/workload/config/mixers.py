"""Sizes of what mixes tokens in one layer: attention of every kind, and states of fixed size."""

from __future__ import annotations

import math
from typing import Any

from ...core.errors import InputError
from ..model import Extra, Index, Latent, Recurrent
from .facts import Facts
from .pattern import Block

Fields = dict[str, Any]


def attention(x: Facts, b: Block, hidden: int) -> Fields:
    """Return the fields of an attention layer."""
    heads = _heads(x, b)
    latent = _latent(x)
    kv_heads = _kv_heads(x, b, heads)
    out: Fields = {"heads": heads, "latent": latent, "kv_heads": heads if latent else kv_heads}
    out["head_dim"] = _head_dim(x, b, hidden, heads, bool(latent))
    out["value_dim"] = out["head_dim"] if latent else _value_dim(x, b, out["head_dim"])
    if b.mixer == "window":
        # A list of layer types may ask for windows whose width is left to the class.
        out["window"] = x.maybe("window") or int(x.defaults.get("sliding_window") or 0)
    more: list[Extra] = []
    shared = _shares_cache(x, b)
    if shared:
        out["kv_own"] = False
    if x.yes("attention_k_eq_v") and b.mixer == "full":
        out["value_from_key"] = True
    if index := _index(x, b):
        out["index"] = index
        if index.own:
            more += _index_weights(index, hidden, latent)
    more += _gate(x, hidden, heads * (latent.value if latent else out["value_dim"]))
    if x.flag("cross") or (x.yes("add_cross_attention") and (x.yes("is_decoder") or not x.flag("encoder"))):
        width = heads * out["head_dim"]
        source = x.number("cross_attention_hidden_size") or hidden
        more += [Extra("cross_qo", "attention", hidden, 2 * width), Extra("cross_kv", "attention", source, 2 * width)]
    if x.flag("relative"):
        more.append(Extra("relative", "attention", hidden, heads * out["head_dim"], "column"))
    out["extra"] = tuple(more)
    return out


def _heads(x: Facts, b: Block) -> int:
    listed = x.listed("num_attention_heads_per_layer")
    if listed and b.i < len(listed):
        return x.whole("num_attention_heads_per_layer", listed[b.i])
    if b.mixer == "window" and (own := x.number("swa_num_attention_heads")):
        return own
    return x.need("heads", b.i)


def _kv_heads(x: Facts, b: Block, heads: int) -> int:
    if x.kind in ("falcon", "RefinedWeb", "RefinedWebModel"):
        if x.yes("new_decoder_architecture") or x.kind == "RefinedWeb":
            return x.maybe("kv_heads") or heads
        return 1 if x.yes("multi_query", True) else heads
    if x.kind == "gpt_bigcode":
        return 1 if x.yes("multi_query", True) else heads
    if b.mixer == "window" and (own := x.number("swa_num_key_value_heads")):
        return own
    if b.mixer == "full" and x.yes("attention_k_eq_v") and (own := x.number("num_global_key_value_heads")):
        return own
    if x.kind == "chatglm" and not x.yes("multi_query_attention"):
        return heads
    return x.maybe("kv_heads", b.i) or heads


def _head_dim(x: Facts, b: Block, hidden: int, heads: int, latent: bool) -> int:
    if b.mixer == "window" and (own := x.number("swa_head_dim")):
        return own
    if b.mixer == "full" and (own := x.number("global_head_dim")):
        return own
    if found := x.maybe("head_dim"):
        return found
    if hidden % heads and not latent and x.kind not in ("glm4_moe", "dots1"):
        raise InputError(f"model {x.name!r}: hidden_size = {hidden} is not a multiple of {heads} heads; give head_dim")
    return max(1, hidden // heads)


def _value_dim(x: Facts, b: Block, head_dim: int) -> int:
    if b.mixer == "window" and (own := x.number("swa_v_head_dim")):
        return own
    return x.maybe("value_dim") or head_dim


def _latent(x: Facts) -> Latent | None:
    if not x.number("kv_lora_rank"):
        return None
    x.maybe("value_dim")
    x.number("qk_head_dim")
    return Latent(
        rank=x.number("kv_lora_rank"),
        rope=x.number("qk_rope_head_dim", 64),
        nope=x.number("qk_nope_head_dim", 128),
        value=x.number("v_head_dim", 128),
        query_rank=x.number("q_lora_rank"),
    )


def _shares_cache(x: Facts, b: Block) -> bool:
    """Whether the layer reads the keys and values of an earlier one (Gemma-3n, Gemma-4)."""
    if b.i >= x.maybe("layers") - x.number("num_kv_shared_layers"):
        return bool(x.number("num_kv_shared_layers"))
    return False


def _index(x: Facts, b: Block) -> Index | None:
    sparse = x.raw("sparse_attention_config")
    if isinstance(sparse, dict) and sparse.get("use_sparse_attention"):  # MiniMax-M3: blocks of keys are chosen
        used = sparse.get("sparse_attention_freq") or []
        if b.i < len(used) and not used[b.i]:
            return None
        return Index(
            int(sparse["sparse_num_index_heads"]),
            int(sparse["sparse_index_dim"]),
            int(sparse["sparse_topk_blocks"]) * int(sparse["sparse_block_size"]),
        )
    heads, dim = x.number("index_n_heads"), x.number("index_head_dim")
    topk = x.number("index_topk") or x.number("index_topk_blocks") * x.number("index_block_size")
    if not (heads and dim and topk) or b.mixer != "full":
        return None
    if b.kind in ("full_attention", "heavily_compressed_attention"):
        return None
    types = x.listed("indexer_types")
    return Index(heads, dim, topk, own=not types or b.i >= len(types) or types[b.i] != "shared")


def _index_weights(index: Index, hidden: int, latent: Latent | None) -> list[Extra]:
    source = latent.query_rank if latent and latent.query_rank else hidden
    return [
        Extra("indexer.wq_b", "attention", source, index.heads * index.dim),
        Extra("indexer.wk", "attention", hidden, index.dim),
        Extra("indexer.weights_proj", "attention", hidden, index.heads),
    ]


def _gate(x: Facts, hidden: int, width: int) -> list[Extra]:
    if x.flag("gate") == "full" or x.yes("mla_use_output_gate") or x.yes("attention_output_gate"):
        return [Extra("gate_proj", "attention", hidden, width, "column")]
    return []


# ------------------------------------------------------------------ states of fixed size
def recurrent(x: Facts, hidden: int) -> Fields:
    """Return the fields of a recurrent layer of a usual kind: gated delta net, Mamba-2 or Mamba-1."""
    if x.number("linear_num_value_heads"):
        return {"recurrent": _delta(x)}
    if found := _mamba2(x, hidden):
        return {"recurrent": found}
    ranks = [0 if x.raw(key) == "auto" else x.number(key) for key in ("mamba_dt_rank", "time_step_rank")]
    expand = x.number("mamba_expand") or x.number("expand", 2)
    x.seen.add("intermediate_size")
    inner = x.stated.get("mamba_intermediate_size") or x.stated.get("intermediate_size") if x.flag("mixer") else None
    out = Recurrent(
        heads=int(inner or 0) or expand * hidden,
        head_dim=1,
        state=x.number("mamba_d_state") or x.number("state_size", 16),
        conv=x.number("mamba_d_conv") or x.number("conv_kernel", 4),
        dt_rank=max(ranks) or math.ceil(hidden / 16),
    )
    return {"recurrent": out}


def _delta(x: Facts) -> Recurrent:
    return Recurrent(
        heads=x.number("linear_num_value_heads"),
        head_dim=x.number("linear_value_head_dim", 128),
        state=x.number("linear_key_head_dim", 128),
        groups=x.number("linear_num_key_heads", 16),
        gates=2,
        conv=x.number("linear_conv_kernel_dim", 4),
    )


def _mamba2(x: Facts, hidden: int) -> Recurrent | None:
    heads = x.number("mamba_num_heads") or x.number("mamba_n_heads") or x.number("n_mamba_heads")
    if x.flag("mixer") == "mamba2":
        heads = x.maybe("heads")
    if not heads:
        return None
    inner = x.number("mamba_d_ssm") or (x.number("mamba_expand") or x.number("expand", 2)) * hidden
    dim = x.number("mamba_head_dim") or x.number("mamba_headdim")
    stated = x.raw("mamba_d_head")
    if not dim:
        dim = x.whole("mamba_d_head", stated) if stated not in (None, "auto") else inner // heads
    if x.flag("mixer") == "mamba2":
        dim = x.maybe("head_dim") or dim
    return Recurrent(
        heads=heads,
        head_dim=dim,
        state=x.number("ssm_state_size") or x.number("mamba_d_state") or x.number("state_size", 128),
        groups=x.number("n_groups") or x.number("mamba_n_groups") or x.number("mamba_ngroups", 1),
        conv=x.number("conv_kernel") or x.number("mamba_d_conv", 4),
    )
