"""Fleets drawn at random, and two ways to plan them that are slow and obviously right."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import strategies as st

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.hardware.redundancy import Group
from wattline.site.allocate import Fleet
from wattline.site.curves import Job


@st.composite
def fleets(draw: st.DrawFn, jobs: int = 5, tight: bool = True, serve: bool = True) -> Fleet:
    """Draw a tree of up to 7 parts with losses, perhaps a pool, and jobs with minima, maxima and pauses."""
    n = draw(st.integers(1, 7))
    parent = [-1, *(draw(st.integers(0, k - 1)) for k in range(1, n))]
    loss = [draw(st.sampled_from([0.0, 0.04, 0.5])) for _ in range(n)]
    names = [f"p{k}" for k in range(n)]
    made = []
    for j in range(draw(st.integers(1, jobs))):
        m = draw(st.integers(1, 4))
        time = np.cumsum([draw(st.floats(0.1, 3)) for _ in range(m)])
        energy = [draw(st.floats(0.1, 100)) for _ in range(m)]
        frontier = Frontier.of(time, energy, waiting_power=draw(st.sampled_from([0.0, 1.0, 10.0])))
        fastest = 1 / frontier.time[0]
        share = draw(st.sampled_from([0.0, 0.0, 0.3, 0.8])) if serve else 0.0
        most = draw(st.sampled_from([math.inf, math.inf, 0.9])) if serve else math.inf
        made.append(
            Job(
                f"j{j}", frontier, draw(st.sampled_from(names)), draw(st.sampled_from([0.0, 1.0, 1.0, 2.5])),
                minimum=share * fastest, maximum=most * fastest,
                paused=draw(st.sampled_from([None, 0.0, 1.0])),
            )
        )  # fmt: skip
    siblings = [k for k in range(n) if parent.count(parent[k]) > 1 and parent[k] >= 0]
    free = PowerTree.of(names, parent, 1e9, loss=loss)
    loads = Fleet(free, made)
    idle = free.flows(loads.load(loads.points.idle))
    least = free.flows(loads.load(loads.read("discrete").curves.least))
    room = [draw(st.floats(0, 60)) if tight else 1e6 for _ in range(n)]
    tree = PowerTree.of(names, parent, np.maximum(idle, least) + room, loss=loss)
    if siblings and draw(st.booleans()):
        members = tuple(names[k] for k in siblings if parent[k] == parent[siblings[0]])
        try:
            tree = PowerTree.of(names, parent, tree.limit, loss=loss, groups=[Group("pool", members, 1, "free")])
            fleet = Fleet(tree, made)
            fleet._room(fleet.read("discrete").least)
            return fleet
        except Exception:  # the pool is too small for what must run: leave it out
            tree = PowerTree.of(names, parent, tree.limit, loss=loss)
    return Fleet(tree, made)


def choices(job: Job) -> list[tuple[float, float]]:
    """Return every (W, units/s) of one setting that meets the job's minimum."""
    out = []
    if job.paused is not None and job.minimum == 0:
        out.append((job.paused, 0.0))
    for t, e in zip(job.frontier.time, job.frontier.energy, strict=True):
        if 1 / t >= job.minimum * (1 - 1e-12):
            rate = min(1 / t, job.maximum)
            out.append((job.frontier.waiting_power + e * rate, rate))
    return out


def brute(fleet: Fleet, target: float | None = None) -> float:
    """Return the best value (or, with a target, the least feed power) over every combination of settings."""
    best = -math.inf if target is None else math.inf
    for combination in itertools.product(*(choices(job) for job in fleet.jobs)):
        power = np.array([p for p, _ in combination])
        value = sum(job.weight * r for job, (_, r) in zip(fleet.jobs, combination, strict=True))
        load = np.zeros(len(fleet.tree))
        for job, p in zip(fleet.jobs, power, strict=True):
            load[fleet.tree.index(job.at)] += p
        if (fleet.tree.headroom(load) < -1e-9 * fleet.tree.row_limit).any():
            continue
        if target is None:
            best = max(best, value)
        elif value >= target:
            best = min(best, float(fleet.tree.flows(load)[fleet.tree.root]))
    return best


def linear_program(fleet: Fleet, target: float | None = None):
    """Return (objective, price per constraint) by HiGHS, with one share per setting of every job."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    tree, power, rate, job = fleet.tree, [], [], []
    for j, one in enumerate(fleet.jobs):
        points = [] if one.paused is None else [(one.paused, 0.0)]
        for t, e in zip(one.frontier.time, one.frontier.energy, strict=True):
            r = min(1 / t, one.maximum)
            points.append((one.frontier.waiting_power + e * r, r))
        power += [p for p, _ in points]
        rate += [r for _, r in points]
        job += [j] * len(points)
    power, rate, job = np.array(power), np.array(rate), np.array(job)
    value = fleet.points.weight[job] * rate
    none = tree.row_flows(0.0)
    columns = np.zeros((len(none), len(job)))
    for v in set(fleet.place.tolist()):
        one = np.zeros(len(tree))
        one[v] = 1.0
        here = fleet.place[job] == v
        columns[:, here] = np.outer(tree.row_flows(one) - none, power[here])
    minimum = csr_matrix((-rate, (job, np.arange(len(job)))), shape=(len(fleet.jobs), len(job)))
    a = np.vstack([columns, minimum.toarray()])
    b = np.concatenate([tree.row_limit - none, -fleet.points.minimum])
    c = -value
    if target is not None:
        a, b, c = np.vstack([a, -value]), np.append(b, -target), columns[tree.root]
    one_each = csr_matrix((np.ones(len(job)), (job, np.arange(len(job)))), shape=(len(fleet.jobs), len(job)))
    found = linprog(c, a, b, one_each, np.ones(len(fleet.jobs)), method="highs")
    assert found.status == 0, found.message
    prices = -found.ineqlin.marginals[: len(none)]
    return (-found.fun, prices) if target is None else (found.fun + none[tree.root], prices)
