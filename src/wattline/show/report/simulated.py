"""A simulated run as one HTML page: power over time, latencies, where the joules went, policies beside their bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.units import show
from ...serving.simulate.outcome import PHASES, Run
from ...serving.simulate.study import Study
from . import charts, page, vega, words
from . import document as documents
from .page import write_text

# Colours of phases, holding on light and dark alike; most bins of a series that are drawn.
_PHASE: Final = {"prefill": "#8a63c9", "decode": "#2f7fc1", "idle": "#7a828e", "cold": "#d2902d", "transfer": "#2c8f6b"}
_BINS: Final = 200
_ABOUT: Final = {
    "power": "Power of the chips by phase; steps that carry prompts are shared between prefill and decode.",
    "latency": "Share of requests that took no longer. Dashed: what was promised.",
    "breakdown": "Joules of the chips by component; idle replicas wait for requests.",
    "policies": "Each point is one run of the whole trace. The line is the least any policy could take.",
}


@dataclass(frozen=True)
class Page:
    """What a page says of a run."""

    title: str
    run: Run
    facility_j: float
    facts: Mapping[str, str]
    rows: Sequence[tuple[str, str]]
    policies: tuple[list[str], list[list[str]]] | None
    assumptions: Sequence[str]
    study: Study | None


def write_html(what: Page, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the page. `scenario`: the text of the scenario file; `command`: what was typed."""
    write_text(html(what, scenario=scenario, command=command), path)


def html(what: Page, *, scenario: str = "", command: str = "") -> str:
    """Return the page as HTML."""
    drawn = {name: documents.fluid(charts.specification(chart)) for name, chart in draw(what).items()}
    run = what.run
    said = f"{show(run.energy_j / run.tokens, 'J')} per token"
    kept = "" if not run.promised else "promise kept" if run.kept else "promise not kept"
    body = [
        f'<p class="kind">simulated serving</p><h1>{escape(said)} <span class="gain">{kept}</span></h1>'
        f'<p class="goal">{escape(what.title)}; {escape(run.policy)}.</p>{page.table((), what.facts.items())}',
        page.section("What came of it", page.table((), what.rows)),
        page.section("Power over time", _chart("power", drawn)),
        page.section("Latency", _chart("latency", drawn)),
        page.section("Where the joules go", _chart("breakdown", drawn)),
    ]
    if what.policies is not None:
        table = page.table(*what.policies)
        body.append(page.section("Policies beside the best fixed clock", _chart("policies", drawn), table))
    notes = "".join(f"<li>{escape(line)}</li>" for line in (*what.assumptions, f"source: {run.source}"))
    sure = f"Energies are {run.provenance}, ± {words.percent(run.uncertainty, 2)} (one standard deviation)."
    body += [
        page.section("How sure, and on what assumptions", f"<p>{escape(sure)}</p><ul>{notes}</ul>"),
        page.reproduce(scenario, command),
    ]
    return documents.document(f"{what.title}: simulated", "\n".join(body), drawn)


def _chart(name: str, drawn: Mapping[str, Any]) -> str:
    return documents.chart_place(name, drawn, _ABOUT[name])


def draw(what: Page) -> dict[str, vega.Chart]:
    """Return every chart by name: power, latency, breakdown, and policies where they were compared."""
    out: dict[str, vega.Chart] = {
        "power": power(what.run), "latency": latency(what.run), "breakdown": breakdown(what.run)
    }  # fmt: skip
    return out if what.study is None else {**out, "policies": policies(what.study)}


def power(run: Run) -> vega.Chart:
    """Watts by phase over time, stacked."""
    every = -(-len(run.power) // _BINS)
    watts = np.array([run.power[i : i + every].mean(axis=0) for i in range(0, len(run.power), every)])
    t_unit, t = words.scale(run.duration, "s")
    w_unit, w = words.scale(float(watts.sum(axis=1).max()), "W")
    rows = [
        {"t": charts.short((i + 0.5) * every * run.bin * t), "p": charts.short(x * w), "phase": name}
        for i, row in enumerate(watts)
        for name, x in zip(PHASES, row.tolist(), strict=True)
        if run.power[:, PHASES.index(name)].any()
    ]
    used = [name for name in PHASES if any(row["phase"] == name for row in rows)]
    colour = vega.options(domain=used, range=[_PHASE[name] for name in used])
    return (
        vega.Chart(rows)
        .mark("area", interpolate="step")
        .encode(
            x=vega.field("t:Q", title=f"Time, {t_unit}", scale=vega.options(nice=False)),
            y=vega.field("p:Q", stack="zero", title=f"Power of the chips, {w_unit}"),
            color=vega.field("phase:N", title=None, scale=colour),
            tooltip=[vega.field("phase:N"), vega.field("t:Q", title=t_unit), vega.field("p:Q", title=w_unit)],
        )
        .properties(width=charts.WIDTH, height=260)
    )


def latency(run: Run) -> vega.Chart:
    """Cumulative distributions of time to the first token and per token after it, with the promises."""
    panels = []
    more = run.output > 1
    for values, limit, title in (
        (run.ttft, run.limits.ttft, "Time to the first token"),
        (run.tpot[more], run.limits.tpot, "Time per output token after it"),
    ):
        if not len(values):
            continue
        shares = np.linspace(0.0, 1.0, 101)
        times = np.quantile(values, shares)
        unit, factor = words.scale(float(times[50]), "s")
        rows = [
            {"x": charts.short(max(a, 1e-9) * factor), "y": 100 * b}
            for a, b in zip(times.tolist(), shares, strict=True)
        ]
        base = vega.Chart(rows).encode(
            x=vega.field("x:Q", title=f"{title}, {unit}", scale=vega.options(type="log", nice=False)),
            y=vega.field("y:Q", title="Requests, %"),
            tooltip=[vega.field("x:Q", title=unit), vega.field("y:Q", title="%")],
        )
        layers: list[Any] = [base.mark("line", color=charts.LINE, strokeWidth=2.5)]
        if limit is not None:
            rule = vega.Chart([{"x": charts.short(limit * factor)}])
            layers.append(rule.mark("rule", color=charts.CHOSEN, strokeDash=[5, 4]).encode(x="x:Q"))
        panels.append(vega.layer(*layers).properties(width=charts.WIDTH, height=170))
    return vega.column(*panels)


def breakdown(run: Run) -> vega.Chart:
    """Joules by component, the largest first."""
    rows = words.share_out(run.breakdown_j)
    unit, factor = words.scale(rows[0][1], "J")
    data: list[dict[str, Any]] = [
        {
            "part": _named(name), "v": charts.short(joules * factor),
            "label": f"{show(joules, 'J')}, {words.percent(share)}",
        }
        for name, joules, share in rows
    ]  # fmt: skip
    base = vega.Chart(data).encode(
        x=vega.field("v:Q", title=f"Energy, {unit}", scale=vega.options(domain=[0, 1.3 * data[0]["v"]], nice=False)),
        y=vega.field("part:N", sort=[row["part"] for row in data], title=None),
        tooltip=[vega.field("part:N"), vega.field("label:N", title="energy")],
    )
    text = base.mark("text", align="left", dx=6).encode(text="label:N")
    bars = base.mark("bar", cornerRadiusEnd=2, color=charts.LINE)
    return vega.layer(bars, text).properties(width=charts.WIDTH, height={"step": 26})


def _named(name: str) -> str:
    own = {"idle": "Replicas without work", "cold": "Starting and parked replicas", "transfer": "Caches over the link"}
    return own.get(name) or words.component(name)


def policies(study: Study) -> vega.Chart:
    """Joules per token against time per token, one point per run, over the bound."""
    fixed = {run.policy for run in study.static}
    rows = [
        {
            "x": charts.short(1e3 * row["tpot_s"]), "y": charts.short(row["energy_per_token_j"]),
            "policy": row["policy"], "kind": "fixed clock" if row["policy"] in fixed else row["policy"],
            "kept": "kept" if row["promise_kept"] else "missed",
        }
        for row in study.rows()
    ]  # fmt: skip
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    points = vega.Chart(rows).encode(
        x=vega.field("x:Q", title="Time per output token at the 99th percentile, ms", scale=vega.options(type="log")),
        y=vega.field("y:Q", title="Energy per output token, J", scale=vega.options(zero=False)),
        color=vega.field("kind:N", title=None, scale=vega.options(domain=kinds)),
        shape=vega.field(
            "kept:N", title="promise", scale=vega.options(domain=["kept", "missed"], range=["circle", "cross"])
        ),
        tooltip=[vega.field(f"{k}:N") for k in ("policy", "x", "y", "kept")],
    )
    least = [{"y": charts.short(study.bound.awake_j / study.best.tokens)}]
    rule = vega.Chart(least).mark("rule", color=charts.CHOSEN, strokeDash=[5, 4]).encode(y="y:Q")
    return vega.layer(points.mark("point", size=110, filled=True, opacity=1), rule).properties(
        width=charts.WIDTH, height=320
    )
