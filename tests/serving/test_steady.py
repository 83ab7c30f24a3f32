"""Tests for `wattline.serving.steady`: least joules per token within the latency promise."""

from dataclasses import replace

import numpy as np
import pytest

from wattline.core.errors import GoalError, ScenarioError
from wattline.frontier.answer import Answer, Goal, Rates
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.serving.steady import ServingJob, batches, plan_serving
from wattline.serving.step import Load, Replica
from wattline.source.roofline.source import Roofline
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel

BASE = ServingJob(
    Replica(model=model("llama-3.1-8b"), parallel=Parallel(section="serve")),
    Load(prompt=512, output=128),
    tpot=0.05,
    max_batch=64,
)


LATENCY = Goal("latency")


def cluster() -> Cluster:
    chip = catalog.chip("h100-sxm")
    return Cluster(chip, catalog.default_node(chip), used=1)


def plan(goal: Goal = LATENCY, **changes: object) -> Answer:
    more = {k: changes.pop(k) for k in ("power_limit", "rates", "detail") if k in changes}
    return plan_serving(replace(BASE, **changes), cluster(), Roofline(), goal, **{"detail": False, **more})


def test_the_promise_is_kept_at_less_energy() -> None:
    """The chosen point meets the limit and costs no more than maximum clocks."""
    a = plan()
    assert a.chosen.time_s <= 0.05
    assert a.chosen.energy_j <= a.baseline.energy_j
    assert a.savings["energy"] > 0


def test_the_breakdown_sums_and_power_is_energy_times_rate() -> None:
    """Joules per token times tokens per second is the average power, and components sum to it."""
    for outcome in (plan().chosen, plan(rate=4.0).chosen):
        assert sum(outcome.breakdown_j.values()) == pytest.approx(outcome.energy_j)
        assert outcome.average_power_w == pytest.approx(outcome.energy_j * outcome.figures["tokens_per_s"])


def test_the_frontier_falls() -> None:
    """Slower tokens cost less, all along the frontier."""
    a = plan()
    assert (np.diff(a.time_s) > 0).all()
    assert (np.diff(a.energy_j) < 0).all()


@pytest.mark.parametrize("rate", [0.05, 2.0, 10.0])
def test_littles_law_sets_the_batch(rate: float) -> None:
    """Running requests are tokens per second times seconds per token; a lone request leaves waiting in between."""
    a = plan(rate=rate).chosen.figures
    assert a["tokens_per_s"] == pytest.approx(rate * 128)
    assert a["requests_per_s"] == pytest.approx(rate)
    if rate > 1:
        # The percentile's step is longer than the mean step, which is what the batch follows from.
        assert a["batch"] <= a["tokens_per_s"] * a["tpot_s"]


def test_a_tighter_promise_costs_energy() -> None:
    """Least energy rises as the limit on the time per token falls."""
    loose, tight = plan(tpot=0.05).chosen.energy_j, plan(tpot=0.012).chosen.energy_j
    assert loose < tight


def test_a_busier_replica_spends_less_per_token() -> None:
    """What stands around is shared by more tokens."""
    assert plan(rate=8.0).chosen.energy_j < plan(rate=2.0).chosen.energy_j


def test_first_tokens_come_later_at_higher_percentiles() -> None:
    """The 99th percentile of the time to the first token lies above the median."""
    low, high = (plan(rate=8.0, percentile=p, tpot=None).baseline.figures["ttft_s"] for p in (50, 99))
    assert low < high


def test_power_limits_and_slowdowns_are_kept() -> None:
    """A power goal meets its limit; a slowdown goal stays near the baseline."""
    a = plan()
    limited = plan(Goal("power", 0.9 * a.baseline.average_power_w))
    assert limited.chosen.average_power_w <= 0.9 * a.baseline.average_power_w
    near = plan(Goal("max_slowdown", 0.05), tpot=None)
    assert near.chosen.time_s <= near.baseline.time_s * 1.05 * (1 + 1e-9)
    kept = plan(power_limit=0.9 * a.baseline.average_power_w)
    assert kept.chosen.average_power_w <= 0.9 * a.baseline.average_power_w


def test_elasticities_name_hardware_and_requests() -> None:
    """One percent more output per request costs little per token; one percent dearer hosts cost their share."""
    a = plan(detail=True)
    share = a.chosen.breakdown_j["host"] / a.chosen.energy_j
    assert a.elasticity["node.host.power"] >= share
    assert a.elasticity["site.pue"] == 1.0
    assert "serve.prompt" in a.elasticity


def test_cost_is_told_in_its_parts() -> None:
    """Electricity alone goes under its own name; with a price of chips there is a cost, the sum of both."""
    a = plan(rates=Rates(price=2e-8)).chosen
    assert a.figures["electricity_usd_per_million_tokens"] == pytest.approx(1e6 * a.energy_j * 2e-8)
    assert "cost_usd_per_million_tokens" not in a.figures
    b = plan(rates=Rates(price=2e-8, chip=2.5 / 3600)).chosen.figures
    assert b["chips_usd_per_million_tokens"] == pytest.approx(1e6 / b["tokens_per_s"] * 2.5 / 3600)
    whole = b["chips_usd_per_million_tokens"] + b["electricity_usd_per_million_tokens"]
    assert b["cost_usd_per_million_tokens"] == pytest.approx(whole)


def test_what_cannot_be_met_is_told_with_the_best_there_is() -> None:
    """Each impossible promise names the bound that fails and by how much."""
    with pytest.raises(GoalError, match=r"serve.tpot = 100 µs cannot be met: the best is"):
        plan(tpot=1e-4)
    with pytest.raises(GoalError, match=r"serve.ttft = 1 µs cannot be met"):
        plan(ttft=1e-6)
    with pytest.raises(GoalError, match="split it over"):
        plan(rate=1e4)
    with pytest.raises(GoalError, match="cannot be met; the least power is"):
        plan(Goal("power", 1.0))
    with pytest.raises(ScenarioError, match=r"goal.cost is not a goal for serving"):
        plan(Goal("cost", 1.0))


def test_batches_reach_their_limit() -> None:
    """The batches looked at grow by half or a third each and end at the limit."""
    assert batches(1) == [1]
    assert batches(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]
