"""Tests for `wattline.hardware.power_tree`: what flows where, and trees that cannot be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.power_tree import Overhead, PowerTree, uniform
from wattline.hardware.redundancy import Group


def small(**more) -> PowerTree:
    return PowerTree.read(
        [
            {"name": "feed", "limit": 100e3, "standing": 1e3, "loss": 0.02},
            {"name": "ups-a", "on": "feed", "limit": 60e3, "loss": 0.05},
            {"name": "ups-b", "on": "feed", "limit": 60e3, "loss": 0.05},
            {"name": "rack", "on": "ups-a", "limit": 20e3, "standing": 500.0},
        ],
        **more,
    )


def test_inflow_adds_up_with_losses_and_standing_loads() -> None:
    """Every watt at a rack is 1.05 at its UPS and 1.02 times that at the feed."""
    flows = small().flows([0.0, 0.0, 7e3, 10e3])
    assert flows[3] == 10_500.0
    assert flows[1] == pytest.approx(10_500 * 1.05)
    assert flows[0] == pytest.approx((10_500 * 1.05 + 7e3 * 1.05 + 1e3) * 1.02)


@st.composite
def trees(draw: st.DrawFn) -> PowerTree:
    n = draw(st.integers(1, 12))
    order = draw(st.permutations(range(n)))
    parent = np.full(n, -1)
    for k in range(1, n):
        parent[order[k]] = order[draw(st.integers(0, k - 1))]
    watts = st.lists(st.floats(0, 100), min_size=n, max_size=n)
    loss = draw(st.lists(st.sampled_from([0.0, 0.01, 0.1]), min_size=n, max_size=n))
    names = [f"p{k}" for k in range(n)]
    return PowerTree.of(
        names, parent, np.inf, standing=draw(watts), loss=loss, overhead=Overhead(draw(st.floats(0, 50)), (0.2,))
    )


@given(trees(), st.data())
@settings(max_examples=60, deadline=None)
def test_power_is_conserved_at_every_part(tree: PowerTree, data: st.DataObject) -> None:
    """What flows into a part is what it loses, draws and passes on, one load or many at once."""
    load = np.array(data.draw(st.lists(st.floats(0, 1e3), min_size=len(tree), max_size=len(tree))))
    flows = tree.flows(load)
    for v in range(len(tree)):
        passed = load[v] + tree.standing[v] + flows[tree.parent == v].sum()
        own = tree.overhead.fixed if v == tree.root else 0.0
        assert flows[v] == pytest.approx(tree.factor[v] * passed + own, rel=1e-12, abs=1e-9)
    many = tree.flows(np.stack([load, 2 * load]))
    assert many[0] == pytest.approx(flows)
    assert (many[1] - tree.flows(load)) == pytest.approx(flows - tree.flows(0.0), rel=1e-9, abs=1e-6)
    # `up` is the feed's share of a watt anywhere.
    v = data.draw(st.integers(0, len(tree) - 1))
    more = load.copy()
    more[v] += 1.0
    assert tree.flows(more)[tree.root] - flows[tree.root] == pytest.approx(tree.up[v], rel=1e-6)


def test_pue_falls_with_load_and_rises_with_the_outdoor_temperature() -> None:
    """The fixed part weighs less at load; the share is read off a line between temperatures."""
    site = Overhead(fixed=100.0, share=(0.1, 0.3), outdoor=(283.15, 303.15))
    assert site.pue(1000.0, 293.15) == pytest.approx(1.3)
    assert site.pue(2000.0, 293.15) == pytest.approx(1.25)
    assert site.pue(1000.0, 350.0) == pytest.approx(1.4)
    tree = PowerTree.read([{"name": "feed"}], overhead=site, outdoor=293.15)
    assert tree.pue([1000.0]) == pytest.approx(1.3)
    assert tree.with_outdoor(303.15).pue([1000.0]) == pytest.approx(1.4)
    with pytest.raises(InputError, match="outdoor temperature"):
        PowerTree.read([{"name": "feed"}], overhead=site)


@given(st.lists(st.floats(1, 100), min_size=2, max_size=5), st.data())
@settings(max_examples=60, deadline=None)
def test_what_survives_carries_the_load_of_what_is_lost(limits: list[float], data: st.DataObject) -> None:
    """With members used up to their derated limits, any `spare` lost leave nobody above its limit."""
    spare = data.draw(st.integers(1, len(limits) - 1))
    names = [f"ups{k}" for k in range(len(limits))]
    rows = [{"name": "feed"}, *({"name": n, "on": "feed", "limit": x} for n, x in zip(names, limits, strict=True))]
    tree = PowerTree.read(rows, groups=[Group("n+1", tuple(names), spare)])
    used = tree.capacity[1:]
    whole = np.array(limits)
    for lost in itertools.combinations(range(len(limits)), spare):
        left = np.delete(np.arange(len(limits)), lost)
        moved = used[list(lost)].sum() * whole[left] / whole[left].sum()
        assert (used[left] + moved <= whole[left] * (1 + 1e-9)).all()
    pooled = PowerTree.read(rows, groups=[Group("pool", tuple(names), spare, "free")])
    assert pooled.row_limit[-1] == pytest.approx(sum(sorted(limits)[: len(limits) - spare]))
    assert (pooled.capacity[1:] == whole).all()


def test_a_pool_bounds_the_sum_of_its_members() -> None:
    """Two UPS of 60 kW, either of which may be lost: together they carry 60 kW."""
    tree = small(groups=[Group("ups", ("ups-a", "ups-b"), sharing="free")])
    assert tree.row_names[-1] == "ups"
    flows = tree.row_flows([0, 0, 7e3, 10e3])
    assert flows[-1] == pytest.approx(flows[1] + flows[2])
    assert tree.headroom([0, 0, 7e3, 10e3])[-1] == pytest.approx(60e3 - flows[-1])
    assert tree.row_parent.tolist() == [-1, 4, 4, 1, 0]


def test_a_cycle_is_named() -> None:
    """A ring is shown link by link."""
    with pytest.raises(InputError, match=r"no cycle.*a -> c -> b -> a|no cycle.*b -> a -> c -> b|no cycle.*c -> b"):
        PowerTree.read([{"name": "f"}, {"name": "a", "on": "c"}, {"name": "b", "on": "a"}, {"name": "c", "on": "b"}])
    with pytest.raises(InputError, match="feed -> feed"):
        PowerTree.read([{"name": "feed", "on": "feed"}])


def test_an_orphan_is_named_with_what_it_may_have_meant() -> None:
    """A part that hangs on nothing known says the nearest name."""
    with pytest.raises(InputError, match=r"rack hangs on 'row-l'.*did you mean 'row-1'"):
        PowerTree.read([{"name": "feed"}, {"name": "row-1", "on": "feed"}, {"name": "rack", "on": "row-l"}])
    with pytest.raises(InputError, match="one feed, but 2 parts hang on nothing: a, b"):
        PowerTree.read([{"name": "a"}, {"name": "b"}])


def test_limits_below_idle_power_say_which_and_by_how_much() -> None:
    """The lowest part in the tree is named, with the watts that are too many."""
    with pytest.raises(InputError, match=r"rack may take 20 kW but draws 25\.5 kW with everything idle, 5\.5 kW"):
        small().check_idle([0, 0, 0, 25e3])
    with pytest.raises(InputError, match=r"row may take 1 kW but draws 2 kW"):
        PowerTree.read([{"name": "feed"}, {"name": "row", "on": "feed", "limit": 1e3, "standing": 2e3}])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"limit": -1.0}, "limit of row must be 0 or more"),
        ({"loss": math.nan}, "loss of row must be 0 or more"),
        ({"standing": math.inf}, "standing of row must be 0 or more"),
        ({"name": "feed"}, "'feed' stands twice"),
    ],
)
def test_numbers_that_cannot_be_are_refused(change: dict, words: str) -> None:
    """Negative, infinite or repeated: each is said with its part."""
    with pytest.raises(InputError, match=words):
        PowerTree.read([{"name": "feed"}, {"name": "row", "on": "feed", **change}])


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (Group("g", ("ups-a", "rack")), "siblings"),
        (Group("g", ("ups-a", "ups-b"), 2), "spare must be 1 to 1"),
        (Group("g", ("ups-a", "ups-c")), "did you mean"),
    ],
)
def test_redundancy_groups_are_checked(group: Group, words: str) -> None:
    """Members are siblings, known, and more than may be lost."""
    with pytest.raises(InputError, match=words):
        small(groups=[group])


def test_a_regular_tree_counts_out() -> None:
    """Four rows of ten racks of two nodes under one feed."""
    tree = uniform([("feed", 1, 1e6), ("row", 4, 3e5), ("rack", 10, 4e4), ("node", 2, 1e4)], loss={"row": 0.1})
    assert (len(tree), tree.depth) == (1 + 4 + 40 + 80, 4)
    assert tree.names[tree.parent[tree.index("node-3.9.1")]] == "rack-3.9"
    assert tree.flows(np.where(tree.level == 3, 1.0, 0.0))[0] == pytest.approx(88.0)
