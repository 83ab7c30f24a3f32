"""Tests for `wattline.hardware.redundancy`: after any loss, flows worked out anew keep every limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline import Frontier
from wattline.core.errors import GoalError, InputError
from wattline.hardware.power_tree import PowerTree
from wattline.hardware.redundancy import Group
from wattline.site.allocate import Fleet
from wattline.site.curves import Job


@given(
    st.lists(st.tuples(st.floats(1, 100), st.sampled_from([0.0, 0.02, 0.05, 0.2])), min_size=2, max_size=5), st.data()
)
@settings(max_examples=80, deadline=None)
def test_survivors_deliver_what_was_delivered_whatever_each_loses(
    drawn: list[tuple[float, float]], data: st.DataObject
) -> None:
    """Members of unequal limits and losses, used to the full: any `spare` lost leave nobody above its limit."""
    spare = data.draw(st.integers(1, len(drawn) - 1))
    limit, loss = (np.array(x) for x in zip(*drawn, strict=True))
    names = [f"ups{k}" for k in range(len(limit))]
    rows = [
        {"name": "feed"},
        *({"name": n, "on": "feed", "limit": m, "loss": x} for n, m, x in zip(names, limit, loss, strict=True)),
    ]
    fixed = PowerTree.read(rows, groups=[Group("g", tuple(names), spare)])
    delivered, able = fixed.capacity[1:] / (1 + loss), limit / (1 + loss)
    closest = 0.0
    for lost in itertools.combinations(range(len(limit)), spare):
        left = np.delete(np.arange(len(limit)), lost)
        after = (delivered[left] + delivered[list(lost)].sum() * able[left] / able[left].sum()) * (1 + loss[left])
        assert (after <= limit[left] * (1 + 1e-9)).all()
        closest = max(closest, float((after / limit[left]).max()))
    assert closest == pytest.approx(1.0)  # and not a watt is given away
    free = PowerTree.read(rows, groups=[Group("g", tuple(names), spare, "free")])
    # The most that can be delivered under the sum's bound: through those that lose least.
    most = free.row_limit[-1] / (1 + loss.min())
    assert most <= np.sort(able)[: len(able) - spare].sum() * (1 + 1e-9)


def two_sides(sharing: str = "fixed", loss_b: float = 0.05, limit_b: float = 1e6) -> PowerTree:
    """Two utility sides of 1.2 MW with a UPS each; a third UPS stands by on side B."""
    return PowerTree.read(
        [
            {"name": "feed"}, {"name": "side-a", "on": "feed", "limit": 1.2e6}, {"name": "side-b", "on": "feed", "limit": 1.2e6},
            {"name": "ups-a", "on": "side-a", "limit": 1e6}, {"name": "ups-b", "on": "side-b", "limit": limit_b, "loss": loss_b},
        ],
        groups=[Group("pair", ("ups-a", "ups-b"), 1, sharing)],
    )  # fmt: skip


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("sharing", ["fixed", "catcher"])
def test_dual_corded_load_over_two_parents_survives_the_loss_of_either(loss: float, sharing: str) -> None:
    """Jobs on both sides; whichever UPS is lost, its load on the other keeps the limits of all above it."""
    tree = two_sides(sharing, loss)
    step = Frontier.of([1.0, 1.2, 2.0, 5.0], [9e5, 8e5, 7e5, 6.9e5], waiting_power=1e4)
    fleet = Fleet(tree, [Job("a", step, "ups-a", paused=0.0), Job("b", step, "ups-b", paused=0.0)])
    plan = fleet.most_work()
    assert plan.gap < 1e-9
    a, b = plan.power
    if sharing == "fixed":
        assert a + b <= 1e6 * (1 + 1e-9)  # B is lost: A carries both
    assert (a + b) * (1 + loss) <= 1e6 * (1 + 1e-9)  # A is lost: B carries both, with its own loss
    assert max(a + b, (a + b) * (1 + loss)) == pytest.approx(1e6)
    assert any("without" in name for name, _ in plan.binding())
    less = fleet.least_power(0.5 * plan.value)
    assert less.value >= 0.5 * plan.value * (1 - 1e-9)


def test_a_part_under_maintenance_asks_for_no_spare() -> None:
    """With one of a pair out of service the other may be used in full: there is nobody left to take over."""
    tree = two_sides(limit_b=0.0)
    assert np.isfinite(tree.limit[tree.index("ups-b")])
    step = Frontier.of([1.0], [9e5], waiting_power=1e4)
    assert Fleet(tree, [Job("a", step, "ups-a")]).most_work().power[0] == pytest.approx(9.1e5)
    rows = [
        {"name": "feed"},
        *({"name": n, "on": "feed", "limit": m} for n, m in (("u1", 1e6), ("u2", 1e6), ("u3", 0.0))),
    ]
    assert PowerTree.read(rows, groups=[Group("n+1", ("u1", "u2", "u3"))]).capacity[1:].tolist() == [1e6, 1e6, 0.0]


def test_what_a_loss_would_overload_is_named() -> None:
    """A minimum that only fits while nothing is lost is refused by the name of the loss."""
    step = Frontier.of([1.0], [6e5])
    fleet = Fleet(two_sides(), [Job("a", step, "ups-a"), Job("b", step, "ups-b", minimum=0.0, paused=0.0)])
    assert fleet.most_work().power[1] < 4e5
    with pytest.raises((GoalError, InputError), match=r"ups-. without ups-."):
        Fleet(two_sides(), [Job("a", step, "ups-a"), Job("b", step, "ups-b")]).most_work()
