"""Time and check the graph frontier on 1F1B pipelines of a measured profile: `python bench/graph.py PROFILE.csv`.

The profile has columns stage, instruction (forward or backward), frequency (MHz), time (s) and energy (J per device).
"""

from __future__ import annotations

import argparse
import csv
import resource
from collections import defaultdict
from time import perf_counter, process_time

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from wattline.frontier.graph import Dag, solve
from wattline.frontier.periodic import solve_family
from wattline.frontier.rounding import round_discrete


def read(path, stages, waiting):
    """Options (time, energy above waiting) and the row of the highest clock, per class 2 * stage + backward."""
    rows = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            time = float(row["time"])
            rows[int(row["stage"]), row["instruction"]].append(
                (float(row["frequency"]), time, float(row["energy"]) - waiting * time)
            )
    last = max(stage for stage, _ in rows)
    options, highest = [], []
    for s in range(stages):
        source = round(s * last / max(1, stages - 1)) if stages <= last + 1 else min(last, s * (last + 1) // stages)
        for kind in ("forward", "backward"):
            clock, time, energy = np.array(rows[source, kind]).T
            options.append((time, energy))
            highest.append(int(clock.argmax()))
    return options, highest


def lower_hull(time, energy):
    """Lower convex hull, fastest first, energies falling."""
    points = []
    for x, y in sorted(zip(time.tolist(), energy.tolist(), strict=True)):
        if points and y >= points[-1][1]:
            continue
        while len(points) > 1:
            (x0, y0), (x1, y1) = points[-2:]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            points.pop()
        points.append((x, y))
    t, e = np.array(points).T
    return t, e


def one_forward_one_backward(stages, microbatches):
    """The 1F1B graph."""
    rows, place = [], np.empty((stages, 2, microbatches), int)
    edges, nodes = [], 0
    for s in range(stages):
        warm = min(stages - s - 1, microbatches)
        steady = [(k, m + (0 if k else warm)) for m in range(microbatches - warm) for k in (0, 1)]
        row = np.array(
            [(0, m) for m in range(warm)] + steady + [(1, m) for m in range(microbatches - warm, microbatches)]
        )
        ids = nodes + np.arange(len(row))
        place[s, row[:, 0], row[:, 1]] = ids
        rows.append(2 * s + row[:, 0])
        edges.append(np.c_[ids[:-1], ids[1:]])
        nodes += len(row)
    for s in range(stages - 1):
        edges += [np.c_[place[s, 0], place[s + 1, 0]], np.c_[place[s + 1, 1], place[s, 1]]]
    return Dag(np.concatenate(rows), np.concatenate(edges))


def linear_program(dag, hulls, times):
    """Least energy above waiting at each of `times`, by HiGHS."""
    n, m = len(dag.nodes), len(dag.edges)
    a, b = dag.edges.T
    edge, node = np.arange(m), m + np.arange(n)
    entries = [
        (edge, a, 1.0),
        (edge, n + a, 1.0),
        (edge, b, -1.0),
        (node, np.arange(n), 1.0),
        (node, n + np.arange(n), 1.0),
    ]
    limits, top = [np.zeros(m), np.full(n, np.nan)], m + n
    for c, (t, e) in enumerate(hulls):
        mine = np.flatnonzero(dag.nodes == c)
        for slope, t0, e0 in zip(np.diff(e) / np.diff(t), t, e, strict=False):
            row = top + np.arange(len(mine))
            entries += [(row, n + mine, slope), (row, 2 * n + mine, -1.0)]
            limits.append(np.full(len(mine), slope * t0 - e0))
            top += len(mine)
    row, col = (np.concatenate([entry[k] for entry in entries]) for k in (0, 1))
    value = np.concatenate([np.full(len(entry[0]), entry[2]) for entry in entries])
    matrix, limit = sparse.csr_matrix((value, (row, col)), shape=(top, 3 * n)), np.concatenate(limits)
    ends = np.array([(t[0], t[-1], e[-1]) for t, e in hulls])[dag.nodes]
    low, high = np.r_[np.zeros(n), ends[:, 0], ends[:, 2]], np.r_[np.full(n, np.inf), ends[:, 1], np.full(n, np.inf)]
    cost = np.r_[np.zeros(2 * n), np.ones(n)]
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return np.array(
        [
            linprog(cost, matrix, np.where(np.isnan(limit), t, limit), bounds=np.c_[low, high], options=tight).fun
            for t in times
        ]
    )


def main():
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile")
    parser.add_argument("--waiting-power", type=float, default=83.64, help="watts per device")
    parser.add_argument("--sizes", default="8x32,8x128,16x256", help="stages x microbatches, with commas")
    parser.add_argument("--check", type=int, default=512, help="compare with HiGHS up to so many computations")
    parser.add_argument("--savings", default="8x12,8x32", help="sizes of the table of savings")
    given = parser.parse_args()

    def case(size):
        stages, microbatches = map(int, size.split("x"))
        options, highest = read(given.profile, stages, given.waiting_power)
        return stages, microbatches, options, highest, [lower_hull(*option) for option in options]

    _, _, _, _, hulls = case("2x2")
    began = perf_counter()
    solve_family(lambda count: one_forward_one_backward(2, count), 40, hulls, 167.28, base=4).durations(1e9)
    print(f"Compiled kernels: {perf_counter() - began:.1f} s, once per machine; loaded from the cache afterwards.")
    print()
    print(
        "| size | computations | method | breakpoints | solve s | CPU s | peak RSS MB | max rel. difference from HiGHS |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in filter(None, given.sizes.split(",")):
        stages, microbatches, _, _, hulls = case(size)
        before = process_time()
        frontier = solve_family(
            lambda count, stages=stages: one_forward_one_backward(stages, count),
            microbatches, hulls, stages * given.waiting_power, base=2 * stages,
        )  # fmt: skip
        busy = process_time() - before
        nodes, worst = 2 * stages * microbatches, float("nan")
        if nodes <= given.check:
            times = np.linspace(frontier.time[0] * (1 + 1e-9), frontier.time[-1], 5)
            expected = linear_program(one_forward_one_backward(stages, microbatches), hulls, times)
            worst = np.abs(np.interp(times, frontier.time, frontier.energy) / expected - 1).max()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {size} | {nodes} | {frontier.method} | {len(frontier.time)} | {frontier.solve_s:.3f} | {busy:.3f} "
            f"| {peak:.0f} | {worst:.1e} |",
            flush=True,
        )
    print()
    print("| size | slowdown | bound: saving % | one clock per computation: saving % | gap % |")
    print("| --- | --- | --- | --- | --- |")
    for size in filter(None, given.savings.split(",")):
        stages, microbatches, options, highest, hulls = case(size)
        dag = one_forward_one_backward(stages, microbatches)
        waiting = stages * given.waiting_power
        frontier = solve(dag, hulls, waiting)
        hurried = [(np.array([t[k]]), np.array([e[k]])) for (t, e), k in zip(options, highest, strict=True)]
        top = solve(dag, hurried, waiting)
        for slowdown in (0.0, 0.005, 0.05, 0.1):
            deadline = min(float(top.time[0]) * (1 + slowdown), float(frontier.time[-1]))
            plan = round_discrete(dag, frontier, options, deadline)
            before = top.total(float(top.time[0]))
            bound, real = (100 * (1 - (e + waiting * deadline) / before) for e in (plan.bound, plan.energy))
            print(f"| {size} | {slowdown:.1%} | {bound:.2f} | {real:.2f} | {100 * plan.gap:.3f} |", flush=True)


if __name__ == "__main__":
    main()
