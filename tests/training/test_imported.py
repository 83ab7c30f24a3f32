"""Tests for `wattline.training.imported`: profiles from torch's profiler, nsys and Zeus."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.show.cli.main import main
from wattline.training.imported import kineto, nsys, power_log, rows_of, watts_of, zeus
from wattline.training.profile import read

WATTS = {"F": 400.0, "B": 500.0, "": 90.0}  # what a made-up device draws in each, and while it waits
SECONDS = {"F": 0.030, "B": 0.055}
BASE = 1_700_000_000.0


def made(folder: Path, *, period: float = 0.02, noise: float = 0.0) -> tuple[Path, Path]:
    """A trace of a stage, and the log of a sensor that shows the mean since its last sample."""
    random = np.random.default_rng(1)
    events, spans, now = [], [], 0.1
    for k in range(40):
        for kind in ("F", "B"):
            events.append({"ph": "X", "cat": "gpu_user_annotation", "name": f"PP:0{kind}{k}", "ts": now * 1e6,
                           "dur": SECONDS[kind] * 1e6})  # fmt: skip
            events.append({"ph": "X", "cat": "user_annotation", "name": f"PP:0{kind}{k}", "ts": now * 1e6, "dur": 5.0})
            spans.append((now, now + SECONDS[kind], WATTS[kind]))
            now += SECONDS[kind] + float(random.choice([0.0, 0.013, 0.004]))
    fine = np.arange(0.0, now + 0.2, 1e-3)
    watts = np.full(len(fine), WATTS[""])
    for a, b, w in spans:
        watts[(fine >= a) & (fine < b)] = w
    step = round(period / 1e-3)
    log = ["timestamp, index, power.draw [W]"]
    for k in range(step, len(fine), step):
        at = datetime.fromtimestamp(BASE + fine[k], UTC).strftime("%Y/%m/%d %H:%M:%S.%f")
        mean = watts[k - step : k].mean() * (1 + noise * random.standard_normal())
        log += [f"{at}, 0, {mean:.2f} W", f"{at}, 1, 77.00 W"]
    trace, power = folder / "trace.json", folder / "power.csv"
    trace.write_text(json.dumps({"baseTimeNanoseconds": BASE * 1e9, "traceEvents": events}))
    power.write_text("\n".join(log))
    return trace, power


def test_watts_of_instructions_shorter_than_a_sample_are_told_apart(tmp_path: Path) -> None:
    """From samples that each hold several computations come back what the device drew in each, and between."""
    trace, power = made(tmp_path, period=0.05)
    found, waiting = watts_of(kineto(trace), power_log(power, gpu=0))
    assert found[0, "forward"] == pytest.approx(400.0, rel=0.03)
    assert found[0, "backward"] == pytest.approx(500.0, rel=0.03)
    assert waiting == pytest.approx(90.0, rel=0.1)
    noisy, _ = watts_of(kineto(trace), power_log(made(tmp_path, noise=0.02)[1], gpu=0))
    assert noisy[0, "forward"] == pytest.approx(400.0, rel=0.05)


def test_the_command_makes_a_profile_that_can_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Traces at two clocks and one log become a profile; the reader of profiles takes it."""
    trace, power = made(tmp_path)
    out = tmp_path / "profile.csv"
    typed = ["import-profile", "kineto", f"{trace}@1410", f"{trace}@1200", "--power", str(power), "--gpu", "0"]
    assert main([*typed, "--out", str(out)]) == 0
    assert "4 rows of 1 stages at 2 clocks" in " ".join(capsys.readouterr().out.split())
    profile = read(out)
    assert profile.instructions == ("forward", "backward")
    table = profile.tables[0, "forward"][0]
    assert table.time[0] == pytest.approx(0.030)
    assert table.energy[0] == pytest.approx(0.030 * 400, rel=0.03)
    assert main([*typed[:2], str(trace), "--out", str(out)]) == 2
    assert "must be FILE@MHZ" in capsys.readouterr().err


def test_nsys_and_zeus_are_read(tmp_path: Path) -> None:
    """NVTX ranges in GPU time, after nsys' own chatter; windows of Zeus with their own joules."""
    path = tmp_path / "nvtx.csv"
    path.write_text(
        "Processing [x.sqlite]...\nName,Projected Start (ns),Projected Duration (ns),Orig Start (ns)\n"
        ":stage1/forward,1000000000,30000000,0\n:stage1/backward,1100000000,60000000,0\n:other,1,1,0\n"
    )
    found = nsys(path, start=50.0)
    assert [(r.stage, r.instruction, r.start, r.seconds) for r in found] == [
        (1, "forward", 51.0, 0.03), (1, "backward", 51.1, 0.06)
    ]  # fmt: skip
    log = tmp_path / "zeus.csv"
    log.write_text("start_time,window_name,elapsed_time,gpu0_energy\n1.0,PP:0F0,0.05,20\n2.0,PP:0F1,0.05,22\n")
    (row,) = rows_of(zeus(log), 1410.0, None)
    assert row == {"stage": 0, "instruction": "forward", "frequency": 1410.0, "time": 0.05, "energy": 21.0}


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    """No named range, no overlap in time, no energy, no column: one sentence each."""
    trace, power = made(tmp_path)
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({"traceEvents": [{"ph": "X", "cat": "kernel", "name": "gemm"}]}))
    with pytest.raises(InputError, match="no range is named like PP:0F1"):
        kineto(empty)
    with pytest.raises(InputError, match="do not overlap in time"):
        watts_of(kineto(trace), power_log(power, zone="Asia/Tokyo", gpu=0))
    with pytest.raises(InputError, match="give a log of power"):
        rows_of(kineto(trace), 1410.0, None)
    bad = tmp_path / "bad.csv"
    with bad.open("w") as stream:
        csv.writer(stream).writerows([["a", "b"], [1, 2]])
    with pytest.raises(InputError, match="needs the columns timestamp and power"):
        power_log(bad)
    with pytest.raises(InputError, match="has no column window_name"):
        zeus(bad)
