"""A plan as tables in the terminal: readable in 80 columns, plain where output is no terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...core.units import show
from ...frontier.answer import Answer, Outcome
from . import words

_PARTS, _PARAMETERS, _KNOBS = 12, 8, 16


def show_plan(answer: Answer, console: Console, *, verbose: bool = False) -> None:
    """Print the plan; what was assumed under a key's name in one line, each in full where `verbose`."""
    sections: list[tuple[str, RenderableType | None]] = [
        ("", _head(answer)),
        (f"Chosen plan and maximum clocks, for {answer.work}", _outcomes(answer)),
        ("Where the joules go", _parts(answer, console)),
        ("What you can change", _levers(answer)),
        ("What other hardware would give", _parameters(answer, console)),
        ("Clocks to set", _knobs(answer)),
        ("How sure", _trust(answer, verbose)),
        ("What to type", Group(*map(Text, answer.apply)) if answer.apply else None),
    ]
    for title, body in sections:
        if body is None:
            continue
        if title:
            console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 1, 2 if title else 0), expand=False))


def _grid(*justify: str) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for side in justify:
        table.add_column(justify="right" if side == "right" else "left", overflow="fold")
    return table


def _head(answer: Answer) -> RenderableType:
    facts = _grid("left", "left")
    facts.columns[0].style = "dim"
    for name, text in {"goal": answer.goal, **answer.facts}.items():
        facts.add_row(name, Text(text))
    return Group(Text(str(words.headline(answer)), style="bold"), Text(), facts)


def _outcomes(answer: Answer) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("maximum clocks", "chosen", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, before, after, change in compare(answer):
        table.add_row(Text(name), before, Text(after, style="bold"), change)
    return table


def compare(answer: Answer) -> list[tuple[str, str, str, str]]:
    """Return (what, baseline, chosen, change) for time, energy, power and every figure."""

    def row(key: str, name: str) -> tuple[str, str, str, str]:
        before, after = _quantity(answer.baseline, key), _quantity(answer.chosen, key)
        if before is None or after is None:
            return name, words.value(key, before) if before is not None else "", words.value(key, after), ""
        return name, words.value(key, before), words.value(key, after), words.change(before, after)

    main = [("time_s", "Time"), ("energy_j", "Energy"), ("average_power_w", "Average power")]
    again = _repeated(answer)
    told = [k for k in answer.chosen.figures if k not in again and any(_quantity(o, k) for o in _both(answer))]
    return [row(k, n) for k, n in main] + [row(k, words.figure(k)) for k in told]


def _repeated(answer: Answer) -> set[str]:
    """Return figures that say the plan's time or energy again, as those of a token do where a token is the work."""
    pairs = (("tpot_s", "time_s"), ("energy_per_token_j", "energy_j"))
    return {k for k, main in pairs if all(_quantity(o, k) == _quantity(o, main) for o in _both(answer))}


def _both(answer: Answer) -> tuple[Outcome, Outcome]:
    return answer.baseline, answer.chosen


def _quantity(outcome: Outcome, key: str) -> float | None:
    own = {"time_s": outcome.time_s, "energy_j": outcome.energy_j, "average_power_w": outcome.average_power_w}
    return own.get(key, outcome.figures.get(key))


def _parts(answer: Answer, console: Console) -> RenderableType:
    table = _grid("left", "right", "right", "left")
    table.columns[0].no_wrap = True
    rows = words.share_out(answer.chosen.breakdown_j)
    width = max(8, min(30, console.width - 62))
    shown = [row for row in rows[:_PARTS] if row[2] >= 1e-3]
    for name, joules, share in shown:
        bar = Text("█" * max(1, round(share / rows[0][2] * width)), style=words.COLOURS[words.layer(name)])
        table.add_row(words.component(name), show(joules, "J"), words.percent(share), bar)
    if len(rows) > len(shown):
        rest = rows[len(shown) :]
        table.add_row("Everything else", show(sum(r[1] for r in rest), "J"), words.percent(sum(r[2] for r in rest)), "")
    return table


def _levers(answer: Answer) -> RenderableType | None:
    rows = words.lever_rows(answer)
    if not rows:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in words.LEVERS:
        table.add_column(head, justify="right" if head in ("Energy", "Time") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(table, Text(words.LEVERS_NOTE, style="dim"))


def _parameters(answer: Answer, console: Console) -> RenderableType | None:
    rows = words.largest(answer.elasticity, _PARAMETERS)
    if not rows:
        return None
    wide = console.width >= 76
    table = _grid("left", "left", "left") if wide else _grid("left", "left")
    table.columns[1].no_wrap = True
    for name, e in rows:
        table.add_row(Text(words.parameter(name)), words.saving(e), *([Text(name, style="dim")] if wide else []))
    note = words.proportional(answer.elasticity)
    return Group(table, Text(note, style="dim")) if note else table


def _knobs(answer: Answer) -> RenderableType | None:
    heads, rows = words.knob_table(answer.chosen.knobs)
    if not rows:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, justify="right")
    for row in _middle_out(rows):
        table.add_row(*map(Text, row))
    if len(rows) <= _KNOBS:
        return table
    return Group(table, Text(f"{len(rows)} rows in all; --csv FILE writes every one", style="dim"))


def _middle_out(rows: Sequence[list[str]]) -> list[list[str]]:
    """Return the first and last rows where there are too many."""
    if len(rows) <= _KNOBS:
        return list(rows)
    half = _KNOBS // 2
    return [*rows[:half], ["..."] + [""] * (len(rows[0]) - 1), *rows[-half:]]


# What stands before an assumption that is about one key or one subject: `hardware.node = ...`, `extrapolated: ...`.
_SUBJECT = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)(?:: | = )")
_ADVICE = ("clock.switch",)  # which stay in full


def _trust(answer: Answer, verbose: bool) -> RenderableType:
    lines = [words.trust(answer)]
    lines += [line for line in [words.certificate(answer)] if line]
    lines += [f"Source: {source}" for source in answer.sources]
    plain = [text for text in answer.assumptions if not text.endswith("(default)")]
    subjects = {text: found[1] for text in plain if (found := _SUBJECT.match(text)) and found[1] not in _ADVICE}
    fold = len(subjects) > 1 and not verbose
    lines += [f"Assumed: {text}" for text in plain if not fold or text not in subjects]
    if fold:
        lines.append(f"Assumed: {', '.join(dict.fromkeys(subjects.values()))}; --verbose says each in full")
    if left := len(answer.assumptions) - len(plain):
        lines.append(words.defaults(left))
    return Group(*map(Text, lines))
