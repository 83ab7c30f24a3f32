"""A measurement as a table for a terminal: what was used, how well it is known, and what is missing."""

from __future__ import annotations

from typing import Any

from ..core.units import show


def table(m: Any) -> Any:
    """Return one `result.Measurement` as something rich can print; the type stays out so that imports go one way."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    total = m.total
    head = Text(f"{m.name}: {show(m.seconds, 's')}", style="bold")
    if total.joules is not None:
        head.append(f", {figure(total.joules, total.low, total.high)} ({' + '.join(total.scopes)})")
        for factor in total.factors:
            head.append(f" x {factor.name} {factor.value:g}")
    else:
        head.append(", no energy figure", style="yellow")
    rows: list[Any] = [head]
    if m.parts:
        grid = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("scope", "device", "energy", "power", "method"):
            grid.add_column(title, justify="right" if title in ("energy", "power") else "left")
        held = set(total.holds)
        remarks: dict[str, list[str]] = {}
        for part in m.parts:
            said = [*part.flags, *(f"throttled by {why}" for why in part.throttle)]
            if part.joules is not None and part.key not in held:
                said.append("inside another, not added")
            if part.reason and (part.joules is None or part.flags):
                said.append(part.reason)
            for remark in said:
                remarks.setdefault(remark, []).append(f"{part.scope} {part.name}")
            grid.add_row(
                part.scope,
                part.name,
                "-" if part.joules is None else figure(part.joules, part.low, part.high),
                "-" if part.watts is None else show(part.watts, "W"),
                part.method,
            )
        rows.append(grid)
        for remark, devices in remarks.items():
            who = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
            rows.append(Text(f"{who}: {remark}", style="yellow"))
    for name in m.counts:
        each = m.each(name)
        if each is not None:
            rows.append(Text(f"{show(each, 'J')} per {name.removesuffix('s')} ({m.counts[name]:,.6g} {name})"))
    rows.extend(Text(note, style="dim") for note in m.notes)
    return Group(*rows)


def figure(joules: float, low: float | None, high: float | None) -> str:
    """A figure with its interval, such as ``512 J (498 J to 530 J)``."""
    if low is None or high is None:
        return show(joules, "J")
    return f"{show(joules, 'J')} ({show(low, 'J')} to {show(high, 'J')})"
