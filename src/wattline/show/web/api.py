"""What the page asks, answered: one function per view, a checked request in, plain data out.

These run in worker processes (`work`) and hold no logic of their own: they call what the command line
calls and put the answer into the same keys.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.errors import InputError, WattlineError, nearest
from ...core.units import show
from ...frontier.answer import Answer
from ...hardware.facts import keys
from ...scenario import scenario as scenarios
from ...scenario import schema
from ...scenario.levers import with_levers
from ...scenario.scenario import Scenario, cluster_of
from ..report import charts, vega, words
from . import reports, site
from .inbox import Inbox, Request

Json = dict[str, Any]
Tell = Callable[[int, int], None]

_inbox = Inbox()


def settle(folder: Path) -> None:
    """Keep the files of requests below `folder`, which whoever started this process removes."""
    global _inbox
    _inbox = Inbox(folder=folder)


# Most computations of a timeline sent to the page: more could not be told apart on a screen.
_TASKS: Final = 3000
# Slowdowns at which a preview of a training job is sketched.
_SLOWDOWNS: Final = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2)


def plan(request: Request, _tell: Tell) -> Json:
    """Return the answer of `wattline plan`, with names, layers and the timeline for pictures."""
    started = time.perf_counter()
    if reports.kind(request):
        return {**reports.plan(request, _inbox.folder(request)), "elapsed_s": time.perf_counter() - started}
    if site.is_fleet(request):
        return {**site.plan(request, _inbox.folder(request)), "elapsed_s": time.perf_counter() - started}
    scenario = _inbox.scenario(request)
    answer = with_levers(scenarios.solve(scenario), scenario)
    found = answer.to_dict()
    found["lever_rows"] = words.lever_rows(answer)
    found["parts"] = parts(answer.chosen.breakdown_j)
    found["figures"] = _figures(answer)
    found["timeline"], found["timeline_note"] = _timeline(answer)
    found["layers"] = layers(scenario, answer.elasticity)
    found["elapsed_s"] = time.perf_counter() - started
    return found


def preview(request: Request, _tell: Tell) -> Json:
    """Return the chosen point and the baseline without an exact solve, and the panel of layers: milliseconds."""
    from ...scenario.whatif import sketches

    started = time.perf_counter()
    if reports.kind(request):
        _inbox.folder(request)
        return {"row": None, "frontier": [], "layers": [], "elapsed_s": time.perf_counter() - started}
    if site.is_fleet(request):  # all of a fleet hangs together: there is no answer short of the whole
        _inbox.folder(request)
        return {"row": None, "frontier": [], "layers": site.knobs(request), "elapsed_s": time.perf_counter() - started}
    base, scenario = _inbox.base(request), _inbox.scenario(request)
    goal = {k: v for k, v in scenario.text.items() if k.startswith("goal.")}
    plain = {k: v for k, v in request.set.items() if not k.startswith("goal.")}
    row = sketches(base, [plain | goal])[0]
    sketched = row.get("method") == "steady state, corrected"
    others = [plain | {"goal.max_slowdown": f"{100 * s} %"} for s in _SLOWDOWNS] if sketched else []
    rows = sketches(base, others)
    if "error" in row:
        scenarios.solve(scenario, detail=False)  # says the same as an error of its own kind
        raise InputError(str(row["error"]))
    curve = sorted((r["time_s"], r["energy_j"]) for r in rows if "error" not in r)
    return {
        "row": row,
        "frontier": [{"time_s": t, "energy_j": e, "average_power_w": e / t} for t, e in curve],
        "layers": layers(scenario, {}),
        "elapsed_s": time.perf_counter() - started,
    }


def whatif(request: Request, tell: Tell, *, grid: Mapping[str, list[str]]) -> Json:
    """Return the rows of `wattline whatif --grid`, the unchanged scenario first."""
    from ...scenario.sweep import grid as product
    from ...scenario.whatif import sketches

    points = [{}, *product(grid)]
    if len(points) > _POINTS:
        raise InputError(
            f"the page sweeps at most {_POINTS:,} points, got {len(points):,}; use wattline whatif for more"
        )
    reports.refuse("swept", request)
    if site.is_fleet(request):
        raise InputError(
            "a fleet is not swept in the page; change a knob and pin the answer, or script wattline plan --set"
        )
    base = _inbox.base(request)
    rows: list[Json] = []
    for start in range(0, len(points), _CHUNK):
        some = sketches(base, [request.set | point for point in points[start : start + _CHUNK]])
        rows += [{**row, **point} for row, point in zip(some, points[start:], strict=False)]
        tell(len(rows), len(points))
    return {"base": rows[0], "rows": rows[1:]}


def simulate(request: Request, tell: Tell, *, policies: bool = False) -> Json:
    """Return the keys of `wattline simulate --json`, the power over time in at most a few hundred bins."""
    from ...scenario.simulate_serving import run

    reports.refuse("simulated", request)
    if site.is_fleet(request):
        raise InputError("the page simulates serving scenarios; wattline simulate plays a fleet")
    scenario = _inbox.scenario(request)
    if not scenario.has("serve"):
        raise InputError("only a [serve] scenario is simulated; this one trains")
    tell(0, 1)
    found = run(scenario, policies=policies).to_dict()
    found["power"] = _binned(found["power"])
    return found


# Most bins of power over time that are drawn.
_BINS: Final = 300


def _binned(power: Json) -> Json:
    """Return power over time in wider bins, each the mean of those it holds."""
    curves = {name: np.asarray(values) for name, values in power.items() if isinstance(values, list)}
    count = max((len(values) for values in curves.values()), default=0)
    each = max(1, -(-count // _BINS))
    starts = np.arange(0, count, each)
    sizes = np.diff(np.append(starts, count))
    return {
        "bin_s": power["bin_s"] * each,
        **{name: (np.add.reduceat(values, starts) / sizes).tolist() for name, values in curves.items() if count},
    }


_POINTS: Final = 2000
_CHUNK: Final = 16


def export(request: Request, _tell: Tell, *, kind: str, chart: str = "frontier") -> Json:
    """Return a file: its name, its media type, and its content as text or bytes."""
    if kind not in EXPORTS:
        raise InputError(f"export {kind!r} is not known; {nearest(kind, EXPORTS)}")
    if reports.kind(request) and kind == "html":
        return _file("report.html", reports.plan(request, _inbox.folder(request))["html"])
    if kind != "toml":
        reports.refuse(f"exported as {kind}", request)
    whole = site.is_fleet(request) or bool(reports.kind(request))
    if whole and kind != "toml":
        return _export_site(request, kind, chart)
    if whole and request.set:
        typed = " ".join(f"--set {key}={value!r}" for key, value in request.set.items())
        raise InputError(f"changed knobs are written into the text of one piece of work only; pass them on: {typed}")
    if whole:
        _inbox.folder(request)
        return _file("scenario.toml", request.scenario)
    scenario = _inbox.scenario(request)
    if kind == "toml":
        return _file("scenario.toml", stated(request))
    answer = scenarios.solve(scenario)
    if kind == "html":
        from ..report.page import page

        return _file("report.html", page(answer, scenario=request.scenario))
    if kind == "csv":
        return _file("knobs.csv", _knobs(answer))
    if kind == "frontier":
        return _file("frontier.csv", _csv(answer.to_dict()["frontier"]))
    drawn = charts.charts(answer)
    if chart not in drawn:
        raise InputError(f"chart {chart!r} is not one of this answer's; {nearest(chart, drawn)}")
    return _picture(chart, charts.svg(drawn[chart]), kind)


def _export_site(request: Request, kind: str, chart: str) -> Json:
    from ..report import fleet_charts, write_jobs
    from ..report.fleet_page import page

    answer = site.solved(request, _inbox.folder(request))
    if kind == "html":
        return _file("report.html", page(answer, scenario=request.scenario))
    if kind in ("svg", "png"):
        drawn = fleet_charts.charts(answer)
        name = chart if chart in drawn else next(iter(drawn))
        return _picture(name, charts.svg(drawn[name]), kind)
    with tempfile.TemporaryDirectory(prefix="wattline-") as folder:
        path = Path(folder) / "jobs.csv"
        write_jobs(answer, path)
        return _file("jobs.csv", path.read_text("utf-8"))


def _picture(name: str, drawn: str, kind: str) -> Json:
    if kind == "svg":
        return _file(f"{name}.svg", drawn)
    return {"name": f"{name}.png", "type": "image/png", "content": vega.png(drawn)}


EXPORTS: Final[Mapping[str, str]] = {
    "html": "text/html", "svg": "image/svg+xml", "png": "image/png", "csv": "text/csv", "frontier": "text/csv",
    "toml": "application/toml",
}  # fmt: skip


def _file(name: str, content: str) -> Json:
    return {"name": name, "type": EXPORTS.get(name.rpartition(".")[2], "text/plain"), "content": content.encode()}


def _knobs(answer: Answer) -> str:
    from ..report import write_knobs

    with tempfile.TemporaryDirectory(prefix="wattline-") as folder:
        path = Path(folder) / "knobs.csv"
        write_knobs(answer, path)
        return path.read_text("utf-8")


def _csv(rows: list[Json]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def stated(request: Request) -> str:
    """Return the scenario's text with the changed values written into it, comments kept.

    A changed key that the text states is rewritten in its line; others are added to their section.
    """
    lines = request.scenario.rstrip("\n").split("\n")
    for key, value in request.set.items():
        section, _, name = key.partition(".")
        text = _toml(value)
        at = _place(lines, section, name)
        if section == "goal":
            lines = _without_goals(lines, name)
            at = _place(lines, section, name)
        if at is not None:
            lines[at] = f"{lines[at].split('=')[0].rstrip()} = {text}"
            continue
        head = next((i for i, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
        if head is None:
            lines += ["", f"[{section}]", f"{name} = {text}"]
        else:
            lines.insert(head + 1, f"{name} = {text}")
    return "\n".join(lines) + "\n"


def _place(lines: list[str], section: str, name: str) -> int | None:
    inside = ""
    for i, line in enumerate(lines):
        head = line.strip()
        if head.startswith("["):
            inside = head.strip("[] ")
        elif "=" in line and not head.startswith("#"):
            key = line.split("=", 1)[0].strip().replace('"', "")
            if f"{inside}.{key}" == f"{section}.{name}":
                return i
    return None


def _without_goals(lines: list[str], name: str) -> list[str]:
    """A scenario has one goal: the lines of others go."""
    inside, out = "", []
    for line in lines:
        if line.strip().startswith("["):
            inside = line.strip("[] ")
        if inside == "goal" and "=" in line and not line.strip().startswith("#"):
            if line.split("=", 1)[0].strip() == name:
                out.append(line)
            continue
        out.append(line)
    return out


def _toml(value: str) -> str:
    text = value.strip()
    if text in ("true", "false"):
        return text
    try:
        float(text)
        return text
    except ValueError:
        return '"' + text.strip('"').replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---- for pictures --------------------------------------------------------------------------------


def parts(breakdown: Mapping[str, float]) -> list[Json]:
    """Return the joules by component, largest first, each with its phrase, colour and place from site to chip."""
    return [
        {
            "name": name,
            "title": words.component(name),
            "layer": words.layer(name),
            "colour": words.COLOURS[words.layer(name)],
            "path": _path(name),
            "energy_j": joules,
            "share": share,
        }
        for name, joules, share in words.share_out(breakdown)
    ]


def _path(name: str) -> list[str]:
    """Return where a component sits: site > rack > chip > group."""
    if not name.startswith("chip."):
        return ["Site"] if name == "cooling" else ["Site", "Servers and network"]
    group = {"compute": "Arithmetic", "memory": "Memory", "link": "Links"}.get(name.split(".")[1], "Awake")
    return ["Site", "Servers and network", "Chips", group]


def _figures(answer: Answer) -> list[Json]:
    """Return the figures of the chosen point beside those at maximum clocks, as the report shows them."""
    from ..report.terminal import compare

    return [dict(zip(("title", "baseline", "chosen", "change"), map(str, row), strict=True)) for row in compare(answer)]


def _timeline(answer: Answer) -> tuple[list[Json], str]:
    if not answer.timeline or "start_s" not in answer.timeline[0]:
        return [dict(k) for k in answer.timeline[:_TASKS]], ""
    tasks, note = charts.window(answer)
    return [dict(k) for k in tasks[:_TASKS]], note


def layers(scenario: Scenario, elasticity: Mapping[str, float]) -> list[Json]:
    """Return every knob of every layer: key, words, value as text, unit, source, elasticity, choices."""
    cluster = cluster_of(scenario)
    out: list[Json] = []
    for section in ("model", "hardware", "train", "serve", "site", "goal"):
        if section in ("train", "serve") and not scenario.has(section):
            continue
        mine = [rule for rule in schema.KEYS.values() if rule.section == section]
        shown = [rule for rule in mine if section != "goal" or rule.path in scenario.values]
        out += [_knob(scenario, rule, elasticity) for rule in shown]
    for section, sheet in (("chip", cluster.chip), ("node", cluster.node)):
        known = keys(section)
        for key in sheet:
            fact, path = sheet.facts[key], f"{section}.{key}"
            out.append(
                {
                    "key": path,
                    "section": section,
                    "title": words.parameter(path),
                    "about": known[key].description,
                    "value": show(fact.value, fact.unit),
                    "unit": fact.unit,
                    "source": fact.source,
                    "uncertainty": fact.uncertainty,
                    "elasticity": elasticity.get(path),
                    "choices": [],
                }
            )
    return out


def _knob(scenario: Scenario, rule: schema.Key, elasticity: Mapping[str, float]) -> Json:
    known = scenario.values.get(rule.path, rule.default)
    number = isinstance(known, (int, float)) and not isinstance(known, bool)
    plain = rule.kind in ("text", "choice", "flag", "whole", "texts", "wholes")
    text = "" if known is None else show(float(known), rule.kind) if number and not plain else str(known)
    if rule.path in scenario.text:
        text = str(scenario.text[rule.path])
    return {
        "key": rule.path,
        "section": rule.section,
        "title": words.parameter(rule.path),
        "about": rule.text,
        "value": text.lower() if isinstance(known, bool) else text,
        "unit": "" if plain else rule.kind,
        "source": "the scenario" if rule.path in scenario.values else "default" if known is not None else "not stated",
        "uncertainty": 0.0,
        "elasticity": elasticity.get(rule.path),
        "choices": list(rule.choices) or (["true", "false"] if rule.kind == "flag" else _catalog(rule.path)),
    }


def _catalog(path: str) -> list[str]:
    from ...scenario.listing import names

    kind = {"model.name": "models", "hardware.chip": "chips", "hardware.node": "nodes"}.get(path)
    return names(kind) if kind else []


# ---- what the page starts with -------------------------------------------------------------------


def examples() -> dict[str, Path]:
    """Return the shipped examples by name: beside the package where installed, at the project's root in a checkout."""
    package = Path(str(resources.files("wattline")))
    for folder in (package / "examples", package.parent.parent / "examples"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def runs(limit: int) -> list[Json]:
    """Return the latest measured runs of the store, newest first; none where there is no store yet."""
    from ...measure.store.database import Store
    from ...measure.store.runs import listing

    store = Store()
    try:
        return [dict(row) for row in listing(store, limit)] if store.exists else []
    except WattlineError:
        return []
