"""Tests for `wattline.source.roofline.collective`: bytes, devices and the witness of published tables."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware.catalog import chip, default_node, names
from wattline.source.roofline.collective import ONE_SHOT, OPS, classes, collective
from wattline.source.roofline.silicon import Silicon

# Rows of ai-dynamo/aiconfigurator's tables (Apache-2.0, NCCL 2.29 and vLLM 0.24 in a graph): chip, operator, devices,
# bytes, microseconds.
TABLES = [
    ("h100-sxm", "all_reduce", 8, 16384, 5.1),
    ("h100-sxm", "all_reduce", 8, 2**20, 15.0),
    ("h100-sxm", "all_reduce", 8, 536870912, 2111.1),
    ("h100-sxm", "all_gather", 8, 536870912, 1401.5),
    ("b200-sxm", "all_reduce", 8, 536870912, 1334.6),
    ("b200-sxm", "all_to_all", 4, 536870912, 825.2),
    ("l40s", "all_reduce", 4, 536870912, 156034.0),
]


def seconds(name: str, op: str, ranks: float, size: float, **more: bool) -> float:
    sheet = chip(name)
    work = collective(Silicon.of(sheet), default_node(sheet), op, np.asarray(size), np.asarray(ranks), **more)
    return float(work.link)


@pytest.mark.parametrize(("name", "op", "ranks", "size", "micros"), TABLES)
def test_published_tables_are_met(name: str, op: str, ranks: int, size: int, micros: float) -> None:
    """Time of single rows of public tables, within a quarter."""
    assert seconds(name, op, ranks, size) == pytest.approx(1e-6 * micros, rel=0.25)


@given(
    st.sampled_from(names("chip")), st.sampled_from(OPS), st.integers(2, 8), st.floats(1.0, 1e10), st.floats(1.0, 8.0)
)
def test_more_bytes_take_no_less_time(name: str, op: str, ranks: int, size: float, factor: float) -> None:
    """Law: within one algorithm time grows with bytes; where engines hand over at 8 MiB it may step, by less than half."""
    one, more = seconds(name, op, ranks, size), seconds(name, op, ranks, size * factor)
    handed = op == "all_reduce" and size <= ONE_SHOT < size * factor
    assert more >= one * (0.5 if handed else 1 - 1e-12)


@given(st.sampled_from(names("chip")), st.sampled_from(OPS), st.integers(2, 72), st.floats(1e8, 1e11))
def test_no_collective_beats_its_link(name: str, op: str, ranks: int, size: float) -> None:
    """Law: a device receives its share of the bytes once over its link; sums in the switch may halve an all-reduce."""
    sheet = chip(name)
    domain = default_node(sheet).get("nvlink.domain", 2.0)
    rate = sheet["link.nvlink.bandwidth"] if domain > 1 and sheet.get("link.nvlink.bandwidth", 0.0) else 0.0
    rate = rate or sheet["link.pcie.bandwidth"]
    least = size * (1.0 if op == "send" else (ranks - 1) / ranks) / rate
    assert seconds(name, op, ranks, size) >= least


def test_a_slower_step_delays_small_messages_and_a_host_bounds_eager_ones() -> None:
    """Latency of the sheet stretches starts; without a graph a call lasts as long as its launch."""
    silicon = Silicon.of(chip("h100-sxm"))
    slow = replace(silicon, link={**silicon.link, "link.nvlink.latency": 2 * silicon.link["link.nvlink.latency"]})
    size, ranks = np.asarray(1024.0), np.asarray(8.0)
    times = [float(collective(c, None, "all_reduce", size, ranks).link) for c in (silicon, slow)]
    assert times[1] == pytest.approx(2 * times[0], rel=0.02)
    assert seconds("h100-sxm", "all_reduce", 8, 1024, eager=True) == classes()["nvlink-hopper"]["nccl.eager"]
