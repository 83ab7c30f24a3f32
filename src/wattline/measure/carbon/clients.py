"""Clients of grid services as plug-ins; nothing is fetched until `series` is called.

A client is anything with ``series(start, stop)`` (seconds since 1970) that returns a `Series`. Those here ask one
address at a time through `fetch`, a function of an address and headers that returns decoded JSON, so that a test
or a proxy can stand in for the network. Others are found through the entry point group ``wattline.measure.carbon``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from ...core.errors import InputError, WattlineError, nearest
from ...core.units import parse
from .series import Series, instant, steps

Fetch = Callable[[str, Mapping[str, str]], Any]
GROUP: Final = "wattline.carbon"
TIMEOUT: Final = 20.0
DAY: Final = 86400.0


class FetchError(WattlineError):
    """A grid service that did not answer, or not with what it documents."""


class Client(Protocol):
    """A grid service: one method is enough to be one."""

    def series(self, start: float, stop: float) -> Series:
        """Values that cover [start, stop], seconds since 1970."""


def fetch(address: str, headers: Mapping[str, str]) -> Any:
    """Get JSON over HTTPS with the standard library."""
    if not address.startswith("https://"):
        raise InputError(f"a grid service must be asked over https, got {address.split('?')[0]!r}")
    try:
        with urlopen(Request(address, headers=dict(headers)), timeout=TIMEOUT) as answer:
            return json.load(answer)
    except HTTPError as error:
        hint = "; check the key or password" if error.code in (401, 403) else ""
        raise FetchError(f"{address.split('?')[0]} answered {error.code} {error.reason}{hint}") from None
    except (URLError, OSError, ValueError) as error:
        raise FetchError(f"{address.split('?')[0]} did not answer: {error}") from None


class ElectricityMaps:
    """Average (consumption-based) intensity of a zone, by the hour, from Electricity Maps (needs a token).

    API: https://app.electricitymaps.com/docs, /v3/carbon-intensity/past-range, at most 10 days a request.
    """

    address = "https://api.electricitymaps.com/v3/carbon-intensity/past-range"

    def __init__(self, zone: str, token: str, *, fetch: Fetch = fetch) -> None:
        self.zone, self.token, self.fetch = zone, token, fetch

    def series(self, start: float, stop: float) -> Series:
        """Hourly means that cover [start, stop]; what the service estimates is marked."""
        rows: dict[float, tuple[float, float, float, bool]] = {}
        for begin, end in _chunks(_floor(start, 3600), _ceil(stop, 3600), 10 * DAY):
            query = urlencode({"zone": self.zone, "start": _z(begin), "end": _z(end)})
            answer = self.fetch(f"{self.address}?{query}", {"auth-token": self.token})
            for row in _rows(answer, "Electricity Maps", "datetime", "carbonIntensity"):
                if row.get("carbonIntensity") is None:
                    continue
                at = _floor(instant(row["datetime"]), 3600)
                value = parse(f"{row['carbonIntensity']} g/kWh", "g/J")
                rows[at] = (at, at + 3600.0, value, bool(row.get("isEstimated", False)))
        return steps(rows.values(), "g/J", f"Electricity Maps, zone {self.zone}", "average")


class WattTime:
    """Marginal operating emissions rate of a region, every five minutes, from WattTime (needs an account).

    API: https://docs.watttime.org, /v3/historical with signal co2_moer, at most 32 days a request. The rate is
    marginal: what one joule more or less causes. It must not be mixed with averages.
    """

    address = "https://api.watttime.org"

    def __init__(self, region: str, user: str, password: str, *, fetch: Fetch = fetch) -> None:
        self.region, self.user, self.password, self.fetch = region, user, password, fetch

    def series(self, start: float, stop: float) -> Series:
        """Five-minute values that cover [start, stop]."""
        secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        answer = self.fetch(f"{self.address}/login", {"Authorization": f"Basic {secret}"})
        try:
            token = answer["token"]
        except (KeyError, TypeError):
            raise FetchError("WattTime answered the login without a token") from None
        rows: dict[float, tuple[float, float, float, bool]] = {}
        for begin, end in _chunks(_floor(start, 300), _ceil(stop, 300), 32 * DAY):
            query = urlencode({"region": self.region, "start": _z(begin), "end": _z(end), "signal_type": "co2_moer"})
            answer = self.fetch(f"{self.address}/v3/historical?{query}", {"Authorization": f"Bearer {token}"})
            found = _rows(answer, "WattTime", "point_time", "value")
            meta = answer.get("meta", {})
            if meta.get("units") != "lbs_co2_per_mwh":
                raise FetchError(f"WattTime answered in {meta.get('units')!r}, expected 'lbs_co2_per_mwh'")
            length = float(meta.get("data_point_period_seconds", 300))
            for row in found:
                at = instant(row["point_time"])
                if at < end:
                    rows[at] = (at, at + length, parse(f"{row['value']} lb/MWh", "g/J"), False)
        return steps(rows.values(), "g/J", f"WattTime MOER, region {self.region}", "marginal")


class UKCarbonIntensity:
    """Average intensity of Great Britain's grid, by the half hour, from the National Grid service (no key).

    API: https://carbon-intensity.github.io/api-definitions, at most 14 days a request. Where no actual value is
    there yet, the forecast is taken and marked as an estimate.
    """

    address = "https://api.carbonintensity.org.uk/intensity"

    def __init__(self, *, fetch: Fetch = fetch) -> None:
        self.fetch = fetch

    def series(self, start: float, stop: float) -> Series:
        """Half-hourly values that cover [start, stop]."""
        rows: dict[float, tuple[float, float, float, bool]] = {}
        for begin, end in _chunks(_floor(start, 1800), _ceil(stop, 1800), 14 * DAY):
            # The service answers with the half hour that ends at `from` too; it is left out below.
            answer = self.fetch(f"{self.address}/{quote(_z(begin))}/{quote(_z(end))}", {"Accept": "application/json"})
            for row in _rows(answer, "UK Carbon Intensity", "from", "to", "intensity"):
                values = row["intensity"]
                actual, forecast = values.get("actual"), values.get("forecast")
                value = actual if actual is not None else forecast
                at = instant(row["from"])
                if value is not None and begin <= at < end:
                    rows[at] = (at, instant(row["to"]), parse(f"{value} g/kWh", "g/J"), actual is None)
        return steps(rows.values(), "g/J", "UK Carbon Intensity API", "average")


def plugin(name: str) -> Callable[..., Client]:
    """A client by name: those here, then the entry points of the group ``wattline.measure.carbon``."""
    from importlib.metadata import entry_points

    own: dict[str, Callable[..., Client]] = {
        "electricity-maps": ElectricityMaps,
        "watttime": WattTime,
        "uk": UKCarbonIntensity,
    }
    if name in own:
        return own[name]
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        found: Callable[..., Client] = others[name].load()
        return found
    raise InputError(f"no grid service is called {name!r}; {nearest(name, [*own, *others])}")


def _rows(answer: Any, service: str, *keys: str) -> list[dict[str, Any]]:
    """The rows of an answer, each with the keys it must have."""
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and r.keys() >= set(keys) for r in rows):
        raise FetchError(f"{service} answered without 'data' rows of {', '.join(keys)}: {str(answer)[:200]}")
    return rows


def _chunks(start: float, stop: float, most: float) -> Iterator[tuple[float, float]]:
    while start < stop:
        yield start, min(stop, start + most)
        start += most


def _floor(time: float, step: float) -> float:
    return time // step * step


def _ceil(time: float, step: float) -> float:
    return -(-time // step) * step


def _z(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%MZ")
