"""`wattline simulate` of a fleet scenario: plays it under every controller, prints tables or JSON, writes a page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.units import show
from ..report.words import percent

if TYPE_CHECKING:
    from ...scenario.simulate_site import SiteSimulation
    from ...site.simulate.site_outcome import SiteRun
    from ..report.site_page import Page


def simulate(
    scenario: Path,
    changes: Mapping[str, str],
    controllers: Sequence[str],
    engine: str,
    html: Path | None,
    print_json: Callable[[Any], None] | None,
) -> int:
    """Play a fleet scenario and write what was asked for; 1 where no controller kept every limit."""
    from ...scenario import simulate_site as site_simulation
    from ...scenario.fleet_file import load

    found = site_simulation.run(load(scenario, changes), controllers=controllers, engine=engine)
    if html:
        from ..report.site_page import write_site_html

        words = ["wattline", "simulate", str(scenario)]
        words += [w for key, value in changes.items() for w in ("--set", f"{key}={value}")]
        words += [w for name in controllers for w in ("--controller", name)]
        command = shlex.join([*words, *(["--engine", engine] if engine != "local" else []), "--html", str(html)])
        write_site_html(page_of(found), html, scenario=scenario.read_text("utf-8"), command=command)
    if print_json:
        print_json(found.to_dict())
    else:
        _print(found)
    return 0 if any(row["over_runs"] == 0 and not row["trips"] for row in found.summary()) else 1


def page_of(found: SiteSimulation) -> Page:
    """Return what a page says of a simulation."""
    from ..report.site_page import Page

    return Page(found.title, found.runs, facts(found), table(found), losses(found), crews(found), found.assumptions)


def facts(found: SiteSimulation) -> dict[str, str]:
    """Return the size of what was played."""
    events = [one for one in found.site.limits if one.start > 0 or one.end < found.lasts]
    names = found.site.tree.row_names
    said = [
        f"{names[e.row]} may draw {show(e.watts, 'W')} from {show(e.start, 's')} to {show(e.end, 's')}"
        for e in events[:4]
    ]
    failed, slow = (max(getattr(run, name) for run in found.runs) for name in ("failures", "slow_spells"))
    return {
        "site": f"{len(found.site.place):,} nodes of {len(found.site.crews)} jobs on {len(found.site.tree)} parts",
        "played": f"{show(found.lasts, 's')} in steps of {show(found.site.physics.step, 's')}",
        "events": "; ".join(said) + (f" and {len(events) - 4} more" if len(events) > 4 else ""),
        "nodes that failed": f"{failed:,}, slow spells {slow:,} (most of any run)",
    }


def table(found: SiteSimulation) -> tuple[list[str], list[list[str]]]:
    """Return heads and a row for each controller."""
    heads = ["controller", "work", "energy", "peak", "above a limit", "trips"]
    rows = [
        [
            row["controller"], percent(row["work_share"]), show(row["energy_j"], "J"),
            show(row["peak_w"], "W"), show(row["over_s"], "s"), str(row["trips"]),
        ]
        for row in found.summary()
    ]  # fmt: skip
    return heads, rows


def losses(found: SiteSimulation) -> tuple[list[str], list[list[str]]]:
    """Return heads and a row for each controller: shares of the work that were lost, by reason."""
    rows = [[row["controller"], *(percent(share) for share in row["lost"].values())] for row in found.summary()]
    return ["lost", *found.runs[0].lost_by()], rows


def crews(found: SiteSimulation) -> tuple[list[str], list[list[str]]]:
    """Return heads and a row for each job: the share of its work that each controller did, or how many tasks."""
    first: dict[str, SiteRun] = {name: runs[0] for name, runs in found.by_controller().items()}
    jobs: dict[str, list[int]] = {}
    for g, crew in enumerate(found.site.crews):
        jobs.setdefault(crew.name.partition("@")[0], []).append(g)
    rows = []
    for name, groups in jobs.items():
        count = sum(found.site.crews[g].count for g in groups)
        tasked = any(found.site.crews[g].arrivals > 0 for g in groups)
        did = [
            f"{run.tasks_done[groups].sum():,} tasks"
            if tasked
            else percent(float(run.done[groups].sum() / max(run.wanted[groups].sum(), 1e-300)))
            for run in first.values()
        ]
        rows.append([name, f"{count:,}", *did])
    return ["job", "nodes", *first], rows


def _print(found: SiteSimulation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(f"{found.title}: a site played")
    drawn = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in facts(found).items():
        if text:
            drawn.add_row(name, text)
    console.print(drawn)
    for heads, rows in (table(found), losses(found), crews(found)):
        drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for number, head in enumerate(heads):
            drawn.add_column(head, justify="left" if number == 0 else "right")
        for row in rows:
            drawn.add_row(*row)
        console.print(drawn)
    for line in found.assumptions:
        console.print(f"assumed: {line}")
