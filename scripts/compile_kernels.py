"""Compile the numeric kernels once, so that the first plan does not wait for it; they are kept on disk.

python scripts/compile_kernels.py
"""

from __future__ import annotations

from pathlib import Path

from wattline import Frontier, scenario
from wattline.hardware.power_tree import PowerTree
from wattline.plan.curves import Job
from wattline.plan.fleet import Fleet

EXAMPLE = Path(__file__).parent.parent / "examples" / "llama-70b-training.toml"


def main() -> None:
    """Plan a small pipeline twice, exactly and unfolded from fewer microbatches, and a small fleet."""
    small = scenario.load(EXAMPLE).with_({"train.global_batch": 16, "train.recompute": "full"})
    for microbatches in (16, 160):
        scenario.solve(small.with_({"train.global_batch": microbatches}))
    job = Job("job", Frontier.of([1.0, 2.0, 3.0], [9.0, 4.0, 2.0], waiting_power=1.0), "feed", paused=0.0)
    fleet = Fleet(PowerTree.read([{"name": "feed", "limit": 8.0}]), [job, job])
    fleet.least_power(0.9 * fleet.most_work("discrete").value, "discrete")


if __name__ == "__main__":
    main()
