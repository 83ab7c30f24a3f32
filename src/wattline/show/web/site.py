"""Fleet scenarios in the studio: the answer of `wattline plan` with its tables in words, and the keys as knobs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...scenario import fleet, fleet_file, schema_fleet
from ...site.answer import FleetAnswer
from ..report import fleet_tables as tables
from .inbox import Request

Json = dict[str, Any]

# Sections of a fleet whose single values are knobs; jobs have their own, job.NAME.KEY.
_SECTIONS: Final = ("goal", "site", "site.feed", "grid")
_UNITLESS: Final = ("", "text", "flag", "whole", "choice", "names", "list", "pairs", "temperature")
_JOB: Final = ("count", "weight", "minimum", "pause", "due", "deadline")


def is_fleet(request: Request) -> bool:
    """Return whether the text holds jobs; a text that cannot be read is none, and its reader says why."""
    try:
        return "job" in tomllib.loads(request.scenario)
    except tomllib.TOMLDecodeError:
        return False


def solved(request: Request, folder: Path) -> FleetAnswer:
    """Return the answer; the files of the request lie in `folder`."""
    path = folder / "scenario.fleet.toml"
    path.write_text(request.scenario, "utf-8")
    return fleet.solve(fleet_file.load(path, request.set))


def plan(request: Request, folder: Path) -> Json:
    """Return the keys of `wattline plan --json`, the tables of the terminal, and the knobs."""
    answer = solved(request, folder)
    found = answer.to_dict()
    named = {
        "What every job gets": tables.jobs(answer),
        "Limits, the dearest first": tables.limits(answer, 16),
        "The cheapest way down": tables.way_down(answer),
        "Each layer alone": tables.alone(answer),
    }
    if answer.horizon is not None:
        named["Over time"] = tables.hours(answer)
    found["headline"] = tables.headline(answer)
    found["tables"] = [{"title": t, "head": head, "rows": rows} for t, (head, rows) in named.items() if rows]
    found["words"] = [list(pair) for pair in tables.facts(answer)]
    found["layers"] = knobs(request)
    return found


def knobs(request: Request) -> list[Json]:
    """Return the values that may be turned: of the goal, the feed, the grid, and of every job."""
    data = tomllib.loads(request.scenario)
    out = []
    for section in _SECTIONS:
        body: Any = data
        for part in section.split("."):
            body = body.get(part, {}) if isinstance(body, Mapping) else {}
        stated = body if isinstance(body, Mapping) else {}
        for rule in schema_fleet.KEYS.values():
            key = f"{section}.{rule.name}"
            if rule.section == section and (section != "goal" or rule.name in stated or key in request.set):
                out.append(_knob(key, section.split(".")[0], rule, stated.get(rule.name), request))
    for row in data.get("job", []):
        name = str(row.get("name", "")) if isinstance(row, Mapping) else ""
        for short in _JOB if name else ():
            rule = schema_fleet.KEYS[f"job.{short}"]
            out.append(_knob(f"job.{name}.{short}", "job", rule, row.get(short), request))
    return [knob for knob in out if knob["value"] != "" or not isinstance(knob["stated"], list)]


def _knob(key: str, section: str, rule: Any, stated: Any, request: Request) -> Json:
    value = request.set.get(key, stated if stated is not None else rule.default)
    plain = isinstance(value, (str, int, float, bool)) or value is None
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    job = f"{key.split('.')[1]}: " if section == "job" else ""
    return {
        "key": key,
        "section": section,
        "title": job + rule.text.partition(";")[0].partition(",")[0],
        "about": rule.text,
        "value": text if plain else "",
        "unit": "" if rule.kind in _UNITLESS else rule.kind.split()[-1],
        "source": "the scenario" if stated is not None else "default" if rule.default is not None else "not stated",
        "stated": stated if isinstance(stated, list) else None,
        "uncertainty": 0.0,
        "elasticity": None,
        "choices": list(rule.choices) or (["true", "false"] if rule.kind == "flag" else []),
    }
