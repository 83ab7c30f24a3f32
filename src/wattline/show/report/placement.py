"""A placement told to a person: who runs where, which nodes sleep, and what simpler rules would draw."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ...core.errors import InputError
from ...core.units import show
from . import charts, vega, words
from .charts import WIDTH
from .document import chart_place, document, fluid
from .fleet_tables import grid
from .page import reproduce, section, table

if TYPE_CHECKING:
    from ...scenario.fleet_place import PlacementAnswer

Rows = tuple[list[str], list[list[str]]]
_STATES = {"idle": "#b07a10", "asleep": "#7a828e"}
_SCHEME = ("#2f7fc1", "#2c8f6b", "#8a63c9", "#c2548f", "#1f8f9c", "#d2522d")


def headline(answer: PlacementAnswer) -> str:
    """Return the answer in one sentence."""
    asleep = sum(answer.best.asleep.values())
    nodes = sum(pool.nodes for pool in answer.pools)
    return f"Every demand met at {show(answer.best.power, 'W')} of site power, {asleep:,} of {nodes:,} nodes asleep"


def placed(answer: PlacementAnswer) -> Rows:
    """Return heads and one row per job, pool and setting."""
    rows = []
    for (job, pool, k), n in answer.best.gangs.items():
        setting = answer.settings[job, pool][k]
        what = (
            f"{setting['clock_hz'] / 1e6:,.0f} MHz, batch {setting['batch']:,.0f}"
            if "clock_hz" in setting
            else setting["set"]
        )
        rows.append([job, pool, f"{n:,}", f"{setting['copies']:,}", what])
    return ["Job", "Pool", "Gangs", "Copies in each", "Setting"], rows


def pools(answer: PlacementAnswer) -> Rows:
    """Return heads and what the nodes of each pool do."""
    best = answer.best
    return ["Pool", "Nodes", "Running", "Idle", "Asleep"], [
        [
            p.name, f"{p.nodes:,}", f"{p.nodes - best.idle[p.name] - best.asleep[p.name]:,}", f"{best.idle[p.name]:,}",
            f"{best.asleep[p.name]:,}",
        ]
        for p in answer.pools
    ]  # fmt: skip


def ways(answer: PlacementAnswer) -> Rows:
    """Return heads and what each rule draws."""
    names = {"best": "Placed here", "spread": "Never asleep", "packed": "Never slowed down"}
    rows = []
    for name, way in answer.ways.items():
        more = "" if way is None or name == "best" else f"+{words.percent(way.power / answer.best.power - 1)}"
        rows.append([names[name], "cannot" if way is None else show(way.power, "W"), more])
    return ["Rule", "Site power", "More power"], rows


def nodes(answer: PlacementAnswer) -> vega.Chart:
    """Return the nodes of every pool by what they do."""
    best = answer.best
    rows: list[dict[str, Any]] = []
    for pool in answer.pools:
        running: dict[str, int] = {}
        for (job, where, _), n in best.gangs.items():
            if where == pool.name:
                running[job] = running.get(job, 0) + n * answer.gang(job, where)
        for what, count in {**running, "idle": best.idle[pool.name], "asleep": best.asleep[pool.name]}.items():
            if count:
                rows.append({"pool": pool.name, "what": what, "n": count})
    jobs = list(dict.fromkeys(r["what"] for r in rows if r["what"] not in _STATES))
    colours: dict[str, str] = {job: _SCHEME[i % len(_SCHEME)] for i, job in enumerate(jobs)}
    colours |= _STATES
    used = [name for name in colours if any(r["what"] == name for r in rows)]
    return (
        vega.Chart(rows)
        .mark("bar")
        .encode(
            x=vega.field("n:Q", title="Nodes"),
            y=vega.field("pool:N", title=None),
            color=vega.field("what:N", title=None, scale=vega.options(domain=used, range=[colours[u] for u in used])),
            tooltip=["pool:N", "what:N", vega.field("n:Q", title="nodes")],
        )
        .properties(width=WIDTH, height={"step": 36})
    )


def show_placement(answer: PlacementAnswer, console: Console) -> None:
    """Print the placement."""
    console.print(Text(headline(answer), style="bold"))
    searched = f"{answer.best.nodes:,} node{'' if answer.best.nodes == 1 else 's'} searched"
    console.print(f"within {words.percent(answer.best.gap)} of the proven bound ({searched})\n")
    for title, (heads, rows) in {
        "Who runs where": placed(answer),
        "Nodes": pools(answer),
        "Rules": ways(answer),
    }.items():
        console.print(Text(title, style="bold"))
        console.print(Padding(grid(heads, rows), (0, 0, 1, 2)))
    for (job, pool), why in answer.refused.items():
        console.print(f"{job} does not run on {pool}: {why}")


def write_placement(
    answer: PlacementAnswer, html: Path | None, folder: Path | None, table_: Path | None, *, scenario: str, command: str
) -> None:
    """Write the page, the chart and the table that were asked for."""
    drawings: Mapping[str, Any] = {"nodes": nodes(answer)} if html or folder else {}
    try:
        if html:
            html.write_text(_page(answer, drawings, scenario, command), "utf-8")
        if table_:
            with table_.open("w", encoding="utf-8", newline="") as stream:
                heads, rows = placed(answer)
                csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be written ({error.strerror})") from None
    if folder:
        charts.write(drawings, folder)


def _page(answer: PlacementAnswer, drawings: Mapping[str, Any], scenario: str, command: str) -> str:
    drawn = {name: fluid(charts.specification(chart)) for name, chart in drawings.items()}
    sources = "".join(f"<li>{escape(s)}</li>" for s in answer.sources)
    parts = [
        f'<p class="kind">placement</p><h1>{escape(headline(answer))}</h1>',
        section("Nodes", chart_place("nodes", drawn), table(*pools(answer))),
        section("Who runs where", table(*placed(answer), text=(1, 4))),
        section("What simpler rules would draw", table(*ways(answer))),
        section("Sources", f"<ul>{sources}</ul>"),
        reproduce(scenario, command),
    ]
    return document(f"{answer.title}: placement", "\n".join(parts), drawn)
