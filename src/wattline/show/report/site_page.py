"""A site that was played as one HTML page: power over time under each controller, work lost, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...core.units import show
from ...site.simulate._site_state import REASONS
from ...site.simulate.site_outcome import SiteRun
from . import charts, words
from .page import chart_place, document, fluid, reproduce, section, table, write_text

if TYPE_CHECKING:
    import altair as alt

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


def draw(runs: Sequence[SiteRun]) -> dict[str, alt.TopLevelMixin]:
    """Return the charts of the first run of each controller."""
    first = list({run.controller: run for run in reversed(runs)}.values())[::-1]
    return {"power": power(first), "lost": lost(first)}


def power(runs: Sequence[SiteRun]) -> alt.LayerChart:
    """Watts of the site over time, a line for each controller, under the limit."""
    import altair as alt

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
    x = alt.X("t:Q", title=f"Time, {t_unit}", scale=alt.Scale(nice=False))
    lines = (
        alt.Chart(charts.inline(rows))
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=x,
            y=alt.Y("p:Q", title=f"Power of the site, {w_unit}", scale=alt.Scale(zero=False)),
            color=alt.Color("who:N", title=None, scale=alt.Scale(domain=names, range=list(_COLOURS[: len(names)]))),
            tooltip=[alt.Tooltip("who:N"), alt.Tooltip("t:Q", title=t_unit), alt.Tooltip("p:Q", title=w_unit)],
        )
    )
    limit = points(h[:, 2], "limit", np.min)
    rule = alt.Chart(charts.inline(limit)).mark_line(
        interpolate="step-after", color=charts.CHOSEN, strokeDash=[5, 4], strokeWidth=2
    )
    drawn = alt.layer(lines, rule.encode(x=x, y="p:Q")) if limit else alt.layer(lines)
    return drawn.properties(width=charts.WIDTH, height=300)


def lost(runs: Sequence[SiteRun]) -> alt.Chart:
    """Bars of the work lost by reason, one bar a controller."""
    import altair as alt

    rows = [
        {"who": run.controller, "why": _WHY[why], "x": charts.short(100 * share), "order": number}
        for run in runs
        for number, (why, share) in enumerate(run.lost_by().items())
    ]
    return (
        alt.Chart(charts.inline(rows))
        .mark_bar()
        .encode(
            x=alt.X("x:Q", title="Work lost, % of what was wanted"),
            y=alt.Y("who:N", title=None, sort=[run.controller for run in runs]),
            color=alt.Color(
                "why:N",
                title=None,
                scale=alt.Scale(domain=[_WHY[r] for r in REASONS], range=[_LOST[r] for r in REASONS]),
            ),
            order=alt.Order("order:Q"),
            tooltip=[alt.Tooltip("who:N"), alt.Tooltip("why:N"), alt.Tooltip("x:Q", title="%")],
        )
        .properties(width=charts.WIDTH, height=alt.Step(30))
    )
