"""How shape decides speed: operators cut into tiles, dealt over compute units, fed by memories.

Every function here takes arrays of shapes and returns `Work`: tile and wave quantisation, split-K
for thin products, occupancy-limited bandwidth, padded rows of packed query heads, softmax beside the
matrix units. The tile is the one that takes least time at the highest clock, by the rule `work.cost`
will use: more work then takes no less time, but where a faster tile of less traffic takes over energy
can fall (doubling one side of a product: 0.3 % of random shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...core.errors import InputError
from ...workload.operator import BYTES
from ..base import Array
from .logs import log2
from .silicon import Silicon
from .work import Work, soft_max, work

_Number = Array | float

# Tiles (rows, columns, ways K is split) that matrix libraries choose from: the CTA shapes of CUTLASS
# 3 profiles for Ampere to Blackwell (NVIDIA/cutlass media/docs/efficient_gemm.md), thinned.
TILES: Final = ((64, 64, 1), (64, 64, 4), (64, 64, 16), (64, 256, 1), (128, 128, 1), (128, 128, 4), (128, 256, 1))
# On Blackwell two units may share a tile (rows, columns of both), each holding half of both operands: the last cache
# level feeds the pair once (NVIDIA/cutlass media/docs/cpp/blackwell_functionality.md, tiles of two SMs).
PAIRED: Final = ((256, 128, 1), (256, 256, 1))
# Four-bit products keep to tiles of 128 rows a unit and do not split K (the same page, block-scaled tiles).
FP4_TILES: Final = ((128, 128, 1), (128, 256, 1))

# Stored bytes of formats that carry scale factors: a byte per 16 values in NVFP4 (NVIDIA), per 32 in
# OCP MX v1.0; four bytes per 128 in block-scaled fp8 (DeepSeek-V3 report, section 3.3).
SCALED: Final = {"fp4": 0.5 + 1 / 16, "nvfp4": 0.5 + 1 / 16, "mxfp4": 0.5 + 1 / 32, "fp8_block": 1.0 + 4 / 128}


def width(precision: str) -> float:
    """Return bytes per stored value, scale factors included.

    >>> width("bf16"), width("nvfp4")
    (2.0, 0.5625)
    """
    if precision in SCALED:
        return SCALED[precision]
    if precision in BYTES:
        return BYTES[precision]
    raise InputError(f"precision {precision!r} is not known; known: {', '.join(sorted({*BYTES, *SCALED}))}")


def gemm(
    chip: Silicon, m: _Number, n: _Number, k: _Number, *, batch: _Number = 1.0,
    a: str = "bf16", b: str = "bf16", c: str = "bf16", precision: str = "bf16", repeat: _Number = 1.0,
    accumulate: bool = False,
) -> Work:  # fmt: skip
    """Return the work of C[m, n] = A[m, k] B[k, n], `batch` times in one launch; `accumulate` reads C too."""
    m, n, k, batch = (np.asarray(x, dtype=np.float64) for x in (m, n, k, batch))
    s = chip.shape
    feed = max(width(a), width(b))
    best: dict[str, Array] | None = None
    least = np.asarray(np.inf)
    compulsory = batch * (m * k * width(a) + k * n * width(b) + m * n * width(c) * (1 + accumulate))
    reread = _reread(chip, m, n, k, batch, feed)
    for rows, columns, split, shared in _tiles(chip, precision):
        tiles = batch * np.ceil(m / rows) * np.ceil(n / columns) * split
        depth = np.ceil(k / split / 64.0) * 64.0
        rate = chip.rate_of(precision) * shared / chip.units * _tile_efficiency(s, rows / shared, columns)
        each = 2.0 * rows * columns * depth / rate + s["gemm.tile_ramp"]
        core = np.ceil(tiles * shared / chip.units) * each
        partial = 8.0 * batch * m * n * split if split > 1 else 0.0 * m
        traffic = tiles * (rows + columns) * depth * feed + partial
        l2 = traffic / (chip.l2_bandwidth * s["gemm.l2_efficiency"])
        flow = np.minimum(s["dram.efficiency"] * chip.hbm_bandwidth, tiles * shared * s["dram.per_tile"])
        dram = (compulsory + reread) / np.maximum(flow, 1.0)
        ramp = s["gemm.ramp"] + (s["gemm.split_ramp"] if split > 1 else 0.0)
        total = _overlapped(chip, core, l2, dram, ramp)
        lit = np.minimum(tiles * shared / chip.units, 1.0)
        padded = 2.0 * tiles * rows * columns * depth
        found = {
            "core": core, "l2": l2, "dram": dram, "ramp": ramp + 0.0 * core, "traffic": traffic,
            "lit": lit, "padded": padded, "once": compulsory / np.maximum(flow, 1.0),
        }  # fmt: skip
        better = total < least
        least = np.where(better, total, least)
        best = found if best is None else {x: np.where(better, found[x], best[x]) for x in found}
    assert best is not None
    flops = 2.0 * batch * m * n * k
    return work(
        precision, core=best["core"], l2=best["l2"], dram=best["dram"], ramp=best["ramp"],
        fixed=chip.launch, lit=best["lit"], e_core=_toggled(s, flops, best["padded"]) * chip.energy_of(precision),
        e_l2=best["traffic"] * chip.l2_energy, e_dram=(compulsory + reread) * chip.hbm_energy, repeat=repeat,
        net="gemm", stored=b, hints=(
            log2(batch * m), log2(n), log2(k), log2(feed) + 0.0 * m,
            # What was learned was learned beside compulsory traffic; re-reads are physics on top of it.
            log2(1e6 * _overlapped(chip, best["core"], best["l2"], best["once"], best["ramp"])),
            log2(best["core"] / best["once"]), log2(best["l2"] / best["once"]),
        ),
    )  # fmt: skip


def _tiles(chip: Silicon, precision: str) -> list[tuple[int, int, int, int]]:
    """Return tiles to choose from: rows, columns, ways K is split, and how many units share one."""
    alone = FP4_TILES if precision == "fp4" else TILES
    paired = PAIRED if chip.architecture == "blackwell" else ()
    return [(*tile, 1) for tile in alone] + [(*tile, 2) for tile in paired]


def _overlapped(chip: Silicon, core: Array, l2: Array, dram: Array, ramp: Array | float) -> Array:
    """Return seconds at the highest clock, as `work.cost` will: the measure by which a tile is chosen."""
    s = chip.clock_ref / chip.clock_max
    return soft_max(chip.shape["overlap.exponent"], core * s, l2 * s, dram) + ramp * s


def _tile_efficiency(s: Mapping[str, float], rows: float, columns: float) -> float:
    """Return the share of the matrix rate a tile sustains: its edges cost like a margin around it."""
    area = rows * columns
    return s["gemm.efficiency"] * area / (area + s["gemm.tile_margin"])


def _toggled(s: Mapping[str, float], flops: Array, padded: Array) -> Array:
    """Return operations that switch: the useful ones, and a share of those on padding.

    Rows of padding are zeros, yet the other operand still streams through their multipliers.
    """
    return np.asarray(flops + s["gemm.padding"] * np.maximum(padded - flops, 0.0))


def _reread(chip: Silicon, m: Array, n: Array, k: Array, batch: Array, feed: float) -> Array:
    """Return main-memory bytes read again because the operands outgrow the last cache level.

    Three blockings, of which the one that moves least is taken, with integer passes as loops have: part of A stays in
    the cache while B passes by (once for each part), the same the other way round, or a square of C stays in the
    registers of all units (or in the cache) while rows of A and columns of B pass. The mapping search on a chip taken
    apart finds the same (`bench/likeness.py --cache`).
    """
    room = np.maximum(chip.l2_capacity - chip.units * _IN_FLIGHT, _LEAST_ROOM * chip.l2_capacity)
    first, second = m * k * feed, k * n * feed
    side = np.maximum(np.sqrt(chip.units * 128.0 * 256.0), np.sqrt(room / _PARTIAL))
    kept_a = first + second * _passes(first / room)
    kept_b = second + first * _passes(second / room)
    kept_c = first * _passes(n / side) + second * _passes(m / side)
    moved = np.minimum(np.minimum(kept_a, kept_b), kept_c)
    return np.asarray(chip.shape["gemm.reread"] * batch * (moved - first - second))


# Bytes of operands that each unit has in flight through the cache: 128 rows and 256 columns, 64 deep, two bytes each.
_IN_FLIGHT: Final = (128.0 + 256.0) * 64.0 * 2.0
# A cache all taken by the tiles in flight still keeps this share for reuse: a bound, so that no size divides by zero.
_LEAST_ROOM: Final = 0.05
# Bytes of a partial sum: fp32.
_PARTIAL: Final = 4.0


def _passes(parts: Array) -> Array:
    return np.maximum(1.0, np.ceil(parts - 1e-9))


def grouped_gemm(
    chip: Silicon, rows: _Number, active: _Number, n: _Number, k: _Number, *, skew: _Number = 1.0,
    a: str = "bf16", b: str = "bf16", c: str = "bf16", precision: str = "bf16", repeat: _Number = 1.0,
) -> Work:  # fmt: skip
    """Return the work of `rows` rows dealt over `active` experts, each with its own [k, n] weights."""
    rows, active, n, k, skew = (np.asarray(x, dtype=np.float64) for x in (rows, active, n, k, skew))
    s = chip.shape
    feed = max(width(a), width(b))
    mean = rows / np.maximum(active, 1e-9)
    nbytes = active * n * k * width(b) + rows * (k * width(a) + n * width(c))
    least, best = np.asarray(np.inf), None
    for high, wide in ((16.0, 64.0), (64.0, 128.0), (128.0, 128.0)):
        # A block of rows per started tile: whole tiles plus on average half a one per expert.
        blocks = active * np.maximum(1.0, mean / high + 0.5)
        tiles = blocks * np.ceil(n / wide)
        rate = chip.rate_of(precision) / chip.units * s["moe.efficiency"]
        rate = rate * high * wide / (high * wide + s["moe.tile_margin"])
        each = 2.0 * high * wide * np.ceil(k / 64.0) * 64.0 / rate + s["moe.tile_ramp"]
        core = np.maximum(tiles / chip.units, 1.0) * each * skew ** s["moe.skew"]
        traffic = tiles * (high + wide) * k * feed
        l2 = traffic / (chip.l2_bandwidth * s["gemm.l2_efficiency"])
        flow = np.minimum(s["moe.dram_efficiency"] * chip.hbm_bandwidth, tiles * s["moe.dram_per_tile"])
        dram = nbytes / np.maximum(flow, 1.0)
        total = _overlapped(chip, core, l2, dram, s["moe.ramp"])
        lit = np.minimum(tiles / chip.units, 1.0)
        padded = 2.0 * tiles * high * wide * k
        found = {"core": core, "l2": l2, "dram": dram, "traffic": traffic, "lit": lit, "padded": padded}
        better = total < least
        least = np.where(better, total, least)
        best = found if best is None else {x: np.where(better, found[x], best[x]) for x in found}
    assert best is not None
    flops = 2.0 * rows * n * k
    return work(
        precision, core=best["core"], l2=best["l2"], dram=best["dram"], ramp=s["moe.ramp"],
        fixed=chip.launch, lit=best["lit"],
        e_core=_toggled(s, flops, best["padded"]) * chip.energy_of(precision) * s["moe.energy"],
        e_l2=best["traffic"] * chip.l2_energy, e_dram=nbytes * chip.hbm_energy, repeat=repeat,
        net="moe", stored=b, hints=(
            log2(rows), log2(active), log2(n * k), log2(np.minimum(n, k)), log2(feed) + 0.0 * rows,
            log2(skew), log2(best["core"] / best["dram"]),
        ),
    )  # fmt: skip


def pairs_of(query: Array, context: Array, window: Array, causal: bool) -> Array:
    """Return query-key pairs per head and sequence after the mask (window 0: none)."""
    w = np.where(window > 0, np.minimum(window, context), context)
    if not causal:
        return np.asarray(query * w)
    first = context - query
    ramp = np.clip(w - first, 0.0, query)
    seen = ramp * first + ramp * (ramp + 1) / 2 + (query - ramp) * w
    return np.asarray(np.where(first + 1 >= w, query * w, seen))


def attention(
    chip: Silicon, batch: _Number, query: _Number, context: _Number, heads: _Number, kv_heads: _Number,
    head_dim: _Number, value_dim: _Number, *, window: _Number = 0.0, causal: bool = True,
    shared_kv: bool = False, kv: str = "bf16", phase: str = "prefill", precision: str = "bf16",
    repeat: _Number = 1.0,
) -> Work:  # fmt: skip
    """Return the work of fused attention over a batch of equal sequences."""
    given = (batch, query, context, heads, kv_heads, head_dim, value_dim, window)
    batch, query, context, heads, kv_heads, head_dim, value_dim, window = (
        np.asarray(x, dtype=np.float64) for x in given
    )
    pairs = pairs_of(query, context, window, causal)
    seen = np.where(window > 0, np.minimum(context, window + query), context)
    dims = head_dim + value_dim
    stored = head_dim if shared_kv else dims
    nbytes = batch * (kv_heads * seen * stored * width(kv) + query * heads * dims * 2.0)
    flops = 2.0 * batch * heads * pairs * dims
    case = _Case(
        batch, query, seen, pairs, heads, kv_heads, dims, nbytes, chip.rate_of(precision) / chip.units, width(kv)
    )
    core, l2, dram, ramp, traffic, padded = (_decode if phase == "decode" else _prefill)(chip, case)
    # Backward of a fused kernel: five products for two, at lower occupancy (Dao, FlashAttention-2).
    grow = 2.5 if phase == "backward" else 1.0
    slow = chip.shape["attention.backward"] if phase == "backward" else 1.0
    lit = np.minimum(batch * kv_heads * np.ceil(seen / 128.0) / chip.units, 1.0)
    switched = grow * _toggled(chip.shape, flops, padded) * chip.energy_of(precision) * chip.shape["attention.energy"]
    if phase != "decode":  # exponentials, masks and copies between products switch for as long as a block lasts
        switched = switched + chip.shape["attention.busy"] * lit * core * grow * slow
    return work(
        precision, core=core * grow * slow, l2=l2 * grow, dram=dram * grow, ramp=ramp, fixed=chip.launch, lit=lit,
        e_core=switched,
        e_l2=grow * traffic * chip.l2_energy, e_dram=grow * nbytes * chip.hbm_energy, repeat=repeat,
        net="decode" if phase == "decode" else "prefill", stored=kv, hints=(
            log2(batch), log2(query), log2(seen), log2(heads), log2(kv_heads), log2(dims),
            log2(width(kv)) + 0.0 * pairs, log2(pairs / query), log2(core / dram),
        ),
    )  # fmt: skip


# Kernels written for latents (FlashMLA, FlashAttention 3, trtllm-gen) split a cache over all units: the share of the
# memory's bandwidth and of the units' rate they reach. Slope of seconds over context in aiconfigurator's tables:
# 2.8-3.0 of 3.35 TB/s on H100 (vLLM 0.14), 5.6-5.7 of 8 TB/s on B200 (TensorRT-LLM 1.3), at 8 to 128 heads.
_LATENT_BANDWIDTH: Final = 0.8
_LATENT_RATE: Final = 0.7


def latent(
    chip: Silicon, batch: _Number, context: _Number, heads: _Number, head_dim: _Number, value_dim: _Number, *,
    kv: str = "bf16", precision: str = "bf16", repeat: _Number = 1.0,
) -> Work:  # fmt: skip
    """Return the work of new tokens that attend to latents, one per sequence, with a kernel written for it."""
    batch, context, heads = (np.asarray(x, dtype=np.float64) for x in (batch, context, heads))
    head_dim, value_dim = (np.asarray(x, dtype=np.float64) for x in (head_dim, value_dim))
    s, dims = chip.shape, head_dim + value_dim
    blocks = np.ceil(context / 64.0)  # of the cache, dealt over the units
    cache, query = batch * 64.0 * blocks * head_dim * width(kv), batch * heads * dims * 2.0
    nbytes = batch * context * head_dim * width(kv) + query
    flops = 2.0 * batch * heads * context * dims
    padded = 2.0 * batch * np.ceil(heads / 64.0) * 64.0 * blocks * 64.0 * dims
    lit = np.minimum(batch * blocks / chip.units, 1.0)
    core = padded / (chip.rate_of(precision) * _LATENT_RATE * lit) + s["decode.tile_ramp"]
    dram = (cache / lit + query) / (_LATENT_BANDWIDTH * chip.hbm_bandwidth)
    return work(
        precision, core=core, l2=nbytes / (chip.l2_bandwidth * s["gemm.l2_efficiency"]), dram=dram,
        ramp=s["decode.ramp"] + s["decode.split_ramp"] + 0.0 * core, fixed=chip.launch, lit=lit,
        e_core=_toggled(s, flops, padded) * chip.energy_of(precision) * s["attention.energy"],
        e_l2=nbytes * chip.l2_energy, e_dram=nbytes * chip.hbm_energy, repeat=repeat,
    )  # fmt: skip


@dataclass(frozen=True)
class _Case:
    """Shapes of attention as arrays; `rate`: FLOP/s of one unit; `stored`: bytes per cached value."""

    batch: Array
    query: Array
    seen: Array
    pairs: Array
    heads: Array
    kv_heads: Array
    dims: Array
    nbytes: Array
    rate: float
    stored: float


_Parts = tuple[Array, Array, Array, Array, Array, Array]


def _prefill(chip: Silicon, x: _Case) -> _Parts:
    """Blocks of 128 queries per head, dealt over the units; softmax beside the matrix products."""
    s = chip.shape
    block = np.where(x.query > 64, 128.0, 64.0)
    blocks = np.ceil(x.query / block)
    # Short queries that share keys are packed into one block, as in decoding, where a chip's kernels do that.
    packed = np.minimum(x.heads * blocks, x.kv_heads * np.ceil(x.query * x.heads / x.kv_heads / block))
    items = x.batch * (packed if s["attention.packed"] else np.where(x.query > 1, x.heads * blocks, packed))
    per_row = x.pairs / x.query + 64.0  # the diagonal block is computed whole
    keys = np.ceil(per_row / 64.0) * 64.0
    rate = x.rate * s["attention.efficiency"] * (s["attention.narrow"] if x.stored < 2.0 else 1.0)
    product = 2.0 * block * keys * x.dims / rate
    # Exponentials: 16 per cycle and unit (CUDA C programming guide, arithmetic throughput table).
    exponent = block * keys / (16.0 * chip.clock_ref) * s["attention.softmax"]
    extra = 1.0 + (s["attention.convert"] if x.stored < 2.0 else 0.0)
    each = (product + exponent) * extra + s["attention.tile_ramp"]
    core = np.maximum(items / chip.units, 1.0) * each
    # The longest row of blocks ends last: half a block row on average.
    core = (core + 0.5 * each) * np.where(x.dims > 512, s["attention.wide"], 1.0)
    traffic = items * keys * x.dims * x.stored + x.batch * x.query * x.heads * x.dims * 2.0
    l2 = traffic / (chip.l2_bandwidth * s["gemm.l2_efficiency"])
    dram = x.nbytes / (s["dram.efficiency"] * chip.hbm_bandwidth)
    padded = 2.0 * items * block * keys * x.dims
    return core, l2, dram, s["attention.ramp"] + 0.0 * core, traffic, padded


def _decode(chip: Silicon, x: _Case) -> _Parts:
    """Query heads that share keys packed into one tile; keys split until the units are full."""
    s = chip.shape
    rows = np.ceil(x.query * x.heads / x.kv_heads / 64.0) * 64.0
    groups = x.batch * x.kv_heads
    keys = np.ceil(x.seen / 64.0) * 64.0
    rate = x.rate * s["decode.efficiency"]
    split = np.clip(np.floor(2.0 * chip.units / groups), 1.0, np.ceil(keys / 128.0))
    items = groups * split
    each = 2.0 * rows * keys / split * x.dims / rate + s["decode.tile_ramp"]
    each = each * (1.0 + (s["decode.convert"] if x.stored < 2.0 else 0.0))
    core = np.maximum(items / chip.units, 1.0) * each * np.where(x.dims > 512, s["decode.wide"], 1.0)
    flow = np.minimum(s["decode.dram_efficiency"] * chip.hbm_bandwidth, items * s["decode.dram_per_tile"])
    if x.stored < 2.0:
        flow = flow * s["decode.narrow"]
    dram = x.nbytes / np.maximum(flow, 1.0)
    traffic = x.nbytes + 8.0 * x.batch * x.heads * x.dims * np.where(split > 1, split, 0.0)
    l2 = traffic / (chip.l2_bandwidth * s["gemm.l2_efficiency"])
    ramp = s["decode.ramp"] + s["decode.split_ramp"] * (split > 1)
    padded = 2.0 * groups * rows * keys * x.dims
    return core, l2, dram, ramp + 0.0 * core, traffic, padded


def elementwise(
    chip: Silicon, read: _Number, write: _Number, *, ops: _Number = 0.0, kernels: _Number = 1.0,
    repeat: _Number = 1.0,
) -> Work:  # fmt: skip
    """Return the work of kernels bound by memory; `ops` run on the vector units."""
    read, write, ops, kernels = (np.asarray(x, dtype=np.float64) for x in (read, write, ops, kernels))
    s = chip.shape
    nbytes = read + write
    # Little's law: bytes in flight grow with the size of the kernel until the bandwidth is full.
    dram = nbytes / (s["vector.dram_efficiency"] * chip.hbm_bandwidth)
    core = ops / (chip.rate_of("fp32") * s["vector.efficiency"])
    l2 = nbytes / (chip.l2_bandwidth * s["gemm.l2_efficiency"])
    return work(
        "fp32", core=core, l2=l2, dram=dram, ramp=kernels * s["vector.ramp"], fixed=kernels * chip.launch,
        e_core=ops * chip.energy_of("fp32"), e_l2=nbytes * chip.l2_energy,
        e_dram=nbytes * chip.hbm_energy, repeat=repeat,
    )  # fmt: skip
