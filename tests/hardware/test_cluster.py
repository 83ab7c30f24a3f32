"""Tests for `wattline.hardware.cluster`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import CapacityError, InputError
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster

H100, HGX = catalog.chip("h100"), catalog.node("hgx-h100")


def cluster(nodes: int = 1, **more: object) -> Cluster:
    return Cluster(H100, HGX, nodes, **more)  # type: ignore[arg-type]


def test_power_by_hand() -> None:
    """Two nodes in a rack on a site, worked out with pencil and paper."""
    node = HGX.with_({"host.power": "1 kW", "nic.power": "25 W", "nic.switch": "50 W", "fan.fraction": "0.2"})
    rack = catalog.rack("hgx-h100-rack").with_({"overhead.power": "300 W"})
    site = catalog.site("typical").with_({"pue": "1.5"})
    both = Cluster(H100, node, 2, rack, site)
    # one node: 8 x 500 + 1000 + 8 x 25 = 5200 W, with fans 6240 W
    assert both.node_power(500.0) == pytest.approx(6240.0)
    # two nodes 12480 + switches 2 x 8 x 50 = 800 + rack 300
    assert both.it_power(500.0) == pytest.approx(13580.0)
    assert both.facility_power(500.0) == pytest.approx(20370.0)
    assert both.parts(500.0) == pytest.approx(
        {"chip": 8000.0, "host": 2000.0, "network": 1500.0, "fan": 2080.0, "cooling": 6790.0}
    )


@given(st.floats(0, 700), st.integers(1, 2000))
def test_parts_sum_to_the_whole(power: float, nodes: int) -> None:
    """No watt is lost or counted twice between the parts, the equipment and the facility."""
    many = cluster(nodes, rack=catalog.rack("hgx-h100-rack"), site=catalog.site("average"))
    parts = many.parts(power)
    assert math.fsum(parts.values()) == pytest.approx(many.facility_power(power))
    equipment = math.fsum(v for k, v in parts.items() if k != "cooling")
    assert equipment == pytest.approx(many.it_power(power))
    assert all(v >= 0 for v in parts.values())


@pytest.mark.parametrize(("nodes", "racks"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_the_last_rack_may_be_partly_full(nodes: int, racks: int) -> None:
    """Nodes fill racks of four; what is left takes one more."""
    assert cluster(nodes, rack=catalog.rack("hgx-h100-rack")).racks == racks


def test_without_rack_and_site_only_equipment_counts() -> None:
    """No rack and no site: no overhead, nothing for cooling."""
    alone = cluster(3)
    assert (alone.racks, alone.pue, alone.devices) == (0, 1.0, 24)
    assert alone.parts(700.0)["cooling"] == 0.0


@pytest.mark.parametrize(
    ("chip", "nodes", "ranks", "span"),
    [
        ("h100", 2, range(8), "node"),
        ("h100", 2, range(8, 16), "node"),
        ("h100", 2, range(4, 12), "fabric"),
        ("h100", 2, [0, 8], "fabric"),
        ("h100", 2, [15], "node"),
        ("gb200", 18, range(72), "node"),
        ("gb200", 36, [71, 72], "fabric"),
        ("gb200", 2, range(8), "node"),
        ("l40s", 2, range(8), "node"),
        ("l40s", 2, range(16), "fabric"),
        ("tpu-v5e", 32, range(256), "node"),
        ("tpu-v5e", 33, [0, 263], "fabric"),
    ],
)
def test_a_group_spans_a_domain_or_the_fabric(chip: str, nodes: int, ranks: list[int], span: str) -> None:
    """Ranks that share scale-up links, or at least a host, are one node; others meet on the fabric."""
    sheet = catalog.chip(chip)
    assert Cluster(sheet, catalog.default_node(sheet), nodes).span(ranks) == span


@pytest.mark.parametrize(
    ("ranks", "words"), [([], "at least one"), ([-1], "must lie in 0..7"), ([3, 8], "must lie in 0..7")]
)
def test_ranks_that_do_not_exist_are_refused(ranks: list[int], words: str) -> None:
    """An empty group and a rank out of range raise."""
    with pytest.raises(InputError, match=words):
        cluster().span(ranks)


@pytest.mark.parametrize("nodes", [0, -1, 1.5])
def test_nodes_are_counted_in_whole_numbers(nodes: int) -> None:
    """No cluster of no nodes, or of half a one."""
    with pytest.raises(InputError, match="whole number of 1 or more"):
        cluster(nodes)


def test_sheets_cannot_change_places() -> None:
    """A node where a chip is due raises and names it."""
    with pytest.raises(InputError, match="a chip sheet is due, got the node hgx-h100"):
        Cluster(HGX, HGX)


def test_a_site_that_cannot_feed_the_cluster_says_what_fits() -> None:
    """Too many nodes for the site's limit raise with a number that works, and that number does."""
    site = catalog.site("typical").with_({"power.limit": "100 kW"})
    with pytest.raises(CapacityError, match=r"power.limit is 100 kW, and 64 nodes .* use at most 9 nodes"):
        cluster(64, site=site).check()
    cluster(9, site=site).check()
    cluster(12, site=site).check(chip_power=350.0)


def test_a_rack_that_cannot_feed_its_nodes_says_what_fits() -> None:
    """The same for a rack; fewer nodes than a rackful need only what they need."""
    rack = catalog.rack("hgx-h100-rack").with_({"power.limit": "20 kW"})
    with pytest.raises(CapacityError, match="put at most 2 in a rack"):
        cluster(4, rack=rack).check()
    cluster(2, rack=rack).check()


@pytest.mark.parametrize(
    ("rack", "chip"), [("hgx-h100-rack", "h100"), ("hgx-a100-rack", "a100"), ("nvl72-rack", "gb200")]
)
def test_every_shipped_rack_feeds_its_nodes(rack: str, chip: str) -> None:
    """A full rack with the chips at their limit stays within the rack's limit."""
    sheet = catalog.chip(chip)
    full = Cluster(sheet, catalog.default_node(sheet), int(catalog.rack(rack)["nodes"]), catalog.rack(rack))
    full.check()
