"""Tests for `wattline.source.dataflow.bound`: no mapping moves less than the bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.hardware.architectures import architecture
from wattline.source.dataflow import Einsum, Space, footprint
from wattline.source.dataflow.bound import certificates


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_no_mapping_moves_less_than_the_certificate(m, n, k):
    """Main memory gives and takes at least the bound, whatever the shape."""
    found = footprint(Einsum(m, n, k, partial=2.0), architecture("zigzag-tpu"), Space(imperfect=False))
    (main,) = certificates(found)
    assert main.level == "dram"
    assert main.gap >= -1e-12


def test_a_product_that_fits_is_at_the_bound():
    """What fits on the chip is read once and written once: the gap is zero."""
    found = footprint(Einsum(64, 64, 64, partial=2.0), architecture("zigzag-tpu"), Space(imperfect=False))
    assert certificates(found)[0].gap == pytest.approx(0.0)


def test_a_large_product_is_near_the_bound():
    """4096^3 on ZigZag's array: the least main-memory traffic of any mapping lies within a factor of the bound."""
    found = footprint(Einsum(4096, 4096, 4096, partial=2.0), architecture("zigzag-tpu"), Space(imperfect=False))
    assert 0 < certificates(found)[0].gap < 1.5
