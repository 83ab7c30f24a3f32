"""What a product asks of a chip, once searched and kept: survivors, their counts, and costs under any constants.

A search depends on the chip's structure (capacities, copies, what may be kept where) and only in its choices on its
constants. So footprints are remembered, and asked again with other energies, bandwidths, voltages or clocks they
are costed anew from their counts, in microseconds. With `Space.wide` the survivors are those that nothing beats in
the joules of each part on its own, so no change of energies per part or of bandwidths makes a lost one best.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ...hardware.architecture import Architecture, Fanout, Level
from .cost import Costs, by_domain, cost
from .count import Counts, count
from .einsum import Einsum
from .mapper import search
from .plan import Floats, Mappings
from .prune import undominated
from .tiling import Space

_REMEMBERED = 4096


@dataclass(frozen=True, eq=False)
class Footprint:
    """The mappings of one product that are worth knowing, and what they move.

    Attributes
    ----------
    evaluated, covered : partial mappings costed in the search, and complete ones they stand for.
    """

    mappings: Mappings
    counts: Counts
    evaluated: int
    covered: float

    @property
    def einsum(self) -> Einsum:
        """The product."""
        return self.mappings.einsum

    def costs(self, architecture: Architecture | None = None) -> Costs:
        """Return costs under the constants of `architecture` (one of the same structure)."""
        if architecture is None or architecture is self.mappings.architecture:
            return self._own
        return cost(replace(self.mappings, architecture=architecture), self.counts)

    @functools.cached_property
    def _own(self) -> Costs:
        return cost(self.mappings, self.counts)


def footprint(einsum: Einsum, architecture: Architecture, space: Space | None = None, chip: object = None) -> Footprint:
    """Return the footprint of a product, searched once per structure and shape.

    `chip`: `structure` of the architecture, where the caller has it at hand.
    """
    space = space or Space()
    key = (chip or structure(architecture, space.wide), einsum, space)
    found = _known.get(key)
    if found is None:
        found = _found(einsum, architecture, space)
        _known[key] = found
        if len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    else:
        _known.move_to_end(key)
    return found


_known: OrderedDict[object, Footprint] = OrderedDict()


def footprints(einsums: Iterable[Einsum], architecture: Architecture, space: Space | None = None) -> list[Footprint]:
    """Return the footprint of each product."""
    space = space or Space()
    chip = structure(architecture, space.wide)
    return [footprint(e, architecture, space, chip) for e in einsums]


def _found(einsum: Einsum, architecture: Architecture, space: Space) -> Footprint:
    outcome = search(einsum, architecture, space)
    counts = count(outcome.mappings)
    costs = cost(outcome.mappings, counts)
    pick = undominated(_columns(costs, architecture, space.wide))
    return Footprint(outcome.mappings.take(pick), counts.take(pick), outcome.evaluated, outcome.covered)


def _columns(costs: Costs, architecture: Architecture, wide: bool) -> Floats:
    if wide:
        return np.concatenate([costs.energy, costs.busy], axis=1)
    energy, busy = by_domain(costs, [d.name for d in architecture.domains])
    if math.isfinite(architecture.overlap):  # every port counts, not only the busiest of a domain
        busy = costs.busy
    return np.concatenate([energy, busy], axis=1)


def structure(architecture: Architecture, wide: bool = False) -> object:
    """Return what a search depends on, as a key; with `wide` not energies, nor bandwidths beyond being finite."""
    compute = architecture.compute
    parts: list[object] = []
    for part in architecture.path:
        bare: Level | Fanout
        if isinstance(part, Level):
            bare = replace(part, area=0.0, leakage=0.0, banks=1, width=0.0)
            if not parts:  # main memory holds every product whole
                bare = replace(bare, capacity=math.inf)
            if wide:
                rates = [math.inf if math.isinf(r) else 1.0 for r in (part.read_bandwidth, part.write_bandwidth)]
                bare = replace(
                    bare, read_energy=0.0, write_energy=0.0, read_bandwidth=rates[0], write_bandwidth=rates[1]
                )
        else:
            bare = replace(part, energy=0.0) if wide else part
        parts.append(bare)
    rates_of = tuple(sorted(compute.macs_per_cycle.items()))
    issue = (compute.granule, compute.latched, rates_of, compute.pipeline, compute.domain)
    constants = (
        ()
        if wide
        else (tuple(sorted(compute.energy.items())), tuple((d.name, d.reference_clock) for d in architecture.domains))
    )
    return (tuple(parts), issue, constants, math.isfinite(architecture.overlap))
