"""Diffusion transformers as operators: one denoising step, and what comes before and after the steps.

An autoencoder shrinks pixels to a latent, patches of it are the tokens, and every step runs all of
them through the transformer, twice where the guidance compares with an empty prompt. Facts of models
lie in ``data/diffusion.toml``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from ..core.errors import InputError, nearest
from .operator import Attention, Collective, Elementwise, Gemm, Operator
from .unet import Unet, unet_operators

# Passes that norms, activations and residuals of a decoder make over each of its values (the convolutions'
# own reading and writing included: six a scale, unfused).
DECODER_PASSES: Final = 8.0

# Head widths for which fused attention has kernels are multiples of this; others are padded with zeros
# (FlashAttention-2, csrc/flash_attn: 32, 64, 96, 128, 192, 256).
_HEAD_STEP: Final = 32.0

# Bytes per value of the hidden state that a split sequence adds to a layer. Ulysses (arXiv 2309.14509)
# copies q, k, v and the output before and after each swap: 4 x 2 copies, read and written in bf16. A ring
# (arXiv 2310.01889) merges each further partial output into a sum in fp32 (cast, subtract, scale, add, a
# copy, unfused), and casts the first and the last.
_SWAP_BYTES: Final = 32.0
_MERGE_BYTES: Final = 48.0
_CAST_BYTES: Final = 12.0


# Bytes per value of the hidden state of one layer, unfused: two layer norms (4 each), modulation (8 each), gates and
# residual sums (10 each), four moves of heads; cross-attention's residual and move; a norm cast to fp32 and back; a
# normalised query or key in fp32, or by a plain layer norm; a rotated one in fp32; a second self-attention's norm.
# Counted from the blocks of diffusers 0.35 (models/transformers, attention_processor.py).
_LAYER_BYTES, _CROSS_BYTES, _FP32_BYTES, _RMS_BYTES, _PLAIN_BYTES = 58.0, 8.0, 20.0, 34.0, 4.0
_ROTARY_BYTES, _SECOND_BYTES = 52.0, 22.0
# Kernels of the same; those of a text stream of its own; those that take linear attention to channels first and back.
_LAYER_KERNELS, _TEXT_KERNELS, _LINEAR_KERNELS = 30.0, 20.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Diffuser:
    """Architecture facts of a diffusion transformer; keys as explained in ``data/diffusion.toml``.

    `fp32_norms`, `rms_qk`, `layer_qk`, `rotary`: how many layer norms a layer casts to fp32, and how many of its
    queries and keys it normalises (by root mean square in fp32, or by a layer norm) and rotates: what `touched` and
    `kernels` are counted from. `skips`: layers that take in the output of an earlier one by a product.
    `patch_frames`: latent frames of one token. `encoder`: parameters of the text encoders; `decoder`: FLOP of
    the autoencoder per pixel and frame. `single`: layers, of all, where text and image share weights and
    one product makes the qkv and the inner values. `shared_text`: text runs through the image's weights
    in every layer.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    ffn: int
    text: int
    ffn_matrices: int = 2
    joint: bool = False
    shared_text: bool = False
    single: int = 0
    second: int = 0
    linear: bool = False
    stride: int = 8
    frames_stride: int = 1
    patch: int = 2
    patch_frames: int = 1
    fp32_norms: int = 0
    rms_qk: int = 0
    layer_qk: int = 0
    rotary: int = 0
    skips: int = 0
    encoder: float = 0.0
    decoder: float = 9.5e6
    guided: int = 2
    guessed: bool = False
    source: str = ""

    @property
    def touched(self) -> float:
        """Bytes per value of the hidden state that a layer's unfused kernels read and write.

        Two norms, their modulation, gates and residual sums, the copies of heads; cross-attention's sum; what casts
        to fp32 adds to a norm; a normalised and a rotated query or key (both cast to fp32 and back).
        """
        own = _LAYER_BYTES + (0.0 if self.joint else _CROSS_BYTES) + _FP32_BYTES * self.fp32_norms
        qk = _RMS_BYTES * self.rms_qk + _PLAIN_BYTES * self.layer_qk + _ROTARY_BYTES * self.rotary
        again = _SECOND_BYTES + _RMS_BYTES * self.rms_qk
        return own + qk + again * self.second / self.layers

    @property
    def kernels(self) -> float:
        """Kernels of a layer besides its products and attention, counted likewise."""
        own = _LAYER_KERNELS + (_LINEAR_KERNELS if self.linear else 0.0) + self.fp32_norms
        qk = 6.0 * self.rms_qk + self.layer_qk + 10.0 * self.rotary
        apart = _TEXT_KERNELS if self.joint and not self.shared_text else 0.0
        again = (_TEXT_KERNELS + 6.0 * self.rms_qk) * self.second
        return own + qk + (apart * (self.layers - self.single) + again) / self.layers

    @property
    def size(self) -> tuple[int, int]:
        """Height and width generated where none is stated."""
        return (480, 832) if self.frames_stride > 1 else (1024, 1024)

    def tokens(self, height: int, width: int, frames: int = 1) -> float:
        """Return tokens of the latent of a picture, or of a video of `frames`."""
        if min(height, width, frames) < 1:
            raise InputError(
                f"a picture needs height, width and frames of at least 1, got {height} x {width} x {frames}"
            )
        side = self.stride * self.patch
        deep = math.ceil((1 + (frames - 1) // self.frames_stride) / self.patch_frames)
        return math.ceil(height / side) * math.ceil(width / side) * float(deep)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is generated: size in pixels, frames (1: an image), and how many at once."""

    height: int
    width: int
    frames: int = 1
    batch: int = 1


def diffusers() -> list[str]:
    """Return the names of all diffusion models in the catalog, sorted."""
    return sorted(_tables())


def diffuser(name: str) -> Diffuser | Unet:
    """Return a diffusion model by its short name or Hugging Face id, with or without its organisation.

    >>> diffuser("Wan-AI/Wan2.1-T2V-14B-Diffusers").name, diffuser("sdxl-turbo").layers
    ('wan-2.1-14b', 2)
    """
    names = {other.lower(): key for key, table in _tables().items() for other in (key, *table["ids"])}
    names = {other.split("/")[-1]: key for other, key in names.items()} | names
    key = names.get(name.lower().strip(), names.get(name.lower().strip().split("/")[-1]))
    if key is None:
        raise InputError(f"diffusion model {name!r} is not in the catalog; {nearest(name.lower(), diffusers())}")
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in _tables()[key].items() if k != "ids"}
    return Unet(name=key, **facts) if "channels" in facts else Diffuser(name=key, **facts)


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    folder = resources.files(__package__) / "data"
    both = (tomllib.loads((folder / name).read_text("utf-8")) for name in ("diffusion.toml", "unets.toml"))
    return {key: table for tables in both for key, table in tables.items()}


def denoise_operators(m: Diffuser | Unet, picture: Picture, ulysses: int = 1, ring: int = 1) -> tuple[Operator, ...]:
    """Return one denoising step on one of `ulysses` x `ring` devices that split the sequence."""
    if isinstance(m, Unet):
        if ulysses * ring > 1:
            raise InputError(
                f"{m.name}: a UNet has no sequence to split, got ulysses {ulysses} x ring {ring}; take 1 x 1"
            )
        return unet_operators(m, picture.height, picture.width, picture.frames, picture.batch)
    ranks = ulysses * ring
    sequences = float(picture.batch * m.guided)
    image = m.tokens(picture.height, picture.width, picture.frames)
    own, text = sequences * image / ranks, sequences * m.text / ranks
    mixed = own + (text if m.joint else 0.0)
    return (
        *_products(m, own, text),
        *_attentions(m, sequences, image, ulysses, ring),
        _touch("modulate", mixed * m.hidden * m.layers, m.touched / 2.0, m.kernels * m.layers),
        _touch("activation", mixed * m.ffn * m.layers, float(m.ffn_matrices), 2.0 * m.layers),
        *_linear(m, mixed),
        *_exchanges(m, mixed, ulysses, ring),
        *_copies(m, mixed, ulysses, ring),
    )


def _linear(m: Diffuser, rows: float) -> list[Operator]:
    """Linear attention in fp32 and the depthwise convolution that mixes neighbours (arXiv 2410.10629)."""
    if not m.linear:
        return []
    return [
        # Casts, rectifiers, two products with tiny inner sizes, a division, the cast back.
        _touch("linear_attention_fp32", rows * m.hidden * m.layers, 34.0, 10.0 * m.layers),
        # A depthwise 3 x 3 convolution reads nine neighbours of each value; then its activation.
        _touch("depthwise", rows * 2.0 * m.ffn * m.layers, 12.0, 3.0 * m.layers),
    ]


def _products(m: Diffuser, own: float, text: float) -> list[Operator]:
    """Weights of text and image are apart in joint layers, shared in `single` or `shared_text` ones."""
    h, inner = float(m.hidden), float(m.ffn)
    up = (m.ffn_matrices - 1) * inner
    sizes = [("qkv", 3 * h, h), ("out", h, h), ("mlp_up", up, h), ("mlp_down", h, inner)]
    shared = float(m.layers if m.shared_text else m.single)
    done: list[Operator] = []
    for name, n, k in sizes:
        rows = own + (text if m.joint else 0.0)
        if shared:
            done.append(Gemm(name=name, repeat=shared, m=rows, n=n, k=k))
        apart = m.layers - shared
        if apart:
            done.append(Gemm(name=name, repeat=apart, m=own, n=n, k=k))
            if m.joint:
                done.append(Gemm(name=f"text_{name}", repeat=apart, m=text, n=n, k=k))
    if m.skips:
        done.append(Gemm(name="skip", repeat=m.skips, m=own, n=h, k=2 * h))
    if m.second:
        done += [Gemm(name=f"second_{name}", repeat=m.second, m=own, n=n, k=k) for name, n, k in sizes[:2]]
    if not m.joint:
        done += [
            Gemm(name="cross_q", repeat=m.layers, m=own, n=h, k=h),
            Gemm(name="cross_kv", repeat=m.layers, m=text, n=2 * h, k=h),
            Gemm(name="cross_out", repeat=m.layers, m=own, n=h, k=h),
        ]
    return done


def _attentions(m: Diffuser, sequences: float, image: float, ulysses: int, ring: int) -> list[Operator]:
    heads, dim = m.heads / ulysses, m.hidden / m.heads
    padded = dim if m.linear else _HEAD_STEP * math.ceil(dim / _HEAD_STEP)
    whole = image + (m.text if m.joint else 0.0)

    def attention(name: str, query: float, context: float, repeat: float) -> Attention:
        return Attention(
            name=name, repeat=repeat, batch=sequences, query=query, context=context, heads=heads, kv_heads=heads,
            head_dim=padded, value_dim=padded, causal=False,
        )  # fmt: skip

    done: list[Operator] = []
    if m.linear:
        rows = sequences * image / ring
        done.append(Gemm(name="linear_attention", repeat=2.0 * m.layers, batch=heads, m=rows, n=dim, k=dim))
    else:
        done.append(attention("attention", whole / ring, whole, float(m.layers)))
    if m.second:
        done.append(attention("second_attention", image / ring, image, float(m.second)))
    if not m.joint:
        done.append(attention("cross_attention", image / ring, float(m.text), float(m.layers)))
    return done


def _touch(name: str, values: float, passes: float, kernels: float) -> Elementwise:
    half = values * passes  # each pass reads or writes two bytes a value
    return Elementwise(name=name, precision="fp32", read=half, write=half, ops=2.0 * half, kernels=kernels)


def _exchanges(m: Diffuser, rows: float, ulysses: int, ring: int) -> list[Operator]:
    """Ulysses swaps sequence for heads before attention and back; a ring passes keys and values round."""
    size = 2.0 * rows * m.hidden
    times = float(m.layers + m.second)
    done: list[Operator] = []
    if ulysses > 1:
        done.append(Collective(name="swap", repeat=4.0 * times, op="all_to_all", size=size, ranks=float(ulysses)))
    if ring > 1:
        hops = (ring - 1.0) * times
        done.append(Collective(name="ring", repeat=hops, op="send", size=2.0 * size, ranks=float(ring), overlap=0.5))
    return done


def _copies(m: Diffuser, rows: float, ulysses: int, ring: int) -> list[Operator]:
    """What a split sequence costs on the device besides: layout copies of swaps, merges of a ring."""
    times = m.layers + m.second
    done: list[Operator] = []
    if ulysses > 1:
        done.append(_touch("swap_copies", rows * m.hidden * times, _SWAP_BYTES / 2.0, 8.0 * times))
    if ring > 1:
        merged = (ring - 1.0) * _MERGE_BYTES + _CAST_BYTES
        done.append(_touch("ring_merges", rows * m.hidden * times, merged / 2.0, (8.0 * ring - 6.0) * times))
    return done


def frame_operators(m: Diffuser | Unet, picture: Picture) -> tuple[Operator, ...]:
    """Return what surrounds the steps on one device: text encoders before, the autoencoder after."""
    pixels = float(picture.batch * picture.frames * picture.height * picture.width)
    side = math.sqrt(m.decoder / 2.0)
    text = float(picture.batch * m.guided * m.text)
    width = math.sqrt(m.encoder / 300.0)
    return (
        Gemm(name="text_encoder", repeat=300.0, m=text, n=width, k=width),
        # Autoencoders run in fp32, their activations overflow in fp16 (diffusers, force_upcast), on the matrix
        # units in tf32 (torch.backends.cudnn.allow_tf32, true unless changed).
        Gemm(
            name="decoder",
            precision="tf32",
            repeat=16.0,
            m=pixels / 16.0,
            n=side,
            k=side,
            a="fp32",
            b="fp32",
            c="fp32",
        ),
        _touch("decoder_touch", pixels * side, DECODER_PASSES, 60.0),
    )
