"""A near-memory decode chip beside a GPU for prefill: joules per request, by how fast tokens must come.

    python examples/near_memory.py              prints a table; --csv FILE writes it, --chart FILE draws it

One kind of chip does everything, or GPUs read prompts and another chip makes tokens. Each pool runs as full as its
latency limit allows, and pools are as large as their shares of the traffic, so a request costs the sum of both. The
cache of a prompt crosses the link between them once.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wattline import GoalError
from wattline.core.units import show
from wattline.frontier.answer import Answer, Goal
from wattline.hardware.cluster import Cluster
from wattline.scenario.scenario import cluster_of, model_of, parse
from wattline.serving.steady import ServingJob, plan_serving
from wattline.serving.step import Load, Replica
from wattline.source.base import Source
from wattline.source.dataflow import Dataflow
from wattline.source.roofline.source import Roofline
from wattline.workload.infer import Precision
from wattline.workload.memory import sequence_bytes
from wattline.workload.parallel import Parallel

MODEL, PROMPT, OUTPUT, TTFT = "llama-3.1-8b", 1024, 256, 0.5
LIMITS = (0.05, 0.02, 0.01, 0.007, 0.005)
GPU, NEAR = "h100-like", "hbm-pim-like"
# Eight multipliers where one is. Their area and a higher power limit are not counted: what would it change?
MORE = {"chip.architecture.compute.macs_per_cycle.bf16": 8}
# Kernels of GPUs are measured; of a chip that multiplies in its memory only a mapping search knows.
SOURCES: dict[str, Source] = {GPU: Roofline(), NEAR: Dataflow()}


def chips(name: str, changes: Mapping[str, Any] | None = None) -> Cluster:
    """Return one chip of a full node, with the usual cooling."""
    stated = {"hardware": {"chip": name, "chips_per_node": 1}, "site": {"pue": 1.2}, "model": {"name": MODEL}}
    return cluster_of(parse(stated).with_(changes or {}))


def served(cluster: Cluster, load: Load, tpot: float | None) -> Answer | None:
    """Return the plan of a replica that carries as much as its limits allow; None where it cannot keep them."""
    model = model_of(parse({"model": {"name": MODEL}}))
    replica = Replica(model=model, parallel=Parallel(section="serve"), precision=Precision())
    job = ServingJob(replica, load, ttft=TTFT, tpot=tpot, max_batch=256 if cluster.chip.name == GPU else 32)
    try:
        return plan_serving(job, cluster, SOURCES[cluster.chip.name], Goal("latency"), detail=False)
    except GoalError:
        return None


def joules(answer: Answer | None, tokens: float) -> float | None:
    """Return facility joules of one request."""
    return None if answer is None else answer.chosen.energy_j * tokens


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write joules per request against the limit as SVG."""
    from wattline.show.report import vega
    from wattline.show.report.charts import svg

    points = [
        {"limit": 1e3 * row["tpot_s"], "joules": v, "tokens on": name.removeprefix("tokens on ")}
        for row in rows
        for name, v in row.items()
        if v is not None and name != "tpot_s"
    ]
    log = vega.options(type="log")
    chart = (
        vega.Chart(points)
        .mark("line", point=True)
        .encode(
            x=vega.field("limit:Q", title="Time per output token, ms", scale=log),
            y=vega.field("joules:Q", title="Facility joules per request", scale=log),
            color=vega.field("tokens on:N", title=None),
        )
        .properties(width=640, height=280)
    )
    path.write_text(svg(chart), "utf-8")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--chart", type=Path)
    asked = parser.parse_args()
    whole, decode = Load(prompt=PROMPT, output=OUTPUT), Load(prompt=PROMPT, output=OUTPUT, cached=1 - 1e-6)
    gpu = chips(GPU)
    tokens = {"GPU": gpu, "near memory": chips(NEAR), "near memory, 8 x the arithmetic": chips(NEAR, MORE)}
    prompt = joules(served(gpu, Load(prompt=PROMPT, output=1), None), 1)
    moved = sequence_bytes(model_of(parse({"model": {"name": MODEL}})), Parallel(section="serve"), PROMPT)
    link = moved * gpu.chip["link.nvlink.energy"]
    assert prompt is not None
    print(f"reading a prompt on {GPU}: {show(prompt, 'J')}; moving its cache of {show(moved, 'B')}: {show(link, 'J')}")
    print(f"| a token every | all on GPU | {' | '.join(f'tokens on {n}' for n in tokens)} | tokens/s a chip |")
    print("| --- " * (3 + len(tokens)) + "|")
    rows = []
    for limit in LIMITS:
        plans = {name: served(c, decode, limit) for name, c in tokens.items()}
        each = {"all on GPU": joules(served(gpu, whole, limit), OUTPUT)}
        each |= {n: None if a is None else prompt + link + a.chosen.energy_j * OUTPUT for n, a in plans.items()}
        rows.append({"tpot_s": limit, **each})
        rates = " / ".join("-" if a is None else f"{a.chosen.figures['tokens_per_s']:,.0f}" for a in plans.values())
        cells = ["-" if v is None else show(v, "J") for v in each.values()]
        print(f"| {show(limit, 's')} | {' | '.join(cells)} | {rates} |")
    if asked.chart:
        draw(rows, asked.chart)
    if asked.csv:
        with asked.csv.open("w", encoding="utf-8", newline="") as stream:
            out = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(rows)


if __name__ == "__main__":
    main()
