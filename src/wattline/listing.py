"""What the catalog holds, as plain rows: for the command line, JSON and the web page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .hardware import catalog as hardware
from .units import show
from .workload import catalog as models

# The facts that tell entries of a kind apart at a glance, and the head of their column.
BRIEF: Final[Mapping[str, Mapping[str, str]]] = {
    "chips": {
        "compute.rate.bf16": "bf16", "memory.hbm.capacity": "memory", "memory.hbm.bandwidth": "bandwidth",
        "power.limit": "power",
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
    """Return the names of a kind: "chips", "nodes", "racks", "sites" or "models"."""
    return models.models() if kind == "models" else list(hardware.names(kind.removesuffix("s")))


def sheet(kind: str, name: str) -> dict[str, Any]:
    """Return one sheet of hardware with every fact: SI value, unit, source and uncertainty."""
    found = getattr(hardware, kind.removesuffix("s"))(name)
    facts = {
        key: {"value": f.value, "unit": f.unit, "source": f.source, "uncertainty": f.uncertainty}
        for key, f in found.facts.items()
    }
    return {"name": found.name, "title": found.title, **found.tags, "facts": facts}


def summary(kind: str, name: str) -> dict[str, Any]:
    """Return one entry in brief: plain values, or facts with value and unit."""
    if kind == "models":
        m = models.model(name)
        return {
            "name": m.name, "parameters": m.parameters, "active_parameters": m.active_parameters,
            "layers": m.layers, "weight_bytes": m.weight_bytes, "kv_bytes_per_token": m.kv_bytes_per_token,
        }  # fmt: skip
    found = sheet(kind, name)
    return {"name": found["name"], "title": found["title"], **{k: found["facts"].get(k) for k in BRIEF[kind]}}


def cell(key: str, value: Any) -> str:
    """Write one value of a row for a person."""
    if value is None:
        return ""
    if isinstance(value, dict):
        spread = f" ± {100 * value['uncertainty']:.3g} %" if value.get("uncertainty") else ""
        return show(value["value"], value["unit"]) + spread
    if "bytes" in key:
        return show(float(value), "B")
    if "parameters" in key:
        return show(float(value), "B").removesuffix("B").replace("G", "B")  # 70 B: the field's billion
    return str(value)
