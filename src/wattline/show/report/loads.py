"""A sweep of loads as a chart: what a chip yields against what a user gets, joules per token as the colour."""

from __future__ import annotations

import json
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.errors import InputError
from ...scenario.serving_sweep import Sweep, rows_of
from . import charts, page, vega
from . import document as documents

FORMATS: Final = (".html", ".svg", ".png", ".json")
# From few joules to many: five steps of viridis, which stay apart in grey and for any colour vision.
_COLOURS: Final = ("#fde725", "#5ec962", "#21918c", "#3b528b", "#440154")
_ABOUT: Final = (
    "Each point is one load. Filled: the promise is kept; hollow: it is missed. Colour: joules of the chips per token."
)


def chart(found: Sweep) -> vega.Chart:
    """Return the chart: tokens/s/user across, tokens/s/chip up, joules per token in classes of equal ratio."""
    joules = np.array([p.energy_j for p in found.points])
    names, place = _classes(joules)
    load = "requests/s" if found.over == "rate" else "at once"
    rows = [
        {
            "user": charts.short(p.user), "chip": charts.short(p.chip), "joules": names[k],
            "load": f"{p.load:.3g} {load}", "each": charts.short(p.energy_j), "promise": "kept" if p.kept else "missed",
        }
        for p, k in zip(found.points, place, strict=True)
    ]  # fmt: skip
    x = vega.field("user:Q", title="Output tokens/s of a user", scale=vega.options(zero=True))
    y = vega.field("chip:Q", title="Output tokens/s of a chip", scale=vega.options(zero=True))
    colour = vega.field(
        "joules:N", title="J/token", scale=vega.options(domain=names, range=list(_COLOURS[-len(names) :]))
    )
    tips = [vega.field("load:N"), vega.field("user:Q"), vega.field("chip:Q"), vega.field("each:Q", title="J/token"),
            vega.field("promise:N")]  # fmt: skip
    layers = [vega.Chart(rows).mark("line", color=charts.BASELINE, strokeWidth=1.2).encode(x=x, y=y)]
    for promise, mark, how in (("kept", "circle", {"size": 90}), ("missed", "point", {"size": 80, "strokeWidth": 2})):
        some = [row for row in rows if row["promise"] == promise]
        if some:
            layers.append(vega.Chart(some).mark(mark, opacity=1, **how).encode(x=x, y=y, color=colour, tooltip=tips))
    return vega.layer(*layers).properties(width=charts.WIDTH, height=320)


def _classes(joules: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[list[str], list[int]]:
    low, high = float(joules.min()), float(joules.max())
    count = len(_COLOURS) if high > 1.02 * low else 1
    edges = low * (high / low) ** (np.arange(1, count) / count)
    ends = [low, *edges.tolist(), high]
    names = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(ends)]
    return names, np.searchsorted(edges, joules).tolist()


def write(found: Sweep, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the chart into a file, whose ending says how: .html (with its table), .svg, .png or .json."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{path}: a chart ends in {', '.join(FORMATS)}, got {ending or 'no ending'!r}")
    drawn = chart(found)
    try:
        if ending == ".json":
            path.write_text(json.dumps(drawn.to_dict()), "utf-8")
        elif ending == ".html":
            path.write_text(_page(found, drawn, scenario, command), "utf-8")
        elif ending == ".svg":
            path.write_text(charts.svg(drawn), "utf-8")
        else:
            path.write_bytes(vega.png(charts.svg(drawn)))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _page(found: Sweep, drawn: vega.Chart, scenario: str, command: str) -> str:
    plots = {"loads": documents.fluid(charts.specification(drawn))}
    notes = "".join(f"<li>{escape(line)}</li>" for line in found.assumptions)
    body = [
        f'<p class="kind">serving at many loads</p><h1>{escape(headline(found))}</h1>'
        f'<p class="goal">{escape(found.title)}</p>',
        page.section("A chip against a user", documents.chart_place("loads", plots, _ABOUT)),
        page.section("Loads", page.table(*rows_of(found))),
        page.section("Assumed", f"<ul>{notes}</ul>"),
        page.reproduce(scenario, command),
    ]
    return documents.document(f"{found.title}: loads", "\n".join(body), plots)


def headline(found: Sweep) -> str:
    """Return what the sweep found, in a line."""
    best, unit = found.best, "requests/s" if found.over == "rate" else "requests at once"
    if not found.promised:
        most = max(found.points, key=lambda p: p.chip)
        return f"{most.chip:,.0f} tokens/s a chip at most, at {most.load:.3g} {unit}; no promise is stated"
    if best is None:
        return f"No load keeps the promise; the least tried is {min(p.load for p in found.points):.3g} {unit}"
    return f"{best.load:.3g} {unit} keep the promise, {best.energy_j:.3g} J per token"
