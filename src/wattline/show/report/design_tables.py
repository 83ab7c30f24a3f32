"""A study of designs as tables: the chosen design, one change of it each, the frontier, the works and the site."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...core.errors import InputError
from ...frontier.answer import Outcome
from ...scenario.design_space import DesignAnswer, WorkAnswer
from . import words

_ROWS, _PARAMETERS = 16, 8
Tabled = tuple[list[str], list[list[str]]]


def headline(answer: DesignAnswer) -> str:
    """Return the answer in one sentence."""
    energy, seconds = answer.exact
    if not answer.options(answer.chosen):
        return "No design within the budgets beats the unchanged chip"
    return (
        f"{_less(energy)} energy and {_less(seconds)} machine time for the mix than on the unchanged chip, by "
        f"{_said(answer, answer.chosen)}"
    )


def _less(ratio: float) -> str:
    return f"{words.percent(abs(1 - ratio))} {'more' if ratio > 1 else 'less'}"


def _said(answer: DesignAnswer, design: int) -> str:
    return ", ".join(f"{axis} = {option}" for axis, option in answer.options(design).items())


def facts(answer: DesignAnswer) -> list[tuple[str, str]]:
    """Return what stands at the head of a report."""
    c = answer.counted
    looked = f"{c['evaluated']:,} of {c['possible'] + 1:,} looked at ({answer.method}, {answer.seconds:.1f} s)"
    out = [("goal", answer.goal), ("designs", looked)]
    left = [f"{c[k]:,} {k}" for k in list(c)[2:] if c[k]]
    out.append(("of these", ", ".join([*left, f"{len(answer.frontier):,} on the frontier"])))
    return out


def changed(answer: DesignAnswer) -> Tabled:
    """Return heads and what the chosen design takes of every axis."""
    taken = answer.options(answer.chosen)
    rows = [[axis, taken.get(axis, "as it is"), ", ".join(options)] for axis, options in answer.axes.items()]
    return ["What varies", "Chosen", "Tried"], rows


def steps(answer: DesignAnswer) -> Tabled:
    """Return heads and one change of the chosen design a row: what it would do, and why it was not taken."""
    rows = [
        [
            s.axis, s.option, *(_signed(v) for v in (s.energy, s.time)),
            "" if s.area is None else _area(s.area, signed=True), s.verdict,
        ]
        for s in answer.steps
    ]  # fmt: skip
    return ["What varies", "Instead", "Energy", "Time", "Area", "Not taken because"], rows


def _signed(change: float | None) -> str:
    if change is None:
        return ""
    return "=" if abs(change) < 5e-5 else f"{100 * change:+.2f} %"


def _area(area: float, *, signed: bool = False) -> str:
    if signed:
        return "=" if abs(area) < 5e-10 else f"{area / 1e-6:+.1f} mm2"
    return f"{area / 1e-6:.1f} mm2"


def frontier(answer: DesignAnswer, most: int | None = None) -> Tabled:
    """Return heads and one design of the frontier a row, least energy first."""
    d = answer.designs
    keep = list(answer.frontier)
    if most is not None and len(keep) > most:  # spread, the chosen one and both ends among them
        ends = {round(i * (len(keep) - 1) / (most - 1)) for i in range(most)}
        keep = [k for i, k in enumerate(keep) if i in ends or k == answer.chosen]
    rows = [
        [
            "chosen" if i == answer.chosen else "", f"{d.energy[i]:.4f}", f"{d.time[i]:.4f}", _area(d.area[i]),
            *_owned(answer, int(i)), _said(answer, int(i)) or "nothing changed",
        ]
        for i in keep
    ]  # fmt: skip
    return ["", "Energy", "Time", "Area", *map(str.capitalize, d.owned), "Design"], rows


def _owned(answer: DesignAnswer, i: int) -> list[str]:
    return [f"{values[i]:.4f}" for values in answer.designs.owned.values()]


def every(answer: DesignAnswer) -> Tabled:
    """Return heads and every design within the budgets a row, least energy first: for small studies."""
    d, on = answer.designs, {int(i) for i in answer.frontier}
    rows = [
        [
            "chosen" if i == answer.chosen else "frontier" if i in on else "",
            f"{d.energy[i]:.4f}", f"{d.time[i]:.4f}", _area(d.area[i]), *_owned(answer, i),
            _said(answer, i) or "nothing changed",
        ]
        for i in map(int, np.argsort(d.energy, kind="stable"))
    ]  # fmt: skip
    return ["", "Energy", "Time", "Area", *map(str.capitalize, d.owned), "Design"], rows


def works(answer: DesignAnswer) -> Tabled:
    """Return heads and, for every work, its figures on the unchanged chip and on the chosen design."""
    rows = []
    for w in answer.works:
        before, after = w.unchanged.chosen, w.chosen.chosen
        for key, name in _figures(w):
            a, b = _quantity(before, key), _quantity(after, key)
            rows.append([w.name, name, words.value(key, a), words.value(key, b), words.change(a, b)])
    return ["Work", "", "Unchanged", "Chosen", "Change"], rows


def _figures(w: WorkAnswer) -> list[tuple[str, str]]:
    wanted = (
        "tokens_per_s",
        "tpot_s",
        "ttft_s",
        "mfu",
        "cost_usd",
        "electricity_usd_per_million_tokens",
        "cost_usd_per_million_tokens",
        "carbon_g",
    )
    figures = w.chosen.chosen.figures
    named = [("time_s", f"Time for {w.chosen.work}"), ("energy_j", "Energy"), ("average_power_w", "Average power")]
    if w.chosen.kind == "serving":
        named = named[1:]  # its time is that of a token, which stands among the figures
    kept = [k for k in wanted if k in figures and k in w.unchanged.chosen.figures]
    return named + [(k, words.figure(k)) for k in kept]


def _quantity(outcome: Outcome, key: str) -> float:
    own = {"time_s": outcome.time_s, "energy_j": outcome.energy_j, "average_power_w": outcome.average_power_w}
    return float(own[key] if key in own else outcome.figures[key])


def site(answer: DesignAnswer) -> Tabled:
    """Return heads and what a year of the site comes to."""
    names = {
        "energy_j": "Facility energy",
        "average_power_w": "Average power",
        "cost_usd": "Cost",
        "carbon_g": "Carbon",
    }
    rows = [
        [names[key], words.value(key, a), words.value(key, b), words.value(key, a - b), words.change(a, b)]
        for key, (a, b) in answer.site.items()
    ]
    return ["", "Unchanged", "Chosen", "Less by", "Change"], rows


def making(answer: DesignAnswer) -> Tabled:
    """Return heads and what a chip costs to make, by part: the unchanged one and the chosen."""
    if not answer.making:
        return [], []
    a, b = answer.making["unchanged"], answer.making["chosen"]
    names = {"logic": "Logic dies", "memory": "Memory", "package": "Package", "lost": "Lost with bad packages",
             "other": "Board side and test"}  # fmt: skip
    rows = [
        [name, _usd(a.usd[k]), _usd(b.usd[k]), _kg(a.carbon_g.get(k)), _kg(b.carbon_g.get(k))]
        for k, name in names.items()
    ]
    spread = [f" ± {words.percent(s, 2)}" for s in (b.usd_uncertainty, b.carbon_uncertainty)]
    total = [_usd(a.total_usd), _usd(b.total_usd) + spread[0], _kg(a.total_carbon_g), _kg(b.total_carbon_g) + spread[1]]
    yields = [f"{words.percent(m.die_yield, 2)} of {m.dies_per_wafer:.0f}" for m in (a, b)]
    return (
        ["To make one chip", "Unchanged", "Chosen", "Unchanged, CO2e", "Chosen, CO2e"],
        [*rows, ["Together", *total], ["Good dies of a wafer", *yields, "", ""]],
    )


def _usd(value: float) -> str:
    return f"{value:,.3g} USD" if value < 1000 else f"{value:,.0f} USD"


def _kg(grams: float | None) -> str:
    return "" if grams is None else f"{grams / 1000:.3g} kg"


def parameters(answer: DesignAnswer, most: int) -> Tabled:
    """Return heads and what one percent of each constant would save on the chosen design."""
    rows = [
        [words.parameter(key), words.saving(e), key]
        for key, e in words.largest(answer.elasticity, most)
        if key != "site.pue"
    ]
    return ["On the chosen design", "What helps", "Key"], rows


def trust(answer: DesignAnswer) -> list[str]:
    """Return how sure the figures are, and what was assumed."""
    sure = [
        f"{w.name}: {w.chosen.provenance}; energy ± {words.percent(w.chosen.uncertainty, 2)}, time ± "
        f"{words.percent(w.chosen.time_uncertainty, 2)} (one standard deviation, much of it common to both designs)"
        for w in answer.works
    ]
    plain = [a for a in answer.assumptions if not a.endswith("(default)")]
    left = len(answer.assumptions) - len(plain)
    said = [f"Assumed: {a}" for a in plain]
    return [
        *sure,
        *said,
        *([f"Assumed: {left} keys of the works at their defaults; --json lists them"] if left else []),
    ]


def show_design(answer: DesignAnswer, console: Console) -> None:
    """Print the answer."""
    console.print(Text(headline(answer), style="bold"))
    head = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in facts(answer):
        head.add_row(Text(name, style="dim"), Text(text))
    console.print(Padding(head, (1, 0)))
    few, count = len(answer.designs) <= _ROWS, len(answer.frontier)
    title = "Every design" if few else f"Frontier of designs ({count:,})"
    sections = [
        ("The chosen design", changed(answer)),
        ("What limits it: one change each, against the chosen design", steps(answer)),
        (f"{title}, relative to the unchanged chip", every(answer) if few else frontier(answer, _ROWS)),
        ("What it is worth to each work", works(answer)),
        ("What a chip costs to make", making(answer)),
        ("A year of the site", site(answer)),
        ("What would help next", parameters(answer, _PARAMETERS)),
    ]
    for title, (heads, rows) in sections:
        if rows:
            console.print(Text(title, style="bold"))
            console.print(Padding(_grid(heads, rows), (0, 0, 1, 2)))
    console.print(Text("How sure", style="bold"))
    console.print(Padding(Group(*map(Text, trust(answer))), (0, 0, 1, 2)))


_LEFT = {"", "What varies", "Tried", "Instead", "Not taken because", "Design", "Work", "Key", "To make one chip",
         "On the chosen design", "What helps"}  # fmt: skip


def _grid(heads: list[str], rows: list[list[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, justify="left" if head in _LEFT else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def write_designs(answer: DesignAnswer, path: Path) -> None:
    """Write one row per design within the budgets as CSV: its options, costs, and every work's figures."""
    d = answer.designs
    on = {int(i) for i in answer.frontier}
    rows = []
    for i in range(len(d)):
        flat = {f"{work}.{k}": v for work, figures in d.rows[i].items() for k, v in figures.items()}
        costs = {
            "energy": d.energy[i],
            "time": d.time[i],
            "area_m2": d.area[i],
            **{k: v[i] for k, v in d.owned.items()},
        }
        rows.append({**answer.options(i), **costs, "frontier": i in on, "chosen": i == answer.chosen, **flat})
    names = [*answer.axes, *dict.fromkeys(n for row in rows for n in row if n not in answer.axes)]
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            out = csv.DictWriter(stream, names, restval="", lineterminator="\n")
            out.writeheader()
            out.writerows(rows)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
