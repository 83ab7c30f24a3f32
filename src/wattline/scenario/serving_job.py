"""A [serve] scenario as the job that planning takes: the replica, its load and its promise."""

from __future__ import annotations

import math
from dataclasses import replace

from ..core.errors import ScenarioError
from ..serving.steady import ServingJob
from ..serving.step import Load
from . import simulate_serving as simulation
from .stated import Scenario, cluster_of

# Turns that the mean load of sessions is told from.
_TURNS = 2000


def serving_job(scenario: Scenario) -> ServingJob:
    """Return what one replica is asked to serve."""
    cluster = cluster_of(scenario)
    simulation.check_mean(scenario)
    visual, picture = simulation.pictures_of(scenario)
    many, prompt = scenario.get("serve.images") or 0.0, scenario["serve.prompt"]
    if visual > prompt:
        raise ScenarioError(
            f"serve.images = {many:g} of {visual / many:,.0f} tokens are more than serve.prompt = {prompt:,}, which "
            f"counts them; try serve.prompt = {math.ceil(visual) + prompt:,}"
        )
    load = Load(
        prompt=prompt - visual,
        output=scenario["serve.output"],
        visual=visual,
        patches=many * picture,
        frames=max(many, 1.0),
    )
    rate = scenario.get("serve.rate")
    if (scenario.get("serve.turns") or 1.0) > 1.0 and scenario.get("serve.requests") is None:
        talk = simulation.made_up(scenario, rate or 1.0, _TURNS, 0)
        mean, fresh = float(talk.prompt.mean()), float(scenario["serve.prompt"])
        load = replace(load, prompt=mean, cached=max(1.0 - fresh / mean, 0.0))
    if scenario.get("serve.requests") is not None:
        requests = simulation.requests_of(scenario)
        load = Load(prompt=float(requests.prompt.mean()), output=float(requests.output.mean()))
        rate = requests.rate
    clients = scenario.get("serve.concurrency")
    if clients is not None and rate is not None:
        raise ScenarioError(
            f"serve.concurrency = {clients} states a closed loop and serve.rate or serve.requests an open one; keep one"
        )
    return ServingJob(
        replica=simulation.replica_of(scenario, cluster),
        load=load,
        rate=None if rate is None else rate / simulation.value_of(scenario, "replicas"),
        ttft=scenario.get("serve.ttft"),
        tpot=scenario.get("serve.tpot"),
        percentile=scenario["serve.percentile"],
        max_batch=scenario["serve.max_batch"] if clients is None else min(clients, scenario["serve.max_batch"]),
    )
