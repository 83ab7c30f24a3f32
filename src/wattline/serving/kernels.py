"""How an engine's own products differ from the source's: slopes, and seconds a product, by chip, engine and format.

    (chip's architecture, engine, operator, scheme of the weights) -> slope, seconds

Numbers lie in ``data/kernels.toml``, fitted to public kernel tables and to no serving row: an engine that no
serving row was seen of has its kernels all the same. An engine without a table of its own runs those of vLLM on
that chip (SGLang shares its Triton, DeepGEMM and FlashInfer kernels), a chip without one those of Hopper.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from ..workload.operator import Gemm, GroupedGemm, Operator
from .profile import padded

# Tokens up to which the slope of few holds, and from which that of many does; in between on their logarithm.
_FEW, _MANY = 512.0, 2048.0
_NEAREST: Final = ("vllm", "hopper")
# Architectures of chips that these engines run on: others have compilers of their own.
_GPUS: Final = ("volta", "turing", "ampere", "ada", "hopper", "blackwell", "cdna2", "cdna3", "cdna4")
# Formats that run on the kernels of another where no table has them. 4-bit floats widened to 16 bits on the way in run
# on Triton's kernels on Hopper, as experts in 16 bits do (vLLM, quantization/mxfp4.py: Marlin only without them).
_ALIKE: Final[Mapping[str, tuple[str, ...]]] = {"w4a8": ("fp4", "int4"), "fp4": ("w4a8", "int4")}


@functools.cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((resources.files(__package__) / "data" / "kernels.toml").read_text("utf-8"))


def format_of(o: Gemm | GroupedGemm, scheme: str) -> str:
    """Return the name of a product's format: "bf16", "fp8", "fp8_block", "int4", or of 4-bit floats "fp4" (both
    operands), "w4a8" and "w4a16" (the wider one's bits)."""
    if o.b in ("fp8", "int8"):
        return "fp8_block" if scheme == "block" else "fp8"
    if o.b == "fp4":
        return {"fp4": "fp4", "fp8": "w4a8"}.get(o.precision, "w4a16")
    return "int4" if o.b == "int4" else "bf16"


def of(chip: str, engine: str, o: Operator, scheme: str) -> tuple[float, float]:
    """Return the slope and the seconds a product besides of an operator; (1, 0) where no table speaks of it."""
    if not isinstance(o, Gemm | GroupedGemm) or padded(o) or not chip.startswith(_GPUS):
        return 1.0, 0.0
    few, many, seconds = _found(chip, engine, o.kind, format_of(o, scheme))
    tokens = o.tokens if isinstance(o, GroupedGemm) else o.m
    part = min(max(math.log(max(tokens, 1.0) / _FEW) / math.log(_MANY / _FEW), 0.0), 1.0)
    return few + part * (many - few), seconds


@functools.cache
def _found(chip: str, engine: str, kind: str, name: str) -> tuple[float, float, float]:
    table = _table()
    alike = (name, *_ALIKE.get(name, ()))
    if name == "w4a16" and chip == "blackwell":  # FlashInfer's kernels widen 4-bit weights in the units
        alike = ("w4a8",)
    for place in (chip, _NEAREST[1]):
        for who in dict.fromkeys((engine, _NEAREST[0], *table.get(place, {}))):
            known = table.get(place, {}).get(who, {}).get(kind, {})
            for each in alike:
                if each in known:
                    return float(known[each][0]), float(known[each][1]), float(known[each][2])
    return 1.0, 1.0, 0.0
