"""Tests for `wattline.hardware.technology`: published tables come out, and what lies between them is between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware import technology as t
from wattline.hardware.memory import sram_energy

# Horowitz (ISSCC 2014), 45 nm, and Jouppi et al. (ISCA 2021, table 2), 7 nm: pJ.
TABLES = [("int8_add", 0.03, 0.007), ("int8_mul", 0.2, 0.07), ("fp32_add", 0.9, 0.38), ("fp32_mul", 3.7, 1.31),
          ("int32_mul", 3.1, 1.48), ("fp16_mul", 1.1, 0.34)]  # fmt: skip


@pytest.mark.parametrize(("name", "large", "small"), TABLES)
def test_the_published_energies_come_out(name: str, large: float, small: float) -> None:
    """The tables are met in their own nodes; a node between costs something between."""
    assert t.operation(name, "45nm") == pytest.approx(large * 1e-12)
    assert t.operation(name, "7nm") == pytest.approx(small * 1e-12)
    assert small * 1e-12 < t.operation(name, "16nm") < large * 1e-12


def test_logic_sram_and_wires_do_not_scale_alike() -> None:
    """From 45 nm to 7 nm: arithmetic 2.8 times less, a small SRAM 1.3 times, a large one 7 times, wires with V^2."""
    assert 1 / t.by_tables("45nm", "7nm") == pytest.approx(2.8, abs=0.1)
    assert t.operation("sram_8KiB", "45nm") / t.operation("sram_8KiB", "7nm") == pytest.approx(1.33, abs=0.01)
    assert t.operation("sram_1MiB", "45nm") / t.operation("sram_1MiB", "7nm") == pytest.approx(7.14, abs=0.01)
    assert t.wire(0.9) / t.wire(0.75) == pytest.approx(1.44)


def test_the_polynomials_of_stillmaker_and_baas_shrink_more_than_the_tables() -> None:
    """Both are published and they disagree: 15 times against 2.8 times; the docs say so."""
    assert 1 / t.logic("45nm", "7nm") == pytest.approx(0.84433 / 0.05614, rel=1e-3)
    assert t.at(t.polynomial("65nm"), 1.1) == pytest.approx(3.755 * 1.21 - 4.398 * 1.1 + 1.975)


def test_the_third_size_of_sram_is_a_check() -> None:
    """The form through 8 KiB and 1 MiB meets the tables' 32 KiB within 7 %."""
    for node, published in (("45nm", 20e-12), ("7nm", 8.5e-12)):
        fixed, slope = t.sram_word(node)
        assert fixed + slope * math.sqrt(2**15) == pytest.approx(published, rel=0.07)


@given(st.floats(5, 130), st.floats(5, 130))
def test_scaling_there_and_back_changes_nothing(a: float, b: float) -> None:
    """The factor from a to b times that from b to a is one."""
    there, back = t.arithmetic(f"{a:.3f}nm", f"{b:.3f}nm"), t.arithmetic(f"{b:.3f}nm", f"{a:.3f}nm")
    assert there * back == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: t.feature("seven"), "must be named like"),
        (lambda: t.operation("fp8_mul", "7nm"), "not in the tables"),
        (lambda: t.polynomial("3nm"), "outside the published scaling tables"),
    ],
)
def test_what_is_not_published_is_refused(call: object, says: str) -> None:
    """A node or operation without a table says what there is."""
    with pytest.raises(InputError, match=says):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("capacity", "banks"), [(2.0**13, 1), (2.0**20, 1), (2.0**20, 64), (2.0**28, 1), (2.0**28, 1024)]
)
def test_sram_costs_something_and_less_in_every_finer_node(capacity, banks):
    """From 45 nm to 2 nm an access of a bank of 8 KiB or more costs more than nothing, and never more than in a coarser node."""
    nodes = ["45nm", "28nm", "22nm", "16nm", "14nm", "10nm", "7nm", "6nm", "5nm", "4nm", "3nm", "2nm"]
    energy = [sram_energy(capacity, 32.0, node, banks) for node in nodes]
    assert min(energy) > 0
    assert (np.diff(energy) <= 1e-9 * energy[0]).all(), dict(zip(nodes, energy, strict=True))


def test_nothing_is_said_beyond_the_tables():
    """A node finer than the foundry's last figure is refused."""
    with pytest.raises(InputError, match="1nm lies outside the published shrinks of logic, 7nm to 2nm"):
        sram_energy(2.0**20, 32.0, "1nm")
