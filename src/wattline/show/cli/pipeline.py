"""The planning of pipelines as the command line knows it: `wattline pipeline`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from .output import Json, Verbose, filled, print_json, progress, terminal, writable


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(pipeline)


def pipeline(
    profile: Path,
    *,
    stages: Annotated[int, Parameter(help="Devices in a row; fewer or more than profiled are picked or repeated.")],
    microbatches: Annotated[int, Parameter(help="Microbatches per iteration and replica.")],
    schedule: Annotated[
        str, Parameter(help="1f1b, gpipe, interleaved, zb-h1, zb-2p, zb-v, dualpipe or dualpipe-v.")
    ] = "1f1b",
    order: Annotated[Path | None, Parameter(help="A schedule from a file, as torch's _dump_csv writes it.")] = None,
    virtual: Annotated[int, Parameter(help="Model chunks per device, for interleaved.")] = 1,
    waiting_power: Annotated[str | None, Parameter(help="What a device draws while it waits, e.g. 75 W.")] = None,
    chip: Annotated[str | None, Parameter(help="Chip of the catalog whose waiting power to assume instead.")] = None,
    static_power: Annotated[str, Parameter(help="Further power per device that the profile does not hold.")] = "0 W",
    replicas: Annotated[int, Parameter(help="Data-parallel pipelines that do the same.")] = 1,
    max_slowdown: Annotated[str | None, Parameter(help="Against maximum clocks; 0 % where nothing is given.")] = None,
    deadline: Annotated[str | None, Parameter(help="Time of one iteration, e.g. 3 s.")] = None,
    straggler: Annotated[str | None, Parameter(help="Iteration time of a slower pipeline to wait for.")] = None,
    power_cap: Annotated[str | None, Parameter(help="Average power of all devices at most, e.g. 2 kW.")] = None,
    transfer_time: Annotated[str, Parameter(help="Time of a message to the next stage; one per link: a,b,c.")] = "0 s",
    switch_latency: Annotated[
        str | None, Parameter(help="Time a device stands still to change its clock; that of --chip where left out.")
    ] = None,
    granularity: Annotated[
        Literal["microbatch", "instruction", "stage"], Parameter(help="What has a clock of its own.")
    ] = "microbatch",
    compare: Annotated[bool, Parameter(help="Also plan at every granularity, and say what each saves.")] = False,
    regress: Annotated[bool, Parameter(help="Plan on a convex curve through noisy samples; report both.")] = False,
    switch_once: Annotated[bool, Parameter(help="Also realise the bound, by one switch inside a computation.")] = False,
    split_backward: Annotated[str | None, Parameter(help="Share of backward its input part takes, e.g. 50 %.")] = None,
    allow_fixed: Annotated[bool, Parameter(help="Accept computations that have one setting only.")] = False,
    points: Annotated[int, Parameter(help="Deadlines at which a plan is realised.")] = 25,
    plan: Annotated[
        tuple[Path, ...],
        Parameter(show_default=False, help="Write the chosen plan for a runtime (.csv or .json); may be repeated."),
    ] = (),
    picture: Annotated[Path | None, Parameter(help="Write who runs when (.svg, .png) or the report (.html).")] = None,
    family: Annotated[
        Path | None, Parameter(help="Write the plans of all --points, to follow stragglers with.")
    ] = None,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Plan the clocks of a pipeline from a measured profile: the exact frontier, and a plan a runtime can follow.

    Example: wattline pipeline examples/pipeline-profile.csv --stages 4 --microbatches 16 --waiting-power "75 W"

    Parameters
    ----------
    profile
        Measured settings (CSV, plain or .gz): stage,instruction,frequency,time,energy in MHz, s and J per device.
    """
    from ...scenario import pipeline as pipelines
    from ..report import plans

    for path in plan or (None,):
        plans.check_suffixes(path, picture)
    for path in (*plan, picture, family):
        writable(path)
    request = pipelines.Request(
        profile, stages, microbatches, schedule, virtual, waiting_power, chip, static_power, replicas, max_slowdown,
        deadline, straggler, power_cap, transfer_time, switch_latency, granularity, compare, regress, switch_once,
        split_backward, allow_fixed, points, order,
    )  # fmt: skip
    with progress(pipelines.steps(request)) as tell:
        found = pipelines.run(request, tell)
    for warning in found.values["warnings"]:
        print(f"wattline: warning: {warning}", file=sys.stderr)
    for path in plan:
        plans.write_plan(found.rows, pipelines.head(found), path)
    if family:
        from ...control.loops.straggler import Family

        Family.of(found.plan, points).write(family)
    if picture:
        words = ["wattline", "pipeline", str(profile), "--stages", str(stages), "--microbatches", str(microbatches)]
        plans.write_picture(found.answer, picture, shlex.join(words))
    if json:
        print_json(found.values)
        return
    from ..report import show_plan

    show_plan(found.answer, terminal(), verbose=verbose)
    for heads, rows in pipelines.tables(found):
        terminal().print(filled(heads, rows))
