"""A serving engine to govern: the serving simulator in compressed time behind a real HTTP server with vLLM's metrics."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from wattline.control.devices.simulated import SimulatedGpu
from wattline.serving.simulate import play as serving
from wattline.serving.simulate.outcome import PER_DECADE, SMALLEST
from wattline.serving.simulate.policies import Knobs, PoolView, View

# Edges of the buckets of vLLM (vllm/v1/metrics/loggers.py), s.
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)


def histogram(name: str, edges: tuple[float, ...], values: np.ndarray, weights: np.ndarray) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    lines += [
        f'{name}_bucket{{engine="0",le="{edge}",model_name="m"}} {weights[values <= edge].sum():.1f}' for edge in edges
    ]
    lines.append(f'{name}_bucket{{engine="0",le="+Inf",model_name="m"}} {weights.sum():.1f}')
    lines.append(f'{name}_sum{{engine="0",model_name="m"}} {float((values * weights).sum())!r}')
    lines.append(f'{name}_count{{engine="0",model_name="m"}} {weights.sum():.1f}')
    return lines


class Page:
    """What /metrics answers now; `status` other than 200 is an engine in trouble."""

    def __init__(self) -> None:
        self.text, self.status = "", 200


@contextlib.contextmanager
def served(page: Page) -> Iterator[str]:
    """The address of a real server that answers with the page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.text.encode()
            self.send_response(page.status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Engine:
    """A policy of the simulator whose knob is a simulated device's clock, which someone else sets.

    look : called each `interval` s of the simulator's time, after the metrics are there.
    """

    gpu: SimulatedGpu
    page: Page
    governed: Callable[[float], None] = lambda _t: None
    interval: float | None = 1.0
    name: str = "governed from outside"
    stage: Any = None
    clocks: list[tuple[float, float]] = field(default_factory=list)

    def start(self, pool: PoolView) -> Knobs:
        return self._knobs(pool)

    def look(self, seen: View) -> Knobs:
        self.publish(seen)
        self.governed(seen.time)
        self.clocks.append((seen.time, self.gpu.speed()))
        return self._knobs(seen.pool)

    def _knobs(self, pool: PoolView) -> Knobs:
        # The table's clocks and the device's have one highest each; shares of it are the same clock.
        clock = self.gpu.speed() / self.gpu.range("clock").high * float(pool.table.clocks[-1])
        return Knobs(prefill_clock=clock, decode_clock=clock)

    def publish(self, seen: View) -> None:
        out, work = self.stage.out, self.stage.work
        gaps = 10.0 ** ((np.arange(len(out.gaps)) + 0.5) / PER_DECADE + SMALLEST)
        begun = (out.first >= 0) & (out.first <= seen.time)
        ttft = (out.first - work.arrival)[begun]
        lines = histogram("vllm:inter_token_latency_seconds", ITL, gaps, out.gaps)
        lines += histogram("vllm:time_to_first_token_seconds", TTFT, ttft, np.ones(len(ttft)))
        done = (out.end >= 0) & (out.end <= seen.time) & (work.output > 1)
        each = ((out.end - out.first) / np.maximum(work.output - 1, 1))[done]
        lines += histogram("vllm:request_time_per_output_token_seconds", ITL, each, np.ones(len(each)))
        lines.append(f'vllm:num_requests_running{{engine="0",model_name="m"}} {float(seen.running)}')
        lines.append(f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {float(seen.queued)}')
        self.page.text = "\n".join(lines) + "\n"


def play(engine: Engine, requests: Any, fleet: Any, limits: Any) -> Any:
    """Serve the requests with this engine; a stage of the simulator tells the engine of itself."""

    class Told(serving._Stage):
        def _look(self, t: float, interval: float) -> Any:
            engine.stage = self
            return super()._look(t, interval)

    before, serving._Stage = serving._Stage, Told  # type: ignore[misc]
    try:
        return serving.simulate(requests, fleet, engine, limits=limits)
    finally:
        serving._Stage = before  # type: ignore[misc]
