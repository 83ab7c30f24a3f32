"""Tests for `wattline.show.door`: one verb a question, one type for every answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import wattline
from wattline import InputError, ScenarioError
from wattline.show.result import Result

EXAMPLES = Path(__file__).parents[2] / "examples"
LOAD = {"tpot": "40 ms", "prompt": 200, "output": 50}


@pytest.fixture(scope="module")
def found() -> Result:
    return wattline.plan(model="llama-3.2-1b", chip="h100-sxm", chips_per_node=1, serve=LOAD)


def test_file_mapping_and_keywords_ask_the_same(found, tmp_path):
    """The same question as keywords, as a mapping and as a file has the same answer."""
    data = {"model": {"name": "llama-3.2-1b"}, "hardware": {"chip": "h100-sxm", "chips_per_node": 1}, "serve": LOAD}
    file = tmp_path / "q.toml"
    file.write_text(
        '[model]\nname = "llama-3.2-1b"\n[hardware]\nchip = "h100-sxm"\nchips_per_node = 1\n'
        '[serve]\ntpot = "40 ms"\nprompt = 200\noutput = 50\n'
    )
    for other in (wattline.plan(data), wattline.plan(file), wattline.plan(str(file))):
        assert other.to_dict()["chosen"] == found.to_dict()["chosen"]


def test_changes_are_those_of_the_command_line(found):
    """`changes` replaces values by dotted key, and the mapping that was given stays as it was."""
    data = {"model": {"name": "llama-3.2-1b"}, "hardware": {"chip": "h100-sxm", "chips_per_node": 1}, "serve": LOAD}
    dearer = wattline.plan(data, changes={"site.pue": 1.5})
    assert dearer.to_dict()["chosen"]["energy_j"] > found.to_dict()["chosen"]["energy_j"]
    assert "site" not in data


def test_an_answer_is_rows_a_page_a_table_and_json(found, tmp_path):
    """Every form of an answer holds the same figures."""
    assert found.rows == found.to_dict()["frontier"]
    assert found.save(tmp_path / "a.html").read_text("utf-8").startswith("<!doctype html>")
    assert json.loads(found.save(tmp_path / "a.json").read_text())["kind"] == "serving"
    with found.save(tmp_path / "a.csv").open() as file:
        assert float(next(csv.DictReader(file))["time_s"]) == found.rows[0]["time_s"]
    assert "<svg" in found._repr_html_()
    with pytest.raises(InputError, match=r"ends in \.html, \.json or \.csv, got 'a\.xls'"):
        found.save(tmp_path / "a.xls")


@pytest.mark.parametrize("backend", ["polars", "pandas", "pyarrow"])
def test_an_answer_is_a_frame_of_what_is_installed(found, backend):
    """A frame has a column for every plain value and a row for every row."""
    pytest.importorskip(backend)
    assert len(found.to_frame(backend)) == len(found.rows)


def test_a_sweep_gives_the_unchanged_row_first():
    """The unchanged question is row 0; every point of the grid follows in order."""
    asked = {"model": "llama-3.2-1b", "chip": "h100-sxm", "chips_per_node": 1, "serve": LOAD}
    swept = wattline.sweep(grid={"site.pue": [1.1, 1.3]}, jobs=1, **asked)
    assert [row.get("site.pue") for row in swept.rows] == [None, 1.1, 1.3]
    changed = wattline.whatif(changes={"site.pue": 1.3}, **asked)
    assert changed.rows[1]["energy_j"] == pytest.approx(swept.rows[2]["energy_j"])


def test_a_fleet_is_asked_by_file_or_by_jobs():
    """A fleet's rows are its jobs."""
    job = {"name": "a", "speeds": [1.0, 0.8], "powers": ["1 MW", "700 kW"], "at": "feed", "chips": 1000}
    shared = wattline.fleet(jobs=[job], site={"feed": {"limit": "900 kW"}})
    assert [row["name"] for row in shared.rows] == ["a"]
    with pytest.raises(InputError, match=r"fleet takes a scenario with \[\[job\]\]"):
        wattline.fleet(EXAMPLES / "llama-8b-serving.toml")


def test_a_pipeline_is_planned_from_its_profile():
    """The profile of the examples gives a plan with savings; an unknown option is refused by name."""
    profile = EXAMPLES / "pipeline-profile.csv"
    planned = wattline.pipeline(profile, stages=4, microbatches=8, waiting_power="75 W")
    assert planned.to_dict()["exact"] is True
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        wattline.pipeline(profile, stages=4, microbatches=8, colour="red")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing was asked"),
        ({"modle": "llama-3.2-1b"}, "unknown keyword modle; did you mean 'model'"),
        ({"model": "llama-3.2-1b", "tensor": 2}, r"tensor belongs to several sections; say which: train=.*serve="),
        ({"what": "x.toml", "model": "llama-3.2-1b"}, "a file or mapping and keywords"),
        ({"model": "llama-3.2-1b", "goals": {"deadline": "1 d"}}, "unknown section goals"),
    ],
)
def test_a_question_that_cannot_be_read_is_one_sentence(asked, message):
    """What was wrong, and what works."""
    with pytest.raises((InputError, ScenarioError), match=message):
        wattline.plan(**asked)
