"""A chip description becomes an architecture: TOML in, parts out, every rule checked with file, key and line.

    [domain.core]     clock = [["0.2 GHz", "1.4 GHz"], "datasheet"]
                      voltage = [["0.7 V", "0.9 V"], "datasheet"]
    [level.buffer]    capacity = ["2 MiB", "paper, table 1"]        path = ["dram", "buffer", "rows", "columns"]
    [fanout.rows]     size = ["128", "paper"]
    [compute]         macs_per_cycle.int8 = ["1", "paper"]

`load` reads a file, `with_` replaces entries of what was read and builds again, `scaled` multiplies one. What
follows from other entries (an sram's energy from its capacity, the leakage of a domain from its parts) is worked
out on building, so that changing the one moves the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.toml_text import read_toml
from . import stated
from .architecture import Architecture
from .builder import Builder
from .consequences import follow
from .lines import lines
from .stated import Stated


def load(path: Path, base: Architecture | None = None) -> Architecture:
    """Read a description from a TOML file; with `base`, the file states only what differs."""
    data = {"name": path.stem, **read_toml(path)}
    where = lines(path.read_text("utf-8"))
    entries = stated.read(data, str(path), where)
    tags = _tags(data, path, where)
    name = str(data["name"])
    if base is not None:
        title = tags.pop("title", base.title)
        kept = {k: v for k, v in base.tags.items() if k != "aliases"}
        node = tags.pop("node", base.node)
        made = _build(name, title, node, follow(base.stated, entries, base.node, node), kept | tags)
        return replace(made, base=base.base or base)
    if "node" not in tags:
        raise InputError(f'{path}, line 1: node must name the technology, e.g. node = "7nm", and is not stated')
    return _build(name, tags.pop("title", name), tags.pop("node"), entries, tags)


def with_(chip: Architecture, changes: Mapping[str, object]) -> Architecture:
    """Return the chip with entries replaced (`Architecture.with_`); `node` moves it to another technology."""
    changes = dict(changes)
    node = str(changes.pop("node", chip.node))
    entries = stated.changed({}, changes)
    made = _build(chip.name, chip.title, node, follow(chip.stated, entries, chip.node, node), chip.tags)
    return replace(made, base=chip.base)


def scaled(chip: Architecture, key: str, factor: float) -> Architecture:
    """Return the chip with one number multiplied (`Architecture.scaled`)."""
    made = _build(chip.name, chip.title, chip.node, stated.scaled(chip.stated, key, factor), chip.tags)
    return replace(made, base=chip.base)


def _tags(data: Mapping[str, Any], path: Path, where: Mapping[str, int]) -> dict[str, str]:
    """Return the plain text entries beside the name."""
    tags = {}
    for key in stated.TAGS:
        if key in data and key != "name":
            if not isinstance(data[key], str):
                raise InputError(f"{path}, line {where.get(key, 1)}: {key} must be text, got {data[key]!r}")
            tags[key] = data[key]
    return tags


def _build(name: str, title: str, node: str, entries: Mapping[str, Stated], tags: Mapping[str, str]) -> Architecture:
    return Builder(name, title, node, entries, tags).architecture()
