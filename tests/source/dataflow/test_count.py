"""Tests for `wattline.source.dataflow.count`: exact counts against running the loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.hardware.architecture import Architecture, Compute, Domain, Fanout, Level, Vector
from wattline.source.dataflow.count import count
from wattline.source.dataflow.einsum import Einsum
from wattline.source.dataflow.plan import ORDERS, Mappings

from .loops import brute

CORE = Domain("core", "fixed", (1e9,), (1.0,), 1e9, 1.0)


def chip(path, latched=(), granule=(1, 1, 1)):
    """Return an architecture of these parts."""
    compute = Compute("compute", "core", "vector", {"int8": 1.0}, {"int8": 1e-12}, granule, latched=latched)
    return Architecture("toy", "Toy", "7nm", (CORE,), tuple(path), compute, Vector("core", 1e9, 0.0))


@st.composite
def mappings(draw):
    """One mapping of a small product on a small chip, remainders and idle copies included."""
    size = tuple(draw(st.integers(1, 7)) for _ in range(3))
    path = [Level("dram", "core")]
    for i in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            multicast = tuple(x for x in "ab" if draw(st.booleans()))
            path.append(Fanout(f"f{i}", 8, "core", multicast=multicast, reduce=draw(st.booleans())))
        else:
            path.append(Level(f"l{i}", "core"))
    latched = tuple(x for x in "ab" if draw(st.booleans()))
    inner, order, keep = [], [], []
    tile = size
    for p, part in enumerate(path):
        if isinstance(part, Fanout):
            split = draw(st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2)]))
            tile = tuple(-(-t // s) for t, s in zip(tile, split, strict=True))
        else:
            tile = tuple(draw(st.integers(1, t)) for t in tile)
        if p == len(path) - 1 and isinstance(part, Level):
            tile = (1, 1, 1)
        inner.append(tile)
        order.append(draw(st.integers(0, len(ORDERS) - 1)))
        holds = [p == 0 or (isinstance(part, Level) and draw(st.booleans())) for _ in range(3)]
        keep.append(holds)
    if isinstance(path[-1], Fanout):
        path.append(Level("last", "core"))
        inner.append((1, 1, 1))
        order.append(0)
        keep.append([True] * 3)
    einsum = Einsum(*size)
    return Mappings(
        einsum,
        chip(path, latched),
        np.array([inner]),
        np.array([order]),
        np.array([keep]),
        np.ones((1, len(path)), int),
    )


@settings(max_examples=300, deadline=None)
@given(mappings())
def test_counts_equal_those_of_running_the_loops(maps):
    """Words read, written and carried, and the steps of the arithmetic, are exactly those of the loop nest."""
    counts = count(maps)
    read, write, carried, steps = brute(maps, 0)
    np.testing.assert_array_equal(counts.write[0], write)
    np.testing.assert_array_equal(counts.read[0], read)
    np.testing.assert_array_equal(counts.carried[0], carried)
    assert counts.steps[0] == steps


def test_dealt_tiles_take_whole_rounds_and_share_nothing():
    """Nine tiles on four copies take three rounds; every tile reads its own rows and columns."""
    path = (
        Level("dram", "core"),
        Fanout("units", 4, "core", multicast=(), reduce=False, dealt=True),
        Level("local", "core"),
    )
    maps = Mappings(
        Einsum(6, 6, 5), chip(path), np.array([[[2, 2, 5], [2, 2, 5], [1, 1, 1]]]), np.zeros((1, 3), int),
        np.array([[[True] * 3, [False] * 3, [True] * 3]]), np.ones((1, 3), int),
    )  # fmt: skip
    counts = count(maps)
    assert counts.steps[0] == 3 * 2 * 2 * 5
    assert counts.read[0, 0].tolist() == [3 * 6 * 5, 3 * 6 * 5, 0]
    assert counts.write[0, 0].tolist() == [0, 0, 36]
    assert counts.used[0].tolist() == [1, 4, 4]
