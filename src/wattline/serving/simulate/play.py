"""A fleet of replicas serves a trace of requests: who waits how long, and where every joule goes.

    requests --route--> replicas of a pool --steps (table.py, _core.py)--> tokens, joules
    policy: knobs at the start, and anew at each of its looks

With a pool for prefill and one for decode, requests pass from the first to the second, their cache over a link.
Joules of requests, of idling, of starting and of transfers are counted apart and add up to the integral of power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...core.errors import CapacityError, InputError
from ...source.base import Array
from ...workload.memory import sequence_bytes
from ...workload.traffic import Requests
from ..governor import Seen
from . import _core
from . import table as tables
from ._state import OFF, ON, STARTING, TRANSFER, Live, Out, Prices, Rules, Work
from ._state import Knobs as CoreKnobs
from .outcome import GAPS, Limits, Run
from .policies import FixedClock, Knobs, Policy, PoolView, View
from .pool import ROUTES, SCHEDULERS, Fleet, Link, Pool, Route
from .served import Served
from .table import widened

Ints = NDArray[np.int64]

# Bins of power over time that a run starts with; they double in width where the run outlasts them.
_BINS: Final = 2048


def simulate(
    requests: Requests, fleet: Fleet, policy: Policy | None = None, *, limits: Limits | None = None, seed: int = 0
) -> Run:
    """Serve `requests` and return what came of it; the same arguments give the same bytes.

    `policy`: clocks, batches and replicas over time; the highest clock and all replicas where None.

    Raises
    ------
    CapacityError : a request that fits no replica's cache, or is longer than any replica takes.
    """
    policy = FixedClock() if policy is None else policy
    limits = limits or Limits()
    first = [pool for pool in fleet.pools if pool.role != "decode"]
    second = [pool for pool in fleet.pools if pool.role == "decode"]
    one = _Stage(first, fleet.route, requests, policy, limits, seed, prefill_only=bool(second))
    one.check()
    stages = [one]
    if second:
        _Stage(second, fleet.route, requests, policy, limits, seed, prefill_only=False).check()
    one.run()
    moved = _Moved()
    if second:
        assert fleet.link is not None
        moved = _transfer(one, fleet.link)
        two = _Stage(second, fleet.route, requests, policy, limits, seed, prefill_only=False, after=(one, moved))
        two.run()
        stages.append(two)
    end = max(stage.end for stage in stages)
    for stage in stages:
        stage.close(end)
    return _result(requests, fleet, policy, limits, seed, stages, moved, end)


# ---- one stage: pools that requests meet at once -------------------------------------------------


@dataclass(frozen=True)
class _Moved:
    """Caches on their way: request, when they arrive, joules."""

    request: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    ready: Array = field(default_factory=lambda: np.zeros(0))
    joules: Array = field(default_factory=lambda: np.zeros(0))


class _Stage:
    """The arrays of the compiled core for some pools, and the loop that lets a policy look at them."""

    def __init__(
        self, pools: Sequence[Pool], route: Route, requests: Requests, policy: Policy, limits: Limits, seed: int, *,
        prefill_only: bool, after: tuple[_Stage, _Moved] | None = None,
    ) -> None:  # fmt: skip
        self.pools, self.policy, self.limits = list(pools), policy, limits
        self.requests = requests
        self.index = np.arange(len(requests)) if after is None else after[1].request
        self.context = float(requests.prompt.mean() + requests.output.mean() / 2.0)
        self.names = tuple(sorted({name for pool in pools for name in pool.table.parts}))
        self.prices = self._prices()
        self.rules = self._rules(route, seed, prefill_only)
        self.work = self._work(None if after is None else after[1])
        self.knobs = self._knobs()
        self.live = self._live()
        self.out = self._out(after)
        # Made ready once for the many calls of `run`: all their arrays are only ever written into.
        pack = _core.kernel.pack
        self.packed = (
            pack(self.prices), pack(self.rules), pack(self.work), pack(self.knobs), pack(self.live), pack(self.out)
        )  # fmt: skip
        self.end = 0.0
        self.served: Served | None = None  # what a policy that looks is told

    def check(self) -> None:
        """Refuse requests that no replica could ever finish."""
        tokens = self.requests.prompt + self.requests.output
        rules = self.rules
        fits = np.zeros(len(tokens), bool)
        for k, pool in enumerate(self.pools):
            whole = np.where(rules.prefill_only, self.requests.prompt, tokens + pool.table.verified)
            blocks = -(-whole // rules.block[k]) + rules.reserve[k]
            fits |= (blocks <= rules.blocks[k]) & (tokens <= rules.longest[k])
        if fits.all():
            return
        i = int(np.flatnonzero(~fits)[0])
        most = max(int((b - r) * size) for b, r, size in zip(rules.blocks, rules.reserve, rules.block, strict=True))
        allowed = int(rules.longest.max())
        said = f"request {i + 1} has {self.requests.prompt[i]:,} prompt and {self.requests.output[i]:,} output tokens"
        if tokens[i] > allowed:
            raise CapacityError(f"{said}, and the context holds {allowed:,}; allow more, or drop such requests")
        raise CapacityError(
            f"{said}, and the KV cache of a replica holds {max(most, 0):,} tokens; use more devices per replica "
            "(serve.tensor), a narrower serve.kv_precision, or more of the memory (serve.memory)"
        )

    # ---- arrays
    def _prices(self) -> Prices:
        made = [widened(pool.table, self.names) for pool in self.pools]
        if len({len(t.clocks) for t in made}) > 1:
            raise InputError("pools must have as many clock levels each")
        cells, start, nodes, axis = [], [], [], []
        rows = count = 0
        for t in made:
            begin, ends = [], []
            for piece in (t.layers, t.head, t.decode, t.prefill):
                begin.append(rows)
                flat = piece.reshape(-1, *piece.shape[-2:])
                cells.append(flat)
                rows += len(flat)
            for line in (t.batch, t.context, t.prompt, t.reach):
                ends.append((count, len(line)))
                nodes.append(line)
                count += len(line)
            start.append(begin)
            axis.append(ends)
        scalar = [
            (
                t.exponent if t.replica.ahead(t.device) else 0.0, t.waiting, t.limit, t.replica.captured(t.device),
                t.replica.groups, t.verified, pool.accepted,
            )
            for t, pool in zip(made, self.pools, strict=True)
        ]  # fmt: skip
        return Prices(
            np.ascontiguousarray(np.concatenate(cells)), np.array(start, np.int64), np.concatenate(nodes),
            np.array(axis, np.int64), np.array([t.host for t in made]), np.array(scalar, np.float64),
            tables.EACH, tables.TILE, tables.FINE, tables.COARSE,
        )  # fmt: skip

    def _rules(self, route: Route, seed: int, prefill_only: bool) -> Rules:
        pools = self.pools
        cache = [pool.cache(self.context) for pool in pools]

        def ints(values: Sequence[float]) -> Ints:
            return np.array(values, np.int64)

        return Rules(
            pool=np.repeat(np.arange(len(pools)), [pool.replicas for pool in pools]),
            chunk=ints([pool.table.replica.chunk for pool in pools]),
            batch=ints([pool.max_batch for pool in pools]),
            block=ints([size for _, _, size in cache]),
            blocks=ints([blocks for blocks, _, _ in cache]),
            reserve=ints([reserve for _, reserve, _ in cache]),
            longest=ints([pool.longest or 1 << 40 for pool in pools]),
            scheduler=ints([SCHEDULERS.index(pool.scheduler) for pool in pools]),
            offload=np.array([pool.offload for pool in pools], np.float64),
            idle=np.array([pool.idle_power for pool in pools]),
            off=np.array([pool.off_power for pool in pools], np.float64),
            start_time=np.array([pool.start_time for pool in pools], np.float64),
            start_power=np.array([pool.start_power for pool in pools], np.float64),
            route=ROUTES.index(route),
            seed=seed,
            prefill_only=prefill_only,
            page=self.requests.page,
            patience=self.requests.patience,
        )

    def _work(self, moved: _Moved | None) -> Work:
        r, i = self.requests, self.index
        counts = np.diff(r.first)[i]
        first = np.concatenate([[0], np.cumsum(counts)])
        pages = np.concatenate([r.pages[r.first[k] : r.first[k + 1]] for k in i]) if r.page and len(i) else r.pages
        return Work(
            arrival=np.ascontiguousarray(r.arrival[i] if moved is None else moved.ready),
            prompt=np.ascontiguousarray(r.prompt[i]),
            output=np.ascontiguousarray(r.output[i]),
            brought=np.zeros(len(i), np.int64) if moved is None else r.prompt[i].copy(),
            first=first.astype(np.int64),
            page=np.ascontiguousarray(pages),
            urgency=np.ascontiguousarray(r.urgency[i]),
        )

    def _knobs(self) -> CoreKnobs:
        n = len(self.rules.pool)
        knobs = CoreKnobs(np.zeros(n), np.zeros(n), np.zeros(n, np.int64))
        for k, pool in enumerate(self.pools):
            self._set(knobs, k, self.policy.start(self._view(k, pool)))
        return knobs

    def _view(self, k: int, pool: Pool) -> PoolView:
        return PoolView(
            pool=k, table=pool.table, replicas=pool.replicas, max_batch=pool.max_batch, role=pool.role,
            limits=self.limits, context=self.context, prompt=float(self.requests.prompt.mean()),
            start_time=float(pool.start_time),
        )  # fmt: skip

    def _set(self, knobs: CoreKnobs, k: int, asked: Knobs) -> None:
        mine = self.rules.pool == k
        table = self.pools[k].table
        top = float(table.clocks[-1])
        knobs.mixed[mine] = table.level(asked.prefill_clock or top)
        knobs.alone[mine] = table.level(asked.decode_clock or top)
        knobs.cap[mine] = min(asked.max_batch or self.pools[k].max_batch, self.pools[k].max_batch)

    def _live(self) -> Live:
        n = len(self.rules.pool)
        slots = max(pool.max_batch for pool in self.pools)

        def ints(*shape: int) -> Ints:
            return np.zeros(shape, np.int64)

        state = np.full(n, ON, np.int64)
        for k, pool in enumerate(self.pools):
            mine = np.flatnonzero(self.rules.pool == k)
            state[mine[pool.replicas if pool.on is None else max(pool.on, 1) :]] = OFF
        pages = int(self.work.page.max()) + 1 if self.rules.page and len(self.work.page) else 0
        return Live(
            state=state, since=np.zeros(n), ends=np.full(n, np.inf), ready=np.zeros(n), woken=np.zeros(n),
            running=ints(n), used=ints(n), head=ints(n), tail=ints(n), queued=ints(n), slot=ints(n, slots),
            have=ints(n, slots), goal=ints(n, slots), held=ints(n, slots), take=ints(n, slots), turn=ints(n, slots),
            swap=np.zeros(n), ratio=np.full(n, _core.RATIO), popped=ints(n),
            pushed=self.rules.blocks[self.rules.pool].copy(), kept=ints(n, pages),
            cursor=ints(2), busy=np.zeros(n), steps=ints(n), tokens=ints(n), arrived=ints(n),
        )  # fmt: skip

    def _out(self, after: tuple[_Stage, _Moved] | None) -> Out:
        n, replicas, levels = len(self.index), len(self.rules.pool), self.prices.cells.shape[1]

        def never() -> Array:
            return np.full(n, -1.0)

        power = np.zeros((_BINS, 5)), np.full(1, max(float(self.requests.arrival[-1]) * 1.05, 1.0) / _BINS)
        first, generated = never(), np.zeros(n, np.int64)
        last = never()
        if after is not None:
            before = after[0].out
            first, last, power = (
                before.first[self.index].copy(),
                before.last[self.index].copy(),
                (before.power, before.width),
            )
            generated[:] = 1
        return Out(
            replica=np.full(n, -1, np.int64), begun=never(), first=first, last=last, end=never(), generated=generated,
            preempted=np.zeros(n, np.int64), cached=np.zeros(n, np.int64), gone=np.zeros(n, np.int64),
            prefill=np.zeros(n), decode=np.zeros(n),
            next=np.full(n, -1, np.int64), parts=np.zeros((len(self.pools), len(self.names) + 1)),
            idle=np.zeros(replicas), cold=np.zeros(replicas), awake=np.zeros(replicas),
            steps=np.zeros(replicas, np.int64), busy=np.zeros(replicas), gaps=np.zeros(GAPS),
            power=power[0], width=power[1], recomputed=np.zeros(1), levels=np.zeros((len(self.pools), levels)),
        )  # fmt: skip

    # ---- time
    def run(self) -> None:
        """Serve every request; between its looks the policy's knobs hold."""
        interval = self.policy.interval
        if interval is not None and interval <= 0:
            raise InputError(f"a policy looks every so many seconds, or never (None), got interval = {interval:g}")
        t = 0.0
        while interval is not None and not self._done():
            t += interval
            self._until(t)
            for delay, k, asked in [] if self._done() else self._look(t, interval):
                if delay >= interval:
                    raise InputError(
                        f"a policy's delay must be shorter than its interval, {interval:g} s, got {delay:g}"
                    )
                self._until(t + delay)
                self._set(self.knobs, k, asked)
        self._until(np.inf)
        if (self.out.end < 0).any():
            i = int(np.flatnonzero(self.out.end < 0)[0])
            raise InputError(
                f"request {self.index[i] + 1} was never served: no replica was awake, or its cache is too small"
            )
        self.end = max(float(self.out.end.max(initial=0.0)), float(self.requests.arrival[-1]))

    def _done(self) -> bool:
        return bool(self.live.cursor[0] >= len(self.index)) and not (self.live.running + self.live.queued).any()

    def _until(self, t: float) -> None:
        lost = _core.run(*self.packed, t)
        if lost >= 0:
            raise CapacityError(f"request {self.index[lost] + 1} finds no replica awake that takes its length")

    def _look(self, t: float, interval: float) -> list[tuple[float, int, Knobs]]:
        """Show the policy every pool; return s until what it asks is in force, and that by pool."""
        live, asked = self.live, []
        if self.served is None:
            self.served = Served(self.work, self.out, self.rules, self.pools, self.limits)
        served = self.served.since(int(live.cursor[0]), interval)
        for k, pool in enumerate(self.pools):
            mine = self.rules.pool == k
            awake = mine & (live.state != OFF)
            running, queued = int(live.running[mine].sum()), int(live.queued[mine].sum())
            seen = View(
                time=t, interval=interval, pool=self._view(k, pool),
                awake=int(((live.state == ON) | (live.state == STARTING))[mine].sum()),
                running=running, queued=queued,
                arrived=int(live.arrived[mine].sum()), tokens=int(live.tokens[mine].sum()),
                steps=int(live.steps[mine].sum()), busy=float(live.busy[mine].sum()), on=int(awake.sum()),
                served=Seen(running=running, waiting=queued, **served[k]),
            )  # fmt: skip
            knobs = self.policy.look(seen)
            if knobs is None:
                continue
            asked.append((knobs.delay, k, knobs))
            if knobs.replicas is not None:
                target = min(max(knobs.replicas, 1), pool.replicas)
                _core.scale(self.rules, live, self.out, k, target, t)
        for counter in (live.busy, live.steps, live.tokens, live.arrived):
            counter[:] = 0
        return sorted(asked, key=lambda one: one[:2])

    def close(self, end: float) -> None:
        """Count what replicas draw until the whole run ends."""
        _core.close(self.rules, self.live, self.out, end)


def _transfer(stage: _Stage, link: Link) -> _Moved:
    """Send the caches of requests that want more than one token, in order of arrival there."""
    more = np.flatnonzero((stage.requests.output > 1) & (stage.out.gone == 0))
    pool = stage.rules.pool[stage.out.replica[more]]
    done, size = stage.out.end[more], np.zeros(len(more))
    for k, made in enumerate(stage.pools):
        r = made.table.replica
        devices = r.parallel.devices / r.parallel.data  # each group holds its own requests
        mine = np.flatnonzero(pool == k)
        prompts = stage.requests.prompt[more[mine]]
        lengths, back = np.unique(prompts, return_inverse=True)
        held = [devices * sequence_bytes(r.model, r.parallel, float(x), r.precision.kv) for x in lengths]
        size[mine] = np.array(held)[back] if len(mine) else 0.0
    ready = done + link.latency + size / link.bandwidth
    order = np.lexsort((more, ready))
    moved = _Moved(more[order], ready[order], (link.energy * size)[order])
    for a, b, joules in zip(done[order], moved.ready, moved.joules, strict=True):
        _core.spread(stage.packed[-1], a, b, joules, TRANSFER)
    return moved


def _result(
    requests: Requests, fleet: Fleet, policy: Policy, limits: Limits, seed: int, stages: list[_Stage], moved: _Moved,
    end: float,
) -> Run:  # fmt: skip
    one, last = stages[0], stages[-1]
    n = len(requests)
    finish, decode, prefill = one.out.end.copy(), one.out.decode.copy(), one.out.prefill.copy()
    transfer, preempted = np.zeros(n), one.out.preempted.copy()
    replica, cached = one.out.replica.copy(), one.out.cached.copy()
    if last is not one:
        i = last.index
        finish[i] = last.out.end
        decode[i] += last.out.decode
        prefill[i] += last.out.prefill
        preempted[i] += last.out.preempted
        replica[i] = last.out.replica + len(one.rules.pool)
        transfer[i] = moved.joules
    parts: dict[str, float] = {}
    for stage in stages:
        for name, joules in zip((*stage.names, "waiting"), stage.out.parts.sum(axis=0), strict=True):
            parts[name] = parts.get(name, 0.0) + float(joules)
    power, width = last.out.power, float(last.out.width[0])
    used = min(max(math.ceil(end / width), 1), len(power))
    replicas = [np.bincount(s.rules.pool, minlength=len(s.pools)) for s in stages]
    table = fleet.pools[0].table
    return Run(
        arrival=requests.arrival, prompt=requests.prompt,
        output=np.where(one.out.gone > 0, 0, requests.output), gone=one.out.gone > 0,
        urgency=requests.urgency, replica=replica, begun=one.out.begun,
        first=one.out.first, end=finish, cached=cached, preempted=preempted, prefill_j=prefill, decode_j=decode,
        transfer_j=transfer, idle_j=float(sum(s.out.idle.sum() for s in stages)),
        cold_j=float(sum(s.out.cold.sum() for s in stages)),
        recomputed_j=float(sum(s.out.recomputed[0] for s in stages)), parts_j=parts,
        gaps=np.sum([s.out.gaps for s in stages], axis=0), duration=end, bin=width, power=power[:used] / width,
        steps=int(sum(s.out.steps.sum() for s in stages)), busy_s=float(sum(s.out.busy.sum() for s in stages)),
        awake_s=float(sum(s.out.awake.sum() for s in stages)),
        awake_by_pool=tuple(
            float(s.out.awake[s.rules.pool == k].sum()) for s in stages for k in range(len(s.pools))
        ),
        replicas=int(sum(r.sum() for r in replicas)), clocks=table.clocks,
        clock_s=np.sum([s.out.levels.sum(axis=0) for s in stages], axis=0),
        policy=policy.name, limits=limits, seed=seed, provenance=table.provenance, source=table.source,
        uncertainty=table.uncertainty, time_uncertainty=table.time_uncertainty,
        outside=np.asarray(table.outside[0] + table.outside[1] * (requests.prompt - cached), dtype=np.float64),
    )  # fmt: skip
