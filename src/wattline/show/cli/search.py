"""`wattline plan` of a scenario with [serve.search]: searches, confirms, prints tables or JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...scenario.scenario import Scenario

Bar = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def plan(
    scenario: Scenario,
    path: Path,
    sets: Sequence[str],
    files: tuple[Path | None, Path | None, Path | None],
    where: tuple[str, int | None],
    bar: Bar,
    print_json: Callable[[Any], None] | None,
) -> None:
    """Search, and write what was asked for. `files`: HTML, folder of charts, CSV; `where`: engine and workers."""
    from rich.console import Console

    from ...scenario import search as serve_search
    from ..report import searched

    html, charts, csv = files
    with bar(serve_search.points(scenario)) as tell:
        answer = serve_search.search(scenario, engine=where[0], jobs=where[1], progress=tell)
    if html:
        words = ["wattline", "plan", str(path), *(w for s in sets for w in ("--set", s)), "--html", str(html)]
        searched.write_html(answer, html, scenario=path.read_text("utf-8"), command=shlex.join(words))
    if charts:
        searched.write_charts(answer, charts)
    if csv:
        searched.write_pools(answer, csv)
    if print_json:
        print_json(answer.to_dict())
    else:
        searched.show_search(answer, Console(highlight=False, markup=False))
