"""Tariffs, storage, sources and services of a fleet scenario, as the plan over time takes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ScenarioError
from ..site.equipment import Equipment, Service, Source, Storage, Tariff
from ..site.tasks import Array, Conditions
from .fleet_file import FleetScenario, SeriesFile, steps_of

# A month that is counted in part has so many seconds.
_MONTH = 30 * 86400.0


def zone_of(scenario: FleetScenario) -> tzinfo:
    """Return the time zone in which the scenario's clock times are meant."""
    name = scenario.grid.get("zone")
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScenarioError(f"grid.zone: {name!r} is no time zone; give one such as Europe/Berlin or UTC") from None


def priced(scenario: FleetScenario, conditions: Conditions) -> Conditions:
    """Return the conditions with the energy prices of tariffs in their hours."""
    price = None if conditions.price is None else conditions.price.copy()
    for row in scenario.bill.get("tariff", ()):
        if "energy" not in row:
            continue
        holds = within(row, conditions.edges, zone_of(scenario))
        if price is None:
            price = np.full(len(conditions.dt), np.nan)
        price = np.where(holds > 0, holds * row["energy"] + (1 - holds) * np.nan_to_num(price), price)
    if price is not None and np.isnan(price).any():
        raise ScenarioError(
            f"no tariff gives a price of energy for {int(np.isnan(price).sum())} of {len(price)} periods; "
            "give grid.price for the other hours, or tariffs that cover the day"
        )
    return conditions if price is None else _with_price(conditions, price)


def _with_price(conditions: Conditions, price: Array) -> Conditions:
    return replace(conditions, price=price)


def equipment_of(scenario: FleetScenario, conditions: Conditions) -> Equipment:
    """Return the site's equipment in the periods of a plan."""
    zone, edges, grid = zone_of(scenario), conditions.edges, scenario.grid
    rows = {kind: _named(kind, rows) for kind, rows in scenario.bill.items()}
    sell_price = grid.get("sell_price")
    if isinstance(sell_price, SeriesFile):
        sell_price = steps_of(scenario, sell_price, "USD/J", float(edges[0]), float(edges[-1])).on(edges)
    elif sell_price is not None:
        sell_price = np.full(len(conditions.dt), sell_price)
    return Equipment(
        tariffs=[_tariff(row, conditions, zone) for row in rows.get("tariff", []) if "demand" in row],
        storages=[_storage(row) for row in rows.get("storage", [])],
        sources=[_source(scenario, row, edges) for row in rows.get("source", [])],
        services=[_service(row, edges, zone) for row in rows.get("service", [])],
        sell=grid.get("sell", 0.0),
        sell_price=sell_price,
        ramp=grid.get("ramp", np.inf),
    )


def _named(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out, seen = [], set()
    for number, row in enumerate(rows, 1):
        name = row.get("name", f"{kind}-{number}")
        if name in seen:
            raise ScenarioError(f"two rows of [[{kind}]] are called {name!r}; give each a name of its own")
        seen.add(name)
        out.append({**row, "name": name})
    return out


def _needs(kind: str, row: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in row:
            raise ScenarioError(f"[[{kind}]] {row['name']} needs {key}")


def _tariff(row: Mapping[str, Any], conditions: Conditions, zone: tzinfo) -> Tariff:
    edges = conditions.edges
    months = np.array([(lambda d: 12 * d.year + d.month)(datetime.fromtimestamp(float(t), zone)) for t in edges[:-1]])
    share = min(1.0, float(edges[-1] - edges[0]) / _MONTH) if row.get("prorate") else 1.0
    return Tariff(
        row["name"], row["demand"], within(row, edges, zone) > 0, months, row.get("peak_so_far", 0.0),
        row.get("ratchet", 0.0), row.get("past_peak", 0.0), share,
    )  # fmt: skip


def _storage(row: Mapping[str, Any]) -> Storage:
    _needs("storage", row, "energy", "power")
    more = {key: row[key] for key in ("round_trip", "wear", "start", "reserve") if key in row}
    return Storage(row["name"], row["energy"], row["power"], **more)


def _source(scenario: FleetScenario, row: Mapping[str, Any], edges: Array) -> Source:
    _needs("source", row, "power")
    power = row["power"]
    if isinstance(power, SeriesFile):
        shared = "peak" in row
        series = steps_of(scenario, power, "fraction" if shared else "W", float(edges[0]), float(edges[-1])).on(edges)
        most = series * row["peak"] if shared else series
    else:
        most = np.full(len(edges) - 1, power)
    if (most < 0).any():
        raise ScenarioError(f"[[source]] {row['name']}: power must be 0 or more, got {most.min():.4g} W")
    return Source(row["name"], most, row.get("cost", 0.0), row.get("carbon", 0.0), row.get("takes", False))


def _service(row: Mapping[str, Any], edges: Array, zone: tzinfo) -> Service:
    _needs("service", row, "pays", "most")
    # A period counts where the service is offered throughout.
    offered = within(row, edges, zone) >= 1 - 1e-9
    return Service(row["name"], row["pays"], row["most"], offered, row.get("calls", 0), row.get("lasts", 3600.0))


def within(row: Mapping[str, Any], edges: Array, zone: tzinfo) -> NDArray[np.float64]:
    """Return (n,) the share of each period that lies in a row's hours, days and months, by the clock of a zone."""
    begin, end = row.get("hours", (0.0, 86400.0))
    days, months = row.get("days"), row.get("months")
    out = np.zeros(len(edges) - 1)
    for t, (a, b) in enumerate(itertools.pairwise(edges)):
        # Looked at every quarter of an hour, the finest step in which tariffs are written.
        count = max(1, min(96, round((b - a) / 900)))
        at = [datetime.fromtimestamp(float(a + (k + 0.5) * (b - a) / count), zone) for k in range(count)]
        out[t] = sum(_holds(moment, begin, end, days, months) for moment in at) / count
    return out


def _holds(moment: datetime, begin: float, end: float, days: str | None, months: Sequence[float] | None) -> bool:
    second = moment.hour * 3600 + moment.minute * 60 + moment.second
    inside = begin <= second < end or begin <= second + 86400 < end
    weekend = moment.weekday() >= 5
    fits = days is None or (days == "weekends") == weekend
    return inside and fits and (months is None or moment.month in {int(m) for m in months})
