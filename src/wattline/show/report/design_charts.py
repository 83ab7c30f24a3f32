"""The charts of a study of designs: all designs, one change of the chosen one each, and where the joules went."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...core.units import show
from ...scenario.design_space import DesignAnswer
from . import vega, words
from .charts import BASELINE, CHOSEN, LESS, LINE, MORE, WIDTH, short

# Most designs beside the frontier, and changes of the chosen one, that are drawn.
DESIGNS: Final = 1500
STEPS: Final = 30


def charts(answer: DesignAnswer) -> dict[str, vega.Chart]:
    """Return every chart the answer has data for, by name."""
    out: dict[str, vega.Chart] = {"designs": designs(answer)}
    if any(s.energy is not None for s in answer.steps):
        out["steps"] = steps(answer)
    return {**out, "joules": joules(answer)}


def designs(answer: DesignAnswer) -> vega.Chart:
    """Return every design by time and energy of the mix, the frontier on top, the chosen one and the unchanged chip."""
    d = answer.designs
    on = np.zeros(len(d), dtype=bool)
    on[answer.frontier] = True
    rest = np.flatnonzero(~on)
    if len(rest) > DESIGNS:
        rest = rest[np.linspace(0, len(rest) - 1, DESIGNS).round().astype(int)]
    states = ["within the budgets", "on the frontier"]
    rows = [_design(answer, int(i), states[int(on[i])]) for i in (*rest, *answer.frontier)]
    marked = [
        {**_design(answer, answer.chosen, ""), "what": "chosen"},
        {"t": 1.0, "e": 1.0, "what": "unchanged", "design": "nothing changed", "area": _mm2(answer.unchanged[2])},
    ]
    x = vega.field(
        "t:Q", title="Machine time of the mix, unchanged chip = 1", scale=vega.options(zero=False, padding=14)
    )
    y = vega.field(
        "e:Q", title="Facility energy of the mix, unchanged chip = 1", scale=vega.options(zero=False, padding=14)
    )
    tips = [vega.field(f"{k}:N", title=k) for k in ("design", "energy", "time", "area")]
    colour = vega.field("state:N", title=None, scale=vega.options(domain=states, range=[BASELINE, LINE]))
    dots = (
        vega.Chart(rows)
        .mark("circle", opacity=0.75)
        .encode(
            x=x, y=y, color=colour, tooltip=tips,
            size=vega.field("state:N", scale=vega.options(domain=states, range=[14, 46]), legend=None),
        )
    )  # fmt: skip
    names = ["chosen", "unchanged"]
    both = vega.Chart(marked).encode(
        x=x, y=y, tooltip=tips[:1],
        fill=vega.field("what:N", scale=vega.options(domain=names, range=[CHOSEN, BASELINE]), legend=None),
        shape=vega.field("what:N", scale=vega.options(domain=names, range=["diamond", "square"]), legend=None),
    )  # fmt: skip
    marks = both.mark("point", size=150, filled=True, opacity=1)
    label = vega.Chart(marked).mark("text", align="left", dx=11, dy=-9, fontWeight=600)
    return vega.layer(dots, marks, label.encode(x=x, y=y, text="what:N")).properties(width=WIDTH, height=360)


def _design(answer: DesignAnswer, i: int, state: str) -> dict[str, Any]:
    d = answer.designs
    said = ", ".join(f"{axis} {option}" for axis, option in answer.options(i).items())
    return {
        "t": short(float(d.time[i])),
        "e": short(float(d.energy[i])),
        "state": state,
        "design": said or "nothing changed",
        "energy": words.percent(float(d.energy[i])),
        "time": words.percent(float(d.time[i])),
        "area": _mm2(float(d.area[i])),
    }


def _mm2(area: float) -> str:
    return f"{area / 1e-6:.1f} mm2"


def steps(answer: DesignAnswer) -> vega.Chart:
    """Return what one change of the chosen design would do to the mix's energy."""
    rows: list[dict[str, Any]] = [
        {
            "step": f"{s.axis}: {s.option}",
            "v": short(100 * s.energy),
            "at": short(100 * max(s.energy, 0.0)),
            "sign": "more energy" if s.energy > 0 else "less energy",
            "label": f"{100 * s.energy:+.2f} %",
            "verdict": s.verdict,
        }
        for s in answer.steps[:STEPS]
        if s.energy is not None
    ]
    names = ["less energy", "more energy"]
    most = max(abs(row["v"]) for row in rows) or 1.0
    scale = vega.options(domain=[min(0.0, min(row["v"] for row in rows)) - 0.02 * most, 1.35 * most], nice=False)
    base = vega.Chart(rows).encode(
        x=vega.field("v:Q", title="Change of the mix's energy, %", scale=scale),
        y=vega.field("step:N", sort=None, title=None),
        tooltip=[vega.field(f"{k}:N", title=k) for k in ("step", "label", "verdict")],
    )
    bars = base.mark("bar", cornerRadiusEnd=2).encode(
        color=vega.field("sign:N", title=None, scale=vega.options(domain=names, range=[LESS, MORE]), legend=None)
    )
    text = base.mark("text", align="left", dx=6).encode(text="label:N", x="at:Q")
    return vega.layer(bars, text).properties(width=WIDTH - 80, height={"step": 22})


def joules(answer: DesignAnswer) -> vega.Chart:
    """Return where the joules of every work go, on the unchanged chip and on the chosen design, by layer."""
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for w in answer.works:
        whole = w.unchanged.chosen.energy_j
        for name, outcome in (("unchanged", w.unchanged.chosen), ("chosen", w.chosen.chosen)):
            bar = f"{w.name}, {name}"
            layers: dict[str, float] = {}
            for part, energy in outcome.breakdown_j.items():
                layers[words.layer(part)] = layers.get(words.layer(part), 0.0) + energy
            rows += [
                {"bar": bar, "layer": layer, "v": short(100 * e / whole), "energy": show(e, "J")}
                for layer, e in layers.items()
                if e > 0
            ]
            total = short(100 * outcome.energy_j / whole)
            totals.append({"bar": bar, "v": total, "label": show(outcome.energy_j, "J")})
    used = list(dict.fromkeys(row["layer"] for row in rows))
    order = [t["bar"] for t in totals]
    scale = vega.options(domain=[0, 1.2 * max(t["v"] for t in totals)], nice=False)
    y = vega.field("bar:N", sort=order, title=None)
    bars = (
        vega.Chart(rows)
        .mark("bar")
        .encode(
            x=vega.field("v:Q", title="Energy, % of the unchanged chip's", scale=scale),
            y=y,
            color=vega.field(
                "layer:N", title=None, scale=vega.options(domain=used, range=[words.COLOURS[u] for u in used])
            ),
            tooltip=[vega.field(f"{k}:N", title=k) for k in ("bar", "layer", "energy")],
        )
    )
    label = vega.Chart(totals).mark("text", align="left", dx=6).encode(x="v:Q", y=y, text="label:N")
    return vega.layer(bars, label).properties(width=WIDTH - 80, height={"step": 26})
