"""Serving: the least joules per output token of one replica within its latency promise.

    steps at each (batch, clock) --Little's law where a rate is given--> candidates
      (time per token, joules per token) --pruned--> frontier --latency limits--> chosen point

With a request rate the batch follows from it: `batch = tokens per second x seconds per token`. Without,
the replica is asked for as much as it can do, and the batch is a knob beside the clock. Latencies
here are analytic: steady state, Poisson arrivals; they hold on average traffic, not on its bursts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, ScenarioError, WattlineError
from ..core.units import show
from ..frontier.answer import NO_RATES, Answer, Goal, Outcome, Rates
from ..frontier.pruning import hull_index, prune
from ..hardware.cluster import Cluster
from ..source import elasticity
from ..source.base import Array, Device, Source
from ..source.overhead import Overhead
from ..workload.fits import check_serving
from .step import Load, Replica, Step, steps


@dataclass(frozen=True)
class ServingJob:
    """What to serve. `rate` requests/s, None for as many as the replica can; limits in s, None for none."""

    replica: Replica
    load: Load
    rate: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    percentile: int = 99
    max_batch: int = 512


@dataclass(frozen=True)
class Candidates:
    """n ways to run the replica, one array entry each.

    Attributes
    ----------
    clock : Hz. batch : mean running requests. tpot, ttft : seconds at the percentile.
    time : mean seconds of an engine step. throughput : output tokens/s.
    parts : component -> joules of all chips per output token.
    """

    clock: Array
    batch: Array
    time: Array
    tpot: Array
    ttft: Array
    throughput: Array
    parts: Mapping[str, Array]

    @property
    def chip_energy(self) -> Array:
        """(n,) joules of all chips per output token."""
        return np.asarray(np.sum([*self.parts.values()], axis=0))

    def pick(self, index: int) -> Candidates:
        one = slice(index, index + 1)
        arrays = {n: getattr(self, n)[one] for n in ("clock", "batch", "time", "tpot", "ttft", "throughput")}
        return Candidates(**arrays, parts={n: v[one] for n, v in self.parts.items()})


def batches(limit: int) -> list[int]:
    """Return the batches looked at: 1, 2, 3, 4, 6, 8, 12, ... up to `limit`, which is one of them."""
    out = {limit}
    size = 1
    while size < limit:
        out |= {size, min(limit, size * 3 // 2)}
        size *= 2
    return sorted(out - {0})


def candidates(job: ServingJob, device: Device, source: Source, sizes: list[int], clocks: Array | None) -> Candidates:
    """Return every way to run: (batch, clock), or one per clock where the request rate decides the batch."""
    return _candidates(job, device, steps(job.replica, job.load, sizes, device, source, clocks))


def ways(job: ServingJob, cluster: Cluster, source: Source) -> tuple[Candidates, Array]:
    """Return every way to run the replica, and each one's facility joules per output token."""
    device = Device(cluster.chip, cluster.node)
    found = steps(job.replica, job.load, batches(_capacity(job, device)), device, source)
    every = _candidates(job, device, found)
    return every, Overhead.of(cluster).total(every.chip_energy, 1.0 / every.throughput)


def _candidates(job: ServingJob, device: Device, found: list[Step]) -> Candidates:
    c = job.replica.constants(device)
    table = _Table.of(found, job.load, c["first.request"] + c["first.token"] * job.load.fresh, c["first.prefill"])
    if job.rate is None:
        return table.all(job)
    return table.at_rate(job, job.rate * job.load.output, device)


@dataclass(frozen=True)
class _Table:
    """Steps as arrays (batches, clocks)."""

    batch: Array
    clock: Array
    time: Array
    decode: Array
    fill: Array  # seconds that one prompt adds to the step it joins
    parts: Mapping[str, Array]  # of all chips, J per step
    outside: float  # seconds a request waits outside of steps until its first token: HTTP, tokeniser, first flush
    longer: float  # seconds of a prompt's own steps over those it adds to the mean step

    @staticmethod
    def of(found: list[Step], load: Load, outside: float, longer: float) -> _Table:
        time = np.array([s.time for s in found])
        decode = np.array([s.decode.time for s in found])
        # mean = decode + (prompts that enter per step) x fill
        entering = np.array([[s.batch / load.output] for s in found])
        names = list(dict.fromkeys(n for s in found for n in s.points.parts))
        zero = np.zeros_like(time[0])
        return _Table(
            np.array([[float(s.batch)] for s in found]),
            found[0].points.clock,
            time,
            decode,
            (time - decode) / entering,
            {n: np.array([s.devices * s.points.parts.get(n, zero) for s in found]) for n in names},
            outside,
            longer,
        )

    def all(self, job: ServingJob) -> Candidates:
        """Every batch at every clock, always full: the batch does not vary, so neither does the step."""
        size = np.broadcast_to(self.batch, self.time.shape)
        rate = size / self.time / job.load.output
        return Candidates(
            np.broadcast_to(self.clock, self.time.shape).ravel(),
            size.ravel(),
            self.time.ravel(),
            self.time.ravel(),
            self._ttft(job, self.time, self.decode, self.fill, rate).ravel(),
            (size / self.time).ravel(),
            {n: (v / size).ravel() for n, v in self.parts.items()},
        )

    def at_rate(self, job: ServingJob, tokens: float, device: Device) -> Candidates:
        """One candidate per clock that carries `tokens` per second: the batch solves batch = tokens x time(batch)."""
        carried = self.batch / self.time
        able = np.flatnonzero(carried.max(axis=0) >= tokens)
        if not able.size:
            most = float(carried.max())
            raise GoalError(
                f"{job.rate or 0:,.4g} requests/s a replica (serve.rate) need {tokens:,.0f} output tokens/s and "
                f"one replica carries at most {most:,.0f}, whatever was promised: lower the rate to "
                f"{(job.rate or 0) * most / tokens:,.4g} requests/s, add chips, or split it over more than "
                f"{math.ceil(tokens / most)} replicas",
                beyond=True,
            )
        table = self._columns(able)
        size, carried = self.batch[:, 0], carried[:, able]
        # The first batch that carries the load; throughput rises with the batch up to there.
        first = np.argmax(carried >= tokens, axis=0)
        row, here = np.maximum(first - 1, 0), np.arange(able.size)
        step = carried[np.maximum(first, 1), here] - carried[row, here] if size.size > 1 else np.ones(able.size)
        at = np.where(first > 0, row + (tokens - carried[row, here]) / step, 0.0)
        batch, time = np.interp(at, np.arange(size.size), size), _rows(table.time, at)
        parts = {n: _rows(v, at) / batch for n, v in table.parts.items()}
        # Even alone a request may leave gaps, in which the chips wait.
        gap = np.where(first == 0, np.maximum(0.0, 1.0 / tokens - time / batch), 0.0)
        waiting = job.replica.parallel.devices * device.chip["power.waiting"] * gap
        parts["waiting"] = parts.get("waiting", 0.0) + waiting
        # The number of running requests is about Poisson; the percentile of it sets that of the step.
        burst = batch + _deviations(job) * np.sqrt(batch)
        busy = np.interp(burst, size, np.arange(size.size))
        slow, decode, fill = (_rows(v, busy) for v in (table.time, table.decode, table.fill))
        ttft = self._ttft(job, slow, decode, fill, np.array(job.rate))
        return Candidates(table.clock, batch, time, slow, ttft, np.full(able.size, tokens), parts)

    def _columns(self, pick: NDArray[np.int64]) -> _Table:
        """Return the table at some clocks only."""
        parts = {n: v[:, pick] for n, v in self.parts.items()}
        time, decode, fill = (v[:, pick] for v in (self.time, self.decode, self.fill))
        return replace(self, clock=self.clock[pick], time=time, decode=decode, fill=fill, parts=parts)

    def _ttft(self, job: ServingJob, time: Array, decode: Array, fill: Array, rate: Array) -> Array:
        """Time to the first token: the step under way, then one's own prefill after those that came with it."""
        together = rate * time
        others = together + _deviations(job) * np.sqrt(together)
        return np.asarray(self.outside + time + decode + fill * (self.longer + others))


def _deviations(job: ServingJob) -> float:
    """Return by how many standard deviations the asked percentile lies above the mean, at least 0."""
    return max(0.0, NormalDist().inv_cdf(min(job.percentile, 99.99) / 100))


def _rows(values: Array, at: Array) -> Array:
    """Return column j of `values` (n, m) at the fractional row `at[j]` (m,), on straight lines."""
    low = np.clip(at.astype(np.int64), 0, max(len(values) - 2, 0))
    here = np.arange(values.shape[1])
    high = np.minimum(low + 1, len(values) - 1)
    return np.asarray(values[low, here] + (at - low) * (values[high, here] - values[low, here]))


# ---- the plan ------------------------------------------------------------------------------------


def plan_serving(
    job: ServingJob,
    cluster: Cluster,
    source: Source,
    goal: Goal,
    rates: Rates = NO_RATES,
    *,
    power_limit: float | None = None,
    detail: bool = True,
    title: str = "",
    assumptions: tuple[str, ...] = (),
) -> Answer:
    """Return the plan of one serving replica. Times are per output token, energies the facility's."""
    device = Device(cluster.chip, cluster.node)
    sizes = batches(_capacity(job, device))
    found = steps(job.replica, job.load, sizes, device, source)
    every = _candidates(job, device, found)
    over = Overhead.of(cluster)
    energy = over.total(every.chip_energy, 1.0 / every.throughput)
    base = _baseline(job, every, energy)
    chosen, text, longest = _choose(job, every, energy, base, goal, power_limit)
    keep = prune(every.tpot, energy)
    uncertain = found[-1].points  # of the largest batch; the spread is that of the engine's model, whatever the batch
    picked = every.pick(chosen)
    return Answer(
        kind="serving",
        title=title or f"{job.replica.model.name} on {cluster.devices} x {cluster.chip.name}",
        work="one output token",
        time_s=every.tpot[keep],
        energy_j=energy[keep],
        power_w=energy[keep] * every.throughput[keep],
        chosen=_outcome(picked, job, cluster, over, rates),
        baseline=_outcome(every.pick(base), job, cluster, over, rates),
        goal=text,
        elasticity=_elasticity(job, cluster, source, picked, sizes, _price(every, energy, chosen, longest))
        if detail
        else {},
        provenance=uncertain.provenance,
        sources=(uncertain.source,) if uncertain.source else (),
        uncertainty=over.uncertainty(
            uncertain.uncertainty, float(picked.chip_energy[0]), float(1.0 / picked.throughput[0])
        ),
        time_uncertainty=uncertain.time_uncertainty,
        assumptions=(*assumptions, *_notes(uncertain.extrapolated)),
        facts=_facts(job, cluster, sizes[-1]),
        timeline=_points(every, keep) if detail else (),
    )


def _capacity(job: ServingJob, device: Device) -> int:
    r = job.replica
    check_serving(
        r.model, r.parallel, device.chip["memory.hbm.capacity"], job.load.entering + job.load.output, 1.0,
        precision=r.precision.weights, kv=r.precision.kv, step_tokens=r.chunk, usable=r.memory,
    )  # fmt: skip
    return max(1, min(job.max_batch, r.capacity(job.load, device)))


def _meets(job: ServingJob, every: Candidates) -> np.ndarray[Any, np.dtype[np.bool_]]:
    ok = np.ones(every.tpot.shape, bool)
    if job.tpot is not None:
        ok &= every.tpot <= job.tpot
    if job.ttft is not None:
        ok &= every.ttft <= job.ttft
    return ok


def _baseline(job: ServingJob, every: Candidates, energy: Array) -> int:
    """Return maximum clock at the batch a careful engineer takes: the cheapest within the limits, if any is."""
    top = every.clock == every.clock.max()
    within = top & _meets(job, every)
    pool = np.flatnonzero(within if within.any() else top)
    return int(pool[np.argmin(energy[pool])])


def _choose(
    job: ServingJob, every: Candidates, energy: Array, base: int, goal: Goal, power_limit: float | None
) -> tuple[int, str, float]:
    """Return the chosen candidate, the goal in words, and the most seconds per token it allows."""
    ok = _meets(job, every)
    if not ok.any():
        raise GoalError(_missed(job, every))
    limits = [f"{n} {show(v, 's')}" for n, v in (("TTFT", job.ttft), ("TPOT", job.tpot)) if v is not None]
    promise = f" within {' and '.join(limits)} at the {job.percentile}th percentile" if limits else ""
    power = energy * every.throughput
    longest = job.tpot or math.inf
    words = "least energy per token"
    if goal.kind == "max_slowdown":
        longest = min(longest, (1 + goal.value) * float(every.tpot[base]))
        ok &= every.tpot <= longest * (1 + 1e-12)
        words += f" at no more than {100 * goal.value:.3g} % slower tokens"
    elif goal.kind == "power":
        ok &= power <= goal.value
        words = f"fastest tokens within {show(goal.value, 'W')}"
    elif goal.kind not in ("latency", "least_energy"):
        raise ScenarioError(
            f"goal.{goal.kind} is not a goal for serving; "
            "try goal.max_slowdown, goal.power, or serve.tpot and serve.ttft"
        )
    if power_limit is not None:
        ok &= power <= power_limit
        promise += f", within site.power_limit = {show(power_limit, 'W')}"
    if not ok.any():
        raise GoalError(f"{words}{promise} cannot be met; the least power is {show(float(power.min()), 'W')}")
    pool = np.flatnonzero(ok)
    rank = every.tpot if goal.kind == "power" else energy
    chosen = int(pool[np.argmin(rank[pool])])
    return chosen, words + promise, longest


def _missed(job: ServingJob, every: Candidates) -> str:
    bound, ask = [], []
    limits = (("ttft", job.ttft, every.ttft), ("tpot", job.tpot, every.tpot))
    for name, limit, values in limits:
        if limit is not None and not (values <= limit).any():
            best = float(values.min())
            bound.append(f"serve.{name} = {show(limit, 's')} cannot be met: the best is {show(best, 's')}")
            ask.append((name, 1.05 * best))
    if not bound:
        bound = ["serve.ttft and serve.tpot cannot be met together"]
    # With the limits that are out of reach at their best, the other may still bind: say what it becomes then.
    allowed = dict(ask)
    ok = np.ones(every.tpot.shape, bool)
    for name, limit, values in limits:
        if limit is not None and name == "tpot":
            ok &= values <= allowed.get(name, limit)
    first = every.ttft[ok]
    if job.ttft is not None and first.size:
        allowed["ttft"] = max(allowed.get("ttft", job.ttft), 1.05 * float(first.min()))
    asked = {"ttft": job.ttft or 0.0, "tpot": job.tpot or 0.0}
    told = " and ".join(f'serve.{n} = "{show(v, "s")}"' for n, v in allowed.items() if v > asked[n])
    return f"{'; '.join(bound)}; add chips (serve.tensor), or try {told}"


def _price(every: Candidates, energy: Array, chosen: int, longest: float) -> float:
    """Return joules per token saved per second of slower tokens, 0 where a slower token would save nothing."""
    keep = prune(every.tpot, energy)
    keep = keep[hull_index(every.tpot[keep], energy[keep])]
    time, joules = every.tpot[keep], energy[keep]
    k = int(np.searchsorted(time, every.tpot[chosen], side="right"))
    if not math.isfinite(longest) or k >= len(time) or k == 0:
        return 0.0
    return float((joules[k - 1] - joules[k]) / (time[k] - time[k - 1]))


# ---- telling it ----------------------------------------------------------------------------------


def _outcome(c: Candidates, job: ServingJob, cluster: Cluster, over: Overhead, rates: Rates) -> Outcome:
    throughput = float(c.throughput[0])
    per_token = 1.0 / throughput
    parts = over.breakdown({n: float(v[0]) for n, v in c.parts.items()}, per_token)
    energy = sum(parts.values())
    chips = float(c.chip_energy[0])
    figures = {
        "tpot_s": float(c.tpot[0]),
        "ttft_s": float(c.ttft[0]),
        "batch": float(c.batch[0]),
        "tokens_per_s": throughput,
        "requests_per_s": throughput / job.load.output,
        "energy_per_token_j": energy,
        "energy_per_request_j": energy * job.load.output,
        "chip_energy_per_token_j": chips,
        "chip_power_w": chips * throughput / cluster.devices,
        **rates.per_million(energy, cluster.devices / throughput),
    }
    knobs = ({"scope": "replica", "clock_hz": float(c.clock[0]), "max_batch": math.ceil(float(c.batch[0]))},)
    return Outcome(float(c.tpot[0]), energy, energy * throughput, parts, knobs, figures)


def _points(every: Candidates, keep: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the knobs of each point of the frontier, for pictures."""
    return tuple(
        {"tpot_s": float(every.tpot[i]), "clock_hz": float(every.clock[i]), "batch": float(every.batch[i])}
        for i in keep
    )


def _notes(extrapolated: bool) -> tuple[str, ...]:
    notes = ["latencies are analytic: steady state, Poisson arrivals, no bursts beyond them"]
    if extrapolated:
        notes.append("extrapolated: some operator shapes lie outside the range the source was fitted on")
    return tuple(notes)


def _facts(job: ServingJob, cluster: Cluster, limit: int) -> dict[str, str]:
    p, load = job.replica.parallel, job.load
    return {
        "model": job.replica.model.name,
        "chips": f"{cluster.devices} x {cluster.chip.title}",
        "node": cluster.node.title,
        "parallelism": f"tensor {p.tensor}, data {p.data}, expert {p.expert}",
        "requests": f"{load.prompt:,.0f} tokens in, {load.output:,.0f} out"
        + (f", {show(job.rate, 'request/s')}" if job.rate else ", as many as the replica can carry"),
        "most requests at once": f"{limit}",
    }


def elasticities(
    job: ServingJob, cluster: Cluster, source: Source, clock: float, batch: float, price: float
) -> dict[str, float]:
    """Return d ln E / d ln parameter of the mean step at a clock, and at a batch where no rate decides it."""
    device = Device(cluster.chip, cluster.node)
    limit = _capacity(job, device)
    sizes = batches(limit) if job.rate is not None else [min(max(round(batch), 1), limit)]
    try:
        chosen = candidates(job, device, source, sizes, np.array([clock]))
    except GoalError:  # queues carry by luck what the mean step does not
        return {}
    return _elasticity(job, cluster, source, chosen, sizes, price)


def _elasticity(
    job: ServingJob, cluster: Cluster, source: Source, chosen: Candidates, sizes: list[int], price: float
) -> dict[str, float]:
    """Return d ln E / d ln parameter with batch and clock as chosen, by the envelope theorem (see `training`)."""
    batch = float(chosen.batch[0])
    if job.rate is None:
        near = [round(batch)]
    else:
        k = int(np.searchsorted(sizes, batch))
        near = sizes[max(0, k - 2) : k + 2]

    def lagrangian(changed: Cluster, answers: Source) -> float:
        return _lagrangian(job, changed, answers, near, chosen.clock, price)

    base = lagrangian(cluster, source)
    energy = float(Overhead.of(cluster).total(chosen.chip_energy, 1.0 / chosen.throughput)[0])
    out = elasticity.hardware(cluster, source, lambda changed, answers: (lagrangian(changed, answers) - base) / energy)
    out["site.pue"] = 1.0
    for name in ("prompt", "output"):
        # One percent longer may no longer fit or keep up, one percent shorter then tells the same.
        for step in (elasticity.STEP, -elasticity.STEP):
            with suppress(WattlineError):
                load = replace(job.load, **{name: getattr(job.load, name) * (1 + step)})
                moved = _lagrangian(replace(job, load=load), cluster, source, near, chosen.clock, price)
                out[f"serve.{name}"] = (moved - base) / energy / step
                break
    return out


def _lagrangian(
    job: ServingJob, cluster: Cluster, source: Source, near: list[int], clock: Array, price: float
) -> float:  # fmt: skip
    """Return joules per token at one clock, and what the seconds it takes are worth."""
    over = Overhead.of(cluster)
    now = candidates(job, Device(cluster.chip, cluster.node), source, near, clock)
    return float(over.total(now.chip_energy, 1.0 / now.throughput)[0] + price * now.tpot[0])
