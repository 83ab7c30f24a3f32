"""Tests for wattline.scenario.search: the search against brute force, its laws, its command, and Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.scenario import scenario
from wattline.scenario import search as serve_search
from wattline.scenario.search.confirm import confirm
from wattline.scenario.search.space import Variant, placed, split, variants
from wattline.scenario.simulate_serving import requests_of
from wattline.serving.candidates import Part
from wattline.serving.search_answer import SearchAnswer
from wattline.serving.step import clock_grid
from wattline.show.cli import main as cli
from wattline.source.base import Device

from .spaces import draw, exhaustive

# One process has what the tests share.
pytestmark = pytest.mark.xdist_group("search")
TINY = {
    "model": {"name": "llama-3.2-1b"},
    "hardware": {"chip": "l4"},
    "serve": {
        "rate": "6 req/s", "arrivals": "gamma", "variation": 1.5, "count": 240, "prompt": 512, "prompt_variation": 0.8,
        "output": 96, "output_variation": 0.8, "ttft": "400 ms", "tpot": "40 ms", "percentile": 95, "max_batch": 64,
        "search": {"tensor": 1, "replicas": [1, 2], "batches": [8, 64], "pools": ["one"], "confirm": 4},
    },
    "site": {"pue": 1.2, "price": "80 USD/MWh", "carbon": "400 g/kWh"},
}  # fmt: skip


def tiny(**changes: object) -> scenario.Scenario:
    return scenario.parse(TINY).with_({f"serve.{k}": v for k, v in changes.items()})


def wide(**changes: object) -> scenario.Scenario:
    """Two chips, all kinds of fleets."""
    some = {"serve.search.chips": "l4,h100-pcie", "serve.search.pools": "one,disaggregated,by-length"}
    return scenario.parse(TINY).with_({**some, **{f"serve.{k}": v for k, v in changes.items()}})


@pytest.fixture(scope="module")
def found() -> SearchAnswer:
    return serve_search.search(tiny(), jobs=1)


@pytest.fixture(scope="module")
def several() -> SearchAnswer:
    return serve_search.search(wide(), jobs=1)


def test_the_chosen_one_is_the_best_of_all_simulated(found: SearchAnswer) -> None:
    """Every setting of a tiny space simulated: none that keeps the promise needs 1 % less than the chosen one."""
    stated, variant = tiny(), asdict(Variant("l4"))
    chip = placed(stated, Variant("l4"))[0]
    clocks = clock_grid(Device(chip.chip, chip.node)).tolist()
    tokens = found.tokens
    rows = [
        confirm(stated, {"parts": [(variant, asdict(Part(0, "both", replicas, batch, clock)))]})
        for replicas in (1, 2) for batch in (8, 64) for clock in clocks
    ]  # fmt: skip
    best = min(row["energy_j"] for row in rows if row["kept"]) / tokens
    assert found.chosen.kept
    assert found.chosen.best.energy <= best * 1.01


@pytest.mark.parametrize("number", [1, 7])
def test_a_random_space_is_searched_to_its_best(number: int) -> None:
    """Every setting simulated: of those sure to keep the promise none is 1 % cheaper than what the search takes."""
    stated = draw(number, count=200)
    best, found = exhaustive(stated), serve_search.search(stated, jobs=1).chosen
    assert best is not None
    assert found.probability is not None
    assert found.probability >= 0.99
    assert found.best.energy <= 1.01 * best.energy


def test_steps_with_prompts_may_have_a_clock_of_their_own(found: SearchAnswer) -> None:
    """What is found with more axes is no dearer, and stands in the answer as it is to be set."""
    plain = serve_search.search(tiny(**{"search.phases": False, "search.chunks": "8192"}), jobs=1)
    assert found.chosen.best.energy <= plain.chosen.best.energy * 1.001
    (pool,) = plain.chosen.pools
    assert pool["prefill_clock_hz"] == pool["clock_hz"]
    assert pool["max_step_tokens"] == 8192


def test_money_and_joules_are_weighed_where_asked() -> None:
    """Fewest chips for cost, least energy for energy, and both as points that do not beat one another."""
    money = {"site.chip_price": "3 USD/h", "site.price": "80 USD/MWh"}
    both = serve_search.search(tiny(**{"search.goal": "both"}).with_(money), jobs=1)
    points = [
        (c["energy_per_token_j"], c["cost_usd_per_million_tokens"]) for c in both.to_dict()["energy_cost_frontier"]
    ]
    assert points == sorted(points)
    assert [p[1] for p in points] == sorted((p[1] for p in points), reverse=True)
    with pytest.raises(ScenarioError, match="needs what a chip costs"):
        serve_search.search(tiny(**{"search.goal": "cost"}))


def test_drafts_and_stages_are_variants() -> None:
    """Speculation and pipelines are priced, simulated and told."""
    stated = tiny(**{"search.drafts": "0,3", "search.pipeline": "1,2", "search.confirm": 2})
    assert {(v.pipeline, v.drafts) for v in variants(stated)} == {(1, 0), (1, 3), (2, 0), (2, 3)}
    one = {"parts": [(asdict(Variant("l4", pipeline=2, drafts=3)), asdict(Part(0, "both", 1, 8, 2.0e9)))]}
    row = confirm(stated, one)
    assert row["energy_j"] > 0.0
    assert sum(row["breakdown_j"].values()) == pytest.approx(row["energy_j"], rel=1e-9)


def test_expected_figures_are_near_the_simulated_ones(found: SearchAnswer) -> None:
    """Of confirmed configurations: energy within 10 %, time per token within 25 %, and nearly the same order."""
    for c in found.confirmed:
        assert c.simulated is not None
        assert c.analytic.energy == pytest.approx(c.simulated.energy, rel=0.10)
        assert c.analytic.tpot == pytest.approx(c.simulated.tpot, rel=0.25)
    assert found.agreement["rank_correlation"] > 0.5


def test_more_slack_never_costs_more() -> None:
    """A looser promise is met with no more joules per token, within 1 % for what simulation moves."""
    energies = [
        serve_search.search(tiny(tpot=tpot, ttft="1 s"), jobs=1).chosen.best.energy for tpot in ("25 ms", "40 ms", "80 ms")
    ]  # fmt: skip
    assert energies[1] <= energies[0] * 1.01
    assert energies[2] <= energies[1] * 1.01


def test_the_baseline_is_at_maximum_clock_and_keeps_the_promise(found: SearchAnswer) -> None:
    """One replica fewer would not keep it, and the chosen one saves against it."""
    base = found.baseline
    clocks = [c.pools[0]["clock_hz"] for some in found.frontier.values() for c in some]
    assert base.kept
    assert base.pools[0]["clock_hz"] >= max(clocks)
    assert found.savings["energy"] > 0.0


def test_joules_add_up(found: SearchAnswer, several: SearchAnswer) -> None:
    """A breakdown sums to the energy per token, whatever the fleet; so do price and carbon follow from it."""
    for answer in (found, several):
        for c in (*answer.confirmed, answer.baseline):
            assert c.simulated is not None
            assert sum(c.breakdown_j.values()) == pytest.approx(c.simulated.energy, rel=1e-9)
    told = found.to_dict()["chosen"]
    assert told["carbon_g"] == pytest.approx(400.0 / 3.6e6 * told["energy_per_token_j"] * found.tokens, rel=1e-6)


@pytest.mark.parametrize(
    "parts",
    [
        [("l4", Part(0, "prefill", 1, 64, 2.0e9)), ("h100-pcie", Part(1, "decode", 1, 64, 1.5e9))],
        [("l4", Part(0, "both", 1, 64, 2.0e9, "short")), ("h100-pcie", Part(1, "both", 1, 64, 1.5e9, "long"))],
    ],
    ids=["disaggregated", "by length"],
)
def test_two_pools_lose_no_joule(parts: list[tuple[str, Part]]) -> None:
    """Chips' joules equal the integral of power but for the waiting of the pool that ends first; phases sum to them."""
    row = confirm(wide(), {"parts": [(asdict(Variant(chip)), asdict(part)) for chip, part in parts]})
    assert sum(row["phases_j"].values()) == pytest.approx(row["chip_energy_j"], rel=1e-9)
    assert row["integral_j"] <= row["chip_energy_j"] * (1 + 1e-6)
    assert row["chip_energy_j"] < row["energy_j"]
    assert row["ttft"] > 0.0


def test_every_kind_of_fleet_is_looked_at(several: SearchAnswer) -> None:
    """Fleets of two chips and of two pools stand on the frontiers where they are best."""
    assert several.variants == 2
    labels = [c.label for some in several.frontier.values() for c in some]
    assert any("prefill" in label for label in labels)
    every = {pool["chip"] for some in several.frontier.values() for c in some for pool in c.pools}
    assert every == {"l4", "h100-pcie"}


def test_prompts_are_cut_where_short_ones_hold_half_the_tokens() -> None:
    """By default; a stated length is taken as it is."""
    requests = requests_of(wide())
    cut = split(wide(), requests)
    share = requests.prompt[requests.prompt <= cut].sum() / requests.prompt.sum()
    assert 0.45 < share <= 0.5
    assert split(wide(**{"search.split": 300}), requests) == 300


def test_a_promise_nothing_keeps_names_the_bound_and_the_nearest() -> None:
    """Which bound fails, by how much, and which configuration comes nearest."""
    with pytest.raises(GoalError, match=r"nearest, \d x l4 .* MHz, fails: serve.tpot = 2 ms is missed by \d+ %"):
        serve_search.search(tiny(tpot="2 ms"), jobs=1)


def test_limits_on_power_and_chips_hold(found: SearchAnswer) -> None:
    """The chosen fleet draws no more than the site gives; a limit nothing keeps is named; chips are counted over pools."""
    limit = found.baseline.best.power * 0.95
    capped = serve_search.search(tiny().with_({"site.power_limit": f"{limit} W"}), jobs=1)
    assert capped.chosen.best.power <= limit
    with pytest.raises(GoalError, match=r"site\.power_limit = 10 W is missed by"):
        serve_search.search(tiny().with_({"site.power_limit": "10 W"}), jobs=1)
    few = serve_search.search(tiny(**{"search.chips_limit": 1}), jobs=1)
    assert {c.chips for some in few.frontier.values() for c in some} == {1}


def test_variants_that_do_not_fit_are_left_out_and_named() -> None:
    """fp8 on a chip without it is refused; the others are searched."""
    stated = tiny(**{"search.chips": "l4,a100-sxm-80gb", "search.precision": "fp8", "search.confirm": 1})
    answer = serve_search.search(stated, jobs=1)
    assert list(answer.refused) == ["a100-sxm-80gb tp1 fp8"]
    assert "does not compute in fp8" in answer.refused["a100-sxm-80gb tp1 fp8"]
    assert {pool["chip"] for pool in answer.chosen.pools} == {"l4"}


def test_the_same_search_gives_the_same_answer(found: SearchAnswer) -> None:
    """Twice the same arguments, twice the same answer."""
    again = serve_search.search(tiny(), jobs=1)
    alike(json.loads(json.dumps(again.to_dict())), json.loads(json.dumps(found.to_dict())))


def test_ray_gives_the_same_answer(found: SearchAnswer, tmp_path: Path) -> None:
    """A local Ray cluster in a process of its own answers what this process does."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    code = f"""
import json
from pathlib import Path
from wattline.scenario import scenario
from wattline.scenario import search as serve_search
stated = scenario.parse(json.loads(Path({str(path)!r}).read_text()))
print(json.dumps(serve_search.search(stated, engine="ray", jobs=2).to_dict()))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    alike(json.loads(run.stdout.splitlines()[-1]), json.loads(json.dumps(found.to_dict())))


def alike(a: object, b: object) -> None:
    """Compare nested values; numbers but for their last bits, which depend on how arrays lie in a worker's memory."""
    if isinstance(b, dict):
        assert isinstance(a, dict)
        assert a.keys() == b.keys()
        for key in b:
            alike(a[key], b[key])
    elif isinstance(b, list):
        assert isinstance(a, list)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            alike(x, y)
    else:
        assert a == (pytest.approx(b, rel=1e-9) if isinstance(b, float) else b)


# ---- keys and the command ------------------------------------------------------------------------


def test_lists_are_read_from_files_and_from_the_command_line() -> None:
    """A list, one value, or text with commas; each value is checked."""
    assert [v.tensor for v in variants(tiny(**{"search.tensor": "1,2"}))] == [1, 2]
    stated = tiny(**{"search.precision": "stored,fp8"})
    assert [v.precision for v in variants(stated)] == [None, "fp8"]
    assert tiny(**{"search.replicas": "auto"}).get("serve.search.replicas") is None
    with pytest.raises(ScenarioError, match=r"did you mean .fp8."):
        tiny(**{"search.precision": "fp9"})
    with pytest.raises(ScenarioError, match="at least 1"):
        tiny(**{"search.tensor": [0]})


def test_a_search_is_not_solved_as_one_replica() -> None:
    """`scenario.solve` says who answers; so do goals and keys that a search has no use for."""
    with pytest.raises(ScenarioError, match="answered by `wattline plan`"):
        scenario.solve(tiny())
    with pytest.raises(ScenarioError, match=r"serve\.policy is what a search finds"):
        serve_search.search(tiny(policy="governor"))
    with pytest.raises(ScenarioError, match=r"goal\.power is not a goal of a search"):
        serve_search.search(tiny().with_({"goal.power": "1 kW"}))


FILE = """
[model]
name = "llama-3.2-1b"
[hardware]
chip = "l4"
[serve]
rate = "6 req/s"
count = 120
prompt = 512
output = 64
tpot = "40 ms"
max_batch = 32
search = true
"""


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, stable JSON keys, a page with its pictures, and the pools as CSV."""
    path = tmp_path / "search.toml"
    path.write_text(FILE)
    few = ["--set", "serve.search.confirm=2", "--set", "serve.search.tensor=1", "--jobs", "1"]
    page, pools = tmp_path / "page.html", tmp_path / "pools.csv"
    assert cli.main(["plan", str(path), *few, "--html", str(page), "--csv", str(pools)]) == 0
    said = capsys.readouterr().out
    for words in ("per token", "Confirmed by simulation", "Where the joules go", "baseline"):
        assert words in said
    html = page.read_text("utf-8")
    for name in ("chart-ttft", "chart-tpot", "chart-latency", "chart-confirmation", "chart-breakdown"):
        assert name in html
    assert pools.read_text().startswith("role,requests,chip,tensor")
    assert cli.main(["plan", str(path), *few, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"frontier", "chosen", "baseline", "savings", "breakdown_j", "confirmed", "agreement"} <= told.keys()
    assert set(told["frontier"]) == {"ttft", "tpot", "latency"}


def test_an_unmet_promise_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on stderr."""
    path = tmp_path / "search.toml"
    path.write_text(FILE)
    few = ["--set", "serve.search.confirm=1", "--set", "serve.search.tensor=1", "--jobs", "1"]
    assert cli.main(["plan", str(path), *few, "--set", "serve.tpot=1 ms"]) == 1
    assert "serve.tpot = 1 ms is missed by" in capsys.readouterr().err


def test_an_engine_needs_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan of one replica has nothing to spread over machines."""
    example = Path(__file__).parents[3] / "examples" / "llama-8b-serving.toml"
    assert cli.main(["plan", str(example), "--engine", "ray"]) == 2
    assert "no [serve.search]" in capsys.readouterr().err
