"""Laws of training plans that hold on every chip and every layout, whatever the constants are."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from wattline.frontier.answer import Answer, Goal
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.scenario.scenario import training_source
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.training.job import TrainingJob
from wattline.training.training import plan_training
from wattline.workload.catalog import model
from wattline.workload.operator import Attention, Gemm
from wattline.workload.parallel import Parallel

SOURCE = training_source()
CHIPS = ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "mi300x", "l40s")
LAYOUTS = ({"tensor": 8}, {"data": 8, "zero": 3}, {"pipeline": 4, "data": 2}, {"tensor": 2, "pipeline": 2, "data": 2})


def cluster(name: str, devices: int, **node: object) -> Cluster:
    chip = catalog.chip(name)
    host = catalog.default_node(chip)
    used = min(int(host["chips"]), devices)
    return Cluster(chip, host.with_(node, source="law") if node else host, -(-devices // used), used=used)


def job(precision: str = "bf16", batch: int = 32, sequence: int = 4096, **layout: int) -> TrainingJob:
    parallel = Parallel(**layout, sequence=layout.get("tensor", 1) > 1)
    return TrainingJob(
        model("llama-3.2-1b"), parallel, 1e9, sequence, batch, 1, precision=precision, recompute="selective",
        overlap=0.8,
    )  # fmt: skip


def plan(j: TrainingJob, c: Cluster, slack: float = 0.0) -> Answer:
    return plan_training(j, c, SOURCE, Goal("max_slowdown", slack), detail=False)


@pytest.mark.parametrize("name", catalog.names("chip"))
def test_energy_does_not_depend_on_a_limit_never_met(name: str) -> None:
    """Raising the power limit changes nothing of work that stays below it."""
    chip, host = catalog.chip(name), catalog.default_node(catalog.chip(name))
    work = [
        Gemm(name="g", m=8192, n=8192, k=8192, precision="fp16" if "compute.rate.bf16" not in chip else "bf16"),
        Attention(name="a", batch=4, query=2048, context=2048, heads=32, kv_heads=8, head_dim=128, value_dim=128),
    ]
    for operator in work:
        here = Roofline().points([operator], Device(chip, host))
        below = here.energy / here.time < 0.99 * chip["power.limit"]
        for factor in (1.2, 1.5, 4.0):
            raised = Roofline().points([operator], Device(chip.scaled("power.limit", factor), host))
            np.testing.assert_allclose(raised.energy[below], here.energy[below], rtol=1e-12)
            np.testing.assert_allclose(raised.time[below], here.time[below], rtol=1e-12)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("sequence", [2048, 65536])
def test_no_more_than_all_of_the_peak_is_used(chip: str, sequence: int) -> None:
    """Model FLOP utilisation is at most one, in fp32 and where attention is most of the work."""
    for precision in ("bf16", "fp32"):
        j = replace(job(precision, 8, sequence, tensor=4 if chip == "l40s" else 8), recompute="full")
        assert 0 < plan(j, cluster(chip, j.parallel.devices)).baseline.figures["mfu"] <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_twice_the_tokens_take_twice_the_time_and_energy(layout: dict[str, int]) -> None:
    """Nothing of a job but its length depends on how many tokens it is given."""
    c = cluster("h100-sxm", 8)
    one, two = plan(job(**layout), c, 0.02), plan(replace(job(**layout), tokens=2e9), c, 0.02)
    assert two.chosen.time_s == pytest.approx(2 * one.chosen.time_s, rel=1e-12)
    assert two.chosen.energy_j == pytest.approx(2 * one.chosen.energy_j, rel=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm-80gb"])
def test_a_looser_deadline_never_costs_more(chip: str, layout: dict[str, int]) -> None:
    """The plan for more time is no dearer than the plan for less."""
    slacks = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    energies = [plan(job(**layout), cluster(chip, 8), s).chosen.energy_j for s in slacks]
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(energies)), energies


@pytest.mark.parametrize("layout", [{"tensor": 8}, {"data": 8, "zero": 3}, {"data": 8, "zero": 1}])
@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm-80gb", "b200-sxm"])
def test_two_nodes_of_infinite_adapters_never_beat_one_twice(chip: str, layout: dict[str, int]) -> None:
    """The work of a batch takes two nodes at least half as long as one, however fast the network between them."""
    free = {"nic.bandwidth": "1000 TB/s", "nic.latency": "0 s", "nic.energy": "0 J/B"}
    one = plan(job(**layout), cluster(chip, 8))
    two = plan(job(**{**layout, "data": 2 * layout.get("data", 1)}), cluster(chip, 16, **free))
    assert two.baseline.time_s >= 0.5 * one.baseline.time_s * (1 - 1e-9)
    slow = plan(job(**{**layout, "data": 2 * layout.get("data", 1)}), cluster(chip, 16))
    assert two.baseline.time_s <= slow.baseline.time_s
