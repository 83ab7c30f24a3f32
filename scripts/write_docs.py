"""Write the pages of the guide into a folder, with the reference tables that the code itself knows.

    python scripts/write_docs.py [FOLDER]       build/docs where left out; `make docs` builds the site from it

A page of docs/ names a table by ``<!-- table: NAME -->``. On a terminal the same tables are printed by
`wattline schema` and `wattline catalog`, so they are written for the site only and not kept with the pages.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import wattline
from wattline.core.units import show
from wattline.hardware import architectures, catalog
from wattline.hardware.chip import balance
from wattline.hardware.facts import Sheet
from wattline.scenario import reference
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


def _keys(file: str) -> Callable[[], str]:
    """Return what writes the keys of one kind of file, as `wattline schema` prints them."""

    def rows() -> str:
        found = [[f"`{r.key}`", r.value, r.default and f"`{r.default}`", r.meaning] for r in reference.rows(file)]
        return table(["Key", "Value", "Default", "Meaning"], found)

    return rows


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


def interface() -> str:
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
    "entries": _keys("architecture"),
    "nodes": nodes,
    "racks": racks,
    "sites": sites,
    "keys": _keys("hardware"),
    "scenario": _keys("scenario"),
    "models": known_models,
    "fleet": _keys("fleet"),
    "design": _keys("design"),
    "reference": interface,
}


def render(page: str) -> str:
    """Return `page` with each of its tables written out."""
    return re.sub(r"<!-- table: (\w+) -->", lambda found: TABLES[found[1]](), page)


def write(folder: Path) -> None:
    """Write every page, and the pictures, into `folder`."""
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    for path in folder.glob("*.md"):
        path.write_text(render(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES.parent / "build" / "docs")
