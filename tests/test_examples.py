"""Tests for examples/: each scenario answers what stands beside it, and what was published."""

import json
from pathlib import Path

import pytest

from wattline.frontier.answer import Answer
from wattline.scenario import (
    design,
    design_file,
    fleet,
    fleet_place,
    scenario,
)
from wattline.scenario import (
    search as serve_search,
)
from wattline.show.cli import design as cli_design
from wattline.site.answer import FleetAnswer, expected

from .once import solved

HERE = Path(__file__).parent.parent / "examples"
ALL = sorted(HERE.glob("*.toml"))
FLEETS = [path for path in ALL if fleet.is_fleet(path) and not fleet.load(path).pools]
PLACED = [path for path in ALL if fleet.is_fleet(path) and path not in FLEETS]
STUDIES = [path for path in ALL if cli_design.asked(path)]
# Its mapping searches take a quarter of a minute: `python bench/studies.py` holds it against its file.
DESIGNS = [path for path in STUDIES if path.stem != "design-domains"]
SINGLE = [path for path in ALL if path not in (*FLEETS, *PLACED, *STUDIES)]
SEARCHES = [path for path in SINGLE if scenario.searches(scenario.load(path))]
EXAMPLES = [path for path in SINGLE if path not in SEARCHES]
DAY, GWH = 86400.0, 3.6e12
# What was solved is kept in the process, and commands of the docs ask the same.
pytestmark = pytest.mark.xdist_group("shipped")


def answered(name: str) -> Answer:
    return solved(scenario.load(HERE / f"{name}.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_answers_what_stands_beside_it(path: Path) -> None:
    """Times and energies are those of the expected file; `python scripts/write_examples.py` writes it anew."""
    answer = answered(path.stem).to_dict()
    stated = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    assert answer["goal"] == stated["goal"]
    for outcome in ("chosen", "baseline"):
        for key, value in stated[outcome].items():
            assert answer[outcome][key] == pytest.approx(value, rel=1e-4), (outcome, key)
    assert answer["breakdown_j"] == pytest.approx(stated["breakdown_j"], rel=1e-3)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_complete(path: Path) -> None:
    """Each answer has a frontier, knobs, elasticities, sources, an uncertainty and a breakdown that sums."""
    a = answered(path.stem)
    assert len(a.time_s) >= 2
    assert a.chosen.knobs
    assert len(a.elasticity) > 10 or "rollouts" in a.facts  # a run of two halves has none of its own
    assert a.sources
    assert 0 < a.uncertainty < 1
    assert sum(a.chosen.breakdown_j.values()) == pytest.approx(a.chosen.energy_j)


def test_the_200_billion_run_comes_out_as_reported() -> None:
    """48 days and 11.9 GWh for the whole system, each within 15 % (Hamilton, CIDR 2024).

    The example's goodput is chosen to match the days; the energy is the prediction.
    """
    base = answered("amazon-200b").baseline
    assert base.time_s / DAY == pytest.approx(48, rel=0.15)
    assert base.energy_j / GWH == pytest.approx(11.9, rel=0.15)


def test_gpt3_takes_about_as_long_as_published() -> None:
    """300 B tokens on 1,024 A100: 34 days (Narayanan et al. 2021, section 5.1), within 20 %.

    The training constants were fitted to other runs of the same system, GPT-3 175B among them.
    """
    assert answered("gpt3-1024-a100").baseline.time_s / DAY == pytest.approx(34, rel=0.2)


def test_no_rate_no_cost() -> None:
    """Cost and carbon appear only where the scenario gives a price and an intensity."""
    assert "cost_usd" in answered("llama-70b-training").chosen.figures
    assert not any("carbon" in key for key in answered("gpt3-1024-a100").chosen.figures)


# ---- fleets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites() -> dict[str, FleetAnswer]:
    return {path.stem: fleet.solve(fleet.load(path)) for path in FLEETS}


def close(a: object, b: object, where: str = "") -> None:
    """Compare nested values, numbers within 0.1 % of themselves or of a millionth."""
    if isinstance(b, dict):
        assert isinstance(a, dict), where
        assert a.keys() == b.keys(), where
        for key in b:
            close(a[key], b[key], f"{where}.{key}")
    elif isinstance(b, list):
        assert isinstance(a, list), where
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            close(x, y, f"{where}[{i}]")
    elif isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-6), where
    else:
        assert a == b, where


@pytest.mark.parametrize("path", FLEETS, ids=lambda p: p.stem)
def test_a_fleet_answers_what_stands_beside_it(path: Path, sites: dict[str, FleetAnswer]) -> None:
    """Power, work, prices and the order of layers are those of the expected file."""
    stated = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    stated.pop("simulated", None)  # see test_site_simulation.py
    close(json.loads(json.dumps(expected(sites[path.stem]))), stated)


def test_every_fleet_keeps_its_limits(sites: dict[str, FleetAnswer]) -> None:
    """No plan of a shipped example exceeds a limit, now, with whole settings, or in any hour."""
    for name, a in sites.items():
        for plan in (p for p in (a.plan, a.whole) if p is not None):
            assert (plan.headroom >= -1e-9 * plan.tree.row_limit).all(), name
        for over in (a.horizon, a.soonest):
            assert over is None or (over.flows <= over.limits * (1 + 1e-9)).all(), name


def test_the_curtailed_site_takes_the_cheap_layers_first(sites: dict[str, FleetAnswer]) -> None:
    """Tokens at half the pace and 8-bit arithmetic cost nothing and are in use; work put off comes before slow clocks."""
    a = sites["curtailment"]
    used = {setting["option"] for job in a.jobs for _, setting in job.settings if "option" in setting}
    assert used == {"tokens at half the pace", "8-bit"}
    assert [row["layer"] for row in a.by_layer()] == ["time-shift", "clock"]
    during = [t for t, limit in enumerate(a.horizon.limits[:, 0]) if limit < 8e6]
    assert len(during) == 4
    assert max(a.horizon.feed[during]) == pytest.approx(5.4e6)
    assert max(a.horizon.feed) > 6.3e6


def test_the_week_that_follows_carbon_emits_less(sites: dict[str, FleetAnswer]) -> None:
    """With all work done by its deadline, at least a tenth less than running as soon as possible."""
    a = sites["carbon-week"]
    assert not a.horizon.short
    assert a.horizon.carbon_g < 0.9 * a.soonest.carbon_g


@pytest.mark.parametrize("path", PLACED, ids=lambda p: p.stem)
def test_a_placement_answers_what_stands_beside_it(path: Path) -> None:
    """Power within the solver's gap, demand met, every node accounted for, and simpler rules draw more."""
    told = fleet_place.solve(fleet.load(path)).to_dict()
    stated = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    assert told["feed_w"] == pytest.approx(stated["feed_w"], rel=1e-3)
    for name, way in stated["ways"].items():
        assert told["ways"][name]["feed_w"] == pytest.approx(way["feed_w"], rel=2e-3)
    assert told["ways"]["best"]["feed_w"] < 0.97 * min(told["ways"][name]["feed_w"] for name in ("spread", "packed"))
    assert {(w["job"], w["unit"]) for w in told["work"]} == {("chat", "request"), ("summaries", "request")}
    for pool in told["pools"]:
        running = sum(p["gangs"] for p in told["placed"] if p["pool"] == pool["name"])
        assert running + pool["idle"] + pool["asleep"] == pool["nodes"]


# ---- studies of designs ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", DESIGNS, ids=lambda p: p.stem)
def test_a_study_answers_what_stands_beside_it(path: Path) -> None:
    """Counts, the frontier, the chosen design and every work's energy are those of the expected file."""
    found = design.answer(design_file.load(path), jobs=1).expected()
    close(json.loads(json.dumps(found)), json.loads(path.with_suffix(".expected.json").read_text("utf-8")))
    assert found["exact"]["energy"] < 1


# ---- searches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SEARCHES, ids=lambda p: p.stem)
def test_a_search_finds_what_stands_beside_it(path: Path) -> None:
    """A part of the search, which the file states, chooses the same configuration and saves as much."""
    stated = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    found = serve_search.search(scenario.load(path).with_(stated["with"]), jobs=1).to_dict()
    for name in ("chosen", "baseline"):
        close({key: found[name][key] for key in stated[name]}, stated[name], name)
    close(found["savings"], stated["savings"])
    close(found["breakdown_j"], stated["breakdown_j"])
    assert found["savings"]["energy"] > 0.2
