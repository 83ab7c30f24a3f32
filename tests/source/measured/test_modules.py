"""Tests for `wattline.source.measured.modules`: kernels of layers as their columns state them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.catalog import chip
from wattline.source.measured.calibrate import predict_rows
from wattline.source.measured.rows import COLUMNS, batches
from wattline.source.measured.sound import assumed, reasons
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.work import cost

H200 = Silicon.of(chip("h200-sxm"))
# One plausible row of every operator.
ROWS: dict[str, dict[str, object]] = {
    "encoder_attention": {"batch_size": 4, "isl": 1024, "num_heads": 16, "head_dim": 80, "attn_dtype": "bfloat16"},
    "context_mla": {"batch_size": 2, "isl": 2048, "num_heads": 16, "kv_cache_dtype": "bfloat16"},
    "generation_mla": {"batch_size": 64, "step": 4095, "num_heads": 16, "kv_cache_dtype": "fp8"},
    "mla_context_module": {"batch_size": 2, "isl": 2048, "num_heads": 16, "kv_cache_dtype": "bfloat16",
                           "gemm_type": "fp8_block", "architecture": "DeepseekV3ForCausalLM"},
    "mla_generation_module": {"batch_size": 64, "step": 4095, "num_heads": 16, "kv_cache_dtype": "fp8",
                              "gemm_type": "bfloat16", "architecture": "DeepseekV3ForCausalLM"},
    "gdn": {"kernel_source": "chunk_gated_delta_rule", "batch_size": 4, "seq_len": 2048, "num_tokens": 8192, "d_conv": 4,
            "num_k_heads": 16, "head_k_dim": 128, "num_v_heads": 32, "head_v_dim": 128},
    "mamba2": {"kernel_source": "mamba_chunk_scan_combined", "batch_size": 4, "seq_len": 2048, "num_tokens": 8192,
               "d_conv": 4, "nheads": 64, "head_dim": 64, "d_state": 128, "n_groups": 8, "chunk_size": 128},
    "compute_scale": {"m": 4096, "k": 7168, "quant_dtype": "fp8"},
    "scale_matrix": {"m": 4096, "k": 7168, "quant_dtype": "fp8"},
}  # fmt: skip


def table(op: str, **changes: object) -> dict[str, np.ndarray]:
    return {k: np.array([v]) for k, v in {"op_name": op, **ROWS[op], **changes}.items()}


def busy(rows: dict[str, np.ndarray]) -> float:
    return sum(float(cost(b.works, H200).time.sum()) for b in batches(rows, H200))


def flops(rows: dict[str, np.ndarray]) -> float:
    energy = H200.energy_of("bf16")
    return sum(float(np.sum(w.e_core * w.repeat)) / energy for b in batches(rows, H200) for w in b.works if w.net)


@pytest.mark.parametrize("op", ROWS)
def test_every_operator_is_predicted(op: str) -> None:
    """Each kind of kernel has a time, a power within the limit and intervals round both."""
    guess = predict_rows(table(op), chip("h200-sxm"))
    low, high = guess.interval("time")
    assert 1e-7 < low[0] < guess.time[0] < high[0]
    assert 70 < guess.power[0] <= 700.001


@given(st.sampled_from(sorted(ROWS)), st.integers(1, 4))
def test_twice_the_rows_take_no_less_time(op: str, times: int) -> None:
    """Law: a larger batch of the same kernel is never faster."""
    name = "m" if op in ("compute_scale", "scale_matrix") else "batch_size"
    more = {name: int(ROWS[op][name]) * 2**times}  # type: ignore[call-overload]
    if "num_tokens" in ROWS[op]:
        more["num_tokens"] = int(ROWS[op]["num_tokens"]) * 2**times  # type: ignore[call-overload]
    assert busy(table(op, **more)) >= busy(table(op)) * 0.999


def test_a_module_holds_its_attention_and_its_products() -> None:
    """A layer of latent attention takes longer than its attention alone, and narrow weights make it cheaper."""
    whole, alone = busy(table("mla_generation_module")), busy(table("generation_mla"))
    assert whole > alone
    long = {"batch_size": 16, "isl": 8192}
    wide = busy(table("mla_context_module", **long, gemm_type="bfloat16"))
    assert busy(table("mla_context_module", **long)) < wide


def test_an_encoder_sees_all_of_its_picture() -> None:
    """Attention without a mask does twice the pairs of a causal prompt of the same length."""
    seen = {"op_name": "context_attention", "batch_size": 4, "isl": 8192, "num_heads": 16, "num_key_value_heads": 16,
            "head_dim": 128, "kv_cache_dtype": "bfloat16"}  # fmt: skip
    causal = busy({k: np.array([v]) for k, v in seen.items()})
    whole = busy(table("encoder_attention", isl=8192, head_dim=128))
    assert 1.7 * causal < whole < 2.2 * causal


def test_a_token_of_a_recurrent_layer_moves_its_state() -> None:
    """One step of the gated delta rule reads and writes 128 x 128 values in fp32 a head and sequence."""
    step = {"kernel_source": "fused_recurrent_gated_delta_rule", "batch_size": 512, "seq_len": 1, "num_tokens": 512}
    state = 512 * 32 * 128 * 128 * 4.0
    assert busy(table("gdn", **step)) == pytest.approx(2 * state / (0.9 * 4.8e12), rel=0.2)


def test_unknown_words_of_modules_are_sentences() -> None:
    """An architecture or a kernel that is not known is named, with what is."""
    with pytest.raises(InputError, match="DeepseekV3ForCausalLM"):
        predict_rows(table("mla_context_module", architecture="OtherForCausalLM"), chip("h200-sxm"))
    with pytest.raises(InputError, match="chunk_gated_delta_rule"):
        predict_rows(table("gdn", kernel_source="chunk_rule"), chip("h200-sxm"))


def test_missing_columns_take_stated_defaults() -> None:
    """Older files lack the window, the cache's dtype or the routing: a sentence says what stood for them."""
    rows = {"op_name": ["context_attention"], "batch_size": [2], "isl": [512], "num_heads": [8],
            "num_key_value_heads": [8], "head_dim": [128]}  # fmt: skip
    arrays = {k: np.array(v) for k, v in rows.items()}
    told = assumed(arrays)
    assert told == ["column kv_cache_dtype is not there and was taken as bfloat16",
                    "column window_size is not there and was taken as 0"]  # fmt: skip
    assert reasons(arrays) == [""]
    assert predict_rows(arrays, chip("h100-sxm")).time[0] > 0


@given(st.sampled_from(sorted(COLUMNS)), st.sampled_from([-1, 0.5, float("nan"), "x"]))
def test_a_bad_cell_costs_its_row_alone(op: str, cell: object) -> None:
    """Law: whatever stands in a cell, the row says why and its neighbours stand."""
    good = {"op_name": "gemm", "gemm_dtype": "bfloat16", "m": 1, "n": 128, "k": 128}
    names = {*good, *COLUMNS[op]}
    bad = dict.fromkeys(COLUMNS[op], cell)
    rows = {
        n: np.array([str(good.get(n, "1")), str(bad.get(n, "1")) if n != "op_name" else op], dtype=object)
        for n in names
    }
    told = reasons(rows)
    assert told[0] == ""
    assert told[1] != ""
