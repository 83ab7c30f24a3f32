"""A study of designs as one HTML file that needs nothing else, and its charts as files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from ...scenario.design_space import DesignAnswer
from . import charts, design_charts, words
from . import design_tables as tables
from .document import chart_place, document, fluid
from .page import fold, reproduce, section, table, write_text

_ABOUT: Final[Mapping[str, str]] = {
    "designs": (
        "Each point is a design within the budgets. None beats those on the frontier in energy, time and area at once. "
        "Point at one for what it changes."
    ),
    "steps": "One change of the chosen design each, all else as chosen. Changes that break a budget have no bar.",
    "joules": "Facility energy of every work, on the unchanged chip and on the chosen design.",
}


def write_design_html(answer: DesignAnswer, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the report."""
    write_text(page(answer, scenario=scenario, command=command), path)


def write_design_charts(answer: DesignAnswer, folder: Path) -> list[Path]:
    """Write every chart as SVG and PNG into `folder`."""
    return charts.write(design_charts.charts(answer), folder)


def page(answer: DesignAnswer, *, scenario: str = "", command: str = "") -> str:
    """Return the report as HTML."""
    drawn = {name: fluid(charts.specification(c)) for name, c in design_charts.charts(answer).items()}

    def chart(name: str) -> str:
        return chart_place(name, drawn, _ABOUT[name])

    def tabled(heads_rows: tables.Tabled, text: tuple[int, ...] = ()) -> str:
        heads, rows = heads_rows
        return table(heads, rows[:200], text)

    parts = [
        _head(answer),
        section("The chosen design", tabled(tables.changed(answer), text=(1, 2))),
        section(
            "All designs",
            chart("designs"),
            fold("The frontier as a table", tabled(tables.frontier(answer), (4 + len(answer.designs.owned),))),
        ),
        section("What limits it", chart("steps"), tabled(tables.steps(answer), text=(1, 5))),
        section("What it is worth to each work", chart("joules"), tabled(tables.works(answer), text=(1,))),
    ]
    if answer.making:
        parts.append(section("What a chip costs to make", tabled(tables.making(answer), text=(0,))))
    if answer.site:
        parts.append(section("A year of the site", tabled(tables.site(answer))))
    parts += [
        section("What would help next", tabled(tables.parameters(answer, 15), text=(1, 2))),
        section(
            "How sure, and on what assumptions",
            f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in tables.trust(answer))}</ul>",
        ),
        reproduce(scenario, command),
    ]
    return document(f"{answer.title}: designs", "\n".join(parts), drawn)


def _head(answer: DesignAnswer) -> str:
    area = answer.designs.area[answer.chosen]
    figures: list[tuple[str, str, str]] = [
        ("Energy", words.percent(answer.exact[0]), "of the unchanged chip's, for the mix"),
        ("Machine time", words.percent(answer.exact[1]), "of the unchanged chip's"),
        ("Designs", f"{answer.counted['evaluated']:,}", f"looked at: {answer.method}"),
    ]
    if area:
        figures.insert(2, ("Die area", f"{area / 1e-6:.1f} mm2", f"{answer.unchanged[2] / 1e-6:.1f} mm2 unchanged"))
    cells = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in figures
    )
    rows: Any = tables.facts(answer)
    return (
        f'<p class="kind">study of designs</p><h1>{escape(tables.headline(answer))}</h1>'
        f'<p class="goal">Goal: {escape(answer.goal)}.</p><dl class="key">{cells}</dl>{table((), rows)}'
    )
