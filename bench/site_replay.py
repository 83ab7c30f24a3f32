"""Time of replaying a cluster's day of 10,000 jobs under every controller, and the energy it accounts for.

    python bench/site_replay.py [--jobs 10000]

Arrivals, lengths and sizes are drawn (fixed seed): a Poisson day, log-normal lengths of a median of 20 minutes, sizes
of powers of two. The power of every second follows from the events; here it is read off at 86,400 of them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from wattline.site.replay import CONTROLLERS, Table, play
from wattline.site.traces import Arrival


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    given = parser.parse_args()
    rng = np.random.default_rng(5)
    submit = np.sort(rng.uniform(0, 86400, given.jobs))
    lasts = np.exp(rng.normal(np.log(1200), 1.2, given.jobs)).clip(30, 36000)
    size = 2.0 ** rng.integers(0, 6, given.jobs)
    wait = rng.exponential(60, given.jobs)
    jobs = [
        Arrival(f"j{k}", f"u{k % 50}", float(s), float(s + w), float(s + w + t), float(c), f"kind-{k % 3}")
        for k, (s, w, t, c) in enumerate(zip(submit, wait, lasts, size, strict=True))
    ]
    speed = np.array([1.0, 0.9, 0.75, 0.6])
    tables = {
        f"kind-{k}": Table(speed, watts * (0.25 + 0.75 * speed**2), 0.1 * watts)
        for k, watts in enumerate((700.0, 400.0, 1000.0))
    }
    chips = dict.fromkeys(tables, 1024.0)
    print("| controller | s | energy (MWh) | peak (MW) | mean wait (min) | above the cap (kWh) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in CONTROLLERS:
        began = time.perf_counter()
        run = play(jobs, chips, tables, controller=name, cap=1.2e6)
        seconds = run.mean(run.time[0] + np.arange(86401.0))
        took = time.perf_counter() - began
        assert len(seconds) == 86400
        wait_ = float(np.mean(run.start - submit)) / 60
        energy = float(run.power @ np.diff(run.time)) / 3.6e9
        print(f"| {name} | {took:.1f} | {energy:.2f} | {run.peak / 1e6:.2f} | {wait_:.1f} | {run.over / 3.6e6:.1f} |")


if __name__ == "__main__":
    main()
