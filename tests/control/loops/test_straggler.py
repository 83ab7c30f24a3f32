"""Tests for `wattline.control.loops.straggler`: pipelines of real processes that move along their frontiers together."""

from __future__ import annotations

import multiprocessing as mp
import tempfile
from pathlib import Path

import pytest

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.follow import Follower
from wattline.control.loops.straggler import Board, Family, Notice, Pace
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock

from .pipelines import IDLE, STAGES, planned, work_of

ITERATIONS, SLOW, FROM, UPTO = 10, 1.3, 2, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the plan, its family, the family's file)."""
    folder = tmp_path_factory.mktemp("family")
    plan, _ = planned(folder)
    family = Family.of(plan, 15)
    family.write(folder / "family.json")
    return plan, family, folder / "family.json"


def run_stage(pipeline, stage, path, folder, links, boss) -> None:
    """One process: a stage of one of the pipelines; `boss` is told when it has ended, and says when all have."""
    clock = VirtualClock(0.0)
    gpu = SimulatedGpu(f"SIM-{pipeline}-{stage}", clock=clock)
    with (
        tempfile.TemporaryDirectory() as state,
        Keeper([gpu], Path(state), clock=clock) as keeper,
        keeper.take("0") as held,
    ):
        family = Family.read(path)
        board = Board(folder, usual=family.fastest)
        follower = Follower(family.entries[0].plan.stage(stage), held, background=False)
        pace = Pace(family, follower, board, f"p{pipeline}")
        for iteration in range(ITERATIONS):
            entry = pace.turn(iteration)
            slow = SLOW if pipeline == 1 and FROM <= iteration < UPTO else 1.0
            for step in follower.program.steps:
                _, what, microbatch = step.key
                source = stage - 1 if what == "forward" else stage + 1
                if (source, stage) in links:
                    clock.now = max(clock.now, links[source, stage][0].recv())
                follower.before(what, microbatch)
                compute, memory = work_of(stage, what)
                gpu.work(compute * slow, memory * slow, sleep=clock.advance)
                target = stage + 1 if what == "forward" else stage - 1
                if (stage, target) in links:
                    links[stage, target][1].send(clock.now)
            boss.send((clock.now, entry.time))
            clock.now = max(clock.now, boss.recv())
            boss.send(gpu.energy())
        follower.close()


def play(path: Path, folder: Path, told: bool):
    """Two pipelines side by side; per iteration: seconds, joules of each pipeline, times of the plans they followed."""
    context, board = mp.get_context("fork"), Board(folder, usual=Family.read(path).fastest)
    bosses, processes = {}, []
    for pipeline in range(2):
        links = {pair: context.Pipe(duplex=False) for s in range(len(STAGES) - 1) for pair in ((s, s + 1), (s + 1, s))}
        for stage in range(len(STAGES)):
            bosses[pipeline, stage], other = context.Pipe()
            processes.append(context.Process(target=run_stage, args=(pipeline, stage, path, folder, links, other)))
            processes[-1].start()
    began, rows, spent = 0.0, [], dict.fromkeys(bosses, 0.0)
    for iteration in range(ITERATIONS):
        ends = {key: boss.recv() for key, boss in bosses.items()}
        plans = [{ends[p, s][1] for s in range(len(STAGES))} for p in range(2)]
        for pipeline in range(2):
            measured = max(ends[pipeline, s][0] for s in range(len(STAGES))) - began
            if told:
                board.post(f"p{pipeline}", measured / max(plans[pipeline]))
        if told:
            board.decide(iteration, Family.read(path).fastest)
        end = max(row[0] for row in ends.values())
        for boss in bosses.values():
            boss.send(end)
        joules = [0.0, 0.0]
        for (pipeline, stage), boss in bosses.items():
            total = boss.recv()
            joules[pipeline] += total - spent[pipeline, stage]
            spent[pipeline, stage] = total
        rows.append((end - began, joules, plans))
        began = end
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return rows


def test_pipelines_move_to_a_straggler_and_back(made, tmp_path):
    """Two pipelines of three processes: beside a slow one the other ends just in time with less energy, and returns after."""
    plan, family, path = made
    told, untold = play(path, tmp_path / "a", True), play(path, tmp_path / "b", False)
    for _, _, plans in told:
        assert all(len(p) == 1 for p in plans)  # all stages of a pipeline follow one plan at any time
    late = SLOW * family.fastest
    for k in (4, 5):  # slow from 2 on, measured after 2, noticed for 4
        assert told[k][0] == pytest.approx(late, rel=1e-9)
        assert told[k][0] == pytest.approx(untold[k][0], rel=1e-9)
        saved = untold[k][1][0] - told[k][1][0]
        assert saved > 0.1 * untold[k][1][0]
        # What the least-energy plan by then takes, the bound included.
        assert told[k][1][0] == pytest.approx(
            family.by(late).energy + IDLE * len(STAGES) * (late - family.by(late).time), rel=1e-9
        )
        assert told[k][1][0] >= plan.at(late).energy * (1 - 1e-9)
    assert told[4][2][1] == {family.fastest}  # the straggler itself runs as fast as it can
    assert told[8][0] == pytest.approx(family.fastest, rel=1e-9)
    assert told[9] == told[8] or told[9][0] == pytest.approx(told[8][0])


def test_a_pipeline_that_slowed_down_is_not_taken_for_slow(made, tmp_path):
    """Lags are of the plan that was followed; so nobody waits for one who waits for another."""
    _, family, _ = made
    board = Board(tmp_path, usual=family.fastest)
    board.post("a", 1.0)
    board.post("b", 1.25)
    notice = board.decide(7, family.fastest)
    assert notice is not None
    assert (notice.begin, notice.seconds) == (9, pytest.approx(1.25 * family.fastest))
    assert board.at(8).seconds == family.fastest
    assert board.at(9).seconds == notice.seconds
    board.post("a", 1.0)  # it takes 1.25 times as long, as its plan says
    assert board.decide(9, family.fastest) is None
    board.post("b", 1.004)  # noise is no straggler
    back = board.decide(10, family.fastest)
    assert back is not None
    assert back.seconds == family.fastest
    assert board.at(11).seconds == notice.seconds
    assert board.at(12).seconds == family.fastest


def test_a_family_holds_what_pays_and_reads_back(made):
    """Entries fall in energy above waiting as they grow in time; what is read is what was written."""
    plan, family, path = made
    times = [e.time for e in family.entries]
    above = [e.energy - family.power * e.time for e in family.entries]
    assert times == sorted(times)
    assert above == sorted(above, reverse=True)
    assert Family.read(path) == Family.read(path)
    again = Family.read(path)
    assert [(e.time, e.energy) for e in again.entries] == [(e.time, e.energy) for e in family.entries]
    assert again.power == family.power == plan.job.power
    assert again.entries[3].plan.stage(1) == family.entries[3].plan.stage(1)
    assert family.by(0.5 * family.fastest) is family.entries[0]
    assert family.by(100.0) is family.entries[-1]


def test_the_command_writes_a_family(made, capsys):
    """`wattline pipeline --family FILE` stores plans at every one of --points deadlines."""
    from wattline.show.cli.main import main

    _, family, path = made
    out = path.with_name("written.json")
    words = ["pipeline", str(path.with_name("profile.csv")), "--stages", "3", "--microbatches", "6"]
    assert main([*words, "--waiting-power", "100 W", "--points", "15", "--family", str(out)]) == 0
    capsys.readouterr()
    found = Family.read(out)
    assert [e.time for e in found.entries] == pytest.approx([e.time for e in family.entries])


def test_what_cannot_be_used_is_refused(made, tmp_path):
    """Names that are no names, lags that are none, files that are none."""
    _, family, _ = made
    board = Board(tmp_path / "board", 1.0)
    for name, lag, words in (
        ("../x", 1.0, "name is letters"),
        ("", 1.0, "name is letters"),
        ("a", 0.0, "a lag is"),
        ("a", float("inf"), "a lag is"),
    ):
        with pytest.raises(InputError, match=words):
            board.post(name, lag)
    with pytest.raises(InputError, match="usual time"):
        Board(tmp_path, 0.0)
    with pytest.raises(InputError, match="> 0 s"):
        family.by(0.0)
    with pytest.raises(InputError, match="cannot be read"):
        Family.read(tmp_path / "none.json")
    for text in ("{", "{}", '{"plans": [], "waiting_power_w": 1}', '{"plans": [1], "waiting_power_w": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"no family of plans|has no plans"):
            Family.read(tmp_path / "bad.json")
    (board.folder / "notices.json").parent.mkdir(exist_ok=True)
    (board.folder / "notices.json").write_text("[{")
    (board.folder / "lag-a.json").write_text("nothing")
    assert board.at(3) == Notice(0, 1.0, {})
    assert board.lags() == {}
