"""Tests for `wattline.scenario.silicon`: published rates of kernels beside predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wattline.core.errors import InputError
from wattline.scenario.silicon import silicon
from wattline.show.cli.main import main


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    """The shipped figures, predicted."""
    return silicon()


def test_every_figure_has_its_source_and_a_prediction(shipped: dict[str, Any]) -> None:
    """At least thirty figures, each with set-up, source and an answer."""
    assert shipped["rows"] >= 30
    for row in shipped["figures"]:
        assert row["setup"]
        assert row["source"]
        assert row["predicted_tflops"] > 0, row["reason"]


def test_a_release_does_not_widen_an_error_unseen(shipped: dict[str, Any]) -> None:
    """Median errors of each group lie within three points of what docs/validation-chips.md prints."""
    said = {"best matmul found": 0.201, "block fp8 matmul": 0.226, "attention both ways": 0.094,
            "attention of prompts": 0.147, "TPU v1, by mapping search": 0.094}  # fmt: skip
    for name, most in said.items():
        assert shipped["groups"][name]["median_ape"] <= most + 0.03, name


def test_rates_count_the_operations_their_papers_count(tmp_path: Path) -> None:
    """A row that takes a known time: 2 m n k over the latency that operators give."""
    path = tmp_path / "own.csv"
    path.write_text(
        "group,device,op_name,gemm_dtype,m,n,k,value\na,h200-sxm,gemm,bfloat16,4096,4096,4096,700\n", encoding="utf-8"
    )
    found = silicon(path)
    row = found["figures"][0]
    assert row["error"] == pytest.approx(row["predicted_tflops"] / 700 - 1)
    assert 300 < row["predicted_tflops"] < 989


def test_a_row_that_cannot_be_predicted_says_why(tmp_path: Path) -> None:
    """An unknown chip marks its row; the others are told. A table without rates is refused."""
    path = tmp_path / "own.csv"
    path.write_text(
        "group,device,op_name,gemm_dtype,m,n,k,value\na,h200-sxm,gemm,bfloat16,4096,4096,4096,700\n"
        "a,h999,gemm,bfloat16,4096,4096,4096,700\n",
        encoding="utf-8",
    )
    rows = silicon(path)["figures"]
    assert rows[0]["error"] is not None
    assert rows[1]["error"] is None
    assert "h999" in rows[1]["reason"]
    path.write_text("device,op_name\nh200-sxm,gemm\n", encoding="utf-8")
    with pytest.raises(InputError, match="lacks column"):
        silicon(path)


def test_the_command_prints_groups_and_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line a group, and with --every a line a figure; --json has stable keys."""
    path = tmp_path / "own.csv"
    path.write_text(
        "group,device,op_name,gemm_dtype,m,n,k,value,setup,source\n"
        "mine,h200-sxm,gemm,bfloat16,4096,4096,4096,700,set so,told there\n",
        encoding="utf-8",
    )
    assert main(["validate", "silicon", str(path), "--every"]) == 0
    text = capsys.readouterr().out
    assert "mine" in text
    assert "told there" in text
    assert main(["validate", "silicon", str(path), "--json"]) == 0
    assert {"rows", "near_share", "median_ape", "groups", "figures"} <= json.loads(capsys.readouterr().out).keys()
