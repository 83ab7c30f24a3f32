"""Every constant of a chip, swept: a free improvement never costs, and what claims to act moves something."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from wattline.hardware.catalog import chip, node
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator

FACTORS = np.geomspace(0.25, 16.0, 13)
CHIPS = ("h100-sxm", "b200-sxm", "a100-sxm-80gb")
# What is better: +1 more of it, -1 less of it. Each acts on time, on energy, or (rates) on both.
BETTER = {
    "compute.rate.bf16": 1, "memory.hbm.bandwidth": 1, "memory.l2.bandwidth": 1, "memory.l2.capacity": 1,
    "link.nvlink.bandwidth": 1, "link.nvlink.latency": -1, "overhead.launch": -1,
    "compute.energy.bf16": -1, "memory.hbm.energy": -1, "memory.l2.energy": -1, "link.nvlink.energy": -1,
    "power.waiting": -1, "power.leakage": -1, "power.clock_tree": -1,
}  # fmt: skip
WORK: tuple[Operator, ...] = (
    Gemm(name="square", m=8192, n=8192, k=8192),
    Gemm(name="wide", m=4096, n=14336, k=4096),
    Gemm(name="flat", m=16, n=14336, k=4096),
    GroupedGemm(name="experts", tokens=4096, top_k=4, experts=64, local_experts=64, n=2048, k=4096, active=64.0),
    Attention(name="prompt", batch=2, query=4096, context=4096, heads=32, kv_heads=8, head_dim=128, value_dim=128,
              phase="prefill"),
    Attention(name="token", batch=64, query=1, context=4096, heads=32, kv_heads=8, head_dim=128, value_dim=128,
              phase="decode"),
    Elementwise(name="norm", read=1e9, write=1e9, ops=1e9),
    Collective(name="sum", op="all_reduce", size=1e9, ranks=8),
)  # fmt: skip


@functools.cache
def device(name: str) -> Device:
    """A device whose power limit never binds: what a constant does is seen alone."""
    sheet = chip(name).with_({"power.limit": "100 kW"})
    return Device(sheet, node(chip(name).tags["node"]))


@functools.cache
def swept(name: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds and joules, (operators, factors), at one clock with `key` scaled."""
    at = np.array([device(name).chip["clock.max"]])
    time, energy = [], []
    for factor in FACTORS:
        scaled = replace(device(name), chip=device(name).chip.scaled(key, float(factor)))
        found = [Roofline().points([op], scaled, at) for op in WORK]
        time.append([p.time[0] for p in found])
        energy.append([p.energy[0] for p in found])
    return np.array(time).T, np.array(energy).T


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("key", BETTER)
def test_a_free_improvement_never_costs(name, key):
    """Over a factor of 64 the better side of every constant takes no more time, nor more joules without saving time.

    A faster memory may make a library pick tiles that pad more: fewer seconds, a few more joules.
    """
    time, energy = (np.diff(values, axis=1) * BETTER[key] / values[:, 1:] for values in swept(name, key))
    worse = (time > 1e-9) | ((energy > 1e-9) & (time > -1e-9))
    assert not worse.any(), [WORK[i].name for i in np.flatnonzero(worse.any(axis=1))]


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("key", BETTER)
def test_a_constant_acts(name, key):
    """Some work takes another time or other joules when a constant is another."""
    time, energy = swept(name, key)
    assert np.ptp(time, axis=1).max() > 0 or np.ptp(energy, axis=1).max() > 0


def test_energies_move_no_time():
    """Joules per operation and per byte change nothing about when work is done, where no power limit binds."""
    for key in BETTER:
        if ".energy" in key or key.startswith("power."):
            assert np.ptp(swept("h100-sxm", key)[0], axis=1).max() == 0, key


def test_the_last_cache_saves_main_memory_until_all_fits():
    """Two gigabytes of operands: each doubling of the cache helps, or nothing is left to save."""
    _, energy = swept("h100-sxm", "memory.l2.capacity")
    assert energy[0, 0] > 1.02 * energy[0, -1]
    assert np.allclose(energy[2], energy[2, 0])  # one pass over weights: no cache helps
