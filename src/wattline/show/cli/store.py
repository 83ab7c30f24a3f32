"""The commands around the store and the live view, as functions that return an exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...core.units import show
from ...measure.monitor import Monitor, default
from ...measure.store import runs as queries
from ...measure.store.database import Store
from ...measure.store.sql import Row


def run_kept(
    argv: Sequence[str],
    json: str | None = None,
    store: str | None = None,
    name: str = "",
    interval: float = 1.0,
    monitor: Monitor | None = None,
) -> int:
    """Run a command as `cli_measure.run_command` does and keep it in a store; the exit code is the command's own."""
    from ...measure.store.recorder import Recorder
    from .measure import run_command

    kept = Recorder(name or (argv[0] if argv else ""), store, command=argv, interval=interval, monitor=monitor).start()
    code = run_command(argv, json, monitor)
    reason = kept.close(code)
    print(f"wattline: not kept: {reason}" if reason else f"wattline: kept as {kept.run}", file=sys.stderr)
    return code


def runs_list(store: str | None = None, limit: int = 20, json: bool = False) -> int:
    """Print the latest runs, the newest first."""
    kept = Store(store)
    rows = queries.listing(kept, limit)
    if json:
        _json({"store": kept.url, "runs": rows})
    elif not rows:
        print(f"no runs in {kept.url}; `wattline run --keep -- CMD` keeps one")
    else:
        _table(("run", "name", "state", "began", "time", "energy"), [_brief(row) for row in rows])
    return 0


def runs_show(run: str = "last", store: str | None = None, json: bool = False) -> int:
    """Print one run: what it used, in which windows, on which devices."""
    row = queries.show(Store(store), run)
    if json:
        _json(row)
        return 0
    _table(("run", "name", "state", "began", "time", "energy"), [_brief(row)])
    if row["windows"]:
        _table(
            ("window", "times", "time", "energy", "each"),
            [
                (part["name"], str(part["windows"]), show(part["duration_s"], "s"), _energy(part), _each(part))
                for part in row["windows"]
            ],
        )
    for note in row["notes"]:
        print(note)
    return 0


def runs_compare(runs: Sequence[str], store: str | None = None, json: bool = False) -> int:
    """Print runs beside the first of them."""
    rows = queries.compare(Store(store), runs)
    if json:
        _json({"runs": rows})
        return 0
    _table(
        ("run", "window", "time", "energy", "change", "verdict"),
        [
            (
                row["run"],
                row["window"] or "all",
                show(row["duration_s"], "s"),
                _energy(row),
                "" if row["energy_change"] is None else f"{row['energy_change']:+.1%}",
                row["verdict"],
            )
            for row in rows
        ],
    )
    return 0


def runs_export(
    path: str,
    runs: Sequence[str] = (),
    table: Literal["runs", "windows", "samples"] = "samples",
    store: str | None = None,
    json: bool = False,
) -> int:
    """Write a table of runs to a .csv or .parquet file."""
    count = queries.export(Store(store), path, table, runs)
    if json:
        _json({"path": path, "rows": count})
    else:
        print(f"{path}: {count} rows")
    return 0


def top_command(
    interval: float = 1.0,
    once: bool = False,
    json: bool = False,
    store: str | None = None,
    monitor: Monitor | None = None,
) -> int:
    """Show every device live; `once` prints one table, and `json` one answer, after an interval of watching."""
    from . import top, top_app

    watched = monitor if monitor is not None else default()
    view = top.View(watched, top.stored_rates(Store(store)), top.daemon_holders())
    with watched.watch():
        view.restart()
        if not (once or json) and sys.stdout.isatty():
            top_app.app(view, interval).run()
            return 0
        view.rows()
        # Power is a mean over a second, so a shorter look would show less than there is to know.
        time.sleep(interval)
        if json:
            _json(view.to_dict())
        else:
            from rich.console import Console

            console = Console()
            console.print(top.once(view, console.width))
    return 0 if watched.tracks else 1


def export_command(host: str = "127.0.0.1", port: int = 9469, monitor: Monitor | None = None) -> int:
    """Serve metrics for Prometheus until interrupted."""
    from ...measure.exporters.prometheus import Exporter

    exporter = Exporter(monitor, host=host, port=port)
    try:
        with exporter:
            print(f"metrics at {exporter.address}; Ctrl-C ends", file=sys.stderr)
            while True:
                time.sleep(3600.0)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"wattline: {host}:{port} cannot be listened on: {error.strerror}", file=sys.stderr)
        return 2


def agent_command(host: str, port: int, pods: str | None, jobs: str | None, energy: str) -> int:
    """Serve a node until a signal; jobs that run then are closed and kept."""
    import signal
    import threading

    from ...measure.exporters.agent import Agent
    from ...measure.owners.jobs import Jobs

    monitor, over = default(), threading.Event()
    followed = Jobs(monitor, Path(jobs), Path(energy)) if jobs is not None else None
    agent = Agent(monitor, pods=Path(pods) if pods else None, jobs=followed, host=host, port=port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        with agent:
            print(f"metrics at {agent.exporter.address}", file=sys.stderr, flush=True)
            over.wait()
    except OSError as error:
        print(f"wattline: {host}:{port} cannot be listened on: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def dashboard_command() -> int:
    """Print the Grafana dashboard."""
    from ...measure.exporters.grafana import dashboard

    sys.stdout.write(dashboard())
    return 0


def _brief(row: Row) -> tuple[str, ...]:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["start_unix_s"]))
    return row["run"], row["name"], row["state"], began, show(row["duration_s"], "s"), _energy(row)


def _energy(row: Row) -> str:
    if row["energy_j"] is None:
        return "-"
    if row["low_j"] is None or row["high_j"] is None:
        return f"{show(row['energy_j'], 'J')} (from samples)"
    return f"{show(row['energy_j'], 'J')} ({show(row['low_j'], 'J')} to {show(row['high_j'], 'J')})"


def _each(part: Row) -> str:
    return ", ".join(f"{show(j, 'J')} per {what.removesuffix('s')}" for what, j in part["energy_per_count_j"].items())


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in ("time", "times", "energy", "change") else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _json(data: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
