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
    "hopper": ((0.095, 0.120), (0.077, 0.107), (0.065, 0.079)),
    "blackwell, several GPUs": ((0.109, 0.164), (0.150, 0.198), (0.050, 0.063)),
    "blackwell": ((0.153, 0.203), (0.202, 0.482), (0.091, 0.185)),
}
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
