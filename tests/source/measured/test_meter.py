"""Tests for `wattline.source.measured.meter`: trees in closed form, and where the meter's reading may and may not go."""

import numpy as np
import pytest

from wattline.hardware.catalog import chip, node
from wattline.source.base import Device
from wattline.source.measured.calibrate import predict_rows
from wattline.source.measured.meter import Forest, forests, reading
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Gemm


def products(m: list[int], dtype: str = "bfloat16") -> dict[str, np.ndarray]:
    """Square products of 8192 columns."""
    n = len(m)
    return {
        "op_name": np.array(["gemm"] * n), "gemm_dtype": np.array([dtype] * n), "m": np.array(m),
        "n": np.full(n, 8192), "k": np.full(n, 8192),
    }  # fmt: skip


def test_trees_add_up_as_drawn() -> None:
    """Closed form: a tree of depth two is two questions, and trees and base are summed."""
    tree = [[0, 1, 1]]
    forest = Forest(
        np.array(tree * 2, np.int16), np.array([[0.5, 10.0, 20.0]] * 2, np.float32),
        np.array([[1.0, 2.0, 3.0, 4.0]] * 2, np.float32), 0.5,
    )  # fmt: skip
    rows = np.array([[0.0, 10.0], [0.0, 11.0], [1.0, 20.0], [1.0, 21.0]])
    assert np.array_equal(forest(rows), 0.5 + 2 * np.array([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("name", ["h200-sxm", "b200-sxm"])
def test_readings_lie_between_waiting_and_the_limit(name: str) -> None:
    """Whatever the trees say, no reading leaves the range of the board."""
    silicon = Silicon.of(chip(name))
    guess = predict_rows(products([1, 16, 256, 4096, 32768]), chip(name))
    assert np.all(guess.power >= silicon.waiting * (1 - 1e-9))
    assert np.all(guess.power <= silicon.limit * (1 + 1e-9))


def test_a_chip_outside_the_campaign_has_no_meter() -> None:
    """Rows of any other chip are predicted as the kernels themselves."""
    rows = products([1, 256, 4096])
    with_meter, without = (predict_rows(rows, chip("h100-sxm"), meter=m) for m in (True, False))
    assert np.array_equal(with_meter.energy, without.energy)
    silicon = Silicon.of(chip("h100-sxm"))
    power = np.array([300.0])
    assert reading("gemm", {}, "bfloat16", silicon, np.array([1e-5]), power) is power


def test_the_meter_never_enters_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are the same with and without its trees."""
    device = Device(chip("h200-sxm"), node("hgx-h200"))
    work = [Gemm(name="g", m=256, n=4096, k=4096)]
    before = Roofline().points(work, device)
    monkeypatch.setattr("wattline.source.measured.meter.forests", dict)
    assert np.array_equal(Roofline().points(work, device).energy, before.energy)
    assert forests()


def test_a_late_host_leaves_the_chip_waiting() -> None:
    """Eager block-scaled products: mean power sinks towards waiting as the kernel fills less of the loop."""
    rows = products([1, 2, 4], "fp8_block")
    plain = predict_rows(rows, chip("h200-sxm"), meter=False)
    assert np.allclose(plain.time, plain.time[0], rtol=1e-6)
    graph = predict_rows(products([1, 2, 4]), chip("h200-sxm"), meter=False)
    assert np.all(plain.power < graph.power)


def test_the_clock_of_the_b200_counts_in_ticks() -> None:
    """Attention rows of the B200 last whole ticks of 2.048 us, three at least."""
    rows = {
        "op_name": ["generation_attention"] * 3, "batch_size": [1, 32, 256], "step": [1, 1023, 8191],
        "num_heads": [8] * 3, "num_key_value_heads": [1] * 3, "head_dim": [128] * 3,
        "kv_cache_dtype": ["bfloat16"] * 3, "window_size": [0] * 3,
    }  # fmt: skip
    ticks = predict_rows(rows, chip("b200-sxm")).time / 2.048e-6
    assert np.allclose(ticks, np.round(ticks))
    assert np.all(ticks >= 3)
