"""TOML files read with one sentence where they cannot be: which, and why."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .errors import InputError


def read_toml(path: Path, what: str = "") -> dict[str, Any]:
    """Return the parsed file; `what` names its kind in messages, e.g. "scenario"."""
    return parse_toml(read_text(path, what), f"{what} {path}".strip())


def read_text(path: Path, what: str = "") -> str:
    """Return the text of a file."""
    name = f"{what} {path}".strip()
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not valid TOML: {error}") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the parsed text of what is called `name`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: not valid TOML: {error}") from None
