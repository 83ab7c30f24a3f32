"""Tests for `wattline.source.roofline.shapes.latent`: new tokens that attend to latents, by kernels written for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware import catalog
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Attention


def seconds(chip: str, batch: float, context: float, heads: float, kv: str = "bf16") -> float:
    """One layer of DeepSeek's absorbed attention (rank 512, 64 rotary) at the highest clock."""
    found = catalog.device(chip)
    o = Attention(
        name="attention", precision="bf16", batch=batch, query=1, context=context, heads=heads, kv_heads=1,
        head_dim=576, value_dim=512, shared_kv=True, causal=False, phase="decode", kv=kv, kernel="mla",
    )  # fmt: skip
    device = Device(found, catalog.default_node(found))
    return float(Roofline().points((o,), device, np.array([found["clock.max"]])).time[0])


@pytest.mark.parametrize(
    ("chip", "contexts", "measured"),
    [
        # Slope between two contexts at 64 requests and 16 heads: vLLM 0.14's FlashAttention on H100, TensorRT-LLM 1.3's
        # module on B200 (aiconfigurator, Apache-2.0).
        ("h100", (8192, 16384), (252e-6, 443e-6)), ("b200", (8192, 32768), (185e-6, 498e-6)),
    ],
)  # fmt: skip
def test_a_longer_cache_costs_what_tables_say(
    chip: str, contexts: tuple[int, int], measured: tuple[float, float]
) -> None:
    """Within a quarter, which kernels of one chip differ by."""
    modelled = seconds(chip, 64, contexts[1], 16) - seconds(chip, 64, contexts[0], 16)
    assert modelled == pytest.approx(measured[1] - measured[0], rel=0.25)


@given(batch=st.integers(1, 256), context=st.integers(1, 60_000), heads=st.sampled_from([1, 8, 16, 64, 128]))
def test_it_is_never_faster_than_its_memory(batch: int, context: int, heads: int) -> None:
    """Every byte of the cache is read once, at most at the rate of the datasheet; more of anything takes no less."""
    chip = catalog.device("h100")
    time = seconds("h100", batch, context, heads)
    assert time >= batch * context * 576 * 2 / chip["memory.hbm.bandwidth"]
    assert seconds("h100", batch + 1, context, heads) >= time * (1 - 1e-9)
    assert seconds("h100", batch, 2 * context, heads) >= time * (1 - 1e-9)
    assert seconds("h100", batch, context, heads, kv="fp8") <= time * (1 + 1e-9)
