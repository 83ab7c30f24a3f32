"""Tests for `wattline.site.traces` and `replay`: rows of each form, and days replayed second by second beside."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import GoalError, InputError
from wattline.show.cli import main as cli
from wattline.site.replay import CONTROLLERS, Table, play
from wattline.site.traces import Arrival, read

FORMS = {
    "sacct": "JobID|User|Partition|Submit|Start|End|AllocTRES|NNodes\n"
    "1|ann|a100|2026-03-01T00:00:00|2026-03-01T00:01:00|2026-03-01T01:01:00|billing=8,cpu=64,gres/gpu=8,node=1|1\n"
    "1.batch|ann|a100|2026-03-01T00:00:00|2026-03-01T00:01:00|2026-03-01T01:01:00|gres/gpu=8|1\n"
    "2|bob|a100|2026-03-01T00:10:00|Unknown|Unknown||0\n",
    "swf": "; UnixStartTime: 1772323200\n1 0 60 3600 8 -1 -1 8 7200 -1 1 3 1 -1 2 -1 -1 -1\n"
    "2 600 -1 -1 -1 -1 -1 8 7200 -1 5 4 1 -1 2 -1 -1 -1\n",
    "alibaba": "j1,worker,2.0,Terminated,1772323260,1772326860,600,29,400.0,V100\nj2,ps,1.0,Failed,1772323200,,600,29,,MISC\n",
    "philly": json.dumps([
        {"status": "Pass", "vc": "v1", "jobid": "app_1", "user": "ann", "submitted_time": "2026-03-01 00:00:00",
         "attempts": [{"start_time": "2026-03-01 00:01:00", "end_time": "2026-03-01 01:01:00",
                       "detail": [{"ip": "m1", "gpus": ["gpu0", "gpu1", "gpu2", "gpu3"]}, {"ip": "m2", "gpus": ["gpu0"] * 4}]}]},
        {"status": "Killed", "vc": "v1", "jobid": "app_2", "user": "bob", "submitted_time": "2026-03-01 00:00:00",
         "attempts": [{"start_time": "2026-03-01 00:01:00", "end_time": None, "detail": []}]},
    ]),
    "kubernetes": json.dumps({"items": [
        {"metadata": {"name": "p", "namespace": "ml", "creationTimestamp": "2026-03-01T00:00:00Z", "labels": {"user": "ann"}},
         "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}]},
         "status": {"startTime": "2026-03-01T00:01:00Z",
                    "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-03-01T01:01:00Z"}}}]}},
        {"metadata": {"name": "q", "namespace": "ml"}, "spec": {"containers": [{}]}, "status": {}},
    ]}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_job(form: str, tmp_path: Path) -> None:
    """Eight chips for an hour from a minute after midnight; the row that never ran is counted, not kept."""
    path = tmp_path / "trace"
    path.write_text(FORMS[form])
    trace = read(form, path)
    (job,) = trace.jobs
    assert (job.chips, job.lasts, job.start) == (8.0, 3600.0, 1772323260.0)
    assert trace.left_out == 1
    path.write_text("a b c\n1 2 3\n")
    with pytest.raises(InputError, match=r"is not a trace of the form|none of its"):
        read(form, path)


SPEED = np.array([1.0, 0.8, 0.5])
TABLES = {
    "a": Table(SPEED, np.array([700.0, 480.0, 300.0]), 70.0),
    "b": Table(SPEED, np.array([400.0, 300.0, 180.0]), 40.0),
}


@st.composite
def days(draw: st.DrawFn) -> list[Arrival]:
    out = []
    for k in range(draw(st.integers(1, 12))):
        submit, lasts = draw(st.integers(0, 60)), draw(st.integers(1, 40))
        out.append(
            Arrival(
                f"j{k}",
                f"u{k % 3}",
                submit,
                submit,
                submit + lasts,
                draw(st.integers(1, 4)),
                draw(st.sampled_from("ab")),
            )
        )
    return sorted(out, key=lambda j: j.submit)


@given(days(), st.sampled_from(CONTROLLERS), st.floats(0.15, 1.0))
@settings(max_examples=80, deadline=None)
def test_a_replay_adds_up_and_keeps_its_cap(day: list[Arrival], how: str, share: float) -> None:
    """Energy of jobs and idle chips is the power's integral; chips are never oversold; caps hold where they can."""
    chips = {"a": 6.0, "b": 6.0}
    idle = 6 * 110.0
    floor, full = 6 * (300 + 180.0), 6 * (700 + 400.0)
    cap = max(idle + 4 * 660, floor) if how == "wait" else floor + share * (full - floor)
    if how == "recorded":
        chips, cap = {"a": 100.0, "b": 100.0}, np.inf
    run = play(day, chips, TABLES, controller=how, cap=cap)
    assert run.energy.sum() + run.idle == pytest.approx(float(run.power @ np.diff(run.time)), rel=1e-9)
    length = run.end - run.start
    full_length = np.array([j.lasts for j in day])
    assert (length >= full_length * (1 - 1e-9)).all()
    assert (run.start >= np.array([j.submit for j in day]) - 1e-9).all()
    if how in ("recorded", "uncapped", "wait"):
        assert length == pytest.approx(full_length)
    if how in ("wait", "uniform", "prices"):
        assert run.over <= 1e-6 * float(run.power @ np.diff(run.time))
    for kind, count in chips.items():
        mine = [(s, e, j.chips) for s, e, j in zip(run.start, run.end, day, strict=True) if j.kind == kind]
        for at in run.time:
            assert sum(c for s, e, c in mine if s <= at < e - 1e-6) <= count + 1e-9
    assert sum(run.by("user").values()) == pytest.approx(run.energy.sum())


def test_a_replay_agrees_with_one_played_in_steps() -> None:
    """Two kinds under a cap, every second worked out by hand: the highest common speed that fits."""
    day = [Arrival("x", "u", 0, 0, 100, 4, "a"), Arrival("y", "v", 30, 30, 90, 6, "b")]
    run = play(day, {"a": 4.0, "b": 6.0}, TABLES, controller="uniform", cap=4000.0)

    @functools.cache
    def fastest(a: float, b: float) -> tuple[float, float]:
        def draw(s: float) -> float:
            return sum(n * TABLES[k].at(s) + (m - n) * TABLES[k].idle for k, n, m in (("a", a, 4), ("b", b, 6)))

        speed = max(s for s in np.linspace(0.5, 1, 501) if draw(s) <= 4000 + 1e-9)
        return speed, draw(speed)

    left, energy, t = {"x": 100.0, "y": 60.0}, 0.0, 0
    while max(left.values()) > 1e-6:
        busy = {"a": 4.0 if left["x"] > 0 else 0.0, "b": 6.0 if t >= 3000 and left["y"] > 0 else 0.0}

        speed, power = fastest(busy["a"], busy["b"])
        for name, kind in (("x", "a"), ("y", "b")):
            if busy[kind]:
                left[name] -= speed * 0.01
        energy += power * 0.01
        t += 1
    assert run.end.max() == pytest.approx(t * 0.01, rel=2e-3)
    assert float(run.power @ np.diff(run.time)) == pytest.approx(energy, rel=2e-3)


def test_prices_do_more_work_than_one_speed_for_all() -> None:
    """Slowing the kind whose watts do least ends the day sooner under the same cap."""
    day = [Arrival(f"{k}{i}", "u", 0, 0, 1000, 1, k) for k in "ab" for i in range(6)]
    chips = {"a": 6.0, "b": 6.0}
    ends = {how: play(day, chips, TABLES, controller=how, cap=5000.0) for how in ("uniform", "prices")}
    assert ends["prices"].over == 0
    assert (ends["prices"].end - ends["prices"].start).mean() < (ends["uniform"].end - ends["uniform"].start).mean()


def test_what_never_fits_is_told() -> None:
    """A job larger than its pool, and a cap below what idles."""
    job = Arrival("x", "u", 0, 0, 10, 8, "a")
    with pytest.raises(InputError, match="job x asks for 8 chips of 'a', and there are 4"):
        play([job], {"a": 4.0}, TABLES)
    with pytest.raises(GoalError, match="below what is drawn with all chips idle"):
        play([job], {"a": 8.0}, TABLES, cap=100.0)
    with pytest.raises(GoalError, match="never fits under the cap"):
        play([job], {"a": 8.0}, TABLES, controller="wait", cap=600.0)


def test_the_command_tells_users_and_writes_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fleet import`: tables and JSON, jobs as CSV, and a scenario that plans."""
    path = tmp_path / "day.txt"
    path.write_text(FORMS["sacct"])
    out, csv = tmp_path / "jobs.toml", tmp_path / "jobs.csv"
    words = ["fleet", "import", "sacct", str(path), "--chip", "a100-sxm-80gb", "--out", str(out), "--csv", str(csv)]
    assert cli.main(words) == 0
    assert "ann" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"]["recorded"]["by_user_j"]["ann"] == pytest.approx(8 * 400 * 3600)
    assert cli.main(["plan", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["horizon"]["plan"]["work"]["1"] == pytest.approx(3600, rel=1e-6)
    assert "ann" in csv.read_text()
    assert cli.main(["fleet", "import", "sacct", str(path), "--speeds", "1,0.5"]) == 2


def test_a_setting_that_turns_between_two_others_beat_is_not_used() -> None:
    """A table with a poor middle is its hull."""
    poor = Table(SPEED, np.array([400.0, 390.0, 180.0]), 40.0).hull()
    assert poor.speed.tolist() == [1.0, 0.5]
    assert poor.at(0.75) == pytest.approx(290.0)
