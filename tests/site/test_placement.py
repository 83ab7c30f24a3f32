"""Tests for `wattline.site.placement`: which job on which chips, against every assignment."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.site.placement import Placement, Pool, Work, compare, place

# New chips: fast, dear to keep awake; old ones: slow, and cheap to keep awake.
NEW = Frontier.of([1.0, 1.5], [500.0, 300.0], waiting_power=200.0)
OLD = Frontier.of([2.0, 3.0], [400.0, 330.0], waiting_power=100.0)
TREE = PowerTree.read(
    [{"name": "feed", "limit": 1e5}, {"name": "a", "on": "feed", "limit": 3e3}, {"name": "b", "on": "feed"}],
    overhead=Overhead(10.0, (0.1,)),
)


def keeps(found: Placement, tree: PowerTree, pools: list[Pool], jobs: list[Work]) -> None:
    """Check nodes, needs and limits."""
    for pool in pools:
        used = sum(
            n * next(job.gang.get(pool.name, 1) for job in jobs if job.name == name)
            for (name, where, _), n in found.gangs.items() if where == pool.name
        )  # fmt: skip
        assert used + found.idle[pool.name] + found.asleep[pool.name] == pool.nodes
    for job in jobs:
        assert found.work[job.name] >= job.need * (1 - 1e-6)
    assert (found.flows <= tree.row_limit * (1 + 1e-6)).all()


@given(
    st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.0, 0.4, 1.1, 1.9, 2.5]), st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from([None, 0.0, 30.0]), st.integers(300, 3000).map(float),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_no_assignment_of_nodes_draws_less(
    new: int, old: int, one: float, two: float, asleep: float | None, limit: float
) -> None:
    """Each node runs one job at one point, idles or sleeps: the plan is the least of all."""
    tree = TREE.with_limit("feed", limit)
    pools = [Pool("new", "a", new, 250.0, asleep), Pool("old", "b", old, 80.0)]
    jobs = [Work("x", {"new": NEW, "old": OLD}, one), Work("y", {"old": OLD}, two)]
    choices = {"new": [("x", k) for k in range(2)] + [("idle", 0)] + ([] if asleep is None else [("asleep", 0)])}
    choices["old"] = [(j, k) for j in "xy" for k in range(2)] + [("idle", 0)]
    best = math.inf
    nodes = ["new"] * new + ["old"] * old
    for assigned in itertools.product(*(choices[pool] for pool in nodes)):
        load, work = {"a": 0.0, "b": 0.0}, {"x": 0.0, "y": 0.0}
        for pool, (what, k) in zip(nodes, assigned, strict=True):
            frontier, p = (NEW, pools[0]) if pool == "new" else (OLD, pools[1])
            if what in work:
                load[p.at] += float(frontier.average_power[k])
                work[what] += 1 / float(frontier.time[k])
            else:
                load[p.at] += p.idle if what == "idle" else float(p.asleep or 0.0)
        flows = tree.flows([0.0, load["a"], load["b"]])
        if (flows <= tree.row_limit).all() and work["x"] >= one - 1e-9 and work["y"] >= two - 1e-9:
            best = min(best, float(flows[0]))
    if math.isinf(best):
        with pytest.raises(GoalError):
            place(tree, pools, jobs)
        return
    found = place(tree, pools, jobs, gap=1e-9)
    keeps(found, tree, pools, jobs)
    assert found.power == pytest.approx(best, rel=1e-6)
    assert found.bound <= best * (1 + 1e-6)


def test_sleep_packs_and_its_absence_spreads() -> None:
    """With deep sleep four fast nodes of twelve do the work; with none, eight slow ones draw less than four fast."""
    # Alone in its frame, a node's energy above waiting falls by a third from fast to slow.
    frontier = Frontier.of([1.0, 2.0], [300.0, 100.0], waiting_power=200.0)
    job = [Work("w", {"p": frontier}, need=4.0)]
    deep, none = Pool("p", "b", 12, 200.0, asleep=5.0), Pool("p", "b", 12, 200.0)
    assert place(TREE, [none], job).gangs == {("w", "p", 1): 8}
    packed = place(TREE, [deep], [Work("w", {"p": Frontier.of([1.0, 2.0], [300.0, 250.0], waiting_power=200.0)}, 4.0)])
    assert packed.gangs == {("w", "p", 0): 4}
    assert packed.asleep == {"p": 8}
    three = compare(TREE, [deep], job)
    assert three["best"].power <= min(three["spread"].power, three["packed"].power) + 1e-6


def test_sleepers_that_wake_too_late_do_not_count_for_a_burst() -> None:
    """Half as much again within ten seconds: idle nodes are kept where waking takes a minute, none where it takes five."""
    job = [Work("w", {"p": Frontier.of([1.0], [300.0], waiting_power=200.0)}, need=4.0, burst=0.5, within=10.0)]
    late = place(TREE, [Pool("p", "b", 12, 200.0, 5.0, wake=60.0)], job)
    soon = place(TREE, [Pool("p", "b", 12, 200.0, 5.0, wake=5.0)], job)
    assert (late.idle["p"], late.asleep["p"]) == (2, 6)
    assert (soon.idle["p"], soon.asleep["p"]) == (0, 8)
    with pytest.raises(GoalError, match=r"job w needs 6 a second with its burst.* do 5;"):
        place(TREE, [Pool("p", "b", 5, 200.0, 5.0)], job)


def test_jobs_go_to_the_chips_that_do_most_with_a_watt() -> None:
    """Under a tight feed the job goes where its energy per unit is least; with power to spare to the fast chips too."""
    pools = [Pool("new", "b", 4, 200.0, 0.0), Pool("old", "b", 8, 100.0, 0.0)]
    jobs = [Work("w", {"new": NEW, "old": OLD})]
    tight = place(TREE.with_limit("feed", 900.0), pools, jobs, most_work=True)
    assert {pool for _, pool, _ in tight.gangs} == {"new"}
    ample = place(TREE, pools, jobs, most_work=True)
    assert {pool for _, pool, _ in ample.gangs} == {"new", "old"}
    assert ample.work["w"] == pytest.approx(4 + 4)
    enough = place(TREE, pools, [Work("w", {"new": NEW, "old": OLD}, most=2.0)], most_work=True)
    assert enough.value == pytest.approx(2.0)


def test_gangs_take_their_nodes_whole() -> None:
    """A replica of four nodes does not run on the three that are left."""
    found = place(TREE, [Pool("p", "b", 7, 10.0)], [Work("w", {"p": NEW}, gang={"p": 4})], most_work=True)
    assert found.gangs == {("w", "p", 0): 1}
    assert found.idle == {"p": 3}


def test_what_cannot_be_is_refused() -> None:
    """Pools that draw more asleep than idle, unknown pools, limits below what sleeping nodes draw."""
    with pytest.raises(InputError, match="sleeping node"):
        Pool("p", "b", 1, 10.0, 20.0)
    with pytest.raises(InputError, match="which is no pool"):
        place(TREE, [Pool("p", "b", 1, 10.0)], [Work("w", {"q": NEW})])
    with pytest.raises(GoalError, match="a may take 3 kW and its nodes draw 4 kW with nothing running"):
        place(TREE, [Pool("p", "a", 4, 1e3)], [Work("w", {"p": Frontier.of([1.0], [300.0], waiting_power=1e3)})])
