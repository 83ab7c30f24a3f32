"""Footprints times settings: time and energy of every mapping at every clock and voltage of every domain.

    time      max over ports of busy seconds at the reference clock, times reference clock / clock of its domain
              (a chip that overlaps them in part: the norm of exponent `Architecture.overlap` instead of the max)
    energy    sum over parts of joules at the reference voltage times g(V), plus standing power times time

Leakage and clock trees run as long as the work does; a gated share only while the domain is busy.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...core.errors import InputError, nearest
from ...frontier.algebra import Frontier
from ...hardware import voltage
from ...hardware.architecture import Architecture, Domain
from .cost import Costs
from .footprint import Footprint
from .plan import Floats

# One standard deviation of a product's time and energy. Time: as measured products of an A100 scatter about the
# search (bench/chip.py: 2.6 % on average with three constants fitted, the worst 6 %); energy: the stated
# uncertainty of the constants of the shipped descriptions.
SPREAD: Final = (0.08, 0.2)


@dataclass(frozen=True)
class Settings:
    """Points of a chip's voltage domains.

    Attributes
    ----------
    names : domains. clock : (s, domains) Hz. slow : (s, domains) reference clock over clock. swing : (s, domains)
    switched energy over that at the reference voltage. always, busy : (s, domains) W of leakage and clock trees
    that run all the time, and only while the domain works; split by `leakage` (s, domains), the share that leaks.
    """

    names: tuple[str, ...]
    clock: Floats
    slow: Floats
    swing: Floats
    leakage: Floats
    clock_tree: Floats
    gated: Floats
    overlap: float = np.inf


def settings(architecture: Architecture, clocks: Mapping[str, Sequence[float] | Floats] | None = None) -> Settings:
    """Return all combinations of the clocks (Hz) tried per domain: those of its curve where `clocks` names none."""
    wanted = clocks or {}
    names = tuple(d.name for d in architecture.domains)
    for name in wanted:
        if name not in names:
            raise InputError(f"chip {architecture.name} has no domain {name!r}; {nearest(name, names)}")
    leaders = [d for d in architecture.domains if not d.follows]
    grids = [np.atleast_1d(np.asarray(wanted.get(d.name, d.clock), dtype=np.float64)) for d in leaders]
    points = np.array(list(itertools.product(*grids)))
    clock = np.empty((len(points), len(names)))
    for i, domain in enumerate(architecture.domains):
        leader = architecture.domain(domain.follows) if domain.follows else domain
        own = points[:, [d.name for d in leaders].index(leader.name)]
        clock[:, i] = own if leader is domain else _share(domain, leader, own)
    return at(architecture, clock)


def at(architecture: Architecture, clock: Floats) -> Settings:
    """Return settings at `clock` (s, domains), Hz."""
    domains = architecture.domains
    volts = np.stack([np.interp(clock[:, i], d.clock, d.voltage) for i, d in enumerate(domains)], axis=1)
    slow = np.array([d.reference_clock for d in domains]) / clock
    swing = np.stack([voltage.swing(d, volts[:, i]) for i, d in enumerate(domains)], axis=1)
    leakage = np.stack([voltage.leakage(d, volts[:, i]) for i, d in enumerate(domains)], axis=1)
    tree = np.stack([voltage.clock_tree(d, clock[:, i]) for i, d in enumerate(domains)], axis=1)
    gated = np.array([d.gated for d in domains])
    return Settings(tuple(d.name for d in domains), clock, slow, swing, leakage, tree, gated, architecture.overlap)


def _share(domain: Domain, leader: Domain, clock: Floats) -> Floats:
    low, high = leader.clock[0], leader.clock[-1]
    share = (clock - low) / (high - low) if high > low else np.ones_like(clock)
    return np.asarray(domain.clock[0] + share * (domain.clock[-1] - domain.clock[0]))


@dataclass(frozen=True)
class Crossed:
    """Mappings of one product at every setting.

    Attributes
    ----------
    time, switched : (n, s) seconds, and joules of switching. leakage, clock_tree : (n, s) joules.
    """

    costs: Costs
    settings: Settings
    time: Floats
    switched: Floats
    leakage: Floats
    clock_tree: Floats

    def energy(self, power: float = 0.0) -> Floats:
        """(n, s) joules, with `power` W drawn besides."""
        return np.asarray(self.switched + self.leakage + self.clock_tree + power * self.time)

    def parts(self, i: int, s: int) -> dict[str, float]:
        """Return joules by component of mapping `i` at setting `s`."""
        index = [self.settings.names.index(d) for d in self.costs.energy_domain]
        joules = self.costs.energy[i] * self.settings.swing[s, index]
        out = dict(zip(self.costs.parts, map(float, joules), strict=True))
        return out | {"leakage": float(self.leakage[i, s]), "clock_tree": float(self.clock_tree[i, s])}

    def limit(self, i: int, s: int) -> str:
        """Return the port that takes longest: the limiting resource."""
        index = [self.settings.names.index(d) for d in self.costs.busy_domain]
        return self.costs.ports[int(np.argmax(self.costs.busy[i] * self.settings.slow[s, index]))]


def cross(costs: Costs, points: Settings) -> Crossed:
    """Return time and energy of n mappings at s settings."""
    names = points.names
    of_busy = [names.index(d) for d in costs.busy_domain]
    of_energy = [names.index(d) for d in costs.energy_domain]
    domain_busy = np.zeros((len(costs.busy), len(names), len(points.clock)))
    for column, d in enumerate(of_busy):
        np.maximum(domain_busy[:, d], costs.busy[:, column, None] * points.slow[None, :, d], out=domain_busy[:, d])
    time = _overlapped(costs, points, of_busy, domain_busy.max(axis=1))
    switched = costs.energy @ points.swing[:, of_energy].T
    gated = points.gated[None, :, None]
    on = (1.0 - gated) * time[:, None] + gated * domain_busy
    leakage = np.einsum("nds,sd->ns", on, points.leakage)
    tree = np.einsum("nds,sd->ns", on, points.clock_tree)
    return Crossed(costs, points, time, switched, leakage, tree)


def _overlapped(costs: Costs, points: Settings, of_busy: list[int], longest: Floats) -> Floats:
    """Return (n, s) seconds of ports that work at once: the longest, or more where a chip overlaps them in part."""
    if np.isinf(points.overlap):
        return longest
    total = np.zeros_like(longest)
    most = np.where(longest > 0, longest, 1.0)
    for column, d in enumerate(of_busy):
        total += (costs.busy[:, column, None] * points.slow[None, :, d] / most) ** points.overlap
    return np.asarray(longest * total ** (1.0 / points.overlap))


def frontier(found: Footprint, architecture: Architecture, clocks: Mapping[str, Floats] | None = None) -> Frontier:
    """Return the frontier of one product over its mappings and the clocks and voltages of every domain.

    Every point knows its mapping, its clocks and what limits it, and where its joules go.
    """
    crossed = cross(found.costs(architecture), settings(architecture, clocks))
    costs, points = crossed.costs, crossed.settings
    n, s = crossed.time.shape
    waiting = architecture.constant_power
    of_energy = [points.names.index(d) for d in costs.energy_domain]
    parts = {
        name: np.ravel(costs.energy[:, c, None] * points.swing[None, :, of_energy[c]])
        for c, name in enumerate(costs.parts)
    }
    parts |= {"leakage": crossed.leakage.ravel(), "clock_tree": crossed.clock_tree.ravel()}
    parts["waiting"] = waiting * crossed.time.ravel()
    knobs = [
        {
            "mapping": i,
            "limit": crossed.limit(i, j),
            **{f"{d}_clock_hz": float(f) for d, f in zip(points.names, points.clock[j], strict=True)},
        }
        for i in range(n)
        for j in range(s)
    ]
    return Frontier.of(
        crossed.time.ravel(), crossed.energy().ravel(), knobs=knobs, waiting_power=waiting, parts=parts,
        provenance="modelled", source=f"mapping search on {architecture.name}", uncertainty=SPREAD[1],
    )  # fmt: skip
