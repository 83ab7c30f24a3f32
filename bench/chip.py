"""The mapping search beside other mappers and a measured GPU: time to answer, energy and latency found.

    python bench/chip.py [--zigzag PYTHON] [--a100 MEASURED.csv] [--designs 10000]

`--zigzag`: an interpreter that has zigzag-dse 3.9.1 (PyPI); without it ZigZag's columns say "not installed".
`--a100`: rows of M, K, N, time, rate as LLMCompass publishes them (not part of this project). `--designs`: a sweep of
that many chips over two energies per bit. Times are processor seconds of one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from scipy.optimize import minimize

from wattline.hardware import catalog
from wattline.hardware.architectures import architecture
from wattline.source.base import Device
from wattline.source.dataflow import (
    Dataflow,
    Einsum,
    Space,
    certificates,
    cross,
    footprint,
    settings,
)
from wattline.workload.operator import Attention, Elementwise, Gemm

PERFECT, IMPERFECT = Space(imperfect=False), Space()

ZIGZAG = """
import json, logging, os, sys, time
logging.disable(logging.CRITICAL)
import yaml, zigzag
from zigzag.api import get_hardware_performance_zigzag
m, n, k, opt, engine, folder = sys.argv[1:]
layer = {"id": 0, "name": "g", "operator_type": "Gemm", "equation": "O[b][k]+=I[b][c]*W[c][k]",
         "dimension_relations": [], "loop_dims": ["B", "K", "C"], "loop_sizes": [int(m), int(n), int(k)],
         "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8}, "operand_source": {"W": 0, "I": 0}}
path = os.path.join(folder, "layer.yaml")
yaml.safe_dump([layer], open(path, "w"))
inputs = os.path.join(os.path.dirname(zigzag.__file__), "inputs")
start = time.perf_counter()
energy, cycles, _ = get_hardware_performance_zigzag(
    path, inputs + "/hardware/tpu_like.yaml", inputs + "/mapping/tpu_like.yaml", opt=opt,
    temporal_mapping_search_engine=engine, dump_folder=folder, pickle_filename=folder + "/out.pickle",
    loma_show_progress_bar=False)
print(json.dumps([energy * 1e-12, cycles, time.perf_counter() - start]))
"""


def table(*rows: tuple[object, ...]) -> None:
    """Print a markdown table whose first row is the head."""
    head, *body = rows
    for row in (head, ["---"] * len(head), *body):
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def answered(einsum: Einsum, chip, space: Space):
    """Return footprint, J, s of the mapping of least energy-delay product, and processor seconds."""
    start = process_time()
    found = footprint(einsum, chip, space)
    costs = found.costs()
    spent = process_time() - start
    energy, time = costs.energy.sum(axis=1), costs.busy.max(axis=1)
    i = int(np.argmin(energy * time))
    return found, energy[i], time[i], spent


def zigzag(python: str | None, shape: tuple[int, int, int], opt: str, engine: str) -> str:
    """Return ZigZag's energy, cycles and seconds in words."""
    if python is None:
        return "not installed"
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [python, "-c", ZIGZAG, *map(str, shape), opt, engine, folder], capture_output=True, text=True, check=False
        )
    if run.returncode:
        return "failed"
    energy, cycles, seconds = json.loads(run.stdout.strip().splitlines()[-1])
    return f"{energy * 1e3:.2f} mJ, {cycles:.4g} cycles, {seconds:.1f} s"


def beside_zigzag(python: str | None) -> None:
    """The same products on ZigZag's TPU-like array."""
    chip = architecture("zigzag-tpu")
    rows: list[tuple[object, ...]] = [("product, tiles", "ours", "s", "costed", "stand for", "M/s", "gap", "ZigZag")]
    cases = (
        ((4096, 4096, 4096), PERFECT, "perfect", "energy"),
        ((4096, 4096, 4096), IMPERFECT, "imperfect", ""),
        ((1, 4096, 14336), PERFECT, "perfect", "EDP"),
    )
    for shape, space, name, opt in cases:
        found, energy, time, spent = answered(Einsum(*shape, partial=2.0), chip, space)
        peer = " / ".join(zigzag(python, shape, opt, e) for e in ("loma", "salsa")[: 2 if python else 1]) if opt else ""
        gap = f"{100 * certificates(found)[0].gap:.0f} %"
        rows.append(
            (f"{' x '.join(map(str, shape))}, {name}", f"{energy * 1e3:.2f} mJ, {time * 1e9:.4g} cycles", f"{spent:.2f}",
             f"{found.evaluated:.2g}", f"{found.covered:.2g}", f"{found.evaluated / spent / 1e6:.1f}", gap, peer)
        )  # fmt: skip
    table(*rows)


def llama(tokens: int, context: int, apart: bool) -> list[Einsum]:
    """The products of a Llama-3-8B layer in 16 bit; `apart` sends results through main memory."""

    def product(m: int, n: int, k: int, batch: int = 1, on_chip: tuple[str, ...] = ()) -> Einsum:
        return Einsum(m, n, k, batch, (2.0, 2.0, 2.0), 2.0, "int8", () if apart else on_chip)

    return [
        product(tokens, 1024, 4096), product(tokens, 1024, 4096), product(tokens, 4096, 4096),
        product(4 * tokens, context, 128, 8, ("c",)), product(4 * tokens, 128, context, 8, ("a",)),
        product(tokens, 4096, 4096), product(tokens, 14336, 4096, 1, ("c",)), product(tokens, 14336, 4096, 1, ("c",)),
        product(tokens, 4096, 14336, 1, ("a",)),
    ]  # fmt: skip


def passes(tokens: int, context: int, chip) -> tuple[float, float]:
    """J and s of the layer's elementwise work through main memory: input, softmax, gate times up.

    As AccelForge has it: softmax is one operation a score on the vector units; gate times up has three operands, so it
    goes to the arrays, where nothing is shared and one unit of each works.
    """
    hbm, compute = chip.levels[0], chip.compute
    arrays = next(f.size for f in chip.fanouts if f.name == "arrays") * chip.domain(compute.domain).reference_clock
    work = (
        (tokens * 4096, tokens * 4096, np.inf),
        (32 * tokens * context, 32 * tokens * context, chip.vector.ops_per_second),
        (2 * tokens * 14336, tokens * 14336, arrays),
    )
    joules = sum(16.0 * (read * hbm.read_energy + write * hbm.write_energy) for read, write, _ in work)
    seconds = sum(max(2.0 * (read + write) / hbm.read_bandwidth, write / rate) for read, write, rate in work)
    return joules, seconds


def beside_accelforge() -> None:
    """AccelForge's TPU v4i: a product, and the layer with 20 clocks."""
    chip = architecture("accelforge-tpu-v4i")
    rows: list[tuple[object, ...]] = [("work", "ours", "s", "AccelForge 1.0.467")]
    _, energy, time, spent = answered(Einsum(4096, 4096, 4096, partial=1.0), chip, PERFECT)
    rows.append(
        ("4096^3", f"{energy * 1e3:.2f} mJ, {time * 1e3:.4f} ms", f"{spent:.2f}", "14.23 mJ, 0.9986 ms, 12.7 s")
    )
    path = tuple(replace(p, capacity=2.0) if p.name == "register" else p for p in chip.path)
    wide = replace(chip, path=path, compute=replace(chip.compute, accumulator={"int8": 2.0}))
    clocks = {"core": np.linspace(0.5, 1.0, 20) * 1.05e9}
    cases = (
        ("prefill 2048", 2048, "233.4 mJ, 15.30 ms, 194 s"),
        ("decode, 2048 in context", 1, "25.10 mJ, 0.729 ms, 105 s"),
    )
    for name, tokens, peer in cases:
        for apart in (False, True):
            start = process_time()
            joules, seconds = passes(tokens, 2048, wide) if apart else (0.0, 0.0)
            for einsum in llama(tokens, 2048, apart):
                costs = footprint(einsum, wide, replace(PERFECT, step=2.0)).costs()
                cross(costs, settings(wide, clocks))
                energy, time = costs.energy.sum(axis=1), costs.busy.max(axis=1)
                i = int(np.argmin(energy * time))
                joules, seconds = joules + energy[i], seconds + time[i]
            how = "all results through main memory" if apart else "products only, scores and hidden values on the chip"
            spent = process_time() - start
            rows.append(
                (
                    f"Llama-3-8B layer, {name}, {how}",
                    f"{joules * 1e3:.1f} mJ, {seconds * 1e3:.3f} ms",
                    f"{spent:.2f}",
                    peer,
                )
            )
    table(*rows)


def beside_measured(path: Path) -> None:
    """Products measured on an A100: three constants fitted to all rows, and to all rows but the one predicted."""
    chip = architecture("a100-like")
    point = settings(chip, {"core": [chip.domain("core").clock[-1]]})
    measured, parts = [], []
    start = process_time()
    for line in path.read_text().splitlines():
        m, k, n, time, _ = line.replace("ms", "").replace("Tflops", "").split(",")
        einsum = Einsum(int(m), int(n), int(k), 1, (2.0, 2.0, 2.0), 4.0, "fp16")
        costs = footprint(einsum, chip, replace(PERFECT, step=2.0)).costs()
        i = int(np.argmin(cross(costs, point).time[:, 0]))
        busy = dict(zip(costs.ports, costs.busy[i], strict=True))
        measured.append(float(time) * 1e-3)
        parts.append((busy["compute"], busy["memory.hbm"]))
    spent = process_time() - start
    truth, work = np.array(measured), np.array(parts)

    def predict(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return 1e-6 * x[0] + np.maximum(rows[:, 0] / x[1], rows[:, 1] / x[2])

    def fit(pick: np.ndarray) -> np.ndarray:
        def loss(x: np.ndarray) -> float:
            return float(np.abs(predict(x, work[pick]) / truth[pick] - 1).mean())

        return minimize(loss, (28.0, 0.9, 0.88), method="Nelder-Mead", options={"maxiter": 2000}).x

    everything = np.ones(len(truth), bool)
    x = fit(everything)
    own = np.abs(predict(x, work) / truth - 1)
    out = np.array(
        [abs(predict(fit(np.arange(len(truth)) != i), work[i : i + 1])[0] / truth[i] - 1) for i in range(len(truth))]
    )
    bare = np.abs(work.max(axis=1) / truth - 1)
    table(
        ("A100, products", "MAPE", "worst", "s to answer all"),
        ("no constant fitted", f"{100 * bare.mean():.1f} %", f"{100 * bare.max():.0f} %", f"{spent:.1f}"),
        (f"{x[0]:.1f} us a call, {x[1]:.3f} of the arithmetic, {x[2]:.3f} of the bandwidth", f"{100 * own.mean():.1f} %", f"{100 * own.max():.1f} %", ""),
        ("each row left out of the fit", f"{100 * out.mean():.1f} %", f"{100 * out.max():.1f} %", ""),
    )  # fmt: skip


def model(tokens: int, context: int) -> list[object]:
    """Operators of Llama-3-8B, 32 layers."""
    phase = "prefill" if tokens == context else "decode"
    batch, query = (1, tokens) if phase == "prefill" else (tokens, 1)
    shapes = {"qkv": (6144, 4096), "o": (4096, 4096), "up": (28672, 4096), "down": (4096, 14336)}
    products = [Gemm(name=n, m=tokens, n=s[0], k=s[1], repeat=32) for n, s in shapes.items()]
    attention = Attention(
        name="attention", batch=batch, query=query, context=context, heads=32, kv_heads=8, head_dim=128, value_dim=128,
        repeat=32, phase=phase,
    )  # fmt: skip
    size = 2.0 * tokens * 4096
    return [*products, attention, Elementwise(name="norms", read=size, write=size, ops=2.5 * size, repeat=64)]


def asked_again(designs: int) -> None:
    """How long a changed constant takes, for one product and for a model on many designs."""
    chip = architecture("a100-like")
    product = Einsum(4096, 4096, 4096, 1, (2.0, 2.0, 2.0), 4.0, "bf16")
    found = footprint(product, chip, Space(imperfect=False, step=2.0, wide=True))
    points = settings(chip)
    start = perf_counter()
    for _ in range(100):
        cross(found.costs(replace(chip)), points)
    once = (perf_counter() - start) / 100
    sheet = catalog.chip("a100-like")
    device = Device(sheet, catalog.default_node(sheet))
    pieces, clock = [model(2048, 2048), model(64, 2048)], np.array([1.41e9])
    start = process_time()
    Dataflow(chip).tables(pieces, device, clock)
    first = process_time() - start
    start = process_time()
    side = max(1, round(designs**0.5))
    for i in range(side):
        for j in range(side):
            changes = {
                "level.hbm.read_energy": f"{2 + 5 * i / side} pJ/bit",
                "level.l2.read_energy": f"{0.5 + j / side} pJ/bit",
            }
            Dataflow(chip.with_(changes)).tables(pieces, device, clock)
    sweep = process_time() - start
    table(
        ("asked again", "time"),
        ("one product, other constants, every clock", f"{1e3 * once:.2f} ms"),
        ("Llama-3-8B prefill and decode on a100-like, first time", f"{first:.1f} s"),
        (f"the same on {side * side} designs", f"{sweep:.1f} s ({1e3 * sweep / side**2:.1f} ms each)"),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zigzag")
    parser.add_argument("--a100", type=Path)
    parser.add_argument("--designs", type=int, default=400)
    args = parser.parse_args()
    beside_zigzag(args.zigzag)
    beside_accelforge()
    if args.a100:
        beside_measured(args.a100)
    asked_again(args.designs)


if __name__ == "__main__":
    main()
