"""The keys of a study of designs: budgets, what is chosen, how it is searched, and the works. One table, as in `schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..core.errors import ScenarioError, nearest
from .design_space import LEAST
from .schema import Key

SEARCHES: Final = ("auto", "grid", "optimise")


def _table() -> tuple[Key, ...]:
    def key(path: str, kind: str, default: Any, text: str, **more: Any) -> Key:
        section, _, name = path.partition(".")
        return Key(section, name, kind, default, text, **more)

    tiny = 1e-12
    return (
        key("design.least", "choice", "energy", "What the chosen design has least of; edp is energy times time, cost and carbon count electricity and the chips", choices=LEAST),
        key("design.max_slowdown", "", 0.0, "Most machine time of the mix over that of the unchanged chip, less one", high=1e6),
        key("design.budget.area", "m2", None, "Most die area; no limit where left out", low=tiny),
        key("design.budget.power", "W", None, "Most power of one chip: its power limit is set no higher; no limit where left out", low=tiny),
        key("design.energy", "J", None, "What the site takes for this mix in a year on the unchanged chip, for its energy, cost and carbon", low=tiny),
        key("design.life", "s", 5 * 31557600.0, "Years over which a chip is written off, for least cost or carbon; five, as the large operators' accounts have it", low=1.0),
        key("design.markup", "", 1.0, "Price of a chip over what it costs to make, for least cost", low=tiny),
        key("design.use", "", 0.8, "Share of its life a chip is at this work, for least cost or carbon", low=tiny, high=1),
        key("design.search", "choice", "auto", "Every design, or an optimiser; auto: every one of up to 20,000", choices=SEARCHES),
        key("design.evaluations", "whole", 2000, "Most designs the optimiser evaluates", low=8),
        key("design.seed", "whole", 0, "Seed of the optimiser"),
        key("work.scenario", "text", None, "Scenario file of a training run or a serving replica, relative to this one"),
        key("work.name", "text", None, "What the work is called; the file's name where left out"),
        key("work.weight", "", 1.0, "Share of the site's energy this work takes on the unchanged chip, beside those of the others", low=tiny),
    )  # fmt: skip


KEYS: Final[Mapping[str, Key]] = {key.path: key for key in _table()}


def lookup(section: str, name: str) -> Key:
    """Return a key, or raise naming the nearest of its section."""
    found = KEYS.get(f"{section}.{name}")
    if found is None:
        shown = "design" if section == "design" else "design.work"
        names = [key.name for key in KEYS.values() if key.section == section]
        if section == "design":
            names += ["vary", "work"]
        else:
            names += ["set", "model", "train", "serve"]
        raise ScenarioError(f"unknown key {shown}.{name}; {nearest(name, names)}")
    return found
