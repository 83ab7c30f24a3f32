"""A plan as one HTML file that needs nothing else: no network, no other file, light and dark.

Its charts are specifications that `draw.js`, put in as it is, draws. Everything the page shows is escaped, and a
content security policy forbids it to load anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ...core.units import show
from ...frontier.answer import Answer
from . import charts, words
from .document import chart_place, document, fluid
from .terminal import compare

_KNOBS = 200
_ABOUT: Final[Mapping[str, str]] = {
    "frontier": (
        "Each point is a plan that no other beats in both time and energy. The dashed lines mark the chosen one."
    ),
    "elasticities": (
        "How much the energy of this plan moves when one parameter moves by 1 %, every other held. "
        "Bars to the right: less is better. Bars to the left: more is better."
    ),
    "plan": "Point at the chart for the settings behind each mark.",
}


def write_html(answer: Answer, path: Path, *, scenario: str = "", command: str = "") -> None:
    """Write the report. `scenario`: the text of the scenario file; `command`: what was typed."""
    write_text(page(answer, scenario=scenario, command=command), path)


def write_text(text: str, path: Path) -> None:
    """Write a page; a place that cannot be written is said in one sentence."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def page(answer: Answer, *, scenario: str = "", command: str = "") -> str:
    """Return the report as HTML."""
    drawn = {name: fluid(charts.specification(chart)) for name, chart in charts.charts(answer).items()}
    body = "\n".join([_head(answer), *_sections(answer, drawn), reproduce(scenario, command)])
    return document(f"{answer.title}: energy plan", body, drawn)


# ---- sections ------------------------------------------------------------------------------------


def _head(answer: Answer) -> str:
    said = words.headline(answer)
    chosen, won = answer.chosen, answer.savings
    figures = [
        ("Energy", show(chosen.energy_j, "J"), f"± {words.percent(answer.uncertainty, 2)}, for {answer.work}"),
        ("Time", show(chosen.time_s, "s"), _slower(answer)),
        ("Average power", show(chosen.average_power_w, "W"), answer.facts.get("scope", "whole facility")),
        ("Saved", words.percent(won["energy"]), f"{show(answer.baseline.energy_j - chosen.energy_j, 'J')} of energy"),
    ]
    for key, name in (("cost_usd", "Electricity"), ("carbon_g", "Carbon")):
        if key in chosen.figures:
            figures.append((name, words.value(key, chosen.figures[key]), f"for {answer.work}"))
    cells = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in figures
    )
    return (
        f'<p class="kind">{escape(answer.kind)} energy plan</p>'
        f'<h1>{_kept(said.cost)} <span class="gain">{_kept(said.gain)}</span></h1>'
        f'<p class="goal">Goal: {escape(answer.goal)}.</p><dl class="key">{cells}</dl>'
        f"{table((), answer.facts.items())}"
    )


def _kept(text: str) -> str:
    """Escape, and keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(?:%|[a-zA-Zµ]{1,4})(?![a-zA-Z]))", "&nbsp;", escape(text))


def _slower(answer: Answer) -> str:
    change = words.change(answer.baseline.time_s, answer.chosen.time_s)
    return "as with maximum clocks" if change == "=" else f"{change} against maximum clocks"


def _sections(answer: Answer, drawn: Mapping[str, Any]) -> Iterable[str]:
    if answer.apply:
        yield section("What to type", typed(answer.apply))
    yield section("Time against energy", _chart("frontier", drawn), _compare(answer))
    if rows := words.lever_rows(answer):
        yield section("What you can change", table(words.LEVERS, rows, text=(0, 3)), f"<p>{words.LEVERS_NOTE}</p>")
    yield section("Where the joules go", _chart("breakdown", drawn), _parts(answer))
    if "elasticities" in drawn:
        yield section("What other hardware would give", _chart("elasticities", drawn), _parameters(answer))
    yield section("The plan", _chart("plan", drawn), _knobs(answer))
    yield section("How sure, and on what assumptions", _trust(answer))


def typed(lines: Sequence[str]) -> str:
    """Return commands as they are typed."""
    return f'<pre class="typed">{escape(chr(10).join(lines))}</pre>'


def section(title: str, *parts: str) -> str:
    """Return a section with its heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _chart(name: str, drawn: Mapping[str, Any]) -> str:
    return chart_place(name, drawn, _ABOUT.get(name, ""))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = ()) -> str:
    """Return an HTML table; columns in `text` are left-aligned, and their headings with them."""
    classes = [' class="text"' if i in text else "" for i in range(len(heads))]
    head = "".join(f'<th scope="col"{c}>{escape(h)}</th>' for c, h in zip(classes, heads, strict=True))
    body = []
    for row in rows:
        first = f'<th scope="row">{escape(str(row[0]))}</th>'
        left = range(len(row)) if not heads else text
        cells = "".join(
            f'<td class="text">{escape(str(c))}</td>' if i in left else f"<td>{escape(str(c))}</td>"
            for i, c in enumerate(row[1:], 1)
        )
        body.append(f"<tr>{first}{cells}</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(body)}</tbody></table></div>' if body else ""


def _compare(answer: Answer) -> str:
    return table((f"For {answer.work}", "Maximum clocks", "Chosen", "Change"), compare(answer))


def _parts(answer: Answer) -> str:
    rows = [
        (words.component(name), show(joules, "J"), words.percent(share))
        for name, joules, share in words.share_out(answer.chosen.breakdown_j)
    ]
    return fold("The same as a table", table(("Component", "Energy", "Share"), rows))


def _parameters(answer: Answer) -> str:
    rows = [
        (words.parameter(name), words.saving(e), name, f"{e:+.4f}")
        for name, e in words.largest(answer.elasticity, len(answer.elasticity))
    ]
    heads = ("Parameter", "What helps", "Key for --set", "d ln E / d ln parameter")
    note = f'<p class="note">{escape(words.proportional(answer.elasticity))}</p>'
    return note + fold(f"All {len(rows)} as a table", table(heads, rows, text=(1, 2)))


def _knobs(answer: Answer) -> str:
    heads, rows = words.knob_table(answer.chosen.knobs)
    if not rows:
        return ""
    shown = table(heads, rows[:_KNOBS])
    if len(rows) > _KNOBS:
        shown += f'<p class="note">The first {_KNOBS} of {len(rows):,} rows; --csv FILE writes every one.</p>'
    return shown


def _trust(answer: Answer) -> str:
    lines = [words.trust(answer), words.certificate(answer)]
    said = "".join(f"<p>{escape(line[:1].upper() + line[1:])}</p>" for line in lines if line)
    plain = [text for text in answer.assumptions if not text.endswith("(default)")]
    defaults = [text for text in answer.assumptions if text.endswith("(default)")]
    for title, items in (("Sources", answer.sources), ("Assumptions", plain)):
        if items:
            said += f"<p><strong>{title}</strong></p>{_list(items)}"
    return said + (fold(f"{len(defaults)} keys at their defaults", _list(defaults)) if defaults else "")


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def fold(title: str, body: str) -> str:
    """Return something to unfold; nothing where it is empty."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def reproduce(scenario: str, command: str) -> str:
    """Return the command and the scenario, where given."""
    parts = []
    if command:
        parts.append(f"<pre>{escape(command)}</pre>")
    if scenario:
        parts.append(f"<p>The scenario:</p><pre>{escape(scenario.strip())}</pre>")
    return section("How to reproduce", *parts) if parts else ""
