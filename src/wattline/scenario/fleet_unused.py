"""What a fleet scenario states and its answer does not count: told, so that nobody takes silence for an effect."""

from __future__ import annotations

from typing import Final

from .fleet_file import FleetScenario

_GRID: Final = ("ramp", "sell", "sell_price", "forecast_error")
_JOB: Final = ("due", "release", "deadline", "resume", "dwell")


def unused(scenario: FleetScenario) -> tuple[str, ...]:
    """Return a sentence for each kind of statement that cannot act, with what would make it act."""
    out = []
    if "lasts" not in scenario.grid:
        named = [f"[[{kind}]] {row.get('name', kind)}" for kind, rows in scenario.bill.items() for row in rows]
        named += [f"grid.{name}" for name in _GRID if name in scenario.grid]
        named += [f"job.{row.get('name', '?')}.{name}" for row in scenario.jobs for name in _JOB if name in row]
        if named:
            more = f" and {len(named) - 6} more" if len(named) > 6 else ""
            out.append(f"not counted without [grid] lasts: {', '.join(named[:6])}{more}")
    elif "least_cost" not in scenario.goal:
        sold = [row.get("name", "service") for row in scenario.bill.get("service", ())]
        if sold:
            out.append(f"not sold, because the goal is not least_cost: [[service]] {', '.join(sold)}")
        peaks = [row.get("name", "tariff") for row in scenario.bill.get("tariff", ()) if "demand" in row]
        if peaks:
            out.append(f"billed and not planned for, because the goal is not least_cost: [[tariff]] {', '.join(peaks)}")
    return tuple(out)
