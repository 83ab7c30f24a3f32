"""Convolutions as products: output positions x filters x window.

Every output position needs a window of inputs; neighbouring windows overlap. As a product the window is a row of `a`,
and a word of the input appears in as many rows as windows hold it (`overlap`, on average). Levels outside the array
store and move a word once; the array reads it as often as it is used. At the edges of tiles a few words are really read
twice; that is left out, so traffic of the input is a lower estimate for tiles of few rows.
"""

from __future__ import annotations

from ...core.errors import InputError
from .einsum import Einsum


def convolution(
    channels: int, filters: int, size: tuple[int, int], kernel: tuple[int, int], *, stride: int = 1, padding: int = 0,
    images: int = 1, groups: int = 1, widths: tuple[float, float, float] = (1.0, 1.0, 1.0), partial: float = 4.0,
    precision: str = "int8",
) -> Einsum:  # fmt: skip
    """Return the product of a convolution of `images` inputs of `size` (rows, columns).

    >>> convolution(3, 96, (227, 227), (11, 11), stride=4).size
    (3025, 96, 363)
    """
    if channels % groups or filters % groups:
        raise InputError(f"groups must divide channels and filters, got {groups} for {channels} and {filters}")
    rows, columns = ((s + 2 * padding - k) // stride + 1 for s, k in zip(size, kernel, strict=True))
    if min(rows, columns) < 1:
        raise InputError(f"a window of {kernel[0]} x {kernel[1]} does not fit an input of {size[0]} x {size[1]}")
    window = (channels // groups) * kernel[0] * kernel[1]
    # Input rows and columns that some window covers; padding is not stored.
    seen = [min(s, (n - 1) * stride + k) for s, n, k in zip(size, (rows, columns), kernel, strict=True)]
    words = (channels // groups) * seen[0] * seen[1]
    return Einsum(
        images * rows * columns, filters // groups, window, groups, widths, partial, precision,
        overlap=max(1.0, rows * columns * window / words),
    )  # fmt: skip
