"""The columns of `wattline top`: what each shows, how wide it is, and which fit a terminal of a given width.

At 60 columns a device has its power, load, memory and heat; at 80 its history and energy beside them; at 160 its limit,
clocks, who holds a cap, processes, UUID and remarks too. A column is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ...core.units import show
from ...measure.store.sql import Row

BARS: Final = "▁▂▃▄▅▆▇█"
# Devices are sorted by these in turn; None is the order in which they were found.
SORTS: Final[tuple[str | None, ...]] = (None, "power_w", "utilization", "memory_used_b", "energy_j", "temperature_c")


class Column(NamedTuple):
    """A column: its title, its width in characters, whether it stands to the right, and the text of a row."""

    title: str
    width: int
    right: bool
    text: Callable[[Row], str]


def bars(values: Sequence[float], width: int, most: float | None = None) -> str:
    """The latest values as bars of a character each, from nothing to the most.

    >>> bars([0.0, 50.0, 100.0], 3)
    '▁▅█'
    """
    shown = list(values)[-width:]
    top = max(most or 0.0, max(shown, default=0.0))
    if top <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, round(value / top * (len(BARS) - 1)))] for value in shown)


def _value(key: str, unit: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        return "-" if row[key] is None else show(row[key], unit)

    return text


def _power(row: Row) -> str:
    if row["power_w"] is None:
        return "-"
    low, high = row["power_low_w"], row["power_high_w"]
    off = 0.0 if low is None or high is None or row["power_w"] <= 0 else (high - low) / 2 / row["power_w"]
    # A figure that is known to a twentieth needs no word about it.
    return show(row["power_w"], "W") + (f" ±{min(off, 9.99):.0%}" if off > 0.05 else "")


def _memory(row: Row) -> str:
    used, total = row["memory_used_b"], row["memory_total_b"]
    if used is None or not total:
        return "-"
    return f"{used / 2**30:.0f}/{total / 2**30:.0f}G"


def remarks(row: Row) -> str:
    """What has to be said of a device."""
    said = [row["error"], *(f"throttled: {why}" for why in row["throttle"]), *(f"{u} unknown" for u in row["unknown"])]
    if row["method"] in ("estimated", "none"):
        said.append(row["method"])
    return "; ".join(word for word in said if word)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _load(row: Row) -> str:
    return "-" if row["utilization"] is None else f"{row['utilization']:.0%}"


def _heat(row: Row) -> str:
    return "-" if row["temperature_c"] is None else f"{row['temperature_c']:.0f} °C"


def _history(row: Row) -> str:
    return bars(row["history_w"], 10, row["power_limit_w"])


# In the order in which they stand.
EVERY: Final[dict[str, Column]] = {
    "index": Column("#", 3, True, lambda row: row["index"] or "-"),
    "scope": Column("scope", 5, False, lambda row: row["scope"]),
    "device": Column("device", 13, False, lambda row: _short(row["name"], 13)),
    "power": Column("power", 11, True, _power),
    "history": Column("history", 10, False, _history),
    "energy": Column("energy", 8, True, _value("energy_j", "J")),
    "load": Column("load", 5, True, _load),
    "memory": Column("memory", 8, True, _memory),
    "heat": Column("heat", 6, True, _heat),
    "clock": Column("clock", 8, True, _value("clock_hz", "Hz")),
    "limit": Column("limit", 7, True, _value("power_limit_w", "W")),
    "held": Column("held by", 10, False, lambda row: _short(row["held_by"], 10)),
    "processes": Column("procs", 5, True, lambda row: str(len(row["processes"]) or "-")),
    "uuid": Column("uuid", 10, False, lambda row: _short(row["uuid"], 10)),
    "remarks": Column("remarks", 16, False, lambda row: _short(remarks(row), 16)),
}
# In the order in which they are given up as a terminal is narrower, the last first.
WORTH: Final = (
    "device", "power", "load", "memory", "heat", "index", "history", "energy", "remarks", "limit", "clock", "held",
    "processes", "scope", "uuid",
)  # fmt: skip
# Between two columns.
GAP: Final = 2


def fitting(width: int) -> list[str]:
    """The columns that fit so many characters, in the order in which they stand.

    >>> fitting(60)
    ['index', 'device', 'power', 'load', 'memory', 'heat']
    """
    chosen: list[str] = []
    left = width
    for name in WORTH:
        need = EVERY[name].width + GAP * bool(chosen)
        if need > left:
            break
        chosen.append(name)
        left -= need
    return [name for name in EVERY if name in chosen]


def cells(row: Row, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """A device as the texts of its columns, all where `names` is None; what it does not say is a dash."""
    return tuple(EVERY[name].text(row) for name in (EVERY if names is None else names))


def ordered(rows: Sequence[Row], by: str | None) -> list[Row]:
    """Rows by a figure, the most first and those without it last; as they are where None."""
    if by is None:
        return list(rows)
    return sorted(rows, key=lambda row: (row[by] is None, -(row[by] or 0.0)))
