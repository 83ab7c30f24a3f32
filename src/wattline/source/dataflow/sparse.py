"""Products with zeros: the product as it is stored, on the chip as it works through it.

The search itself is dense: a coded operand is narrower in every level, and arithmetic that gates or skips zeros is
cheaper or faster (`hardware.sparsity`). Values are taken as independent; a level must hold the mean size of a tile.
"""

from __future__ import annotations

from dataclasses import replace

from ...hardware.architecture import Architecture
from ...hardware.sparsity import Density, sparse, stored
from .einsum import Einsum


def with_zeros(einsum: Einsum, architecture: Architecture, density: Density) -> tuple[Einsum, Architecture]:
    """Return the product and the chip to search, where a and b have the given density."""
    a, b, c = einsum.widths
    widths = (stored(architecture, "a", a, density), stored(architecture, "b", b, density), c)
    return replace(einsum, widths=widths), sparse(architecture, density)
