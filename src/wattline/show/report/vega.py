"""Charts as Vega-Lite specifications: what is drawn, not how, as plain data that needs no library to be made.

    vega.Chart(rows).mark("line", color="#2f7fc1").encode(x=vega.field("t:Q", title="Time, s"), y="p:Q")

`draw.js` draws the part of Vega-Lite that is used here on a page; files are drawn by vl-convert (the extra `charts`),
and any tool that knows Vega-Lite takes the JSON. A chart does not change; every call returns another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from ...core.errors import InputError
from . import document as documents

VERSION: Final = "6.4"
SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_TYPES: Final = {"Q": "quantitative", "N": "nominal", "O": "ordinal"}

Rows = Sequence[Mapping[str, Any]]


def field(what: str, **options: Any) -> dict[str, Any]:
    """Return a channel of a field, "name:Q" for numbers, ":N" for names, ":O" for names in order, with its options."""
    name, _, kind = what.rpartition(":")
    return {"field": name, "type": _TYPES[kind], **options}


def options(**given: Any) -> dict[str, Any]:
    """Return options (of a scale, an axis, a legend) under their names."""
    return given


class Chart:
    """One Vega-Lite view: a mark over rows, or several views layered or side by side."""

    def __init__(self, rows: Rows | None = None, **spec: Any) -> None:
        self.spec: dict[str, Any] = spec if rows is None else {"data": {"values": list(rows)}, **spec}

    def mark(self, kind: str, **options: Any) -> Chart:
        """Return the chart with its mark: bar, line, area, rule, circle, point, tick or text."""
        return Chart(**{**self.spec, "mark": {"type": kind, **options}})

    def encode(self, **channels: Any) -> Chart:
        """Return the chart with these channels set; "name:Q" is a field without options."""
        read = {name: _read(channel) for name, channel in channels.items()}
        return Chart(**{**self.spec, "encoding": {**self.spec.get("encoding", {}), **read}})

    def properties(self, **given: Any) -> Chart:
        """Return the chart with a width, height or title."""
        return Chart(**{**self.spec, **given})

    def to_dict(self) -> dict[str, Any]:
        """Return the whole specification."""
        return {"$schema": SCHEMA, **self.spec}

    def _repr_html_(self) -> str:
        """Draw it in a notebook, as a page of its own that loads nothing."""
        spec = documents.fluid(self.to_dict())
        text = documents.document("chart", documents.chart_place("chart", {"chart": spec}), {"chart": spec}, foot="")
        return f'<iframe srcdoc="{escape(text)}" style="width: 100%; height: 420px; border: 0"></iframe>'


def _read(channel: Any) -> Any:
    if isinstance(channel, str):
        return field(channel)
    return [_read(c) for c in channel] if isinstance(channel, list) else channel


def layer(*charts: Chart) -> Chart:
    """Return charts on top of each other, the last in front."""
    return Chart(layer=[chart.spec for chart in charts])


def column(*charts: Chart) -> Chart:
    """Return charts below each other, each with colours of its own."""
    return Chart(vconcat=[chart.spec for chart in charts], resolve={"scale": {"color": "independent"}})


def side_by_side(*charts: Chart, columns: int, spacing: int) -> Chart:
    """Return charts in rows of `columns`."""
    return Chart(concat=[chart.spec for chart in charts], columns=columns, spacing=spacing)


# ---- pictures ------------------------------------------------------------------------------------


def svg(spec: Mapping[str, Any]) -> str:
    """Return a specification drawn as SVG; nothing is fetched."""
    return str(_converter().vegalite_to_svg(dict(spec), vl_version=VERSION, allowed_base_urls=[]))


def png(drawn: str) -> bytes:
    """Return an SVG picture as PNG, two pixels a unit."""
    return bytes(_converter().svg_to_png(drawn, scale=2))


def check() -> None:
    """Refuse files that cannot be drawn here."""
    _converter()


def _converter() -> Any:
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise InputError(
            "SVG and PNG files are drawn by vl-convert, which is not installed; "
            "pip install 'wattline[charts]', or write the page with --html, which needs nothing more"
        ) from None
    return vl_convert
