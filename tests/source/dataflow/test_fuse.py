"""Tests for `wattline.source.dataflow.fuse` and `.convolution`: chains of products, windows that overlap."""

from __future__ import annotations

import pytest

from wattline.core.errors import CapacityError, InputError
from wattline.hardware.architectures import architecture
from wattline.source.dataflow import Einsum, Space, chain, convolution, footprint

PERFECT = Space(imperfect=False)
CHIP = architecture("zigzag-tpu")


def joules(einsum, part="memory.dram"):
    costs = footprint(einsum, CHIP, PERFECT).costs()
    best = int(costs.energy.sum(axis=1).argmin())
    return dict(zip(costs.parts, costs.energy[best], strict=True)).get(part, 0.0)


def test_a_fused_chain_spares_main_memory_its_intermediate_results():
    """Two products of a feed-forward block: what is saved is writing and reading the hidden values once."""
    up, down = Einsum(64, 1024, 256, partial=2.0), Einsum(64, 256, 1024, partial=2.0)
    fused = chain([up, down], CHIP)
    assert fused.block == 64
    apart = joules(up) + joules(down)
    together = sum(p.share * joules(p.einsum) for p in fused.products)
    level = CHIP.levels[0]
    hidden = 64 * 1024 * 8 * (level.read_energy + level.write_energy)
    assert fused.spared == 2 * 64 * 1024
    assert apart - together == pytest.approx(hidden, rel=1e-6)


def test_blocks_of_rows_fit_the_chip():
    """A chain whose intermediate result is too large goes block by block."""
    fused = chain([Einsum(4096, 4096, 1024, partial=2.0), Einsum(4096, 1024, 4096, partial=2.0)], CHIP)
    assert fused.block < 4096
    assert fused.block * 4096 * 2 <= 2 * 2**20
    assert sum(p.share * p.einsum.m for p in fused.products) == pytest.approx(2 * 4096)


def test_products_that_do_not_follow_one_another_are_refused():
    """The error says which sizes differ."""
    with pytest.raises(InputError, match=r"64 x 32 .* is not 64 x 16"):
        chain([Einsum(64, 32, 8), Einsum(64, 8, 16)], CHIP)


def test_a_row_that_does_not_fit_is_refused():
    """The error names the level and what it holds."""
    with pytest.raises(CapacityError, match="sram of zigzag-tpu holds"):
        chain([Einsum(4, 2**21, 8), Einsum(4, 8, 2**21)], CHIP)


def test_a_convolution_is_a_product_of_its_windows():
    """AlexNet's first layer: 105 million multiply-accumulates, each input word in seven windows and a half."""
    layer = convolution(3, 96, (227, 227), (11, 11), stride=4)
    assert layer.macs == 55 * 55 * 96 * 3 * 11 * 11
    assert layer.overlap == pytest.approx(55 * 55 * 363 / (3 * 227 * 227))
    assert layer.compulsory == pytest.approx(3 * 227 * 227 + 96 * 363 + 55 * 55 * 96)


def test_a_pointwise_convolution_is_the_plain_product():
    """With a window of one there is no overlap, and main memory reads every input once."""
    layer = convolution(64, 32, (14, 14), (1, 1))
    assert layer == Einsum(196, 32, 64)


def test_overlapping_windows_are_read_once_from_main_memory():
    """A 3 x 3 convolution that fits reads its input once, not nine times."""
    layer = convolution(32, 32, (16, 16), (3, 3), padding=1, partial=2.0)
    level = CHIP.levels[0]
    least = 8 * ((32 * 256 + 32 * 288) * level.read_energy + 32 * 256 * level.write_energy)
    assert joules(layer) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(("kernel", "groups"), [((9, 9), 1), ((3, 3), 3)])
def test_impossible_convolutions_are_refused(kernel, groups):
    """A window larger than the input, groups that do not divide."""
    with pytest.raises(InputError):
        convolution(8, 8, (4, 4), kernel, groups=groups)
