"""Tests for `wattline.control.loops.follow`: plans followed by real processes, with and without torch."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattline
from wattline.control.daemon.client import Client
from wattline.control.leases.actuator import ControlError
from wattline.control.loops.follow import Follower, Plan, Program, Step, attach, play
from wattline.core.errors import InputError
from wattline.training.schedule import schedule

from ..daemon.serve import serving
from . import pipelines


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, plan, chosen, file) of a pipeline of three stages."""
    folder = tmp_path_factory.mktemp("plan")
    plan, chosen = pipelines.planned(folder)
    return folder, plan, chosen, pipelines.written(folder, plan, chosen)


def test_processes_that_follow_take_what_was_planned(made):
    """Three processes, one device each: iteration time and joules are the plan's, to rounding; clocks are freed after."""
    _, plan, chosen, path = made
    found = pipelines.run(path)
    end = max(row[0] for row in found.values())
    joules = sum(row[1] + pipelines.IDLE * (end - row[0]) for row in found.values())
    assert end == pytest.approx(chosen.time, rel=1e-9)
    assert joules == pytest.approx(chosen.energy, rel=1e-9)
    for stage, (_, _, seen, changes, _) in found.items():
        program = Plan.read(path).stage(stage)
        assert [key for key, _ in seen] == [step.key for step in program.steps]
        assert [speed for _, speed in seen] == [step.clock for step in program.steps]
        assert changes <= program.changes + 1
    free = pipelines.run(path, follow=False)
    assert max(row[0] for row in free.values()) == pytest.approx(plan.baseline.time, rel=1e-9)
    assert joules < sum(row[1] for row in free.values())


def test_a_slow_device_skips_what_it_has_no_time_for(made):
    """With a latency longer than a computation there are fewer changes, and no computation is slower than planned."""
    _, _, chosen, path = made
    quick, slow = pipelines.run(path, iterations=2), pipelines.run(path, iterations=2, latency=0.5)
    assert sum(row[3] for row in slow.values()) < sum(row[3] for row in quick.values())
    for stage in slow:
        for (_, a), (_, b) in zip(quick[stage][2], slow[stage][2], strict=True):
            assert b >= a
    assert max(row[0] for row in slow.values()) <= 2 * chosen.time * (1 + 1e-9)


programs = st.lists(
    st.tuples(st.sampled_from([1.0e9, 1.2e9, 1.4e9, 1.6e9]), st.floats(1e-3, 1.0)), min_size=1, max_size=25
)


@given(programs, st.floats(0.0, 5.0))
def test_joining_never_slows_and_leaves_no_short_run(rows, latency):
    """Law of joining: every clock at least the planned one, and each run as long as the latency, or there is one run."""
    program = Program(0, tuple(Step((0, "forward", k), 0.0, s, c) for k, (c, s) in enumerate(rows)), {})
    joined = program.joined(latency)
    assert [s.key for s in joined.steps] == [s.key for s in program.steps]
    assert all(b.clock >= a.clock for a, b in zip(program.steps, joined.steps, strict=True))
    runs: list[list[Step]] = []
    for step in joined.steps:
        if runs and runs[-1][-1].clock == step.clock:
            runs[-1].append(step)
        else:
            runs.append([step])
    assert len(runs) == 1 or all(math.fsum(s.seconds for s in run) >= latency * (1 - 1e-12) for run in runs)
    assert joined.joined(latency) == joined
    assert program.joined(0.0) == program


def test_csv_and_json_are_one_plan(made, tmp_path):
    """A plan written as CSV is followed as the one in JSON; only the schedule's name is not in it."""
    _, plan, chosen, path = made
    from wattline.show.report.plans import write_plan

    write_plan(plan.rows(chosen), {}, tmp_path / "plan.csv")
    a, b = Plan.read(path), Plan.read(tmp_path / "plan.csv")
    assert [a.stage(s).steps for s in range(3)] == [b.stage(s).steps for s in range(3)]
    assert dict(a.facts) == {**b.facts, "schedule": "1f1b"}


def test_a_plan_for_another_job_is_refused_and_nothing_is_set(made, keeper, gpu):
    """Other microbatches, another schedule, a stage it does not have, clocks the device does not have."""
    _, _, _, path = made
    plan = Plan.read(path)
    with keeper.take("0") as held:
        for job in ({"microbatches": 8}, {"schedule": "gpipe"}, {"stages": 4}):
            with pytest.raises(ControlError, match="for another job") as caught:
                Follower(plan.stage(0), held, job=job)
            assert caught.value.code == "plan"
        with pytest.raises(ControlError, match="stages 0 to 2, and not 3"):
            plan.stage(3)
        odd = Program(0, (Step((0, "forward", 0), 0.0, 1.0, 5e9),), plan.facts)
        with pytest.raises(ControlError, match="the plan asks for clock 5 GHz"):
            Follower(odd, held)
        with pytest.raises(InputError, match="finite and at least 0"):
            Follower(plan.stage(0), held, latency=-1.0)
    assert gpu.writes == 0


def test_another_schedule_at_run_time_frees_the_clock(made, keeper, gpu):
    """A computation that the plan does not have: an error that says so, and the device is at its own clock."""
    program = Plan.read(made[3]).stage(0)
    with keeper.take("0") as held:
        follower = Follower(program, held, background=False)
        follower.before("forward", 0)
        assert gpu.read("clock") is not None
        with pytest.raises(ControlError, match="has no backward_weight of microbatch 0"):
            follower.before("backward_weight", 0)
        assert gpu.read("clock") is None
        follower.before("forward", 1)  # it no longer sets anything
        assert gpu.read("clock") is None


def test_a_lost_device_ends_the_following_and_not_the_training(made, keeper, gpu):
    """The driver fails: a note, and every further computation runs."""
    program = Plan.read(made[3]).stage(0)
    with keeper.take("0") as held, Follower(program, held, background=False) as follower:
        follower.before("forward", 0)
        gpu.fault = "lost"
        for step in program.steps:
            follower.before(step.key[1], step.key[2])
        assert "no longer followed" in follower.notes[0]
        gpu.fault = ""


def test_through_a_daemon_it_is_the_same(made, gpu, tmp_path):
    """A lease of the daemon is followed with as one of this process is; a plan out of range is refused there too."""
    program = Plan.read(made[3]).stage(0)
    seen = []
    with serving([gpu], tmp_path), Client(tmp_path / "daemon.sock") as client, client.take("0") as held:
        with Follower(program, held, background=False) as follower:
            play(program, follower, lambda step: seen.append((step.clock, gpu.read("clock"))))
        assert all(wanted == found for wanted, found in seen)
        assert gpu.read("clock") is None
        odd = Program(0, (Step((0, "forward", 0), 0.0, 1.0, 5e9),), program.facts)
        with pytest.raises(ControlError, match="the plan asks for clock 5 GHz"):
            Follower(odd, held)


def test_changes_in_the_background_end_at_the_latest(made, keeper, gpu):
    """The program never waits for the driver; what is in force in the end is what was asked last."""
    program = Plan.read(made[3]).stage(1)
    gpu.latency = 0.01
    with keeper.take("0") as held:
        follower = Follower(program, held, latency=0.0)
        play(program, follower, lambda _step: None)
        last = program.steps[-1].clock
        follower._queue.put(last)
        thread = follower._thread
        assert thread is not None
        follower.close()
        assert gpu.read("clock") is None
        assert not thread.is_alive()
        assert follower.changes <= len(program.steps) + 2


def test_wrapped_functions_count_their_microbatches(made, keeper, gpu):
    """The plain hook: calls of a wrapped forward are microbatches 0, 1, ... and again from 0."""
    program = Plan.read(made[3]).stage(2)
    clocks = {s.key: s.clock for s in program.steps}
    with keeper.take("0") as held, Follower(program, held, background=False) as follower:
        forward = follower.wrap(lambda x: (x, gpu.read("clock")), "forward", count=6)
        for k in range(8):
            assert forward(k) == (k, clocks[2, "forward", k % 6])
        with follower.running("backward", 0):
            assert gpu.read("clock") == clocks[2, "backward", 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        ("stage,chunk\n0,0\n", "has no instruction"),
        ("stage,chunk,instruction,microbatch,start_s,time_s,clock_hz\n0,0,forward,0,0,1,fast\n", "no number"),
        ("stage,chunk,instruction,microbatch,start_s,time_s,clock_hz\n0,0,forward,0,0,1,-5\n", "out of range"),
    ],
)
def test_files_that_are_no_plans_are_refused(tmp_path, text, words):
    """One sentence that names the file and what is wrong."""
    path = tmp_path / "plan.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        Plan.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        Plan.read(tmp_path / "none.csv")
    for content, why in (("{", "is no plan"), ("[]", "under rows"), ('{"rows": []}', "no rows")):
        path = tmp_path / "plan.json"
        path.write_text(content)
        with pytest.raises(InputError, match=why):
            Plan.read(path)
    row = dict.fromkeys(("stage", "chunk", "microbatch", "start_s"), 0) | {"time_s": 1.0, "clock_hz": 1e9}
    with pytest.raises(InputError, match="its head says stages 3"):
        Plan.of([{**row, "instruction": "forward"}], {"stages": 3})


class Stage:
    """A stage as torch.distributed.pipelining has one, that does nothing."""

    def __init__(self, index: int, count: int) -> None:
        self.stage_index, self.num_stages = index, count

    def forward_one_chunk(self, _index: int) -> None: ...
    def backward_one_chunk(self, _index: int, full_backward: bool = True) -> None: ...
    def backward_weight_one_chunk(self, _index: int) -> None: ...


def torch_schedule(name: str, rank: int, order: dict[int, list[tuple[int, str, int]]]) -> object:
    """A schedule of that class name, with the order it will run."""
    kind = {"forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W"}
    actions = {
        r: [
            SimpleNamespace(stage_index=c, computation_type=SimpleNamespace(value=kind[what]), microbatch_index=m)
            for c, what, m in row
        ]
        for r, row in order.items()
    }
    chunks = sorted({c for c, _, _ in order[rank]})
    count = 1 + max(c for row in order.values() for c, _, _ in row)
    batches = len({m for row in order.values() for _, _, m in row})
    made = type(name, (), {"step": lambda self: None})()
    made._stages, made._n_microbatches, made.pipeline_order = [Stage(c, count) for c in chunks], batches, actions
    return made


def planned(rows: tuple[tuple[tuple[int, str, int], ...], ...], name: str) -> Plan:
    """A plan of a schedule, every computation a second at one clock, as a file has it."""
    told = [
        {"stage": d, "chunk": c, "instruction": what, "microbatch": m, "start_s": k, "time_s": 1, "clock_hz": 1.2e9}
        for d, row in enumerate(rows) for k, (c, what, m) in enumerate(row)
    ]  # fmt: skip
    return Plan.of([{**row, "schedule": name} for row in told])


def test_a_plan_is_followed_only_in_its_own_schedule(keeper):
    """A plan's file carries its schedule: gpipe's is refused in 1F1B, and an order that differs is named."""
    gpipe, vee = schedule("gpipe", 2, 4), schedule("zb-v", 2, 4)
    order = {d: list(row) for d, row in enumerate(gpipe.rows)}
    with keeper.take("0") as held:
        with Follower(planned(gpipe.rows, "gpipe").stage(0), held, background=False) as follower:
            attach(torch_schedule("ScheduleGPipe", 0, order), follower)
            with pytest.raises(ControlError, match=r"schedule 'gpipe' \(here: '1f1b'\)"):
                attach(torch_schedule("Schedule1F1B", 0, order), follower)
        order = {d: list(row) for d, row in enumerate(vee.rows)}
        with Follower(planned(vee.rows, "file order.csv").stage(1), held, background=False) as follower:
            attach(torch_schedule("ScheduleZBVZeroBubble", 1, order), follower)
            order[1][0], order[1][1] = order[1][1], order[1][0]
            with pytest.raises(ControlError, match="orders computation 1 of rank 1 otherwise"):
                attach(torch_schedule("ScheduleZBVZeroBubble", 1, order), follower)


def _torch() -> str:
    """An interpreter that has torch: this one, or the one that WATTLINE_TORCH_PYTHON names."""
    given = os.environ.get("WATTLINE_TORCH_PYTHON", "")
    if given:
        return given
    pytest.importorskip("torch", reason="no torch here (set WATTLINE_TORCH_PYTHON to a Python that has it)")
    return sys.executable


@pytest.mark.parametrize(("name", "ranks"), [("1f1b", 2), ("gpipe", 4), ("interleaved", 2)])
def test_schedules_of_torch_follow_a_plan(tmp_path, name, ranks):
    """`attach` sets the planned clock before every chunk of real stages in processes joined by gloo, and refuses others."""
    python = _torch()
    script = Path(__file__).with_name("torch_pipeline.py")
    env = {**os.environ, "PYTHONPATH": str(Path(wattline.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, str(script), name, str(ranks), str(tmp_path)], capture_output=True, text=True, timeout=240, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said == {"ranks": ranks, "followed": True, "refused": True, "same_loss": True}
