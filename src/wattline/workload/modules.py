"""The names that the matrices of a layer go by in checkpoints, and lists of such names with wildcards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from .model import Layer, Model
from .shapes import Extra, Matrix

# What the halves of a layer are called.
_HOLDERS: Final = {
    "attention": ("self_attn", "attn", "attention", "self_attention", "mixer"),
    "recurrent": ("linear_attn", "mamba", "mixer", "self_attn", "conv", "attn"),
    "dense": ("mlp", "ffn", "feed_forward", "block_sparse_moe", "mixer"),
    "experts": tuple(
        f"{half}.{kind}" for half in ("mlp", "ffn", "feed_forward", "block_sparse_moe", "mixer", "moe", "")
        for kind in ("experts", "experts.0", "switch_mlp.experts.0")
    ),
    "shared": tuple(
        f"{half}.{kind}" for half in ("mlp", "ffn", "feed_forward", "block_sparse_moe", "mixer", "moe")
        for kind in ("shared_experts", "shared_expert", "share_expert")
    ),
    "router": ("mlp.gate", "ffn.gate", "block_sparse_moe.gate", "mixer.gate", "mlp.router", "router",
    "feed_forward.router"),
}  # fmt: skip
_STEMS: Final = (
    "model.",
    "model.language_model.",
    "language_model.model.",
    "backbone.",
    "",
    "language_model.",
    "transformer.",
)

# Modules that one matrix stands for: names each goes by.
_Q: Final = ("q_proj", "wq", "qkv_proj", "query_key_value", "c_attn", "W_pack", "qkv")
_K: Final = ("k_proj", "wk", "qkv_proj", "query_key_value", "c_attn", "W_pack", "qkv")
_V: Final = ("v_proj", "wv", "qkv_proj", "query_key_value", "c_attn", "W_pack", "qkv")
_GATE: Final = ("gate_proj", "w1", "gate_up_proj", "fc1", "up_proj")
_UP: Final = ("up_proj", "w3", "gate_up_proj", "fc1", "dense_h_to_4h", "c_fc")
_LEAVES: Final[dict[str, tuple[str, ...]]] = {
    "out": ("o_proj", "wo", "out_proj", "dense", "c_proj", "o_b_proj"), "up_q": ("q_b_proj", "q_proj", "wq_b"),
    "down_kv": ("kv_a_proj_with_mqa", "wkv_a"), "up_kv": ("kv_b_proj", "wkv_b"),
    "recurrent_out": ("out_proj", "o_proj"), "recurrent_terms": ("x_proj",), "recurrent_step": ("dt_proj",),
    "mlp_down": ("down_proj", "w2", "fc2", "dense_4h_to_h", "c_proj"), "expert_down": ("down_proj", "w2"),
    "shared_down": ("down_proj", "w2"), "router": ("",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """Weights of one part of a layer with the names they go by, from the layer's own on."""

    part: str
    parameters: float
    names: tuple[str, ...]

    def full(self, place: int) -> tuple[str, ...]:
        """Names from the model's own on, in layer `place`."""
        return tuple(f"{stem}layers.{place}.{name}" for stem in _STEMS for name in self.names)


def matrices_by_name(model: Model, layer: Layer) -> tuple[Named, ...]:
    """Return the weights of a layer, each module apart."""
    m, out = model.at(layer), []
    for matrix in model.matrices(layer):
        for leaves, share in _modules(m, matrix):
            out.append(_named(matrix.part, matrix.copies * matrix.k * matrix.n * share, leaves))
    more = (_named(x.part, float(x.copies * x.k * x.n), (x.name,)) for x in m.extra)
    return (*out, *more)


def _named(part: str, parameters: float, leaves: tuple[str, ...]) -> Named:
    holders = _HOLDERS.get(part, ("",))
    return Named(part, parameters, tuple(f"{h}.{leaf}".strip(".") for h in holders for leaf in leaves))


def _modules(m: Model, w: Matrix) -> list[tuple[tuple[str, ...], float]]:
    """Modules that a matrix is made of: the names of each, and its share of the weights."""
    if w.name == "qkv":
        kv = m.kv_heads * m.head_dim if m.kv_own else 0.0
        values = m.kv_heads * m.value_dim if m.kv_own and not m.value_from_key else 0.0
        return [(_Q, (w.n - kv - values) / w.n), (_K, kv / w.n), (_V, values / w.n)]
    if w.name == "down_qkv" and m.latent:
        share = m.latent.query_rank / w.n
        return [(("q_a_proj", "wq_a", "fused_qkv_a_proj"), share), (_LEAVES["down_kv"], 1 - share)]
    if w.name == "recurrent_in" and m.recurrent:
        gate = m.recurrent.inner / w.n
        return [
            (("in_proj_z", "in_proj", "in_proj_qkvz"), gate),
            (("in_proj_qkv", "in_proj", "in_proj_qkvz"), 1 - gate),
        ]
    if w.name.endswith("_up"):
        if m.ffn_matrices == 2:
            return [(_UP, 1.0)]
        return [(_GATE[:-1], 0.5), (_UP, 0.5)]
    return [(_LEAVES.get(w.name, (w.name,)), 1.0)]


@dataclass
class Listed:
    """Names of modules, plain, with wildcards, or as expressions behind "re:"."""

    entries: Iterable[Any]
    plain: set[str] = field(init=False)
    by_layer: dict[int, tuple[str, ...]] = field(init=False)
    general: tuple[str, ...] = field(init=False)
    numbered: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        layered: dict[int, list[str]] = {}
        general: list[str] = []
        for text in (
            str(entry).replace("\\.", ".") if not str(entry).startswith("re:") else str(entry) for entry in self.entries
        ):
            place = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.(.*))?$", text)
            if place and not text.startswith("re:"):
                layered.setdefault(int(place[1]), []).append(place[2] or "*")
            else:
                general.append(text)
        self.by_layer = {i: tuple(sorted(names)) for i, names in layered.items()}
        self.general = tuple(general)
        self.plain = set(general)
        self.numbered = any(
            re.search(r"\d", text.replace("w1", "").replace("w2", "").replace("w3", "")) for text in general
        )

    def signature(self, place: int) -> tuple[Any, ...]:
        """Return what decides whether a module of layer `place` is listed."""
        return (self.by_layer.get(place, ()), place if self.numbered else None)

    def hit(self, named: Named, place: int) -> bool:
        """Whether the list names these weights in layer `place`."""
        if any(_own(pattern, name) for pattern in self.by_layer.get(place, ()) for name in named.names):
            return True
        names = named.full(place)
        return any(_any(pattern, names) for pattern in self.general)


def _own(pattern: str, name: str) -> bool:
    if "*" in pattern:
        return fnmatchcase(name, pattern)
    return name == pattern or name.startswith(pattern + ".") or (name + ".").startswith(pattern)


def _any(pattern: str, names: tuple[str, ...]) -> bool:
    if pattern.startswith("re:"):
        return any(re.match(pattern[3:], name) for name in names)
    if "*" in pattern or "?" in pattern:
        return any(fnmatchcase(name, pattern) for name in names)
    return any(f".{pattern.strip('.')}." in f".{name}." for name in names)


__all__ = ["Extra", "Listed", "Named", "matrices_by_name"]
