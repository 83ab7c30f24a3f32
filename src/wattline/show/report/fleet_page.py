"""A fleet's plan as one HTML file that needs nothing else, and its charts as files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from ...core.units import show
from ...site.answer import FleetAnswer
from . import charts, fleet_charts, words
from . import fleet_over_time as over_time
from . import fleet_tables as tables
from .document import chart_place, document, fluid
from .page import fold, reproduce, section, table, write_text

_ABOUT: Final[Mapping[str, str]] = {
    "tree": "What flows into every limited part of the power tree. Where a limit binds, power has a price.",
    "prices": (
        "The cheapest way to give power up. Each line is one layer used alone; together they are never dearer. "
        "The dashed line marks the power asked for."
    ),
    "hours": "Average power of every job, the site's (losses and cooling included) and its limit.",
}


def write_fleet_html(answer: FleetAnswer, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the report."""
    write_text(page(answer, scenario=scenario, command=command), path)


def write_fleet_charts(answer: FleetAnswer, folder: Path) -> list[Path]:
    """Write every chart as SVG and PNG into `folder`."""
    return charts.write(fleet_charts.charts(answer), folder)


def page(answer: FleetAnswer, *, scenario: str = "", command: str = "") -> str:
    """Return the report as HTML."""
    drawn = {name: fluid(charts.specification(c)) for name, c in fleet_charts.charts(answer).items()}
    give = min(answer.give_up, float(answer.ladder.power[-1]))
    parts = [
        _head(answer),
        section("What every job gets", _tabled(tables.jobs(answer), text=(1, 5))),
        section(
            "Where power is short", _chart("tree", drawn), fold("All limits as a table", _tabled(tables.limits(answer)))
        ),
        section(
            f"{show(give, 'W')} less: which layer gives it up cheapest",
            _chart("prices", drawn),
            _tabled(tables.way_down(answer)),
            fold("Each layer alone", _tabled(tables.alone(answer))),
        ),
    ]
    if answer.horizon is not None:
        parts.append(section("Hour by hour", _chart("hours", drawn), _tabled(tables.hours(answer))))
        told = {
            "Who gives what, when": over_time.events(answer),
            "What moves, compared with as soon as possible": over_time.moves(answer),
            "The bill": over_time.bill(answer),
        }
        parts += [section(title, _tabled(found, text=(0, 1, 2, 3))) for title, found in told.items() if found[1]]
    if answer.footprint:
        parts.append(section("Carbon and water", _tabled(over_time.footprint(answer), text=(0, 2))))
    listed = [("Sources", answer.sources), ("Assumptions", answer.assumptions)]
    said = "".join(
        f"<p><strong>{title}</strong></p><ul>{''.join(f'<li>{escape(i)}</li>' for i in items)}</ul>"
        for title, items in listed
        if items
    )
    parts += [section("How sure, and on what assumptions", said), reproduce(scenario, command)]
    return document(f"{answer.title}: fleet plan", "\n".join(parts), drawn)


def _head(answer: FleetAnswer) -> str:
    plan = answer.plan
    share = plan.value / answer.full_work if answer.full_work else 0.0
    figures = [
        ("Site power", show(plan.feed, "W"), "losses and cooling included"),
        ("Work", words.percent(share), f"of {show(answer.full_work, '')} chips at full speed"),
        ("At full speed", show(answer.full_power, "W"), "would be drawn"),
        ("Limits that bind", str(len(plan.binding())), f"of {len(answer.tree)} parts"),
    ]
    cells = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in figures
    )
    return (
        f'<p class="kind">fleet energy plan</p><h1>{escape(tables.headline(answer))}</h1>'
        f'<p class="goal">Goal: {escape(answer.goal)}.</p><dl class="key">{cells}</dl>'
        f"{table((), tables.facts(answer))}"
    )


def _chart(name: str, drawn: Mapping[str, Any]) -> str:
    return chart_place(name, drawn, _ABOUT.get(name, ""))


def _tabled(heads_rows: tuple[list[str], list[list[str]]], text: tuple[int, ...] = ()) -> str:
    heads, rows = heads_rows
    return table(heads, rows[:200], text)
