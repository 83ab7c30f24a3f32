"""The commands that set devices, as the command line knows them: daemon and profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(daemon)


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
    from .control import start
    from .control.daemon import SOCKET, Options

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
