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
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.toml_text import read_toml
from . import stated
from .architecture import Architecture
from .builder import Builder
from .consequences import follow
from .facts import Sheet
from .flat import flat
from .lines import lines
from .stated import Stated


def load(path: Path, base: Architecture | None = None) -> Description:
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


@dataclass(frozen=True)
class Description(Architecture):
    """An architecture read from a description, which can be changed entry by entry and built anew."""

    def with_(self, changes: Mapping[str, object]) -> Description:
        """Return the chip with entries replaced by dotted key: text with a unit, an SI number, or a list.

        `node` moves it to another technology.

        >>> from wattline.hardware.architectures import architecture
        >>> architecture("zigzag-tpu").with_({"fanout.rows.size": 64}).fanouts[0].size
        64
        """
        changes = dict(changes)
        node = str(changes.pop("node", self.node))
        entries = stated.changed({}, changes)
        made = _build(self.name, self.title, node, follow(self.stated, entries, self.node, node), self.tags)
        return replace(made, base=self.base)

    def scaled(self, key: str, factor: float) -> Description:
        """Return the chip with one number of its description multiplied: for derivatives."""
        made = _build(self.name, self.title, self.node, stated.scaled(self.stated, key, factor), self.tags)
        return replace(made, base=self.base)

    def sheet(self) -> Sheet:
        """Return the chip as a flat sheet of facts, which everything above runs on (`hardware.flat`)."""
        return flat(self)


def _tags(data: Mapping[str, Any], path: Path, where: Mapping[str, int]) -> dict[str, str]:
    """Return the plain text entries beside the name."""
    tags = {}
    for key in stated.TAGS:
        if key in data and key != "name":
            if not isinstance(data[key], str):
                raise InputError(f"{path}, line {where.get(key, 1)}: {key} must be text, got {data[key]!r}")
            tags[key] = data[key]
    return tags


def _build(name: str, title: str, node: str, entries: Mapping[str, Stated], tags: Mapping[str, str]) -> Description:
    made = Builder(name, title, node, entries, tags).architecture()
    return Description(**{field.name: getattr(made, field.name) for field in fields(made)})
