"""A certificate: the least bytes that any mapping moves between a level and all that lies inside it.

Whatever the tiles and orders, a product of M N K multiply-accumulates computed with S words of storage inside moves at
least 2 M N K / sqrt(S) words across (Hong and Kung, STOC 1981; constant by Smith et al., arXiv 1702.02017, and
Kwasniewski et al., SC 2019), and never less than what is compulsory: inputs once, results once. With words of several
widths the narrowest is taken for all, so the bound holds and is a little low. Copies that share nothing on the way in
(no multicast, no reduction) each have only their own storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...hardware.architecture import OPERANDS, Architecture, Fanout, Level
from .cost import bits_of
from .einsum import Einsum
from .footprint import Footprint
from .plan import array_of


@dataclass(frozen=True)
class Certificate:
    """How far mappings are from the least traffic of one level.

    Attributes
    ----------
    level : its name. least : bytes no mapping can go below. found : bytes of the best mapping of the footprint.
    """

    level: str
    least: float
    found: float

    @property
    def gap(self) -> float:
        """Found over least, less one."""
        return self.found / self.least - 1.0


def least(einsum: Einsum, architecture: Architecture, level: Level) -> float:
    """Return the bytes that must cross between `level` and what lies inside it, all instances together."""
    path = architecture.path
    room = _room(path[path.index(level) + 1 :])
    width = min(einsum.width("a", outside=True), *einsum.widths, einsum.partial)
    if room <= 0 or math.isinf(room):
        return einsum.compulsory
    one = einsum.macs / einsum.batch
    return max(einsum.compulsory, einsum.batch * 2.0 * one / math.sqrt(room / width) * width)


def _room(inside: tuple[Level | Fanout, ...]) -> float:
    """Return the bytes of storage that work together: all inside, or one copy's where copies share nothing."""
    room, copies = 0.0, 1
    for part in inside:
        if isinstance(part, Level):
            room += part.capacity * copies
        elif part.multicast or part.reduce or room > 0:
            copies *= part.size  # copies further in share what this one holds
    return room


def certificates(found: Footprint) -> list[Certificate]:
    """Return the certificate of every level that keeps all operands: no traffic passes it by."""
    maps, out = found.mappings, []
    for p, part in enumerate(maps.architecture.path):
        if not isinstance(part, Level) or set(part.holds) != set(OPERANDS) or part.optional:
            continue
        inner = _downwards(found, p)
        out.append(Certificate(part.name, least(maps.einsum, maps.architecture, part), float(np.min(inner))))
    return out


def _downwards(found: Footprint, p: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(n,) bytes between level `p` and what lies inside: its own traffic, less what it exchanges with the outside."""
    read, write = bits_of(found.einsum, found.counts, p, array_of(found.mappings.architecture.path))
    total = (read + write) / 8.0
    if p == 0:
        return np.asarray(total)
    einsum, counts = found.einsum, found.counts
    outside = counts.write[:, p, 0] * einsum.width("a", outside=True) + counts.write[:, p, 1] * einsum.widths[1]
    drained = np.maximum(found.counts.final[:, p, 1], 0.0) * einsum.widths[2]
    return np.asarray(total - outside - drained)
