"""Technology: what an operation, a wire and an SRAM cell take in one node, and how that moves to another.

Published tables only (``data/technology.toml``): the energy table of Horowitz (ISSCC 2014) for 45 nm, that of
Jouppi et al. (ISCA 2021) for 7 nm, the scaling polynomials of Stillmaker and Baas (2017) for logic, cell areas
from the makers' papers. Logic, SRAM and wires do not scale alike, and each has its own factor: from 45 nm to 7 nm
a multiplication shrinks 2.8 times, an access of a small SRAM 1.3 times, a millimetre of wire only with the square
of the voltage.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, nearest
from ..core.units import parse

# Charge a wire draws for one random bit: it rises every fourth cycle (half the bits change, half of these rise).
_ACTIVITY: Final = 0.25


@functools.cache
def tables() -> Mapping[str, Any]:
    """Return ``data/technology.toml``."""
    return tomllib.loads((resources.files("wattline.hardware") / "data" / "technology.toml").read_text("utf-8"))


@functools.cache
def feature(node: str) -> float:
    """Return the nanometres in a node's name ("7nm", "65 nm", "4N").

    >>> feature("65nm"), feature("4N")
    (65.0, 4.0)
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*(?:nm|N|nN)?\s*", node)
    if not match or float(match[1]) <= 0:
        raise InputError(f'technology node must be named like "7nm", got {node!r}')
    return float(match[1])


@functools.cache
def operation(name: str, node: str) -> float:
    """Return the energy (J) of one operation of the tables, such as "fp16_mul", in `node`.

    Between 7 nm and 45 nm the energy goes with a power of the feature size through both tables; above, with the same
    power, which is an extrapolation; below, it shrinks as the foundry says logic does (`shrink`).

    >>> round(operation("int8_mul", "45nm") / operation("int8_mul", "7nm"), 2)
    2.86
    """
    table = tables()["operations"]
    if name not in table or name == "source":
        raise InputError(f"operation {name!r} is not in the tables; {nearest(name, set(table) - {'source'})}")
    rows = table[name]
    if "45nm" not in rows:
        small = parse(rows["7nm"], "J")
        partner = name.replace("bf16", "fp16")  # scales as the other type of its width
        return small * operation(partner, node) / operation(partner, "7nm")
    return _power_law(parse(rows["45nm"], "J"), parse(rows["7nm"], "J"), node)


def _power_law(at45: float, at7: float, node: str) -> float:
    """Return the value in `node` of what is `at45` in 45 nm and `at7` in 7 nm."""
    size = feature(node)
    if size < 7:
        return at7 * shrink(node)
    exponent = math.log(at45 / at7) / math.log(45 / 7)
    return float(at7 * (size / 7) ** exponent)


@functools.cache
def shrink(node: str) -> float:
    """Return the energy of logic in a node below 7 nm over that in 7 nm, at one speed; between nodes on a line in logs.

    >>> round(shrink("5nm"), 2), round(shrink("2nm"), 3)
    (0.7, 0.335)
    """
    size, sizes, factors = feature(node), [7.0], [1.0]
    for name, (ratio, *_) in tables()["shrink"].items():
        sizes.append(feature(name))
        factors.append(factors[-1] * float(ratio))
    if not sizes[-1] <= size <= 7.0:
        raise InputError(f"technology {node} lies outside the published shrinks of logic, 7nm to 2nm; name one inside")
    logs = np.interp(-math.log(size), -np.log(sizes), np.log(factors))
    return float(np.exp(logs))


@functools.cache
def supply(node: str) -> float:
    """Return the nominal supply (V) of high-performance logic; between nodes, that of the nearest one."""
    known = {feature(n): parse(v, "V") for n, v in tables()["supply"].items()}
    return known[_closest(feature(node), known)]


@functools.cache
def polynomial(node: str) -> tuple[float, float, float]:
    """Return (a, b, c) of E(V) = a V^2 + b V + c of logic, relative between nodes: the nearest node's."""
    known = {feature(n): tuple(v) for n, v in tables()["stillmaker"].items()}
    size = feature(node)
    if not min(known) <= size <= max(known):
        raise InputError(f"technology {node} lies outside the published scaling tables, 7nm to 130nm; name one inside")
    a, b, c = known[_closest(size, known)]
    return a, b, c


def logic(source: str, target: str, from_voltage: float | None = None, to_voltage: float | None = None) -> float:
    """Return the factor on the switched energy of logic from one node (and voltage) to another.

    By the polynomials of Stillmaker and Baas; voltages are the nominal supplies where not stated. Measured tables
    shrink less than the polynomials from 45 nm to 7 nm (see `by_tables`), so the two bracket the truth.
    """
    before = from_voltage if from_voltage is not None else supply(source)
    after = to_voltage if to_voltage is not None else supply(target)
    return at(polynomial(target), after) / at(polynomial(source), before)


@functools.cache
def by_tables(source: str, target: str) -> float:
    """Return the factor on the energy of arithmetic between nodes, the geometric mean over the two energy tables."""
    ratios = [
        math.log(operation(name, target) / operation(name, source))
        for name, rows in tables()["operations"].items()
        if name.endswith(("_add", "_mul")) and "45nm" in rows
    ]
    return math.exp(sum(ratios) / len(ratios))


def arithmetic(source: str, target: str) -> float:
    """Return the factor on the energy of arithmetic between nodes: by the tables below 45 nm, Stillmaker's above.

    >>> round(1 / arithmetic("45nm", "7nm"), 1)
    2.8
    """
    factor, ends = 1.0, [source, target]
    for i, node in enumerate(ends):
        if feature(node) > 45:
            step = logic(node, "45nm") if i == 0 else logic("45nm", node)
            factor, ends[i] = factor * step, "45nm"
    return factor * by_tables(ends[0], ends[1])


def at(curve: tuple[float, float, float], voltage: float) -> float:
    """Return a V^2 + b V + c."""
    a, b, c = curve
    return a * voltage**2 + b * voltage + c


@functools.cache
def wire(voltage: float) -> float:
    """Return the energy (J/(bit m)) of moving a random bit over a repeated wire at `voltage`, in any node.

    >>> round(wire(0.75) * 1e-3 / 1e-15, 1)  # fJ per bit and millimetre
    28.1
    """
    text = tables()["wire"]["capacitance"][0]
    per_metre = float(text.split()[0]) * 1e-15 / 1e-6
    return _ACTIVITY * per_metre * voltage**2


@functools.cache
def cell_area(node: str) -> float:
    """Return the area (m2) of one SRAM cell: between nodes of the table on a line in logs, outside with the square."""
    known = {feature(n): float(v[0]) * 1e-12 for n, v in tables()["cell"].items()}
    size = feature(node)
    if min(known) <= size <= max(known):
        sizes = sorted(known)
        return float(np.exp(np.interp(math.log(size), np.log(sizes), np.log([known[s] for s in sizes]))))
    base = _closest(size, known)
    return known[base] * (size / base) ** 2


@functools.cache
def sram_word(node: str) -> tuple[float, float]:
    """Return (e0, e1) of an access of 64 bit, J: e0 + e1 sqrt(capacity in bytes), through 8 KiB and 1 MiB.

    The tables' third size, 32 KiB, then comes out 6 % low in 45 nm and 4 % low in 7 nm.
    """
    if feature(node) < 7:  # what decodes and senses shrinks as logic; wires keep their capacitance, shorter with cells
        fixed, slope = sram_word("7nm")
        return fixed * shrink(node), slope * math.sqrt(cell_area(node) / cell_area("7nm"))
    small, large = operation("sram_8KiB", node), operation("sram_1MiB", node)
    near, far = math.sqrt(2.0**13), math.sqrt(2.0**20)
    slope = (large - small) / (far - near)
    return max(small - slope * near, 0.0), slope


def _closest(size: float, known: Mapping[float, object]) -> float:
    """Return the feature size of `known` nearest to `size` in ratio; the smaller where two are as near."""
    return min(sorted(known), key=lambda k: abs(math.log(k / size)))
