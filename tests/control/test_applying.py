"""Tests for `wattline.control.loops.applying`: the one setting of an answer, held while a command runs."""

from __future__ import annotations

import json
import sys

import pytest

from wattline.control.loops.applying import Asked, run, setting
from wattline.core.errors import InputError


def answer(**more):
    return {"chosen": {"knobs": [{"scope": "replica", "clock_hz": 1.2e9}]}, **more}


@pytest.mark.parametrize(
    ("lines", "knobs"),
    [
        ((), {"clock": 1.2e9}),
        (("# 10 % less", "sudo nvidia-smi -lgc 1305  # undo: sudo nvidia-smi -rgc"), {"clock": 1.305e9}),
        (("sudo nvidia-smi -pl 450  # undo: sudo nvidia-smi -pl 700",), {"power_limit": 450.0}),
        (("rocm-smi --setsrange 500 1500  # undo: rocm-smi -r",), {"clock": 1.5e9}),
    ],
)
def test_the_setting_is_that_of_the_lines_to_type(lines, knobs):
    """What an answer says to type is what is set; without lines its only clock."""
    assert setting(answer(apply=lines)) == knobs


def test_a_schedule_of_many_clocks_is_not_one_setting():
    """An answer with a clock for every step is refused with what to do instead."""
    many = {"chosen": {"knobs": [{"clock_hz": 1e9}, {"clock_hz": 1.1e9}]}}
    with pytest.raises(InputError, match=r"sets 2 clocks.*follow it from the training loop"):
        setting(many)


def test_an_answer_without_settings_is_not_taken_for_a_schedule():
    """Figures alone, as of an excerpt, are answered with how to write a whole answer."""
    with pytest.raises(InputError, match=r"sets no clock and no power limit.*wattline plan FILE --json"):
        setting({"chosen": {"energy_j": 1.0}})


def test_a_dry_run_says_what_and_how_to_undo_it(tmp_path, capsys):
    """Nothing is set, no device is looked for, and the undo is printed."""
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(answer()), encoding="utf-8")
    assert run(Asked(answer=path, dry_run=True)) == 0
    assert "nvidia-smi -lgc 1200  # undo: sudo nvidia-smi -rgc" in capsys.readouterr().out


def test_a_command_runs_under_the_lease_and_its_exit_code_is_ours(tmp_path):
    """On a simulated device the setting is held while the command runs."""
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(answer()), encoding="utf-8")
    command = (sys.executable, "-c", "raise SystemExit(3)")
    assert run(Asked(answer=path, command=command, simulate=True)) == 3


def test_a_file_that_is_no_answer_is_said_so(tmp_path):
    """What to write one with is named."""
    path = tmp_path / "answer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="has no 'chosen'; write one with wattline plan"):
        run(Asked(answer=path))
