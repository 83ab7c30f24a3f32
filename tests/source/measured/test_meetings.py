"""Tests for `wattline.source.measured.meetings`: collectives inside a node beside tables of them."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.hardware.catalog import chip
from wattline.source.measured import meetings, sound
from wattline.source.measured.calibrate import predict_rows


def table(op: str, *rows: tuple[int, int, str], dtype: str = "half") -> dict[str, np.ndarray]:
    """Return rows of (devices, elements, whose kernel)."""
    ranks, size, who = (np.array(column) for column in zip(*rows, strict=True))
    names = np.full(len(rows), op)
    return {"op_name": names, "num_gpus": ranks, "message_size": size, "kernel_source": who,
            "nccl_dtype": np.full(len(rows), dtype)}  # fmt: skip


# Microseconds of 512 MiB among eight, medians of public tables of NCCL (ai-dynamo/aiconfigurator, Apache-2.0).
PUBLISHED = [
    ("b200-sxm", "all_gather", 760.0),
    ("b200-sxm", "alltoall", 840.0),
    ("b200-sxm", "reduce_scatter", 770.0),
    ("b200-sxm", "all_reduce", 1340.0),
    ("h200-sxm", "all_gather", 1390.0),
    ("h200-sxm", "alltoall", 1470.0),
    ("h200-sxm", "reduce_scatter", 1390.0),
    ("h200-sxm", "all_reduce", 2040.0),
]


@pytest.mark.parametrize(("name", "op", "measured"), PUBLISHED)
def test_large_messages_are_near_public_tables(name: str, op: str, measured: float) -> None:
    """Links and sums in the switch, each kind by itself."""
    found = predict_rows(table(op, (8, 268435456, "NCCL")), chip(name))
    assert 1e6 * found.time[0] == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize("op", meetings.MEETINGS)
def test_more_bytes_take_longer_and_a_host_that_launches_holds_small_ones(op: str) -> None:
    """Seconds rise with the size; without a graph none is under the host's floor."""
    sizes = [2**k for k in range(8, 28, 2)]
    found = predict_rows(table(op, *[(8, n, "NCCL") for n in sizes]), chip("h200-sxm"))
    assert np.all(np.diff(found.time) > 0)
    eager = predict_rows(table(op, (8, 256, "vLLM_custom_eager")), chip("h200-sxm"))
    assert eager.time[0] >= 2e-5 > found.time[0]


def test_an_engines_own_sum_is_faster_than_the_library_for_small_messages() -> None:
    """16 KiB among eight: one step of its own beats the library's ring."""
    own, library = predict_rows(table("all_reduce", (8, 8192, "vLLM_custom_graph"), (8, 8192, "NCCL")),
                                chip("h100-sxm")).time  # fmt: skip
    assert own < library


def test_groups_are_told_by_devices_and_size_and_unknown_elements_are_refused() -> None:
    """Errors come apart by what decides them; a dtype of no known width is one sentence."""
    rows = table("all_gather", (2, 1024, "NCCL"), (8, 2**26, "NCCL"))
    assert meetings.bands(rows) == ["2 GPUs up to 256 KiB", "8 GPUs above 8 MiB"]
    assert sound.reasons(rows) == ["", ""]
    assert "nccl_dtype 'halff' is not known" in sound.reasons(table("all_gather", (2, 1, "NCCL"), dtype="halff"))[0]
