"""Time of playing a site: 10,000 nodes for 24 hours in steps of one second, under each controller.

    python bench/site.py [--nodes 10000] [--hours 24] [--only prices] [--workers 1 2]

Half the nodes train in gangs, half serve with two phases and a daily swing; nodes fail every 30 days and straggle every 20; a
quarter of the feed's power goes for two hours with a minute's notice. `--workers` plays one site under four seeds on
Ray with so many workers instead, for the scaling and what a task costs. A controller named with @1 decides every second.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np

from wattline import Frontier
from wattline.hardware.power_tree import Overhead, PowerTree, uniform
from wattline.site.simulate.controllers import controller
from wattline.site.simulate.model import Crew, Limit, Physics, Site
from wattline.site.simulate.play import play

DAY = 86400.0
# Times that each number of workers is tried, turn by turn; the least time counts, for others use these cores too.
ROUNDS = 3
SPEED, WATTS = np.array([1, 0.93, 0.85, 0.7]), np.array([4200, 3300, 2600, 1900])
FLAT, LESS = np.array([1, 0.97, 0.9]), np.array([3800, 2700, 1900])


def tree_of(nodes: int) -> PowerTree:
    """A four-level tree of racks of 25 nodes; its feed carries less than everything at full speed draws."""
    racks = max(1, nodes // (4 * 10 * 25))
    return uniform(
        [
            ("feed", 1, nodes * 4.4e3), ("ups", 4, nodes / 4 * 4.6e3), ("row", 10, nodes / 40 * 4.7e3),
            ("rack", racks, 25 * 4.8e3),
        ],
        loss={"ups": 0.04}, overhead=Overhead(1e4, (0.12,)),
    )  # fmt: skip


def site_of(nodes: int, lasts: float) -> Site:
    """Half training in gangs of eight racks, half serving."""
    tree = tree_of(nodes)
    racks = [name for name, level in zip(tree.names, tree.level, strict=True) if level == 3]
    half = len(racks) // 2
    step = Frontier.of(1 / SPEED, (WATTS - 1200) / SPEED, waiting_power=1200.0)
    token = Frontier.of(1 / FLAT, (LESS - 1200) / FLAT, waiting_power=1200.0)
    crews = (
        Crew("train", step, [(rack, 25) for rack in racks[:half]], gangs=max(1, half // 8)),
        Crew(
            "serve",
            token,
            [(rack, 25) for rack in racks[half:]],
            weight=1.5,
            load=0.75,
            swing=0.3,
            quiet=0.7,
            lasts=(5.0, 20.0),
        ),
    )
    event = Limit(
        tree.root, 0.75 * nodes * 4.4e3, 0.5 * lasts, 0.5 * lasts + min(7200.0, 0.1 * lasts), 0.5 * lasts - 60
    )
    return Site(tree, crews, Physics(failing=30 * DAY, slowing=20 * DAY), (event,))


def one(nodes: int, lasts: float, name: str, seed: int) -> float:
    """Play once; return the seconds of a core it took."""
    began = time.process_time()
    play(site_of(nodes, lasts), named(name), lasts=lasts, seed=seed)
    return time.process_time() - began


def named(name: str):
    """A controller by name, with @ and the seconds between its decisions."""
    name, _, interval = name.partition("@")
    made = controller(name)
    if interval:
        made.interval = float(interval)
    return made


def nothing(number: int) -> int:
    """An empty task."""
    return number


def scaling(nodes: int, lasts: float, workers: list[int]) -> None:
    """Print the time of four runs on Ray with 1, 2, ... workers, and of an empty task."""
    import ray

    least: dict[int, tuple[float, float, float]] = {}
    for count in workers * ROUNDS:
        ray.init(num_cpus=count, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        task = ray.remote(one)
        ray.get([task.remote(40, 60.0, "uncapped", 0) for _ in range(count)])  # workers start and load the kernels
        began = time.perf_counter()
        busy = sum(ray.get([task.remote(nodes, lasts, "uncapped", seed) for seed in range(4)]))
        took = time.perf_counter() - began
        began = time.perf_counter()
        empty = ray.remote(nothing)
        ray.get([empty.remote(k) for k in range(500)])
        each = 1e3 * (time.perf_counter() - began) / 500
        ray.shutdown()
        print(f"{count} workers: {took:.1f} s, {busy:.1f} s of a core, load {os.getloadavg()[0]:.1f}", flush=True)
        found = (took, busy, each)
        least[count] = tuple(map(min, found, least.get(count, found)))
    print("| workers | four runs, s | seconds of a core | an empty task, ms |\n| --- | --- | --- | --- |")
    for count, (took, busy, each) in least.items():
        print(f"| {count} | {took:.1f} | {busy:.1f} | {each:.2f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--only", nargs="*", default=["uncapped", "uniform@1", "proportional@1", "prices"])
    parser.add_argument("--workers", nargs="*", type=int)
    args = parser.parse_args()
    lasts = 3600 * args.hours
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    if args.workers:
        scaling(args.nodes, lasts, args.workers)
        return
    one(40, 60.0, "prices", 0)  # compiles
    print(
        "| controller | s | s of one core | ns a node and step | slowest decision, ms | work done | above a limit, s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in args.only:
        site = site_of(args.nodes, lasts)
        began, before = time.perf_counter(), time.process_time()
        run = play(site, named(name), lasts=lasts)
        took, busy = time.perf_counter() - began, time.process_time() - before
        each = 1e9 * busy / (len(site.place) * lasts)
        print(
            f"| {name} | {took:.1f} | {busy:.1f} | {each:.1f} | {1e3 * run.thought:.1f} | {run.share:.4f} | {run.over_s:.0f} |",
            flush=True,
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
