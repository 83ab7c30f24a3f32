"""Tests for `wattline.scenario.fleet_more`: how many more copies a site carries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.scenario import fleet
from wattline.show.cli import main as cli
from wattline.show.report import fleet_over_time

TRAIN = {
    "name": "train",
    "speeds": [1, 0.8],
    "powers": ["200 kW", "150 kW"],
    "chips": 300,
    "idle": "40 kW",
    "at": "row-1",
}
CHAT = {"name": "chat", "speeds": [1], "powers": ["5 kW"], "chips": 8, "count": 10, "at": "row-2", "minimum": 1}


def stated(**goal: object) -> fleet.FleetScenario:
    feed = {"limit": "500 kW", "part": [{"name": "row", "count": 2, "limit": "400 kW"}]}
    return fleet.parse_fleet({"site": {"feed": feed}, "job": [TRAIN, CHAT], "goal": goal})


@pytest.mark.parametrize("loss", ["0 %", "1 %", "3 %"])
def test_more_copies_are_as_many_as_counting_one_by_one_finds(loss: str) -> None:
    """Against a scan over every count by hand: what chat draws, and what training must lose for it."""
    allowed, best = float(loss.split()[0]) / 100, 0
    for more in range(200):
        left = 500 - 5 * (10 + more)
        speed = 1.0 if left >= 200 else 0.8 + 0.2 * (left - 150) / 50 if left >= 150 else None
        if speed is None or 5 * (10 + more) > 400:
            break
        full = 300 + 8 * (10 + more)
        if 1 - (300 * speed + 8 * (10 + more)) / full <= allowed + 1e-12:
            best = more
    answer = fleet.solve(stated(more="chat", loss=loss))
    assert answer.more is not None
    assert answer.more["more"] == best
    assert answer.plan.feed <= 500e3 * (1 + 1e-9)
    assert f"{best:,} more of chat ({10 + best:,} in all)" in fleet_over_time.more(answer)


def test_unknown_jobs_and_full_sites_are_told() -> None:
    """The nearest name; and what is lost already."""
    with pytest.raises(ScenarioError, match="no job is called 'chart'; did you mean 'chat'"):
        fleet.solve(stated(more="chart"))
    full = stated(more="chat")
    feed = {**full.feed, "limit": 230e3}
    with pytest.raises(GoalError, match=r"no room for more of chat: with the 10 there are .* % of all work is lost"):
        fleet.solve(fleet.FleetScenario(full.name, full.jobs, feed, full.grid, full.goal))


def test_a_fleet_is_swept_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`whatif` of a fleet: a row per point beside the unchanged one; a point without an answer says why."""
    path = tmp_path / "site.toml"
    path.write_text(
        '[site.feed]\nlimit = "500 kW"\n[[job]]\nname = "a"\nspeeds = [1, 0.5]\npowers = ["450 kW", "220 kW"]\n'
        'idle = "50 kW"\nminimum = 0.5\n[grid]\nprice = "80 USD/MWh"\nlasts = "4 h"\n[goal]\nleast_cost = true\n'
    )
    words = ["whatif", str(path), "--grid", "site.feed.limit=400 kW,350 kW,100 kW", "--jobs", "1"]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["base"]["work_share"] == pytest.approx(1.0)
    assert [row.get("feed_w") for row in told["rows"]] == [pytest.approx(4e5), pytest.approx(3.5e5), None]
    assert "100 kW" in told["rows"][2]["error"]
    assert cli.main(words) == 0
    assert "as stated" in capsys.readouterr().out
