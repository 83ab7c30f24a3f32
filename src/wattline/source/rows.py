"""Measured kernels as rows of a table: which columns mean what, and the work each row states.

Columns are those of ai-dynamo/aiconfigurator's performance files (`op_name`, shapes, dtypes,
`latency` in ms, `power` in W). Rows are only read here, never fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, nearest
from . import shapes
from .base import Array
from .routing import route
from .silicon import Silicon, calibration
from .work import Work

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
}  # fmt: skip

Table = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """Rows of one operator and one dtype: where they stand in the table, and their work.

    `works`: operators of each row, arrays (rows,). `op`, `dtype`: as in the file.
    """

    index: NDArray[np.int64]
    op: str
    dtype: str
    works: tuple[Work, ...]
    columns: Mapping[str, NDArray[Any]]


def batches(rows: Table, chip: Silicon) -> Iterator[Batch]:
    """Yield the rows of a table grouped by operator and dtype."""
    columns = {name: np.asarray(values) for name, values in rows.items()}
    _need(columns, ("op_name",))
    for op in dict.fromkeys(str(x) for x in columns["op_name"]):
        if op not in COLUMNS:
            raise InputError(f"op_name {op!r} is not known; {nearest(op, COLUMNS)}")
        _need(columns, COLUMNS[op])
        for dtype, index in _split(columns, op):
            part = {name: columns[name][index] for name in COLUMNS[op]}
            yield Batch(index, op, dtype, _works(op, dtype, part, chip), part)


def _need(columns: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(f"the table lacks column(s) {', '.join(missing)}; it has {', '.join(columns)}")


def _split(columns: Mapping[str, NDArray[Any]], op: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield (dtype, rows) of one operator."""
    name = {"gemm": "gemm_dtype", "moe": "moe_dtype"}.get(op, "kv_cache_dtype")
    mine = columns["op_name"].astype(str) == op
    values = columns[name].astype(str)
    for dtype in dict.fromkeys(values[mine]):
        if dtype not in DTYPES:
            raise InputError(f"{name} {dtype!r} is not known; {nearest(str(dtype), DTYPES)}")
        yield str(dtype), np.flatnonzero(mine & (values == dtype))


def _works(op: str, dtype: str, part: Mapping[str, NDArray[Any]], chip: Silicon) -> tuple[Work, ...]:
    numbers = {k: v.astype(np.float64) for k, v in part.items() if v.dtype.kind in "iuf"}
    if op == "gemm":
        precision, a, b = DTYPES[dtype]
        return (shapes.gemm(chip, numbers["m"], numbers["n"], numbers["k"], a=a, b=b, precision=precision),)
    if op == "moe":
        return _moe(dtype, part, numbers, chip)
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
    up = shapes.grouped_gemm(chip, rows, active, 2.0 * inner, hidden, skew=skew, **stored)
    down = shapes.grouped_gemm(chip, rows, active, hidden, inner, skew=skew, **stored)
    # The kernels between walk every assignment, those of experts on other devices included
    # (vLLM fused_moe with an expert map): activation, then the sum over the picks of a token.
    every = numbers["num_tokens"] * numbers["topk"]
    read = every * (2.0 * inner + hidden) * 2.0
    write = (every * inner + (every - rows).clip(0) * hidden + numbers["num_tokens"] * hidden) * 2.0
    vector = shapes.elementwise(chip, read, write, ops=every * inner * 8.0, kernels=2.0)
    return (up, down, vector)


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
        held = np.maximum(time + self.extra, self.floor)
        return self.tick * np.maximum(np.round(held / self.tick), self.least) if self.tick else held


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
    known = calibration()["harness"]
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
    stepped = batch.op.endswith("attention") or batch.dtype == "nvfp4"
    tick, least = known["tick"].get(chip.name, (0.0, 1.0)) if stepped else (0.0, 1.0)
    return Harness(floor, extra, not called, tick, least)
