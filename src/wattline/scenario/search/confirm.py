"""Candidates confirmed: each is simulated step by step, and its joules told for the whole facility."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.errors import ScenarioError
from ...serving.candidates import Part, Promise
from ...serving.search_answer import LATENCIES
from ...serving.simulate.odds import late_shares
from ...serving.simulate.outcome import Limits, Run
from ...serving.simulate.parking import Parking
from ...serving.simulate.play import simulate
from ...serving.simulate.policies import Knobs, Policy, PoolView, View
from ...serving.simulate.pool import Fleet, Link, Pool
from ...serving.simulate.table import StepTable, step_table
from ...source.base import Device
from ...source.overhead import Overhead
from ...workload.traffic import Requests
from .. import simulate_serving as simulation
from .. import stated as scenarios
from ..stated import Scenario
from ..whatif import Changes, Row
from .space import Variant, fresh, placed, promise_of, same, sampled, slices


def confirm(scenario: Scenario, point: Changes) -> Row:
    """Return what simulation says of one candidate: on the whole trace, on a `sample` of it, or on fresh requests of a
    `seed`."""
    scenario = same(scenario)
    parts = [(Variant(**variant), Part(**part)) for variant, part in point["parts"]]
    requests, promise = _played(scenario, point), promise_of(scenario)
    if any(part.slice not in requests for _, part in parts):
        raise ScenarioError("a stretch of the trace holds no prompt of one of the lengths that pools are parted by")
    limits = Limits(promise.ttft, promise.tpot, promise.percentile)
    seed = simulation.DEFAULTS["seed"] if scenario.get("serve.seed") is None else scenario["serve.seed"]
    groups = [parts] if parts[0][1].role != "both" else [[one] for one in parts]
    runs = []
    for group in groups:
        pools = tuple(_pool(scenario, variant, part) for variant, part in group)
        link = link_between(scenario, group[0][0], group[-1][0]) if len(group) > 1 else None
        served = requests[group[0][1].slice]
        runs.append(simulate(served, Fleet(pools, link=link), _policy(group), limits=limits, seed=seed))
    return _told(scenario, groups, runs, promise)


def _played(scenario: Scenario, point: Changes) -> Mapping[str, Requests]:
    if point.get("seed") is not None:
        return fresh(scenario, int(point["seed"]))
    return sampled(scenario) if point.get("sample") else slices(scenario)


def _policy(group: Sequence[tuple[Variant, Part]]) -> Policy:
    clocks = _Clocks({part.role: (part.prefill_clock or part.clock, part.clock) for _, part in group})
    return Parking(clocks) if any(part.parked for _, part in group) else clocks


@dataclass(frozen=True)
class _Clocks:
    """A policy: clocks (Hz) of steps with and without prompts for the pools of each role."""

    clock: Mapping[str, tuple[float, float]]
    interval: float | None = None
    name: str = "fixed clocks"

    def start(self, pool: PoolView, /) -> Knobs:
        prefill, decode = self.clock[pool.role]
        return Knobs(prefill_clock=prefill, decode_clock=decode)

    def look(self, _: View, /) -> Knobs | None:
        return None


def _pool(scenario: Scenario, variant: Variant, part: Part) -> Pool:
    drafts = variant.drafts if part.role != "prefill" else 0
    table = _table(scenario, replace(variant, drafts=drafts))
    if part.chunk is not None:
        table = replace(table, replica=replace(table.replica, chunk=float(part.chunk)))
    start_power = scenario.get("serve.start_power")
    return Pool(
        table=table, replicas=part.replicas, role=part.role, max_batch=part.batch,
        longest=simulation.longest_of(scenario),
        accepted=simulation.value_of(scenario, "draft_acceptance") if drafts else 0.0,
        start_time=simulation.value_of(scenario, "start_time"),
        start_power=table.waiting if start_power is None else start_power,
        scheduler=simulation.scheduler_of(scenario),
        off_power=simulation.value_of(scenario, "parked_power"),
        draft=simulation.draft_of(scenario, table.replica) if drafts else None,
    )  # fmt: skip


@functools.lru_cache(maxsize=24)  # 4 MB each, in every worker
def _table(scenario: Scenario, variant: Variant) -> StepTable:
    cluster, replica = placed(scenario, variant)
    requests = slices(scenario)["all"]
    longest = int((requests.prompt + requests.output).max())
    most = min(scenario["serve.max_batch"], int(replica.chunk) // (variant.drafts + 1))
    source = scenarios.source_of(scenario)
    draft = (simulation.draft_of(scenario, replica), variant.drafts) if variant.drafts else None
    device = Device(cluster.chip, cluster.node)
    return step_table(replica, device, source, max_batch=most, longest=longest, draft=draft)


def link_between(scenario: Scenario, first: Variant, second: Variant) -> Link:
    """Return the link from prefill to decode: as fast as the slower end, with the joules of both adapters."""
    ends = [simulation.link_of(*placed(scenario, variant)) for variant in (first, second)]
    return Link(
        min(end.bandwidth for end in ends), max(end.latency for end in ends), max(end.energy for end in ends)
    )  # fmt: skip


def _told(
    scenario: Scenario, groups: list[list[tuple[Variant, Part]]], runs: Sequence[Run], promise: Promise
) -> Row:  # fmt: skip
    """Put the runs of independent pools together: all replicas stay awake until the last request has left."""
    end = max(run.duration for run in runs)
    breakdown: dict[str, float] = {}
    phases: dict[str, float] = {}
    chip = 0.0
    for group, run in zip(groups, runs, strict=True):
        more = (end - run.duration) * sum(
            part.replicas * table_for(scenario, variant).waiting for variant, part in group if not part.parked
        )
        chip += run.energy_j + more
        for name, joules in {**run.phases_j, "idle": run.idle_j + more}.items():
            phases[name] = phases.get(name, 0.0) + joules
        for name, joules in _facility(scenario, group, run, end, more).items():
            breakdown[name] = breakdown.get(name, 0.0) + joules
    order = np.argsort(np.concatenate([run.arrival for run in runs]), kind="stable")
    ttft, tpot, whole = (np.concatenate([getattr(run, n) for run in runs])[order] for n in LATENCIES)
    figures = {
        n: float(np.percentile(x, promise.percentile)) for n, x in zip(LATENCIES, (ttft, tpot, whole), strict=True)
    }
    energy = math.fsum(breakdown.values())
    count, power = len(ttft), energy / end if end > 0 else 0.0
    late = [
        np.zeros(count, bool) if limit is None else x > limit
        for x, limit in ((ttft, promise.ttft), (tpot, promise.tpot))
    ]
    kept = all(some.sum() <= (1.0 - promise.percentile / 100.0) * count + 1e-9 for some in late)
    return {
        "energy_j": energy, "chip_energy_j": chip, "power_w": power, **figures,
        "kept": bool(kept and (promise.power is None or power <= promise.power)), "breakdown_j": breakdown,
        "phases_j": phases, "integral_j": float(sum(run.integral_j for run in runs)), "duration_s": end,
        "tokens": float(sum(run.tokens for run in runs)), "late_shares": [late_shares(some).tolist() for some in late],
    }  # fmt: skip


def table_for(scenario: Scenario, variant: Variant) -> StepTable:
    """Return the steps of a variant."""
    return _table(scenario, variant)


def _facility(
    scenario: Scenario, group: list[tuple[Variant, Part]], run: Run, end: float, more: float
) -> dict[str, float]:
    """Return facility joules by component. The chips' joules of two pools are told apart by phase, idling by power."""
    clusters = [placed(scenario, variant)[0] for variant, _ in group]
    seconds = [
        awake + (0.0 if part.parked else part.replicas * (end - run.duration))
        for (_, part), awake in zip(group, run.awake_by_pool, strict=True)
    ]
    if len(group) == 1:
        shares = [1.0]
    else:
        waiting = [table_for(scenario, v).waiting * s for (v, _), s in zip(group, seconds, strict=True)]
        idle = run.idle_j + more
        own = [float(run.prefill_j.sum() + run.transfer_j.sum()), float(run.decode_j.sum())]
        mine = [a + idle * w / sum(waiting) for a, w in zip(own, waiting, strict=True)]
        shares = [x / sum(mine) for x in mine]
    parts = {**run.breakdown_j, "idle": run.idle_j + more}
    out: dict[str, float] = {}
    for cluster, time, share in zip(clusters, seconds, shares, strict=True):
        chips = {name.removeprefix("chip."): share * joules for name, joules in parts.items()}
        for name, joules in Overhead.of(cluster).breakdown(chips, time).items():
            out[name] = out.get(name, 0.0) + joules
    return out
