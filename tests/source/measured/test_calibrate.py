"""Tests for `wattline.source.measured.calibrate`: reading rows, errors, and improving a chip by a few rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.catalog import chip
from wattline.source.measured.calibrate import calibrate, compare, metrics, predict_rows
from wattline.source.roofline.routing import route

# Rows of ai-dynamo/aiconfigurator's performance files (Apache-2.0, vLLM 0.22 on an H200):
# dtype, m, n, k, latency in ms, power in W.
PRODUCTS = [
    ("bfloat16", 15, 8192, 8192, 0.034080, 604.5),
    ("bfloat16", 80, 8192, 8192, 0.036597, 648.9),
    ("bfloat16", 4096, 8192, 8192, 0.797634, 691.1),
    ("bfloat16", 9, 1024, 4096, 0.006905, 233.5),
    ("bfloat16", 4352, 1024, 4096, 0.065205, 692.6),
    ("bfloat16", 8192, 1024, 4096, 0.105508, 692.3),
    ("bfloat16", 224, 8192, 8192, 0.057248, 573.7),
    ("fp8_block", 3841, 8192, 8192, 0.515351, 686.9),
]


def table(rows: list[tuple[object, ...]] = PRODUCTS) -> dict[str, np.ndarray]:
    names = ("gemm_dtype", "m", "n", "k", "latency", "power")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    return columns | {"op_name": np.array(["gemm"] * len(rows))}


def test_witness_rows_of_the_h200_are_met() -> None:
    """Published products on an H200: median error below 8 % in time and 10 % in energy."""
    errors = compare(table(), chip("h200-sxm"))
    assert errors["time"].median_ape < 0.08
    assert errors["energy"].median_ape < 0.10


def test_intervals_hold_their_prediction() -> None:
    """The 90 % interval lies around the prediction, wider outside the fitted range."""
    rows = table() | {"n": np.array([8192] * 7 + [8_000_000])}
    guess = predict_rows(rows, chip("h200-sxm"))
    low, high = guess.interval("energy")
    assert np.all(low < guess.energy)
    assert np.all(guess.energy < high)
    assert guess.extrapolated[-1]
    assert not guess.extrapolated[0]
    assert (high / low)[-1] > (high / low)[0]


def test_attention_and_mixture_rows_are_read() -> None:
    """Every operator of the files gives a positive time and power."""
    attention = {
        "op_name": ["context_attention", "generation_attention"],
        "batch_size": [2, 32],
        "isl": [4096, 1],
        "step": [0, 4095],
        "num_heads": [32, 32],
        "num_key_value_heads": [8, 8],
        "head_dim": [128, 128],
        "kv_cache_dtype": ["bfloat16", "fp8"],
        "window_size": [0, 128],
    }
    mixture = {
        "op_name": ["moe"] * 3, "moe_dtype": ["bfloat16", "fp8", "fp8_block"], "num_tokens": [1, 128, 8192],
        "hidden_size": [7168] * 3, "inter_size": [2048] * 3, "topk": [8] * 3, "num_experts": [256] * 3,
        "moe_tp_size": [1, 2, 1], "moe_ep_size": [8, 1, 32], "distribution": ["balanced", "power_law_1.2", "uniform"],
    }  # fmt: skip
    for rows in (attention, mixture):
        guess = predict_rows(rows, chip("h200-sxm"))
        assert np.all(guess.time > 1e-6)
        assert np.all((guess.power > 100) & (guess.power <= 700.001))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op_name": np.array(["gem"] * 8)}, "did you mean 'gemm'"),
        ({"gemm_dtype": np.array(["bf17"] * 8)}, r"bf17.*known"),
        ({"m": None}, r"lacks column\(s\) m"),
        ({"latency": None}, r"lacks column\(s\) latency"),
        ({"power": np.array([np.nan] * 8)}, "positive numbers"),
    ],
)
def test_bad_tables_are_refused(change: dict[str, np.ndarray | None], message: str) -> None:
    """An unknown operator or dtype, a missing column or a NaN says what is known."""
    rows = {k: v for k, v in (table() | change).items() if v is not None}
    with pytest.raises(InputError, match=message):
        compare(rows, chip("h200-sxm"))


def test_calibration_finds_a_known_change() -> None:
    """Rows invented by a chip with dearer memory move the fitted energy per byte towards the truth."""
    sheet = chip("h100-sxm")
    truth = sheet.with_({"memory.hbm.energy": 1.5 * sheet["memory.hbm.energy"]})
    m = np.tile([1, 4, 16, 64, 256, 1024, 4096], 6)
    rows: dict[str, object] = {
        "op_name": np.array(["gemm"] * m.size),
        "gemm_dtype": np.array(["bfloat16"] * m.size),
        "m": m,
        "n": np.repeat([1024, 2048, 4096, 8192, 12288, 16384], 7),
        "k": np.repeat([8192, 16384, 4096, 8192, 2048, 4096], 7),
    }
    ideal = predict_rows(rows, truth)
    rows |= {"latency": 1e3 * ideal.time, "power": ideal.power}
    fitted, report = calibrate(sheet, rows, source="invented rows")
    assert report.after["energy"].mape < 0.6 * report.before["energy"].mape
    assert fitted["memory.hbm.energy"] > 1.2 * sheet["memory.hbm.energy"]
    assert fitted.facts["memory.hbm.energy"].source == "fitted to invented rows"


def test_calibration_of_a_right_model_changes_little() -> None:
    """Rows that the model already predicts leave every fact where it was."""
    sheet = chip("h100-sxm")
    ideal = predict_rows(table(), sheet)
    _, report = calibrate(sheet, table() | {"latency": 1e3 * ideal.time, "power": ideal.power})
    assert all(after == pytest.approx(before, rel=1e-3) for before, after in report.changes.values())


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=50))
def test_errors_of_a_perfect_prediction_are_zero(values: list[float]) -> None:
    """Metrics vanish where prediction equals measurement, and know a common factor as bias."""
    x = np.array(values)
    perfect, double = metrics(x, x), metrics(2 * x, x)
    assert (perfect.mape, perfect.median_ape, perfect.p90_ape, perfect.bias) == (0, 0, 0, 0)
    assert double.mape == pytest.approx(1.0)
    assert double.bias == pytest.approx(1.0)


@given(st.integers(1, 4096), st.sampled_from([1, 2, 8]), st.sampled_from([8, 64, 256]), st.sampled_from([1, 2, 8]))
def test_routing_keeps_tokens_and_experts(tokens: int, top_k: int, experts: int, devices: int) -> None:
    """The busiest device touches no more experts than it has or rows than there are."""
    for law in ("balanced", "uniform", "power_law_1.2"):
        got = route(law, tokens, top_k, experts, devices)
        assert 1 <= got.active <= experts // devices or got.rows < 1 or law == "uniform"
        assert got.rows <= tokens * top_k + 1e-9
        assert got.skew >= 1 - 1e-9


def test_unknown_routing_is_refused() -> None:
    """A routing law that is not known lists those that are."""
    with pytest.raises(InputError, match="balanced, uniform"):
        route("zipf", 1, 1, 8, 1)


def test_few_rows_widen_intervals_and_none_widen_them_more() -> None:
    """The B200, fitted to 300 rows, is less sure than the H200, and a chip without rows less than either."""

    def widths(name: str) -> tuple[float, float]:
        guess = predict_rows(table(), chip(name))
        return float(guess.time_ninety[0]), float(guess.energy_ninety[0])

    h200, b200 = widths("h200-sxm"), widths("b200-sxm")
    assert h200 < b200
    assert h200[1] < b200[1] < widths("h100-sxm")[1]
