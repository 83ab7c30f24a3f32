"""How fast serving is simulated: engine steps and requests per second, and a day of a million requests.

    python bench/serving.py                       table, one-core steps, an hour, the day (under two minutes)
    python bench/serving.py --trace AZURE.csv.gz  the hour is that trace instead of a made-up one of 19,000 requests
    python bench/serving.py --requests 100000     a smaller day
    python bench/serving.py --search [--engine ray]   a search of configurations for the hour instead: settings per second
    python bench/serving.py --agreement           what a search expects against simulation, over everything unbeaten

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

import numpy as np

from wattline.hardware import catalog as hardware
from wattline.scenario import scenario
from wattline.scenario import search as serve_search
from wattline.scenario.search.confirm import confirm
from wattline.scenario.search.search import analyse
from wattline.scenario.search.space import variants
from wattline.serving.candidates import FIGURES, Part, Rows
from wattline.serving.simulate.outcome import Limits, Run
from wattline.serving.simulate.parking import Parking
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock, Governor, Policy
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.serving.simulate.table import StepTable, step_table
from wattline.serving.step import Replica
from wattline.source.base import Device
from wattline.workload import catalog as models
from wattline.workload.arrivals import DAY, Lengths, synthetic
from wattline.workload.parallel import Parallel
from wattline.workload.trace_files import read_requests
from wattline.workload.traffic import Requests

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


def stated(trace: Path | None) -> scenario.Scenario:
    """Return the search of the hour: Llama-3.1-8B on four chips, three layouts, two precisions."""
    serve: dict[str, Any] = {
        "ttft": "500 ms", "tpot": "40 ms",
        "search": {"chips": ["h100-sxm", "h200-sxm", "a100-sxm-80gb", "l40s"], "tensor": [1, 2, 4],
                   "precision": ["stored", "fp8"]},
    }  # fmt: skip
    made_up = {
        "rate": f"{19_000 / 3600:.3f} req/s", "duration": "1 h", "prompt": 1150, "prompt_variation": 1.0,
        "output": 210, "output_variation": 0.8,
    }  # fmt: skip
    serve |= {"requests": str(trace.absolute())} if trace else made_up
    return scenario.parse({"model": {"name": "llama-3.1-8b"}, "hardware": {"chip": "h100-sxm"}, "serve": serve})


def agreement(trace: Path | None) -> int:
    """Print errors (median, 90th percentile) of the expected figures over unbeaten settings of one-chip replicas.

    Where the 99th percentile of TTFT is over 5 s by either account, the replica drowns and no promise is at stake.
    """
    asked = stated(trace)
    print("| chip | settings | energy | TTFT | TPOT | last token | rank correlation of energies |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for variant in (v for v in variants(asked) if v.tensor == 1 and v.precision is None):
        rows = Rows.read(analyse(asked, {"variant": vars(variant)})["rows"]["both/all"])
        pairs: dict[str, list[tuple[float, float]]] = {n: [] for n in FIGURES}
        for k in range(len(rows.energy)):
            part = Part(0, "both", int(rows.replicas[k]), int(rows.batch[k]), float(rows.clock[k]))
            if rows.ttft[k] > 5.0:
                continue
            told = confirm(asked, {"parts": [(vars(variant), vars(part))]})
            if told["ttft"] > 5.0:
                continue
            for n in FIGURES:
                pairs[n].append((float(getattr(rows, n)[k]), told["energy_j" if n == "energy" else n]))
        found = {n: np.array(some) for n, some in pairs.items()}
        errors = {n: np.abs(x[:, 0] / x[:, 1] - 1.0) for n, x in found.items()}
        cells = [f"{100 * np.median(e):.1f}, {100 * np.quantile(e, 0.9):.1f} %" for e in errors.values()]
        ranks = np.argsort(np.argsort(found["energy"], axis=0), axis=0)
        print(
            f"| {variant.chip} | {len(ranks)} | {' | '.join(cells)} | {np.corrcoef(ranks.T)[0, 1]:.3f} |"
        )  # fmt: skip
    return 0


def search(trace: Path | None, engine: str) -> int:
    """Print how long a search takes for the hour: every variant analysed, the best ten simulated, and the baseline."""
    asked = stated(trace)
    start = time.perf_counter()
    alone = analyse(asked, {"variant": vars(variants(asked)[0])})
    analysed = time.perf_counter() - start
    before, start = processors(), time.perf_counter()
    found = serve_search.search(asked, engine=engine).to_dict()
    wall, cpu = time.perf_counter() - start, processors() - before
    a, one = found["agreement"], sum(rows["searched"] for rows in alone["rows"].values())
    print("| engine | requests | variants | settings | simulated | wall s | CPU s | load | settings of one variant |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {engine} | {found['requests']['count']:,} | {found['searched']['variants']} | "
        f"{found['searched']['settings']:,} | {len(found['confirmed'])} + baseline | {wall:.1f} | {cpu:.1f} | "
        f"{os.getloadavg()[0]:.1f} | {one:,} in {analysed:.2f} s |"
    )
    print(
        f"\nchosen: {found['chosen']['configuration']}, {100 * found['savings']['energy']:.0f} % less than the baseline"
    )
    print(
        "expected over simulated: " + ", ".join(f"{n} {a[f'{n}_ratio']:.2f}" for n in ("energy", "ttft", "tpot"))
        + f"; rank correlation of energies {a['rank_correlation']:.2f}"
    )  # fmt: skip
    return 0


def processors() -> float:
    """Return processor seconds of this process and of those it has waited for."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(r.ru_utime + r.ru_stime for r in each)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    options = parser.parse_args()
    if options.agreement:
        return agreement(options.trace)
    if options.search:
        return search(options.trace, options.engine)
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
