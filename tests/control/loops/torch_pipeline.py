"""A small pipeline in torch, in processes joined by gloo: SCHEDULE RANKS FOLDER. Run by test_follow.

Each rank has a simulated device. Every chunk's clock is looked at while the chunk runs.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.follow import Follower, Plan, attach
from wattline.training.schedule import schedule

MICROBATCHES, WIDTH = 4, 8
KINDS = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe, "interleaved": ScheduleInterleaved1F1B}
CLOCKS = (990e6, 1185e6, 1380e6, 1575e6, 1770e6, 1980e6)


def rows(kind: str, ranks: int, chunks: int) -> list[dict]:
    """A made-up plan in the schedule's own order, in which every computation has a clock of its own."""
    order = schedule(kind, ranks, MICROBATCHES, chunks // ranks).rows
    return [
        {
            "stage": rank, "chunk": chunk, "instruction": what, "microbatch": m, "start_s": float(k), "time_s": 1.0,
            "clock_hz": CLOCKS[(chunk + 2 * (what == "backward") + m) % len(CLOCKS)],
        }
        for rank, row in enumerate(order)
        for k, (chunk, what, m) in enumerate(row)
    ]  # fmt: skip


class Chunk(torch.nn.Module):
    """A layer that tells what clock the device has while it runs, forwards and backwards."""

    def __init__(self, chunk: int, gpu: SimulatedGpu, seen: list) -> None:
        super().__init__()
        torch.manual_seed(chunk)
        self.layer = torch.nn.Linear(WIDTH, WIDTH)
        self.chunk, self.gpu, self.seen = chunk, gpu, seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.chunk, "forward", self.gpu.read("clock")))
        y = torch.tanh(self.layer(x))
        if y.requires_grad:
            y.register_hook(lambda _grad: self.seen.append((self.chunk, "backward", self.gpu.read("clock"))))
        return y


class Stage(PipelineStage):
    """A stage without torch's first message, which sends 8 bytes and receives 4: gloo refuses that (torch 2.9)."""

    def _get_init_p2p_neighbors_ops(self) -> list:
        return []


def schedule_of(kind: str, rank: int, ranks: int, gpu: SimulatedGpu, seen: list):
    per = 2 if kind == "interleaved" else 1
    chunks = range(rank, ranks * per, ranks)
    stages = [Stage(Chunk(c, gpu, seen), c, ranks * per, torch.device("cpu")) for c in chunks]
    loss = torch.nn.functional.mse_loss
    return KINDS[kind](stages if per > 1 else stages[0], MICROBATCHES, loss_fn=loss)


def iteration(schedule, rank: int, last: bool) -> float:
    torch.manual_seed(99)
    x, y = torch.randn(2 * MICROBATCHES, WIDTH), torch.randn(2 * MICROBATCHES, WIDTH)
    losses: list = []
    schedule.step(*((x,) if rank == 0 else ()), target=y if last else None, losses=losses if last else None)
    return float(sum(x.detach() for x in losses)) if last else 0.0


def main(rank: int, kind: str, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    chunks = ranks * (2 if kind == "interleaved" else 1)
    gpu, seen = SimulatedGpu(f"SIM-{rank}"), list[tuple]()
    plan = Plan.of(rows(kind, ranks, chunks), {"schedule": kind})
    last = rank == ranks - 1
    with Keeper([gpu], Path(folder) / f"state-{rank}") as keeper, keeper.take("0") as held:
        schedule = schedule_of(kind, rank, ranks, gpu, seen)
        plain = iteration(schedule, rank, last)  # this also works out the shapes, by further forwards
        assert all(clock is None for _, _, clock in seen)
        seen.clear()
        refused = False
        try:
            short = [row for row in rows(kind, ranks, chunks) if row["microbatch"] < MICROBATCHES - 1]
            attach(schedule, Follower(Plan.of(short).stage(rank), held))
        except ControlError as error:
            refused = error.code == "plan" and gpu.writes == 0
        with Follower(plan.stage(rank), held, background=False) as follower:
            attach(schedule, follower)
            followed = iteration(schedule, rank, last)
        wanted = sorted(
            (r["chunk"], r["instruction"], r["clock_hz"]) for r in rows(kind, ranks, chunks) if r["stage"] == rank
        )
        same = sorted(seen) == wanted
        found = [None] * ranks
        dist.all_gather_object(found, (same, refused, plain == followed))
    assert gpu.read("clock") is None
    if rank == 0:
        all_same, all_refused, same_loss = (all(f[k] for f in found) for k in range(3))
        print(json.dumps({"ranks": ranks, "followed": all_same, "refused": all_refused, "same_loss": same_loss}))
    dist.destroy_process_group()


if __name__ == "__main__":
    kind, ranks, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    mp.spawn(main, args=(kind, ranks, folder), nprocs=ranks)
