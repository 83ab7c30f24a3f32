"""`wattline top`: every device now, in a terminal: power, energy since the start, clock, limit, heat and load.

Where a run is being recorded, what it gets out of a joule stands below: J per step, tokens per joule. The view
only looks: it sets nothing, and reads a replayed device as it reads a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...core.errors import MissingExtraError
from ...core.units import show
from ...measure.monitor import Live, Monitor
from ...measure.store.database import Store
from ...measure.store.runs import grouped
from ...measure.store.sql import Row

if TYPE_CHECKING:
    from textual.app import App

COLUMNS: Final = ("scope", "device", "power", "energy", "clock", "limit", "heat", "load", "remarks")
# Windows of a run that its rates are taken from: the latest ones.
LATEST: Final = 20


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gets out of a joule: `joules` per one of `what`, in the latest windows called `window`."""

    run: str
    window: str
    what: str
    joules: float

    def __str__(self) -> str:
        singular = self.what.removesuffix("s")
        if self.what == "tokens":
            return f"{self.run} / {self.window}: {1 / self.joules:.4g} tokens per joule"
        return f"{self.run} / {self.window}: {show(self.joules, 'J')} per {singular}"


class View:
    """What the display shows, apart from how: joules since `restart`, rows and totals as text and as data."""

    def __init__(self, monitor: Monitor, rates: Callable[[], Iterable[Rate]] = tuple) -> None:
        self.monitor = monitor
        self.rates = rates
        self.began: float | None = None
        self._zero: dict[str, float] = {}

    def restart(self) -> None:
        """Count joules from now."""
        self._zero = {_key(row): row.joules for row in self.monitor.live() if row.joules is not None}
        self.began = self.monitor.clock()

    def rows(self) -> list[Row]:
        """Every device as plain data, SI units in the keys."""
        if self.began is None:
            self.restart()
        rows = []
        for live in self.monitor.live():
            key = _key(live)
            # A counter that began anew, after a pause, counts from there.
            zero = min(self._zero.get(key, 0.0), live.joules or 0.0)
            self._zero[key] = zero
            rows.append(
                {
                    "device": key,
                    "scope": live.scope,
                    "name": live.name,
                    "method": live.method,
                    "within": list(live.within),
                    "power_w": live.watts,
                    "power_low_w": live.low,
                    "power_high_w": live.high,
                    "power_span_s": live.span,
                    "energy_j": None if live.joules is None else live.joules - zero,
                    "clock_hz": live.clock,
                    "memory_clock_hz": live.memory_clock,
                    "power_limit_w": live.power_limit,
                    "temperature_c": live.temperature,
                    "utilization": live.utilization,
                    "throttle": list(live.throttle),
                    "error": live.error,
                }
            )
        return rows

    def total(self, rows: Sequence[Row]) -> Row:
        """Power and energy of the outermost devices that have a figure, and which those are."""
        known = {row["device"] for row in rows if row["energy_j"] is not None}
        outer = [row for row in rows if row["device"] in known and not known.intersection(row["within"])]
        watts = [row["power_w"] for row in outer if row["power_w"] is not None]
        return {
            "power_w": sum(watts) if watts else None,
            "energy_j": sum(row["energy_j"] for row in outer) if outer else None,
            "duration_s": self.monitor.clock() - (self.began or 0.0),
            "holds": [row["device"] for row in outer],
        }

    def to_dict(self) -> Row:
        """Everything shown, as plain data."""
        rows = self.rows()
        return {
            "devices": rows,
            "total": self.total(rows),
            "rates": [msgspec.to_builtins(rate) for rate in self.rates()],
            "missing": [msgspec.to_builtins(missing) for missing in self.monitor.missing],
        }


def cells(row: Row) -> tuple[str, ...]:
    """A device as the texts of `COLUMNS`; what it does not say is a dash."""

    def text(value: float | None, unit: str) -> str:
        return "-" if value is None else show(value, unit)

    heat, load = row["temperature_c"], row["utilization"]
    remarks = [row["error"], *(f"throttled: {why}" for why in row["throttle"])]
    if row["method"] in ("estimated", "none"):
        remarks.append(row["method"])
    return (
        row["scope"],
        row["name"],
        text(row["power_w"], "W"),
        text(row["energy_j"], "J"),
        text(row["clock_hz"], "Hz"),
        text(row["power_limit_w"], "W"),
        "-" if heat is None else f"{heat:.0f} °C",
        "-" if load is None else f"{load:.0%}",
        "; ".join(remark for remark in remarks if remark),
    )


def heading(view: View, rows: Sequence[Row]) -> str:
    """The line above the table: the total and what it holds, or what to do when there is nothing."""
    if not rows:
        return "no sensor was found; `wattline doctor` says why"
    total = view.total(rows)
    if total["energy_j"] is None:
        return "no device gives a figure; `wattline doctor` says why"
    power = "-" if total["power_w"] is None else show(total["power_w"], "W")
    scopes = " + ".join(dict.fromkeys(name.rsplit("/", 1)[1] for name in total["holds"]))
    return f"{power} now, {show(total['energy_j'], 'J')} in {show(total['duration_s'], 's')} ({scopes})"


def stored_rates(store: Store) -> Callable[[], list[Rate]]:
    """What the runs now being recorded in a store report, as a function for `View`."""

    def rates() -> list[Rate]:
        found = []
        for run in store.runs(10):
            if run["state"] == "running":
                for group in grouped(store.windows(run["run"], LATEST)):
                    found += [
                        Rate(run=run["name"], window=group["name"], what=what, joules=joules)
                        for what, joules in group["energy_per_count_j"].items()
                        if joules > 0
                    ]
        return found

    return rates


def app(view: View, interval: float = 1.0) -> App[None]:
    """The terminal application; `run()` it, or drive it with Textual's pilot."""
    try:
        from textual.app import App, ComposeResult
        from textual.binding import Binding
        from textual.widgets import DataTable, Footer, Static
    except ImportError:
        raise MissingExtraError("the live view needs Textual; pip install 'wattline[top]', or use --once") from None

    class Top(App[None]):
        """One table of devices, a line of totals above it and one of rates below."""

        TITLE = "wattline top"
        CSS = "DataTable { height: 1fr; } #total { text-style: bold; height: 1; } #rates { height: auto; }"
        BINDINGS = [  # noqa: RUF012 - Textual reads it from the class
            Binding("q", "quit", "Quit"),
            Binding("r", "restart", "Count from now"),
            Binding("space", "pause", "Pause"),
        ]

        def __init__(self) -> None:
            super().__init__()
            self.paused = False
            self._shown: tuple[str, ...] = ()

        def compose(self) -> ComposeResult:
            yield Static(id="total", markup=False)
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Static(id="rates", markup=False)
            yield Footer()

        def on_mount(self) -> None:
            table = self.query_one(DataTable)
            for name in COLUMNS:
                table.add_column(name, key=name)
            self.refresh_rows()
            self.set_interval(interval, self.refresh_rows)

        def refresh_rows(self) -> None:
            """Show what the devices say now."""
            if self.paused:
                return
            rows = view.rows()
            table = self.query_one(DataTable)
            keys = tuple(row["device"] for row in rows)
            if keys != self._shown:
                table.clear()
                for row in rows:
                    table.add_row(*cells(row), key=row["device"])
                self._shown = keys
            else:
                for row in rows:
                    for name, text in zip(COLUMNS, cells(row), strict=True):
                        table.update_cell(row["device"], name, text, update_width=True)
            self.query_one("#total", Static).update(heading(view, rows))
            self.query_one("#rates", Static).update("\n".join(_rates(view)))

        def action_restart(self) -> None:
            view.restart()
            self.refresh_rows()

        def action_pause(self) -> None:
            self.paused = not self.paused
            self.query_one("#total", Static).update("paused") if self.paused else self.refresh_rows()

    return Top()


def _rates(view: View) -> list[str]:
    try:
        return [str(rate) for rate in view.rates()]
    except Exception as error:  # a store that cannot be read must not end the view
        return [f"runs could not be read: {error}"]


def once(view: View) -> Any:
    """The same as a table to print once."""
    from rich.console import Group
    from rich.table import Table

    rows = view.rows()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("scope", "device", "remarks") else "right")
    for row in rows:
        table.add_row(*cells(row))
    return Group(heading(view, rows), table, *_rates(view))


def _key(row: Live) -> str:
    return f"{row.host}/{row.uuid}/{row.scope}"
