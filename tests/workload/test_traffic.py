"""Tests for `wattline.workload.traffic`: request traces."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.workload.traffic import Requests, read_requests

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
        (OURS + "11,5,5\n", "must be sorted, but request 4 comes before"),
        (OURS + "13,5\n", "line 5: not a request"),
        (OURS + "13,5,0\n", "line 5: a request needs a time, at least 1 prompt token and 1 output token"),
        (OURS + "nan,5,5\n", "line 5: a request needs a time"),
        (OURS + "soon,5,5\n", "line 5: not a request"),
        ("arrival_s,prompt_tokens,output_tokens\n-1,5,5\n", "line 2: an arrival must be 0 s or later"),
        ('{"timestamp": 0, "input_length": 5}\n', "line 1: lacks output_length"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 0}\n', "line 1: a request needs a time"),
        (MOONCAKE + "[1, 2]\n", "line 3: lacks timestamp"),
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
