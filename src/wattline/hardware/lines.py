"""Where a key of a TOML file stands: the line number that the parser of the standard library does not keep.

>>> find('[level.hbm]\\ncapacity = ["80 GiB", "datasheet"]', "level.hbm.capacity")
2
"""

from __future__ import annotations

import re
from typing import Final

_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_NAME: Final = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEAD: Final = re.compile(rf"^\s*\[\s*({_NAME})\s*\]\s*(?:#.*)?$")
_ASSIGN: Final = re.compile(rf"^\s*({_NAME})\s*=")


def lines(text: str) -> dict[str, int]:
    """Return dotted key -> line number (from 1) of every key and table header of a TOML text."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := _HEAD.match(line):
            table = _dotted(head[1]) + "."
            found.setdefault(table[:-1], number)
        elif assign := _ASSIGN.match(line):
            found.setdefault(table + _dotted(assign[1]), number)
    return found


def find(text: str, key: str) -> int:
    """Return the line of `key`, or of the nearest thing it stands in; 1 where nothing of it is there."""
    return nearest_line(lines(text), key)


def nearest_line(found: dict[str, int], key: str) -> int:
    """Return the line of `key` in what `lines` found: its own, else of a key inside it, else of a table around it."""
    if key in found:
        return found[key]
    inside = [number for name, number in found.items() if name.startswith(key + ".")]
    if inside:
        return min(inside)
    while "." in key:
        key = key.rpartition(".")[0]
        if key in found:
            return found[key]
        beside = [number for name, number in found.items() if name.startswith(key + ".")]
        if beside:
            return min(beside)
    return 1


def _dotted(name: str) -> str:
    """Return a key without quotes and spaces around its dots."""
    return ".".join(part.strip().strip("\"'") for part in re.findall(_PART, name))
