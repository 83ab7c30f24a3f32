"""Tests for `wattline.source.dataflow.mapper` against trying every mapping of a small product."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wattline.hardware.architecture import Architecture, Compute, Domain, Fanout, Level, Vector
from wattline.source.dataflow import Einsum, Space, footprint
from wattline.source.dataflow.cost import cost
from wattline.source.dataflow.count import count
from wattline.source.dataflow.plan import ORDERS, Mappings
from wattline.source.dataflow.prune import undominated

CORE = Domain("core", "fixed", (1e9,), (1.0,), 1e9, 1.0)


def chip(capacity, dram, latched=()):
    """A chip of a main memory, a buffer, two lanes and a weight register."""
    path = (
        Level("dram", "core", read_energy=dram, write_energy=dram, read_bandwidth=1e9),
        Level("buffer", "core", capacity=capacity, read_energy=1e-13, write_energy=2e-13, read_bandwidth=4e9),
        Fanout("lanes", 2, "core", dims=("n",), multicast=("a",)),
        Level("weights", "core", holds=("b",), capacity=2.0, read_energy=3e-14, write_energy=3e-14),
    )
    compute = Compute("compute", "core", "vector", {"int8": 1.0}, {"int8": 1e-14}, latched=latched)
    return Architecture("toy", "Toy", "7nm", (CORE,), path, compute, Vector("core", 1e9, 0.0))


def every(einsum, architecture, capacity):
    """All mappings with tiles that divide, in all orders."""

    def divisors(n):
        return [d for d in range(1, n + 1) if n % d == 0]

    inner, order = [], []
    for tile in itertools.product(
        divisors(einsum.m), [n for n in divisors(einsum.n) if n % 2 == 0], divisors(einsum.k)
    ):
        m, n, k = tile
        width = 1.0 if k == einsum.k else einsum.partial
        # Sums that arrive finished are stored at the width of results: only where the register spans all of k.
        for low in itertools.product(divisors(m), divisors(n // 2), divisors(k)):
            width = einsum.widths[2] if low[2] == einsum.k else einsum.partial
            if m * k + k * n + m * n * width > capacity or low[1] * low[2] > 2:
                continue
            lanes = (low[0], 2 * low[1], low[2])
            for a, b, c in itertools.product(range(len(ORDERS)), range(len(ORDERS)), range(3)):
                inner.append((tile, lanes, low, (1, 1, 1)))
                order.append((a, b, 0, c))
    keep = np.array([[True] * 3, [True] * 3, [False] * 3, [False, True, False]])
    count_ = len(inner)
    return Mappings(
        einsum, architecture, np.array(inner), np.array(order), np.broadcast_to(keep, (count_, 4, 3)),
        np.ones((count_, 4), int),
    )  # fmt: skip


@pytest.mark.parametrize(("capacity", "dram", "latched"), [(30.0, 1e-11, ()), (60.0, 2e-13, ("a", "b"))])
def test_the_search_finds_what_trying_everything_finds(capacity, dram, latched):
    """Nothing on the frontier over all tiles that divide and all loop orders, both lanes at work, beats the search."""
    einsum, architecture = Einsum(4, 4, 4, partial=2.0), chip(capacity, dram, latched)
    maps = every(einsum, architecture, capacity)
    costs = cost(maps, count(maps))
    everything = np.column_stack([costs.energy.sum(axis=1), costs.busy.max(axis=1)])
    best = everything[undominated(everything)]
    found = footprint(einsum, architecture, Space(imperfect=False)).costs()
    ours = np.column_stack([found.energy.sum(axis=1), found.busy.max(axis=1)])
    assert len(maps) > 500
    for point in best:
        assert (ours <= point * (1 + 1e-9)).all(axis=1).any(), point
