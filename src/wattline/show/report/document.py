"""A page that needs nothing else: styles, scripts and the specifications of its charts in one HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any, Final

from .theme import config

# Scripts and styles stand in the page itself; pictures are those that the reader saves.
_POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_FOOT: Final = "<footer>Written by Wattline. This page holds everything it needs and loads nothing.</footer>\n"


def document(title: str, body: str, drawn: Mapping[str, Any], foot: str = _FOOT) -> str:
    """Return a whole page around `body`; `drawn`: name -> specification of the charts that stand in it."""
    parts = resources.files(__package__)
    style = (parts / "style.css").read_text("utf-8")
    draw = "\n".join((parts / name).read_text("utf-8") for name in ("scales.js", "marks.js", "draw.js"))
    themes = {theme: config(theme) for theme in ("light", "dark")}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Wattline">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
{foot}</main>
<script type="application/json" id="charts">{_json(drawn)}</script>
<script type="application/json" id="themes">{_json(themes)}</script>
<script>{draw}</script>
</body>
</html>
"""


def fluid(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the specification for a page, which gives it its width and its colours."""
    return {key: value for key, value in spec.items() if key not in ("$schema", "config", "width")}


def _json(value: object) -> str:
    """Write JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def chart_place(name: str, drawn: Mapping[str, Any], about: str = "") -> str:
    """Return where a chart is drawn, with a note above it; nothing where there is no such chart."""
    if name not in drawn:
        return ""
    note = f'<p class="note">{escape(about)}</p>' if about else ""
    return (
        f'{note}<div class="chart" id="chart-{name}" role="img" aria-label="Chart: {name}"></div>'
        f'<noscript><p class="note">The chart needs JavaScript; its numbers stand in the table.</p></noscript>'
    )
