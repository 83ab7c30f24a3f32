"""Published silicon beside predictions: rates of kernels that makers and papers print, none of them fitted.

Rows stand in ``data/silicon.csv``, each with its set-up and source; a file of one's own with the same columns serves
too. Kernels of GPUs go through the source that plans use; products of described chips through the mapping search.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..hardware.architectures import architecture
from ..source.dataflow import Einsum, Space, cross, footprint, settings
from .validate import operators, read_table

# Within this share of the published figure a prediction is called near.
NEAR: Final = 0.15
_MAPPED: Final = "product"


def silicon(path: Path | None = None) -> dict[str, Any]:
    """Return each published rate (TFLOP/s) beside the predicted one, errors by group, and how many are near.

    Parameters
    ----------
    path : CSV with the columns of ``data/silicon.csv``; that file where None.
    """
    shipped = resources.files("wattline.scenario") / "data" / "silicon.csv"
    with resources.as_file(shipped) as own:
        table = read_table(path or own)
    lacking = [name for name in ("device", "op_name", "group", "value") if name not in table]
    if lacking:
        raise InputError(f"the table lacks column(s) {', '.join(lacking)}; it has {', '.join(table)}")
    rates = np.full(len(table["value"]), np.nan)
    mapped = table["op_name"].astype(str) == _MAPPED
    reasons: dict[int, str] = {}
    if not mapped.all():
        kernels = {name: values[~mapped] for name, values in table.items()}
        kernels["row_id"] = np.flatnonzero(~mapped)
        found = operators_of(kernels)
        for row in found["predictions"]:
            rates[row["row_id"]] = flops(table, row["row_id"]) / (1e-3 * row["latency"]) / 1e12
        reasons = {int(row["row_id"]): row["reason"] for row in found["refused"]}
    for i in np.flatnonzero(mapped).tolist():
        rates[i] = flops(table, i) / _searched(table, i) / 1e12
    return _told(table, rates, reasons)


def operators_of(kernels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predictions of rows of kernels, as `validate.operators` has them from a file."""
    return operators(Path("silicon.csv"), table=dict(kernels))


def flops(table: Mapping[str, Any], i: int) -> float:
    """Return the operations that the published rate counts: 2 m n k; 4 s^2 d a head, half of it where causal."""
    op = str(table["op_name"][i])
    if op in ("gemm", _MAPPED):
        return 2.0 * float(table["m"][i]) * float(table["n"][i]) * float(table["k"][i])
    if op in ("context_attention", "encoder_attention"):
        size = float(table["batch_size"][i]) * float(table["isl"][i]) ** 2
        whole = 4.0 * size * float(table["num_heads"][i]) * float(table["head_dim"][i])
        return whole / 2 if op == "context_attention" else whole
    raise InputError(f"row {i + 2}: op_name {op!r} has no published rate here; gemm, {_MAPPED} or attention do")


def _searched(table: Mapping[str, Any], i: int) -> float:
    """Return the seconds of one product at the best mapping on a described chip, at its highest clock."""
    chip = architecture(str(table["device"][i]))
    m, n, k = (int(table[name][i]) for name in "mnk")
    product = Einsum(m, n, k, widths=(1, 1, 1), precision=str(table["gemm_dtype"][i]))
    found = cross(footprint(product, chip, Space(imperfect=False)).costs(chip), settings(chip))
    return float(found.time.min())


def _told(table: Mapping[str, Any], rates: Any, reasons: Mapping[int, str]) -> dict[str, Any]:
    values = np.asarray(table["value"], dtype=np.float64)
    errors = rates / values - 1
    good = np.isfinite(errors)
    rows = [
        {
            "row": i,
            "group": str(table["group"][i]),
            "chip": str(table["device"][i]),
            "published_tflops": float(values[i]),
            "predicted_tflops": float(rates[i]) if good[i] else None,
            "error": float(errors[i]) if good[i] else None,
            "reason": reasons.get(i, ""),
            "setup": str(table["setup"][i]) if "setup" in table else "",
            "source": str(table["source"][i]) if "source" in table else "",
        }
        for i in range(len(values))
    ]
    names = np.array([row["group"] for row in rows])
    groups = {
        name: {
            "rows": int((names == name).sum()),
            "median_ape": float(np.median(np.abs(errors[good & (names == name)]))),
            "bias": float(np.mean(errors[good & (names == name)])),
            "near": float(np.mean(np.abs(errors[good & (names == name)]) <= NEAR)),
        }
        for name in dict.fromkeys(names.tolist())
        if (good & (names == name)).any()
    }
    return {
        "rows": len(rows),
        "near_share": float(np.mean(np.abs(errors[good]) <= NEAR)),
        "median_ape": float(np.median(np.abs(errors[good]))),
        "groups": groups,
        "figures": rows,
    }
