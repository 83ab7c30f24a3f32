"""Tests for `wattline.source.roofline.uncertain`: spreads multiplied and averaged by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.hardware import catalog
from wattline.source.base import Device
from wattline.source.roofline.silicon import Silicon, calibration
from wattline.source.roofline.source import Roofline
from wattline.source.roofline.uncertain import describe, spread_of, spread_per_operator
from wattline.workload.operator import Attention, Elementwise, Gemm, Operator

TABLE = calibration()["spread"]
KINDS = ("gemm", "prefill", "decode", "moe")


def silicon(name: str) -> Silicon:
    return Silicon.of(catalog.chip(name))


def test_a_measured_chip_has_the_spread_of_its_kind() -> None:
    """Inside the range of the chip fitted on, time and energy are as unsure as the held-out rows; no factor."""
    chip = silicon("h200-sxm")
    for net in KINDS:
        assert spread_of(chip, net, False) == pytest.approx((*TABLE["kind"][net], *TABLE["ninety"][net]))
    assert spread_of(chip, "", False)[:2] == pytest.approx(TABLE["kind"]["other"])


def test_outside_the_fitted_range_both_spreads_grow_by_their_own_factor() -> None:
    """Time by the first of `outside`, energy by the second, of one deviation and of the 90 % interval alike."""
    chip = silicon("h200-sxm")
    for net in KINDS:
        near, far = spread_of(chip, net, False), spread_of(chip, net, True)
        assert np.divide(far, near) == pytest.approx([*TABLE["outside"], *TABLE["outside"]])


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "mi300x"])
def test_a_chip_without_rows_grows_by_the_factors_of_unmeasured_chips(name: str) -> None:
    """Whatever the kind; and it compounds with lying outside the range."""
    for net in KINDS:
        got, base = spread_of(silicon(name), net, True)[:2], TABLE["kind"][net]
        assert got == pytest.approx(
            [b * f * u for b, f, u in zip(base, TABLE["outside"], TABLE["unmeasured"], strict=True)]
        )
    assert describe(silicon(name))[0] is False


def test_a_chip_of_few_rows_has_factors_by_kind() -> None:
    """Those of the kind where its rows tell, those of the others where not."""
    chip, few = silicon("b200-sxm"), TABLE["chip"]["b200-sxm"]
    assert describe(chip)[0] is True
    for net in KINDS:
        want = np.multiply(TABLE["kind"][net], few.get(net, few["other"]))
        assert spread_of(chip, net, False)[:2] == pytest.approx(want)


OPERATORS: list[Operator] = [
    Gemm(name="g", m=4096, n=4096, k=4096),
    Elementwise(name="e", read=1e8, write=1e8),
    Attention(name="a", batch=32, query=1, context=2000, heads=32, kv_heads=8, head_dim=128, value_dim=128, phase="decode"),
    Gemm(name="g", m=1e6, n=1e6, k=10.0, repeat=2.0),
]  # fmt: skip


@pytest.mark.parametrize("name", ["h200-sxm", "b200-sxm", "h100-sxm"])
def test_the_spread_of_a_sum_is_the_mean_of_spreads_weighted_by_seconds(name: str) -> None:
    """Errors of one source are common to all: sum(t u) / sum(t), seconds at the highest clock without a limit."""
    sheet = catalog.chip(name).with_({"power.limit": 9e4})
    device, chip = Device(sheet, catalog.default_node(sheet)), silicon(name)
    source, top = Roofline(residual=False), np.array([chip.clock_max])
    alone = [source.points([o], device, top) for o in OPERATORS]
    whole = source.points(OPERATORS, device, top)
    seconds = np.array([float(p.time[0]) for p in alone])
    assert whole.time_uncertainty == pytest.approx(seconds @ [p.time_uncertainty for p in alone] / seconds.sum())
    assert whole.uncertainty == pytest.approx(seconds @ [p.uncertainty for p in alone] / seconds.sum())
    # Alone each is as unsure as its kind, whatever its length.
    assert alone[0].time_uncertainty == pytest.approx(spread_of(chip, "gemm", False)[0])
    assert alone[1].uncertainty == pytest.approx(spread_of(chip, "", False)[1])
    assert alone[2].uncertainty == pytest.approx(spread_of(chip, "decode", False)[1])


def test_each_operator_says_whether_it_lies_outside() -> None:
    """One enormous product outside the fitted range marks itself and the whole piece, not its neighbours."""
    sheet, chip = catalog.chip("h200-sxm"), silicon("h200-sxm")
    device = Device(sheet, catalog.default_node(sheet))
    works = Roofline().works([OPERATORS[0], OPERATORS[3]], chip, device.node)
    spreads, outside = spread_per_operator(chip, works)
    assert outside.tolist() == [False, True]
    assert spreads == pytest.approx(np.array([spread_of(chip, "gemm", False)[:2], spread_of(chip, "gemm", True)[:2]]))
    assert Roofline().points(OPERATORS, device).extrapolated
    assert not Roofline().points(OPERATORS[:3], device).extrapolated


def test_no_operators_have_no_spread() -> None:
    """An empty piece is neither unsure nor outside."""
    spreads, outside = spread_per_operator(silicon("h200-sxm"), [])
    assert spreads.shape == (0, 2)
    assert outside.shape == (0,)
