"""`wattline plan` of a fleet scenario: reads it, calls one function, prints tables or JSON."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def asked(scenario: Path) -> bool:
    """Return whether a scenario file holds jobs; of a file that cannot be read its reader says why."""
    try:
        return "job" in tomllib.loads(scenario.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def plan(
    scenario: Path,
    changes: Mapping[str, str],
    html: Path | None,
    charts: Path | None,
    csv: Path | None,
    print_json: Callable[[Any], None] | None,
) -> None:
    """Plan a fleet, and write what was asked for."""
    from rich.console import Console

    from . import fleet, fleet_place, report
    from .report import placement

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
        return
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
