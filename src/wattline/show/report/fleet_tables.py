"""A fleet's plan as tables: jobs, limits, the way down and the hours, in the terminal and as CSV."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...core.errors import InputError
from ...core.units import show
from ...site.answer import FleetAnswer, parts, totals
from . import fleet_over_time as over_time
from . import words

_ROWS = 16


def headline(answer: FleetAnswer) -> str:
    """Return the answer in one sentence."""
    share = words.percent(answer.plan.value / answer.full_work if answer.full_work else 0.0)
    return f"{share} of the fleet's full work at {show(answer.plan.feed, 'W')} of site power"


def jobs(answer: FleetAnswer) -> tuple[list[str], list[list[str]]]:
    """Return heads and one row per job."""
    rows = [
        [j.name, j.at, show(j.power_w, "W"), words.percent(j.speed), show(j.work, ""), _settings(j.settings)]
        for j in answer.jobs
    ]
    return ["Job", "At", "Power", "Speed", "Work", "Settings"], rows


def _settings(mixed: Any) -> str:
    out = []
    for share, setting in mixed:
        what = "paused" if setting.get("paused") else _speed(setting["speed"])
        if setting.get("option"):
            what += f", {setting['option']}"
        if "clock_hz" in setting:
            what += f", {setting['clock_hz'] / 1e6:,.0f} MHz"
        out.append(what if share > 1 - 1e-9 else f"{words.percent(share)} of the time {what}")
    return "; ".join(out)


def _speed(share: float) -> str:
    return "full speed" if abs(share - 1) < 5e-5 else f"{words.percent(share)} of full speed"


def limits(answer: FleetAnswer, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Return heads and one row per limited part: those that bind first, then the fullest."""
    rows = [row for row in parts(answer.plan) if row["limit_w"] is not None]
    rows.sort(key=lambda row: (-row["price_per_w"], row["headroom_w"] / max(row["limit_w"], 1e-9)))
    gain = "Work per extra MW" if answer.plan.goal == "most work" else "Site MW saved per extra MW"
    per = 1e6 if answer.plan.goal == "most work" else 1.0
    return ["Part", "Limit", "Inflow", "Headroom", gain], [
        [
            row["name"], show(row["limit_w"], "W"), show(row["inflow_w"], "W"),
            show(row["headroom_w"], "W"),
            show(row["price_per_w"] * per, "") if row["price_per_w"] * per > 1e-6 else "",
        ]
        for row in rows[:most]
    ]  # fmt: skip


def way_down(answer: FleetAnswer) -> tuple[list[str], list[list[str]]]:
    """Return heads and what each layer gives on the cheapest way to the power asked for, in order."""
    return ["Layer", "Gives up", "Work lost", "Work lost per MW"], [
        [
            row["layer"],
            show(row["power_w"], "W"),
            _lost(row["lost"], answer),
            _lost(row["lost"] / row["power_w"] * 1e6, answer),
        ]
        for row in answer.by_layer()
    ]


def alone(answer: FleetAnswer) -> tuple[list[str], list[list[str]]]:
    """Return heads and what each layer alone could give in all, and what its first and last watt cost."""
    return ["Layer alone", "Could give up", "Work lost", "Lost with the first MW", "With the last"], [
        [
            name, show(float(c.power[-1]), "W"), _lost(float(c.lost[-1]), answer),
            _lost(c.steps[0].price * 1e6, answer), _lost(c.steps[-1].price * 1e6, answer),
        ]
        for name, c in answer.alone.items()
    ]  # fmt: skip


def _lost(work: float, answer: FleetAnswer) -> str:
    """Write work lost; what is rounding beside all work is none."""
    return show(words.above(work, answer.full_work), "")


def hours(answer: FleetAnswer) -> tuple[list[str], list[list[str]]]:
    """Return heads and the totals of each way to spend the hours."""
    named = {
        "Planned ahead": answer.horizon,
        "Following a forecast": answer.followed,
        "As soon as possible": answer.soonest,
    }
    rows = []
    for name, plan in named.items():
        if plan is None:
            continue
        t = totals(plan)
        undone = ", ".join(t["short"]) or "none"
        # Hours at full speed, so that only plans that do the same work are compared.
        work = show(sum(t["work"].values()), "s")
        carbon = "" if t["carbon_g"] is None else show(t["carbon_g"], "g")
        cost = "" if t["cost_usd"] is None else over_time.money(t["cost_usd"], answer)
        rows.append([name, work, show(t["energy_j"], "J"), carbon, cost, show(t["peak_w"], "W"), undone])
    return ["", "Work", "Energy", "Carbon", "Cost", "Peak", "Undone"], rows


def facts(answer: FleetAnswer) -> list[tuple[str, str]]:
    """Return what stands at the head of a report."""
    plan, tree = answer.plan, answer.tree
    pue = float(tree.pue(plan.load))
    out = [
        ("goal", answer.goal),
        ("site", f"{len(tree)} parts in {tree.depth} levels" + ("" if math.isnan(pue) else f", PUE {pue:.3f}")),
        ("full speed", f"{show(answer.full_power, 'W')} for the work of {show(answer.full_work, '')} chips"),
        ("one setting per job", _whole(answer)),
    ]
    if answer.horizon is not None:
        text = f"{_near(answer.horizon.gap)} the proven optimum"
        if answer.horizon.nodes:
            nodes = f"{answer.horizon.nodes:,} node{'' if answer.horizon.nodes == 1 else 's'}"
            text += f"; search for pauses: {_near(answer.horizon.search_gap)} its bound ({nodes})"
        out.append(("over time", text))
    if answer.uncertainty > 0:
        out.append(("uncertainty", f"± {words.percent(answer.uncertainty, 2)} of the jobs' power"))
    rates = answer.rates.figures(plan.feed * 3600)
    if rates:
        said = [over_time.money(v, answer) if k == "cost_usd" else show(v, "g") for k, v in rates.items()]
        out.append(("per hour", ", ".join(said)))
    return out


def _whole(answer: FleetAnswer) -> str:
    if answer.whole is None:
        return "cannot reach the work asked for; jobs divide their time between settings"
    return f"{show(answer.whole.feed, 'W')}, {_near(abs(answer.whole.gap))} the bound"


def _near(gap: float) -> str:
    """Say how near a bound is: "at", or "within 0.12 % of"."""
    return "at" if gap < 1e-9 else f"within {words.percent(gap).removeprefix('< ')} of"


def show_fleet(answer: FleetAnswer, console: Console) -> None:
    """Print the plan."""
    console.print(Text(headline(answer), style="bold"))
    head = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in facts(answer):
        head.add_row(Text(name, style="dim"), Text(text))
    console.print(Padding(head, (1, 0)))
    give = min(answer.give_up, float(answer.ladder.power[-1]))
    sections: list[tuple[str, tuple[list[str], list[list[str]]]]] = [
        ("What every job gets", jobs(answer)),
        ("Limits, the dearest first", limits(answer, _ROWS)),
        (f"The cheapest way to give up {show(give, 'W')}", way_down(answer)),
        ("Each layer alone", alone(answer)),
    ]
    if answer.more is not None:
        console.print(Text(over_time.more(answer)))
        console.print()
    if answer.horizon is not None:
        sections.append(("Who gives what, when", over_time.events(answer)))
        if answer.soonest is not None:
            sections.append(("What moves, compared with as soon as possible", over_time.moves(answer)))
        sections.append(("The bill", over_time.bill(answer)))
    sections.append(("Carbon and water", over_time.footprint(answer)))
    if answer.horizon is not None:
        sections.append((f"Over {show(float(answer.horizon.edges[-1] - answer.horizon.edges[0]), 's')}", hours(answer)))
    for title, (heads, rows) in sections:
        if rows:
            console.print(Text(title, style="bold"))
            console.print(Padding(grid(heads, rows), (0, 0, 1, 2)))
    lines = [f"Source: {s}" for s in answer.sources] + [f"Assumed: {a}" for a in answer.assumptions]
    console.print(Text("How sure", style="bold"))
    console.print(Padding(Group(*map(Text, lines)), (0, 0, 1, 2)))


def grid(heads: list[str], rows: list[list[str]]) -> RenderableType:
    """Return a table for the terminal; numbers to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    words_ = {
        "Job",
        "At",
        "Settings",
        "Part",
        "Layer",
        "Layer alone",
        "Undone",
        "Pool",
        "Setting",
        "Rule",
        "When",
        "How",
        "On average",
        "Over the plan",
        "An hour at this power",
        "",
    }
    for head in heads:
        table.add_column(head, justify="left" if head in words_ else "right", overflow="fold")
    for row in rows[:_ROWS]:
        table.add_row(*map(Text, row))
    if len(rows) > _ROWS:
        return Group(table, Text(f"{len(rows) - _ROWS:,} more; --json gives every one", style="dim"))
    return table


def write_jobs(answer: FleetAnswer, path: Path) -> None:
    """Write one row per job and setting as CSV."""
    names = ["job", "at", "share", "speed", "power_w", "clock_hz", "max_batch", "set", "paused"]
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            out = csv.DictWriter(stream, names, restval="", extrasaction="ignore", lineterminator="\n")
            out.writeheader()
            for job in answer.jobs:
                for share, setting in job.settings:
                    out.writerow({"job": job.name, "at": job.at, "share": share, **setting})
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
