"""Tests for `wattline.hardware.architectures`: what ships says what was published, and can be changed."""

from __future__ import annotations

import math

import pytest

from wattline.core.errors import InputError
from wattline.hardware import catalog
from wattline.hardware.architectures import architecture, names
from wattline.hardware.flat import inside
from wattline.hardware.technology import arithmetic
from wattline.hardware.voltage import settings, swing

# name, precision, published peak (FLOP/s), relative error allowed, main memory (B/s), power limit (W), die (mm2).
PUBLISHED = [
    ("a100-like", "bf16", 312e12, 5e-3, 2.039e12, 400, 826),  # NVIDIA A100 whitepaper and datasheet
    ("h100-like", "bf16", 989.4e12, 5e-3, 3.35e12, 700, 814),  # NVIDIA H100 whitepaper and datasheet
    ("tpu-v1-like", "int8", 92e12, 5e-3, 34e9, 75, 331),  # ISCA 2017, table 2
    ("tpu-v4i-like", "bf16", 138e12, 5e-3, 614e9, 175, 400),  # ISCA 2021, table 1
    ("accelforge-tpu-v4i", "int8", 138e12, 5e-3, 614e9, math.inf, None),  # AccelForge's, of the same chip
    ("zigzag-tpu", "int8", 2.048e12, 1e-9, 8e9, math.inf, None),  # 32 x 32 units, 64 bit a cycle
    ("simba-like", "int8", 4.01e12, 5e-3, 25e9, 6, 3.1),  # VLSI 2019, abstract
    ("eyeriss", "int16", 67.2e9, 5e-3, 480e6, math.inf, 12.25),  # JSSC 2017: 33.6 GMAC/s
    ("hbm-pim-like", "fp16", 9.6e12, 0.03, 9.8e12, 250, None),  # ISSCC 2021: 1.2 TFLOP/s a stack, 8 stacks
    ("h100-hbm4-like", "bf16", 989.4e12, 5e-3, 5 * 2.048e12, 700, 814),  # no product
]


@pytest.mark.parametrize(("name", "precision", "peak", "error", "bandwidth", "limit", "die"), PUBLISHED)
def test_a_description_has_the_published_peak_bandwidth_power_and_area(
    name: str, precision: str, peak: float, error: float, bandwidth: float, limit: float, die: float | None
) -> None:
    """Units x operations a cycle x clock is the published rate; bandwidth, limit and die are the published ones."""
    chip = architecture(name)
    clock = chip.domain(chip.compute.domain).reference_clock
    rate = 2 * chip.compute.macs_per_cycle[precision] * chip.copies(chip.compute) * clock
    assert rate == pytest.approx(peak, rel=error)
    assert chip.levels[0].read_bandwidth == pytest.approx(bandwidth, rel=5e-3)
    assert chip.power_limit == limit
    if die is not None:
        assert chip.area == pytest.approx(die * 1e-6)


def test_every_description_is_checked() -> None:
    """A description added to the catalog needs a line in the table above."""
    assert {row[0] for row in PUBLISHED} == set(names())


@pytest.mark.parametrize("name", [n for n in names() if "server" in architecture(n).tags])
def test_a_description_with_a_server_runs_scenarios(name: str) -> None:
    """It has every fact a scenario needs, and a node to sit in."""
    chip = catalog.chip(name)
    assert catalog.default_node(chip)["chips"] >= 1
    assert 0 < chip["power.waiting"] < chip["power.limit"]
    assert chip["memory.hbm.energy"] > chip["memory.l2.energy"] >= 0


def test_simba_meets_its_best_point() -> None:
    """0.11 pJ per operation at the lowest voltage (VLSI 2019): arithmetic, buffers and wires come out 13 % lower."""
    chip = architecture("simba-like")
    each = (chip.compute.energy["int8"] + inside(chip, "int8")) / 2
    assert each * float(swing(chip.domain("core"), 0.42)) == pytest.approx(0.11e-12, rel=0.15)


def test_a_larger_sram_costs_more_unless_its_energy_is_stated() -> None:
    """Capacity moves energy, area and leakage by the closed form; what is set beside it stays as set."""
    chip = architecture("tpu-v4i-like")
    base, larger = chip.levels[1], chip.with_({"level.cmem.capacity": "512 MiB"}).levels[1]
    assert larger.read_energy == pytest.approx(2 * base.read_energy, rel=0.1)
    assert larger.write_energy / larger.read_energy == pytest.approx(base.write_energy / base.read_energy)
    assert larger.area == pytest.approx(4 * base.area)
    assert chip.with_({"level.cmem.capacity": "512 MiB"}).area > chip.area
    kept = chip.with_({"level.cmem.capacity": "512 MiB", "level.cmem.read_energy": "1.88 pJ/bit"}).levels[1]
    assert kept.read_energy == pytest.approx(base.read_energy)
    back = chip.with_({"level.cmem.capacity": "512 MiB"}).with_({"level.cmem.capacity": "128 MiB"}).levels[1]
    assert back.read_energy == pytest.approx(base.read_energy)


def test_a_closed_form_is_worked_out_anew() -> None:
    """Where a description leaves an sram's energy to the closed form, banks and width move it too."""
    chip = architecture("simba-like")
    (buffer,) = (level for level in chip.levels if level.name == "buffer")
    (wider,) = (lv for lv in chip.with_({"level.buffer.width": "64 B"}).levels if lv.name == "buffer")
    assert wider.read_energy < buffer.read_energy
    assert "closed form" in chip.sources["level.buffer.read_energy"]


def test_another_memory_generation_brings_its_bandwidth_and_scales_its_energy() -> None:
    """The calibrated energy is scaled by the ratio of the generations; a stated one wins."""
    chip = architecture("h100-like")
    newer = chip.with_({"level.hbm.memory": "hbm4"}).levels[0]
    assert newer.read_energy == pytest.approx(chip.levels[0].read_energy * 3.2 / 4.05)
    assert newer.read_bandwidth == pytest.approx(5 * 2048e9)
    stated = chip.with_({"level.hbm.memory": "hbm4", "level.hbm.read_energy": "3 pJ/bit"}).levels[0]
    assert stated.read_energy == pytest.approx(3e-12)
    with pytest.raises(InputError, match="'hbm5' is not known"):
        chip.with_({"level.hbm.memory": "hbm5"})


def test_another_node_moves_each_part_by_its_own_factor() -> None:
    """Arithmetic by the tables, srams by theirs, wires with their length; voltages and main memory stay."""
    old = architecture("a100-like")
    new = old.with_({"node": "5nm"})
    assert new.node == "5nm"
    assert new.compute.energy["bf16"] == pytest.approx(old.compute.energy["bf16"] * arithmetic("7nm", "5nm"))
    assert new.levels[0].read_energy == old.levels[0].read_energy
    assert new.fanouts[0].energy == pytest.approx(old.fanouts[0].energy * math.sqrt(0.021 / 0.027))
    assert new.area == pytest.approx(old.area * 0.021 / 0.027)
    assert new.domains == old.domains


def test_one_voltage_can_be_split_into_two() -> None:
    """A new domain with a curve of its own takes parts over; it multiplies the settings and keeps the energies."""
    chip = architecture("h100-like")
    split = chip.with_(
        {
            "domain.cache.kind": "sram",
            "domain.cache.clock": ["600 MHz", "1830 MHz"],
            "domain.cache.voltage": ["0.7 V", "0.9327 V"],
            "level.l2.domain": "cache",
        }
    )
    assert [d.name for d in split.domains] == ["core", "memory", "link", "cache"]
    assert split.levels[1].domain == "cache"
    assert split.levels[1].read_energy == chip.levels[1].read_energy
    assert len(list(settings(split))) == 2 * len(list(settings(chip)))
    tied = split.with_({"domain.cache.follows": "core"})
    assert len(list(settings(tied))) == len(list(settings(chip)))


def test_leakage_of_parts_is_in_their_domain() -> None:
    """A leaking level adds its copies' leakage to its domain, and grows with its capacity."""
    chip = architecture("a100-like")
    leaky = chip.with_({"level.shared.leakage": "0.1 W"})
    assert leaky.domain("core").leakage == pytest.approx(chip.domain("core").leakage + 10.8)
    doubled = leaky.with_({"level.shared.capacity": "328 KiB"})
    assert doubled.domain("core").leakage == pytest.approx(chip.domain("core").leakage + 21.6)


def test_an_unknown_description_names_the_nearest() -> None:
    """A misspelt name is answered with the right one."""
    with pytest.raises(InputError, match="did you mean 'eyeriss'"):
        architecture("eyeris")


def test_a_description_with_a_base_is_a_variant_of_it() -> None:
    """What was learned of the base is read off there: HBM4 in a file is HBM4 by a changed key."""
    stated = architecture("h100-hbm4-like").sheet()
    assert stated.origin is not None
    assert stated.origin.name == "h100-like"
    assert architecture("h100-like").sheet().origin is None
