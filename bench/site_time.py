"""Time, memory and proof of plans over long spans: a week with paid pauses, a year of hours, a demand charge.

    python bench/site_time.py [--year 10] [--week 30]

The year is `--year` jobs over 8,760 hours, each with work due by its end and prices, carbon and weather of its own.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from wattline import Frontier
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.scenario import fleet
from wattline.scenario.fleet_file import tree_of
from wattline.scenario.fleet_work import placed
from wattline.site.curves import Job
from wattline.site.equipment import Equipment, Tariff
from wattline.site.horizon import Conditions, Horizon, Task


def site(jobs: int, hours: int, resume: float) -> Horizon:
    """Rows of three jobs each under limits that bind, prices that swing by day and season, weather that follows."""
    rng = np.random.default_rng(3)
    rows = max(1, jobs // 3)
    tree = PowerTree.read(
        [{"name": "feed", "limit": 0.8e6 * jobs}, *({"name": f"row-{k}", "on": "feed", "loss": 0.02, "limit": 2.8e6} for k in range(rows))],
        overhead=Overhead(5e4, (0.06, 0.2), (278.0, 308.0)), outdoor=285.0,
    )  # fmt: skip
    hour = np.arange(hours)
    price = (
        70 + 30 * np.sin(hour / 24 * 2 * np.pi) + 15 * np.sin(hour / 8760 * 2 * np.pi) + rng.normal(0, 8, hours)
    ) / 3.6e9
    outdoor = 285 + 8 * np.sin(hour / 24 * 2 * np.pi - 2) + 9 * np.sin(hour / 8760 * 2 * np.pi - 1.5)
    speed = np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    tasks = []
    for j in range(jobs):
        watts = 1e6 * rng.uniform(0.6, 1.2)
        power = watts * (0.35 + 0.65 * speed**2.2)
        frontier = Frontier.of(1 / speed, (power - 0.2 * watts) / speed, waiting_power=0.2 * watts)
        job = Job(f"j{j}", frontier, f"row-{j % rows}", paused=0.2 * watts)
        tasks.append(Task(job, rng.uniform(0.3, 0.6) * hours * 3600, resume=resume))
    return Horizon(tree, tasks, Conditions(np.arange(hours + 1) * 3600.0, price=price, outdoor=outdoor))


def row(what: str, horizon: Horizon, **more: float) -> None:
    """Plan and print a row."""
    began, before = time.perf_counter(), time.process_time()
    plan = horizon.plan("cost", **more)
    took, busy = time.perf_counter() - began, time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {what} | {took:.1f} | {busy:.1f} | {plan.gap:.1e} | {plan.nodes} | {plan.cost_usd:,.0f} | {memory:,.0f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--year", type=int, default=10)
    parser.add_argument("--week", type=int, default=30)
    given = parser.parse_args()
    print("| plan | s | CPU s | gap to our own bound | nodes | cost (USD) | memory so far (MB) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    row(f"week x {given.week} jobs, pauses that cost", site(given.week, 168, 900.0), gap=1e-4)
    week = fleet.load(Path(__file__).parent.parent / "examples" / "carbon-week.toml")
    tree = tree_of(week)
    conditions = fleet.conditions_of(week, tree)
    start, n = float(conditions.edges[0]), len(conditions.dt)
    rows = [p.row for p in placed(week, tree)]
    jobs = [p.job for p in placed(week, tree)]
    tasks = [
        Task(
            j, r.get("due", 0.0), start + r.get("release", 0.0), start + r.get("deadline", np.inf), r.get("resume", 0.0)
        )
        for j, r in zip(jobs, rows, strict=True)
    ]
    peak = Equipment([Tariff("peak", 15e-3, np.ones(n, bool), np.zeros(n, int), share=7 / 30)])
    free = [replace(task, resume=0.0) for task in tasks]
    row("carbon-week with a demand charge, pauses free", Horizon(tree, free, conditions, peak))
    unseen = Horizon(tree, free, conditions).plan("cost")
    print(f"| the same, the charge unseen | | | | | {unseen.cost_usd + 15e-3 * 7 / 30 * unseen.feed.max():,.0f} | |")
    row(
        "carbon-week with a demand charge, pauses that cost",
        Horizon(tree, tasks, conditions, peak),
        gap=1e-4,
        nodes=100,
    )
    row(f"year x {given.year} jobs, pauses free", site(given.year, 8760, 0.0))


if __name__ == "__main__":
    main()
