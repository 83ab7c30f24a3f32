"""Tests for `scripts/measure_operators.py`, run whole against the simulated NVIDIA library with its numpy backend."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_operators.py"


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("measure_operators", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def call(library: Path, folder: Path, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, with a simulated library of these settings."""
    config = folder / "fakenvml.cfg"
    config.write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
    world = {**os.environ, "FAKENVML": str(config), "WATTLINE_NVML": str(library), "OMP_NUM_THREADS": "1"}
    world.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--backend", "numpy", "--quick", *words],
        env=world, capture_output=True, text=True, timeout=120, cwd=folder, check=False,
    )  # fmt: skip


def test_rows_can_be_validated_and_calibrated_with(fake_library, tmp_path):
    """Every kind of operator is measured with the energy counter, and the file is what validate and calibrate read."""
    done = call(
        fake_library, tmp_path, "--out", "data/measured", "--seconds", "0.4", wave="constant", hi=400, counter=0.02
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.strip()
    assert path.parent == tmp_path / "data" / "measured"
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [r["op_name"] for r in rows] == [
        "gemm", "context_attention", "generation_attention", "memory_copy", "transformer"
    ]  # fmt: skip
    for row in rows:
        assert (row["framework"], row["device"], row["driver"]) == ("wattline", "Simulated GPU", "999.0")
        assert row["method"] == "counter"
        assert float(row["power"]) == pytest.approx(400, rel=0.08)
        # The number of launches is judged from a trial; on a busy machine the two may differ a lot.
        assert 100 < float(row["latency"]) * int(row["launches"]) < 4000  # ms
        joules = 1e-3 * float(row["latency"]) * float(row["power"])
        assert float(row["energy_low_j"]) <= joules * 1.02
        assert float(row["energy_high_j"]) >= joules * 0.98
        assert row["clock_mhz"]
        assert row["power_limit"] == "700"
        assert row["date"].endswith("Z")
    code = "import sys; from wattline.show.cli.main import main; sys.exit(main())"
    wattline = [sys.executable, "-c", code]
    told = subprocess.run(
        [*wattline, "validate", "operators", str(path), "--chip", "h100-sxm", "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = json.loads(told.stdout)
    assert found["rows"] == 5
    assert found["metrics"].keys() == {"latency", "power", "energy_j"}
    subprocess.run(
        [*wattline, "calibrate", "h100-sxm", str(path), "--json"], capture_output=True, timeout=60, check=True
    )


def test_what_cannot_be_measured_is_a_sentence(fake_library, tmp_path):
    """No such device, and a length of time that is none, end in one line and exit code 2."""
    for words, message in (
        (("--device", "3"), "no NVIDIA device 3"),
        (("--seconds", "0"), "--seconds must be above 0"),
    ):
        done = call(fake_library, tmp_path, *words, wave="constant")
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_small_computations_are_right(script):
    """The numpy attention agrees with a sum over positions written out, causal when there are many queries."""
    random = np.random.default_rng(3)
    q, k, v = (random.standard_normal((1, 1, 4, 3)) for _ in range(3))
    out = script.Numpy._attend(q, k, v)[0, 0]
    for i in range(4):
        weights = np.exp(k[0, 0, : i + 1] @ q[0, 0, i] / np.sqrt(3.0))
        assert np.allclose(out[i], weights @ v[0, 0, : i + 1] / weights.sum())


def test_the_list_of_a_gpu_fits_its_memory_and_covers_every_kind(script):
    """Cases name columns that rows are read by; those kept take no more memory than stated."""
    listed = list(script.cases(quick=False))
    assert {c["op_name"] for c in listed} == {
        "gemm", "context_attention", "generation_attention", "memory_copy", "transformer"
    }  # fmt: skip
    assert all(set(case) <= set(script.HEAD) for case in listed)
    kept = [c for c in listed if script.held(c) <= script.MEMORY]
    assert len(kept) > 0.9 * len(listed)
    assert script.held({"op_name": "gemm", "m": 10, "n": 20, "k": 30}) == 2 * (300 + 600 + 200)
