"""A study of designs as a file: what varies, the budgets, and the works, checked and in SI.

[design]               budget.area, budget.power, least, max_slowdown, energy, search
[design.vary]          "level.l2.capacity" = ["25 MB", "50 MB"]      an entry of the chip's description, or any key of
                       memory = [{ name = "HBM4", ... }, ...]        a scenario; or named choices of several at once
[[design.work]]        scenario = "x.toml", or its [model] and [train] or [serve] in place; weight
[hardware], [chip], [node], [site], [goal]     for all works, in place of what their scenarios say
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError, ScenarioError
from ..core.toml_text import read_toml
from ..hardware.facts import INSIDE
from . import overrides, schema, schema_design
from . import scenario as scenarios
from .scenario import Scenario, check_fact, flat

# Sections that a study may state for all its works.
SHARED: Final = ("hardware", "chip", "node", "site", "goal")
# An option that leaves the chip as it is.
UNCHANGED: Final = "unchanged"


@dataclass(frozen=True)
class Option:
    """One value of an axis: its name, and the keys it sets."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """Something that varies."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Work:
    """One work of the mix, on the unchanged chip; `weight`: its share of the mix's energy there."""

    name: str
    scenario: Scenario
    weight: float


@dataclass(frozen=True)
class Study:
    """A checked study: SI inside."""

    name: str
    works: tuple[Work, ...]
    axes: tuple[Axis, ...]
    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return a value of [design], or its default, or None."""
        key = schema_design.KEYS[f"design.{name}"]
        return self.values.get(name, key.default)

    @property
    def possible(self) -> int:
        """How many designs there are, beside the unchanged one."""
        return math.prod(len(axis.options) for axis in self.axes)

    def changes(self, choice: Sequence[int]) -> dict[str, Any]:
        """Return what a design changes: option `choice[i]` of axis i, none where negative."""
        out: dict[str, Any] = {}
        for axis, c in zip(self.axes, choice, strict=True):
            if c >= 0:
                out |= axis.options[c].changes
        return out


def load(path: Path, changes: Mapping[str, str] | None = None) -> Study:
    """Read a study from a TOML file; `changes`: dotted key -> value, those of [design] or for all works."""
    data = changed(read_toml(path, "scenario"), changes or {})
    return parse_study(data, name=path.stem, folder=path.parent)


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return parsed TOML with values put in by dotted key, as `load` takes them."""
    return overrides.changed(data, changes, _set)


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    """Put one value of the command line into parsed TOML."""
    if not key.startswith("design."):
        data.setdefault("", {})[key] = value
        return
    name = key.removeprefix("design.")
    design = data.setdefault("design", {})
    if name.startswith("vary."):
        options = [v.strip() for v in value.split(",") if v.strip()] if isinstance(value, str) else list(value)
        design["vary"] = {**dict(flat(design.get("vary", {}))), name.removeprefix("vary."): options}
    elif name.startswith("work"):
        raise ScenarioError(f"--set {key}: works are set in the file; what all works share is set by its own key")
    else:
        head, _, rest = name.partition(".")
        if rest:
            design[head] = {**(design.get(head) or {}), rest: value}
        else:
            design[head] = value


def parse_study(data: Mapping[str, Any], *, name: str = "design", folder: Path = Path()) -> Study:
    """Check parsed TOML and return the study."""
    design = data.get("design")
    if not isinstance(design, Mapping):
        raise ScenarioError(f"design must be a section like [design], got {design!r}")
    values = {}
    for key, value in flat({k: v for k, v in design.items() if k not in ("vary", "work")}):
        values[key] = schema_design.lookup("design", key).read(value)
    works = _works(data, design.get("work"), name, folder)
    axes = _axes(design.get("vary"))
    study = Study(name, works, axes, values)
    _check(study)
    return study


# ---- works ----------------------------------------------------------------------------------------


def _works(data: Mapping[str, Any], rows: Any, name: str, folder: Path) -> tuple[Work, ...]:
    typed = dict(data.get("", {}))  # --set on the command line, for all works
    own = {k: v for k, v in data.items() if k not in ("design", "")}
    if rows is None:
        scenario = scenarios.parse(own, name=name, folder=folder)
        return (Work(name, scenario.with_(_for(scenario, typed)), 1.0),)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ScenarioError("design.work must be tables like [[design.work]], at least one")
    wrong = [section for section in own if section not in SHARED]
    if wrong:
        raise ScenarioError(
            f"[{wrong[0]}] beside [[design.work]] belongs to none of the works; move it into one, or take the works out"
        )
    shared = dict(flat(own)) | typed
    out = []
    for number, row in enumerate(rows, 1):
        work = _work(row, f"work {number}", folder)
        out.append(Work(work.name, work.scenario.with_(_for(work.scenario, shared)), work.weight))
    twice = sorted({w.name for w in out if sum(v.name == w.name for v in out) > 1})
    if twice:
        raise ScenarioError(f"two works are called {twice[0]!r}; give one another design.work.name")
    return tuple(out)


def _work(row: Mapping[str, Any], name: str, folder: Path) -> Work:
    inline = {k: v for k, v in row.items() if k in schema.SECTIONS}
    stated = {k: v for k, v in row.items() if k not in schema.SECTIONS and k != "set"}
    values = {k: schema_design.lookup("work", k).read(v) for k, v in stated.items()}
    if ("scenario" in values) == bool(inline):
        raise ScenarioError(
            'a [[design.work]] has either scenario = "x.toml" or sections of its own like [design.work.serve], '
            f"got {'both' if inline else 'neither'}"
        )
    if inline:
        scenario = scenarios.parse(inline, name=name, folder=folder)
    else:
        scenario = scenarios.load(folder / Path(values["scenario"]).expanduser())
        name = scenario.name
    changes = row.get("set", {})
    if not isinstance(changes, Mapping):
        raise ScenarioError(f'design.work.set must be a table like {{ "serve.rate" = "4 req/s" }}, got {changes!r}')
    return Work(values.get("name", name), scenario.with_(dict(flat(changes))), values.get("weight", 1.0))


def _for(scenario: Scenario, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those changes that concern this scenario: keys of [train] go to training, of [serve] to serving."""
    return {k: v for k, v in changes.items() if not _other(scenario, k)}


def _other(scenario: Scenario, key: str) -> bool:
    section = key.partition(".")[0]
    return section in ("train", "serve") and not scenario.has(section)


def applied(work: Work, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of a design that concern a work."""
    return _for(work.scenario, changes)


# ---- axes -----------------------------------------------------------------------------------------


def _axes(vary: Any) -> tuple[Axis, ...]:
    if not isinstance(vary, Mapping) or not vary:
        raise ScenarioError('a study varies something: design.vary."level.l2.capacity" = ["25 MB", "50 MB"]')
    return tuple(_axis(name, options) for name, options in flat(vary))


def _axis(name: str, options: Any) -> Axis:
    where = f"design.vary.{name}"
    if not isinstance(options, list):
        raise ScenarioError(f'{where} must be a list of values like ["25 MB", "50 MB"], got {options!r}')
    if not options:
        raise ScenarioError(f"{where} has no value to try; give it one or more, or take it out")
    out = tuple(_option(name, where, value) for value in options)
    twice = [o.name for i, o in enumerate(out) if o.name in [p.name for p in out[:i]]]
    if twice:
        raise ScenarioError(f"{where} has {twice[0]!r} twice; keep one")
    return Axis(name, out)


def _option(name: str, where: str, value: Any) -> Option:
    if value == UNCHANGED:
        return Option(UNCHANGED, {})
    if not isinstance(value, Mapping):
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return Option(shown, {full(name, where): value})
    stated = dict(value)
    label = stated.pop("name", None)
    if not isinstance(label, str) or not label:
        raise ScenarioError(f'{where}: a table of keys needs a name, like {{ name = "HBM4", ... }}, got {value!r}')
    return Option(label, {full(key, where): v for key, v in flat(stated)})


def full(key: str, where: str) -> str:
    """Return the dotted key of a scenario: entries of the chip's description may be named alone."""
    known = key.partition(".")[0] in schema.SECTIONS and "." in key
    found = key if known else f"chip.{INSIDE}{key}"
    try:
        section, _, name = found.partition(".")
        if section in ("chip", "node"):
            check_fact(section, name)
        else:
            schema.lookup(found)
    except InputError as error:
        raise ScenarioError(f"{where}: {error}") from None
    return found


# ---- the whole ------------------------------------------------------------------------------------


def _check(study: Study) -> None:
    """Refuse what would only show after a long search: works on different chips, values that no chip can have."""
    chips = {w.scenario.get("hardware.chip") for w in study.works}
    if len(chips) > 1:
        raise ScenarioError(
            f"the works run on different chips ({', '.join(sorted(map(str, chips)))}); a design is of one, so state it "
            "for all: [hardware] chip"
        )
    for work in study.works:
        if not (work.scenario.has("train") or work.scenario.has("serve")):
            raise ScenarioError(f"work {work.name} has neither [train] nor [serve]; a design is judged by what it runs")
    sections = {key.partition(".")[0] for axis in study.axes for option in axis.options for key in option.changes}
    for section in sorted(sections & {"train", "serve"}):
        if not any(w.scenario.has(section) for w in study.works):
            raise ScenarioError(f"design.vary has a key of [{section}], and no work has such a section")
    for axis in study.axes:
        for option in axis.options:
            for work in study.works:
                changes = applied(work, option.changes)
                try:
                    scenarios.cluster_of(work.scenario.with_(changes))
                except InputError as error:
                    raise ScenarioError(f"design.vary.{axis.name}, {option.name!r}: {error}") from None
