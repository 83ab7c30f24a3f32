"""Tests for `wattline.show.report.scatter`: predictions drawn against measurements."""

from __future__ import annotations

import pytest

from wattline.core.errors import InputError
from wattline.serving import diffusion_rows, serving_rows
from wattline.show.report.scatter import GROUPS, ROWS, points, scatter, write_scatter
from wattline.training import validate_training


def found(count: int = 4, groups: int = 2) -> dict[str, object]:
    """What a validation of `count` rows returns."""
    rows = [
        {
            "row_id": i, "group": f"group {i % groups}", "latency": 1.1 * (i + 1), "power": 300.0 + i,
            "latency_interval": [0.9 * (i + 1), 1.3 * (i + 1)], "measured": {"latency": 1.0 * (i + 1), "power": 310.0},
        }
        for i in range(count)
    ]  # fmt: skip
    return {"rows": count, "predictions": rows}


def test_every_measured_target_is_a_point():
    """Each row gives a point per target measured, with its interval where it has one."""
    drawn = points(found())
    assert [p["target"] for p in drawn[:2]] == ["latency", "power"]
    assert drawn[0]["ends"] == (0.9, 1.3)
    assert drawn[1]["ends"] == (300.0, 300.0)
    assert len(drawn) == 8


def test_training_rows_are_points_too():
    """Rows with a published figure bring their own target and interval."""
    row = {
        "row_id": "a",
        "model": "m",
        "target": "iteration_s",
        "iteration_s": 2.0,
        "low": 1.5,
        "high": 2.5,
        "published": 2.1,
    }
    (point,) = points({"predictions": [row]})
    assert (point["measured"], point["predicted"], point["group"]) == (2.1, 2.0, "m")


@pytest.mark.parametrize(
    "target",
    [*serving_rows.TARGETS, *diffusion_rows.TARGETS, *validate_training.TARGETS, "latency", "power", "energy_j"],
)
def test_panels_are_titled_in_words(target):
    """Every target that `wattline validate` compares is named in words with its unit, never by its column."""
    row = {"row_id": 0, "target": target, target: 2.0, "low": 1.5, "high": 2.5, "published": 2.1}
    drawn = str(scatter(points({"predictions": [row]})).to_dict())
    assert f"'text': '{target.replace('_', ' ')}'" not in drawn
    assert target not in drawn
    assert "1 row'" in drawn


def test_nothing_measured_is_said():
    """Predictions alone cannot be drawn against anything."""
    with pytest.raises(InputError, match="nothing measured"):
        points({"predictions": [{"row_id": 0, "latency": 1.0}]})


def test_panels_share_both_axes_and_say_the_error():
    """A panel per target, logarithmic and square, its subtitle the median error and the share inside."""
    spec = scatter(points(found())).to_dict()
    assert len(spec["concat"]) == 2
    panel = spec["concat"][0]
    assert panel["title"]["text"] == "Time of a kernel, ms"
    assert panel["title"]["subtitle"] == ["median error 10.0 %, 100 % of rows within the 90 % interval", "4 rows"]
    for layer in panel["layer"]:
        x, y = layer["encoding"]["x"]["scale"], layer["encoding"]["y"]["scale"]
        assert x == y
        assert x["type"] == "log"
    assert "within" not in spec["concat"][1]["title"]["subtitle"][0]


def test_many_rows_and_groups_are_thinned():
    """At most ROWS rows are drawn, groups beyond the commonest share one colour, and the count says so."""
    spec = scatter(points(found(ROWS + 200, groups=30))).to_dict()
    dots = spec["concat"][0]["layer"][-1]
    assert len(dots["data"]["values"]) == ROWS
    assert len(dots["encoding"]["color"]["scale"]["domain"]) == GROUPS
    assert spec["concat"][0]["title"]["subtitle"][1] == "1,700 rows (1,500 drawn)"


@pytest.mark.parametrize(
    ("ending", "mark"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<html"), ("json", b"vega")]
)
def test_files_are_written_by_their_ending(ending, mark, tmp_path):
    """The ending says how the chart is drawn; a page holds all it needs."""
    path = tmp_path / f"chart.{ending}"
    write_scatter(found(), path)
    data = path.read_bytes()
    assert mark in data[:400] if ending != "json" else mark in data
    if ending == "html":
        assert b"<script src=" not in data


def test_another_ending_is_refused(tmp_path):
    """Unknown endings are a sentence that names the known ones."""
    with pytest.raises(InputError, match=r"a chart ends in \.html, \.svg, \.png, \.json, got '\.pdf'"):
        write_scatter(found(), tmp_path / "chart.pdf")
