"""What every test shares: Hypothesis draws the same examples each time, and a slow machine is no failure."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from .once import remembered

settings.register_profile("wattline", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("wattline")

# Tests start some hundred Pythons. Where the environment asks that sources be left alone, compiled ones go beside the
# interpreter's environment, so that each of them need not compile all that it imports.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(sys.prefix) / "pycache"))
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False


@pytest.fixture
def solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenarios that were solved before in this process are not solved again."""
    remembered(monkeypatch)
