"""Tests for `wattline.scenario.fleet_file`: what a fleet scenario may say, and clear words for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattline.core.errors import InputError, ScenarioError, UnitError
from wattline.scenario import fleet_file as ff

JOB = {"name": "a", "speeds": [1.0, 0.5], "powers": ["10 kW", "4 kW"]}


def parsed(**sections: object) -> ff.FleetScenario:
    return ff.parse_fleet({"job": [JOB], **sections})


def test_parts_are_repeated_under_each_part_above() -> None:
    """Two UPS with three rows each: names say whose they are."""
    feed = {
        "limit": "1 MW", "overhead": "5 kW", "cooling": [["10 degC", "8 %"], ["30 degC", "18 %"]], "outdoor": "20 degC",
        "part": [{"name": "row", "on": "ups", "count": 3, "limit": "90 kW"}, {"name": "ups", "count": 2, "loss": "4 %"}],
        "group": [{"name": "2N", "members": ["ups-*"], "sharing": "free"}],
    }  # fmt: skip
    with pytest.raises(InputError, match="every member needs a limit"):
        ff.tree_of(parsed(site={"feed": feed}))
    feed["part"][1]["limit"] = "400 kW"
    tree = ff.tree_of(parsed(site={"feed": feed}))
    assert tree.names == ("feed", "ups-1", "ups-2", "row-1.1", "row-1.2", "row-1.3", "row-2.1", "row-2.2", "row-2.3")
    assert tree.names[tree.parent[tree.index("row-2.3")]] == "ups-2"
    assert tree.factor[tree.root] == pytest.approx(1.13)
    assert tree.row_limit[-1] == pytest.approx(400e3)


def test_patterns_mean_parts_in_order() -> None:
    """A pattern takes all it fits; one that fits nothing says the nearest."""
    tree = ff.tree_of(parsed(site={"feed": {"part": [{"name": "row", "count": 3}]}}))
    assert ff.matching(tree, ["row-2", "row-*"]) == ["row-2", "row-1", "row-3"]
    with pytest.raises(InputError, match="did you mean 'row-3'"):
        ff.matching(tree, ["rwo-3"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"job": []}, r"at least one \[\[job\]\]"),
        ({"job": JOB}, r"list of tables like \[\[job\]\]"),
        ({"job": [JOB], "model": {"name": "x"}}, "unknown section.*scenario files of its jobs"),
        ({"job": [{**JOB, "wieght": 2}]}, "did you mean 'weight'"),
        ({"job": [{**JOB, "minimum": "120 %"}]}, "between 0 and 1"),
        ({"job": [{**JOB, "powers": ["10", "4"]}]}, "has no unit"),
        ({"job": [{**JOB, "at": []}]}, "name or a list of names"),
        ({"job": [JOB], "site": {"feed": {"limit": "20"}}}, "has no unit"),
        ({"job": [JOB], "site": {"feed": {"cooling": ["8 %"]}}}, "pairs"),
        ({"job": [JOB], "site": {"feed": {"outdoor": 25}}}, "not a temperature"),
        ({"job": [JOB], "grid": {"fill": "guess"}}, "'guess' is not known"),
        ({"job": [JOB], "grid": {"start": "noon"}}, "ISO 8601"),
        ({"job": [JOB], "grid": {"event": [{"begin": "1 h"}]}}, "unknown key grid.event.begin"),
        ({"job": [{**JOB, "option": [{"layer": "clok"}]}]}, "did you mean 'clock'"),
        ({"job": [JOB], "goal": {"least_carbn": True}}, "did you mean 'least_carbon'"),
        ({"job": [JOB], "site": "x"}, "section"),
    ],
)
def test_what_cannot_be_is_said(data: dict, words: str) -> None:
    """Each message names the key and what would work."""
    with pytest.raises((ScenarioError, UnitError), match=words):
        ff.parse_fleet(data)


def test_orphans_and_rings_of_parts_are_named() -> None:
    """A part that hangs on nothing known, and parts that hang on one another."""
    with pytest.raises(InputError, match=r"row hangs on 'usp'.*not in the power tree"):
        ff.tree_of(parsed(site={"feed": {"part": [{"name": "row", "on": "usp"}]}}))
    ring = [{"name": "a", "on": "b"}, {"name": "b", "on": "a"}]
    with pytest.raises(InputError, match="no cycle"):
        ff.tree_of(parsed(site={"feed": {"part": ring}}))
    with pytest.raises(ScenarioError, match="needs a name"):
        ff.tree_of(parsed(site={"feed": {"part": [{"limit": "1 kW"}]}}))
    with pytest.raises(ScenarioError, match="keep one"):
        ff.tree_of(parsed(site={"pue": 1.2, "feed": {"cooling": [["1 degC", "1 %"]], "outdoor": "1 degC"}}))


def test_values_are_replaced_from_the_command_line(tmp_path: Path) -> None:
    """Of the site, the grid, the goal and a job by name; anything else is refused."""
    path = tmp_path / "f.toml"
    path.write_text('[[job]]\nname = "a"\nspeeds = [1.0]\npowers = ["1 kW"]\n[goal]\nmost_work = true\n')
    changed = ff.load(
        path, {"site.feed.limit": "5 kW", "job.a.weight": "3", "goal.work": "50 %", "grid.price": "9 USD/MWh"}
    )
    assert (changed.feed["limit"], changed.jobs[0]["weight"]) == (5e3, 3.0)
    assert changed.goal == {"work": 0.5}
    assert changed.grid["price"] == pytest.approx(9 / 3.6e9)
    with pytest.raises(ScenarioError, match=r"did you mean|known: a"):
        ff.load(path, {"job.b.weight": "3"})
    with pytest.raises(ScenarioError, match="a fleet takes"):
        ff.load(path, {"hardware.chip": "h100-sxm"})


def test_numbers_that_no_site_has_are_refused_before_they_overflow() -> None:
    """1e308 W is told to be left out, not summed to infinity."""
    job = {"name": "a", "speeds": [1], "powers": ["1 kW"]}
    for body in ({"job": [{**job, "idle": "1e308 W"}]}, {"job": [job], "site": {"feed": {"limit": "1e300 W"}}}):
        with pytest.raises(ScenarioError, match=r"must be below 1e\+18 in SI units"):
            ff.parse_fleet(body)
