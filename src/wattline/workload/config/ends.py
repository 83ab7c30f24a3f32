"""What stands outside the layers: tables of tokens and positions, heads, and encoders of other kinds of input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..model import Extra
from .facts import ALIASES, Facts

Fields = dict[str, Any]


def ends(x: Facts, hidden: int, vocab: int, layers: int) -> Fields:
    """Return the fields of the model that belong to no layer."""
    out: Fields = {"positions": _positions(x), "context": _context(x)}
    more: list[Extra] = []
    width = x.number("embedding_size") or x.number("input_embedding_size") or x.number("word_embed_proj_dim")
    if width and width != hidden:
        out["embedding_values"] = float((vocab + out["positions"]) * width)
        more.append(Extra("embedding_projection", "dense", width, hidden))
        last = x.number("output_embedding_size") or width
        out["head_values"] = float(vocab * last)
        if x.flag("head_transform"):
            more.append(Extra("head_transform", "dense", hidden, last))
    elif x.flag("head_transform"):
        more.append(Extra("head_transform", "dense", hidden, hidden))
    if x.flag("pooler"):
        more.append(Extra("pooler", "dense", hidden, hidden))
    if own := x.number("unpadded_vocab_size"):
        out["head_values"] = float(own * hidden)
    more += _per_layer_inputs(x, hidden, layers)
    more += _characters(x, hidden)
    if more:
        out["ends"] = tuple(more)
    return out


def _context(x: Facts) -> int:
    """Return the longest sequence a config states, 0 where it states none; stretched as vLLM does
    (vllm/config/model.py, _get_and_verify_max_len): yarn from the length before, linear and dynamic from the one now.

    A class's default says nothing of these weights.
    """
    lengths = [x.stated.get(name) for name in ALIASES["positions"]]
    stated = next((n for n in lengths if type(n) is int and n > 0), 0)
    for place in ("rope_scaling", "rope_parameters"):
        rope = x.stated.get(place)
        if not isinstance(rope, Mapping):
            continue
        kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
        before = rope.get("original_max_position_embeddings")
        if not isinstance(factor, int | float):
            continue
        if kind == "yarn" and isinstance(before, int):
            return max(stated, round(before * float(factor)))
        if kind in ("linear", "dynamic") and not x.kind.startswith("gemma3"):  # Gemma 3 states the stretched length
            return max(stated, round(stated * float(factor)))
    return stated


def _positions(x: Facts) -> int:
    if x.number("prompt_types"):  # CPM-Ant: rows of prompts and segments
        return x.number("prompt_types") * x.number("prompt_length")
    if not x.yes("table"):
        return 0
    if x.yes("alibi") and x.kind == "falcon":
        return 0
    extra = x.number("extra_positions") + x.number("type_vocab_size")
    return x.maybe("positions") + extra


def _per_layer_inputs(x: Facts, hidden: int, layers: int) -> list[Extra]:
    """Gemma-3n and Gemma-4: every layer has a small embedding of the token of its own, mixed in after it."""
    width = x.number("hidden_size_per_layer_input")
    out: list[Extra] = []
    if width:
        rows = x.number("vocab_size_per_layer_input") or x.need("vocab")
        out += [
            Extra("embed_tokens_per_layer", "embedding", rows, layers * width, table=True),
            Extra("per_layer_model_projection", "dense", hidden, layers * width),
        ]
    streams = x.number("altup_num_inputs")
    if streams > 1:
        out.append(Extra("altup_projections", "dense", hidden, hidden, copies=2 * (streams - 1)))
    return out


def of_each_layer(x: Facts, hidden: int) -> tuple[Extra, ...]:
    """What every layer has beside its mixer and its feed-forward part."""
    out: list[Extra] = []
    if width := x.number("hidden_size_per_layer_input"):
        out += [
            Extra("per_layer_input_gate", "dense", hidden, width, half="mlp"),
            Extra("per_layer_projection", "dense", width, hidden, half="mlp"),
        ]
    if rank := x.number("laurel_rank"):
        out += [Extra("laurel_left", "dense", hidden, rank), Extra("laurel_right", "dense", rank, hidden)]
    # Doge: very many experts of one value each, looked up by two keys.
    if x.yes("is_moe") and (rows := x.maybe("experts")):
        routes = 2 * math.isqrt(rows)
        out += [
            Extra("router_gate", "router", hidden, routes, half="mlp"),
            Extra("expert_embeds", "dense", rows, hidden, copies=2, half="mlp", table=True),
        ]
    languages = x.raw("languages")
    if isinstance(languages, list) and (factor := x.number("adapter_reduction_factor")):  # X-MOD: adapters by language
        small = hidden // factor
        out += [
            Extra("adapter_in", "dense", hidden, small, copies=len(languages), half="mlp"),
            Extra("adapter_out", "dense", small, hidden, copies=len(languages), half="mlp"),
        ]
    if x.flag("ngram_table"):  # ProphetNet: relative positions in every layer
        buckets, heads = x.number("num_buckets", 32), x.maybe("heads")
        out.append(Extra("relative_pos_embeddings", "attention", hidden, buckets * heads))
    return tuple(out)


def _characters(x: Facts, hidden: int) -> list[Extra]:
    """RoCBert: shapes and sounds of characters have tables of their own."""
    out: list[Extra] = []
    width = hidden
    for switch, rows, size in (
        ("enable_pronunciation", "pronunciation_vocab_size", "pronunciation_embed_dim"),
        ("enable_shape", "shape_vocab_size", "shape_embed_dim"),
    ):
        if x.yes(switch) and x.number(rows):
            out.append(Extra(size, "embedding", x.number(rows), x.number(size), table=True))
            width += x.number(size)
    if out and x.yes("concat_input"):
        out.append(Extra("map_inputs_layer", "dense", width, hidden))
    return out


# ------------------------------------------------------------------ encoders beside the language model
_TOWERS: Final = {
    "vision_config": "vision encoder", "visual": "vision encoder", "vision_tower_config": "vision encoder",
    "audio_config": "audio encoder", "audio_encoder_config": "audio encoder", "speech_config": "audio encoder",
    "encoder_config": "encoder", "perception_config": "vision encoder", "vit_config": "vision encoder",
}  # fmt: skip


def towers(outer: Mapping[str, Any], x: Facts) -> tuple[tuple[str, float], ...]:
    """Return what stands beside the language model, each with about how many parameters."""
    out: list[tuple[str, float]] = []
    for table in (outer, outer.get("thinker_config") or {}, x.stated):
        for key, name in _TOWERS.items():
            body = table.get(key) if isinstance(table, Mapping) else None
            if isinstance(body, Mapping) and all(name != n for n, _ in out) and (count := _tower(body)):
                out.append((name, count))
    if encoder := _own_encoder(x):
        out.append(("encoder", encoder))
    return tuple(out)


def _first(body: Mapping[str, Any], *keys: str) -> float:
    for key in keys:
        value = body.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
    return 0.0


def _tower(body: Mapping[str, Any]) -> float:
    """Parameters of a transformer encoder: layers of 4 w^2 in attention and two or three matrices of the inner
    width."""
    width = _first(body, "hidden_size", "embed_dim", "width", "d_model", "vt_hidden_size", "hidden_dim")
    depth = _first(body, "num_hidden_layers", "depth", "num_layers", "layers", "encoder_layers", "vt_num_hidden_layers")
    if not (width and depth):
        return 0.0
    inner = _first(body, "intermediate_size", "encoder_ffn_dim", "vt_intermediate_size", "mlp_dim")
    inner = inner or _first(body, "mlp_ratio") * width or 4 * width
    act = str(body.get("hidden_act") or body.get("hidden_activation") or "")
    gated = act in ("silu", "swish") or str(body.get("model_type", "")).startswith("gemma4")
    layers = depth * (4 * width * width + (3 if gated else 2) * width * inner + 2 * width)
    patch = _first(body, "patch_size", "vt_patch_size") or 14
    first = width * 3 * patch * patch * max(1.0, _first(body, "temporal_patch_size"))
    merge, out = _first(body, "spatial_merge_size"), _first(body, "out_hidden_size")
    joined = width * merge * merge
    mergers = 1 + len(body.get("deepstack_visual_indexes") or ())
    return layers + first + (mergers * joined * (joined + out) if merge and out else 0.0)


def _own_encoder(x: Facts) -> float:
    """Parameters of the encoder of an encoder-decoder, its table shared with the decoder."""
    if not x.flag("cross") or x.kind == "trocr":
        return 0.0
    hidden = x.need("hidden")
    layers = x.number("encoder_layers") or x.number("num_encoder_layers") or x.maybe("layers")
    inner = x.number("encoder_ffn_dim") or x.maybe("ffn") or 4 * hidden
    heads = x.number("encoder_attention_heads") or x.number("num_encoder_attention_heads") or x.maybe("heads")
    width = x.number("d_kv") * heads or hidden
    plain = 2 if x.flag("plain") or not str(x.raw("feed_forward_proj", "")).startswith("gated") else 3
    first = 0.0
    if x.number("num_mel_bins"):  # Whisper: two convolutions of three taps, and a table of positions
        first = 3.0 * hidden * (x.number("num_mel_bins") + hidden) + x.number("max_source_positions") * hidden
    return layers * (4.0 * hidden * width + plain * hidden * inner) + first
