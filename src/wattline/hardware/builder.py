"""Entries of a chip description become parts: each rule is checked here, and an error says where the entry stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final, TypeVar

from ..core.errors import InputError, nearest
from . import technology
from .architecture import (
    DOMAIN_KINDS,
    OPERANDS,
    Architecture,
    Compute,
    Domain,
    Fanout,
    Level,
    Link,
    Sparsity,
    Vector,
)
from .consequences import DERIVED, derived, of_interface
from .sparsity import checked
from .stated import Stated, rule

T = TypeVar("T")

KINDS: Final = ("systolic", "tensor", "vector", "near_memory")
LEVEL_KINDS: Final = ("sram", "dram", "register", "other")
DIMS: Final = ("m", "n", "k", "batch", "p", "q", "r", "s", "c")
# Bytes of one value. Narrower types than a byte are packed.
BYTES: Final = {
    "fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "fp4": 0.5,
    "int16": 2.0, "int8": 1.0, "int4": 0.5,
}  # fmt: skip


class Builder:
    """Makes the parts of one chip from its entries, and says what does not fit where it stands."""

    def __init__(
        self, name: str, title: str, node: str, entries: Mapping[str, Stated], tags: Mapping[str, str]
    ) -> None:
        self.name, self.title, self.node, self.tags = name, title, node, tags
        self.entries = {key: entry for key, entry in entries.items() if entry.place != DERIVED}

    # ---- reading entries ----

    def fail(self, key: str, message: str) -> InputError:
        """Return the error for `key`: where it stands, the key, and the rule that it breaks."""
        entry = self.entries.get(key)
        if entry is None:
            inside = [e for k, e in self.entries.items() if k.startswith(key.rpartition(".")[0] + ".")]
            entry = inside[0] if inside else next(iter(self.entries.values()), None)
        place = entry.place if entry else ""
        return InputError(f"{place}: {key} {message}" if place else f"chip {self.name}: {key} {message}")

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number in SI."""
        entry = self.entries.get(key)
        if entry is None:
            if default is None:
                raise self.fail(key, f"is not stated; {rule(key).description[0].lower()}{rule(key).description[1:]}")
            return default
        assert isinstance(entry.value, float)
        return entry.value

    def count(self, key: str, default: int | None = None) -> int:
        """Return a whole number."""
        value = self.number(key, None if default is None else float(default))
        if value != int(value):
            raise self.fail(key, f"must be a whole number, got {value:g}")
        return int(value)

    def get(self, key: str, kind: type[T], default: T) -> T:
        """Return a word, flag or list, or `default` where not stated."""
        entry = self.entries.get(key)
        if entry is None:
            return default
        assert isinstance(entry.value, kind)
        return entry.value

    def chosen(self, key: str, known: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of names, each of `known`."""
        words = self.get(key, tuple, default)
        for word in words:
            if word not in known:
                raise self.fail(key, f"names {word!r}; {nearest(word, known)}")
        return words

    def one_of(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        """Return a word of `known`."""
        word = self.get(key, str, default) if default is not None else self.get(key, str, "")
        if word not in known:
            if not word:
                raise self.fail(key, f"is not stated; {nearest('', known)}")
            raise self.fail(key, f"is {word!r}; {nearest(word, known)}")
        return word

    def names(self, group: str) -> list[str]:
        """Return the names under a group such as "level", in the order of the file."""
        return list(dict.fromkeys(k.split(".")[1] for k in self.entries if k.startswith(group + ".")))

    def table(self, prefix: str) -> dict[str, float]:
        """Return precision -> number of the keys under `prefix`."""
        found = {k.removeprefix(prefix + "."): self.number(k) for k in self.entries if k.startswith(prefix + ".")}
        for precision in found:
            if precision not in BYTES:
                raise self.fail(
                    f"{prefix}.{precision}", f"names a precision that is not known; {nearest(precision, BYTES)}"
                )
        return found

    # ---- parts ----

    def architecture(self) -> Architecture:
        """Return the chip."""
        self.domains = {name: self.domain(name) for name in self.names("domain")}
        if not self.domains:
            raise self.fail("domain", "must be stated: a chip has at least one voltage domain, e.g. [domain.core]")
        compute = self.compute()
        path = self.path(compute)
        links = tuple(self.link(name) for name in self.names("link"))
        chip = Architecture(
            self.name,
            self.title,
            self.node,
            tuple(self.domains.values()),
            path,
            compute,
            self.vector(compute, path),
            links,
            self.number("power.constant", 0.0),
            0.0,
            self.number("power.limit", math.inf),
            0.0,
            self.number("overlap.exponent", math.inf),
            self.sparsity(),
            dict(self.tags),
            {key: entry.source for key, entry in self.entries.items() if entry.source},
            self.entries,
        )
        return self.totals(chip)

    def totals(self, chip: Architecture) -> Architecture:
        """Return the chip with the leakage of parts in their domains, its idle power and its area."""
        parts: list[Level | Compute] = [*chip.levels, chip.compute]
        domains = []
        for domain in chip.domains:
            leakage = domain.leakage + sum(chip.copies(p) * p.leakage for p in parts if p.domain == domain.name)
            domains.append(replace(domain, leakage=leakage))
        standing = sum((1 - d.gated) * (d.leakage + d.clock_tree) for d in domains)
        idle = self.number("power.idle", chip.constant_power + standing)
        parts_area = sum(chip.copies(p) * p.area for p in parts)
        entries = dict(self.entries)
        if "area.die" in entries:
            other = self.number("area.die") - parts_area
            if other < 0:
                raise self.fail("area.die", f"is less than its parts together, {parts_area / 1e-6:.4g} mm2")
            entries["area.other"] = replace(entries.pop("area.die"), value=other)
        area = parts_area + (entries["area.other"].value if "area.other" in entries else 0.0)  # type: ignore[operator]
        return replace(chip, domains=tuple(domains), idle_power=idle, area=area, stated=entries)

    def domain(self, name: str) -> Domain:
        """Return one voltage domain; its curve must rise."""
        key = f"domain.{name}"
        kind = self.one_of(f"{key}.kind", DOMAIN_KINDS)
        clock, voltage = (self.get(f"{key}.{what}", tuple, ()) for what in ("clock", "voltage"))
        for what, values in (("clock", clock), ("voltage", voltage)):
            if not values:
                raise self.fail(f"{key}.{what}", "is not stated; a domain has a V-f curve of at least one point")
        if len(clock) != len(voltage):
            raise self.fail(
                f"{key}.voltage", f"must have one value per clock, got {len(voltage)} for {len(clock)} clocks"
            )
        if any(b <= a for a, b in pairwise(clock)):
            raise self.fail(f"{key}.clock", f"must rise from point to point, got {self.entries[f'{key}.clock']}")
        if any(b < a for a, b in pairwise(voltage)):
            raise self.fail(f"{key}.voltage", f"must not fall as the clock rises, got {self.entries[f'{key}.voltage']}")
        if kind == "fixed" and len(clock) > 1:
            raise self.fail(f"{key}.clock", f"must be one clock in a fixed domain, got {len(clock)}")
        reference, volts = self.reference(key, clock, voltage)
        follows = self.get(f"{key}.follows", str, "")
        if follows and follows not in self.names("domain"):
            raise self.fail(f"{key}.follows", f"names {follows!r}; {nearest(follows, self.names('domain'))}")
        return Domain(
            name, kind, clock, voltage, reference, volts,
            self.number(f"{key}.leakage", 0.0), self.number(f"{key}.clock_tree", 0.0),
            self.number(f"{key}.gated", 0.0), self.number(f"{key}.switch_latency", 0.0),
            self.count(f"{key}.clusters", 1), follows,
            self.number(f"{key}.leakage_voltage", volts / 2), self.number(f"{key}.leakage_temperature", 40.0),
            self.number(f"{key}.reference_temperature", 338.0), self.energy_curve(key),
        )  # fmt: skip

    def reference(self, key: str, clock: tuple[float, ...], voltage: tuple[float, ...]) -> tuple[float, float]:
        """Return the clock and voltage of stated rates and energies; both stay when the curve is replaced later."""
        reference = self.number(f"{key}.reference_clock", clock[-1])
        if f"{key}.reference_voltage" not in self.entries and not clock[0] <= reference <= clock[-1]:
            raise self.fail(f"{key}.reference_clock", f"must lie on the curve, {self.entries[f'{key}.clock']}")
        volts = self.number(f"{key}.reference_voltage", _interpolated(reference, clock, voltage))
        for what, value, unit in (("clock", reference, "Hz"), ("voltage", volts, "V")):
            curve = self.entries[f"{key}.{what}"]
            pinned = Stated(value, unit, f"the curve as first stated: {curve.source}", curve.uncertainty, curve.place)
            self.entries.setdefault(f"{key}.reference_{what}", pinned)
        return reference, volts

    def energy_curve(self, key: str) -> tuple[float, float, float]:
        """Return how switched energy follows the voltage of a domain."""
        law = self.one_of(f"{key}.energy_law", ("square", "technology"), "square")
        return technology.polynomial(self.node) if law == "technology" else (1.0, 0.0, 0.0)

    def in_domain(self, key: str) -> str:
        """Return the domain of a part: the one it names, or the only one."""
        if f"{key}.domain" not in self.entries and len(self.domains) == 1:
            return next(iter(self.domains))
        return self.one_of(f"{key}.domain", tuple(self.domains))

    def rate(self, key: str, domain: str, default: float) -> float:
        """Return a bandwidth (B/s at the reference clock), which must not be zero."""
        entry = self.entries.get(key)
        if entry is None:
            return default
        value = self.number(key) * (self.domains[domain].reference_clock if entry.unit == "B/cycle" else 1.0)
        if value <= 0:
            raise self.fail(key, "must be above 0, got 0 B/s; leave it out where it is never a limit")
        return value

    def compute(self) -> Compute:
        """Return the arithmetic of one innermost copy."""
        macs, energy = self.table("compute.macs_per_cycle"), self.table("compute.energy")
        if not macs:
            raise self.fail(
                "compute.macs_per_cycle", "must be stated for at least one precision, e.g. macs_per_cycle.int8"
            )
        for precision in macs:
            if precision not in energy:
                raise self.fail(f"compute.macs_per_cycle.{precision}", f"has no compute.energy.{precision} beside it")
            if macs[precision] <= 0:
                raise self.fail(f"compute.macs_per_cycle.{precision}", "must be above 0, got 0")
        granule = tuple(int(v) for v in self.get("compute.granule", tuple, (1.0, 1.0, 1.0)))
        if len(granule) != 3:
            raise self.fail("compute.granule", f"must be m, n, k, got {len(granule)} values")
        return Compute(
            "compute", self.in_domain("compute"), self.one_of("compute.kind", KINDS), macs,
            {p: 2 * energy[p] for p in macs}, granule, self.number("compute.pipeline", 0.0),
            self.number("compute.area", 0.0), self.table("compute.accumulator"), self.number("compute.leakage", 0.0),
            self.chosen("compute.latched", OPERANDS, ()),
        )  # fmt: skip

    def path(self, compute: Compute) -> tuple[Level | Fanout, ...]:
        """Return the levels and fan-outs in order; every one is on the path once."""
        order = self.get("path", tuple, ())
        if not order:
            raise self.fail(
                "path", 'must list the levels and fan-outs, outermost first, e.g. ["dram", "cores", "buffer"]'
            )
        level, fanout = self.names("level"), self.names("fanout")
        for name in order:
            if order.count(name) > 1:
                raise self.fail("path", f"lists {name!r} more than once")
            if name not in level and name not in fanout:
                raise self.fail(
                    "path", f"lists {name!r}, which is neither a level nor a fan-out; {nearest(name, level + fanout)}"
                )
        for group, known in (("level", level), ("fanout", fanout)):
            for name in known:
                if name not in order:
                    raise self.fail(f"{group}.{name}", "is not on the path; add it there, outermost first")
        if order[0] not in level:
            raise self.fail("path", f"must begin with a level that holds everything, got the fan-out {order[0]!r}")
        parts = tuple(self.level(n, compute) if n in level else self.fanout(n) for n in order)
        outer = parts[0]
        assert isinstance(outer, Level)
        if set(outer.holds) != set(OPERANDS) or outer.optional:
            raise self.fail(f"level.{outer.name}.holds", "must be all of a, b, c in the outermost level, none optional")
        return parts

    def level(self, name: str, compute: Compute) -> Level:
        """Return one storage level, large enough for the values of one issue of the arithmetic."""
        key = f"level.{name}"
        domain = self.in_domain(key)
        holds = self.chosen(f"{key}.holds", OPERANDS, OPERANDS)
        optional = self.chosen(f"{key}.optional", holds, ())
        if not holds:
            raise self.fail(f"{key}.holds", "must name at least one of a, b, c")
        kind = self.one_of(f"{key}.kind", LEVEL_KINDS, "other")
        self.derive(key, kind)
        read_bandwidth = self.rate(f"{key}.read_bandwidth", domain, math.inf)
        level = Level(
            name, domain, holds, optional, self.number(f"{key}.capacity", math.inf), read_bandwidth,
            self.rate(f"{key}.write_bandwidth", domain, read_bandwidth), self.get(f"{key}.shared_port", bool, True),
            self.number(f"{key}.read_energy", 0.0) / 8, self.number(f"{key}.write_energy", 0.0) / 8,
            self.get(f"{key}.double_buffered", bool, False), self.count(f"{key}.banks", 1),
            self.number(f"{key}.area", 0.0), kind,
            self.number(f"{key}.width", 0.0), self.number(f"{key}.leakage", 0.0),
        )  # fmt: skip
        smallest = smallest_tile(level, compute)
        if level.capacity < smallest:
            raise self.fail(
                f"{key}.capacity",
                f"must hold one issue of the arithmetic, {smallest:g} B of {', '.join(holds)}"
                f"{' twice (double_buffered)' if level.double_buffered else ''}, got {level.capacity:g} B",
            )
        return level

    def derive(self, key: str, kind: str) -> None:
        """Add what the closed forms say of a level and its description leaves out."""
        stated = {k.removeprefix(key + "."): e for k, e in self.entries.items() if k.startswith(key + ".")}
        try:
            found = derived(stated, kind, self.node)
        except InputError as error:
            raise self.fail(
                f"{key}.{'memory' if 'memory' in stated else 'capacity'}", f"cannot be used: {error}"
            ) from None
        for name, entry in found.items():
            self.entries.setdefault(f"{key}.{name}", entry)

    def fanout(self, name: str) -> Fanout:
        """Return one fan-out; energy is stated whole or per hop."""
        key = f"fanout.{name}"
        if f"{key}.energy" in self.entries and f"{key}.hop_energy" in self.entries:
            raise self.fail(f"{key}.energy", "is stated twice: whole and per hop; keep one")
        energy = self.number(f"{key}.energy", self.number(f"{key}.hop_energy", 0.0) * self.number(f"{key}.hops", 1.0))
        return Fanout(
            name, self.count(f"{key}.size"), self.in_domain(key), self.chosen(f"{key}.dims", DIMS, ("m", "n", "k")),
            self.chosen(f"{key}.multicast", OPERANDS, ("a", "b")), self.get(f"{key}.reduce", bool, True), energy / 8,
            self.get(f"{key}.dealt", bool, False),
        )  # fmt: skip

    def vector(self, compute: Compute, path: tuple[Level | Fanout, ...]) -> Vector:
        """Return the elementwise units; where none are stated the arithmetic does one operation per MAC."""
        if any(k.startswith("vector.") for k in self.entries):
            domain = self.in_domain("vector")
            rate = self.rate("vector.ops_per_second", domain, 0.0)
            if not rate:
                raise self.fail("vector.ops_per_second", "is not stated; say how many elementwise operations a second")
            return Vector(domain, rate, self.number("vector.energy", 0.0))
        copies = math.prod(p.size for p in path if isinstance(p, Fanout))
        precision = max(compute.macs_per_cycle, key=lambda p: BYTES[p])
        clock = self.domains[compute.domain].reference_clock
        return Vector(compute.domain, copies * compute.macs_per_cycle[precision] * clock, compute.energy[precision])

    def sparsity(self) -> Sparsity:
        """Return what the chip does with zeros."""
        rule = Sparsity(
            self.get("sparsity.zeros", str, ""), self.get("sparsity.noticed", tuple, ()),
            self.number("sparsity.balance", 1.0), self.get("sparsity.structured", str, ""),
            self.get("sparsity.codec", str, ""), self.get("sparsity.stored", tuple, ()),
        )  # fmt: skip
        wrong = checked(rule)
        if wrong:
            key, _, message = wrong.partition(" ")
            raise self.fail(f"sparsity.{key}", message)
        return rule

    def joined(self, key: str) -> None:
        """Add what the interface of a link says and its description leaves out."""
        stated = {k.removeprefix(key + "."): e for k, e in self.entries.items() if k.startswith(key + ".")}
        try:
            found = of_interface(stated)
        except InputError as error:
            raise self.fail(f"{key}.interface", f"cannot be used: {error}") from None
        for name, entry in found.items():
            self.entries.setdefault(f"{key}.{name}", entry)

    def link(self, name: str) -> Link:
        """Return one link to other chips."""
        key = f"link.{name}"
        self.joined(key)
        domain = self.in_domain(key)
        return Link(
            name, domain, self.rate(f"{key}.bandwidth", domain, 0.0), self.number(f"{key}.energy") / 8,
            self.number(f"{key}.latency", 0.0), self.number(f"{key}.hops", 1.0),
        )  # fmt: skip


def smallest_tile(level: Level, compute: Compute) -> float:
    """Return the bytes a level needs for one issue of the arithmetic in its narrowest precision."""
    m, n, k = compute.granule
    values = {"a": m * k, "b": k * n, "c": m * n}
    each = min(BYTES[p] for p in compute.macs_per_cycle)
    return sum(values[o] for o in level.holds) * each * (2 if level.double_buffered else 1)


def _interpolated(x: float, xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    """Return the straight line between points at `x`, held at either end."""
    for (x0, y0), (x1, y1) in pairwise(zip(xs, ys, strict=True)):
        if x <= x1:
            return y0 + (y1 - y0) * max(0.0, (x - x0) / (x1 - x0))
    return ys[-1]
