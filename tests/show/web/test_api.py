"""Tests for `wattline.show.web.api`: each view answers with what the command line answers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.scenario import scenario as scenarios
from wattline.show.web import api
from wattline.show.web.inbox import Request

EXAMPLES = Path(__file__).parents[3] / "examples"
SERVING = (EXAMPLES / "llama-8b-serving.toml").read_text()
TRAINING = (EXAMPLES / "gpt3-1024-a100.toml").read_text()


def nothing(done: int, total: int) -> None:
    assert done <= total


def test_a_plan_is_the_command_lines_answer():
    """Every key of `wattline plan --json` is there with the same value."""
    found = api.plan(Request(SERVING, set={"serve.tpot": "40 ms"}), nothing)
    stated = scenarios.load(EXAMPLES / "llama-8b-serving.toml").with_({"serve.tpot": "40 ms"})
    for key, value in scenarios.solve(stated).to_dict().items():
        assert found[key] == value, key
    assert sum(part["energy_j"] for part in found["parts"]) == pytest.approx(found["chosen"]["energy_j"])


def test_a_preview_is_close_to_the_plan_it_comes_before():
    """Within half a percent for training (sketched); within 15 % of the energy for serving, whose plan is simulated."""
    change = {"chip.memory.hbm.energy": "3 pJ/bit"}
    for text, near in ((SERVING, 0.15), (TRAINING, 5e-3)):
        quick, exact = (getattr(api, name)(Request(text, set=change), nothing) for name in ("preview", "plan"))
        assert quick["row"]["energy_j"] == pytest.approx(exact["chosen"]["energy_j"], rel=near)
        if text is TRAINING:  # the mean step of a server goes slower than what its simulation then allows
            assert quick["row"]["time_s"] == pytest.approx(exact["chosen"]["time_s"], rel=near)
        assert [k["key"] for k in quick["layers"]] == [k["key"] for k in exact["layers"]]


def test_every_knob_says_its_value_source_and_place():
    """Facts of the chip carry their sources; what was set says so; a value put back in changes nothing."""
    found = {k["key"]: k for k in api.plan(Request(SERVING, set={"site.pue": "1.1"}), nothing)["layers"]}
    assert found["site.pue"]["value"] == "1.1"
    assert found["chip.memory.hbm.bandwidth"]["source"]
    assert found["chip.memory.hbm.bandwidth"]["elasticity"] is not None
    assert "b200-sxm" in found["hardware.chip"]["choices"]
    assert found["serve.percentile"]["source"] == "the scenario"
    again = api.preview(
        Request(SERVING, set={"chip.memory.hbm.energy": found["chip.memory.hbm.energy"]["value"]}), nothing
    )
    same = api.preview(Request(SERVING), nothing)
    assert again["row"]["energy_j"] == pytest.approx(same["row"]["energy_j"], rel=5e-3)


def test_a_sweep_tells_how_far_it_is_and_keeps_order():
    """Rows come in the order of the grid, with an error in its row."""
    told: list[tuple[int, int]] = []
    grid = {"serve.tpot": ["30 ms", "1 ms"], "site.pue": ["1.0", "1.2"]}
    found = api.whatif(Request(SERVING), lambda done, total: told.append((done, total)), grid=grid)
    assert [row["serve.tpot"] for row in found["rows"]] == ["30 ms", "30 ms", "1 ms", "1 ms"]
    assert "cannot be met" in found["rows"][2]["error"]
    assert found["rows"][1]["energy_j"] > found["rows"][0]["energy_j"]
    assert told[-1] == (5, 5)
    with pytest.raises(InputError, match="sweeps at most"):
        api.whatif(Request(SERVING), nothing, grid={"site.pue": [str(1 + i / 1e4) for i in range(2001)]})


def test_a_fleet_is_the_command_lines_answer_and_takes_its_scenarios_along():
    """The files a fleet names, and those they name, travel with it; the answer is `wattline plan`'s."""
    from wattline.scenario import fleet
    from wattline.show.web.inbox import packed

    path = EXAMPLES / "curtailment.toml"
    request = packed(path)
    assert all(name in request.files for name in re.findall(r'scenario = "([^"]+)"', request.scenario))
    found = api.plan(request, nothing)
    for key, value in fleet.solve(fleet.load(path)).to_dict().items():
        assert key == "title" or found[key] == value, key
    assert api.preview(request, nothing)["row"] is None
    assert any(knob["key"] == "site.feed.limit" for knob in found["layers"])
    with pytest.raises(InputError, match="a fleet is not swept"):
        api.whatif(request, nothing, grid={"site.pue": ["1.0"]})
    assert bytes(api.export(request, nothing, kind="csv")["content"]).startswith(b"job,")


def test_a_simulation_is_the_command_lines():
    """The figures are those of `wattline simulate`; power over time keeps its integral in wider bins."""
    from wattline.scenario import simulate_serving as simulation

    change = {"serve.count": "150", "serve.policy": "governor"}
    found = api.simulate(Request(SERVING, set=change), nothing)
    told = simulation.run(scenarios.load(EXAMPLES / "llama-8b-serving.toml").with_(change)).to_dict()
    assert found["energy_j"] == told["energy_j"]
    assert found["ttft_s"] == told["ttft_s"]
    drawn = sum(np.sum(v) * found["power"]["bin_s"] for v in found["power"].values() if isinstance(v, list))
    assert drawn == pytest.approx(found["energy_j"], rel=0.02)
    with pytest.raises(InputError, match="this one trains"):
        api.simulate(Request(TRAINING), nothing)


@pytest.mark.parametrize(
    ("kind", "starts"),
    [
        ("html", b"<!doctype html>"),
        ("svg", b"<svg"),
        ("png", b"\x89PNG"),
        ("frontier", b"time_s,energy_j"),
        ("csv", b"scope,"),
    ],
)
def test_exports_are_the_files_they_say(kind: str, starts: bytes):
    """Each kind of file begins as its format does and carries a name."""
    found = api.export(Request(SERVING), nothing, kind=kind)
    assert bytes(found["content"]).startswith(starts)
    assert "." in found["name"]


def test_an_exported_scenario_gives_the_same_answer():
    """Changed values are written into the text: known lines rewritten, others added, comments kept."""
    change = {
        "serve.tpot": "40 ms",
        "chip.memory.hbm.energy": "3 pJ/bit",
        "goal.max_slowdown": "5 %",
        "site.pue": "1.3",
    }
    text = api.stated(Request(SERVING, set=change))
    assert text.startswith(SERVING.splitlines()[0])
    plain = api.plan(Request(text), nothing)
    assert plain["chosen"] == api.plan(Request(SERVING, set=change), nothing)["chosen"]
    assert tomllib.loads(text)["serve"]["tpot"] == "40 ms"


def test_one_goal_takes_the_place_of_another_in_an_exported_scenario():
    """A scenario has one goal."""
    text = api.stated(Request(TRAINING, set={"goal.power": "400 kW"}))
    assert tomllib.loads(text)["goal"] == {"power": "400 kW"}


def test_unknown_exports_name_what_there_is():
    """A kind and a chart that are not known lead to those that are."""
    with pytest.raises(InputError, match="export 'pdf' is not known"):
        api.export(Request(SERVING), nothing, kind="pdf")
    with pytest.raises(InputError, match="chart 'pie' is not one"):
        api.export(Request(SERVING), nothing, kind="svg", chart="pie")


def test_the_shipped_examples_are_found():
    """The page has something to open with."""
    assert "llama-70b-training" in api.examples()
