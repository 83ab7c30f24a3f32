"""Reinforcement learning on generated answers: rollouts that are served and updates that are trained, on one waist.

    serving (batch, clock) -> frontier of a step's rollouts --+
                                                              +-- a + b   the same chips in turn (synchronous)
    training               -> frontier of a step's update ----+-- a & b   chips apart, a step ahead (asynchronous)

A step generates prompts x group answers, waits for the longest of them, sends the new weights to the replicas, and
trains on what came back: two forward passes for the old policy's and the reference's probabilities beside the update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ScenarioError
from ..frontier.algebra import Frontier
from ..frontier.answer import Answer, Array, Goal, Outcome
from ..frontier.goal import choose
from ..hardware.cluster import Cluster
from ..serving.steady import Candidates, ServingJob, ways
from ..serving.step import Load, Replica
from ..source.base import Source
from ..training.training import plan_training
from ..workload.model import Model
from ..workload.parallel import Parallel

if TYPE_CHECKING:
    from .stated import Scenario


@dataclass(frozen=True)
class Rollout:
    """The rollouts of one step: n ways to make them, each a clock and a batch per replica.

    `time`, `energy`: (n,) seconds and facility joules of a step's answers, the longest awaited; `transfer`: seconds in
    which the replicas take the new weights; `standing`: facility watts of their chips while they wait.
    """

    every: Candidates
    time: Array
    energy: Array
    replicas: int
    transfer: float
    standing: float

    @property
    def frontier(self) -> Frontier:
        """The best of them, of which mixtures are made by changing the clock between answers."""
        total = self.energy + self.standing * self.transfer
        time = self.time + self.transfer
        knobs = [{"way": i} for i in range(len(time))]
        return Frontier.of(time, total - self.standing * time, waiting_power=self.standing, knobs=knobs).hull()

    @property
    def fastest(self) -> int:
        """The way that ends first."""
        return int(np.argmin(self.time))


def rollout(scenario: Scenario, model: Model, cluster: Cluster, source: Source) -> Rollout:
    """Return the rollouts of a step on `cluster`."""
    tensor = scenario["train.rollout_tensor"]
    if cluster.devices % tensor:
        raise ScenarioError(
            f"train.rollout_tensor = {tensor} does not divide the {cluster.devices} chips that generate; try 1"
        )
    replicas = cluster.devices // tensor
    answers = scenario["train.prompts"] * scenario["train.group"]
    mean = float(scenario["train.answer"])
    longest = max(mean, float(scenario.get("train.longest") or 3 * mean))
    parallel = Parallel(tensor=tensor, node=max(cluster.domain, 1), section="serve").check(model)
    load = Load(prompt=float(scenario["train.prompt"]), output=mean)
    job = ServingJob(
        replica=Replica(model=model, parallel=parallel), load=load, max_batch=max(1, -(-answers // replicas))
    )
    one = replace(cluster, nodes=1, used=min(tensor, cluster.chips_per_node))
    every, joules = ways(job, one, source)
    # The last answer runs on alone after the others: at the step time of a batch of one, at the same clock.
    alone = np.array([every.time[(every.batch <= 1) & (every.clock == c)].min() for c in every.clock])
    single = np.array([joules[(every.batch <= 1) & (every.clock == c)].min() for c in every.clock])
    tail = longest - mean
    time = answers * mean / (replicas * every.throughput) + tail * alone
    energy = answers * mean * joules + replicas * tail * single
    return Rollout(every, time, energy, replicas, _transfer(model, cluster, tensor), _standing(cluster))


def _transfer(model: Model, cluster: Cluster, tensor: int) -> float:
    """Return seconds in which every replica takes new weights in 16 bits, each chip its slice by its own adapter."""
    size = 2.0 * model.parameters / tensor
    node = cluster.node
    return float(size / (node["nic.count"] / node["chips"] * node["nic.bandwidth"]))


def _standing(cluster: Cluster) -> float:
    return float(cluster.facility_power(cluster.chip["power.waiting"]))


def solve_grpo(scenario: Scenario, source: Source | None, detail: bool) -> Answer:
    """Return the plan of a whole run: the goal's point of the composed frontier, and how both halves are set."""
    from . import stated as sc
    from .training_job import training as training_of

    job, cluster = training_of(scenario)
    apart = scenario["train.rollout_nodes"]
    serving = source or sc.default_source()
    training = source or sc.training_source()
    hosts = replace(cluster, nodes=apart) if apart else cluster
    made = rollout(scenario, job.model, hosts, serving)
    count = float(scenario["train.steps"])
    update = plan_training(job, cluster, training, Goal("max_slowdown", 0.0), detail=False)
    learned = _frontier(update, count, _standing(cluster))
    whole = ((made.frontier & learned) if apart else _in_turn(made.frontier, learned)).hull()
    first = made.fastest
    base_roll = made.time[first] + made.transfer
    base_time = max(base_roll, update.baseline.time_s / count) if apart else base_roll + update.baseline.time_s / count
    time = whole.time * count
    energy = (whole.energy + whole.waiting_power * whole.time) * count
    choice = choose(time, energy, base_time * count, sc.goal_of(scenario), sc.rates_of(scenario))
    point = whole.by(max(choice.time / count, float(whole.time[0])))
    split = [(c.time, c.knobs) for c in point.plan]
    way = next(int(k["way"]) for t, k in split if "way" in k)
    trains = sum(t for t, k in split if "update" in k)
    # The update is planned to clocks; rollouts take the faster of the two ways that a mixture has.
    limit = max(trains * count, float(update.time_s[0]))
    chosen = plan_training(job, cluster, training, Goal("deadline", limit), detail=detail)
    halves = (
        _joined(made, way, chosen.chosen, count, apart, hosts, cluster),
        _joined(made, first, update.baseline, count, apart, hosts, cluster),
    )
    rates = sc.rates_of(scenario)
    picked, base = (replace(h, figures={**h.figures, **rates.figures(h.energy_j)}) for h in halves)
    knobs = ({"scope": "rollout", "clock_hz": float(made.every.clock[way]), "batch": float(made.every.batch[way])},)
    return replace(
        chosen,
        title=f"{job.model.name} by GRPO on {cluster.devices + (hosts.devices if apart else 0)} x {cluster.chip.title}",
        time_s=time,
        energy_j=energy,
        power_w=energy / time,
        chosen=replace(picked, knobs=(*knobs, *chosen.chosen.knobs)),
        baseline=replace(base, knobs=update.baseline.knobs),
        goal=choice.text,
        elasticity={},
        certificate={},
        assumptions=(*sc.assumptions_of(scenario, cluster), *chosen.assumptions, *_said(scenario, made, apart)),
        facts={**chosen.facts, **_facts(scenario, made, apart)},
        apply=(*_serve(scenario, job.model, made, way), *chosen.apply),
    )


def _in_turn(rolled: Frontier, learned: Frontier) -> Frontier:
    """Return one after the other on the same chips: one waiting power, that of the chips that do both."""
    same = max(rolled.waiting_power, learned.waiting_power)
    return _waiting(rolled, same) + _waiting(learned, same)


def _waiting(frontier: Frontier, power: float) -> Frontier:
    """Return the same totals above another waiting power."""
    total = frontier.energy + frontier.waiting_power * frontier.time
    knobs = [frontier.plan(i)[0].knobs for i in range(len(frontier))]
    return Frontier.of(frontier.time, total - power * frontier.time, waiting_power=power, knobs=knobs).hull()


def _frontier(answer: Answer, count: float, standing: float) -> Frontier:
    """Return the update of one step from the plan of all of them."""
    time, energy = answer.time_s / count, answer.energy_j / count
    knobs = [{"update": i} for i in range(len(time))]
    return Frontier.of(time, energy - standing * time, waiting_power=standing, knobs=knobs).hull()


def _joined(
    made: Rollout, way: int, trained: Outcome, count: float, apart: int, hosts: Cluster, cluster: Cluster
) -> Outcome:
    """Return a run's seconds and joules with rollouts made in one way and updates as planned."""
    rolls, learns = float(made.time[way]) + made.transfer, trained.time_s / count
    step = max(rolls, learns) if apart else rolls + learns
    idle = (step - rolls) * _standing(hosts) + (step - learns) * _standing(cluster) if apart else 0.0
    parts = {
        "rollout": float(made.energy[way]) * count,
        "weights": made.standing * made.transfer * count,
        **trained.breakdown_j,
    }
    if idle:
        parts["waiting for the other half"] = idle * count
    energy = sum(parts.values())
    figures: Mapping[str, float] = {
        "iteration_s": step,
        "iteration_energy_j": energy / count,
        "rollout_s": float(made.time[way]),
        "weights_s": made.transfer,
        "update_s": learns,
        "rollout_energy_j": parts["rollout"],
        "update_energy_j": trained.energy_j,
    }
    return Outcome(step * count, energy, energy / (step * count), parts, figures=figures)


def _said(scenario: Scenario, made: Rollout, apart: int) -> tuple[str, ...]:
    longest = scenario.get("train.longest")
    sent = f"weights are sent to {made.replicas} replicas in {made.transfer:.2g} s"
    out = [f"{sent}, each chip its slice by its own adapter"]
    if longest is None:
        out.append("train.longest: three times the mean answer, which a step waits for at a batch of one")
    if apart:
        out.append("asynchronous: answers are generated with the weights of the step before")
    return tuple(out)


def _facts(scenario: Scenario, made: Rollout, apart: int) -> dict[str, str]:
    answers = scenario["train.prompts"] * scenario["train.group"]
    how = f"{apart} nodes apart, a step ahead" if apart else "the same chips, in turn"
    tensor = scenario["train.rollout_tensor"]
    return {
        "rollouts": f"{answers} answers of {scenario['train.answer']} tokens a step on {made.replicas} replicas of "
        f"{tensor} chips: {how}"
    }


def _serve(scenario: Scenario, model: Model, made: Rollout, way: int) -> tuple[str, ...]:
    clock, batch = made.every.clock[way] / 1e6, made.every.batch[way]
    tensor = scenario["train.rollout_tensor"]
    return (
        f"trl vllm-serve --model {model.name} --tensor-parallel-size {tensor} "
        f"--data-parallel-size {made.replicas}  # batch {batch:.0f} a replica",
        f"# while generating: sudo nvidia-smi -lgc {clock:.0f}",
    )
