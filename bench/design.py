"""How long a study of 10,000 designs of one model takes: `python bench/design.py`.

Three studies of the H100-like chip: serving and training on the calibrated model of its parts, and (with --search)
a smaller one by mapping search, whose constants are asked anew from what was searched once per structure. An
optimiser then looks for the frontier of the serving study with 1,000 evaluations (needs Optuna).
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wattline.scenario import design
from wattline.scenario.design_file import Study, parse_study
from wattline.scenario.design_space import undominated

EXAMPLES = Path(__file__).parent.parent / "examples"
# 10 x 4 x 10 x 5 x 5 = 10,000 designs.
VARY: Mapping[str, list[Any]] = {
    "level.l2.capacity": [f"{c} MB" for c in (15, 20, 25, 30, 35, 40, 45, 50, 60, 75)],
    "level.hbm.memory": ["hbm2e", "hbm3", "hbm3e", "hbm4"],
    "fanout.cores.size": [90, 96, 102, 108, 114, 120, 126, 132, 138, 144],
    "compute.energy.bf16": [f"{e} pJ/FLOP" for e in (0.2, 0.22, 0.24, 0.26, 0.28)],
    "domain.core.leakage": [f"{w} W" for w in (40, 45, 50, 55, 60)],
}
SEARCHED: Mapping[str, list[Any]] = {
    "level.l2.capacity": ["25 MB", "50 MB"],
    "level.hbm.read_energy": [f"{e} pJ/bit" for e in (2, 3, 4, 5, 6)],
    "compute.energy.bf16": [f"{e} pJ/FLOP" for e in (0.18, 0.2, 0.22, 0.24, 0.26)],
    "domain.core.leakage": [f"{w} W" for w in (40, 45, 50, 55, 60)],
}


def study(example: str, vary: Mapping[str, list[Any]], **more: Any) -> Study:
    """Return a study of one shipped example on the H100-like chip."""
    source = more.pop("source", "roofline")
    data = {
        "hardware": {"chip": "h100-like", "source": source},
        "design": {
            "budget": {"area": "814 mm2", "power": "700 W"}, "search": "grid", "vary": vary,
            "work": [{"scenario": f"{example}.toml"}], **more,
        },
    }  # fmt: skip
    return parse_study(data, name=example, folder=EXAMPLES)


def missed(exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Return the largest factor by which the exact frontier beats what was found: 0 where nothing is missed."""
    return max(float((found / row).max(axis=1).min()) for row in exact) - 1.0


def cpu() -> float:
    """Return seconds of processor time so far, workers that have ended included."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in used)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", action="store_true", help="the mapping search as well")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        "| study | designs | within budgets | seconds | CPU seconds | frontier |\n| --- | --- | --- | --- | --- | --- |"
    )
    answers = {}
    runs = [("llama-8b-serving", VARY, {}), ("llama-70b-training", VARY, {})]
    if asked.search:
        runs.append(("llama-8b-serving", SEARCHED, {"source": "dataflow"}))
    for example, vary, more in runs:
        start, used = time.monotonic(), cpu()
        a = answers.setdefault(example, design.answer(study(example, vary, **more)))
        seconds = time.monotonic() - start
        name = example + (", mapping search" if more else "")
        n = a.counted["evaluated"]
        print(
            f"| {name} | {n:,} | {len(a.designs):,} | {seconds:.1f} | {cpu() - used:.0f} | {len(a.frontier)} |",
            flush=True,
        )
    start = time.monotonic()
    a = design.answer(study("llama-8b-serving", VARY, search="optimise", evaluations=1000))
    exact = answers["llama-8b-serving"]
    gap = missed(exact.designs.costs[exact.frontier], a.designs.costs[undominated(a.designs.costs)])
    print(
        f"\noptimiser: {a.counted['evaluated']:,} of {a.counted['possible']:,} designs in {time.monotonic() - start:.1f} s; "
        f"its frontier misses the exact one by at most {100 * gap:.2g} % in any objective; chosen: "
        f"{100 * (a.designs.energy[a.chosen] / exact.designs.energy[exact.chosen] - 1):.2g} % more energy than the best"
    )


if __name__ == "__main__":
    main()
