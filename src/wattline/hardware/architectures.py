"""Chip descriptions by name: the shipped ones under ``data/architectures``, or a TOML file of the user's own.

>>> architecture("zigzag-tpu").compute.macs_per_cycle
{'int8': 1.0}

A file may state ``base = "zigzag-tpu"`` and then only what differs. A shipped file is read once.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from ..core.errors import InputError, nearest
from ..core.toml_text import read_toml
from .description import Description, load

_DATA: Final = Path(__file__).parent / "data" / "architectures"


def architecture(name: str) -> Description:
    """Return the chip description called `name`, or the one in the file `name` (ending in ``.toml``)."""
    return _find(name)


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of all shipped descriptions, sorted."""
    return tuple(sorted(path.stem for path in _DATA.glob("*.toml")))


def describes(path: Path) -> bool:
    """Say whether a TOML file is a chip description and not a sheet of facts: it has a path, or its base has."""
    seen: set[Path] = set()
    while path not in seen:
        seen.add(path)
        data = read_toml(path)
        base = data.get("base")
        if "path" in data or not isinstance(base, str):
            return "path" in data
        if not base.endswith(".toml"):
            return base in names()
        path = (path.parent / Path(base).expanduser()).resolve()
    return False


def _find(name: str, beside: Path | None = None, seen: tuple[Path, ...] = ()) -> Description:
    if name.endswith(".toml"):
        return _file((beside or Path()) / Path(name).expanduser(), seen)
    word = name.strip().lower().replace("_", "-").replace(" ", "-")
    if word not in names():
        raise InputError(f"chip description {name!r} is not in the catalog; {nearest(word, names())}")
    return _shipped(word)


@functools.cache
def _shipped(name: str) -> Description:
    return _file(_DATA / f"{name}.toml", ())


def _file(path: Path, seen: tuple[Path, ...]) -> Description:
    """Read a description on top of the one its ``base`` names, if any."""
    path = path.resolve()
    if path in seen:
        raise InputError(f"{path}: base leads back to the file itself; name a description of the catalog")
    base = read_toml(path).get("base")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: base must be the name of a chip description, got {base!r}")
    return load(path, _find(base, path.parent, (*seen, path)) if base else None)
