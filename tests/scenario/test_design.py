"""Tests for `wattline.scenario.design` and `wattline.scenario.design_search`: studies of designs from the file's values to the answer."""

from __future__ import annotations

import csv
import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scenario.studies import SERVING, TRAINING, study
from wattline import GoalError, ScenarioError
from wattline.scenario import design, scenario
from wattline.scenario.design_file import parse_study
from wattline.scenario.design_search import optimise
from wattline.scenario.design_space import DesignAnswer, undominated
from wattline.scenario.whatif import sketches, summaries
from wattline.show import report
from wattline.show.cli.main import main

# One process has what the tests share.
pytestmark = pytest.mark.xdist_group("design")
WORKS = [{"name": "chat", "weight": 1, **SERVING}, {"name": "run", "weight": 3, **TRAINING, "hardware": {"nodes": 4}}]


# How a study evaluates a design exactly: training planned, serving by the mean step.
PLANNED = functools.partial(summaries, simulated=False)


@pytest.fixture(scope="module")
def small() -> DesignAnswer:
    return design.answer(study(budget={"area": "814 mm2", "power": "700 W"}, energy="100 GWh"), jobs=1)


# ---- one design ------------------------------------------------------------------------------------


def test_the_unchanged_design_is_the_plain_plan(small):
    """With nothing changed every work's figures are those of its own plan, and the mix is (1, 1)."""
    found = study()
    (row,) = design.evaluate(found, [(-1, -1, -1)], PLANNED)
    plain = scenario.solve(found.works[0].scenario, simulated=False).chosen
    assert row["works"]["chat"]["energy_j"] == pytest.approx(plain.energy_j, rel=1e-12)
    assert row["works"]["chat"]["time_s"] == pytest.approx(plain.time_s, rel=1e-12)
    none = [i for i, choice in enumerate(small.designs.choice) if (choice < 0).all()]
    np.testing.assert_allclose(small.designs.costs[none], [[1.0, 1.0, 814e-6]], rtol=1e-9)


def test_the_chosen_design_is_the_plan_with_its_changes(small):
    """The changed scenario planned by itself gives the same energy, and the search saw the same."""
    found = study()
    choice = tuple(int(c) for c in small.designs.choice[small.chosen])
    alone = scenario.solve(found.works[0].scenario.with_(found.changes(choice)), simulated=False)
    assert small.works[0].chosen.chosen.energy_j == pytest.approx(alone.chosen.energy_j, rel=1e-9)
    assert small.designs.energy[small.chosen] == pytest.approx(small.exact[0], rel=1e-6)


def test_a_mix_of_training_and_serving_is_weighed():
    """The mix's energy is the weighted mean of both works' ratios, and of their machine times."""
    found = study(WORKS, {"level.hbm.memory": ["hbm4"], "fanout.cores.size": [132, 144]})
    a = design.answer(found, jobs=1)
    base = {w.name: scenario.solve(w.scenario, detail=False).chosen for w in found.works}
    for i, row in enumerate(a.designs.rows):
        ratio = {n: row[n]["energy_j"] / b.energy_j for n, b in base.items()}
        assert a.designs.energy[i] == pytest.approx((ratio["chat"] + 3 * ratio["run"]) / 4)
    assert [w.weight for w in a.works] == [0.25, 0.75]
    # As much traffic as before takes the replica as long as before; the run's duration is its own.
    assert a.exact[1] == pytest.approx(0.25 + 0.75 * a.works[1].chosen.chosen.time_s / base["run"].time_s)


@pytest.mark.parametrize(
    ("key", "better", "worse"),
    [
        ("level.hbm.read_energy", "3 pJ/bit", "5 pJ/bit"),
        ("compute.energy.bf16", "0.2 pJ/FLOP", "0.25 pJ/FLOP"),
        ("domain.core.leakage", "30 W", "50 W"),
        ("link.nvlink.energy", "2 pJ/bit", "4 pJ/bit"),
        ("power.constant", "90 W", "120 W"),
    ],
)
def test_a_dearer_constant_never_saves_energy(key, better, worse):
    """At any option of the rest, less energy in one part is no more energy for the mix."""
    found = study(WORKS, {key: [better, worse], "fanout.cores.size": [100, 132]})
    rows = design.evaluate(found, list(itertools.product((0, 1), (0, 1))), PLANNED)
    for cheap, dear in ((rows[0], rows[2]), (rows[1], rows[3])):
        for name in ("chat", "run"):
            assert cheap["works"][name]["energy_j"] <= dear["works"][name]["energy_j"] * (1 + 1e-6)


def test_sketched_rows_are_close_to_exact_ones():
    """What large studies use for training is within a hundredth of the plan itself."""
    found = study(WORKS[1:], {"level.hbm.memory": ["hbm2e", "hbm4"], "fanout.cores.size": [100, 144]})
    choices = list(itertools.product((0, 1), (0, 1)))
    for fast, exact in zip(*(design.evaluate(found, choices, how) for how in (sketches, summaries)), strict=True):
        assert fast["works"]["run"]["energy_j"] == pytest.approx(exact["works"]["run"]["energy_j"], rel=0.01)
        assert fast["works"]["run"]["time_s"] == pytest.approx(exact["works"]["run"]["time_s"], rel=0.01)


# ---- budgets ---------------------------------------------------------------------------------------


def test_no_design_exceeds_the_area(small):
    """Designs over the budget are counted, and none is kept."""
    assert small.counted["over the area budget"] > 0
    assert small.designs.area.max() <= 814e-6 * (1 + 1e-9)
    assert small.counted["evaluated"] == small.counted["possible"] + 1 == 28


def test_a_wider_budget_never_worsens_the_choice(small):
    """More area, no more energy."""
    wide = design.answer(study(budget={"area": "900 mm2"}), jobs=1)
    assert wide.designs.energy[wide.chosen] <= small.designs.energy[small.chosen] * (1 + 1e-12)
    tight = design.answer(study(budget={"area": "750 mm2"}), jobs=1)
    assert small.designs.energy[small.chosen] <= tight.designs.energy[tight.chosen] * (1 + 1e-12)


def test_a_power_budget_is_the_power_limit():
    """A design under a tighter budget plans as with that power limit; one above the chip's own changes nothing."""
    works = [{"name": "run", **TRAINING, "hardware": {"nodes": 4}}]
    limited, free, plain = (
        design.evaluate(study(works, budget=b), [(-1, -1, -1)], summaries)[0]["works"]["run"]
        for b in ({"power": "300 W"}, {"power": "2 kW"}, {})
    )
    by_hand = study(works).works[0].scenario.with_({"chip.architecture.power.limit": "300 W"})
    assert limited["time_s"] == pytest.approx(scenario.solve(by_hand, detail=False).chosen.time_s, rel=1e-9)
    assert limited["time_s"] > plain["time_s"]
    assert free == plain


def test_budgets_that_no_design_keeps_name_the_nearest():
    """The message says what the smallest design needs and what it is."""
    with pytest.raises(
        GoalError, match=r"no design of 28 keeps design.budget \(area 500 mm2\): the nearest needs 681 mm2 of area"
    ) as e:
        design.answer(study(budget={"area": "500 mm2"}), jobs=1)
    assert "level.l2.capacity = 25 MB" in str(e.value)
    assert "fanout.cores.size = 100" in str(e.value)
    with pytest.raises(GoalError, match="standing power"):
        design.answer(study(budget={"power": "100 W"}), jobs=1)


def test_a_chip_without_area_has_no_area_budget():
    """A chip whose die nobody stated is told so."""
    found = study(budget={"area": "800 mm2"})
    chip = scenario.cluster_of(found.works[0].scenario).chip
    bare = replace(chip, facts={k: v for k, v in chip.facts.items() if k != "area.die"})
    with pytest.raises(ScenarioError, match=r"h100-like states no area.die"):
        design._budgeted(found, bare)


def test_a_chip_of_one_clock_can_be_varied():
    """A near-memory chip without a voltage to choose has a study, elasticities too."""
    data = {
        "hardware": {"chip": "hbm-pim-like", "chips_per_node": 1},
        "model": SERVING["model"],
        "serve": {"rate": "0.2 req/s"},
        "design": {"vary": {"power.constant": ["50 W", "70 W"]}},
    }
    a = design.answer(parse_study(data), jobs=1)
    assert a.options(a.chosen) == {"power.constant": "50 W"}
    assert a.elasticity


def test_a_work_without_an_answer_is_named():
    """Nothing can be compared where the unchanged chip cannot do the work."""
    late = {**SERVING, "serve": {**SERVING["serve"], "tpot": "1 us"}}
    with pytest.raises(GoalError, match="work chat has no answer on the unchanged chip"):
        design.answer(study([{"name": "chat", **late}]), jobs=1)


# ---- the answer ------------------------------------------------------------------------------------


def test_steps_say_why_each_change_was_not_taken(small):
    """Every other option of every axis has a verdict, and none within the limits has less energy."""
    taken = small.options(small.chosen)
    assert len(small.steps) == sum(len(o) - (a in taken) for a, o in small.axes.items())
    for step in small.steps:
        assert step.verdict
        if step.energy is not None and step.verdict != "too slow":
            assert step.energy >= -1e-9
    assert any(step.verdict.startswith("over the area budget by") for step in small.steps)


def test_a_year_of_the_site_follows_the_mix(small):
    """Facility energy falls in proportion; no price, no cost."""
    today, then = small.site["energy_j"]
    assert today == pytest.approx(100e9 * 3600)
    assert then / today == pytest.approx(small.exact[0])
    assert "cost_usd" not in small.site


def test_elasticities_are_those_of_the_work(small):
    """A mix of one work has its elasticities."""
    assert small.elasticity == pytest.approx(dict(small.works[0].chosen.elasticity))


def test_the_answer_is_plain_values_and_the_same_twice(small):
    """JSON holds it whole, and a second run differs in nothing but its duration."""
    again = design.answer(study(budget={"area": "814 mm2", "power": "700 W"}, energy="100 GWh"), jobs=1)
    one, two = (json.loads(json.dumps(a.to_dict())) for a in (small, again))
    assert one.pop("seconds") >= 0
    assert two.pop("seconds") >= 0
    assert one == two


def test_processes_give_the_same_answer(small, monkeypatch):
    """Two workers, the same designs."""
    monkeypatch.setattr("wattline.scenario.sweep.PATIENCE", 0.0)
    both = design.answer(study(budget={"area": "814 mm2", "power": "700 W"}, energy="100 GWh"), jobs=2)
    np.testing.assert_allclose(both.designs.costs, small.designs.costs, rtol=1e-12)
    assert both.chosen == small.chosen


# ---- the optimiser ---------------------------------------------------------------------------------


def toy(choices: list[tuple[int, ...]]) -> list[tuple[Any, float]]:
    """Energy falls and area grows along each axis, with a budget that cuts a corner off."""
    out: list[tuple[Any, float]] = []
    for choice in choices:
        x = np.array(choice, dtype=float)
        cost = np.array([np.sum((x - 7) ** 2), np.sum((x - [1, 2, 3]) ** 2), x[0] + 2 * x[1]])
        out.append((None, float(cost[2] - 18)) if cost[2] > 18 else (cost, 0.0))
    return out


def test_the_optimiser_finds_nearly_all_of_the_exact_frontier():
    """On 1,000 designs a third of the evaluations finds the frontier within a hundredth."""
    every = list(itertools.product(range(10), repeat=3))
    exact = np.array([cost for cost, _ in toy(every) if cost is not None])
    exact = exact[undominated(exact)]
    found = optimise([10, 10, 10], toy, 400, seed=1)
    assert len(found) <= 400
    got = {tuple(cost) for cost, _ in found.values() if cost is not None}
    assert np.mean([tuple(row) in got for row in exact]) > 0.6


def test_the_optimiser_matches_the_grid_on_a_small_study():
    """With as many evaluations as designs its frontier and its choice are those of looking at all of them."""
    grid, found = (
        design.answer(study(budget={"area": "814 mm2"}, search=s, evaluations=60), jobs=1) for s in ("grid", "optimise")
    )
    points = [{tuple(np.round(a.designs.costs[i], 9)) for i in a.frontier} for a in (grid, found)]
    assert points[0] == points[1]
    assert grid.options(grid.chosen) == found.options(found.chosen)
    assert "NSGA-II" in found.method


def test_the_optimiser_needs_its_extra(monkeypatch):
    """Without Optuna the message says what to install, and what works without."""
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(Exception, match=r'pip install "wattline\[design\]", or design.search = "grid"'):
        optimise([4, 4], toy, 16)


# ---- telling it ------------------------------------------------------------------------------------


def test_the_page_and_the_charts_show_the_study(small, tmp_path):
    """The page holds the chosen design and what limits it; charts are files; every design is a row of the CSV."""
    report.write_design_html(small, tmp_path / "r.html", scenario="[design]", command="wattline plan x.toml")
    text = (tmp_path / "r.html").read_text("utf-8")
    for word in (
        "study of designs",
        "What limits it",
        "A year of the site",
        "over the area budget",
        'id="chart-designs"',
    ):
        assert word in text
    assert {p.name for p in report.write_design_charts(small, tmp_path / "c")} >= {
        "designs.svg",
        "steps.svg",
        "joules.png",
    }
    report.write_designs(small, tmp_path / "d.csv")
    rows = list(csv.DictReader((tmp_path / "d.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(small.designs)
    assert sum(row["chosen"] == "True" for row in rows) == 1


def test_the_command_line_runs_a_study(tmp_path: Path, capsys):
    """Tables without --json, stable keys with it; a missed budget ends 1, a plain plan takes no --engine."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[hardware]\nchip = "h100-like"\nchips_per_node = 1\n[model]\nname = "llama-3.1-8b"\n[serve]\nrate = "8 req/s"\n'
        '[design]\nvary."level.hbm.memory" = ["hbm3", "hbm4"]\n',
        "utf-8",
    )
    assert main(["plan", str(path), "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    for word in (
        "The chosen design",
        "What limits it",
        "Every design",
        "nothing changed",
        "What would help next",
        "How sure",
    ):
        assert word in said
    assert main(["plan", str(path), "--jobs", "1", "--json", "--set", "design.least=time"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"frontier", "chosen", "unchanged", "steps", "works", "site", "elasticity", "designs"} <= told.keys()
    assert main(["plan", str(path), "--set", "design.budget.area=1 mm2"]) == 1
    assert "no design of 3 keeps" in capsys.readouterr().err
    assert main(["whatif", str(path), "--set", "site.pue=1.1"]) == 2
    assert "wattline plan answers it" in capsys.readouterr().err
    plain = Path(__file__).parents[2] / "examples" / "llama-8b-serving.toml"
    assert main(["plan", str(plain), "--jobs", "2"]) == 2
    assert "has no [design]" in capsys.readouterr().err


# ---- what a design costs its owner ------------------------------------------------------------------

OWNED = {"fanout.cores.size": [100, 132], "level.l2.capacity": ["25 MB", "50 MB"], "making.dies": [1, 2]}


def owned(**asked: Any) -> DesignAnswer:
    """Return the answer to a study with a price of electricity and its carbon."""
    data = {
        "hardware": {"chip": "h100-like", "chips_per_node": 1},
        "site": {"price": "80 USD/MWh", "carbon": "400 g/kWh"},
        "design": {"vary": OWNED, "work": [{"name": "chat", **SERVING}], **asked},
    }
    return design.answer(parse_study(data), jobs=1)


def test_cost_is_electricity_and_the_chips_written_off() -> None:
    """Recomputed by hand from the row of every design, and least where it says so."""
    found = owned(least="cost", max_slowdown="20 %", life="4 y", use="50 %", markup=3.0)
    work = found.works[0]
    start, price, held = work.unchanged.chosen.energy_j, 80 / 3.6e9, 3.0 / (4 * 31557600.0 * 0.5)
    seconds = 1 / work.unchanged.chosen.figures["tokens_per_s"]
    before = price * start + held * seconds * found.making["unchanged"].total_usd
    row = found.designs.rows[found.chosen]["chat"]
    after = price * row["energy_j"] + held * row["machine_time_s"] * found.making["chosen"].total_usd
    assert found.designs.owned["cost"][found.chosen] == pytest.approx(after / before, rel=1e-12)
    assert found.designs.owned["cost"][found.chosen] == min(found.designs.owned["cost"])
    assert found.options(found.chosen)["making.dies"] == "2"
    assert any("written off over 4 years" in line for line in found.assumptions)


def test_the_dearer_the_chip_the_smaller_the_one_chosen() -> None:
    """At a hundredfold mark-up the owner takes the smallest die; the climate counts no mark-up."""
    dear = owned(least="cost", max_slowdown="20 %", markup=100.0)
    cheap = owned(least="cost", max_slowdown="20 %", markup=0.01)
    assert dear.designs.area[dear.chosen] <= cheap.designs.area[cheap.chosen]
    assert dear.designs.owned["carbon"] == pytest.approx(cheap.designs.owned["carbon"])


def test_least_cost_without_what_it_needs_is_refused() -> None:
    """A price of electricity, and a chip of parts."""
    data = {"hardware": {"chip": "h100-like", "chips_per_node": 1}}
    asked = {"vary": OWNED, "work": [{"name": "chat", **SERVING}], "least": "cost"}
    with pytest.raises(ScenarioError, match=r'site\.price = "80 USD/MWh"'):
        design.answer(parse_study({**data, "design": asked}), jobs=1)
