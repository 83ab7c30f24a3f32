"""Tests for `wattline.training.profiled` and `wattline.source.measured.profiled`: a measured frontier answers every goal."""

from __future__ import annotations

import pytest

from wattline.core.errors import GoalError, InputError, ScenarioError
from wattline.frontier.algebra import Frontier
from wattline.frontier.answer import Goal, Rates
from wattline.measure.store.database import Store
from wattline.scenario.scenario import parse, solve
from wattline.source.measured import profiled as measured
from wattline.source.measured.profiled import TAG, Trial
from wattline.training.profiled import plan_profiled

# One execution: (s, J total) at three clocks, waiting 50 W.
TIMES, TOTALS, WAITING = (1.0, 1.2, 2.0), (400.0, 300.0, 290.0), 50.0
CLOCKS = (1.98e9, 1.5e9, 0.9e9)


def frontier():
    above = [e - WAITING * t for t, e in zip(TIMES, TOTALS, strict=True)]
    return Frontier.of(
        TIMES, above, waiting_power=WAITING, knobs=[{"clock_hz": c} for c in CLOCKS], provenance="measured"
    )


def plan(kind, value=0.0, rates=None, **more):
    return plan_profiled(frontier(), (1.0, 400.0), Goal(kind, value), rates or Rates(), name="step", **more)


@pytest.mark.parametrize(
    ("kind", "value", "clock"),
    [
        ("max_slowdown", 0.0, 1.98e9), ("max_slowdown", 0.2, 1.5e9), ("max_slowdown", 5.0, 0.9e9),
        ("deadline", 1.19, 1.98e9), ("least_energy", 1.0, 0.9e9), ("power", 260.0, 1.5e9), ("energy", 295.0, 0.9e9),
        ("carbon", 300.0, 1.5e9), ("cost", 0.03, 1.5e9),
    ],
)  # fmt: skip
def test_every_goal_picks_its_setting(kind, value, clock):
    """Each goal picks the measured setting that serves it best; nothing between settings is invented."""
    answer = plan(kind, value, Rates(price=1e-4, carbon=1.0))
    assert answer.chosen.knobs == ({"clock_hz": clock},)
    at = CLOCKS.index(clock)
    assert answer.chosen.time_s == TIMES[at]
    assert answer.chosen.energy_j == pytest.approx(TOTALS[at])
    assert sum(answer.chosen.breakdown_j.values()) == pytest.approx(TOTALS[at])
    assert answer.provenance == "measured"


def test_times_and_overhead_scale():
    """So many executions take so many times as long; a building's overhead is on top."""
    answer = plan("max_slowdown", 0.2, times=100, pue=1.5)
    assert (answer.chosen.time_s, answer.chosen.energy_j) == pytest.approx((120.0, 45_000.0))
    assert (answer.baseline.time_s, answer.baseline.energy_j) == pytest.approx((100.0, 60_000.0))
    assert answer.chosen.breakdown_j["cooling"] == pytest.approx(15_000.0)
    assert answer.savings["energy"] == pytest.approx(0.25)


def test_a_power_limit_binds():
    """A site's limit rules out settings above it."""
    assert plan("max_slowdown", 1.0, power_limit=260.0).chosen.knobs == ({"clock_hz": 0.9e9},)
    with pytest.raises(GoalError, match=r"within site\.power_limit"):
        plan("max_slowdown", 0.0, power_limit=260.0)


def test_goals_out_of_reach_say_what_was_measured():
    """A goal that no measured setting meets is answered with the nearest one that was."""
    with pytest.raises(GoalError, match=r"the fastest that was measured takes 1 s"):
        plan("deadline", 0.5)
    with pytest.raises(GoalError, match=r"the least that was measured is 145 W"):
        plan("power", 100.0)
    with pytest.raises(ScenarioError, match=r"needs site\.carbon"):
        plan("carbon", 1.0)
    with pytest.raises(ScenarioError, match="no goal for a profile"):
        plan("latency")


@pytest.fixture
def store(tmp_path):
    """A store with a finished profile, one that has no trial, and a run that is none."""
    kept = Store(tmp_path / "runs.db")
    kept.begin("other")
    for name, done in (("empty", False), ("step", True)):
        tags = {
            TAG: name, "knob": "clock", "values": sorted(CLOCKS), "devices": ["GPU-0"], "names": ["H100"],
            "work": ["train"], "waiting_power_w": WAITING, "seed": 0, "waiting_power_from": "idle",
        }  # fmt: skip
        run = kept.begin(name, tags=tags)
        if done:
            rows = [Trial(c, t, e).window() for c, t, e in zip(CLOCKS, TIMES, TOTALS, strict=True) for _ in range(3)]
            kept.add(run, windows=rows)
            kept.end(run, exit_code=0)
    return kept


def test_a_profile_is_read_by_name(store):
    """By name, run or "last"; what is not there is answered with what is."""
    found = measured.read(store, "step")
    assert found == measured.read(store, found.run)
    assert found.done
    assert found.frontier.time.tolist() == list(TIMES)
    assert found.at(1.5e9) == pytest.approx((1.2, 300.0))
    assert found.points().time.tolist() == list(TIMES[::-1])
    with pytest.raises(InputError, match="did you mean 'step'"):
        measured.read(store, "stepp")
    with pytest.raises(InputError, match="holds no trial yet"):
        measured.read(store, "empty")
    with pytest.raises(InputError, match="has no trial at 1"):
        found.at(1.0)


def test_a_scenario_plans_from_a_profile(store, tmp_path):
    """[measured] takes the place of a model: the plan's numbers are the measured ones."""
    text = {"measured": {"profile": "step", "store": "runs.db", "times": 10}, "goal": {"max_slowdown": "25 %"}}
    answer = solve(parse(text, folder=tmp_path))
    assert (answer.chosen.time_s, answer.chosen.energy_j) == pytest.approx((12.0, 3000.0))
    assert answer.chosen.knobs == ({"label": "step", "clock_hz": 1.5e9},)
    assert "as measured while nothing ran" in answer.assumptions[0]
    with pytest.raises(ScenarioError, match="not both"):
        parse({**text, "train": {"tokens": "1T"}})
    with pytest.raises(InputError, match="no profile"):
        solve(parse({"measured": {"profile": "x", "store": "runs.db"}}, folder=tmp_path))
