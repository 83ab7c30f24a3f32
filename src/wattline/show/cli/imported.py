"""`wattline import-profile`: a pipeline's profile from traces of torch's profiler, nsys or Zeus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ...core.errors import InputError
from .output import Json, print_json, terminal, writable


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(import_profile)


def import_profile(
    form: Literal["kineto", "nsys", "zeus"],
    traces: list[str],
    *,
    out: Annotated[Path, Parameter(help="Profile to write (CSV), which wattline pipeline reads, and Zeus too.")],
    power: Annotated[
        Path | None, Parameter(help="Log of power beside the traces, as nvidia-smi --query-gpu writes it.")
    ] = None,
    gpu: Annotated[
        int | None, Parameter(help="Device of the log, or of Zeus' columns, where there are several.")
    ] = None,
    zone: Annotated[str, Parameter(help="Time zone of clock times without offset.")] = "UTC",
    start: Annotated[float, Parameter(help="When an nsys session began, s since 1970.")] = 0.0,
    json: Json = False,
) -> None:
    """Make a pipeline's profile from traces at locked clocks, FILE@MHZ each; several ranks and clocks are put together.

    Example: wattline import-profile kineto rank0.json@1410 rank0.json@1200 --power power.csv --out profile.csv

    Parameters
    ----------
    form
        kineto (torch.profiler's JSON), nsys (nsys stats --report nvtx_gpu_proj_trace --format csv), or zeus
        (ZeusMonitor's log file).
    traces
        Files with the clock they ran at: trace.json@1410.
    """
    from ...training import imported

    writable(out)
    log = None if power is None else imported.power_log(power, zone, gpu)
    rows = []
    for text in traces:
        path, at, clock = text.rpartition("@")
        if not at or not clock.replace(".", "", 1).isdecimal():
            raise InputError(f"{text!r} must be FILE@MHZ, the clock that was locked, e.g. trace.json@1410")
        if form == "kineto":
            ranges = imported.kineto(Path(path))
        elif form == "nsys":
            ranges = imported.nsys(Path(path), start)
        else:
            ranges = imported.zeus(Path(path), gpu or 0)
        rows += imported.rows_of(ranges, float(clock), log)
    rows.sort(key=lambda row: (row["stage"], row["instruction"], -row["frequency"]))
    imported.write_rows(rows, out)
    if json:
        print_json({"profile": str(out), "rows": rows})
        return
    stages, clocks = {row["stage"] for row in rows}, {row["frequency"] for row in rows}
    terminal().print(f"{out}: {len(rows)} rows of {len(stages)} stages at {len(clocks)} clocks")
