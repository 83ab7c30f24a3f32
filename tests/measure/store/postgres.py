"""A PostgreSQL server of one's own, in a folder that goes away with it, for tests of the store."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...waiting import until


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: Debian's newest, else the one on the path; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    if found:
        return found[-1]
    onpath = shutil.which("initdb")
    return Path(onpath).parent if onpath else None


class Server:
    """A server in a folder, listening on a socket only: `url` with ``{}`` for the database, `start`, `stop`."""

    def __init__(self, home: Path, bin_: Path, quiet: dict[str, Any]) -> None:
        self.url = f"postgresql://wattline@/{{}}?host={home}"
        self._home, self._bin, self._quiet = home, bin_, quiet
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._running = subprocess.Popen(
            [self._bin / "postgres", "-D", self._home / "data", "-k", self._home, "-F", "-c", "listen_addresses="],
            **self._quiet,
        )
        asked = [self._bin / "pg_isready", "-q", "-h", self._home, "-d", "postgres"]
        assert until(lambda: subprocess.run(asked, timeout=60, check=False).returncode == 0)

    def stop(self) -> None:
        """Stop it at once, connections and all."""
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)
            self._running.wait(timeout=30)
            self._running = None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A running server of one's own."""
    bin_ = binaries()
    assert bin_ is not None
    home = Path(tempfile.mkdtemp(prefix="wattline-pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = _account()
        os.chown(home, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home, **user}
    try:
        subprocess.run(
            [bin_ / "initdb", "-D", home / "data", "-U", "wattline", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"],
            check=True, timeout=60, **quiet,
        )  # fmt: skip
        made = Server(home, bin_, quiet)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("no account to run PostgreSQL as")
