"""How fast serving is simulated: engine steps and requests per second, and a day of a million requests.

    python bench/serving.py                       table, one-core steps, an hour, the day (under two minutes)
    python bench/serving.py --trace AZURE.csv.gz  the hour is that trace instead of a made-up one of 19,000 requests
    python bench/serving.py --requests 100000     a smaller day

Compiling (once, kept on disk) is not counted: every case runs once small before it is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wattline import scenario
from wattline.hardware import catalog as hardware
from wattline.plan.step import Replica
from wattline.simulate.fleet import Fleet, Pool
from wattline.simulate.outcome import Limits, Run
from wattline.simulate.policies import FixedClock, Governor, Parking, Policy
from wattline.simulate.serving import simulate
from wattline.simulate.table import StepTable, step_table
from wattline.source.base import Device
from wattline.workload import catalog as models
from wattline.workload.arrivals import DAY, Lengths, synthetic
from wattline.workload.parallel import Parallel
from wattline.workload.traffic import Requests, read_requests

# Measured on two cores by others' tools (see docs/benchmarks.md).
PEERS = (
    (
        "vidur, linear predictors",
        "2,000 requests in 20 s; a one-hour trace of 19,000 requests in about 45 s; no energy",
    ),
    ("aiconfigurator", "1.5 to 3 s a point; 10.5 s for an 8-GPU sweep; steady state, no trace"),
    ("GenZ", "0.1 s a point; steady state, no trace"),
)


def made() -> StepTable:
    """Llama-3.1-8B on one H100."""
    chip = hardware.chip("h100-sxm")
    replica = Replica(model=models.model("llama-3.1-8b"), parallel=Parallel(section="serve"))
    return step_table(
        replica, Device(chip, hardware.default_node(chip)), scenario.default_source(), max_batch=256, longest=16384
    )


def chat(rate: float, count: int, arrivals: str = "poisson") -> Requests:
    """Chat-like requests: lengths as in the Azure conversation trace, about 1,150 in and 210 out."""
    return synthetic(
        rate,
        count,
        prompt=Lengths(1150, 1.0, 8000),
        output=Lengths(210, 0.8, 1500),
        arrivals=arrivals,
        seed=1,  # type: ignore[arg-type]
    )


def timed(work: Callable[[], Run]) -> tuple[Run, float]:
    """Run and return the result and the seconds of this process's own processor time and of the wall."""
    start = time.perf_counter()
    run = work()
    return run, time.perf_counter() - start


def case(name: str, run: Run, seconds: float, cpu: float) -> dict[str, Any]:
    """One row."""
    return {
        "case": name, "requests": len(run.arrival), "replicas": run.replicas, "steps": run.steps, "wall_s": seconds,
        "cpu_s": cpu, "steps_per_s": run.steps / cpu, "requests_per_s": len(run.arrival) / cpu,
        "mean_batch": float(run.output.sum()) / run.steps, "j_per_token": run.energy_j / run.tokens,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    table = made()
    tabulated = time.perf_counter() - start
    limits = Limits(ttft=0.5, tpot=0.05)
    pool = Pool(table=table, max_batch=256, start_time=30.0, start_power=300.0)
    hour = read_requests(options.trace) if options.trace else chat(19_000 / 3600.0, 19_000)
    day = chat(options.requests / DAY, options.requests, "diurnal")
    todo: list[tuple[str, Requests, int, Policy]] = [
        ("one replica, light load", chat(2.0, 5_000), 1, FixedClock()),
        ("one replica, busy", chat(12.0, 20_000), 1, FixedClock()),
        ("one replica, busy, governor", chat(12.0, 20_000), 1, Governor()),
        ("one hour, 2 replicas", hour, 2, FixedClock()),
        ("one day, 100 replicas", day, 100, FixedClock()),
        ("one day, 100 replicas, parking", day, 100, Parking(FixedClock(), interval=30.0)),
    ]
    rows = []
    for name, requests, replicas, policy in todo:
        fleet = Fleet((Pool(**{**vars(pool), "replicas": replicas}),), "pack" if "parking" in name else "least_loaded")
        simulate(requests.head(50), fleet, policy, limits=limits)
        before = time.process_time()
        run, seconds = timed(lambda r=requests, f=fleet, p=policy: simulate(r, f, p, limits=limits))  # type: ignore[misc]
        rows.append(case(name, run, seconds, time.process_time() - before))
    found = {"table_s": tabulated, "rows": rows, "load": os.getloadavg()[0]}
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"table of steps: {tabulated:.2f} s; load {found['load']:.1f}\n")
    print("| case | requests | steps | mean batch | wall s | cpu s | steps/s | requests/s | J/token | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(
            f"| {r['case']} | {r['requests']:,} | {r['steps']:,} | {r['mean_batch']:.1f} | {r['wall_s']:.2f} | {r['cpu_s']:.2f} | "
            f"{r['steps_per_s']:,.0f} | {r['requests_per_s']:,.0f} | {r['j_per_token']:.3f} | {r['peak_mb']:.0f} |"
        )
    print("\n| peer (two cores) | measured |\n| --- | --- |")
    for peer, said in PEERS:
        print(f"| {peer} | {said} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
