"""What a search looks through: variants of a replica (chip x layout x precision), and the trace whole and in parts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from ...core.errors import ScenarioError
from ...hardware.cluster import Cluster
from ...serving.candidates import Promise
from ...serving.fluid import Traffic
from ...serving.step import Replica
from ...workload.traffic import Requests
from .. import simulate_serving as simulation
from .. import stated as scenarios
from ..stated import Scenario

# Requests that candidates are explored with where the trace has more, and the stretches of it they come from.
SAMPLE, STRETCHES = 4000, 4

DEFAULTS: Final[Mapping[str, Any]] = {
    "tensor": (1, 2, 4, 8), "expert": (1,), "data": (1,), "pipeline": (1,), "drafts": (0,), "phases": True,
    "goal": "energy", "pools": ("one", "disaggregated", "by-length"), "confirm": 10,
}  # fmt: skip


def key_of(scenario: Scenario, name: str) -> Any:
    value = scenario.get(f"serve.search.{name}")
    return DEFAULTS.get(name) if value is None else value


# ---- variants ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A chip, a layout over such chips, and precisions; None is the model's own."""

    chip: str
    tensor: int = 1
    expert: int = 1
    data: int = 1
    precision: str | None = None
    kv_precision: str | None = None
    pipeline: int = 1
    drafts: int = 0

    @property
    def devices(self) -> int:
        """Chips of one replica."""
        return self.tensor * self.data * self.pipeline

    @property
    def label(self) -> str:
        """The variant in a few words."""
        words = [self.chip, f"tp{self.tensor}"]
        words += [f"{n}{x}" for n, x in (("ep", self.expert), ("dp", self.data), ("pp", self.pipeline)) if x > 1]
        words += [w for w in (self.precision, self.kv_precision and f"kv {self.kv_precision}") if w]
        words += [f"{self.drafts} drafts"] if self.drafts else []
        return " ".join(words)


def variants(scenario: Scenario) -> list[Variant]:
    """Return every combination that a scenario asks for."""

    def stored(name: Literal["precision", "kv_precision"]) -> list[str | None]:
        some = key_of(scenario, name)
        if some is not None:
            return [None if p == "stored" else p for p in some]
        return [scenario.get("serve.precision" if name == "precision" else "serve.kv_precision")]

    axes = (
        key_of(scenario, "chips") or (scenario["hardware.chip"],), key_of(scenario, "tensor"),
        key_of(scenario, "expert"), key_of(scenario, "data"), stored("precision"), stored("kv_precision"),
        key_of(scenario, "pipeline"), key_of(scenario, "drafts"),
    )  # fmt: skip
    return [Variant(*point) for point in itertools.product(*axes)]


def placed(scenario: Scenario, variant: Variant) -> tuple[Cluster, Replica]:
    """Return the chips of one replica and the replica on them, or raise where it cannot be."""
    values = {k: v for k, v in scenario.values.items() if k not in ("hardware.chips_per_node", "hardware.nodes")}
    if values.get("hardware.chip") != variant.chip:
        values.pop("hardware.node", None)
    stated = {
        "chip": variant.chip,
        "tensor": variant.tensor,
        "expert": variant.expert,
        "data": variant.data,
        "pipeline": variant.pipeline,
    }
    values |= {("hardware." if k == "chip" else "serve.") + k: v for k, v in stated.items()}
    for key in ("precision", "kv_precision"):
        values.pop(f"serve.{key}", None)
        if getattr(variant, key) is not None:
            values[f"serve.{key}"] = getattr(variant, key)
    values.pop("serve.draft_tokens", None)
    if variant.drafts:
        values["serve.draft_tokens"] = variant.drafts
    whole = scenarios.cluster_of(replace(scenario, values=values))
    devices, fits = variant.devices, whole.chips_per_node
    if devices > fits and devices % fits:
        raise ScenarioError(f"{devices} chips a replica do not fill nodes of {fits}")
    values |= {"hardware.chips_per_node": min(devices, fits), "hardware.nodes": max(1, devices // fits)}
    mine = replace(scenario, values=values)
    cluster = scenarios.cluster_of(mine)
    for precision in {variant.precision} & {"fp8"}:
        if f"compute.rate.{precision}" not in cluster.chip:
            raise ScenarioError(f"{variant.chip} does not compute in {precision}")
    return cluster, simulation.replica_of(mine, cluster)


_seen: dict[str, Scenario] = {}


def same(scenario: Scenario) -> Scenario:
    """Return the first scenario like this one seen here: workers get copies, and what they keep is kept by it."""
    return _seen.setdefault(repr((scenario.values, scenario.chip, scenario.node, scenario.folder)), scenario)


# ---- traffic -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)  # by identity: a scenario does not change
def slices(scenario: Scenario) -> Mapping[str, Requests]:
    """Return the trace whole, and cut by prompt length where pools by length are asked for and both would have work."""
    requests = simulation.requests_of(scenario)
    out = {"all": requests}
    if "by-length" in key_of(scenario, "pools"):
        short = requests.prompt <= split(scenario, requests)
        if 0 < short.sum() < len(short):
            out |= {"short": _taken(requests, short), "long": _taken(requests, ~short)}
    return out


@functools.lru_cache(maxsize=8)  # by identity: a scenario does not change
def sampled(scenario: Scenario) -> Mapping[str, Requests]:
    """Return `slices` of stretches of the trace, put one after the other: the same load in fewer requests."""
    whole = slices(scenario)
    n = len(whole["all"])
    if n <= SAMPLE:
        return whole
    size = SAMPLE // STRETCHES
    starts = [(n - size) * k // (STRETCHES - 1) for k in range(STRETCHES)]
    mask = np.zeros(n, bool)
    for start in starts:
        mask[start : start + size] = True
    arrival, gap = whole["all"].arrival.copy(), float(whole["all"].arrival[-1]) / n
    later = 0.0
    for start in starts:
        mine = slice(start, start + size)
        arrival[mine] += later - arrival[start]
        later = float(arrival[start + size - 1]) + gap
    requests = replace(_taken(whole["all"], mask), arrival=arrival[mask])
    out = {"all": requests}
    if "short" in whole:
        short = requests.prompt <= split(scenario, whole["all"])
        if 0 < short.sum() < len(short):
            return out | {"short": _taken(requests, short), "long": _taken(requests, ~short)}
        return whole
    return out


@functools.lru_cache(maxsize=16)
def fresh(scenario: Scenario, seed: int) -> Mapping[str, Requests]:
    """Return requests like those of the scenario from another seed, cut by length as its own are."""
    whole = slices(scenario)
    requests = simulation.made_up(scenario, scenario["serve.rate"], min(len(whole["all"]), SAMPLE), seed)
    out = {"all": requests}
    if "short" in whole:
        short = requests.prompt <= split(scenario, whole["all"])
        if 0 < short.sum() < len(short):
            return out | {"short": _taken(requests, short), "long": _taken(requests, ~short)}
    return out


def split(scenario: Scenario, requests: Requests) -> int:
    """Return the longest prompt that counts as short: where short ones hold half of all prompt tokens."""
    stated = key_of(scenario, "split")
    if stated is not None:
        return int(stated)
    order = np.sort(requests.prompt)
    return int(order[np.searchsorted(np.cumsum(order), order.sum() / 2.0)]) - 1


def _taken(requests: Requests, mask: Any) -> Requests:
    """Return some requests, arrivals as they are."""
    i = np.flatnonzero(mask)
    counts = np.diff(requests.first)[i]
    pages = [requests.pages[requests.first[k] : requests.first[k + 1]] for k in i] if requests.page else []
    return Requests(
        requests.arrival[i], requests.prompt[i], requests.output[i], requests.page,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate(pages) if pages else requests.pages[:0],
        urgency=requests.urgency[i], patience=requests.patience,
    )  # fmt: skip


@functools.lru_cache(maxsize=8)
def traffic_of(scenario: Scenario) -> Mapping[str, Traffic]:
    return {name: Traffic.of(some) for name, some in slices(scenario).items()}


def promise_of(scenario: Scenario) -> Promise:
    return Promise(
        scenario.get("serve.ttft"), scenario.get("serve.tpot"), scenario["serve.percentile"],
        scenario.get("site.power_limit"),
    )  # fmt: skip
