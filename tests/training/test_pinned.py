"""Every term of a training job held in place: frontier ends and joules by component of small jobs.

``pinned.json`` beside this file is written by ``python scripts/write_pins.py``. It shows that a constant or a
sign changed, not that an answer is right; closed forms worked by hand stand below.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wattline.frontier.algebra import Frontier
from wattline.frontier.answer import Goal, Rates
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.training.costs import Costs, Settings, count_work, launches, run
from wattline.training.iteration import steady_iteration
from wattline.training.job import TrainingJob
from wattline.training.sketch import sketch_training
from wattline.training.telling import spread
from wattline.training.training import plan_training
from wattline.workload.catalog import model
from wattline.workload.operator import Collective, Elementwise, GroupedGemm
from wattline.workload.parallel import Parallel

from .. import pins

SOURCE = Roofline(residual=False, sustained=True)
RATES = Rates()


def cluster(name: str = "h100-sxm", used: int = 8, nodes: int = 1) -> Cluster:
    chip = catalog.chip(name)
    return Cluster(chip, catalog.default_node(chip), used=used, nodes=nodes)


def job(name: str, batch: int, parallel: Parallel, **more: object) -> TrainingJob:
    return TrainingJob(model(name), parallel, 1e9, 1024, batch, 1, **{"recompute": "full", **more})  # type: ignore[arg-type]


JOBS: dict[str, tuple[TrainingJob, Cluster]] = {
    "tensor pipeline": (job("llama-3.1-8b", 8, Parallel(tensor=2, pipeline=4)), cluster()),
    "data sharded": (job("llama-3.2-3b", 32, Parallel(data=8, zero=3), recompute="selective"), cluster()),
    "gpipe": (job("llama-3.2-3b", 6, Parallel(tensor=2, pipeline=2, data=2), schedule="gpipe", overlap=0.5), cluster()),
    "split backward": (job("llama-3.2-3b", 6, Parallel(tensor=2, pipeline=4), schedule="zb-h1"), cluster()),
    "interleaved": (job("llama-3.2-1b", 8, Parallel(tensor=2, pipeline=4, virtual=2), schedule="interleaved"), cluster()),
    "experts": (job("qwen3-30b-a3b", 16, Parallel(tensor=1, data=16, expert=8, zero=1)), cluster(nodes=2)),
    "ampere host": (
        job("llama-3.2-1b", 8, Parallel(tensor=2, data=2), host_time=0.1, checkpoint_time=0.02, launch_time=8e-6, eager=True,
            goodput=0.9, dropout=True, fused_linear=False),
        cluster("a100-sxm-80gb", 4),
    ),
    "blackwell context": (job("llama-3.2-3b", 8, Parallel(tensor=2, context=2, pipeline=2, sequence=True), mfu=0.05), cluster("b200-sxm")),
}  # fmt: skip


def found() -> dict[str, pins.Terms]:
    """Plans at 5 % slowdown: ends of the frontier, the baseline by component, and the sketch of the same job."""
    out: dict[str, pins.Terms] = {}
    for name, (one, where) in JOBS.items():
        goal = Goal("max_slowdown", 0.05)
        a = plan_training(one, where, SOURCE, goal, RATES, detail=False)
        s = sketch_training(one, where, SOURCE, goal, RATES)
        out[name] = {
            "ends": [a.time_s[0], a.time_s[-1], a.energy_j[0], a.energy_j[-1]],
            "bound": a.certificate["bound_j"],
            **{f"baseline J {k}": v for k, v in a.baseline.breakdown_j.items()},
            **{f"baseline {k}": v for k, v in a.baseline.figures.items() if isinstance(v, float)},
            **({} if s is None else {"sketch": [s.time, s.energy, s.base_time, s.base_energy]}),
        }  # fmt: skip
    return out


def pieces() -> dict[str, pins.Terms]:
    """Costs of each computation of the jobs at three clocks, by component."""
    out: dict[str, pins.Terms] = {}
    for name, (one, where) in JOBS.items():
        low, high = where.chip["clock.min"], where.chip["clock.max"]
        at = np.array([low, low + 0.66 * (high - low), high])
        work = count_work(one)
        costs = Costs.of(work, Device(where.chip, where.node), SOURCE, at)
        top = Settings(np.full(len(work.graph.kind), 2), (2,) * len(work.steps))
        whole = run(work, costs.points, top, 3)
        out[name] = {
            "uncertainty": spread(one, work, costs, top),
            "run": [whole.time, whole.energy],
            **{f"J {k}": v for k, v in whole.parts.items()},
        }
        for i, p in enumerate(costs.points):
            out[f"{name} {i}"] = {
                "seconds": p.time, **{f"J {k}": v for k, v in p.parts.items()},
                "uncertainty": [p.uncertainty, p.time_uncertainty], "launches": launches(work.operators[i]),
            }  # fmt: skip
    return out


HERE = Path(__file__).parent
PINNED = {HERE / "pinned.json": found, HERE / "pinned_pieces.json": pieces}


@pytest.mark.parametrize("path", PINNED, ids=lambda p: p.stem)
def test_no_term_of_training_moved_unseen(path: Path) -> None:
    """Frontier ends, joules by component and uncertainties are as ``scripts/write_pins.py`` wrote them."""
    pins.check(path, PINNED[path]())


# ------------------------------------------------------------------ closed forms, worked by hand
def test_iterations_and_microbatches_are_counted() -> None:
    """1e9 tokens of 8 sequences of 1024: 122,070.3 steps; a batch of 6 over 2 replicas is 3 microbatches."""
    assert JOBS["tensor pipeline"][0].iterations == pytest.approx(1e9 / 8192)
    assert JOBS["gpipe"][0].microbatches == 3


def test_one_point_stages_take_the_fill_and_the_slowest_stage_ever_after() -> None:
    """Stages of 3 s and 5 s, 4 microbatches: 3 + 5 + 3 x 5 = 23 s; joules are counted once each: 4 x (12 + 20)."""

    def one(time: float, joules: float) -> Frontier:
        return Frontier.of(np.array([time]), np.array([joules]), waiting_power=2.0)

    whole = steady_iteration([(one(1, 4), one(2, 8), 1), (one(2, 8), one(3, 12), 1)], 4)
    assert whole.time[0] == pytest.approx(23.0)
    assert whole.energy[0] == pytest.approx(4 * 32.0)
    assert whole.waiting_power == pytest.approx(4.0)


def test_a_host_slower_than_the_device_sets_the_time_and_only_waiting_grows() -> None:
    """Launches of 1 ms each: time is launches x 1 ms, and the idle seconds draw the waiting power alone."""
    one = JOBS["ampere host"][0]
    place = Device(cluster("a100-sxm-80gb").chip, cluster("a100-sxm-80gb").node)
    at = np.array([1.41e9])
    fast = count_work(replace(one, launch_time=0.0, host_time=0.0, checkpoint_time=0.0))
    slow = replace(fast, launch=1e-3)
    before, after = Costs.of(fast, place, SOURCE, at).points, Costs.of(slow, place, SOURCE, at).points
    for b, a, operators in zip(before, after, fast.operators, strict=True):
        want = np.maximum(b.time, 1e-3 * launches(operators))
        assert a.time == pytest.approx(want)
        assert a.energy - b.energy == pytest.approx(b.waiting_power * (want - b.time), abs=1e-9)


def test_kernels_are_counted_one_for_each_expert_held() -> None:
    """3 fused kernels twice over, a product over 4 experts, a collective of one device: 6 + 4 + 0."""
    some = (
        Elementwise(name="e", read=1, write=1, kernels=3, repeat=2),
        GroupedGemm(name="m", tokens=8, top_k=2, experts=8, local_experts=4, n=8, k=8, active=4),
        Collective(name="c", op="all_reduce", size=8, ranks=1),
    )
    assert launches(some) == pytest.approx(10.0)
