"""Links between dies, chips and boards as parts: bytes a port sends a second, and joules of a bit.

A description of a chip names one (``interface = "ucie-advanced"``) and how many ports; what it states itself stands.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from ..core.errors import InputError, nearest
from ..core.units import parse


@dataclass(frozen=True, slots=True)
class Interface:
    """One kind of link: `energy` J/bit from end to end, `bandwidth` B/s of one port each way.

    sources : of both. uncertainty : relative, of the energy.
    """

    name: str
    title: str
    energy: float
    bandwidth: float
    sources: Mapping[str, str]
    uncertainty: float


@functools.cache
def interfaces() -> Mapping[str, Interface]:
    """Return all kinds by name, from ``data/interfaces.toml``."""
    text = (resources.files("wattline.hardware") / "data" / "interfaces.toml").read_text("utf-8")
    return {
        name: Interface(
            name,
            row["title"],
            parse(row["energy"][0], "J/B") / 8,
            parse(row["bandwidth"][0], "B/s"),
            {key: row[key][1] for key in ("energy", "bandwidth")},
            parse(row["energy"][2], ""),
        )
        for name, row in tomllib.loads(text).items()
    }


def interface(name: str) -> Interface:
    """Return one kind, such as "ucie-advanced".

    >>> interface("ucie-advanced").energy < interface("nvlink-c2c").energy < interface("optics-pluggable").energy
    True
    """
    known = interfaces()
    if name not in known:
        raise InputError(f"interface {name!r} is not known; {nearest(name, known)}")
    return known[name]
