"""Tests for `wattline.source.dataflow.search`: published answers of other mappers, and exhaustive search on small cases."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.source.dataflow.cost import cost
from wattline.source.dataflow.count import count
from wattline.source.dataflow.einsum import Einsum
from wattline.source.dataflow.footprint import footprint
from wattline.source.dataflow.search import search
from wattline.source.dataflow.tiling import Space

PERFECT = Space(imperfect=False)


def best(name, einsum, space=PERFECT):
    """Return (J, s) of the mapping of least energy-delay product."""
    costs = footprint(einsum, architecture(name), space).costs()
    energy, time = costs.energy.sum(axis=1), costs.busy.max(axis=1)
    i = int(np.argmin(energy * time))
    return energy[i], time[i]


def test_a_large_product_on_zigzags_array_beats_its_search():
    """4096^3 int8: ZigZag's own mappers reach 36.0 mJ (SALSA) and 42.8 mJ (LOMA) with perfect tiles."""
    energy, _ = best("zigzag-tpu", Einsum(4096, 4096, 4096, partial=2.0))
    assert energy == pytest.approx(35.11e-3, rel=1e-3)


def test_a_matrix_vector_product_costs_what_zigzag_says():
    """1 x 4096 x 14336: ZigZag finds 5.1587 mJ in 7340635 cycles."""
    energy, time = best("zigzag-tpu", Einsum(1, 4096, 14336, partial=2.0))
    assert energy * time == pytest.approx(5.158652e-3 * 7340635e-9, rel=0.01)


def test_a_large_product_on_accelforges_tpu_costs_what_accelforge_says():
    """4096^3 int8 on tpu_v4i: AccelForge finds 14.23 mJ in 0.9986 ms."""
    energy, time = best("accelforge-tpu-v4i", Einsum(4096, 4096, 4096, partial=1.0))
    assert energy == pytest.approx(14.23e-3, rel=0.03)
    assert time == pytest.approx(0.9986e-3, rel=0.03)


def test_survivors_are_remembered_and_costed_anew():
    """Another voltage or energy asks for no new search when mappings are kept for every constant."""
    chip = architecture("zigzag-tpu")
    wide = Space(imperfect=False, wide=True)
    einsum = Einsum(256, 256, 256, partial=2.0)
    first = footprint(einsum, chip, wide)
    cheaper = chip.with_({"level.dram.read_energy": "5 pJ/bit"})
    assert footprint(einsum, cheaper, wide) is first
    found = first.costs(cheaper).energy.sum(axis=1).min()
    assert found == pytest.approx(footprint(einsum, cheaper, PERFECT).costs().energy.sum(axis=1).min())


def test_arithmetic_that_a_chip_lacks_is_named():
    """The error says what the chip has."""
    with pytest.raises(InputError, match="has no arithmetic for fp64; it has int8"):
        search(Einsum(8, 8, 8, precision="fp64"), architecture("zigzag-tpu"))


def test_every_survivor_costs_what_counting_says():
    """With tiles that divide, the totals inside the search are those of the exact count."""
    found = search(Einsum(64, 96, 128, partial=2.0), architecture("zigzag-tpu"), PERFECT)
    costs = cost(found.mappings, count(found.mappings))
    assert len(found.mappings) > 0
    assert found.covered >= found.evaluated / 10
    assert np.all(costs.energy > 0)
