"""Tests for `wattline.scenario.sweep`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from wattline import InputError, MissingExtraError
from wattline.scenario import sweep
from wattline.scenario.scenario import Scenario

SCENARIO = Scenario("made by hand", {"train.tokens": 2.0})


def evaluate(scenario: Scenario, changes: Any) -> dict[str, Any]:
    """Answer a point without planning: its value times the scenario's, and who answered."""
    if changes["x"] == 13:
        return {**changes, "error": "thirteen"}
    return {**changes, "y": changes["x"] * scenario["train.tokens"], "process": os.getpid()}


POINTS = [{"x": x} for x in range(200)]
WANTED = [{"x": x, "error": "thirteen"} if x == 13 else {"x": x, "y": 2.0 * x} for x in range(200)]


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "process"} for row in rows]


# ---- grid ----------------------------------------------------------------------------------------


def test_grid_is_the_product_with_the_last_axis_fastest():
    """Every combination once, in the order of nested loops, on top of the fixed changes."""
    found = sweep.grid({"a": [1, 2], "b": "xy"}, {"c": 0})
    assert found == [{"c": 0, "a": a, "b": b} for a in (1, 2) for b in "xy"]


def test_grid_without_axes_is_one_point():
    """Fixed changes alone are one point."""
    assert sweep.grid({}, {"c": 0}) == [{"c": 0}]


def test_grid_refuses_a_key_set_and_swept():
    """One of the two would be lost."""
    with pytest.raises(InputError, match="a is both set and swept"):
        sweep.grid({"a": [1]}, {"a": 2})


def test_grid_refuses_an_axis_without_values():
    """An empty axis would make an empty grid."""
    with pytest.raises(InputError, match="gives a no value"):
        sweep.grid({"a": []})


# ---- engines -------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_points():
    """In one process, rows are the points' answers in order, failures among them."""
    assert _plain(sweep.sweep(SCENARIO, POINTS, jobs=1, evaluate=evaluate)) == WANTED


def test_a_small_sweep_starts_no_process():
    """Points that take no time are answered where they are asked for."""
    rows = sweep.sweep(SCENARIO, POINTS[:5], jobs=2, evaluate=evaluate)
    assert {row["process"] for row in rows} == {os.getpid()}


def test_a_pool_gives_the_same_rows(monkeypatch):
    """Other processes give the same rows in the same order, and progress counts every point once."""
    monkeypatch.setattr(sweep, "PATIENCE", 0.0)
    done: list[int] = []
    rows = sweep.sweep(SCENARIO, POINTS, jobs=2, progress=done.append, evaluate=evaluate)
    assert _plain(rows) == WANTED
    assert sum(done) == len(POINTS)
    assert len({row.get("process") for row in rows}) > 2


def test_chunks_hold_every_point_once():
    """Chunks cover the points in order, none longer than the limit."""
    for count in (1, 7, 5000):
        chunks = sweep._chunks([{"x": i} for i in range(count)], 2)
        assert [p["x"] for chunk in chunks for p in chunk] == list(range(count))
        assert max(map(len, chunks)) <= sweep.CHUNK


def test_points_that_share_their_work_are_answered_together():
    """Points that differ in site and goal alone follow one another; rows still come in the asked order."""
    seen = []

    def note(scenario: Scenario, changes: Any) -> dict[str, Any]:
        seen.append((changes["train.tensor"], changes["site.pue"]))
        return dict(changes)

    points = sweep.grid({"site.pue": [1, 2], "train.tensor": [4, 8]})
    assert sweep.sweep(SCENARIO, points, jobs=1, evaluate=note) == points
    assert seen == [(4, 1), (4, 2), (8, 1), (8, 2)]


def test_slow_points_travel_in_small_chunks():
    """Points of a second each are sent one by one."""
    assert {len(c) for c in sweep._chunks([{}] * 1000, 2, each=1.0)} == {1}


def test_quick_points_travel_in_large_chunks():
    """Ten thousand points that cost nothing are sent in few messages, so that a pool's overhead stays small."""
    chunks = sweep._chunks([{"x": i} for i in range(10_000)], 2, each=1e-6)
    assert len(chunks) < 200
    assert [point["x"] for chunk in chunks for point in chunk] == list(range(10_000))


@pytest.mark.parametrize(("more", "text"), [({"engine": "rai"}, "did you mean 'ray'"), ({"jobs": 0}, "jobs must be 1")])
def test_bad_requests_are_sentences(more, text):
    """An unknown engine and a senseless number of jobs are input errors."""
    with pytest.raises(InputError, match=text):
        sweep.sweep(SCENARIO, POINTS, evaluate=evaluate, **more)


def test_a_missing_ray_is_named(monkeypatch):
    """Without Ray the message says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "wattline\[ray\]"'):
        sweep.sweep(SCENARIO, POINTS, engine="ray", evaluate=evaluate)


def test_ray_gives_the_same_rows():
    """A real local Ray cluster gives the same rows in the same order."""
    # Ray leaves sockets and files to the garbage collector and warns of settings to come; a process
    # of its own keeps that, and its threads, away from the other tests.
    code = """
import tests.scenario.test_sweep as t
from wattline.scenario import sweep
done = []
rows = sweep.sweep(t.SCENARIO, t.POINTS, engine="ray", jobs=2, progress=done.append, evaluate=t.evaluate)
assert t._plain(rows) == t.WANTED, rows[:3]
assert sum(done) == len(t.POINTS)
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=180)
    assert found.returncode == 0, found.stderr


def test_workers_run_one_thread_each_and_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller had set, or not set, about threads is there again after workers have started."""
    from wattline.scenario.sweep import _one_thread_each

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with _one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
