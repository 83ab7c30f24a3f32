"""Tests for `wattline.source.dataflow.source`: operators of a model on a described chip, and scenarios on top."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.core.errors import InputError, ScenarioError
from wattline.hardware import catalog
from wattline.scenario import scenario
from wattline.source.base import Device
from wattline.source.dataflow import Dataflow
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm


def device(name="a100-like"):
    chip = catalog.chip(name)
    return Device(chip, catalog.default_node(chip))


WORK = (
    Gemm(name="up", m=512, n=2048, k=1024),
    GroupedGemm(name="experts", tokens=256, top_k=2, experts=8, local_experts=8, n=512, k=512, active=8),
    Attention(name="attend", batch=2, query=256, context=256, heads=8, kv_heads=2, head_dim=64, value_dim=64),
    Elementwise(name="norm", read=1e6, write=1e6, ops=1e6),
    Collective(name="reduce", op="all_reduce", size=1e6, ranks=2),
)


def test_every_kind_of_operator_has_time_and_energy_by_component():
    """Components carry the roofline's names where they are the same thing, and sum to the energy."""
    ours = Dataflow().points(WORK, device())
    theirs = Roofline().points(WORK, device())
    assert np.all(ours.time > 0)
    assert ours.energy == pytest.approx(sum(ours.parts.values()))
    shared = {"compute.bf16", "memory.hbm", "memory.l2", "link.nvlink", "leakage", "clock_tree", "waiting"}
    assert shared <= set(ours.parts)
    assert shared <= set(theirs.parts)


def test_slower_clocks_take_longer_and_never_less_time_than_the_memory_needs():
    """Time falls as the clock rises."""
    clocks = np.array([0.8e9, 1.1e9, 1.41e9])
    found = Dataflow().points(WORK[:1], device(), clocks)
    assert np.all(np.diff(found.time) < 0)


def test_a_power_limit_slows_work_down():
    """With less power than a product draws at the top clock, the chip throttles and keeps the limit."""
    product = [Gemm(name="big", m=4096, n=4096, k=4096)]
    free = Dataflow().points(product, device())
    chip = catalog.chip("a100-like").with_({"architecture.power.limit": "200 W"}, source="test")
    held = Dataflow().points(product, Device(chip, catalog.default_node(chip)))
    assert free.power[-1] > 200
    assert held.power[-1] == pytest.approx(200, rel=0.01)
    assert held.time[-1] > free.time[-1]


def test_fused_attention_moves_less_through_main_memory():
    """Scores that stay on the chip save main memory energy."""
    attention = [
        Attention(name="attend", batch=1, query=1024, context=1024, heads=8, kv_heads=8, head_dim=64, value_dim=64)
    ]
    fused = Dataflow().points(attention, device())
    apart = Dataflow(fused=False).points(attention, device())
    assert fused.parts["memory.hbm"][0] < 0.5 * apart.parts["memory.hbm"][0]


def test_a_sheet_of_facts_has_no_parts_to_search():
    """The error says what to name instead."""
    with pytest.raises(InputError, match="needs a chip taken apart, and a100-sxm-80gb is a sheet of facts"):
        Dataflow().points(WORK, device("a100-sxm-80gb"))


def test_a_scenario_asks_for_the_search_by_name():
    """hardware.source = "dataflow" answers the scenario by mappings, and a chip's parts change the answer."""
    small = {
        "model": {"name": "llama-3.2-1b"},
        "hardware": {"chip": "a100-like", "source": "dataflow", "chips_per_node": 1},
        "serve": {"prompt": 64, "output": 2, "rate": "1 request/s", "max_batch": 1},
    }
    before = scenario.solve(scenario.parse(small), detail=False).chosen.energy_j
    after = scenario.parse(small).with_({"chip.architecture.level.hbm.read_energy": "1 pJ/bit"})
    assert scenario.solve(after, detail=False).chosen.energy_j < before
    asked = scenario.solve(
        scenario.parse(small), detail=False, simulated=True
    )  # a search for each step of a simulation?
    assert asked.chosen.energy_j == before
    assert "no promise is simulated" in asked.assumptions[-1]
    with pytest.raises(ScenarioError, match=r"hardware\.source"):
        scenario.parse({"hardware": {"source": "guess"}})
