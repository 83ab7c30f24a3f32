"""The terminal application of `wattline top`: a table that fits, and what is known of the selected device."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from ...core.errors import MissingExtraError
from ...core.units import show
from ...measure.store.sql import Row
from .top import View, heading, told_rates
from .top_columns import EVERY, SORTS, bars, cells, fitting, ordered, remarks

if TYPE_CHECKING:
    from textual.app import App

KEYS = "↑↓ select   s sort   r count from now   space pause   q quit"


def details(row: Row) -> str:
    """Everything about one device, a line each."""
    lines = [f"{row['name']}   {row['uuid']}   {row['device']}"]
    if row["power_w"] is not None and row["power_low_w"] is not None:
        low, high, span = (row[key] for key in ("power_low_w", "power_high_w", "power_span_s"))
        bounds = f"{show(low, 'W')} to {show(high, 'W')} over {show(span, 's', 2)}"
        past = bars(row["history_w"], 60, row["power_limit_w"])
        lines.append(f"power {show(row['power_w'], 'W')} ({bounds})   {past}")
    facts = [f"{key} {text}" for key, text in row["labels"].items()]
    if row["held_by"]:
        facts.append(f"cap held by {row['held_by']}")
    if remarks(row):
        facts.append(remarks(row))
    if facts:
        lines.append("   ".join(facts))
    lines += [f"pid {pid}   {told}" for pid, told in processes(row["processes"])[:4]]
    if len(row["processes"]) > 4:
        lines.append(f"and {len(row['processes']) - 4} more")
    return "\n".join(lines)


def processes(ids: list[int]) -> list[tuple[int, str]]:
    """Users and names of processes; those of others may not be told."""
    psutil: Any = importlib.import_module("psutil")
    found = []
    for pid in ids:
        told = "ended, or not ours to see"
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            told = f"{process.username()}   {process.name()}"
        found.append((pid, told))
    return found


def app(view: View, interval: float = 1.0) -> App[None]:
    """The terminal application; `run()` it, or drive it with Textual's pilot."""
    try:
        from textual.app import App, ComposeResult
        from textual.binding import Binding
        from textual.widgets import DataTable, Static
    except ImportError:
        raise MissingExtraError("the live view needs Textual; pip install 'wattline[top]', or use --once") from None

    class Top(App[None]):
        """One table of devices, a line of totals above it, the selected device and rates below."""

        TITLE = "wattline top"
        CSS = (
            "DataTable { height: 1fr; } #total { text-style: bold; height: 1; } #rates { height: auto; } "
            "#details { height: auto; max-height: 8; border-top: solid gray; } #keys { height: 1; color: gray; }"
        )
        BINDINGS = [  # noqa: RUF012 - Textual reads it from the class
            Binding("q", "quit", "Quit"),
            Binding("r", "restart", "Count from now"),
            Binding("s", "sort", "Sort"),
            Binding("space", "pause", "Pause"),
        ]

        def __init__(self) -> None:
            super().__init__()
            self.paused = False
            self.sort = 0
            self._shown: tuple[object, ...] = ()

        def compose(self) -> ComposeResult:
            yield Static(id="total", markup=False)
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Static(id="details", markup=False)
            yield Static(id="rates", markup=False)
            yield Static(KEYS, id="keys", markup=False)

        def on_mount(self) -> None:
            self.refresh_rows()
            self.set_interval(interval, self.refresh_rows)

        def on_resize(self) -> None:
            # The new size is known once the terminal's own handling is done.
            self.call_after_refresh(self.draw)

        def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
            self.tell(str(event.row_key.value))

        def refresh_rows(self) -> None:
            """Look at the devices and show what they say now."""
            if not self.paused:
                view.look()
                self.draw()

        def draw(self) -> None:
            """Show what was last seen, in the columns that fit."""
            rows = ordered(view.seen, SORTS[self.sort])
            table = self.query_one(DataTable)
            names = fitting(max(20, self.size.width - 2))
            now = (tuple(names), tuple(row["device"] for row in rows), self.sort)
            if now != self._shown:
                chosen = self.chosen()
                table.clear(columns=True)
                for name in names:
                    mark = " ▼" if self.sort and _sorts(name) == SORTS[self.sort] else ""
                    table.add_column(EVERY[name].title + mark, key=name, width=EVERY[name].width)
                for row in rows:
                    table.add_row(*_texts(row, names), key=row["device"])
                self._shown = now
                if chosen in [row["device"] for row in rows]:
                    table.move_cursor(row=[row["device"] for row in rows].index(chosen))
            else:
                for row in rows:
                    for name, text in zip(names, _texts(row, names), strict=True):
                        table.update_cell(row["device"], name, text)
            self.query_one("#total", Static).update("paused" if self.paused else heading(view, rows))
            self.query_one("#rates", Static).update("\n".join(told_rates(view)))
            self.tell(self.chosen())

        def chosen(self) -> str:
            """The selected device."""
            table = self.query_one(DataTable)
            if not table.row_count:
                return ""
            return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

        def tell(self, device: str) -> None:
            """Show everything about a device, where there is room for it."""
            rows = [row for row in view.seen if row["device"] == device]
            room = self.size.height >= 14
            self.query_one("#details", Static).update(details(rows[0]) if rows and room else "")

        def action_sort(self) -> None:
            self.sort = (self.sort + 1) % len(SORTS)
            self.draw()

        def action_restart(self) -> None:
            view.restart()
            self.refresh_rows()

        def action_pause(self) -> None:
            self.paused = not self.paused
            self.draw() if self.paused else self.refresh_rows()

    return Top()


def _texts(row: Row, names: list[str]) -> list[Any]:
    """The cells of a row, each standing to its side."""
    from rich.text import Text

    sides = ("right" if EVERY[name].right else "left" for name in names)
    return [Text(text, justify=side) for text, side in zip(cells(row, names), sides, strict=True)]  # type: ignore[arg-type]


def _sorts(name: str) -> str:
    """The figure that a column shows."""
    return {"power": "power_w", "load": "utilization", "memory": "memory_used_b", "energy": "energy_j",
            "heat": "temperature_c"}.get(name, "")  # fmt: skip
