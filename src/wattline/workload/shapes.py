"""The pieces a model is described by: layers, what mixes tokens in them, stored precisions, weight matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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
    part ("dense", "experts", "none"). `shape`: fields of the model that are other in this layer."""

    mixer: str = "full"
    mlp: str = "dense"
    shape: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Extra:
    """Weights beside the usual ones of a layer or of the whole model: `copies` matrices of `k` x `n` values.

    `part` as in `PARTS`; "column" and "row" `split` fall with tensor parallelism, "whole" does not. A `table` is
    looked up, not multiplied. `half`: the part of the layer it runs beside, "mixer" or "mlp".
    """

    name: str
    part: str
    k: int
    n: int
    split: str = "whole"
    copies: int = 1
    half: str = "mixer"
    table: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """What chooses the keys a query sees (DeepSeek-V3.2, arXiv 2512.02556, section 2.1): each query scores every key
    with `heads` small heads of `dim` and attends to the best `topk`. `own`: the layer scores; else it takes another's
    choice.
    """

    heads: int
    dim: int
    topk: int
    own: bool = True


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
    channels: int = -1

    @property
    def taps(self) -> int:
        """Channels of the convolution: `channels` where stated, else the inner values and (not in Mamba-1) the keys."""
        if self.channels >= 0:
            return self.channels
        return self.inner + (0 if self.dt_rank else 2 * self.groups * self.state)

    @property
    def inner(self) -> int:
        """Width of the inner activations."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored precision of each part's weights. `density`: bytes per weight of a part, scale factors included,
    where they are other than `stored_bytes` says."""

    attention: str = "bf16"
    recurrent: str = "bf16"
    dense: str = "bf16"
    experts: str = "bf16"
    shared: str = "bf16"
    router: str = "bf16"
    norms: str = "bf16"
    embedding: str = "bf16"
    head: str = "bf16"
    density: tuple[tuple[str, float], ...] = ()

    @classmethod
    def all(cls, precision: str, linear: str | None = None) -> Weights:
        """Every part in `precision`, the matrices inside the layers in `linear` if given."""
        inner = linear or precision
        parts: dict[str, Any] = {part: inner if part in INNER else precision for part in PARTS}
        return cls(**parts)

    def of(self, part: str) -> str:
        """Stored precision of one part."""
        return str(getattr(self, part))

    def bytes(self, part: str) -> float:
        """Bytes per stored weight of one part, scale factors included."""
        for name, size in self.density:
            if name == part:
                return size
        return stored_bytes(self.of(part))


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


def hybrid(letters: str) -> tuple[Layer, ...]:
    """Read a pattern of blocks written in `LETTERS`."""
    unknown = sorted(set(letters) - set(LETTERS))
    if unknown:
        raise InputError(f"layer pattern has {unknown[0]!r}; known: {' '.join(LETTERS)}")
    return tuple(Layer(*LETTERS[letter]) for letter in letters)


def count_layers(pattern: tuple[Layer, ...]) -> tuple[tuple[Layer, int], ...]:
    """Return distinct layers with how many of each, in order of first appearance."""
    return tuple(Counter(pattern).items())
