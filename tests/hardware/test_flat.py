"""Tests for `wattline.hardware.flat`: a description runs wherever a sheet of facts runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.hardware import catalog
from wattline.hardware.architectures import architecture
from wattline.hardware.flat import inside, units


@pytest.mark.parametrize(("like", "chip"), [("a100-like", "a100-sxm-80gb"), ("h100-like", "h100-sxm")])
def test_the_parts_of_a_gpu_sum_to_its_calibrated_sheet(like: str, chip: str) -> None:
    """Taken apart and put together again, every fact is the calibrated sheet's within 0.1 %."""
    derived, calibrated = catalog.chip(like), catalog.chip(chip)
    for key in calibrated:
        if key not in ("clock.step", "clock.switch"):  # of the driver, not of the parts
            assert derived[key] == pytest.approx(calibrated[key], rel=1e-3, abs=1e-18), key
    assert derived.tags["architecture"] == calibrated.tags["architecture"]
    assert derived.tags["node"] == calibrated.tags["node"]


def test_a_part_replaced_moves_the_facts_that_follow_from_it() -> None:
    """Under `architecture.` any entry of the description is set, and the sheet is worked out anew."""
    chip = catalog.chip("a100-like")
    assert chip.with_({"architecture.fanout.cores.size": 54})["compute.rate.bf16"] == chip["compute.rate.bf16"] / 2
    smaller = chip.with_({"architecture.level.l2.capacity": "10 MiB", "power.limit": "300 W"})
    assert smaller["memory.l2.energy"] < chip["memory.l2.energy"]
    assert smaller["power.limit"] == 300
    assert smaller["area.die"] < chip["area.die"]
    dearer = chip.scaled("architecture.level.registers.read_energy", 2.0)
    assert dearer["compute.energy.bf16"] > chip["compute.energy.bf16"]


def test_uncertainties_of_the_parts_are_those_of_the_facts() -> None:
    """What a description is unsure of, the sheet is unsure of; blocking makes an operation's energy unsure by 20 %."""
    chip = catalog.chip("a100-like")
    assert chip.facts["memory.hbm.energy"].uncertainty == pytest.approx(0.3)
    assert chip.facts["compute.energy.bf16"].uncertainty == pytest.approx(0.2)
    assert chip.facts["link.nvlink.energy"].uncertainty == pytest.approx(0.6)
    assert chip.facts["power.waiting"].uncertainty == pytest.approx(0.1)


def test_a_sheet_without_parts_has_no_architecture_to_set() -> None:
    """The message names a description to use instead."""
    with pytest.raises(InputError, match="name a chip description"):
        catalog.chip("a100").with_({"architecture.level.l2.capacity": "10 MiB"})


def test_a_description_that_is_no_device_says_why() -> None:
    """Constants of a benchmark have no power limit and no main memory capacity."""
    with pytest.raises(InputError, match="must be stated to run a scenario on it"):
        architecture("zigzag-tpu").sheet()


def test_a_users_description_is_a_chip(tmp_path: Path) -> None:
    """A file with `base = "a100-like"` is taken as a description where a chip is asked for."""
    path = tmp_path / "half.toml"
    path.write_text('base = "a100-like"\n[fanout.cores]\nsize = ["54", "half of it"]\n')
    assert catalog.chip(str(path))["compute.units"] == 54
    again = tmp_path / "again.toml"
    again.write_text('base = "half.toml"\n[power]\nlimit = ["300 W", "a cap"]\n')
    assert catalog.chip(str(again))["power.limit"] == 300
    assert catalog.chip(str(again))["compute.units"] == 54


def test_inner_levels_count_per_multiply_accumulate() -> None:
    """By hand: 16x8x16 issues read 2 + 1 bit and move 4 bit of sums per bf16 MAC from and to the registers."""
    chip = architecture("a100-like")
    shared, registers = chip.levels[2:]
    tile = (64 * 1024 / 4 / 2) ** 0.5
    by_hand = 7 * registers.read_energy + 2 * 16 / tile * shared.read_energy
    assert inside(chip, "bf16") == pytest.approx(by_hand, rel=1e-9)
    assert units(chip) == 108
