"""How well and at what cost energy is measured: ``python bench/measure.py [--json] [--peers PYTHON] [--windows N]``.

``--study`` alone runs 16,000 random windows over sixteen kinds of sensors, each learnt beforehand by a simulated probe.

Everything runs on the simulated NVIDIA library of the tests, whose true energy is known. Accuracy is in virtual
time; cost and the comparison with zeus and codecarbon are in real time. The peers are no dependencies: name a
Python that has them with ``--peers``, or they are reported as not installed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

WAVES = {
    "constant": {"wave": "constant", "hi": 300},
    "square, locked to the sensor": {"wave": "square", "period": 0.1, "duty": 0.25},
    "square, 130 ms": {"wave": "square", "period": 0.13, "duty": 0.25},
    "ramp, 5 s": {"wave": "ramp", "period": 5.0},
    "bursts of 51 ms": {"wave": "bursts", "period": 1.7, "duty": 0.03, "hi": 650, "lo": 90},
    "noise": {"wave": "noise"},
}
TOOLS = ("wattline", "zeus", "codecarbon")


def build(folder: Path) -> Path:
    """Build the simulated library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("no C compiler: the simulated NVIDIA library cannot be built")
    path = folder / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "fakenvml" / "fakenvml.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(path), str(source), "-lm"], check=True)
    return path


def accuracy(library: Path, folder: Path, windows: int) -> list[dict[str, object]]:
    """Error from 2 s on, and how often the truth is inside the interval from 30 ms to 10 s, per wave and period."""
    import pynvml
    from tests.measure.conftest import FakeNvml
    from tests.measure.drive import Driver

    from wattline.measure.devices import nvidia
    from wattline.measure.monitor import Monitor

    rows = []
    os.environ["WATTLINE_NVML"] = str(library)
    for period in (0.02, 0.1):
        for name, settings in WAVES.items():
            clock = FakeNvml(library, folder, counter=period, **settings)
            os.environ["FAKENVML"] = str(clock.config)
            pynvml.nvmlLib = None
            driver = Driver(Monitor(nvidia.find()[0], clock=clock, thread=False), clock, seed=2)
            driver.window(2.0)
            rng = random.Random(name)
            errors, inside, at_once, widths = [], 0, 0, []
            for _ in range(windows):
                driver.run(rng.random() * 0.2)
                seconds = math.exp(rng.uniform(math.log(0.03), math.log(10.0)))
                start = clock.now
                window = driver.window(seconds, settle=0.0)
                early = window.result.parts[0]
                driver.run(0.3)
                part = window.result.parts[0]
                true = clock.energy(start, start + seconds)
                # The counter shows whole millijoules.
                inside += part.low - 0.002 <= true <= part.high + 0.002
                at_once += early.low - 0.002 <= true <= early.high + 0.002
                if seconds >= 2.0:
                    errors.append(abs(part.joules - true) / true)
                    widths.append((part.high - part.low) / 2 / true)
            errors.sort()
            rows.append(
                {
                    "wave": name,
                    "counter_period_s": period,
                    "mean_error": statistics.mean(errors),
                    "p95_error": errors[int(0.95 * len(errors))],
                    "max_error": errors[-1],
                    "mean_half_width": statistics.mean(widths),
                    "inside": inside / windows,
                    "inside_at_once": at_once / windows,
                }
            )
    return rows


def study(windows: int) -> list[dict[str, object]]:
    """Coverage at every length of window on every kind of sensor, with what a probe of 60 s learnt of it.

    ``difference`` is the mean error of 50 ms windows by the difference of two readings, as zeus takes it.
    """
    from tests.measure.cover import SPANS, difference, learnt
    from tests.measure.cover import windows as looks

    from wattline.measure.devices.simulated import LOADS, SENSORS

    rows = []
    for name in SENSORS:
        found = learnt(name)
        seen = looks(name, found.sensor, -(-windows // len(LOADS)))
        by_span = {span: [look for look in seen if look.span == span] for span in SPANS}
        short = [abs(look.error) for look in by_span[SPANS[0]] if look.error is not None]
        rows.append(
            {
                "sensor": name,
                "windows": len(seen),
                "inside": sum(look.inside for look in seen) / len(seen),
                "inside_by_seconds": {str(s): sum(k.inside for k in own) / len(own) for s, own in by_span.items()},
                "half_width_by_seconds": {
                    str(s): statistics.median(k.width for k in own) for s, own in by_span.items()
                },
                "error_50_ms": statistics.mean(short) if short else None,
                "difference_50_ms": difference(name, windows // 8),
                "learnt": found.sensor.unknown,
            }
        )
    return rows


def print_study(rows: list[dict[str, object]]) -> None:
    """The study as a table."""
    spans = list(rows[0]["inside_by_seconds"])  # type: ignore[call-overload]
    print(f"{'sensor':46}{'all':>7}" + "".join(f"{float(s):>6g} s" for s in spans) + "   ±1 s  ±10 s")
    for row in rows:
        inside, width = row["inside_by_seconds"], row["half_width_by_seconds"]
        cells = "".join(f"{inside[s]:8.1%}" for s in spans)  # type: ignore[index]
        print(f"{row['sensor']:46}{row['inside']:7.1%}{cells}{width['1.0']:7.1%}{width['10.0']:7.1%}")  # type: ignore[index]
    print(
        f"{sum(row['windows'] for row in rows)} windows: constant, square, bursts, ramp, noise and one that keeps time with the sensor"
    )  # type: ignore[misc]
    print("\nmean error of windows of 50 ms: between updates, and by the difference of two readings")
    for row in rows:
        if row["error_50_ms"] is not None and row["difference_50_ms"] is not None:
            print(f"{row['sensor']:46}{row['error_50_ms']:8.1%}{row['difference_50_ms']:8.1%}")


COST = """
import json, statistics, sys, time
import wattline
from wattline.measure.monitor import default
with wattline.measure("first"):
    time.sleep(1.5)
monitor = default()
ours, theirs = [], []
with wattline.measure("outer"):
    for _ in range(1000):
        a = time.perf_counter()
        with wattline.measure("x"):
            pass
        b = time.perf_counter()
        for track in monitor.tracks * 2:
            track.meter.read()
        ours.append(b - a)
        theirs.append(time.perf_counter() - b)
with wattline.measure("idle"):
    time.sleep(0.5)
    begun = time.process_time()
    time.sleep(5)
    share = (time.process_time() - begun) / 5
print(json.dumps({"devices": len(monitor.tracks), "window_s": statistics.median(ours),
                  "driver_s": statistics.median(theirs), "sampler_share_of_core": share}))
"""


def cost(environment: dict[str, str]) -> dict[str, float]:
    """What a window and the sampler cost with eight devices, in a fresh process and real time."""
    done = subprocess.run(
        [sys.executable, "-c", COST], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    row: dict[str, float] = json.loads(done.stdout)
    row["overhead_s"] = row["window_s"] - row["driver_s"]
    return row


def peer(tool: str, library: str) -> None:
    """In a process of its own: measure windows with one tool and print the signed errors."""
    fake = ctypes.CDLL(library)
    fake.fake_energy.restype, fake.fake_now.restype = ctypes.c_double, ctypes.c_double
    fake.fake_energy.argtypes = [ctypes.c_uint, ctypes.c_double]
    begun = time.perf_counter()
    try:
        if tool == "wattline":
            import wattline

            def measured(seconds: float) -> float | None:
                with wattline.measure("x") as m:
                    time.sleep(seconds)
                return m.settle().scope("gpu").joules

        elif tool == "zeus":
            from zeus.monitor import ZeusMonitor

            monitor = ZeusMonitor(gpu_indices=[0])

            def measured(seconds: float) -> float | None:
                monitor.begin_window("x", sync_execution=False)
                time.sleep(seconds)
                return float(monitor.end_window("x", sync_execution=False).total_energy)

        else:
            from codecarbon import OfflineEmissionsTracker

            def measured(seconds: float) -> float | None:
                tracker = OfflineEmissionsTracker(
                    country_iso_code="USA", save_to_file=False, log_level="critical", measure_power_secs=1
                )
                tracker.start()
                time.sleep(seconds)
                tracker.stop()
                if not tracker.final_emissions_data.gpu_count:
                    raise RuntimeError("it found no GPU")
                return float(tracker.final_emissions_data.gpu_energy) * 3.6e6

    except ImportError:
        print(json.dumps({"tool": tool, "state": "not installed"}))
        return
    loaded = time.perf_counter() - begun
    measured(1.2)
    rows = {}
    for seconds, times in ((0.3, 8), (1.0, 5), (2.0, 4)):
        errors = []
        for k in range(times):
            time.sleep(0.037 * (k + 1))
            start = fake.fake_now()
            joules = measured(seconds)
            # The truth of the same instants, but for the tool's own time around the sleep.
            true = fake.fake_energy(0, start + seconds) - fake.fake_energy(0, start)
            errors.append(float("nan") if joules is None else joules / true - 1)
        rows[str(seconds)] = [min(errors), max(errors)]
    print(json.dumps({"tool": tool, "state": "ran", "load_s": loaded, "signed_error_range": rows}))


def peers(python: str, library: Path, environment: dict[str, str]) -> list[dict[str, object]]:
    """Each tool on the same device, one after the other."""
    # codecarbon looks for NVIDIA devices by running nvidia-smi before it loads NVML.
    stub = library.parent / "nvidia-smi"
    stub.write_text("#!/bin/sh\necho simulated\n")
    stub.chmod(0o755)
    environment = {**environment, "PATH": f"{library.parent}{os.pathsep}{environment['PATH']}"}
    rows = []
    for tool in TOOLS:
        command = [sys.executable if tool == "wattline" else python, __file__, "--peer", tool, str(library)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        failed = {"tool": tool, "state": "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
        rows.append(json.loads(lines[-1]) if lines and lines[-1].startswith("{") else failed)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--windows", type=int, default=1000, help="per wave and counter period")
    parser.add_argument("--study", action="store_true", help="only the study of sixteen kinds of sensors")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        peer(*given.peer)
        return
    if given.study:
        rows = study(given.windows)
        print(json.dumps(rows, indent=2)) if given.json else print_study(rows)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        rows = accuracy(library, folder, given.windows)
        config = folder / "real.cfg"
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKENVML": str(config)}
        environment.update(PYTHONPATH=str(ROOT / "src"))
        for key in ("WATTLINE_NVML", "CUDA_VISIBLE_DEVICES"):
            environment.pop(key, None)
        config.write_text("devices=8\ncounter=0.1\n")
        price = cost(environment)
        config.write_text("devices=1\ncounter=0.1\nwave=square\nperiod=0.13\nduty=0.25\n")
        beside = peers(given.peers, library, environment)
    if given.json:
        print(json.dumps({"accuracy": rows, "cost": price, "peers": beside}, indent=2))
        return
    print(f"{'wave':30}{'counter':>9}{'mean err':>10}{'95 %':>8}{'max':>8}{'± stated':>10}{'inside':>8}{'at once':>9}")
    for row in rows:
        print(
            f"{row['wave']:30}{row['counter_period_s'] * 1e3:6.0f} ms{row['mean_error']:10.2%}{row['p95_error']:8.2%}"
            f"{row['max_error']:8.2%}{row['mean_half_width']:10.2%}{row['inside']:8.1%}{row['inside_at_once']:9.1%}"
        )
    print("errors: windows of 2 to 10 s; inside: the truth is in the 95 % interval, windows of 30 ms to 10 s")
    print(
        f"\nbegin + end, {price['devices']} devices: {price['window_s'] * 1e6:.0f} us, of which the driver's calls "
        f"{price['driver_s'] * 1e6:.0f} us; sampling at 10 Hz: {price['sampler_share_of_core']:.2%} of a core\n"
    )
    print(f"{'tool':12}{'load':>8}   signed error of windows of 0.3 s, 1 s, 2 s (130 ms square, 100 ms counter)")
    for row in beside:
        if row["state"] != "ran":
            print(f"{row['tool']:12}{row['state']}")
            continue
        spans = "   ".join(f"{low:+.1%} to {high:+.1%}" for low, high in row["signed_error_range"].values())
        print(f"{row['tool']:12}{row['load_s']:6.2f} s   {spans}")


if __name__ == "__main__":
    main()
