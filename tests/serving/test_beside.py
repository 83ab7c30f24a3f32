"""Tests for how serving and diffusion are calibrated: intervals of a chip known from a few models."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wattline.serving import diffusion_rows, engine, serving_rows

SCRIPT = Path(__file__).parents[2] / "scripts" / "calibrate_serving.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate_serving", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def drawn(models: int, apart: float, rows: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Errors of models that differ by `apart`, each row by a tenth, four targets; and the model of each row."""
    chance = np.random.default_rng(7)
    labels = np.repeat([f"model {i}" for i in range(models)], rows)
    own = np.repeat(apart * chance.standard_normal((4, models)), rows, axis=1)
    return own + 0.1 * chance.standard_normal(own.shape), labels


def test_intervals_hold_nine_in_ten_rows_of_models_left_out(script: ModuleType) -> None:
    """However far models lie apart, bounds taken without a model and stretched hold nine in ten of such rows."""
    held, theirs = drawn(7, 0.1)
    for apart in (0.0, 0.2, 1.0):
        fresh, labels = drawn(3, apart)
        span, shares = script.widened(fresh, labels, labels, held, theirs, script.bounds)
        assert all(share >= 0.9 for share in shares.values())
        base = script.wider(script.bounds(fresh), script.bounds(held))
        assert all(span[n][0] <= base[n][0] + 1e-12 and span[n][1] >= base[n][1] - 1e-12 for n in base)


def test_intervals_stretch_no_further_than_needed(script: ModuleType) -> None:
    """Where models lie far apart, the share held is that of the row at nine in ten, not more."""
    held, theirs = drawn(7, 0.1)
    fresh, labels = drawn(3, 1.0)
    span, shares = script.widened(fresh, labels, labels, held, theirs, script.bounds)
    base = script.wider(script.bounds(fresh), script.bounds(held))
    stretched = [n for n in base if span[n][1] > base[n][1] + 1e-9]
    assert stretched
    assert all(0.9 <= shares[n] < 0.95 for n in stretched)


@pytest.mark.parametrize(
    ("kind", "targets"), [("serving", serving_rows.TARGETS), ("diffusion", diffusion_rows.TARGETS)]
)
def test_a_chip_of_few_models_is_never_surer(kind: str, targets: Sequence[str]) -> None:
    """Shipped intervals of Blackwell hold those of Hopper, whose models are many."""
    tables = engine.settings(kind)["interval"]
    for name in targets:
        (low, high), (low_few, high_few) = tables["hopper"][name], tables["blackwell"][name]
        assert low_few <= low < 1 < high <= high_few
