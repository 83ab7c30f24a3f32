"""A running studio on a free port of loopback, and a real Chromium where this machine has one."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from ...waiting import until


@pytest.fixture(scope="session")
def studio() -> Iterator[str]:
    """Start the server as `wattline web` does; give its address."""
    import uvicorn

    from wattline.show.web.app import create

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create(), log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert until(lambda: server.started)
    yield f"http://localhost:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of the Debian package's Chromium, or skip saying what is missing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    return found
