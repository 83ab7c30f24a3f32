"""Hardware YAML of AccelForge and ZigZag read as a chip description, with a list of what does not map.

Both describe levels, fan-out and arithmetic as a description does; neither states voltages, leakage or links. Read
is what stands in the file: energies and rates that either tool takes from a plug-in, formulas over the workload and
templates are listed and left to be filled in.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError, MissingExtraError

# J of one bit or operation above which a figure is a counter's weight (files that count accesses write 1).
_TOY: Final = 1e-8


@dataclass
class Imported:
    """A description as TOML text, and what of the file it does not hold."""

    name: str
    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def toml(self) -> str:
        """The description; what does not map stands above it as comments."""
        notes = [f"# not mapped: {line}" for line in self.missing]
        return "\n".join([*notes, *self.lines]) + "\n"


def read_yaml(path: Path) -> Imported:
    """Return the description in a hardware YAML of AccelForge or ZigZag."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("reading hardware YAML needs PyYAML; pip install pyyaml") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Safe; tags like !Memory become a key of their mapping."""

    def tagged(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
        return {"!": suffix, **loader.construct_mapping(node, deep=True)}

    Loader.add_multi_constructor("!", tagged)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if "{%" in text or "{{" in text:
        raise InputError(f"{path}: is a template; render it first, then import the result")
    try:
        data = yaml.load(text, Loader)  # Loader derives from SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(data, dict) and "memories" in data and "operational_array" in data:
        return _Zigzag(path, data).imported()
    if isinstance(data, dict) and "nodes" in data.get("arch", {}):
        return _AccelForge(path, data["arch"]).imported()
    raise InputError(
        f"{path}: is neither AccelForge's (arch: nodes:) nor ZigZag's (memories:, operational_array:) hardware"
    )


class _Writer:
    """Collects the tables of one description."""

    def __init__(self, path: Path, tool: str) -> None:
        self.out = Imported(re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-"))
        self.source = f"{tool}, {path.name}"
        self.file = path
        self.order: list[str] = []
        self.tables: list[str] = []

    def missing(self, text: str) -> None:
        self.out.missing.append(text)

    def table(self, kind: str, name: str, rows: Iterator[str] | list[str]) -> None:
        head = f"[{kind}.{name}]" if name else f"[{kind}]"
        self.tables += ["", head, *rows]

    def number(self, key: str, value: str, what: str) -> str:
        return f'{key} = ["{value}", "{self.source}: {what}"]'

    def finish(self, clock: float, node: str) -> Imported:
        """Return the whole description."""
        listed = ", ".join(f'"{name}"' for name in self.order)
        self.out.lines = [
            f"# Read from {self.file.name}.",
            f'name = "{self.out.name}"',
            f'node = "{node}"',
            f"path = [{listed}]",
            "",
            "[domain.core]",
            'kind = "fixed"',
            f'clock = [["{clock:g} Hz"], "{self.source}"]',
            'voltage = [["1 V"], "a convention: the file states no voltage"]',
            *self.tables,
        ]
        self.missing("voltages and clocks other than one, leakage, clock distribution, links, power limit: not stated")
        return self.out


class _Zigzag(_Writer):
    """ZigZag: memories innermost first, each serving some dimensions of the array; operands I1, I2, O."""

    OPERAND: Final = {"I1": "a", "I2": "b", "O": "c"}

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        super().__init__(path, "ZigZag")
        self.data = data

    def imported(self) -> Imported:
        array = self.data["operational_array"]
        sizes = dict(zip(array["dimensions"], array["sizes"], strict=True))
        if "unit_energy" not in array:
            raise InputError(f"{self.file}: operational_array has no unit_energy; in-memory arrays do not map")
        open_ = dict(sizes)
        for name, memory in reversed(self.data["memories"].items()):
            # What a memory does not serve lies outside it: fan-outs come before it on the path.
            outside = [d for d in open_ if d not in memory["served_dimensions"]] if self.order else []
            for dimension in outside:
                self.fanout(dimension, open_.pop(dimension))
            self.level(name, memory)
        for dimension, size in open_.items():
            self.fanout(dimension, size)
        self.arithmetic(array, sizes)
        self.missing("which loops run across D1, D2, ...: it stands in ZigZag's mapping file; all may here")
        return self.finish(1e9, "28nm")

    def fanout(self, dimension: str, size: int) -> None:
        name = dimension.lower()
        self.order.append(name)
        self.table("fanout", name, [self.number("size", str(size), f"dimension {dimension}")])

    def level(self, name: str, memory: Mapping[str, Any]) -> None:
        holds = [self.OPERAND[o] for o in memory["operands"] if o in self.OPERAND] if "operands" in memory else []
        if not holds:
            holds = sorted({self.OPERAND[o.split(",")[0]] for p in memory["ports"] for o in self.allocated(p)})
        reads = [p for p in memory["ports"] if p["type"] in ("read", "read_write")]
        writes = [p for p in memory["ports"] if p["type"] in ("write", "read_write")]
        shared = any(p["type"] == "read_write" for p in memory["ports"])
        widest = max(p["bandwidth_max"] for p in memory["ports"])
        rows = [
            "holds = [" + ", ".join(f'"{o}"' for o in holds) + "]",
            f"shared_port = {str(shared).lower()}",
            self.number("width", f"{widest} bit", "bandwidth_max"),
            self.number("read_bandwidth", f"{sum(p['bandwidth_max'] for p in reads)} bit/cycle", "read ports"),
            self.number("write_bandwidth", f"{sum(p['bandwidth_max'] for p in writes)} bit/cycle", "write ports"),
        ]
        if self.order:
            rows.append(self.number("capacity", f"{memory['size']} bit", "size"))
        for key, cost in (("read_energy", "r_cost"), ("write_energy", "w_cost")):
            if memory.get(cost) is None:
                self.missing(f"{name}.{cost}: taken from CACTI by ZigZag")
            else:
                rows.append(
                    self.number(key, f"{memory[cost] / widest:.8g} pJ/bit", f"{cost} per access of {widest} bit")
                )
        if not self.order:
            rows.append('kind = "dram"')
            if set(holds) != {"a", "b", "c"}:
                raise InputError(f"{self.file}: memory {name} is outermost and does not hold all operands")
        self.order.append(name.lower().replace(".", "-"))
        self.table("level", self.order[-1], rows)
        if memory.get("area"):
            self.missing(f"{name}.area: in units of its own")

    @staticmethod
    def allocated(port: Mapping[str, Any]) -> list[str]:
        return [str(a) for a in port["allocation"]]

    def arithmetic(self, array: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        systolic = array.get("systolic_dimensions", [])
        rows = [
            'kind = "systolic"' if systolic else 'kind = "vector"',
            self.number("macs_per_cycle.int8", "1", "one operation per unit; its precision is the workload's"),
            self.number("energy.int8", f"{array['unit_energy']:g} pJ/MAC", "unit_energy"),
        ]
        if systolic:
            cycles = sum(sizes[d] - 1 for d in systolic)
            rows.append(self.number("pipeline", str(cycles), "systolic_dimensions"))
        self.table("compute", "", rows)


class _AccelForge(_Writer):
    """AccelForge: nodes outermost first; `spatial` puts copies of a node and of all that follows."""

    ROLES: Final = {"input": "a", "weight": "b", "output": "c"}

    def __init__(self, path: Path, arch: Mapping[str, Any]) -> None:
        super().__init__(path, "AccelForge")
        self.arch = arch
        self.clock = 1e9
        extra = arch.get("extra_attributes_for_all_component_models") or {}
        self.node = f"{round(float(extra['tech_node']) * 1e9):d}nm" if "tech_node" in extra else "7nm"
        if "tech_node" not in extra:
            self.missing("technology node: not stated; 7nm is written")

    def imported(self) -> Imported:
        computes = [n for n in self.arch["nodes"] if n.get("!") == "Compute"]
        if not computes:
            raise InputError(f"{self.file}: has no !Compute node")
        for node in self.arch["nodes"]:
            self.spatial(node)
            kind = node.get("!")
            if kind == "Memory":
                self.level(node)
            elif kind == "Compute":
                if node is computes[-1]:
                    self.arithmetic(node)
                else:
                    self.missing(f"{node['name']}: a second !Compute node; state its rate under [vector]")
            elif kind != "Container":
                self.missing(f"{node.get('name', '?')}: a !{kind} node")
        return self.finish(self.clock, self.node)

    def spatial(self, node: Mapping[str, Any]) -> None:
        for entry in node.get("spatial", []):
            name = str(entry["name"]).lower().replace("_", "-")
            rows = [
                self.number("size", str(self.value(entry["fanout"], f"{name}.fanout") or 1), f"{node['name']} spatial")
            ]
            reuse = str(entry.get("reuse", "")).strip()
            dims = {"input": '["n"]', "output": '["k"]', "weight": '["m"]'}.get(reuse)
            if dims:
                rows.append(f"dims = {dims}")
            elif reuse:
                self.missing(f"{name}.reuse = {reuse}: read as any loop")
            if entry.get("may_reuse") == "Nothing":
                rows += ["multicast = []", "reduce = false"]
            elif "may_reuse" in entry:
                self.missing(f"{name}.may_reuse = {entry['may_reuse']}: read as everything shared")
            for other in sorted(set(entry) - {"name", "fanout", "reuse", "may_reuse"}):
                self.missing(f"{name}.{other}")
            self.order.append(name)
            self.table("fanout", name, rows)

    def level(self, node: Mapping[str, Any]) -> None:
        name = str(node["name"]).lower()
        rows, first = [], not any(t.startswith("[level.") for t in self.tables)
        size = self.value(node.get("size", "inf"), f"{name}.size")
        if not first and size is not None and math.isfinite(size):
            rows.append(self.number("capacity", f"{size / 8:.10g} B", "size"))
        elif not first and size is None:
            rows.append(self.number("capacity", "1 B", "one value: its size is the workload's"))
        rows += [] if first else self.kept(name, node)
        rows.append('kind = "dram"' if first else ('kind = "sram"' if (size or 0) > 8192 else 'kind = "register"'))
        actions = {a["name"]: a for a in node.get("actions", [])}
        for what in ("read", "write"):
            action = actions.get(what, {})
            energy = self.value(action.get("energy"), f"{name}.{what}.energy")
            rate = self.value(action.get("throughput"), f"{name}.{what}.throughput")
            bits = self.value(action.get("bits_per_action", 1), f"{name}.{what}.bits_per_action") or 1
            if energy is None:
                self.missing(f"{name}.{what}.energy: from the model {node.get('component_class', '?')}")
            elif energy / bits > _TOY:
                self.missing(f"{name}.{what}.energy = {energy:g} J: a weight to count accesses, no energy of a memory")
            else:
                rows.append(self.number(f"{what}_energy", f"{energy / bits / 1e-12:.8g} pJ/bit", what))
            if rate is not None and math.isfinite(rate):
                rows.append(self.number(f"{what}_bandwidth", f"{rate * bits / 8:.10g} B/s", what))
        if "total_latency" in node:
            rows.append(f"shared_port = {str(not str(node['total_latency']).startswith('max')).lower()}")
        if node.get("leak_power"):
            self.missing(f"{name}.leak_power")
        area = self.value(node.get("area"), f"{name}.area")
        if area:
            rows.append(self.number("area", f"{area * 1e6:.6g} mm2", "area"))
        self.order.append(name)
        self.table("level", name, rows)

    def kept(self, name: str, node: Mapping[str, Any]) -> list[str]:
        """Return the lines for what a level holds and may pass by."""
        tensors = node.get("tensors") or {}
        keep, may = str(tensors.get("keep", "")), str(tensors.get("may_keep", ""))
        named = [self.ROLES[w.strip()] for w in keep.split("|") if w.strip() in self.ROLES]
        if named:
            return ["holds = [" + ", ".join(f'"{o}"' for o in named) + "]"]
        if may == "All" or keep.startswith("~"):
            if keep not in ("", "All", "~MainMemory", "~MainMemory.tensors"):
                self.missing(f"{name}.tensors.keep = {keep}: read as any, each optional")
            return ['optional = ["a", "b", "c"]']
        if keep != "All":
            self.missing(f"{name}.tensors.keep = {keep or '(nothing)'}: read as all")
        return []

    def arithmetic(self, node: Mapping[str, Any]) -> None:
        action: Mapping[str, Any] = next((a for a in node.get("actions", []) if a["name"] == "compute"), {})
        energy = self.value(action.get("energy"), f"{node['name']}.energy")
        rate = self.value(action.get("throughput"), f"{node['name']}.throughput")
        if rate and math.isfinite(rate) and rate >= 1e6:
            self.clock = rate
        else:
            self.missing(f"{node['name']}.throughput: no clock in it; 1 GHz is written")
        if energy is None:
            self.missing(f"{node['name']}.energy: from the model {node.get('component_class', '?')}; 0 is written")
        if energy is not None and energy > _TOY:
            self.missing(f"{node['name']}.energy = {energy:g} J: a weight to count operations; 0 is written")
            energy = None
        rows = [
            'kind = "vector"',
            self.number("macs_per_cycle.int8", "1", "one MAC a cycle; precision is the workload's"),
            self.number("energy.int8", f"{(energy or 0.0) / 1e-12:.6g} pJ/MAC", "compute"),
        ]
        area = self.value(node.get("area"), f"{node['name']}.area")
        if area:
            rows.append(self.number("area", f"{area * 1e6:.6g} mm2", "area"))
        self.table("compute", "", rows)

    def value(self, given: object, what: str) -> float | None:
        """Return a number, or an arithmetic expression of numbers worked out; None where it needs the workload."""
        if given is None:
            return None
        if isinstance(given, (int, float)):
            return float(given)
        try:
            return _calculated(str(given))
        except (ValueError, SyntaxError, ZeroDivisionError, OverflowError):
            self.missing(f"{what} = {given}: a formula over the workload")
            return None


_OPERATORS: Final[Mapping[type, Callable[[float, float], float]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip


def _calculated(text: str) -> float:
    """Work out an expression of numbers, + - * / ** and inf; anything else is a ValueError."""

    def walk(node: ast.AST) -> float:
        if isinstance(node, ast.Expression):
            return walk(node.body)
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Name) and node.id == "inf":
            return math.inf
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        raise ValueError(text)

    return walk(ast.parse(text.strip(), mode="eval"))
