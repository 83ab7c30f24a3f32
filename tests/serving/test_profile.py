"""Tests for `wattline.serving.profile`: what engines do with models."""

from __future__ import annotations

import pytest

from wattline.core.errors import ScenarioError
from wattline.serving.profile import Engine, as_run, padded, profile, scheme
from wattline.workload import catalog as models
from wattline.workload.infer import step_operators
from wattline.workload.operator import GroupedGemm
from wattline.workload.parallel import Parallel

FP8 = models.model("qwen3-235b-a22b-fp8")
FP4 = models.model("gpt-oss-20b")


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("vllm", "vllm", (0, 11)), ("vllm 0.14", "vllm", (0, 14)), ("vLLM-0.5.4", "vllm", (0, 5)),
        ("sglang:v0.5.6-cu129-amd64", "sglang", (0, 5)), ("trt 1.2.0rc2", "trtllm", (1, 2)), ("TensorRT-LLM", "trtllm", (1, 2)),
    ],
)  # fmt: skip
def test_engines_are_read_as_people_write_them(text: str, name: str, version: tuple[int, int]) -> None:
    """A name, with or without a version, in the ways of launch files and images."""
    found = Engine.parse(text)
    assert (found.name, found.version) == (name, version)


def test_an_unknown_engine_names_those_known() -> None:
    """A word that is no engine is refused with the engines there are."""
    with pytest.raises(ScenarioError, match=r"serve.engine = 'tgi 2' is not known; .*vllm"):
        Engine.parse("tgi 2")


def test_formats_decide_the_scheme() -> None:
    """Who converts attention too scales in blocks, who leaves it in 16 bits scales channels."""
    assert [scheme(models.model(n)) for n in ("qwen3-235b-a22b-fp8", "llama-4-maverick-fp8", "gpt-oss-20b", "qwen3-32b")] == [
        "block", "channel", "fp4", "none",
    ]  # fmt: skip


def test_switches_versions_and_chips_decide_what_experts_run_on() -> None:
    """Blocks are padded unless a switch takes another kernel; 4 bits multiply as they are only where the chip can."""
    assert profile(Engine.parse("vllm 0.11"), FP8, "hopper").experts == "padded"
    fused = Engine.parse("vllm 0.11", ["VLLM_USE_FLASHINFER_MOE_FP8=1"])
    assert profile(fused, FP8, "blackwell").experts == "grouped"
    assert profile(Engine.parse("sglang"), FP8, "hopper").experts == "grouped"
    native = Engine.parse("vllm 0.11", ["VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8=1"])
    assert [profile(native, FP4, chip).narrow for chip in ("hopper", "blackwell")] == ["", "fp8"]


def test_chunked_attention_falls_out_of_the_graph() -> None:
    """Local attention in chunks is launched kernel by kernel until vLLM 0.12; windows are not."""
    chunked = models.model("llama-4-scout")
    assert [profile(Engine.parse(f"vllm {v}"), chunked, "hopper").graph for v in ("0.11", "0.14")] == [0, 512]
    assert profile(Engine.parse("vllm 0.11"), FP4, "hopper").graph == 512


@pytest.mark.parametrize("tokens", [1.0, 8.0, 512.0])
def test_padding_adds_rows_to_every_expert_of_a_rank(tokens: float) -> None:
    """A padded product has 127 rows more for each of its experts, and reads the same weights."""
    parallel = Parallel(tensor=8, expert=8, section="serve")
    plain = step_operators(FP8, parallel, (), tokens, 1000.0)
    run = as_run(plain, profile(Engine.parse("vllm 0.11"), FP8, "hopper"))
    before = [o for o in plain if isinstance(o, GroupedGemm)]
    after = [o for o in run if isinstance(o, GroupedGemm)]
    assert all(padded(o) for o in after)
    for old, new in zip(before, after, strict=True):
        assert new.rows == pytest.approx(old.rows + 127 * old.local_experts)
        assert new.active == old.active
    rest = [o for o in run if not isinstance(o, GroupedGemm) and o.name != "expert_scale"]
    assert [o.name for o in rest] == [o.name for o in plain if not isinstance(o, GroupedGemm)]
