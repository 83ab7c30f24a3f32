"""Run `lowtime` (PyPI), the solver of Perseus, on a profile and print every plan it emits as one JSON line.

    python bench/lowtime_peer.py PROFILE.csv STAGES MICROBATCHES WAITING_POWER [UNIT_TIME]

Needs `pip install lowtime "networkx<3.5" matplotlib pandas`, best in an environment of its own. Costs, fits and graph are
those of its own example for Perseus (ml-energy/zeus, examples/pipeline_frequency_optimizer); a plan's time and energy are
taken again from the measured rows of the clocks it assigns. `bench/pipeline.py` calls this.
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import time
import warnings
from collections import defaultdict


def stage_map(stages, profiled):
    """Which profiled stage each stage is like: picked evenly where fewer, repeated where more."""
    if stages <= profiled:
        return [round(i * (profiled - 1) / max(1, stages - 1)) for i in range(stages)]
    return [min(profiled - 1, i * profiled // stages) for i in range(stages)]


def read(path):
    """(stage, instruction) -> list of (clock, seconds, joules)."""
    rows = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = int(row["stage"]), row["instruction"]
            rows[key].append((int(float(row["frequency"])), float(row["time"]), float(row["energy"])))
    return rows


def specifications(rows, mapping, waiting, unit):
    """One fitted specification per profiled stage and instruction, as lowtime's example makes them."""
    from lowtime.cost_model import ExponentialModel
    from lowtime.operation import CandidateExecutionOptions, ExecutionOption, OperationSpec

    made = {}
    for stage in mapping:
        for what in ("forward", "backward"):
            if (stage, what) in made:
                continue
            options = [
                ExecutionOption[int](real_time=t, unit_time=unit, cost=e, knob=f) for f, t, e in rows[stage, what]
            ]
            for option in options:
                option.cost -= waiting * option.quant_time * option.unit_time
            found = CandidateExecutionOptions[int](options=options)
            if len(found.options) <= 3:
                found = CandidateExecutionOptions[int](options=options, noise_factor=0.95)
            model = ExponentialModel(found, search_strategy="best")
            made[stage, what] = OperationSpec[int](options=found, cost_model=model)
    return made


def network(rows, stages, microbatches, waiting, unit):
    """lowtime's graph of a 1F1B iteration: sources 0 and 1, computations from 2."""
    import networkx as nx
    from lowtime.graph_utils import add_sink_node, add_source_node
    from lowtime.perseus.instruction import Backward, Forward
    from lowtime.perseus.schedule import Synchronous1F1B

    mapping = stage_map(stages, 1 + max(s for s, _ in rows))
    made = specifications(rows, mapping, waiting, unit)
    graph, place = nx.DiGraph(), {}
    for stage in range(stages):
        specs = {Forward: made[mapping[stage], "forward"], Backward: made[mapping[stage], "backward"]}
        before = None
        for one in Synchronous1F1B(
            num_stages=stages, num_micro_batches=microbatches, stage_id=stage, operation_spec_map=specs
        ):
            node = graph.number_of_nodes() + 2
            graph.add_node(node, op=one)
            place[type(one).__name__, stage, one.micro_batch_id] = node
            if before is not None:
                graph.add_edge(before, node)
            before = node
    for (what, stage, m), node in place.items():
        then = (what, stage + (1 if what == "Forward" else -1), m)
        if then in place:
            graph.add_edge(node, place[then])
    add_source_node(graph, 0)
    add_sink_node(graph, 1)
    graph.graph["source_node"], graph.graph["sink_node"] = 0, 1
    return graph, mapping


def main():
    """Solve, take every plan again from the measured rows, and print."""
    warnings.filterwarnings("ignore")
    import networkx as nx
    from lowtime.solver import PhillipsDessouky

    path, stages, microbatches, waiting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    unit = float(sys.argv[5]) if len(sys.argv) > 5 else 0.001
    rows = read(path)
    began = time.perf_counter()
    graph, mapping = network(rows, stages, microbatches, waiting, unit)
    fit_s = time.perf_counter() - began
    measured = {(s, what, f): (t, e) for (s, what), found in rows.items() for f, t, e in found}
    order = list(nx.topological_sort(graph))
    before = {v: list(graph.predecessors(v)) for v in order}
    plans, aside, began = [], 0.0, time.perf_counter()
    for _ in PhillipsDessouky(graph).run():
        paused = time.perf_counter()
        end, energy, busy = {}, 0.0, 0.0
        for v in order:
            start = max((end[u] for u in before[v]), default=0.0)
            one = graph.nodes[v]["op"]
            if one.is_dummy:
                end[v] = start
                continue
            t, e = measured[mapping[one.stage_id], type(one).__name__.lower(), one.assigned_knob]
            end[v], energy, busy = start + t, energy + e, busy + t
        plans.append((end[1], energy + waiting * (stages * end[1] - busy)))
        aside += time.perf_counter() - paused
    solve_s = time.perf_counter() - began - aside
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"solve_s": solve_s, "fit_s": fit_s, "peak_mb": peak, "plans": plans}))


if __name__ == "__main__":
    main()
