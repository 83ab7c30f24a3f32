"""Values put in place of what a file states, by dotted key: ``--set key=value`` and ``changes=`` of Python."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

# Puts one value into parsed TOML by its dotted key.
Put = Callable[[dict[str, Any], str, Any], None]


def changed(data: Mapping[str, Any], changes: Mapping[str, Any], put: Put) -> dict[str, Any]:
    """Return parsed TOML with each of `changes` put in; `data` stays as it is."""
    out = copy.deepcopy(dict(data))
    for key, value in changes.items():
        put(out, key, value)
    return out


def literal(value: Any) -> Any:
    """Read a command-line value: true, false, a plain number, or text (with its unit); others are as they are."""
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    try:
        return int(value)
    except ValueError:
        return value.strip().strip('"')
