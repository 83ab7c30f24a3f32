"""Tests for what importing `wattline` costs and pulls in."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("highspy", "sqlite3", "vl_convert", "torch", "ray", "scipy", "pandas")


def _loaded(statement: str) -> list[str]:
    """Return the heavy modules a fresh interpreter holds after a statement; a socket is an error there."""
    code = f"""
import socket, sys
def refuse(*a, **k): raise SystemExit("a socket was opened")
socket.socket.connect = socket.socket.bind = refuse
{statement}
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return found.stdout.split()


@pytest.mark.parametrize(
    "module", ["wattline", "wattline.show.cli.main", "wattline.scenario.scenario", "wattline.show.report"]
)
def test_import_is_light(module):
    """Importing pulls in nothing heavy and opens no connection."""
    assert _loaded(f"import {module}") == []


def test_help_is_light():
    """Asking for help needs nothing heavy either."""
    quiet = "with contextlib.redirect_stdout(io.StringIO()): cli.main(['--help'])"
    statement = f"import contextlib, io, wattline.show.cli.main as cli\n{quiet}"
    assert _loaded(statement) == []
