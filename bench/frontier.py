"""How long the frontier algebra takes: ``python bench/frontier.py [--json] [--runs N]``.

Every figure is the median of several runs in milliseconds, beside its target where one is set.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from wattline.frontier.algebra import Frontier, total
from wattline.frontier.fit import fit


def convex(rng: np.random.Generator, points: int) -> Frontier:
    """Return a strictly convex frontier of `points` points."""
    dt, price = rng.random(points) + 0.01, np.sort(rng.random(points))[::-1]
    return Frontier.of(np.cumsum(dt), np.cumsum((dt * price)[::-1])[::-1])


def falling(rng: np.random.Generator, points: int) -> Frontier:
    """Return a frontier of `points` points in general position."""
    return Frontier.of(np.cumsum(rng.random(points)), np.cumsum(rng.random(points))[::-1])


def cases() -> list[tuple[str, float | None, Callable[[], object]]]:
    """Return (name, target in ms, call) of everything timed."""
    rng = np.random.default_rng(0)
    hulls = [convex(rng, 30).hull() for _ in range(1000)]
    summed = total(hulls)
    a, b = falling(rng, 1000), falling(rng, 1000)
    c, d = convex(rng, 1000), convex(rng, 1000)
    knobs = [{"clock": k} for k in range(30) for _ in range(5)]
    t = 1.0 + np.repeat(np.linspace(0, 1, 30), 5)
    samples = t * (1 + 0.005 * rng.standard_normal(150)), 300.0 / t * (1 + 0.02 * rng.standard_normal(150))
    return [
        ("sum of 1,000 hulls of 30 points", 20.0, lambda: total(hulls)),
        ("plan of its middle point", None, lambda: summed.plan(len(summed) // 2)),
        ("a + b, discrete, 1,000 points, random", 50.0, lambda: a + b),
        ("a + b, discrete, 1,000 points, convex", 50.0, lambda: c + d),
        ("a & b, discrete, 1,000 points", None, lambda: a & b),
        ("a & b, hulls, 1,000 points", None, lambda: c.hull() & d.hull()),
        ("a | b, discrete, 1,000 points", None, lambda: a | b),
        ("hull of 1,000 points", None, lambda: a.hull()),
        ("thin 1,000 points to 100", None, lambda: a.thin(100)),
        ("fit of 30 settings x 5 samples", None, lambda: fit(*samples, knobs=knobs)),
    ]


def median_ms(call: Callable[[], object], runs: int) -> float:
    """Return the median wall time of `call` in milliseconds, after one run to warm up."""
    call()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent)


def main() -> None:
    """Time every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=9, help="runs of each case (default 9)")
    options = parser.parse_args()
    rows = [
        {"name": name, "median_ms": round(median_ms(call, options.runs), 3), "target_ms": target}
        for name, target, call in cases()
    ]
    if options.json:
        print(json.dumps({"runs": options.runs, "rows": rows}, indent=2))
        return
    width = max(len(str(row["name"])) for row in rows)
    print(f"{'':{width}}  {'median':>10}  {'target':>10}")
    for row in rows:
        target = f"< {row['target_ms']:g} ms" if row["target_ms"] else ""
        print(f"{row['name']:{width}}  {row['median_ms']:>7.2f} ms  {target:>10}")


if __name__ == "__main__":
    main()
