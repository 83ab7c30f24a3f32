"""What a scenario states, checked and in SI, and the models, clusters, goals and rates that follow from it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from ..core import plugins
from ..core.errors import LayoutError, ScenarioError, nearest
from ..core.fixed import Fixed
from ..core.toml_text import read_toml
from ..core.units import show
from ..frontier.answer import Goal, Rates
from ..hardware import catalog as hardware
from ..hardware.chip import pinned
from ..hardware.cluster import Cluster
from ..hardware.facts import INSIDE, Sheet, keys, sheet
from ..hardware.stated import rule as entry_rule
from ..source.base import Source
from ..workload import catalog as models
from ..workload.config import read as read_config
from ..workload.model import Model
from ..workload.parallel import Parallel
from . import schema
from .keys import FlagKey, NumberKey, TextKey, TextsKey, Value, WholeKey, WholesKey
from .overrides import literal

if TYPE_CHECKING:
    from ..serving.profile import Engine


@dataclass(frozen=True, eq=False)
class Scenario:
    """A checked scenario: what was stated, by dotted key, SI inside.

    Attributes
    ----------
    values : dotted key -> value in SI, only what was stated.
    chip, node : changes to the chip's and node's facts, as stated (text with units).
    folder : where relative paths start.
    """

    name: str
    values: Mapping[str, Any]
    text: Mapping[str, Any] = field(default_factory=dict)
    chip: Mapping[str, Any] = field(default_factory=dict)
    node: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    def __post_init__(self) -> None:
        for name in ("values", "text", "chip", "node"):  # nobody changes a scenario by what it was made from
            object.__setattr__(self, name, Fixed(getattr(self, name)))

    @overload
    def __getitem__(self, key: NumberKey) -> float: ...
    @overload
    def __getitem__(self, key: WholeKey) -> int: ...
    @overload
    def __getitem__(self, key: FlagKey) -> bool: ...
    @overload
    def __getitem__(self, key: TextKey) -> str: ...
    @overload
    def __getitem__(self, key: TextsKey) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, key: WholesKey) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, key: str) -> Value: ...

    def __getitem__(self, key: str) -> Value:
        """Return a value, or its default, or raise if it has neither."""
        rule = schema.lookup(key)
        value: Value | None = self.values.get(key, rule.default)
        if value is None:
            raise ScenarioError(f"{key} must be given: {rule.text.lower()}")
        return value

    @overload
    def get(self, key: NumberKey) -> float | None: ...
    @overload
    def get(self, key: WholeKey) -> int | None: ...
    @overload
    def get(self, key: FlagKey) -> bool | None: ...
    @overload
    def get(self, key: TextKey) -> str | None: ...
    @overload
    def get(self, key: TextsKey) -> tuple[str, ...] | None: ...
    @overload
    def get(self, key: WholesKey) -> tuple[int, ...] | None: ...
    @overload
    def get(self, key: str) -> Value | None: ...

    def get(self, key: str) -> Value | None:
        """Return a value, or its default, or None."""
        value: Value | None = self.values.get(key, schema.lookup(key).default)
        return value

    def has(self, section: str) -> bool:
        """True if any key of the section is stated."""
        return any(key.startswith(section + ".") for key in self.values)

    def with_(self, changes: Mapping[str, Any]) -> Scenario:
        """Return a copy with values replaced: dotted key -> text as on the command line, or a value."""
        out = self
        for key, value in changes.items():
            out = out._with_one(key.strip(), literal(value))
        out._check_work()
        return out

    def _check_work(self) -> None:
        if self.has("train") and self.has("serve"):
            raise ScenarioError("a scenario has [train] or [serve], not both; write one file for each")

        if self.has("measured") and (self.has("train") or self.has("serve")):
            raise ScenarioError("a scenario has [measured] or work to be modelled ([train], [serve]), not both")

    def _with_one(self, key: str, value: Any) -> Scenario:
        section, _, name = key.partition(".")
        if section in ("chip", "node"):
            check_fact(section, name)
            text = {**self.text, key: value}
            if section == "chip":
                return replace(self, chip={**self.chip, name: value}, text=text)
            return replace(self, node={**self.node, name: value}, text=text)
        if not name:
            raise ScenarioError(f"a key has the form section.name, got {key!r}; e.g. hardware.chip")
        values = {**self.values, key: schema.lookup(key).read(value)}
        rivals = {"model.name": "model.config", "model.config": "model.name"}
        if key in rivals:
            values.pop(rivals[key], None)
        if section == "goal":  # a scenario has one goal; the new one takes its place
            values = {k: v for k, v in values.items() if not k.startswith("goal.") or k == key}
        return replace(self, values=values, text={**self.text, key: value})


def load(path: str | Path) -> Scenario:
    """Read a scenario from a TOML file."""
    path = Path(path)
    data = read_toml(path, "scenario")
    return parse(data, name=path.stem, folder=path.parent)


def parse(data: Mapping[str, Any], *, name: str = "scenario", folder: Path = Path()) -> Scenario:
    """Check parsed TOML and return the scenario."""
    out = Scenario(name, {}, folder=folder)
    if "job" in data:
        raise ScenarioError(f"{name} is a fleet scenario (it has [[job]]); wattline plan answers it")
    if "design" in data:
        raise ScenarioError(f"{name} is a study of designs (it has [design]); wattline plan answers it")
    for section, body in data.items():
        if section not in schema.SECTIONS:
            raise ScenarioError(f"unknown section [{section}]; {nearest(section, schema.SECTIONS)}")
        if not isinstance(body, Mapping):
            raise ScenarioError(f"{section} must be a section like [{section}], got {body!r}")
        goals = [key for key in body if section == "goal"]
        if len(goals) > 1:
            raise ScenarioError(f"[goal] takes one key, got {', '.join(goals)}; other limits go to [site] and [serve]")
        for key, value in flat(body):
            out = out._with_one(f"{section}.{key}", value)
    out._check_work()
    return out


def flat(body: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted key, leaf) of nested tables."""
    out: list[tuple[str, Any]] = []
    for key, value in body.items():
        out += flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return out


def check_fact(section: str, name: str) -> None:
    """Refuse a key that no fact of a chip or node, or no entry of a chip's description, has."""
    if section == "chip" and name.startswith(INSIDE):
        if name != f"{INSIDE}node":  # the technology, which stands beside the entries
            entry_rule(name.removeprefix(INSIDE))
        return
    known = keys(section)
    if name not in known:
        raise ScenarioError(f"unknown key {section}.{name}; {nearest(name, known)}")


def model_of(scenario: Scenario) -> Model:
    """Return the scenario's model, from the catalog or a config.json."""
    config = scenario.get("model.config")
    if config is not None:
        return read_config(path_of(scenario, config))
    name = scenario.get("model.name")
    if name is None:
        raise ScenarioError(
            'the scenario names no model; add [model] name = "llama-3.1-8b" or config = "path/to/config.json"'
        )
    return models.model(name)


def path_of(scenario: Scenario, text: str) -> Path:
    """Return a path stated in a scenario; relative ones start at its file."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else scenario.folder / path


@functools.lru_cache(maxsize=256)  # by identity: a scenario does not change
def cluster_of(scenario: Scenario) -> Cluster:
    """Return the chips, their nodes and the site, with all replaced facts in place."""
    chip = _chip(scenario)
    stated = scenario.get("hardware.node")
    node = _changed(_sheet(scenario, "node", stated) if stated else hardware.default_node(chip), scenario.node)
    fits = int(node["chips"])
    rented = hardware.instance(scenario["hardware.chip"])
    used = scenario.get("hardware.chips_per_node") or min(fits, rented.chips if rented else fits)
    if used > fits:
        raise LayoutError(
            f"hardware.chips_per_node = {used} but node {node.name} has {fits}; try {fits}, or another hardware.node"
        )
    return Cluster(chip, node, scenario["hardware.nodes"], used=used, site=_site(scenario))


def _chip(scenario: Scenario) -> Sheet:
    """Return the scenario's chip; one of the catalog is built once for all works that a design is asked about."""
    name = scenario["hardware.chip"]
    _check_limit(scenario, name)
    if name.endswith(".toml"):  # a file may have changed since
        return _changed(pinned(_sheet(scenario, "chip", name)), scenario.chip)
    return _known_chip(name, json.dumps(scenario.chip))


def _check_limit(scenario: Scenario, name: str) -> None:
    """Refuse a power limit that the board of a chip in the catalog cannot be set to."""
    key = "power.limit"
    if key not in scenario.chip or name.endswith(".toml"):
        return
    board = _plain_chip(name)
    asked = board.with_({key: scenario.chip[key], "power.limit_min": "1 W"})[key]
    low = scenario.chip.get("power.limit_min")
    least = board.get("power.limit_min", 0.0) if low is None else 0.0
    most = board[key]
    if least - 1e-9 <= asked <= most * (1 + 1e-9):
        return
    near = show(min(max(asked, least), most), "W", 4)
    raise ScenarioError(
        f"chip.power.limit must be one that the board of {board.name} can be set to, {show(least, 'W', 4)} to "
        f"{show(most, 'W', 4)}, got {show(asked, 'W', 4)}; try {near}, or describe another board in a file "
        '(hardware.chip = "mine.toml")'
    )


@functools.lru_cache(maxsize=128)
def _known_chip(name: str, changes: str) -> Sheet:
    return _changed(_plain_chip(name), json.loads(changes))


@functools.lru_cache(maxsize=32)
def _plain_chip(name: str) -> Sheet:
    return pinned(hardware.chip(name))


def _sheet(scenario: Scenario, kind: str, name: str) -> Sheet:
    find = {"chip": hardware.chip, "node": hardware.node}[kind]
    return find(str(path_of(scenario, name)) if name.endswith(".toml") else name)


def _changed(sheet: Sheet, changes: Mapping[str, Any]) -> Sheet:
    return sheet.with_(changes, source="set in the scenario") if changes else sheet


def _site(scenario: Scenario) -> Sheet:
    """Return a site of the stated efficiency; nothing else of it is invented."""
    pue = (str(scenario["site.pue"]), "the scenario")
    return sheet("site", {"name": "site", "title": "Site", "pue": list(pue)})


def goal_of(scenario: Scenario) -> Goal:
    """Return the goal; with none stated, least energy at no slowdown (training) or within the latency limits."""
    stated = [(k, v) for k, v in scenario.values.items() if k.startswith("goal.")]
    if not stated:
        return Goal("latency") if scenario.has("serve") else Goal("max_slowdown", 0.0)
    key, value = stated[0]
    if value is False:
        raise ScenarioError(f"{key} = false asks for nothing; leave it out, or state another goal")
    return Goal(key.partition(".")[2], float(value))


def rates_of(scenario: Scenario) -> Rates:
    """Return price and carbon intensity, each only where the scenario gives it."""
    return Rates(scenario.get("site.price"), scenario.get("site.carbon"), scenario.get("site.chip_price"))


def parallel_of(scenario: Scenario, cluster: Cluster) -> Parallel:
    """Return the layout over devices."""
    if scenario.has("serve"):
        return Parallel(
            tensor=scenario["serve.tensor"],
            expert=scenario["serve.expert"],
            data=scenario["serve.data"],
            pipeline=scenario["serve.pipeline"],
            node=_near(cluster),
            section="serve",
        )
    tensor, pipeline, context = scenario["train.tensor"], scenario["train.pipeline"], scenario["train.context"]
    data = scenario.get("train.data") or max(1, cluster.devices // (tensor * pipeline * context))
    return Parallel(
        tensor=tensor,
        pipeline=pipeline,
        data=data,
        context=context,
        expert=scenario["train.expert"],
        sequence=scenario["train.sequence_parallel"] and tensor > 1,
        virtual=scenario["train.virtual"],
        zero=scenario["train.zero"],
        layers_per_stage=_stages(scenario),
        node=_near(cluster),
        section="train",
    )


def _stages(scenario: Scenario) -> tuple[int, ...]:
    text = scenario.get("train.stages")
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ScenarioError(
            f'train.stages = {text!r} must be layers with commas between; e.g. train.stages = "20,20,20,18"'
        )
    return tuple(int(part) for part in parts)


def _near(cluster: Cluster) -> int:
    """Return the chips that meet without the network: a scale-up domain, or a server where there is none."""
    return cluster.domain if cluster.domain > 1 else min(cluster.chips_per_node, cluster.devices)


def source_of(scenario: Scenario) -> Source:
    """Return the source that answers a scenario where the caller names none."""
    name = scenario["hardware.source"]
    if name == "dataflow":
        from ..source.dataflow import Dataflow

        return Dataflow()
    if name != "roofline":
        return cast("Source", plugins.load("wattline.sources", name))
    return default_source() if scenario.has("serve") else training_source()


def default_source() -> Source:
    """Return the source used where the caller names none: the calibrated analytic model."""
    from ..source.roofline.source import Roofline

    return Roofline()


def training_source() -> Source:
    """Return the same with products, collectives and kernels at the rates they keep up in a training step."""
    from ..source.roofline.source import Roofline

    return Roofline(sustained=True)


def searches(scenario: Scenario) -> bool:
    """Return whether a scenario asks for a search of configurations, which `serve_search.search` answers."""
    return bool(scenario.values.get("serve.search", scenario.has("serve.search")))


def factors_of(scenario: Scenario) -> tuple[tuple[str, float], ...]:
    """Return the factors of the file `serve.factors`, none where left out."""
    from ..serving.factors import read

    path = scenario.get("serve.factors")
    return read(path_of(scenario, path)) if path else ()


def engine_of(scenario: Scenario) -> Engine:
    """Return the engine that serves: `serve.engine`, with the switches it is launched with."""
    from ..serving.profile import Engine

    switches = scenario.get("serve.engine_switches") or ()
    return Engine.parse(scenario["serve.engine"], switches)


def title_of(model: Model, cluster: Cluster, replicas: int = 1) -> str:
    """Return what is planned, in a line."""
    return f"{model.name} on {replicas * cluster.devices} x {cluster.chip.title}"


def assumptions_of(scenario: Scenario, cluster: Cluster) -> tuple[str, ...]:
    """Say every default that the answer rests on."""
    section = "serve" if scenario.has("serve") else "train"
    out = []
    for rule in schema.KEYS.values():
        if rule.section in (section, "site") and rule.default is not None and rule.path not in scenario.values:
            value = rule.default
            shown = show(value, rule.kind) if isinstance(value, float) and rule.kind != "text" else value
            shown = str(value).lower() if isinstance(value, bool) else shown
            out.append(f"{rule.path} = {shown} (default)")
    if scenario.get("hardware.node") is None:
        out.append(f"hardware.node = {cluster.node.name} (the usual node of {cluster.chip.name})")
    return tuple(out)
