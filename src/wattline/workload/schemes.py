"""Quantisation schemes by the names that methods give them: a precision, and bytes per weight with its factors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.errors import InputError, nearest
from .shapes import stored_bytes

# Methods whose tables are read. Left of the bar what a method stores where its table states no bits.
METHODS: Final[dict[str, str]] = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "finegrained_fp8": "fp8", "deepspeedfp": "fp8", "ptpc_fp8": "fp8",
    "mxfp4": "mxfp4",
    "mxfp8": "mxfp8", "nvfp4": "nvfp4", "modelopt_fp4": "nvfp4", "fp_quant": "mxfp4", "gptq": "", "gptq_marlin": "",
    "awq": "", "awq_marlin": "", "auto-round": "", "auto_round": "", "intel/auto-round": "", "autoround": "", "inc": "",
    "bitsandbytes": "", "bnb": "", "bitsandbytes_4bit": "", "bitsandbytes_8bit": "", "hqq": "", "torchao": "",
    "aqlm": "",
    "quanto": "", "eetq": "int8", "higgs": "", "spqr": "", "vptq": "", "bitnet": "int2", "exl2": "", "exl3": "",
    "quip": "",
    "compressed-tensors": "", "compressed_tensors": "", "modelopt": "", "modelopt_mixed": "", "quark": "",
    "squeezellm": "",
    "marlin": "int4", "gguf": "", "petit_nvfp4": "nvfp4", "experts_int8": "int8", "sinq": "", "moe_wna16": "",
    "rtn": "",
    "four_over_six": "nvfp4", "metal": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scheme:
    """`precision` that a kernel is told, and `bytes` per weight, the factors that values share included."""

    precision: str
    bytes: float


def plain(precision: str) -> Scheme:
    """A scheme whose factors are as `stored_bytes` says."""
    return Scheme(precision, stored_bytes(precision))


# NVFP4: an fp8 factor per 16 values (NVIDIA, "Introducing NVFP4", 2025); MX formats: a byte per 32 (OCP MX v1.0).
_NAMED: Final = {
    "NVFP4": Scheme("fp4", 0.5 + 1 / 16), "W4A16_NVFP4": Scheme("fp4", 0.5 + 1 / 16), "NVFP4_AWQ": Scheme("fp4",
    0.5 + 1 / 16),
    "MXFP4": Scheme("fp4", 0.5 + 1 / 32), "W4A8_MXFP4_FP8": Scheme("fp4", 0.5 + 1 / 32), "MXFP8": Scheme("fp8",
    1 + 1 / 32),
    "FP8": Scheme("fp8", 1.0), "FP8_PER_CHANNEL_PER_TOKEN": Scheme("fp8", 1.0), "FP8_PB_WO": Scheme("fp8",
    1 + 4 / 128**2),
    "W4A16_AWQ": Scheme("int4", 0.5 + 2 / 128), "W4A8_AWQ": Scheme("int4", 0.5 + 2 / 128), "INT4_AWQ": Scheme("int4",
    0.5 + 2 / 128),
    "INT8_SQ": Scheme("int8", 1.0), "W8A16": Scheme("int8", 1.0), "INT8": Scheme("int8", 1.0),
    "W8A8_SQ_PER_CHANNEL": Scheme("int8", 1.0),
    "MXFP6": Scheme("fp8", 0.75 + 1 / 32), "W4A8_NVFP4_FP8": Scheme("fp4", 0.5 + 1 / 16), "W4A16": Scheme("int4",
    0.5 + 2 / 128),
    "NONE": Scheme("bf16", 2.0),
}  # fmt: skip


def scheme_of_algorithm(name: str, group: Any = None, model: str = "") -> Scheme:
    """Return the scheme of one of ModelOpt's `quant_algo` names."""
    found = _NAMED.get(name.upper())
    if found is None:
        raise InputError(f"model {model!r}: quant_algo = {name!r} is not known; {nearest(name.upper(), _NAMED)}")
    if found.precision == "int4" and isinstance(group, int) and group > 0:
        return Scheme("int4", 0.5 + 2 / group)
    return found


def integers(bits: float, group: Any, zeros: bool, name: str) -> Scheme:
    """Whole numbers of `bits`; `group` values share a 16-bit factor and, with `zeros`, a zero point of `bits`."""
    if isinstance(bits, bool) or not isinstance(bits, int | float) or not 1 <= bits <= 16:
        raise InputError(f"model {name!r}: {bits}-bit weights are not known; try 2, 3, 4 or 8 bits")
    size = bits / 8
    if isinstance(group, int) and group > 0:
        size += (2 + (bits / 8 if zeros else 0.0)) / group
    return Scheme("int4" if bits <= 6 else "int8" if bits <= 8 else "bf16", size)


def floats(bits: Any, group: Any, block: Any, name: str) -> Scheme | None:
    """Floating-point weights of 4, 6 or 8 bits; None where 16 say that nothing is quantised."""
    if bits == 16:
        return None
    if bits == 4:
        return _NAMED["NVFP4" if group in (16, None) else "MXFP4"]
    if bits == 6:
        return _NAMED["MXFP6"]
    if bits == 8:
        if isinstance(block, list | tuple) and len(block) == 2 and all(isinstance(b, int) and b > 0 for b in block):
            return Scheme("fp8", 1 + 4 / (block[0] * block[1]))
        return Scheme("fp8", 1 + 1 / group) if isinstance(group, int) and group > 0 else Scheme("fp8", 1.0)
    raise InputError(f"model {name!r}: {bits}-bit float weights are not known; try 4, 8 or 16 bits")


def scheme(table: Mapping[str, Any], name: str) -> Scheme | None:
    """Return the scheme of the quantised linear layers, None if the table changes nothing."""
    method = str(table.get("quant_method") or _old(table)).lower()
    if method not in METHODS:
        raise InputError(f"model {name!r}: quant_method = {method!r} is not known; {nearest(method, METHODS)}")
    for reader in (_bits_and_bytes, _group_of_weights, _by_method, _packed, _by_algorithm):
        found = reader(method, table, name)
        if found is not None:
            return None if found.bytes == 0 else found
    raise InputError(
        f"model {name!r}: quantization_config of {method!r} states no weight precision; "
        "give config_groups with weights.num_bits"
    )


_NOTHING: Final = Scheme("bf16", 0.0)


def _old(table: Mapping[str, Any]) -> str:
    """Tables from before `quant_method` was written."""
    if "load_in_4bit" in table or "load_in_8bit" in table:
        return "bitsandbytes"
    if "quant_algo" in table:
        return "modelopt"
    if "quant_type" in table and "quant_type_kwargs" in table:
        return "torchao"
    if "w_bit" in table:
        return "awq"
    return "gptq" if "bits" in table and "group_size" in table else ""


def _bits_and_bytes(method: str, table: Mapping[str, Any], _name: str) -> Scheme | None:
    """4 bits: an fp32 factor per 64 values, or, quantised again, a byte and an fp32 per 256 of those (arXiv
    2305.14314)."""
    if not method.startswith(("bitsandbytes", "bnb")):
        return None
    if table.get("load_in_8bit") or method.endswith("8bit"):
        return Scheme("int8", 1.0)
    if not (table.get("load_in_4bit") or method.endswith("4bit")):
        return _NOTHING
    if table.get("bnb_4bit_use_double_quant"):
        return Scheme("int4", 0.5 + 1 / 64 + 4 / (64 * 256))
    return Scheme("int4", 0.5 + 4 / 64)


def _group_of_weights(_method: str, table: Mapping[str, Any], name: str) -> Scheme | None:
    """compressed-tensors: groups of modules, each with bits, type and how many values share a factor."""
    groups = table.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        w = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(w, Mapping) and w.get("num_bits"):
            if str(w.get("type", "int")) == "float":
                found = floats(w["num_bits"], w.get("group_size"), w.get("block_structure"), name)
                return found or _NOTHING
            if w["num_bits"] not in (1, 2, 3, 4, 5, 6, 8, 16):
                raise InputError(f"model {name!r}: {w['num_bits']}-bit int weights are not known; try 4, 8 or 16 bits")
            return integers(w["num_bits"], w.get("group_size"), not w.get("symmetric", True), name)
    return None


def _by_method(method: str, table: Mapping[str, Any], name: str) -> Scheme | None:
    if method in ("fp8", "fbgemm_fp8", "finegrained_fp8") and (block := table.get("weight_block_size")):
        return floats(8, None, block, name)
    kind = METHODS[method]
    if kind:
        if kind in ("mxfp4", "mxfp8", "nvfp4"):
            return _NAMED[kind.upper()]
        return (
            integers(2, None, False, name) if kind == "int2" else plain(kind) if kind == "int4" else Scheme(kind, 1.0)
        )
    return None


def _packed(method: str, table: Mapping[str, Any], name: str) -> Scheme | None:
    """Methods with whole numbers in groups: how many bits, how large a group, a zero point or none."""
    if method == "hqq":
        inner = table.get("quant_config", table)
        w = inner.get("weight_quant_params", inner) if isinstance(inner, Mapping) else {}
        group = w.get("group_size") or 64
        return Scheme(*_sized(integers(w.get("nbits", 4), None, False, name), 4 / group))  # fp16 factor and zero point
    if method == "aqlm":
        size = float(table.get("in_group_size", 8)) * float(table.get("out_group_size", 1))
        bits = float(table.get("num_codebooks", 1)) * float(table.get("nbits_per_codebook", 16)) / size
        return Scheme("int4", bits / 8)
    if method == "torchao":
        return _torchao(table, name)
    if method == "quanto" or (method == "quark" and "weights" in table):
        text = str(table.get("weights"))
        digits = re.search(r"\d+", text)
        bits = int(digits[0]) if digits else 8
        return floats(bits, None, None, name) if "float" in text else integers(bits, None, False, name)
    bits = table.get("bits", table.get("w_bit", table.get("nbits")))
    if method in ("higgs", "spqr", "vptq", "exl2", "exl3", "quip") and bits is not None:
        return integers(float(bits), None, False, name)
    if bits is None:
        return None
    zeros = bool(
        table.get("zero_point", table.get("sym") is not None and (method.startswith("gptq") or not table["sym"]))
    )
    if str(table.get("data_type", "int")).startswith(("fp", "nv", "mx")):  # auto-round writes floats too
        text = str(table["data_type"]).lower()
        return _NAMED["NVFP4" if "nv" in text else "MXFP4" if bits == 4 else "FP8"]
    if method.startswith(("gptq", "awq")) and bits not in (2, 3, 4, 8):
        raise InputError(f"model {name!r}: {bits}-bit {method} weights are not known; try 2, 3, 4 or 8 bits")
    return integers(bits, table.get("group_size", table.get("q_group_size", 128)), zeros, name)


def _sized(found: Scheme, more: float) -> tuple[str, float]:
    return found.precision, found.bytes + more


def _torchao(table: Mapping[str, Any], name: str) -> Scheme | None:
    kind = table.get("quant_type")
    inner = kind.get("default", kind) if isinstance(kind, Mapping) else kind
    text = str(inner.get("_type") if isinstance(inner, Mapping) else inner)
    data = inner.get("_data", {}) if isinstance(inner, Mapping) else table.get("quant_type_kwargs", {})
    group = (data or {}).get("group_size", 128)
    low = text.lower().replace("_", "")
    if "float8" in low:
        return _NAMED["FP8"]
    if "nvfp4" in low or "mxfp4" in low:
        return _NAMED["NVFP4" if "nv" in low else "MXFP4"]
    digits = re.search(r"(?:int|uint)(\d)", low)
    if digits is None:
        raise InputError(f"model {name!r}: torchao quant_type = {text!r} is not known; try int4_weight_only")
    bits = int(digits[1])
    if "int8dynamicactivationint4" in low:
        bits = 4
    if "weightonly" in low and "intx" in low:
        bits = int(re.search(r"\d+", str((data or {}).get("weight_dtype", "int4")))[0])  # type: ignore[index]
    return integers(bits, group if bits < 8 else None, bits < 8, name)


def _by_algorithm(method: str, table: Mapping[str, Any], name: str) -> Scheme | None:
    algorithm = table.get("quant_algo")
    if isinstance(algorithm, str) and algorithm.upper() in _NAMED:
        return scheme_of_algorithm(algorithm, table.get("group_size"), name)
    text = str(algorithm or table.get("format", "")).lower()
    for word, found in (
        ("nvfp4", _NAMED["NVFP4"]), ("mxfp4", _NAMED["MXFP4"]), ("fp4", _NAMED["NVFP4"]), ("fp8", _NAMED["FP8"]),
        ("float-quantized", _NAMED["FP8"]), ("int-quantized", _NAMED["INT8"]),
    ):  # fmt: skip
        if word in text:
            return found
    if method == "quark":
        return _quark(table, name)
    return None


def _quark(table: Mapping[str, Any], name: str) -> Scheme | None:
    w = table.get("global_quant_config")
    w = w.get("weight") if isinstance(w, Mapping) else None
    if isinstance(w, list):
        w = w[-1] if w else None
    if not isinstance(w, Mapping):
        return None
    text = str(w.get("dtype", "")).lower()
    if text.startswith("fp8"):
        return _NAMED["FP8"]
    if text.startswith(("fp4", "mx")):
        return _NAMED["MXFP4"]
    digits = re.search(r"\d+", text)
    return integers(int(digits[0]), w.get("group_size"), not w.get("symmetric", True), name) if digits else None
