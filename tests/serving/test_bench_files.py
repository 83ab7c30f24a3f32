"""Tests for `wattline.serving.bench_files`: results of serving benchmarks as their tools write them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.serving.bench_files import read

# What each tool writes of one and the same run: 32 requests at once, 1000 tokens in, 250 out, 12.5 ms a token.
VLLM: dict[str, Any] = {
    "date": "20260101-000000", "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 320,
    "max_concurrency": 32, "completed": 320, "total_input_tokens": 320_000, "total_output_tokens": 80_000,
    "request_throughput": 10.0, "output_throughput": 2500.0, "median_ttft_ms": 80.0, "median_tpot_ms": 12.5,
}  # fmt: skip
SGLANG = {**VLLM, "backend": "sglang", "max_concurrency": None, "concurrency": 32.0,
          "server_info": {"model_path": "meta-llama/Llama-3.1-8B-Instruct", "tp_size": 2}}  # fmt: skip
PERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 10.0}, "time_to_first_token": {"unit": "ms", "avg": 90.0, "p50": 80.0},
    "inter_token_latency": {"unit": "ms", "avg": 13.0, "p50": 12.5}, "output_token_throughput": {"unit": "tokens/sec", "avg": 2500.0},
    "output_sequence_length": {"unit": "tokens", "avg": 250.0}, "input_sequence_length": {"unit": "tokens", "avg": 1000.0},
    "input_config": {"endpoint": {"model_names": ["meta-llama/Llama-3.1-8B-Instruct"]}, "loadgen": {"concurrency": 32}},
}  # fmt: skip
MAX = {
    "hw": "h100", "framework": "vllm", "image": "vllm/vllm-openai:v0.13.0", "model": "meta-llama/Llama-3.1-8B-Instruct",
    "precision": "bf16", "isl": 1000, "osl": 250, "range_ratio": 1.0, "conc": 32, "tp": 1, "ep": 1, "dp_attention": "false",
    "output_tput_per_gpu": 2500.0, "tput_per_gpu": 12500.0, "median_ttft": 0.08, "median_tpot": 0.0125,
}  # fmt: skip


def written(folder: Path, content: Any, name: str = "run.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize(
    "content", [VLLM, SGLANG, PERF, MAX, {"llm_metrics": PERF, "input_config": PERF["input_config"]}]
)
def test_tools_tell_the_same_run(content: dict[str, Any], tmp_path: Path) -> None:
    """Whatever the tool and its units, the run is the same."""
    (run,) = read(written(tmp_path, content))
    assert run.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert (run.prompt, run.output, run.concurrency) == (1000.0, 250.0, 32.0)
    assert (run.tpot, run.ttft, run.output_rate) == pytest.approx((0.0125, 0.08, 2500.0))


def test_what_a_file_says_of_the_server_is_kept(tmp_path: Path) -> None:
    """Chip, engine, image and parallelism where stated; nothing where not."""
    assert read(written(tmp_path, MAX))[0].stated["image"] == "vllm/vllm-openai:v0.13.0"
    assert read(written(tmp_path, SGLANG))[0].stated == {"framework": "sglang", "tp": "2"}
    assert read(written(tmp_path, {**VLLM, "backend": "openai-chat"}))[0].stated == {}


def test_lists_and_lines_are_many_runs(tmp_path: Path) -> None:
    """A list of results and JSON lines are read whole."""
    assert len(read(written(tmp_path, [MAX, MAX]))) == 2
    assert len(read(written(tmp_path, "\n".join(json.dumps(SGLANG) for _ in range(3)), "runs.jsonl"))) == 3


def test_without_a_limit_the_running_requests_follow_from_littles_law(tmp_path: Path) -> None:
    """An open loop states no concurrency: rate times the time a request stays."""
    (run,) = read(written(tmp_path, {**VLLM, "max_concurrency": None}))
    assert run.concurrency == pytest.approx(10.0 * (0.08 + 249 * 0.0125))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "neither JSON nor JSON lines"),
        ("[1, 2]", "must hold an object"),
        ("[]", "holds no result"),
        ({"a": 1}, "not a result that is known"),
        ({**VLLM, "completed": 0}, "looks like a result of vllm bench serve"),
        ({k: v for k, v in MAX.items() if k != "median_tpot"}, "lacks 'median_tpot'"),
        ({**MAX, "median_tpot": -1.0}, "tpot must be a positive number"),
        ({**PERF, "output_sequence_length": {"avg": "x"}}, "no number where one belongs"),
    ],
)
def test_files_that_are_no_result_are_sentences(content: Any, message: str, tmp_path: Path) -> None:
    """What cannot be read says what it looked like and what is missing."""
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, content))


@given(
    st.dictionaries(
        st.sampled_from([*SGLANG, *MAX, *PERF]), st.none() | st.text(max_size=5) | st.floats() | st.just({})
    )
)
def test_no_file_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    """Law: any object of known keys is a run or a sentence."""
    path = written(tmp_path_factory.mktemp("fuzz"), content)
    with contextlib.suppress(InputError):
        assert read(path)
