"""Tests for `wattline.source.roofline.collective`: links inside a domain, adapters between domains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware import catalog
from wattline.source.roofline.collective import collective
from wattline.source.roofline.silicon import Silicon

CHIP = Silicon.of(catalog.chip("h100-sxm"))
NODE = catalog.node("hgx-h100")
FREE = NODE.with_({"nic.bandwidth": "1000 TB/s", "nic.latency": "0 s"}, source="law")
OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def seconds(op: str, size: float, ranks: float, local: float, node: object = NODE) -> float:
    span = "node" if local >= ranks else "fabric"
    made = collective(CHIP, node, op, np.array(size), np.array(ranks), span=span, local=local)  # type: ignore[arg-type]
    return float(made.link)


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter"])
def test_rails_carry_a_share_of_the_buffer_each(op: str) -> None:
    """With eight ranks in each of many nodes a large buffer leaves by eight adapters: an eighth of one rank's time."""
    alone, eight = seconds(op, 4e9, 64, 1), seconds(op, 4e9, 64, 8)
    assert eight == pytest.approx(alone / 8, rel=0.12)


def test_an_all_to_all_leaves_the_node_by_each_ranks_own_adapter() -> None:
    """Rows for ranks of the same node stay on its links; all others leave by the sender's adapter."""
    sent = 1e9 * (64 - 8) / 64
    rate = CHIP.shape["link.efficiency"] * NODE["nic.bandwidth"] * NODE["nic.count"] / NODE["chips"]
    assert seconds("all_to_all", 1e9, 64, 8) == pytest.approx(sent / rate + NODE["nic.latency"])


@given(st.sampled_from(OPS), st.floats(1e3, 1e11), st.sampled_from([2, 4, 8, 32, 128]), st.sampled_from([1, 2, 4, 8]))
def test_more_is_never_faster(op: str, size: float, nodes: int, local: int) -> None:
    """A larger buffer, a slower adapter and a longer latency never take less time, and no network beats none."""
    ranks = nodes * local
    here = seconds(op, size, ranks, local)
    assert seconds(op, 2 * size, ranks, local) >= here
    assert seconds(op, size, ranks, local, FREE) <= here
    if local > 1:
        assert here >= seconds(op, size, ranks, local, FREE) >= 0


@given(st.sampled_from(OPS[:3]), st.floats(1e8, 1e11), st.sampled_from([2, 4, 8, 32]))
def test_a_network_of_infinite_adapters_is_no_faster_than_the_links_inside(op: str, size: float, nodes: int) -> None:
    """However fast the adapters, the whole buffer still passes the links inside every node."""
    assert seconds(op, size, 8 * nodes, 8, FREE) >= seconds(op, size, 8, 8) * 0.999


def test_small_messages_over_many_nodes_take_trees() -> None:
    """A small all-reduce goes up and down a tree of nodes: its time grows with the logarithm of their number."""
    few, many = seconds("all_reduce", 1e4, 16 * 8, 8), seconds("all_reduce", 1e4, 256 * 8, 8)
    assert many - few == pytest.approx(2 * 4 * NODE["nic.latency"], rel=0.05)


def test_energy_is_told_by_link() -> None:
    """Bytes on the links inside and bytes through the adapters are paid at their own prices."""
    made = collective(CHIP, NODE, "all_gather", np.array(1e9), np.array(64.0), span="fabric", local=8.0)
    assert float(made.e_link) == pytest.approx(1e9 * 63 / 64 * CHIP.link["link.nvlink.energy"])
    assert float(made.e_far) == pytest.approx(1e9 * 63 / 64 / 8 * NODE["nic.energy"])
