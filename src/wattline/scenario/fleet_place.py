"""A fleet scenario with pools answered: which job on which chips, and which nodes sleep.

A node of a pool runs as many copies of a job as fit on its chips; where one copy is larger than a node it runs
on a gang of them. The unit of work is a request of a service, or a token of a training run, so that different
chips can be weighed against one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import CapacityError, GoalError, ScenarioError, nearest
from ..frontier.algebra import Frontier
from ..frontier.answer import Array
from ..hardware.power_tree import PowerTree
from ..site.placement import Placement, Pool, Work, place
from . import scenario as scenarios
from .fleet_file import FleetScenario, beside, tree_of
from .fleet_work import idle_power


@dataclass(frozen=True, eq=False)
class PlacementAnswer:
    """The answer to one placement scenario.

    Attributes
    ----------
    ways : "best", and the best that never sleeps ("spread") or never slows down ("packed"), None where it cannot do it.
    settings : (job, pool) -> what to set at every point of its frontier there. units : job -> unit of its work.
    refused : (job, pool) -> why it does not run there.
    """

    title: str
    tree: PowerTree
    pools: tuple[Pool, ...]
    ways: Mapping[str, Placement | None]
    settings: Mapping[tuple[str, str], tuple[Mapping[str, Any], ...]]
    units: Mapping[str, str]
    sources: tuple[str, ...] = ()
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    gangs: Mapping[tuple[str, str], int] = field(default_factory=dict)

    kind = "placement"

    def gang(self, job: str, pool: str) -> int:
        """Return the nodes of one gang of a job on a pool."""
        return self.gangs.get((job, pool), 1)

    @property
    def best(self) -> Placement:
        """The placement of least power."""
        best = self.ways["best"]
        assert best is not None
        return best

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        best = self.best
        return {
            "kind": self.kind,
            "title": self.title,
            "feed_w": best.power,
            "bound_w": best.bound,
            "gap": best.gap,
            "nodes_searched": best.nodes,
            "placed": [
                {"job": job, "pool": pool, "gangs": n, **self.settings[job, pool][k]}
                for (job, pool, k), n in best.gangs.items()
            ],
            "pools": [
                {"name": p.name, "nodes": p.nodes, "idle": best.idle[p.name], "asleep": best.asleep[p.name]}
                for p in self.pools
            ],
            "work": [{"job": job, "per_s": rate, "unit": self.units[job]} for job, rate in best.work.items()],
            "ways": {name: None if way is None else {"feed_w": way.power} for name, way in self.ways.items()},
            "refused": [{"job": job, "pool": pool, "why": why} for (job, pool), why in self.refused.items()],
            "provenance": {"sources": list(self.sources)},
        }


def solve(scenario: FleetScenario) -> PlacementAnswer:
    """Return the placement of least power that meets every demand, beside the two simple rules."""
    tree = tree_of(scenario)
    pools = {pool.name: pool for pool in (_pool(scenario, tree, row) for row in scenario.pools)}
    chips = {row["name"]: row for row in scenario.pools}
    settings: dict[tuple[str, str], tuple[Mapping[str, Any], ...]] = {}
    refused: dict[tuple[str, str], str] = {}
    sources: list[str] = []
    works, units = [], {}
    for row in scenario.jobs:
        name = row.get("name", "job")
        if "demand" not in row or "scenario" not in row:
            raise ScenarioError(f"job {name}: with [[pool]] a job needs scenario and demand")
        demand, unit = row["demand"]
        on, gang = {}, {}
        for pool in row.get("pools", list(pools)):
            if pool not in pools:
                raise ScenarioError(f"job {name}: no pool is called {pool!r}; {nearest(pool, pools)}")
            try:
                found = _on(scenario, row, chips[pool], pools[pool], unit)
            except (GoalError, CapacityError) as error:
                refused[name, pool] = str(error)
                continue
            on[pool], gang[pool], settings[name, pool] = found.frontier, found.nodes, found.settings
            sources.append(f"job {name} on {pool}: {found.source}")
        if not on:
            raise GoalError(f"job {name} runs on none of its pools: {next(iter(refused.values()))}")
        units[name] = unit.partition("/")[0]
        limits = (row.get("burst", 0.0), row.get("within", 0.0))
        works.append(Work(name, on, demand, row.get("weight", 1.0), gang, *limits))
    ways: dict[str, Placement | None] = {"best": place(tree, [*pools.values()], works)}
    for way, rule in (("spread", {"sleep": False}), ("packed", {"fastest": True})):
        try:
            ways[way] = place(tree, [*pools.values()], works, **rule)
        except GoalError:
            ways[way] = None
    sizes = {(work.name, pool): size for work in works for pool, size in work.gang.items()}
    return PlacementAnswer(
        scenario.name, tree, (*pools.values(),), ways, settings, units, tuple(sources), refused, sizes
    )


def _pool(scenario: FleetScenario, tree: PowerTree, row: Mapping[str, Any]) -> Pool:
    for key in ("name", "chip", "nodes"):
        if key not in row:
            raise ScenarioError(f"every [[pool]] needs {key}, got {dict(row)}")
    hardware = {key: row[key] for key in ("chip", "node") if key in row}
    cluster = scenarios.cluster_of(scenarios.parse({"hardware": hardware}, folder=scenario.folder))
    at = row.get("at", tree.names[tree.root])
    tree.index(at)
    idle = idle_power(row, cluster)
    return Pool(row["name"], at, row["nodes"], idle, row.get("asleep"), row.get("wake", 0.0))


@dataclass(frozen=True, eq=False)
class _Gang:
    """What one gang of nodes does of a job: its frontier, how many nodes it takes, and the setting of every point."""

    frontier: Frontier
    nodes: int
    settings: tuple[Mapping[str, Any], ...]
    source: str


def _on(scenario: FleetScenario, row: Mapping[str, Any], chips: Mapping[str, Any], pool: Pool, unit: str) -> _Gang:
    """Return what a gang of a pool's nodes does of a job."""
    name = row.get("name", "job")
    changes = {**row.get("set", {}), "hardware.chip": chips["chip"], "site.pue": 1.0}
    stated = scenarios.load(beside(scenario, row["scenario"]))
    # The pool's own node, and as much work as a copy can do: demand is met by how many there are.
    stated = replace(
        stated, values={k: v for k, v in stated.values.items() if k not in ("hardware.node", "serve.rate")}
    )
    if "node" in chips:
        changes["hardware.node"] = chips["node"]
    stated = stated.with_(changes)
    if stated.has("serve"):
        rate, power, settings, source = _served(name, stated, unit)
    elif unit == "token/s":
        rate, power, settings, source = _trained(stated)
    else:
        raise ScenarioError(f"job {name} trains: its demand is in tokens/s, got requests/s")
    cluster = scenarios.cluster_of(stated)
    copies = int(cluster.node["chips"]) // cluster.chips_per_node if cluster.nodes == 1 else 1
    waiting = cluster.nodes * pool.idle
    frontier = Frontier.of(1 / (copies * rate), (copies * power - waiting) / (copies * rate), waiting_power=waiting)
    return _Gang(
        frontier, cluster.nodes, tuple({"copies": copies, **settings[i]} for i in frontier.indices), source
    )  # fmt: skip


def _served(name: str, stated: scenarios.Scenario, unit: str) -> tuple[Array, Array, list[Mapping[str, Any]], str]:
    """Return the rates, watts and settings of a replica that keep its latency limits."""
    if stated.get("serve.requests") is not None:
        raise ScenarioError(f"job {name}: with [[pool]] give serve.prompt and serve.output instead of serve.requests")
    answer = scenarios.solve(stated, simulated=False)
    # Faster tokens than the chosen ones keep the limits that it keeps.
    ok = np.flatnonzero(answer.time_s <= answer.chosen.figures["tpot_s"] * (1 + 1e-9))
    rate = answer.power_w / answer.energy_j
    if unit == "request/s":
        rate = rate * answer.chosen.figures["requests_per_s"] / answer.chosen.figures["tokens_per_s"]
    settings = [{key: answer.timeline[i][key] for key in ("clock_hz", "batch")} for i in ok]
    return rate[ok], answer.power_w[ok], list(settings), answer.sources[0]


def _trained(stated: scenarios.Scenario) -> tuple[Array, Array, list[Mapping[str, Any]], str]:
    answer = scenarios.solve(stated.with_({"goal.max_slowdown": 0.0, "site.power_limit": "1000 GW"}), detail=False)
    slower = answer.time_s / answer.baseline.time_s - 1
    settings = [{"set": f"goal.max_slowdown={max(0.0, 100 * float(s)):.4g} %"} for s in slower]
    return stated["train.tokens"] / answer.time_s, answer.power_w, list(settings), answer.sources[0]
