"""Tests that measuring costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import wattline
import wattline.measure as package


def test_the_import_pulls_nothing_heavy():
    """Opening a window loads neither compilers, charts, databases nor a vendor's library."""
    heavy = {"sqlite3", "vl_convert", "torch", "pynvml", "amdsmi", "rich", "textual"}
    code = (
        "import sys, wattline\n"
        "first = set(sys.modules)\n"
        "wattline.measure\n"
        "import wattline.measure.window, wattline.measure.monitor\n"
        f"print(*sorted({heavy!r} & set(sys.modules)), *(m for m in first if m.startswith('wattline.measure')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_public_names_are_there():
    """Every name that the package promises can be had."""
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert wattline.begin is package.begin
