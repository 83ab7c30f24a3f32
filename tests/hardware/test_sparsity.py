"""Tests for `wattline.hardware.sparsity`: what zeros save, against coding them one by one and published rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.hardware.sparsity import (
    Density,
    bitmask,
    compressed_rows,
    pattern,
    run_length,
    sparse,
    stored,
)


def pairs_by_hand(values: np.ndarray, run: int) -> int:
    """Count (run, value) pairs by coding the values one by one."""
    count = waiting = 0
    for value in values:
        if value == 0 and waiting < 2**run - 1:
            waiting += 1
        else:
            count, waiting = count + 1, 0
    return count + (waiting > 0)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.8, 1.0])
def test_codes_are_as_long_as_coding_one_by_one(density: float) -> None:
    """Expected lengths are those of a long random stream: runs, a mask, rows."""
    values = np.random.default_rng(7).random(200_000) < density
    for run in (3, 5):
        assert pairs_by_hand(values, run) * (16 + run) / len(values) == pytest.approx(
            run_length(density, 16, run), rel=0.03
        )
    assert (values.sum() * 16 + len(values)) / len(values) == pytest.approx(bitmask(density, 16), rel=0.03)
    assert values.sum() * 24 / len(values) + 9 / 256 == pytest.approx(compressed_rows(density, 16), rel=0.03)


def test_two_in_four_doubles_the_published_rate() -> None:
    """NVIDIA A100 whitepaper: 624 TFLOP/s on structured weights, which take 9/16 of their bytes."""
    chip = architecture("a100-like")
    fast = sparse(chip, Density(b=0.5, structured=True))
    clock = chip.domain("core").reference_clock
    assert 2 * fast.compute.macs_per_cycle["bf16"] * fast.copies(fast.compute) * clock == pytest.approx(
        624e12, rel=5e-3
    )
    assert fast.compute.energy["bf16"] == pytest.approx(chip.compute.energy["bf16"] / 2)
    assert stored(chip, "b", 2.0, Density(b=0.5, structured=True)) == pytest.approx(9 / 8)


def test_zeros_without_the_pattern_save_such_a_chip_nothing() -> None:
    """Random zeros are not the pattern; the tensor cores of the A100 do not notice them."""
    chip = architecture("a100-like")
    assert sparse(chip, Density(a=0.3, b=0.5)) is chip
    assert stored(chip, "a", 2.0, Density(a=0.3)) == 2.0
    assert sparse(architecture("tpu-v4i-like"), Density(b=0.5, structured=True)) == architecture("tpu-v4i-like")


@given(st.floats(0.01, 1.0))
def test_gating_saves_energy_and_skipping_time_too(share: float) -> None:
    """Gated arithmetic, weights and sums cost the live share; skipped work runs at its inverse."""
    chip = architecture("eyeriss")
    gated = sparse(chip, Density(a=share))
    assert gated.compute.energy["int16"] == pytest.approx(share * chip.compute.energy["int16"])
    assert gated.compute.macs_per_cycle == chip.compute.macs_per_cycle
    assert gated.levels[3].read_energy == pytest.approx(share * chip.levels[3].read_energy)
    assert gated.levels[2].read_energy == chip.levels[2].read_energy  # the zero itself is read
    assert gated.levels[1].read_energy == chip.levels[1].read_energy
    skipping = chip.with_({"sparsity.zeros": "skip", "sparsity.balance": 0.5})
    speed = sparse(skipping, Density(a=share)).compute.macs_per_cycle["int16"]
    assert speed == pytest.approx(1 + 0.5 * (1 / share - 1))


@given(st.floats(0.01, 1.0), st.sampled_from(["rlc", "bitmask", "csr"]))
def test_a_code_is_used_only_where_it_is_smaller(share: float, codec: str) -> None:
    """Stored values never grow; fewer zeros take more."""
    chip = architecture("eyeriss").with_({"sparsity.codec": codec})
    size = stored(chip, "a", 2.0, Density(a=share))
    assert 0 < size <= 2.0
    assert stored(chip, "a", 2.0, Density(a=share / 2)) <= size
    assert stored(chip, "b", 2.0, Density(b=share)) == 2.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sparsity.zeros": "gates"}, "sparsity.zeros is 'gates'; did you mean 'gate'"),
        ({"sparsity.noticed": ["c"]}, "sparsity.noticed names 'c'; known: a, b"),
        ({"sparsity.codec": "zip"}, "sparsity.codec is 'zip'; known: bitmask, csr, rlc"),
        ({"sparsity.structured": "4:2"}, "N below M"),
        ({"sparsity.balance": 1.5}, "must lie between 0 and 1"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(changes: dict[str, object], says: str) -> None:
    """The message names the key."""
    with pytest.raises(InputError, match=says):
        architecture("eyeriss").with_(changes)
    with pytest.raises(InputError, match="above 0 and up to 1"):
        Density(a=0.0)
    assert pattern("1:4") == (1, 4)
