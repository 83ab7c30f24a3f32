"""Tests for `wattline.scenario.design_file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.scenario.studies import SERVING, TRAINING, VARY, study
from wattline import InputError, ScenarioError
from wattline.scenario.design_file import load, parse_study

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = """
[hardware]
chip = "h100-like"

[design]
budget.area = "814 mm2"
vary."level.l2.capacity" = ["25 MB", "unchanged"]
vary.memory = [{ name = "HBM4", "level.hbm.memory" = "hbm4", "chip.power.waiting" = "120 W" }]

[[design.work]]
weight = 2
[design.work.model]
name = "llama-3.1-8b"
[design.work.serve]
rate = "2 req/s"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(FILE, "utf-8")
    return path


def test_a_file_becomes_works_axes_and_budgets(file):
    """Values are SI, bare entries are those of the chip's description, works carry the shared chip."""
    found = load(file)
    assert found.get("budget.area") == pytest.approx(814e-6)
    assert found.possible == 2
    assert found.changes((0, 0)) == {
        "chip.architecture.level.l2.capacity": "25 MB",
        "chip.architecture.level.hbm.memory": "hbm4",
        "chip.power.waiting": "120 W",
    }
    assert found.changes((1, -1)) == {}
    (work,) = found.works
    assert work.weight == 2
    assert work.scenario["hardware.chip"] == "h100-like"
    assert work.scenario["serve.rate"] == 2


def test_the_command_line_replaces_values(file):
    """Keys of [design] change the study, an axis takes a comma-separated list, any other key goes to all works."""
    found = load(file, {"design.budget.area": "900 mm2", "design.vary.node": "4nm,3nm", "serve.rate": "3 req/s"})
    assert found.get("budget.area") == pytest.approx(900e-6)
    assert [o.name for o in found.axes[-1].options] == ["4nm", "3nm"]
    assert found.works[0].scenario["serve.rate"] == 3


def test_a_file_with_its_own_work_needs_no_list():
    """[model] and [serve] beside [design] are the one work."""
    found = parse_study({"hardware": {"chip": "h100-like", "chips_per_node": 1}, **SERVING, "design": {"vary": VARY}})
    assert len(found.works) == 1
    assert found.possible == 27


def test_works_come_from_files_with_changes():
    """A work names a scenario file beside the study, and may change it."""
    row = {"scenario": "llama-8b-serving.toml", "set": {"serve.rate": "4 req/s"}}
    data = {"hardware": {"chip": "h100-like"}, "design": {"vary": VARY, "work": [row]}}
    (work,) = parse_study(data, folder=EXAMPLES).works
    assert work.name == "llama-8b-serving"
    assert work.scenario["serve.rate"] == 4


def test_keys_of_training_leave_serving_alone():
    """A precision of training is no key of a serving replica."""
    works = [{"name": "chat", **SERVING}, {"name": "run", **TRAINING, "hardware": {"chips_per_node": 4}}]
    data = {
        "hardware": {"chip": "h100-like"},
        "design": {"vary": {"train.precision": ["bf16", "fp8"]}, "work": [works[0], works[1]]},
    }
    found = parse_study(data)
    assert not any(w.scenario.has("train") and w.scenario.has("serve") for w in found.works)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"vary": {}}, "varies something"),
        ({"vary": {"level.l2.capacity": []}}, "design.vary.level.l2.capacity has no value to try"),
        ({"vary": {"level.l2.capacity": "25 MB"}}, "must be a list of values"),
        ({"vary": {"level.l2.capacit": ["25 MB"]}}, "did you mean 'level.l2.capacity'"),
        ({"vary": {"level.l9.capacity": ["25 MB"]}}, "level.l9 is not on the path"),
        ({"vary": {"level.l2.capacity": ["25 GHz"]}}, "expected B"),
        ({"vary": {"level.l2.capacity": ["25 MB", "25 MB"]}}, "'25 MB' twice"),
        ({"vary": {"memory": [{"level.hbm.memory": "hbm4"}]}}, "needs a name"),
        ({"vary": {"serve.rat": ["1 req/s"]}}, "did you mean 'rate'"),
        ({"vary": {"train.precision": ["fp8"]}}, r"no work has such a section"),
        ({"vary": VARY, "budgets": {"area": "1 mm2"}}, "did you mean 'budget.area'|known"),
        ({"vary": VARY, "budget": {"area": "814 W"}}, "expected m2"),
        ({"vary": VARY, "least": "joules"}, "known: area, carbon, cost, edp, energy, time"),
        ({"vary": VARY, "search": "random"}, "known: auto, grid, optimise"),
        ({"vary": VARY, "work": []}, r"tables like \[\[design.work\]\]"),
        ({"vary": VARY, "work": [{"weight": 1}]}, "got neither"),
        ({"vary": VARY, "work": [{"wieght": 1, **SERVING}]}, "did you mean 'weight'"),
        ({"vary": VARY, "work": [SERVING, {"name": "work 1", **SERVING}]}, "two works are called 'work 1'"),
        ({"vary": VARY, "work": [{**SERVING, "hardware": {"chip": "a100-like"}}, SERVING]}, None),
    ],
    ids=lambda v: str(v)[:60],
)  # fmt: skip
def test_mistakes_are_named(design: dict[str, Any], message: str | None):
    """Each mistake is one sentence with the key and what would work; a shared chip overrides those of works."""
    if message is None:
        assert {w.scenario["hardware.chip"] for w in study(design["work"]).works} == {"h100-like"}
        return
    data = {"hardware": {"chip": "h100-like", "chips_per_node": 1}, "design": {"work": [SERVING], **design}}
    with pytest.raises(InputError, match=message) as error:
        parse_study(data)
    assert "\n" not in str(error.value)


def test_works_on_different_chips_are_refused():
    """A design is of one chip."""
    works = [{"name": n, **SERVING, "hardware": {"chip": n, "chips_per_node": 1}} for n in ("h100-like", "a100-like")]
    with pytest.raises(ScenarioError, match=r"different chips \(a100-like, h100-like\).*\[hardware\] chip"):
        parse_study({"design": {"vary": VARY, "work": works}})


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Neither a missing file nor bad TOML ends in a traceback."""
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[design", "utf-8")
    with pytest.raises(InputError, match="not valid TOML"):
        load(tmp_path / "bad.toml")
