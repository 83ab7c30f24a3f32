"""The columns that decide whether a mapping is kept: joules of every domain (or part), busy seconds of every port."""

from __future__ import annotations

import functools

import numpy as np

from ...hardware.architecture import OPERANDS, Architecture, Compute, Fanout, Level
from .einsum import Einsum
from .plan import Floats, array_of


class Columns:
    """Names and prices of the columns of one product on one architecture.

    `energy` energy columns come first, then the ports of levels with a bandwidth, then the arithmetic.
    """

    def __init__(self, einsum: Einsum, architecture: Architecture, wide: bool) -> None:
        self.einsum, self.architecture, self.wide = einsum, architecture, wide
        parts = [part.name for part in architecture.path] + ["arithmetic"]
        names = parts if wide else [d.name for d in architecture.domains]
        self.energy = len(names)
        self.place = {name: i for i, name in enumerate(names)}
        domains = []
        for part in architecture.path:
            if isinstance(part, Level):
                for port, rate in ports(part):
                    if np.isfinite(rate):
                        self.place[port] = len(self.place)
                        domains.append(part.domain)
        self.array = array_of(architecture.path)
        self.compute = self.place["compute"] = len(self.place)
        domains.append(architecture.compute.domain)
        known = [d.name for d in architecture.domains]
        self._domain_of_port = [known.index(d) for d in domains]

    def vector(self) -> Floats:
        """Return zero in every column."""
        return np.zeros(len(self.place))

    def of(self, part: Level | Fanout | Compute) -> int:
        """Return the energy column of a part: its own, or its domain's."""
        if not self.wide:
            return self.place[part.domain]
        return self.place["arithmetic" if isinstance(part, Compute) else part.name]

    def access(self, level: Level, read: float, write: float) -> Floats:
        """Return the cost of `read` bytes read and `write` bytes written at one instance."""
        out = self.vector()
        out[self.of(level)] = 8.0 * (read * level.read_energy + write * level.write_energy)
        for port, rate in ports(level):
            if np.isfinite(rate):
                moved = read + write if level.shared_port else (write if port.endswith(".write") else read)
                out[self.place[port]] = moved / rate
        return out

    def width(self, x: int, p: int | None = None, sends: bool = False) -> float:
        """Return the bytes of a moving word of operand `x`, held at level `p` or sent inwards from there.

        Sums move at the width of partial sums. What overlaps is held and moved once outside the array, but what the
        last level outside sends into it is sent as often as it is used.
        """
        outside = p is not None and (p < self.array if sends else p <= self.array)
        return self.einsum.partial if x == 2 else self.einsum.width(OPERANDS[x], outside)

    def decisive(self, values: Floats) -> Floats:
        """Return the columns that decide: as they are, or with the ports of each domain replaced by the busiest."""
        if self.wide or np.isfinite(self.architecture.overlap):  # every port counts
            return values
        worst = []
        for domain in sorted(set(self._domain_of_port)):
            mine = [values[:, self.energy + i] for i, d in enumerate(self._domain_of_port) if d == domain]
            worst.append(functools.reduce(np.maximum, mine))
        return np.column_stack([values[:, : self.energy], *worst])


def ports(level: Level) -> list[tuple[str, float]]:
    """Return the ports of a level: name and bytes/s."""
    name = f"memory.{level.name}"
    if level.shared_port:
        return [(name, level.read_bandwidth)]
    return [(f"{name}.read", level.read_bandwidth), (f"{name}.write", level.write_bandwidth)]
