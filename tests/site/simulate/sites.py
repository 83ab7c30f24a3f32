"""Small sites for the tests of the site simulator, made by hand or drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from wattline import Frontier
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.hardware.redundancy import Group
from wattline.site.simulate.breaker import CURVES
from wattline.site.simulate.model import Crew, Limit, Physics, Site

SPEED = np.array([1.0, 0.9, 0.7])
WATTS = np.array([1000.0, 760.0, 480.0])


def node(idle: float = 200.0, scale: float = 1.0) -> Frontier:
    return Frontier.of(1 / SPEED, (scale * WATTS - idle) / SPEED, waiting_power=idle)


def one(**physics: float) -> Site:
    """One node on a feed that carries it."""
    tree = PowerTree.read([{"name": "feed", "limit": 5e3}])
    return Site(tree, (Crew("job", node(), [("feed", 1)]),), Physics(**physics))


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Two rows of two racks, three crews, everything that can happen happening often."""
    n = draw(st.integers(1, 4))
    tight = draw(st.floats(0.55, 1.2))
    overhead = Overhead(draw(st.sampled_from([0.0, 150.0])), (draw(st.sampled_from([0.0, 0.2])),))
    pool = (
        [Group("pair", ("row-1", "row-2"), 1, draw(st.sampled_from(["fixed", "free"])))] if draw(st.booleans()) else []
    )
    rows = [{"name": "feed", "limit": tight * 8e3 * n}]
    rows += [
        {"name": f"row-{r}", "on": "feed", "limit": (2 if pool else 1) * 4e3 * n, "loss": 0.05, "standing": 20.0}
        for r in (1, 2)
    ]
    rows += [
        {"name": f"rack-{k}", "on": f"row-{1 + k // 2}", "limit": draw(st.floats(1.5e3, 4e3)) * n} for k in range(4)
    ]
    tree = PowerTree.read(rows, overhead=overhead, groups=pool)
    crews = (
        Crew("train", node(), [("rack-0", n), ("rack-2", n)], gangs=draw(st.integers(1, 2))),
        Crew("serve", node(150.0, 0.8), [("rack-1", n), ("rack-2", n)], weight=2.0, load=0.8, swing=0.5,
             quiet=0.6, lasts=(3.0, 9.0), minimum=draw(st.sampled_from([0.0, 0.5]))),
        Crew("batch", node(100.0), [("rack-3", n)], arrivals=0.05, stay=30.0, paused=draw(st.sampled_from([None, 50.0]))),
    )  # fmt: skip
    often = draw(st.booleans())
    physics = Physics(
        breaker=draw(st.sampled_from([CURVES["extremely-inverse"], CURVES["iec-60898-b"].times(0.01)])),
        failing=400.0 if often else float("inf"), repair=40.0, restart=15.0, rework=10.0,
        slowing=300.0 if often else float("inf"), slowed=50.0, pace=0.6, reclose=60.0,
        cooling=draw(st.sampled_from([0.0, 50.0])), actuation=draw(st.sampled_from([0.0, 1.0, 3.0])),
        margin=draw(st.sampled_from([1.0, 0.8])), room=5.0, hottest=draw(st.sampled_from([330.0, 358.0])), warming=20.0,
    )  # fmt: skip
    events = (Limit(0, 0.75 * tight * 8e3 * n, 100.0, 180.0, 70.0),)
    return Site(tree, crews, physics, events)
