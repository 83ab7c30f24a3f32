"""Tests for `wattline.site.answer`: a plan's figures as they are told."""

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.site.allocate import Fleet
from wattline.site.answer import parts
from wattline.site.curves import Job


def test_what_is_left_of_a_full_limit_is_nothing_not_nanowatts() -> None:
    """Headroom that is rounding beside the limit is told as 0; headroom that is there is told."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e6 / 9}, {"name": "row", "on": "feed", "limit": 1e6}])
    work = Frontier.of([1.0, 1.3], [6e4, 5e4], waiting_power=1e3)
    plan = Fleet(tree, [Job("a", work, "row"), Job("b", work, "row")]).most_work()
    left = {row["name"]: row["headroom_w"] for row in parts(plan)}
    assert left["feed"] == 0.0
    assert left["row"] > 8e5
