"""Which rows of a table of kernels can be read, and why the others cannot: one sentence a row, never a lost file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import nearest
from .meetings import ELEMENTS
from .modules import LATENT, RECURRENT
from .rows import COLUMNS, DEFAULTS, DTYPES, WORDS, dtype_column

Columns = Mapping[str, NDArray[Any]]
# Dimensions that may be 0.
_FROM_ZERO = ("window_size", "step")


def reasons(table: Columns) -> list[str]:
    """Return for each row why it cannot be read, "" where it can."""
    count = len(next(iter(table.values())))
    out = np.full(count, "", dtype=object)
    for op in np.unique(table["op_name"].astype(str)):
        mine = np.flatnonzero(table["op_name"].astype(str) == op)
        if op not in COLUMNS:
            out[mine] = f"op_name {str(op)!r} is not known; {nearest(str(op), COLUMNS)}"
            continue
        missing = [name for name in COLUMNS[op] if name not in table and name not in DEFAULTS]
        if missing:
            out[mine] = f"the table lacks column(s) {', '.join(missing)}; it has {', '.join(table)}"
            continue
        for name in COLUMNS[op]:
            if name in table:
                blank = mine[out[mine] == ""]
                out[blank] = _cells(op, name, table[name][blank], blank)
    return [str(reason) for reason in out]


def assumed(table: Columns) -> list[str]:
    """Return a sentence for each column that rows need, the table lacks, and a default stands for."""
    ops = [op for op in np.unique(table["op_name"].astype(str)) if op in COLUMNS]
    lacking = dict.fromkeys(c for op in ops for c in COLUMNS[op] if c in DEFAULTS and c not in table)
    return [f"column {name} is not there and was taken as {DEFAULTS[name]}" for name in lacking]


def _cells(op: str, name: str, values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return a reason for each cell of one column, "" where it holds what it must."""
    known: Mapping[str, object] | None = None
    if name == dtype_column(op) or name in ("kv_cache_dtype", "attn_dtype"):
        known = DTYPES
    elif name == "nccl_dtype":
        known = ELEMENTS
    elif name == "architecture":
        known = LATENT
    elif name == "kernel_source" and op in RECURRENT:
        known = RECURRENT[op]
    if known is not None:
        told = {str(v): "" if str(v) in known else f"{name} {str(v)!r} is not known; {nearest(str(v), known)}"
                for v in np.unique(values)}  # fmt: skip
        return np.array([told[str(v)] for v in values], dtype=object)
    if name in WORDS:
        return np.full(values.size, "", dtype=object)
    least = 0 if name in _FROM_ZERO else 1
    rule = f"column {name} of {op} must hold a whole number of at least {least}, got"
    return np.array(
        ["" if _whole(v, least) else f"row {n + 2}: {rule} {v!s}" for v, n in zip(values, rows, strict=True)],
        dtype=object,
    )


def _whole(value: Any, least: int) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return bool(np.isfinite(number) and number >= least and number == round(number))


def numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column as numbers where every cell is one (rows that cannot be read are out by then)."""
    if values.dtype.kind in "iuf":
        return values
    try:
        wide = values.astype(np.float64)
    except ValueError:
        return values
    return wide.astype(np.int64) if np.isfinite(wide).all() and (wide == np.round(wide)).all() else wide
