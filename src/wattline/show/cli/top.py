"""`wattline top`: every device now, as rows of data: power with its bounds, history, memory, load, who holds a cap.

Where a run is being recorded, what it gets out of a joule stands below: J per step, J per request, tokens per joule.
The view only looks: it sets nothing, and reads a replayed device as it reads a real one. How rows are shown is in
`top_columns` and `top_app`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ...core.units import show
from ...measure.monitor import Live, Monitor
from ...measure.store.database import Store
from ...measure.store.runs import grouped
from ...measure.store.sql import Row

# Windows of a run that its rates are taken from: the latest ones.
LATEST: Final = 20
# Looks that are kept of each device's power.
HISTORY: Final = 120


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

    def __init__(
        self,
        monitor: Monitor,
        rates: Callable[[], Iterable[Rate]] = tuple,
        holders: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.monitor = monitor
        self.rates = rates
        self.holders = holders
        self.seen: list[Row] = []
        self._history: dict[str, deque[float]] = {}
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
        held = self.holders()
        for live in self.monitor.live():
            key = _key(live)
            # A counter that began anew, after a pause, counts from there.
            zero = min(self._zero.get(key, 0.0), live.joules or 0.0)
            self._zero[key] = zero
            history = self._history.setdefault(key, deque(maxlen=HISTORY))
            if live.watts is not None:
                history.append(live.watts)
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
                    "index": live.labels.get("index", ""),
                    "uuid": live.uuid,
                    "memory_used_b": live.memory_used,
                    "memory_total_b": live.memory_total,
                    "processes": list(live.processes),
                    "held_by": held.get(live.uuid, ""),
                    "history_w": list(history),
                    "unknown": list(live.unknown),
                    "labels": dict(live.labels),
                }
            )
        return rows

    def look(self) -> list[Row]:
        """Look at every device and keep what it said."""
        self.seen = self.rows()
        return self.seen

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


def daemon_holders() -> Callable[[], Mapping[str, str]]:
    """Who holds which device, as the daemon of this machine tells us; nothing where there is none or it does not."""
    from ...control.daemon.client import SOCKET, Client
    from ...control.leases.actuator import ControlError

    given = os.environ.get("WATTLINE_DAEMON", "")
    client = Client(timeout=0.5)

    def holders() -> Mapping[str, str]:
        if not given and not SOCKET.exists():
            return {}
        try:
            return {row["device"]: row.get("owner") or "held" for row in client.devices() if row["held"]}
        except ControlError:
            return {}

    return holders


def told_rates(view: View) -> list[str]:
    """What the runs being recorded get out of a joule, a line each."""
    try:
        return [str(rate) for rate in view.rates()]
    except Exception as error:  # a store that cannot be read must not end the view
        return [f"runs could not be read: {error}"]


def once(view: View, width: int = 160) -> Any:
    """The same as a table to print once, in the columns that fit."""
    from rich.console import Group
    from rich.table import Table

    from .top_columns import EVERY, cells, fitting

    rows = view.look()
    names = fitting(width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(EVERY[name].title, justify="right" if EVERY[name].right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row, names))
    return Group(heading(view, rows), table, *told_rates(view))


def _key(row: Live) -> str:
    return f"{row.host}/{row.uuid}/{row.scope}"
