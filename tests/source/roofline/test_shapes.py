"""Tests for `wattline.source.roofline.shapes`: which tiles a product may take."""

import numpy as np
import pytest

from wattline.hardware.catalog import chip
from wattline.source.roofline import shapes
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.work import Work, cost

B200 = Silicon.of(chip("b200-sxm"))
H200 = Silicon.of(chip("h200-sxm"))


def product(silicon: Silicon, m: float, n: float, k: float, precision: str = "bf16") -> Work:
    """One product of operands as wide as its precision."""
    return shapes.gemm(silicon, m, n, k, a=precision, b=precision, precision=precision)


def traffic(work: Work, silicon: Silicon) -> float:
    """Bytes through the last cache level."""
    return float(work.e_l2) / silicon.l2_energy


def test_a_pair_of_units_shares_its_operands() -> None:
    """On Blackwell a large product moves 256 + 256 values through the cache per step of depth and 256 x 256 results."""
    size = 8192.0
    expected = (size / 256.0) ** 2 * 512.0 * size * 2.0
    assert traffic(product(B200, size, size, size), B200) == pytest.approx(expected)


def test_only_blackwell_pairs_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pairs an H200's product is what it was, a B200's large one takes longer, and a small one stays alone."""
    sizes = np.array([64.0, 8192.0])
    before = {s.name: cost([product(s, sizes, sizes, sizes)], s, limit=np.inf).time for s in (B200, H200)}
    monkeypatch.setattr(shapes, "PAIRED", ())
    after = {s.name: cost([product(s, sizes, sizes, sizes)], s, limit=np.inf).time for s in (B200, H200)}
    assert np.array_equal(before["h200-sxm"], after["h200-sxm"])
    assert before["b200-sxm"][0] == after["b200-sxm"][0]
    assert before["b200-sxm"][1] < 0.97 * after["b200-sxm"][1]


def test_four_bit_products_do_not_split_their_depth() -> None:
    """A thin product of great depth lights no more units in four bits than a pair for each 128 columns."""
    wide = float(product(B200, 16.0, 1024.0, 65536.0).lit)
    narrow = float(product(B200, 16.0, 1024.0, 65536.0, "fp4").lit)
    assert narrow <= 16.0 / B200.units
    assert wide == 1.0
