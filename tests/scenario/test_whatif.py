"""Tests for `wattline.scenario.whatif`: many points at once give the rows of one at a time."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenario.test_scenario import SERVE, TRAIN, changed
from wattline.scenario import scenario as sc
from wattline.scenario import whatif
from wattline.source.roofline.source import Roofline

# Values per key: hardware constants, the site, goals and latency limits; some without an answer.
HARDWARE = {
    "chip.memory.hbm.energy": ["3 pJ/bit", "7 pJ/bit"],
    "chip.memory.hbm.bandwidth": ["2.5 TB/s", "4 TB/s"],
    "chip.power.waiting": ["60 W", "140 W"],
    "chip.power.limit": ["400 W", "600 W"],
    "chip.clock.max": ["1.7 GHz"],
    "chip.voltage.max": ["0.95 V", "9 V"],
    "node.host.power": ["1 kW"],
    "site.pue": ["1.1", "0.5"],
    "hardware.chip": ["h200-sxm"],
}
TRAINING = HARDWARE | {
    "goal.max_slowdown": ["0 %", "5 %"],
    "goal.deadline": ["1 s", "90 d"],
    "train.tokens": ["2B"],
    "train.tensor": [1, 6],
    "node.nic.bandwidth": ["20 GB/s"],
}
SERVING = HARDWARE | {
    "serve.tpot": ["1 ms", "30 ms"],
    "serve.ttft": ["400 ms"],
    "serve.rate": ["2 req/s", "9 req/s"],
    "serve.prompt": [2048],
    "goal.power": ["900 W"],
}


def points(keys: dict) -> st.SearchStrategy:
    change = st.sampled_from([(k, v) for k, values in keys.items() for v in values])
    return st.lists(st.lists(change, max_size=3).map(dict), min_size=1, max_size=8)


def alike(many: list, single: list) -> None:
    """Rows agree to 1e-9, words and errors exactly."""
    assert len(many) == len(single)
    for a, b in zip(many, single, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert value == (pytest.approx(b[key], rel=1e-9) if isinstance(value, float) else b[key]), key


@settings(max_examples=6, deadline=None)
@given(points(TRAINING))
def test_sketches_of_many_points_are_those_of_each(some: list) -> None:
    """Training: rows in order, errors in their places, numbers equal."""
    base = sc.parse(changed(TRAIN, goal={"max_slowdown": "2 %"}))
    alike(whatif.sketches(base, some), [whatif.sketch(base, point) for point in some])


@settings(max_examples=12, deadline=None)
@given(points(SERVING))
def test_sketches_of_serving_are_those_of_each(some: list) -> None:
    """Serving: likewise."""
    base = sc.parse(SERVE)
    alike(whatif.sketches(base, some), [whatif.sketch(base, point) for point in some])


def test_simulated_rows_are_those_of_each() -> None:
    """Serving rows of a small sweep are simulated, each as it would be alone."""
    base, some = sc.parse(SERVE).with_({"serve.count": 300}), [{"site.pue": 1.3}, {"serve.tpot": "60 ms"}]
    alike(whatif.summaries(base, some), [whatif.summary(base, point) for point in some])


def test_exact_training_rows_are_those_of_each() -> None:
    """The exact plans of a small sweep share the source's work too."""
    base = sc.parse(TRAIN)
    some = [{"chip.power.waiting": f"{w} W"} for w in (70, 90, 110)]
    alike(whatif.summaries(base, some), [whatif.summary(base, point) for point in some])


def test_points_that_share_their_work_ask_the_source_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty points with other constants cost one question about a device and one about all the others."""
    asked = []
    one, many = Roofline.tables, Roofline.stacks
    monkeypatch.setattr(Roofline, "tables", lambda *a: asked.append(1) or one(*a))
    monkeypatch.setattr(Roofline, "stacks", lambda *a: asked.append(len(a[2])) or many(*a))
    some = [{"chip.memory.hbm.energy": f"{e} pJ/bit", "site.pue": "1.2"} for e in range(2, 52)]
    random.Random(0).shuffle(some)
    rows = whatif.sketches(sc.parse(SERVE), some)
    assert sorted(asked) == [1, 1, 49, 49]  # every batch's step, and the largest batch alone
    order = sorted(rows, key=lambda row: float(row["chip.memory.hbm.energy"].split()[0]))
    energies = [row["energy_j"] for row in order]
    assert energies == sorted(energies)
