"""The studio as the command line knows it: `wattline web`."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ...core.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(web)


def web(
    scenario: Path | None = None,
    *,
    host: Annotated[str, Parameter(help="Address to listen on; beyond this machine a token is needed.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port; 0 takes a free one.")] = 8750,
    token: Annotated[str | None, Parameter(help="Token to ask for; made up where left out and needed.")] = None,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open a browser.")] = True,
) -> int:
    """Open the studio: see the layers of a scenario, turn the knobs, watch the frontier move.

    Example: wattline web examples/llama-70b-training.toml

    Parameters
    ----------
    scenario
        Scenario file (TOML) to open; a shipped example where left out.
    """
    import uvicorn

    from ..web.app import Settings, create

    if not 0 <= port <= 65535:
        raise InputError(f"--port must lie between 0 and 65535, got {port}")
    if token is None and host not in _LOOPBACK:
        token = secrets.token_urlsafe(24)
    hosts = ("localhost", "127.0.0.1", "[::1]") if host in _LOOPBACK else ("*",)
    listener = _listen(host, port)
    application = create(Settings(scenario, token, hosts))
    address = f"http://{'localhost' if host in _LOOPBACK else host}:{listener.getsockname()[1]}/"
    address += f"?token={token}" if token else ""
    print(f"wattline: the studio is at {address} (Ctrl-C ends it)", file=sys.stderr)
    if browser:
        _open(address)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="on"))
    server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    out = socket.socket(family, socket.SOCK_STREAM)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        out.bind((host, port))
    except (OSError, OverflowError) as error:
        out.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host} port {port} ({reason}); try --port 0") from None
    return out


def _open(address: str) -> None:
    """Open a browser without waiting for it; none is no fault."""
    import webbrowser

    threading.Timer(0.8, webbrowser.open, [address]).start()
