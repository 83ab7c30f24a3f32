"""A serving scenario at many loads: the largest rate that keeps the promise, and what each user and chip gets.

    --sweep rate          open loop: rates doubled until the promise breaks, then halved in towards the largest kept
    --sweep concurrency   closed loop: 1, 2, 4, ... requests at once a replica, as benchmarks state load

Every load plays the same requests (one seed, gaps scaled), so neighbouring loads differ by the load alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ..core.errors import CapacityError, ScenarioError
from ..core.units import show
from ..serving.simulate.outcome import Run
from ..serving.simulate.play import simulate
from ..serving.simulate.pool import Fleet
from ..source.base import Source
from ..source.overhead import Overhead
from ..workload.traffic import Requests
from . import simulate_serving as simulation
from . import stated as scenarios
from .simulate_serving import capped, fleet_of, limits_of, made_up, play_closed, policy_of, requests_of
from .stated import Scenario

Over = Literal["rate", "concurrency"]
# Requests of a load where `serve.count` states none, and s that they come for at least: too much load shows in time.
# The largest rate is found within this share of it.
COUNT: Final = 1500
SPAN: Final = 90.0
CLOSE: Final = 0.02
# Without a promise rates stop where twice the load yields no more than this.
_MORE: Final = 1.05
_DOUBLINGS: Final = 20


@dataclass(frozen=True)
class Point:
    """One load: `load` is requests/s, or requests at once of the service.

    goodput : requests/s that kept the promise. user : output tokens/s of the median user after the first token; chip :
    output tokens/s of a chip. energy_j : of the chips, facility_j : of all, per output token.
    """

    load: float
    kept: bool
    goodput: float
    user: float
    chip: float
    energy_j: float
    facility_j: float
    ttft: float
    tpot: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""
        return {
            "load": self.load, "promise_kept": self.kept, "goodput_per_s": self.goodput,
            "tokens_per_s_per_user": self.user, "tokens_per_s_per_chip": self.chip,
            "energy_per_token_j": self.energy_j, "facility_energy_per_token_j": self.facility_j,
            "ttft_s": self.ttft, "tpot_s": self.tpot,
        }  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """Points by load; `best`: of those that keep the promise, the one of most goodput, None where none does."""

    title: str
    over: Over
    points: tuple[Point, ...]
    percentile: float
    promised: bool
    assumptions: tuple[str, ...]

    @property
    def best(self) -> Point | None:
        kept = [p for p in self.points if p.kept]
        return max(kept, key=lambda p: p.goodput) if kept else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""
        best = self.best
        return {
            "kind": "serving sweep", "title": self.title, "over": self.over, "percentile": self.percentile,
            "points": [p.to_dict() for p in self.points], "best": None if best is None else best.to_dict(),
            "assumptions": list(self.assumptions),
        }  # fmt: skip


def sweep(scenario: Scenario, over: str, source: Source | None = None) -> Sweep:
    """Play a [serve] scenario at many loads.

    Raises
    ------
    ScenarioError : no [serve], a load that is no rate or concurrency, a closed loop with pools apart.
    """
    if not scenario.has("serve"):
        raise ScenarioError("a sweep of loads needs a [serve] section; `wattline plan` answers [train]")
    if over not in ("rate", "concurrency"):
        raise ScenarioError(f"--sweep is over rate or concurrency, got {over!r}")
    source = source or scenarios.source_of(scenario)
    cluster = scenarios.cluster_of(scenario)
    fleet, limits = fleet_of(scenario, cluster, source), limits_of(scenario)
    chips = cluster.devices * sum(pool.replicas for pool in fleet.pools)
    overhead = Overhead.of(cluster)
    count = scenario.get("serve.count") or COUNT

    def told(load: float, run: Run) -> Point:
        counted = run.counted
        many = counted & (run.output > 1)
        # While requests come: afterwards the service empties, and a closed loop runs out of clients.
        stop = float(run.begun.max()) if over == "concurrency" else run.duration
        ended = run.end <= stop
        good = counted & ended & (run.ttft <= (limits.ttft or np.inf)) & (run.tpot <= (limits.tpot or np.inf))
        each = run.tpot[many]
        return Point(
            load, run.kept or not run.promised, float(good.sum()) / stop,
            float(1.0 / np.median(each)) if len(each) else 0.0, float(run.output[ended].sum()) / stop / chips,
            run.energy_j / run.tokens, overhead.total(run.energy_j, run.awake_s) / run.tokens,
            float(np.percentile(run.ttft[counted], limits.percentile)),
            float(np.percentile(each, limits.percentile)) if len(each) else 0.0,
        )  # fmt: skip

    def policy() -> Any:
        return policy_of(scenario, cluster)

    if over == "concurrency":

        def crowd(some: Requests, n: int) -> Point:
            run = play_closed(some, capped(fleet, n), policy(), limits, n)
            return told(float(n * run.replicas), run)

        points = _crowds(scenario, fleet, crowd, count)
    else:
        seed = simulation.value_of(scenario, "seed")
        whole = requests_of(scenario.with_({"serve.count": count})) if scenario.get("serve.requests") else None

        def at(rate: float) -> Point:
            enough = scenario.get("serve.count") or max(count, math.ceil(SPAN * rate))
            some = made_up(scenario, rate, enough, seed) if whole is None else whole.at_rate(rate)
            some = simulation.fitting(scenario, some, fleet)
            return told(rate, simulate(some, fleet, policy(), limits=limits, seed=seed))

        points = _rates(at, scenario.get("serve.rate") or 1.0, limits.ttft is not None or limits.tpot is not None)
    return Sweep(
        title=f"{scenarios.model_of(scenario).name} on {chips} x {cluster.chip.title}",
        over="rate" if over == "rate" else "concurrency",
        points=tuple(sorted(points, key=lambda p: p.load)),
        percentile=limits.percentile,
        promised=limits.ttft is not None or limits.tpot is not None,
        assumptions=_assumptions(scenario, count, over),
    )


def _rates(at: Callable[[float], Point], start: float, promised: bool) -> list[Point]:
    """Return points at rates that close in on the largest kept one; without a promise, on what the service can do."""

    found: dict[float, Point] = {}

    def ask(rate: float) -> bool:
        if rate not in found:
            found[rate] = at(rate)
        less = [p.chip for p in found.values() if p.load < rate]
        return found[rate].kept if promised else found[rate].chip > _MORE * max(less, default=0.0)

    rate = start
    low, high = (start, math.inf) if ask(start) else (0.0, start)
    for _ in range(_DOUBLINGS):
        if math.isfinite(high) and low > 0:
            break
        rate = rate * 2.0 if math.isinf(high) else rate / 2.0
        low, high = (rate, high) if ask(rate) else (low, rate)
    for _ in range(3):  # a few loads below, for the curve
        ask(min(found) / 2.0)
    while promised and low > 0 and math.isfinite(high) and high / low > 1.0 + CLOSE:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if ask(middle) else (low, middle)
    return list(found.values())


def _crowds(scenario: Scenario, fleet: Fleet, at: Callable[[Requests, int], Point], count: int) -> list[Point]:
    """Return points at 1, 2, 4, ... requests at once a replica, up to the most that it takes."""
    if any(pool.role != "both" for pool in fleet.pools):
        raise ScenarioError("a closed loop is of whole replicas; leave out serve.prefill_replicas, or sweep the rate")
    if scenario.get("serve.requests") is not None:
        raise ScenarioError("a closed loop makes its requests up; leave out serve.requests, or sweep the rate")
    replicas, out, n = sum(pool.replicas for pool in fleet.pools), [], 1
    while n <= min(pool.max_batch for pool in fleet.pools):
        # Enough that those who fill the loop, whose latencies do not count, are few.
        some = made_up(scenario, 1.0, max(count, 8 * n * replicas), simulation.value_of(scenario, "seed"))
        try:
            out.append(at(simulation.fitting(scenario, some, fleet), n))
        except CapacityError:
            break
        n *= 2
    return out


def _assumptions(scenario: Scenario, count: int, over: str) -> tuple[str, ...]:
    least = "" if scenario.get("serve.count") or over != "rate" else f", more where they come for less than {SPAN:g} s"
    told = [f"{count:,} requests a load, the same at every one{least}", *simulation.lengths_told(scenario)]
    if over == "rate" and not scenario.get("serve.requests"):
        told.append(f"serve.arrivals = {simulation.value_of(scenario, 'arrivals')}")
    told.append(f"serve.policy = {simulation.value_of(scenario, 'policy')}")
    return tuple(told)


def rows_of(found: Sweep) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table."""
    load = "requests/s" if found.over == "rate" else "at once"
    p = f"p{found.percentile:g}"
    heads = [load, "promise", "goodput/s", "tokens/s/user", "tokens/s/chip", "J/token", f"TTFT {p}", f"TPOT {p}"]
    best = found.best
    return heads, [
        [
            f"{x.load:.4g}" + (" *" if x is best and found.promised else ""),
            ("kept" if x.kept else "missed") if found.promised else "none", f"{x.goodput:.4g}", f"{x.user:.1f}",
            f"{x.chip:,.0f}", f"{x.energy_j:.4g}", show(x.ttft, "s"), show(x.tpot, "s"),
        ]
        for x in found.points
    ]  # fmt: skip
