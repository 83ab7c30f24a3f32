"""Plans over time against a program written apart, on sites drawn from 1 W to 10 GW and an hour to a year.

    python bench/site_fuzz.py [--trees 2000] [--paid 300] [--spread 700] [--seed 1000]

Prints how many sites were drawn, refused, aborted or planned differently, and the largest difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.site import oracle

from wattline.core.errors import WattlineError
from wattline.site.allocate import Fleet


def over_time(count: int, seed: int, paid: bool) -> None:
    """Compare plans with the program written apart."""
    began, worst, gap, refused, aborted, differ = time.perf_counter(), 0.0, 0.0, 0, 0, 0
    for s in range(seed, seed + count):
        drawn = oracle.draw(np.random.default_rng([7, s]), paid=paid, periods=8 if paid else None)
        found = oracle.solve(drawn)
        try:
            plan = drawn.horizon().plan("cost", gap=1e-8 if paid else 1e-4)
        except WattlineError as error:
            refused += found is not None
            print(f"  {s}: refused: {error}")
            continue
        except Exception as error:
            aborted += 1
            print(f"  {s}: {type(error).__name__}: {error}")
            continue
        if found is None:
            print(f"  {s}: the other program finds no plan")
            continue
        off = abs(plan.objective / found[0] - 1)
        worst, gap = max(worst, off), max(gap, plan.gap)
        differ += off > 1e-6 or bool((plan.flows > plan.limits * (1 + 1e-9)).any())
    what = "paid pauses" if paid else "free pauses"
    print(
        f"| {what} | {count} | {refused} | {aborted} | {differ} | {worst:.1e} | {gap:.1e} | "
        f"{time.perf_counter() - began:.0f} |"
    )


def instant(count: int, seed: int) -> None:
    """Ask jobs over several parts for the work that was just reached."""
    began, refused, gap = time.perf_counter(), 0, 0.0
    for s in range(seed, seed + count):
        horizon = oracle.draw(np.random.default_rng([9, s]), spread=1.0, periods=1).horizon()
        jobs = [replace(task.job, weight=float(task.job.frontier.time[0])) for task in horizon.tasks]
        fleet = Fleet(horizon.trees[0], jobs)
        try:
            most = fleet.most_work()
            gap = max(gap, fleet.least_power(most.value).gap, most.gap)
        except WattlineError as error:
            refused += 1
            print(f"  {s}: refused: {error}")
    print(f"| over several parts, now | {count} | {refused} | 0 | | | {gap:.1e} | {time.perf_counter() - began:.0f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--paid", type=int, default=300)
    parser.add_argument("--spread", type=int, default=700)
    parser.add_argument("--seed", type=int, default=1000)
    given = parser.parse_args()
    print("| sites | drawn | refused wrongly | aborted | differ | largest difference | largest gap | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    over_time(given.trees, given.seed, paid=False)
    over_time(given.paid, given.seed, paid=True)
    instant(given.spread, given.seed)


if __name__ == "__main__":
    main()
