"""Tests for `wattline.source.measured.kernelset`: kernels of engines beside the model's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware.catalog import chip
from wattline.source.measured.calibrate import predict_rows
from wattline.source.measured.kernelset import MOST, arrays_of, chosen, frequencies, sets
from wattline.source.roofline.silicon import Silicon

# Rows of ai-dynamo/aiconfigurator's tables (Apache-2.0): chip, engine, version, dtype, m, n, k, milliseconds.
TABLES = [
    ("h100-sxm", "VLLM", "0.14.0", "bfloat16"), ("b200-sxm", "TRTLLM", "1.3.0rc15", "fp8"),
    ("gb200", "TRTLLM", "1.3.0rc17", "nvfp4"), ("rtx-pro-6000", "VLLM", "0.24.0", "fp8"),
]  # fmt: skip


def product(
    name: str = "VLLM", version: str = "0.19.0", dtype: str = "bfloat16", **shape: int
) -> dict[str, np.ndarray]:
    row = {
        "op_name": "gemm",
        "framework": name,
        "version": version,
        "gemm_dtype": dtype,
        "m": 256,
        "n": 4096,
        "k": 4096,
    }
    return {k: np.array([v]) for k, v in {**row, **shape}.items()}


@pytest.mark.parametrize(("name", "engine", "version", "dtype"), TABLES)
def test_an_engines_product_is_no_faster_than_its_chip(name: str, engine: str, version: str, dtype: str) -> None:
    """Large products of every engine reach a third to all of the chip's rate."""
    sheet = chip(name)
    guess = predict_rows(product(engine, version, dtype, m=8192, n=8192, k=8192), sheet)
    precision = {"bfloat16": "bf16", "fp8": "fp8", "nvfp4": "fp4"}[dtype]
    share = 2 * 8192**3 / guess.time[0] / sheet[f"compute.rate.{precision}"]
    assert 0.3 < share < 1.0
    assert guess.power[0] <= sheet["power.limit"]


def test_rows_of_no_engine_are_as_before() -> None:
    """The reference campaign of the H200 keeps to its own kernels; an engine nobody measured to the model's."""
    rows = product()
    del rows["version"], rows["framework"]
    plain = predict_rows(rows, chip("h200-sxm"))
    assert chosen(Silicon.of(chip("h200-sxm")), "campaign", "gemm") is None
    other = predict_rows(product("Unheard", "1.0"), chip("h100-sxm"))
    bare = predict_rows(product("Unheard", "1.0"), chip("h100-sxm"), meter=False)
    assert other.time == pytest.approx(bare.time)
    assert plain.time[0] > 0


def test_a_chip_without_tables_takes_its_kin() -> None:
    """A B300 runs TensorRT-LLM as another Blackwell does, with a wider interval than that chip has itself."""
    own = predict_rows(product("TRTLLM", "1.3.0"), chip("b200-sxm"))
    kin = predict_rows(product("TRTLLM", "1.3.0"), chip("b300-sxm"))
    assert kin.time[0] == pytest.approx(own.time[0], rel=0.2)
    assert kin.time_ninety[0] > own.time_ninety[0]


@given(st.integers(1, 2**24), st.integers(1, 2**24), st.sampled_from(["bfloat16", "fp8_block", "nvfp4"]))
def test_corrections_stay_bounded_and_fade(m: int, k: int, dtype: str) -> None:
    """Law: no correction exceeds a factor of ten, and far from the fitted shapes there is none."""
    rows = product("TRTLLM", "1.3.0rc15", dtype, m=m, k=k)
    guess = predict_rows(rows, chip("b200-sxm"))
    bare = predict_rows(rows, chip("b200-sxm"), meter=False)
    assert abs(np.log(guess.time[0] / (bare.time[0] + 20e-6))) < MOST + 3.0
    if min(m, k) > 2**22:
        assert guess.extrapolated[0]
        assert guess.time[0] == pytest.approx(bare.time[0], rel=0.05)


def test_sets_are_stored_as_they_are_read() -> None:
    """What is written is what is read, and the random features are the same on every machine."""
    assert len(sets()) > 30
    stored = arrays_of({"a b c": sets()["b200-sxm vllm gemm"]})
    assert str(stored["a b c/labels"]) == ",".join(sets()["b200-sxm vllm gemm"].labels)
    assert frequencies()[0, :3] == pytest.approx([0.00123014553, 0.29874553753, -0.27413785489], abs=1e-8)
    assert all(one.spread[1, 0] > 0 and one.rows >= 100 for one in sets().values())


def test_a_stated_version_of_the_campaign_is_the_campaign() -> None:
    """Rows of vLLM 0.22 on its two chips are the campaign's whether they say so or not; other versions are not."""
    silent = product()
    del silent["version"]
    for name in ("h200-sxm", "b200-sxm"):
        said, unsaid = predict_rows(product(version="0.22.0"), chip(name)), predict_rows(silent, chip(name))
        assert said.time == pytest.approx(unsaid.time)
        assert predict_rows(product(version="0.19.0"), chip(name)).time != pytest.approx(unsaid.time)


def test_attention_of_a_blackwell_without_tables_is_its_kins() -> None:
    """A GB200's prefill under vLLM, which no table has, is corrected as the B200's was."""
    row = {"op_name": "context_attention", "framework": "VLLM", "version": "0.24.0", "batch_size": 8, "isl": 2048,
           "num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "kv_cache_dtype": "bfloat16", "window_size": 0}  # fmt: skip
    rows = {k: np.array([v]) for k, v in row.items()}
    sheet = chip("gb200")
    assert predict_rows(rows, sheet).time != pytest.approx(predict_rows(rows, sheet, meter=False).time)
    b200 = {k: v for k, v in rows.items() if k != "version"}
    assert predict_rows(rows, sheet).time == pytest.approx(predict_rows(b200, chip("b200-sxm")).time, rel=0.15)
