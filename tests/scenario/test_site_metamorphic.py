"""Every constant of nodes and sites, swept: a free improvement never costs, and what claims to act moves something."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

from wattline.core.errors import WattlineError
from wattline.hardware import catalog
from wattline.scenario import fleet
from wattline.scenario import scenario as scenarios
from wattline.scenario.schema_fleet import KEYS

FACTORS = (0.25, 0.7, 1.0, 1.4, 4.0, 16.0)

# ---- a site's plan over time -----------------------------------------------------------------------

SITE = {
    "site": {"pue": 1.2, "feed": {"limit": "900 kW", "loss": 0.02, "overhead": "50 kW", "part": [
        {"name": "row", "limit": "800 kW", "standing": "20 kW", "loss": 0.03}]}},
    "job": [
        {"name": "a", "at": "row", "speeds": [1, 0.8, 0.6], "powers": ["1 MW", "720 kW", "500 kW"], "chips": 1000,
         "pause": True, "idle": "100 kW", "due": "4 h", "release": "1 h", "deadline": "11 h"},
        {"name": "b", "at": "row", "speeds": [1, 0.7], "powers": ["900 kW", "600 kW"], "chips": 800, "pause": True,
         "idle": "80 kW", "due": "3 h"},
    ],
    "grid": {"lasts": "12 h", "price": "80 USD/MWh", "carbon": "300 g/kWh", "sell": "100 kW", "sell_price": "150 USD/MWh",
             "ramp": "200 kW/h", "gap": 1e-7},
    "tariff": [
        {"name": "evening", "energy": "200 USD/MWh", "hours": "06:00-09:00"},
        {"name": "peak", "demand": "3 USD/kW", "peak_so_far": "300 kW", "ratchet": 0.4, "past_peak": "1.5 MW"},
    ],
    "storage": [{"name": "battery", "energy": "600 kWh", "power": "200 kW", "round_trip": 0.85, "wear": "10 USD/MWh",
                 "start": 0.5, "reserve": 0.1}],
    "source": [{"name": "sun", "power": "300 kW", "cost": "5 USD/MWh", "carbon": "20 g/kWh"}],
    "service": [{"name": "reserve", "pays": "30 USD/MWh", "most": "150 kW", "calls": 1, "lasts": "30 min"}],
    "goal": {"least_cost": True},
}  # fmt: skip

# Where a constant stands, what it is in SI or as a share, its unit, and which way is better: -1 less, +1 more. "never" may
# leave the least cost alone; all others must move it.
SWEPT = [
    ("site.feed.limit", 900, "kW", 1), ("site.feed.loss", 0.02, "", -1), ("site.feed.overhead", 50, "kW", -1),
    ("site.pue", 1.2, "", -1), ("site.feed.part.0.limit", 800, "kW", 1),
    ("site.feed.part.0.standing", 20, "kW", -1), ("site.feed.part.0.loss", 0.03, "", -1),
    ("job.0.due", 4, "h", -1), ("job.0.deadline", 11, "h", 1), ("job.0.release", 1, "h", -1), ("job.0.idle", 100, "kW", -1),
    ("grid.price", 80, "USD/MWh", -1), ("grid.sell", 100, "kW", 1), ("grid.sell_price", 150, "USD/MWh", 1),
    ("grid.ramp", 200, "kW/h", 1), ("tariff.0.energy", 200, "USD/MWh", -1), ("tariff.1.demand", 3, "USD/kW", -1),
    ("tariff.1.peak_so_far", 300, "kW", -1), ("tariff.1.ratchet", 0.4, "", -1), ("tariff.1.past_peak", 1.5, "MW", -1),
    ("storage.0.energy", 600, "kWh", 1), ("storage.0.power", 200, "kW", 1), ("storage.0.round_trip", 0.85, "", 1),
    ("storage.0.wear", 10, "USD/MWh", -1), ("storage.0.reserve", 0.1, "", -1), ("source.0.power", 300, "kW", 1),
    ("source.0.cost", 5, "USD/MWh", -1), ("service.0.pays", 30, "USD/MWh", 1), ("service.0.most", 150, "kW", 1),
    ("service.0.calls", 1, "", -1), ("service.0.lasts", 30, "min", -1),
]  # fmt: skip


# What else has to hold for a constant to matter: no charge that flattens all by itself, more sun than is used, a battery
# that is not paid for standing by.
BESIDE = {
    "site.feed.limit": {"tariff.1.demand": "0.01 USD/kW"}, "grid.ramp": {"tariff.1.demand": "0.01 USD/kW"},
    "site.feed.part.0.limit": {"tariff.1.demand": "0.01 USD/kW", "site.feed.limit": "2 MW"},
    "grid.sell": {"source.0.power": "900 kW"},
    "grid.sell_price": {"source.0.power": "900 kW"}, "storage.0.round_trip": {"service.0.pays": "0 USD/MWh", "tariff.1.demand": "0.01 USD/kW"},
    "storage.0.wear": {"service.0.pays": "0 USD/MWh", "tariff.1.demand": "0.01 USD/kW"},
}  # fmt: skip


def put(data: dict, path: str, value: object) -> None:
    *way, last = path.split(".")
    at = data
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[last] = value


def changed(path: str, value: float, unit: str) -> dict:
    data = copy.deepcopy(SITE)
    for other, beside in BESIDE.get(path, {}).items():
        put(data, other, beside)
    put(data, path, f"{value!r} {unit}" if unit else int(value) if path.endswith("calls") else value)
    return data


@functools.cache
def costs(path: str, value: float, unit: str) -> list[float]:
    """Return the least cost with a constant at each factor, NaN where it is refused or nothing fits."""
    out = []
    for factor in FACTORS:
        try:
            out.append(fleet.solve(fleet.parse_fleet(changed(path, value * factor, unit))).horizon.cost_usd)
        except WattlineError:
            out.append(np.nan)
    return out


@pytest.mark.parametrize(("path", "value", "unit", "better"), SWEPT)
def test_a_free_improvement_of_a_site_never_costs(path, value, unit, better):
    """Over a factor of 64 the better side of every constant costs no more, and some value of it costs otherwise."""
    found = np.array(costs(path, value, unit))
    held = found[np.isfinite(found)]
    assert len(held) >= 2, found
    change = np.diff(held) * better
    assert (change <= 2e-6 * np.abs(held[1:])).all(), found
    assert np.ptp(held) > 1e-6 * abs(held[0]), found


def test_every_number_of_the_bill_is_swept():
    """A new key of the tree, the grid's money, tariffs, storage, sources and services has to say which way is better."""
    swept = {p.replace(".0", "").replace(".1", "") for p, *_ in SWEPT}
    numbers = {
        key.path
        for key in KEYS.values()
        if key.section in ("site.feed", "site.feed.part", "tariff", "storage", "source", "service")
        and key.kind not in ("text", "names", "choice", "hours", "list", "pairs", "temperature", "flag", "whole")
    }
    # Carbon is swept with its goal; what is held at the start is held at the end too; a file's scale.
    assert numbers - swept <= {"source.carbon", "storage.start", "source.peak", "site.wue"}


@pytest.mark.parametrize(("path", "value"), [("grid.carbon", 300), ("source.0.carbon", 20)])
def test_cleaner_is_never_dirtier(path, value):
    """With least carbon as the goal, less carbon in a joule never ends in more."""
    grams = []
    for factor in FACTORS:
        data = changed(path, value * factor, "g/kWh")
        data["goal"] = {"least_carbon": True}
        grams.append(fleet.solve(fleet.parse_fleet(data)).horizon.carbon_g)
    assert (np.diff(grams) >= -1e-6 * np.abs(grams[1:])).all()
    assert np.ptp(grams) > 0


def test_what_cannot_act_is_told():
    """Without hours there is no bill, and without least cost nothing is sold: the answer names what it leaves out."""
    now = copy.deepcopy(SITE)
    now["grid"].pop("lasts")
    now["goal"] = {}
    (told,) = [a for a in fleet.solve(fleet.parse_fleet(now)).assumptions if a.startswith("not counted")]
    for name in ("[[tariff]] evening", "[[storage]] battery", "[[source]] sun"):
        assert name in told
    dirty = copy.deepcopy(SITE)
    dirty["goal"] = {"least_energy": True}
    said = " ".join(fleet.solve(fleet.parse_fleet(dirty)).assumptions)
    assert "not sold, because the goal is not least_cost: [[service]] reserve" in said
    assert "billed and not planned for" in said


# ---- nodes -----------------------------------------------------------------------------------------

TRAIN = {
    "model": {"name": "llama-3.1-8b"},
    "hardware": {"chip": "h100-sxm", "nodes": 4, "chips_per_node": 8},
    "train": {"tokens": "1B", "sequence": 4096, "global_batch": 64, "tensor": 8, "data": 4, "microbatch": 1},
}
NODE = {
    "host.power": -1, "fan.fraction": -1, "nic.count": 1, "nic.power": -1, "nic.bandwidth": 1, "nic.latency": -1,
    "nic.switch": -1, "nic.energy": -1,
}  # fmt: skip


@pytest.mark.parametrize("key", NODE)
def test_a_free_improvement_of_a_node_never_costs(key):
    """At one clock plan less power, a faster or nearer network take no more time, and no more joules without less time."""
    sheet = catalog.node("hgx-h100")
    stated = scenarios.parse(TRAIN)
    told = []
    for factor in FACTORS:
        value = float(sheet.get(key, 1e-11 if key == "nic.energy" else 20.0)) * factor
        if key == "nic.count":
            value = float(max(1, round(value)))
        if key == "fan.fraction" and value > 1:
            continue
        try:
            answer = scenarios.solve(stated.with_({f"node.{key}": value}), detail=False)
        except WattlineError:
            continue
        told.append((answer.baseline.time_s, answer.baseline.energy_j))
    time, energy = np.array(told).T
    worse = np.diff(time) * NODE[key] / time[1:]
    if key == "nic.count":  # adapters draw power of their own: more of them are faster, not thriftier
        assert (worse <= 1e-9).all()
    else:
        dearer = np.diff(energy) * NODE[key] / energy[1:]
        assert (worse <= 1e-9).all()
        assert ((dearer <= 1e-9) | (worse < -1e-9)).all(), told
    assert np.ptp(time) > 0 or np.ptp(energy) > 0
