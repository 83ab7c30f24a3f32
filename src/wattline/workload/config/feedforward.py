"""Sizes of the feed-forward part of one layer: dense, or experts with what stands beside them."""

from __future__ import annotations

import math
from typing import Any

from ..model import Extra
from .facts import ALIASES, Facts
from .pattern import Block

Fields = dict[str, Any]


def plain(x: Facts) -> bool:
    """Whether the feed-forward part has two matrices (no gate)."""
    if (known := x.flag("plain")) is not None:
        return bool(known)
    if x.flags:
        return False
    for key in ALIASES["activation"]:
        if isinstance(value := x.raw(key), str):
            return value.startswith(("relu", "gelu", "xielu")) and "glu" not in value.removeprefix("gelu")
    return False


def feedforward(x: Facts, b: Block, hidden: int) -> Fields:
    """Return the fields of the feed-forward part of a layer."""
    if b.mlp == "none":
        return {}
    if b.mlp == "dense":
        return {"ffn": _width(x, b, hidden)}
    return _experts(x, b, hidden)


def _width(x: Facts, b: Block, hidden: int) -> int:
    if x.raw("ffn_proj_factor"):  # xLSTM: a factor, rounded up
        step = x.number("ffn_round_up_to_multiple_of", 64)
        return step * math.ceil(float(x.raw("ffn_proj_factor")) * hidden / step)
    width = x.number("intermediate_size_mlp") or x.number("dense_intermediate_size") or x.maybe("ffn", b.i)
    if not width and (times := x.number("intermediate_multiple_size")):
        width = times * hidden
    if not width:
        # GPT-2, BLOOM, Falcon and MPT leave it out: four (or expansion_ratio) times the hidden size.
        width = x.number("expansion_ratio", 4) * hidden if plain(x) else x.need("ffn")
    if x.flag("halved_ffn") or x.kind == "moshi":  # the stated width is that of gate and up together
        width //= 2
    if x.kind in ("lfm2", "lfm2_moe") and x.yes("block_auto_adjust_ff_dim", x.kind == "lfm2"):
        width = int(2 * width / 3)
        width = int(float(x.raw("block_ffn_dim_multiplier", 1.0)) * width)
        step = x.number("block_multiple_of", 256)
        width = step * -(-width // step)
    if x.yes("use_double_wide_mlp") and b.i >= x.maybe("layers") - x.number("num_kv_shared_layers"):
        width *= 2
    return width


def _experts(x: Facts, b: Block, hidden: int) -> Fields:
    expert_ffn = x.maybe("expert_ffn", b.i) or x.need("ffn", b.i)
    out: Fields = {
        "experts": x.need("experts"),
        "top_k": x.maybe("top_k", b.i) or x.need("top_k"),
        "expert_ffn": expert_ffn,
        "shared_ffn": _shared(x, expert_ffn),
    }
    if own := x.maybe("expert_hidden"):  # experts work in a narrower space than the layer (LatentMoE)
        out["expert_hidden"] = own
        out["extra"] = (
            Extra("fc1_latent_proj", "shared", hidden, own, half="mlp"),
            Extra("fc2_latent_proj", "shared", own, hidden, half="mlp"),
        )
    return out


def _shared(x: Facts, expert_ffn: int) -> int:
    if x.flag("one_shared"):  # Llama-4: one shared expert as wide as a routed one, not in the config
        return x.need("ffn")
    if x.yes("enable_moe_block"):  # Gemma-4: a dense part beside the experts
        return x.need("ffn")
    count = x.maybe("shared_experts")
    own = x.maybe("shared_ffn")
    if own:
        # Some configs state one shared expert's width, others that of all; transformers multiplies for these.
        return own * max(count, 1) if x.kind in ("dots3_note_text", "minimax_m3_vl_text") else own
    return count * expert_ffn
