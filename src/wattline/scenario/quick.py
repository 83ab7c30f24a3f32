"""Questions in one line: a model, a chip and how many, made into a scenario whose layout was tried.

`serving` and `training` return scenarios that `solve` answers; `text` writes one as a file, to keep and to change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ..core.errors import GoalError, LayoutError, ScenarioError, WattlineError
from ..hardware import catalog as hardware
from ..workload import catalog as models
from . import schema
from .advice import fitting
from .scenario import Scenario, parse, solve

Sections = dict[str, dict[str, Any]]

# Layouts of one replica that are tried: as many chips as make a power of two.
_DEGREES = (1, 2, 4, 8, 16, 32, 64)


def serving(
    model: str, chip: str, chips: int | None, serve: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> Scenario:
    """Return a scenario that serves `model` on `chips` chips: replicas of the layout that takes least energy per token.

    `serve`: keys of [serve] as stated; `serve.tensor` among them keeps that layout. `changes`: dotted keys, after all.
    """
    count = _count(chips, chip)
    if models.model(model).role == "encoder":  # one pass over each text, and no token after it
        serve = {**serve, "output": 1}
    tried: list[tuple[float, Scenario]] = []
    last: WattlineError | None = None
    degrees = [int(serve["tensor"])] if serve.get("tensor") else [d for d in _DEGREES if count % d == 0]
    for tensor in degrees:
        asked = _replicas(model, chip, count, tensor, {k: v for k, v in serve.items() if v is not None}, changes or {})
        try:
            tried.append((solve(asked, detail=False).chosen.energy_j, asked))
        except WattlineError as error:
            # A layout that fits and is too slow says more than one that does not fit, and small ones carry the most.
            last = last if isinstance(last, GoalError) else error
    if tried:
        return min(tried, key=lambda item: item[0])[1]
    if isinstance(last, LayoutError) and not serve.get("tensor"):
        raise LayoutError(f"{model} does not fit on {count} x {chip}; {_more(model, chip, count, serve)}")
    assert last is not None
    raise last


def _count(chips: int | None, chip: str) -> int:
    """Return how many chips there are: as stated, those of the rented instance, or one."""
    if chips is None:
        found = hardware.instance(chip)
        return found.chips if found else 1
    if chips < 1:
        raise ScenarioError(f"the count of chips must be at least 1, got {chips}; try -n 1")
    return chips


def _replicas(
    model: str, chip: str, count: int, tensor: int, serve: Mapping[str, Any], changes: Mapping[str, Any]
) -> Scenario:
    if count % tensor:
        raise ScenarioError(f"serve.tensor = {tensor} does not divide {count} chips; try {math.gcd(tensor, count)}")
    work = dict(serve) | {"tensor": tensor}
    if count > tensor:
        work["replicas"] = count // tensor
    place = _place(chip, tensor)
    return parse({"model": {"name": model}, "hardware": place, "serve": work}, name="serve").with_(changes)


def _place(chip: str, chips: int) -> dict[str, Any]:
    """Return [hardware] for so many chips: one node, or as many full ones as it takes."""
    sheet = hardware.chip(chip)
    fits = int(hardware.default_node(sheet)["chips"])
    if chips <= fits:
        return {"chip": chip, "chips_per_node": chips, "nodes": 1}
    if chips % fits:
        raise ScenarioError(f"{chips} x {chip} do not fill nodes of {fits}; try {fits * math.ceil(chips / fits)} chips")
    return {"chip": chip, "chips_per_node": fits, "nodes": chips // fits}


def _more(model: str, chip: str, count: int, serve: Mapping[str, Any]) -> str:
    """Say how many chips, or which precision, would do."""
    stated = {k: v for k, v in serve.items() if v is not None and k not in ("tensor", "rate")}
    found = fitting(parse({"model": {"name": model}, "hardware": _place(chip, count), "serve": stated}, name="serve"))
    if found is None:
        return "try a smaller model, or a chip with more memory"
    need = int(found.get("hardware.chips_per_node", count)) * int(found.get("hardware.nodes", 1))
    narrow = found.get("serve.precision")
    return f"try -n {need}" + (f" --precision {narrow}" if narrow else "")


def training(
    model: str, chip: str, chips: int | None, train: Mapping[str, Any], changes: Mapping[str, Any] | None = None,
    *, fit: bool = True,
) -> Scenario:  # fmt: skip
    """Return a scenario that trains `model`; where `fit` and none is stated, with a layout that fits."""
    count = _count(chips, chip)
    work = {k: v for k, v in train.items() if v is not None}
    place = _place(chip, count)
    scenario = parse({"model": {"name": model}, "hardware": place, "train": work}, name="train").with_(changes or {})
    if not fit or any(key in work for key in ("tensor", "pipeline", "data")):
        return scenario
    found = fitting(scenario)
    if found is None:
        return scenario  # solving it says what is missing
    return (
        scenario.with_({k: v for k, v in found.items() if not k.startswith("hardware.")}) if _stays(found) else scenario
    )


def _stays(found: Mapping[str, Any]) -> bool:
    """Whether a layout fits on the chips that were stated."""
    return not any(key.startswith("hardware.") for key in found)


def text(scenario: Scenario) -> str:
    """Write a scenario as TOML, each stated key with what it means."""
    lines: list[str] = []
    for section, body in sections(scenario).items():
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        for name, value in body.items():
            rule = schema.KEYS.get(f"{section}.{name}")
            shown = json.dumps(value) if isinstance(value, str | bool) else str(value)
            lines.append(f"{name} = {shown}" + (f"  # {rule.text}" if rule else ""))
    return "\n".join(lines) + "\n"


def sections(scenario: Scenario) -> Sections:
    """Return a scenario's stated keys by section, as stated."""
    out: Sections = {}
    for key, value in scenario.text.items():
        section, _, name = key.partition(".")
        out.setdefault(section, {})[name] = value
    return out
