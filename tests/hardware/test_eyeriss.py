"""Tests for the description `eyeriss` and `bench/eyeriss.py`: a published chip's accesses and energy come out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from wattline.hardware.architectures import architecture

BENCH = Path(__file__).parents[2] / "bench" / "eyeriss.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eyeriss_bench", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_layers_are_alexnets(bench: ModuleType) -> None:
    """666 million MACs an image, as ISSCC 2016 states; the mapping fits the published buffer and units."""
    assert sum(layer.macs for layer in bench.ALEXNET) / bench.BATCH == pytest.approx(666e6, rel=2e-3)
    chip = architecture("eyeriss")
    sums = chip.levels[4]
    for layer in bench.ALEXNET:
        partial = layer.m * layer.n * layer.e * layer.out * bench.WORD
        assert partial < chip.levels[1].capacity
        assert layer.p * bench.WORD <= sums.capacity
        assert layer.kernel * layer.q * bench.WORD <= chip.levels[2].capacity
        assert layer.p * layer.q * layer.kernel * bench.WORD <= chip.levels[3].capacity
        assert layer.kernel * min(layer.e, layer.out) * layer.r * layer.t <= 2 * 12 * 14


def test_accesses_to_main_memory_are_the_published_ones(bench: ModuleType) -> None:
    """0.0029 accesses per MAC within 2 %; every layer within 15 % (JSSC 2017, table V)."""
    words = [sum(bench.main_memory(layer)) for layer in bench.ALEXNET]
    assert sum(words) / sum(layer.macs for layer in bench.ALEXNET) == pytest.approx(0.0029, rel=0.02)
    for layer, count in zip(bench.ALEXNET, words, strict=True):
        assert count * bench.WORD / 1e6 == pytest.approx(layer.dram, rel=0.15)


def test_buffer_traffic_is_the_published_one_but_for_one_layer(bench: ModuleType) -> None:
    """Within 10 % (JSSC 2017, table V), but CONV3, where the published mapping gives 1.4 times the published traffic."""
    for layer in bench.ALEXNET:
        ratio = bench.WORD * sum(bench.buffer(layer)) / 1e6 / layer.buffer
        assert ratio == pytest.approx(1.41 if layer.name == "CONV3" else 1.0, abs=0.1)


def test_registers_take_the_published_share(bench: ModuleType) -> None:
    """Registers to the rest of the chip are about 4 to 1 (ISCA 2016): their share lies within 10 points of 80 %."""
    parts = bench.shares(architecture("eyeriss"), gated=False)
    chip = sum(parts.values()) - parts["DRAM"]
    assert parts["RF"] / chip == pytest.approx(0.8, abs=0.1)


def test_what_the_parts_leave_of_the_measured_power_is_nearly_constant(bench: ModuleType) -> None:
    """Clocks and control are not modelled: they take 144 mW to 189 mW of the published 235 mW to 332 mW."""
    chip = architecture("eyeriss")
    left = [layer.power - bench.switched_power(chip, layer) for layer in bench.ALEXNET]
    spread = max(layer.power for layer in bench.ALEXNET) - min(layer.power for layer in bench.ALEXNET)
    assert all(140 < mw < 190 for mw in left)
    assert max(left) - min(left) < 0.5 * spread


def test_other_energies_move_the_split(bench: ModuleType) -> None:
    """The description is what is multiplied: main memory of half the energy halves its part and nothing else."""
    chip = architecture("eyeriss")
    half = chip.with_({"level.dram.read_energy": "8.25 pJ/bit", "level.dram.write_energy": "8.25 pJ/bit"})
    before, after = (bench.shares(c, gated=True) for c in (chip, half))
    assert after["DRAM"] == pytest.approx(before["DRAM"] / 2)
    assert after["RF"] == before["RF"]
