"""Tests for `wattline.training.schedule`: schedules as data, and what must wait for what."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError, ScenarioError
from wattline.frontier.graph import Dag
from wattline.frontier.path import longest_path
from wattline.training.schedule import Graph, graph, schedule
from wattline.training.torch_order import read_order
from wattline.workload.memory import in_flight
from wattline.workload.parallel import Parallel

NAMES = ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-2p", "zb-v", "dualpipe", "dualpipe-v")
UNIT = {"forward": 1.0, "backward": 2.0, "backward_input": 1.0, "backward_weight": 1.0, "transfer": 0.0}


def makespan(g: Graph, seconds: dict[str, float], share: float = 1.0) -> float:
    duration = np.array([share * seconds[g.kinds[k][1]] for k in g.kind])
    return longest_path(Dag(g.kind, g.edges), duration)


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_every_schedule_runs_every_computation_once(name: str, half: int, rounds: int, virtual: int) -> None:
    """Each chunk sees each of its microbatches forward and backward exactly once, on one device."""
    stages = 2 * half
    microbatches = stages * (rounds + 1)
    plan = schedule(name, stages, microbatches, virtual if name == "interleaved" else 1)
    seen = [task for row in plan.rows for task in row]
    assert len(seen) == len(set(seen))
    each = microbatches // 2 if name == "dualpipe" else microbatches
    for chunk in range(plan.chunks):
        holders = {d for d, row in enumerate(plan.rows) for c, _, _ in row if c == chunk}
        assert len(holders) == 1
        for what in {"forward", *(w for c, w, _ in seen if c == chunk)}:
            assert len([1 for c, w, _ in seen if c == chunk and w == what]) == each


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(2, 4))
def test_no_schedule_waits_for_itself(name: str, half: int, rounds: int) -> None:
    """Every schedule is free of cycles, transfers included (a Dag refuses a cycle)."""
    stages = 2 * half
    for transfers in (False, True):
        g = graph(schedule(name, stages, stages * rounds, 2 if name == "interleaved" else 1), transfers=transfers)
        Dag(g.kind, g.edges)


@given(st.integers(1, 8), st.integers(1, 24))
def test_1f1b_and_gpipe_take_microbatches_plus_stages_minus_one(stages: int, microbatches: int) -> None:
    """With equal stages one pass is (M + P - 1)(F + B) (Narayanan et al. 2021, section 2.2)."""
    for name in ("gpipe", "1f1b"):
        g = graph(schedule(name, stages, microbatches))
        assert makespan(g, UNIT) == pytest.approx(3.0 * (microbatches + stages - 1))


@pytest.mark.parametrize(("stages", "microbatches", "virtual"), [(2, 4, 2), (4, 8, 2), (4, 12, 3), (8, 16, 2)])
def test_interleaving_divides_the_bubble_by_the_chunks(stages: int, microbatches: int, virtual: int) -> None:
    """The bubble is (P - 1)(F + B) / V (Narayanan et al. 2021, section 2.2.2)."""
    g = graph(schedule("interleaved", stages, microbatches, virtual))
    bubble = makespan(g, UNIT, 1 / virtual) - 3.0 * microbatches
    assert bubble == pytest.approx(3.0 * (stages - 1) / virtual)


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 8), (8, 16), (8, 32)])
def test_zero_bubble_h1_keeps_a_third_of_the_bubble(stages: int, microbatches: int) -> None:
    """With F = B = W the bubble is (P - 1)(F + B - W) (Qi et al. 2024, table 2)."""
    g = graph(schedule("zb-h1", stages, microbatches))
    assert makespan(g, UNIT) - 3.0 * microbatches == pytest.approx(stages - 1.0)


@pytest.mark.parametrize(("stages", "microbatches"), [(4, 8), (8, 16), (8, 32)])
def test_dualpipe_bubble_is_smallest(stages: int, microbatches: int) -> None:
    """The bubble is at most (P/2 - 1)(FB + B - 3W) with FB = 3, B = 2, W = 1 (DeepSeek-V3 report, table 2)."""
    g = graph(schedule("dualpipe", stages, microbatches))
    bubble = makespan(g, UNIT) - 3.0 * microbatches
    assert 0 < bubble <= 2.0 * (stages / 2 - 1)
    assert bubble < stages - 1


def test_a_transfer_delays_the_stage_that_waits_for_it() -> None:
    """With transfers of one second, a pipeline of two stages and one microbatch takes two seconds more."""
    g = graph(schedule("1f1b", 2, 1), transfers=True)
    assert makespan(g, {**UNIT, "transfer": 1.0}) == pytest.approx(makespan(g, UNIT) + 2.0)


def test_impossible_schedules_say_what_would_work() -> None:
    """Each rule that is broken is named with a value that keeps it."""
    with pytest.raises(ScenarioError, match="6 microbatches and 4 stages; try 8"):
        schedule("interleaved", 4, 6, 2)
    with pytest.raises(ScenarioError, match="at least twice the stages, got 4 stages and 4 microbatches; try 4 and 8"):
        schedule("dualpipe", 4, 4)
    with pytest.raises(InputError, match="known: gpipe, 1f1b"):
        schedule("2f2b", 4, 4)
    with pytest.raises(InputError, match="at least 1 stage and 1 microbatch, got 0 and 4"):
        schedule("1f1b", 0, 4)
    with pytest.raises(ScenarioError, match="virtual = 2 needs schedule = 'interleaved'"):
        schedule("1f1b", 4, 4, 2)


@given(st.integers(1, 8), st.integers(1, 3))
def test_zero_bubble_schedules_wait_only_while_the_pipeline_fills(stages: int, rounds: int) -> None:
    """With equal halves of the backward pass ZB-2p and ZB-V take at most 3 M + (P - 1) (Qi et al.)."""
    microbatches = 2 * stages * rounds
    ideal = 3.0 * microbatches + stages - 1
    assert makespan(graph(schedule("zb-2p", stages, microbatches)), UNIT) == pytest.approx(ideal)
    # In a V each half of a stage is half as long, so the fill is too.
    assert makespan(graph(schedule("zb-v", stages, microbatches)), UNIT, 0.5) <= ideal


@given(st.sampled_from(["1f1b", "zb-h1", "zb-2p", "zb-v", "dualpipe-v"]), st.integers(1, 8), st.integers(1, 3))
def test_what_is_held_is_what_memory_is_planned_with(name: str, stages: int, rounds: int) -> None:
    """The most microbatches a device holds, counted along its row, are no more than `in_flight` says."""
    microbatches = 2 * stages * rounds
    plan = schedule(name, stages, microbatches)
    last = "backward_weight" if any(what == "backward_weight" for _, what in plan.instructions) else "backward"
    for device, row in enumerate(plan.rows):
        held = most = 0.0
        for chunk, what, _ in row:
            share = plan.part(chunk)[1]
            held += share if what == "forward" else -share if what == last else 0.0
            most = max(most, held)
        assert most <= in_flight(Parallel(pipeline=stages), device, microbatches, name) + 1e-9


ORDER = "0F0,0F1,,0B0,0B1\n,1F0,1B0,1F1,1B1\n"


def test_an_order_of_torch_is_a_schedule(tmp_path: Path) -> None:
    """Cells are computations, communication is passed over, and a whole backward pass beside split ones is both."""
    path = tmp_path / "order.csv"
    path.write_text(ORDER.replace("1F0,", "1RECV_F0,1F0,"))
    plan = read_order(path)
    assert plan.rows == schedule("1f1b", 2, 2).rows
    path.write_text("(0F0;0B0)OVERLAP_F_B,0F1,0I1,0W1\n")
    assert [what for _, what, _ in read_order(path).rows[0]] == [
        "forward", "backward_input", "backward_weight", "forward", "backward_input", "backward_weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0F0,0X0\n", "'0X0' is no computation"),
        ("0F0,0B0\n0F1,0B1\n", "stage 0 runs on ranks 0 and 1"),
        ("0F0,0F0\n", "runs on rank 0 and again on rank 0"),
        ("0F0,0F1,0B0\n", "backward of microbatch 1 at stage 0 is missing"),
        ("0SEND_F0\n", "holds no computation"),
    ],
)
def test_an_order_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong is said with its rank or computation."""
    path = tmp_path / "order.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_order(path)
