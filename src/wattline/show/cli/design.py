"""`wattline plan` of a study of designs: reads it, calls one function, prints tables or JSON."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """What is to be written beside the tables: files, or JSON through `print_json` in their place."""

    html: Path | None = None
    charts: Path | None = None
    csv: Path | None = None
    print_json: Callable[[Any], None] | None = None


def asked(scenario: Path) -> bool:
    """Return whether a scenario file is a study of designs; of a file that cannot be read its reader says why."""
    try:
        return "design" in tomllib.loads(scenario.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def plan(
    scenario: Path,
    changes: Mapping[str, str],
    wanted: Wanted,
    engine: str,
    jobs: int | None,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> None:
    """Run a study, and write what was asked for."""
    from rich.console import Console

    from ...scenario import design, design_file
    from .. import report

    study = design_file.load(scenario, changes)
    with progress(design.expected(study)) as tell:
        answer = design.answer(study, engine=engine, jobs=jobs, progress=tell)
    if wanted.html:
        words = ["wattline", "plan", str(scenario)]
        words += [w for key, value in changes.items() for w in ("--set", f"{key}={value}")]
        command = shlex.join([*words, "--html", str(wanted.html)])
        report.write_design_html(answer, wanted.html, scenario=scenario.read_text("utf-8"), command=command)
    if wanted.charts:
        report.write_design_charts(answer, wanted.charts)
    if wanted.csv:
        report.write_designs(answer, wanted.csv)
    if wanted.print_json:
        wanted.print_json(answer.to_dict())
    else:
        report.show_design(answer, Console(highlight=False, markup=False))
