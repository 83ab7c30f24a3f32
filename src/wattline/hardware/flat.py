"""An architecture as a flat sheet of facts, so that everything that runs on a sheet runs on a description.

Rates, main memory, the first on-chip level, links, power and the voltage curve are read off. The energy of one
operation is its arithmetic and what the levels inside the first on-chip one spend on it when a large product is
blocked as they allow: each level hands its operands to the tile held inside it, so an operand is read once per
tile side. The mapping search (`wattline.source.dataflow`) counts every access; this is its limit for large
products, and carries an uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ..core.errors import InputError
from .architecture import Architecture, Domain, Fanout, Level
from .builder import BYTES
from .facts import Fact, Parts, Sheet, keys, sheet

# The sheet's energy of an operation assumes one blocking for all products; mappings of large products differ by
# about this much (docs/validation-chips.md).
BLOCKING: Final = 0.2


def flat(chip: Architecture) -> Sheet:
    """Return the sheet of a described chip; a description that lacks what a scenario needs says what."""
    known = keys("chip")
    facts: dict[str, Fact] = {}
    for key, (value, source, spread) in _values(chip).items():
        rule = known[key]
        if math.isinf(value):
            raise InputError(f"chip {chip.name}: {source} must be stated to run a scenario on it ({rule.description})")
        if not rule.low <= value <= rule.high:
            raise InputError(
                f"chip {chip.name} is no device for a scenario: {key} would be {Fact(value, rule.unit, '')}, "
                f"outside {Fact(rule.low, rule.unit, '')} to {Fact(rule.high, rule.unit, '')}"
            )
        facts[key] = Fact(value, rule.unit, source, spread)
    tags = {"description": chip.name}
    tags |= {to: chip.tags[of] for of, to in (("family", "architecture"), ("server", "node")) if of in chip.tags}
    sheet_ = sheet("chip", {"name": chip.name}, base=Sheet("chip", chip.name, chip.title, facts, tags))
    # A description that states only what differs is a variant: what was learned of its base is read off there.
    first = flat(chip.base) if chip.base is not None and "family" in chip.tags else None
    return Sheet("chip", chip.name, chip.title, sheet_.facts, tags, chip if isinstance(chip, Parts) else None, first)


Values = dict[str, tuple[float, str, float]]


def _values(chip: Architecture) -> Values:
    """Return sheet key -> (SI value, source, relative uncertainty)."""
    core = chip.domain(chip.compute.domain)
    values = _clocks(core, chip) | _compute(chip, core) | _memories(chip) | _links(chip) | _power(chip)
    launch = _stated(chip, "overhead.launch", 0.0)
    values["overhead.launch"] = (launch, *_origin(chip, "overhead.launch", "none stated in the description"))
    if chip.area:
        values["area.die"] = (chip.area, "sum of the description's parts", 0.0)
    return values


def _clocks(core: Domain, chip: Architecture) -> Values:
    why = chip.sources.get(f"domain.{core.name}.clock", "the description")
    volt = chip.sources.get(f"domain.{core.name}.voltage", "the description")
    floor = [f for f, v in zip(core.clock, core.voltage, strict=True) if v == core.voltage[0]]
    return {
        "clock.min": (core.clock[0], why, 0.0),
        "clock.max": (core.clock[-1], why, 0.0),
        "clock.reference": (core.reference_clock, why, 0.0),
        "voltage.min": (core.voltage[0], volt, 0.0),
        "voltage.max": (core.voltage[-1], volt, 0.0),
        "voltage.knee": (floor[-1], volt, 0.0),
        "voltage.reference": (core.reference_voltage, volt, 0.0),
    }


def _compute(chip: Architecture, core: Domain) -> Values:
    values: Values = {}
    copies = chip.copies(chip.compute)
    known = keys("chip")
    for precision, macs in chip.compute.macs_per_cycle.items():
        if f"compute.rate.{precision}" not in known:
            continue
        rate = 2 * macs * copies * core.reference_clock
        each = chip.compute.energy[precision] / 2 + inside(chip, precision) / 2
        values[f"compute.rate.{precision}"] = (rate, f"{copies} x {macs:g} MAC a cycle", 0.0)
        values[f"compute.energy.{precision}"] = (
            each,
            "arithmetic and inner levels, blocked for large products",
            BLOCKING,
        )
    if "compute.rate.fp32" not in values:
        origin = _origin(chip, "vector.ops_per_second", "one operation per MAC")
        values["compute.rate.fp32"] = (chip.vector.ops_per_second, *origin)
        values["compute.energy.fp32"] = (chip.vector.energy, *_origin(chip, "vector.energy", origin[0]))
    values["compute.units"] = (float(units(chip)), "copies of the innermost sram", 0.0)
    return values


def units(chip: Architecture) -> int:
    """Return over how many places tiles are dealt: the copies of the innermost level that is an sram."""
    srams = [level for level in chip.levels[1:] if level.kind == "sram"]
    return chip.copies(srams[-1]) if srams else 1


def _memories(chip: Architecture) -> Values:
    main = chip.levels[0]
    if len(chip.levels) < 2:
        raise InputError(f"chip {chip.name} has no level between main memory and arithmetic; a scenario needs one")
    cache = chip.levels[1]
    reach = sum(p.energy for p in _between(chip, cache))
    spent = 8 * ((cache.read_energy + cache.write_energy) / 2 + reach)
    most = keys("chip")["memory.l2.bandwidth"].high  # where it is never a limit
    rate = min(chip.copies(cache) * cache.read_bandwidth, most)
    return {
        "memory.hbm.capacity": (main.capacity, *_stated_of(chip, main, "capacity")),
        "memory.hbm.bandwidth": (main.read_bandwidth, *_stated_of(chip, main, "read_bandwidth")),
        "memory.hbm.energy": (4 * (main.read_energy + main.write_energy), *_stated_of(chip, main, "read_energy")),
        "memory.l2.capacity": (chip.copies(cache) * cache.capacity, *_stated_of(chip, cache, "capacity")),
        "memory.l2.bandwidth": (rate, *_stated_of(chip, cache, "read_bandwidth")),
        "memory.l2.energy": (spent, *_stated_of(chip, cache, "read_energy")),
    }


def _between(chip: Architecture, level: Level) -> list[Fanout]:
    """Return the fan-outs between a level and the next one inside it."""
    found = []
    for part in chip.path[chip.path.index(level) + 1 :]:
        if isinstance(part, Level):
            break
        found.append(part)
    return found


def _links(chip: Architecture) -> Values:
    values: Values = {"link.pcie.bandwidth": (0.0, "no host link in the description", 0.0)}
    for link in chip.links:
        name = "pcie" if link.name == "pcie" else "nvlink"
        for what, value in (
            ("bandwidth", link.bandwidth),
            ("energy", 8 * link.energy * link.hops),
            ("latency", link.latency * link.hops),
        ):
            values[f"link.{name}.{what}"] = (value, *_origin(chip, f"link.{link.name}.{what}", "the description"))
    return values


def _power(chip: Architecture) -> Values:
    gated = {d.name: d.gated for d in chip.domains}
    waiting = chip.constant_power + sum((1 - gated[d.name]) * (d.leakage + d.clock_tree) for d in chip.domains)
    leakage = sum(gated[d.name] * d.leakage for d in chip.domains)
    tree = sum(gated[d.name] * d.clock_tree for d in chip.domains)
    core = f"domain.{chip.compute.domain}"
    values = {
        "power.limit": (chip.power_limit, *_origin(chip, "power.limit", "power.limit")),
        "power.idle": (min(chip.idle_power, waiting), *_origin(chip, "power.idle", "what is not gated")),
        "power.waiting": (waiting, *_origin(chip, "power.constant", "what is not gated")),
        "power.leakage": (leakage, *_origin(chip, f"{core}.leakage", "leakage that is gated while waiting")),
        "power.clock_tree": (tree, *_origin(chip, f"{core}.clock_tree", "clocks that are gated while waiting")),
    }
    if "power.limit_min" in chip.stated:
        values["power.limit_min"] = (_stated(chip, "power.limit_min", 0.0), *_origin(chip, "power.limit_min", ""))
    return values


def _stated(chip: Architecture, key: str, default: float) -> float:
    entry = chip.stated.get(key)
    return float(entry.value) if entry is not None and isinstance(entry.value, float) else default


def _stated_of(chip: Architecture, level: Level, what: str) -> tuple[str, float]:
    """Return source and uncertainty of an entry of a level; its key where the description does not state it."""
    return _origin(chip, f"level.{level.name}.{what}", f"level.{level.name}.{what}")


def _origin(chip: Architecture, key: str, otherwise: str) -> tuple[str, float]:
    """Return source and uncertainty of an entry."""
    entry = chip.stated.get(key)
    return (entry.source or otherwise, entry.uncertainty) if entry is not None else (otherwise, 0.0)


def inside(chip: Architecture, precision: str) -> float:
    """Return J per MAC of the levels inside the first on-chip one, for a product blocked as they allow."""
    total = 0.0
    parts = chip.path[chip.path.index(chip.levels[1]) + 1 :]
    bits = 8 * BYTES[precision]
    sums = 8 * chip.compute.accumulator.get(precision, 4.0)
    for place, part in enumerate(parts):
        if not isinstance(part, Level):
            continue
        words = words_per_mac(chip, parts[place + 1 :], precision)
        wires = sum(p.energy for p in _between(chip, part))
        for operand in part.holds:
            reads, writes = words[operand]
            width = sums if operand == "c" else bits
            total += width * (reads * (part.read_energy + wires) + writes * (part.write_energy + wires))
    return total


def words_per_mac(
    chip: Architecture, parts: tuple[Level | Fanout, ...], precision: str
) -> Mapping[str, tuple[float, float]]:
    """Return operand -> (reads, writes) per MAC that what lies inside (`parts`) asks of the level around it.

    The tile inside grows from one issue of the arithmetic outwards: over fan-outs that share an operand, and to
    the capacity of a level that keeps partial sums. What a level inside keeps for the whole product is not asked.
    """
    m, n, k = (float(v) for v in chip.compute.granule)
    kept: set[str] = set()
    for part in reversed(parts):
        if isinstance(part, Fanout):
            if part.dims == ("n",) and "a" in part.multicast:
                n *= part.size
            elif part.dims == ("m",) and "b" in part.multicast:
                m *= part.size
            elif part.dims == ("k",) and part.reduce:
                k *= part.size
        elif "c" in part.holds and "c" not in kept:
            room = part.capacity / (2 if part.double_buffered else 1) / chip.compute.accumulator.get(precision, 4.0)
            if len(part.holds) > 1:
                room /= 2  # the other operands want space too
            grow = max(1.0, math.sqrt(room / (m * n)))
            m, n = m * grow, n * grow
            kept.add("c")
        elif part.holds == ("b",):
            kept.add("b")
    sums = 0.0 if "c" in kept else 1 / k
    return {"a": (1 / n, 0.0), "b": (0.0 if "b" in kept else 1 / m, 0.0), "c": (sums, sums)}
