"""The charts of a fleet: the tree with its headroom, the price curve of a megawatt less, and the hours."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...core.units import show
from ...site.answer import FleetAnswer, parts
from . import vega, words
from .charts import BASELINE, CHOSEN, LINE, WIDTH, short

# Most parts of the tree, and hours, that are drawn.
PARTS: Final = 40
PERIODS: Final = 600

COLOURS: Final = {
    "clock": "#2f7fc1", "batch": "#2c8f6b", "precision": "#8a63c9", "placement": "#b07a10", "time-shift": "#1f8f9c",
    "load": "#7a828e", "chip": "#c2548f", "all together": "#d2522d",
}  # fmt: skip


def charts(answer: FleetAnswer) -> dict[str, vega.Chart]:
    """Return every chart the answer has data for, by name."""
    out: dict[str, vega.Chart] = {}
    if any(row["limit_w"] for row in parts(answer.plan)):
        out["tree"] = tree(answer)
    if answer.ladder.steps:
        out["prices"] = prices(answer)
    if answer.horizon is not None:
        out["hours"] = hours(answer)
    return out


def tree(answer: FleetAnswer) -> vega.Chart:
    """Return every limited part as a bar: what flows in, and the limit it may not pass."""
    plan, power_tree = answer.plan, answer.tree
    rows = [row for row in parts(plan) if row["limit_w"]]  # what has no power has no share of its limit in use
    level = dict(zip(power_tree.names, power_tree.level.tolist(), strict=True))
    rows.sort(key=lambda row: (level.get(row["name"], 1), -row["price_per_w"], row["headroom_w"] / row["limit_w"]))
    rows = rows[:PARTS]
    shown: list[dict[str, Any]] = [
        {
            "part": row["name"],
            "used": short(100 * row["inflow_w"] / row["limit_w"]),
            "state": "binds" if row["price_per_w"] > 0 else "has headroom",
            "inflow": show(row["inflow_w"], "W"),
            "limit": show(row["limit_w"], "W"),
            "headroom": show(row["headroom_w"], "W"),
            "work per extra MW": show(row["price_per_w"] * 1e6, ""),
            "label": f"{show(row['inflow_w'], 'W')} of {show(row['limit_w'], 'W')}",
        }
        for row in rows
    ]
    names = ["binds", "has headroom"]
    base = vega.Chart(shown).encode(
        x=vega.field("used:Q", title="Inflow, % of the limit", scale=vega.options(domain=[0, 135], nice=False)),
        y=vega.field("part:N", sort=[row["part"] for row in shown], title=None),
        tooltip=[
            vega.field(f"{k}:N", title=k) for k in ("part", "inflow", "limit", "headroom", "work per extra MW")
        ],
    )  # fmt: skip
    bars = base.mark("bar", cornerRadiusEnd=2).encode(
        color=vega.field("state:N", title=None, scale=vega.options(domain=names, range=[CHOSEN, LINE]))
    )
    rule = vega.Chart([{"x": 100}]).mark("rule", color=BASELINE, strokeDash=[5, 4]).encode(x="x:Q")
    label = base.mark("text", align="left", dx=6).encode(text="label:N")
    return vega.layer(bars, rule, label).properties(width=WIDTH - 60, height={"step": 22})


def prices(answer: FleetAnswer) -> vega.Chart:
    """Return work lost against power given up: all layers together, and each alone."""
    every = {**answer.alone, "all together": answer.ladder}
    most = float(answer.ladder.power[-1])
    unit, factor = words.scale(most, "W")
    full = answer.full_work or 1.0
    rows = [
        {
            "layer": name,
            "p": short(float(p) * factor),
            "l": short(100 * float(lost) / full),
            "gives up": show(float(p), "W"),
            "work lost": f"{show(float(lost), '')} chips",
        }
        for name, c in every.items()
        for p, lost in zip(c.power, c.lost, strict=True)
        if p <= most * (1 + 1e-9)
    ]
    used = list(every)
    x = vega.field("p:Q", title=f"Site power given up, {unit}")
    chart = vega.Chart(rows).encode(
        x=x,
        y=vega.field("l:Q", title="Work lost, % of full speed"),
        color=vega.field("layer:N", title=None, scale=vega.options(domain=used, range=[COLOURS[n] for n in used])),
        order="p:Q",
        tooltip=[vega.field(f"{k}:N", title=k) for k in ("layer", "gives up", "work lost")],
    )
    asked = vega.Chart([{"p": short(min(answer.give_up, most) * factor)}]).mark(
        "rule", color=BASELINE, strokeDash=[5, 4]
    )
    return vega.layer(chart.mark("line", strokeWidth=2, point=vega.options(size=18)), asked.encode(x="p:Q")).properties(
        width=WIDTH, height=320
    )


def hours(answer: FleetAnswer) -> vega.Chart:
    """Return power of every job over time under the limit, and the carbon and price it follows."""
    h = answer.horizon
    assert h is not None
    keep = min(len(h.edges) - 1, PERIODS)
    scale, unit = _clock(h.edges)
    at = (h.edges - h.edges[0]) * scale
    watts, factor = words.scale(float(max(h.feed.max(), 1.0)), "W")
    stacked = [
        {"t": short(float(at[t])), "job": name, "p": short(float(h.power[j, min(t, keep - 1)]) * factor)}
        for j, name in enumerate(h.names)
        for t in range(keep + 1)
    ]
    x = vega.field("t:Q", title=None, scale=vega.options(domain=[0, float(at[keep])], nice=False))
    areas = (
        vega.Chart(stacked)
        .mark("area", interpolate="step-after", opacity=0.75)
        .encode(
            x=x,
            y=vega.field("p:Q", stack=True, title=f"Power, {watts}"),
            color=vega.field("job:N", title=None, scale=vega.options(scheme="tableau10")),
            tooltip=[
                vega.field("job:N"),
                vega.field("p:Q", title=f"power, {watts}"),
                vega.field("t:Q", title=f"at, {unit}"),
            ],
        )
    )
    lines = []
    root = h.tree.root
    for name, values, colour, dash in (
        ("site", h.feed, CHOSEN, [1, 0]),
        ("limit", h.limits[:, root], BASELINE, [5, 4]),
    ):
        if np.isfinite(values).all():
            rows = [
                {"t": short(float(at[t])), "p": short(float(values[min(t, keep - 1)]) * factor), "what": name}
                for t in range(keep + 1)
            ]
            mark = vega.Chart(rows).mark("line", interpolate="step-after", color=colour, strokeDash=dash, strokeWidth=2)
            lines.append(mark.encode(x=x, y="p:Q", tooltip=[vega.field("what:N"), vega.field("p:Q", title=watts)]))
    panels: list[Any] = [vega.layer(areas, *lines).properties(width=WIDTH, height=260)]
    for key, title, si in (
        ("carbon_g_per_j", "Carbon, g/kWh", 3.6e6), ("price_usd_per_j", "Price, USD/MWh", 3.6e9),
        ("outdoor_k", "Outdoor, °C", 0),
    ):  # fmt: skip
        values_ = answer.series.get(key)
        if values_ is None or (max(values_) - min(values_) <= 1e-9 * max(map(abs, values_))):
            continue
        shown = [v * si if si else v - 273.15 for v in values_]
        rows = [{"t": short(float(at[t])), "v": short(shown[min(t, keep - 1)])} for t in range(keep + 1)]
        panels.append(
            vega.Chart(rows)
            .mark("line", interpolate="step-after", color=LINE)
            .encode(x=x, y=vega.field("v:Q", title=title, scale=vega.options(zero=False)), tooltip=["t:Q", "v:Q"])
            .properties(width=WIDTH, height=110)
        )
    panels[-1] = (
        panels[-1].encode(x=vega.field("t:Q", title=f"Time from the start, {unit}")) if len(panels) > 1 else panels[-1]
    )
    return vega.column(*panels)


def _clock(edges: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, str]:
    span = float(edges[-1] - edges[0])
    return (1 / 86400, "days") if span > 3 * 86400 else (1 / 3600, "hours")
