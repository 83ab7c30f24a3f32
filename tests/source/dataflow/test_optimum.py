"""The optimum is one: the search beside every mapping of small products on structures of every kind.

`every` shares nothing with the search: it lists all chains of dividing tiles, all ways to use copies (idle ones
included) and all orders that differ, and costs each by its exact counts.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wattline.hardware.architecture import Architecture, Compute, Domain, Fanout, Level, Vector
from wattline.source.dataflow import Einsum, Space, footprint
from wattline.source.dataflow.cost import cost
from wattline.source.dataflow.count import count
from wattline.source.dataflow.plan import ORDERS, Mappings

CORE = Domain("core", "fixed", (1e9,), (1.0,), 1e9, 1.0)
LOOPS = {"a": (0, 2), "b": (1, 2), "c": (0, 1)}


def structure(rng: np.random.Generator) -> Architecture:
    """A main memory, a buffer, two to four lanes that share operands or do not, and perhaps registers."""

    def pick(*values):
        return values[rng.integers(len(values))]

    path: list[Level | Fanout] = [
        Level("dram", "core", read_energy=pick(2e-13, 2e-12, 1e-11), write_energy=1e-12, read_bandwidth=pick(2e8, 1e9)),
        Level("buffer", "core", capacity=pick(20.0, 40.0, 80.0), read_energy=1e-13, write_energy=2e-13,
              read_bandwidth=pick(1e9, 4e9)),
        Fanout("lanes", pick(2, 3, 4), "core", dims=pick(("n",), ("m", "n"), ("k", "n"), ("m", "n", "k")),
               multicast=pick((), ("a",), ("b",), ("a", "b")), reduce=pick(True, False), energy=pick(0.0, 1e-13)),
    ]  # fmt: skip
    if rng.integers(3):
        holds = pick(("a",), ("b",), ("c",), ("a", "b"))
        path.append(Level("registers", "core", holds=holds, capacity=pick(2.0, 4.0, 8.0), read_energy=3e-14,
                          write_energy=3e-14))  # fmt: skip
    compute = Compute("compute", "core", "vector", {"int8": 1.0}, {"int8": 1e-14})
    return Architecture("toy", "Toy", "7nm", (CORE,), tuple(path), compute, Vector("core", 1e9, 0.0))


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def every(einsum: Einsum, chip: Architecture) -> Mappings:
    """All mappings with tiles that divide."""
    inner: list[list[tuple[int, ...]]] = []
    order: list[list[int]] = []

    def cut(p: int, tile: tuple[int, ...], tiles: list[tuple[int, ...]], orders: list[int]) -> None:
        if p == len(chip.path):
            if tile == (1, 1, 1):
                inner.append(tiles)
                order.append(orders)
            return
        part = chip.path[p]
        if isinstance(part, Fanout):
            pieces = [divisors(t) if d in part.dims else [1] for t, d in zip(tile, "mnk", strict=True)]
            for ways in itertools.product(*pieces):
                if np.prod(ways) <= part.size:
                    cut(p + 1, _over(tile, ways), [*tiles, _over(tile, ways)], [*orders, 0])
            return
        for turns in itertools.product(*(divisors(t) for t in tile)):
            for which in range(len(ORDERS)) if sum(t > 1 for t in turns) > 1 else (0,):
                cut(p + 1, _over(tile, turns), [*tiles, _over(tile, turns)], [*orders, which])

    cut(0, einsum.size, [], [])
    tiles, orders = np.array(inner), np.array(order)
    fits = np.ones(len(tiles), bool)
    for p, part in enumerate(chip.path[1:], 1):
        if isinstance(part, Level):
            finished = tiles[:, p, 2] == einsum.k  # sums that arrive finished are as wide as results
            widths = {"a": 1.0, "b": 1.0, "c": np.where(finished, einsum.widths[2], einsum.partial)}
            held = sum(tiles[:, p - 1, i] * tiles[:, p - 1, j] * widths[x] for x, (i, j) in LOOPS.items()
                       if x in part.holds)  # fmt: skip
            fits &= held <= part.capacity
    keep = np.array([[isinstance(part, Level) and x in part.holds for x in "abc"] for part in chip.path])
    n, parts = int(fits.sum()), len(chip.path)
    return Mappings(
        einsum, chip, tiles[fits], orders[fits], np.broadcast_to(keep, (n, parts, 3)), np.ones((n, parts), int)
    )


def _over(tile: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(t // b for t, b in zip(tile, by, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_nothing_beats_what_the_search_finds(seed):
    """In energy, in time and in their product, with tiles that divide and with others."""
    rng = np.random.default_rng(seed)
    chip = structure(rng)
    m, n, k = (int(rng.choice([2, 3, 4])) for _ in range(3))
    einsum = Einsum(m, n, k, partial=2.0)
    all_of_them = every(einsum, chip)
    costs = cost(all_of_them, count(all_of_them))
    joules, seconds = costs.energy.sum(axis=1), costs.busy.max(axis=1)
    for space in (Space(imperfect=False), Space()):
        found = footprint(einsum, chip, space).costs()
        ours, while_ = found.energy.sum(axis=1), found.busy.max(axis=1)
        assert ours.min() <= joules.min() * (1 + 1e-9)
        assert while_.min() <= seconds.min() * (1 + 1e-9)
        assert (ours * while_).min() <= (joules * seconds).min() * (1 + 1e-9)
