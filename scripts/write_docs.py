"""Write the generated tables of docs/*.md anew, from the same files the code reads.

    python scripts/write_docs.py            writes every page
    python scripts/write_docs.py --check    exits 1 if that would change one

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; the text around it is kept.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import wattline
from wattline.core.units import show
from wattline.hardware import architectures, catalog
from wattline.hardware.chip import balance
from wattline.hardware.facts import KINDS, Sheet, keys
from wattline.hardware.stated import rules
from wattline.scenario import schema, schema_design, schema_fleet
from wattline.scenario.listing import peak
from wattline.workload import catalog as models

PAGES = Path(__file__).parent.parent / "docs"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def stated(sheet: Sheet, key: str) -> str:
    """Return a fact as text, or a dash where the sheet does not state it."""
    return str(sheet.facts[key]) if key in sheet else "-"


def chips() -> str:
    """Return the chips: rates, memory, links, power, and how much of the sheet is an estimate."""
    head = ["Chip", "Title", "bf16", "fp8", "Memory", "Bandwidth", "FLOP/B", "Link", "Limit", "Node", "Estimates"]
    rows = []
    for chip in map(catalog.chip, catalog.names("chip")):
        dense = "bf16" if "compute.rate.bf16" in chip else "fp16"
        guesses = sum("estimate" in fact.source for fact in chip.facts.values())
        rows.append(
            [
                f"`{chip.name}`",
                chip.title,
                stated(chip, f"compute.rate.{dense}") + (" (fp16)" if dense == "fp16" else ""),
                stated(chip, "compute.rate.fp8"),
                f"{chip['memory.hbm.capacity'] / 2**30:.4g} GiB",
                stated(chip, "memory.hbm.bandwidth"),
                f"{balance(chip, dense):.0f}",
                stated(chip, "link.nvlink.bandwidth"),
                stated(chip, "power.limit"),
                f"`{chip.tags['node']}`",
                f"{guesses} of {len(chip.facts)}",
            ]
        )
    return table(head, rows)


def nodes() -> str:
    """Return the nodes: chips, host, fans, adapters, and the reach of the scale-up links."""
    head = ["Node", "Title", "Chips", "Host", "Fans", "Adapters", "Each", "Link domain"]
    rows = [
        [
            f"`{node.name}`",
            node.title,
            stated(node, "chips"),
            stated(node, "host.power"),
            f"{100 * node['fan.fraction']:.0f} %",
            f"{stated(node, 'nic.count')} x {show(node['nic.bandwidth'], 'B/s')}",
            stated(node, "nic.power"),
            stated(node, "nvlink.domain"),
        ]
        for node in map(catalog.node, catalog.names("node"))
    ]
    return table(head, rows)


def racks() -> str:
    """Return the racks."""
    sheets = map(catalog.rack, catalog.names("rack"))
    rows = [[f"`{s.name}`", s.title, stated(s, "nodes"), stated(s, "power.limit")] for s in sheets]
    return table(["Rack", "Title", "Nodes", "Limit"], rows)


def sites() -> str:
    """Return the sites, with the source of the one figure each rests on."""
    sheets = map(catalog.site, catalog.names("site"))
    rows = [[f"`{s.name}`", s.title, stated(s, "pue"), s.facts["pue"].source] for s in sheets]
    return table(["Site", "Title", "PUE", "Source"], rows)


def described() -> str:
    """Return the chip descriptions: node, peak, parts, and the published figure each is checked against."""
    rows = []
    for chip in map(architectures.architecture, architectures.names()):
        precision, rate = peak(chip)
        parts = " → ".join(part.name for part in chip.path)
        checked = chip.tags.get("checked", chip.tags.get("note", ""))
        rows.append([f"`{chip.name}`", chip.title, chip.node, f"{show(rate, 'FLOP/s')} {precision}", parts, checked])
    return table(["Description", "Title", "Node", "Peak", "Parts, outermost first", "Checked against"], rows)


def entries() -> str:
    """Return every key a chip description may have."""
    rows = [
        [f"`{rule.name}`", rule.form, rule.unit or "-", "yes" if rule.required else "", rule.description]
        for rule in rules().values()
    ]
    return table(["Key", "Form", "Unit", "Required", "Meaning"], rows)


def facts() -> str:
    """Return every key a sheet may have."""
    rows = [
        [kind, f"`{rule.name}`", rule.unit or "-", "yes" if rule.required else "", rule.description]
        for kind in KINDS
        for rule in keys(kind).values()
    ]
    return table(["Kind", "Key", "Unit", "Required", "Meaning"], rows)


def scenario() -> str:
    """Return every key a scenario may have."""
    rows = [[f"`{k.path}`", _value(k), _default(k), k.text] for k in schema.KEYS.values()]
    return table(["Key", "Value", "Default", "Meaning"], rows)


def fleet() -> str:
    """Return every key a fleet scenario may have."""
    rows = [[f"`{k.path}`", _value(k), _default(k), k.text] for k in schema_fleet.KEYS.values()]
    return table(["Key", "Value", "Default", "Meaning"], rows)


def design() -> str:
    """Return every key a study of designs may have."""
    rows = [
        [f"`{'design.' if k.section == 'work' else ''}{k.path}`", _value(k), _default(k), k.text]
        for k in schema_design.KEYS.values()
    ]
    return table(["Key", "Value", "Default", "Meaning"], rows)


def _value(key: schema.Key) -> str:
    if key.choices:
        return ", ".join(f"`{c}`" for c in key.choices)
    kinds = {
        "text": "text", "whole": "whole number", "flag": "true or false", "": "number or %", "list": "list",
        "texts": "list of names", "wholes": "list of whole numbers",
        "names": "name or list of names", "pairs": "list of pairs",
        "demand": "quantity in request/s or token/s", "temperature": "temperature", "instant": "time",
    }  # fmt: skip
    if key.kind.startswith("series "):
        return f"quantity in {key.kind.partition(' ')[2]}, or a CSV file"
    return kinds.get(key.kind, f"quantity in {key.kind}")


def _default(key: schema.Key) -> str:
    if key.default is None:
        return ""
    return f"`{str(key.default).lower() if key.kind == 'flag' else key.default}`"


def known_models() -> str:
    """Return the models of the catalog with their counted parameters."""
    rows = []
    for name in models.models():
        m = models.model(name)
        rows.append([f"`{name}`", show(m.parameters, ""), show(m.active_parameters, ""), str(m.layers), m.source])
    return table(["Model", "Parameters", "Active", "Layers", "Source"], rows)


# What the reference of the Python interface lists: the names of the package, then of each room what users call.
REFERENCE: dict[str, tuple[str, ...]] = {
    "wattline": tuple(name for name in wattline.__all__),
    "wattline.show.result": ("Result",),
    "wattline.scenario.asked": ("asked",),
    "wattline.scenario.scenario": ("Scenario", "load", "parse", "solve"),
    "wattline.source.base": ("Source", "Device", "Points"),
    "wattline.measure.result": ("Measurement", "Part", "Total"),
    "wattline.control": ("Client", "Keeper", "Lease", "lease"),
}


def reference() -> str:
    """Every public name with its signature and docstring: shapes, units and errors stand there."""
    out = []
    for module, names in REFERENCE.items():
        home = importlib.import_module(module)
        out.append(f"## `{module}`\n")
        for name in sorted(names, key=str.lower):
            what = getattr(home, name)
            if module != "wattline" and name in wattline.__all__ and getattr(wattline, name) is what:
                continue
            out.append(f"### `{name}`\n\n```text\n{_signature(name, what)}\n```\n\n{_documented(what)}\n")
            if inspect.isclass(what) and not issubclass(what, Exception):
                out += [
                    f"- `{n}{_arguments(m)}`: {inspect.getdoc(m).splitlines()[0]}"
                    for n, m in vars(what).items()
                    if not n.startswith("_") and inspect.getdoc(m) and not isinstance(m, (int, float, str, tuple))
                    and (inspect.isfunction(m) or isinstance(m, (property, staticmethod, classmethod)))
                ]  # fmt: skip
                out.append("")
    return "\n".join(out)


def _signature(name: str, what: object) -> str:
    if inspect.isclass(what) and issubclass(what, Exception):
        return f"class {name}({what.__mro__[1].__name__})"
    return f"{name}{_arguments(what)}" if callable(what) else f"{name}: {type(what).__name__}"


def _arguments(what: object) -> str:
    if isinstance(what, property) or inspect.ismodule(what):
        return "(...)" if inspect.ismodule(what) else ""
    try:
        text = str(inspect.signature(what.__func__ if isinstance(what, (staticmethod, classmethod)) else what))
    except (TypeError, ValueError):
        return "(...)"
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are kept as text
    return re.sub(r"<factory>|<built-in function \w+>|<[^>=]*(?:<lambda>)?[^>=]* at 0x[0-9a-f]+>", "...", text)


def _documented(what: object) -> str:
    """Return a docstring as Markdown: sections and anything drawn stand as they are."""
    text = inspect.getdoc(what) or ""
    head, _, rest = text.partition("\n\n")
    return f"{head}\n\n```text\n{rest.rstrip()}\n```" if rest else head


TABLES: dict[str, Callable[[], str]] = {
    "chips": chips,
    "architectures": described,
    "entries": entries,
    "nodes": nodes,
    "racks": racks,
    "sites": sites,
    "keys": facts,
    "scenario": scenario,
    "models": known_models,
    "fleet": fleet,
    "design": design,
    "reference": reference,
}


def render(page: str) -> str:
    """Return `page` with each of its tables written anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    """Write the pages, or with ``--check`` say whether one is stale."""
    stale = 0
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text("utf-8")
        fresh = render(page)
        if fresh != page:
            stale = 1
            if "--check" not in sys.argv[1:]:
                path.write_text(fresh, "utf-8")
    return stale if "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
