"""Tests for `wattline.measure.exporters.prometheus` and the dashboard that reads it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import pytest

from wattline.measure import window as windows
from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.exporters.grafana import dashboard
from wattline.measure.exporters.prometheus import (
    CONTENT_TYPE,
    METRICS,
    Exporter,
    Windows,
    device_samples,
    render,
)
from wattline.measure.meter import State
from wattline.measure.monitor import Monitor
from wattline.measure.window import Window

STATE = State(clock=1.98e9, temperature=61.0, power_limit=700.0, utilization=0.97, throttle=("power cap",))


def watched(seconds: float = 5.0) -> tuple[Monitor, VirtualClock]:
    clock = VirtualClock()
    gpu = ReplayMeter(
        300.0, "g", clock=clock, host="h", name='a "GPU" \\ 0\n', state=STATE, within=["h/n/node"], period=0.02
    )
    node = ReplayMeter(500.0, "n", "node", "Node", clock=clock, host="h", period=0.02)
    monitor = Monitor([gpu, node], clock=clock, thread=False)
    monitor.prepare()
    for _ in range(round(seconds / 0.05)):
        clock.advance(0.05)
        monitor.poll()
    return monitor, clock


def test_another_parser_reads_the_text() -> None:
    """The official client parses every metric, with its type, help, labels and value."""
    from prometheus_client import parser

    monitor, _ = watched()
    families = {f.name: f for f in parser.text_string_to_metric_families(render(device_samples(monitor.live())))}
    energy = families["wattline_energy_joules"]
    assert energy.type == "counter"
    sample = next(s for s in energy.samples if s.labels["scope"] == "gpu")
    assert sample.labels == {"host": "h", "uuid": "g", "scope": "gpu", "name": 'a "GPU" \\ 0\n', "method": "counter"}
    assert sample.value == pytest.approx(1500.0, rel=0.02)
    assert families["wattline_throttled"].samples[0].labels["reason"] == "power cap"
    assert [s.value for s in families["wattline_outermost"].samples] == [0.0, 1.0]
    assert {f.type for f in families.values()} == {"counter", "gauge"}


def test_what_a_device_does_not_say_has_no_sample() -> None:
    """No figure is filled in: a node without clocks has none, and a failed sensor is down."""
    clock = VirtualClock()
    monitor = Monitor([ReplayMeter(1.0, "x", clock=clock, lost_at=0.0)], clock=clock, thread=False)
    monitor.prepare()
    names = {name: value for name, _, value in device_samples(monitor.live())}
    assert "wattline_clock_hertz" not in names
    assert "wattline_energy_joules_total" not in names
    assert names["wattline_sensor_up"] == 0.0


def test_windows_add_up_by_name() -> None:
    """Energy, time and counts of windows are sums; a window without a figure is counted apart."""
    monitor, clock = watched()
    sums = Windows()
    for _ in range(2):
        window = Window("step", monitor).begin()
        for _ in range(40):
            clock.advance(0.05)
            monitor.poll()
        sums.listen(window.count(tokens=10).end())
        clock.advance(0.05)
        monitor.poll()
    empty = Window("step", Monitor([], thread=False)).begin()
    sums.listen(empty.end())
    found = {(name, labels.get("what", "")): value for name, labels, value in sums.samples()}
    assert found["wattline_windows_total", ""] == 3
    assert found["wattline_windows_without_figure_total", ""] == 1
    assert found["wattline_window_energy_joules_total", ""] == pytest.approx(2000.0, rel=0.05)
    assert found["wattline_window_seconds_total", ""] == pytest.approx(4.0)
    assert found["wattline_window_count_total", "tokens"] == 20


def test_the_endpoint_answers_and_goes_away() -> None:
    """/metrics has the metrics, anything else is 404, and nothing is left behind after a close."""
    monitor, _ = watched()
    with Exporter(monitor, port=0) as exporter:
        with urllib.request.urlopen(exporter.address) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert b"wattline_energy_joules_total" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            urllib.request.urlopen(exporter.address.replace("metrics", "other"))
        caught.value.close()
        assert windows.listeners
        address = exporter.address
    assert not windows.listeners
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_the_dashboard_asks_only_for_what_is_exported() -> None:
    """Every metric in a query is exported, every label exists, and every metric but one is shown."""
    board = json.loads(dashboard())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"wattline_\w+", query)}
    asked |= {
        re.findall(r"wattline_\w+", v["query"]["query"])[0] for v in board["templating"]["list"] if v["type"] == "query"
    }
    assert asked <= set(METRICS)
    assert set(METRICS) <= asked
    for query in queries:
        assert query.count("(") == query.count(")")
        for name, inside in re.findall(r"(wattline_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=~", inside)) <= set(METRICS[name].labels)
    for panel in board["panels"]:
        labels = set(re.findall(r"\{\{(\w+)\}\}", "".join(t["legendFormat"] for t in panel["targets"])))
        known = {
            label
            for t in panel["targets"]
            for n in re.findall(r"wattline_\w+", t["expr"])
            for label in METRICS[n].labels
        }
        assert labels <= known


def test_names_carry_their_units() -> None:
    """A counter ends in _total, and a quantity in its base unit."""
    for metric in METRICS.values():
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert re.fullmatch(r"wattline_[a-z_]+", metric.name)
