"""A site that was played as one HTML page: power over time under each controller, work lost, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.units import show
from ...site.simulate._site_state import REASONS
from ...site.simulate.site_outcome import SiteRun
from . import charts, vega, words
from .document import chart_place, document, fluid
from .page import reproduce, section, table, write_text

_COLOURS: Final = ("#7a828e", "#d2902d", "#8a63c9", "#2f7fc1", "#2c8f6b", "#c2548f")
_LOST: Final = {"capped": "#2f7fc1", "failed": "#d2522d", "waiting": "#d2902d", "dark": "#7a828e"}
_WHY: Final = {
    "capped": "slowed by a cap or heat", "failed": "own node down", "waiting": "waiting for others",
    "dark": "breaker open",
}  # fmt: skip
_BINS: Final = 300
_ABOUT: Final = {
    "power": "Power of the whole site, the largest of each interval; dashed: what it may draw.",
    "lost": "Work that was wanted and not done, as a share of it, by reason.",
}


@dataclass(frozen=True)
class Page:
    """What the page says."""

    title: str
    runs: Sequence[SiteRun]
    facts: Mapping[str, str]
    table: tuple[list[str], list[list[str]]]
    lost: tuple[list[str], list[list[str]]]
    crews: tuple[list[str], list[list[str]]]
    assumptions: Sequence[str]


def write_site_html(what: Page, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the page."""
    write_text(html(what, scenario=scenario, command=command), path)


def write_site_charts(runs: Sequence[SiteRun], folder: Path) -> list[Path]:
    """Write both charts as SVG and PNG into `folder`."""
    return charts.write(draw(runs), folder)


def html(what: Page, *, scenario: str = "", command: str = "") -> str:
    """Return the page as HTML."""
    drawn = {name: fluid(charts.specification(chart)) for name, chart in draw(what.runs).items()}
    best = max(what.runs, key=lambda run: (-run.over_s, -int(run.trips.sum()), float(run.done.sum())))
    said = f"{best.controller}: {words.percent(best.share)} of the work, {show(best.over_s, 's')} above a limit"
    notes = "".join(f"<li>{escape(line)}</li>" for line in what.assumptions)
    body = [
        f'<p class="kind">simulated site</p><h1>{escape(said)}</h1><p class="goal">{escape(what.title)}.</p>'
        f"{table((), what.facts.items())}",
        section("Who keeps the limits, and at what cost", table(*what.table)),
        section("Power over time", chart_place("power", drawn, _ABOUT["power"])),
        section("Work lost", chart_place("lost", drawn, _ABOUT["lost"]), table(*what.lost)),
        section("Job by job", table(*what.crews)),
        section("On what assumptions", f"<ul>{notes}</ul>"),
        reproduce(scenario, command),
    ]
    return document(f"{what.title}: simulated site", "\n".join(body), drawn)


def draw(runs: Sequence[SiteRun]) -> dict[str, vega.Chart]:
    """Return the charts of the first run of each controller."""
    first = list({run.controller: run for run in reversed(runs)}.values())[::-1]
    return {"power": power(first), "lost": lost(first)}


def power(runs: Sequence[SiteRun]) -> vega.Chart:
    """Watts of the site over time, a line for each controller, under the limit."""
    h = runs[0].history
    every = -(-len(h) // _BINS)
    t_unit, t = words.scale(runs[0].lasts, "s")
    w_unit, w = words.scale(max(run.peak for run in runs), "W")

    def points(values: np.ndarray[Any, Any], name: str, fold: Any) -> list[dict[str, Any]]:
        folded = [float(fold(values[i : i + every])) for i in range(0, len(values), every)]
        return [
            {"t": charts.short(k * every * runs[0].bin * t), "p": charts.short(x * w), "who": name}
            for k, x in enumerate([*folded, folded[-1]])
            if math.isfinite(x)
        ]

    rows = [row for run in runs for row in points(run.history[:, 1], run.controller, np.max)]
    names = [run.controller for run in runs]
    x = vega.field("t:Q", title=f"Time, {t_unit}", scale=vega.options(nice=False))
    lines = (
        vega.Chart(rows)
        .mark("line", interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=x,
            y=vega.field("p:Q", title=f"Power of the site, {w_unit}", scale=vega.options(zero=False)),
            color=vega.field("who:N", title=None, scale=vega.options(domain=names, range=list(_COLOURS[: len(names)]))),
            tooltip=[vega.field("who:N"), vega.field("t:Q", title=t_unit), vega.field("p:Q", title=w_unit)],
        )
    )
    limit = points(h[:, 2], "limit", np.min)
    rule = vega.Chart(limit).mark(
        "line", interpolate="step-after", color=charts.CHOSEN, strokeDash=[5, 4], strokeWidth=2
    )
    drawn = vega.layer(lines, rule.encode(x=x, y="p:Q")) if limit else vega.layer(lines)
    return drawn.properties(width=charts.WIDTH, height=300)


def lost(runs: Sequence[SiteRun]) -> vega.Chart:
    """Bars of the work lost by reason, one bar a controller."""
    rows = [
        {"who": run.controller, "why": _WHY[why], "x": charts.short(100 * share), "order": number}
        for run in runs
        for number, (why, share) in enumerate(run.lost_by().items())
    ]
    return (
        vega.Chart(rows)
        .mark("bar")
        .encode(
            x=vega.field("x:Q", title="Work lost, % of what was wanted"),
            y=vega.field("who:N", title=None, sort=[run.controller for run in runs]),
            color=vega.field(
                "why:N",
                title=None,
                scale=vega.options(domain=[_WHY[r] for r in REASONS], range=[_LOST[r] for r in REASONS]),
            ),
            order=vega.field("order:Q"),
            tooltip=[vega.field("who:N"), vega.field("why:N"), vega.field("x:Q", title="%")],
        )
        .properties(width=charts.WIDTH, height={"step": 30})
    )
