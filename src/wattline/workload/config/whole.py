"""Families whose layers are no plain list: two mixers in a layer, layers that share weights, loops, blocks by
search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...core.errors import InputError
from ..model import Extra, Recurrent
from .facts import Facts
from .feedforward import feedforward
from .mixers import attention, recurrent
from .pattern import Block

Fields = dict[str, Any]
Described = tuple[Block, Fields]
Layers = list[Described]


def parallel(x: Facts, blocks: tuple[Block, ...], hidden: int) -> Layers:
    """Falcon-H1: a recurrent and an attention mixer side by side, written as two blocks."""
    out: Layers = []
    for b in blocks:
        own = recurrent(x, hidden)
        out.append((Block("recurrent", "none", b.kind, b.i), {**own, "norms": 0}))
        out.append((Block("full", b.mlp, b.kind, b.i), attention(x, b, hidden) | feedforward(x, b, hidden)))
    return out


def shortcut(x: Facts, blocks: tuple[Block, ...], hidden: int) -> Layers:
    """LongCat-Flash (arXiv 2509.01322): a layer has two attentions, two dense parts and experts beside them."""
    dense = x.need("ffn")
    out: Layers = []
    for b in blocks:
        first, second = Block("full", "dense", b.kind, b.i), Block("full", "experts", b.kind, b.i)
        experts = feedforward(x, second, hidden) | {"shared_ffn": dense, "empty_experts": x.number("zero_expert_num")}
        out.append((first, attention(x, first, hidden) | {"ffn": dense}))
        out.append((second, attention(x, second, hidden) | experts))
    return out


def zamba(x: Facts, blocks: tuple[Block, ...], hidden: int) -> Layers:
    """Zamba (arXiv 2405.16712): Mamba layers, some of which also run one transformer block that they all share."""
    shared: set[int] = set()
    x.seen.update(("attention_hidden_size", "kv_channels"))  # twice the hidden size, and its share of a head
    out: Layers = []
    mamba = recurrent(x, hidden)
    heads_of_mamba = x.number("n_mamba_heads", 1)
    rec = mamba["recurrent"]
    if x.kind == "zamba" and isinstance(rec, Recurrent):
        # Mamba-1 whose input-dependent terms are apart for each of a few heads.
        inner = x.number("mamba_expand", 2) * hidden
        rank, state = x.number("mamba_dt_rank") or -(-hidden // 16), x.number("mamba_d_state", 16)
        each = inner // heads_of_mamba
        mamba = {
            "recurrent": Recurrent(inner, 1, state, conv=x.number("mamba_d_conv", 4), dt_rank=rank),
            "mixer_matrices": (
                Extra("in_proj", "recurrent", hidden, 2 * inner, "column"),
                Extra("x_proj", "recurrent", each, rank + 2 * state, "row", heads_of_mamba),
                Extra("dt_proj", "recurrent", rank, each, "column", heads_of_mamba),
                Extra("out_proj", "recurrent", inner, hidden, "row"),
            ),
        }
    ids = x.listed("hybrid_layer_ids")
    blocks_shared = max(1, x.number("num_mem_blocks", 1))
    wide, use = 2 * hidden, 0
    for b in blocks:
        if b.kind == "hybrid" or (not b.kind and b.i in ids):
            slot, use = use % blocks_shared, use + 1
            own = _shared_block(x, wide, slot in shared)
            shared.add(slot)
            out.append((Block("full", "dense", "", b.i), own))
            out.append((Block("recurrent", "none", "", b.i), {**mamba, "extra": _between(x, hidden)}))
        else:
            out.append((Block("recurrent", "none", "", b.i), dict(mamba)))
    return out


def _between(x: Facts, hidden: int) -> tuple[Extra, ...]:
    """What is apart at each use of the shared block: the way back to the stream, and an adapter of the widened part."""
    back = Extra("linear", "dense", hidden, hidden)
    rank = x.number("adapter_rank")
    if not rank or x.kind != "zamba2" or not x.yes("use_shared_mlp_adapter", True):
        return (back,)
    up = 2 * x.need("ffn")
    return back, Extra("adapter_in", "dense", hidden, rank), Extra("adapter_out", "dense", rank, up)


def _shared_block(x: Facts, wide: int, again: bool) -> Fields:
    heads = x.need("heads")
    dim = x.number("attention_head_dim") or wide // heads
    return {
        "heads": heads, "kv_heads": x.maybe("kv_heads") or heads, "head_dim": dim, "value_dim": dim,
        "mixer_hidden": wide, "ffn": x.need("ffn"), "borrowed": again, "extra": (), "latent": None,
    }  # fmt: skip


def looped(x: Facts, _blocks: tuple[Block, ...], hidden: int) -> Layers:
    """HRM: two stacks of layers run by turns, the slow one once for several runs of the fast one."""
    each, slow, fast = x.number("num_layers_per_stack"), x.number("H_cycles", 1), x.number("L_cycles", 1)
    if not each:
        raise InputError(f"model {x.name!r}: config.json has no 'num_layers_per_stack'; give it")
    out: Layers = []
    for turn in range(slow):
        for run in range(fast + 1):
            again = turn > 0 or 0 < run < fast
            for i in range(each):
                b = Block("full", "dense", "", i)
                out.append((b, attention(x, b, hidden) | feedforward(x, b, hidden) | {"borrowed": again}))
    return out


def by_block(x: Facts, blocks: tuple[Block, ...], hidden: int) -> Layers:
    """Nemotron-NAS (arXiv 2411.19146): a search chose each layer's attention and feed-forward width."""
    listed = x.listed("block_configs")
    if len(listed) != len(blocks):
        raise InputError(
            f"model {x.name!r}: block_configs has {len(listed)} entries for {len(blocks)} layers; give one each"
        )
    heads = x.need("heads")
    dim = x.maybe("head_dim") or hidden // heads
    out: Layers = []
    for b, config in zip(blocks, listed, strict=True):
        mixer, one = _searched_attention(config.get("attention") or {}, heads, dim, hidden)
        part, two = _searched_mlp(config.get("ffn") or {}, hidden)
        out.append((Block(mixer, part, "", b.i), one | two))
    return out


def _searched_attention(
    table: Mapping[str, Any], heads: int, dim: int, hidden: int
) -> tuple[str, Fields]:  # fmt: skip
    if table.get("no_op"):
        return "none", {}
    if table.get("replace_with_linear"):
        return "none", {"extra": (Extra("linear_attn", "attention", hidden, hidden, half="mlp"),)}
    group = int(table.get("n_heads_in_group") or 1)
    kv = int(table.get("num_key_value_heads") or heads // group)
    window = table.get("window_length") or 0
    fields: Fields = {"heads": heads, "kv_heads": kv, "head_dim": dim, "value_dim": dim, "extra": ()}
    return ("window", fields | {"window": int(window)}) if window else ("full", fields)


def _searched_mlp(table: Mapping[str, Any], hidden: int) -> tuple[str, Fields]:
    if table.get("no_op"):
        return "none", {}
    width = table.get("intermediate_size")
    if width is None:
        width = -(-int(2 * float(table.get("ffn_mult") or 1.0) * hidden / 3) // 256) * 256  # DeciLM's rule
    return "dense", {"ffn": int(width)}


def mamba_all(x: Facts, blocks: tuple[Block, ...], hidden: int) -> Layers:
    """Mamba and Mamba-2: a mixer and nothing else in every layer."""
    return [(Block("recurrent", "none", "", b.i), recurrent(x, hidden)) for b in blocks]


WHOLE: Final[Mapping[str, Callable[[Facts, tuple[Block, ...], int], Layers]]] = {
    "parallel": parallel, "shortcut": shortcut, "zamba": zamba, "hrm": looped, "blocks": by_block, "mamba": mamba_all,
    "mamba2": mamba_all,
}  # fmt: skip
