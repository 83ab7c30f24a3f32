"""One TOML file in, one answer out: the only place where all layers are put together.

`load` reads and checks a file, `with_` replaces values at any layer, `solve` composes model, hardware
and goal into a plan. Commands and the web page call these and hold no logic of their own.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..core.errors import GoalError, LayoutError, ScenarioError
from ..core.units import show
from ..frontier.answer import Answer
from ..source.base import Source, slow
from ..workload.model import Model
from . import serving_plan
from .advice import advised
from .post_training import solve_grpo
from .serving_job import serving_job
from .stated import (
    Scenario,
    assumptions_of,
    check_fact,
    cluster_of,
    default_source,
    engine_of,
    factors_of,
    flat,
    goal_of,
    load,
    model_of,
    parallel_of,
    parse,
    path_of,
    rates_of,
    searches,
    source_of,
    title_of,
    training_source,
)
from .training_job import training

__all__ = [
    "Scenario",
    "assumptions_of",
    "check_fact",
    "cluster_of",
    "default_source",
    "engine_of",
    "factors_of",
    "flat",
    "goal_of",
    "load",
    "model_of",
    "parallel_of",
    "parse",
    "path_of",
    "rates_of",
    "searches",
    "serving_job",
    "solve",
    "source_of",
    "title_of",
    "training",
    "training_source",
]

# Of 158 families read by their usual names alone, as one of unknown type is, nine in ten have the parameters of their
# own
# code within 21 % (bench/configs.py unknown): a normal error of 0.21 / 1.645.
_DOUBT = 0.13


def solve(
    scenario: Scenario, *, source: Source | None = None, detail: bool = True, simulated: bool | None = None
) -> Answer:
    """Return the answer to a scenario. `detail=False` leaves out elasticities and the timeline (sweeps).

    `simulated`: whether settings of [serve] are chosen by simulation, or by the mean step (a hundred times as fast,
    and blind to bursts and queues); as `detail` where None.
    """
    if scenario.has("measured"):
        return _solve_measured(scenario)
    if not (scenario.has("serve") or scenario.has("train")):
        raise ScenarioError("the scenario says no work; add a [train] or a [serve] section")
    model = model_of(scenario)
    if model.role == "encoder" and scenario.has("serve") and scenario["serve.output"] > 1:
        raise ScenarioError(
            f"{model.name} is an encoder: it reads texts and writes no tokens; try serve.output = 1, one pass "
            "over serve.prompt tokens a request"
        )
    try:
        return _doubted(_solve_work(scenario, source, detail, detail if simulated is None else simulated), model)
    except LayoutError as error:
        raise advised(scenario, error) from None


def _solve_work(scenario: Scenario, source: Source | None, detail: bool, simulated: bool) -> Answer:
    if scenario.has("serve"):
        return _solve_serving(scenario, source or source_of(scenario), detail, simulated)
    if scenario["train.method"] == "grpo":
        return solve_grpo(scenario, source, detail)
    return _solve_training(scenario, source or source_of(scenario), detail)


def _doubted(answer: Answer, model: Model) -> Answer:
    """Say with the answer what of the model's config was not understood, and widen its intervals."""
    told = [f"{name} of about {show(count, '', 3).strip()} parameters stands beside" for name, count in model.towers]
    notes = tuple(f"model {model.name}: {text}" for text in (*model.doubts, *told))
    if not notes:
        return answer
    doubt = _DOUBT if model.doubts else 0.0
    return replace(
        answer,
        uncertainty=math.hypot(answer.uncertainty, doubt),
        time_uncertainty=math.hypot(answer.time_uncertainty, doubt),
        assumptions=(*notes, *answer.assumptions),
    )


def _solve_measured(scenario: Scenario) -> Answer:
    from ..measure.store.database import Store
    from ..source.measured import profiled as measured
    from ..training.profiled import plan_profiled

    place = scenario.get("measured.store")
    store = place if place is None or "://" in place else path_of(scenario, place)
    profile = measured.read(Store(store), scenario["measured.profile"])
    top = max(t.value for t in profile.trials)
    return plan_profiled(
        profile.frontier,
        profile.at(top),
        goal_of(scenario),
        rates_of(scenario),
        name=profile.name,
        times=scenario["measured.times"],
        pue=scenario["site.pue"],
        power_limit=scenario.get("site.power_limit"),
        source=profile.source,
        devices=len(profile.devices),
        settings=profile.setting(top),
        assumptions=profile.assumptions,
    )


def _solve_training(scenario: Scenario, source: Source, detail: bool) -> Answer:
    from ..training.training import plan_training

    job, cluster = training(scenario)
    return plan_training(
        job,
        cluster,
        source,
        goal_of(scenario),
        rates_of(scenario),
        power_limit=scenario.get("site.power_limit"),
        detail=detail,
        title=title_of(job.model, cluster),
        assumptions=assumptions_of(scenario, cluster),
    )


# Told where the source is too slow to simulate with.
_BY_MEAN_STEP = (
    "latencies are those of the mean step and no promise is simulated: a simulation prices thousands of steps, "
    "and this source searches for each"
)


def _solve_serving(scenario: Scenario, source: Source, detail: bool, simulated: bool) -> Answer:
    from ..serving.steady import plan_serving

    if searches(scenario):
        raise ScenarioError("[serve.search] is answered by `wattline plan` alone; take it out to plan one replica")

    cluster, job = cluster_of(scenario), serving_job(scenario)

    def mean(more: bool) -> Answer:
        return plan_serving(
            job,
            cluster,
            source,
            goal_of(scenario),
            rates_of(scenario),
            power_limit=scenario.get("site.power_limit"),
            detail=more,
            title=title_of(job.replica.model, cluster),
            assumptions=assumptions_of(scenario, cluster),
        )

    if simulated and slow(source):
        told = mean(detail)
        return replace(told, assumptions=(*told.assumptions, _BY_MEAN_STEP))
    if not simulated:
        return mean(detail)
    try:
        start = mean(False)
    except GoalError as error:
        if error.beyond:  # no setting carries the load
            raise serving_plan.too_much(scenario, job, cluster, source) from None
        start = None
    return serving_plan.plan(scenario, job, cluster, source, start)
