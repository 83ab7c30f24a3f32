"""The measuring commands of the command line: `run` and `doctor`, as functions that return an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from ...measure.doctor import examine
from ...measure.learning import load_of, probe
from ...measure.monitor import Monitor, default
from ...measure.run import run


def run_command(argv: Sequence[str], json: str | None = None, monitor: Monitor | None = None) -> int:
    """Run ``argv``, print the summary on stderr, and return the command's exit code.

    json : a file for the answer, or "-" for standard output after the command's own. A file that cannot be
        written is said on stderr and does not change the exit code.
    """
    ran = run(argv, monitor)
    if ran.error:
        print(f"wattline: {ran.error}", file=sys.stderr)
    if json is not None:
        _write(ran.to_dict(), json)
    if ran.command:
        _print(ran.measurement)
    return ran.code


def doctor_command(json: bool = False, monitor: Monitor | None = None) -> int:
    """Print what can be measured here; the exit code is 1 if that is nothing."""
    from ...core import kernels

    report = examine(monitor)
    compiled, where = kernels.status()
    if json:
        _write({**report.to_dict(), "kernels": {"compiled": compiled, "detail": where}}, "-")
    else:
        from rich.console import Console

        console = Console()
        console.print(report)
        if not compiled:
            console.print(f"numeric kernels run in Python, which is slow: {where}", style="yellow", markup=False)
    return 0 if report.usable else 1


def probe_command(load: str = "auto", seconds: float = 60.0, json: bool = False, monitor: Monitor | None = None) -> int:
    """Learn the sensors of this machine and print what was learnt; the exit code is 1 if that is nothing."""
    watched = monitor or default()
    watched.prepare()
    meters = [track.meter for track in watched.tracks]
    if not meters:
        return doctor_command(json, watched)
    found = probe(meters, load_of(load, meters), seconds=seconds)
    if json:
        _write(found.to_dict(), "-")
    else:
        from rich.console import Console

        Console().print(found)
    return 0 if found.path else 1


def _write(data: dict[str, Any], place: str) -> None:
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"
    try:
        if place == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        print(f"wattline: {place} could not be written: {error.strerror}", file=sys.stderr)


def _print(measurement: Any) -> None:
    try:
        from rich.console import Console

        Console(stderr=True).print(measurement)
    except Exception as error:  # a broken terminal must not change the command's exit code
        print(f"wattline: the summary could not be printed: {error}", file=sys.stderr)
