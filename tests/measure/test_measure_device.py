"""Tests for `scripts/measure_device.py`, run whole against the simulated NVIDIA library with its numpy backend."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from wattline.measure import sensor as sensors

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_device.py"


def call(library: Path, folder: Path, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, with a simulated library of these settings."""
    config = folder / "fakenvml.cfg"
    config.write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
    world = {**os.environ, "FAKENVML": str(config), "WATTLINE_NVML": str(library), "OMP_NUM_THREADS": "1"}
    world.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--backend", "numpy", "--quick", *words],
        env=world, capture_output=True, text=True, timeout=180, cwd=folder, check=False,
    )  # fmt: skip


def test_a_device_is_measured_from_end_to_end(fake_library, tmp_path):
    """Calls, sensors, operators and models are written for a device whose truth is known, and nothing is set."""
    state = tmp_path / "knobs"
    done = call(
        fake_library, tmp_path, "--seconds", "0.15", "--budget", "40", wave="constant", hi=400, counter=0.02, state=state
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.strip()
    assert folder.parent == tmp_path / "data" / "measured"
    told = {(row["call"], row["arguments"]): row for row in json.loads((folder / "calls.json").read_text())}
    assert told["nvmlDeviceGetTotalEnergyConsumption", ""]["error"] == ""
    assert told["nvmlDeviceGetCurrentClocksEventReasons", ""]["answer"] == "4"
    assert "Function Not Found" in told["nvmlDeviceGetModuleId", ""]["error"]
    learnt = {row.kind: row for row in sensors.read(folder / "sensors.toml")}
    assert 0.019 < learnt["nvidia:energy"].period < 0.021
    operators = list(csv.DictReader((folder / "operators.csv").read_text("utf-8").splitlines()))
    assert {row["op_name"] for row in operators} == {
        "gemm", "context_attention", "generation_attention", "memory_copy", "transformer",
    }  # fmt: skip
    models = list(csv.DictReader((folder / "models.csv").read_text("utf-8").splitlines()))
    assert [row["batch"] for row in models if row["kind"] == "decode"] == ["1", "4", "16", "64", "256"]
    assert {row["kind"] for row in models} == {"gemm", "train", "decode"}
    for row in models:
        assert 300 < float(row["power_w"]) < 500
        assert float(row["low_j"]) <= float(row["energy_j"]) * 1.02
        assert (row["driver"], row["device"]) == ("999.0", "Simulated GPU")
    # Whatever the library kept of settings, nothing was set: the fourth number of a device is how often.
    import struct

    assert struct.unpack_from("d", state.read_bytes(), 24)[0] == 0.0


def test_a_device_that_is_not_there_is_a_sentence(fake_library, tmp_path):
    """It ends in one line and exit code 2, before anything is written."""
    done = call(fake_library, tmp_path, "--device", "5", wave="constant")
    assert done.returncode == 2
    assert "no NVIDIA device 5" in done.stderr
    assert not (tmp_path / "data").exists()
