"""The commands that set devices, as the command line knows them: daemon, profile and govern."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(daemon)
    app.command(profile)
    app.command(govern)
    app.command(apply)


Flag = Parameter(show_default=False)


def daemon(
    *,
    socket: Annotated[Path | None, Parameter(help="Unix socket to serve; /run/wattline/daemon.sock.")] = None,
    policy: Annotated[Path | None, Parameter(help="Policy file; /etc/wattline/policy.toml.")] = None,
    state: Annotated[Path | None, Parameter(help="Folder of records and the audit log.")] = None,
    group: Annotated[str | None, Parameter(help="Group that may connect; its owner alone where left out.")] = None,
    listen: Annotated[str | None, Parameter(help="HOST:PORT to serve mutual TLS at.")] = None,
    certificate: Annotated[Path | None, Parameter(help="Certificate for --listen.")] = None,
    key: Annotated[Path | None, Parameter(help="Its key.")] = None,
    authority: Annotated[Path | None, Parameter(help="Authority that signs clients' certificates.")] = None,
    metrics: Annotated[str | None, Parameter(help="HOST:PORT to serve Prometheus at.")] = None,
    dry_run: Annotated[bool, Flag, Parameter(help="Check and log everything, set nothing.")] = False,
    simulate: Annotated[int, Parameter(help="Serve so many simulated devices instead of real ones.")] = 0,
    recover: Annotated[bool, Flag, Parameter(help="Put back what a killed daemon had found, and end.")] = False,
    check: Annotated[bool, Flag, Parameter(help="Read the policy, say what it allows, and end.")] = False,
    unit: Annotated[bool, Flag, Parameter(help="Print a systemd unit, and end.")] = False,
) -> int:
    """Serve devices to clients that have no privilege: leases, a policy, a shared power budget.

    Example: wattline daemon --check --policy policy.toml
    """
    from ...control.daemon import start
    from ...control.daemon.server import SOCKET, Options

    if unit:
        sys.stdout.write(start.unit())
        return 0
    options = Options(
        socket=socket or SOCKET,
        group=group,
        listen=None if listen is None else start.address(listen, "--listen"),
        certificate=certificate,
        key=key,
        authority=authority,
        metrics=None if metrics is None else start.address(metrics, "--metrics"),
    )
    asked = start.Asked(options=options, policy=policy, state=state, dry_run=dry_run, simulate=simulate)
    if check:
        print(start.check(asked))
        return 0
    return start.recover(asked) if recover else start.serve(asked)


def profile(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    clocks: Annotated[str | None, Parameter(help="Core clocks: how many, or a list, e.g. 900MHz,1.2GHz.")] = None,
    limits: Annotated[str | None, Parameter(help="Power limits: how many, or a list, e.g. 300W,400W.")] = None,
    device: Annotated[tuple[str, ...], Parameter(help="Device by UUID or place; several are set alike.")] = ("0",),
    name: Annotated[str, Parameter(help="What the profile is called; the command's name where left out.")] = "",
    interval: Annotated[str, Parameter(help="Repeat until 95 % intervals are this narrow.")] = "2 %",
    least: Annotated[int, Parameter(help="Fewest repeats of a setting.")] = 3,
    most: Annotated[int, Parameter(help="Most repeats of a setting.")] = 10,
    settle: Annotated[str, Parameter(help="Longest wait for a steady temperature.")] = "30 s",
    waiting_power: Annotated[
        str | None, Parameter(help="Power while waiting; measured while idle if left out.")
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of the random order.")] = 0,
    again: Annotated[bool, Flag, Parameter(help="Begin anew instead of going on.")] = False,
    dry_run: Annotated[bool, Flag, Parameter(help="Say what would be set and measured, and end.")] = False,
    simulate: Annotated[bool, Flag, Parameter(help="Use a simulated device.")] = False,
    store: Annotated[str | None, Parameter(help="Store: a SQLite file or a database URL.")] = None,
    json: Annotated[bool, Parameter(name="--json", show_default=False, help="Print JSON on stdout.")] = False,
) -> int:
    """Measure a command at every clock or power limit; what comes out is a frontier that `plan` can use.

    Ctrl-C stops it, and the same command goes on where it stopped. Devices are left as they were found.

    Example: wattline profile --clocks 8 --name step -- python train.py --steps 50
    """
    from ...control.loops.profiling import Asked, sweep

    return sweep(
        Asked(
            command=command, clocks=clocks, limits=limits, devices=device, name=name, interval=interval, least=least,
            most=most, settle=settle, waiting_power=waiting_power, seed=seed, again=again, dry_run=dry_run,
            simulate=simulate, store=store, json=json,
        )
    )  # fmt: skip


def apply(
    answer: Path,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    device: Annotated[tuple[str, ...], Parameter(help="Device by UUID or place; several are set alike.")] = ("0",),
    dry_run: Annotated[
        bool, Flag, Parameter(help="Say what would be set and how to undo it, and set nothing.")
    ] = False,
    simulate: Annotated[bool, Flag, Parameter(help="Use a simulated device.")] = False,
) -> int:
    """Hold an answer's clock or power limit by leases while a command runs; devices are then as they were found.

    Example: wattline apply answer.json --device 0 --device 1 -- torchrun --nproc-per-node 2 train.py

    Parameters
    ----------
    answer
        What `wattline plan SCENARIO.toml --json` printed.
    command
        Command to run meanwhile, behind --; without one the setting is held until Ctrl-C.
    """
    from ...control.loops.applying import Asked, run

    return run(Asked(answer=answer, command=command, devices=device, dry_run=dry_run, simulate=simulate))


def govern(
    *,
    metrics: Annotated[str, Parameter(help="Where the server serves Prometheus, http://127.0.0.1:8000/metrics.")],
    tpot: Annotated[str | None, Parameter(help="Promised time between tokens, e.g. 50 ms.")] = None,
    ttft: Annotated[str | None, Parameter(help="Promised time to the first token, e.g. 500 ms.")] = None,
    percentile: Annotated[float, Parameter(help="Of the tokens and requests that the promise is for.")] = 99.0,
    device: Annotated[tuple[str, ...], Parameter(help="Device by UUID or place; several are set alike.")] = ("0",),
    interval: Annotated[str, Parameter(help="Between two looks at the metrics.")] = "1 s",
    floor: Annotated[str, Parameter(help="Lowest clock, as a share of the highest.")] = "40 %",
    notches: Annotated[int, Parameter(help="Clocks to choose from.")] = 12,
    looks: Annotated[int, Parameter(help="Stop after so many looks; 0 for never.")] = 0,
    dry_run: Annotated[bool, Flag, Parameter(help="Say what would be set, and set nothing.")] = False,
    simulate: Annotated[bool, Flag, Parameter(help="Use a simulated device.")] = False,
    json: Annotated[bool, Parameter(name="--json", show_default=False, help="Print a line of JSON a look.")] = False,
) -> int:
    """Keep a server's latency promise at the lowest clock that does, from the metrics it serves, until interrupted.

    Reads the metrics of vLLM, SGLang (--enable-metrics) and TensorRT-LLM (/prometheus/metrics). Where they stop, the
    devices run at their own clocks; so they do afterwards. `wattline simulate` plays the same governor.

    Example: wattline govern --metrics http://127.0.0.1:8000/metrics --tpot "50 ms" --device 0
    """
    from ...control.loops.governing import Asked, run

    return run(
        Asked(
            metrics=metrics, tpot=tpot, ttft=ttft, percentile=percentile, devices=device, interval=interval,
            floor=floor, notches=notches, looks=looks, dry_run=dry_run, simulate=simulate, json=json,
        )
    )  # fmt: skip
