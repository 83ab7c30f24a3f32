"""The jobs of a fleet as frontiers: a training run, a serving replica, or a table of speeds and powers.

The unit of work is one second at full speed, so that every job's rate is a share of its full speed; for a
replica full speed is its traffic. Power is that of the equipment: losses, cooling and the rest belong to the
tree. Beside its frontier a job has its other ways (`Measure`): what it could give up, by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..core.errors import GoalError, ScenarioError, WattlineError
from ..frontier.algebra import Frontier
from ..frontier.answer import Array
from ..hardware.cluster import Cluster
from ..hardware.power_tree import PowerTree
from ..site.curves import Job
from ..site.layers import LAYERS, Measure
from . import scenario as scenarios
from .fleet_file import FleetScenario, beside, matching

# Most points of a training job's frontier; shares of its traffic at which a replica is looked at; shares of
# replicas among which the same traffic is looked at.
_POINTS: Final = 32
_LOADS: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_PACKED: Final = (0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, eq=False)
class Work:
    """One copy of a job: its frontier in seconds at full speed, the setting of every point, and its other ways.

    `uncertainty`: relative standard deviation of its power; 0 where the power is given. `nodes` : it fills, perhaps
    a part of one; `host` : W of hosts among its power, 0 where that is given.
    """

    frontier: Frontier
    settings: tuple[Mapping[str, Any], ...]
    idle: float
    chips: int
    serving: bool
    measures: tuple[Measure, ...]
    source: str = ""
    uncertainty: float = 0.0
    nodes: float = 1.0
    host: float = 0.0


# ---- jobs ------------------------------------------------------------------------------------------


def work_of(scenario: FleetScenario, row: Mapping[str, Any]) -> Work:
    """Return one copy of a job: from its scenario file, or from its table of speeds and powers."""
    name = row.get("name", "?")
    if ("scenario" in row) == ("speeds" in row):
        raise ScenarioError(f"job {name} takes either scenario = a file, or speeds and powers")
    if "speeds" in row:
        return _tabled(name, row)
    try:
        stated = scenarios.load(beside(scenario, row["scenario"])).with_({**row.get("set", {}), "site.pue": 1.0})
        return (_serving if stated.has("serve") else _training)(name, row, stated)
    except WattlineError as error:
        raise type(error)(f"job {name}: {str(error).removeprefix(f'job {name}: ')}") from None


def _tabled(name: str, row: Mapping[str, Any]) -> Work:
    speed, power = _speeds(f"job {name}", row)
    idle = row.get("idle", row.get("paused", 0.0))
    ways = [_Way(speed, power, [{"speed": float(s), "power_w": float(p)} for s, p in zip(speed, power, strict=True)])]
    measures = [Measure.of("clock", _frontier(speed, power, idle)[0])]
    for option in row["option"]:
        if "set" in option:
            raise ScenarioError(f"job {name}: an option of a job given by speeds is given by speeds too, not by set")
        faster, drawn = _speeds(f"job {name}, option", option)
        faster = faster * option.get("speed", 1.0)
        measures.append(Measure(_layer(name, option), drawn, faster, option.get("name", "")))
        ways.append(_Way.of(option, faster, drawn))
    frontier, settings = _joined(ways, idle)
    return Work(frontier, settings, idle, row.get("chips", 1), False, tuple(measures), f"job {name}: given")


def _speeds(what: str, row: Mapping[str, Any]) -> tuple[Array, Array]:
    speed, power = np.array(row.get("speeds", []), float), np.array(row.get("powers", []), float)
    if speed.size != power.size or not speed.size or (speed <= 0).any() or (power < 0).any():
        raise ScenarioError(
            f"{what}: speeds > 0 and as many powers are due, got {speed.tolist()} and {power.tolist()} W"
        )
    return speed, power


def _training(name: str, row: Mapping[str, Any], stated: scenarios.Scenario) -> Work:
    # With a power limit the frontier goes on beyond least energy, down to the lowest clocks.
    free = stated.with_({"goal.max_slowdown": 0.0, "site.power_limit": "1000 GW"})
    answer = scenarios.solve(free, detail=False)
    cluster = scenarios.cluster_of(free)
    base, idle = answer.baseline.time_s, idle_power(row, cluster)
    frontier, _ = _frontier(base / answer.time_s, answer.power_w, idle)
    frontier = frontier.thin(_POINTS)
    settings: tuple[Mapping[str, Any], ...] = tuple(
        {
            "speed": 1.0 / float(t),
            "power_w": float(p),
            "set": f"goal.max_slowdown={max(0.0, 100 * (float(t) - 1)):.4g} %",
        }
        for t, p in zip(frontier.time, frontier.average_power, strict=True)
    )
    measures = [Measure.of("clock", frontier)]
    ways = [_Way(1.0 / frontier.time, frontier.average_power, list(settings))]
    for option in row["option"]:
        other = scenarios.solve(free.with_(option.get("set", {})), detail=False)
        speed = base / other.time_s * option.get("speed", 1.0)
        measures.append(Measure(_layer(name, option), other.power_w, speed, option.get("name", "")))
        thinned = _frontier(speed, other.power_w, idle)[0].thin(_POINTS)
        ways.append(_Way.of(option, 1.0 / thinned.time, thinned.average_power))
    if len(ways) > 1:
        frontier, settings = _joined(ways, idle)
    return Work(
        frontier, settings, idle, cluster.devices, False, tuple(measures), f"job {name}: {answer.sources[0]}",
        answer.uncertainty, *_hosts(cluster),
    )  # fmt: skip


def _serving(name: str, row: Mapping[str, Any], stated: scenarios.Scenario) -> Work:
    first = scenarios.solve(stated, detail=False)
    if stated.get("serve.rate") is None and stated.get("serve.requests") is None:
        raise ScenarioError(f"job {name}: a replica of a fleet needs traffic; give serve.rate or serve.requests")
    rate = first.chosen.figures["requests_per_s"]
    cluster = scenarios.cluster_of(stated)
    idle = idle_power(row, cluster)
    speed, power, settings = _served(stated, rate, _LOADS)
    ways = [_Way(speed, power, list(settings))]
    measures = [Measure("load", power, speed, "fewer requests", along="load")]
    asleep = row.get("paused", idle)
    packed, drawn, _ = _served(stated, rate, tuple(1 / share for share in _PACKED))
    # The same requests on fewer replicas, per replica there is.
    share = 1 / packed
    measures.append(Measure("placement", share * drawn + (1 - share) * asleep, np.ones_like(share), "fewer replicas"))
    for option in row["option"]:
        faster, watts, knobs = _served(stated.with_(option.get("set", {})), rate, _LOADS)
        measures.append(Measure(_layer(name, option), watts, faster, option.get("name", ""), along="load"))
        ways.append(_Way.of(option, faster, watts, knobs))
    frontier, joined = _joined(ways, idle)
    return Work(
        frontier, joined, idle, cluster.devices, True, tuple(measures),
        f"job {name}: {first.sources[0]}", first.uncertainty, *_hosts(cluster),
    )  # fmt: skip


def _served(
    stated: scenarios.Scenario, rate: float, shares: Sequence[float]
) -> tuple[Array, Array, list[dict[str, Any]]]:
    """Return shares of the traffic that can be served, the least power of each within the latency limits, and knobs."""
    speed, power, settings = [], [], []
    for share in shares:
        try:
            found = scenarios.solve(stated.with_({"serve.rate": f"{share * rate!r} req/s"}), detail=False).chosen
        except GoalError:
            if share == 1.0:
                raise
            continue
        speed.append(share)
        power.append(found.average_power_w)
        settings.append({"speed": share, "power_w": found.average_power_w, **found.knobs[0]})
    return np.array(speed), np.array(power), settings


def _hosts(cluster: Cluster) -> tuple[float, float]:
    """Return the nodes a copy fills and the W of their hosts, without its chips."""
    return cluster.devices / cluster.chips_per_node, replace(cluster, site=None).facility_power(0.0)


def idle_power(row: Mapping[str, Any], cluster: Cluster) -> float:
    """Return the power of a job's nodes with nothing to do: chips and hosts idle."""
    if "idle" in row:
        return float(row["idle"])
    host = cluster.node.get("host.idle", cluster.node["host.power"])
    quiet = replace(cluster, node=cluster.node.with_({"host.power": float(host)}), site=None)
    return quiet.facility_power(cluster.chip["power.idle"])


def _frontier(speed: Array, power: Array, idle: float) -> tuple[Frontier, list[int]]:
    """Return the frontier of one second at full speed, and which of the given points it holds."""
    time = 1.0 / speed
    frontier = Frontier.of(time, (power - idle) * time, waiting_power=idle)
    return frontier, frontier.indices.tolist()


@dataclass(frozen=True, eq=False)
class _Way:
    """One way to do a job: (n,) speeds and W, and what to set for each."""

    speed: Array
    power: Array
    settings: list[Any]

    @staticmethod
    def of(
        option: Mapping[str, Any], speed: Array, power: Array, settings: Sequence[Mapping[str, Any]] | None = None
    ) -> _Way:
        """Return an option's way, each setting with the option's name and layer."""
        held = settings or [{}] * len(speed)
        told = {"option": option.get("name", "") or option.get("layer", ""), "layer": option.get("layer", "")}
        rows = [
            {**one, "speed": float(s), "power_w": float(p), **told}
            for one, s, p in zip(held, speed, power, strict=True)
        ]
        return _Way(speed, power, rows)


def _joined(ways: Sequence[_Way], idle: float) -> tuple[Frontier, tuple[Mapping[str, Any], ...]]:
    """Return the frontier of the best of all ways, and the setting of every point: options are used too."""
    speed, power = (np.concatenate([getattr(way, part) for way in ways]) for part in ("speed", "power"))
    settings = [one for way in ways for one in way.settings]
    fits = speed <= 1.0 + 1e-9  # full speed is the job's own; what an option does beyond it is not asked for
    index = np.flatnonzero(fits)
    frontier, kept = _frontier(speed[index], power[index], idle)
    return frontier, tuple(settings[index[i]] for i in kept)


def _layer(name: str, option: Mapping[str, Any]) -> str:
    if "layer" not in option:
        raise ScenarioError(f"job {name}: every [[job.option]] needs a layer: {', '.join(LAYERS)}")
    return str(option["layer"])


@dataclass(frozen=True, eq=False)
class Placed:
    """A job of the fleet with the row and the work it came from, and how many copies it is."""

    job: Job
    row: Mapping[str, Any]
    work: Work
    copies: int


def placed(scenario: FleetScenario, tree: PowerTree, known: dict[str, Work] | None = None) -> list[Placed]:
    """Return the fleet's jobs: one over all its parts, or one in each of them.

    `known` : name -> one copy of a job worked out before; what is missing is worked out and put there.
    """
    known = {} if known is None else known
    out: list[Placed] = []
    seen: set[str] = set()
    for number, row in enumerate(scenario.jobs, 1):
        name = row.get("name", f"job-{number}")
        if name in seen:
            raise ScenarioError(f"two jobs are called {name!r}; give each a name of its own")
        seen.add(name)
        if name not in known:
            known[name] = work_of(scenario, {**row, "name": name})
        work, count = known[name], row.get("count", 1)
        at = matching(tree, row.get("at", [tree.names[tree.root]]))
        if row.get("together", not work.serving) or len(at) == 1:
            where = at[0] if len(at) == 1 else dict.fromkeys(at, 1 / len(at))
            out.append(_place(name, row, work, count, where))
            continue
        for place, some in zip(at, np.array_split(np.arange(count), len(at)), strict=True):
            if some.size:
                out.append(_place(f"{name}@{place}", row, work, int(some.size), place))
    return out


def _place(name: str, row: Mapping[str, Any], work: Work, copies: int, at: str | Mapping[str, float]) -> Placed:
    paused = row.get("paused", work.idle) * copies if row.get("pause", "paused" in row) else None
    job = Job(
        name, work.frontier.copies(copies), at, weight=row.get("weight", 1.0) * work.chips * copies,
        minimum=row.get("minimum", 1.0 if work.serving else 0.0) * (1 - 1e-12), paused=paused,
    )  # fmt: skip
    return Placed(job, row, work, copies)
