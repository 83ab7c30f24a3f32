"""The commands about running programs, as the command line knows them: run, doctor, top, runs, metrics.

What they do stands in `cli_measure` and `cli_store`; here is how they are called. Everything heavy is
imported when a command runs.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", show_default=False, help="Print JSON on stdout and nothing else.")]
Place = Annotated[str | None, Parameter(name="--store", help="Store: a SQLite file or a database URL.")]

Estimate = Annotated[
    Literal["parts", "total"] | None,
    Parameter(help="Estimate processors and memory from their load: beside what is measured, or in the total too."),
]


def _estimate(mode: str | None) -> None:
    """Have the search for sensors offer estimates."""
    if mode is not None:
        os.environ["WATTLINE_ESTIMATE"] = mode


runs = App(name="runs", help="Runs kept in the store: list, show, compare, export.")


def register(app: App) -> None:
    """Add the commands to the command line."""
    for command in (run, doctor, top, metrics, agent):
        app.command(command)
    app.command(runs)


def run(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    json: Annotated[
        str | None, Parameter(help="Write the answer to this file; - is stdout, after the command's.")
    ] = None,
    keep: Annotated[bool, Parameter(show_default=False, help="Keep the run in the store.")] = False,
    estimate: Estimate = None,
    store: Place = None,
) -> int:
    """Run a command, measure its energy with all children, pass its exit code through.

    Example: wattline run -- python train.py --epochs 3
    """
    _estimate(estimate)
    if (keep or store) and command:
        from .store import run_kept

        return run_kept(command, json, store)
    from .measure import run_command

    return run_command(command, json)


def doctor(
    *,
    probe: Annotated[
        bool, Parameter(show_default=False, help="Learn how the sensors behave beside a known load, and keep it.")
    ] = False,
    load: Annotated[Literal["auto", "cpu", "gpu", "none"], Parameter(help="The load of --probe.")] = "auto",
    seconds: Annotated[float, Parameter(help="How long --probe takes.")] = 60.0,
    json: Json = False,
) -> int:
    """Say what can be measured on this machine, what cannot, why, and what would mend it.

    With --probe, pulses of a known load teach each sensor's period, lag, averaging and blind time.

    Example: wattline doctor
    """
    from .measure import doctor_command, probe_command

    return probe_command(load, seconds, json) if probe else doctor_command(json)


def top(
    *,
    interval: Annotated[float, Parameter(help="Seconds between updates.")] = 1.0,
    once: Annotated[bool, Parameter(show_default=False, help="Print one table and end.")] = False,
    estimate: Estimate = None,
    json: Json = False,
    store: Place = None,
) -> int:
    """Watch every device live: power, energy, clocks, limits, temperature.

    Example: wattline top --once
    """
    _estimate(estimate)
    from .store import top_command

    return top_command(interval, once, json, store)


def metrics(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 9469,
    dashboard: Annotated[bool, Parameter(show_default=False, help="Print the Grafana dashboard and end.")] = False,
) -> int:
    """Serve what is measured for Prometheus, until interrupted.

    Example: wattline metrics --dashboard > wattline-dashboard.json
    """
    from .store import dashboard_command, export_command

    return dashboard_command() if dashboard else export_command(host, port)


def agent(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 9469,
    pods: Annotated[
        str | None,
        Parameter(help="The kubelet's socket, to tell containers: /var/lib/kubelet/pod-resources/kubelet.sock."),
    ] = None,
    jobs: Annotated[str | None, Parameter(help="Folder that a scheduler's prolog writes: /run/wattline/jobs.")] = None,
    energy: Annotated[str, Parameter(help="Where a job's energy is kept.")] = "/var/lib/wattline/energy",
) -> int:
    """Serve a node's energy for Prometheus, with the containers and jobs that have its devices, until a signal.

    Example: wattline agent --jobs /run/wattline/jobs
    """
    from .store import agent_command

    return agent_command(host, port, pods, jobs, energy)


@runs.command(name="list")
def runs_list(
    *, limit: Annotated[int, Parameter(help="Most runs shown.")] = 20, store: Place = None, json: Json = False
) -> int:
    """List the latest runs, the newest first.

    Example: wattline runs list
    """
    from .store import runs_list as found

    return found(store, limit, json)


@runs.command(name="show")
def runs_show(run: str = "last", *, store: Place = None, json: Json = False) -> int:
    """Show one run: what it used, in which windows, on which devices.

    Example: wattline runs show last
    """
    from .store import runs_show as found

    return found(run, store, json)


@runs.command(name="compare")
def runs_compare(*names: str, store: Place = None, json: Json = False) -> int:
    """Compare runs with the first of them.

    Example: wattline runs compare last~1 last
    """
    from .store import runs_compare as found

    return found(names, store, json)


@runs.command(name="export")
def runs_export(
    path: str,
    *names: str,
    table: Annotated[Literal["runs", "windows", "samples"], Parameter(help="What to write.")] = "samples",
    store: Place = None,
    json: Json = False,
) -> int:
    """Write runs, windows or samples to a .csv or .parquet file.

    Example: wattline runs export samples.csv last
    """
    from .store import runs_export as found

    return found(path, names, table, store, json)
