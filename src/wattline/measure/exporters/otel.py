"""OpenTelemetry metrics of every device, under the names of its conventions for hardware.

Names and units are those of the semantic conventions (https://opentelemetry.io/docs/specs/semconv/hardware/):
``hw.energy`` (J), ``hw.power`` (W), ``hw.temperature`` (Cel). What they have no name for is under ``wattline.``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from ...core.errors import MissingExtraError
from ..monitor import Live, Monitor, default

# scope -> hw.type of the conventions
TYPES: Final = {"gpu": "gpu", "cpu": "cpu", "dram": "memory", "soc": "cpu", "node": "enclosure", "wall": "power_supply"}

# name, unit, help, whether it only grows, and where the value is
INSTRUMENTS: Final[tuple[tuple[str, str, str, bool, Callable[[Live], float | None]], ...]] = (
    ("hw.energy", "J", "Energy used by the device.", True, lambda row: row.joules),
    ("hw.power", "W", "Power drawn by the device.", False, lambda row: row.watts),
    ("wattline.power.low", "W", "The least that it can have been, by what was read.", False, lambda row: row.low),
    ("wattline.power.high", "W", "The most that it can have been, by what was read.", False, lambda row: row.high),
    ("hw.temperature", "Cel", "Temperature of the device.", False, lambda row: row.temperature),
    ("hw.power.limit", "W", "Power limit in force.", False, lambda row: row.power_limit),
    ("wattline.clock", "Hz", "Core clock.", False, lambda row: row.clock),
    ("wattline.memory_clock", "Hz", "Memory clock.", False, lambda row: row.memory_clock),
    ("wattline.utilization", "1", "Share of time that the device was busy.", False, lambda row: row.utilization),
)


def attributes(row: Live) -> dict[str, str]:
    """What tells a device from another."""
    return {
        "hw.id": f"{row.host}/{row.uuid}/{row.scope}",
        "hw.name": row.name,
        "hw.type": TYPES.get(row.scope, row.scope),
        "host.name": row.host,
        "wattline.scope": row.scope,
        "wattline.method": row.method,
    }


class Otel:
    """Observable instruments over a monitor: nothing is read until a reader asks.

    provider : a ``MeterProvider``; the global one of the program if None. `start` registers, `close` lets the
    devices rest (the instruments then answer with nothing, for OpenTelemetry cannot take them back).
    """

    def __init__(self, monitor: Monitor | None = None, *, provider: Any = None) -> None:
        self._given, self._provider = monitor, provider
        self._held = contextlib.ExitStack()
        self._on = False

    def start(self) -> Otel:
        """Register the instruments; does nothing the second time."""
        if self._on:
            return self
        try:
            from opentelemetry import metrics
        except ImportError:
            raise MissingExtraError("OpenTelemetry is not installed; pip install 'wattline[otel]'") from None
        monitor = self._given if self._given is not None else default()
        provider = self._provider if self._provider is not None else metrics.get_meter_provider()
        meter = provider.get_meter("wattline")
        for name, unit, text, grows, value in INSTRUMENTS:
            create = meter.create_observable_counter if grows else meter.create_observable_gauge
            create(name, callbacks=[self._callback(metrics.Observation, monitor, value)], unit=unit, description=text)
        self._held.enter_context(monitor.watch())
        self._on = True
        return self

    def close(self) -> None:
        """Stop answering."""
        self._on = False
        self._held.close()

    def __enter__(self) -> Otel:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _callback(
        self, observation: Any, monitor: Monitor, value: Callable[[Live], float | None]
    ) -> Callable[[Any], Iterable[Any]]:
        def observe(_options: Any) -> Iterable[Any]:
            if not self._on:
                return []
            rows = ((value(row), row) for row in monitor.live())
            return [observation(number, attributes(row)) for number, row in rows if number is not None]

        return observe
