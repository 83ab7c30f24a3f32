"""Tests for `wattline.hardware.importing`: other tools' YAML becomes a description, and what does not map is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.hardware.architecture import Architecture
from wattline.hardware.architectures import architecture
from wattline.hardware.description import load
from wattline.hardware.importing import read_yaml

# In the form of AccelForge's examples/arches and of ZigZag's inputs/hardware, written for this test.
ACCELFORGE = """\
arch:
  nodes:
  - !Memory
    name: MainMemory
    size: inf
    actions:
    - {name: read, energy: 7.03e-12, throughput: 8 * 614e9}
    - {name: write, energy: 7.03e-12, throughput: 8 * 614e9}
    tensors: {keep: ~Intermediates, may_keep: All}
  - !Memory
    name: GlobalBuffer
    size: 1024*1024*128*8
    total_latency: max(a.n_calls / a.throughput for a in actions)
    area: 112e-6
    actions:
    - {name: read, energy: 1.88e-12, throughput: 8 * 2048e9}
    - {name: write, energy: 2.36e-12, throughput: 8 * 1024e9}
    tensors: {keep: ~MainMemory.tensors, may_keep: All}
  - !Memory
    name: LocalBuffer
    spatial: [{name: Z, fanout: 4, may_reuse: Nothing, min_usage: 1}]
    size: 1024*1024*4*8
    actions:
    - {name: read, energy: 0.249e-12, throughput: inf}
    - {name: write, energy: 0.293e-12, throughput: inf}
    tensors: {keep: input | output}
  - !Container
    name: ProcessingElement
    spatial:
    - {name: reuse_input, fanout: 128, reuse: input, min_usage: 1}
    - {name: reuse_output, fanout: 128, reuse: output, min_usage: 1}
  - !Memory
    name: Register
    size: weight.bits_per_value if weight else 0
    actions: [{name: read, energy: 0, throughput: inf}, {name: write, energy: 0, throughput: inf}]
    tensors: {keep: weight}
  - !Compute
    name: MAC
    actions: [{name: compute, energy: 0.084e-12, throughput: 1.05e9}]
"""

ZIGZAG = """\
name: small
memories:
  rf:
    size: 1024
    r_cost: 0.095
    w_cost: 0.1
    operands: [I2]
    ports:
      - {name: r, type: read, bandwidth_min: 8, bandwidth_max: 8, allocation: ["I2, tl"]}
      - {name: w, type: write, bandwidth_min: 8, bandwidth_max: 8, allocation: ["I2, fh"]}
    served_dimensions: []
  sram:
    size: 16777216
    r_cost: 416.16
    w_cost: 378.4
    operands: [I1, O]
    ports:
      - {name: r, type: read, bandwidth_min: 64, bandwidth_max: 2048, allocation: ["I1, tl", "O, tl"]}
      - {name: w, type: write, bandwidth_min: 64, bandwidth_max: 2048, allocation: ["I1, fh", "O, fl"]}
    served_dimensions: [D1, D2]
  dram:
    size: 10000000000
    r_cost: 700
    w_cost: 750
    operands: [I1, I2, O]
    ports:
      - {name: rw, type: read_write, bandwidth_min: 64, bandwidth_max: 64, allocation: ["I1, fh"]}
    served_dimensions: [D1, D2]
operational_array:
  unit_energy: 0.04
  dimensions: [D1, D2]
  sizes: [32, 32]
  systolic_dimensions: [D1, D2]
"""


def imported(tmp_path: Path, text: str) -> tuple[Architecture, list[str]]:
    source, target = tmp_path / "their.yaml", tmp_path / "ours.toml"
    source.write_text(text)
    found = read_yaml(source)
    target.write_text(found.toml)
    return load(target), found.missing


def test_accelforges_tpu_is_the_shipped_description(tmp_path: Path) -> None:
    """Read from its YAML, levels, fan-outs and arithmetic are those of `accelforge-tpu-v4i`."""
    chip, missing = imported(tmp_path, ACCELFORGE)
    shipped = architecture("accelforge-tpu-v4i")
    for ours, theirs in zip(chip.fanouts, shipped.fanouts, strict=True):
        assert (ours.size, ours.multicast == ()) == (theirs.size, theirs.name == "arrays")
        assert ours.dims == theirs.dims or theirs.name == "arrays"
    for level, expected in zip(chip.levels, shipped.levels, strict=True):
        assert level.holds == expected.holds
        for what in ("capacity", "read_energy", "write_energy", "read_bandwidth", "write_bandwidth"):
            assert getattr(level, what) == pytest.approx(getattr(expected, what)), (level.name, what)
        assert level.shared_port == expected.shared_port
    assert chip.compute.energy == pytest.approx(dict(shipped.compute.energy))
    assert any("register.size = weight.bits_per_value" in line for line in missing)
    assert any("voltages" in line for line in missing)


def test_zigzags_array_is_the_shipped_description(tmp_path: Path) -> None:
    """Per-access costs become energies per bit; memories that serve no dimension lie inside the array."""
    chip, missing = imported(tmp_path, ZIGZAG)
    shipped = architecture("zigzag-tpu")
    assert [part.name for part in chip.path] == ["dram", "sram", "d1", "d2", "rf"]
    for level, expected in zip(chip.levels, shipped.levels, strict=False):
        assert level.read_energy == pytest.approx(expected.read_energy)
        assert level.read_bandwidth == pytest.approx(expected.read_bandwidth)
    assert chip.compute.pipeline == shipped.compute.pipeline == 62
    assert any("mapping file" in line for line in missing)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {% if b %}", "is a template"),
        ("a: [1", "not valid YAML"),
        ("a: 1", "is neither AccelForge's"),
        (ZIGZAG.replace("  unit_energy: 0.04\n", ""), "in-memory arrays do not map"),
        (ACCELFORGE.replace("!Compute", "!Toll"), "has no !Compute node"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, text: str, says: str) -> None:
    """A file of another kind is refused with what it is."""
    with pytest.raises(InputError, match=says):
        imported(tmp_path, text)


def test_formulas_over_the_workload_are_listed_not_guessed(tmp_path: Path) -> None:
    """An energy from a plug-in is left out and named."""
    _, missing = imported(tmp_path, ACCELFORGE.replace("energy: 1.88e-12", "energy: __import__('os').getpid()"))
    assert any("globalbuffer.read.energy = __import__" in line for line in missing)


def test_weights_that_count_accesses_are_no_energies(tmp_path: Path) -> None:
    """A file that writes 1 J a bit to count accesses loads without that energy, and says so."""
    chip, missing = imported(tmp_path, ACCELFORGE.replace("energy: 7.03e-12", "energy: 1"))
    assert chip.levels[0].read_energy == 0.0
    assert any("a weight to count accesses" in line for line in missing)
