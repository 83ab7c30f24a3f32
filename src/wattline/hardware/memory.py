"""Memory: energy of an access and area of an SRAM from its capacity, width, banks and node; main memory by generation.

An SRAM's access is wires: down to the row, across to the port. Both grow with the square root of the capacity, so

    E(C, W) = (e0 + e1 sqrt(C)) (W + 64) / 128        J of one access of W bit

with e0 and e1 through the published accesses of 64 bit (`technology.sram_word`). Address, row and unselected
columns cost as much as another 64 bit, so a wide access is cheaper per bit. In a memory of several banks only one
opens; the bits then travel on to the edge of the whole. Absolute values differ between sources by a factor of
two; what a description uses first is the ratio between two capacities (`hardware.description`).
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ..core.errors import InputError, nearest
from ..core.units import parse
from .technology import cell_area, sram_word, supply, wire

# Bits that an access costs beside its data, as data bits. Estimate: some 32 of address and enable out and as much
# again for the columns a multiplexer of two leaves unread at 64 bit.
OVERHEAD: Final = 64.0

# Share of a macro's area that is cells: CACTI 7 reports 0.7 to 0.8 for single-ported arrays of 8 KiB and more.
FILL: Final = 0.7

# Absolute energies: CACTI 7 and the published tables differ by up to this factor (docs/validation-chips.md).
UNCERTAINTY: Final = 0.6


@functools.lru_cache(maxsize=65_536)
def sram_energy(capacity: float, width: float, node: str, banks: int = 1) -> float:
    """Return J/bit of reading or writing an SRAM of `capacity` bytes, `width` bytes at a time.

    >>> round(sram_energy(2**20, 8, "45nm") * 64 / 1e-12)  # the table's 100 pJ per 64 bit
    100
    """
    if capacity <= 0 or width <= 0:
        raise InputError(f"an SRAM's capacity and width must be above 0, got {capacity:g} B and {width:g} B")
    fixed, slope = sram_word(node)
    bits = 8 * width
    bank = (fixed + slope * math.sqrt(capacity / banks)) * (bits + OVERHEAD) / (64 + OVERHEAD) / bits
    if banks == 1:
        return bank
    beyond = math.sqrt(sram_area(capacity, node)) - math.sqrt(sram_area(capacity / banks, node))
    return bank + wire(supply(node)) * beyond


def sram_area(capacity: float, node: str) -> float:
    """Return the area (m2) of an SRAM macro of `capacity` bytes."""
    return 8 * capacity * cell_area(node) / FILL


@dataclass(frozen=True, slots=True)
class Generation:
    """Main memory of one generation: `energy` J/bit, `bandwidth` B/s and `capacity` B of one stack or device."""

    name: str
    title: str
    energy: float
    bandwidth: float
    capacity: float
    sources: Mapping[str, str]
    uncertainty: float


@functools.cache
def generations() -> Mapping[str, Generation]:
    """Return all generations by name, from ``data/memories.toml``."""
    text = (resources.files("wattline.hardware") / "data" / "memories.toml").read_text("utf-8")
    return {
        name: Generation(
            name,
            row["title"],
            parse(row["energy"][0], "J/B") / 8,
            parse(row["bandwidth"][0], "B/s"),
            parse(row["capacity"][0], "B"),
            {key: row[key][1] for key in ("energy", "bandwidth", "capacity")},
            parse(row["energy"][2], ""),
        )
        for name, row in tomllib.loads(text).items()
    }


def generation(name: str) -> Generation:
    """Return one generation, such as "hbm3e".

    >>> generation("hbm4").energy < generation("hbm3").energy < generation("hbm2e").energy
    True
    """
    known = generations()
    if name not in known:
        raise InputError(f"memory generation {name!r} is not known; {nearest(name, known)}")
    return known[name]
