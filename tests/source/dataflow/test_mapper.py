"""Tests for `wattline.source.dataflow.mapper`: published answers of other mappers, and exhaustive search on small cases."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.source.dataflow.cost import by_domain, cost
from wattline.source.dataflow.count import count
from wattline.source.dataflow.einsum import Einsum
from wattline.source.dataflow.footprint import footprint
from wattline.source.dataflow.mapper import search
from wattline.source.dataflow.plan import joined
from wattline.source.dataflow.prune import undominated
from wattline.source.dataflow.tiling import Space

PERFECT = Space(imperfect=False)
module = importlib.import_module("wattline.source.dataflow.mapper")


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


@pytest.mark.parametrize(
    ("name", "einsum"),
    [
        ("zigzag-tpu", Einsum(64, 96, 128, partial=2.0)),
        ("accelforge-tpu-v4i", Einsum(256, 256, 512, partial=1.0)),
        ("a100-like", Einsum(256, 256, 256, widths=(2.0, 2.0, 2.0), precision="bf16")),
    ],
)
def test_what_the_search_adds_up_is_what_counting_says(name, einsum):
    """With tiles that divide, totals inside the search are those of the exact count, or above where one tile's
    words stay across a level; and the outlook at every step of a mapping lies below its total."""
    chip = architecture(name)
    one = module._Search(einsum, chip, PERFECT)
    for state in one.run()[:12]:
        maps = module._unrolled(state, einsum, chip)
        energy, _ = by_domain(cost(maps, count(maps)), [d.name for d in chip.domains])
        total = one.totals(state)
        assert np.all(total[:, : one.energy] >= energy * (1 - 1e-9))
        assert total[:, : one.energy].min(axis=0) == pytest.approx(energy.min(axis=0), rel=0.1)
        row, inside, p = np.arange(len(total)), state, 0
        while inside.inside is not None:
            row, inside, p = inside.back[row], inside.inside, p + 1
            least = one.outlook.floor(
                p, inside.tile[row], inside.cost[row], inside.words[row], inside.still[row], inside.price, inside.late,
                inside.credit, inside.batch,
            )  # fmt: skip
            assert np.all(one.columns.decisive(least) <= one.columns.decisive(total) * (1 + 1e-9) + 1e-18)


def test_bounds_lose_nothing():
    """The search with bounds finds the frontier of the search without."""
    einsum, chip = Einsum(128, 192, 256, partial=2.0), architecture("zigzag-tpu")
    found = footprint(einsum, chip, PERFECT).costs()
    every = module._Search(einsum, chip, PERFECT)
    maps = joined([module._unrolled(s, einsum, chip) for s in every.run()])
    costs = cost(maps, count(maps))
    everything = np.column_stack([costs.energy.sum(axis=1), costs.busy.max(axis=1)])
    ours = np.column_stack([found.energy.sum(axis=1), found.busy.max(axis=1)])
    assert ours.min(axis=0) == pytest.approx(everything.min(axis=0))
    assert len(ours) == len(undominated(everything))


def test_imperfect_tiles_are_never_worse():
    """They hold the perfect ones among them."""
    einsum = Einsum(1000, 700, 900, partial=2.0)
    perfect, _ = best("zigzag-tpu", einsum)
    imperfect, _ = best("zigzag-tpu", einsum, Space(turns=8))
    assert imperfect <= perfect * (1 + 1e-9)
