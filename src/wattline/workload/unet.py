"""Diffusion models whose denoiser is a UNet: convolutions at falling resolution, attention at some, then back up.

Sizes are those of diffusers' ``UNet2DConditionModel`` configs. A video UNet adds to each block its like along time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..core.errors import InputError
from .operator import Attention, Elementwise, Gemm, Operator

# Bytes per value that a residual block's unfused kernels read and write: two group norms, two activations, the
# embedding's sum, the residual sum, copies of a skip; and its kernels (diffusers 0.35, ResnetBlock2D).
_BLOCK_BYTES, _BLOCK_KERNELS = 44.0, 10.0
# The same of a transformer block: three layer norms, three residual sums, heads moved, a gated activation.
_LAYER_BYTES, _LAYER_KERNELS = 60.0, 26.0
_TEXT: Final = 77.0


@dataclass(frozen=True, kw_only=True)
class Unet:
    """Facts of a UNet; keys as diffusers' config has them.

    channels : of each resolution. layers : residual blocks of each on the way down; one more on the way up.
    attended : transformer layers of each attention block per resolution, 0 for none. heads : values per head.
    cross : width of the text embedding. temporal : video, with blocks along time. size : height and width generated
    by default. encoder, decoder, guided : as `diffusion.Diffuser`.
    """

    name: str
    channels: tuple[int, ...]
    layers: int
    attended: tuple[int, ...]
    head: int
    cross: int
    temporal: bool = False
    size: tuple[int, int] = (1024, 1024)
    encoder: float = 0.123e9
    decoder: float = 9.5e6
    guided: int = 2
    source: str = ""
    text: int = 77
    stride: int = 8
    guessed: bool = False
    linear: bool = False
    joint: bool = False

    @property
    def hidden(self) -> int:
        """The widest resolution's channels."""
        return max(self.channels)

    def tokens(self, height: int, width: int, frames: int = 1) -> float:
        """Return latent values a channel of a picture, or of a video of `frames`."""
        return float(-(-height // self.stride) * -(-width // self.stride) * frames)


def unet_from(name: str, config: Mapping[str, Any], encoder: float | None = None) -> Unet:
    """Return a UNet from diffusers' config."""
    try:
        channels = tuple(int(c) for c in config["block_out_channels"])
        kinds = config.get("down_block_types") or ()
        deep = config.get("transformer_layers_per_block", 1)
        each = list(deep) if isinstance(deep, Sequence) else [deep] * len(channels)
        attended = tuple(
            int(n if isinstance(n, int) else max(n)) if "Attn" in str(kind) else 0
            for n, kind in zip(each, kinds, strict=True)
        )
        layers = config.get("layers_per_block", 2)
        heads = config.get("attention_head_dim", 8)
        head = max(heads) if isinstance(heads, Sequence) else heads
        cross = config.get("cross_attention_dim") or 768
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config of a UNet: {error!r} is missing or of another form") from None
    temporal = "3D" in str(config.get("_class_name")) or "Temporal" in str(config.get("_class_name"))
    return Unet(
        name=name, channels=channels, layers=int(layers if isinstance(layers, int) else max(layers)), attended=attended,
        # The key says how many heads where it is small (diffusers: "num_attention_heads or attention_head_dim").
        head=int(head) if head >= 32 else 64, cross=int(cross if isinstance(cross, int) else max(cross)),
        temporal=temporal, encoder=encoder or 0.123e9, source="its config",
    )  # fmt: skip


def unet_operators(m: Unet, height: int, width: int, frames: int, batch: int) -> tuple[Operator, ...]:
    """Return one denoising step on one device."""
    high, wide = -(-height // m.stride), -(-width // m.stride)
    images = float(batch * m.guided * frames)
    done: list[Operator] = [_convolution("conv_in", images * high * wide, 4.0, float(m.channels[0]))]
    for i, c in enumerate(m.channels):
        side = float(-(-high // 2**i) * -(-wide // 2**i))
        before = m.channels[max(i - 1, 0)]
        after = m.channels[min(i + 1, len(m.channels) - 1)]
        inputs = [before, *[c] * (m.layers - 1)]
        # On the way up each block also takes in the output of one on the way down.
        inputs += [after + c, *[2 * c] * (m.layers - 1), c + before]
        for wide_in in inputs:
            done += _block(f"level{i}", m, images, side, frames, float(wide_in), float(c))
            if m.attended[i]:
                done += _attended(f"level{i}", m, images, side, frames, float(c), float(m.attended[i]))
        if i + 1 < len(m.channels):
            done += [
                _convolution("down", images * side / 4.0, float(c), float(c)),
                _convolution("up", images * side, float(c), float(c)),
            ]
    last, side = (
        float(m.channels[-1]),
        float(-(-high // 2 ** (len(m.channels) - 1)) * -(-wide // 2 ** (len(m.channels) - 1))),
    )
    done += [o for _ in range(2) for o in _block("middle", m, images, side, frames, last, last)]
    if any(m.attended):
        done += _attended("middle", m, images, side, frames, last, float(max(m.attended[-1], 1)))
    return tuple(done)


def _convolution(name: str, rows: float, inner: float, outer: float, window: float = 9.0) -> Gemm:
    return Gemm(name=name, m=rows, n=outer, k=window * inner)


def _touch(name: str, values: float, nbytes: float, kernels: float) -> Elementwise:
    half = values * nbytes / 2.0
    return Elementwise(name=name, precision="fp32", read=half, write=half, ops=2.0 * half, kernels=kernels)


def _block(
    name: str, m: Unet, images: float, side: float, frames: int, inner: float, outer: float
) -> Iterator[Operator]:
    rows = images * side
    yield _convolution(f"{name}_conv", rows, inner, outer)
    yield _convolution(f"{name}_conv", rows, outer, outer)
    if inner != outer:
        yield _convolution(f"{name}_skip", rows, inner, outer, 1.0)
    yield _touch(f"{name}_norms", rows * (inner + outer) / 2.0, _BLOCK_BYTES, _BLOCK_KERNELS)
    if m.temporal and frames > 1:
        for _ in range(2):
            yield _convolution(f"{name}_time", rows, outer, outer, 3.0)
        yield _touch(f"{name}_time_norms", rows * outer, _BLOCK_BYTES, _BLOCK_KERNELS)


def _attended(
    name: str, m: Unet, images: float, side: float, frames: int, c: float, layers: float
) -> Iterator[Operator]:
    rows = images * side
    yield Gemm(name=f"{name}_project", repeat=2.0, m=rows, n=c, k=c)
    yield from _layer(name, m, images, side, c, layers, cross=True)
    if m.temporal and frames > 1:
        yield Gemm(name=f"{name}_project", repeat=2.0, m=rows, n=c, k=c)
        yield from _layer(f"{name}_time", m, rows / frames, float(frames), c, 1.0, cross=False)


def _layer(
    name: str, m: Unet, sequences: float, tokens: float, c: float, layers: float, cross: bool
) -> Iterator[Operator]:
    rows, heads = sequences * tokens, max(c / m.head, 1.0)

    def attention(what: str, context: float) -> Attention:
        return Attention(
            name=f"{name}_{what}", repeat=layers, batch=sequences, query=tokens, context=context, heads=heads,
            kv_heads=heads, head_dim=float(m.head), value_dim=float(m.head), causal=False,
        )  # fmt: skip

    def product(what: str, count: float, n: float, k: float) -> Gemm:
        return Gemm(name=f"{name}_{what}", repeat=layers * count, m=rows, n=n, k=k)

    yield product("qkv", 3.0, c, c)
    yield product("out", 2.0 if cross else 1.0, c, c)
    yield attention("attention", tokens)
    if cross:
        yield product("cross_q", 1.0, c, c)
        yield Gemm(name=f"{name}_cross_kv", repeat=2.0 * layers, m=sequences * _TEXT, n=c, k=float(m.cross))
        yield attention("cross_attention", _TEXT)
    yield product("mlp_up", 1.0, 8.0 * c, c)
    yield product("mlp_down", 1.0, c, 4.0 * c)
    yield _touch(f"{name}_layer", rows * c * layers, _LAYER_BYTES + 24.0, _LAYER_KERNELS * layers)
