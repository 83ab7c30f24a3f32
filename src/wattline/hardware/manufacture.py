"""What a chip costs to make, in money and in carbon: wafers, yield, memory, package.

    wafer price / (dies per wafer x yield)  +  memory  +  package, all over the package's own yield  +  the rest

A die is good where no defect falls outside its repeated copies and no more copies are hit than are spare; defects
cluster, so the number on a die is a negative binomial (a Poisson whose rate is drawn from a gamma). Carbon follows
ACT (Gupta et al., ISCA 2022): electricity, gases and materials of the fab by area, over the same yield. Every figure
has its source in ``data/manufacture.toml``; a description replaces any of them under ``[making]``.

Laws: a smaller die, a spare copy, a better yield or a cheaper wafer never costs more; one die in two halves never
costs more silicon; money is linear in the prices.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..core.units import parse
from .architecture import Architecture, Compute, Fanout, Level
from .technology import feature

_CM2: Final = 1e-4
_MM2: Final = 1e-6
# Points of the quadrature over the clustering of defects: five digits at any die a wafer holds.
_POINTS: Final = 400


@dataclass(frozen=True)
class Made:
    """A chip's cost of making: USD and g CO2e, by part.

    Attributes
    ----------
    usd, carbon_g : part -> amount: "logic", "memory", "package", "other" ("lost" is what bad packages take along).
    dies_per_wafer, die_yield : of one of its `dies`.
    usd_uncertainty, carbon_uncertainty : relative, one standard deviation of the total.
    """

    usd: Mapping[str, float]
    carbon_g: Mapping[str, float]
    dies: int
    die_area: float
    dies_per_wafer: float
    die_yield: float
    usd_uncertainty: float
    carbon_uncertainty: float

    @property
    def total_usd(self) -> float:
        """USD of the whole chip."""
        return sum(self.usd.values())

    @property
    def total_carbon_g(self) -> float:
        """Grams of CO2e of the whole chip."""
        return sum(self.carbon_g.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable keys."""
        return {
            "usd": dict(self.usd), "total_usd": self.total_usd, "usd_uncertainty": self.usd_uncertainty,
            "carbon_g": dict(self.carbon_g), "total_carbon_g": self.total_carbon_g,
            "carbon_uncertainty": self.carbon_uncertainty, "dies": self.dies, "die_area_m2": self.die_area,
            "dies_per_wafer": self.dies_per_wafer, "die_yield": self.die_yield,
        }  # fmt: skip


@functools.cache
def tables() -> Mapping[str, Any]:
    """Return ``data/manufacture.toml``."""
    return tomllib.loads((resources.files("wattline.hardware") / "data" / "manufacture.toml").read_text("utf-8"))


def dies_per_wafer(area: float) -> float:
    """Return how many whole dies of `area` (m2, square) one wafer gives, before yield.

    The usual estimate: the usable disc over the die and its scribe line, less those that the rim cuts.

    >>> round(dies_per_wafer(814e-6))
    62
    """
    wafer = tables()["wafer"]
    across = 1e-3 * float(wafer["diameter"][0].split()[0]) - 2e-3 * float(wafer["edge"][0].split()[0])
    side = math.sqrt(area) + 1e-3 * float(wafer["scribe"][0].split()[0])
    return max(0.0, math.pi * (across / 2) ** 2 / side**2 - math.pi * across / (math.sqrt(2) * side))


def die_yield(
    area: float, *, defects: float, clustering: float, repeated: float = 0.0, copies: int = 0, spares: int = 0
) -> float:
    """Return the share of dies that are good.

    Parameters
    ----------
    area : m2 of the die. defects : per cm2. clustering : exponent of the negative binomial.
    repeated : share of the area that is `copies` equal copies, of which `spares` may be bad.

    >>> round(die_yield(814e-6, defects=0.1, clustering=3), 3)
    0.487
    """
    mean = area / _CM2 * defects
    if not spares or repeated <= 0:
        return float((1 + mean / clustering) ** -clustering)
    # Integrate over the gamma-drawn rate by its quantiles' midpoints: smooth, and right in both limits.
    rate = _gamma_quantiles(clustering)
    rest = np.exp(-rate * mean * (1 - repeated))
    hit = 1 - np.exp(-rate * mean * repeated / copies)
    good = np.zeros_like(rate)
    for bad in range(spares + 1):
        good += math.comb(copies, bad) * hit**bad * (1 - hit) ** (copies - bad)
    return float(np.mean(rest * good))


@functools.lru_cache(maxsize=16)
def _gamma_quantiles(shape: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the quantiles of a gamma of mean 1 at the midpoints of equal shares, by its summed density."""
    x = np.linspace(0.0, 1 + 60 / math.sqrt(shape) / min(shape, 1.0) ** 0.5, 200_001)
    middle = (x[1:] + x[:-1]) / 2
    mass = np.cumsum(middle ** (shape - 1) * np.exp(-shape * middle))
    return np.interp((np.arange(_POINTS) + 0.5) / _POINTS, mass / mass[-1], middle)


def made(chip: Architecture) -> Made:
    """Return what one chip costs to make; a description without a die area or outside the tables is refused."""
    if chip.area <= 0:
        raise InputError(f"chip {chip.name} states no area of its die, so its making has no price; state area.die")
    stated = {k.removeprefix("making."): e.value for k, e in chip.stated.items() if k.startswith("making.")}

    def own(name: str, default: float) -> float:
        value = stated.get(name, default)
        assert isinstance(value, float | int)
        return float(value)

    dies, spares = int(own("dies", 1)), int(own("spares", 0))
    area = chip.area / dies
    per_wafer = dies_per_wafer(area)
    if per_wafer < 1:
        raise InputError(
            f"chip {chip.name}: no die of {area / _MM2:.4g} mm2 fits on a wafer; state making.dies, the equal dies it "
            "is cut into"
        )
    repeated, copies = _repeated(chip)
    repeated = min(1.0, repeated * (copies + spares) / copies) if copies else 0.0
    if spares and not repeated:
        raise InputError(f"chip {chip.name}: making.spares needs copies with an area of their own, and none has one")
    good = own("yield", 0.0) or die_yield(
        area,
        defects=own("defects", _number("defects", "density")),
        clustering=_number("defects", "clustering"),
        repeated=repeated,
        copies=max(1, (copies + spares) // dies),
        spares=spares // dies,
    )
    used = dies / (per_wafer * good)  # wafers a chip takes
    outer = chip.levels[0]
    kind = _memory(chip, outer)
    held = 0.0 if math.isinf(outer.capacity) else outer.capacity
    on_package = kind == "hbm"
    silicon = chip.area + (own("stacks", _stacks(chip, outer, held)) * _area("hbm") if on_package else 0.0)
    advanced = on_package or dies > 1  # an interposer under several dies
    per_mm2 = parse(tables()["package"]["price" if advanced else "plain"][0], "USD")
    parts = {
        "logic": used * own("wafer_price", wafer_price(chip.node)),
        "memory": held * own("memory_price", parse(tables()["memory"][kind]["price"][0], "USD/B")),
        "package": own("package_price", silicon / _MM2 * per_mm2),
    }
    kept = own("package_yield", _number("package", "yield") if advanced else 1.0)
    other = own("other_price", parse(tables()["package"]["other"][0], "USD") if on_package else 0.0)
    usd = parts | {"lost": sum(parts.values()) * (1 / kept - 1), "other": other}
    fab = own("fab_carbon", parse(tables()["fab"]["carbon"][0], "g/J"))
    carbon = {
        "logic": used * _wafer_area() / _CM2 * carbon_per_cm2(chip.node, fab),
        "memory": held * own("memory_carbon", parse(tables()["memory"][kind]["carbon"][0], "g/B")),
        "package": dies * parse(tables()["package"]["carbon"][0], "g"),
    }
    carbon["lost"] = sum(carbon.values()) * (1 / kept - 1)
    spread = {
        "logic": math.hypot(_spread("wafer", "price", "5nm"), _yield_spread(area, good)),
        "memory": _spread("memory", kind, "price"), "package": _spread("package", "price"),
        "other": _spread("package", "other"), "lost": _spread("package", "lost"),
    }  # fmt: skip
    spread_g = {
        "logic": parse(tables()["fab"]["uncertainty"][0], ""), "memory": _spread("memory", kind, "carbon"),
        "package": _spread("package", "carbon"), "lost": _spread("package", "lost"),
    }  # fmt: skip
    return Made(usd, carbon, dies, area, per_wafer, good, _relative(usd, spread), _relative(carbon, spread_g))


def wafer_price(node: str) -> float:
    """Return the USD of one processed wafer in `node`; between nodes on a line in logs, refused outside.

    >>> wafer_price("5nm")
    16988.0
    """
    return _between(node, {n: parse(v[0], "USD") for n, v in tables()["wafer"]["price"].items()}, "wafer prices")


def carbon_per_cm2(node: str, fab: float) -> float:
    """Return the g CO2e of one cm2 of processed wafer, from a fab whose electricity carries `fab` g/J."""
    rows = {n: v for n, v in tables()["fab"].items() if n.endswith("nm")}
    energy = _between(node, {n: parse(v[0], "J") for n, v in rows.items()}, "fab energies")
    gases = _between(node, {n: parse(v[1], "g") for n, v in rows.items()}, "fab gases")
    return energy * fab + gases + parse(tables()["fab"]["materials"][0], "g")


def _between(node: str, known: Mapping[str, float], what: str) -> float:
    size, sizes = feature(node), sorted((feature(n), v) for n, v in known.items())
    if not sizes[0][0] <= size <= sizes[-1][0]:
        raise InputError(
            f"technology {node} lies outside the published {what}, {sizes[0][0]:g}nm to {sizes[-1][0]:g}nm; state "
            "what it takes under [making], or name a node inside"
        )
    xs, ys = zip(*sizes, strict=True)
    return float(np.exp(np.interp(math.log(size), np.log(xs), np.log(ys))))


def _repeated(chip: Architecture) -> tuple[float, int]:
    """Return the share of the die that is used copies of the first fan-out, and how many these are."""
    first = next((i for i, part in enumerate(chip.path) if isinstance(part, Fanout)), None)
    if first is None:
        return 0.0, 0
    inside = [p for p in chip.path[first:] if isinstance(p, Level)]
    parts: list[Level | Compute] = [*inside, chip.compute]
    area = sum(chip.copies(p) * p.area for p in parts)
    fanout = chip.path[first]
    assert isinstance(fanout, Fanout)
    return area / chip.area, fanout.size


def _wafer_area() -> float:
    return math.pi * (1e-3 * float(tables()["wafer"]["diameter"][0].split()[0]) / 2) ** 2


def _memory(chip: Architecture, outer: Level) -> str:
    entry = chip.stated.get(f"level.{outer.name}.memory")
    word = str(entry.value) if entry is not None else outer.name
    return "hbm" if word.lower().startswith("hbm") else "other"


def _stacks(chip: Architecture, outer: Level, held: float) -> float:
    entry = chip.stated.get(f"level.{outer.name}.stacks")
    return float(entry.value) if entry is not None else math.ceil(held / 24e9)  # type: ignore[arg-type]


def _area(kind: str) -> float:
    return parse(tables()["memory"][kind]["footprint"][0], "m2")


def _number(section: str, name: str) -> float:
    return float(tables()[section][name][0])


def _spread(*path: str) -> float:
    entry: Any = tables()
    for name in path:
        entry = entry[name]
    return parse(entry[2], "")


def _yield_spread(area: float, good: float) -> float:
    """Return the relative uncertainty that the density of defects puts on the price of a good die."""
    mean = area / _CM2 * _number("defects", "density")
    return _spread("defects", "density") * min(mean, -math.log(max(good, 1e-3)))


def _relative(parts: Mapping[str, float], spread: Mapping[str, float]) -> float:
    total = sum(parts.values())
    return math.sqrt(sum((value * spread[name]) ** 2 for name, value in parts.items())) / total
