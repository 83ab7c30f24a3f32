"""A pipeline's iteration planned from a measured profile: its exact frontier, and plans that a runtime can follow.

    profile --schedule--> graph of one iteration --exact solve--> frontier (a bound for every plan there is)
                                                 --rounding-----> plan: a clock per computation, and its gap

Energies are totals over all devices of the pipeline and its data-parallel replicas, waiting and static power included,
unless a name says `above`: joules above waiting, of one pipeline.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import GoalError, InputError, nearest
from ..core.units import show
from ..frontier.graph import Dag, GraphFrontier, solve
from ..frontier.periodic import solve_family
from ..frontier.rounding import MOVES, SwitchPlan, round_discrete, round_switch_once
from .choices import GRANULARITIES, Network
from .instructions import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT
from .profile import Floats, Ints, Options, Profile, options, parts_of, stage_map
from .schedule import TRANSFER, Graph, Schedule, graph, schedule

REPEATING = ("1f1b", "zb-h1")
IN_A_V = ("zb-v", "dualpipe-v")  # two chunks a device
# Slowdowns that are always planned for, and the most computations for which each looser deadline knows their plans.
LADDER = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
LADDER_NODES = 300
NEAR = 1e-9  # relative: times that differ by less are the same


@dataclass(frozen=True)
class PipelineJob:
    """What to plan.

    Parameters
    ----------
    profile : measured settings; stages are mapped to its stages (see `stage_map`).
    stages, microbatches, schedule, virtual : devices in a row, microbatches per iteration, and who runs what when.
    waiting_power : watts a device draws while it waits for another.
    static_power : further watts per device that the profile does not hold (its share of host, fans, cooling).
    replicas : pipelines that do the same on other data.
    transfer_time : seconds of a message between neighbouring devices, one number or one per link.
    switch_latency : seconds a device stands still to change its clock.
    granularity : "microbatch", "instruction" or "stage": how often the clock may change.
    order : a schedule of its own in place of `schedule`, for the same stages and microbatches.
    split_backward : share of a backward pass that its input part takes, where a schedule splits it and the profile
        does not.
    """

    profile: Profile
    stages: int
    microbatches: int
    schedule: str = "1f1b"
    virtual: int = 1
    waiting_power: float = 0.0
    static_power: float = 0.0
    replicas: int = 1
    transfer_time: float | Sequence[float] = 0.0
    switch_latency: float = 0.0
    granularity: str = "microbatch"
    split_backward: float | None = None
    order: Schedule | None = None

    def __post_init__(self) -> None:
        for name in ("waiting_power", "static_power", "switch_latency"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                unit = "s" if name == "switch_latency" else "W"
                raise InputError(f"{name} must be finite and at least 0 {unit}, got {value}")
        if self.replicas < 1:
            raise InputError(f"replicas must be at least 1, got {self.replicas}")
        if self.virtual < 1:
            raise InputError(f"virtual must be at least 1 chunk per device, got {self.virtual}")
        if self.granularity not in GRANULARITIES:
            raise InputError(
                f"granularity {self.granularity!r} is not known; {nearest(self.granularity, GRANULARITIES)}"
            )
        if self.split_backward is not None and not 0 < self.split_backward < 1:
            raise InputError(f"split_backward must be a share between 0 and 1, got {self.split_backward}")
        links = np.atleast_1d(np.asarray(self.transfer_time, float))
        if not (np.isfinite(links).all() and (links >= 0).all()):
            raise InputError(f"transfer_time must be finite and at least 0 s, got {self.transfer_time}")
        if len(links) not in (1, self.stages - 1, self.stages):
            raise InputError(
                f"transfer_time must be one time, or one per link between {self.stages} stages ({self.stages - 1}, or "
                f"{self.stages} with the one back to the first), got {len(links)}"
            )

    def rows(self, microbatches: int | None = None) -> Schedule:
        """Return who runs what in which order, for so many microbatches."""
        if self.order is None:
            return schedule(self.schedule, self.stages, microbatches or self.microbatches, self.virtual)
        return self.order

    @property
    def power(self) -> float:
        """Watts of one pipeline's devices that nothing but time decides."""
        return (self.waiting_power + self.static_power) * self.stages

    @property
    def devices(self) -> int:
        return self.stages * self.replicas

    @property
    def chunks(self) -> int:
        """Parts of the model that the schedule runs."""
        return self.rows().chunks

    @property
    def direct(self) -> bool:
        """Whether the profile has one stage per model chunk, more of them than devices."""
        if self.virtual == 1 and self.order is None and self.schedule not in IN_A_V:
            return False
        return self.profile.stages == self.chunks > self.stages

    @property
    def mapping(self) -> tuple[int, ...]:
        """Which profiled stage each stage (each chunk, where the profile has as many) is like."""
        return stage_map(self.chunks if self.direct else self.stages, self.profile.stages)

    def network(self, microbatches: int | None = None) -> tuple[Graph, Dag]:
        """Return the graph of an iteration; classes of the Dag are kinds, then one per link for transfers."""
        links = np.atleast_1d(np.asarray(self.transfer_time, float))
        nodes = graph(self.rows(microbatches), transfers=bool(links.any()))
        kind = nodes.kind.copy()
        if nodes.kinds[-1] == TRANSFER:
            kind[kind == len(nodes.kinds) - 1] += self._links(nodes, len(links))
        return nodes, Dag(kind, nodes.edges)

    def _links(self, nodes: Graph, links: int) -> Ints:
        """Return which link each transfer takes: i between stages i and i + 1, the last one back to the first."""
        last = len(nodes.kinds) - 1
        to = np.zeros(len(nodes.kind), np.int64)
        leaving = nodes.edges[nodes.kind[nodes.edges[:, 0]] == last]
        to[leaving[:, 0]] = nodes.device[leaving[:, 1]]
        moves = nodes.kind == last
        a, b = nodes.device[moves], to[moves]
        if links == 1:
            return np.zeros(len(a), np.int64)
        low, high = np.minimum(a, b), np.maximum(a, b)
        wraps = high - low > 1
        if wraps.any() and links < self.stages:
            raise InputError(
                f"{self.schedule} also sends from the last stage to the first: transfer_time needs {self.stages} "
                f"links, got {links}"
            )
        return np.where(wraps, self.stages - 1, low)

    def choices(self) -> tuple[Options, ...]:
        """Return the settings of every class of the graph."""
        plan = self.rows()
        known: dict[tuple[int, str], Options] = {}
        profile, out = self.profile.averaged(), []
        for chunk, what in plan.instructions:
            part, share = (chunk, 1.0) if self.direct else plan.part(chunk)
            stage = self.mapping[part]
            if (stage, what) not in known:
                tables = parts_of(profile, stage, what, self.split_backward)
                known[stage, what] = options([t.scaled(share) for t in tables], self.waiting_power)
            out.append(known[stage, what])
        links = np.atleast_1d(np.asarray(self.transfer_time, float))
        return (*out, *(Options.fixed(float(t)) for t in links if links.any()))


@dataclass(frozen=True, eq=False)
class Realized:
    """A plan that a runtime can follow, with its certificate.

    Attributes
    ----------
    pick : (n,) setting of every computation, counted over all kinds (see `Network`).
    start, duration : (n,) seconds.
    time, deadline : seconds: when the last computation ends, and by when it had to.
    above : joules above waiting of one pipeline.
    energy, bound : total joules over `time`, and the least that any plan as fast could need.
    switches : changes of clock between computations, of one pipeline.
    """

    pick: Ints
    start: Floats
    duration: Floats
    time: float
    deadline: float
    above: float
    energy: float
    bound: float
    switches: int
    granularity: str

    @property
    def gap(self) -> float:
        """Relative excess over the bound."""
        return self.energy / self.bound - 1.0 if self.bound > 0 else 0.0

    @property
    def average_power(self) -> float:
        """Watts of all devices while the iteration runs."""
        return self.energy / self.time


@dataclass(frozen=True)
class Straggled:
    """What a pipeline does beside a slower one: least energy over `time` seconds, of one pipeline.

    `finish` is when it completes; `price` what one more second would save, in watts; `saving` is against maximum
    clocks.
    """

    time: float
    finish: float
    energy: float
    baseline: float
    price: float

    @property
    def saving(self) -> float:
        return 1.0 - self.energy / self.baseline


@dataclass(frozen=True, eq=False)
class PipelinePlan:
    """The exact frontier of a job and everything that is asked of it. Made by `plan_pipeline`."""

    job: PipelineJob
    graph: Graph
    dag: Dag
    options: tuple[Options, ...]
    frontier: GraphFrontier
    network: Network

    # ---- the frontier -----------------------------------------------------------------------

    @property
    def time(self) -> Floats:
        """(n,) seconds of one iteration, fastest first, up to the time of least energy."""
        return self.frontier.time

    @property
    def energy(self) -> Floats:
        """(n,) total joules."""
        return self.job.replicas * (self.frontier.energy + self.job.power * self.frontier.time)

    @functools.cached_property
    def whole(self) -> GraphFrontier:
        """The frontier up to the slowest clocks: what is of use to a pipeline that must wait anyway."""
        return _solve(self.job, self.options, 0.0)

    def total(self, above: float, time: float) -> float:
        """Return total joules of `above` joules above waiting per pipeline, over `time` seconds."""
        return self.job.replicas * (above + self.job.power * time)

    def bound(self, time: float) -> float:
        """Return the least total joules of any plan that takes `time` seconds at most, and no longer than useful."""
        time = min(max(time, float(self.time[0])), float(self.time[-1]))
        return self.total(self.frontier.energy_at(time), time)

    @functools.cached_property
    def baseline(self) -> Realized:
        """Every computation at maximum clocks."""
        return self._told(self.network.at_maximum(), np.inf, "stage")

    # ---- plans ------------------------------------------------------------------------------

    def deadline(self, deadline: float | None = None, max_slowdown: float | None = None) -> float:
        """Return by when to end, in seconds: given, or a slowdown against maximum clocks (none where both are None)."""
        if deadline is not None and max_slowdown is not None:
            raise InputError("a plan takes one limit on time: a deadline or a slowdown, not both")
        limit = deadline if deadline is not None else (1.0 + (max_slowdown or 0.0)) * self.baseline.time
        if not limit >= float(self.time[0]) * (1 - NEAR):
            raise GoalError(
                f"an iteration of {show(limit, 's', 6)} cannot be reached: the fastest possible takes "
                f"{show(float(self.time[0]), 's', 6)}; allow at least that"
            )
        return limit

    def realize(
        self,
        deadline: float | None = None,
        max_slowdown: float | None = None,
        granularity: str | None = None,
        *,
        waits: bool = False,
        rounds: int | None = None,
    ) -> Realized:
        """Return a plan with one setting per computation that ends in time, at as little energy as found.

        Without a limit: no slower than maximum clocks, which is always possible. `waits`: the iteration lasts until the
        deadline whatever this pipeline does, so it may use all of it. `rounds` of search make the plan better: `MOVES`
        where left out, and 0 takes some tens of milliseconds.
        """
        limit = self.deadline(deadline, max_slowdown)
        frontier = self.whole if waits and limit > self.time[-1] else self.frontier
        limit = min(max(limit, float(self.time[0])), max(float(frontier.time[-1]), self._useful()))
        how = granularity or self.job.granularity
        if how != "microbatch" or waits:
            return self._told(self._pick(frontier, limit, how, MOVES if rounds is None else rounds), limit, how, waits)
        # A plan for less time is one for more: where it costs less, it is taken.
        known = [self._rung(k) for k in self._rungs if self._rung_limit(k) <= limit * (1 + NEAR)]
        if not any(abs(self._rung_limit(k) - limit) <= NEAR * limit for k in self._rungs):
            known.insert(0, self._pick(frontier, limit, how, MOVES if rounds is None else rounds))
        pick = min(known, key=self._cost)
        return self._told(pick, limit, granularity, waits)

    @property
    def _rungs(self) -> range:
        """Slowdowns of `LADDER` whose plans are known to every looser one; none on graphs too large for it."""
        return range(len(LADDER) if len(self.dag.nodes) <= LADDER_NODES else 0)

    def _rung_limit(self, k: int) -> float:
        return max((1.0 + LADDER[k]) * self.baseline.time, float(self.time[0]))

    def _rung(self, k: int) -> Ints:
        """Return the plan at slowdown `LADDER[k]`, no dearer than those before it."""
        if k not in self._known:
            limit = min(self._rung_limit(k), max(float(self.time[-1]), self._useful()))
            here = self._pick(self.frontier, limit, "microbatch", MOVES)
            self._known[k] = min([here, *([self._rung(k - 1)] if k else [])], key=self._cost)
        return self._known[k]

    @functools.cached_property
    def _known(self) -> dict[int, Ints]:
        return {}

    def _cost(self, pick: Ints) -> float:
        """Return joules above waiting plus waiting power until the plan ends."""
        return self.network.spent(pick) + self.job.power * self.network.starts(pick)[1]

    def _useful(self) -> float:
        """Maximum clocks, where even they are slower than the exact frontier's end."""
        return self.baseline.time if self.baseline.time > self.time[-1] else 0.0

    def _pick(self, frontier: GraphFrontier, limit: float, granularity: str, rounds: int = 0) -> Ints:
        if granularity not in GRANULARITIES:
            raise InputError(f"granularity {granularity!r} is not known; {nearest(granularity, GRANULARITIES)}")
        if granularity != "microbatch":
            return self.network.shared(granularity, limit)
        tables = [(o.time, o.energy) for o in self.options]
        if not self.job.switch_latency:
            plan = round_discrete(self.dag, frontier, tables, limit, rounds)
            picks = [self.network.first[self.dag.nodes] + plan.option]
            if self.baseline.time <= limit:
                picks.append(self.baseline.pick)
            return min(picks, key=self.network.spent)
        seeds = []
        for share in (0.0, 0.5, 1.0):
            aim = max(limit - share * self._changing(), float(frontier.time[0]))
            seeds.append(self.network.first[self.dag.nodes] + round_discrete(self.dag, frontier, tables, aim).option)
        for coarse in GRANULARITIES[1:]:
            seeds += self._tried(coarse, limit)
        return self.network.settle(frontier, seeds, limit)

    def _changing(self) -> float:
        """Seconds that changing clock before every computation of the longest row would take."""
        return self.job.switch_latency * float(np.bincount(self.graph.device[self.network.rows]).max())

    def _tried(self, granularity: str, limit: float) -> list[Ints]:
        try:
            return [self.network.shared(granularity, limit)]
        except GoalError:
            return []

    def _told(self, pick: Ints, limit: float, granularity: str | None, waits: bool = False) -> Realized:
        start, end = self.network.starts(pick)
        above = self.network.spent(pick)
        time = max(end, limit) if waits and np.isfinite(limit) else end
        frontier = self.whole if waits and time > self.time[-1] else self.frontier
        least = self.total(frontier.energy_at(max(time, float(frontier.time[0]))), time)
        return Realized(
            pick, start, self.network.time[pick], time, limit if np.isfinite(limit) else end, above,
            self.total(above, time), least, self.network.switches(pick), granularity or self.job.granularity,
        )  # fmt: skip

    def realized(self, points: int = 25, progress: Callable[[int], None] = lambda _: None) -> list[Realized]:
        """Return plans at deadlines spread evenly from no slowdown to least energy, none dearer than the one before."""
        begin = self.baseline.time
        end = max(begin, float(self.time[-1]))
        out: list[Realized] = []
        for limit in np.linspace(begin, end, points) if end > begin * (1 + NEAR) else [begin]:
            found = self.realize(float(limit), rounds=0)
            if out and out[-1].energy < found.energy:
                found = replace(out[-1], deadline=found.deadline)
            out.append(found)
            progress(1)
        return out

    def ladder(self) -> list[tuple[float, Realized]]:
        """Return (slowdown against maximum clocks, plan) for the slowdowns of `LADDER`."""
        return [(slow, self.realize(max_slowdown=slow)) for slow in LADDER]

    def granularities(self, deadline: float) -> dict[str, Realized]:
        """Return a plan per granularity, the freest first; a freer one never takes more energy. None met: left out."""
        out: dict[str, Realized] = {}
        best: Realized | None = None
        for name in reversed(GRANULARITIES):
            try:
                found = self.realize(deadline, granularity=name)
            except GoalError:
                continue
            if best is not None and best.above < found.above:
                found = replace(best, granularity=name)
            best = out[name] = found
        return dict(reversed(out.items()))

    def switch_once(self, deadline: float | None = None, max_slowdown: float | None = None) -> SwitchPlan:
        """Return the exact optimum, realised by at most one change of clock inside each computation."""
        limit = self.deadline(deadline, max_slowdown)
        corners = [o.corners for o in self.options]
        return round_switch_once(self.dag, self.frontier, corners, max(limit, float(self.time[0])))

    # ---- stragglers and power ---------------------------------------------------------------

    def at(self, straggler: float) -> Straggled:
        """Return what to do beside a pipeline that takes `straggler` seconds: slow down to it, at least energy.

        Read off the stored frontier, in less than a millisecond once `whole` has been solved.
        """
        frontier, power = self.whole, self.job.power
        base = self.network.spent(self.baseline.pick), self.baseline.time
        if not straggler >= frontier.time[0] * (1 - NEAR):
            raise GoalError(
                f"a straggler of {show(straggler, 's', 6)} is none: the fastest possible iteration takes "
                f"{show(float(frontier.time[0]), 's', 6)}"
            )
        finish = float(min(max(straggler, frontier.time[0]), frontier.time[-1]))
        above = float(np.interp(finish, frontier.time, frontier.energy))
        after = min(int(np.searchsorted(frontier.time, finish, side="right")), len(frontier.time) - 1)
        price = float(frontier.price[after]) if finish < frontier.time[-1] else 0.0
        lasts = max(straggler, base[1])
        return Straggled(straggler, finish, above + power * straggler, base[0] + power * lasts, price)

    def within(self, power: float, deadline: float | None = None) -> Realized:
        """Return the fastest plan found whose average power over all devices is at most `power` watts.

        Raises GoalError where no such plan is as fast as `deadline` seconds.
        """
        cap, least = power / self.job.replicas, self.job.power
        frontier = self.whole
        average = frontier.energy / frontier.time + least
        floor = float(average[-1])
        if cap <= least or not (average <= cap).any():
            raise GoalError(
                f"an average power of {show(power, 'W')} cannot be kept: the slowest clocks take "
                f"{show(floor * self.job.replicas, 'W', 4)}"
            )
        i = int(np.argmax(average <= cap))
        limit = float(frontier.time[i])
        if i:
            # On the straight line to the point before, energy e + s (t - t_i) meets the cap exactly.
            slope = (frontier.energy[i] - frontier.energy[i - 1]) / (frontier.time[i] - frontier.time[i - 1])
            limit = float((frontier.energy[i] - slope * frontier.time[i]) / (cap - least - slope))
        limit = max(limit, self.baseline.time if self.baseline.average_power <= power else float(self.time[0]))
        for _ in range(12):
            if deadline is not None and limit > deadline * (1 + NEAR):
                raise GoalError(
                    f"an average power of {show(power, 'W')} takes {show(limit, 's', 5)}, more than the "
                    f"{show(deadline, 's', 5)} allowed; raise the cap or allow more time"
                )
            found = self._capped(limit)
            if found.average_power <= power * (1 + NEAR):
                return found
            limit = max(limit * 1.0005, min(found.above / (cap - least), 1.01 * limit))
        raise GoalError(f"no plan found within an average power of {show(power, 'W')}; raise the cap by a little")

    def _capped(self, limit: float) -> Realized:
        pick = self._pick(self.whole, min(limit, float(self.whole.time[-1])), self.job.granularity)
        start, end = self.network.starts(pick)
        above = self.network.spent(pick)
        least = self.total(self.whole.energy_at(end), end)
        return Realized(
            pick, start, self.network.time[pick], end, limit, above, self.total(above, end), least,
            self.network.switches(pick), self.job.granularity,
        )  # fmt: skip

    # ---- telling it -------------------------------------------------------------------------

    def rows(self, plan: Realized) -> list[dict[str, Any]]:
        """Return who runs when and how: one row per computation, or per partition of it, by stage and start."""
        out = []
        for v in self.network.rows:
            kind = int(self.dag.nodes[v])
            chunk, what = self.graph.kinds[kind]
            at = int(plan.pick[v] - self.network.first[kind])
            start = float(plan.start[v])
            for knobs, seconds in zip(self.options[kind].knobs[at], self.options[kind].times[at], strict=True):
                row = {"stage": int(self.graph.device[v]), "chunk": chunk, "instruction": what}
                row |= {"microbatch": int(self.graph.microbatch[v]), "start_s": start, "time_s": float(seconds)}
                out.append({**row, **knobs})
                start += float(seconds)
        return out

    def switch_rows(self, plan: SwitchPlan) -> list[dict[str, Any]]:
        """Return the same for a plan that may change clock once inside a computation, at `switch_s` after its start."""
        out = []
        for v in self.network.rows:
            kind = int(self.dag.nodes[v])
            chunk, what = self.graph.kinds[kind]
            o = self.options[kind]
            fast, slow = int(o.hull[plan.fast[v]]), int(o.hull[plan.slow[v]])
            row = {
                "stage": int(self.graph.device[v]), "chunk": chunk, "instruction": what,
                "microbatch": int(self.graph.microbatch[v]), "start_s": float(plan.start[v]),
                "time_s": float(plan.duration[v]), "clock_hz": float(o.first[fast]),
            }  # fmt: skip
            if slow != fast and plan.share[v] < 1.0:
                row |= {"switch_s": float(plan.share[v] * o.time[fast]), "clock_after_hz": float(o.first[slow])}
            out.append(row)
        return out

    def breakdown(self, plan: Realized) -> dict[str, float]:
        """Return joules by component: computing (as profiled), waiting and static."""
        job, busy = self.job, float(plan.duration[self.network.rows].sum())
        waiting = job.waiting_power * (job.stages * plan.time - busy)
        parts = {"computing": plan.above + job.waiting_power * busy, "waiting": waiting}
        if job.static_power:
            parts["static"] = job.static_power * job.stages * plan.time
        return {name: job.replicas * joules for name, joules in parts.items()}

    def warnings(self) -> list[str]:
        """Return what in the profile should be looked at: rows whose energy is below waiting."""
        out = []
        for rows in self.job.profile.below_waiting(self.job.waiting_power):
            lines = ", ".join(map(str, rows.line[:8].tolist())) + (", ..." if len(rows.line) > 8 else "")
            out.append(
                f"{self.job.profile.name} line{'s' if len(rows.line) > 1 else ''} {lines}: {rows.name} takes less "
                f"energy than waiting as long at {show(self.job.waiting_power, 'W', 4)} would; check the waiting power"
            )
        return out

    def assumptions(self) -> list[str]:
        """Return every default and estimate used, one sentence each."""
        return [*_mapped(self.job), *_assumed(self.job)]


def plan_pipeline(job: PipelineJob) -> PipelinePlan:
    """Return the exact frontier of a job, ready to be asked for plans."""
    nodes, dag = job.network()
    choices = job.choices()
    transfer = len(nodes.kinds) - (nodes.kinds[-1] == TRANSFER)
    network = Network.of(nodes, dag, choices, transfer, job.switch_latency)
    return PipelinePlan(job, nodes, dag, choices, _solve(job, choices, job.power), network)


def _solve(job: PipelineJob, choices: Sequence[Options], price: float) -> GraphFrontier:
    hulls = [o.corners for o in choices]
    if job.order is not None or job.schedule not in REPEATING:
        return solve(job.network()[1], hulls, job.power, start_price=price)
    # Those repeat with every microbatch; the solver extends what repeats, where that is exact.
    base = max(4, 2 * job.stages)
    return solve_family(
        lambda count: job.network(count)[1], job.microbatches, hulls, job.power, start_price=price, base=base
    )


def _mapped(job: PipelineJob) -> list[str]:
    profile, mapping = job.profile, job.mapping
    if job.direct:
        return [f"the profile's {profile.stages} stages are the model chunks, {job.chunks // job.stages} per device"]
    out = []
    if job.stages != profile.stages:
        way = "picked evenly from" if job.stages < profile.stages else "repeated from"
        out.append(f"{job.stages} stages {way} the {profile.stages} profiled: {', '.join(map(str, mapping))}")
    if job.chunks > job.stages and job.schedule != "dualpipe":
        out.append(f"each stage's work is spread evenly over its {job.chunks // job.stages} model chunks")
    return out


def _assumed(job: PipelineJob) -> list[str]:
    out = []
    have, needs = (
        job.profile.instructions,
        {w for _, w in job.rows().instructions},
    )
    if job.split_backward is not None and BACKWARD_INPUT in needs and BACKWARD_INPUT not in have:
        out.append(
            f"the backward pass is split by an assumed share: {job.split_backward:.0%} for the input part, the rest "
            "for the weight part, at every clock"
        )
    unused = [w for w in have if w in (BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT) and w not in needs]
    if unused and not (BACKWARD in needs and BACKWARD not in have) and job.split_backward is None:
        out.append(f"the schedule runs no {' or '.join(unused)}; those rows are not used")
    if np.any(np.asarray(job.transfer_time)):
        out.append("a transfer delays who waits for it and takes no energy beyond what the profile holds")
    if job.switch_latency:
        out.append("while its clock changes a device draws its waiting power")
    if not job.static_power:
        out.append("no power beside the profiled devices' is counted (static power 0 W)")
    return out


def gaps(plans: Sequence[Realized]) -> Mapping[str, float]:
    """Return mean and largest gap to the bound."""
    values = np.array([p.gap for p in plans])
    return {"mean": float(values.mean()), "max": float(values.max())}
