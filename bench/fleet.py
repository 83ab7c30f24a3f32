"""Time of planning a fleet: 100,000 jobs in a tree of five levels, and planning again after one limit changed.

    python bench/fleet.py [--jobs 100000] [--kinds 500] [--runs 5] [--check 2000]

Jobs have frontiers of 12 points drawn at random (fixed seed); `--kinds` of them are different, 0 gives every job
one of its own. `--check` compares value and proof with HiGHS on a smaller fleet of so many jobs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from wattline import Frontier
from wattline.hardware.power_tree import Overhead, PowerTree, uniform
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task


def site(nodes: int) -> PowerTree:
    """A five-level tree with room for `nodes` places, its limits below what everything at full speed draws."""
    racks = max(1, nodes // (4 * 10 * 32))
    return uniform(
        [
            ("feed", 1, nodes * 5.2e3), ("ups", 4, nodes / 4 * 5.3e3), ("row", 10, nodes / 40 * 5.0e3),
            ("rack", racks, 32 * 5.2e3), ("node", 32, 9e3),
        ],
        loss={"ups": 0.04, "rack": 0.01}, overhead=Overhead(1e5, (0.15,)),
    )  # fmt: skip


def draw(count: int, kinds: int, tree: PowerTree) -> list[Job]:
    """Jobs at random places: a tenth with a minimum, a tenth with traffic that runs out, half may pause."""
    rng = np.random.default_rng(7)
    shapes = []
    for _ in range(kinds or count):
        speed = np.linspace(1.0, 0.4, 12) * rng.uniform(0.5, 1.5)
        watts = 1500 + rng.uniform(2500, 6000) * np.linspace(1.0, 0.4, 12) ** rng.uniform(1.5, 3)
        shapes.append(Frontier.of(1 / speed, (watts - 1200) / speed, waiting_power=1200.0))
    places = np.flatnonzero(tree.level == tree.depth - 1)
    at = rng.permutation(np.resize(places, count))
    weight, chance = rng.uniform(0.5, 2, count), rng.uniform(size=count)
    jobs = []
    for j in range(count):
        shape = shapes[j % len(shapes)]
        fastest = 1 / shape.time[0]
        jobs.append(
            Job(
                f"job-{j}", shape, tree.names[at[j]], float(weight[j]),
                minimum=0.5 * fastest if chance[j] < 0.1 else 0.0,
                maximum=0.8 * fastest if 0.1 <= chance[j] < 0.2 else float("inf"),
                paused=800.0 if chance[j] > 0.5 else None,
            )
        )  # fmt: skip
    return jobs


def timed(call, runs: int) -> tuple[str, object]:
    """Median seconds of `runs` calls, on the clock and of one processor, and the last answer."""
    took, busy = [], []
    for _ in range(runs):
        began, before = time.perf_counter(), time.process_time()
        out = call()
        took.append(time.perf_counter() - began)
        busy.append(time.process_time() - before)
    return f"{statistics.median(took):.3f} | {statistics.median(busy):.3f}", out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--kinds", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", type=int, default=2_000, help="jobs of the fleet compared with HiGHS; 0: none")
    given = parser.parse_args()
    warm = site(1280)
    warmed = Fleet(warm, draw(1280, 10, warm))
    for reading in ("hull", "discrete"):
        warmed.least_power(0.9 * warmed.most_work(reading).value, reading)

    tree = site(given.jobs)
    jobs = draw(given.jobs, given.kinds, tree)
    print(f"{len(jobs):,} jobs on {len(tree):,} parts in {tree.depth} levels\n")
    print("| what | s | CPU s | gap to the bound |")
    print("| --- | --- | --- | --- |")
    plan = None
    for reading in ("hull", "discrete"):
        took, plan = timed(lambda reading=reading: Fleet(tree, jobs).most_work(reading), given.runs)
        print(f"| jobs to plan, {reading} | {took} | {plan.gap:.1e} |")
    fleet = Fleet(tree, jobs)
    changes = iter(np.linspace(0.97, 1.0, 1000) * float(tree.limit[tree.index("row-2.3")]))
    for reading in ("hull", "discrete"):
        fleet.most_work(reading)
        took, plan = timed(
            lambda reading=reading: fleet.with_limit("row-2.3", next(changes)).most_work(reading), 3 * given.runs
        )
        print(f"| again after one limit changed, {reading} | {took} | {plan.gap:.1e} |")
    took, _ = timed(lambda: fleet.least_power(0.9 * plan.value), given.runs)
    print(f"| least power for 90 % of the work, hull | {took} | |")
    print(f"\n{len(plan.binding())} limits bind; headroom at the least {plan.headroom.min():.3g} W")
    if given.check:
        check(given.check)
    print("\n| jobs over 168 hours | | s | gap | carbon against as soon as possible |")
    print("| --- | --- | --- | --- | --- |")
    for jobs, paid in ((12, False), (12, True), (120, False)):
        week(jobs, paid)


def week(jobs: int, paid: bool) -> None:
    """Plan a week of hours: a third each of services, work due by the end, and work due by the middle."""
    tree = site(max(1280, jobs))
    drawn = draw(jobs, 0, tree)
    hours = np.arange(168)
    carbon = 300 + 120 * np.sin(hours / 24 * 2 * np.pi) + 60 * np.sin(hours / 61 * 2 * np.pi)
    conditions = Conditions(np.arange(169) * 3600.0, carbon=carbon / 3.6e6)
    tasks = []
    for j, job in enumerate(drawn):
        if j % 3 == 0:
            tasks.append(Task(replace(job, minimum=0.5 * job.fastest, maximum=np.inf, paused=None)))
            continue
        job = replace(job, minimum=0.0, maximum=np.inf, paused=600.0)
        share = 0.4 if j % 3 == 1 else 0.25
        tasks.append(
            Task(job, share * job.fastest * 168 * 3600, deadline=np.inf if j % 3 == 1 else 84 * 3600.0,
                 resume=900.0 if paid else 0.0)
        )  # fmt: skip
    horizon = Horizon(tree, tasks, conditions)
    began = time.perf_counter()
    plan = horizon.plan("carbon", gap=1e-3)
    took = time.perf_counter() - began
    what = "pauses that cost, MILP" if paid else "free pauses, LP"
    saved = 1 - plan.carbon_g / horizon.soonest().carbon_g
    print(f"| {jobs} | {what} | {took:.2f} | {plan.gap:.1e} | {100 * saved:.1f} % |")


def check(count: int) -> None:
    """Compare value and proof with HiGHS, one share per point of every job."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, vstack

    tree = site(count)
    fleet = Fleet(tree, draw(count, 0, tree))
    plan = fleet.most_work()
    p = fleet.points
    point = np.arange(len(p.rate))
    job = np.repeat(np.arange(count), np.diff(p.first))
    pausing = np.flatnonzero(~np.isnan(p.paused))
    rate = np.concatenate([np.minimum(p.rate, p.maximum[job]), np.zeros(len(pausing))])
    power = np.concatenate([p.waiting[job] + p.energy * rate[: len(point)], p.paused[pausing]])
    job = np.concatenate([job, pausing])
    rows, cols, values = [], [], []
    for c, place in enumerate(fleet.place[job]):
        r = place
        while r >= 0:
            rows.append(r)
            cols.append(c)
            values.append(power[c] * tree.up[place] / tree.row_ratio[r])
            r = tree.row_parent[r]
    limits = csr_matrix((values, (rows, cols)), shape=(len(tree.row_limit), len(job)))
    least = csr_matrix((-rate, (job, np.arange(len(job)))), shape=(count, len(job)))
    ones = csr_matrix((np.ones(len(job)), (job, np.arange(len(job)))), shape=(count, len(job)))
    began = time.perf_counter()
    found = linprog(
        -p.weight[job] * rate, vstack([limits, least]),
        np.concatenate([tree.headroom(0.0), -p.minimum]), ones, np.ones(count), method="highs",
    )  # fmt: skip
    took = time.perf_counter() - began
    print(
        f"\n{count:,} jobs: HiGHS {took:.2f} s, value {-found.fun:.9g}; here {plan.value:.9g} "
        f"(off by {abs(plan.value / -found.fun - 1):.1e}, proved to {plan.gap:.1e})"
    )


if __name__ == "__main__":
    main()
