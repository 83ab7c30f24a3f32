"""A search for serving configurations told: tables in the terminal, one HTML page, charts, and the pools as CSV."""

from __future__ import annotations

import csv
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...core.units import show
from ...serving.search_answer import LATENCIES, Configuration, Figures, SearchAnswer
from . import charts as drawing
from . import document as documents
from . import page as pages
from . import vega, words
from .page import write_text

# Most points of a frontier and configurations that are shown in the terminal; on the page, of each frontier.
_FEW, _MANY = 8, 60
_NAMES: Final = {
    "ttft": "Time to the first token",
    "tpot": "Time per output token",
    "latency": "Time to the last token",
}
_ABOUT: Final = {
    "confirmation": "Each line is one configuration: from what was expected (circle) to what simulation found (bar).",
    "breakdown": "Facility joules of one output token, of the simulated run.",
}

# Whether a promise was kept; nothing where there is none.
_PROMISE = {True: "kept", False: "missed", None: "none"}

Cells = tuple[list[str], list[list[str]]]


def headline(answer: SearchAnswer) -> str:
    """Return the answer in a sentence."""
    best = answer.chosen.best
    saved = answer.savings["energy"]
    won = f"{words.percent(saved)} less than" if saved >= 0 else f"{words.percent(-saved)} more than"
    return f"{show(best.energy, 'J')} per token: {won} the fewest chips at maximum clocks"


# ---- tables --------------------------------------------------------------------------------------


def compare(answer: SearchAnswer) -> Cells:
    """Return baseline beside chosen, both simulated."""
    a, b = answer.baseline, answer.chosen
    rows = [["Chips", str(a.chips), str(b.chips), words.change(a.chips, b.chips)]]
    pairs = [
        ("Energy per token", "energy", "J"), ("Average power", "power", "W"), *((_NAMES[n], n, "s") for n in LATENCIES),
    ]  # fmt: skip
    for name, key, unit in pairs:
        x, y = getattr(a.best, key), getattr(b.best, key)
        rows.append([name, show(x, unit), show(y, unit), words.change(x, y)])
    for key, (x, y) in _costs(answer).items():
        rows.append([f"{key} per million tokens", x, y, ""])
    return [f"At the {answer.percentile:g}th percentile", "baseline", "chosen", "change"], rows


def _costs(answer: SearchAnswer) -> dict[str, tuple[str, str]]:
    found = [
        answer.rates.per_million(c.best.energy, c.chips * c.best.energy / c.best.power)
        for c in (answer.baseline, answer.chosen)
    ]
    names = {
        "electricity_usd": ("Electricity", "USD"), "chips_usd": ("Chips", "USD"), "cost_usd": ("Cost", "USD"),
        "carbon_g": ("Carbon", "g"),
    }  # fmt: skip
    out = {}
    for key, before in found[0].items():
        name, unit = names[key.removesuffix("_per_million_tokens")]
        out[name] = (show(before, unit), show(found[1][key], unit))
    return out


def confirmed(answer: SearchAnswer) -> Cells:
    """Return expected against simulated of every confirmed configuration."""
    rows = [
        [
            c.label, _pair(c, "energy", "J"), *(_pair(c, name, "s") for name in LATENCIES),
            _PROMISE[c.kept],
        ]
        for c in answer.confirmed
    ]  # fmt: skip
    return ["expected > simulated", "J/token", "TTFT", "TPOT", "last token", "promise"], rows


def _pair(c: Configuration, name: str, unit: str) -> str:
    assert c.simulated is not None
    return f"{show(getattr(c.analytic, name), unit)} > {show(getattr(c.simulated, name), unit)}"


def frontier(answer: SearchAnswer, name: str, most: int) -> Cells:
    """Return points of a frontier, the ends among them."""
    some = list(answer.frontier[name])
    step = max(1, -(-len(some) // most))
    picked = some[::step] + ([some[-1]] if some and (len(some) - 1) % step else [])
    rows = [
        [
            show(getattr(c.analytic, name), "s"), show(c.analytic.energy, "J"), str(c.chips), c.label,
        ]
        for c in picked
    ]  # fmt: skip
    return [_NAMES[name], "J/token", "chips", "configuration"], rows


def parts(answer: SearchAnswer) -> Cells:
    """Return where the joules of a token go."""
    rows = [
        [words.component(name) if name not in _OWN else _OWN[name], show(joules, "J"), words.percent(share)]
        for name, joules, share in words.share_out(answer.chosen.breakdown_j)
    ]
    return ["Component", "Energy", "Share"], rows


_OWN: Final = {"chip.idle": "Chips with nothing to do", "chip.transfer": "Caches sent from prefill to decode"}


def weighed(answer: SearchAnswer) -> Cells:
    """Return configurations of which none beats another in joules and in money."""
    return ["J/token", "USD per million tokens", "chips", "configuration"], [
        [show(c.best.energy, "J"), f"{answer.dollars(c):.3g}", f"{c.chips}", c.label] for c in answer.weighed
    ]


def agreement(answer: SearchAnswer) -> str:
    """Return how far expectation and simulation lie apart, in a sentence."""
    a = answer.agreement
    return (
        f"Expected over simulated, on average: energy {a['energy_ratio']:.2f}, TTFT {a['ttft_ratio']:.2f}, "
        f"TPOT {a['tpot_ratio']:.2f}; rank correlation of energies {a['rank_correlation']:.2f}."
    )


def trust(answer: SearchAnswer) -> str:
    """Return how sure the figures are."""
    return (
        f"Energies are {answer.provenance}, ± {words.percent(answer.uncertainty, 2)}; "
        f"times ± {words.percent(answer.time_uncertainty, 2)} (one standard deviation)."
    )


# ---- terminal ------------------------------------------------------------------------------------


def show_search(answer: SearchAnswer, console: Console) -> None:
    """Print the answer."""
    console.print(Text(headline(answer), style="bold"))
    console.print()
    facts = {"chosen": answer.chosen.label, "baseline": answer.baseline.label, "goal": answer.goal, **answer.facts}
    _print(console, "", ([], [[name, text] for name, text in facts.items()]))
    _print(console, "Chosen against the fewest chips at maximum clocks, both simulated", compare(answer))
    _print(console, "Where the joules go", (parts(answer)[0], parts(answer)[1][:10]))
    for name in LATENCIES:
        _print(
            console, f"Least energy against {_NAMES[name][:1].lower()}{_NAMES[name][1:]}", frontier(answer, name, _FEW)
        )
    if len(answer.weighed) > 1:
        _print(console, "Energy against cost, all confirmed", weighed(answer))
    _print(console, "Confirmed by simulation", confirmed(answer))
    console.print(agreement(answer))
    _print(console, "What to type", ([], [[line] for line in answer.apply]))
    console.print(trust(answer))
    for label, why in answer.refused.items():
        console.print(f"Left out: {label}: {why}", style="dim")
    for line in (answer.source, *answer.assumptions):
        console.print(line, style="dim")


def _print(console: Console, title: str, cells: Cells) -> None:
    heads, rows = cells
    if title:
        console.print(Text(title, style="bold"))
    table = Table(box=None, show_header=bool(heads), padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    width = max((len(row) for row in rows), default=len(heads))
    for number in range(width):
        text = number == 0 or (heads and heads[number] == "configuration") or not heads
        table.add_column(heads[number] if heads else "", justify="left" if text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    console.print()


# ---- page and files ------------------------------------------------------------------------------


def write_html(answer: SearchAnswer, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the page."""
    write_text(page(answer, scenario=scenario, command=command), path)


def page(answer: SearchAnswer, *, scenario: str = "", command: str = "") -> str:
    """Return the answer as HTML."""
    drawn = {name: documents.fluid(drawing.specification(chart)) for name, chart in charts(answer).items()}
    body = [
        f'<p class="kind">serving energy search</p><h1>{escape(headline(answer))}</h1>'
        f'<p class="goal">Goal: {escape(answer.goal)}. Chosen: {escape(answer.chosen.label)}.</p>'
        f"{pages.table((), answer.facts.items())}",
        pages.section("Chosen against the fewest chips at maximum clocks", pages.table(*compare(answer))),
        *(
            pages.section(
                f"Energy against {_NAMES[name].lower()}",
                documents.chart_place(name, drawn, _note(answer)),
                pages.fold("The same as a table", pages.table(*frontier(answer, name, _MANY), text=(3,))),
            )
            for name in LATENCIES
        ),
        pages.section(
            "Where the joules go", documents.chart_place("breakdown", drawn, _ABOUT["breakdown"]),
            pages.table(*parts(answer)),
        ),
        pages.section(
            "Confirmed by simulation", documents.chart_place("confirmation", drawn, _ABOUT["confirmation"]),
            pages.table(*confirmed(answer)), f'<p class="note">{escape(agreement(answer))}</p>',
        ),
        pages.section("What to type", pages.typed(answer.apply)),
        pages.section("How sure, and on what assumptions", _said(answer)),
        pages.reproduce(scenario, command),
    ]  # fmt: skip
    return documents.document(f"{answer.title}: energy search", "\n".join(body), drawn)


def _note(answer: SearchAnswer) -> str:
    return f"At the {answer.percentile:g}th percentile, analytic. Every other promise is kept along the line."


def _said(answer: SearchAnswer) -> str:
    left = [f"left out: {label}: {why}" for label, why in answer.refused.items()]
    lines = "".join(f"<li>{escape(line)}</li>" for line in (answer.source, *answer.assumptions, *left))
    return f"<p>{escape(trust(answer))}</p><ul>{lines}</ul>"


def write_charts(answer: SearchAnswer, folder: Path) -> list[Path]:
    """Write every chart as SVG and PNG into `folder`."""
    return drawing.write(charts(answer), folder)


def write_pools(answer: SearchAnswer, path: Path) -> None:
    """Write the chosen pools as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, list(answer.chosen.pools[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(dict(pool) for pool in answer.chosen.pools)


def charts(answer: SearchAnswer) -> dict[str, vega.Chart]:
    """Return every chart by name: a frontier per latency, expected against simulated, and the breakdown."""
    out: dict[str, vega.Chart] = {name: _frontier(answer, name) for name in LATENCIES if len(answer.frontier[name]) > 0}
    return {**out, "confirmation": _confirmation(answer), "breakdown": _breakdown(answer)}


def _frontier(answer: SearchAnswer, name: str) -> vega.Chart:
    unit, factor = words.scale(getattr(answer.chosen.best, name), "s")

    def row(what: str, c: Configuration, figures: Figures) -> dict[str, Any]:
        return {
            "what": what, "x": drawing.short(getattr(figures, name) * factor), "y": drawing.short(figures.energy),
            "configuration": c.label, "chips": c.chips,
        }  # fmt: skip

    points = [row("frontier", c, c.analytic) for c in list(answer.frontier[name])[: drawing.POINTS]]
    marked = [
        row(what, c, c.best) for what, c in (("baseline", answer.baseline), ("chosen", answer.chosen))
    ]  # fmt: skip
    x = vega.field("x:Q", title=f"{_NAMES[name]}, {unit}", scale=vega.options(type="log", nice=False, padding=14))
    y = vega.field("y:Q", title="Energy per token, J", scale=vega.options(zero=False, padding=14))
    tips = [vega.field(f"{k}:N", title=k) for k in ("what", "configuration", "chips")]
    tips += [vega.field("x:Q", title=unit), vega.field("y:Q", title="J per token")]
    curve = vega.Chart(points).encode(x=x, y=y, tooltip=tips)
    line = curve.mark("line", color=drawing.LINE, interpolate="step-after", point=True)
    names = ["chosen", "baseline"]
    marks = vega.Chart(marked).encode(
        x=x, y=y, tooltip=tips,
        color=vega.field(
            "what:N", title=None, legend=None,
            scale=vega.options(domain=names, range=[drawing.CHOSEN, drawing.BASELINE]),
        ),
    )  # fmt: skip
    label = marks.mark("text", align="left", dx=11, dy=-9, fontWeight=600).encode(text="what:N")
    return vega.layer(line, marks.mark("point", size=150, filled=True, opacity=1), label).properties(
        width=drawing.WIDTH, height=300
    )


def _confirmation(answer: SearchAnswer) -> vega.Chart:
    rows = [
        {
            "configuration": c.label, "expected": drawing.short(c.analytic.energy),
            "simulated": drawing.short(c.best.energy), "promise": _PROMISE[c.kept],
        }
        for c in answer.confirmed
    ]  # fmt: skip
    order = [row["configuration"] for row in rows]
    scale = vega.options(domain=["kept", "missed"], range=[drawing.LESS, drawing.CHOSEN])
    base = vega.Chart(rows).encode(
        y=vega.field("configuration:N", sort=order, title=None),
        color=vega.field("promise:N", title="promise", scale=scale),
        tooltip=[vega.field(f"{k}:N", title=k) for k in rows[0]],
    )
    x = vega.field("expected:Q", title="Energy per token, J", scale=vega.options(zero=False, padding=14))
    return vega.layer(
        base.mark("rule", strokeWidth=2).encode(x=x, x2="simulated:Q"), base.mark("circle", size=60).encode(x=x),
        base.mark("tick", thickness=3, size=14).encode(x="simulated:Q"),
    ).properties(width=drawing.WIDTH - 240, height={"step": 22})  # fmt: skip


def _breakdown(answer: SearchAnswer) -> vega.Chart:
    rows = [
        {"part": _OWN.get(name) or words.component(name), "j": drawing.short(joules), "share": words.percent(share)}
        for name, joules, share in words.share_out(answer.chosen.breakdown_j)
    ]
    return (
        vega.Chart(rows)
        .mark("bar", color=drawing.LINE, cornerRadiusEnd=2)
        .encode(
            x=vega.field("j:Q", title="Energy of one output token, J"),
            y=vega.field("part:N", sort=[row["part"] for row in rows], title=None),
            tooltip=[vega.field(f"{k}:N", title=k) for k in ("part", "j", "share")],
        )
        .properties(width=drawing.WIDTH, height={"step": 24})
    )
