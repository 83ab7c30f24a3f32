"""A fleet scenario as a file: jobs, the power tree and the grid, checked and in SI.

[site.feed]            the site's feed, with [[site.feed.part]] below it and [[site.feed.group]] among them
[[job]]                another scenario, or speeds and powers; [[job.option]] is another way to do it
[grid]                 price, carbon, limits and weather over time; [[grid.event]] a curtailment
[goal]                 what is asked
[simulate]             how long, who sets the caps, what fails: for `wattline simulate`
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..core.errors import ScenarioError, UnitError, nearest
from ..core.toml_text import read_toml
from ..core.units import parse
from ..hardware.power_tree import Overhead, PowerTree
from ..hardware.redundancy import Group
from ..measure.carbon import clients
from ..measure.carbon.series import instant
from ..site.timeline import Steps, read, temperature
from . import overrides
from . import schema_fleet as schema


@dataclass(frozen=True)
class FleetScenario:
    """A checked fleet scenario: rows of SI values, only what was stated."""

    name: str
    jobs: tuple[Mapping[str, Any], ...]
    feed: Mapping[str, Any]
    grid: Mapping[str, Any]
    goal: Mapping[str, Any]
    folder: Path = Path()
    pools: tuple[Mapping[str, Any], ...] = ()
    simulate: Mapping[str, Any] = field(default_factory=dict)
    bill: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    currency: str = "USD"
    regions: tuple[Mapping[str, Any], ...] = ()


# ---- reading ---------------------------------------------------------------------------------------


def is_fleet(path: Path) -> bool:
    """Return whether a scenario file holds jobs; a file that cannot be read is none, and its reader says why."""
    try:
        return "job" in tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def load(path: Path, changes: Mapping[str, str] | None = None) -> FleetScenario:
    """Read a fleet scenario from a TOML file; `changes`: dotted key -> value, job.NAME.key for a job's."""
    data = changed(read_toml(path, "scenario"), changes or {})
    return parse_fleet(data, name=path.stem, folder=path.parent)


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return parsed TOML with values put in by dotted key, as `load` takes them."""
    return overrides.changed(data, changes, _set)


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    """Put one value of the command line into parsed TOML."""
    section, _, name = key.rpartition(".")
    if section.startswith("job."):
        rows = {str(row.get("name")): row for row in data.get("job", []) if isinstance(row, dict)}
        job = section.removeprefix("job.")
        if job not in rows:
            raise ScenarioError(f"no job is called {job!r}; {nearest(job, rows)}")
        rows[job][name] = overrides.literal(value)
        return
    if section.partition(".")[0] in ("tariff", "storage", "source", "service", "region"):
        kind, _, which = section.partition(".")
        rows = {str(row.get("name")): row for row in data.get(kind, []) if isinstance(row, dict)}
        if which not in rows:
            raise ScenarioError(f"no {kind} is called {which!r}; {nearest(which, rows)}")
        rows[which][name] = overrides.literal(value)
        return
    if section not in ("site", "site.feed", "grid", "goal", "simulate"):
        raise ScenarioError(
            f"--set {key}: a fleet takes site.KEY, site.feed.KEY, grid.KEY, goal.KEY, simulate.KEY and job.NAME.KEY; "
            "what belongs to a job's own scenario goes into its set = { ... }"
        )
    body = data
    for part in section.split("."):
        body = body.setdefault(part, {})
    if section == "goal" and name not in ("give_up", "more", "loss"):  # the new goal takes the place of the old
        data["goal"] = body = {k: v for k, v in body.items() if k in ("give_up", "more", "loss")}
    body[name] = overrides.literal(value)


def parse_fleet(data: Mapping[str, Any], *, name: str = "fleet", folder: Path = Path()) -> FleetScenario:
    """Check parsed TOML and return the scenario."""
    for section in data:
        if section not in schema.SECTIONS:
            raise ScenarioError(
                f"unknown section [{section}] of a fleet scenario; {nearest(section, schema.SECTIONS)}; "
                "models and chips belong in the scenario files of its jobs"
            )
    for section in ("site", "grid", "goal", "simulate"):
        if not isinstance(data.get(section, {}), Mapping):
            raise ScenarioError(f"{section} must be a section like [{section}], got {data[section]!r}")
    site = dict(data.get("site", {}))
    feed = site.pop("feed", {})
    if not isinstance(feed, Mapping):
        raise ScenarioError(f"site.feed must be a section like [site.feed], got {feed!r}")
    stated = _rows("job", data.get("job"), {"set": None, "option": None})
    if not stated:
        raise ScenarioError("a fleet scenario needs at least one [[job]]")
    jobs = []
    for row, raw in zip(stated, data["job"], strict=True):
        options = _rows("job.option", raw.get("option", []), {"set": None})
        jobs.append({**row, "option": options})
    codes = sorted(
        set().union(
            *(currencies(data.get(name)) for name in ("grid", "region", *_BILL)), *(currencies(data.get("job")),)
        )
    )
    if len(codes) > 1:
        raise ScenarioError(f"a scenario's money is in one currency, got {' and '.join(codes)}; convert one of them")
    body = {k: v for k, v in feed.items() if k not in ("part", "group")}
    grid = {k: v for k, v in data.get("grid", {}).items() if k != "event"}
    return FleetScenario(
        name,
        tuple(jobs),
        {
            **_section("site", site),
            **_section("site.feed", body),
            "part": _rows("site.feed.part", feed.get("part", []), {}),
            "group": _rows("site.feed.group", feed.get("group", []), {}),
        },
        {**_section("grid", grid), "event": _rows("grid.event", data.get("grid", {}).get("event", []), {})},
        _section("goal", data.get("goal", {})),
        folder,
        tuple(_rows("pool", data.get("pool", []), {})),
        _section("simulate", data.get("simulate", {})),
        {name: _rows(name, data.get(name), {}) for name in _BILL},
        next(iter(codes), "USD"),
        tuple(_rows("region", data.get("region"), {})),
    )


def _rows(section: str, rows: Any, also: Mapping[str, Any]) -> list[dict[str, Any]]:
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ScenarioError(f"{section} must be a list of tables like [[{section}]], got {rows!r}")
    return [
        {**_section(section, {k: v for k, v in row.items() if k not in also}), **{k: row[k] for k in also if k in row}}
        for row in rows
    ]


def _section(section: str, body: Any) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise ScenarioError(f"{section} must be a section like [{section}], got {body!r}")
    return {name: _sane(section, name, _value(section, name, value)) for name, value in body.items()}


# No power, energy, time or rate of a site is beyond it; sums and products of numbers below it stay finite.
_MOST: Final = 1e18


# Sections of what makes the bill.
_BILL: Final = ("tariff", "storage", "source", "service")


def _sane(section: str, name: str, value: Any) -> Any:
    """Refuse numbers that no site has, before sums of them overflow."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, (int, float)) and not -_MOST <= number <= _MOST and math.isfinite(number):
            raise ScenarioError(
                f"{section}.{name} must be below {_MOST:.0e} in SI units, got {number:.3g}; "
                "leave a limit out where there is none"
            )
    return value


def _value(section: str, name: str, value: Any) -> Any:
    """Return one value in SI, by the kind of its key."""
    rule = schema.lookup(section, name)
    if rule.kind == "list":
        if not isinstance(value, list) or not value:
            raise ScenarioError(f"{rule.path} must be a list, got {value!r}")
        return [parse(v, "W" if name == "powers" else "", key=rule.path) for v in value]
    if rule.kind == "demand":
        for unit in ("request/s", "token/s"):
            with contextlib.suppress(UnitError):
                return parse(value, unit, key=rule.path), unit
        raise ScenarioError(f'{rule.path} must be a rate such as "2000 req/s" or "5M tokens/s", got {value!r}')
    if rule.kind == "money":
        return money(value, "USD", rule.path)[0]
    if rule.kind.startswith("money/"):
        return money(value, f"USD/{rule.kind.partition('/')[2]}", rule.path)[0]
    if rule.kind == "hours":
        return hours_of_day(value, rule.path)
    if rule.kind == "names":
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(v, str) and v for v in names):
            raise ScenarioError(f"{rule.path} must be a name or a list of names, got {value!r}")
        return names
    if rule.kind == "pairs":
        if not isinstance(value, list) or not all(isinstance(v, list) and len(v) == 2 for v in value):
            raise ScenarioError(f'{rule.path} must be pairs like [["10 degC", "8 %"]], got {value!r}')
        return [(temperature(t, rule.path), parse(share, "", key=rule.path)) for t, share in value]
    if rule.kind == "temperature":
        return temperature(value, rule.path)
    if rule.kind == "instant":
        try:
            return instant(value)
        except ValueError:
            raise ScenarioError(f"{rule.path} must be an ISO 8601 time or seconds, got {value!r}") from None
    if rule.kind.startswith("series "):
        unit = rule.kind.partition(" ")[2]
        if (found := _series(rule.path, value)) is not None:
            return found
        if unit == "USD/J":
            return money(value, unit, rule.path)[0]
        if unit == "fraction":
            return parse(value, "", key=rule.path)
        return temperature(value, rule.path) if unit == "K" else parse(value, unit, key=rule.path)
    return rule.read(value)


# A currency's code in a price, after its number.
@dataclass(frozen=True)
class SeriesFile:
    """A series over time that stands elsewhere: a file with what it leaves open, or a grid service and its zone."""

    path: Path | None = None
    column: str | None = None
    unit: str | None = None
    zone: str | None = None
    service: str | None = None


def _series(key: str, value: Any) -> SeriesFile | None:
    """Return where a series stands; None where `value` is a quantity."""
    if isinstance(value, Mapping):
        if unknown := set(value) - {"file", "column", "unit", "zone"}:
            raise ScenarioError(f"{key}: unknown key {min(unknown)!r}; {nearest(min(unknown), _SERIES)}")
        if "file" not in value or not all(isinstance(one, str) for one in value.values()):
            raise ScenarioError(
                f'{key} must be {{ file = "...", column = "...", unit = "...", zone = "..." }}, got {value}'
            )
        return SeriesFile(Path(value["file"]), value.get("column"), value.get("unit"), value.get("zone"))
    if isinstance(value, str) and value.endswith(".csv"):
        return SeriesFile(Path(value))
    if isinstance(value, str) and value.partition(":")[0] in _SERVICES:
        return SeriesFile(service=value)
    return None


_SERIES: Final = ("file", "column", "unit", "zone")
_SERVICES: Final = ("electricity-maps", "watttime", "uk")

_CODE: Final = re.compile(r"^[\s0-9.,eE+_-]+([A-Z]{3})(?=/)")


def money(value: Any, unit: str, key: str) -> tuple[float, str]:
    """Read a price in any currency, such as "70 EUR/MWh", and return it in SI with the currency's ISO 4217 code."""
    found = re.search(r"(?<![A-Za-z])([A-Z]{3})(?=/|\s*$)", value) if isinstance(value, str) else None
    code = found.group(1) if found else "USD"
    text = value.replace(code, "USD", 1) if found else value
    try:
        return parse(text, unit, key=key), code
    except UnitError:
        raise UnitError(
            f"{key}: {value!r} is not a price in {unit.replace('USD', code)} or a multiple of it, e.g. "
            f'"{"15 EUR/kW" if unit.endswith("/W") else "70 EUR/MWh"}"'
        ) from None


def currencies(data: Any) -> set[str]:
    """Return the currencies that a scenario's texts name."""
    if isinstance(data, str):
        return set(_CODE.findall(data))
    inside = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    return set().union(*(currencies(one) for one in inside))


def hours_of_day(value: Any, key: str) -> tuple[float, float]:
    """Read "16:00-21:00" as seconds from midnight; the second may lie past midnight."""
    found = re.fullmatch(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*", str(value))
    if found:
        a, b, c, d = map(int, found.groups())
        begin, end = 3600 * a + 60 * b, 3600 * c + 60 * d
        if a <= 24 and c <= 24 and b < 60 and d < 60 and begin != end:
            return float(begin), float(end if end > begin else end + 86400)
    raise ScenarioError(f'{key} must be hours of the day such as "16:00-21:00", got {value!r}')


# ---- the power tree --------------------------------------------------------------------------------


def tree_of(scenario: FleetScenario) -> PowerTree:
    """Return the power tree: the feed, its parts repeated as often as stated, and redundancy groups."""
    feed = scenario.feed
    root = feed.get("name", "feed")
    rows: list[dict[str, Any]] = [{"name": root, "limit": feed.get("limit", math.inf), "loss": feed.get("loss", 0.0)}]
    made: dict[str, list[str]] = {root: [root]}
    waiting = list(feed["part"])
    for part in waiting:
        if "name" not in part:
            raise ScenarioError("every [[site.feed.part]] needs a name")
    while waiting:
        ready = [part for part in waiting if part.get("on", root) in made]
        if not ready:  # orphans and rings: the tree says which
            rows += [{**part, "on": part.get("on", root)} for part in waiting]
            break
        for part in ready:
            waiting.remove(part)
            rows += _repeated(part, made[part.get("on", root)], made)
    rows = _without_power(rows)
    tree = PowerTree.read(rows, overhead=_overhead(scenario), outdoor=_first_outdoor(scenario))
    groups = [_group(tree, row) for row in feed["group"]]
    if not groups:
        return tree
    return PowerTree.read(rows, overhead=tree.overhead, outdoor=tree.outdoor, groups=groups)


def _without_power(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with no standing load where a part, or one above it, has a limit of 0 W."""
    dark: set[Any] = {row["name"] for row in rows if row.get("limit") == 0}
    while more := {row["name"] for row in rows if row.get("on") in dark} - dark:
        dark |= more
    return [{**row, "standing": 0.0} if row["name"] in dark else row for row in rows]


def _group(tree: PowerTree, row: Mapping[str, Any]) -> Group:
    members = tuple(matching(tree, row.get("members", [])))
    return Group(row.get("name", "group"), members, row.get("spare", 1), row.get("sharing", "fixed"))


def _repeated(part: Mapping[str, Any], above: Sequence[str], made: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return one row for each copy of a part on each part above it."""
    count, name, rows = part.get("count", 1), part["name"], []
    made[name] = []
    for on in above:
        # What hangs on ups-2 is called row-2.1, row-2.2, ...
        stem = on.rpartition("-")[2] + "." if len(above) > 1 else ""
        for k in range(1, count + 1):
            label = (
                name if count == 1 and len(above) == 1 else f"{name}-{stem}{k}" if count > 1 else f"{name}-{stem[:-1]}"
            )
            rows.append({**part, "name": label, "on": on})
            made[name].append(label)
            made.setdefault(label, [label])
    return rows


def _overhead(scenario: FleetScenario) -> Overhead:
    feed, by_hour = scenario.feed, scenario.grid.get("pue")
    pairs = feed.get("cooling")
    if by_hour is not None and (pairs is not None or "pue" in feed):
        raise ScenarioError("grid.pue stands in place of site.pue and site.feed.cooling; keep one of them")
    if by_hour is not None:
        first = (
            steps_of(scenario, by_hour, "fraction", 0.0, 0.0).values if isinstance(by_hour, SeriesFile) else [by_hour]
        )
        if not min(first) >= 1:
            raise ScenarioError(f"grid.pue must be 1 or more, got {min(first):.4g}")
        return Overhead(feed.get("overhead", 0.0), (float(first[0]) - 1.0,))
    if pairs is None:
        return Overhead(feed.get("overhead", 0.0), (feed.get("pue", 1.0) - 1.0,))
    if "pue" in feed:
        raise ScenarioError("site.pue and site.feed.cooling both say what cooling takes; keep one")
    return Overhead(feed.get("overhead", 0.0), tuple(s for _, s in pairs), tuple(t for t, _ in pairs))


def _first_outdoor(scenario: FleetScenario) -> float | None:
    stated = scenario.feed.get("outdoor", scenario.grid.get("outdoor"))
    if isinstance(stated, SeriesFile):
        return float(steps_of(scenario, stated, "K", 0.0, 0.0).values[0])
    return None if stated is None else float(stated)


def steps_of(scenario: FleetScenario, where: SeriesFile, unit: str, start: float, stop: float) -> Steps:
    """Return a series from its file, or from a grid service for a span of time (s since 1970).

    Keys of services come from the environment: ELECTRICITYMAPS_TOKEN, WATTTIME_USER and WATTTIME_PASSWORD.
    """
    if where.path is not None:
        told = {"column": where.column, "given": where.unit, "zone": where.zone or scenario.grid.get("zone")}
        return read(beside(scenario, where.path), unit, scenario.grid.get("fill"), **told)
    assert where.service is not None
    name, _, area = where.service.partition(":")
    if unit != "g/J":
        raise ScenarioError(f"{name} gives carbon, and {unit} is asked for; give a file instead")
    if abs(start) < 1e8:
        raise ScenarioError(f"grid.carbon = {where.service!r} needs grid.start, a date and time with an offset")
    keys = {"electricity-maps": ("ELECTRICITYMAPS_TOKEN",), "watttime": ("WATTTIME_USER", "WATTTIME_PASSWORD")}
    missing = [key for key in keys.get(name, ()) if not os.environ.get(key)]
    if missing:
        raise ScenarioError(f"{name} needs {' and '.join(missing)} in the environment, or give a file of grid.carbon")
    place = [area] if name != "uk" else []
    series = clients.plugin(name)(*place, *(os.environ[key] for key in keys.get(name, ()))).series(start, stop)
    marked = np.array(series.estimated or [False] * len(series.values), bool)
    return Steps(np.array(series.edges), np.array(series.values), unit, series.source, marked)


def matching(tree: PowerTree, patterns: Sequence[str]) -> list[str]:
    """Return the parts that names or patterns mean, in the tree's order."""
    out: list[str] = []
    for pattern in patterns:
        found = fnmatch.filter(tree.names, pattern)
        if not found:
            tree.index(pattern)  # raises, naming the nearest part
        out += [name for name in found if name not in out]
    return out


def beside(scenario: FleetScenario, path: Path | str) -> Path:
    """Return a path as the scenario file means it: relative to itself."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else scenario.folder / path
