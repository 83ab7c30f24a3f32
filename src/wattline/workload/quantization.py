"""What `quantization_config` of a config.json says about the stored precision of each part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..core.errors import InputError, nearest
from .model import Weights

# torch dtype -> precision. Weights published in fp32 are loaded as they are.
DTYPES: Final = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "float": "fp32",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "bf16": "bf16", "fp16": "fp16", "fp32": "fp32",
}  # fmt: skip
METHODS: Final = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "fp4", "nvfp4": "fp4", "modelopt_fp4": "fp4", "gptq": "int4",
    "awq": "int4", "bitsandbytes": "int4", "bnb": "int4", "compressed-tensors": "", "modelopt": "", "quark": "",
}  # fmt: skip

# Words in the names of modules left unquantised -> part of the model.
_WORDS: Final = {
    "self_attn": "attention", "attention": "attention", "attn": "attention", "router": "router",
    "mlp.gate": "router", "lm_head": "head", "embed": "embedding", "shared_expert": "shared",
    "mamba": "recurrent", "mixer": "recurrent", "feed_forward.experts": "experts", "mlp.experts": "experts",
    "mlp.down_proj": "dense",
}  # fmt: skip
_INNER: Final = ("attention", "recurrent", "dense", "experts", "shared")


def weights(quantization: Mapping[str, Any], dtype: str, layers: int, name: str) -> Weights:
    """Return the stored precision of each part.

    `quantization`: the `quantization_config` table, or empty. `dtype`: the config's torch_dtype.
    `layers`, `name`: of the model, the latter for messages.
    """
    dtype = dtype.removeprefix("torch.")
    if dtype not in DTYPES:
        raise InputError(f"model {name!r}: torch_dtype = {dtype!r} is not known; {nearest(dtype, DTYPES)}")
    base = Weights.all(DTYPES[dtype])
    if not quantization:
        return base
    linear = _linear(quantization, name)
    if linear is None:
        return base
    kept = _kept(quantization, layers)
    return replace(base, **{part: linear for part in _INNER if part not in kept})


def _linear(table: Mapping[str, Any], name: str) -> str | None:
    """Precision of the quantised linear layers, None if the table changes nothing."""
    method = str(table.get("quant_method", "")).lower()
    if method not in METHODS:
        raise InputError(f"model {name!r}: quant_method = {method!r} is not known; {nearest(method, METHODS)}")
    bits = table.get("bits", table.get("w_bit"))
    if method in ("gptq", "awq") and bits is not None:
        return _bits(bits, False, name)
    if method in ("bitsandbytes", "bnb"):
        if table.get("load_in_8bit"):
            return "int8"
        return "int4" if table.get("load_in_4bit") else None
    if METHODS[method]:
        return METHODS[method]
    for group in _groups(table):
        scheme = group.get("weights")
        if isinstance(scheme, Mapping) and scheme.get("num_bits"):
            return _bits(scheme["num_bits"], scheme.get("type", "int") == "float", name)
    text = str(table.get("quant_algo", table.get("format", ""))).lower()
    for word, precision in (
        ("fp4", "fp4"),
        ("fp8", "fp8"),
        ("float-quantized", "fp8"),
        ("int-quantized", "int8"),
    ):
        if word in text:
            return precision
    raise InputError(
        f"model {name!r}: quantization_config of {method!r} states no weight precision; "
        "give config_groups with weights.num_bits"
    )


def _groups(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = table.get("config_groups")
    return [g for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []


def _bits(bits: Any, floating: bool, name: str) -> str:
    known = {
        (4, True): "fp4",
        (8, True): "fp8",
        (4, False): "int4",
        (8, False): "int8",
        (16, True): "bf16",
    }
    if not isinstance(bits, int) or (bits, floating) not in known:
        kind = "float" if floating else "int"
        raise InputError(f"model {name!r}: {bits}-bit {kind} weights are not known; try 4, 8 or 16 bits")
    return known[bits, floating]


def _kept(table: Mapping[str, Any], layers: int) -> set[str]:
    """Parts listed as not to be converted, for every layer or for most of them by number."""
    listed: list[Any] = []
    for key in ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules"):
        value = table.get(key)
        if isinstance(value, Iterable) and not isinstance(value, str):
            listed += list(value)
    seen: dict[str, set[str]] = {}
    for text in (str(item).replace("\\.", ".") for item in listed):
        number = next((piece for piece in text.split(".") if piece.isdigit()), "all")
        for word, part in _WORDS.items():
            if word in text:
                seen.setdefault(part, set()).add(number)
    return {part for part, numbers in seen.items() if "all" in numbers or len(numbers) > layers / 2}
