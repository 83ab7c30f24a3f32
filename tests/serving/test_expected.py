"""Predictions of serving that a release may not make worse: constants, predictions and errors belong together."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from wattline.serving import engine
from wattline.serving.serving_rows import predict, rows_of
from wattline.source.roofline.source import Roofline

# Errors of the last release with whole model families left out: [median, mean] of J/token, tokens/s and W.
RELEASED = {
    "hopper": ((0.100, 0.119), (0.075, 0.108), (0.070, 0.079)),
    "blackwell, several GPUs": ((0.103, 0.135), (0.111, 0.135), (0.054, 0.065)),
    "blackwell": ((0.133, 0.188), (0.185, 0.550), (0.092, 0.213)),
}
# Median errors of public closed-loop rows: seconds per token, first token, tokens/s and GPU.
CLOSED_LOOP = {
    "fitted": (0.035, 0.133, 0.042), "chip_left_out": (0.073, 0.223, 0.084), "engine_left_out": (0.078, 0.273, 0.087),
}  # fmt: skip
POINT = 0.01


@pytest.mark.parametrize("group", RELEASED)
def test_no_release_widens_an_error_by_more_than_a_point(group: str) -> None:
    """Errors on families left out of the fit, as calibrate_serving.py stored them, are no worse than the last release's."""
    found = engine.settings("expected")["family_left_out"][group]
    for now, before in zip(found, RELEASED[group], strict=True):
        assert (np.array(now) <= np.array(before) + POINT + 1e-9).all()


def test_stored_errors_are_those_of_the_model_as_it_is() -> None:
    """A change of the model that moves predictions by over 3 % must be calibrated anew, which writes its errors."""
    table = engine.settings("expected")
    guess = predict(rows_of(table["rows"]), Roofline())
    for name, values in table["predicted"].items():
        assert guess[name] == pytest.approx(np.array(values), rel=0.03), name


@pytest.mark.skipif(
    not os.environ.get("WATTLINE_REFERENCE"), reason="WATTLINE_REFERENCE names no folder of measured rows"
)
def test_errors_on_measured_rows_are_the_stored_ones() -> None:
    """Where the measured rows are at hand, their errors are recomputed and compared with those stored."""
    path = Path(__file__).parents[2] / "scripts" / "calibrate_serving.py"
    spec = importlib.util.spec_from_file_location("calibrate_serving", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    folder = Path(os.environ["WATTLINE_REFERENCE"]) / "serving"
    files = {"H100": ("h100", "more"), "B200": ("b200_calibration", "more")}
    for gpu, names in files.items():
        data = script.Rows.read([folder / f"llm_{name}.csv.gz" for name in names], gpu, Roofline())
        errors = np.abs(np.expm1(data.errors(engine.constants(data.chip))))
        stored = engine.settings("expected")["fitted"][data.chip]
        for line, (median, mean) in zip(errors, stored, strict=False):
            assert np.median(line) <= median + POINT
            assert line.mean() <= mean + POINT


@pytest.mark.parametrize("kind", CLOSED_LOOP)
def test_no_release_widens_an_error_of_closed_loops(kind: str) -> None:
    """The same of benchmarks with other engines, as calibrate_engines.py stored them."""
    found = engine.settings("engine_factors")["median_error"][kind]
    assert (np.array(found) <= np.array(CLOSED_LOOP[kind]) + POINT + 1e-9).all()
