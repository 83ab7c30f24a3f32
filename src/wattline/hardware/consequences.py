"""What moves along when an entry of a chip description is replaced.

    an sram's capacity, width or banks   its energy of an access, leakage and area, where not stated anew
    a memory's generation or stacks      its energy, bandwidth and capacity
    a link's interface or ports          its bandwidth and energy
    the technology node                  arithmetic, srams, wires and areas, each by its own factor

Only ratios of the closed forms are used: a measured or calibrated figure stays the anchor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from . import technology
from .interface import interface
from .memory import UNCERTAINTY, generation, sram_area, sram_energy
from .stated import BY_HAND, Stated
from .technology import cell_area

Entries = Mapping[str, Stated]

# Width of an sram's access where a description states none: the 64 bit of the published tables.
WIDTH: Final = 8.0

# Place of an entry that a closed form supplied; such entries are worked out anew on every build.
DERIVED: Final = "derived"


def derived(level: Entries, kind: str, node: str) -> dict[str, Stated]:
    """Return what follows for a level from its other entries (keys without its name): energy, area, bandwidth."""
    if "memory" in level:
        made, stacks = generation(_word(level, "memory")), _number(level, "stacks", 1.0)
        energy = Stated(8 * made.energy, "J/B", made.sources["energy"], made.uncertainty, DERIVED)
        return {
            "read_energy": energy,
            "write_energy": energy,
            "read_bandwidth": Stated(stacks * made.bandwidth, "B/s", made.sources["bandwidth"], 0.0, DERIVED),
            "capacity": Stated(stacks * made.capacity, "B", made.sources["capacity"], 0.0, DERIVED),
        }
    if kind == "sram" and "capacity" in level:
        source = f"closed form of hardware.memory for {node}"
        energy = Stated(8 * energy_of(level, node), "J/B", source, UNCERTAINTY, DERIVED)
        area = Stated(sram_area(_number(level, "capacity", 0.0), node), "m2", source, UNCERTAINTY, DERIVED)
        return {"read_energy": energy, "write_energy": energy, "area": area}
    return {}


def of_interface(link: Entries) -> dict[str, Stated]:
    """Return what follows for a link from its interface and ports (keys without its name): bandwidth and energy."""
    if "interface" not in link:
        return {}
    made, ports = interface(_word(link, "interface")), _number(link, "ports", 1.0)
    many = f"{ports:g} x {made.title}"
    return {
        "bandwidth": Stated(ports * made.bandwidth, "B/s", f"{many}: {made.sources['bandwidth']}", 0.0, DERIVED),
        "energy": Stated(8 * made.energy, "J/B", made.sources["energy"], made.uncertainty, DERIVED),
    }


def follow(old: Entries, new: Entries, node: str, to_node: str | None = None) -> dict[str, Stated]:
    """Return `old` with `new` over it, and with what follows from the change where `new` does not state it."""
    merged = {**old, **new}
    if to_node is not None and to_node != node:
        merged |= {k: e for k, e in _moved(old, merged, node, to_node) if k not in new}
        node = to_node
    for link in dict.fromkeys(k.split(".")[1] for k in new if k.endswith((".interface", ".ports"))):
        if f"link.{link}.interface" in merged:  # another interface brings its own figures
            for name in ("bandwidth", "energy"):
                if f"link.{link}.{name}" not in new:
                    merged.pop(f"link.{link}.{name}", None)
    for level in dict.fromkeys(k.split(".")[1] for k in new if k.startswith("level.")):
        key = f"level.{level}."
        before = {k.removeprefix(key): e for k, e in old.items() if k.startswith(key)}
        if before:
            after = {k.removeprefix(key): e for k, e in merged.items() if k.startswith(key)}
            for name, entry in _level(before, after, node):
                if key + name not in new:
                    merged[key + name] = entry
    return merged


def _level(old: Entries, new: Entries, node: str) -> Iterator[tuple[str, Stated]]:
    """Yield the entries of one level that follow from its others."""
    if "memory" in new and (_changed("memory", old, new) or _changed("stacks", old, new)):
        yield from _main_memory(old, new)
    elif _word(new, "kind") == "sram" and any(
        k in old and _changed(k, old, new) for k in ("capacity", "width", "banks")
    ):
        yield from _sram(old, new, node)


def _sram(old: Entries, new: Entries, node: str) -> Iterator[tuple[str, Stated]]:
    before, after = _number(old, "capacity", 0.0), _number(new, "capacity", 0.0)
    if before <= 0 or after <= 0:
        return
    energy = energy_of(new, node) / energy_of(old, node)
    area = sram_area(after, node) / sram_area(before, node)
    why = f"; scaled from {old['capacity']} to {new['capacity']} by the closed form of hardware.memory"
    for name, factor in (("read_energy", energy), ("write_energy", energy), ("leakage", area), ("area", area)):
        if name in old:
            yield name, _times(old[name], factor, why)


def energy_of(level: Entries, node: str) -> float:
    """Return the closed form's J/bit of the sram with these entries (keys without the level's name)."""
    return sram_energy(
        _number(level, "capacity", 1.0), _number(level, "width", WIDTH), node, int(_number(level, "banks", 1.0))
    )


def _main_memory(old: Entries, new: Entries) -> Iterator[tuple[str, Stated]]:
    to = generation(_word(new, "memory"))
    stacks = _number(new, "stacks", 1.0)
    for name in ("read_energy", "write_energy"):
        if name in old and "memory" in old:
            before = generation(_word(old, "memory"))
            why = f"; scaled from {before.name} to {to.name} (data/memories.toml)"
            yield name, _times(old[name], to.energy / before.energy, why)
        elif name in old:
            yield name, Stated(8 * to.energy, "J/B", to.sources["energy"], to.uncertainty, BY_HAND)
    for name, value, unit in (
        ("read_bandwidth", to.bandwidth, "B/s"),
        ("write_bandwidth", to.bandwidth, "B/s"),
        ("capacity", to.capacity, "B"),
    ):
        if name in old:
            source = f"{stacks:g} x {to.title}: {to.sources[name.rpartition('_')[2]]}"
            yield name, Stated(stacks * value, unit, source, 0.0, BY_HAND)


def _moved(old: Entries, merged: Entries, node: str, to: str) -> Iterator[tuple[str, Stated]]:
    """Yield every energy and area in another technology node; voltages and clocks stay as stated."""
    area = cell_area(to) / cell_area(node)
    logic = technology.arithmetic(node, to)
    why = f"; scaled from {node} to {to} by hardware.technology"
    for key, entry in old.items():
        group, _, rest = key.partition(".")
        name = rest.rpartition(".")[2]
        if name == "area" or key == "area.other":
            yield key, _times(entry, area, why)
        elif key.startswith("compute.energy.") or key == "vector.energy":
            yield key, _times(entry, logic, why)
        elif group == "fanout" and name in ("energy", "hop_energy"):
            yield key, _times(entry, math.sqrt(area), why)  # shorter wires of the same energy per length
        elif group == "level" and name in ("read_energy", "write_energy"):
            level = rest.partition(".")[0]
            parts = {k.removeprefix(f"level.{level}."): e for k, e in merged.items() if k.startswith(f"level.{level}.")}
            kind = _word(parts, "kind")
            if kind == "sram":
                yield key, _times(entry, energy_of(parts, to) / energy_of(parts, node), why)
            elif kind == "register":
                yield key, _times(entry, logic, why)


def _times(entry: Stated, factor: float, why: str) -> Stated:
    assert isinstance(entry.value, float)
    return replace(entry, value=entry.value * factor, source=entry.source + why)


def _changed(name: str, old: Entries, new: Entries) -> bool:
    return (old[name].value if name in old else None) != (new[name].value if name in new else None)


def _number(entries: Entries, name: str, default: float) -> float:
    value = entries[name].value if name in entries else default
    assert isinstance(value, float)
    return value


def _word(entries: Entries, name: str) -> str:
    value = entries[name].value if name in entries else ""
    assert isinstance(value, str)
    return value
