"""An endpoint for Prometheus: ``/metrics`` in its text format, from the devices and windows of this process.

Energy is a counter in joules, so ``rate(wattline_energy_joules_total[1m])`` is power, however seldom one scrapes.
A device that gives no figure has no sample: nothing is filled in.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from .. import window as windows
from ..monitor import Live, Monitor, default

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PORT: Final = 9469
# Units that end a metric's name, as OpenMetrics wants them told.
UNITS: Final = ("joules", "watts", "hertz", "celsius", "seconds", "ratio", "bytes")
# Names of windows, and of things counted in them, that are told apart; the rest are summed under "other".
MOST_NAMES: Final = 1000

DEVICE: Final = ("host", "uuid", "scope", "name", "method")
WINDOW: Final = ("window",)


class Metric(NamedTuple):
    """A metric: its name with the unit in it, kind, help text and labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("wattline_energy_joules_total", "counter", "Energy since the exporter began.", DEVICE),
        Metric("wattline_power_watts", "gauge", "Mean power over the last second.", DEVICE),
        Metric("wattline_power_low_watts", "gauge", "The least that it can have been, by what was read.", DEVICE),
        Metric("wattline_power_high_watts", "gauge", "The most that it can have been, by what was read.", DEVICE),
        Metric("wattline_clock_hertz", "gauge", "Core clock.", DEVICE),
        Metric("wattline_memory_clock_hertz", "gauge", "Memory clock.", DEVICE),
        Metric("wattline_temperature_celsius", "gauge", "Temperature.", DEVICE),
        Metric("wattline_power_limit_watts", "gauge", "Power limit in force.", DEVICE),
        Metric("wattline_utilization_ratio", "gauge", "Share of time that the device was busy, 0 to 1.", DEVICE),
        Metric("wattline_throttled", "gauge", "1 while the clock is held down for the reason.", (*DEVICE, "reason")),
        Metric("wattline_outermost", "gauge", "1 if no other device measured here contains this one.", DEVICE),
        Metric("wattline_sensor_up", "gauge", "1 if the sensor could be read, 0 if not.", DEVICE),
        Metric("wattline_windows_total", "counter", "Windows that closed.", WINDOW),
        Metric("wattline_windows_without_figure_total", "counter", "Windows that no sensor gave a figure for.", WINDOW),
        Metric("wattline_window_energy_joules_total", "counter", "Energy of the windows with a figure.", WINDOW),
        Metric("wattline_window_seconds_total", "counter", "Time of the windows with a figure.", WINDOW),
        Metric("wattline_window_count_total", "counter", "What was counted in them.", ("window", "what")),
    )
}  # fmt: skip

Sample = tuple[str, Mapping[str, str], float]


class Windows:
    """Sums over the windows that close in this process, by name; add `listen` to `measure.window.listeners`."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], float] = {}
        self._names: set[str] = set()
        self._waiting: deque[windows.Window] = deque()
        self._lock = threading.Lock()

    def listen(self, window: windows.Window) -> None:
        """Take a window that closed; it is worked out at the next scrape, when its end is known better."""
        self._waiting.append(window)
        if len(self._waiting) > MOST_NAMES:
            self._work()

    def samples(self) -> list[Sample]:
        """Every sum so far."""
        self._work()
        with self._lock:
            rows: list[Sample] = []
            for (metric, window, what), value in sorted(self._sums.items()):
                labels = {"window": window, "what": what} if what else {"window": window}
                rows.append((metric, labels, value))
            return rows

    def _work(self) -> None:
        with self._lock:
            for _ in range(len(self._waiting)):
                window = self._waiting.popleft()
                result = window.result
                name = self._name(window.name)
                self._add("wattline_windows_total", name, 1.0)
                joules = result.joules
                if joules is None:
                    self._add("wattline_windows_without_figure_total", name, 1.0)
                    continue
                self._add("wattline_window_energy_joules_total", name, joules)
                self._add("wattline_window_seconds_total", name, result.seconds)
                for what, number in result.counts.items():
                    self._add("wattline_window_count_total", name, number, self._name(what))

    def _add(self, metric: str, window: str, value: float, what: str = "") -> None:
        key = (metric, window, what)
        self._sums[key] = self._sums.get(key, 0.0) + value

    def _name(self, name: str) -> str:
        if name not in self._names and len(self._names) >= MOST_NAMES:
            return "other"
        self._names.add(name)
        return name


def device_samples(rows: Iterable[Live]) -> list[Sample]:
    """The samples of devices; what one does not say has none."""
    every = list(rows)
    keys = {f"{row.host}/{row.uuid}/{row.scope}" for row in every}
    found: list[Sample] = []
    for row in every:
        labels = {"host": row.host, "uuid": row.uuid, "scope": row.scope, "name": row.name, "method": row.method}
        values = {
            "wattline_energy_joules_total": row.joules,
            "wattline_power_watts": row.watts,
            "wattline_power_low_watts": row.low,
            "wattline_power_high_watts": row.high,
            "wattline_clock_hertz": row.clock,
            "wattline_memory_clock_hertz": row.memory_clock,
            "wattline_temperature_celsius": row.temperature,
            "wattline_power_limit_watts": row.power_limit,
            "wattline_utilization_ratio": row.utilization,
            "wattline_outermost": float(not keys.intersection(row.within)),
            "wattline_sensor_up": float(not row.error and row.joules is not None),
        }
        found += [(name, labels, value) for name, value in values.items() if value is not None]
        found += [("wattline_throttled", {**labels, "reason": why}, 1.0) for why in row.throttle]
    return found


def render(samples: Iterable[Sample], metrics: Mapping[str, Metric] = METRICS, *, openmetrics: bool = False) -> str:
    """Samples grouped by metric, in Prometheus's text format or in OpenMetrics 1.0."""
    groups: dict[str, list[str]] = {}
    for name, labels, value in samples:
        inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        groups.setdefault(name, []).append(f"{name}{{{inside}}} {_number(value)}")
    lines: list[str] = []
    for name, metric in metrics.items():
        if name in groups:
            # OpenMetrics names a counter's family without the ending that its samples have.
            family = name.removesuffix("_total") if openmetrics and metric.kind == "counter" else name
            lines += [f"# HELP {family} {metric.help}", f"# TYPE {family} {metric.kind}"]
            unit = next((u for u in UNITS if family.endswith(f"_{u}")), "") if openmetrics else ""
            lines += [f"# UNIT {family} {unit}"] if unit else []
            lines += groups[name]
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n" if lines else ""


class Exporter:
    """The endpoint. Constructing it touches nothing; `start` listens, `close` puts everything back.

    host, port : where to listen; only this machine by default. Port 0 takes any, told by `address`.
    more, metrics : samples beside those of devices and windows, and what they are.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        more: Callable[[], list[Sample]] = list,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        self.host, self.port, self._more = host, port, more
        self._metrics = {**METRICS, **(metrics or {})}
        self.windows = Windows()
        self._given = monitor
        self._held = contextlib.ExitStack()
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        """Where to scrape."""
        return f"http://{self.host}:{self.port}/metrics"

    def text(self, *, openmetrics: bool = False) -> str:
        """What a scrape gets now."""
        monitor = self._given if self._given is not None else default()
        rows = [*device_samples(monitor.live()), *self.windows.samples(), *self._more()]
        return render(rows, self._metrics, openmetrics=openmetrics)

    def start(self) -> Exporter:
        """Listen, and keep the devices sampled; an address in use raises OSError."""
        if self._server is not None:
            return self
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter._answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
                """Scrapes are not news."""

        server = ThreadingHTTPServer((self.host, self.port), Handler)
        server.daemon_threads = True
        self._server, self.port = server, server.server_address[1]
        monitor = self._given if self._given is not None else default()
        self._held.enter_context(monitor.watch())
        windows.listeners.append(self.windows.listen)
        self._held.callback(windows.listeners.remove, self.windows.listen)
        threading.Thread(target=server.serve_forever, name="wattline-prometheus", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self._held.close()

    def __enter__(self) -> Exporter:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        openly = "application/openmetrics-text" in request.headers.get("Accept", "")
        try:
            if path == "/metrics":
                status, text = 200, self.text(openmetrics=openly)
            elif path == "/healthz":
                status, text = 200, "ok\n"
            else:
                status, text = 404, "metrics are at /metrics\n"
        except Exception as error:  # a fault here must answer the scrape and not end the thread
            status, text = 500, f"{type(error).__name__}: {error}\n"
        body = text.encode()
        request.send_response(status)
        request.send_header("Content-Type", OPEN_METRICS if openly and path == "/metrics" else CONTENT_TYPE)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return repr(float(value))
