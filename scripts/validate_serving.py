"""The simulated steady state beside measured serving, and beside the planner's mean step.

    python scripts/validate_serving.py REFERENCE_DIR [--every 4]

`REFERENCE_DIR/serving/llm_h100.csv.gz` holds rows of the ML.ENERGY leaderboard v3 (arXiv 2505.06371, Apache-2.0), not
part of this project. Each text row is simulated as a replica kept at its mean batch, with its prompts and outputs;
the middle of the run is compared. Rows with pictures are left out: a simulated step reads text alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from wattline.scenario import scenario
from wattline.scenario.validate import read_table
from wattline.serving.serving_rows import Row, predict, rows_of
from wattline.serving.simulate.outcome import Run
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.serving.simulate.table import step_table
from wattline.workload.arrivals import PAGE, Lengths
from wattline.workload.traffic import Requests

TARGETS = ("energy_per_token_j", "throughput_tok_s", "median_itl_ms")
# Requests per slot of the batch: enough for a middle without the filling and the draining.
_ROUNDS = 6


def requests_of(row: Row, batch: int) -> Requests:
    """Return requests all there at once, with the row's lengths, and its share of prompts seen before."""
    load, count = row.load, _ROUNDS * batch
    # Mean tokens generated so far by a running request are output / 2 * (1 + variation^2).
    seen = load.output / 2.0 if load.context is None else load.context
    variation = max(2.0 * seen / load.output - 1.0, 0.0) ** 0.5
    outputs = Lengths(load.output, min(variation, 2.0)).draw(count, np.random.default_rng(0))
    prompts = np.full(count, max(round(load.entering), 1))
    if not load.cached:
        return Requests(np.zeros(count), prompts, outputs)
    each = int(prompts[0]) // PAGE
    group = np.arange(count) % max(round((1.0 - load.cached) * count), 1)
    pages = (group[:, None] * each + np.arange(each)).ravel()
    return Requests(np.zeros(count), prompts, outputs, PAGE, np.arange(count + 1) * each, pages)


def steady(row: Row) -> dict[str, float]:
    """Return the targets of a row, simulated."""
    batch = max(round(row.batch), 1)
    requests = requests_of(row, batch)
    longest = int((requests.prompt + requests.output).max()) + 1
    table = step_table(row.replica, row.device, scenario.default_source(), max_batch=batch, longest=longest)
    run = simulate(requests, Fleet((Pool(table=table, max_batch=batch, blocks=1 << 40),)))
    return middle(run)


def middle(run: Run) -> dict[str, float]:
    """Return throughput and joules per token of the middle of a run, and its median time between tokens."""
    order = np.sort(run.end)
    a, z = order[len(order) // 6], order[len(order) // 2]
    # Tokens come evenly while a request decodes, so those of a window are its overlap with each request.
    shares = np.clip(np.minimum(run.end, z) - np.maximum(run.first, a), 0.0, None) / np.maximum(
        run.end - run.first, 1e-9
    )
    tokens = float((shares * run.output).sum())
    first, last = int(a / run.bin), max(int(z / run.bin), int(a / run.bin) + 1)
    joules = float(run.power[first:last].sum() * run.bin) * (z - a) / ((last - first) * run.bin)
    return {
        "energy_per_token_j": joules / tokens,
        "throughput_tok_s": tokens / (z - a),
        "median_itl_ms": 1e3 * run.itl(50),
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    columns = read_table(options.reference / "serving" / "llm_h100.csv.gz")
    every = rows_of(columns)
    picked = [i for i, row in enumerate(every) if row.load.visual == 0][:: options.every]
    rows = [every[i] for i in picked]
    found = [steady(row) for row in rows]
    planned = predict(rows, scenario.default_source())
    print(f"{len(rows)} text rows of {len(every)}\n")
    print("| median, mean % | simulated against measured | planner against measured | simulated against planner |")
    print("| --- | --- | --- | --- |")
    for name in TARGETS:
        measured = np.array([float(columns[name][i]) for i in picked])
        made, plan = np.array([f[name] for f in found]), planned[name]

        def error(one: np.ndarray, other: np.ndarray) -> str:
            off = 100 * np.abs(one / other - 1)
            return f"{np.median(off):.1f}, {off.mean():.1f}"

        print(f"| {name} | {error(made, measured)} | {error(plan, measured)} | {error(made, plan)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
