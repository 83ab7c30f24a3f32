"""A model is a pattern of layers, and a layer is a short list of weight matrices.

Everything else is counted from that list: parameters, FLOPs, bytes, what tensor and expert
parallelism leave on one device, and what a cache holds per token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from ..core.errors import InputError
from .matrices import extra, mixer, mlp
from .operator import BYTES
from .shapes import (
    INNER,
    PARTS,
    Extra,
    Index,
    Latent,
    Layer,
    Matrix,
    Recurrent,
    Weights,
    count_layers,
    hybrid,
    stored_bytes,
)

__all__ = [
    "INNER",
    "PARTS",
    "Extra",
    "Index",
    "Latent",
    "Layer",
    "Matrix",
    "Model",
    "Recurrent",
    "Weights",
    "count_layers",
    "hybrid",
    "stored_bytes",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Model:
    """Architecture facts of a decoder-only transformer (or hybrid). All sizes are counts.

    `ffn_matrices`: 3 gated, 2 plain. `positions`: rows of a learned position table, 0 if none.
    `norms`: normalisation layers per transformer layer. `shared_ffn`: inner width of all shared
    experts of a layer together. `window`: keys a "window" layer sees, `chunked` where they are those of
    its own chunk and not the last ones. `kv`: precision of the cache.
    `context`: most tokens of a sequence that it was made for, 0 where unknown.
    `picture`: tokens, and patches of the vision encoder, of a picture where all are scaled to one size.
    `published`: parameter count its makers state, 0 if none; `active_embedding`: whether their
    active count includes the input embedding.

    `role`: "decoder", or "encoder" where no token follows another. `kv_own`: whether a layer has keys and values of
    its own (else it reads an earlier layer's); `value_from_key`: no projection of values; `one_kv`: one cached value
    serves as key and as value. `compress`: tokens that share one cached entry, beside which the last `window` tokens
    are kept whole. `mixer_hidden`: width of the mixer's input where it is not `hidden`; `mixer_matrices`: its matrices
    where they are none of the usual. `expert_hidden`: width routed experts work in (latent experts); `empty_experts`:
    routes that lead to no weights. `borrowed`: the layer runs an earlier layer's weights again. `embedding_values`,
    `head_values`: parameters of the input and the output table where they are not vocab x hidden. `extra`: further
    matrices of each layer, `more_vectors` further values; `ends`:
    weights outside the layers. `towers`: encoders beside the language model, with their parameters, which no other
    count includes. `doubts`: what a config says that was not understood.

    Any field may be other in some layers (`Layer.shape`): `at` gives the model as a layer sees it.
    """

    name: str
    pattern: tuple[Layer, ...]
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    ffn: int = 0
    value_dim: int = 0
    ffn_matrices: int = 3
    tied: bool = False
    positions: int = 0
    context: int = 0
    rotary: bool = True
    window: int = 0
    chunked: bool = False
    norms: int = 2
    norm_bias: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    attention_gate: bool = False
    parallel_block: bool = False
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    shared_gate: bool = False
    expert_bias: bool = False
    latent: Latent | None = None
    recurrent: Recurrent | None = None
    weights: Weights = field(default_factory=Weights)
    kv: str = "bf16"
    picture: tuple[int, int] | None = None
    published: float = 0.0
    published_active: float = 0.0
    active_embedding: bool = True
    source: str = ""
    role: str = "decoder"
    mixer_hidden: int = 0
    mixer_matrices: tuple[Extra, ...] = ()
    kv_own: bool = True
    value_from_key: bool = False
    one_kv: bool = False
    compress: int = 1
    index: Index | None = None
    expert_hidden: int = 0
    empty_experts: int = 0
    extra: tuple[Extra, ...] = ()
    more_vectors: float = 0.0
    borrowed: bool = False
    embedding_values: float = 0.0
    head_values: float = 0.0
    ends: tuple[Extra, ...] = ()
    towers: tuple[tuple[str, float], ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("hidden", "vocab"):
            _positive(self, key)
        if not self.pattern:
            raise InputError(f"model {self.name!r}: layers = 0 leaves nothing to run; give at least 1")
        if self.attention_layers:
            for key in ("heads", "kv_heads", "head_dim"):
                _positive(self, key)
            if self.heads % self.kv_heads:
                raise InputError(
                    f"model {self.name!r}: kv_heads = {self.kv_heads} does not divide heads = {self.heads}; "
                    f"try {_nearest_divisor(self.heads, self.kv_heads)}"
                )
        if not self.value_dim:
            object.__setattr__(self, "value_dim", self.head_dim)
        self._check_parts()

    def _check_parts(self) -> None:
        used = Counter(layer.mlp for layer in self.pattern)
        mixers = {layer.mixer for layer in self.pattern}
        if used["dense"]:
            _positive(self, "ffn")
        if used["experts"]:
            for key in ("experts", "top_k", "expert_ffn"):
                _positive(self, key)
            if self.top_k > self.experts:
                raise InputError(
                    f"model {self.name!r}: top_k = {self.top_k} is more than experts = {self.experts}; "
                    f"at most {self.experts} can be chosen"
                )
        if "window" in mixers:
            _positive(self, "window")
        if "recurrent" in mixers and self.recurrent is None:
            raise InputError(f"model {self.name!r} has recurrent layers but no `recurrent` sizes; give them")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, f.name) for f in fields(self)))

    # ---------------------------------------------------------------- layers
    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.pattern)

    @cached_property
    def groups(self) -> tuple[tuple[Layer, int], ...]:
        """Distinct layers with how many of each, in order of first appearance."""
        return count_layers(self.pattern)

    @cached_property
    def kinds(self) -> Mapping[str, int]:
        """How many layers have each mixer and each feed-forward part."""
        return Counter(part for layer in self.pattern for part in (layer.mixer, layer.mlp) if part != "none")

    @cached_property
    def attention_layers(self) -> int:
        """Layers that keep keys and values."""
        return sum(layer.mixer in ("full", "window") for layer in self.pattern)

    @property
    def moe(self) -> bool:
        """Whether any layer routes to experts."""
        return any(layer.mlp == "experts" for layer, _ in self.groups)

    @property
    def qk_dim(self) -> int:
        """Dimensions of a query-key product, per head."""
        return self.latent.nope + self.latent.rope if self.latent else self.head_dim

    @property
    def v_dim(self) -> int:
        """Dimensions of a value, per head."""
        return self.latent.value if self.latent else self.value_dim

    @property
    def kv_values(self) -> int:
        """Cached values per token and attention layer over all heads (keys and values)."""
        if self.latent:
            return self.latent.rank + self.latent.rope
        if not self.kv_own:
            return 0
        return self.kv_heads * (self.head_dim + (0 if self.one_kv else self.value_dim))

    @property
    def kv_bytes(self) -> float:
        """Bytes a token adds to the cache of one layer that is as the model itself says, no window reached."""
        return cache_bytes(self, 1)

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes a token adds to the caches of the whole model, no window reached."""
        return sum(count * self.at(layer).kv_bytes for layer, count in self.groups if layer.mixer in ("full", "window"))

    # ------------------------------------------------------------ parameters
    def at(self, layer: Layer) -> Model:
        """Return the model as `layer` sees it: itself where the layer has no sizes of its own."""
        if not layer.shape:
            return self
        found = self._views.get(layer)
        if found is None:
            found = replace(self, pattern=(Layer(layer.mixer, layer.mlp),), **dict(layer.shape))
            self._views[layer] = found
        return found

    @cached_property
    def _views(self) -> dict[Layer, Model]:
        return {}

    def matrices(self, layer: Layer, tensor: int = 1, expert: int = 1, expert_tensor: int = 0) -> tuple[Matrix, ...]:
        """Weight matrices of `layer` on one device, in the order they are used, without the `extra` ones."""
        key = (layer, tensor, expert, expert_tensor)
        found = self._cut.get(key)
        if found is None:
            m = self.at(layer)
            found = (*mixer(m, layer, tensor), *mlp(m, layer, tensor, expert, expert_tensor or tensor))
            self._cut[key] = found
        return found

    @cached_property
    def _cut(self) -> dict[tuple[Layer, int, int, int], tuple[Matrix, ...]]:
        return {}

    def extras(self, layer: Layer, tensor: int = 1, expert: int = 1) -> tuple[tuple[Extra, Matrix], ...]:
        """Return the further matrices of `layer` with each as one device holds it."""
        return tuple((x, extra(x, tensor, expert)) for x in self.at(layer).extra)

    def held(self, layer: Layer, tensor: int = 1, expert: int = 1, expert_tensor: int = 0) -> tuple[Matrix, ...]:
        """All weight matrices that `layer` brings to one device."""
        if self.at(layer).borrowed:
            return ()
        return (
            *self.matrices(layer, tensor, expert, expert_tensor),
            *(matrix for _, matrix in self.extras(layer, tensor, expert)),
        )

    def vectors(self, layer: Layer) -> float:
        """Parameters of `layer` that are no matrix: norms, convolution taps, state terms."""
        m = self.at(layer)
        if m.borrowed:
            return 0.0
        sub = (layer.mixer != "none") + (layer.mlp != "none")
        total = m.norms * sub / 2 * m.hidden * (2 if m.norm_bias else 1) + m.more_vectors
        if layer.mixer in ("full", "window"):
            if m.qk_norm:
                total += 2 * m.head_dim
            if m.latent:
                total += m.latent.rank + m.latent.query_rank
        if layer.mixer == "recurrent" and m.recurrent:
            r = m.recurrent
            terms = r.inner * (r.state + 2) if r.dt_rank else 3 * r.heads + r.inner
            total += r.taps * (r.conv + 1) + terms
        if layer.mlp == "experts" and m.shared_gate:
            total += m.hidden
        return total

    @cached_property
    def towers_parameters(self) -> float:
        """Parameters of the encoders beside the language model."""
        return sum(count for _, count in self.towers)

    @property
    def last_norm(self) -> float:
        """Parameters of the norm before the head."""
        return self.hidden * (2.0 if self.norm_bias else 1.0)

    @cached_property
    def parts(self) -> dict[str, float]:
        """Parameters by part (see `PARTS`)."""
        total = dict.fromkeys(PARTS, 0.0)
        for layer, count in self.groups:
            for matrix in self.held(layer):
                total[matrix.part] += count * matrix.parameters
            total["norms"] += count * self.vectors(layer)
        total["norms"] += self.last_norm
        total["embedding"] = self.embedding_values or float((self.vocab + self.positions) * self.hidden)
        total["head"] = 0.0 if self.tied else self.head_values or float(self.vocab * self.hidden)
        for x in self.ends:
            total[x.part] += x.copies * x.k * x.n
        return total

    @property
    def parameters(self) -> float:
        """Parameters of the language model in all; what stands beside it is in `towers`."""
        return sum(self.parts.values())

    @cached_property
    def active_parameters(self) -> float:
        """Parameters one token passes through (embedding tables counted whole)."""
        idle = 0.0
        for layer, count in self.groups:
            m = self.at(layer)
            routed = sum(matrix.parameters for matrix in self.held(layer) if matrix.part == "experts")
            idle += count * routed * (1 - m.top_k / m.experts) if routed else 0.0
        return self.parameters - idle

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of all weights of the language model as stored, scale factors included."""
        total = 0.0
        for layer, count in self.groups:
            m = self.at(layer)
            total += count * sum(w.parameters * m.weights.bytes(w.part) for w in self.held(layer))
            total += count * self.vectors(layer) * m.weights.bytes("norms")
        total += self.last_norm * self.weights.bytes("norms")
        ends = self.parts["embedding"] * self.weights.bytes("embedding") + self.parts["head"] * self.weights.bytes(
            "head"
        )
        return (
            total + ends + sum(x.copies * x.k * x.n * self.weights.bytes(x.part) for x in self.ends if x.part in INNER)
        )


def cache_bytes(m: Model, tensor: int, kv: str | None = None) -> float:
    """Bytes a token adds to one device's cache of one attention layer, no window reached.

    Key-value heads are divided among the tensor ranks down to one each; what all heads share (a latent, the index)
    is held whole by every rank. The index keeps its keys in fp8 with an fp32 factor per key of 128 (vLLM,
    vllm/v1/attention/backends/mla/indexer.py).
    """
    width = BYTES[kv or m.kv]
    values = float(m.kv_values)
    if not m.latent and m.kv_own:
        values *= max(m.kv_heads / tensor, 1) / m.kv_heads
    index = m.index.dim * (1 + 4 / 128) if m.index and m.index.own else 0.0
    return (values * width + index) / m.compress


def _positive(model: Model, key: str) -> None:
    value = getattr(model, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"model {model.name!r}: {key} = {value!r} must be a whole number of at least 1")


def _nearest_divisor(whole: int, value: int) -> int:
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return min(divisors, key=lambda d: abs(d - value))
