"""Tests for `wattline.training.elasticity`: what one percent is worth equals planning again, at every goal."""

from dataclasses import replace

import numpy as np
import pytest

from wattline.frontier.answer import Goal
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.scenario.scenario import training_source
from wattline.training.elasticity import least
from wattline.training.job import TrainingJob
from wattline.training.training import plan_training
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel

SOURCE = training_source()
# What following the optima's settings leaves out: work of other proportions would be set a little otherwise.
NEAR = 0.035


def cluster(name: str, devices: int) -> Cluster:
    chip = catalog.chip(name)
    node = catalog.default_node(chip)
    used = min(int(node["chips"]), devices)
    return Cluster(chip, node, -(-devices // used), used=used)


def job(name: str, **layout: int) -> TrainingJob:
    return TrainingJob(model(name), Parallel(**layout), 1e9, 2048, 16, 1, recompute="full")


CASES = [
    ("h100-sxm", job("llama-3.1-8b", tensor=2, pipeline=4)),
    ("a100-sxm-80gb", job("llama-3.2-1b")),
    ("b200-sxm", job("llama-3.1-8b", data=8, zero=3)),
]


@pytest.mark.parametrize(("chip", "j"), CASES, ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("slack", [0.0, 0.02, 0.3])
def test_an_elasticity_is_planning_again_by_the_same_deadline(chip: str, j: TrainingJob, slack: float) -> None:
    """One percent more of what saves, or less of what costs, saves what a plan made anew saves, at 0 % slowdown too."""
    c = cluster(chip, j.parallel.devices)
    a = plan_training(j, c, SOURCE, Goal("max_slowdown", slack))
    deadline = Goal("deadline", min((1 + slack) * a.baseline.time_s, float(a.time_s[-1])))
    for key in ("compute.rate.bf16", "power.waiting", "memory.hbm.energy", "link.nvlink.bandwidth"):
        told = a.elasticity.get(f"chip.{key}", 0.0)
        factor = 1.01 if told < 0 else 0.99
        changed = replace(c, chip=c.chip.scaled(key, factor))
        again = plan_training(j, changed, SOURCE, deadline, detail=False)
        direct = (again.certificate["bound_j"] / a.certificate["bound_j"] - 1) / (factor - 1)
        assert told == pytest.approx(direct, abs=NEAR), key
    assert a.elasticity["site.pue"] == 1.0


def test_tokens_weigh_one_where_time_does_not_bind() -> None:
    """With time to spare a percent more tokens is a percent more energy; by a tight deadline it is more."""
    chip, j = CASES[0]
    c = cluster(chip, j.parallel.devices)
    free, tight = (plan_training(j, c, SOURCE, Goal(*g)) for g in (("least_energy", 0.0), ("max_slowdown", 0.0)))
    assert free.elasticity["train.tokens"] == pytest.approx(1.0, rel=1e-6)
    assert 1.0 < tight.elasticity["train.tokens"] < 5.0
    assert tight.elasticity["train.goodput"] == pytest.approx(-tight.elasticity["train.tokens"], rel=0.05)


def test_the_least_energy_by_a_deadline_mixes_two_points() -> None:
    """Between two points energy is read off the line; before the first there is none."""
    time, energy = np.array([1.0, 2.0, 3.0]), np.array([10.0, 9.5, 4.0])
    assert least(time, energy, 2.0) == pytest.approx(7.0)
    assert least(time, energy, 9.0) == 4.0
    assert least(time, energy, 0.5) == float("inf")
