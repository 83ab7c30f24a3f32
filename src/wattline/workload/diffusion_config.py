"""Diffusion models from the files they ship with: ``model_index.json`` and the config of the denoiser.

What a class of denoiser does in each layer (norms in fp32, normalised queries, rotary embedding, a second attention)
is read off diffusers' blocks once per class; sizes come from the config. A model of which only the number of
parameters is known is taken as the usual transformer of that size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError, nearest
from .diffusion import Diffuser
from .unet import Unet, unet_from

Config = Mapping[str, Any]

# Parameters of text encoders by class, the size that pipelines ship: T5 1.1 XXL (arXiv 2002.05202), UMT5 XXL, CLIP L
# and bigG, Gemma 2 2B, Llama 3 8B, Qwen2.5-VL 7B, from their configs.
ENCODERS: Final = {
    "T5EncoderModel": 4.76e9, "UMT5EncoderModel": 5.7e9, "CLIPTextModel": 0.123e9,
    "CLIPTextModelWithProjection": 0.69e9,
    "Gemma2Model": 2.6e9, "Gemma2ForCausalLM": 2.6e9, "LlamaModel": 7.5e9, "Qwen2_5_VLForConditionalGeneration": 7.6e9,
    "BertModel": 0.35e9, "CLIPVisionModelWithProjection": 0.63e9,
}  # fmt: skip
# FLOP a pixel and frame of autoencoders by class, counted scale by scale as the default (Stable Diffusion's) is.
DECODERS: Final = {
    "AutoencoderKL": 9.5e6, "AutoencoderDC": 6e6, "AutoencoderKLWan": 8.5e6, "AutoencoderKLCogVideoX": 16e6,
    "AutoencoderKLHunyuanVideo": 13e6, "AutoencoderKLLTXVideo": 4e6, "AutoencoderKLQwenImage": 8.5e6,
    "AutoencoderKLTemporalDecoder": 12e6, "VQModel": 9.5e6,
}  # fmt: skip
# Pixels a side and frames of one latent value where the autoencoder's own config is not at hand.
STRIDES: Final = {
    "AutoencoderDC": (32, 1), "AutoencoderKLWan": (8, 4), "AutoencoderKLCogVideoX": (8, 4),
    "AutoencoderKLHunyuanVideo": (8, 4), "AutoencoderKLLTXVideo": (32, 8), "AutoencoderKLQwenImage": (8, 1),
}  # fmt: skip


def _width(c: Config) -> int:
    return int(c["num_attention_heads"]) * int(c["attention_head_dim"])


def _sana(c: Config) -> dict[str, Any]:
    hidden = _width(c)
    inner = round(float(c.get("mlp_ratio", 2.5)) * hidden)
    return {"ffn": inner, "ffn_matrices": 3, "linear": True, "patch": int(c.get("patch_size", 1)), "text": 300}


def _pixart(c: Config) -> dict[str, Any]:
    return {"ffn": 4 * _width(c), "text": 300}


def _hunyuan(c: Config) -> dict[str, Any]:
    inner = round(float(c.get("mlp_ratio", 4.3637)) * _width(c) / 64) * 64
    text = int(c.get("text_len", 77)) + int(c.get("text_len_t5", 256))
    layers = int(c["num_layers"])
    return {"ffn": inner, "text": text, "skips": (layers - 2) // 2, "fp32_norms": 3, "layer_qk": 3, "rotary": 3}


def _sd3(c: Config) -> dict[str, Any]:
    qk = 2 if c.get("qk_norm") else 0
    second = len(c.get("dual_attention_layers") or ())
    return {"ffn": 4 * _width(c), "text": 333, "joint": True, "second": second, "rms_qk": qk}


def _flux(c: Config) -> dict[str, Any]:
    single = int(c.get("num_single_layers", 0))
    return {
        "layers": int(c["num_layers"]) + single, "single": single, "ffn": 4 * _width(c), "text": 512, "joint": True,
        "rms_qk": 2, "rotary": 2,
    }  # fmt: skip


def _hunyuan_video(c: Config) -> dict[str, Any]:
    return _flux(c) | {"ffn": round(float(c.get("mlp_ratio", 4.0)) * _width(c)), "text": 256}


def _qwen(c: Config) -> dict[str, Any]:
    return {"ffn": 4 * _width(c), "text": 256, "joint": True, "rms_qk": 2, "rotary": 2}


def _wan(c: Config) -> dict[str, Any]:
    text = int(c.get("text_len", 512))
    return {"ffn": int(c["ffn_dim"]), "text": text, "fp32_norms": 3, "rms_qk": 3, "rotary": 2}


def _cogvideo(c: Config) -> dict[str, Any]:
    rotary = 2 if c.get("use_rotary_positional_embeddings") else 0
    deep = int(c.get("patch_size_t") or 1)
    text = int(c.get("max_text_seq_length", 226))
    return {
        "ffn": 4 * _width(c), "text": text, "joint": True, "shared_text": True, "layer_qk": 2, "rotary": rotary,
        "patch_frames": deep, "patch": int(c.get("patch_size", 2)),
    }  # fmt: skip


def _ltx(c: Config) -> dict[str, Any]:
    return {"ffn": 4 * _width(c), "text": 128, "patch": int(c.get("patch_size", 1)), "rms_qk": 3, "rotary": 2}


# Class of the denoiser -> what its layers hold, from diffusers 0.35 (src/diffusers/models/transformers).
CLASSES: Final[Mapping[str, Callable[[Config], dict[str, Any]]]] = {
    "SanaTransformer2DModel": _sana,
    "PixArtTransformer2DModel": _pixart,
    "HunyuanDiT2DModel": _hunyuan,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
    "QwenImageTransformer2DModel": _qwen,
    "WanTransformer3DModel": _wan,
    "CogVideoXTransformer3DModel": _cogvideo,
    "HunyuanVideoTransformer3DModel": _hunyuan_video,
    "LTXVideoTransformer3DModel": _ltx,
}


def read(path: Path) -> Diffuser | Unet:
    """Return the model of a folder with ``model_index.json``, or of a denoiser's ``config.json`` alone.

    Beside the index, the configs of ``transformer`` (or ``unet``) and ``vae`` are read where they are.
    """
    if path.is_dir():
        index = path / "model_index.json"
        if not index.is_file():
            raise InputError(f"{path}: holds no model_index.json; name a pipeline's folder or a denoiser's config.json")
        path = index
    stated = _json(path)
    if "_class_name" not in stated:
        raise InputError(f"{path}: states no _class_name; known denoisers: {', '.join(CLASSES)}, UNet2DConditionModel")
    folder = path.parent
    if path.name != "model_index.json":
        return from_configs(folder.name if path.name == "config.json" else path.stem, stated)
    part = next((p for p in ("transformer", "unet", "prior") if (folder / p / "config.json").is_file()), None)
    if part is None:
        raise InputError(
            f"{folder}: has no transformer/config.json and no unet/config.json beside its model_index.json"
        )
    vae = folder / "vae" / "config.json"
    inner = _json(folder / part / "config.json")
    return from_configs(folder.name, inner, stated, _json(vae) if vae.is_file() else None)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: must hold one JSON object, got {type(found).__name__}")
    return found


def from_configs(
    name: str, denoiser: Config, index: Config | None = None, vae: Config | None = None
) -> Diffuser | Unet:
    """Return a model from its parsed configs; what `index` and `vae` would say has the usual values without them."""
    kind = str(denoiser.get("_class_name", ""))
    encoder = sum(ENCODERS.get(_class_of(v), 0.0) for k, v in (index or {}).items() if k.startswith("text_encoder"))
    if kind.startswith("UNet"):
        return unet_from(name, denoiser, encoder or None)
    if kind not in CLASSES:
        raise InputError(f"denoiser {kind!r} is not known; {nearest(kind, CLASSES)}")
    try:
        facts = {
            "layers": int(denoiser["num_layers"]), "hidden": _width(denoiser),
            "heads": int(denoiser["num_attention_heads"]), **CLASSES[kind](denoiser),
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config of {kind}: {error!r} is missing or is no number") from None
    stated = _class_of((index or {}).get("vae")) or _usual_vae(kind)
    stride, deep = STRIDES.get(stated, (8, 1))
    if vae and "block_out_channels" in vae and stated == "AutoencoderKL":
        stride = 2 ** (len(vae["block_out_channels"]) - 1)
    facts |= {"stride": stride, "frames_stride": deep, "decoder": DECODERS.get(stated, 9.5e6)}
    facts["encoder"] = encoder or 4.76e9
    facts["guided"] = 1 if denoiser.get("guidance_embeds") else 2
    return Diffuser(name=name, source="its configs", **facts)


def _class_of(entry: Any) -> str:
    """Return the class of a part in a pipeline's index, ["diffusers", "AutoencoderKL"]."""
    return str(entry[1]) if isinstance(entry, list | tuple) and len(entry) > 1 else ""


def _usual_vae(kind: str) -> str:
    usual = {
        "Sana": "AutoencoderDC", "Wan": "AutoencoderKLWan", "CogVideoX": "AutoencoderKLCogVideoX",
        "HunyuanVideo": "AutoencoderKLHunyuanVideo", "LTX": "AutoencoderKLLTXVideo",
        "QwenImage": "AutoencoderKLQwenImage",
    }  # fmt: skip
    return next((vae for start, vae in usual.items() if kind.startswith(start)), "AutoencoderKL")


# Layers of transformers grow with their width: 24 to 57 layers for 1536 to 5120, about a layer for 70 values of width
# (the models of data/diffusion.toml).
_WIDTH_PER_LAYER: Final = 70.0


def guessed(name: str, parameters: float, video: bool) -> Diffuser:
    """Return the usual transformer of a number of `parameters`, where nothing else is known of a model.

    Text and image run jointly through layers of 12 width^2 weights each and half as many for the text; queries and
    keys are normalised and rotated.
    """
    if parameters < 1e7:
        raise InputError(f"{name}: a diffusion model of {parameters:.3g} parameters cannot be; state at least 1e7")
    hidden = 128 * max(4, round((parameters * _WIDTH_PER_LAYER / 18.0) ** (1 / 3) / 128))
    layers = max(8, round(parameters / (18.0 * hidden**2)))
    return Diffuser(
        name=name, layers=layers, hidden=hidden, heads=max(1, math.ceil(hidden / 128)), ffn=4 * hidden, text=333,
        joint=True, single=layers // 2, rms_qk=2, rotary=2, encoder=4.76e9, frames_stride=4 if video else 1,
        decoder=13e6 if video else 9.5e6, guessed=True, source="guessed from the number of parameters",
    )  # fmt: skip
