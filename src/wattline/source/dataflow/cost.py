"""What counted mappings cost: joules by component, and seconds that each part is busy, at the reference point.

Energy is words times bits times joules per bit; a part's busy time is what its busiest port moves over its rate,
all instances at work. Nothing here depends on a clock or a voltage: a part's domain decides later (`cross`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...hardware.architecture import OPERANDS, Architecture, Fanout, Level
from .count import Counts
from .einsum import Einsum
from .plan import Floats, Mappings, array_of


@dataclass(frozen=True)
class Costs:
    """Costs of n mappings (or of n pieces of work): columns named by part.

    Attributes
    ----------
    parts : names of the energy columns, and `energy_domain` the domain of each.
    energy : (n, parts) J at the reference voltages.
    ports : names of the busy columns, and `busy_domain` the domain of each.
    busy : (n, ports) s at the reference clocks.
    """

    parts: tuple[str, ...]
    energy_domain: tuple[str, ...]
    energy: Floats
    ports: tuple[str, ...]
    busy_domain: tuple[str, ...]
    busy: Floats

    def take(self, pick: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Costs:
        """Return the rows chosen."""
        return Costs(self.parts, self.energy_domain, self.energy[pick], self.ports, self.busy_domain, self.busy[pick])


def mac_energy(architecture: Architecture, precision: str) -> float:
    """Return J of one multiply-accumulate."""
    return architecture.compute.energy[precision]


def issue_time(architecture: Architecture, precision: str) -> float:
    """Return seconds of one issue of the arithmetic at the reference clock."""
    compute = architecture.compute
    m, n, k = compute.granule
    clock = architecture.domain(compute.domain).reference_clock
    return m * n * k / (compute.macs_per_cycle[precision] * clock)


def cost(maps: Mappings, counts: Counts) -> Costs:
    """Return the costs of counted mappings."""
    architecture, einsum = maps.architecture, maps.einsum
    compute, array = architecture.compute, array_of(architecture.path)
    parts, domains, energy = [f"compute.{einsum.precision}"], [compute.domain], []
    energy.append(np.full(len(maps), einsum.macs * mac_energy(architecture, einsum.precision)))
    clock = architecture.domain(compute.domain).reference_clock
    time = counts.steps * issue_time(architecture, einsum.precision) + counts.tiles * compute.pipeline / clock
    ports, port_domains, busy = ["compute"], [compute.domain], [time]
    for p, part in enumerate(architecture.path):
        if isinstance(part, Fanout):
            words = counts.carried[:, p]
            bits = 8.0 * (
                words[:, 0] * einsum.widths[0] + words[:, 1] * einsum.widths[1] + words[:, 2] * einsum.partial
            )
            joules, columns = bits * part.energy, []
        else:
            read, write = bits_of(einsum, counts, p, array)
            joules = read * part.read_energy + write * part.write_energy
            columns = port_times(part, read / counts.used[:, p], write / counts.used[:, p])
        if np.any(joules):
            parts.append(f"{'network' if isinstance(part, Fanout) else 'memory'}.{part.name}")
            domains.append(part.domain)
            energy.append(joules)
        for name, seconds in columns:
            ports.append(name)
            port_domains.append(part.domain)
            busy.append(seconds)
    return Costs(
        tuple(parts),
        tuple(domains),
        np.stack(energy, axis=1),
        tuple(ports),
        tuple(port_domains),
        np.stack(busy, axis=1),
    )


def bits_of(einsum: Einsum, counts: Counts, p: int, array: int) -> tuple[Floats, Floats]:
    """Return (n,) bits read from and written to level `p`; `array` the last part outside the array."""
    totals = []
    for which, words in enumerate((counts.read[:, p], counts.write[:, p])):
        final = counts.final[:, p, 1 - which]
        here = [0.0 if p == 0 and x in einsum.resident else 1.0 for x in OPERANDS]
        wide = einsum.width("a", outside=p <= array if which else p < array)
        inputs = here[0] * words[:, 0] * wide + here[1] * words[:, 1] * einsum.widths[1]
        sums = (words[:, 2] - final) * einsum.partial + final * einsum.widths[2]
        totals.append(8.0 * (inputs + here[2] * sums))
    return totals[0], totals[1]


def port_times(level: Level, read: Floats, write: Floats) -> list[tuple[str, Floats]]:
    """Return busy seconds of a level's ports for bits read and written by one instance."""
    name = f"memory.{level.name}"
    if level.shared_port:
        rate = 8.0 * level.read_bandwidth
        return [] if np.isinf(rate) else [(name, (read + write) / rate)]
    out = []
    for suffix, bits, rate in (("read", read, level.read_bandwidth), ("write", write, level.write_bandwidth)):
        if not np.isinf(rate):
            out.append((f"{name}.{suffix}", bits / (8.0 * rate)))
    return out


def by_domain(costs: Costs, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return (n, domains) joules, and seconds of the busiest port, of each domain."""
    n = len(costs.energy)
    energy, busy = np.zeros((n, len(names))), np.zeros((n, len(names)))
    for column, name in enumerate(costs.energy_domain):
        energy[:, names.index(name)] += costs.energy[:, column]
    for column, name in enumerate(costs.busy_domain):
        at = names.index(name)
        busy[:, at] = np.maximum(busy[:, at], costs.busy[:, column])
    return energy, busy
