"""Everything worth knowing of one NVIDIA device in ten minutes, at its default clocks; nothing is ever set.

    python scripts/measure_device.py [--out data/measured] [--budget 600] [--backend torch] [--quick]

Four parts, each within its share of the budget, each written as soon as it is known:

    calls.json      every call of the driver that Wattline reads by: its answer, or its error, and what it took
    sensors.toml    how the power sensors behave, learnt beside pulses of a known load (as `wattline doctor --probe`)
    operators.csv   products in bf16 and fp8, attention, copies and a transformer, in the columns that `wattline
                    validate operators` and `wattline calibrate` read
    models.csv      products with 4-bit weights (simulated: unpacked to bf16), training steps of a small transformer,
                    and decoding at five batch sizes

They stand in one folder per device and day, with driver, clocks, limit and temperature in every row. `--backend numpy`
and `--quick` run the same on a processor in seconds, to try the script on a simulated device.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wattline.core.errors import WattlineError
from wattline.measure import sensor as sensors
from wattline.measure.devices import nvidia, nvml
from wattline.measure.learning import probe
from wattline.measure.loads import CpuLoad, TorchLoad
from wattline.measure.meter import Meter
from wattline.measure.monitor import Monitor

# Shares of the budget: calls are quick, the probe is 60 s where there is so much.
PROBE, OPERATORS = 0.12, 0.55
BATCHES = (1, 4, 16, 64, 256)

# What the package reads by, and with what beside the device's handle.
CALLS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("nvmlDeviceGetName", ()),
    ("nvmlDeviceGetUUID", ()),
    ("nvmlDeviceGetPciInfo", ()),
    ("nvmlDeviceGetMinorNumber", ()),
    ("nvmlDeviceGetArchitecture", ()),
    ("nvmlDeviceGetPersistenceMode", ()),
    ("nvmlDeviceGetTotalEnergyConsumption", ()),
    ("nvmlDeviceGetPowerUsage", ()),
    ("nvmlDeviceGetFieldValues", ([185, 186, 187, 188, 189, 190, 192, 251],)),
    ("nvmlDeviceGetFieldValues", ([(185, 1), (186, 1), (187, 1), (188, 1), (190, 1)],)),
    ("nvmlDeviceGetPowerManagementLimit", ()),
    ("nvmlDeviceGetEnforcedPowerLimit", ()),
    ("nvmlDeviceGetPowerManagementDefaultLimit", ()),
    ("nvmlDeviceGetPowerManagementLimitConstraints", ()),
    ("nvmlDeviceGetClockInfo", (1,)),
    ("nvmlDeviceGetClockInfo", (2,)),
    ("nvmlDeviceGetMaxClockInfo", (1,)),
    ("nvmlDeviceGetSupportedMemoryClocks", ()),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", ()),
    ("nvmlDeviceGetTemperature", (0,)),
    ("nvmlDeviceGetUtilizationRates", ()),
    ("nvmlDeviceGetMemoryInfo", ()),
    ("nvmlDeviceGetMigMode", ()),
    ("nvmlDeviceGetMaxMigDeviceCount", ()),
    ("nvmlDeviceGetComputeRunningProcesses_v3", ()),
    ("nvmlDeviceGetModuleId", ()),
)  # fmt: skip
HEAD = (
    "kind", "dtype", "batch", "m", "n", "k", "length", "hidden", "layers", "heads", "head_dim", "seconds", "energy_j",
    "low_j", "high_j", "power_w", "tokens", "launches", "method", "clock_mhz", "memory_clock_mhz", "temperature_c",
    "power_limit", "throttle", "device", "driver", "date", "backend",
)  # fmt: skip


def operators_script() -> Any:
    """`measure_operators.py` beside this file, as a module."""
    path = Path(__file__).with_name("measure_operators.py")
    spec = importlib.util.spec_from_file_location("measure_operators", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def calls(index: int) -> list[dict[str, Any]]:
    """Every call once: its answer in words, or its error, and the seconds of the quickest of five."""
    client = nvml.load()
    handle = client.nvmlDeviceGetHandleByIndex(index)
    rows = []
    for name, arguments in CALLS:
        row: dict[str, Any] = {"call": name, "arguments": str(arguments)[1:-1].rstrip(",")}
        took = []
        try:
            for _ in range(5):
                begun = time.perf_counter()
                found = getattr(client, name)(handle, *arguments)
                took.append(time.perf_counter() - begun)
            row |= {"answer": _words(found), "error": "", "seconds": min(took)}
        except Exception as error:  # what a driver lacks is what this is for
            row |= {"answer": "", "error": f"{type(error).__name__}: {error}", "seconds": None}
        rows.append(row)
    return rows


def _words(found: Any) -> str:
    if hasattr(found, "_fields_"):
        return ", ".join(f"{name} {getattr(found, name)}" for name, *_ in found._fields_)
    if (
        hasattr(found, "__len__")
        and not isinstance(found, str | bytes)
        and len(found)
        and hasattr(found[0], "nvmlReturn")
    ):
        return "; ".join(
            f"{v.fieldId}/{v.scopeId}: {v.value.uiVal if v.nvmlReturn == 0 else f'code {v.nvmlReturn}'}" for v in found
        )
    return str(found)[:500]


def model_cases(quick: bool) -> Iterator[dict[str, Any]]:
    """Products with 4-bit weights, training steps, and decoding at five batch sizes."""
    size = 64 if quick else 4096
    for m in (1, 16, 256) if not quick else (4,):
        yield {"kind": "gemm", "dtype": "fp4-sim", "m": m, "n": size, "k": size}
    shape = {"hidden": 64, "layers": 2, "heads": 4, "head_dim": 16} if quick else {
        "hidden": 2048, "layers": 8, "heads": 16, "head_dim": 128}  # fmt: skip
    for batch in (1,) if quick else (1, 4, 16):
        yield {"kind": "train", "dtype": "bfloat16", "batch": batch, "length": 16 if quick else 1024, **shape}
    for batch in BATCHES:
        yield {"kind": "decode", "dtype": "bfloat16", "batch": batch, "length": 16 if quick else 2048, **shape}


def launch_of(backend: Any, case: dict[str, Any]) -> Any:
    """One launch of a case, as the backend of `measure_operators` runs it."""
    if case["kind"] == "gemm":
        return _four_bits(backend, case)
    asked = {
        "op_name": "transformer", "gemm_dtype": "bfloat16", "batch_size": case["batch"], "hidden_size": case["hidden"],
        "inter_size": 4 * case["hidden"], "num_heads": case["heads"], "head_dim": case["head_dim"],
        "num_layers": case["layers"], "isl": case["length"] if case["kind"] == "train" else 1,
    }  # fmt: skip
    if case["kind"] == "train" and backend.name == "torch":
        return _training(backend, case)
    if case["kind"] == "train":
        forward = backend.prepare(asked)
        return lambda: (forward(), forward(), forward())  # backwards takes twice a forward pass
    forward = backend.prepare(asked)
    attend = backend.prepare({
        "op_name": "generation_attention", "batch_size": case["batch"], "isl": 1, "step": case["length"] - 1,
        "num_heads": case["heads"], "num_key_value_heads": case["heads"], "head_dim": case["head_dim"],
    })  # fmt: skip

    def decode() -> None:
        forward()
        for _ in range(case["layers"]):
            attend()

    return decode


def _four_bits(backend: Any, case: dict[str, Any]) -> Any:
    """A product whose weights are two to a byte and are unpacked to the backend's own type each time."""
    m, n, k = case["m"], case["n"], case["k"]
    if backend.name != "torch":
        import numpy as np

        rng = np.random.default_rng(0)
        packed, a = rng.integers(0, 256, (n, k // 2), dtype=np.uint8), rng.standard_normal((m, k), dtype=np.float32)
        levels = (np.arange(16, dtype=np.float32) - 8) / 8

        def product() -> Any:
            weights = np.stack((levels[packed & 15], levels[packed >> 4]), axis=-1).reshape(n, k)
            return a @ weights.T

        return product
    torch, device = backend._torch, backend._device
    packed = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device=device)
    a = torch.randn(m, k, dtype=torch.bfloat16, device=device)
    levels = (torch.arange(16, dtype=torch.bfloat16, device=device) - 8) / 8

    def on_device() -> Any:
        weights = torch.stack((levels[(packed & 15).int()], levels[(packed >> 4).int()]), dim=-1).view(n, k)
        return a @ weights.t()

    return on_device


def _training(backend: Any, case: dict[str, Any]) -> Any:
    """One step of AdamW on a small transformer over random tokens."""
    torch, device = backend._torch, backend._device
    layer = torch.nn.TransformerEncoderLayer(
        case["hidden"],
        case["heads"],
        4 * case["hidden"],
        dropout=0.0,
        batch_first=True,
        device=device,
        dtype=torch.bfloat16,
    )
    model = torch.nn.TransformerEncoder(layer, case["layers"], enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randn(case["batch"], case["length"], case["hidden"], dtype=torch.bfloat16, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(tokens).float().pow(2).mean().backward()
        optimizer.step()

    return step


def model_row(script: Any, bench: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Measure one case of a model; per launch."""
    run = launch_of(bench.backend, case)
    shadow = SimpleNamespace(name=bench.backend.name, prepare=lambda _case: run, wait=bench.backend.wait)
    measured = script.Bench(shadow, bench.monitor, bench.meter, bench.driver, bench.seconds).row(
        {"op_name": case["kind"]}
    )
    seconds = float(measured["latency"]) * 1e-3
    tokens = case.get("batch", 0) * (case["length"] if case["kind"] == "train" else 1) if case["kind"] != "gemm" else ""
    return {
        **dict.fromkeys(HEAD, ""), **case, "seconds": seconds, "energy_j": float(measured["power"]) * seconds,
        "low_j": measured["energy_low_j"], "high_j": measured["energy_high_j"], "power_w": measured["power"],
        "tokens": tokens, **{key: measured[key] for key in HEAD if key in measured and measured[key] != ""},
    }  # fmt: skip


def eight_bits(backend: Any) -> None:
    """Have the torch backend run products of dtype fp8 by the device's own scaled product."""
    if backend.name != "torch":
        return
    torch, plain = backend._torch, backend._launch

    def launch(case: Any) -> Any:
        if case["op_name"] != "gemm" or case["gemm_dtype"] != "fp8":
            return plain(case)
        a = torch.randn(case["m"], case["k"], device=backend._device).to(torch.float8_e4m3fn)
        b = torch.randn(case["n"], case["k"], device=backend._device).to(torch.float8_e4m3fn)
        one = torch.ones((), device=backend._device)
        return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    backend._launch = launch


def operator_cases(script: Any, backend: Any, quick: bool) -> Iterator[dict[str, Any]]:
    """Those of `measure_operators`, large products in fp8 first, so that a budget that ends early has some of each."""
    listed = [case for case in script.cases(quick) if script.held(case) <= script.MEMORY]
    if backend.name == "torch":
        listed += [
            {**case, "gemm_dtype": "fp8"}
            for case in listed
            if case["op_name"] == "gemm" and case["m"] in (16, 256, 4096)
        ]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for case in listed:
        kinds.setdefault(f"{case['op_name']} {case.get('gemm_dtype', '')}", []).append(case)
    while any(kinds.values()):
        for rest in kinds.values():
            if rest:
                # From both ends and the middle, so that few cases span the sizes.
                yield rest.pop(len(rest) // 2 if len(rest) % 2 else 0)


def write(path: Path, head: tuple[str, ...], rows: Iterator[dict[str, Any]]) -> int:
    """Write rows as they come; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, head)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            stream.flush()
            count += 1
    return count


def measure(args: argparse.Namespace) -> Path:
    """Every part, each within its share of the budget; returns the folder."""
    begun = time.monotonic()
    script = operators_script()
    meters, missing = nvidia.find()
    if not 0 <= args.device < len(meters):
        why = "; ".join(f"{m.sensor}: {m.reason}" for m in missing) or f"this process may use {len(meters)}"
        raise WattlineError(f"there is no NVIDIA device {args.device} to measure ({why})")
    meter: Meter = meters[args.device]
    known = sensors.known(meter.kind, meter.name)
    if known is not None:
        meter.behaves(known)
    folder = args.out / f"{meter.name.lower().replace(' ', '-')}-{dt.date.today():%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    index = int(meter.labels.get("index", args.device))
    (folder / "calls.json").write_text(json.dumps(calls(index), indent=2) + "\n", "utf-8")
    backend = script.Torch(args.device) if args.backend == "torch" else script.Numpy()
    load = TorchLoad() if args.backend == "torch" else CpuLoad(1)
    # Each reading of power that the device has, learnt at once.
    readings = [meter, *_readings(meter)]
    learnt = probe(readings, load, seconds=max(5.0, min(60.0, PROBE * args.budget)), path=folder / "sensors.toml")
    meter.behaves(learnt.sensors[0].learnt.sensor)
    eight_bits(backend)
    monitor = Monitor([meter])
    bench = script.Bench(backend, monitor, meter, script.driver_version(), args.seconds)

    def until(cases: Iterator[dict[str, Any]], share: float, row: Any) -> Iterator[dict[str, Any]]:
        for case in cases:
            if time.monotonic() - begun > share * args.budget:
                print(f"measure_device: the budget ended before {case}", file=sys.stderr)
                return
            try:
                yield row(case)
            except (RuntimeError, NotImplementedError) as error:  # what this device or this PyTorch cannot run
                print(f"measure_device: {case} was left out: {str(error).splitlines()[0]}", file=sys.stderr)

    listed = operator_cases(script, backend, args.quick)
    write(folder / "operators.csv", script.HEAD, until(listed, OPERATORS, bench.row))
    models = until(model_cases(args.quick), 1.0, lambda case: model_row(script, bench, case))
    write(folder / "models.csv", HEAD, models)
    monitor.stop()
    return folder


def _readings(meter: Meter) -> list[Meter]:
    """The device's power readings beside its counter, as meters of their own for the probe."""
    found: list[Meter] = []
    for source in ("average", "instant", "usage"):
        other = nvidia.NvidiaMeter(meter._nvml, meter._handle, source, meter.uuid, meter.name, limit=meter.limit)  # type: ignore[attr-defined]
        try:
            other.read()
        except WattlineError:
            continue
        found.append(other)
    return found


def main() -> int:
    """Measure and print where it stands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/measured"), help="folder of the device's folder")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for all of it, about")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each case is measured")
    parser.add_argument("--backend", choices=("torch", "numpy"), default="torch")
    parser.add_argument("--device", type=int, default=0, help="which of the GPUs this process may use")
    parser.add_argument("--quick", action="store_true", help="a few tiny cases")
    args = parser.parse_args()
    try:
        print(measure(args))
    except (WattlineError, OSError) as error:
        print(f"measure_device: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
