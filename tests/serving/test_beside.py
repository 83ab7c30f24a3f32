"""Tests for how serving and diffusion are calibrated: intervals of a chip known from a few models."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "few_models.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("few_models", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def bounds(errors: np.ndarray) -> dict[str, list[float]]:
    """Factors that hold 92 in 100 rows, by target."""
    return {str(i): np.exp(np.quantile(-line, [0.04, 0.96])).tolist() for i, line in enumerate(errors)}


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
        span, shares = script.widened(fresh, labels, labels, held, theirs, bounds)
        assert all(share >= 0.9 for share in shares.values())
        base = script.wider(bounds(fresh), bounds(held))
        assert all(span[n][0] <= base[n][0] + 1e-12 and span[n][1] >= base[n][1] - 1e-12 for n in base)


def test_intervals_stretch_no_further_than_needed(script: ModuleType) -> None:
    """Where models lie far apart, the share held is that of the row at nine in ten, not more."""
    held, theirs = drawn(7, 0.1)
    fresh, labels = drawn(3, 1.0)
    span, shares = script.widened(fresh, labels, labels, held, theirs, bounds)
    base = script.wider(bounds(fresh), bounds(held))
    stretched = [n for n in base if span[n][1] > base[n][1] + 1e-9]
    assert stretched
    assert all(0.9 <= shares[n] < 0.95 for n in stretched)
