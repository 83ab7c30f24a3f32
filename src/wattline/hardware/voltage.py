"""Voltage domains at work: volts at a clock, energy and leakage at volts, and the points a chip can be set to.

    switched energy  E(V) = E_ref g(V) / g(V_ref)         g is V^2, or the technology's polynomial
    leakage          P = P_ref (V / V_ref) exp((V - V_ref) / v0) exp((T - T_ref) / t0)
    clock tree       P = P_ref (f / f_ref) (V / V_ref)^2  while the domain is not gated

Leakage current grows with voltage as drain-induced barrier lowering lets it (about e per half the supply, which
is V^3 near the reference: Butts and Sohi, MICRO 2000) and with temperature by e per 40 K (doubling every 28 K).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import InputError, nearest
from .architecture import Architecture, Domain

Array = NDArray[np.float64]


def volts(domain: Domain, clock: ArrayLike) -> Array:
    """Return the voltage (V) at `clock` (Hz, any shape): straight between the points, held at either end."""
    return np.asarray(np.interp(np.asarray(clock, float), domain.clock, domain.voltage))


def clock_at(domain: Domain, voltage: float) -> float:
    """Return the highest clock (Hz) the domain reaches at `voltage`."""
    if voltage < domain.voltage[0]:
        raise InputError(f"domain {domain.name} needs {domain.voltage[0]:g} V for its lowest clock, got {voltage:g} V")
    reached = [f for f, v in zip(domain.clock, domain.voltage, strict=True) if v <= voltage]
    above = len(reached)
    if above == len(domain.clock):
        return domain.clock[-1]
    low, high = domain.voltage[above - 1], domain.voltage[above]
    share = (voltage - low) / (high - low)
    return domain.clock[above - 1] + share * (domain.clock[above] - domain.clock[above - 1])


def swing(domain: Domain, voltage: ArrayLike) -> Array:
    """Return what an energy stated at the reference voltage is multiplied by at `voltage` (V, any shape)."""
    a, b, c = domain.energy_curve
    v, r = np.asarray(voltage, float), domain.reference_voltage
    return (a * v**2 + b * v + c) / (a * r**2 + b * r + c)


def leakage(domain: Domain, voltage: ArrayLike, temperature: ArrayLike | None = None) -> Array:
    """Return the leakage (W) of a powered domain at `voltage` (V) and junction `temperature` (K)."""
    v = np.asarray(voltage, float)
    power = domain.leakage * (v / domain.reference_voltage)
    power = power * np.exp((v - domain.reference_voltage) / (domain.leakage_voltage or domain.reference_voltage / 2))
    if temperature is None:
        return power
    return power * np.exp((np.asarray(temperature, float) - domain.reference_temperature) / domain.leakage_temperature)


def clock_tree(domain: Domain, clock: ArrayLike) -> Array:
    """Return the power (W) of the clock tree at `clock` (Hz)."""
    f = np.asarray(clock, float)
    return domain.clock_tree * (f / domain.reference_clock) * (volts(domain, f) / domain.reference_voltage) ** 2


def standing(domain: Domain, clock: ArrayLike, busy: ArrayLike = 1.0, temperature: ArrayLike | None = None) -> Array:
    """Return leakage and clock tree (W) of a domain that has work for a share `busy` of the time, gated in the rest."""
    share = 1.0 - domain.gated * (1.0 - np.asarray(busy, float))
    return share * (leakage(domain, volts(domain, clock), temperature) + clock_tree(domain, clock))


def settled(
    chip: Architecture, switched: float, clocks: Mapping[str, float], ambient: float, resistance: float
) -> tuple[float, float]:
    """Return (power W, junction temperature K) where leakage and temperature agree.

    `switched`: W of switching; `clocks`: domain -> Hz; `resistance`: K/W from junction to `ambient` (K). The fixed
    point of a contraction as long as the chip is cooled enough; a thermal runaway is an InputError.
    """
    temperature, power = ambient, 0.0
    for _ in range(200):
        still = chip.constant_power + sum(
            float(standing(d, clocks.get(d.name, d.reference_clock), 1.0, temperature)) for d in chip.domains
        )
        power, before = switched + still, power
        temperature = ambient + resistance * power
        if temperature > 1000:
            break
        if abs(power - before) <= 1e-9 * power:
            return power, temperature
    raise InputError(
        f"chip {chip.name} does not settle below 1000 K at {ambient:g} K and {resistance:g} K/W: leakage grows faster "
        "than heat leaves; cool it better or lower its leakage"
    )


def settings(chip: Architecture, clocks: Mapping[str, ArrayLike] | None = None) -> Iterator[dict[str, float]]:
    """Yield every setting of the chip as domain -> clock (Hz): all combinations of domains that move on their own.

    `clocks` lists what to try per domain (the points of its curve where left out). A domain that follows another
    takes the same share of its own range; with one regulator for the whole chip every domain follows one.
    """
    wanted = clocks or {}
    for name in wanted:
        if name not in {d.name for d in chip.domains}:
            raise InputError(
                f"chip {chip.name} has no domain {name!r}; {nearest(name, [d.name for d in chip.domains])}"
            )
    leaders = [d for d in chip.domains if not d.follows]
    grids = [np.atleast_1d(np.asarray(wanted.get(d.name, d.clock), float)) for d in leaders]
    for point in itertools.product(*grids):
        setting = {d.name: float(f) for d, f in zip(leaders, point, strict=True)}
        for d in chip.domains:
            if d.follows:
                setting[d.name] = _followed(d, chip.domain(d.follows), setting[d.follows])
        yield setting


def _followed(domain: Domain, leader: Domain, clock: float) -> float:
    """Return the clock of a domain that shares its leader's point."""
    span = leader.clock[-1] - leader.clock[0]
    share = (clock - leader.clock[0]) / span if span else 1.0
    return domain.clock[0] + share * (domain.clock[-1] - domain.clock[0])
