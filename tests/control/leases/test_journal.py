"""Tests for `wattline.control.leases.journal` and `restore`: cut at every byte and every bit flipped, it never lies.

WATTLINE_EVERY_BIT=1 puts every cut and every flip through a whole start (80 s); else every seventh and every 37th.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases import journal
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper

FOUND = 600.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> bytes:
    """The record of a device found at 600 W and set three times, as its owner left it when it was killed."""
    folder = tmp_path_factory.mktemp("state")
    keeper = Keeper([SimulatedGpu(found=FOUND)], folder)
    lease = keeper.take("0", power_limit=500.0)
    lease.set(power_limit=450.0, clock=1.2e9)
    lease.set(power_limit=400.0)
    lease._record.abandon()
    return next((folder / "found").glob("*.json")).read_bytes()


def after(data: bytes, folder: Path) -> tuple[float, list[str], list[Path]]:
    """(W in force, what was told, what was kept aside) when the next start finds this record of a device at 400 W."""
    (folder / "found").mkdir(parents=True, exist_ok=True)
    for old in (folder / "found").iterdir():
        old.unlink()
    (folder / "found" / "SIM-0.json").write_bytes(data)
    gpu = SimulatedGpu(found=400.0)
    with Keeper([gpu], folder) as keeper:
        notes = keeper.recover()
    return float(gpu.read("power_limit") or 0.0), notes, journal.kept_aside(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Thousands of records need not reach a disk."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def test_a_whole_record_is_put_back(recorded, tmp_path):
    """Nothing is told but that it was done, and nothing is kept."""
    watts, notes, kept = after(recorded, tmp_path)
    assert (watts, kept) == (FOUND, [])
    assert notes == ["SIM-0 was put back to power limit 600 W, clock free, after its owner died"]


def test_cut_at_any_byte_it_is_never_silent_and_never_above(recorded, tmp_path):
    """Every shorter file is damage: told, kept aside; what is put back is what was found, or nothing is."""
    for length in range(0, len(recorded), 1 if os.environ.get("WATTLINE_EVERY_BIT") else 7):
        watts, notes, kept = after(recorded[:length], tmp_path)
        assert watts in (400.0, FOUND), length
        assert any("is damaged" in note for note in notes), length
        assert len(kept) == 1, length
        assert kept[0].read_bytes() == recorded[:length]


def test_with_any_bit_flipped_it_is_never_silent_and_never_above(recorded, tmp_path):
    """Every flipped bit is damage: told, kept aside; no value but what was found is ever put back."""
    bits = range(0, 8 * len(recorded), 1 if os.environ.get("WATTLINE_EVERY_BIT") else 37)
    for bit in bits:
        data = bytearray(recorded)
        data[bit // 8] ^= 1 << bit % 8
        watts, notes, kept = after(bytes(data), tmp_path)
        assert watts in (400.0, FOUND), bit
        assert any("is damaged" in note for note in notes), bit
        assert len(kept) == 1, bit


def test_every_flipped_bit_of_every_block_is_seen(recorded):
    """No bit of a block, its padding included, can change without the block being damage or another block."""
    for start in range(0, len(recorded), journal.BLOCK):
        block = recorded[start : start + journal.BLOCK]
        whole = journal.unpack(block)
        assert whole is not None
        for bit in range(8 * len(block)):
            flipped = bytearray(block)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ValueError, match="checksum"):
                journal.unpack(bytes(flipped))


def test_a_torn_write_leaves_the_block_before_it(recorded, tmp_path):
    """Whichever block was being written, cut anywhere, what was found before stands."""
    for block in range(4):
        for torn in (0, 1, 100, journal.BLOCK - 1):
            start = block * journal.BLOCK
            data = recorded[:start] + recorded[start : start + torn] + b"\xaa" * (journal.BLOCK - torn)
            data += recorded[start + journal.BLOCK :]
            watts, notes, _ = after(data, tmp_path)
            assert watts in (400.0, FOUND)
            assert notes


def test_damage_is_told_until_someone_looks(recorded, tmp_path):
    """A copy that is kept aside is named at each start until it is deleted, and is never deleted by us."""
    after(recorded[:100], tmp_path)
    for _ in range(2):
        notes = Keeper([SimulatedGpu(found=400.0)], tmp_path).recover()
        assert any("look at its device, then delete it" in note for note in notes)
    journal.kept_aside(tmp_path)[0].unlink()
    assert Keeper([SimulatedGpu(found=400.0)], tmp_path).recover() == []


def test_a_lease_over_a_damaged_record_tells_and_goes_on(recorded, tmp_path):
    """Taking the device first puts back what can be, tells the damage, and then works."""
    (tmp_path / "found").mkdir()
    data = bytearray(recorded)
    data[40] ^= 1
    (tmp_path / "found" / "SIM-0.json").write_bytes(bytes(data))
    gpu = SimulatedGpu(found=400.0)
    keeper = Keeper([gpu], tmp_path)
    with keeper.take("0") as lease:
        assert "is damaged" in keeper.notes[0]
        lease.set(power_limit=300.0)
        assert gpu.read("power_limit") == 300.0


@pytest.mark.parametrize(("recorded_watts", "standing", "expected", "why"), [
    (640.0, None, 600.0, "the most that the device takes"),
    (600.0, 550.0, 550.0, "the administrator's limit"),
    (100.0, None, 200.0, "the least that the device takes"),
    (500.0, 550.0, 500.0, ""),
])  # fmt: skip
def test_what_is_put_back_lies_within_limits(tmp_path, recorded_watts, standing, expected, why):
    """A record older than the device's range or the administrator's policy is put back no further than they allow."""
    gpu = SimulatedGpu(found=400.0, high=600.0)
    record = journal.claim(tmp_path, "SIM-0")
    record.keep({"power_limit": recorded_watts}, "someone")
    record.note("power_limit", 400.0)
    record.abandon()
    stands = {"power_limit": standing}
    notes = Keeper([gpu], tmp_path, standing=lambda _actuator, knob: stands.get(knob)).recover()
    assert gpu.read("power_limit") == expected
    assert not why or why in notes[0]


def test_blocks_know_themselves():
    """A block gives back its generation and text; too long a text is refused; untouched is not damage."""
    assert journal.unpack(journal.pack(7, b"hello")) == (7, b"hello")
    assert journal.unpack(bytes(journal.BLOCK)) is None
    with pytest.raises(OSError, match="too long"):
        journal.pack(1, b"x" * journal.BLOCK)
    with pytest.raises(ValueError, match="checksum"):
        journal.unpack(journal.pack(1, b"a")[:-1] + b"\x01")
    assert struct.calcsize("<8sQII") == 24


def test_a_folder_that_takes_no_record_refuses_the_lease(tmp_path):
    """Where no record can be made nothing may be changed."""
    (tmp_path / "found").write_text("a file")
    with pytest.raises(ControlError, match="cannot be kept"):
        Keeper([SimulatedGpu()], tmp_path).take("0")
