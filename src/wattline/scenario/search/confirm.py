"""Candidates confirmed: each is simulated step by step, and its joules told for the whole facility."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...serving.candidates import Part, Promise
from ...serving.search_answer import LATENCIES
from ...serving.simulate.outcome import Limits, Run
from ...serving.simulate.play import simulate
from ...serving.simulate.policies import Knobs, PoolView, View
from ...serving.simulate.pool import Fleet, Link, Pool
from ...serving.simulate.table import StepTable, step_table
from ...source.base import Device
from ...source.overhead import Overhead
from ...workload.traffic import Requests
from .. import simulate_serving as simulation
from .. import stated as scenarios
from ..stated import Scenario
from ..whatif import Changes, Row
from .space import Variant, placed, promise_of, same, slices


def confirm(scenario: Scenario, point: Changes) -> Row:
    """Return what simulation says of one candidate."""
    scenario = same(scenario)
    parts = [(Variant(**variant), Part(**part)) for variant, part in point["parts"]]
    requests, promise = slices(scenario), promise_of(scenario)
    limits = Limits(promise.ttft, promise.tpot, promise.percentile)
    seed = simulation.DEFAULTS["seed"] if scenario.get("serve.seed") is None else scenario["serve.seed"]
    groups = [parts] if parts[0][1].role != "both" else [[one] for one in parts]
    runs = []
    for group in groups:
        pools = tuple(_pool(scenario, variant, part, requests[part.slice]) for variant, part in group)
        link = link_between(scenario, group[0][0], group[-1][0]) if len(group) > 1 else None
        clocks: dict[str, float] = {part.role: part.clock for _, part in group}
        served = requests[group[0][1].slice]
        runs.append(simulate(served, Fleet(pools, link=link), _Clocks(clocks), limits=limits, seed=seed))
    return _told(scenario, groups, runs, promise)


@dataclass(frozen=True)
class _Clocks:
    """A policy: one clock (Hz) for the pools of each role."""

    clock: Mapping[str, float]
    interval: float | None = None
    name: str = "fixed clocks"

    def start(self, pool: PoolView, /) -> Knobs:
        return Knobs(prefill_clock=self.clock[pool.role], decode_clock=self.clock[pool.role])

    def look(self, _: View, /) -> Knobs | None:
        return None


def _pool(scenario: Scenario, variant: Variant, part: Part, requests: Requests) -> Pool:
    longest = int((requests.prompt + requests.output).max())
    return Pool(
        table=_table(scenario, variant, longest), replicas=part.replicas, role=part.role, max_batch=part.batch
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _table(scenario: Scenario, variant: Variant, longest: int) -> StepTable:
    cluster, replica = placed(scenario, variant)
    most = min(scenario["serve.max_batch"], int(replica.chunk))
    source = scenarios.source_of(scenario)
    return step_table(replica, Device(cluster.chip, cluster.node), source, max_batch=most, longest=longest)


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
            part.replicas * table_for(scenario, variant, slices(scenario)[part.slice]).waiting
            for variant, part in group
        )
        chip += run.energy_j + more
        for name, joules in {**run.phases_j, "idle": run.idle_j + more}.items():
            phases[name] = phases.get(name, 0.0) + joules
        for name, joules in _facility(scenario, group, run, end, more).items():
            breakdown[name] = breakdown.get(name, 0.0) + joules
    ttft, tpot, whole = (np.concatenate([getattr(run, n) for run in runs]) for n in LATENCIES)
    figures = {
        n: float(np.percentile(x, promise.percentile)) for n, x in zip(LATENCIES, (ttft, tpot, whole), strict=True)
    }
    energy = math.fsum(breakdown.values())
    count, power = len(ttft), energy / end if end > 0 else 0.0
    late = [(x > limit).sum() for x, limit in ((ttft, promise.ttft), (tpot, promise.tpot)) if limit is not None]
    kept = all(missed <= (1.0 - promise.percentile / 100.0) * count + 1e-9 for missed in late)
    return {
        "energy_j": energy, "chip_energy_j": chip, "power_w": power, **figures,
        "kept": bool(kept and (promise.power is None or power <= promise.power)), "breakdown_j": breakdown,
        "phases_j": phases, "integral_j": float(sum(run.integral_j for run in runs)), "duration_s": end,
    }  # fmt: skip


def table_for(scenario: Scenario, variant: Variant, requests: Requests) -> StepTable:
    return _table(scenario, variant, int((requests.prompt + requests.output).max()))


def _facility(
    scenario: Scenario, group: list[tuple[Variant, Part]], run: Run, end: float, more: float
) -> dict[str, float]:
    """Return facility joules by component. The chips' joules of two pools are told apart by phase, idling by power."""
    clusters = [placed(scenario, variant)[0] for variant, _ in group]
    seconds = [part.replicas * end for _, part in group]
    if len(group) == 1:
        shares = [1.0]
    else:
        waiting = [
            table_for(scenario, v, slices(scenario)[p.slice]).waiting * s
            for (v, p), s in zip(group, seconds, strict=True)
        ]
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
