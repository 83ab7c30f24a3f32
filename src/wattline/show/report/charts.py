"""The charts of a plan, each one Altair specification: for SVG, PNG, a notebook and the HTML page.

Colours hold on light and dark pages alike; text and grid follow the theme. Axes carry the unit that
keeps their numbers short, and every mark has a tooltip with the full figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...core.errors import InputError
from ...core.units import show
from ...frontier.answer import Answer
from . import words

if TYPE_CHECKING:
    import altair as alt

LINE, CHOSEN, BASELINE = "#2f7fc1", "#d2522d", "#7a828e"
LESS, MORE = "#2c8f6b", "#8a63c9"

# Most points of a frontier, parameters of an elasticity, and tasks of a timeline, in all and on
# average per stage, that are drawn: more could not be told apart.
POINTS, PARAMETERS, TASKS, TASKS_PER_STAGE = 300, 15, 4000, 160
WIDTH: Final = 680

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


def charts(answer: Answer) -> dict[str, alt.TopLevelMixin]:
    """Return every chart the answer has data for, by name: frontier, breakdown, elasticities, plan."""
    out: dict[str, alt.TopLevelMixin] = {"frontier": frontier(answer)}
    if words.share_out(answer.chosen.breakdown_j):
        out["breakdown"] = breakdown(answer)
    if words.largest(answer.elasticity, 1):
        out["elasticities"] = elasticities(answer)
    plan = timeline(answer) if "start_s" in _first(answer) else choices(answer)
    return {**out, "plan": plan} if plan is not None else out


def frontier(answer: Answer) -> alt.LayerChart:
    """The time-energy frontier with the chosen plan and the baseline on it."""
    import altair as alt

    t_unit, t = words.scale(float(answer.time_s[0]), "s")
    e_unit, e = words.scale(float(answer.energy_j[0]), "J")
    keep = _thin(len(answer.time_s), POINTS)
    points = [_point("on the frontier", *row, answer, t, e) for row in zip(
        answer.time_s[keep], answer.energy_j[keep], answer.power_w[keep], strict=True)]  # fmt: skip
    marked = [
        _point(name, o.time_s, o.energy_j, o.average_power_w, answer, t, e)
        for name, o in (("maximum clocks", answer.baseline), ("chosen", answer.chosen))
    ]
    x = alt.X("t:Q", title=f"Time for {answer.work}, {t_unit}", scale=alt.Scale(zero=False, nice=True, padding=14))
    y = alt.Y("e:Q", title=f"Energy, {e_unit}", scale=alt.Scale(zero=False, nice=True, padding=14))
    tips = [alt.Tooltip(f"{k}:N", title=k) for k in ("what", "time", "energy", "power", "against maximum clocks")]
    names = ["chosen", "maximum clocks"]
    curve = alt.Chart(inline(points))
    line = curve.mark_line(color=LINE, strokeWidth=2.5, interpolate="linear").encode(x=x, y=y)
    dots = curve.mark_circle(color=LINE, size=26, opacity=1).encode(x=x, y=y, tooltip=tips)
    guide = alt.Chart(inline(marked[1:])).mark_rule(color=CHOSEN, strokeDash=[5, 4])
    both = alt.Chart(inline(marked)).encode(
        x=x,
        y=y,
        color=alt.Color("what:N", scale=alt.Scale(domain=names, range=[CHOSEN, BASELINE]), legend=None),
        shape=alt.Shape("what:N", scale=alt.Scale(domain=names, range=["diamond", "square"]), legend=None),
        tooltip=tips,
    )
    marks = both.mark_point(size=150, filled=True, opacity=1)
    label = (
        alt.Chart(inline(marked)).mark_text(align="left", dx=11, dy=-9, fontWeight=600).encode(x=x, y=y, text="what:N")
    )
    return alt.layer(guide.encode(x=x), guide.encode(y=y), line, dots, marks, label).properties(width=WIDTH, height=340)


def _point(what: str, time: float, energy: float, power: float, answer: Answer, t: float, e: float) -> dict[str, Any]:
    base = answer.baseline
    return {
        "what": what,
        "t": short(time * t),
        "e": short(energy * e),
        "time": show(float(time), "s", 4),
        "energy": show(float(energy), "J", 4),
        "power": show(float(power), "W"),
        "against maximum clocks": f"{words.change(base.time_s, time)} time, "
        f"{words.change(base.energy_j, energy)} energy",
    }


def breakdown(answer: Answer) -> alt.LayerChart:
    """Where the joules go: one bar per component, the largest first, coloured by layer."""
    import altair as alt

    rows = words.share_out(answer.chosen.breakdown_j)
    unit, factor = words.scale(rows[0][1], "J")
    data: list[dict[str, Any]] = [
        {
            "part": words.component(name),
            "layer": words.layer(name),
            "v": short(joules * factor),
            "energy": show(joules, "J"),
            "share": words.percent(share),
            "label": f"{show(joules, 'J')}, {words.percent(share)}",
        }
        for name, joules, share in rows
    ]
    used = list(dict.fromkeys(row["layer"] for row in data))
    colour = alt.Color("layer:N", scale=alt.Scale(domain=used, range=[words.COLOURS[u] for u in used]), legend=None)
    tips = [alt.Tooltip(f"{k}:N", title=k) for k in ("part", "energy", "share", "layer")]
    # Room on the right for the longest bar's label.
    scale = alt.Scale(domain=[0, 1.3 * data[0]["v"]], nice=False)
    base = alt.Chart(inline(data)).encode(
        x=alt.X("v:Q", title=f"Energy for {answer.work}, {unit}", scale=scale),
        y=alt.Y("part:N", sort=[row["part"] for row in data], title=None),
        tooltip=tips,
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=colour)
    return alt.layer(bars, base.mark_text(align="left", dx=6).encode(text="label:N")).properties(
        width=WIDTH, height=alt.Step(26)
    )


def elasticities(answer: Answer) -> alt.LayerChart:
    """What would help: the saving from moving each parameter by one percent the helpful way."""
    import altair as alt

    data: list[dict[str, Any]] = [
        {
            "parameter": _unique(name, answer),
            "key": name,
            "v": short(e),
            "way": "1 % less saves" if e > 0 else "1 % more saves",
            "saving": words.saving(e),
        }
        for name, e in words.largest(answer.elasticity, PARAMETERS)
    ]
    reach = 1.12 * max(abs(row["v"]) for row in data)
    ways = ["1 % more saves", "1 % less saves"]
    base = alt.Chart(inline(data)).encode(
        x=alt.X(
            "v:Q",
            title="Change of energy when the parameter grows by 1 %, %",
            scale=alt.Scale(domain=[-reach, reach], nice=False),
        ),
        y=alt.Y("parameter:N", sort=[row["parameter"] for row in data], title=None),
        tooltip=[alt.Tooltip(f"{k}:N", title=k) for k in ("parameter", "key", "saving")],
    )
    colour = alt.Color("way:N", title=None, scale=alt.Scale(domain=ways, range=[MORE, LESS]))
    zero = alt.Chart(inline([{"v": 0}])).mark_rule(color=BASELINE).encode(x="v:Q")
    return alt.layer(base.mark_bar(cornerRadiusEnd=2).encode(color=colour), zero).properties(
        width=WIDTH - 60, height=alt.Step(24)
    )


def _unique(name: str, answer: Answer) -> str:
    """Return the parameter's phrase, with its key where two parameters share one."""
    shared = [n for n, _ in words.largest(answer.elasticity, PARAMETERS) if words.parameter(n) == words.parameter(name)]
    return words.parameter(name) if len(shared) == 1 else f"{words.parameter(name)} ({name})"


def timeline(answer: Answer) -> alt.Chart:
    """Who runs when: one row per stage, one bar per computation, coloured by its clock."""
    import altair as alt

    tasks, note = window(answer)
    unit, factor = words.scale(max(k["start_s"] + k["time_s"] for k in tasks), "s")
    data = [
        {
            "s": k["stage"],
            "a": short(k["start_s"] * factor),
            "b": short((k["start_s"] + k["time_s"]) * factor),
            "f": round(k["clock_hz"] / 1e6),
            "m": k["microbatch"],
            "i": k["instruction"],
        }
        for k in tasks
    ]
    stages = len({row["s"] for row in data})
    clocks = [row["f"] for row in data]
    chart = alt.Chart(inline(data)).mark_bar(stroke="#14181d", strokeWidth=0.4, strokeOpacity=0.6)
    return chart.encode(
        x=alt.X("a:Q", title=f"Time in the iteration, {unit}{note}", scale=alt.Scale(nice=False)),
        x2="b:Q",
        y=alt.Y("s:O", title="Stage", axis=alt.Axis(labelOverlap=True)),
        color=alt.Color(
            "f:Q",
            title="Clock, MHz",
            # A little beyond the data, so that one clock alone still has a scale.
            scale=alt.Scale(scheme="plasma", domain=[min(clocks) - 1, max(clocks) + 1], nice=False),
        ),
        tooltip=[
            alt.Tooltip("s:O", title="stage"),
            alt.Tooltip("m:Q", title="microbatch"),
            alt.Tooltip("i:N", title="does"),
            alt.Tooltip("f:Q", title="clock, MHz", format=","),
            alt.Tooltip("a:Q", title=f"starts, {unit}"),
            alt.Tooltip("b:Q", title=f"ends, {unit}"),
        ],
    ).properties(width=WIDTH, height=alt.Step(max(8, min(30, 420 // stages))))


def window(answer: Answer) -> tuple[list[Mapping[str, Any]], str]:
    """Return the first computations by start, as many as can be told apart, and a note where not all."""
    tasks = sorted(answer.timeline, key=lambda k: (k["start_s"], k["stage"]))
    most = min(TASKS, TASKS_PER_STAGE * len({k["stage"] for k in tasks}))
    if len(tasks) <= most:
        return tasks, ""
    return tasks[:most], f" (its first {most:,} of {len(tasks):,} computations)"


def choices(answer: Answer) -> alt.VConcatChart | None:
    """What each point of a serving frontier sets: its clock, and its batch."""
    import altair as alt

    first = _first(answer)
    if "tpot_s" not in first or not {"clock_hz", "batch"} & first.keys():
        return None
    unit, factor = words.scale(float(answer.time_s[0]), "s")
    rows = [{"t": short(k["tpot_s"] * factor), **_shown(k)} for k in _thinned(answer)]
    panels = []
    for key, title in (("clock_hz", "Clock, MHz"), ("batch", "Batch, requests")):
        if key not in first:
            continue
        x = alt.X("t:Q", title=f"Time for {answer.work}, {unit}", scale=alt.Scale(zero=False, padding=14))
        tips = [alt.Tooltip(f"{name}:N", title=name) for name in rows[0] if name not in ("t", "clock_hz", "batch")]
        panels.append(
            alt.Chart(inline(rows))
            .mark_line(point=alt.OverlayMarkDef(filled=True, size=40), color=LINE, interpolate="step-after")
            .encode(x=x, y=alt.Y(f"{key}:Q", title=title, scale=alt.Scale(zero=False)), tooltip=tips)
            .properties(width=WIDTH, height=150)
        )
    return alt.vconcat(*panels)


def _thinned(answer: Answer) -> list[Mapping[str, Any]]:
    return [answer.timeline[i] for i in _thin(len(answer.timeline), POINTS)]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    text = {words.figure(k).lower(): words.value(k, v) for k, v in row.items()}
    plot = {"clock_hz": row.get("clock_hz", 0.0) / 1e6, "batch": row.get("batch", 0)}
    return {**text, **plot}


def _first(answer: Answer) -> Mapping[str, Any]:
    return answer.timeline[0] if answer.timeline else {}


def inline(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Return rows as data that stands in the chart itself."""
    import altair as alt

    return alt.InlineData(values=rows)


def _thin(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return at most `most` indices spread evenly, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def short(number: float) -> float:
    """Return a number with six digits: more are not seen, and make pages large."""
    return float(f"{number:.6g}")


# ---- files ---------------------------------------------------------------------------------------


def specification(chart: alt.TopLevelMixin, theme: str | None = None) -> dict[str, Any]:
    """Return the chart as a Vega-Lite specification, with the configuration of a theme or with none."""
    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = config(theme) if theme else {}
    return spec


def version() -> str:
    """Return the Vega-Lite version the specifications are written for, as vl-convert names it."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def svg(chart: alt.TopLevelMixin, theme: str = "light") -> str:
    """Return the chart drawn as SVG; nothing is fetched."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(specification(chart, theme), vl_version=version(), allowed_base_urls=[]))


def write_charts(answer: Answer, folder: Path) -> list[Path]:
    """Write every chart as SVG and PNG into `folder`, made if missing, and return the paths."""
    return write(charts(answer), folder)


def write(drawings: Mapping[str, alt.TopLevelMixin], folder: Path) -> list[Path]:
    """Write charts by name as SVG and PNG into `folder`, made if missing, and return the paths."""
    import vl_convert

    out = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, chart in drawings.items():
            drawn = svg(chart)
            out += [folder / f"{name}.svg", folder / f"{name}.png"]
            out[-2].write_text(drawn, "utf-8")
            out[-1].write_bytes(vl_convert.svg_to_png(drawn, scale=2))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    return out
