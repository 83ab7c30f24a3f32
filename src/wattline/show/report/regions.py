"""A plan over several sites told to a person: what each site draws, who moves when, and what staying would take."""

from __future__ import annotations

import csv
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ...core.errors import InputError
from ...core.units import show
from ...site.timeline import moment
from . import words
from .document import document
from .fleet_tables import grid
from .page import reproduce, section, table

if TYPE_CHECKING:
    from ...scenario.fleet_space import SpaceAnswer

Rows = tuple[list[str], list[list[str]]]


def headline(answer: SpaceAnswer) -> str:
    """Return the answer in one sentence."""
    moves = sum(len(m) for m in answer.plan.moves.values())
    said = (
        f"All that is due done with {moves:,} move{'' if moves == 1 else 's'} between {len(answer.plan.regions)} sites"
    )
    if answer.stay is None or not answer.stay.objective:
        return said
    return f"{said}: {words.percent(1 - answer.plan.objective / answer.stay.objective)} less than at home"


def sites(answer: SpaceAnswer) -> Rows:
    """Return heads and what each site draws, and whose work it does."""
    p = answer.plan
    dt = p.edges[1:] - p.edges[:-1]
    rows = []
    for r, name in enumerate(p.regions):
        who = [f"{job} {show(float(p.power[r, j] @ dt), 'J')}" for j, job in enumerate(p.jobs) if p.power[r, j].any()]
        joules, most = float(p.grid[r] @ dt), float(p.grid[r].max())
        rows.append([name, show(joules, "J"), show(most, "W"), ", ".join(who)])
    return ["Site", "Energy", "Peak", "Jobs"], rows


def moves(answer: SpaceAnswer) -> Rows:
    """Return heads and every move."""
    p = answer.plan
    return ["When", "Job", "From", "To"], [
        [moment(float(p.edges[t])), job, a, b] for job, found in p.moves.items() for t, a, b in found
    ]


def ways(answer: SpaceAnswer) -> Rows:
    """Return heads and the totals, planned and at home."""
    rows = []
    for name, p in (("Moving", answer.plan), ("Staying at home", answer.stay)):
        if p is None:
            continue
        cost = "" if p.cost is None else f"{show(p.cost, '', 4)} {answer.currency}"
        rows.append([name, show(p.energy, "J"), "" if p.carbon is None else show(p.carbon, "g"), cost])
    return ["", "Energy", "Carbon", "Cost"], rows


def show_regions(answer: SpaceAnswer, console: Console) -> None:
    """Print the plan."""
    console.print(Text(headline(answer), style="bold"))
    console.print(f"within {words.percent(answer.plan.gap)} of the least provable\n")
    for title, (heads, rows) in {"Sites": sites(answer), "Moves": moves(answer), "In all": ways(answer)}.items():
        if rows:
            console.print(Text(title, style="bold"))
            console.print(Padding(grid(heads, rows), (0, 0, 1, 2)))
    if answer.stay_refused:
        console.print(Text(f"At home: {answer.stay_refused}"))
    for line in (*(f"Source: {s}" for s in answer.sources), *(f"Assumed: {a}" for a in answer.assumptions)):
        console.print(Text(line, style="dim"))


def write_regions(answer: SpaceAnswer, html: Path | None, table_: Path | None, *, scenario: str, command: str) -> None:
    """Write the page and the table of moves that were asked for."""
    try:
        if html:
            html.write_text(_page(answer, scenario, command), "utf-8")
        if table_:
            with table_.open("w", encoding="utf-8", newline="") as stream:
                heads, rows = moves(answer)
                csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be written ({error.strerror})") from None


def _page(answer: SpaceAnswer, scenario: str, command: str) -> str:
    listed = "".join(f"<li>{escape(s)}</li>" for s in (*answer.sources, *answer.assumptions))
    parts: list[Any] = [
        f'<p class="kind">plan over several sites</p><h1>{escape(headline(answer))}</h1>',
        section("In all", table(*ways(answer))),
        section("Sites", table(*sites(answer), text=(3,))),
        section("Moves", table(*moves(answer), text=(0, 1, 2, 3))),
        section("Sources and assumptions", f"<ul>{listed}</ul>"),
        reproduce(scenario, command),
    ]
    return document(f"{answer.title}: several sites", "\n".join(parts), {})
