"""A plan of very many jobs over a week: time, memory, gap to our own bound, and on small sites the distance from the optimum.

    python bench/site_scale.py [--jobs 100000] [--hours 168] [--fuzz 0]

Jobs of fifty kinds on 500 racks, 25 rows and one feed whose limits bind; half of them begin late, half end early.
`--fuzz N` compares N sites at random with the exact linear program instead.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.site import oracle

from wattline import Frontier
from wattline.core.errors import GoalError
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.site import decompose
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task


def site(jobs: int, hours: int, rows: int = 25, racks: int = 20) -> Horizon:
    """Return the site: 10 kW jobs, a feed for half of what all could draw, rows and racks that bind here and there."""
    rng = np.random.default_rng(3)
    tree = PowerTree.read(
        [
            {"name": "feed", "limit": 4960.0 * jobs},
            *({"name": f"row-{k}", "on": "feed", "loss": 0.02, "limit": 5600.0 * jobs / rows} for k in range(rows)),
            *(
                {"name": f"rack-{k}-{i}", "on": f"row-{k}", "loss": 0.01, "limit": 7000.0 * jobs / rows / racks}
                for k in range(rows)
                for i in range(racks)
            ),
        ],
        overhead=Overhead(5e4, (0.06, 0.2), (278.0, 308.0)),
        outdoor=285.0,
    )
    hour, speed = np.arange(hours), np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    price = (70 + 30 * np.sin(hour / 24 * 2 * np.pi) + rng.normal(0, 8, hours)) / 3.6e9
    outdoor = 285 + 8 * np.sin(hour / 24 * 2 * np.pi - 2)
    kinds = []
    for _ in range(50):
        watts = 1e4 * rng.uniform(0.6, 1.2)
        power = watts * (0.35 + 0.65 * speed ** rng.uniform(1.8, 2.6))
        kinds.append((watts, Frontier.of(1 / speed, (power - 0.2 * watts) / speed, waiting_power=0.2 * watts)))
    tasks = []
    for j in range(jobs):
        watts, frontier = kinds[rng.integers(50)]
        begin = int(rng.integers(0, hours // 2)) if rng.random() < 0.5 else 0
        end = int(rng.integers(begin + 24, hours + 1)) if rng.random() < 0.5 and begin + 24 < hours else hours
        at = f"rack-{rng.integers(rows)}-{rng.integers(racks)}"
        job = Job(f"j{j}", frontier, at, paused=0.05 * watts)
        tasks.append(Task(job, rng.uniform(0.2, 0.5) * (end - begin) * 3600, begin * 3600.0, end * 3600.0))
    return Horizon(tree, tasks, Conditions(np.arange(hours + 1) * 3600.0, price=price, outdoor=outdoor))


def fuzz(count: int) -> None:
    """Compare sites at random with the linear program."""
    worst, bound, undone, planned = 0.0, -np.inf, 0, 0
    for seed in range(count):
        horizon = oracle.draw(np.random.default_rng([13, seed])).horizon()
        try:
            exact = horizon.plan("cost")
        except GoalError:
            continue
        found = decompose.plan(horizon, "cost", 1e-4)
        planned += 1
        undone += bool(found.short)
        bound = max(bound, found.bound / exact.objective - 1)
        if not found.short:
            worst = max(worst, found.objective / exact.objective - 1)
    print(
        f"{planned} sites: at most {worst:.1e} above the optimum, bound at most {bound:.1e} above it, "
        f"{undone} with work undone that fits"
    )


def main() -> None:
    """Print the row, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--fuzz", type=int, default=0)
    given = parser.parse_args()
    if given.fuzz:
        fuzz(given.fuzz)
        return
    horizon = site(given.jobs, given.hours)
    began, busy = time.perf_counter(), time.process_time()
    plan = horizon.plan("cost")
    took, used = time.perf_counter() - began, time.process_time() - busy
    over = float((plan.flows / plan.limits - 1).max())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print("| jobs x periods | s | CPU s | gap to our own bound | undone | largest flow over limit | memory (MB) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {given.jobs:,} x {given.hours} | {took:.1f} | {used:.1f} | {plan.gap:.1e} | {len(plan.short)} | {over:.0e} | {memory:,.0f} |"
    )


if __name__ == "__main__":
    main()
