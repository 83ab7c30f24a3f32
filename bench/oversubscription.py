"""How many more inference servers a row carries: the regime of POLCA (arXiv 2308.12908) on a stated synthetic mix.

    python bench/oversubscription.py [--hours 24] [--seeds 3] [--actuation 40] [--load 0.8] [--swing 0.2] [--samples power.csv]

A row provisioned for 40 servers of 6.5 kW (an 8-GPU A100 server). Half the servers carry work of high priority (weight 2), half
of low. A server draws 1.9 kW idle and 6.3 kW in prompt phases (mean 1.5 s); in token phases (mean 8.5 s) it draws 62 % of
that above idle. The load is 80 % with a swing over the day, so that 40 servers peak near 79 % of what is provisioned. A cap takes 40 s
to be in force. `--samples`: a column of measured watts of one server; the servers carried without control are then worked out from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.site.simulate.controllers import Prices, Thresholds, Uncapped, Uniform
from wattline.site.simulate.model import Crew, Physics, Site
from wattline.site.simulate.oversubscribe import Draw, breach, carried, most_servers, study

PROVISIONED, SERVERS = 6.5e3, 40
# Speed and power of a server in its prompt phase, by core clock: voltage falls with the clock, so power falls faster.
SPEED = np.array([1.0, 0.95, 0.9, 0.85, 0.787, 0.7])
WATTS = np.array([6300.0, 5700.0, 5150.0, 4700.0, 4200.0, 3700.0])
IDLE = 1900.0


def crews(servers: int, load: float, swing: float) -> tuple[Crew, Crew]:
    """Half the servers of each priority."""
    one = Frontier.of(1 / SPEED, (WATTS - IDLE) / SPEED, waiting_power=IDLE)
    both = {"load": load, "swing": swing, "quiet": 0.62, "lasts": (1.5, 8.5)}
    half = servers // 2
    return (
        Crew("high", one, [("row", servers - half)], weight=2.0, **both),
        Crew("low", one, [("row", half)], weight=1.0, **both),
    )


def site_of(servers: int, load: float, swing: float, actuation: float) -> Site:
    """The row with so many servers."""
    tree = PowerTree.read([{"name": "row", "limit": PROVISIONED * SERVERS}])
    return Site(tree, crews(servers, load, swing), Physics(actuation=actuation, cooling=0.0))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--swing", type=float, default=0.2)
    parser.add_argument("--actuation", type=float, default=40.0)
    parser.add_argument("--samples", type=Path)
    args = parser.parse_args()
    limit = PROVISIONED * SERVERS
    if args.samples:
        draw = Draw.of_samples(np.loadtxt(args.samples, delimiter=",", skiprows=1, ndmin=1))
    else:
        draw = Draw.of_crew(crews(2, args.load, args.swing)[0])
    print("| chance of a breach without control | servers | more than provisioned |\n| --- | --- | --- |")
    for chance in (0.0, 1e-6, 1e-4, 1e-2):
        most = most_servers(draw, limit, chance)
        print(f"| {chance:g} | {most} | {100 * (most / SERVERS - 1):+.0f} % |")
    if args.samples:
        return
    counts = [int(SERVERS * (1 + 0.05 * k)) for k in range(11)]
    rows = study(
        lambda n: site_of(n, args.load, args.swing, args.actuation), counts, [Uncapped, Uniform, Thresholds, Prices],
        lasts=3600 * args.hours, seeds=range(args.seeds),
    )  # fmt: skip
    print(
        "\n| servers | controller | high slowed | low slowed | time above the limit | by convolution | brakes | trips | peak |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        slow = " | ".join(f"{100 * row.slowdown[name]:.2f} %" for name in ("high", "low"))
        exact = f"{breach([(draw, row.servers)], limit):.2g}" if row.controller == "uncapped" else ""
        print(
            f"| {row.servers} ({100 * (row.servers / SERVERS - 1):+.0f} %) | {row.controller} | {slow} | {row.breach:.2g} | {exact} "
            f"| {row.brakes} | {row.trips} | {100 * row.peak:.1f} % |"
        )
    print("\n| at most | " + " | ".join(dict.fromkeys(row.controller for row in rows)) + " |\n" + "| --- " * 5 + "|")
    for slowdown, chance in ((0.01, 1e-4), (0.02, 1e-4), (0.02, 1e-2), (0.05, 1e-4)):
        most = carried(rows, slowdown=slowdown, chance=chance)
        cells = " | ".join(f"{100 * (n / SERVERS - 1):+.0f} %" if n else "none" for n in most.values())
        print(f"| {100 * slowdown:g} % slower, {chance:g} above | {cells} |")


if __name__ == "__main__":
    main()
