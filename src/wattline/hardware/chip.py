"""What a chip can do at a clock: its settings, its voltage there, and its rates, from its facts alone.

voltage
  max |              /      Dynamic power goes with f V^2. Below the knee a slower clock switches
      |            /        just as dearly and only prolongs the standing power; above it every
  min |----------´          step down saves twice, so most least-energy clocks lie near the knee.
      +----------|---|-- clock
               knee max
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import InputError, nearest
from .facts import Sheet

# Spacing of lockable clocks where a chip states none: NVIDIA data-centre GPUs since Ampere
# (nvidia-smi -q -d SUPPORTED_CLOCKS).
STEP: Final = 15e6

# Shape of the rise: V - V_min goes with (f - knee)^1.4. Guerreiro et al. (HPCA 2018) found the flat
# part and the rise on NVIDIA GPUs; the exponent is fitted to power at 36 clocks of an A100 (Perseus
# artifact, SOSP 2024), where a straight line leaves twice the residual.
CURVATURE: Final = 1.4

# What arithmetic of one precision may run in where a chip has no units for it. Each step holds every
# finite value of the one before exactly (e4m3 in bf16, bf16 in tf32, ...), so nothing is rounded;
# it only costs the wider type's time and energy. fp16 is no substitute for bf16: its range is less.
WIDER: Final = {
    "fp4": ("fp8", "bf16", "fp16", "tf32", "fp32"),
    "int4": ("int8", "bf16", "fp16", "tf32", "fp32"),
    "fp8": ("bf16", "fp16", "tf32", "fp32"),
    "int8": ("bf16", "fp16", "tf32", "fp32"),
    "bf16": ("tf32", "fp32"),
    "fp16": ("tf32", "fp32"),
    "tf32": ("fp32",),
    "fp32": (),
    "fp64": (),
}


def clocks(chip: Sheet) -> NDArray[np.float64]:
    """Return the core clocks (Hz) that can be locked, ascending; the highest is always one.

    The grid starts at clock.max and goes down by clock.step (15 MHz where not stated), not below
    clock.min. A chip whose clock cannot be set has one.
    """
    low, high, step = chip["clock.min"], chip["clock.max"], chip.get("clock.step", STEP)
    steps = np.arange(np.floor((high - low) / step + 1e-9), -1.0, -1.0)
    return high - step * steps


def lockable(chip: Sheet, clock: ArrayLike) -> NDArray[np.float64]:
    """Return the nearest clocks (Hz) that can be locked, of any shape.

    >>> from wattline.hardware import catalog
    >>> lockable(catalog.chip("h100-sxm"), 1385.5e6) / 1e6
    array(1380.)
    """
    steps, asked = clocks(chip), np.asarray(clock, float)
    return np.asarray(steps[np.abs(steps - asked[..., None]).argmin(axis=-1)])


def voltage(chip: Sheet, clock: ArrayLike) -> NDArray[np.float64]:
    """Return the core voltage (V) at `clock` (Hz, any shape).

    voltage.min up to voltage.knee, then a convex rise to voltage.max at clock.max; held at either
    end outside. A chip whose knee is its top clock stays at voltage.min.
    """
    low, high, knee = chip["voltage.min"], chip["voltage.max"], chip["voltage.knee"]
    span = max(chip["clock.max"] - knee, 1.0)
    rise = np.clip((np.asarray(clock, float) - knee) / span, 0.0, 1.0)
    return np.asarray(low + (high - low) * rise**CURVATURE)


def swing(chip: Sheet, clock: ArrayLike) -> NDArray[np.float64]:
    """Return (V / V_ref)^2: what an energy stated at the reference voltage is multiplied by at `clock`."""
    return np.asarray((voltage(chip, clock) / reference_voltage(chip)) ** 2)


def reference_voltage(chip: Sheet) -> float:
    """Return the core voltage (V) at which the sheet states its energies: voltage.reference, else the curve's."""
    return chip.get("voltage.reference", float(voltage(chip, chip["clock.reference"])))


def pinned(chip: Sheet) -> Sheet:
    """Return the chip with its reference voltage stated, so that another voltage curve changes the energies.

    Without it the reference would move with the curve, and a lower voltage would save nothing.
    """
    return chip.with_({"voltage.reference": reference_voltage(chip)}, "the chip's own curve at clock.reference")


def runs_in(chip: Sheet, precision: str) -> str:
    """Return the precision the chip computes `precision` in: itself, or the next wider it has.

    >>> from wattline.hardware.catalog import chip
    >>> runs_in(chip("h100"), "fp4"), runs_in(chip("a100"), "fp8")
    ('fp8', 'bf16')
    """
    if precision not in WIDER:
        raise InputError(f"precision {precision!r} is not known; {nearest(precision, WIDER)}")
    for candidate in (precision, *WIDER[precision]):
        if f"compute.rate.{candidate}" in chip:
            return candidate
    has = ", ".join(p for p in WIDER if f"compute.rate.{p}" in chip)
    raise InputError(f"chip {chip.name} states no compute.rate.{precision}; it has {has}")


def rate(chip: Sheet, precision: str, clock: ArrayLike) -> NDArray[np.float64]:
    """Return the dense peak rate (FLOP/s) at `clock` (Hz), in the precision `runs_in` names."""
    peak = chip[f"compute.rate.{runs_in(chip, precision)}"]
    return np.asarray(peak * (np.asarray(clock, float) / chip["clock.reference"]))


def energy(chip: Sheet, precision: str, clock: ArrayLike) -> NDArray[np.float64]:
    """Return the switched energy of one operation (J/FLOP) at `clock` (Hz), likewise."""
    each = chip[f"compute.energy.{runs_in(chip, precision)}"]
    return np.asarray(each * swing(chip, clock))


def balance(chip: Sheet, precision: str) -> float:
    """Return the operations per byte of main memory at which both bind, at clock.reference."""
    return float(rate(chip, precision, chip["clock.reference"])) / chip["memory.hbm.bandwidth"]
