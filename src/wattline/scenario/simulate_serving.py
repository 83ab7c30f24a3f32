"""A [serve] scenario simulated: its requests, fleet and policy put together, run, and told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import numpy as np

from ..core import plugins
from ..core.errors import ScenarioError
from ..core.units import show
from ..hardware import chip as chips
from ..hardware.cluster import Cluster
from ..serving.simulate.choose import closed
from ..serving.simulate.outcome import Limits, Run
from ..serving.simulate.parking import Parking
from ..serving.simulate.play import simulate
from ..serving.simulate.policies import BatchSteering, FixedClock, Governor, Policy
from ..serving.simulate.pool import USUAL, Fleet, Link, Pool
from ..serving.simulate.study import Study, compare
from ..serving.simulate.table import StepTable, step_table
from ..serving.step import Replica
from ..source.base import Device, Source
from ..source.overhead import Overhead
from ..workload import catalog as models
from ..workload.arrivals import ASSUMED, LONGEST, SPREADS, Lengths, sessions, synthetic, timed
from ..workload.fits import check_serving
from ..workload.infer import Precision
from ..workload.memory import sequence_bytes
from ..workload.trace_files import read_requests
from ..workload.traffic import Requests
from . import stated as scenarios
from .stated import Scenario

ClockKey = Literal["serve.clock", "serve.prefill_clock"]
_CLOCKS: Final[tuple[ClockKey, ...]] = ("serve.clock", "serve.prefill_clock")

# What keys of [serve] are where a scenario leaves them out.
DEFAULTS: Final[Mapping[str, Any]] = {
    "arrivals": "poisson", "variation": 2.0, "swing": 0.6, "task": "chat",
    "prefix": 0, "prefixes": 1, "count": 10_000, "replicas": 1, "route": "least_loaded", "policy": "fixed",
    "start_time": 60.0, "parked_power": 0.0, "draft_acceptance": 0.7, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Simulation:
    """What was simulated and what came of it; `facility_j`: with hosts, network, fans and cooling of awake replicas."""

    title: str
    run: Run
    facility_j: float
    figures: Mapping[str, float]
    facts: Mapping[str, str]
    assumptions: tuple[str, ...]
    study: Study | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""
        told = {
            "kind": "simulated serving",
            "title": self.title,
            **self.run.to_dict(),
            "facility_energy_j": self.facility_j,
            "facility_energy_per_token_j": self.facility_j / self.run.tokens,
            **self.figures,
            "facts": dict(self.facts),
            "assumptions": list(self.assumptions),
        }
        return told if self.study is None else {**told, "policies": self.study.to_dict()}


def run(scenario: Scenario, *, source: Source | None = None, policies: bool = False) -> Simulation:
    """Simulate a scenario; `policies` also runs every fixed clock and every policy beside the bound."""
    if not scenario.has("serve"):
        raise ScenarioError("a simulation needs a [serve] section; `wattline plan` answers [train]")
    source = source or scenarios.source_of(scenario)
    cluster = scenarios.cluster_of(scenario)
    limits, policy = limits_of(scenario), policy_of(scenario, cluster)
    fleet, seed = fleet_of(scenario, cluster, source), value_of(scenario, "seed")
    clients = clients_of(scenario, fleet)
    if clients is None:
        requests = fitting(scenario, requests_of(scenario), fleet)
        found = simulate(requests, fleet, policy, limits=limits, seed=seed)
    else:
        count = scenario.get("serve.count") or DEFAULTS["count"]
        requests = fitting(scenario, made_up(scenario, 1.0, count, seed), fleet)
        found = play_closed(requests, capped(fleet, clients), policy, limits, clients)
    over = Overhead.of(cluster)
    facility = over.total(found.energy_j, found.awake_s)
    model = scenarios.model_of(scenario)
    return Simulation(
        title=f"{model.name} on {found.replicas} replica{'s' * (found.replicas > 1)} of "
        f"{cluster.devices} x {cluster.chip.title}",
        run=found,
        facility_j=facility,
        figures=scenarios.rates_of(scenario).figures(facility),
        facts=_facts(scenario, requests, fleet, cluster),
        assumptions=(*_assumptions(scenario), *clocks_told(scenario, cluster), *requests.notes),
        study=compare(requests, fleet, limits, seed=seed) if policies else None,
    )


def value_of(scenario: Scenario, name: str) -> Any:
    """Return a key of [serve], or its default."""
    value = scenario.get(f"serve.{name}")
    return DEFAULTS.get(name) if value is None else value


# ---- the parts -----------------------------------------------------------------------------------


def requests_of(scenario: Scenario) -> Requests:
    """Return the trace that is named, cut and scaled as asked, or requests made up."""
    trace, rate = scenario.get("serve.requests"), scenario.get("serve.rate")
    if trace is not None:
        requests = read_requests(scenarios.path_of(scenario, trace))
        if not requests.timed:
            if rate is None:
                raise ScenarioError(f'serve.requests = "{trace}" has no arrivals; state serve.rate, as in "8 req/s"')
            requests = timed(
                requests, rate, arrivals=value_of(scenario, "arrivals"), variation=value_of(scenario, "variation"),
                swing=value_of(scenario, "swing"), seed=value_of(scenario, "seed"),
            )  # fmt: skip
        start, duration = scenario.get("serve.start") or 0.0, scenario.get("serve.duration")
        if start or duration is not None:
            requests = requests.between(start, float("inf") if duration is None else start + duration)
        count = scenario.get("serve.count")
        requests = requests if count is None else requests.head(count)
        _check_lengths(scenario, requests)
        requests = patient(scenario, requests)
        return requests if rate is None else requests.at_rate(rate)
    if rate is None:
        raise ScenarioError('a simulation needs requests; state serve.requests = "trace.csv" or serve.rate = "8 req/s"')
    duration = scenario.get("serve.duration")
    count = scenario.get("serve.count") or (max(1, round(rate * duration)) if duration else DEFAULTS["count"])
    return made_up(scenario, rate, count, value_of(scenario, "seed"))


# Patches of the vision encoder that make one token of a picture where the model does not say: 2 x 2 are merged
# (Qwen2-VL, arXiv 2409.12191), and the tokens of a picture of a megapixel at its 28 pixels a side.
_MERGED, _PICTURE = 4.0, 1300.0


def visual_tokens(scenario: Scenario) -> float:
    """Return the tokens of a picture: as stated, else as the model scales all pictures to, else of a megapixel."""
    stated, fixed = scenario.get("serve.image_tokens"), scenarios.model_of(scenario).picture
    return float(stated or (fixed[0] if fixed else _PICTURE))


# Seconds per token that answers of a session are taken to come at where no pace is promised: a reader's.
_PACE: Final = 0.05


def pictures_of(scenario: Scenario) -> tuple[float, float]:
    """Return the visual tokens of a mean prompt, and the patches that the vision encoder reads of one picture."""
    many, tokens = scenario.get("serve.images") or 0.0, visual_tokens(scenario)
    fixed = scenarios.model_of(scenario).picture
    each = fixed[1] if fixed and scenario.get("serve.image_tokens") is None else _MERGED * tokens
    return many * tokens, float(each)


def longest_of(scenario: Scenario) -> int | None:
    """Return the most tokens of a request: as stated, else what the model was made for; None where neither is known."""
    stated = scenario.get("serve.context")
    return int(stated) if stated is not None else scenarios.model_of(scenario).context or None


def check_mean(scenario: Scenario) -> None:
    """Refuse mean lengths that the model's context does not hold."""
    longest = longest_of(scenario)
    prompt, output = scenario["serve.prompt"], scenario["serve.output"]
    if longest is None or scenario.get("serve.requests") is not None or prompt + output <= longest:
        return
    fits = longest - output
    way = f"try serve.prompt = {fits:,}" if fits > 0 else f"try serve.output = {longest // 2:,} or less"
    raise ScenarioError(
        f"serve.prompt = {prompt:,} and serve.output = {output:,} are beyond the {longest:,} tokens of a sequence that "
        f"{_whose(scenario)}; {way}, or state serve.context where the weights were stretched further"
    )


def _check_lengths(scenario: Scenario, requests: Requests) -> None:
    """Refuse a trace with requests that the model's context does not hold, as an engine does."""
    longest = longest_of(scenario)
    tokens = requests.prompt + requests.output
    if longest is None or (tokens <= longest).all():
        return
    i, beyond = int(np.argmax(tokens > longest)), int((tokens > longest).sum())
    raise ScenarioError(
        f"request {i + 1} of serve.requests has {requests.prompt[i]:,} prompt and {requests.output[i]:,} output "
        f"tokens, beyond the {longest:,} of a sequence that {_whose(scenario)} ({beyond:,} of {len(tokens):,} are); "
        f"drop such requests, or state serve.context = {int(tokens.max())} where the weights were stretched so far"
    )


def _whose(scenario: Scenario) -> str:
    if scenario.get("serve.context") is not None:
        return "serve.context states"
    return f"{scenarios.model_of(scenario).name} was made for"


def made_up(scenario: Scenario, rate: float, count: int, seed: int) -> Requests:
    """Return requests of the scenario's lengths and arrivals; none is longer than the model's context."""
    check_mean(scenario)
    most = longest_of(scenario) or 1 << 40
    prompt, output = (
        Lengths(mean, variation, min(LONGEST * mean, most))
        for mean, variation in zip(
            (scenario["serve.prompt"], scenario["serve.output"]), spread_of(scenario), strict=True
        )
    )
    turns = scenario.get("serve.turns")
    if turns is not None and turns > 1:
        pace = scenario.get("serve.tpot") or _PACE
        think = scenario.get("serve.think") or 0.0
        talk = sessions(
            rate, count, prompt=prompt, output=output, turns=turns, think=think, pace=pace, longest=most, seed=seed
        )
        return patient(scenario, talk)
    made = synthetic(
        rate, count, prompt=prompt, output=output, arrivals=value_of(scenario, "arrivals"),
        variation=value_of(scenario, "variation"), swing=value_of(scenario, "swing"),
        prefix=value_of(scenario, "prefix"), prefixes=value_of(scenario, "prefixes"), seed=seed,
    )  # fmt: skip
    urgent = scenario.get("serve.urgent")
    classes = np.zeros(count, np.int64)
    if urgent is not None:
        classes = (np.random.default_rng([seed, 1]).random(count) >= urgent).astype(np.int64)
    fits = np.minimum(made.output, np.maximum(most - made.prompt, 1))
    return patient(scenario, replace(made, output=fits, urgency=classes))


def patient(scenario: Scenario, requests: Requests) -> Requests:
    """Return requests that wait as long as the scenario says."""
    stated = scenario.get("serve.patience")
    return requests if stated is None else replace(requests, patience=float(stated))


def spread_of(scenario: Scenario) -> tuple[float, float]:
    """Return the variation of prompt and output lengths: as stated, else that of the task."""
    usual = SPREADS[value_of(scenario, "task")]
    stated = (scenario.get("serve.prompt_variation"), scenario.get("serve.output_variation"))
    if scenario["serve.output"] == 1:  # embeddings and rankings: one pass over a text, and no token after it
        usual = (usual[0], 0.0)
    prompt, output = (b if a is None else a for a, b in zip(stated, usual, strict=True))
    return prompt, output


def fitting(scenario: Scenario, requests: Requests, fleet: Fleet) -> Requests:
    """Return made-up requests whose longest are cut to what a replica takes, where nobody stated their spread."""
    stated = ("serve.requests", "serve.prompt_variation", "serve.output_variation")
    if any(scenario.get(key) is not None for key in stated) or requests.page:
        return requests
    context = float(requests.prompt.mean() + requests.output.mean() / 2.0)
    rooms = [(pool.cache(context), pool.longest or 1 << 40, pool.table.verified) for pool in fleet.pools]
    most = min(min((blocks - held) * size - more, longest) for (blocks, held, size), longest, more in rooms)
    output = np.minimum(requests.output, max(most // 2, 1))
    return replace(requests, prompt=np.clip(requests.prompt, 1, np.maximum(most - output, 1)), output=output)


def clients_of(scenario: Scenario, fleet: Fleet) -> int | None:
    """Return the requests that a replica always has in a closed loop; None where requests come by themselves."""
    stated, replicas = scenario.get("serve.concurrency"), sum(pool.replicas for pool in fleet.pools)
    if stated is None:
        return None
    for key in ("serve.rate", "serve.requests", "serve.prefill_replicas"):
        if scenario.get(key) is not None:
            raise ScenarioError(f"serve.concurrency = {stated} states a closed loop of whole replicas; leave out {key}")
    if stated % replicas:
        near = max(stated // replicas, 1) * replicas
        raise ScenarioError(f"serve.concurrency = {stated} is not shared evenly by {replicas} replicas; try {near}")
    return int(stated) // replicas


def capped(fleet: Fleet, cap: int, chunk: int | None = None) -> Fleet:
    """Return the fleet with the most running requests of a replica, and tokens of a step, set."""

    def one(pool: Pool) -> Pool:
        replica = pool.table.replica
        size = replica.chunk if chunk is None else float(chunk)
        return replace(pool, max_batch=cap, table=replace(pool.table, replica=replace(replica, chunk=size)))

    return replace(fleet, pools=tuple(one(pool) for pool in fleet.pools))


def few(fleet: Fleet, most: int) -> Fleet:
    """Return the fleet with as few replicas, at least `most`, as keep its pools' proportion; as it is where it has
    no more."""
    counts = [pool.replicas for pool in fleet.pools]
    if len(counts) == 1:
        factor = counts[0] / min(counts[0], most)
    else:
        shared = math.gcd(*counts)
        factor = max((d for d in range(1, shared + 1) if shared % d == 0 and sum(counts) / d >= most), default=1)
    return replace(fleet, pools=tuple(replace(p, replicas=max(round(p.replicas / factor), 1)) for p in fleet.pools))


def play_closed(requests: Requests, fleet: Fleet, policy: Policy, limits: Limits, clients: int) -> Run:
    """Serve requests of clients that each send the next one when the last is answered, `clients` of them a replica.

    All requests lie in the queues from the start and a replica lets `clients` of them in. The first ones are under
    way already: each has a part of its tokens left, so that they do not end together.
    """
    first = min(clients * sum(pool.replicas for pool in fleet.pools), len(requests))
    left = (np.arange(first) * 0.6180339887498949) % 1.0  # evenly spread, in no order: the golden ratio's multiples
    output = requests.output.copy()
    output[:first] = np.maximum(np.ceil(output[:first] * left), 1).astype(np.int64)
    waiting = replace(requests, arrival=np.zeros(len(requests)), output=output)
    return closed(simulate(waiting, fleet, policy, limits=limits, seed=0), clients)


def clock_of(scenario: Scenario, key: ClockKey, cluster: Cluster) -> float | None:
    """Return a stated clock (Hz) as the chip takes it: its nearest step, as drivers do; None where none is stated.

    Raises
    ------
    ScenarioError : outside the chip's range.
    """
    asked, steps = scenario.get(key), chips.clocks(cluster.chip)
    if asked is None:
        return None
    if steps[0] - 1e5 <= asked <= steps[-1] + 1e5:
        return float(chips.lockable(cluster.chip, asked))
    low, high = show(float(steps[0]), "Hz", 4), show(float(steps[-1]), "Hz", 4)
    near = show(float(chips.lockable(cluster.chip, asked)), "Hz", 4)
    raise ScenarioError(
        f"{key} must be a clock that {cluster.chip.name} can be locked to, {low} to {high}, "
        f"got {show(asked, 'Hz', 4)}; try {near}"
    )


def clocks_told(scenario: Scenario, cluster: Cluster) -> tuple[str, ...]:
    """Say which stated clocks lie between two steps of the chip, and what they become."""
    out = []
    for key in _CLOCKS:
        asked, taken = scenario.get(key), clock_of(scenario, key, cluster)
        if asked is not None and taken is not None and abs(taken - asked) > 1e5:
            out.append(f"{key} = {show(asked, 'Hz', 4)} is set as {show(taken, 'Hz', 4)}, the nearest step of the chip")
    return tuple(out)


def replica_of(scenario: Scenario, cluster: Cluster) -> Replica:
    """Return the replica that the scenario's hardware makes."""
    model = scenarios.model_of(scenario)
    visual, picture = pictures_of(scenario)
    patches = visual / scenario["serve.prompt"] * picture / max(visual_tokens(scenario), 1.0)
    return Replica(
        model=model,
        parallel=scenarios.parallel_of(scenario, cluster).check(model, cluster.devices),
        precision=Precision(weights=scenario.get("serve.precision"), kv=scenario.get("serve.kv_precision")),
        chunk=scenario["serve.chunk"],
        memory=scenario["serve.memory"],
        engine=scenarios.engine_of(scenario),
        overhead=scenario.get("serve.request_overhead"),
        cores=scenario.get("serve.cores_per_gpu"),
        factors=scenarios.factors_of(scenario),
        patches=patches,
        picture=picture,
        adapters=(scenario.get("serve.lora_rank") or 0, scenario.get("serve.loras") or 1),
    )


def fleet_of(scenario: Scenario, cluster: Cluster, source: Source) -> Fleet:
    """Return the scenario's replicas as pools, with the link between them where serving is disaggregated."""
    replica, device = replica_of(scenario, cluster), Device(cluster.chip, cluster.node)
    check_serving(
        replica.model, replica.parallel, cluster.chip["memory.hbm.capacity"], 1.0, precision=replica.precision.weights,
        kv=replica.precision.kv, step_tokens=replica.chunk, usable=replica.memory,
    )  # fmt: skip
    tokens = scenario.get("serve.draft_tokens")
    draft = None if tokens is None else draft_of(scenario, replica)
    table = step_table(
        replica, device, source, max_batch=scenario["serve.max_batch"],
        draft=None if draft is None or tokens is None else (draft, tokens),
    )  # fmt: skip
    start_power = scenario.get("serve.start_power")
    pool = Pool(
        table=table, replicas=value_of(scenario, "replicas"), max_batch=scenario["serve.max_batch"],
        longest=longest_of(scenario), accepted=value_of(scenario, "draft_acceptance") if tokens else 0.0,
        start_time=value_of(scenario, "start_time"), start_power=table.waiting if start_power is None else start_power,
        off_power=value_of(scenario, "parked_power"), draft=draft, scheduler=scheduler_of(scenario),
        offload=offload_of(scenario, cluster, replica),
    )  # fmt: skip
    prompts = scenario.get("serve.prefill_replicas")
    if prompts is None:
        return Fleet((pool,), value_of(scenario, "route"))
    first = replace(pool, role="prefill", replicas=prompts, table=_plain(table, replica, device, source), draft=None)
    return Fleet((first, replace(pool, role="decode")), value_of(scenario, "route"), link_of(cluster, replica))


def offload_of(scenario: Scenario, cluster: Cluster, replica: Replica) -> float:
    """Return the seconds that a token's cache takes over a chip's link to its host; 0 where none is kept there."""
    if not scenario.get("serve.offload"):
        return 0.0
    far = 4.0 * max(replica.model.window, 1.0)
    kv, p = replica.precision.kv, replica.parallel
    each = sequence_bytes(replica.model, p, far + 1.0, kv) - sequence_bytes(replica.model, p, far, kv)
    return float(each / cluster.chip["link.pcie.bandwidth"])


def scheduler_of(scenario: Scenario) -> str:
    """Return how the engine lets requests in: as stated, else as the engine does by itself."""
    return scenario.get("serve.scheduler") or USUAL[scenarios.engine_of(scenario).name]


def _plain(table: StepTable, replica: Replica, device: Device, source: Source) -> StepTable:
    """Return the steps of a replica that only reads prompts: it verifies nothing."""
    return table if table.verified == 1 else step_table(replica, device, source, max_batch=int(table.batch[-1]))


def draft_of(scenario: Scenario, replica: Replica) -> Replica:
    """Return what proposes draft tokens: a smaller model on the same chips, or the replica itself for free."""
    name = scenario.get("serve.draft_model")
    return replica if name is None else replace(replica, model=models.model(name))


def link_of(cluster: Cluster, replica: Replica) -> Link:
    """Return the scale-out network between replicas: each uses the adapters of its share of a node."""
    node = cluster.node
    share = min(replica.parallel.devices / node["chips"], 1.0)
    return Link(
        max(share * node["nic.count"], 1.0) * node["nic.bandwidth"], node["nic.latency"], node.get("nic.energy", 0.0)
    )


def limits_of(scenario: Scenario) -> Limits:
    """Return the promise."""
    return Limits(scenario.get("serve.ttft"), scenario.get("serve.tpot"), scenario["serve.percentile"])


def policy_of(scenario: Scenario, cluster: Cluster) -> Policy:
    """Return the policy that is named."""
    name, clock = value_of(scenario, "policy"), clock_of(scenario, "serve.clock", cluster)
    prefill = clock_of(scenario, "serve.prefill_clock", cluster)
    if name in ("governor", "parking-governor") and (clock or prefill):
        raise ScenarioError(
            f"serve.policy = {name} chooses the clocks itself; leave out serve.clock, or take policy fixed"
        )
    made: dict[str, Policy] = {
        "fixed": FixedClock(clock, prefill),
        "governor": Governor(),
        "batch": BatchSteering(clock=clock),
        "parking": Parking(FixedClock(clock, prefill)),
        "parking-governor": Parking(Governor()),
    }
    return made[name] if name in made else cast("Policy", plugins.load("wattline.policies", name))


# ---- telling -------------------------------------------------------------------------------------


def _facts(scenario: Scenario, requests: Requests, fleet: Fleet, cluster: Cluster) -> dict[str, str]:
    pools = ", ".join(f"{p.replicas} {'' if p.role == 'both' else p.role + ' '}".strip() for p in fleet.pools)
    blocks, _, size = fleet.pools[-1].cache(float(requests.prompt.mean() + requests.output.mean() / 2))
    span = float(requests.arrival[-1])
    return {
        "model": scenarios.model_of(scenario).name,
        "replicas": f"{pools}, each {cluster.devices} x {cluster.chip.title}; {fleet.route.replace('_', ' ')}",
        "requests": f"{len(requests):,} in {show(span, 's')}, {requests.prompt.mean():,.0f} tokens in and "
        f"{requests.output.mean():,.0f} out on average",
        "KV cache": f"{blocks * size:,} tokens a replica",
    }


def _assumptions(scenario: Scenario) -> tuple[str, ...]:
    keys = {k: v for k, v in DEFAULTS.items() if scenario.get(f"serve.{k}") is None}
    if scenario.get("serve.requests"):
        made_up = (
            "arrivals",
            "variation",
            "swing",
            "task",
            "prefix",
            "prefixes",
            "count",
        )
        keys = {k: v for k, v in keys.items() if k not in made_up}
    if scenario.get("serve.draft_tokens") is None:
        keys.pop("draft_acceptance", None)
    lengths = () if scenario.get("serve.requests") else lengths_told(scenario)
    return (
        "joules of a step go to its requests: attention by the keys each reads, all else evenly over its tokens",
        "hosts, network and fans draw their standing power while a replica is awake",
        *lengths,
        *(f"serve.{k} = {v} (default)" for k, v in keys.items()),
    )


def lengths_told(scenario: Scenario) -> tuple[str, ...]:
    """Say the spread of made-up lengths where it was not stated."""
    names = [n for n in ("prompt", "output") if scenario.get(f"serve.{n}_variation") is None]
    task = value_of(scenario, "task")
    usual = dict(zip(("prompt", "output"), spread_of(scenario), strict=True))
    of = {n: "chat, assumed" if (task, n) in ASSUMED else f"serve.task = {task}" for n in names}
    return tuple(f"serve.{n}_variation = {usual[n]:g} (that of {of[n]})" for n in names)
