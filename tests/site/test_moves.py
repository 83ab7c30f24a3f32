"""Tests for `wattline.site.moves`: who gives what in an event, and what moves to other hours."""

from __future__ import annotations

import numpy as np
import pytest

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task
from wattline.site.moves import Event, given, moved

HOUR = 3600.0
TREE = PowerTree.read([{"name": "feed", "limit": 1e7}, {"name": "row", "on": "feed"}])
STEP = Frontier.of([1.0, 2.0], [9e5, 8e5], waiting_power=1e5)


def test_each_job_gives_as_the_event_asks_and_the_sum_is_the_site_s() -> None:
    """One pauses, one slows down to its floor, one keeps on and is not named; in watts that add up."""
    limits = {"feed": np.array([1e7, 1.65e6, 1e7, 1e7])}
    tasks = [
        Task(Job("batch", STEP, "row", paused=1e5), due=2 * HOUR),
        Task(Job("train", STEP, "feed", minimum=0.5)),
        Task(Job("chat", Frontier.of([1.0], [9e5], waiting_power=1e5), "feed", minimum=1.0)),
    ]
    plan = Horizon(TREE, tasks, Conditions(np.arange(5) * HOUR, limits=limits)).plan("work")
    found = {one.job: one for one in given(plan, Event("feed", HOUR, 2 * HOUR, 1.65e6))}
    assert set(found) == {"batch", "train"} or set(found) == {"train"}
    assert sum(one.before - one.during for one in found.values()) == pytest.approx(plan.feed[0] - plan.feed[1])
    assert found["train"].how == "slows down"


def test_a_part_without_power_is_told_so() -> None:
    """A job on it is off, not paused."""
    tasks = [Task(Job("batch", STEP, "row", paused=1e5), due=2 * HOUR), Task(Job("chat", STEP, "feed"))]
    limits = {"row": np.array([1e7, 0.0, 1e7, 1e7])}
    plan = Horizon(TREE, tasks, Conditions(np.arange(5) * HOUR, limits=limits)).plan("energy")
    how = {one.job: one.how for one in given(plan, Event("row", HOUR, 2 * HOUR, 0.0))}
    assert how.get("batch", "is off") == "is off"
    assert plan.power[0, 1] == 0.0


def test_work_moves_to_the_cheap_hours_and_by_how_much_later() -> None:
    """Two hours of work from the first two, at 90, to the last two, at 10: two hours later each."""
    task = Task(Job("batch", Frontier.of([1.0], [9e5], waiting_power=1e5), "row", paused=0.0), due=2 * HOUR)
    h = Horizon(TREE, [task], Conditions(np.arange(5) * HOUR, price=np.array([90, 90, 10, 10]) / 3.6e9))
    (one,) = moved(h.plan("cost"), h.soonest("cost"))
    assert one.job == "batch"
    assert one.work == pytest.approx(2 * HOUR)
    assert one.later == pytest.approx(2 * HOUR)
    assert one.spans == ((2 * HOUR, 4 * HOUR),)
    assert moved(h.plan("cost"), h.plan("cost")) == []
