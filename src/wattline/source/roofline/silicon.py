"""A chip as flat numbers ready for array arithmetic: its sheet of facts plus fitted shape constants.

Facts a person may want to change (bandwidths, energies per bit, the power limit) come from the
chip's sheet alone. How much of a rate a kernel of some shape reaches is not a fact of the chip but
of today's kernels; those constants come from ``data/calibration.toml``, chosen by architecture.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from ...core.errors import InputError, nearest
from ...hardware.chip import reference_voltage
from ...hardware.facts import Sheet
from ..base import Array
from .voltage import LEAKAGE_POWER, voltage

# Where a precision has no rate or energy of its own in a sheet it runs as one of these.
# Narrow floats widen to the next format the chip has, as serving engines do; int8 is no stand-in for fp8.
_SAME = {
    "fp16": ("bf16",), "bf16": ("fp16",), "int8": ("fp8",), "fp8": ("bf16", "fp16"), "fp4": ("fp8", "bf16", "fp16"),
    "tf32": ("fp32",),
}  # fmt: skip


@functools.cache
def calibration() -> Mapping[str, Any]:
    """Return the fitted constants of ``data/calibration.toml``."""
    path = resources.files(__package__) / "data" / "calibration.toml"
    return tomllib.loads(path.read_text("utf-8"))


@functools.cache
def training() -> Mapping[str, Any]:
    """Return the constants of ``data/training.toml``."""
    path = resources.files(__package__) / "data" / "training.toml"
    return tomllib.loads(path.read_text("utf-8"))


def shape_constants(architecture: str) -> dict[str, float]:
    """Return efficiency constants by dotted name: those of `architecture` over the common ones."""
    return _merged(calibration()["shape"], architecture)


def training_constants(architecture: str) -> dict[str, float]:
    """Return what steps of training change, by dotted name, likewise."""
    return _merged(training(), architecture)


def _merged(table: Mapping[str, Any], architecture: str) -> dict[str, float]:
    merged: dict[str, float] = {}
    for name in ("common", architecture):
        for group, constants in table.get(name, {}).items():
            merged |= {f"{group}.{key}": float(entry[0]) for key, entry in constants.items()}
    return merged


@dataclass(frozen=True)
class Silicon:
    """One chip. Rates at `clock_ref` (Hz); energies at the voltage of that clock.

    Attributes
    ----------
    rate, energy : precision -> FLOP/s, J/FLOP.
    shape : efficiency constants, see ``data/calibration.toml``.
    origin : the chip this one is a variant of, where facts were replaced: learned corrections are read off there.
    limit_learned : the power limit (W) under which those corrections were learned, whatever it is set to now.
    """

    name: str
    units: float
    clock_min: float
    clock_max: float
    clock_step: float
    clock_ref: float
    volt_min: float
    volt_max: float
    knee: float
    volt_ref: float
    rate: Mapping[str, float]
    energy: Mapping[str, float]
    hbm_bandwidth: float
    hbm_energy: float
    l2_capacity: float
    l2_bandwidth: float
    l2_energy: float
    limit: float
    waiting: float
    leakage: float
    clock_tree: float
    launch: float
    architecture: str = ""
    link: Mapping[str, float] = field(default_factory=dict)
    shape: Mapping[str, float] = field(default_factory=dict)
    origin: Silicon | None = None
    limit_learned: float = float("inf")

    @classmethod
    def of(cls, sheet: Sheet) -> Silicon:
        """Read a chip's sheet."""
        ref = sheet["clock.reference"]
        first = sheet.origin
        return cls(
            name=sheet.name,
            units=sheet["compute.units"],
            clock_min=sheet["clock.min"],
            clock_max=sheet["clock.max"],
            clock_step=sheet.get("clock.step", 15e6),
            clock_ref=ref,
            volt_min=sheet["voltage.min"],
            volt_max=sheet["voltage.max"],
            knee=sheet["voltage.knee"],
            volt_ref=reference_voltage(sheet),
            rate=_by_precision(sheet, "compute.rate."),
            energy=_by_precision(sheet, "compute.energy."),
            hbm_bandwidth=sheet["memory.hbm.bandwidth"],
            hbm_energy=sheet["memory.hbm.energy"],
            l2_capacity=sheet["memory.l2.capacity"],
            # Where unstated: 64 B per cycle and unit, as in NVIDIA's A100 whitepaper (5120 B/clk).
            l2_bandwidth=sheet.get("memory.l2.bandwidth", 48.0 * sheet["compute.units"] * ref),
            l2_energy=sheet["memory.l2.energy"],
            limit=sheet["power.limit"],
            waiting=sheet["power.waiting"],
            leakage=sheet["power.leakage"],
            clock_tree=sheet["power.clock_tree"],
            launch=sheet["overhead.launch"],
            architecture=architecture(sheet),
            link={k: sheet[k] for k in sheet if k.startswith("link.")},
            shape=_fitted(sheet, shape_constants(architecture(sheet))),
            origin=None if first is None or _alike(sheet, first) else _first(_Same(first)),
            limit_learned=_limit_learned(sheet),
        )

    def volts(self, clock: Array) -> Array:
        """Return core voltage (V) at `clock` (Hz)."""
        return voltage(clock, self.volt_min, self.volt_max, self.knee, self.clock_max)

    def swing(self, clock: Array) -> Array:
        """Return (V / V_ref)^2, what a switched energy is multiplied by at `clock`."""
        return np.asarray((self.volts(clock) / self.volt_ref) ** 2)

    def standing(self, clock: Array) -> tuple[Array, Array]:
        """Return leakage and clock-tree power (W) at `clock` while kernels run."""
        square = self.swing(clock)
        leakage = self.leakage * square ** (LEAKAGE_POWER / 2)
        return leakage, self.clock_tree * square * (clock / self.clock_ref)

    def rate_of(self, precision: str) -> float:
        """Return the matrix rate (FLOP/s) at the reference clock."""
        return _lookup(self.rate, precision, self.name, "compute.rate")

    def energy_of(self, precision: str) -> float:
        """Return the switched energy (J/FLOP) at the reference voltage."""
        if precision in self.energy or any(p in self.energy for p in _SAME.get(precision, ())):
            return _lookup(self.energy, precision, self.name, "compute.energy")
        # Energy per operation scales no faster than the rate is won: assume the power of bf16.
        base = _lookup(self.energy, "bf16", self.name, "compute.energy")
        return base * self.rate_of("bf16") / self.rate_of(precision)

    def clocks(self) -> Array:
        """Return every lockable clock (Hz), ascending, the top one included."""
        grid = np.arange(self.clock_max, self.clock_min - 1.0, -self.clock_step)
        return grid[::-1].astype(np.float64)


# A power limit, W, that stands for none.
UNLIMITED = 1e5

# Facts that no correction is read off.
_APART = ("power.limit", "power.limit_min")


def _alike(sheet: Sheet, first: Sheet) -> bool:
    """Return whether a variant has the facts of the sheet it was made from, but for those in `_APART`."""
    theirs = {"voltage.reference": reference_voltage(first)} | {k: fact.value for k, fact in first.facts.items()}
    return all(k in _APART or theirs.get(k) == fact.value for k, fact in sheet.facts.items())


def _limit_learned(sheet: Sheet) -> float:
    """Return the limit under which a chip was measured; none for a caller that lifts it to throttle whole steps itself.

    What such a caller adds to the operators (``serving/engine.py``) was fitted to them without the cap.
    """
    if sheet["power.limit"] >= UNLIMITED:
        return float("inf")
    return (sheet if sheet.origin is None else sheet.origin)["power.limit"]


class _Same:
    """A sheet as a key: itself and no other."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet

    def __hash__(self) -> int:
        return id(self.sheet)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.sheet is self.sheet


@functools.lru_cache(maxsize=64)
def _first(key: _Same) -> Silicon:
    return Silicon.of(key.sheet)


def architecture(sheet: Sheet) -> str:
    """Return the architecture of a chip, by its tag or else its name ("" where neither tells)."""
    if "architecture" in sheet.tags:
        return sheet.tags["architecture"].lower()
    for name, prefixes in calibration()["architecture"].items():
        if sheet.name.lower().startswith(tuple(prefixes)):
            return str(name)
    return ""


# Which efficiency constants each `fit.*` fact of a sheet multiplies (power: speed is its inverse).
_FIT = {
    "fit.compute": {"gemm.efficiency": 1, "moe.efficiency": 1},
    "fit.memory": {"dram.efficiency": 1, "moe.dram_efficiency": 1, "decode.dram_efficiency": 1},
    "fit.latency": {
        "gemm.ramp": 1, "gemm.split_ramp": 1, "gemm.tile_ramp": 1, "moe.ramp": 1, "moe.tile_ramp": 1,
    },
    "fit.prefill": {"attention.efficiency": 1, "attention.tile_ramp": -1, "attention.ramp": -1},
    "fit.decode": {"decode.efficiency": 1, "decode.tile_ramp": -1, "decode.ramp": -1, "decode.dram_per_tile": 1},
}  # fmt: skip
# No kernel sustains more than this share of a rate, whatever a fit says.
_MOST = 0.98


def _fitted(sheet: Sheet, shape: dict[str, float]) -> dict[str, float]:
    """Return efficiency constants moved by the `fit.*` facts of a calibrated sheet."""
    for fact, touched in _FIT.items():
        for name, power in touched.items():
            shape[name] *= sheet.get(fact, 1.0) ** power
            if "efficiency" in name:
                shape[name] = min(shape[name], _MOST)
    return shape


def _by_precision(sheet: Sheet, prefix: str) -> dict[str, float]:
    return {key.removeprefix(prefix): sheet[key] for key in sheet if key.startswith(prefix)}


def _lookup(table: Mapping[str, float], precision: str, name: str, what: str) -> float:
    for candidate in (precision, *_SAME.get(precision, ())):
        if candidate in table:
            return table[candidate]
    raise InputError(f"chip {name} states no {what}.{precision}; {nearest(precision, table)}")
