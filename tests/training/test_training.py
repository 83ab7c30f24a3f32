"""Tests for `wattline.training.training`: from operators to the frontier, the plan and its elasticities."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import CapacityError, GoalError, ScenarioError
from wattline.frontier.answer import Answer, Goal, Rates
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.training.job import TrainingJob
from wattline.training.sketch import sketch_training
from wattline.training.telling import EXPERTS
from wattline.training.training import plan_training
from wattline.training.validate_training import constants
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel

from ..serving.toy import Toy

TWO_PERCENT = Goal("max_slowdown", 0.02)


def job(**changes: object) -> TrainingJob:
    parallel = Parallel(tensor=2, pipeline=4, data=1, node=8)
    base = TrainingJob(model("llama-3.1-8b"), parallel, 1e9, 1024, 16, 1, recompute="full")
    return replace(base, **changes)


def cluster(**changes: object) -> Cluster:
    chip = catalog.chip("h100-sxm")
    return Cluster(chip, catalog.default_node(chip), **changes)


def plan(goal: Goal = TWO_PERCENT, j: TrainingJob | None = None, c: Cluster | None = None, **more: object) -> Answer:
    return plan_training(j or job(), c or cluster(), Toy(), goal, **more)


def test_the_plan_keeps_its_promise() -> None:
    """The realised plan is no slower than asked, cheaper than the baseline, and close above the exact bound."""
    a = plan()
    assert a.chosen.time_s <= 1.02 * a.baseline.time_s * (1 + 1e-9)
    assert a.chosen.energy_j < a.baseline.energy_j
    assert 0 <= a.certificate["gap"] < 0.005
    assert a.savings["energy"] == pytest.approx(1 - a.chosen.energy_j / a.baseline.energy_j)


def test_a_plan_without_slowdown_always_exists_and_saves() -> None:
    """Off the critical path there is time to spare even at no slowdown."""
    a = plan(Goal("max_slowdown", 0.0))
    assert a.chosen.time_s <= a.baseline.time_s * (1 + 1e-9)
    assert a.savings["energy"] > 0.01


def test_the_breakdown_sums_to_the_energy() -> None:
    """Every joule of chosen and baseline belongs to exactly one component."""
    for outcome in (plan().chosen, plan().baseline):
        assert sum(outcome.breakdown_j.values()) == pytest.approx(outcome.energy_j, rel=1e-12)
        assert all(joules >= 0 for joules in outcome.breakdown_j.values())


def test_the_frontier_is_convex_and_falls() -> None:
    """Facility energy falls with time along the frontier, ever more slowly."""
    a = plan()
    assert (np.diff(a.time_s) > 0).all()
    assert (np.diff(a.energy_j) < 0).all()
    slope = np.diff(a.energy_j) / np.diff(a.time_s)
    assert (np.diff(slope) >= -1e-6 * np.abs(slope[1:])).all()


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 0.2))
def test_more_time_never_costs_energy(slack: float) -> None:
    """A looser deadline is never answered with more energy (to the rounding gap)."""
    tight, loose = plan(Goal("max_slowdown", slack)), plan(Goal("max_slowdown", slack + 0.02))
    assert loose.chosen.energy_j <= tight.chosen.energy_j * 1.002


def test_every_microbatch_of_every_stage_has_a_clock() -> None:
    """The knobs name each stage, instruction and microbatch once."""
    a = plan()
    named = [
        (k["stage"], k["instruction"], m) for k in a.chosen.knobs if "microbatches" in k for m in k["microbatches"]
    ]
    assert len(named) == len(set(named)) == 4 * 2 * 16
    assert {k["stage"] for k in a.chosen.knobs if k["instruction"] == "step"} == {0, 1, 2, 3}


def test_the_timeline_is_the_plan() -> None:
    """The longest path of the timeline and the optimizer step make up the iteration."""
    a = plan()
    end = max(row["start_s"] + row["time_s"] for row in a.timeline)
    assert end < a.chosen.figures["iteration_s"] < end * 1.2


def test_tokens_scale_time_and_energy() -> None:
    """Twice the tokens take twice the time and energy, and nothing else changes."""
    one, two = plan(), plan(j=job(tokens=2e9))
    assert two.chosen.energy_j == pytest.approx(2 * one.chosen.energy_j)
    assert two.chosen.average_power_w == pytest.approx(one.chosen.average_power_w)


def test_an_elasticity_is_the_derivative_of_the_whole_plan() -> None:
    """For one deadline, the envelope theorem agrees with planning again at a one percent larger constant."""
    c = cluster()
    goal = Goal("deadline", plan(c=c).chosen.time_s)
    a = plan(goal, c=c)
    for key in ("power.limit", "compute.rate.bf16"):
        dearer = replace(c, chip=c.chip.scaled(key, 1.01))
        again = plan(goal, c=dearer)
        direct = (again.certificate["bound_j"] / a.certificate["bound_j"] - 1) / 0.01
        assert a.elasticity[f"chip.{key}"] == pytest.approx(direct, abs=0.02)
    host = plan(goal, c=replace(c, node=c.node.scaled("host.power", 1.01)))
    direct = (host.certificate["bound_j"] / a.certificate["bound_j"] - 1) / 0.01
    assert a.elasticity["node.host.power"] == pytest.approx(direct, abs=0.01)
    assert a.elasticity["site.pue"] == 1.0


def test_a_stated_mfu_sets_the_time() -> None:
    """With train.mfu the baseline runs at just that utilisation, and the switched energy stays."""
    free = plan()
    slow = plan(j=job(mfu=0.5 * free.baseline.figures["mfu"]))
    assert slow.baseline.figures["mfu"] == pytest.approx(0.5 * free.baseline.figures["mfu"])
    assert slow.baseline.time_s == pytest.approx(2 * free.baseline.time_s)
    assert slow.baseline.breakdown_j["chip.compute.bf16"] == pytest.approx(
        free.baseline.breakdown_j["chip.compute.bf16"]
    )
    with pytest.raises(ScenarioError, match=r"train.mfu = 0.99 is more than the model of the step reaches"):
        plan(j=job(mfu=0.99))


def test_goodput_stretches_time_and_energy_alike() -> None:
    """Lost work is done again: both grow by 1 / goodput."""
    all_good, lossy = plan(), plan(j=job(goodput=0.8))
    assert lossy.chosen.time_s == pytest.approx(all_good.chosen.time_s / 0.8)
    assert lossy.chosen.energy_j == pytest.approx(all_good.chosen.energy_j / 0.8)


def test_cost_and_carbon_stand_only_where_rates_are_given() -> None:
    """No price, no cost; no carbon intensity, no carbon."""
    assert "cost_usd" not in plan().chosen.figures
    a = plan(rates=Rates(price=2e-8, carbon=1e-4))
    assert a.chosen.figures["cost_usd"] == pytest.approx(2e-8 * a.chosen.energy_j)
    assert a.chosen.figures["carbon_g"] == pytest.approx(1e-4 * a.chosen.energy_j)


def test_a_power_limit_is_kept() -> None:
    """The fastest plan within a limit below the baseline's power meets the limit, and is slower."""
    base = plan().baseline
    a = plan(Goal("power", 0.9 * base.average_power_w))
    assert a.chosen.average_power_w <= 0.9 * base.average_power_w * 1.003
    assert a.chosen.time_s > base.time_s
    with pytest.raises(GoalError, match="cannot be met"):
        plan(Goal("power", 0.1 * base.average_power_w))


def test_one_stage_one_microbatch_is_a_sum() -> None:
    """Without a pipeline an iteration is forward, backward and step, at the clock each likes best."""
    single = job(parallel=Parallel(tensor=8, node=8), global_batch=1)
    a = plan(j=single)
    assert a.chosen.time_s <= 1.02 * a.baseline.time_s * (1 + 1e-9)
    assert len([k for k in a.chosen.knobs if "microbatches" in k]) == 2


@pytest.mark.parametrize("name", ["gpipe", "interleaved", "zb-h1", "dualpipe"])
def test_other_schedules_plan_too(name: str) -> None:
    """Each schedule gives a plan that keeps its promise; less bubble means less time than GPipe's."""
    virtual = 2 if name == "interleaved" else 1
    parallel = Parallel(tensor=2, pipeline=4, virtual=virtual, node=8)
    a = plan(j=job(schedule=name, parallel=parallel))
    assert a.chosen.energy_j < a.baseline.energy_j
    assert a.certificate["gap"] < 0.005
    assert a.baseline.time_s <= plan(j=job(schedule="gpipe")).baseline.time_s * (1 + 1e-9)


@pytest.mark.parametrize("virtual", [1, 2])
def test_the_sketch_agrees_with_the_exact_plan(virtual: int) -> None:
    """With many microbatches the steady state finds the same time and nearly the same energy, interleaved too."""
    schedule, parallel = ("1f1b", "interleaved")[virtual - 1], Parallel(tensor=2, pipeline=4, virtual=virtual, node=8)
    j = job(global_batch=64, schedule=schedule, parallel=parallel)
    exact, sketch = plan(j=j), sketch_training(j, cluster(), Toy(), Goal("max_slowdown", 0.02))
    assert sketch is not None
    assert sketch.base_time == pytest.approx(exact.baseline.time_s, rel=1e-9)
    assert sketch.base_energy == pytest.approx(exact.baseline.energy_j, rel=1e-9)
    assert sketch.time == pytest.approx(exact.chosen.time_s, rel=1e-3)
    assert sketch.energy == pytest.approx(exact.chosen.energy_j, rel=0.02)
    assert sketch_training(job(schedule="zb-h1"), cluster(), Toy(), Goal("max_slowdown", 0.02)) is None


def test_impossible_jobs_say_what_would_work() -> None:
    """A batch that replicas do not divide, and a model that does not fit, each name the way out."""
    with pytest.raises(
        ScenarioError, match=r"train.global_batch = 15 is not a multiple of data x microbatch = 1 x 2 = 2; try 16"
    ):
        plan(j=job(global_batch=15, microbatch=2))
    with pytest.raises(CapacityError, match="does not fit"):
        plan(j=job(model=model("llama-3.1-405b")))


def test_the_same_scenario_gives_the_same_bytes() -> None:
    """Planning is deterministic."""
    one, two = plan().to_dict(), plan().to_dict()
    for answer in (one, two):
        answer["certificate"].pop("solve_s")
    assert one == two


def test_waits_for_host_and_checkpoints_are_time_at_waiting_power() -> None:
    """Each second of a pause adds a second to the iteration, and only waiting power and what stands around the chips."""
    plain, paused = plan(), plan(j=job(host_time=0.2, checkpoint_time=0.3))
    before, after = plain.baseline, paused.baseline
    assert after.figures["iteration_s"] - before.figures["iteration_s"] == pytest.approx(0.5)
    switched = [name for name in before.breakdown_j if name.startswith("chip.") and name != "chip.waiting"]
    assert all(after.breakdown_j[name] == pytest.approx(before.breakdown_j[name]) for name in switched)
    assert after.breakdown_j["chip.waiting"] > before.breakdown_j["chip.waiting"]
    assert (after.figures["host_s"], after.figures["checkpoint_s"]) == (0.2, 0.3)


def test_uneven_stages_are_told_with_a_split_that_evens_them() -> None:
    """A head as heavy as layers slows its stage: the answer says so, and the split it names is faster."""
    small = job(
        model=model("llama-3.2-1b"), parallel=Parallel(tensor=1, pipeline=4, data=2, node=8), global_batch=32,
        recompute="none",
    )  # fmt: skip
    a = plan(j=small)
    (note,) = [text for text in a.assumptions if text.startswith("stages are uneven")]
    split = tuple(int(n) for n in note.split('"')[1].split(","))
    assert sum(split) == model("llama-3.2-1b").layers
    better = plan(j=replace(small, parallel=replace(small.parallel, layers_per_stage=split)))
    told = float(note.split("by about ")[1].split(" %")[0]) / 100
    assert 1 - better.baseline.time_s / a.baseline.time_s == pytest.approx(
        told, abs=0.08
    )  # filling and draining shorten less
    assert told > 0.04
    assert not any(text.startswith("stages are uneven") for text in better.assumptions)


def test_experts_are_told_as_unsure_as_published_runs_spread() -> None:
    """A model with experts has at least the spread of the published runs of such models, which is one constant."""
    assert constants()["spread.experts"] == EXPERTS
