"""Tests for `wattline.training.apply`: what to type, and what the plans that anybody can apply save."""

from dataclasses import replace

import pytest

from wattline.frontier.answer import Answer, Goal
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.scenario.scenario import training_source
from wattline.training.job import TrainingJob
from wattline.training.training import plan_training
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel
from wattline.workload.tuning import Adapter

SOURCE = training_source()


def plan(chip: str = "h100-sxm", slack: float = 0.1, devices: int = 8, **changes: object) -> Answer:
    sheet = catalog.chip(chip)
    node = catalog.default_node(sheet)
    used = min(int(node["chips"]), devices)
    base = TrainingJob(model("llama-3.2-1b"), Parallel(data=devices, zero=3), 1e9, 2048, 2 * devices, 1)
    job = replace(base, **changes)
    return plan_training(job, Cluster(sheet, node, -(-devices // used), used=used), SOURCE, Goal("max_slowdown", slack))


def test_a_plan_ends_in_what_to_type_and_how_to_undo_it() -> None:
    """The launcher, then one clock or one power limit with what it saves and its undo."""
    text = "\n".join(plan().apply)
    assert text.startswith("torchrun --nproc-per-node 8 -m torchtitan.train")
    assert "--training.global_batch_size 16 --training.seq_len 2048 --training.steps 30518" in text  # 1e9 / (16 x 2048)
    assert "nvidia-smi -lgc" in text
    assert "undo: sudo nvidia-smi -rgc" in text
    assert "undo: sudo nvidia-smi -pl 700" in text


def test_one_clock_saves_no_more_than_the_plan() -> None:
    """A plan that anybody can apply is told with its saving, which the exact plan matches or beats."""
    a = plan()
    told = [float(line.split(": ")[1].split(" %")[0]) for line in a.apply if line.startswith("#")]
    assert told
    assert all(0 < saved <= 100 * a.savings["energy"] + 0.05 for saved in told)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parallel": Parallel(tensor=2, pipeline=2, data=2)}, "pretrain_gpt.py --tensor-model-parallel-size 2"),
        ({"adapter": Adapter(16, "nf4"), "parallel": Parallel(data=8)}, "--lora_r 16"),
        ({"method": "dpo"}, "trl dpo"),
        ({"recompute": "full"}, "--activation_checkpoint.mode full"),
    ],
)
def test_the_launcher_follows_the_layout(changes: dict[str, object], words: str) -> None:
    """Split models go to Megatron-LM, sharded ones to torchtitan, adapters and preferences to TRL."""
    assert words in plan(**changes).apply[0]


def test_other_vendors_have_their_own_commands() -> None:
    """AMD's boards are set by rocm-smi; many nodes meet at a rendezvous."""
    text = "\n".join(plan("mi300x", devices=16).apply)
    assert "rocm-smi --setsrange" in text
    assert "--nnodes 2 --rdzv-backend c10d" in text
