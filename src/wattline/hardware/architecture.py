"""What a chip is made of: storage levels, the fan-out between them, arithmetic, links and voltage domains.

A sheet of facts (`facts`) says what a chip reaches; an architecture says why, so that it can be changed.
It is one path from main memory to the arithmetic, outermost first:

    Level(hbm) -> Fanout(cores) -> Level(buffer) -> Fanout(rows) -> Fanout(columns) -> Level(register) -> Compute

A `Level` keeps some of the operands of a product `c += a * b`; a `Fanout` copies everything inside it, and
says which loops may run across the copies and whether neighbours share what they read or add up what they
write. Each part belongs to a voltage domain, whose clock and voltage set its rate and its energy. Everything
is stated at the domain's reference clock and voltage; nothing here is a speed of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .stated import Stated

# The operands of c[m, n] += a[m, k] * b[k, n]: activations, weights, results.
OPERANDS: Final = ("a", "b", "c")
DOMAIN_KINDS: Final = ("core", "sram", "memory", "link", "fixed")


@dataclass(frozen=True)
class Domain:
    """Parts that share a clock and a voltage.

    Attributes
    ----------
    kind : one of `DOMAIN_KINDS`; "fixed" has one point only.
    clock, voltage : (n,) Hz and V, both rising (voltage may be flat): the V-f curve, linear between points.
    reference_clock, reference_voltage : where rates and energies of its parts are stated.
    leakage : W at the reference voltage of everything in the domain, while powered.
    clock_tree : W at the reference point, of clocks that run whether or not work is done.
    gated : share of leakage and clock tree that is switched off while the domain has nothing to do, in [0, 1].
    switch_latency : s to change the point.
    clusters : parts of the domain that may run at different points (per-cluster DVFS); 1 is one point for all.
    follows : the domain whose point this one always shares; "" where it has a point of its own.
    leakage_voltage, leakage_temperature, reference_temperature : V and K over which leakage grows by e (beside
        the voltage itself, see `hardware.voltage.leakage`), and K at which it is stated.
    energy_curve : (a, b, c) of the switched energy over voltage, a V^2 + b V + c up to a factor; plain V^2 where
        (1, 0, 0), else the technology's polynomial (`hardware.technology.polynomial`).
    """

    name: str
    kind: str
    clock: tuple[float, ...]
    voltage: tuple[float, ...]
    reference_clock: float
    reference_voltage: float
    leakage: float = 0.0
    clock_tree: float = 0.0
    gated: float = 0.0
    switch_latency: float = 0.0
    clusters: int = 1
    follows: str = ""
    leakage_voltage: float = 0.0
    leakage_temperature: float = 40.0
    reference_temperature: float = 338.0
    energy_curve: tuple[float, float, float] = (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Level:
    """A storage level: one instance per copy made by the fan-outs outside it.

    Attributes
    ----------
    holds : the operands kept here, of `OPERANDS`; the others pass by without touching it.
    optional : those of `holds` that a mapping may also send past it (bypass).
    capacity : bytes of one instance; inf for the outermost.
    read_bandwidth, write_bandwidth : bytes/s of one instance at the reference clock; inf where never a limit.
    shared_port : True where reads and writes share one port (its rate is `read_bandwidth`).
    read_energy, write_energy : J/bit at the reference voltage.
    double_buffered : True where half the capacity is filled while the other half is used.
    kind : what it is made of: "sram", "dram", "register" or "other".
    width : bytes of one access; 0 where not stated.
    leakage : W of one instance at the reference voltage; its domain's `leakage` holds it already.
    """

    name: str
    domain: str
    holds: tuple[str, ...] = OPERANDS
    optional: tuple[str, ...] = ()
    capacity: float = math.inf
    read_bandwidth: float = math.inf
    write_bandwidth: float = math.inf
    shared_port: bool = True
    read_energy: float = 0.0
    write_energy: float = 0.0
    double_buffered: bool = False
    banks: int = 1
    area: float = 0.0  # m2 of one instance
    kind: str = "other"
    width: float = 0.0
    leakage: float = 0.0


@dataclass(frozen=True)
class Fanout:
    """`size` copies of everything inside it, reached through one network.

    Attributes
    ----------
    dims : loops that may run across the copies: "m", "n", "k", "batch" (convolutions: also "p", "q", "r", "s", "c").
    multicast : operands that one read outside delivers to every copy that needs the same value.
    reduce : True where partial results are added on the way out, so that one write leaves.
    energy : J/bit that a word takes on the way to or from one copy (per hop times mean hops), reference voltage.
    dealt : True where tiles are dealt one by one to whichever copy is free (thread blocks to the units of a GPU),
        instead of cutting one tile across all copies: nothing is shared between copies, and the last round of
        tiles may leave some idle.
    """

    name: str
    size: int
    domain: str
    dims: tuple[str, ...] = ("m", "n", "k")
    multicast: tuple[str, ...] = ("a", "b")
    reduce: bool = True
    energy: float = 0.0
    dealt: bool = False


@dataclass(frozen=True)
class Compute:
    """The arithmetic of one innermost copy.

    Attributes
    ----------
    macs_per_cycle : precision -> multiply-accumulates per cycle of one copy.
    energy : precision -> J of one multiply-accumulate at the reference voltage.
    granule : (m, n, k) done by one issue (a tensor core's tile; 1, 1, 1 for a scalar unit).
    pipeline : cycles to fill and drain (a systolic array's depth), once per tile of the level above.
    accumulator : precision -> bytes of a partial result, where not 4.
    latched : operands held at its inputs, read anew only when the value changes.
    leakage : W of one innermost copy; its domain's `leakage` holds it already.
    """

    name: str
    domain: str
    kind: str  # "systolic", "tensor", "vector", "near_memory"
    macs_per_cycle: Mapping[str, float]
    energy: Mapping[str, float]
    granule: tuple[int, int, int] = (1, 1, 1)
    pipeline: float = 0.0
    area: float = 0.0
    accumulator: Mapping[str, float] = field(default_factory=dict)
    leakage: float = 0.0
    latched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vector:
    """The units for everything that is not a product: elementwise work of the whole chip.

    `ops_per_second` at the reference clock of `domain`; `energy` J per operation.
    """

    domain: str
    ops_per_second: float
    energy: float


@dataclass(frozen=True)
class Link:
    """A link to other chips: bytes/s each way, J/bit of one hop, seconds of one message."""

    name: str
    domain: str
    bandwidth: float
    energy: float
    latency: float = 0.0
    hops: float = 1.0


@dataclass(frozen=True)
class Sparsity:
    """What a chip does with zeros (`hardware.sparsity`).

    Attributes
    ----------
    zeros : "gate" (arithmetic keeps still), "skip" (goes on to the next pair) or "" (nothing).
    noticed : operands whose zeros it sees, of a and b.
    balance : share of the ideal speed-up that skipping reaches, in [0, 1].
    structured : pattern of b it skips at a fixed rate, "N:M"; "" for none.
    codec : how operands with zeros are stored, "rlc", "bitmask" or "csr"; "" for plain. stored : which operands.
    """

    zeros: str = ""
    noticed: tuple[str, ...] = ()
    balance: float = 1.0
    structured: str = ""
    codec: str = ""
    stored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A chip as parts. `path`: levels and fan-outs, outermost first.

    `constant_power`: W drawn whatever happens (I/O, fans on the board, regulators). `overlap`: exponent p of the
    time of parts that work at once, (sum of t^p)^(1/p); inf where the longest hides the others. `sources`: dotted
    key -> where it comes from. `base`: the description from which a file stated only the differences. `stated`: every
    entry of the description it was built from, by dotted key; `with_` and `scaled` replace some and build again.
    """

    name: str
    title: str
    node: str  # technology, e.g. "7nm"
    domains: tuple[Domain, ...]
    path: tuple[Level | Fanout, ...]
    compute: Compute
    vector: Vector
    links: tuple[Link, ...] = ()
    constant_power: float = 0.0
    idle_power: float = 0.0
    power_limit: float = math.inf
    area: float = 0.0
    overlap: float = math.inf
    sparsity: Sparsity = field(default_factory=Sparsity)
    tags: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, Stated] = field(default_factory=dict, repr=False)
    base: Architecture | None = field(default=None, repr=False, compare=False)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The storage levels, outermost first."""
        return tuple(part for part in self.path if isinstance(part, Level))

    @property
    def fanouts(self) -> tuple[Fanout, ...]:
        """The fan-outs, outermost first."""
        return tuple(part for part in self.path if isinstance(part, Fanout))

    def copies(self, part: Level | Compute) -> int:
        """Return how many instances of a level (or of the arithmetic) the chip has."""
        outside = self.path if isinstance(part, Compute) else self.path[: self.path.index(part)]
        return math.prod(p.size for p in outside if isinstance(p, Fanout))

    def domain(self, name: str) -> Domain:
        """Return the domain of that name."""
        return next(d for d in self.domains if d.name == name)
