"""The colours of charts, light and dark, as Vega-Lite configuration; pages and pictures share them."""

from __future__ import annotations

from typing import Any, Final

_INK: Final = {"light": ("#1b1f24", "#4a525c", "#dfe3e8"), "dark": ("#eceff3", "#b4bcc6", "#39414b")}
_PAGE: Final = {"light": "#ffffff", "dark": "#14181d"}


def config(theme: str = "light") -> dict[str, Any]:
    """Return the Vega-Lite configuration of a theme, "light" or "dark"."""
    ink, soft, grid = _INK[theme]
    text = {"labelColor": soft, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": _PAGE[theme],
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {
            **text,
            "gridColor": grid,
            "domainColor": grid,
            "tickColor": grid,
            "labelLimit": 360,
            "titlePadding": 8,
        },
        "legend": {**text, "orient": "top", "titleAnchor": "start"},
        "text": {"color": ink, "fontSize": 12},
    }  # fmt: skip
