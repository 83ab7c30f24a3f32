"""`wattline plan` and `whatif` of a fleet scenario: reads it, calls one function, prints tables or JSON."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.units import show


def plan(
    scenario: Path,
    changes: Mapping[str, str],
    html: Path | None,
    charts: Path | None,
    csv: Path | None,
    print_json: Callable[[Any], None] | None,
) -> bool:
    """Plan a fleet and write what was asked for; False, and nothing done, where the file holds no jobs."""
    from ...scenario.fleet_file import is_fleet

    if not is_fleet(scenario):
        return False
    from rich.console import Console

    from ...scenario import fleet, fleet_place, fleet_space
    from .. import report
    from ..report import placement, regions

    words = ["wattline", "plan", str(scenario)]
    words += [w for key, value in changes.items() for w in ("--set", f"{key}={value}")]
    command = shlex.join([*words, "--html", str(html)])
    stated = fleet.load(scenario, changes)
    if stated.pools:
        found = fleet_place.solve(stated)
        if html or charts or csv:
            text = scenario.read_text("utf-8")
            placement.write_placement(found, html, charts, csv, scenario=text, command=command)
        if print_json:
            print_json(found.to_dict())
        else:
            placement.show_placement(found, Console(highlight=False, markup=False))
        return True
    if stated.regions:
        if charts:
            raise InputError("a plan over several sites has no chart of its own; ask for --html, --csv or --json")
        spread = fleet_space.solve(stated)
        regions.write_regions(spread, html, csv, scenario=scenario.read_text("utf-8"), command=command)
        if print_json:
            print_json(spread.to_dict())
        else:
            regions.show_regions(spread, Console(highlight=False, markup=False))
        return True
    answer = fleet.solve(stated)
    if html:
        report.write_fleet_html(answer, html, scenario=scenario.read_text("utf-8"), command=command)
    if charts:
        report.write_fleet_charts(answer, charts)
    if csv:
        report.write_jobs(answer, csv)
    if print_json:
        print_json(answer.to_dict())
    else:
        report.show_fleet(answer, Console(highlight=False, markup=False))
    return True


def whatif(
    scenario: Path,
    points: Sequence[Mapping[str, Any]],
    spread: tuple[str, int | None],
    csv: Path | None,
    print_json: Callable[[Any], None] | None,
) -> int | None:
    """Answer a fleet with other values, a row each; None, and nothing done, where the file holds no jobs."""
    from ...scenario.fleet_file import is_fleet

    if not is_fleet(scenario):
        return None
    from ...scenario import fleet_whatif
    from .output import progress, terminal, write_csv

    with progress(len(points) + 1) as tell:
        found = fleet_whatif.rows(scenario, points, engine=spread[0], jobs=spread[1], progress=tell)
    if csv:
        write_csv(csv, found)
    if print_json:
        print_json({"base": found[0], "rows": found[1:]})
    else:
        _show(found, list(points[0]) if points else [], terminal())
    failed = [row for row in found if "error" in row]
    for row in failed[:1]:
        print(
            f"wattline: {len(failed)} of {len(found)} points have no answer; the first: {row['error']}", file=sys.stderr
        )
    return 0 if len(failed) < len(found) else 1


def _show(found: Sequence[Mapping[str, Any]], keys: Sequence[str], console: Any) -> None:
    """Print one line per point."""
    from rich.table import Table

    units = {"feed_w": "W", "peak_w": "W", "energy_j": "J", "carbon_g": "g", "work_done_s": "s"}
    heads = {
        "feed_w": "Power now", "work_share": "Work now", "binding": "Binds", "more": "More", "energy_j": "Energy",
        "carbon_g": "Carbon", "cost": "Cost", "peak_w": "Peak", "work_done_s": "Work done",
        "nodes_asleep": "Asleep",
    }  # fmt: skip
    shown = [key for key in heads if any(row.get(key) is not None for row in found)]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for key in keys:
        table.add_column(key)
    for key in shown:
        table.add_column(heads[key], justify="left" if key == "binding" else "right")

    def cell(row: Mapping[str, Any], key: str) -> str:
        value = row.get(key)
        if value is None:
            return ""
        if key == "work_share":
            return f"{100 * value:.3g} %"
        if key == "cost":
            return f"{show(value, '', 4)} {row['currency']}"
        return show(value, units.get(key, "")) if isinstance(value, (int, float)) else str(value)

    for number, row in enumerate(found):
        named = [str(row.get(key, "as stated" if number == 0 else "")) for key in keys]
        told = ["no answer"] if "error" in row else [cell(row, key) for key in shown]
        table.add_row(*named, *told)
    console.print(table)
