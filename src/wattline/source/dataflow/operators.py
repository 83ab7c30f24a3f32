"""Operators as products: what a model asks for, in the form the search takes.

Attention is two products that hand scores to each other on the chip (fused), or through main memory. A mixture's
grouped product is one product per active expert, of its mean number of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...core.errors import InputError
from ...hardware.architecture import Architecture
from ...workload.operator import Attention, Gemm, GroupedGemm, Operator
from ..roofline.shapes import width
from .einsum import Einsum

# Where a chip has no arithmetic of a format it runs in one of these, as in `source.silicon`.
_WIDER = {
    "fp16": ("bf16",), "bf16": ("fp16",), "int8": ("fp8",), "fp8": ("bf16", "fp16", "int8"),
    "fp4": ("fp8", "bf16", "fp16"), "tf32": ("fp32", "bf16"), "fp32": ("tf32", "bf16"), "int4": ("int8", "bf16"),
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A product of an operator, done `share` times over (below one where a mask skips part of it)."""

    einsum: Einsum
    share: float = 1.0


def precision_on(architecture: Architecture, precision: str) -> str:
    """Return the format in which `architecture` runs work stated in `precision`."""
    for candidate in (precision, *_WIDER.get(precision, ())):
        if candidate in architecture.compute.macs_per_cycle:
            return candidate
    known = ", ".join(architecture.compute.macs_per_cycle)
    raise InputError(f"{architecture.name} has no arithmetic for {precision}; it has {known}")


def products(operator: Operator, architecture: Architecture, fused: bool = True) -> list[Product]:
    """Return the products of a Gemm, GroupedGemm or Attention (of one instance, `repeat` left out)."""
    precision = precision_on(architecture, operator.precision)
    partial = architecture.compute.accumulator.get(precision, 4.0)
    if isinstance(operator, Gemm):
        widths = (width(operator.a), width(operator.b), width(operator.c))
        einsum = Einsum(
            _whole(operator.m), _whole(operator.n), _whole(operator.k), _whole(operator.batch), widths,
            max(partial, widths[2]), precision,
        )  # fmt: skip
        return [Product(einsum)]
    if isinstance(operator, GroupedGemm):
        experts = max(1.0, operator.active)
        widths = (width(operator.a), width(operator.b), width(operator.c))
        einsum = Einsum(
            _whole(operator.rows / experts), _whole(operator.n), _whole(operator.k), _whole(experts), widths,
            max(partial, widths[2]), precision,
        )  # fmt: skip
        return [Product(einsum)]
    if isinstance(operator, Attention):
        return _attention(operator, precision, partial, fused)
    raise InputError(f"operator {operator.name!r} is a {type(operator).__name__}, which is no product")


def _attention(operator: Attention, precision: str, partial: float, fused: bool) -> list[Product]:
    group = max(1.0, operator.heads / operator.kv_heads)
    rows, batch = _whole(operator.query * group), _whole(operator.batch * operator.kv_heads)
    seen = _whole(min(operator.context, operator.window + operator.query) if operator.window else operator.context)
    masked = operator.pairs / (operator.query * seen)
    # A backward pass redoes the scores and makes four products more: five for two.
    share = masked * (2.5 if operator.phase == "backward" else 1.0)
    kv, q = width(operator.kv), 2.0
    score = Einsum(
        rows, seen, _whole(operator.head_dim), batch, (q, kv, q), max(partial, q), precision, ("c",) if fused else ()
    )
    # Keys and values stored once are read once: the second product finds them on the chip.
    resident = (("a", "b") if operator.shared_kv else ("a",)) if fused else ()
    mixed = Einsum(rows, _whole(operator.value_dim), seen, batch, (q, kv, q), max(partial, q), precision, resident)
    return [Product(score, share), Product(mixed, share)]


def _whole(value: float) -> int:
    return max(1, math.ceil(value - 1e-9))
