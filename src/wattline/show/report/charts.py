"""The charts of a plan, each one Vega-Lite specification: for SVG, PNG, a notebook and the HTML page.

Colours hold on light and dark pages alike; text and grid follow the theme. Axes carry the unit that
keeps their numbers short, and every mark has a tooltip with the full figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.errors import InputError
from ...core.units import show
from ...frontier.answer import Answer
from . import vega, words
from .theme import config

LINE, CHOSEN, BASELINE = "#2f7fc1", "#d2522d", "#7a828e"
LESS, MORE = "#2c8f6b", "#8a63c9"

# Most points of a frontier, parameters of an elasticity, and tasks of a timeline, in all and on
# average per stage, that are drawn: more could not be told apart.
POINTS, PARAMETERS, TASKS, TASKS_PER_STAGE = 300, 15, 4000, 160
WIDTH: Final = 680


def charts(answer: Answer) -> dict[str, vega.Chart]:
    """Return every chart the answer has data for, by name: frontier, breakdown, elasticities, plan."""
    out: dict[str, vega.Chart] = {"frontier": frontier(answer)}
    if words.share_out(answer.chosen.breakdown_j):
        out["breakdown"] = breakdown(answer)
    if words.largest(answer.elasticity, 1):
        out["elasticities"] = elasticities(answer)
    plan = timeline(answer) if "start_s" in _first(answer) else choices(answer)
    return {**out, "plan": plan} if plan is not None else out


def frontier(answer: Answer) -> vega.Chart:
    """The time-energy frontier with the chosen plan and the baseline on it."""
    t_unit, t = words.scale(float(answer.time_s[0]), "s")
    e_unit, e = words.scale(float(answer.energy_j[0]), "J")
    keep = _thin(len(answer.time_s), POINTS)
    points = [_point("on the frontier", *row, answer, t, e) for row in zip(
        answer.time_s[keep], answer.energy_j[keep], answer.power_w[keep], strict=True)]  # fmt: skip
    marked = [
        _point(name, o.time_s, o.energy_j, o.average_power_w, answer, t, e)
        for name, o in (("maximum clocks", answer.baseline), ("chosen", answer.chosen))
    ]
    x = vega.field(
        "t:Q", title=f"Time for {answer.work}, {t_unit}", scale=vega.options(zero=False, nice=True, padding=14)
    )
    y = vega.field("e:Q", title=f"Energy, {e_unit}", scale=vega.options(zero=False, nice=True, padding=14))
    tips = [vega.field(f"{k}:N", title=k) for k in ("what", "time", "energy", "power", "against maximum clocks")]
    names = ["chosen", "maximum clocks"]
    curve = vega.Chart(points)
    line = curve.mark("line", color=LINE, strokeWidth=2.5, interpolate="linear").encode(x=x, y=y)
    dots = curve.mark("circle", color=LINE, size=26, opacity=1).encode(x=x, y=y, tooltip=tips)
    guide = vega.Chart(marked[1:]).mark("rule", color=CHOSEN, strokeDash=[5, 4])
    both = vega.Chart(marked).encode(
        x=x,
        y=y,
        color=vega.field("what:N", scale=vega.options(domain=names, range=[CHOSEN, BASELINE]), legend=None),
        shape=vega.field("what:N", scale=vega.options(domain=names, range=["diamond", "square"]), legend=None),
        tooltip=tips,
    )
    marks = both.mark("point", size=150, filled=True, opacity=1)
    label = vega.Chart(marked).mark("text", align="left", dx=11, dy=-9, fontWeight=600).encode(x=x, y=y, text="what:N")
    return vega.layer(guide.encode(x=x), guide.encode(y=y), line, dots, marks, label).properties(
        width=WIDTH, height=340
    )


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


def breakdown(answer: Answer) -> vega.Chart:
    """Where the joules go: one bar per component, the largest first, coloured by layer."""
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
    colour = vega.field("layer:N", scale=vega.options(domain=used, range=[words.COLOURS[u] for u in used]), legend=None)
    tips = [vega.field(f"{k}:N", title=k) for k in ("part", "energy", "share", "layer")]
    # Room on the right for the longest bar's label.
    scale = vega.options(domain=[0, 1.3 * data[0]["v"]], nice=False)
    base = vega.Chart(data).encode(
        x=vega.field("v:Q", title=f"Energy for {answer.work}, {unit}", scale=scale),
        y=vega.field("part:N", sort=[row["part"] for row in data], title=None),
        tooltip=tips,
    )
    bars = base.mark("bar", cornerRadiusEnd=2).encode(color=colour)
    return vega.layer(bars, base.mark("text", align="left", dx=6).encode(text="label:N")).properties(
        width=WIDTH, height={"step": 26}
    )


def elasticities(answer: Answer) -> vega.Chart:
    """What would help: the saving from moving each parameter by one percent the helpful way."""
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
    base = vega.Chart(data).encode(
        x=vega.field(
            "v:Q",
            title="Change of energy when the parameter grows by 1 %, %",
            scale=vega.options(domain=[-reach, reach], nice=False),
        ),
        y=vega.field("parameter:N", sort=[row["parameter"] for row in data], title=None),
        tooltip=[vega.field(f"{k}:N", title=k) for k in ("parameter", "key", "saving")],
    )
    colour = vega.field("way:N", title=None, scale=vega.options(domain=ways, range=[MORE, LESS]))
    zero = vega.Chart([{"v": 0}]).mark("rule", color=BASELINE).encode(x="v:Q")
    return vega.layer(base.mark("bar", cornerRadiusEnd=2).encode(color=colour), zero).properties(
        width=WIDTH - 60, height={"step": 24}
    )


def _unique(name: str, answer: Answer) -> str:
    """Return the parameter's phrase, with its key where two parameters share one."""
    shared = [n for n, _ in words.largest(answer.elasticity, PARAMETERS) if words.parameter(n) == words.parameter(name)]
    return words.parameter(name) if len(shared) == 1 else f"{words.parameter(name)} ({name})"


def timeline(answer: Answer) -> vega.Chart:
    """Who runs when: one row per stage, one bar per computation, coloured by its clock."""
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
    chart = vega.Chart(data).mark("bar", stroke="#14181d", strokeWidth=0.4, strokeOpacity=0.6)
    return chart.encode(
        x=vega.field("a:Q", title=f"Time in the iteration, {unit}{note}", scale=vega.options(nice=False)),
        x2="b:Q",
        y=vega.field("s:O", title="Stage", axis=vega.options(labelOverlap=True)),
        color=vega.field(
            "f:Q",
            title="Clock, MHz",
            # A little beyond the data, so that one clock alone still has a scale.
            scale=vega.options(scheme="plasma", domain=[min(clocks) - 1, max(clocks) + 1], nice=False),
        ),
        tooltip=[
            vega.field("s:O", title="stage"),
            vega.field("m:Q", title="microbatch"),
            vega.field("i:N", title="does"),
            vega.field("f:Q", title="clock, MHz", format=","),
            vega.field("a:Q", title=f"starts, {unit}"),
            vega.field("b:Q", title=f"ends, {unit}"),
        ],
    ).properties(width=WIDTH, height={"step": max(8, min(30, 420 // stages))})


def window(answer: Answer) -> tuple[list[Mapping[str, Any]], str]:
    """Return the first computations by start, as many as can be told apart, and a note where not all."""
    tasks = sorted(answer.timeline, key=lambda k: (k["start_s"], k["stage"]))
    most = min(TASKS, TASKS_PER_STAGE * len({k["stage"] for k in tasks}))
    if len(tasks) <= most:
        return tasks, ""
    return tasks[:most], f" (its first {most:,} of {len(tasks):,} computations)"


def choices(answer: Answer) -> vega.Chart | None:
    """What each point of a serving frontier sets: its clock, and its batch."""
    first = _first(answer)
    if "tpot_s" not in first or not {"clock_hz", "batch"} & first.keys():
        return None
    unit, factor = words.scale(float(answer.time_s[0]), "s")
    rows = [{"t": short(k["tpot_s"] * factor), **_shown(k)} for k in _thinned(answer)]
    panels = []
    for key, title in (("clock_hz", "Clock, MHz"), ("batch", "Batch, requests")):
        if key not in first:
            continue
        x = vega.field("t:Q", title=f"Time for {answer.work}, {unit}", scale=vega.options(zero=False, padding=14))
        tips = [vega.field(f"{name}:N", title=name) for name in rows[0] if name not in ("t", "clock_hz", "batch")]
        panels.append(
            vega.Chart(rows)
            .mark("line", point=vega.options(filled=True, size=40), color=LINE, interpolate="step-after")
            .encode(x=x, y=vega.field(f"{key}:Q", title=title, scale=vega.options(zero=False)), tooltip=tips)
            .properties(width=WIDTH, height=150)
        )
    return vega.column(*panels)


def _thinned(answer: Answer) -> list[Mapping[str, Any]]:
    return [answer.timeline[i] for i in _thin(len(answer.timeline), POINTS)]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    text = {words.figure(k).lower(): words.value(k, v) for k, v in row.items()}
    plot = {"clock_hz": row.get("clock_hz", 0.0) / 1e6, "batch": row.get("batch", 0)}
    return {**text, **plot}


def _first(answer: Answer) -> Mapping[str, Any]:
    return answer.timeline[0] if answer.timeline else {}


def _thin(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return at most `most` indices spread evenly, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def short(number: float) -> float:
    """Return a number with six digits: more are not seen, and make pages large."""
    return float(f"{number:.6g}")


# ---- files ---------------------------------------------------------------------------------------


def specification(chart: vega.Chart, theme: str | None = None) -> dict[str, Any]:
    """Return the chart as a Vega-Lite specification, with the configuration of a theme or with none."""
    return {**chart.to_dict(), "config": config(theme) if theme else {}}


def svg(chart: vega.Chart, theme: str = "light") -> str:
    """Return the chart drawn as SVG."""
    return vega.svg(specification(chart, theme))


def write_charts(answer: Answer, folder: Path) -> list[Path]:
    """Write every chart as SVG and PNG into `folder`, made if missing, and return the paths."""
    return write(charts(answer), folder)


def write(drawings: Mapping[str, vega.Chart], folder: Path) -> list[Path]:
    """Write charts by name as SVG and PNG into `folder`, made if missing, and return the paths."""
    out = []
    drawn = {name: svg(chart) for name, chart in drawings.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in drawn.items():
            out += [folder / f"{name}.svg", folder / f"{name}.png"]
            out[-2].write_text(picture, "utf-8")
            out[-1].write_bytes(vega.png(picture))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    return out
