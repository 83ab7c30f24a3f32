"""Tests for `wattline.measure.exporters.otel` against the OpenTelemetry SDK."""

from __future__ import annotations

import pytest
from opentelemetry.sdk import metrics as sdk

from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.exporters.otel import Otel
from wattline.measure.meter import State
from wattline.measure.monitor import Monitor


def test_a_reader_gets_every_device() -> None:
    """Energy is a counter in joules, temperature a gauge, each with the device's identity; none after a close."""
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    clock = VirtualClock()
    meter = ReplayMeter(300.0, "g", clock=clock, host="h", state=State(temperature=61.0), period=0.02)
    monitor = Monitor([meter], clock=clock, thread=False)
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    with Otel(monitor, provider=provider) as otel:
        otel.start()
        for _ in range(100):
            clock.advance(0.05)
            monitor.poll()
        found = _points(reader)
        assert found["hw.energy"].value == pytest.approx(1500.0, rel=0.02)
        assert found["hw.energy"].attributes["hw.id"] == "h/g/gpu"
        assert found["hw.temperature"].value == 61.0
        assert "wattline.clock" not in found
    assert _points(reader) == {}
    provider.shutdown()


def _points(reader) -> dict:
    data = reader.get_metrics_data()
    metrics = [m for r in (data.resource_metrics if data else []) for s in r.scope_metrics for m in s.metrics]
    return {metric.name: metric.data.data_points[0] for metric in metrics if metric.data.data_points}
