"""Tests for `wattline.workload.traffic`: request traces."""

import gzip
from pathlib import Path

import pytest

from wattline.errors import InputError
from wattline.workload.traffic import read_requests

OURS = "arrival_s,prompt_tokens,output_tokens\n10,100,5\n10.5,200,7\n12,300,9\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
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
