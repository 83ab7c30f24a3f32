"""The arrays of the site simulator, made from a site: what does not change, what does, and what is counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ._site import chance
from ._site_state import LIMIT, Live, Plant, Tally

if TYPE_CHECKING:
    from .model import Crew, Site

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


def plant(site: Site, seed: int, steps: int) -> Plant:
    """Return what does not change during a run; arrivals and sizes of tasks are drawn here."""
    tree, y, crews, c = site.tree, site.physics, site.crews, site.curves
    dt = y.step
    rows = [slice(int(b), int(b + n)) for b, n in zip(c.begin, c.count, strict=True)]
    top = np.array([c.power[r][-1] for r in rows])
    arrive, size, tasks = _tasks(crews, seed, steps, dt)
    factor = 1.0 + tree.loss
    pools = [[tree.index(name) for name in group.members] for group in tree.pools]
    share = tree.overhead.at(tree.outdoor)
    whole = tree.flows(site.load(site.top))[tree.root] / (1.0 + share)
    return Plant(
        place=site.place, group=site.group, gang=site.gang, first=site.first,
        curve=np.concatenate([[0], np.cumsum(c.count)]).astype(np.int64),
        power=np.concatenate([c.power[r] for r in rows]), work=np.concatenate([c.work[r] for r in rows]),
        idle=site.idle_of_crew, weight=np.array([crew.weight for crew in crews]),
        load=np.array([crew.load for crew in crews]), swing=np.array([crew.swing for crew in crews]),
        quiet=np.array([crew.quiet for crew in crews]),
        leave=np.array([_leaving(crew, dt) for crew in crews]),
        heat=y.rise / top, tasks=tasks, arrive=arrive, size=size,
        parent=tree.parent, order=np.argsort(-tree.level, kind="stable"), factor=factor, standing=tree.standing,
        rating=tree.limit * y.margin,
        pool=np.concatenate([[0], np.cumsum([len(pool) for pool in pools])]).astype(np.int64),
        member=np.array([m for pool in pools for m in pool], np.int64),
        dt=dt, seed=seed, fixed=tree.overhead.fixed, share=share,
        cooled=1.0 - math.exp(-dt / y.cooling) if y.cooling > 0 else 1.0, warmed=1.0 - math.exp(-dt / y.warming),
        supply=y.supply, room=y.room / whole, hottest=y.hottest,
        failing=y.failing / dt, repair=y.repair / dt, restart=y.restart / dt, rework=y.rework,
        slowing=y.slowing / dt, slowed=y.slowed / dt, pace=y.pace,
        k=y.breaker.k, alpha=y.breaker.alpha, reset=y.breaker.reset, reclose=y.reclose / dt,
        knee=np.log([r for r, _ in y.breaker.table]), hold=np.log([t for _, t in y.breaker.table]),
    )  # fmt: skip


def _leaving(crew: Crew, dt: float) -> list[float]:
    """Return the chances of being in the other phase after a step, from the loud and from the quiet one.

    Of a process in continuous time, so that shares of time are right whatever the step.
    """
    if crew.lasts is None:
        return [0.0, 0.0]
    loud, quiet = crew.lasts
    moved = -math.expm1(-dt * (1 / loud + 1 / quiet)) / (loud + quiet)
    return [quiet * moved, loud * moved]


def _tasks(crews: tuple[Crew, ...], seed: int, steps: int, dt: float) -> tuple[Ints, Array, Ints]:
    """Return step and size of every task, by crew, and where each crew's begin: Poisson arrivals, exponential sizes."""
    arrive: list[Ints] = []
    size: list[Array] = []
    for number, crew in enumerate(crews):
        draw = np.random.default_rng([seed, number])
        if crew.tasks is not None:  # of a trace: when they came and how long they were, not drawn
            at, lasts = crew.tasks
            inside = np.flatnonzero(at < steps * dt)
            inside = inside if len(inside) else np.arange(min(1, len(at)))
            order = inside[np.argsort(at[inside], kind="stable")]
            arrive.append(np.minimum(np.maximum(at[order], 0.0) // dt, steps - 1).astype(np.int64))
            size.append(lasts[order])
            continue
        count = int(draw.poisson(crew.arrivals * steps * dt)) if crew.arrivals > 0 else 0
        if crew.arrivals > 0:
            count = max(count, 1)  # a crew with tasks keeps waiting for them
        arrive.append(np.sort(draw.integers(0, steps, count)))
        size.append(draw.exponential(crew.stay, count) if crew.stay > 0 else np.zeros(count))
    tasks = np.concatenate([[0], np.cumsum([len(x) for x in arrive])]).astype(np.int64)
    return np.concatenate(arrive).astype(np.int64), np.concatenate(size).astype(float), tasks


def live(site: Site, p: Plant) -> Live:
    """Return the state at the start: all nodes up and in their first phase, uncapped, warm as they would be at idle."""
    n, parts, crews = len(site.place), len(site.tree), len(site.crews)
    gangs = int(site.gang.max()) + 1
    zeros, whole = np.zeros, np.int64
    draws = np.zeros(n, whole)
    first = [math.inf] * n
    slow = [math.inf] * n
    if p.failing < math.inf:
        first = [-p.failing * math.log(chance(p.seed, i, 1)) for i in range(n)]
    if p.slowing < math.inf:
        slow = [-p.slowing * math.log(chance(p.seed, i, 2)) for i in range(n)]
    draws[:] = 2
    free = np.zeros(n, whole)
    count, listed = np.zeros(crews, whole), np.zeros(n, whole)
    for g in range(crews):
        if p.tasks[g + 1] > p.tasks[g]:
            # The first node is handed out first.
            free[p.first[g] : p.first[g + 1]] = np.arange(p.first[g], p.first[g + 1])[::-1]
            count[g] = p.first[g + 1] - p.first[g]
            listed[p.first[g] : p.first[g + 1]] = 1
    idle = p.idle[p.group]
    return Live(
        cap=np.full(n, np.inf), state=zeros(n, whole), back=zeros(n), fail=np.array(first), turn=np.array(slow),
        pace=np.ones(n), phase=_phases(site, p), beat=zeros(max(gangs, 0), whole), slowest=np.ones(max(gangs, 0)),
        task=np.full(n, -1, whole), left=p.size.copy(), again=zeros(n, whole), again_count=zeros(crews, whole),
        free=free, free_count=count, listed=listed, first=p.tasks[:-1], head=p.tasks[:-1].copy(), draws=draws,
        allowed=np.ones(n),
        power=idle.copy(), temperature=p.supply + p.heat[p.group] * idle, below=zeros(parts), flow=zeros(parts),
        load=zeros(parts), off=zeros(parts), heat=zeros(parts), removed=np.array([_settled(site)]), asked=zeros(crews),
    )  # fmt: skip


def _phases(site: Site, p: Plant) -> Ints:
    """Return phases drawn by how long each lasts."""
    lasts = np.array([(1.0, 0.0) if crew.lasts is None else crew.lasts for crew in site.crews])
    quiet = (lasts[:, 1] / lasts.sum(axis=1))[site.group]
    draws = np.array([chance(p.seed, i, 3 << 40) for i in range(len(site.place))])
    return np.where(draws < quiet, 1, 0).astype(np.int64)


def _settled(site: Site) -> float:
    """Return the heat that cooling takes at the start: of everything at full speed, within the feed's limit."""
    tree = site.tree
    share = tree.overhead.at(tree.outdoor)
    feed = min(float(tree.flows(site.load(site.top))[tree.root]), float(tree.capacity[tree.root]))
    return max(0.0, (feed - tree.overhead.fixed) / (1.0 + float(tree.loss[tree.root]) + share))


def tally(site: Site, steps: int, every: int, traced: int) -> Tally:
    """Return counters at zero."""
    parts, rows, crews = len(site.tree), len(site.tree.row_limit), len(site.crews)
    bins = -(-steps // every)
    history = np.zeros((bins, 6))
    history[:, LIMIT] = np.inf
    return Tally(
        done=np.zeros(crews), wanted=np.zeros(crews), lost=np.zeros((crews, 4)), joules=np.zeros(crews),
        over=np.zeros((rows, 3)), trips=np.zeros(parts, np.int64), events=np.zeros(5, np.int64), waited=np.zeros(2),
        feed=np.zeros(2), history=history, every=every,
        flows=np.zeros((traced, parts)), loads=np.zeros((traced, parts)),
    )  # fmt: skip
