"""Compile the numeric kernels once, so that nothing waits for it later; they are kept on disk.

python scripts/compile_kernels.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.scenario import scenario
from wattline.serving.candidates import Question, rows
from wattline.serving.fluid import Traffic
from wattline.serving.simulate import pool as serving
from wattline.serving.simulate.play import simulate
from wattline.serving.simulate.policies import FixedClock, Parking
from wattline.serving.simulate.table import step_table
from wattline.serving.step import Replica
from wattline.site.allocate import Fleet
from wattline.site.curves import Job
from wattline.site.simulate.controllers import Uncapped
from wattline.site.simulate.model import Crew, Site
from wattline.site.simulate.play import play
from wattline.source.base import Device
from wattline.workload.parallel import Parallel
from wattline.workload.traffic import Requests

EXAMPLE = Path(__file__).parent.parent / "examples" / "llama-70b-training.toml"


def main() -> None:
    """Plan a small pipeline twice, exactly and unfolded, and a fleet; play a site; serve four requests."""
    small = scenario.load(EXAMPLE).with_({"train.global_batch": 16, "train.recompute": "full"})
    for microbatches in (16, 160):
        scenario.solve(small.with_({"train.global_batch": microbatches}))
    job = Job("job", Frontier.of([1.0, 2.0, 3.0], [9.0, 4.0, 2.0], waiting_power=1.0), "feed", paused=0.0)
    fleet = Fleet(PowerTree.read([{"name": "feed", "limit": 8.0}]), [job, job])
    fleet.least_power(0.9 * fleet.most_work("discrete").value, "discrete")
    play(Site(fleet.tree, (Crew("job", job.frontier, [("feed", 2)]),)), Uncapped(), lasts=5.0)
    serve(scenario.cluster_of(small))


def serve(cluster: scenario.Cluster) -> None:
    """Serve four requests on two small replicas."""
    replica = Replica(model=scenario.models.model("llama-3.2-1b"), parallel=Parallel(section="serve"), chunk=64.0)
    table = step_table(replica, Device(cluster.chip, cluster.node), scenario.default_source(), max_batch=8)
    requests = Requests(np.array([0.0, 1.0, 9.0, 30.0]), np.full(4, 20), np.full(4, 3))
    pool = serving.Pool(table=table, replicas=2, max_batch=8)
    simulate(requests, serving.Fleet((pool,)), Parking(FixedClock(), slots=8, interval=2.0))
    found = rows(replica, cluster, Traffic.of(requests), scenario.default_source(), Question(max_batch=8))
    assert len(found[0].energy)


if __name__ == "__main__":
    main()
