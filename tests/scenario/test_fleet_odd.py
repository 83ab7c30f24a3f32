"""Fleets of odd numbers: zeros, outages, tiny and absurd amounts answer with a plan or a sentence, never a warning."""

from __future__ import annotations

import json
import random

import pytest
from rich.console import Console

from wattline.core.errors import WattlineError
from wattline.scenario import fleet
from wattline.show import report
from wattline.show.report import fleet_page


def drawn(seed: int) -> dict[str, object]:
    """Draw a scenario of odd values."""
    r = random.Random(seed)
    c = r.choice
    jobs = []
    for k in range(r.randint(1, 3)):
        speeds = c([[1], [1, 0.8], [1, 0.9, 0.5]])
        jobs.append({
            "name": f"j{k}", "speeds": speeds, "powers": ["900 kW", "700 kW", "400 kW"][: len(speeds)],
            "idle": c(["0 W", "1 kW", "50 kW"]), "at": c(["row-1", "row-*", "feed"]), "weight": c([0, 1, 5]),
            **c([{}, {"pause": True}, {"pause": True, "resume": "20 min"}, {"pause": True, "resume": "5 min", "dwell": "2 h"}]),
            **c([{}, {"due": c(["0 h", "2 h", "6 h", "1e-9 s", "30 h"])}]), **c([{}, {"minimum": c([0, 0.3, 1])}]),
        })  # fmt: skip
    event = {"start": "2 h", "lasts": "3 h", "limit": c(["0 W", "1 MW"]), "part": c(["row-1", "feed"])}
    grid = {
        "price": c(["0 USD/MWh", "80 USD/MWh", "-20 USD/MWh", "1e9 USD/MWh"]), "carbon": c(["0 g/kWh", "400 g/kWh"]),
        "lasts": "8 h", "nodes": 20, **c([{}, {"event": [event]}]), **c([{}, {"ramp": "1 MW/h"}]),
        **c([{}, {"sell": "500 kW", "sell_price": "50 USD/MWh"}]),
    }  # fmt: skip
    part = {"name": "row", "count": 2, "limit": c(["2 MW", "2 MW", "800 kW", "0 W"]), "loss": c([0, 0.05])}
    out: dict[str, object] = {
        "site": {"feed": {"limit": c(["3 MW", "1 MW", "1e17 W"]), "part": [part]}}, "job": jobs, "grid": grid,
        "goal": {c(["least_cost", "least_carbon", "least_energy", "most_work"]): True},
    }  # fmt: skip
    more = {
        "tariff": {"name": "t", "demand": "5 USD/kW"},
        "storage": {"name": "b", "energy": "1 MWh", "power": c(["500 kW", "1 W"]), "wear": "5 USD/MWh"},
        "source": {"name": "s", "power": c(["0 W", "300 kW", "5 MW"]), "takes": c([True, False])},
        "service": {"name": "v", "pays": "10 USD/MWh", "most": "200 kW", "calls": c([0, 2])},
    }
    return {**out, **{name: [row] for name, row in more.items() if r.random() < 0.3}}


@pytest.mark.parametrize("seed", range(60))
def test_odd_fleets_answer_in_numbers_or_in_one_sentence(seed: int) -> None:
    """Warnings are errors here: plans, JSON, tables and pages of whatever is drawn hold none."""
    try:
        answer = fleet.solve(fleet.parse_fleet(drawn(seed)))
    except WattlineError:
        return
    json.dumps(answer.to_dict(), allow_nan=False)
    report.show_fleet(answer, Console(quiet=True))
    if seed % 6 == 0:
        fleet_page.page(answer)
    assert answer.horizon is not None
    assert answer.horizon.gap < 1e-6 or answer.horizon.nodes
