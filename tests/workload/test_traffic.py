"""Tests for `wattline.workload.traffic` and `trace_files`: request traces."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.workload.arrivals import timed
from wattline.workload.trace_files import read_requests
from wattline.workload.traffic import Requests

OURS = "arrival_s,prompt_tokens,output_tokens\n10,100,5\n10.5,200,7\n12,300,9\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)

AZURE_2024 = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01.017335+00:00,2399,6\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n"
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [46, 47, 48]}\n'
    '{"timestamp": 3052, "input_length": 1030, "output_length": 26, "hash_ids": [46, 50, 51]}\n'
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_our_layout_and_azures_are_read_alike(tmp_path: Path) -> None:
    """Arrivals count from the first request, in seconds."""
    ours = read_requests(written(tmp_path / "a.csv", OURS))
    assert ours.arrival.tolist() == [0.0, 0.5, 2.0]
    assert ours.prompt.tolist() == [100, 200, 300]
    assert ours.rate == pytest.approx(1.0)
    azure = read_requests(written(tmp_path / "b.csv", AZURE))
    assert azure.arrival[1] == pytest.approx(4.314579)
    assert azure.output.tolist() == [44, 109]


def test_gzip_is_read_directly(tmp_path: Path) -> None:
    """A name ending in .gz is unpacked on the way in."""
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(OURS)
    assert len(read_requests(tmp_path / "a.csv.gz")) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,in,out\n1,2,3\n", "must name the columns arrival_s, prompt_tokens, output_tokens or TIMESTAMP"),
        ("arrival_s,prompt_tokens,output_tokens\n", "holds no request"),
        (OURS + "13,5\n", "line 5: not a request"),
        (OURS + "13,5,0\n", "line 5: a request needs a time, at least 1 prompt token and 1 output token"),
        (OURS + "nan,5,5\n", "line 5: a request needs a time"),
        (OURS + "soon,5,5\n", "line 5: not a request"),
        ("arrival_s,prompt_tokens,output_tokens\n-1,5,5\n", "line 2: an arrival must be 0 s or later"),
        ('{"timestamp": 0, "input_length": 5}\n', "line 1: lacks output_length"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 0}\n', "line 1: a request needs a time"),
        (MOONCAKE + "[1, 2]\n", "line 3: is not a JSON object"),
        (MOONCAKE + "{\n", "line 3: is not a JSON object"),
    ],
)
def test_broken_traces_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    """No row is skipped or mended in silence."""
    with pytest.raises(InputError, match=words):
        read_requests(written(tmp_path / "a.csv", text))


def test_one_request_has_no_rate(tmp_path: Path) -> None:
    """A rate needs a span of time."""
    with pytest.raises(InputError, match=r"state serve.rate"):
        _ = read_requests(written(tmp_path / "a.csv", OURS[: OURS.index("10.5")])).rate


def test_other_public_traces(tmp_path: Path) -> None:
    """The Azure trace of 2024 (with a time zone), BurstGPT and Mooncake are known by their columns."""
    azure = read_requests(written(tmp_path / "a.csv", AZURE_2024))
    assert azure.arrival.tolist() == pytest.approx([0.0, 1.007405])
    burst = read_requests(written(tmp_path / "b.csv", BURST))
    assert (burst.arrival.tolist(), burst.prompt.tolist(), burst.output.tolist()) == ([0, 40], [472, 1087], [18, 230])
    moon = read_requests(written(tmp_path / "c.jsonl", MOONCAKE))
    assert moon.arrival.tolist() == [0.0, 3.052]


def test_rows_out_of_order_are_sorted_and_it_is_said(tmp_path: Path) -> None:
    """Requests come by arrival, their pages with them, and a note says how many rows stood out of order."""
    ours = read_requests(written(tmp_path / "a.csv", OURS + "11,5,6\n"))
    assert ours.arrival.tolist() == [0.0, 0.5, 1.0, 2.0]
    assert ours.prompt.tolist() == [100, 200, 5, 300]
    assert ours.notes == ("1 rows of the trace come before the one above them: sorted by arrival",)
    swapped = "".join(reversed(MOONCAKE.splitlines(keepends=True)))
    straight, moon = (read_requests(written(tmp_path / "c.jsonl", text)) for text in (MOONCAKE, swapped))
    assert moon.prompt.tolist() == straight.prompt.tolist()
    assert [len(set(r.pages.tolist())) for r in (moon, straight)] == [3, 3]
    assert moon.pages[0] == moon.pages[2]
    assert read_requests(written(tmp_path / "a.csv", OURS)).notes == ()


def test_failed_requests_of_burstgpt_are_left_out_and_counted(tmp_path: Path) -> None:
    """A response of no tokens is a failure there; elsewhere it is a broken row."""
    failed = "1106,ChatGPT,0,0,0,Conversation log\n1107,ChatGPT,40,0,40,API log\n"
    burst = read_requests(written(tmp_path / "b.csv", BURST + failed))
    assert len(burst) == 2
    assert burst.notes == ("2 failed requests of the trace (no response) are left out",)
    with pytest.raises(InputError, match=r"holds no request; 2 failed requests"):
        read_requests(written(tmp_path / "b.csv", BURST.splitlines(keepends=True)[0] + failed))


TALK = [{"from": "human", "value": "a" * 400}, {"from": "gpt", "value": "b" * 80}, {"from": "human", "value": "more"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vidur.csv", "arrived_at,num_prefill_tokens,num_decode_tokens,pd_ratio\n3.5,100,20,5\n"),
        ("lengths.csv", "num_prefill_tokens,num_decode_tokens\n100,20\n"),
        ("sharegpt.json", json.dumps([{"id": "x", "conversations": TALK}, {"id": "y", "conversations": TALK[:1]}], indent=1)),
        ("lmsys.jsonl", json.dumps({"conversation": [{"role": "user", "content": "a" * 400}, {"role": "assistant", "content": "b" * 80}]}) + "\n"),
        ("custom.jsonl", json.dumps({"prompt": "a" * 400, "output_tokens": 20}) + "\n"),
        ("bench.json", json.dumps({"input_lens": [100, 7], "output_lens": [20, 0], "ttfts": [0.1, 0.0]})),
        ("timed.json", json.dumps({"input_lens": [100], "output_lens": [20], "start_times": [17.25]}, indent=2)),
    ],
)  # fmt: skip
def test_files_of_tools_tell_the_same_request(tmp_path: Path, name: str, content: str) -> None:
    """Vidur, ShareGPT, LMSYS, vllm bench and its custom data sets: 100 tokens in, 20 out, and what is not known said."""
    found = read_requests(written(tmp_path / name, content))
    assert (found.prompt.tolist(), found.output.tolist()) == ([100], [20])
    assert found.timed == (name in ("vidur.csv", "timed.json"))
    assert any("no arrivals" in note for note in found.notes) != found.timed
    assert any("characters" in note for note in found.notes) == (
        name in ("sharegpt.json", "lmsys.jsonl", "custom.jsonl")
    )
    assert any("1 failed" in note for note in found.notes) == (name in ("sharegpt.json", "bench.json"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1}]', "must hold conversations"),
        ('{"input_lens": [1]}', "line 1: a JSON file must be"),
        ('{"input_lens": [1], "output_lens": [1, 2]}', "1 input_lens and 2 output_lens"),
        ('{"prompt": "hello there"}\n', "line 1: has a prompt and no output_tokens"),
        ('{"input_lens": ["x"], "output_lens": [3]}', "line 1: not a request"),
    ],
)
def test_json_that_is_no_trace_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """One sentence with the line and what is missing."""
    with pytest.raises(InputError, match=words):
        read_requests(written(tmp_path / "a.json", text))


def test_arrivals_are_made_up_where_a_file_has_none(tmp_path: Path) -> None:
    """At the rate asked for, in the file's order."""
    rows = "".join(f"{k},5\n" for k in range(1, 2001))
    found = timed(read_requests(written(tmp_path / "a.csv", "num_prefill_tokens,num_decode_tokens\n" + rows)), 4.0)
    assert found.timed
    assert found.rate == pytest.approx(4.0, rel=0.1)
    assert found.prompt.tolist() == list(range(1, 2001))


def test_mooncake_hashes_are_prefixes(tmp_path: Path) -> None:
    """Whole blocks of 512 tokens are pages, equal hashes equal pages; a block cut short is not shared."""
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write(MOONCAKE)
    moon = read_requests(tmp_path / "c.jsonl.gz")
    assert moon.page == 512
    assert moon.first.tolist() == [0, 2, 4]
    assert moon.pages.tolist() == [0, 1, 0, 2]


def test_slices_and_scales(tmp_path: Path) -> None:
    """A window counts from its first request and keeps its pages; a rate squeezes time alone."""
    moon = read_requests(written(tmp_path / "c.jsonl", MOONCAKE))
    late = moon.between(1.0)
    assert (late.arrival.tolist(), late.prompt.tolist(), late.first.tolist(), late.pages.tolist()) == (
        [0.0], [1030], [0, 2], [0, 2]
    )  # fmt: skip
    ours = read_requests(written(tmp_path / "a.csv", OURS))
    assert ours.at_rate(4.0).rate == pytest.approx(4.0)
    assert ours.at_rate(4.0).arrival.tolist() == pytest.approx([0.0, 0.125, 0.5])
    assert len(ours.head(2)) == 2
    with pytest.raises(InputError, match="holds no request in 5 to 6 s; it spans 0 to 2 s"):
        ours.between(5.0, 6.0)
    with pytest.raises(InputError, match="above 0 requests/s, got -1"):
        ours.at_rate(-1.0)


@pytest.mark.parametrize(
    ("arrival", "prompt", "output"),
    [
        ([1.0, 0.0], [1, 1], [1, 1]),
        ([-1.0], [1], [1]),
        ([np.nan], [1], [1]),
        ([0.0], [0], [1]),
        ([0.0], [1], [0]),
        ([], [], []),
        ([0.0], [1, 2], [1]),
    ],
)
def test_requests_made_in_code_are_checked_too(arrival: list[float], prompt: list[int], output: list[int]) -> None:
    """Unsorted, negative, missing or empty: refused."""
    with pytest.raises(InputError):
        Requests(np.array(arrival), np.array(prompt), np.array(output))
