"""Tests for `wattline.source.dataflow` on shipped chips: several domains, partial overlap, likeness to the roofline."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.hardware import catalog
from wattline.hardware.architectures import architecture
from wattline.hardware.sparsity import Density
from wattline.source.base import Device
from wattline.source.dataflow import Dataflow, Einsum, Space, cross, footprint, settings, with_zeros
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Gemm

SMALL = Einsum(256, 256, 256, widths=(2.0, 2.0, 2.0), precision="bf16")
FEW = Space(imperfect=False)


def device(name: str) -> Device:
    chip = catalog.chip(name)
    return Device(chip, catalog.default_node(chip))


@pytest.mark.parametrize(("like", "sheet"), [("a100-like", "a100-sxm-80gb"), ("h100-like", "h100-sxm")])
def test_large_products_take_the_rooflines_time_and_energy(like: str, sheet: str) -> None:
    """Within 20 % at the reference clock and at three quarters of it (bench/likeness.py has more shapes)."""
    product = [Gemm(name="product", m=4096, n=4096, k=4096)]
    clocks = np.array([1.0, 0.75]) * catalog.chip(sheet)["clock.reference"]
    ours = Dataflow(like).points(product, device(like), clocks)
    theirs = Roofline().points(product, device(sheet), clocks)
    assert ours.time == pytest.approx(theirs.time, rel=0.2)
    assert ours.energy == pytest.approx(theirs.energy, rel=0.2)


def test_standing_power_of_several_domains_is_their_sum() -> None:
    """Ungated, every domain leaks for the whole time; fully gated, each only while it is busy."""
    chip = architecture("a100-like").with_({"domain.memory.leakage": "5 W", "domain.core.gated": 0.0})
    points = settings(chip)
    found = cross(footprint(SMALL, chip, FEW).costs(chip), points)
    assert found.leakage == pytest.approx(found.time * points.leakage.sum(axis=1))
    gated = chip.with_({"domain.core.gated": 1.0, "domain.memory.gated": 1.0})
    less = cross(footprint(SMALL, gated, FEW).costs(gated), settings(gated))
    assert np.all(less.leakage <= found.leakage * (1 + 1e-12))
    assert np.all(less.leakage < 0.999 * found.leakage)


def test_partial_overlap_takes_longer_than_the_longest_part_and_less_than_the_sum() -> None:
    """Exponent 1 adds the parts up; a large one leaves the longest."""
    chip = architecture("a100-like")
    costs = footprint(SMALL, chip, FEW).costs(chip)
    longest = cross(costs, settings(chip)).time
    times = [cross(costs, settings(chip.with_({"overlap.exponent": p}))).time for p in (1.0, 2.6, 500.0)]
    assert np.all(times[0] >= times[1])
    assert np.all(times[1] >= longest)
    assert times[2] == pytest.approx(longest, rel=0.01)
    slow = settings(chip).slow
    at = [chip.domains.index(chip.domain(d)) for d in costs.busy_domain]
    assert times[0] == pytest.approx(costs.busy @ slow[:, at].T)


def test_energy_follows_the_law_of_the_domain() -> None:
    """With the technology's polynomial a lower voltage saves other than V^2 of the switched energy."""
    chip = architecture("a100-like")
    other = chip.with_({"domain.core.energy_law": "technology"})
    squared, technology = settings(chip).swing, settings(other).swing
    assert technology[-1] == pytest.approx(squared[-1])
    assert technology[0, 0] < squared[0, 0]


def test_zeros_save_what_the_chip_can_save() -> None:
    """On structured weights the product is faster and moves fewer bytes; gating saves energy and no time."""
    chip = architecture("a100-like")
    product, fast = with_zeros(SMALL, chip, Density(b=0.5, structured=True))
    dense = cross(footprint(SMALL, chip, FEW).costs(chip), settings(chip))
    pruned = cross(footprint(product, fast, FEW).costs(fast), settings(fast))
    assert pruned.time.min() < dense.time.min()
    assert pruned.switched.min() < dense.switched.min()
    plain = architecture("zigzag-tpu")
    gating = plain.with_({"sparsity.zeros": "gate", "sparsity.noticed": ["a"]})
    work = Einsum(256, 256, 256, partial=2.0)
    same, gated = with_zeros(work, gating, Density(a=0.5))
    assert same == work
    before, after = (cross(footprint(work, c, FEW).costs(c), settings(c)) for c in (plain, gated))
    assert after.switched.min() < before.switched.min()
    assert after.time.min() == pytest.approx(before.time.min())


def test_the_source_takes_a_density() -> None:
    """Linear layers of pruned weights run at the rate of the pattern; attention stays dense."""
    product = [Gemm(name="product", m=2048, n=2048, k=2048)]
    dense = Dataflow("a100-like").points(product, device("a100-like"))
    pruned = Dataflow("a100-like", density=Density(b=0.5, structured=True)).points(product, device("a100-like"))
    assert np.all(pruned.time < 0.8 * dense.time)
    assert np.all(pruned.energy < 0.8 * dense.energy)
