"""What the commands share: options, tables, progress on a terminal, JSON on stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ...core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

Sets = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        show_default=False,
        help='Replace a value at any layer, e.g. --set chip.memory.hbm.energy="2 pJ/bit".',
    ),
]
Engine = Annotated[Literal["local", "ray"], Parameter(help="Where to run: this machine, or a Ray cluster.")]
Jobs = Annotated[int | None, Parameter(help="Workers; all cores where left out.")]
Verbose = Annotated[bool, Parameter(show_default=False, help="Say every assumption in full.")]
Json = Annotated[bool, Parameter(name="--json", show_default=False, help="Print JSON on stdout and nothing else.")]


def writable(path: Path | None, *, folder: bool = False) -> None:
    """Refuse a path that cannot be written, or a picture that nothing here draws, before any long work."""
    if path is None:
        return
    if folder or path.suffix in (".svg", ".png"):
        from ..report import vega

        vega.check()
    if folder:
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise InputError(f"{path}: cannot be made a folder here; {existing} is no folder that can be written to")
        return
    parent = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written, there is no folder {parent}")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (permission denied)")


def pairs(items: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Read key=value words; a key given twice is refused, since only one could hold."""
    out: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise InputError(f"{option} {item!r} must be key=value, e.g. {option} hardware.chip=h200-sxm")
        if key in out:
            raise InputError(f"{option} gives {key} twice; keep one")
        out[key] = value.strip()
    return out


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def percent(share: float | None) -> str:
    """Write a saving with its sign, to three digits; what is less than a hundredth of a percent is none."""
    from ..report import words

    if share is None:
        return ""
    return "0 %" if abs(share) < 5e-5 else f"{'+' if share > 0 else '-'}{words.percent(abs(share))}"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def filled(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    table = blank_table(heads, right=1)
    for row in rows:
        table.add_row(*row)
    return table


def tell(found: Any, heads: list[str], rows: list[list[str]], json: bool) -> None:
    """Print `found` as JSON, or the rows as a table."""
    if json:
        print_json(found)
        return
    table = blank_table(heads)
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def blank_table(heads: Sequence[str], right: int | None = None) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        side: Any = "right" if right is not None and number >= right else "left"
        table.add_column(head, justify=side, overflow="fold", no_wrap=number == 0)
    return table


def terminal() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def print_json(found: Any) -> None:
    """Print JSON; what is not a number there (NaN, infinity) is null."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(found, enc_hook=lambda value: value.item()), indent=2)
    sys.stdout.write(text.decode() + "\n")
