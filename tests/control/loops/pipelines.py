"""Pipelines of real processes over simulated devices in invented time: messages carry when they were sent."""

from __future__ import annotations

import multiprocessing as mp
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.follow import Follower, Plan
from wattline.measure.devices.replay import VirtualClock
from wattline.show.report.plans import write_plan

IDLE = 100.0
CLOCKS = (990e6, 1185e6, 1380e6, 1575e6, 1770e6, 1980e6)
# Seconds of a forward at the highest clocks, bound by compute and by memory, of each stage; backwards take twice that.
STAGES = ((0.06, 0.02), (0.10, 0.03), (0.05, 0.04))


def work_of(stage: int, instruction: str) -> tuple[float, float]:
    times = 1.0 if instruction == "forward" else 2.0
    return STAGES[stage][0] * times, STAGES[stage][1] * times


def profile(folder: Path) -> Path:
    """What the simulated device takes, as a profile for `wattline pipeline`."""
    gpu, path = SimulatedGpu(), folder / "profile.csv"
    lines = ["stage,instruction,frequency,time,energy"]
    for stage in range(len(STAGES)):
        for what in ("forward", "backward"):
            for clock in CLOCKS:
                work = work_of(stage, what)
                t, e = gpu.seconds(*work, {"clock": clock}), gpu.joules(*work, {"clock": clock})
                lines.append(f"{stage},{what},{clock / 1e6:g},{t!r},{e!r}")
    path.write_text("\n".join(lines) + "\n")
    return path


def planned(folder: Path, microbatches: int = 6, max_slowdown: float = 0.05, schedule: str = "1f1b") -> tuple[Any, Any]:
    """(the pipeline's plan, the chosen realisation) for the profile above."""
    from wattline.training.pipeline import PipelineJob, plan_pipeline
    from wattline.training.profile import read

    job = PipelineJob(
        read(profile(folder)), stages=len(STAGES), microbatches=microbatches, waiting_power=IDLE, schedule=schedule
    )
    made = plan_pipeline(job)
    return made, made.realize(max_slowdown=max_slowdown)


def written(folder: Path, plan: Any, chosen: Any) -> Path:
    path = folder / "plan.json"
    head = {"schedule": plan.job.schedule, "stages": plan.job.stages, "microbatches": plan.job.microbatches}
    write_plan(plan.rows(chosen), head, path)
    return path


def run_stage(
    stage: int, path: Path, links: Mapping[tuple[int, int], Any], out: Any, iterations: int, follow: bool,
    slow: float = 1.0, latency: float | None = None,
) -> None:  # fmt: skip
    """One process: its device, its lease, its follower, and the computations of its program."""
    clock = VirtualClock(0.0)
    gpu = SimulatedGpu(f"SIM-{stage}", clock=clock)
    with (
        tempfile.TemporaryDirectory() as folder,
        Keeper([gpu], Path(folder), clock=clock) as keeper,
        keeper.take("0") as held,
    ):
        program = Plan.read(path).stage(stage)
        seen: list[tuple[Any, float]] = []
        with Follower(program, held, latency=latency, background=False) as follower:
            for _ in range(iterations):
                follower.turn()
                for step in program.steps:
                    _, what, microbatch = step.key
                    source = stage - 1 if what == "forward" else stage + 1
                    if (source, stage) in links:
                        got, sent = links[source, stage][0].recv()
                        assert got == (what, microbatch)
                        clock.now = max(clock.now, sent)
                    if follow:
                        follower.before(what, microbatch)
                    seen.append((step.key, gpu.speed()))
                    compute, memory = work_of(stage, what)
                    gpu.work(compute * slow, memory * slow, sleep=clock.advance)
                    target = stage + 1 if what == "forward" else stage - 1
                    if (stage, target) in links:
                        links[stage, target][1].send(((what, microbatch), clock.now))
            out.put((stage, clock.now, gpu.energy(), seen, follower.changes, gpu.read("clock")))
    assert gpu.read("clock") is None


def run(path: Path, *, iterations: int = 1, follow: bool = True, **more: Any) -> dict[int, tuple[Any, ...]]:
    """Run every stage in a process of its own; what each says, by stage."""
    context = mp.get_context("fork")
    links = {pair: context.Pipe(duplex=False) for s in range(len(STAGES) - 1) for pair in ((s, s + 1), (s + 1, s))}
    out = context.SimpleQueue()
    processes = [
        context.Process(target=run_stage, args=(s, path, links, out, iterations, follow), kwargs=more)
        for s in range(len(STAGES))
    ]
    return gathered(processes, out.get)


def gathered(processes: list[Any], get: Callable[[], tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
    for process in processes:
        process.start()
    answers = [get() for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return {answer[0]: answer[1:] for answer in answers}
