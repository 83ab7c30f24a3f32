"""Chains of products that hand their results to each other on the chip.

Rows are taken in blocks: one block goes through every product before the next begins, and what one product hands to
the next, block x n words, has to fit the outermost level on the chip that can hold it, beside what comes in. Weights
are read again for every block, so fusing pays where the intermediate results saved outweigh them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...core.errors import CapacityError, InputError
from ...hardware.architecture import Architecture, Level
from .einsum import Einsum
from .operators import Product


@dataclass(frozen=True)
class Chain:
    """A fused chain: products of one block of rows, each done `share` times.

    `block` rows at a time; `spared` bytes of intermediate results that do not go through main memory.
    """

    products: tuple[Product, ...]
    block: int
    spared: float


def chain(products: Sequence[Einsum], architecture: Architecture) -> Chain:
    """Return the chain of `products` in which c of each is a of the next, in the largest blocks of rows that fit."""
    for one, two in itertools.pairwise(products):
        if (one.m, one.n, one.batch) != (two.m, two.k, two.batch):
            raise InputError(
                f"c of one product must be a of the next: {one.m} x {one.n} ({one.batch} times) is not "
                f"{two.m} x {two.k} ({two.batch} times)"
            )
    home = _home(architecture)
    room = home.capacity * architecture.copies(home) / (2.0 if home.double_buffered else 1.0)
    # While one product runs, its input and its result are both there.
    row = max(p.k * p.widths[0] + p.n * max(p.widths[2], p.partial) for p in products)
    block = min(products[0].m, math.floor(room / row))
    if block < 1:
        raise CapacityError(
            f"one row of the chain takes {row:g} B and {home.name} of {architecture.name} holds {room:g} B; "
            "do not fuse it, or make the level larger"
        )
    blocks = -(-products[0].m // block)
    block = -(-products[0].m // blocks)
    made = []
    for i, product in enumerate(products):
        resident = (*(("a",) if i else ()), *(("c",) if i + 1 < len(products) else ()))
        made.append(Product(replace(product, m=block, resident=resident), products[0].m / block))
    spared = sum(2.0 * p.words("c") * p.widths[2] for p in products[:-1])
    return Chain(tuple(made), block, spared)


def _home(architecture: Architecture) -> Level:
    """Return the outermost level on the chip that can hold both inputs and results."""
    for level in architecture.levels[1:]:
        if {"a", "c"} <= set(level.holds):
            return level
    raise InputError(
        f"no level of {architecture.name} on the chip holds both a and c, so nothing can be handed on there"
    )
