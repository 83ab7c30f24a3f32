"""Tests for `wattline.serving.conformal`: intervals that hold nine in ten rows of models never seen."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.serving import engine, serving_rows
from wattline.serving.conformal import Scores, factors, group_of, stretched

TARGET = ("energy_per_token_j",)


def drawn(models: int, apart: float, rows: int = 12, seed: int = 7) -> Scores:
    """Errors of models that differ by `apart`, each row by a tenth."""
    chance = np.random.default_rng(seed)
    labels = np.repeat([f"model {i}" for i in range(models)], rows)
    own = np.repeat(apart * chance.standard_normal((1, models)), rows, axis=1)
    return Scores("hopper/one/16 bits", own + 0.1 * chance.standard_normal(own.shape), labels)


@pytest.mark.parametrize("apart", [0.0, 0.1, 0.3, 1.0])
def test_nine_in_ten_rows_of_new_models_are_held(apart: float) -> None:
    """However far models lie apart, factors of some models hold nine in ten rows of a thousand others of their kind."""
    held = []
    for seed in range(8):
        low, high = stretched([drawn(12, apart, seed=seed)], TARGET)["hopper/one/16 bits"][TARGET[0]]
        fresh = -drawn(1000, apart, seed=100 + seed).errors[0]
        held.append(np.mean((np.log(low) <= fresh) & (fresh <= np.log(high))))
    assert 0.84 < np.mean(held) < 0.98


def test_wider_groups_stand_in_for_small_ones() -> None:
    """A group of too few rows has no factors of its own: its rows take those of the groups it lies in."""
    few = Scores("hopper/one/narrow", drawn(1, 0.1, rows=5).errors, np.repeat("x", 5))
    table = stretched([drawn(9, 0.1), few], TARGET)
    assert set(table) == {"hopper/one/16 bits", "hopper/one", "hopper", "other"}
    narrow = {"chip": "hopper", "devices": 1.0, "dense": "fp8", "experts": "none"}
    assert group_of(narrow) == "hopper/one/narrow"
    assert factors(table, narrow, "hopper", TARGET[0]) == tuple(table["hopper/one"][TARGET[0]])
    assert factors(table, narrow | {"chip": "cdna3"}, "cdna3", TARGET[0]) == tuple(table["other"][TARGET[0]])


def test_a_chip_of_few_models_is_never_surer() -> None:
    """Shipped intervals of Blackwell's tokens per second hold those of Hopper, whose models are many."""
    tables = engine.settings("serving")["interval"]
    for name in serving_rows.TARGETS:
        low, high = tables["hopper"][name]
        assert low < 1 < high
    (low, high), (low_few, high_few) = (tables[chip]["throughput_tok_s"] for chip in ("hopper", "blackwell"))
    assert low_few <= low
    assert high <= high_few
