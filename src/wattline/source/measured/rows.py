"""Measured kernels as rows of a table: which columns mean what, and the work each row states.

Columns are those of ai-dynamo/aiconfigurator's performance files (`op_name`, shapes, dtypes,
`latency` in ms, `power` in W). Rows are only read here, never fitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, nearest
from ..base import Array
from ..roofline import shapes
from ..roofline.routing import route
from ..roofline.silicon import Silicon, calibration
from ..roofline.work import Work
from . import modules
from .meetings import MEETINGS, meeting

# Name in the files -> (precision of the arithmetic, stored A, stored B).
DTYPES: Final[Mapping[str, tuple[str, str, str]]] = {
    "bfloat16": ("bf16", "bf16", "bf16"),
    "float16": ("fp16", "fp16", "fp16"),
    "fp8": ("fp8", "fp8", "fp8"),
    "fp8_static": ("fp8", "fp8", "fp8"),
    "fp8_block": ("fp8", "fp8", "fp8_block"),
    "int8": ("int8", "int8", "int8"),
    "int8_wo": ("bf16", "bf16", "int8"),
    "int4_wo": ("bf16", "bf16", "int4"),
    "w4afp8": ("fp8", "fp8", "int4"),
    "nvfp4": ("fp4", "nvfp4", "nvfp4"),
    "mxfp4": ("fp4", "mxfp4", "mxfp4"),
    "w4a16_mxfp4": ("bf16", "bf16", "mxfp4"),
    "w4a8_mxfp4_mxfp8": ("fp8", "fp8", "mxfp4"),
}

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("gemm_dtype", "m", "n", "k"),
    "context_attention": (
        "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype", "window_size",
    ),
    "generation_attention": (
        "batch_size", "step", "num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype", "window_size",
    ),
    "moe": (
        "moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size",
        "moe_ep_size", "distribution",
    ),
    "memory_copy": ("bytes",),
    "transformer": (
        "gemm_dtype", "batch_size", "isl", "hidden_size", "inter_size", "num_heads", "head_dim", "num_layers",
    ),
    "encoder_attention": ("batch_size", "isl", "num_heads", "head_dim", "attn_dtype"),
    "context_mla": ("batch_size", "isl", "num_heads", "kv_cache_dtype"),
    "generation_mla": ("batch_size", "step", "num_heads", "kv_cache_dtype"),
    "mla_context_module": ("batch_size", "isl", "num_heads", "kv_cache_dtype", "gemm_type", "architecture"),
    "mla_generation_module": ("batch_size", "step", "num_heads", "kv_cache_dtype", "gemm_type", "architecture"),
    "gdn": (
        "kernel_source", "batch_size", "seq_len", "num_tokens", "d_conv", "num_k_heads", "head_k_dim", "num_v_heads",
        "head_v_dim",
    ),
    "mamba2": (
        "kernel_source", "batch_size", "seq_len", "num_tokens", "d_conv", "nheads", "head_dim", "d_state", "n_groups",
        "chunk_size",
    ),
    "compute_scale": ("m", "k", "quant_dtype"),
    "scale_matrix": ("m", "k", "quant_dtype"),
    **dict.fromkeys(MEETINGS, ("num_gpus", "message_size", "nccl_dtype", "kernel_source")),
}  # fmt: skip

# Columns that older files lack, and what stands for them there.
DEFAULTS: Final[Mapping[str, Any]] = {
    "window_size": 0, "moe_tp_size": 1, "moe_ep_size": 1, "distribution": "balanced", "kv_cache_dtype": "bfloat16",
    "attn_dtype": "bfloat16", "architecture": "DeepseekV3ForCausalLM", "nccl_dtype": "half",
}  # fmt: skip


# Columns that hold words and no dtype.
WORDS: Final = ("distribution", "architecture", "kernel_source", "nccl_dtype")

# What `framework` says of rows that scripts/measure_operators.py wrote: joules of the energy counter over long
# loops, so a row is what its kernel does, and no benchmark's clock or meter lies between.
BARE: Final = "wattline"

# Version of the kernels of the reference campaign, which its files do not state.
CAMPAIGN_VERSION: Final = "0.22."

Table = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """Rows of one operator and one dtype: where they stand in the table, and their work.

    `works`: operators of each row, arrays (rows,). `op`, `dtype`: as in the file. `bare`: see `BARE`.
    `engine`, `version`: whose kernels they are and the minor version of each row, where the file states a version;
    "" and None for the files of the reference campaign, which do not. `fallback`: attention ran the engine's second
    choice of kernel, where the file says so.
    """

    index: NDArray[np.int64]
    op: str
    dtype: str
    works: tuple[Work, ...]
    columns: Mapping[str, NDArray[Any]]
    bare: bool = False
    engine: str = ""
    version: Array | None = None
    fallback: bool = False


def batches(rows: Table, chip: Silicon) -> Iterator[Batch]:
    """Yield the rows of a table grouped by operator, dtype and whose kernels they are."""
    columns = {name: np.asarray(values) for name, values in rows.items()}
    _need(columns, ("op_name",))
    for op in dict.fromkeys(str(x) for x in columns["op_name"]):
        if op not in COLUMNS:
            raise InputError(f"op_name {op!r} is not known; {nearest(op, COLUMNS)}")
        _need(columns, [name for name in COLUMNS[op] if name not in DEFAULTS])
        for dtype, index, bare, engine, fallback in _split(columns, op, chip):
            part = {name: stated(columns, name, index) for name in COLUMNS[op]}
            if "kernel_source" in columns:
                part.setdefault("kernel_source", columns["kernel_source"][index])
            works = _works(op, dtype, part, chip)
            kept = {name: part[name] for name in COLUMNS[op]}
            version = versions(columns["version"][index]) if engine and "version" in columns else None
            yield Batch(index, op, dtype, works, kept, bare, engine, version, fallback)


def stated(columns: Mapping[str, NDArray[Any]], name: str, index: NDArray[np.int64]) -> NDArray[Any]:
    """Return the cells of a column, or what stands for it in files that lack it."""
    return columns[name][index] if name in columns else np.full(index.size, DEFAULTS[name])


def versions(names: NDArray[Any]) -> Array:
    """Return the number after the first point of each version ("0.19.0": 19)."""
    known = {str(n): re.match(r"\d+\.(\d+)", str(n)) for n in np.unique(names)}
    return np.array([float(found[1]) if (found := known[str(n)]) else 0.0 for n in names])


def _need(columns: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(f"the table lacks column(s) {', '.join(missing)}; it has {', '.join(columns)}")


def dtype_column(op: str) -> str:
    """Return the column that holds an operator's dtype, "" where it has none."""
    named = {
        "gemm": "gemm_dtype", "moe": "moe_dtype", "transformer": "gemm_dtype", "memory_copy": "", "gdn": "",
        "mamba2": "", "encoder_attention": "attn_dtype", "mla_context_module": "gemm_type",
        "mla_generation_module": "gemm_type", "compute_scale": "quant_dtype", "scale_matrix": "quant_dtype",
        **dict.fromkeys(MEETINGS, ""),
    }  # fmt: skip
    return named.get(op, "kv_cache_dtype")


def _split(
    columns: Mapping[str, NDArray[Any]], op: str, chip: Silicon
) -> Iterator[tuple[str, NDArray[np.int64], bool, str, bool]]:
    """Yield (dtype, rows, whether bare, engine, whether of its fallback kernel) of one operator.

    Kernels of a layer come apart where they are named, and so do caches of a module.
    """
    name = dtype_column(op)
    mine = np.flatnonzero(columns["op_name"].astype(str) == op)
    values = stated(columns, name, mine).astype(str) if name else np.full(mine.size, "")
    for dtype in dict.fromkeys(values):
        if name and dtype not in DTYPES:
            raise InputError(f"{name} {str(dtype)!r} is not known; {nearest(str(dtype), DTYPES)}")
    makers = columns["framework"][mine].astype(str) if "framework" in columns else np.full(mine.size, "")
    dated = columns["version"][mine].astype(str) if "version" in columns else np.full(mine.size, "")
    engines = np.array([_engine(m.lower(), v, chip) for m, v in zip(makers.tolist(), dated.tolist(), strict=True)])
    apart = [c for c in ("kernel_source",) if op in modules.RECURRENT]
    apart += [c for c in ("architecture", "kv_cache_dtype") if op.startswith("mla_")]
    second = _triton(columns, mine) if op.endswith("attention") else np.zeros(mine.size, dtype=bool)
    keys = [values, makers == BARE, engines, second, *[stated(columns, c, mine).astype(str) for c in apart]]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for at, key in enumerate(zip(*keys, strict=True)):
        groups.setdefault(key, []).append(at)
    for (dtype, bare, engine, fallback, *_), chosen in groups.items():
        yield str(dtype), mine[np.array(chosen)], bool(bare), str(engine), bool(fallback)


def _engine(maker: str, version: str, chip: Silicon) -> str:
    """Return whose kernels a row is of, "" for the reference campaign: vLLM 0.22's on its two chips, stated or not."""
    own = not version or version.startswith(CAMPAIGN_VERSION)
    if maker == BARE or (maker in ("", "vllm") and own and chip.name in calibration()["spread"]["measured"]):
        return ""
    return maker


def _triton(columns: Mapping[str, NDArray[Any]], index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows of attention ran the engine's second choice: head widths its first has no kernel for."""
    if "kernel_source" not in columns:
        return np.zeros(index.size, dtype=bool)
    return np.char.find(columns["kernel_source"][index].astype(str), "triton_attn") >= 0


def _works(op: str, dtype: str, part: Mapping[str, NDArray[Any]], chip: Silicon) -> tuple[Work, ...]:
    numbers = {k: v.astype(np.float64) for k, v in part.items() if v.dtype.kind in "iuf"}
    if op == "gemm":
        precision, a, b = DTYPES[dtype]
        return (shapes.gemm(chip, numbers["m"], numbers["n"], numbers["k"], a=a, b=b, precision=precision),)
    if op == "moe":
        return _moe(dtype, part, numbers, chip)
    if op in MEETINGS:
        return (meeting(chip, op, part),)
    if op == "memory_copy":
        return (shapes.elementwise(chip, numbers["bytes"], numbers["bytes"]),)
    if op == "transformer":
        return _transformer(dtype, numbers, chip)
    if op not in ("context_attention", "generation_attention"):
        return _module(op, dtype, part, numbers, chip)
    decode = op == "generation_attention"
    query = np.ones_like(numbers["head_dim"]) if decode else numbers["isl"]
    context = numbers["step"] + 1.0 if decode else numbers["isl"]
    return (
        shapes.attention(
            chip, numbers["batch_size"], query, context, numbers["num_heads"],
            numbers["num_key_value_heads"], numbers["head_dim"], numbers["head_dim"],
            window=numbers["window_size"], kv=DTYPES[dtype][2], phase="decode" if decode else "prefill",
        ),
    )  # fmt: skip


def _module(
    op: str, dtype: str, part: Mapping[str, NDArray[Any]], numbers: Mapping[str, Array], chip: Silicon
) -> tuple[Work, ...]:
    if op in modules.RECURRENT:
        return modules.recurrent(chip, numbers, part, op)
    if op in ("compute_scale", "scale_matrix"):
        return modules.quantise(chip, numbers, op == "compute_scale")
    if op == "encoder_attention":
        return modules.encoder(chip, numbers, DTYPES[dtype])
    decode = op in ("generation_mla", "mla_generation_module")
    if op.endswith("_module"):
        return modules.latent_module(chip, numbers, part, DTYPES[dtype], decode)
    return modules.latent_attention(chip, numbers, DTYPES[dtype], decode)


def _moe(dtype: str, part: Mapping[str, NDArray[Any]], numbers: Mapping[str, Array], chip: Silicon) -> tuple[Work, ...]:
    """Return gate-and-up, activation and down of a fused mixture layer on its busiest device."""
    precision, a, b = DTYPES[dtype]
    keys = ("num_tokens", "topk", "num_experts", "moe_ep_size")
    picks = zip(part["distribution"], *[part[k] for k in keys], strict=True)
    routed = [route(str(d), int(t), int(k), int(e), int(p)) for d, t, k, e, p in picks]
    rows = np.array([r.rows for r in routed])
    active = np.array([r.active for r in routed])
    skew = np.array([r.skew for r in routed])
    hidden, inner = numbers["hidden_size"], numbers["inter_size"] / numbers["moe_tp_size"]
    stored: dict[str, Any] = {"a": a, "b": b, "precision": precision}
    # Nemotron's experts have no gate: one product up instead of two (kernel_source says so where it is known).
    gated = np.array(["nongated" not in str(k) for k in part.get("kernel_source", np.full(rows.size, ""))])
    up = shapes.grouped_gemm(chip, rows, active, (1.0 + gated) * inner, hidden, skew=skew, **stored)
    down = shapes.grouped_gemm(chip, rows, active, hidden, inner, skew=skew, **stored)
    # The kernels between walk every assignment, those of experts on other devices included
    # (vLLM fused_moe with an expert map): activation, then the sum over the picks of a token.
    every = numbers["num_tokens"] * numbers["topk"]
    read = every * (2.0 * inner + hidden) * 2.0
    write = (every * inner + (every - rows).clip(0) * hidden + numbers["num_tokens"] * hidden) * 2.0
    vector = shapes.elementwise(chip, read, write, ops=every * inner * 8.0, kernels=2.0)
    return (up, down, vector)


def _transformer(dtype: str, numbers: Mapping[str, Array], chip: Silicon) -> tuple[Work, ...]:
    """Return a forward pass of plain layers: q, k, v and output projections, causal attention, two products with an
    activation between, two norms and two sums. Nothing is fused but attention, so each kernel between walks memory."""
    precision, a, b = DTYPES[dtype]
    tokens, hidden, inner = numbers["batch_size"] * numbers["isl"], numbers["hidden_size"], numbers["inter_size"]
    layers, heads, head = numbers["num_layers"], numbers["num_heads"], numbers["head_dim"]
    stored: dict[str, Any] = {"a": a, "b": b, "precision": precision, "repeat": layers}
    inside = heads * head
    pairs = ((3.0 * inside, hidden), (hidden, inside), (inner, hidden), (hidden, inner))
    products = tuple(shapes.gemm(chip, tokens, n, k, **stored) for n, k in pairs)
    mixing = shapes.attention(
        chip, numbers["batch_size"], numbers["isl"], numbers["isl"], heads, heads, head, head,
        window=np.zeros_like(head), kv=b, phase="prefill", repeat=layers,
    )  # fmt: skip
    # Two norms read and write the hidden state, two sums read it twice, an activation walks the inner one.
    read, write = 2.0 * tokens * (6.0 * hidden + inner), 2.0 * tokens * (4.0 * hidden + inner)
    between = shapes.elementwise(chip, read, write, ops=tokens * 10.0 * (hidden + inner), kernels=5.0, repeat=layers)
    return (*products, mixing, between)


@dataclass(frozen=True)
class Harness:
    """What a benchmark does to its kernels: seconds it cannot go below, seconds on top, whether the power
    limit acts, and the tick (s) of a clock that counts in steps, 0 where it does not, with the least count."""

    floor: Array
    extra: Array
    limited: bool = True
    tick: float = 0.0
    least: float = 1.0

    def clock(self, time: Array) -> Array:
        """Return the seconds the benchmark prints for kernels of `time` s."""
        return self.counted(np.maximum(time + self.extra, self.floor))

    def counted(self, time: Array) -> Array:
        """Return seconds in whole ticks, where the clock counts in ticks."""
        return self.tick * np.maximum(np.round(time / self.tick), self.least) if self.tick else time


def harness(batch: Batch, chip: Silicon) -> Harness:
    """Return what the benchmark that made the rows adds to each of them.

    Block-scaled fp8 products were timed in eager mode, where quantising in Python holds the device
    back; four-bit products include quantising the activations, fused mixtures sorting tokens by
    expert. On the B200 attention kernels and four-bit products last whole ticks of 2.048 us. Float16
    products of the A100 were called one at a time: a Python call each, too few to meet the power limit.
    None is part of the kernel itself.
    """
    n = batch.index.size
    floor, extra = np.zeros(n), np.zeros(n)
    if batch.bare:
        return Harness(floor, extra)
    known = calibration()["harness"]
    stepped = batch.op in known["stepped"] or (batch.dtype == "nvfp4" and not batch.engine)
    tick, least = known["tick"].get(chip.name, (0.0, 1.0)) if stepped else (0.0, 1.0)
    if batch.engine:
        return Harness(floor, extra, True, tick, 1.0)
    if batch.op == "gemm" and batch.dtype == "fp8_block":
        thin, aligned, other = known["fp8_block_gemm"].get(chip.name, (0.0, 0.0, 0.0))
        m = batch.columns["m"]
        floor = np.where(m < 32, thin, np.where(m % 4 == 0, aligned, other))
    if batch.op == "gemm":
        extra += known["gemm"].get(batch.dtype, (0.0,))[0]
    called = batch.op == "gemm" and batch.dtype == "float16" and chip.name in known["call"]
    if called:
        extra += known["call"][chip.name]
    if batch.op == "moe":
        extra += known["moe"].get(batch.dtype, known["moe"]["bfloat16"])[0]
    return Harness(floor, extra, not called, tick, least)
