"""The governor over whole days: promises by the hour, and its saving beside that of one who knows the day beforehand.

python bench/governor.py                          three made-up days on one replica of Llama-3.1-8B, H100
python bench/governor.py --trace FILE [--rate 5]  a published trace (Azure, BurstGPT, Mooncake), repeated by the clock

Made-up days have the published statistics of a trace (mean tokens, their spread, how bursty gaps are) and a rate that
swings over the day; their peak is what one replica carries at about 60 % of its capacity at the highest clock.
The clairvoyant takes, for each hour, the fixed clock of least energy that keeps the promise in that hour.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wattline.hardware import catalog as hardware
from wattline.serving.simulate.outcome import Limits, Run
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock, Governor, Policy
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.serving.simulate.table import StepTable, step_table
from wattline.serving.step import Replica
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload import catalog as models
from wattline.workload.arrivals import Lengths
from wattline.workload.parallel import Parallel
from wattline.workload.trace_files import read_requests
from wattline.workload.traffic import Requests

HOUR = 3600.0


@dataclass(frozen=True)
class Day:
    """What a made-up day is like: requests/s on average, variation of gaps, tokens and their variation, the promise."""

    rate: float
    gaps: float
    prompt: Lengths
    output: Lengths
    limits: Limits


DAYS = {
    # Azure LLM inference trace 2023, conversation: 1,155 and 211 tokens; gaps of its hour vary by 1.1.
    "like Azure 2023 chat": Day(4.0, 1.2, Lengths(1155, 0.96, 14000), Lengths(211, 0.77, 1000), Limits(1.0, 0.05)),
    # BurstGPT (arXiv 2401.17644): conversations of 621 and 126 tokens on average, gaps as Gamma far from Poisson.
    "like BurstGPT": Day(6.0, 3.0, Lengths(621, 1.3, 8000), Lengths(126, 1.4, 2000), Limits(1.0, 0.05)),
    # Mooncake (FAST 2025): 7,590 and 182 tokens on average, 100 ms between tokens. Prefixes are not shared here.
    "like Mooncake": Day(0.5, 1.0, Lengths(7590, 1.2, 60000), Lengths(182, 0.9, 2000), Limits(10.0, 0.1)),
}


def made(day: Day, hours: int, seed: int) -> Requests:
    """Return a day: gaps from a Gamma process in the time of a rate that swings by 60 % over 24 hours."""
    random = np.random.default_rng(seed)
    span = hours * HOUR
    count = int(day.rate * span)
    shape = day.gaps**-2.0
    unit = np.cumsum(random.gamma(shape, 1.0 / shape, count))
    grid = np.linspace(0.0, span, 20_001)
    expected = day.rate * (grid - 0.6 * 86400 / (2 * np.pi) * np.sin(2 * np.pi * grid / 86400))
    unit = unit[unit < expected[-1]]
    arrival = np.interp(unit, expected, grid)
    n = len(arrival)
    return Requests(arrival - arrival[0], day.prompt.draw(n, random), day.output.draw(n, random))


def hourly(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return, by hour of arrival, whether the promise was kept, and joules by the hour."""
    hours = int(np.ceil(run.arrival[-1] / HOUR))
    hour = np.minimum((run.arrival / HOUR).astype(int), hours - 1)
    count = np.bincount(hour, minlength=hours)
    allowed = (1.0 - run.limits.percentile / 100.0) * count + 1e-9
    kept = np.ones(hours, bool)
    for values, limit in ((run.ttft, run.limits.ttft), (run.tpot, run.limits.tpot)):
        if limit is not None:
            kept &= np.bincount(hour, weights=values > limit, minlength=hours) <= allowed
    edges = np.arange(len(run.power) + 1) * run.bin
    total = np.concatenate([[0.0], np.cumsum(run.power.sum(axis=1) * run.bin)])
    joules = np.diff(np.interp(np.append(np.arange(hours) * HOUR, edges[-1]), edges, total))
    return kept, joules


def table() -> StepTable:
    chip = hardware.chip("h100-sxm")
    made_ = Replica(model=models.model("llama-3.1-8b"), parallel=Parallel(section="serve"), chunk=8192.0)
    return step_table(made_, Device(chip, hardware.default_node(chip)), Roofline(), max_batch=256)


def study(name: str, requests: Requests, limits: Limits, fleet: Fleet, policies: list[Policy]) -> None:
    """Print a row per policy."""
    clocks = fleet.pools[0].table.clocks
    fixed = [simulate(requests, fleet, FixedClock(float(c)), limits=limits) for c in clocks]
    told = [hourly(run) for run in fixed]
    kept = np.array([k for k, _ in told])
    joules = np.array([j for _, j in told])
    top = joules[-1]
    best = np.where(kept, joules, np.inf).min(axis=0)
    best = np.where(np.isfinite(best), best, top)
    whole = [run for run in fixed if run.kept]
    reachable = kept.any(axis=0)
    for policy in policies:
        run = simulate(requests, fleet, policy, limits=limits)
        good, used = hourly(run)
        part = (top.sum() - used.sum()) / (top.sum() - best.sum())
        n = len(requests)
        print(
            f"| {name} | {policy.name} | {n:,} | {good.sum()} of {len(good)} ({reachable.sum()} can be) | "
            f"{100 * run.violations['ttft'] / n:.2f} %, {100 * run.violations['tpot'] / n:.2f} % | "
            f"{100 * (1 - used.sum() / top.sum()):.1f} % | {100 * (1 - best.sum() / top.sum()):.1f} % | "
            f"{100 * part:.0f} % | "
            + (f"{100 * (1 - min(r.energy_j for r in whole) / fixed[-1].energy_j):.1f} %" if whole else "none kept")
            + " |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    fleet = Fleet((Pool(table=table(), max_batch=256),))
    print(
        "| day | policy | requests | hours kept | late (TTFT, TPOT) | saves | clairvoyant | share | best fixed clock |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    if options.trace:
        requests = read_requests(options.trace)
        requests = requests.at_rate(options.rate) if options.rate else requests
        study(options.trace.name, requests, Limits(1.0, 0.05), fleet, [Governor()])
        return
    for name, day in DAYS.items():
        if options.only in name:
            study(name, made(day, options.hours, options.seed), day.limits, fleet, [Governor()])


if __name__ == "__main__":
    main()
