"""`wattline plan` of a fleet scenario: reads it, calls one function, prints tables or JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


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

    from ...scenario import fleet, fleet_place
    from .. import report
    from ..report import placement

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
