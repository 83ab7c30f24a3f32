"""Tests for `wattline.serving.kernels`: how engines' own products differ from the source's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.serving import kernels
from wattline.workload.operator import Elementwise, Gemm, GroupedGemm, Operator


def experts(stored: str, arithmetic: str, tokens: float = 64.0) -> GroupedGemm:
    """A product of 128 experts, weights stored in one format and multiplied in another."""
    return GroupedGemm(
        name="experts_up", precision=arithmetic, tokens=tokens, top_k=4, experts=128, local_experts=128, n=5760, k=2880,
        active=90.0, a=arithmetic, b=stored,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "scheme", "name"),
    [
        (experts("bf16", "bf16"), "none", "bf16"), (experts("fp8", "fp8"), "channel", "fp8"),
        (experts("fp8", "fp8"), "block", "fp8_block"), (experts("fp4", "fp4"), "fp4", "fp4"),
        (experts("fp4", "fp8"), "fp4", "w4a8"), (experts("fp4", "bf16"), "fp4", "w4a16"),
        (Gemm(name="up", precision="fp8", m=8, n=4096, k=4096, a="fp8", b="fp8"), "block", "fp8_block"),
    ],
)  # fmt: skip
def test_formats_are_told_by_both_operands(operator: Gemm | GroupedGemm, scheme: str, name: str) -> None:
    """Weights alone do not say which kernel runs: what they are multiplied with, and how they are scaled, does."""
    assert kernels.format_of(operator, scheme) == name


@pytest.mark.parametrize("stored", ["fp4", "fp8"])
def test_an_engine_without_tables_runs_those_of_its_chip(stored: str) -> None:
    """SGLang shares vLLM's kernels; TensorRT-LLM has its own on Blackwell."""
    o = experts(stored, stored)
    assert kernels.of("hopper", "sglang", o, "block") == kernels.of("hopper", "vllm", o, "block")
    assert kernels.of("blackwell", "trtllm", o, "block") != kernels.of("blackwell", "vllm", o, "block")


@pytest.mark.parametrize(
    "o", [experts("bf16", "bf16"), Elementwise(name="norm", precision="fp32", read=1e6, write=1e6)]
)
def test_what_no_table_speaks_of_is_the_source_s_own(o: Operator) -> None:
    """Other chips' compilers, and kernels that are no products, keep slope 1 and add nothing."""
    assert kernels.of("tpu", "vllm", o, "none") == (1.0, 0.0)
    if isinstance(o, Elementwise):
        assert kernels.of("hopper", "vllm", o, "none") == (1.0, 0.0)


@given(tokens=st.floats(1, 1e5), more=st.floats(1, 1e3))
def test_more_tokens_never_take_less(tokens: float, more: float) -> None:
    """The slope goes over from few to many tokens slowly enough for slope x tokens to rise."""
    for engine, chip in (("vllm", "hopper"), ("vllm", "blackwell"), ("trtllm", "blackwell")):
        few, many = (kernels.of(chip, engine, experts("fp8", "fp8", t), "block")[0] for t in (tokens, tokens * more))
        assert many * tokens * more >= few * tokens * (1 - 1e-9)
