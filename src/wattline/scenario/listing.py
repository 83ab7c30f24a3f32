"""What the catalog holds, as plain rows: for the command line, JSON and the web page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError
from ..core.units import show
from ..hardware import architectures
from ..hardware import catalog as hardware
from ..hardware.architecture import Architecture
from ..hardware.manufacture import made
from ..workload import catalog as models

# The facts that tell entries of a kind apart at a glance, and the head of their column.
BRIEF: Final[Mapping[str, Mapping[str, str]]] = {
    "chips": {
        "compute.rate.bf16": "bf16", "memory.hbm.capacity": "memory", "memory.hbm.bandwidth": "bandwidth",
        "power.limit": "power",
    },
    "architectures": {
        "node": "technology", "rate": "peak", "levels": "levels, outermost first", "copies": "units",
        "bandwidth": "main memory", "area": "area",
    },
    "nodes": {"chips": "chips", "host.power": "host", "nic.count": "adapters", "fan.fraction": "fans"},
    "racks": {"nodes": "nodes", "power.limit": "power", "overhead.power": "overhead"},
    "sites": {"pue": "PUE"},
    "models": {
        "parameters": "parameters", "active_parameters": "active", "layers": "layers", "weight_bytes": "weights",
        "kv_bytes_per_token": "KV/token",
    },
}  # fmt: skip


def names(kind: str) -> list[str]:
    """Return the names of a kind: "chips", "architectures", "nodes", "racks", "sites" or "models"."""
    if kind == "architectures":
        return list(architectures.names())
    return models.models() if kind == "models" else list(hardware.names(kind.removesuffix("s")))


def sheet(kind: str, name: str) -> dict[str, Any]:
    """Return one sheet of hardware with every fact: SI value, unit, source and uncertainty."""
    if kind == "architectures":
        return description(architectures.architecture(name))
    found = getattr(hardware, kind.removesuffix("s"))(name)
    facts = {
        key: {"value": f.value, "unit": f.unit, "source": f.source, "uncertainty": f.uncertainty}
        for key, f in found.facts.items()
    }
    return {"name": found.name, "title": found.title, **found.tags, "facts": facts}


def description(chip: Architecture) -> dict[str, Any]:
    """Return a chip description with every entry: SI value, unit, source and uncertainty."""
    facts = {
        key: {"value": e.value, "unit": e.unit, "source": e.source, "uncertainty": e.uncertainty}
        for key, e in chip.stated.items()
    }
    return {
        "name": chip.name, "title": chip.title, "technology": chip.node, **chip.tags, "facts": facts,
        **_making(chip),
    }  # fmt: skip


def _making(chip: Architecture) -> dict[str, Any]:
    """Return what a chip costs to make under `making`; nothing where its description does not say enough."""
    try:
        return {"making": made(chip).to_dict()}
    except InputError:
        return {}


def making_lines(sheet: Mapping[str, Any]) -> list[list[str]]:
    """Return rows (what, how much, how it was worked out) of what a chip costs to make, where its sheet has it."""
    if "making" not in sheet:
        return []
    m = sheet["making"]
    parts = ", ".join(f"{name} {usd:,.0f}" for name, usd in m["usd"].items())
    grams = ", ".join(f"{name} {g / 1000:.3g}" for name, g in m["carbon_g"].items())
    how = f"{100 * m['die_yield']:.0f} % of {m['dies_per_wafer']:.0f} dies of a wafer are good; data/manufacture.toml"
    return [
        ["to make one", f"{m['total_usd']:,.0f} USD ± {100 * m['usd_uncertainty']:.0f} %", f"{parts}; {how}"],
        ["", f"{m['total_carbon_g'] / 1000:.3g} kg CO2e ± {100 * m['carbon_uncertainty']:.0f} %", f"kg: {grams}"],
    ]


def peak(chip: Architecture) -> tuple[str, float]:
    """Return the precision of the highest rate and that rate (FLOP/s), the wider type where two are as fast."""
    clock = chip.domain(chip.compute.domain).reference_clock
    macs = chip.compute.macs_per_cycle
    best = max(macs, key=lambda p: (macs[p], p.startswith("bf"), p.startswith("fp")))
    return best, 2 * macs[best] * chip.copies(chip.compute) * clock


def imported(path: Path) -> dict[str, Any]:
    """Return the description in another tool's hardware YAML, as TOML text, and what of it does not map."""
    from ..hardware.importing import read_yaml

    found = read_yaml(path)
    return {"name": found.name, "toml": found.toml, "missing": found.missing}


def summary(kind: str, name: str) -> dict[str, Any]:
    """Return one entry in brief: plain values, or facts with value and unit."""
    if kind == "models":
        m = models.model(name)
        return {
            "name": m.name, "parameters": m.parameters, "active_parameters": m.active_parameters,
            "layers": m.layers, "weight_bytes": m.weight_bytes, "kv_bytes_per_token": m.kv_bytes_per_token,
            **({"beside": ", ".join(f"{n} of {c / 1e9:.3g} B" for n, c in m.towers)} if m.towers else {}),
            **({"in_doubt": "; ".join(m.doubts)} if m.doubts else {}),
        }  # fmt: skip
    if kind == "architectures":
        chip = architectures.architecture(name)
        precision, rate = peak(chip)
        return {
            "name": name, "title": chip.title, "node": chip.node, "rate": f"{show(rate, 'FLOP/s')} {precision}",
            "levels": ", ".join(level.name for level in chip.levels), "copies": chip.copies(chip.compute),
            "bandwidth": {"value": chip.levels[0].read_bandwidth, "unit": "B/s"},
            "area": {"value": chip.area, "unit": "m2"},
        }  # fmt: skip
    found = sheet(kind, name)
    return {"name": found["name"], "title": found["title"], **{k: found["facts"].get(k) for k in BRIEF[kind]}}


def cell(key: str, value: Any) -> str:
    """Write one value of a row for a person."""
    if value is None:
        return ""
    if isinstance(value, dict) and not isinstance(value["value"], float):
        each = value["value"] if isinstance(value["value"], (list, tuple)) else [value["value"]]
        return ", ".join(show(v, value["unit"]) if isinstance(v, float) else str(v) for v in each)
    if isinstance(value, dict):
        spread = f" ± {100 * value['uncertainty']:.3g} %" if value.get("uncertainty") else ""
        return show(value["value"], value["unit"]) + spread
    if "bytes" in key:
        return show(float(value), "B")
    if "parameters" in key:
        return show(float(value), "B").removesuffix("B").replace("G", "B")  # 70 B: the field's billion
    return str(value)
