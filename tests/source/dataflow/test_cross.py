"""Tests for `wattline.source.dataflow.cross`: footprints at clocks and voltages of every domain."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.source.dataflow import Einsum, Space, cross, footprint, frontier, settings

CHIP = architecture("a100-like")
FOUND = footprint(
    Einsum(512, 512, 512, widths=(2.0, 2.0, 2.0), precision="bf16"), CHIP, Space(imperfect=False, step=2.0, wide=True)
)


def test_a_frontier_knows_mapping_clocks_limit_and_where_its_joules_go():
    """Components sum to the energy of every point, waiting among them."""
    front = frontier(FOUND, CHIP)
    for point in (front.fastest, front.least_energy):
        assert sum(point.parts.values()) == pytest.approx(point.total)
    knobs = front.plan(0)[0].knobs
    assert {"mapping", "limit", "core_clock_hz", "memory_clock_hz"} <= set(knobs)
    assert knobs["limit"].startswith(("compute", "memory."))


def test_at_the_reference_point_costs_are_those_of_the_footprint():
    """Energies are stated there and times follow from the busiest port."""
    point = {d.name: [d.reference_clock] for d in CHIP.domains if not d.follows}
    crossed = cross(FOUND.costs(CHIP), settings(CHIP, point))
    costs = FOUND.costs()
    assert crossed.switched[:, 0] == pytest.approx(costs.energy.sum(axis=1))
    assert np.all(crossed.time[:, 0] >= costs.busy.max(axis=1) * (1 - 1e-12))


def test_another_energy_per_bit_moves_only_its_part():
    """Main memory at half the energy halves its part and nothing else."""
    cheaper = CHIP.with_({"level.hbm.read_energy": "2.75 pJ/bit", "level.hbm.write_energy": "2.75 pJ/bit"})
    before, after = FOUND.costs(CHIP), FOUND.costs(cheaper)
    at = before.parts.index("memory.hbm")
    assert after.energy[:, at] == pytest.approx(before.energy[:, at] / 2)
    assert np.delete(after.energy, at, axis=1) == pytest.approx(np.delete(before.energy, at, axis=1))


def test_an_unknown_domain_is_named():
    """The error offers the nearest."""
    with pytest.raises(InputError, match="has no domain 'cores'"):
        settings(CHIP, {"cores": [1e9]})
