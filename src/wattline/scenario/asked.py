"""A question in any of its forms, a file, a mapping or keywords, becomes one checked scenario of its kind.

    plan("job.toml")                                            a TOML file
    plan({"model": {"name": "llama-3.1-8b"}, "serve": {...}})   the same as a mapping
    plan(model="llama-3.1-8b", chip="h100", serve={...})        keywords: sections, or keys that only one section has

Which kind it is follows from its sections: [[job]] is a fleet (with [[pool]] a placement, [[region]] several sites),
[design] a study of designs, [serve.search] a search, anything else one piece of work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..core.errors import InputError, ScenarioError, nearest
from ..core.toml_text import parse_toml, read_text
from . import schema, schema_fleet
from .design_file import Study
from .fleet_file import FleetScenario
from .scenario import Scenario

Kind = Literal["plan", "search", "fleet", "placement", "regions", "design"]
Changes = Mapping[str, Any]

# Keywords that say a section's key by its own name; what a person types first.
_WORDS: Final = {"model": "model.name", "config": "model.config", "goal": "goal"}


@dataclass(frozen=True)
class Asked:
    """One checked question. `text` is what was asked, for a report to show."""

    kind: Kind
    stated: Scenario | FleetScenario | Study
    text: str


def asked(what: str | Path | Mapping[str, Any] | None, changes: Changes | None = None, **keywords: Any) -> Asked:
    """Return the question that a file, a mapping or keywords put, with `changes` (dotted key -> value) applied.

    Raises
    ------
    InputError : nothing was asked, or twice. ScenarioError : a key or value that cannot be used, and what works.
    """
    if what is None and not keywords:
        raise InputError('nothing was asked; pass a file ("job.toml"), a mapping, or keywords (model=..., serve={...})')
    if what is not None and keywords:
        raise InputError(
            f"a file or mapping and keywords ({', '.join(keywords)}) were given; change a file's values with "
            'changes={"section.key": value}'
        )
    if isinstance(what, (str, Path)):
        path = Path(what)
        text = read_text(path, "scenario")
        data, name, folder = parse_toml(text, f"scenario {path}"), path.stem, path.parent
    else:
        data, name, folder = dict(what) if what is not None else _sections(keywords), "scenario", Path()
        text = json.dumps(data, indent=2, default=str)
    kind, stated = _parsed(data, dict(changes or {}), name, folder)
    return Asked(kind, stated, text)


def _parsed(data: Mapping[str, Any], changes: Changes, name: str, folder: Path) -> tuple[Kind, Any]:
    from . import design_file, fleet_file
    from . import scenario as scenarios

    if "job" in data:
        changed = fleet_file.changed(data, changes)
        fleet = fleet_file.parse_fleet(changed, name=name, folder=folder)
        return ("regions" if fleet.regions else "placement" if fleet.pools else "fleet"), fleet
    if "design" in data:
        return "design", design_file.parse_study(design_file.changed(data, changes), name=name, folder=folder)
    stated = scenarios.parse(data, name=name, folder=folder).with_(changes)
    return ("search" if scenarios.searches(stated) else "plan"), stated


def _sections(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords as sections: mappings are sections, other words are keys that only one section has."""
    out: dict[str, Any] = {k: dict(v) for k, v in keywords.items() if isinstance(v, Mapping)}
    rows = {k: v for k, v in keywords.items() if isinstance(v, (list, tuple)) and v and isinstance(v[0], Mapping)}
    out |= rows
    known = {*schema.SECTIONS, *schema_fleet.SECTIONS, "design"}
    for section in out:
        if section not in known:
            raise ScenarioError(f"unknown section {section}=...; {nearest(section, known)}")
    for word, value in keywords.items():
        if word in out or value is None:
            continue
        section, _, key = (_WORDS.get(word) or _place(word, out)).partition(".")
        if not key:
            raise ScenarioError(f"{word} takes a mapping, e.g. {word}={{...}}, got {value!r}")
        out.setdefault(section, {})[key] = value
    return out


def _place(word: str, sections: Mapping[str, Any]) -> str:
    """Return section.key of a plain keyword: the one section that has it, or the one of those that is asked for."""
    homes = [key.section for key in schema.KEYS.values() if key.name == word]
    if len(homes) > 1:
        homes = [home for home in homes if home in sections] or homes
    if len(homes) == 1:
        return f"{homes[0]}.{word}"
    if homes:
        said = ", ".join(f"{home}={{{word!r}: ...}}" for home in homes)
        raise ScenarioError(f"{word} belongs to several sections; say which: {said}")
    names = {key.name for key in schema.KEYS.values()} | set(_WORDS) | set(schema.SECTIONS)
    raise ScenarioError(f"unknown keyword {word}; {nearest(word, names)}")
