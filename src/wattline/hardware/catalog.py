"""The catalog: chips, nodes, racks and sites by name, each a TOML file of facts with sources.

>>> chip("H100").name, node("dgx-h100").name
('h100-sxm', 'hgx-h100')

A name ending in ``.toml`` is a file of the user's own. It may state ``base = "h100-sxm"`` and then
only what differs. Nothing is read before it is asked for, and a shipped file is read once.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..core import plugins
from ..core.errors import InputError, nearest
from ..core.toml_text import read_toml
from . import architectures
from .facts import KINDS, Sheet, load

_DATA: Final = Path(__file__).parent / "data"


def chip(name: str) -> Sheet:
    """Return the chip called `name`: a catalog name, an alias, a file, as a driver prints it, or that of an instance.

    >>> chip("NVIDIA H100 80GB HBM3").name, chip("p5.48xlarge").name
    ('h100-sxm', 'h100-sxm')
    """
    if found := instance(name):
        return _find("chip", found.chip)
    plain = name.endswith(".toml") or name in names("chip")  # no need to read every chip for its aliases
    word = None if plain else _device_word(name)
    return _find("chip", word or name)


class Instance(NamedTuple):
    """A cloud instance: its name, the chip in it, how many of them."""

    name: str
    chip: str
    chips: int


def instance(name: str) -> Instance | None:
    """Return the cloud instance called `name`, None where none is. Prices are the reader's to state."""
    return _instances().get(name.strip().lower())


@functools.cache
def _instances() -> Mapping[str, Instance]:
    """Lower-case name -> instance; makers' pages of instance types say what is in them (column `source`)."""
    with (_DATA / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = [Instance(row["instance"], row["chip"], int(row["count"])) for row in csv.DictReader(file)]
    return {row.name.lower(): row for row in rows}


# Words of a driver's name for a device that say nothing of which chip it is.
_MAKERS: Final = (
    "nvidia",
    "amd",
    "tesla",
    "instinct",
    "geforce",
    "graphics",
    "gpu",
    "google",
    "aws",
    "intel",
    "habana",
)
# Words of the end that may be dropped: memory and its kind, the card's form where the die has no other. Others name
# another
# board of the same die, with another power limit (PCIe, NVL, Ti, Laptop).
_IDLE_WORD: Final = re.compile(r"\d+gb|hbm\d?\w?|gddr\d\w?|oam|ac|server|edition|blackwell|accelerator|sxm\d?")
# Sockets as drivers number them: SXM4 of an A100, SXM5 of an H100, SXM6 of a B200.
_SOCKET: Final = re.compile(r"sxm\d")


def device(name: str) -> Sheet:
    """Return the chip of a device's name as its driver prints it; the same as `chip`.

    >>> device("NVIDIA H100 80GB HBM3").name, device("A100-SXM4-40GB").name
    ('h100-sxm', 'a100-sxm-40gb')
    """
    return chip(name)


def _device_word(name: str) -> str | None:
    """Return the catalog's word for a device's name as its driver prints it, None where it has none.

    Words of the end that no alias has (memory, its kind) are dropped one by one.
    """
    words = [w for w in re.split(r"[\s_-]+", name.strip().lower()) if w and w not in _MAKERS]
    known = {*names("chip"), *aliases("chip")}
    for many in range(len(words), 0, -1):
        if not all(map(_IDLE_WORD.fullmatch, words[many:])):
            return None
        whole = "-".join(words[:many])
        for word in (whole, _SOCKET.sub("sxm", whole)):
            if word in known and _holds(_find("chip", word), words[many:]):
                return word
    return None


def _holds(found: Sheet, dropped: list[str]) -> bool:
    """Whether a chip has the memory that the dropped words state, if they state one."""
    sizes = [float(m[1]) * 1e9 for m in map(re.compile(r"(\d+)gb").fullmatch, dropped) if m]
    return all(abs(found["memory.hbm.capacity"] / size - 1) < 0.15 for size in sizes)


def node(name: str) -> Sheet:
    """Return the node (a server and its adapters) called `name`, or the one in a file."""
    return _find("node", name)


def rack(name: str) -> Sheet:
    """Return the rack called `name`, or the one in a file."""
    return _find("rack", name)


def site(name: str) -> Sheet:
    """Return the site (its PUE and network) called `name`, or the one in a file."""
    return _find("site", name)


def default_node(chip: Sheet) -> Sheet:
    """Return the node a chip usually sits in: the catalog's ``node`` tag of the chip."""
    if "node" not in chip.tags:
        known = nearest(chip.name, names("node"))
        raise InputError(f"chip {chip.name} names no node to sit in; state a node, {known}")
    return node(chip.tags["node"])


@functools.cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of all shipped sheets of `kind` ("chip", "node", "rack", "site"), sorted."""
    if kind not in KINDS:
        raise InputError(f"hardware kind {kind!r} is not known; {nearest(kind, KINDS)}")
    return tuple(sorted(path.stem for path in (_DATA / f"{kind}s").glob("*.toml")))


@functools.cache
def aliases(kind: str) -> Mapping[str, str]:
    """Return alias -> name for all shipped sheets of `kind`; reads every file of the kind."""
    return {
        alias.strip(): name
        for name in names(kind)
        for alias in _shipped(kind, name).tags.get("aliases", "").split(",")
        if alias.strip()
    }


def _find(kind: str, name: str, beside: Path | None = None, seen: tuple[Path, ...] = ()) -> Sheet:
    if name.endswith(".toml"):
        return _file(kind, (beside or Path()) / Path(name).expanduser(), seen)
    word = name.strip().lower().replace("_", "-").replace(" ", "-")
    if kind == "chip" and word not in names(kind) and word in _added():
        return _file(kind, _added()[word], seen)
    if word not in names(kind):
        known = aliases(kind)
        if kind == "chip" and word not in known and word in architectures.names():
            return architectures.architecture(word).sheet()
        if word not in known:
            hint = nearest(word, [*names(kind), *known] if _close(word, kind) else names(kind))
            raise InputError(f"{kind} {name!r} is not in the catalog; {hint}")
        word = known[word]
    return _shipped(kind, word)


@functools.cache
def _added() -> Mapping[str, Path]:
    """Return name -> file of the chips that other packages add (`core.plugins`, group `wattline.chips`)."""
    folders = [Path(plugins.load("wattline.chips", name)) for name in plugins.named("wattline.chips")]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _close(word: str, kind: str) -> bool:
    """Say whether some name or alias is close enough to be offered instead."""
    return nearest(word, [*names(kind), *aliases(kind)]).startswith("did you mean")


@functools.cache
def _shipped(kind: str, name: str) -> Sheet:
    return load(kind, _DATA / f"{kind}s" / f"{name}.toml")


def _file(kind: str, path: Path, seen: tuple[Path, ...]) -> Sheet:
    """Read a user's own file on top of the sheet its ``base`` names, if any."""
    path = path.resolve()
    if path in seen:
        raise InputError(f"{path}: base leads back to the file itself; name a sheet of the catalog")
    if kind == "chip" and architectures.describes(path):
        return architectures.architecture(str(path)).sheet()
    base = read_toml(path).get("base")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: base must be the name of a {kind}, got {base!r}")
    return load(kind, path, base=_find(kind, base, path.parent, (*seen, path)) if base else None)
