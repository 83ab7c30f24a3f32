"""`wattline fleet import`: traces of jobs as clusters keep them, replayed, with the energy of every user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ...core.errors import InputError
from ...core.units import show
from .output import Json, print_json, terminal, writable, write_csv
from .transient import transient

_ROWS = 16


def register(app: App) -> None:
    """Add `wattline fleet`."""
    group = App(
        name="fleet",
        help="Fleets: traces of jobs replayed, and what a grid sees within a second. Plans are made by wattline plan.",
    )
    group.command(import_, name="import")
    group.command(transient)
    app.command(group)


def import_(
    form: Literal["sacct", "swf", "alibaba", "philly", "kubernetes"],
    file: Path,
    *,
    chip: Annotated[str, Parameter(help="Chip of the catalog that the jobs ran on.")] = "h100-sxm",
    speeds: Annotated[str | None, Parameter(help="Shares of full speed of one chip, e.g. 1,0.9,0.75.")] = None,
    powers: Annotated[str | None, Parameter(help='Its power at each, e.g. "700 W,560 W,420 W".')] = None,
    chips: Annotated[
        float | None, Parameter(help="Chips of each kind; as many as were ever in use where left out.")
    ] = None,
    machine: Annotated[
        str | None, Parameter(help="In place of chips: frontier, marconi100, or a configuration of RAPS (JSON).")
    ] = None,
    cap: Annotated[str | None, Parameter(help='Most power of all chips, e.g. "1 MW".')] = None,
    controller: Annotated[
        tuple[Literal["recorded", "uncapped", "wait", "uniform", "prices"], ...],
        Parameter(show_default=False, help="How the trace is replayed; recorded where left out. May be repeated."),
    ] = (),
    zone: Annotated[str, Parameter(help="Time zone of clock times without offset.")] = "UTC",
    csv: Annotated[Path | None, Parameter(help="Write one row per job of the last replay.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the largest jobs as a fleet scenario for wattline plan.")] = None,
    json: Json = False,
) -> int:
    """Import a trace of jobs, replay its days, and say what each user's work took; 1 where a cap was exceeded.

    Example: sacct -a -X -P --format=JobID,User,Partition,Submit,Start,End,AllocTRES,NNodes > day.txt;
    wattline fleet import sacct day.txt --controller recorded --controller uniform --cap "600 kW"

    Parameters
    ----------
    form
        What wrote the trace.
    file
        The trace.
    """
    from ...scenario import fleet_trace

    for path in (csv, out):
        writable(path)
    if (speeds is None) != (powers is None):
        raise InputError("--speeds and --powers say one thing together; give both or none")
    if machine is not None and (speeds is not None or chips is not None):
        raise InputError("--machine says what nodes draw and how many there are; leave out --speeds, --powers, --chips")
    try:
        told = [float(x) for x in speeds.split(",")] if speeds else []
    except ValueError:
        raise InputError(f"--speeds must be numbers with commas such as 1,0.9,0.75, got {speeds!r}") from None
    found = fleet_trace.replayed(
        form, file, chip=chip, speeds=told, powers=powers.split(",") if powers else [], chips=chips, cap=cap,
        controllers=controller or ("recorded",), zone=zone, machine=machine,
    )  # fmt: skip
    if csv:
        write_csv(csv, fleet_trace.rows(found))
    if out:
        try:
            out.write_text(fleet_trace.scenario_text(found), "utf-8")
        except OSError as error:
            raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    if json:
        print_json(found.to_dict())
    else:
        _print(found)
    return 1 if any(run.over > 1e-9 * float(run.energy.sum()) for run in found.runs.values()) else 0


def _print(found: object) -> None:
    from rich.table import Table
    from rich.text import Text

    from ...scenario.fleet_trace import TraceAnswer, summary

    assert isinstance(found, TraceAnswer)
    console, jobs = terminal(), found.trace.jobs
    left = f"; {found.trace.left_out:,} rows never ran on a chip" if found.trace.left_out else ""
    console.print(Text(f"{len(jobs):,} jobs of {len({job.user for job in jobs}):,} users{left}", style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for k, head in enumerate(("Replayed", "Energy", "of it idle", "Peak", "Above the cap", "Mean wait", "Whole")):
        table.add_column(head, justify="left" if k == 0 else "right")
    for name, run in found.runs.items():
        told = summary(run)
        whole = show(told["last_end_s"] - float(run.time[0]), "s")
        table.add_row(
            name, show(told["energy_j"], "J"), show(told["idle_j"], "J"), show(told["peak_w"], "W"),
            show(told["over_cap_j"], "J"), show(told["mean_wait_s"], "s"), whole,
        )  # fmt: skip
    console.print(table)
    run = [*found.runs.values()][-1]
    by = run.by("user")
    users = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for k, head in enumerate(("User", "Energy", "Share")):
        users.add_column(head, justify="left" if k == 0 else "right")
    total = sum(by.values()) or 1.0
    for name, joules in [*by.items()][:_ROWS]:
        users.add_row(name or "(none told)", show(joules, "J"), f"{100 * joules / total:.3g} %")
    console.print()
    console.print(users)
    if len(by) > _ROWS:
        console.print(Text(f"{len(by) - _ROWS:,} more; --json gives every one", style="dim"))
    console.print()
    for line in found.assumptions:
        console.print(Text(f"Assumed: {line}", style="dim"))
