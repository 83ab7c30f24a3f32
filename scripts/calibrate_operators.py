"""Fit the roofline's constants to measured kernels, print residuals, write the calibration files.

    python scripts/calibrate_operators.py REFERENCE [--write] [--quick] [--keep-kernels] [--keep-b200]

REFERENCE holds ``operators/`` (kernels of H200 and B200 from ai-dynamo/aiconfigurator, Apache-2.0)
and ``pipeline/`` (stage profiles of A100 and A40 over clocks, Perseus artifact of ml-energy/zeus,
Apache-2.0). Every fit starts at values stated here (START), so a second run writes the same bytes.

1. Efficiency constants and chip facts of the H200, jointly, robust in log time and log power, held
   back by priors at START.
2. A learned correction per kind of operator on what is left (bounded; see `source/roofline/residual.py`).
3. What the campaign's power meter printed beside the kernel's own power: pauses between the products
   of the campaign (see `source/measured/campaign.py`), then trees on what is left (see `source/measured/meter.py`).
4. The B200 from its few rows, by `source.calibrate.calibrate`, the same a user would run, and the
   pauses of its campaign; then how far the trees of the H200's hold there, one number per operator.
5. Voltage and switched energy of the A100 and A40 from stage power over clocks.

`--keep-kernels` fits 1 and 2 for the errors it prints, then leaves what ships of them, and of 5, as it is: only 3 and
4 are written, on the shipped kernels. `--keep-b200` leaves the facts of the B200 and fits the pauses of its campaign.

Errors printed are on shapes (then on whole families of shapes) that steps 2 and 3 did not see; step 1
has too few constants to remember any. What ships is fitted to all rows.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import io
import itertools
import re
import time as clock
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares, minimize
from scipy.spatial import cKDTree

import wattline.source.measured.meter as meter_module
import wattline.source.roofline.residual as residual_module
import wattline.source.roofline.silicon as silicon_module
from wattline.hardware.facts import Sheet, load
from wattline.source.measured import campaign
from wattline.source.measured.calibrate import (
    PRIORS,
    Metrics,
    Report,
    calibrate,
    loop,
    looped,
    measured,
    metrics,
    predict_rows,
)
from wattline.source.measured.campaign import Pauses
from wattline.source.measured.meter import Forest
from wattline.source.measured.rows import COLUMNS, batches, harness
from wattline.source.roofline import shapes
from wattline.source.roofline.residual import BOUNDS, Net, adjust
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.voltage import voltage
from wattline.source.roofline.work import cost

PACKAGE = Path(silicon_module.__file__).parents[1]
CHIPS = PACKAGE / "hardware" / "data" / "chips"
DATA = PACKAGE / "source" / "data"
# Scale of log power beyond which a miss counts for less: by how noisy the readings of a kind are.
BLUR = {"gemm": 0.12, "moe": 0.12, "prefill": 0.2, "decode": 0.3}
SEED, HELD_OUT = 0, 0.2
OPS = ("gemm", "context_attention", "generation_attention", "moe")
NET = {"gemm": "gemm", "context_attention": "prefill", "generation_attention": "decode", "moe": "moe"}
SOURCE = (
    "fitted to vLLM 0.22 kernel measurements on {} by scripts/calibrate_operators.py "
    "(ai-dynamo/aiconfigurator, Apache-2.0)"
)

STAGES = (
    "fitted to stage power over clocks of GPT-3 175B by scripts/calibrate_operators.py (Perseus artifact, SOSP 2024, "
    "ml-energy/zeus, Apache-2.0)"
)

# name: (unit, meaning, log-width of the prior, upper bound)
MEANING: dict[str, tuple[str, str, float, float]] = {
    "overlap.exponent": ("", "p of the soft maximum over overlapped resources", 0.15, 16),
    "gemm.efficiency": ("", "share of the matrix rate a tile of infinite size sustains (A100 fp16, "
                        "unthrottled: 293 of 312 TFLOP/s, LLMCompass)", 0.01, 0.97),
    "gemm.tile_margin": ("", "elements by which a tile's edges cost it efficiency", 1, 1e5),
    "gemm.tile_ramp": ("s", "fill and drain of one tile at the reference clock", 1, 1e-4),
    "gemm.ramp": ("s", "fill and drain of the kernel at the reference clock", 1, 1e-4),
    "gemm.split_ramp": ("s", "added when K is split", 1, 1e-4),
    "gemm.l2_efficiency": ("", "share of the last cache level's bandwidth reached", 0.1, 1.5),
    "gemm.padding": ("", "share of an operation's energy that one on padding switches", 0.7, 1),
    "gemm.reread": ("", "share of the ideal re-reads that miss the last cache level", 0.5, 2),
    "dram.efficiency": ("", "share of main memory bandwidth a large kernel reaches", 0.1, 0.97),
    "dram.per_tile": ("B/s", "main memory bandwidth one tile in flight can draw", 1, 1e12),
    "moe.efficiency": ("", "as gemm.efficiency, grouped kernels", 0.5, 0.97),
    "moe.tile_margin": ("", "as gemm.tile_margin, grouped kernels", 1, 1e5),
    "moe.tile_ramp": ("s", "as gemm.tile_ramp, grouped kernels", 1, 1e-4),
    "moe.ramp": ("s", "as gemm.ramp, grouped kernels", 1, 1e-4),
    "moe.skew": ("", "exponent of the busiest expert's load in compute time", 1, 2),
    "moe.energy": ("", "energy per operation over that of plain products", 0.5, 4),
    "moe.dram_efficiency": ("", "as dram.efficiency, grouped kernels", 0.1, 0.97),
    "moe.dram_per_tile": ("B/s", "as dram.per_tile, grouped kernels", 1, 1e12),
    "attention.efficiency": ("", "share of the matrix rate of fused attention", 0.5, 0.97),
    "attention.softmax": ("", "share of exponentials not hidden behind products", 1, 4),
    "attention.convert": ("", "time added by converting a narrow cache, relative", 1, 2),
    "attention.tile_ramp": ("s", "fill and drain of one block of queries", 1, 1e-4),
    "attention.wide": ("", "slowdown of heads wider than 256", 0.5, 8),
    "attention.ramp": ("s", "fill and drain of the kernel", 1, 1e-4),
    "attention.backward": ("", "slowdown of the backward kernel per operation (Dao, FlashAttention-2, "
                           "arXiv 2307.08691, table: 0.83 of the forward rate)", 0, 4),
    "attention.energy": ("", "energy per operation over that of plain products", 0.5, 4),
    "decode.efficiency": ("", "as attention.efficiency, one new token", 0.5, 0.97),
    "decode.tile_ramp": ("s", "as attention.tile_ramp, one new token", 1, 1e-4),
    "decode.convert": ("", "as attention.convert, one new token", 1, 2),
    "decode.dram_efficiency": ("", "as dram.efficiency, one new token", 0.1, 0.97),
    "decode.dram_per_tile": ("B/s", "as dram.per_tile, one new token", 1, 1e12),
    "decode.narrow": ("", "share of that bandwidth reached with a narrow cache", 0.5, 1),
    "decode.wide": ("", "slowdown of heads wider than 256", 0.5, 8),
    "decode.ramp": ("s", "fill and drain of the kernel", 1, 1e-4),
    "decode.split_ramp": ("s", "added by the combine step of a split", 1, 1e-4),
    "vector.efficiency": ("", "share of the vector rate of memory-bound kernels", 0, 1),
    "vector.dram_efficiency": ("", "share of main memory bandwidth a large copy reaches (H200 copy 4.3 of "
                               "4.8 TB/s, H100 triad 3.09 of 3.35 TB/s)", 0, 1),
    "vector.ramp": ("s", "fill and drain of a memory-bound kernel", 0, 1e-4),
    "link.efficiency": ("", "share of the link bandwidth a large collective reaches (nccl-tests on HGX "
                        "boards: 0.75 to 0.85)", 0, 1),
    "link.hops": ("", "factor on latency steps", 0, 4),
    "residual.weight": ("", "how much of the learned correction applies", 0, 1),
}  # fmt: skip

# Where the fits start: found by this script from round guesses over several days, rounded.
START: dict[str, float] = {
    "overlap.exponent": 3.04, "gemm.efficiency": 0.948, "gemm.tile_margin": 266, "gemm.tile_ramp": 1.23e-06,
    "gemm.ramp": 2.93e-07, "gemm.split_ramp": 2.62e-06, "gemm.l2_efficiency": 0.886, "gemm.padding": 0.308,
    "gemm.reread": 1, "dram.efficiency": 0.861, "dram.per_tile": 2.03e+11, "moe.efficiency": 0.444,
    "moe.tile_margin": 1.81e+03, "moe.tile_ramp": 1.19e-06, "moe.ramp": 2.34e-06, "moe.skew": 0.0448,
    "moe.energy": 1.85, "moe.dram_efficiency": 0.912, "moe.dram_per_tile": 1.17e+11,
    "attention.efficiency": 0.682, "attention.softmax": 0.27, "attention.convert": 0.129,
    "attention.tile_ramp": 3.65e-06, "attention.wide": 0.932, "attention.ramp": 2.86e-06,
    "attention.backward": 1.2, "attention.energy": 0.868, "decode.efficiency": 0.328,
    "decode.tile_ramp": 3.31e-06, "decode.convert": 0.0688, "decode.dram_efficiency": 0.951,
    "decode.dram_per_tile": 4.25e+10, "decode.narrow": 1, "decode.wide": 2.34, "decode.ramp": 4.05e-06,
    "decode.split_ramp": 2.11e-06, "vector.efficiency": 0.5, "vector.dram_efficiency": 0.9,
    "vector.ramp": 1e-06, "link.efficiency": 0.8, "link.hops": 1,
}  # fmt: skip
START_FACTS = {
    "leakage": 54.5, "clock_tree": 54.7, "hbm_energy": 6.05 * 8e-12, "l2_energy": 7.8e-12, "l2_bandwidth": 14.2e12,
    "volt_max": 1.02, "knee": 1200e6, "energy.bf16": 0.45e-12, "energy.fp8": 0.38e-12,
}  # fmt: skip
START_SORT = (16.9e-6, 17.4e-6, 30.3e-6)  # s that sorting adds to mixtures: bf16, fp8, block-scaled fp8
# The B200 before any of its rows: estimates from its datasheet, as for any chip (see docs/catalog.md).
START_B200 = {
    "power.waiting": "209 W", "power.leakage": "90 W", "power.clock_tree": "110 W", "memory.hbm.energy": "4.5 pJ/bit",
    "memory.l2.energy": "7 pJ/B", "memory.l2.bandwidth": "19 TB/s", "compute.energy.bf16": "0.3 pJ/FLOP",
    "compute.energy.fp16": "0.3 pJ/FLOP",
    "compute.energy.fp8": "0.165 pJ/FLOP", "compute.energy.fp4": "0.09 pJ/FLOP",
    "fit.compute": 1.0, "fit.memory": 1.0, "fit.latency": 1.0, "fit.decode": 1.0,
}  # fmt: skip
# The A100 and A40 before their stage profiles: leakage and clock tree (W), bf16 (pJ/FLOP), last cache level (pJ/B).
START_AMPERE = {"a100-sxm-80gb": (35.0, 45.0, 0.65, 8.0), "a40": (25.0, 35.0, 1.1, 7.0)}

# Chip facts fitted together with them: log-width of the prior, upper bound as a factor.
FACTS = {
    "leakage": 0.5, "clock_tree": 0.5, "hbm_energy": 0.4, "l2_energy": 0.6, "l2_bandwidth": 0.1,
    "volt_max": 0.05, "knee": 0.07, "energy.bf16": 0.4, "energy.fp8": 0.4,
}  # fmt: skip
SHEET_KEY = {
    "leakage": "power.leakage", "clock_tree": "power.clock_tree", "hbm_energy": "memory.hbm.energy",
    "l2_energy": "memory.l2.energy", "l2_bandwidth": "memory.l2.bandwidth", "volt_max": "voltage.max",
    "knee": "voltage.knee", "energy.bf16": "compute.energy.bf16", "energy.fp8": "compute.energy.fp8",
}  # fmt: skip


@dataclass(eq=False)
class Set:
    """One operator's rows: all columns, which are held out, log time (s) and log power (W)."""

    op: str
    rows: dict[str, np.ndarray]
    held: np.ndarray
    log_time: np.ndarray
    log_power: np.ndarray

    def part(self, pick: np.ndarray) -> Set:
        rows = {k: v[pick] for k, v in self.rows.items()}
        return Set(self.op, rows, self.held[pick], self.log_time[pick], self.log_power[pick])


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a CSV (gzip or not) into typed columns."""
    raw = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    table = list(csv.reader(io.StringIO(raw)))
    columns = {}
    for i, name in enumerate(table[0]):
        values = np.array([row[i] for row in table[1:]])
        for kind in (np.int64, np.float64):
            try:
                values = values.astype(kind)
                break
            except ValueError:
                continue
        columns[name] = values
    return columns


def open_set(path: Path, op: str) -> Set:
    """Read one operator's rows and hold out a fifth of its shapes (every dtype of a shape together)."""
    rows = read(path)
    shape = np.stack([rows[c].astype(str) for c in COLUMNS[op] if not c.endswith("dtype")], axis=1)
    _, group = np.unique(shape, axis=0, return_inverse=True)
    group = group.ravel()
    held = np.random.default_rng(SEED).random(group.max() + 1)[group] < HELD_OUT
    return Set(op, rows, held, np.log(rows["latency"] * 1e-3), np.log(rows["power"]))


# --- 1. physics ---------------------------------------------------------------------------------


def physics(rows: dict, op: str, chip: Silicon, moe: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Return log time, log power and whether the benchmark's own floor decides, row by row."""
    n = len(rows["op_name"])
    time, power, held = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
    for batch in batches(rows, chip):
        answer = cost(batch.works, chip)
        rig = harness(batch, chip)
        extra = rig.extra
        if moe is not None and op == "moe":
            extra = moe[("bfloat16", "fp8", "fp8_block").index(batch.dtype)]
        time[batch.index] = np.maximum(answer.time + extra, rig.floor)
        power[batch.index] = answer.power
        held[batch.index] = rig.floor > 1.1 * answer.time
    return np.log(time), np.log(power), held


def moved(chip: Silicon, names: list[str], x: np.ndarray) -> tuple[Silicon, np.ndarray]:
    """Return the chip with each named constant times exp(x), and the MoE sorting times."""
    shape, energy, facts, moe = dict(chip.shape), dict(chip.energy), {}, np.zeros(3)
    for name, value in zip(names, np.exp(x), strict=True):
        if name.startswith("energy."):
            energy[name.removeprefix("energy.")] *= value
        elif name.startswith("sort."):
            moe[int(name[-1])] = START_SORT[int(name[-1])] * value
        elif name in FACTS:
            facts[name] = getattr(chip, name) * value
        else:
            shape[name] *= value
    # An 8-bit multiplier switches no more than a 16-bit one (Horowitz, ISSCC 2014, figure 1.1.9).
    energy["fp8"] = min(energy["fp8"], energy["bf16"])
    return replace(chip, shape=shape, energy=energy, **facts), moe


def fit_physics(
    sets: list[Set], chip: Silicon, size: int, evaluations: int
) -> tuple[Silicon, np.ndarray, list[str], np.ndarray]:
    """Fit constants and facts on a subsample of the training rows; return the fitted chip."""
    names = [n for n, m in MEANING.items() if m[2] > 0] + list(FACTS) + ["sort.0", "sort.1", "sort.2"]
    width = np.array([MEANING[n][2] if n in MEANING else FACTS.get(n, 1.0) for n in names])
    top = np.array([np.log(MEANING[n][3] / chip.shape[n]) if n in MEANING else 2.5 for n in names])
    top = np.clip(top, 1e-3, 2.5)
    random = np.random.default_rng(SEED)
    sample = []
    for s in sets:
        train = np.flatnonzero(~s.held)
        sample.append(s.part(random.choice(train, min(size, train.size), replace=False)))

    def loss(x: np.ndarray) -> np.ndarray:
        here, moe = moved(chip, names, x)
        out = [x / width]
        for s in sample:
            t, p, held = physics(s.rows, s.op, here, moe)
            weight = 10.0 / np.sqrt(t.size)
            dt, dp = (t - s.log_time) / 0.1, np.where(held, 0.0, p - s.log_power) / 0.15
            # Pseudo-Huber in time; redescending in power, whose outliers are a third of some rows.
            out.append(weight * np.sign(dt) * np.sqrt(2.0 * (np.sqrt(1.0 + dt**2) - 1.0)))
            out.append(weight * 0.5 * np.sign(dp) * np.sqrt(np.log1p(dp**2)))
        return np.concatenate(out)

    fit = least_squares(
        loss, np.minimum(0.0, top - 1e-3), bounds=(-2.5, top), x_scale=width, diff_step=1e-3, max_nfev=evaluations
    )
    print(f"physics: cost {fit.cost:.1f} after {fit.nfev} evaluations")
    here, moe = moved(chip, names, fit.x)
    return here, moe, names, fit.x


def starting(sheet: Sheet, floor: float) -> Silicon:
    """Return the H200 at START, with `floor` W as its waiting power."""
    base = Silicon.of(sheet)
    facts = {k: v for k, v in START_FACTS.items() if not k.startswith("energy.")}
    energy = dict(base.energy) | {p: START_FACTS[f"energy.{p}"] for p in ("bf16", "fp8")}
    shape = base.shape | START | {"residual.weight": 1.0}
    return replace(base, waiting=floor, energy=energy, shape=shape, **facts)


# --- 2. learned correction ----------------------------------------------------------------------


def lessons(s: Set, chip: Silicon) -> dict[str, np.ndarray]:
    """Return what a correction learns from: features, kernel time, the rest, power, throttled, held."""
    n = len(s.log_time)
    out = {k: np.zeros(n) for k in ("kernel", "rest", "power", "throttled", "floor")}
    hints: np.ndarray | None = None
    for batch in batches(s.rows, chip):
        answer = cost(batch.works, chip)
        corrected = [w for w in batch.works if w.net]
        kernel = cost(corrected, chip).time
        rig = harness(batch, chip)
        at = batch.index
        out["kernel"][at] = kernel
        out["rest"][at] = np.maximum(answer.time - kernel, 0.0) + rig.extra
        out["power"][at] = answer.power
        out["throttled"][at] = answer.clock < chip.clock_max - 1e6
        out["floor"][at] = rig.floor
        each = [np.stack(np.broadcast_arrays(*w.hints), axis=1) for w in corrected]
        hints = np.zeros((n, each[0].shape[1])) if hints is None else hints
        hints[at] = np.mean(each, axis=0)
    assert hints is not None
    return out | {"hints": hints}


def learn(
    x: np.ndarray,
    data: dict,
    log_time: np.ndarray,
    log_power: np.ndarray,
    limit: float,
    bounds: tuple[float, float],
    steps: int,
    blur: float,
    hidden: int = 32,
) -> Net:
    """Train one correction with Adam on an absolute loss in time and a redescending one in power."""
    random = np.random.default_rng(SEED)
    mean, scale = x.mean(axis=0), 1.0 / (x.std(axis=0) + 1e-6)
    inputs = (x - mean) * scale
    sizes = [x.shape[1], hidden, hidden, 2]
    weights = [random.normal(size=(a, b)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    weights[-1] *= 0.1
    values = weights + [np.zeros(b) for b in sizes[1:]]
    first = [np.zeros_like(v) for v in values]
    second = [np.zeros_like(v) for v in values]
    depth, limits = len(weights), np.array(bounds)
    base, top = np.log(data["power"]), np.log(limit)
    for step in range(steps):
        pick = random.integers(0, len(x), min(len(x), 1024))
        layers = [inputs[pick]]
        for w, b in zip(values[: depth - 1], values[depth:-1], strict=True):
            layers.append(np.tanh(layers[-1] @ w + b))
        squashed = np.tanh(layers[-1] @ values[depth - 1] + values[-1])
        on_time, on_power = (limits * squashed).T
        kernel = data["kernel"][pick] * np.exp(on_time)
        total = kernel + data["rest"][pick]
        miss = np.log(total) - log_time[pick]
        pull_time = miss / np.sqrt(miss**2 + 0.03**2) * kernel / total
        free = (data["throttled"][pick] == 0) & (base[pick] + on_power < top)
        miss = np.minimum(base[pick] + on_power, top) - log_power[pick]
        pull_power = np.where(free, blur * miss / (miss**2 + blur**2), 0.0)
        delta = np.stack([pull_time, pull_power], axis=1) * limits * (1.0 - squashed**2) / len(pick)
        slopes: list[np.ndarray] = [np.zeros(0)] * len(values)
        for k in range(depth - 1, -1, -1):
            slopes[k] = layers[k].T @ delta + 1e-6 * values[k]
            slopes[depth + k] = delta.sum(axis=0)
            if k:
                delta = (delta @ values[k].T) * (1.0 - layers[k] ** 2)
        rate = 0.005 * (1.0 + np.cos(np.pi * step / steps))
        for k, slope in enumerate(slopes):
            first[k] = 0.9 * first[k] + 0.1 * slope
            second[k] = 0.999 * second[k] + 0.001 * slope**2
            up = first[k] / (1.0 - 0.9 ** (step + 1))
            values[k] = values[k] - rate * up / (np.sqrt(second[k] / (1.0 - 0.999 ** (step + 1))) + 1e-9)
    narrow = [v.astype(np.float32) for v in values]
    ends = [e.astype(np.float32) for e in (x.min(axis=0), x.max(axis=0), mean, scale, limits)]
    return Net(*ends, layers=tuple(zip(narrow[:depth], narrow[depth:], strict=True)))


def fit_nets(sets: list[Set], chip: Silicon, steps: int, train: list[np.ndarray]) -> dict[str, Net]:
    """Fit a correction per kind of operator on rows `train` of each set, those at the benchmark's floor left out."""
    nets = {}
    for s, use in zip(sets, train, strict=True):
        data = lessons(s, chip)
        pick = use & (data["floor"] <= 1.05 * data["kernel"])
        part = {k: v[pick] for k, v in data.items()}
        name = NET[s.op]
        nets[name] = learn(
            part.pop("hints"), part, s.log_time[pick], s.log_power[pick], chip.limit, BOUNDS, steps, BLUR[name]
        )
    return nets


# --- 3. the meter -------------------------------------------------------------------------------

# Trees, their depth, the step of each and the fewest rows of a leaf.
FOREST = {"gemm": (500, 6, 0.1, 8), "moe": (400, 6, 0.1, 10)}
_BINS = 96


def grow(x: np.ndarray, y: np.ndarray, trees: int = 300, depth: int = 5, rate: float = 0.1, least: int = 12) -> Forest:
    """Boost complete trees on absolute error: splits follow the sign of what is left, a leaf takes its median."""
    n, d = x.shape
    edges, codes = [], np.empty((d, n), np.int64)
    for j in range(d):
        known = np.unique(x[:, j])
        if known.size > _BINS:
            known = np.unique(np.quantile(x[:, j], np.linspace(0, 1, _BINS + 1)[1:]))
        edges.append(0.5 * (known[1:] + known[:-1]) if known.size > 1 else known)
        codes[j] = np.searchsorted(edges[j], x[:, j], side="left")
    bins = max(e.size for e in edges) + 1
    feature = np.zeros((trees, 2**depth - 1), np.int16)
    threshold = np.full((trees, 2**depth - 1), np.inf, np.float32)
    value = np.zeros((trees, 2**depth), np.float32)
    base = float(np.median(y))
    guess, rows = np.full(n, base), np.arange(n)
    for t in range(trees):
        left = y - guess
        pull, node = np.sign(left), np.zeros(n, np.int64)
        for level in range(depth):
            at, gain, cut = _split(codes, node, pull, 2**level, bins, least)
            here = 2**level - 1 + np.arange(2**level)
            feature[t, here] = at
            threshold[t, here] = [edges[j][k] if g > 0 else np.inf for j, k, g in zip(at, cut, gain, strict=True)]
            node = 2 * node + (codes[at[node], rows] > np.where(gain > 0, cut, bins)[node])
        order = np.lexsort((left, node))
        count = np.bincount(node, minlength=2**depth)
        first, full = np.cumsum(count) - count, count > 0
        low, high = (first + (count - 1) // 2)[full], (first + count // 2)[full]
        value[t, full] = rate * 0.5 * (left[order[low]] + left[order[high]])
        guess += value[t][node]
    return Forest(feature, threshold, value, base)


def _split(
    codes: np.ndarray, node: np.ndarray, pull: np.ndarray, width: int, bins: int, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best feature of each node of a level, its gain (0: none) and the bin after which to cut."""
    total, count = np.bincount(node, pull, width)[:, None], np.bincount(node, minlength=width)[:, None]
    best, at, cut = np.zeros(width), np.zeros(width, np.int64), np.zeros(width, np.int64)
    for j, code in enumerate(codes):
        key = node * bins + code
        below = np.cumsum(np.bincount(key, pull, width * bins).reshape(width, bins), axis=1)
        many = np.cumsum(np.bincount(key, minlength=width * bins).reshape(width, bins), axis=1)
        fits = (many >= least) & (count - many >= least)
        gain = below**2 / np.maximum(many, 1) + (total - below) ** 2 / np.maximum(count - many, 1)
        gain = np.where(fits, gain - total**2 / np.maximum(count, 1), 0.0)
        k = gain.argmax(axis=1)
        most = gain[np.arange(width), k]
        better = most > best + 1e-9
        best[better], at[better], cut[better] = most[better], j, k[better]
    return at, best, cut


# Pauses between the products of a campaign before any reading: guesses, and how often they are tried anew.
START_PAUSES = Pauses(fill=(3e-10, 3e-9), setup=(3e-3, 1e-3), filling=600.0, compiling=1.0)
_TRIES = 150


def fit_pauses(rows: dict[str, np.ndarray], chip: Silicon, pick: np.ndarray) -> Pauses:
    """Return the pauses that best explain the readings of products `pick`, their kernels as modelled."""
    cases = campaign.schedule(chip.architecture)
    assert cases is not None
    time, power = looped(cases.table(np.arange(cases.m.size)), chip, True)
    at = np.concatenate([
        cases.find(dtype, *(rows[c][pick & (rows["gemm_dtype"] == dtype)] for c in "mnk")) for dtype in campaign.DTYPES
    ])  # fmt: skip
    read = np.concatenate([rows["power"][pick & (rows["gemm_dtype"] == dtype)] for dtype in campaign.DTYPES])
    begin = np.log([*START_PAUSES.fill, *START_PAUSES.setup, START_PAUSES.filling, START_PAUSES.compiling])

    def pauses(x: np.ndarray) -> Pauses:
        v = np.exp(x)
        return Pauses((v[0], v[1]), (v[2], v[3]), min(v[4], chip.limit), v[5])

    def miss(x: np.ndarray) -> float:
        shown = campaign.readings(cases, time, power, pauses(x), chip.waiting)[at[at >= 0]]
        return float(np.mean(np.abs(np.log(shown / read[at >= 0]))) + 1e-3 * np.sum((x - begin) ** 2))

    simplex = np.vstack([begin, begin + 0.7 * np.eye(begin.size)])
    fit = minimize(miss, begin, method="Nelder-Mead", options={"maxfev": _TRIES, "initial_simplex": simplex})
    return pauses(fit.x)


def install_pauses(name: str, found: Pauses) -> None:
    """Make the package use these pauses of a chip's campaign in this process."""
    silicon_module.calibration()["campaign"][name] = stated_pauses(found)


def stated_pauses(p: Pauses) -> dict[str, object]:
    """Return pauses as calibration.toml states them."""
    return {
        "fill": [float(f"{v:.3g}") for v in p.fill], "setup": [float(f"{v:.3g}") for v in p.setup],
        "filling": float(f"{p.filling:.4g}"), "compiling": float(f"{p.compiling:.3g}"),
    }  # fmt: skip


def metered(s: Set, chip: Silicon, nets: dict[str, Net]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the meter's forest reads, and the logarithm of the power read over the kernel's own."""
    residual_module.nets = lambda: nets  # type: ignore[assignment]
    x: np.ndarray | None = None
    y = np.zeros(len(s.log_time))
    for batch in batches(s.rows, chip):
        answer = cost([adjust(w, chip) for w in batch.works], chip)
        time, power = loop(answer, harness(batch, chip), chip)
        if s.op == "gemm":
            power = campaign.read(batch.columns, batch.dtype, chip, power, lambda t: looped(t, chip, True))
        rows = meter_module.features(batch.columns, batch.dtype, chip, time, power)
        x = np.zeros((y.size, rows.shape[1])) if x is None else x
        x[batch.index], y[batch.index] = rows, s.log_power[batch.index] - np.log(power)
    assert x is not None
    return x, y


def fit_forests(sets: list[Set], chip: Silicon, nets: dict[str, Net], train: list[np.ndarray]) -> dict[str, Forest]:
    """Grow the meter's forest of each operator on rows `train` of its set."""
    out = {}
    residual_module.nets = lambda: nets  # type: ignore[assignment]
    for s, use in zip(sets, train, strict=True):
        if s.op == "gemm":
            install_pauses(chip.name, fit_pauses(s.rows, chip, use))
            print(f"  pauses of the campaign: {silicon_module.calibration()['campaign'][chip.name]}")
        x, y = metered(s, chip, nets)
        out[s.op] = grow(x[use], y[use], *FOREST.get(s.op, ()))
    return out


# --- cleaning, for reporting only ---------------------------------------------------------------


@functools.cache
def clean(s: Set) -> np.ndarray:
    """Return which rows' power agrees within 25 % with the median of their 12 nearest shapes.

    Neighbours are nearest in log shape and log time within one dtype and window; the comparison is
    with power per neighbour, so a third of bad rows does not move it.
    """
    names = [c for c in COLUMNS[s.op] if s.rows[c].dtype.kind in "iuf" and c not in ("window_size",)]
    x = np.log2(
        np.stack([np.maximum(s.rows[c], 0.5).astype(float) for c in names] + [1e6 * np.exp(s.log_time)], axis=1)
    )
    split = np.stack(
        [s.rows[c].astype(str) for c in COLUMNS[s.op] if s.rows[c].dtype.kind not in "iuf" or c == "window_size"],
        axis=1,
    )
    _, group = np.unique(split, axis=0, return_inverse=True)
    good = np.zeros(len(x), dtype=bool)
    for g in np.unique(group):
        at = np.flatnonzero(group.ravel() == g)
        k = min(13, at.size)
        _, near = cKDTree(x[at]).query(x[at], k=k)
        middle = np.median(s.log_power[at][near[:, 1:]], axis=1) if k > 1 else s.log_power[at]
        good[at] = np.abs(s.log_power[at] - middle) < np.log(1.25)
    return good


# --- reporting and writing ----------------------------------------------------------------------


def install(chip: Silicon, moe: np.ndarray) -> None:
    """Make the package use these constants in this process, before they are written."""
    import wattline.source.measured.rows as rows_module
    import wattline.source.roofline.uncertain as uncertain_module

    table = {k: dict(v) for k, v in silicon_module.calibration().items()}
    table["harness"]["moe"] = {d: [float(v)] for d, v in zip(("bfloat16", "fp8", "fp8_block"), moe, strict=True)}
    for module in (silicon_module, rows_module, uncertain_module, meter_module, campaign):
        module.calibration = lambda: table  # type: ignore[attr-defined]
    shape = dict(chip.shape)
    silicon_module.shape_constants = lambda arch: (  # type: ignore[assignment]
        shape | {"residual.weight": 1.0 if arch in ("hopper", "blackwell") else 0.5}
    )


def use(nets: dict[str, Net], forests: dict[str, Forest]) -> None:
    """Make the package use these corrections in this process."""
    import wattline.source.measured.calibrate as calibrate_module

    residual_module.nets = calibrate_module.nets = lambda: nets  # type: ignore[assignment,attr-defined]
    meter_module.forests = lambda: forests  # type: ignore[assignment]


def sheet_with(sheet: Sheet, chip: Silicon) -> Sheet:
    """Return `sheet` with the fitted facts of `chip`."""
    values: dict[str, str | float] = {"power.waiting": chip.waiting}
    for name, key in SHEET_KEY.items():
        values[key] = chip.energy[name[7:]] if name.startswith("energy.") else getattr(chip, name)
    return sheet.with_(values, source=SOURCE.format("H200"))


@dataclass
class Miss:
    """Rows of one kind that a fit did not see: log ratios of time and energy; which are clean, which extrapolated."""

    name: str
    dtypes: np.ndarray
    ratio: np.ndarray
    good: np.ndarray
    outside: np.ndarray


def misses(sets: list[Set], sheet: Sheet, held: list[np.ndarray], meter: bool = True) -> list[Miss]:
    """Predict the held-out rows of each set."""
    out = []
    for s, pick in zip(sets, held, strict=True):
        part = s.part(pick)
        guess = predict_rows(part.rows, sheet, meter=meter)
        ratio = np.log(np.stack([guess.time, guess.energy]) / np.stack(measured(part.rows)))
        name = {"gemm": "gemm_dtype", "moe": "moe_dtype"}.get(s.op, "kv_cache_dtype")
        out.append(Miss(s.op, part.rows[name].astype(str), ratio, clean(s)[pick], guess.extrapolated))
    return out


def show(title: str, found: list[Miss], dtypes: bool = True) -> None:
    """Print errors as a table."""
    print(f"\n{title}")
    print(
        "| operator | dtype | rows | time median, mean, 90th, bias % | energy | energy of cleaned rows (share kept) |"
    )
    print("| --- | --- | ---: | --- | --- | --- |")
    for m in found:
        for dtype in ("all", *(np.unique(m.dtypes) if dtypes else ())):
            pick = (m.dtypes == dtype) | (dtype == "all")
            time, energy = np.exp(m.ratio[:, pick])
            good = m.good[pick]
            kept = (
                f"{line(metrics(energy[good], np.ones(good.sum())))} ({100 * good.mean():.0f} %)" if good.any() else ""
            )
            cells = [m.name, dtype, str(pick.sum()), line(metrics(time, np.ones(time.size)))]
            print("| " + " | ".join([*cells, line(metrics(energy, np.ones(energy.size))), kept]) + " |")
    every = np.abs(np.exp(np.concatenate([m.ratio for m in found], axis=1)) - 1.0)
    good = np.concatenate([m.good for m in found])
    print(f"all rows: median time {100 * np.median(every[0]):.1f} %, energy {100 * np.median(every[1]):.1f} %, "
          f"energy of cleaned rows {100 * np.median(every[1, good]):.1f} %")  # fmt: skip


def cover(found: list[Miss]) -> dict[str, tuple[float, ...]]:
    """Return 68 % quantiles of the error and 90 % ones of its logarithm by kind, time and energy.

    Prints the share of rows inside the interval of the other half of the shapes, what split conformal promises.
    """
    out = {}
    print("\n90 % intervals set on one half of the held-out rows, share of the other half inside (time, energy)")
    for m in found:
        size = np.abs(m.ratio)
        half = np.random.default_rng(SEED).random(size.shape[1]) < 0.5
        inside = [
            np.concatenate([size[i, ~half] <= _ninety(size[i, half]), size[i, half] <= _ninety(size[i, ~half])]).mean()
            for i in range(2)
        ]
        print(f"  {m.name}: {100 * inside[0]:.1f} %, {100 * inside[1]:.1f} %")
        error = np.abs(np.exp(m.ratio) - 1.0)
        out[NET[m.name]] = (*np.quantile(error, 0.68, axis=1), _ninety(size[0]), _ninety(size[1]))
    return out


def _ninety(size: np.ndarray) -> float:
    """Return the finite-sample 90 % conformal quantile."""
    return float(np.sort(size)[min(size.size - 1, int(np.ceil(0.9 * (size.size + 1))) - 1)])


def widening(near: list[Miss], far: list[Miss]) -> tuple[float, float]:
    """Return how much wider the 90 % intervals of `far` are in time and in energy, geometric means over kinds."""
    pairs = [(n, f) for n, f in zip(near, far, strict=True) if f.ratio.shape[1] >= 30]
    ratios = np.array([[_ninety(np.abs(f.ratio[i])) / _ninety(np.abs(n.ratio[i])) for i in range(2)] for n, f in pairs])
    time, energy = np.maximum(1.0, np.exp(np.log(ratios).mean(axis=0)))
    return float(time), float(energy)


def line(m: Metrics) -> str:
    """Return median, mean and 90th percentile of the error and the bias, in %."""
    return " ".join(f"{100 * v:.1f}" for v in (m.median_ape, m.mape, m.p90_ape, m.bias))


def rewrite(path: Path, chip: Silicon, moe: np.ndarray) -> None:
    """Rewrite the fitted constants of kernels in calibration.toml in place; everything else stands."""
    text = path.read_text()
    common, rest = text.split("[shape.hopper]", 1)
    for name, (_, _, width, _) in MEANING.items():
        if width > 0:
            common = _put(common, name, f"[{chip.shape[name]:.5g},", r"\[[^,]*,")
    text = common + "[shape.hopper]" + rest
    for dtype, v in zip(("bfloat16", "fp8", "fp8_block"), moe, strict=True):
        text = _put(text, dtype, f"[{v:.4g}]", r"\[.*\]", "harness.moe")
    path.write_text(text)


def put_spreads(text: str, spreads: dict[str, tuple[float, ...]], other: dict) -> str:
    """Return calibration.toml with these quantiles of errors, and other values by table and key."""
    for table, at in (("spread.kind", 0), ("spread.ninety", 2)):
        for kind, v in spreads.items():
            text = _put(text, kind, f"[{v[at]:.3f}, {v[at + 1]:.3f}]", r"\[.*\]", table)
    for (table, name), value in other.items():
        text = _put(text, name, value, r".*", table)
    return text


def pauses() -> dict[str, dict[str, object]]:
    """Return the pauses fitted so far, by chip."""
    return dict(silicon_module.calibration()["campaign"])


def _inline(table: dict[str, object]) -> str:
    return "{ " + ", ".join(f"{k} = {v}" for k, v in table.items()) + " }"


def _put(text: str, name: str, new: str, old: str, table: str = "") -> str:
    """Replace the value of one key, in `table` where given."""
    head, mark, tail = text.partition(f"[{table}]\n") if table else ("", "", text)
    body, count = re.subn(rf"^({re.escape(name)} = ){old}", lambda m: m[1] + new, tail, count=1, flags=re.M)
    assert count == 1, f"calibration.toml has no {name}"
    return head + mark + body


def save_forests(forests: dict[str, Forest], path: Path) -> None:
    """Write the meter's trees as arrays."""
    arrays = {
        f"{op}/{key}": np.asarray(getattr(forest, key))
        for op, forest in sorted(forests.items()) for key in ("feature", "threshold", "value", "base")
    }  # fmt: skip
    np.savez_compressed(path, **arrays)


def save(nets: dict[str, Net], path: Path) -> None:
    """Write the corrections as arrays."""
    arrays = {}
    for name, net in sorted(nets.items()):
        for key in ("low", "high", "mean", "scale", "bounds"):
            arrays[f"{name}/{key}"] = getattr(net, key)
        for i, (weight, bias) in enumerate(net.layers):
            arrays[f"{name}/weight{i}"], arrays[f"{name}/bias{i}"] = weight, bias
    np.savez(path, **arrays)


UNITS = {
    "power.": ("W", 1.0), "memory.hbm.energy": ("pJ/bit", 8e-12), "memory.l2.energy": ("pJ/B", 1e-12),
    "memory.l2.bandwidth": ("TB/s", 1e12), "voltage.max": ("V", 1.0), "voltage.knee": ("MHz", 1e6),
    "compute.energy": ("pJ/FLOP", 1e-12), "fit.": ("", 1.0),
}  # fmt: skip
# Chips that take over the fitted facts of another, where their file says "the X's value".
COPIES = {"h200-sxm": ("h100-sxm", "h100-pcie"), "b200-sxm": ("gb200",), "a100-sxm-80gb": ("a100-sxm-40gb",)}


def patch(name: str, facts: dict[str, float], source: str, spread: str) -> None:
    """Rewrite some facts of a chip's TOML file in place, and those of the chips that copy it."""
    if "compute.energy.bf16" in facts:
        facts = facts | {"compute.energy.fp16": facts["compute.energy.bf16"]}
    path = CHIPS / f"{name}.toml"
    text = path.read_text()
    for key, value in facts.items():
        new = f'{key} = ["{_stated(key, value)}", "{source}", "{spread}"]'
        pattern = rf"^{re.escape(key)} = .*$"
        text = (
            re.sub(pattern, lambda _, new=new: new, text, flags=re.M)
            if re.search(pattern, text, flags=re.M)
            else text.rstrip("\n") + "\n" + new + "\n"
        )
    path.write_text(_derived(text))
    short = name.split("-")[0].upper()
    for other in COPIES.get(name, ()):
        path = CHIPS / f"{other}.toml"
        text = path.read_text()
        for key, value in facts.items():
            new = _stated(key, value)
            pattern = rf'^({re.escape(key)} = \[")[^"]*(", "the {short}\'s value)'
            text = re.sub(pattern, lambda m, new=new: m[1] + new + m[2], text, flags=re.M)
        path.write_text(_derived(text))


def _derived(text: str) -> str:
    """Renew the estimates that a chip's file states as multiples of its 16-bit energy."""
    base = re.search(r'^compute.energy.bf16 = \["([0-9.]+) pJ', text, flags=re.M)
    assert base is not None
    return re.sub(
        r'^(compute\.energy\.\w+ = \[")[^"]*(", "estimate: ([0-9.]+) x the 16-bit figure)',
        lambda m: f"{m[1]}{float(m[3]) * float(base[1]):.3g} pJ/FLOP{m[2]}", text, flags=re.M,
    )  # fmt: skip


def _stated(key: str, value: float) -> str:
    """Return a value with its unit, three digits."""
    unit, scale = next(v for k, v in UNITS.items() if key.startswith(k))
    number = value / scale
    return f"{f'{number:.0f}' if number >= 1000 else f'{number:.3g}'} {unit}".strip()


# --- 4 and 5 ------------------------------------------------------------------------------------


def fit_b200(
    folder: Path, sheet: Sheet, near: list[Miss], spreads: dict[str, tuple[float, ...]], refit: bool = True
) -> tuple[Sheet, dict[str, float], tuple[float, float], dict[str, tuple[float, float]]]:
    """Calibrate the B200 on its rows, print five-fold errors; return it, how far the meter is trusted there,
    how much wider intervals are without those rows, and with them, by kind."""
    shipped, sheet = sheet, sheet.with_(START_B200, source="estimate from the datasheet")
    rows = join([read(folder / f"b200_sxm_{op}_calibration.csv.gz") for op in ("gemm", "generation_attention")])
    n = len(rows["latency"])
    ops = rows["op_name"].astype(str)
    seconds, joules = measured(rows)
    dtypes = np.where(ops == "gemm", rows["gemm_dtype"], rows["kv_cache_dtype"])

    def part(pick: np.ndarray) -> dict[str, np.ndarray]:
        return {k: v[pick] for k, v in rows.items()}

    def told(time: np.ndarray, energy: np.ndarray) -> list[Miss]:
        ratio = np.log(np.stack([time, energy]) / np.stack([seconds, joules]))
        blank = np.ones(n, dtype=bool)
        return [Miss(op, dtypes[ops == op], ratio[:, ops == op], blank[ops == op], ~blank[ops == op])
                for op in ("gemm", "generation_attention")]  # fmt: skip

    # Stated, not fitted, while the facts are: a row is what its kernel does.
    guess = predict_rows(rows, sheet, meter=False)
    blind = told(guess.time, guess.energy)
    show("B200 from its datasheet alone", blind, dtypes=False)
    unmeasured = widening([m for m in near if m.name in ("gemm", "generation_attention")], blind)
    fold = np.random.default_rng(SEED).integers(0, 5, n)
    time, energy = np.zeros(n), np.zeros(n)
    for f in range(5):
        fitted, _ = calibrate_board(sheet, part(fold != f)) if refit else paused(shipped, part(fold != f))
        trusts = fit_trust(part(fold != f), fitted)
        time[fold == f], energy[fold == f] = predicted_with(part(fold == f), fitted, trusts)
    folds = told(time, energy)
    show("B200, five-fold over its rows", folds)
    wide = {k: (v[2] / round(spreads[k][2], 3), v[3] / round(spreads[k][3], 3)) for k, v in cover(folds).items()}
    wide["other"] = (max(v[0] for v in wide.values()), max(v[1] for v in wide.values()))
    fitted, change = calibrate_board(sheet, rows) if refit else paused(shipped, rows)
    for name, (before, after) in (change.changes if change else {}).items():
        print(f"  {name}: {before:.4g} -> {after:.4g}")
    trusts = fit_trust(rows, fitted)
    print(f"  pauses of the campaign: {silicon_module.calibration()['campaign'][sheet.name]}")
    print(f"  trust in the trees of the H200's campaign: {trusts}")
    return fitted, trusts, unmeasured, wide


# Thin products tell the energy of main memory only together with what filling their weights draws, so the belief
# in the figure of its generation (3.5 to 5 pJ/bit) is held tighter than where rows are what kernels do.
BOARD_PRIORS = {**PRIORS, "memory.hbm.energy": 0.2}


def calibrate_board(sheet: Sheet, rows: dict) -> tuple[Sheet, Report]:
    """Calibrate the B200 on some of its rows: pauses of its campaign by turns with its facts, no trees."""
    silicon_module.calibration()["harness"]["meter"][sheet.name] = {}
    fitted, change = sheet, None
    for _ in range(2):
        chip = Silicon.of(fitted)
        install_pauses(sheet.name, fit_pauses(rows, chip, rows["op_name"] == "gemm"))
        fitted, change = calibrate(sheet, rows, source="B200 kernel rows", priors=BOARD_PRIORS, meter=True)
    assert change is not None
    return fitted, change


def paused(sheet: Sheet, rows: dict) -> tuple[Sheet, None]:
    """Fit the pauses of the B200's campaign alone."""
    silicon_module.calibration()["harness"]["meter"][sheet.name] = {}
    install_pauses(sheet.name, fit_pauses(rows, Silicon.of(sheet), rows["op_name"] == "gemm"))
    return sheet, None


def predicted_with(rows: dict, sheet: Sheet, trusts: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Predict rows of `sheet` with the meter trusted so far."""
    silicon_module.calibration()["harness"]["meter"][sheet.name] = trusts
    guess = predict_rows(rows, sheet)
    return guess.time, guess.energy


def fit_trust(rows: dict, sheet: Sheet) -> dict[str, float]:
    """Return by operator the multiple of the H200 campaign's ratio that fits best, in quarters."""
    best: dict[str, float] = {}
    for op in np.unique(rows["op_name"]).tolist():
        part = {k: v[rows["op_name"] == op] for k, v in rows.items()}
        joules = measured(part)[1]
        grid = (0.0, 0.25, 0.5, 0.75, 1.0)
        missed = [np.abs(np.log(predicted_with(part, sheet, {op: t})[1] / joules)).mean() for t in grid]
        best[op] = grid[int(np.argmin(missed))]
    return best


def join(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack tables with different columns; what a table lacks is 0 or empty."""
    names = list(dict.fromkeys(c for t in tables for c in t))
    out = {}
    for name in names:
        kind = next(t[name].dtype.kind for t in tables if name in t)
        blank = "" if kind == "U" else 0
        out[name] = np.concatenate([t[name] if name in t else np.full(len(t["op_name"]), blank) for t in tables])
    return out


def fit_voltage(folder: Path) -> None:
    """Fit knee and voltage ratio to stage power over clocks at the package's curvature; print them.

    Waiting power is the measured one of the same artifact; clocks where the board throttled are left
    out, so the A40's ratio is an extrapolation from 1455 to 1740 MHz.
    """
    for name, top, last, waiting in (("a100_sxm", 1410.0, 1410.0, 83.64), ("a40", 1740.0, 1455.0, 75.0)):
        rows = read(folder / f"gpt3-175b+{name}_bf16.csv")
        power, freq = rows["energy"] / rows["time"], rows["frequency"].astype(float)
        kinds = np.stack([rows["stage"].astype(str), rows["instruction"]], axis=1)
        stage = np.unique(kinds, axis=0, return_inverse=True)[1].ravel()
        use = (power < 0.97 * np.quantile(power, 0.98)) & (freq <= last)

        def miss(x: np.ndarray, power=power, freq=freq, stage=stage, top=top, waiting=waiting) -> np.ndarray:
            volts = voltage(freq, 1.0, x[1], x[0], top)
            switched = np.exp(x[3:])[stage] * freq / top * volts**2
            return np.log(waiting + x[2] * volts**3 + switched) - np.log(power)

        many = stage.max() + 1
        start = np.r_[0.68 * top, 1.35, 40.0, np.full(many, 5.0)]
        low, high = np.r_[0.4 * top, 1.05, 20.0, np.zeros(many)], np.r_[0.95 * top, 1.9, 120.0, np.full(many, 8.0)]
        fit = least_squares(lambda x, m=miss, u=use: m(x)[u], start, bounds=(low, high), loss="soft_l1", f_scale=0.02)
        error = np.median(np.abs(miss(fit.x))[use])
        print(f"  {name}: knee {fit.x[0]:.0f} MHz, V_max/V_min {fit.x[1]:.3f}, median residual {100 * error:.1f} %")


# GPT-3 175B in 8 stages, one sequence of 2048 per microbatch: 12 layers of width 12288 (Brown et al., 2020).
_LAYERS, _WIDTH, _TOKENS = 12.0, 12288.0, 2048.0


def fit_ampere(folder: Path, name: str, file: str, highest: float, scale: float = 10.0) -> dict[str, float]:
    """Fit leakage, clock tree and switched energies of a chip to the power of a forward stage over clocks.

    The stage is its matrix products and as much memory traffic as fills its measured time; clocks above
    `highest` (MHz), where the board throttled, are left out. Times in the file are a tenth of the real ones.
    """
    rows = read(folder / f"gpt3-175b+{file}_bf16.csv")
    freq = rows["frequency"].astype(float)
    use = (rows["stage"] == 3) & (rows["instruction"] == "forward") & (freq <= highest)
    clock, time, power = 1e6 * freq[use], scale * rows["time"][use], (rows["energy"] / rows["time"])[use]
    leakage, tree, bf16, l2 = START_AMPERE[name]
    start = replace(
        Silicon.of(load("chip", CHIPS / f"{name}.toml")), leakage=leakage, clock_tree=tree, l2_energy=l2 * 1e-12
    )
    start = replace(start, energy=dict(start.energy) | {"bf16": bf16 * 1e-12, "fp16": bf16 * 1e-12})
    m, h = np.array([[_TOKENS]]), _WIDTH
    layers = [shapes.gemm(start, m, n, k, repeat=_LAYERS) for n, k in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))]
    top = np.argmax(clock)
    rest = time[top] - cost([adjust(w, start) for w in layers], start, clock[top], np.inf).time[0]
    traffic = rest * start.shape["vector.dram_efficiency"] * start.hbm_bandwidth
    # Power over clocks cannot tell arithmetic from caches from clock wires (all go with f V^2): one factor for all
    # three, one for leakage, and the log-width of the belief in each.
    width = np.array([0.6, 0.6])

    def changed(x: np.ndarray) -> Silicon:
        f, leak = np.exp(x)
        energy = dict(start.energy) | {p: start.energy[p] * f for p in ("bf16", "fp16")}
        return replace(
            start, energy=energy, l2_energy=start.l2_energy * f, clock_tree=tree * f, leakage=leakage * leak, limit=1e4
        )

    def watts(chip: Silicon) -> np.ndarray:
        works = [shapes.gemm(chip, m, n, k, repeat=_LAYERS) for n, k in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))]
        works = [adjust(w, chip) for w in works] + [shapes.elementwise(chip, np.array([[traffic]]), 0.0)]
        return cost(works, chip, clock, np.inf).power

    fit = least_squares(lambda x: np.r_[x / width, np.log(watts(changed(x)) / power) / 0.03], np.zeros(2))
    chip = changed(fit.x)
    now = watts(chip)
    print(f"  {name}: median residual {100 * np.median(np.abs(now / power - 1)):.1f} %, at {clock[top] / 1e6:.0f} MHz "
          f"{now[top]:.0f} W (measured {power[top]:.0f} W)")  # fmt: skip
    facts = {"power.leakage": chip.leakage, "power.clock_tree": chip.clock_tree, "memory.l2.energy": chip.l2_energy,
             "compute.energy.bf16": chip.energy["bf16"]}  # fmt: skip
    for key, value in facts.items():
        print(f"    {key} = {_stated(key, value)}")
    return facts


def a100_rows(path: Path) -> None:
    """Print errors on the published products of an A100 (LLMCompass), no row fitted but the time of a call."""
    table = [[float(re.sub("[a-zA-Z]", "", c)) for c in row] for row in csv.reader(path.open())]
    m, k, n, latency = np.array(table).T[:4]
    rows = {
        "op_name": np.full(m.size, "gemm"), "gemm_dtype": np.full(m.size, "float16"), "m": m, "n": n, "k": k,
    }  # fmt: skip
    guess = predict_rows(rows, load("chip", CHIPS / "a100-sxm-80gb.toml"))
    seen = metrics(1e3 * guess.time, latency)
    print(f"\nA100, {m.size} fp16 products (LLMCompass): median, mean, 90th, bias {line(seen)} %")


def families(s: Set) -> np.ndarray:
    """Return which rows belong to a random fifth of the families: (n, k), head counts or mixtures."""
    columns = {"gemm": ("n", "k"), "moe": ("hidden_size", "inter_size", "num_experts")}.get(s.op, ("num_heads",))
    keys = np.stack([s.rows[c].astype(str) for c in columns], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    order = np.random.default_rng(SEED).permutation(group.max() + 1)
    return np.isin(group.ravel(), order[: max(1, round(HELD_OUT * order.size))])


# Where a dimension of each operator is cut to see how well the rest extrapolates to what lies beyond.
BEYOND = {
    "gemm": ("k", 16384), "context_attention": ("isl", 8192), "generation_attention": ("step", 32767),
    "moe": ("num_tokens", 8192),
}  # fmt: skip


def edges(s: Set) -> np.ndarray:
    """Return which rows lie beyond the cut of their operator."""
    column, cut = BEYOND[s.op]
    return s.rows[column] >= cut


def fitted_on(sets: list[Set], chip: Silicon, steps: int, train: list[np.ndarray]) -> tuple[dict, dict]:
    """Fit corrections and the meter on rows `train`, and make the package use them."""
    nets = fit_nets(sets, chip, steps, train)
    forests = fit_forests(sets, chip, nets, train)
    use(nets, forests)
    return nets, forests


def shipped_kernels(sheet: Sheet) -> tuple[Silicon, np.ndarray, dict[str, Net]]:
    """Return the H200, sorting times and corrections that ship."""
    sorting = silicon_module.calibration()["harness"]["moe"]
    moe = np.array([sorting[dtype][0] for dtype in ("bfloat16", "fp8", "fp8_block")])
    return Silicon.of(sheet), moe, dict(residual_module.nets())


def put_meter(spreads: dict[str, tuple[float, ...]], other: dict, forests: dict[str, Forest], b200: Sheet) -> None:
    """Write what steps 3 and 4 found: intervals, pauses, trees, and the facts of the B200 that were fitted."""
    path = DATA / "calibration.toml"
    path.write_text(put_spreads(path.read_text(), spreads, other))
    save_forests(forests, DATA / "meter.npz")
    moving = [k for k, f in b200.facts.items() if f.source.startswith("fitted to B200 kernel") and k != "fit.prefill"]
    if moving:
        patch("b200-sxm", {k: b200[k] for k in moving}, SOURCE.format("B200"), "20 %")


def other_constants(trusts: dict[str, float], wide: dict[str, tuple[float, float]]) -> dict[tuple[str, str], str]:
    """Return (table, key) -> value of calibration.toml for what the B200 and the campaigns need."""
    inline = ", ".join(f"{op} = {t}" for op, t in trusts.items())
    factors = ", ".join(f"{k} = [{t:.2f}, {e:.2f}]" for k, (t, e) in wide.items())
    return {
        ("spread.chip", "b200-sxm"): f"{{ {factors} }}",
        ("harness.meter", "b200-sxm"): f"{{ {inline} }}",
        **{("campaign", f'"{name}"'): _inline(known) for name, known in pauses().items()},
    }


def main() -> None:
    """Run the fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path, help="directory that holds operators/, pipeline/ and chips/")
    parser.add_argument("--write", action="store_true", help="write the calibration files and chip facts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to try the script")
    parser.add_argument(
        "--keep-kernels", action="store_true", help="ship the kernels as they are; write meter and B200"
    )
    parser.add_argument("--keep-b200", action="store_true", help="keep the shipped facts of the B200")
    args = parser.parse_args()
    begun = clock.perf_counter()
    steps, folder = 200 if args.quick else 2400, args.reference / "operators"
    sets = [open_set(folder / f"h200_sxm_{op}.csv.gz", op) for op in OPS]
    sheet = load("chip", CHIPS / "h200-sxm.toml")
    shipped = shipped_kernels(sheet)
    # The awake floor: kernels too small to light anything draw it.
    floor = float(np.exp(np.quantile(np.concatenate([s.log_power for s in sets]), 0.005)))
    print(f"waiting power (0.5 % quantile of all rows): {floor:.1f} W")
    chip, moe, names, x = fit_physics(sets, starting(sheet, floor), 200 if args.quick else 1000, 3 if args.quick else 8)
    print("  " + ", ".join(f"{n} x {np.exp(v):.3f}" for n, v in zip(names, x, strict=True)))
    install(chip, moe)
    fitted = sheet_with(sheet, chip)
    print(f"{clock.perf_counter() - begun:.0f} s")

    held = [s.held for s in sets]
    fitted_on(sets, chip, steps, [~h for h in held])
    show("H200, kernels alone, a fifth of the shapes held out", misses(sets, fitted, held, meter=False), dtypes=False)
    near = misses(sets, fitted, held)
    show("H200, as the benchmark prints them, a fifth of the shapes held out", near)
    spreads = cover(near)
    print(f"{clock.perf_counter() - begun:.0f} s")
    away = [families(s) for s in sets]
    fitted_on(sets, chip, steps // 3, [~h for h in away])
    show("H200, a fifth of the families held out", misses(sets, fitted, away), dtypes=False)
    last = [edges(s) for s in sets]
    fitted_on(sets, chip, steps // 3, [~h for h in last])
    beyond = misses(sets, fitted, last)
    for m in beyond:
        m.dtypes, m.ratio, m.good = m.dtypes[m.outside], m.ratio[:, m.outside], m.good[m.outside]
    beyond = [m for m in beyond if m.ratio.size]
    show("H200, beyond the fitted range (of rows past a cut, held out)", beyond, dtypes=False)
    outside = widening([n for n in near if n.name in {b.name for b in beyond}], beyond)
    print(f"{clock.perf_counter() - begun:.0f} s")

    everything = [np.ones_like(h) for h in held]
    if args.keep_kernels:
        chip, moe, nets = shipped
        install(chip, moe)
        forests = fit_forests(sets, chip, nets, everything)
        use(nets, forests)
    else:
        nets, forests = fitted_on(sets, chip, steps, everything)
    b200, trusts, unmeasured, wide = fit_b200(
        folder, load("chip", CHIPS / "b200-sxm.toml"), near, spreads, not args.keep_b200
    )
    print(
        "\nintervals of time and energy widen by "
        f"{outside[0]:.2f}, {outside[1]:.2f} outside the fitted range, "
        f"{unmeasured[0]:.2f}, {unmeasured[1]:.2f} on a chip not measured"
    )
    print("\nvoltage and energy over clock:")
    fit_voltage(args.reference / "pipeline")
    ampere = {
        name: fit_ampere(args.reference / "pipeline", name, file, highest)
        for name, file, highest in (("a100-sxm-80gb", "a100_sxm", 1410.0), ("a40", "a40", 1300.0))
    }
    if args.write:
        other = {
            ("spread", "outside"): f"[{outside[0]:.2f}, {outside[1]:.2f}]",
            ("spread", "unmeasured"): f"[{unmeasured[0]:.2f}, {unmeasured[1]:.2f}]",
            **other_constants(trusts, wide),
        }
        put_meter(spreads, other, forests, b200)
    if args.write and not args.keep_kernels:
        rewrite(DATA / "calibration.toml", chip, moe)
        save(nets, DATA / "residual.npz")
        patch("h200-sxm", {k: fitted[k] for k in ("power.waiting", *SHEET_KEY.values())}, SOURCE.format("H200"), "15 %")
        # The A100's energy per operation is left to calibrate_training.py, which sees its whole step.
        del ampere["a100-sxm-80gb"]["compute.energy.bf16"]
        for name, facts in ampere.items():
            patch(name, facts, STAGES, "20 %")
        print("written")
    a100_rows(args.reference / "chips" / "a100_matmul_measured.csv")
    print(f"{clock.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
