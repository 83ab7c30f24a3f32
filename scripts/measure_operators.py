"""Measure operators on this machine's GPU with Wattline's own meter, and store them as rows to validate with.

    python scripts/measure_operators.py [--out data/measured] [--seconds 2] [--backend torch] [--quick]

Products, prefill and decode attention, memory copies and a small transformer run one after another, each for
some seconds after a warm-up, so that the energy counter sees nothing else. Nothing of the device is set: clocks
and power limit stay as they are found, and both are written into every row, with driver, date and the interval of
the energy. One CSV file per device and date appears in the output folder, in the columns that `wattline validate
operators` and `wattline calibrate` read; its `framework` is "wattline", which tells them that a row is what
its kernel does.

`--backend torch` needs PyTorch with CUDA. `--backend numpy` computes the same on the processor in tiny sizes: it is
for trying the script (its joules are those of whatever the meter reads meanwhile).
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wattline.core.errors import WattlineError
from wattline.measure.devices import nvidia
from wattline.measure.meter import Meter, State
from wattline.measure.monitor import Monitor
from wattline.measure.window import Window
from wattline.source.measured.rows import BARE, COLUMNS

Case = Mapping[str, Any]
Run = Callable[[], object]

# Most of a board's memory that a case may take, and least and most launches per timed stretch.
MEMORY, STRETCH = 8e9, (1, 20_000)

HEAD = (
    "framework", "device", "op_name", "kernel_source",
    *dict.fromkeys(c for op in ("gemm", "context_attention", "generation_attention", "memory_copy", "transformer")
                   for c in COLUMNS[op]),
    "beam_width", "attn_dtype", "latency", "power", "power_limit", "energy_low_j", "energy_high_j", "method",
    "launches", "clock_mhz", "memory_clock_mhz", "temperature_c", "throttle", "driver", "date", "backend",
)  # fmt: skip


class Backend(Protocol):
    """Something that runs a case: `prepare` returns one launch of it, `wait` ends when all launches did."""

    name: str

    def prepare(self, case: Case) -> Run: ...

    def wait(self) -> None: ...


# ---- what is measured ------------------------------------------------------------------------


def cases(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the cases: those of a GPU, or a few that a processor runs in milliseconds."""
    if quick:
        yield _gemm(32, 64, 64)
        yield _attention("context_attention", 1, 32, 2, 2, 16)
        yield _attention("generation_attention", 2, 64, 2, 1, 16)
        yield {"op_name": "memory_copy", "bytes": 1 << 20}
        yield _transformer(1, 32, 64, 4, 16, 2)
        return
    for n, k in ((1024, 1024), (4096, 4096), (14336, 4096), (4096, 14336), (8192, 28672), (65536, 8192)):
        for m in (1, 16, 64, 128, 256, 1024, 4096, 16384):
            yield _gemm(m, n, k)
    for batch, length in ((1, 512), (1, 2048), (8, 2048), (1, 8192), (2, 16384), (64, 512)):
        for heads, few in ((32, 32), (32, 8), (64, 8)):
            yield _attention("context_attention", batch, length, heads, few, 128)
    for batch, length in ((1, 1024), (16, 1024), (64, 1024), (128, 4096), (256, 1024), (16, 32768)):
        for heads, few in ((32, 32), (32, 8), (64, 8)):
            yield _attention("generation_attention", batch, length, heads, few, 128)
    for power in range(16, 33, 2):
        yield {"op_name": "memory_copy", "bytes": 1 << power}
    for batch, length in ((1, 512), (8, 512), (4, 2048)):
        yield _transformer(batch, length, 2048, 16, 128, 8)


def _gemm(m: int, n: int, k: int) -> dict[str, Any]:
    return {"op_name": "gemm", "gemm_dtype": "bfloat16", "m": m, "n": n, "k": k}


def _attention(op: str, batch: int, length: int, heads: int, few: int, dim: int) -> dict[str, Any]:
    prefill = op == "context_attention"
    return {
        "op_name": op, "batch_size": batch, "isl": length if prefill else 1, "step": 0 if prefill else length - 1,
        "num_heads": heads, "num_key_value_heads": few, "head_dim": dim, "kv_cache_dtype": "bfloat16",
        "attn_dtype": "bfloat16", "window_size": 0, "beam_width": 1,
    }  # fmt: skip


def _transformer(batch: int, length: int, hidden: int, heads: int, dim: int, layers: int) -> dict[str, Any]:
    return {
        "op_name": "transformer", "gemm_dtype": "bfloat16", "batch_size": batch, "isl": length, "hidden_size": hidden,
        "inter_size": 4 * hidden, "num_heads": heads, "head_dim": dim, "num_layers": layers,
    }  # fmt: skip


def held(case: Case) -> float:
    """Return the bytes a case keeps in memory, about."""
    if case["op_name"] == "gemm":
        m, n, k = case["m"], case["n"], case["k"]
        return 2.0 * (m * k + k * n + m * n)
    if case["op_name"] == "memory_copy":
        return 2.0 * case["bytes"]
    length = max(case["isl"], case.get("step", 0) + 1)
    heads = case["num_heads"] + 2 * case.get("num_key_value_heads", case["num_heads"])
    width = case.get("inter_size", 0) * 4 + heads * case["head_dim"] * 2
    return float(case["batch_size"] * length * width)


# ---- backends --------------------------------------------------------------------------------


class Numpy:
    """The processor, in 32 bits: to try the script where there is no GPU."""

    name = "numpy"

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def _some(self, *shape: int) -> Any:
        return self._random.standard_normal(shape, dtype=np.float32)

    def prepare(self, case: Case) -> Run:
        op = case["op_name"]
        if op == "gemm":
            a, b = self._some(case["m"], case["k"]), self._some(case["k"], case["n"])
            return lambda: a @ b
        if op == "memory_copy":
            source = np.zeros(case["bytes"], np.uint8)
            target = np.empty_like(source)
            return lambda: np.copyto(target, source)
        if op == "transformer":
            return self._transformer(case)
        batch, dim = case["batch_size"], case["head_dim"]
        heads, few = case["num_heads"], case["num_key_value_heads"]
        length = case["isl"] if op == "context_attention" else case["step"] + 1
        q = self._some(batch, heads, case["isl"], dim)
        keys, values = (np.repeat(self._some(batch, few, length, dim), heads // few, axis=1) for _ in range(2))
        return lambda: self._attend(q, keys, values)

    @staticmethod
    def _attend(q: Any, keys: Any, values: Any) -> Any:
        scores = q @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        if q.shape[-2] > 1:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True) @ values

    def _transformer(self, case: Case) -> Run:
        batch, length, hidden, heads, dim = (
            case[c] for c in ("batch_size", "isl", "hidden_size", "num_heads", "head_dim")
        )
        inside, inner = heads * dim, case["inter_size"]
        into, out = self._some(hidden, 3 * inside) / hidden, self._some(inside, hidden) / inside
        up, down = self._some(hidden, inner) / hidden, self._some(inner, hidden) / inner

        def norm(x: Any) -> Any:
            return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)

        def forward(x: Any) -> Any:
            for _ in range(case["num_layers"]):
                qkv = (norm(x) @ into).reshape(batch, length, 3, heads, dim).transpose(2, 0, 3, 1, 4)
                x = x + self._attend(*qkv).transpose(0, 2, 1, 3).reshape(batch, length, inside) @ out
                x = x + np.maximum(norm(x) @ up, 0.0) @ down
            return x

        first = self._some(batch, length, hidden)
        return lambda: forward(first)

    def wait(self) -> None:
        return None


class Torch:
    """An NVIDIA GPU through PyTorch, in bfloat16; launches are replayed from a graph, so the host is never late."""

    name = "torch"

    def __init__(self, index: int) -> None:
        try:
            import torch
        except ImportError:
            raise WattlineError("--backend torch needs PyTorch with CUDA, which is not installed") from None
        if not torch.cuda.is_available():
            raise WattlineError("--backend torch needs a GPU that PyTorch can use, and there is none")
        self._torch, self._device = torch, torch.device("cuda", index)
        torch.cuda.set_device(self._device)

    def _some(self, *shape: int) -> Any:
        return self._torch.randn(shape, dtype=self._torch.bfloat16, device=self._device)

    def prepare(self, case: Case) -> Run:
        launch = self._launch(case)
        for _ in range(3):
            launch()
        self.wait()
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.no_grad(), self._torch.cuda.graph(graph):
            launch()
        return lambda: graph.replay()

    def _launch(self, case: Case) -> Run:
        torch, op = self._torch, case["op_name"]
        if op == "gemm":
            a, b = self._some(case["m"], case["k"]), self._some(case["n"], case["k"])
            out = self._some(case["m"], case["n"])
            return lambda: torch.mm(a, b.t(), out=out)
        if op == "memory_copy":
            source = torch.zeros(case["bytes"], dtype=torch.uint8, device=self._device)
            target = torch.empty_like(source)
            return lambda: target.copy_(source)
        if op == "transformer":
            return self._transformer(case)
        batch, dim, heads, few = (case[c] for c in ("batch_size", "head_dim", "num_heads", "num_key_value_heads"))
        prefill = op == "context_attention"
        length = case["isl"] if prefill else case["step"] + 1
        q = self._some(batch, heads, case["isl"], dim)
        keys, values = self._some(batch, few, length, dim), self._some(batch, few, length, dim)
        attend = torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(q, keys, values, is_causal=prefill, enable_gqa=few != heads)

    def _transformer(self, case: Case) -> Run:
        torch, functional = self._torch, self._torch.nn.functional
        batch, length, hidden, heads, dim = (
            case[c] for c in ("batch_size", "isl", "hidden_size", "num_heads", "head_dim")
        )
        inside, inner = heads * dim, case["inter_size"]
        shapes = ((3 * inside, hidden), (hidden, inside), (inner, hidden), (hidden, inner))
        into, out, up, down = (self._some(*s) / s[1] for s in shapes)

        def forward(x: Any) -> Any:
            for _ in range(case["num_layers"]):
                qkv = functional.linear(functional.rms_norm(x, (hidden,)), into)
                q, k, v = qkv.view(batch, length, 3, heads, dim).permute(2, 0, 3, 1, 4)
                mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = x + functional.linear(mixed.transpose(1, 2).reshape(batch, length, inside), out)
                x = x + functional.linear(
                    functional.relu(functional.linear(functional.rms_norm(x, (hidden,)), up)), down
                )
            return x

        first = self._some(batch, length, hidden)

        def launch() -> Any:
            with torch.no_grad():
                return forward(first)

        return launch

    def wait(self) -> None:
        self._torch.cuda.synchronize(self._device)


# ---- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A backend, the meter of the device it uses, and how long a case is measured (s)."""

    backend: Backend
    monitor: Monitor
    meter: Meter
    driver: str
    seconds: float

    def row(self, case: Case) -> dict[str, Any]:
        """Measure one case and return it as a row."""
        run = self.backend.prepare(case)
        stretch = self._stretch(run)
        # As long again before the window opens, so that clocks and temperature have settled.
        self._loop(run, stretch, self.seconds)
        window = Window(case["op_name"], self.monitor).begin()
        launches, seconds = self._loop(run, stretch, self.seconds)
        state = self.meter.state()
        window.end()
        part = next(p for p in window.settle().parts if p.uuid == self.meter.uuid)
        if part.joules is None or part.low is None or part.high is None:
            raise WattlineError(f"{self.meter.name}: no joules were measured ({part.reason or 'the meter is silent'})")
        told = dict.fromkeys(HEAD, "") | dict(case) | _facts(state)
        return told | {
            "framework": BARE, "device": self.meter.name, "kernel_source": self.backend.name,
            "latency": f"{1e3 * seconds / launches:.9g}", "power": f"{part.joules / part.seconds:.6g}",
            "energy_low_j": f"{part.low / launches:.6g}", "energy_high_j": f"{part.high / launches:.6g}",
            "method": part.method, "launches": launches, "driver": self.driver, "backend": self.backend.name,
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip

    def _stretch(self, run: Run) -> int:
        """Return how many launches take a tenth of a second, about."""
        run()
        self.backend.wait()
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.02 and count < STRETCH[1]:
            run()
            self.backend.wait()
            count += 1
        each = (time.perf_counter() - begun) / count
        return int(np.clip(0.1 / each, *STRETCH))

    def _loop(self, run: Run, stretch: int, seconds: float) -> tuple[int, float]:
        """Run stretches until `seconds` have passed; return launches and the seconds they took."""
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            for _ in range(stretch):
                run()
            self.backend.wait()
            count += stretch
        return count, time.perf_counter() - begun


def _facts(state: State) -> dict[str, Any]:
    def short(value: float | None, factor: float) -> str:
        return "" if value is None else f"{value * factor:.6g}"

    return {
        "power_limit": short(state.power_limit, 1.0), "clock_mhz": short(state.clock, 1e-6),
        "memory_clock_mhz": short(state.memory_clock, 1e-6), "temperature_c": short(state.temperature, 1.0),
        "throttle": " and ".join(state.throttle),
    }  # fmt: skip


def driver_version() -> str:
    """Return the NVIDIA driver's version."""
    found = nvidia.load().nvmlSystemGetDriverVersion()
    return found.decode() if isinstance(found, bytes) else str(found)


def main() -> int:
    """Measure every case and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/measured"), help="folder of the file")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each case is measured")
    parser.add_argument("--backend", choices=("torch", "numpy"), default="torch")
    parser.add_argument("--device", type=int, default=0, help="which of the GPUs this process may use")
    parser.add_argument("--quick", action="store_true", help="a few tiny cases")
    args = parser.parse_args()
    try:
        if not args.seconds > 0:
            raise WattlineError(f"--seconds must be above 0, got {args.seconds}")
        meters, missing = nvidia.find()
        if not 0 <= args.device < len(meters):
            why = "; ".join(f"{m.sensor}: {m.reason}" for m in missing) or f"this process may use {len(meters)}"
            raise WattlineError(f"there is no NVIDIA device {args.device} to measure ({why})")
        meter = meters[args.device]
        backend: Backend = Torch(args.device) if args.backend == "torch" else Numpy()
        monitor = Monitor([meter])
        bench = Bench(backend, monitor, meter, driver_version(), args.seconds)
        path = args.out / f"{meter.name.lower().replace(' ', '-')}-{dt.date.today():%Y-%m-%d}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, HEAD)
            writer.writeheader()
            for case in cases(args.quick):
                if held(case) <= MEMORY:
                    writer.writerow(bench.row(case))
                    stream.flush()
        monitor.stop()
    except (WattlineError, OSError) as error:
        print(f"measure_operators: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
