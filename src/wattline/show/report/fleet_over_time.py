"""A fleet's plan over time in a planner's words: who gives what when, what moves, what the bill is made of."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from ...core.units import show
from ...site.answer import FleetAnswer
from ...site.moves import given, moved
from . import words

Table = tuple[list[str], list[list[str]]]


def events(answer: FleetAnswer) -> Table:
    """Return heads and what each job gives in each event."""
    rows = []
    plan = answer.horizon
    for event in answer.events:
        when = f"{clock(event.start, answer)} to {clock(event.end, answer)}"
        for one in given(plan, event) if plan is not None else ():
            given_up = show(one.before - one.during, "W")
            rows.append([when, event.part, one.job, one.how, show(one.before, "W"), show(one.during, "W"), given_up])
    return ["When", "Part", "Job", "How", "Before", "Then", "Gives"], rows


def moves(answer: FleetAnswer) -> Table:
    """Return heads and which jobs do their work at other hours than as soon as possible, and when."""
    rows = []
    for one in moved(answer.horizon, answer.soonest) if answer.horizon and answer.soonest else ():
        way = f"{show(abs(one.later), 's', 2)} {'later' if one.later > 0 else 'earlier'}"
        spans = [f"{clock(a, answer)} to {clock(b, answer)}" for a, b in one.spans[:3]]
        more_spans = f", {len(one.spans) - 3} more spans" if len(one.spans) > 3 else ""
        rows.append([one.job, show(one.work, "s"), way, f"{one.pauses:,}", ", ".join(spans) + more_spans])
    return ["Job", "Work moved", "On average", "Pauses", "When"], rows


def bill(answer: FleetAnswer) -> Table:
    """Return heads and what the bill is made of, planned and as soon as possible."""
    ahead = {} if answer.horizon is None else answer.horizon.bill
    soon = {} if answer.soonest is None else answer.soonest.bill
    both = {**ahead, "in all": sum(ahead.values())} if ahead else {}
    other = {**soon, "in all": sum(soon.values())}
    rows = [[name, money(value, answer), money(other.get(name, 0.0), answer)] for name, value in both.items()]
    return ["", "Planned ahead", "As soon as possible"], rows


def footprint(answer: FleetAnswer) -> Table:
    """Return heads and the lines of carbon and water, each with what it rests on."""
    rows = [[x.name, f"{show(x.value, x.unit if x.unit in ('g', 'L') else '')}", x.how] for x in answer.footprint]
    for row, line in zip(rows, answer.footprint, strict=True):
        row[1] += f" {line.unit}" if line.unit not in ("g", "L") else ""
    return ["", "Amount", "An hour at this power" if answer.horizon is None else "Over the plan"], rows


def more(answer: FleetAnswer) -> str:
    """Return how many more copies fit, in one sentence."""
    told = answer.more
    if told is None:
        return ""
    stops, after = (told["stops"] or ["nothing"])[0], told["next_loss"]
    nexts = f"does not fit ({stops})" if after is None else f"loses {words.percent(after)}, where {stops} binds"
    return (
        f"{told['more']:,} more of {told['job']} ({told['now'] + told['more']:,} in all) within "
        f"{words.percent(told['allowed'])} of lost work; one more {nexts}"
    )


def money(value: float, answer: FleetAnswer) -> str:
    """Write an amount in the answer's currency."""
    return f"{show(float(f'{value:.3e}') if abs(value) >= 1e6 else value, '', 4)} {answer.currency}"


def clock(seconds: float, answer: FleetAnswer) -> str:
    """Write an instant by the clock of the place, or hours from the start where there is no date."""
    if abs(seconds) < 1e8:
        return f"{seconds / 3600:g} h"
    return datetime.fromtimestamp(seconds, ZoneInfo(answer.zone)).strftime("%a %d %b %H:%M")
