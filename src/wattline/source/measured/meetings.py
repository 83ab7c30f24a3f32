"""Collectives inside a node as rows of a table: bytes, devices, and whether an engine's own kernel or NCCL ran them.

Columns are those of ai-dynamo/aiconfigurator's tables: `num_gpus`, `message_size` (elements), `nccl_dtype`, and
`kernel_source`, "NCCL" or an engine's own all-reduce ("vLLM_custom_graph", "..._eager" launched by the host).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from ..roofline.collective import collective, library_seconds, link_in_use, links_of
from ..roofline.silicon import Silicon
from ..roofline.work import Work

# Name in tables -> name here.
MEETINGS: Final[Mapping[str, str]] = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}
# Bytes of an element.
ELEMENTS: Final[Mapping[str, float]] = {"half": 2.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "fp8": 1.0}
# Bytes between which groups of errors are told apart.
_BANDS: Final = ((2.0**18, "up to 256 KiB"), (2.0**23, "up to 8 MiB"), (np.inf, "above 8 MiB"))


def size_of(columns: Mapping[str, NDArray[Any]]) -> Array:
    """Return the bytes of each row's message."""
    each = np.array([ELEMENTS[str(name)] for name in columns["nccl_dtype"]])
    return np.asarray(columns["message_size"].astype(np.float64) * each)


def meeting(chip: Silicon, op: str, columns: Mapping[str, NDArray[Any]]) -> Work:
    """Return the work of rows of one collective, among the devices of one node."""
    size, ranks = size_of(columns), columns["num_gpus"].astype(np.float64)
    made = collective(chip, None, MEETINGS[op], size, ranks)
    who = np.char.lower(columns["kernel_source"].astype(str))
    link = link_in_use(chip)
    links = links_of(chip, link.name)
    library = library_seconds(links, MEETINGS[op], size, ranks, link.bandwidth)
    seconds = np.where(np.char.find(who, "nccl") >= 0, library, made.link)
    eager = np.char.find(who, "eager") >= 0
    return replace(made, link=np.where(eager, np.maximum(seconds, links["nccl.eager"]), seconds))


def bands(table: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the group of each row of a table within its operator: devices and a band of sizes, "" of others."""
    n, ops = len(table["op_name"]), table["op_name"].astype(str)
    out = [""] * n
    mine = np.flatnonzero(np.isin(ops, list(MEETINGS)))
    if mine.size:
        kinds = table["nccl_dtype"][mine] if "nccl_dtype" in table else np.full(mine.size, "half")
        size = size_of({"nccl_dtype": kinds, "message_size": table["message_size"][mine]})
        for i, nbytes, ranks in zip(mine, size, table["num_gpus"][mine], strict=True):
            out[i] = f"{int(ranks)} GPUs {next(word for most, word in _BANDS if nbytes <= most)}"
    return out
