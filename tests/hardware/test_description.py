"""Tests for `wattline.hardware.description`: what a chip description must say, and what is said where it does not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from wattline.core.errors import InputError, UnitError
from wattline.hardware.architecture import Architecture, Fanout
from wattline.hardware.architectures import architecture, names
from wattline.hardware.description import load
from wattline.hardware.stated import rules
from wattline.hardware.voltage import swing

MINIMAL = """\
node = "7nm"
path = ["dram", "rows", "buffer"]

[domain.core]
kind = "core"
clock = [["0.5 GHz", "1 GHz"], "test"]
voltage = [["0.6 V", "0.8 V"], "test"]

[level.dram]
read_bandwidth = ["100 GB/s", "test"]
read_energy = ["8 pJ/bit", "test"]
write_energy = ["8 pJ/bit", "test"]

[fanout.rows]
size = ["16", "test"]

[level.buffer]
capacity = ["32 KiB", "test"]
read_bandwidth = ["64 B/cycle", "test"]

[compute]
kind = "vector"
macs_per_cycle.int8 = ["4", "test"]
energy.int8 = ["0.1 pJ/MAC", "test", "20 %"]
"""


def described(tmp_path: Path, text: str = MINIMAL, **changes: str) -> Architecture:
    """Return the chip of a text with pieces replaced: old=new pairs are given as a list of tuples in `changes`."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(path)


def test_parts_stand_in_si_at_the_reference_point(tmp_path: Path) -> None:
    """Energies are J/bit and J/MAC, rates B/s; a rate per cycle is taken at the reference clock."""
    chip = described(tmp_path)
    dram, buffer = chip.levels
    assert (chip.name, chip.node) == ("x", "7nm")
    assert dram.read_energy == pytest.approx(8e-12)
    assert dram.capacity == math.inf
    assert buffer.read_bandwidth == buffer.write_bandwidth == pytest.approx(64e9)
    assert chip.compute.energy == {"int8": pytest.approx(0.1e-12)}
    assert chip.copies(chip.compute) == chip.copies(buffer) == 16
    assert chip.domain("core").reference_voltage == 0.8
    assert chip.sources["compute.energy.int8"] == "test"
    assert chip.stated["compute.energy.int8"].uncertainty == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('["100 GB/s", "test"]', '["0 GB/s", "test"]', 10, "level.dram.read_bandwidth must be above 0"),
        ('["100 GB/s", "test"]', '["100", "test"]', 10, "has no unit"),
        ('["100 GB/s", "test"]', '["100 GB/s"]', 10, 'must be ["value with unit", "source"]'),
        ('["100 GB/s", "test"]', '["100 GB/s", ""]', 10, "has no source"),
        ('["0.6 V", "0.8 V"]', '["0.8 V", "0.6 V"]', 7, "must not fall as the clock rises"),
        ('["0.5 GHz", "1 GHz"]', '["1 GHz", "0.5 GHz"]', 6, "must rise from point to point"),
        ('["0.6 V", "0.8 V"]', '["0.6 V"]', 7, "one value per clock"),
        ('["32 KiB", "test"]', '["2 B", "test"]', 18, "must hold one issue of the arithmetic, 3 B"),
        ("read_bandwidth = [\"64", "read_bandwith = [\"64", 19, "did you mean 'level.buffer.read_bandwidth'?"),
        ('size = ["16"', 'size = ["0"', 15, "must lie between 1 and"),
        ('size = ["16"', 'size = ["2.5"', 15, "must be a whole number"),
        ('"rows", "buffer"]', '"row", "buffer"]', 2, "did you mean 'rows'?"),
        ('"rows", "buffer"]', '"buffer"]', 15, "is not on the path"),
        ("[fanout.rows]\n", '[fanout.rows]\ndims = ["z"]\n', 15, "names 'z'"),
        ("[fanout.rows]\n", '[fanout.rows]\ndomain = "sram"\n', 15, "known: core"),
        ('kind = "vector"', 'kind = "vectr"', 22, "did you mean 'vector'?"),
        ("macs_per_cycle.int8", "macs_per_cycle.int7", 23, "did you mean"),
        ("macs_per_cycle.int8", "macs_per_cycle.int4", 23, "has no compute.energy.int4"),
        ('kind = "core"', 'kind = "fixed"', 6, "one clock in a fixed domain"),
        ('"20 %"', '"-20 %"', 24, "uncertainty must be 0 or more"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """Every broken rule names the file, the line and the key, what was received and what would work."""
    assert old in MINIMAL
    with pytest.raises(InputError) as caught:
        described(tmp_path, MINIMAL.replace(old, new, 1))
    message = str(caught.value)
    assert f"x.toml, line {line}: " in message
    assert says in message


def test_a_level_that_is_not_described_is_refused(tmp_path: Path) -> None:
    """A description without a technology node, a path or a domain says what is missing."""
    for cut, says in (('node = "7nm"', "node must name the technology"), (MINIMAL.split("\n")[1], "path must list")):
        with pytest.raises(InputError, match=says):
            described(tmp_path, MINIMAL.replace(cut, ""))


def test_any_entry_can_be_replaced(tmp_path: Path) -> None:
    """`with_` takes text with units, SI numbers, lists and flags, and leaves the original alone."""
    chip = described(tmp_path)
    other = chip.with_(
        {
            "fanout.rows.size": 32,
            "level.dram.read_energy": "4 pJ/bit",
            "level.buffer.double_buffered": True,
            "level.buffer.holds": ["a", "b"],
            "domain.core.voltage": ["0.5 V", "0.8 V"],
        }
    )
    (rows,) = other.fanouts
    assert rows == Fanout("rows", 32, "core")
    assert other.levels[0].read_energy == pytest.approx(4e-12)
    assert other.levels[1].double_buffered
    assert other.levels[1].holds == ("a", "b")
    assert other.domain("core").voltage == (0.5, 0.8)
    assert chip == described(tmp_path)


def test_another_curve_keeps_the_point_at_which_energies_are_stated(tmp_path: Path) -> None:
    """A lower curve saves energy: the reference does not move with it, whether replaced, scaled or stated on a base."""
    chip = described(tmp_path)
    lower = chip.with_({"domain.core.voltage": ["0.5 V", "0.7 V"]})
    assert lower.domain("core").reference_voltage == chip.domain("core").reference_voltage == 0.8
    assert float(swing(lower.domain("core"), 0.7)) == pytest.approx((0.7 / 0.8) ** 2)
    assert chip.scaled("domain.core.voltage", 0.9).domain("core").reference_voltage == 0.8
    slower = chip.with_({"domain.core.clock": ["0.4 GHz", "0.9 GHz"]})
    assert slower.domain("core").reference_clock == 1e9
    assert slower.levels[1].read_bandwidth == chip.levels[1].read_bandwidth


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"level.buffer.capacity": 32}, UnitError, "has no unit"),
        ({"level.buffer.capacity": "1 B"}, InputError, "set by hand: level.buffer.capacity must hold"),
        ({"level.bufer.capacity": "1 MiB"}, InputError, "is not on the path"),
        ({"level.buffer.size": "1 MiB"}, InputError, "is not a known key"),
        ({"domain.core.voltage": ["0.8 V", "0.6 V"]}, InputError, "set by hand: domain.core.voltage must not fall"),
    ],
)
def test_a_replacement_obeys_the_same_rules(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], says: str
) -> None:
    """What is set by hand is checked as what is read, and the message says so."""
    with pytest.raises(error, match=says):
        described(tmp_path).with_(changes)


def test_a_file_may_state_only_what_differs(tmp_path: Path) -> None:
    """`base` names a description, shipped or beside the file; the rest is taken from it."""
    path = tmp_path / "mine.toml"
    path.write_text('base = "zigzag-tpu"\n[level.sram]\ncapacity = ["4 MiB", "test"]\n')
    mine, base = architecture(str(path)), architecture("zigzag-tpu")
    assert mine.name == "mine"
    assert mine.levels[1].capacity == 2 * base.levels[1].capacity
    assert mine.path[2:] == base.path[2:]
    path.write_text('base = "mine.toml"\n')
    with pytest.raises(InputError, match="leads back to the file itself"):
        architecture(str(path))


@pytest.mark.parametrize("name", names())
def test_every_shipped_number_has_a_source(name: str) -> None:
    """Each number of a shipped description says where it comes from, and each key is in the table."""
    chip = architecture(name)
    assert chip.name == name
    for key, entry in chip.stated.items():
        if not isinstance(entry.value, (bool, str)) and not (
            isinstance(entry.value, tuple) and isinstance(entry.value[0] if entry.value else "", str)
        ):
            assert len(entry.source) > 5, key
    assert rules()
