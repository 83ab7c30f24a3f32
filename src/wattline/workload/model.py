"""A model is a pattern of layers, and a layer is a short list of weight matrices.

Everything else is counted from that list: parameters, FLOPs, bytes, what tensor and expert
parallelism leave on one device, and what a cache holds per token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Final

from ..core.errors import InputError
from .operator import BYTES

MIXERS: Final = ("full", "window", "recurrent", "none")
MLPS: Final = ("dense", "experts", "none")
PARTS: Final = (
    "attention", "recurrent", "dense", "experts", "shared", "router", "norms", "embedding", "head",
)  # fmt: skip

# Parts that quantisation of "the weights" changes: the matrices inside the layers.
INNER: Final = ("attention", "recurrent", "dense", "experts", "shared")

# Blocks of a hybrid pattern, one letter each (Nemotron-H, arXiv 2504.03624).
LETTERS: Final[Mapping[str, tuple[str, str]]] = {
    "M": ("recurrent", "none"),
    "*": ("full", "none"),
    "-": ("none", "dense"),
    "E": ("none", "experts"),
}

# Bytes of shared scale factors per stored value: OCP MX v1.0 (one byte per 32 values); GPTQ/AWQ
# with groups of 128 (an fp16 scale and a 4-bit zero point); DeepSeek-V3 fp8 (fp32 per 128 x 128).
SCALE_BYTES: Final = {"fp4": 1 / 32, "int4": 2.5 / 128, "fp8": 4 / 128**2}


def stored_bytes(precision: str) -> float:
    """Return bytes per stored weight of `precision`, its scale factors included."""
    return BYTES[precision] + SCALE_BYTES.get(precision, 0.0)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what mixes tokens ("full", "window", "recurrent", "none") and its feed-forward
    part ("dense", "experts", "none")."""

    mixer: str = "full"
    mlp: str = "dense"


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434). `query_rank` 0: no query
    compression. Each head has `nope` + `rope` query-key and `value` value dimensions."""

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A mixer with a fixed-size state: Mamba-2 (arXiv 2405.21060), gated delta net (2412.06464).

    `heads` states of `state` x `head_dim` values, keys shared by `groups`; `gates` scalars per head
    from the input; `conv` taps of a depthwise convolution. `dt_rank` > 0 means Mamba-1, where the
    input-dependent terms come from the inner activations through that rank.
    """

    heads: int
    head_dim: int
    state: int
    groups: int = 1
    gates: int = 1
    conv: int = 4
    dt_rank: int = 0

    @property
    def inner(self) -> int:
        """Width of the inner activations."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored precision of each part's weights."""

    attention: str = "bf16"
    recurrent: str = "bf16"
    dense: str = "bf16"
    experts: str = "bf16"
    shared: str = "bf16"
    router: str = "bf16"
    norms: str = "bf16"
    embedding: str = "bf16"
    head: str = "bf16"

    @classmethod
    def all(cls, precision: str, linear: str | None = None) -> Weights:
        """Every part in `precision`, the matrices inside the layers in `linear` if given."""
        inner = linear or precision
        return cls(**{f.name: inner if f.name in INNER else precision for f in fields(cls)})

    def of(self, part: str) -> str:
        """Stored precision of one part."""
        return str(getattr(self, part))


@dataclass(frozen=True, slots=True)
class Matrix:
    """One weight matrix as one device holds it: `k` inputs, `n` outputs, `copies` of it.

    `split` says how tensor parallelism cut it: "column" (outputs), "row" (inputs) or "whole".
    `bias`: values of its bias on this device, per copy.
    """

    name: str
    part: str
    k: float
    n: float
    split: str = "whole"
    copies: float = 1.0
    bias: float = 0.0

    @property
    def parameters(self) -> float:
        return self.copies * (self.k * self.n + self.bias)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Architecture facts of a decoder-only transformer (or hybrid). All sizes are counts.

    `ffn_matrices`: 3 gated, 2 plain. `positions`: rows of a learned position table, 0 if none.
    `norms`: normalisation layers per transformer layer. `shared_ffn`: inner width of all shared
    experts of a layer together. `window`: keys a "window" layer sees. `kv`: precision of the cache.
    `picture`: tokens, and patches of the vision encoder, of a picture where all are scaled to one size.
    `published`: parameter count its makers state, 0 if none; `active_embedding`: whether their
    active count includes the input embedding.
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
    rotary: bool = True
    window: int = 0
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
        return self.kv_heads * (self.head_dim + self.value_dim)

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes a token adds to the caches of the whole model, no window reached."""
        return self.attention_layers * self.kv_values * BYTES[self.kv]

    # ------------------------------------------------------------ parameters
    def matrices(self, layer: Layer, tensor: int = 1, expert: int = 1, expert_tensor: int = 0) -> tuple[Matrix, ...]:
        """Weight matrices of `layer` on one device, in the order they are used."""
        key = (layer, tensor, expert, expert_tensor)
        found = self._cut.get(key)
        if found is None:
            found = (
                *_mixer(self, layer, tensor),
                *_mlp(self, layer, tensor, expert, expert_tensor or tensor),
            )
            self._cut[key] = found
        return found

    @cached_property
    def _cut(self) -> dict[tuple[Layer, int, int, int], tuple[Matrix, ...]]:
        return {}

    def vectors(self, layer: Layer) -> float:
        """Parameters of `layer` that are no matrix: norms, convolution taps, state terms."""
        sub = (layer.mixer != "none") + (layer.mlp != "none")
        total = self.norms * sub / 2 * self.hidden * (2 if self.norm_bias else 1)
        if layer.mixer in ("full", "window"):
            if self.qk_norm:
                total += 2 * self.head_dim
            if self.latent:
                total += self.latent.rank + self.latent.query_rank
        if layer.mixer == "recurrent" and self.recurrent:
            r = self.recurrent
            keys = 0 if r.dt_rank else 2 * r.groups * r.state
            terms = r.inner * (r.state + 2) if r.dt_rank else 3 * r.heads + r.inner
            total += (r.inner + keys) * (r.conv + 1) + terms
        if layer.mlp == "experts" and self.shared_gate:
            total += self.hidden
        return total

    @property
    def last_norm(self) -> float:
        """Parameters of the norm before the head."""
        return self.hidden * (2.0 if self.norm_bias else 1.0)

    @cached_property
    def parts(self) -> dict[str, float]:
        """Parameters by part (see `PARTS`)."""
        total = dict.fromkeys(PARTS, 0.0)
        for layer, count in self.groups:
            for matrix in self.matrices(layer):
                total[matrix.part] += count * matrix.parameters
            total["norms"] += count * self.vectors(layer)
        total["norms"] += self.last_norm
        total["embedding"] = float((self.vocab + self.positions) * self.hidden)
        total["head"] = 0.0 if self.tied else float(self.vocab * self.hidden)
        return total

    @property
    def parameters(self) -> float:
        """Parameters in all."""
        return sum(self.parts.values())

    @property
    def active_parameters(self) -> float:
        """Parameters one token passes through (embedding tables counted whole)."""
        idle = self.parts["experts"] * (1 - self.top_k / self.experts) if self.experts else 0.0
        return self.parameters - idle

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights as stored, scale factors included."""
        return sum(count * stored_bytes(self.weights.of(part)) for part, count in self.parts.items())


def hybrid(letters: str) -> tuple[Layer, ...]:
    """Read a pattern of blocks written in `LETTERS`."""
    unknown = sorted(set(letters) - set(LETTERS))
    if unknown:
        raise InputError(f"layer pattern has {unknown[0]!r}; known: {' '.join(LETTERS)}")
    return tuple(Layer(*LETTERS[letter]) for letter in letters)


def count_layers(pattern: tuple[Layer, ...]) -> tuple[tuple[Layer, int], ...]:
    """Return distinct layers with how many of each, in order of first appearance."""
    return tuple(Counter(pattern).items())


def _mixer(m: Model, layer: Layer, tensor: int) -> tuple[Matrix, ...]:
    if layer.mixer == "none":
        return ()
    if layer.mixer == "recurrent":
        assert m.recurrent is not None
        return _recurrent(m, m.recurrent, tensor)
    if m.latent:
        return _latent(m, m.latent, tensor)
    h, heads = m.hidden, m.heads / tensor
    queries = heads * m.head_dim * (2 if m.attention_gate else 1)
    n = queries + max(m.kv_heads / tensor, 1) * (m.head_dim + m.value_dim)
    return (
        Matrix("qkv", "attention", h, n, "column", bias=n if m.qkv_bias else 0),
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


def _mlp(m: Model, layer: Layer, tensor: int, expert: int, expert_tensor: int) -> tuple[Matrix, ...]:
    if layer.mlp == "none":
        return ()
    if layer.mlp == "dense":
        return _pair(m, "dense", "mlp", m.ffn / tensor, 1, m.mlp_bias)
    routed = _pair(m, "experts", "expert", m.expert_ffn / expert_tensor, m.experts / expert, m.expert_bias)
    router = Matrix("router", "router", m.hidden, m.experts, bias=m.experts if m.expert_bias else 0)
    if not m.shared_ffn:
        return router, *routed
    return router, *_pair(m, "shared", "shared", m.shared_ffn / tensor, 1, m.mlp_bias), *routed


def _pair(m: Model, part: str, name: str, inner: float, copies: float, bias: bool) -> tuple[Matrix, ...]:
    up = inner * (m.ffn_matrices - 1)
    return (
        Matrix(f"{name}_up", part, m.hidden, up, "column", copies, up if bias else 0),
        Matrix(f"{name}_down", part, inner, m.hidden, "row", copies, m.hidden if bias else 0),
    )


def _positive(model: Model, key: str) -> None:
    value = getattr(model, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"model {model.name!r}: {key} = {value!r} must be a whole number of at least 1")


def _nearest_divisor(whole: int, value: int) -> int:
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return min(divisors, key=lambda d: abs(d - value))
