"""What each layer of a config.json is: what mixes its tokens and what its feed-forward part is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...core.errors import InputError
from ..model import hybrid
from .facts import Facts

# A typing error should not build a pattern that fills the memory.
MOST_LAYERS: Final = 10_000

# Values of `layer_types` -> mixer.
TYPES: Final = {
    "full_attention": "full", "attention": "full", "global": "full", "hybrid": "full", "global_attention": "full",
    "sliding_attention": "window", "chunked_attention": "window", "local_attention": "window",
    "hybrid_sliding": "window", "linear_attention": "recurrent", "mamba": "recurrent", "mamba2": "recurrent",
    "recurrent": "recurrent", "conv": "recurrent", "indexed_attention": "full", "deepseek_sparse_attention": "full",
    "compressed_sparse_attention": "full", "heavily_compressed_attention": "full",
}  # fmt: skip

# Blocks that are a feed-forward part alone (Nemotron-H, Dory).
_ALONE: Final = {"mlp": "dense", "moe": "experts"}
# Values of `mlp_layer_types`.
_MLPS: Final = {"dense": "dense", "sparse": "experts", "moe": "experts", "hash_moe": "experts", "none": "none"}


@dataclass(frozen=True, slots=True)
class Block:
    """One layer: `kind` is what the config calls it, `i` its place among the config's layers."""

    mixer: str
    mlp: str
    kind: str
    i: int


def pattern(x: Facts) -> tuple[Block, ...]:
    """Return the layers of a config, in order."""
    letters = x.raw("hybrid_override_pattern")
    if isinstance(letters, str) and letters:
        return tuple(Block(b.mixer, b.mlp, "", i) for i, b in enumerate(hybrid(letters)))
    types = _types(x)
    count = _count(x, types)
    if types and len(types) != count:
        raise InputError(f"model {x.name!r}: layer_types has {len(types)} entries for {count} layers; give one each")
    alone = any(t in _ALONE for t in types)
    return tuple(_block(x, types[i] if types else "", i, alone) for i in range(count))


def _types(x: Facts) -> list[str]:
    types = x.listed("layer_types") or x.listed("layers_block_type")
    cycle = x.listed("block_types")  # RecurrentGemma repeats a short list
    if cycle and not types:
        types = [cycle[i % len(cycle)] for i in range(_layers(x))]
    for kind in types:
        if kind not in TYPES and kind not in _ALONE:
            known = ", ".join((*TYPES, *_ALONE))
            raise InputError(f"model {x.name!r}: layer_types has {kind!r}; known: {known}")
    return [str(kind) for kind in types]


def _layers(x: Facts) -> int:
    count = x.need("layers")
    if count > MOST_LAYERS:
        raise InputError(
            f"model {x.name!r}: {count} layers are more than any model has; at most {MOST_LAYERS} are read"
        )
    return count


def _count(x: Facts, types: list[str]) -> int:
    if not x.maybe("layers") and types:
        return len(types)  # Nemotron-H: the list of blocks says how many there are
    return _layers(x)


def _block(x: Facts, kind: str, i: int, alone: bool) -> Block:
    if kind in _ALONE:
        return Block("none", _ALONE[kind], kind, i)
    mixer = TYPES[kind] if kind else _mixer(x, i)
    if alone:
        return Block(mixer, "none", kind, i)
    return Block(mixer, "none" if x.flag("mixer") in ("mamba", "mamba2") else mlp(x, i), kind, i)


def _mixer(x: Facts, i: int) -> str:
    if x.flag("mixer") in ("mamba", "mamba2", "rwkv", "mlstm"):
        return "recurrent"
    for key, inside, outside in (
        ("attn_layer_indices", "full", "recurrent"),
        ("full_attn_idxs", "full", "recurrent"),
        ("global_attn_idx", "full", "window"),
        ("full_attention_layers", "full", "window"),
    ):
        if listed := x.listed(key):
            return inside if i in listed else outside
    if x.kind == "bamba":
        return "recurrent"
    if ratios := x.listed("compress_ratios"):  # DeepSeek-V4: a layer that compresses nothing sees a window alone
        return "full" if i < len(ratios) and ratios[i] else "window"
    linear = x.raw("linear_attn_config")
    if isinstance(linear, dict) and isinstance(full := linear.get("full_attn_layers"), list):
        return "full" if i + 1 in full else "recurrent"  # counted from one (Kimi Linear)
    for key in ("hybrid_layer_pattern", "sliding_window_layers"):
        if listed := x.listed(key):
            return "window" if i < len(listed) and listed[i] else "full"
    for key in ("attn_type_list", "decoder_attention_types"):  # MiniMax-01: 1 softmax, 0 lightning
        if listed := x.listed(key):
            return "full" if listed[i] else "recurrent"
    if group := x.number("layer_group_size"):  # Ling-2.5: the last of each group is full
        return "full" if (i + 1) % group == 0 else "recurrent"
    if period := x.number("attn_layer_period"):
        return "full" if i % period == x.number("attn_layer_offset") else "recurrent"
    if every := x.number("full_attention_interval"):
        return "full" if (i + 1) % every == 0 else "recurrent"
    return _window(x, i)


def _window(x: Facts, i: int) -> str:
    if x.raw("attention_chunk_size") and (every := x.number("no_rope_layer_interval")):
        return "full" if (i + 1) % every == 0 else "window"
    if not x.maybe("window") or not x.yes("use_sliding_window", True):
        return "full"
    if every := x.number("sliding_window_pattern") or x.number("_sliding_window_pattern"):
        return "full" if (i + 1) % every == 0 else "window"
    if x.stated.get("max_window_layers") is not None:
        return "window" if i >= x.number("max_window_layers") else "full"
    return "window"


def mlp(x: Facts, i: int) -> str:
    """Return what the feed-forward part of layer `i` is."""
    if x.maybe("experts") <= 1 or x.raw("enable_moe_block") is False or x.kind == "doge":
        return "dense"
    if listed := x.listed("mlp_layer_types"):
        kind = listed[i] if i < len(listed) else "sparse"
        if kind not in _MLPS:
            raise InputError(f"model {x.name!r}: mlp_layer_types has {kind!r}; known: {', '.join(_MLPS)}")
        return _MLPS[kind]
    if i in x.listed("mlp_only_layers"):
        return "dense"
    if layers := x.listed("moe_layers"):
        return "experts" if i in layers else "dense"
    enum = x.raw("moe_layers_enum")  # Step-3: "4,5,6,..."
    if isinstance(enum, str) and enum:
        return "experts" if str(i) in enum.replace(" ", "").split(",") else "dense"
    if frequency := x.listed("moe_layer_freq"):
        return "experts" if i < len(frequency) and frequency[i] else "dense"
    if i < x.maybe("first_dense"):
        return "dense"
    every = x.maybe("moe_every") or x.number("moe_layer_freq", 1) or 1
    offset = x.number("expert_layer_offset", every - 1)
    return "experts" if i % every == offset else "dense"
