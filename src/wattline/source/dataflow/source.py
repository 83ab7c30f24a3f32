"""The source of a chip taken apart: operators on an architecture, at the best mapping for each clock.

Products are searched once per shape (`footprint`); elementwise work is bound by main memory or the vector unit;
collectives are those of the analytic source, on the links of the device's sheet. The clocks asked for are those
of the domain of the arithmetic; domains that follow it move along, others stay at their reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ...core.errors import InputError
from ...hardware.architecture import Architecture
from ...hardware.architectures import architecture as named
from ...hardware.architectures import names
from ...hardware.sparsity import Density
from ...workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator
from ..base import Array, Device, Points, PointsTable
from ..roofline.collective import collective
from ..roofline.silicon import Silicon
from ..roofline.table import layout
from .cost import Costs
from .cross import SPREAD, Settings, at, cross
from .footprint import footprint, structure
from .operators import products
from .plan import Floats
from .sparse import with_zeros
from .tiling import Space

OBJECTIVES = ("time", "energy", "edp")
# Operations on the vector unit per score of attention: scale, maximum, exponential, sum, rescale
# (Dao, FlashAttention-2, section 3.1).
SOFTMAX_OPS = 5.0
# Clocks at which work is tabulated between those asked for, to find where a power limit binds.
_GRID = 33


@dataclass(frozen=True)
class Dataflow:
    """Time and energy from a mapping search.

    Attributes
    ----------
    architecture : the chip, or the name of a description; the parts of the device's own chip where None.
    objective : which mapping runs at a clock: the fastest ("time", ties to the least energy), that of least
        "energy", or of least energy-delay product ("edp").
    space : what is searched.
    fused : attention keeps its scores on the chip.
    density : share of values of activations and weights that are not zero; attention is taken as dense.
    """

    slow: ClassVar[bool] = True

    architecture: Architecture | str | None = None
    objective: str = "time"
    space: Space = field(default_factory=lambda: Space(imperfect=False, step=2.0, wide=True))
    fused: bool = True
    density: Density = field(default_factory=Density)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")

    def chip(self, device: Device) -> Architecture:
        """Return the architecture that stands for the chip of `device`."""
        if isinstance(self.architecture, str):
            return named(self.architecture)
        found = self.architecture or device.chip.parts
        if not isinstance(found, Architecture):
            raise InputError(
                f"a mapping search needs a chip taken apart, and {device.chip.name} is a sheet of facts; name a chip "
                f"description, e.g. {', '.join(names()[:3])}"
            )
        return found

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        """Return time and energy of `operators` in order at each clock (Hz) of the arithmetic's domain."""
        found: Points = self.tables([operators], device, clocks)[0]
        return found

    def tables(self, pieces: Sequence[Sequence[Operator]], device: Device, clocks: Array | None = None) -> PointsTable:
        """Return `points` of many pieces of work, operators that recur evaluated once."""
        chip = self.chip(device)
        core = chip.domain(chip.compute.domain)
        asked = np.asarray(core.clock if clocks is None else clocks, dtype=np.float64)
        run = np.clip(asked, core.clock[0], core.clock[-1])
        grid = np.unique(np.concatenate([run, np.linspace(core.clock[0], run.max(), _GRID)]))
        found = layout(tuple(tuple(piece) for piece in pieces), _kind)
        points, key = _points_at(chip, grid), structure(chip, self.space.wide)
        rows = [_Row.of(self, chip, operator, device, points, key) for group in found.groups for operator in group]
        known = sorted({n for r in rows for n in r.parts})
        time = found.repeat @ np.stack([r.time for r in rows]) if rows else np.zeros((len(pieces), grid.size))
        parts = {n: found.repeat @ np.stack([r.parts.get(n, np.zeros(grid.size)) for r in rows]) for n in known}
        each = (_points(chip, asked, run, grid, time[i], {n: v[i] for n, v in parts.items()}) for i in range(len(time)))
        return PointsTable.of(list(each))


def _points(chip: Architecture, asked: Array, run: Array, grid: Array, time: Array, parts: dict[str, Array]) -> Points:
    """Return points at the clocks asked for, slower where the power limit binds."""
    waiting = chip.constant_power
    power = waiting + sum(parts.values(), np.zeros(grid.size)) / np.where(time > 0, time, 1.0)
    held = _held(run, grid, power, chip.power_limit)
    seconds = np.interp(held, grid, time)
    joules = {n: np.interp(held, grid, v) for n, v in parts.items() if np.any(v)}
    for name in ("leakage", "clock_tree"):
        joules.setdefault(name, np.zeros(asked.size))
    joules["waiting"] = waiting * seconds
    source = f"mapping search on {chip.name}"
    return Points(asked, seconds, joules, waiting, "modelled", source, SPREAD[1], SPREAD[0])


def _held(run: Array, grid: Array, power: Array, limit: float) -> Array:
    """Return the clock at which work really runs: the highest up to `run` whose power keeps the limit."""
    if not np.any(power > limit):
        return run
    most = np.maximum.accumulate(power)  # a slower clock never draws more, up to the grain of mappings
    return np.asarray(np.minimum(run, np.interp(limit, most, grid)))


def _kind(operator: Operator) -> object:
    return (type(operator), operator.precision)


@dataclass(frozen=True)
class _Row:
    """One instance of an operator at every clock of a grid: (n,) seconds and joules by component."""

    time: Floats
    parts: dict[str, Floats]

    @classmethod
    def of(
        cls, source: Dataflow, chip: Architecture, operator: Operator, device: Device, points: Settings, key: object
    ) -> _Row:
        size = len(points.clock)
        if isinstance(operator, Collective):
            return cls(*_collective(operator, device, size))
        if isinstance(operator, Elementwise):
            rows = [_priced(source, chip, _streamed(chip, operator.read, operator.write, operator.ops), points)]
        elif isinstance(operator, Gemm | GroupedGemm | Attention):
            rows = []
            for product in products(operator, chip, source.fused):
                einsum, at_work = product.einsum, chip
                if not isinstance(operator, Attention):
                    einsum, at_work = with_zeros(einsum, chip, source.density)
                found = footprint(einsum, at_work, source.space, key if at_work is chip else None)
                costs = found.costs(at_work)
                rows.append(_priced(source, chip, costs, points, product.share))
            if isinstance(operator, Attention):
                rows.append(_priced(source, chip, _softmax(chip, operator), points))
        else:
            raise InputError(
                f"operator {operator.name!r} is a {type(operator).__name__}; known kinds: Gemm, GroupedGemm, "
                "Attention, Elementwise, Collective"
            )
        time = np.sum([t for t, _ in rows], axis=0)
        if isinstance(operator, Attention):  # the softmax runs beside the products
            time = np.maximum(np.sum([t for t, _ in rows[:-1]], axis=0), rows[-1][0])
        parts: dict[str, Floats] = {}
        for _, joules in rows:
            for name, v in joules.items():
                parts[name] = parts.get(name, np.zeros(size)) + v
        launch = device.chip.get("overhead.launch", 0.0) * operator.launches
        return cls(time + launch, parts)


def _points_at(chip: Architecture, grid: Floats) -> Settings:
    """Return settings along the clock of the arithmetic, other domains following it or at their reference."""
    core = chip.compute.domain
    clock = np.empty((grid.size, len(chip.domains)))
    for i, domain in enumerate(chip.domains):
        follows = domain.name == core or domain.follows == core
        clock[:, i] = np.clip(grid, domain.clock[0], domain.clock[-1]) if follows else domain.reference_clock
    return at(chip, clock)


def _priced(
    source: Dataflow, chip: Architecture, costs: Costs, points: Settings, share: float = 1.0
) -> tuple[Floats, dict[str, Floats]]:
    """Return seconds and joules by component of the best mapping at each setting."""
    crossed = cross(costs, points)
    energy = crossed.energy(chip.constant_power)
    value = {"time": crossed.time * (1 + 1e-3 * energy / energy.max(initial=1e-300)), "energy": energy}.get(
        source.objective, crossed.time * energy
    )
    best = np.argmin(value, axis=0)
    at_each = np.arange(best.size)
    parts: dict[str, Floats] = {}
    for column, (name, domain) in enumerate(zip(costs.parts, costs.energy_domain, strict=True)):
        joules = costs.energy[best, column] * points.swing[:, points.names.index(domain)]
        parts[name] = parts.get(name, 0.0) + share * joules
    parts["leakage"] = share * crossed.leakage[best, at_each]
    parts["clock_tree"] = share * crossed.clock_tree[best, at_each]
    return share * crossed.time[best, at_each], parts


def _streamed(chip: Architecture, read: float, write: float, ops: float) -> Costs:
    """Return the cost of elementwise work: main memory, the levels it cannot bypass, and the vector unit."""
    parts, domains, energy, ports, busy_domains, busy = [], [], [], [], [], []
    for level in chip.levels:
        first = level is chip.levels[0]
        if not first and (set(level.holds) != {"a", "b", "c"} or level.optional or chip.copies(level) > 1):
            continue
        gives, takes = (read, write) if first else (read + write, read + write)
        name = f"memory.{level.name}"
        parts.append(name)
        domains.append(level.domain)
        energy.append(8.0 * (gives * level.read_energy + takes * level.write_energy))
        seconds = (
            (gives + takes) / level.read_bandwidth
            if level.shared_port
            else max(gives / level.read_bandwidth, takes / level.write_bandwidth)
        )
        ports.append(name)
        busy_domains.append(level.domain)
        busy.append(seconds)
    vector = chip.vector
    parts.append("compute.vector")
    domains.append(vector.domain)
    energy.append(ops * vector.energy)
    ports.append("vector")
    busy_domains.append(vector.domain)
    busy.append(ops / vector.ops_per_second if vector.ops_per_second else 0.0)
    return Costs(tuple(parts), tuple(domains), np.array([energy]), tuple(ports), tuple(busy_domains), np.array([busy]))


def _softmax(chip: Architecture, operator: Attention) -> Costs:
    return _streamed(chip, 0.0, 0.0, SOFTMAX_OPS * operator.batch * operator.heads * operator.pairs)


def _collective(operator: Collective, device: Device, size: int) -> tuple[Floats, dict[str, Floats]]:
    """Return a collective as the analytic source has it: links and main memory, whatever the clock."""
    chip = Silicon.of(device.chip)
    work = collective(
        chip, device.node, operator.op, np.array([operator.size]), np.array([operator.ranks]), span=operator.span,
        local=operator.local, overlap=operator.overlap,
    )  # fmt: skip
    seconds = float(max(np.max(work.link), np.max(work.dram)) + np.max(work.fixed))
    one = np.ones(size)
    parts = {
        f"link.{work.link_name}": float(np.max(work.e_link)) * one,
        "link.fabric": float(np.max(work.e_far)) * one,
        "memory.hbm": float(np.max(work.e_dram)) * one,
        "memory.l2": float(np.max(work.e_l2)) * one,
    }
    return seconds * one, {n: v for n, v in parts.items() if v.any()}
