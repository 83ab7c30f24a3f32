"""Tests for `wattline.source.roofline.factors`: what tables of a chip's own kernels say reaches its plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.catalog import chip, node
from wattline.source.base import Device
from wattline.source.roofline import factors
from wattline.source.roofline.factors import KINDS, KernelFactor, kernel_factor
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.source import Roofline
from wattline.source.roofline.work import cost
from wattline.workload.operator import Attention, Gemm, GroupedGemm, Operator

EXPERTS = GroupedGemm(name="experts", tokens=512.0, top_k=8.0, experts=64.0, local_experts=64.0, n=4096.0, k=4096.0,
                      active=64.0, a="fp8", b="fp8_block", precision="fp8")  # fmt: skip
PROMPT = Attention(name="prompt", batch=4.0, query=4096.0, context=4096.0, heads=32.0, kv_heads=8.0, head_dim=128.0,
                   value_dim=128.0)  # fmt: skip


def silicon(name: str) -> Silicon:
    """Return a chip of the catalog as numbers."""
    return Silicon.of(chip(name))


def told(operator: Operator, name: str = "b200-sxm", source: Roofline | None = None) -> tuple[float, float]:
    """Return seconds and joules at the top clock."""
    sheet = chip(name)
    points = (source or Roofline()).points([operator], Device(sheet, node(sheet.tags["node"])))
    return float(points.time[-1]), float(points.energy[-1])


def test_a_plan_on_a_b200_has_the_kernels_of_its_own_tables() -> None:
    """Experts in block-scaled fp8 are slower there than the Hopper kernels say."""
    bare = Roofline(residual=False)
    with_own = told(EXPERTS)[0] / told(EXPERTS, source=bare)[0]
    elsewhere = told(EXPERTS, "h200-sxm")[0] / told(EXPERTS, "h200-sxm", source=bare)[0]
    assert with_own > 1.3 * elsewhere


def test_attention_over_prompts_draws_more_on_blackwell_than_its_products_do() -> None:
    """A short window among narrow heads is read at 600 to 900 W on the B200, far above what its products switch."""
    window = replace(PROMPT, batch=32.0, query=1024.0, context=1024.0, heads=48.0, head_dim=64.0, value_dim=64.0,
                     window=128.0)  # fmt: skip
    seconds, joules = told(window)
    assert 600.0 < joules / seconds < 950.0


def test_replacing_the_tables_moves_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor is what the plan is multiplied by: none, and the answer is the model's own kernel again."""
    before = told(EXPERTS)
    monkeypatch.setattr(factors, "applied", lambda *_: KernelFactor(compute=2.0, memory=2.0, rows=1))
    doubled = told(EXPERTS)
    monkeypatch.setattr(factors, "applied", lambda *_: KernelFactor())
    assert doubled[0] > 1.8 * told(EXPERTS)[0]
    assert before != told(EXPERTS)


def test_the_h200_whose_kernels_the_model_is_keeps_them() -> None:
    """No factor stands on the chip that the kernels were learned on."""
    assert all(kernel_factor("vllm", "0.22.0", "h200-sxm", k, "bf16").compute == 1.0 for k in ("gemm", "moe", "decode"))
    assert factors.engine_of(silicon("h200-sxm")) is None


def test_an_answer_says_whose_kernels_it_has() -> None:
    """Provenance names the engine and version of the tables."""
    sheet = chip("b200-sxm")
    points = Roofline().points([EXPERTS], Device(sheet, node(sheet.tags["node"])))
    assert "vllm 0.22" in points.source
    assert points.time_uncertainty == pytest.approx(factors.applied("b200-sxm", "moe", "fp8_block").spread)


@given(
    compute=st.floats(0.3, 4.0), memory=st.floats(0.3, 4.0), faster=st.floats(1.0, 3.0),
    m=st.integers(1, 8192), n=st.integers(64, 16384),
)  # fmt: skip
def test_a_faster_memory_or_rate_never_makes_a_kernel_longer(
    compute: float, memory: float, faster: float, m: int, n: int
) -> None:
    """Factors on resources keep the law that the bare model has."""
    of = silicon("b200-sxm")
    factor = KernelFactor(1e-6, compute, memory, 1.0, 0.1, 1)
    work = Roofline(residual=False).works([Gemm(name="x", m=float(m), n=float(n), k=4096.0)], of)[0]
    quick = replace(work, dram=work.dram / faster, core=work.core / faster)
    slow_time, quick_time = (cost([factor.on(w)], of, limit=np.inf).time for w in (work, quick))
    assert np.all(quick_time <= slow_time * (1 + 1e-12))


@pytest.mark.parametrize("engine", factors.ENGINES)
def test_every_question_has_an_answer_and_no_stand_in_is_surer_than_the_table(engine: str) -> None:
    """Chips, versions and engines that no table has are answered by the nearest, with a wider spread."""
    for kind in KINDS:
        for name in ("b200-sxm", "h100-sxm", "mi300x", "t4"):
            found = kernel_factor(engine, "", name, kind, "bf16")
            assert 0.1 < found.compute < 10.0
            assert 0.1 < found.memory < 10.0
            assert found.spread > 0.0
    own = kernel_factor("vllm", "0.14.0", "h100-sxm", "gemm", "fp8")
    assert not own.nearest
    assert own.spread < kernel_factor("vllm", "0.11.0", "h100-sxm", "gemm", "fp8").spread
    assert own.spread < kernel_factor("vllm", "0.14.0", "gh200", "gemm", "fp8").spread


def test_another_engine_is_relative_to_what_a_plan_has() -> None:
    """A factor over the plan's kernels times those of the plan is the factor over the bare model."""
    plan, other = factors.applied("b200-sxm", "moe", "bf16"), kernel_factor("trtllm", "", "b200-sxm", "moe", "bf16")
    bare = factors.looked_up("trtllm", "", "b200-sxm", "moe", "bf16")
    assert other.compute * plan.compute == pytest.approx(bare.compute)


def test_an_unknown_kind_names_the_nearest() -> None:
    """A wrong kind is one sentence."""
    with pytest.raises(InputError, match="gemm"):
        kernel_factor("vllm", "", "b200-sxm", "gem", "bf16")


@pytest.mark.parametrize(("name", "least", "most"), [("h200-sxm", 1.0, 2.2), ("b200-sxm", 3.0, 6.5)])
def test_short_queries_of_heads_that_share_keys_share_a_block_on_hopper_alone(
    name: str, least: float, most: float
) -> None:
    """Sixteen tokens: 24 heads over 4 caches are two blocks a cache for four heads alone, or 24 blocks for four."""
    one = replace(PROMPT, batch=256.0, query=16.0, context=16.0, heads=4.0, kv_heads=4.0)
    seconds, alone = (told(o, name, Roofline(residual=False))[0] for o in (replace(one, heads=24.0), one))
    assert least < seconds / alone < most


@pytest.mark.parametrize(("version", "number"), [("0.19.0", 19.0), ("1.3.0rc15", 103.0), ("2.0", 200.0), ("main", 0.0)])
def test_versions_are_ordered_by_release_and_minor(version: str, number: float) -> None:
    """A release counts a hundred minors, so 1.0 comes after 0.99; what is no version is before all."""
    assert factors._number(version) == number
