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


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server that listens on a socket only; yields its URL with ``{}`` for the database."""
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
        running = subprocess.Popen(
            [bin_ / "postgres", "-D", home / "data", "-k", home, "-F", "-c", "listen_addresses="], **quiet
        )
        try:
            asked = [bin_ / "pg_isready", "-q", "-h", home, "-d", "postgres"]
            assert until(lambda: subprocess.run(asked, timeout=60, check=False).returncode == 0)
            yield f"postgresql://wattline@/{{}}?host={home}"
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(timeout=30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("no account to run PostgreSQL as")
