"""Tests for `training._choices`: C gives what the plain Python gives, to the last bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from wattline.core import kernels
from wattline.frontier.graph import Dag
from wattline.training import _choices
from wattline.training.choices import _grouped


def case(seed, latency):
    """A random graph of devices' rows and precedences, with tables of settings."""
    random = np.random.default_rng(seed)
    kinds, clocks, devices, each = 5, 4, 3, 7
    n = devices * each
    kind = random.integers(0, kinds, n)
    edges = np.array([(a, b) for a in range(n) for b in range(a + 1, n) if random.random() < 0.1]).reshape(-1, 2)
    dag = Dag(kind, edges)
    first = np.r_[0, np.cumsum(random.integers(2, 6, kinds))]
    time = np.concatenate([np.sort(random.random(k)) for k in np.diff(first)])
    energy = random.random(first[-1])
    enter, leave = random.integers(0, clocks, (2, first[-1]))
    rows = np.array([v for d in range(devices) for v in range(d, n, devices)])
    row, following = np.full(n, -1), np.full(n, -1)
    for a, b in pairwise(rows):
        if b > a:
            row[b], following[a] = a, b
    back, ahead = _grouped(n, dag.edges[:, ::-1]), _grouped(n, dag.edges)
    ends = np.arange(1, devices + 1) * each
    pick = first[kind] + random.integers(0, np.diff(first)[kind])
    return locals() | {"latency": latency}


def everything(c):
    """Answer of each kernel for a case."""
    order, time, energy = c["dag"].order, c["time"], c["energy"]
    start, rest = np.zeros(c["n"]), np.zeros(c["n"])
    graph = order, *c["back"], c["row"]
    back = order[::-1].copy(), *c["ahead"], c["following"]
    end = _choices.reach(*graph, c["pick"], time, c["enter"], c["leave"], c["latency"], start)
    _choices.reach(*back, c["pick"], time, c["leave"], c["enter"], c["latency"], rest)
    slowed = c["pick"].copy()
    changed = _choices.slow(
        *graph, *c["ahead"], c["following"], c["kind"], rest, 1.2 * end, 0.1, c["latency"], slowed,
        c["first"], time, energy, c["enter"], c["leave"],
    )  # fmt: skip
    price = np.linspace(0.0, 2.0, c["n"])
    steady = _choices.steady(
        c["rows"], c["ends"], c["kind"], price, c["latency"], c["first"], time, energy, c["enter"], c["leave"],
        c["clocks"],
    )  # fmt: skip
    sizes = np.diff(c["first"])
    of = np.full((c["kinds"], sizes.max()), -1)
    cost, work = np.full(of.shape, np.inf), np.full(of.shape, np.inf)
    for k, size in enumerate(sizes):
        of[k, :size] = np.arange(c["first"][k], c["first"][k + 1])
        cost[k, :size], work[k, :size] = energy[of[k, :size]], time[of[k, :size]]
    found = []
    for way in range(3):
        choice = np.zeros(c["kinds"], np.int64)
        joules = _choices.together(
            choice, of, np.arange(c["kinds"]), cost, work, c["kind"], *graph, time, c["enter"], c["leave"],
            c["latency"], 1.4 * end, way, 3, 200,
        )  # fmt: skip
        found += [joules, *choice.tolist()]
    return [end, changed, *start.tolist(), *rest.tolist(), *slowed.tolist(), *steady.tolist(), *found]


@pytest.mark.parametrize("latency", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(6))
def test_c_is_python(seed, latency):
    """Longest paths, slowing down, dynamic programming and trades between groups agree exactly."""
    one = everything(case(seed, latency))
    with kernels.plain():
        other = everything(case(seed, latency))
    assert one == other
