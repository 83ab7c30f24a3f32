"""Zeros: what a chip saves on them in arithmetic, and how few bits it stores them in.

Three ways, each stated by the description. Gating sees a zero operand and keeps the arithmetic still: energy is
saved, time is not. Skipping goes on to the next pair without one: both are saved, as far as the work stays evenly
spread. A structured pattern (N of every M values of the weights) is skipped at a fixed rate, with no imbalance.
Operands with zeros may be stored coded, in every level they pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ..core.errors import InputError, nearest
from .architecture import OPERANDS, Architecture, Fanout, Level, Sparsity


@dataclass(frozen=True)
class Density:
    """Share of values that are not zero, of activations `a` and weights `b`; `structured` where b keeps the pattern."""

    a: float = 1.0
    b: float = 1.0
    structured: bool = False

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise InputError(f"density of {name} must lie above 0 and up to 1, got {value:g}")

    def of(self, operand: str) -> float:
        """Return the density of an operand; results are dense."""
        return {"a": self.a, "b": self.b}.get(operand, 1.0)


def bitmask(density: float, width: float) -> float:
    """Return bits per value where a bit says which values are there."""
    return density * width + 1.0


def run_length(density: float, width: float, run: int = 5) -> float:
    """Return bits per value of (run of zeros, value) pairs with `run` bits for the run, values independent.

    A pair holds up to 2^run - 1 zeros before its value; a longer run takes pairs whose value is zero.
    """
    zeros = 1.0 - density
    pairs = density / (1.0 - float(zeros ** (2**run)))
    return pairs * (width + run)


def compressed_rows(density: float, width: float, row: int = 256) -> float:
    """Return bits per value of compressed sparse rows of `row` values: index and value of each, a pointer per row."""
    index = math.ceil(math.log2(row))
    return density * (width + index) + (index + 1) / row


CODECS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "bitmask": bitmask, "rlc": run_length, "csr": compressed_rows,
}  # fmt: skip


def pattern(text: str) -> tuple[int, int]:
    """Return (N, M) of a pattern like "2:4".

    >>> pattern("2:4")
    (2, 4)
    """
    kept, _, of = text.partition(":")
    if not (kept.isdigit() and of.isdigit() and 0 < int(kept) < int(of)):
        raise InputError(f'a structured pattern reads "N:M" with N below M, such as "2:4", got {text!r}')
    return int(kept), int(of)


def stored(chip: Architecture, operand: str, width: float, density: Density) -> float:
    """Return bytes that a value of `width` bytes takes in memory on this chip: coded where that is smaller."""
    rule = chip.sparsity
    if operand == "b" and density.structured and rule.structured:
        kept, of = pattern(rule.structured)
        return kept / of * (width + math.ceil(math.log2(of)) / 8)
    share = density.of(operand)
    if operand not in rule.stored or not rule.codec or share >= 1.0:
        return width
    return min(width, CODECS[rule.codec](share, 8 * width) / 8)


def sparse(chip: Architecture, density: Density) -> Architecture:
    """Return the chip as it works through operands of that density: arithmetic that saves energy, time or both.

    Levels that hold only what a gated operation would read or write save with it, where they lie inside all
    fan-outs: an operation that is not done touches neither weights nor sums.
    """
    rule = chip.sparsity
    energy, speed = 1.0, 1.0
    if density.structured and rule.structured:
        kept, of = pattern(rule.structured)
        energy, speed = kept / of, of / kept
    elif density.structured:
        density = replace(density, structured=False)
    live = math.prod(density.of(o) for o in rule.noticed if not (o == "b" and density.structured))
    if rule.zeros:
        energy *= live
    if rule.zeros == "skip":
        speed *= 1.0 + rule.balance * (1.0 / live - 1.0)
    if energy == 1.0 and speed == 1.0:
        return chip
    compute = replace(
        chip.compute,
        energy={p: e * energy for p, e in chip.compute.energy.items()},
        macs_per_cycle={p: r * speed for p, r in chip.compute.macs_per_cycle.items()},
    )
    return replace(chip, compute=compute, path=_gated(chip, live if rule.zeros else 1.0), stated={})


def _gated(chip: Architecture, live: float) -> tuple[Level | Fanout, ...]:
    """Return the path with the innermost levels that idle with the arithmetic at their lower energy."""
    noticed = set(chip.sparsity.noticed)
    path = list(chip.path)
    for place in range(len(path) - 1, -1, -1):
        part = path[place]
        if not isinstance(part, Level):
            break
        if not noticed & set(part.holds):
            path[place] = replace(part, read_energy=part.read_energy * live, write_energy=part.write_energy * live)
    return tuple(path)


def checked(rule: Sparsity) -> str | None:
    """Return what is wrong with a rule as "key message", or None."""
    if rule.zeros not in ("", "gate", "skip"):
        return f"zeros is {rule.zeros!r}; {nearest(rule.zeros, ('gate', 'skip'))}"
    for key, words in (("noticed", rule.noticed), ("stored", rule.stored)):
        for word in words:
            if word not in OPERANDS[:2]:
                return f"{key} names {word!r}; known: a, b"
    if rule.codec and rule.codec not in CODECS:
        return f"codec is {rule.codec!r}; {nearest(rule.codec, CODECS)}"
    if rule.structured:
        try:
            pattern(rule.structured)
        except InputError as error:
            return f"structured cannot be read: {error}"
    return None
